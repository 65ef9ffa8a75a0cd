// SPDX-License-Identifier: Apache-2.0
// crash_test.cpp - the last words: each way to die has Go's text, the goroutine at fault first, the
// goroutines that TUCO_TRACEBACK asks for, and the exit status that tools expect.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <regex>
#include <string>
#include <vector>

#include "base/sanitizer.hpp"
#include "e2e/go_dump.hpp"
#include "e2e/process.hpp"

namespace tuco::test {
namespace {

struct end {
  int status = 0;
  std::string text;
  parsed_dump dump;
  std::string head;  ///< of the text, up to the first goroutine
};

end die(const std::string& how, const std::string& traceback = "", std::vector<std::string> more = {}) {
  process_options options;
  // Cores of what dies on purpose are of no use.
  options.limits = {{RLIMIT_CORE, 0}};
  options.environment = std::move(more);
  if (!traceback.empty()) options.environment.push_back("TUCO_TRACEBACK=" + traceback);
  process program({built("test/programs/die"), how}, options);
  end e;
  e.status = program.wait();
  e.text = program.text(output::err);
  const auto first = e.text.find("\ngoroutine ");
  e.head = e.text.substr(0, first == std::string::npos ? first : first + 1);
  if (first != std::string::npos) e.dump = parse_go_dump(e.text);
  return e;
}

constexpr int killed_by(int signal) { return 128 + signal; }

bool no_fault_reports() {
#ifdef TUCO_BASE_ASAN
  return true;  // its own handlers come first, by design: an application's handler is left alone
#else
  return false;
#endif
}

struct death {
  const char* how;
  const char* head;      ///< regular expression
  bool everybody;        ///< shows all goroutines at the default level
  int status = 2;
  const char* frame = "app::innermost";
  const char* creator = "app::in_goroutine";
  bool is_fault = false;
};

void PrintTo(const death& d, std::ostream* out) { *out << d.how; }

const death deaths[] = {
    {"panic", "panic: std::runtime_error: no such file\n\n", false},
    {"panic-int", "panic: int: 42\n\n", false},
    {"panic-text", "panic: char const\\*: some text\n\n", false},
    {"panic-custom", "panic: app::custom_error\n\n", false},
    {"panic-noexcept", "panic: std::logic_error: through a noexcept function\n\n", false},
    {"panic-small-stack", "panic: std::runtime_error: on 16 KiB\n\n", false, 2, "app::", "app::"},
    {"terminate", "panic: std::terminate called without an exception\n\n", false},
    {"go-nil", "fatal error: go of nil func value\n\n", true},
    {"go-nil-pointer", "fatal error: go of nil func value\n\n", true},
    {"unlock", "fatal error: sync: unlock of unlocked mutex\n\n", true},
    {"unlock-small-stack", "fatal error: sync: unlock of unlocked mutex\n\n", true, 2, "tuco::mutex::", "app::"},
    {"negative", "panic: tuco::misuse_error: sync: negative WaitGroup counter \\(goroutine 3 \"culprit\", "
                 "created at .*/die\\.cpp:[0-9]+\\)\n\n", false, 2, "tuco::wait_group::"},
    {"send-closed", "panic: tuco::closed_error: send on closed channel \\(goroutine 3 \"culprit\", .*\\)\n\n", false},
    {"close-closed", "panic: tuco::closed_error: close of closed channel \\(goroutine 3 \"culprit\", .*\\)\n\n", false},
    {"close-nil", "panic: tuco::misuse_error: close of nil channel \\(goroutine 3 \"culprit\", .*\\)\n\n", false},
    {"overflow", "runtime: goroutine 3 \"culprit\" stack overflow \\(256 KiB, created at .*/die\\.cpp:[0-9]+\\)\n"
                 "fatal error: stack overflow\n\n", false, 2, "app::recurse"},
    {"overflow-small", "runtime: goroutine [23] \"culprit\" stack overflow \\(16 KiB, created at .*\\)\n"
                       "fatal error: stack overflow\n\n", false, 2, "app::recurse", "app::"},
    {"null", "panic: runtime error: invalid memory address or nil pointer dereference\n"
             "\\[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x[0-9a-f]+\\]\n\n",
     false, killed_by(SIGSEGV), "app::dereference", "app::in_goroutine", true},
    {"wild", "unexpected fault address 0x500000000000\nfatal error: fault\n"
             "\\[signal SIGSEGV: segmentation violation code=0x1 addr=0x500000000000 pc=0x[0-9a-f]+\\]\n\n",
     false, killed_by(SIGSEGV), "app::dereference", "app::in_goroutine", true},
    {"null-call", "panic: runtime error: invalid memory address or nil pointer dereference\n"
                  "\\[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x0\\]\n\n",
     false, killed_by(SIGSEGV), "app::innermost", "app::in_goroutine", true},
    {"divide", "panic: runtime error: integer divide by zero\n"
               "\\[signal SIGFPE: floating-point exception code=0x1 addr=0x[0-9a-f]+ pc=0x[0-9a-f]+\\]\n\n",
     false, killed_by(SIGFPE), "app::innermost", "app::in_goroutine", true},
    {"illegal", "SIGILL: illegal instruction\nPC=0x[0-9a-f]+ m=[0-9]+ sigcode=[0-9]+\n\n", false,
     killed_by(SIGILL), "app::innermost", "app::in_goroutine", true},
    {"abort", "SIGABRT: abort\nPC=0x[0-9a-f]+ m=[0-9]+ sigcode=-6\n\n", false, killed_by(SIGABRT), "abort",
     "app::in_goroutine", true},
};

class DeathTest : public ::testing::TestWithParam<death> {};
INSTANTIATE_TEST_SUITE_P(Ways, DeathTest, ::testing::ValuesIn(deaths), [](const auto& info) {
  std::string name = info.param.how;
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
});

TEST_P(DeathTest, HasGosWordsTheCulpritFirstAndTheStatus) {
  const death& d = GetParam();
  if (d.is_fault && no_fault_reports()) GTEST_SKIP() << "AddressSanitizer reports faults itself";
  const end e = die(d.how);
  EXPECT_EQ(e.status, d.status) << e.text;
  EXPECT_TRUE(std::regex_match(e.head, std::regex(d.head))) << e.head;
  ASSERT_EQ(e.dump.error, "") << e.text;
  ASSERT_FALSE(e.dump.goroutines.empty()) << e.text;
  EXPECT_EQ(e.dump.registers.empty(), !e.head.starts_with("SIG")) << e.text;
  const dumped_goroutine& culprit = e.dump.goroutines[0];
  EXPECT_EQ(culprit.state, "running");
  EXPECT_TRUE(culprit.has_frame(d.frame)) << e.text;
  EXPECT_TRUE(culprit.creator.starts_with(d.creator)) << culprit.creator;
  EXPECT_EQ(culprit.parent, 1);
  EXPECT_TRUE(culprit.created_at.file.ends_with("die.cpp"));
  EXPECT_GT(culprit.created_at.line, 0);
  if (d.everybody) {
    EXPECT_GT(e.dump.goroutines.size(), 1U) << e.text;
  } else {
    EXPECT_EQ(e.dump.goroutines.size(), 1U) << e.text;
  }
}

TEST_P(DeathTest, SaysNoMoreThanTheHeadWithoutTracebacks) {
  const death& d = GetParam();
  if (d.is_fault && no_fault_reports()) GTEST_SKIP() << "AddressSanitizer reports faults itself";
  const end e = die(d.how, "none");
  EXPECT_EQ(e.status, d.status);
  EXPECT_TRUE(std::regex_match(e.text + "\n", std::regex(d.head))) << e.text;
}

TEST(DeathTest, ThreadExhaustionNamesTheLimitAndShowsWhoBlocks) {
  const end e = die("threads");
  EXPECT_EQ(e.status, 2);
  EXPECT_EQ(e.head, "runtime: program exceeds 8-thread limit\nfatal error: thread exhaustion\n\n");
  ASSERT_EQ(e.dump.error, "") << e.text;
  int blocked = 0;
  for (const auto& g : e.dump.goroutines) blocked += g.state == "syscall (read)";
  EXPECT_GE(blocked, 6) << e.text;
}

TEST(DeathTest, TheChildOfAForkIsToldWhatToDo) {
  // A send into a buffer with room enters no runtime section, and might find a lock that nobody frees.
  for (const char* how : {"fork", "fork-stream"}) {
    const end e = die(how);
    EXPECT_EQ(e.status, 2) << how;  // that of the child
    EXPECT_EQ(e.text,
              "fatal error: goroutine call in the child of a fork: its workers stayed in the parent. "
              "Call exec after fork, or use posix_spawn\n\ngoroutine 1 [running]:\n")
        << how;
  }
}

// A thread of the program's own that faults dies as it would without us.
TEST(DeathTest, AFaultOfAPlainThreadIsNotOurs) {
  if (no_fault_reports()) GTEST_SKIP() << "AddressSanitizer reports faults itself";
  const end e = die("null-plain-thread");
  EXPECT_EQ(e.status, killed_by(SIGSEGV));
  EXPECT_EQ(e.text, "");
}

// The report needs the allocator, whose lock the dead thread has: it must not wait for it for ever.
TEST(DeathTest, AFaultInsideTheAllocatorStillEndsTheProgram) {
  if (no_fault_reports()) GTEST_SKIP() << "AddressSanitizer reports faults itself";
  const end e = die("in-malloc");
  EXPECT_EQ(e.status, killed_by(SIGSEGV));
  EXPECT_TRUE(e.text.starts_with("panic: runtime error: invalid memory address")) << e.text;
}

// -- TUCO_TRACEBACK

struct level_case {
  const char* level;
  std::size_t goroutines;
  bool runtime_frames = false;
  bool core = false;
};

void PrintTo(const level_case& c, std::ostream* out) { *out << c.level; }

class TracebackLevelTest : public ::testing::TestWithParam<level_case> {};
INSTANTIATE_TEST_SUITE_P(
    Levels, TracebackLevelTest,
    ::testing::Values(level_case{"", 1}, level_case{"none", 0}, level_case{"0", 0},
                      level_case{"single", 1}, level_case{"all", 3}, level_case{"1", 3},
                      level_case{"system", 3, true}, level_case{"2", 3, true},
                      level_case{"crash", 3, true, true}),
    [](const auto& info) { return std::string(*info.param.level ? info.param.level : "unset"); });

TEST_P(TracebackLevelTest, OfAPanic) {
  const level_case& c = GetParam();
  const end e = die("panic", c.level);
  EXPECT_EQ(e.status, c.core ? killed_by(SIGABRT) : 2);
  EXPECT_TRUE(e.text.starts_with("panic: std::runtime_error: no such file\n")) << e.text;
  if (c.goroutines == 0) return;
  ASSERT_EQ(e.dump.error, "") << e.text;
  ASSERT_EQ(e.dump.goroutines.size(), c.goroutines) << e.text;
  EXPECT_EQ(e.dump.goroutines[0].id, 3);
  EXPECT_EQ(e.dump.goroutines[0].has_frame("tuco::sched::goroutine_entry"), c.runtime_frames) << e.text;
  EXPECT_EQ(e.dump.goroutines[0].has_record, c.runtime_frames);
}

TEST_P(TracebackLevelTest, OfAFatalErrorShowsAllButAtNone) {
  const level_case& c = GetParam();
  const end e = die("deadlock", c.level);
  EXPECT_EQ(e.status, c.core ? killed_by(SIGABRT) : 2);
  EXPECT_TRUE(e.text.starts_with("fatal error: all goroutines are asleep - deadlock!\n")) << e.text;
  EXPECT_EQ(e.dump.goroutines.size(), c.goroutines == 0 ? 0U : 2U) << e.text;
  EXPECT_EQ(e.dump.error, "") << e.text;
}

TEST_P(TracebackLevelTest, OfAFault) {
  if (no_fault_reports()) GTEST_SKIP() << "AddressSanitizer reports faults itself";
  const level_case& c = GetParam();
  const end e = die("null", c.level);
  EXPECT_EQ(e.status, killed_by(SIGSEGV));
  EXPECT_EQ(e.dump.error, "") << e.text;
  EXPECT_EQ(e.dump.goroutines.size(), c.goroutines) << e.text;
}

// -- settings that make no sense

struct setting {
  const char* name;
  const char* value;
  const char* said;
};
void PrintTo(const setting& s, std::ostream* out) { *out << s.name << '=' << s.value; }

class SettingTest : public ::testing::TestWithParam<setting> {};
INSTANTIATE_TEST_SUITE_P(
    Values, SettingTest,
    ::testing::Values(setting{"GOMAXPROCS", "0", "runtime: GOMAXPROCS=0 ignored: not a positive number\n"},
                      setting{"GOMAXPROCS", "-3", "runtime: GOMAXPROCS=-3 ignored: not a positive number\n"},
                      setting{"GOMAXPROCS", "abc", "runtime: GOMAXPROCS=abc ignored: not a positive number\n"},
                      setting{"GOMAXPROCS", "99999", ""}, setting{"GOMAXPROCS", "", ""},
                      setting{"TUCO_PROCS", "0", "runtime: TUCO_PROCS=0 ignored: not a positive number\n"},
                      setting{"TUCO_PROCS", "-3", "runtime: TUCO_PROCS=-3 ignored: not a positive number\n"},
                      setting{"TUCO_PROCS", "abc", "runtime: TUCO_PROCS=abc ignored: not a positive number\n"},
                      setting{"TUCO_PROCS", "99999999999999999999",
                              "runtime: TUCO_PROCS=99999999999999999999 ignored: not a positive number\n"},
                      setting{"TUCO_PROCS", "99999", ""},
                      setting{"TUCO_STACK_SIZE", "12", "runtime: TUCO_STACK_SIZE=12 ignored: not a size of at least 16K\n"},
                      setting{"TUCO_TRACEBACK", "everything",
                              "runtime: TUCO_TRACEBACK=everything ignored: not none, single, all, system or crash\n"},
                      setting{"TUCO_DEBUG", "names=1,shedtrace=5",
                              "runtime: TUCO_DEBUG=shedtrace ignored: not an option of this version\n"},
                      setting{"TUCO_DEBUG", "schedtrace=x",
                              "runtime: TUCO_DEBUG=schedtrace=x ignored: not a positive number of milliseconds\n"}));

TEST_P(SettingTest, IsNamedAndTheProgramRuns) {
  const setting& s = GetParam();
  const std::string other = std::string(s.name) == "GOMAXPROCS" ? "TUCO_PROCS=" : "GOMAXPROCS=";
  process program({built("test/programs/procs")},
                  {.environment = {std::string(s.name) + "=" + s.value, other}});
  EXPECT_EQ(program.wait(), 0);
  EXPECT_EQ(program.text(output::err), s.said);
  const int procs = std::stoi(program.text(output::out));
  if (std::string(s.value) == "99999") {
    EXPECT_EQ(procs, 1024);
  } else {
    EXPECT_GE(procs, 1);
    EXPECT_LT(procs, 1024);
  }
}

}  // namespace
}  // namespace tuco::test
