// SPDX-License-Identifier: Apache-2.0
// memory_test.cpp - AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer see what is wrong on a
// goroutine's stack and name the place, and are quiet about what only looks odd to them.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <tuple>

#include "e2e/process.hpp"

namespace tuco::test {
namespace {

struct end {
  int status = 0;
  std::string text;
};

/// @param fake_stacks  frames live on the heap, so that what was returned from is known
end play(std::string_view way, bool fake_stacks) {
  process_options options;
  options.environment = {std::string("ASAN_OPTIONS=detect_stack_use_after_return=") + (fake_stacks ? "1" : "0")};
  process program({built("test/programs/memory_errors"), std::string(way)}, options);
  end e;
  e.status = program.wait();
  e.text = program.text(output::err);
  return e;
}

struct error {
  const char* way;
  const char* report;
  const char* frame;  ///< named in it
  bool fake_stacks = false;
};

void PrintTo(const error& e, std::ostream* out) { *out << e.way; }

const error errors[] = {
    {"stack-buffer-overflow", "stack-buffer-overflow", "app::overflow"},
    {"stack-buffer-overflow", "stack-buffer-overflow", "app::overflow", true},
    {"stack-buffer-overflow-of-main", "stack-buffer-overflow", "app::overflow"},
    {"stack-use-after-scope", "stack-use-after-scope", "app::touch"},
    {"stack-use-after-return", "stack-use-after-return", "app::touch", true},
    {"stack-of-an-ended-goroutine", "use-after-poison", "app::touch"},
    {"heap-use-after-free", "heap-use-after-free", "app::touch"},
    {"heap-buffer-overflow", "heap-buffer-overflow", "app::touch"},
    {"attempting double-free", "attempting double-free", "app::"},
    {"detected memory leaks", "detected memory leaks", "app::"},
    {"signed integer overflow", "runtime error: signed integer overflow", "memory_errors.cpp"},
};

std::string name_of(std::string way, bool fake_stacks) {
  for (char& c : way) {
    if (c == '-' || c == ' ') c = '_';
  }
  return way + (fake_stacks ? "_with_fake_stacks" : "");
}

class MemoryErrorTest : public ::testing::TestWithParam<error> {};
INSTANTIATE_TEST_SUITE_P(Ways, MemoryErrorTest, ::testing::ValuesIn(errors),
                         [](const auto& info) { return name_of(info.param.way, info.param.fake_stacks); });

TEST_P(MemoryErrorTest, IsSeenAndNamed) {
  const error& wanted = GetParam();
  const end e = play(wanted.way, wanted.fake_stacks);
  EXPECT_EQ(e.status, 1) << e.text;
  EXPECT_NE(e.text.find(wanted.report), e.text.npos) << e.text;
  EXPECT_NE(e.text.find(wanted.frame), e.text.npos) << e.text;
}

class NoMemoryErrorTest : public ::testing::TestWithParam<std::tuple<const char*, bool>> {};
INSTANTIATE_TEST_SUITE_P(
    Ways, NoMemoryErrorTest,
    ::testing::Combine(::testing::Values("exceptions-over-parks", "exceptions-and-stacks-that-are-reused",
                                         "goexit-from-deep", "longjmp", "alloca", "goroutines-left-behind",
                                         "goroutines-left-in-everything", "signals", "many", "run-again",
                                         "exit-in-a-goroutine"),
                       ::testing::Bool()),
    [](const auto& info) { return name_of(std::get<0>(info.param), std::get<1>(info.param)); });

TEST_P(NoMemoryErrorTest, IsReported) {
  const auto [way, fake_stacks] = GetParam();
  if (fake_stacks && std::string_view(way) == "goroutines-left-behind") {
    GTEST_SKIP() << "LeakSanitizer looks for pointers in the fake frames of threads only";
  }
  const end e = play(way, fake_stacks);
  EXPECT_EQ(e.status, 0);
  EXPECT_EQ(e.text, "");
}

}  // namespace
}  // namespace tuco::test
