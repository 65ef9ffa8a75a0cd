// SPDX-License-Identifier: Apache-2.0
// schedtrace_test.cpp - TUCO_DEBUG=schedtrace and scheddetail: each line as Go has it, and the goroutines
// of a program that stands still as they are.
#include <gtest/gtest.h>
#include <signal.h>

#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "e2e/process.hpp"

namespace tuco::test {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

const std::string head =
    "SCHED ([0-9]+)ms: gomaxprocs=([0-9]+) idleprocs=([0-9]+) threads=([0-9]+) spinningthreads=([0-9]+) "
    "needspinning=[01] idlethreads=([0-9]+) runqueue=([0-9]+)";

class SchedtraceTest : public ::testing::Test {
 protected:
  static void finish(process& program) {
    program.signal(SIGUSR1);
    EXPECT_EQ(program.wait(), 0);
  }
};

TEST_F(SchedtraceTest, ALineAtATime) {
  process program({built("test/programs/states")}, {.environment = {"TUCO_DEBUG=schedtrace=1"}});
  program.await_text(output::out, "ready\n");
  for (std::size_t i = 0, at = 0; i < 5; ++i) at = program.await_text(output::err, "\n", at);
  finish(program);
  const std::regex line(head + " \\[ ([0-9]+) \\] schedticks=\\[ ([0-9]+) \\]");
  long last = 0;
  for (const std::string& text : lines_of(program.text(output::err))) {
    std::smatch m;
    ASSERT_TRUE(std::regex_match(text, m, line)) << text;
    EXPECT_EQ(m[2], "1") << text;
    EXPECT_GE(std::stol(m[1]), last) << text;
    last = std::stol(m[1]);
  }
}

TEST_F(SchedtraceTest, InDetailEverybodyIsThere) {
  process program({built("test/programs/states")}, {.environment = {"TUCO_DEBUG=schedtrace=20,scheddetail=1"}});
  // One whole report of the time when all stand still: from a head on, up to the next.
  program.await_text(output::out, "ready\n");
  const std::size_t now = program.text(output::err).size();
  const std::size_t from = program.await_text(output::err, "\nSCHED ", now);
  const std::size_t to = program.await_text(output::err, "\nSCHED ", from);
  const std::string report = program.text(output::err).substr(from - 6, to - from);
  finish(program);
  std::map<long, std::string> names;
  for (const std::string& text : lines_of(program.text(output::out))) {
    std::istringstream fields(text);
    long id = 0;
    int thread = 0;
    std::string name;
    fields >> id >> thread >> std::ws;
    if (std::getline(fields, name)) names[id] = name;
  }

  const std::regex first(head + " gcwaiting=false nmidlelocked=([0-9]+) stopwait=0 sysmonwait=false");
  const std::regex processor("  P([0-9]+): status=([014]) schedtick=[0-9]+ syscalltick=[0-9]+ m=(nil|[0-9]+) "
                             "runqsize=([0-9]+) gfreecnt=[0-9]+ timerslen=([0-9]+)");
  const std::regex worker("  M([0-9]+): p=(nil|[0-9]+) curg=(nil|[0-9]+) mallocing=0 throwing=0 preemptoff= "
                          "locks=([0-9]+) dying=0 spinning=(?:true|false) blocked=(?:true|false) "
                          "lockedg=(nil|[0-9]+)");
  const std::regex goroutine("  G([0-9]+): status=([0-9])\\((.*)\\) m=(nil|[0-9]+) lockedm=(nil|[0-9]+)");
  struct seen {
    std::string status, reason, m, locked;
  };
  std::map<std::string, seen> goroutines;
  std::map<std::string, std::string> runs;  // worker: goroutine
  int processors = 0;
  int in_queues = 0;
  bool at_head = true;
  for (const std::string& text : lines_of(report)) {
    std::smatch m;
    if (std::exchange(at_head, false)) {
      ASSERT_TRUE(std::regex_match(text, m, first)) << text;
      in_queues += std::stoi(m[7]);
      EXPECT_EQ(m[8], "1") << "the worker of the goroutine that is locked to its thread";
    } else if (std::regex_match(text, m, processor)) {
      ++processors;
      in_queues += std::stoi(m[4]);
      EXPECT_EQ(m[5], "1") << text;           // "sleep"
    } else if (std::regex_match(text, m, worker)) {
      runs[m[1]] = m[3];
    } else {
      ASSERT_TRUE(std::regex_match(text, m, goroutine)) << text;
      const auto name = names.find(std::stol(m[1]));
      ASSERT_NE(name, names.end()) << text;
      goroutines[name->second] = {m[2], m[3], m[4], m[5]};
    }
  }
  EXPECT_EQ(processors, 1);
  EXPECT_EQ(in_queues, 2) << report;  // "runnable" and "fresh"
  EXPECT_EQ(goroutines.size(), names.size()) << report;
  const std::pair<const char*, const char*> waits[] = {
      {"chan receive", "chan receive"}, {"nil send", "chan send (nil chan)"}, {"select", "select"},
      {"sleep", "sleep"}, {"mutex", "sync.Mutex.Lock"}, {"accept", "IO wait"}, {"locked", "chan receive"}};
  for (const auto& [name, reason] : waits) {
    EXPECT_EQ(goroutines[name].status, "4") << name;
    EXPECT_EQ(goroutines[name].reason, reason) << name;
    EXPECT_EQ(goroutines[name].m, "nil") << name;
    EXPECT_EQ(goroutines[name].locked != "nil", std::string(name) == "locked") << name;
  }
  EXPECT_EQ(goroutines["runnable"].status, "1");
  EXPECT_EQ(goroutines["fresh"].status, "1");
  EXPECT_EQ(goroutines["running"].status, "2");
  EXPECT_EQ(goroutines["syscall"].status, "3");
  for (const char* name : {"main", "running", "syscall"}) {
    std::string id;
    for (const auto& [number, other] : names) {
      if (other == name) id = std::to_string(number);
    }
    EXPECT_EQ(runs[goroutines[name].m], id) << name << " in\n" << report;
  }
}

}  // namespace
}  // namespace tuco::test
