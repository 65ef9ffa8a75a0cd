// SPDX-License-Identifier: Apache-2.0
// The helper of the end-to-end tests: what it says about a program is what the program did.
#include "e2e/process.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <system_error>

namespace tuco::test {
namespace {

TEST(Process, ExitStatusAndBothOutputs) {
  process p({"/bin/sh", "-c", "echo to out; echo to err >&2; exit 7"});
  EXPECT_EQ(p.wait(), 7);
  EXPECT_EQ(p.text(output::out), "to out\n");
  EXPECT_EQ(p.text(output::err), "to err\n");
}

TEST(Process, SignalThatEndsItIsInTheStatus) {
  process p({"/bin/sh", "-c", "echo ready; exec sleep 1000"});
  p.await_text(output::out, "ready");
  EXPECT_FALSE(p.has_ended());
  p.signal(SIGTERM);
  EXPECT_EQ(p.wait(), 128 + SIGTERM);
}

TEST(Process, InputEnvironmentFolderAndLimits) {
  process p({"/bin/sh", "-c", "read line; echo \"$line $MORE $PWD $(ulimit -n)\"; cat"},
            {.environment = {"MORE=more"}, .limits = {{RLIMIT_NOFILE, 33}}, .folder = "/"});
  p.write("first\nrest");
  EXPECT_EQ(p.await_line(output::out, "first "), "more / 33");
  p.close_input();
  EXPECT_EQ(p.wait(), 0);
  EXPECT_TRUE(p.text(output::out).ends_with("rest"));
}

TEST(Process, WhatCannotBeStartedSaysSo) {
  EXPECT_THROW(process({"/no/such/program"}), std::system_error);
}

TEST(Process, TextThatCannotComeAnyMoreEndsTheWait) {
  process p({"/bin/sh", "-c", "echo something else"});
  EXPECT_THROW(p.await_text(output::out, "this"), waited_in_vain);
  EXPECT_THROW(p.await_line(output::err, "this"), waited_in_vain);
}

}  // namespace
}  // namespace tuco::test
