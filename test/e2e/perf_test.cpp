// SPDX-License-Identifier: Apache-2.0
// perf_test.cpp - Debian's perf walks running goroutines to their entry, by frame pointers and by DWARF.
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "base/sanitizer.hpp"
#include "e2e/command.hpp"
#include "e2e/process.hpp"

namespace tuco::test {
namespace {

struct walked {
  std::size_t samples = 0;  ///< in which a goroutine's function stands
  std::size_t to_entry = 0;
};

/// `perf script`: a block of lines for each sample, innermost frame first, then a blank line.
walked read_samples(const std::string& text, const std::string& function) {
  walked out;
  std::istringstream in(text);
  bool has_function = false;
  std::string last;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) {
      has_function |= line.find(function) != std::string::npos;
      last = line;
      continue;
    }
    if (has_function) {
      ++out.samples;
      out.to_entry += last.find("tuco_context_entry") != std::string::npos ||
                      last.find("tuco_restart_stack") != std::string::npos;
    }
    has_function = false;
  }
  return out;
}

class PerfTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!is_installed("perf")) GTEST_SKIP() << "perf is not installed: scripts/bootstrap tools";
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
    GTEST_SKIP() << "what is walked is the program as it is without sanitizers";
#endif
    const auto probe = run_command("perf record -q -e cpu-clock:u -o /dev/null true");
    if (probe.status != 0) GTEST_SKIP() << "perf may not record here (perf_event_paranoid?): " << probe.out;
  }
};
INSTANTIATE_TEST_SUITE_P(CallGraph, PerfTest, ::testing::Values("fp", "dwarf,16384"),
                         [](const auto& info) { return std::string(info.param).substr(0, 2); });

TEST_P(PerfTest, WalksRunningGoroutinesToTheirEntry) {
  const scratch_folder folder;
  const std::string data = folder.file("perf.data");
  output_of("perf record -q -e cpu-clock:u -F 997 --call-graph " + std::string(GetParam()) + " -o " + data + " " +
            built("test/programs/compute"));
  const auto script = run_command("perf script -i " + data + " --no-inline -F ip,sym 2>/dev/null");
  ASSERT_EQ(script.status, 0) << script.out;
  const walked own = read_samples(script.out, "app::own_leaf");
  const walked libc = read_samples(script.out, "app::by_value");
  std::printf("own code: %zu samples, %zu to the entry; called from libc: %zu, %zu\n", own.samples, own.to_entry,
              libc.samples, libc.to_entry);
  EXPECT_GE(own.samples, 20U);
  EXPECT_GE(own.to_entry * 100, own.samples * 99);
  // libc has no frame pointers: only the tables lead through it.
  if (std::string(GetParam()) != "fp") {
    EXPECT_GE(libc.samples, 10U);
    EXPECT_GE(libc.to_entry * 100, libc.samples * 99);
  }
}

}  // namespace
}  // namespace tuco::test
