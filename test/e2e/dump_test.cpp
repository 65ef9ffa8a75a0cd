// SPDX-License-Identifier: Apache-2.0
// dump_test.cpp - SIGQUIT: every goroutine in Go's text, read back by a strict grammar of it; what our
// options add; and that a wedged scheduler, an application's handler and many goroutines do no harm.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>

#include "e2e/go_dump.hpp"
#include "e2e/process.hpp"

namespace tuco::test {
namespace {

struct listed {
  long id = 0;
  int thread = 0;
};

/// The lines "ID THREAD NAME" of the program `states`.
std::map<std::string, listed> read_list(const std::string& text) {
  std::map<std::string, listed> out;
  std::istringstream in(text);
  std::string line;
  while (std::getline(in, line) && line != "ready") {
    std::istringstream fields(line);
    listed g;
    std::string name;
    fields >> g.id >> g.thread >> std::ws;
    std::getline(fields, name);
    out[name] = g;
  }
  return out;
}

struct expectation {
  const char* name;
  const char* state;
  const char* frame;  ///< one of those that a user wants to see
};
constexpr expectation all_states[] = {
    {"chan receive", "chan receive", "tuco::chan<int>::recv"},
    {"chan receive, 3 minutes", "chan receive", "app::innermost"},
    {"chan send", "chan send", "app::innermost"},
    {"nil receive", "chan receive (nil chan)", "app::innermost"},
    {"nil send", "chan send (nil chan)", "app::innermost"},
    {"select", "select", "app::innermost"},
    {"select nothing", "select (no cases)", "app::innermost"},
    {"sleep", "sleep", "app::innermost"},
    {"mutex", "sync.Mutex.Lock", "app::innermost"},
    {"condition", "sync.Cond.Wait", "app::innermost"},
    {"wait group", "sync.WaitGroup.Wait", "app::innermost"},
    {"once holder", "chan receive", "tuco::once::call"},
    {"once", "sync.Once.Do", "app::innermost"},
    {"writer", "sync.RWMutex.Lock", "app::innermost"},
    {"reader", "sync.RWMutex.RLock", "app::innermost"},
    {"semaphore", "semaphore acquire", "app::innermost"},
    {"latch", "latch wait", "app::innermost"},
    {"barrier", "barrier wait", "app::innermost"},
    {"accept", "IO wait", "tuco::tcp_listener::accept"},
    {"second accept", "semacquire", "tuco::tcp_listener::accept"},
    {"locked", "chan receive", "app::innermost"},
    {"syscall", "syscall (read)", "app::innermost"},
    {"running", "running", "app::compute"},
    {"runnable", "runnable", "tuco::yield"},
};

#if defined(__x86_64__)
constexpr const char *last_register = "\ngs ", *instruction_pointer = "rip", *stack_pointer = "rsp";
#else
constexpr const char *last_register = "\nfault ", *instruction_pointer = "pc", *stack_pointer = "sp";
#endif

class DumpTest : public ::testing::Test {
 protected:
  /// Sends SIGQUIT and waits for the whole answer.
  static std::string quit(process& program) {
    const std::size_t from = program.text(output::err).size();
    program.signal(SIGQUIT);
    return answer(program, from);
  }
  static std::string answer(process& program, std::size_t from) {
    // Behind the last one of all goroutines there is a blank line.
    std::size_t last = from;
    for (const auto& [name, g] : read_list(program.text(output::out))) {
      last = std::max(last, program.await_text(output::err, "goroutine " + std::to_string(g.id) + " ", from));
    }
    // ... and then the registers.
    const std::size_t blank = program.await_text(output::err, "\n\n", last);
    const std::size_t register_name = program.await_text(output::err, last_register, blank);
    const std::size_t end = program.await_text(output::err, "\n", register_name);
    return program.text(output::err).substr(from, end - from);
  }
  static void finish(process& program) {
    program.signal(SIGUSR1);
    EXPECT_EQ(program.wait(), 0);
  }
};

TEST_F(DumpTest, EveryStateInGosGrammar) {
  process program({built("test/programs/states")});
  program.await_text(output::out, "ready\n");
  const std::string text = quit(program);
  EXPECT_TRUE(std::regex_search(
      text, std::regex("^SIGQUIT: quit\nPC=0x[0-9a-f]+ m=[0-9]+ sigcode=0\n\ngoroutine 1 \\[")))
      << text.substr(0, 200);
  const parsed_dump dump = parse_go_dump(text);
  ASSERT_EQ(dump.error, "") << text;
  const auto list = read_list(program.text(output::out));
  EXPECT_EQ(dump.goroutines.size(), list.size());

  const auto find = [&](const char* name) {
    const auto at = list.find(name);
    return at == list.end() ? nullptr : dump.find(at->second.id);
  };
  for (const expectation& e : all_states) {
    const dumped_goroutine* g = find(e.name);
    ASSERT_NE(g, nullptr) << e.name;
    EXPECT_EQ(g->state, e.state) << e.name;
    EXPECT_TRUE(g->has_frame(e.frame)) << e.name << " in\n" << text;
    // The whole stack: from the place of the wait to the function that `go` was given.
    ASSERT_FALSE(g->frames.empty()) << e.name;
    EXPECT_TRUE(g->frames.back().function.starts_with("app::start")) << e.name;
    EXPECT_TRUE(g->frames.back().file.ends_with("states.cpp")) << e.name;
    EXPECT_EQ(g->creator, "app::start") << e.name;
    EXPECT_EQ(g->parent, 1) << e.name;
    EXPECT_TRUE(g->created_at.file.ends_with("states.cpp")) << e.name;
    EXPECT_EQ(g->minutes, std::string(e.name) == "chan receive, 3 minutes" ? 3 : 0) << e.name;
    EXPECT_EQ(g->locked, std::string(e.name) == "locked") << e.name;
    EXPECT_FALSE(g->has_frame("tuco::sched::")) << e.name;
  }
  const dumped_goroutine* fresh = find("fresh");
  ASSERT_NE(fresh, nullptr);
  EXPECT_EQ(fresh->state, "runnable");
  ASSERT_EQ(fresh->frames.size(), 1U);
  EXPECT_TRUE(fresh->frames[0].function.starts_with("app::start")) << fresh->frames[0].function;
  const dumped_goroutine* main = find("main");
  ASSERT_NE(main, nullptr);
  EXPECT_EQ(main->state, "running");
  EXPECT_TRUE(main->has_frame("app::stand_still"));
  EXPECT_EQ(main->creator, "");

  // It goes on, and answers again.
  EXPECT_EQ(parse_go_dump(quit(program)).error, "");
  finish(program);
}

TEST_F(DumpTest, TheInterruptedGoroutineComesFirst) {
  process program({built("test/programs/states")});
  program.await_text(output::out, "ready\n");
  const auto list = read_list(program.text(output::out));
  const listed running = list.at("running");
  ASSERT_NE(running.thread, 0);
  ASSERT_EQ(::syscall(SYS_tgkill, program.pid(), running.thread, SIGQUIT), 0);
  const parsed_dump dump = parse_go_dump(answer(program, 0));
  ASSERT_EQ(dump.error, "");
  ASSERT_FALSE(dump.goroutines.empty());
  EXPECT_EQ(dump.goroutines[0].id, running.id);
  EXPECT_TRUE(dump.goroutines[0].has_frame("app::compute"));
  EXPECT_EQ(dump.goroutines.size(), list.size());  // and not a second time
  finish(program);
}

// Of what the signal has interrupted: PC= says the same.
TEST_F(DumpTest, TheRegistersStandAtTheEnd) {
  process program({built("test/programs/states")}, {.environment = {"TUCO_TRACEBACK=system"}});
  program.await_text(output::out, "ready\n");
  const listed running = read_list(program.text(output::out)).at("running");
  ASSERT_EQ(::syscall(SYS_tgkill, program.pid(), running.thread, SIGQUIT), 0);
  const std::string text = answer(program, 0);
  const parsed_dump dump = parse_go_dump(text);
  ASSERT_EQ(dump.error, "");
  std::smatch m;
  ASSERT_TRUE(std::regex_search(text, m, std::regex("\nPC=0x([0-9a-f]+) ")));
  ASSERT_TRUE(dump.registers.contains(instruction_pointer) && dump.registers.contains(stack_pointer));
  EXPECT_EQ(dump.registers.at(instruction_pointer), std::stoul(m[1], nullptr, 16));
  // It computes in one frame: the one that is there when the dump is made has the same stack pointer.
  const dumped_goroutine* g = dump.find(running.id);
  ASSERT_NE(g, nullptr);
  ASSERT_TRUE(g->has_frame("app::compute"));
  EXPECT_EQ(dump.registers.at(stack_pointer), g->frames[0].sp);
  finish(program);
}

TEST_F(DumpTest, WaitsNameObjectHolderAndTime) {
  process program({built("test/programs/states")}, {.environment = {"TUCO_DEBUG=waits=1,names=1"}});
  program.await_text(output::out, "ready\n");
  const std::string text = quit(program);
  const auto expect = [&](const std::string& name, const std::string& state, const std::string& what) {
    const std::string pattern = "goroutine [0-9]+ \"" + name + "\" \\[" + state +
                                "\\]:\n\twaiting [0-9]+\\.[0-9]{9} s for " + what + "\n";
    EXPECT_TRUE(std::regex_search(text, std::regex(pattern))) << pattern << "\nin\n" << text;
  };
  const std::string chan = "chan 0x[0-9a-f]+, ";
  expect("chan receive", "chan receive", chan + "0 of 0 buffered, 5 wait to receive, 0 to send");
  expect("chan send", "chan send", chan + "1 of 1 buffered, 0 wait to receive, 2 to send");
  expect("nil receive", "chan receive \\(nil chan\\)", "nothing that another goroutine has");
  expect("select", "select", "several channels");
  expect("sleep", "sleep", "nothing that another goroutine has");
  expect("mutex", "sync\\.Mutex\\.Lock", "mutex 0x[0-9a-f]+, held by goroutine 1");
  expect("condition", "sync\\.Cond\\.Wait", "condition_variable 0x[0-9a-f]+");
  expect("wait group", "sync\\.WaitGroup\\.Wait", "wait_group 0x[0-9a-f]+, counter 1");
  const long holder = read_list(program.text(output::out)).at("once holder").id;
  expect("once", "sync\\.Once\\.Do", "once 0x[0-9a-f]+, run by goroutine " + std::to_string(holder));
  expect("writer", "sync\\.RWMutex\\.Lock", "shared_mutex 0x[0-9a-f]+, held by 1 reader");
  expect("reader", "sync\\.RWMutex\\.RLock", "shared_mutex 0x[0-9a-f]+, held by goroutine 1");
  expect("semaphore", "semaphore acquire", "semaphore 0x[0-9a-f]+, 1 of 4 free");
  expect("latch", "latch wait", "latch 0x[0-9a-f]+, 2 still to come");
  expect("barrier", "barrier wait", "barrier 0x[0-9a-f]+, 2 of 3 still to come, phase 0");
  expect("accept", "IO wait", "descriptor [0-9]+ to be readable");
  expect("chan receive, 3 minutes", "chan receive, 3 minutes", chan + ".*");
  EXPECT_TRUE(std::regex_search(text, std::regex("3 minutes\\]:\n\twaiting 2[0-9]{2}\\.")));
  EXPECT_TRUE(std::regex_search(text, std::regex("goroutine 1 \"main\" \\[running\\]:\n")));
  finish(program);
}

TEST_F(DumpTest, AnswersWhenTheSchedulerIsWedged) {
  process program({built("test/programs/states"), "wedged"});
  program.await_text(output::out, "ready\n");
  const parsed_dump dump = parse_go_dump(quit(program));
  EXPECT_EQ(dump.error, "");
  EXPECT_EQ(dump.goroutines.size(), read_list(program.text(output::out)).size());
  ASSERT_NE(dump.find(1), nullptr);
  EXPECT_TRUE(dump.find(1)->has_frame("app::stand_still"));
  finish(program);
}

TEST_F(DumpTest, TheProgramsOwnHandlerIsLeftAlone) {
  process program({built("test/programs/states"), "handler"});
  program.await_text(output::out, "ready\n");
  program.signal(SIGQUIT);
  program.await_text(output::err, "the program's own handler\n");
  finish(program);
  EXPECT_EQ(program.text(output::err), "the program's own handler\n");
}

TEST_F(DumpTest, TheLevelSystemShowsTheRuntime) {
  process program({built("test/programs/states")}, {.environment = {"TUCO_TRACEBACK=system"}});
  program.await_text(output::out, "ready\n");
  const std::string text = quit(program);
  const parsed_dump dump = parse_go_dump(text);
  ASSERT_EQ(dump.error, "") << text;
  const auto list = read_list(program.text(output::out));
  for (const char* name : {"chan receive", "sleep", "mutex", "accept"}) {
    const dumped_goroutine* g = dump.find(list.at(name).id);
    ASSERT_NE(g, nullptr) << name;
    EXPECT_TRUE(g->has_record) << name;
    EXPECT_TRUE(g->has_frame("tuco::sched::")) << name;
    EXPECT_TRUE(g->frames.back().function.starts_with("tuco_context_entry") ||
                g->frames.back().function.starts_with("tuco_restart_stack"))
        << name << ": " << g->frames.back().function;
    // Each frame's stack pointer, from the innermost outwards; what was inlined has none of its own.
    unsigned long sp = 0;
    unsigned long fp = 0;
    for (const dumped_frame& f : g->frames) {
      if (f.pc == 0) continue;
      EXPECT_GT(f.sp, sp) << name << ": " << f.function;
      EXPECT_TRUE(fp == 0 || f.sp == fp) << name << ": " << f.function;
      sp = f.sp;
      fp = f.fp;
    }
    EXPECT_GT(sp, 0UL) << name;
  }
  finish(program);
}

TEST_F(DumpTest, ALimitCountsTheRest) {
  process program({built("test/programs/states")}, {.environment = {"TUCO_DEBUG=dumplimit=3"}});
  program.await_text(output::out, "ready\n");
  const auto list = read_list(program.text(output::out));
  program.signal(SIGQUIT);
  program.await_text(output::err, " goroutines elided...\n\n");
  const std::string text = program.text(output::err);
  const std::string last = "..." + std::to_string(list.size() - 3) + " goroutines elided...";
  const parsed_dump dump = parse_go_dump(text, {last});
  EXPECT_EQ(dump.error, "");
  EXPECT_EQ(dump.goroutines.size(), 3U);
  EXPECT_NE(text.find("\n" + last + "\n"), std::string::npos);
  finish(program);
}

// Each in its own receive, while others run on. The times are shown, not judged.
TEST_F(DumpTest, AHundredThousandGoroutinesAreListedAndDumped) {
  const std::string file = ::testing::TempDir() + "tuco_dump_" + std::to_string(::getpid());
  process program({built("test/programs/many"), "100000", file});
  ASSERT_EQ(program.wait(), 0) << program.text(output::err);
  std::printf("%s", program.text(output::out).c_str());
  std::ifstream in(file);
  std::size_t headers = 0;
  std::size_t receiving = 0;
  std::size_t entries = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("goroutine ")) ++headers;
    if (line.ends_with(" [chan receive]:")) ++receiving;
    if (line.starts_with("app::parked")) ++entries;
  }
  std::remove(file.c_str());
  EXPECT_EQ(headers, 100'000U + 1 + 4);
  EXPECT_GE(receiving, 100'000U);
  EXPECT_EQ(entries, 100'000U);
}

}  // namespace
}  // namespace tuco::test
