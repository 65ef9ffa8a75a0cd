// SPDX-License-Identifier: Apache-2.0
// exit_test.cpp - a program ends with status 0, whichever way it takes and whatever is going on in it, and
// nobody goes on while its static objects are destroyed. A thousand times (TUCO_STRESS=full).
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>

#include "e2e/process.hpp"

namespace tuco::test {
namespace {

int exits_of_each_way() {
  const char* size = std::getenv("TUCO_STRESS");
  return size != nullptr && std::string_view(size) == "full" ? 200 : 12;
}

class Exit : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(By, Exit, ::testing::Values("return", "exit", "exit-main", "exit-thread", "threads"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(Exit, HasStatusZeroAndAQuietEnd) {
  std::chrono::steady_clock::duration longest{0};
  for (int i = 0; i < exits_of_each_way(); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    process program({built("test/programs/leave"), GetParam()},
                    {.environment = {"TUCO_PROCS=" + std::to_string(1 + i % 4)}});
    ASSERT_EQ(program.wait(), 0) << program.text(output::err);
    ASSERT_EQ(program.text(output::err), "");
    longest = std::max(longest, std::chrono::steady_clock::now() - begin);
  }
  RecordProperty("longest_ms", std::to_string(longest / std::chrono::milliseconds(1)));
}

}  // namespace
}  // namespace tuco::test
