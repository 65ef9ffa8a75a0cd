// SPDX-License-Identifier: Apache-2.0
// million_test.cpp - a million goroutines (a hundred thousand by day), each parked in a receive of its own:
// what they cost in memory and mappings, that they can be listed, and that the memory goes back.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/sanitizer.hpp"
#include "e2e/process.hpp"

namespace tuco::test {
namespace {

TEST(MillionTest, ParkedGoroutinesCostAPageAndGoBack) {
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
  GTEST_SKIP() << "a sanitizer's shadow is what would be measured";
#endif
  const char* stress = std::getenv("TUCO_STRESS");
  const std::string count = stress != nullptr && std::string_view(stress) == "full" ? "1000000" : "100000";
  process program({built("test/programs/million"), count});
  // Each phase may take as long as any wait.
  for (const char* phase : {"channels made", "all parked", "all ended"}) program.await_text(output::out, phase);
  const int status = program.wait();
  const std::string text = program.text(output::out);
  ASSERT_EQ(status, 0) << text << program.text(output::err);
  std::printf("%s", text.c_str());
  const auto figure = [&](const std::string& name) {
    const auto at = text.find("\n" + name + "=");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? 0.0 : std::strtod(text.c_str() + at + name.size() + 2, nullptr);
  };
  EXPECT_EQ(figure("listed"), std::stod(count) + 1);
  EXPECT_EQ(figure("counted"), std::stod(count) + 1);
  // A page of stack, a record, and the page table's share: not two pages. Without optimization frames are
  // larger.
#ifdef NDEBUG
  constexpr double most = 6000;
#else
  constexpr double most = 16'000;
#endif
  EXPECT_LT(figure("bytes_each"), most);
  if (figure("guards_cost_mappings") == 0) {
    EXPECT_LT(figure("mappings_added"), 1000);
  }
  // What is kept at hand for the next ones is a fixed amount, whatever the spike.
  EXPECT_LT(figure("left_behind"), 0.1 * figure("bytes_each") * std::stod(count));
}

}  // namespace
}  // namespace tuco::test
