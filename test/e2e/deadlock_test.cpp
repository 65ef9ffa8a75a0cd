// SPDX-License-Identifier: Apache-2.0
// deadlock_test.cpp - nobody will ever run again: exactly Go's words, every goroutine, status 2; also
// where Go's detector is silent, because a poller or timers are there and idle; and silence where
// somebody can still wake somebody.
#include <gtest/gtest.h>
#include <signal.h>

#include <string>

#include "e2e/go_dump.hpp"
#include "e2e/process.hpp"

namespace tuco::test {
namespace {

class DeadlockTest : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Ways, DeadlockTest,
                         ::testing::Values("deadlock", "deadlock-poller", "deadlock-timers"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '-') c = '_';
                           }
                           return name;
                         });

TEST_P(DeadlockTest, IsReportedWithEveryGoroutine) {
  process program({built("test/programs/die"), GetParam()});
  EXPECT_EQ(program.wait(), 2);
  const std::string text = program.text(output::err);
  EXPECT_TRUE(text.starts_with("fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [")) << text;
  const parsed_dump dump = parse_go_dump(text);
  EXPECT_EQ(dump.error, "") << text;
  ASSERT_EQ(dump.goroutines.size(), 2U) << text;
  EXPECT_EQ(dump.goroutines[0].state, "chan receive");
  EXPECT_TRUE(dump.goroutines[0].has_frame("app::deadlock"));
  EXPECT_EQ(dump.goroutines[1].state, "chan receive");
  EXPECT_EQ(dump.goroutines[1].creator, "app::start_bystander");
}

TEST(DeadlockTest, AfterGoexitOfMainHasItsOwnWords) {
  process program({built("test/programs/die"), "goexit"});
  EXPECT_EQ(program.wait(), 2);
  const std::string text = program.text(output::err);
  EXPECT_TRUE(text.starts_with(
      "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n\ngoroutine 2 ["))
      << text;
  const parsed_dump dump = parse_go_dump(text);
  EXPECT_EQ(dump.error, "") << text;
  EXPECT_EQ(dump.goroutines.size(), 1U) << text;
}

// A goroutine that waits for the network, for a timer, in the kernel, or a thread of the program's own:
// none of these is a deadlock. The program `states` has all of them; it stands still until told.
TEST(DeadlockTest, IsNotSeenWhereSomebodyCanStillAct) {
  process program({built("test/programs/states")});
  program.await_text(output::out, "ready\n");
  EXPECT_FALSE(program.has_ended());
  program.signal(SIGUSR1);
  EXPECT_EQ(program.wait(), 0);
  EXPECT_EQ(program.text(output::err), "");
}

}  // namespace
}  // namespace tuco::test
