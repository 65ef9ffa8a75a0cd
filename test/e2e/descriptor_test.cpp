// SPDX-License-Identifier: Apache-2.0
// descriptor_test.cpp - tuco_debug_v1: the goroutines of a stopped and stripped process, read by
// process_vm_readv alone, and those of a core; against what the process says of itself.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "base/sanitizer.hpp"
#include "e2e/command.hpp"
#include "e2e/debug_reader.hpp"
#include "e2e/process.hpp"

namespace tuco::test {
namespace {

struct range {
  std::uint64_t low = 0, high = 0;
};

/// Addresses of a symbol, as the file has them.
range symbol(const std::string& program, const std::string& name) {
  std::istringstream in(output_of("nm -S " + program));
  for (std::string line; std::getline(in, line);) {
    if (!line.ends_with(" " + name)) continue;
    std::istringstream fields(line);
    range r;
    std::uint64_t size = 0;
    fields >> std::hex >> r.low >> size;
    r.high = r.low + size;
    return r;
  }
  return {};
}

class DescriptorTest : public ::testing::Test {
 protected:
  /// A copy without any symbol that strip can remove.
  std::string stripped(const std::string& program) {
    const std::string copy = folder_.file("stripped");
    EXPECT_EQ(output_of("strip -s -o " + copy + " " + program), "");
    EXPECT_NE(output_of("nm " + copy).find("no symbols"), std::string::npos);
    EXPECT_EQ(output_of("readelf -S " + copy).find(".debug_"), std::string::npos);
    return copy;
  }

  static void stop(process& program) {
    program.signal(SIGSTOP);
    for (;;) {
      std::ifstream stat("/proc/" + std::to_string(program.pid()) + "/stat");
      std::string text;
      std::getline(stat, text);
      if (text.substr(text.rfind(')') + 2, 1) == "T") return;
      ::usleep(1000);
    }
  }

  /// What the program `states` printed about itself.
  static std::map<std::uint64_t, std::string> names_of(const process& program) {
    std::map<std::uint64_t, std::string> out;
    std::istringstream in(program.text(output::out));
    for (std::string line; std::getline(in, line) && line != "ready";) {
      std::istringstream fields(line);
      std::uint64_t id = 0;
      int thread = 0;
      std::string name;
      fields >> id >> thread >> std::ws;
      std::getline(fields, name);
      out[id] = name;
    }
    return out;
  }

  static const seen_goroutine& named(const std::vector<seen_goroutine>& all, const std::string& name) {
    static const seen_goroutine none;
    for (const auto& g : all) {
      if (g.name == name) return g;
    }
    ADD_FAILURE() << "no goroutine is called " << name;
    return none;
  }

  void check(const debug_reader& reader, const process& program, const std::string& with_symbols,
             bool live) {
    const auto all = reader.goroutines();
    const auto names = names_of(program);
    ASSERT_EQ(all.size(), names.size());
    for (const auto& g : all) {
      const auto at = names.find(g.id);
      ASSERT_NE(at, names.end()) << g.id;
      EXPECT_EQ(g.name, at->second);
      EXPECT_EQ(g.parent, g.name == "main" ? 0U : 1U) << g.name;
    }
    for (const auto& g : all) {
      if (g.name == "main") continue;
      EXPECT_TRUE(g.created_file.ends_with("states.cpp")) << g.name << ": " << g.created_file;
      EXPECT_GT(g.created_line, 0U) << g.name;
    }
    const std::pair<const char*, const char*> waits[] = {
        {"chan receive", "chan receive"},  {"chan send", "chan send"},
        {"nil receive", "chan receive (nil chan)"}, {"nil send", "chan send (nil chan)"},
        {"select", "select"}, {"select nothing", "select (no cases)"}, {"sleep", "sleep"},
        {"mutex", "sync.Mutex.Lock"}, {"condition", "sync.Cond.Wait"},
        {"wait group", "sync.WaitGroup.Wait"}, {"once", "sync.Once.Do"}, {"accept", "IO wait"},
        {"second accept", "semacquire"}, {"locked", "chan receive"}};
    const range entry = symbol(with_symbols, "tuco_context_entry");
    const range restart = symbol(with_symbols, "tuco_restart_stack");
    ASSERT_NE(entry.low, 0U);
    for (const auto& [name, reason] : waits) {
      const auto& g = named(all, name);
      EXPECT_EQ(g.status, "waiting") << name;
      EXPECT_EQ(g.reason, reason) << name;
      EXPECT_GE(g.switches, 1U) << name;
      EXPECT_LT(g.stack_low, g.sp) << name;
      EXPECT_LT(g.sp, g.stack_high) << name;
      EXPECT_EQ(g.locked, std::string(name) == "locked");
      // To the entry: its frame pointer is 0, and it is one of two places.
      const auto chain = reader.frame_chain(g);
      EXPECT_GE(chain.size(), 4U) << name;
      const std::uint64_t last = chain.back() - reader.module();
      EXPECT_TRUE((last > entry.low && last <= entry.high) ||
                  (last > restart.low && last <= restart.high))
          << name << ": " << std::hex << last;
    }
    EXPECT_EQ(named(all, "chan receive").wait_object, named(all, "locked").wait_object);
    EXPECT_NE(named(all, "chan receive").wait_object, named(all, "chan send").wait_object);
    EXPECT_EQ(named(all, "running").status, "running");
    EXPECT_EQ(named(all, "syscall").status, "running");  // that it sits in the kernel, the kernel knows
    EXPECT_EQ(named(all, "main").status, "running");
    EXPECT_EQ(named(all, "runnable").status, "runnable");
    EXPECT_EQ(named(all, "fresh").status, "runnable");
    EXPECT_EQ(named(all, "fresh").switches, 0U);
    EXPECT_EQ(named(all, "fresh").stack_high, 0U);

    // Who runs where.
    const auto workers = reader.workers();
    for (const char* name : {"running", "main", "syscall"}) {
      const auto& g = named(all, name);
      const auto w = std::find_if(workers.begin(), workers.end(),
                                  [&](const auto& candidate) { return candidate.address == g.worker; });
      ASSERT_NE(w, workers.end()) << name;
      if (live) {
        EXPECT_TRUE(std::filesystem::exists("/proc/" + std::to_string(program.pid()) + "/task/" +
                                            std::to_string(w->tid)));
      }
    }

    // Time: one of them is made 200 s older than it is, and parked between two others. A clock's rate that
    // is known from a tenth of a second's ticks is good to a few parts in a million.
    const auto since = [&](const char* name) {
      const auto ns = reader.steady_ns(named(all, name).wait_since, live);
      EXPECT_TRUE(ns.has_value()) << name;
      return ns.value_or(0);
    };
    constexpr std::int64_t added = 200'000'000'000;
    const std::int64_t old = since("chan receive, 3 minutes");
    EXPECT_LT(since("chan receive") - old, added + added / 1000);
    EXPECT_GT(since("chan send") - old, added - added / 1000);
    if (live) {
      const std::int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
      EXPECT_LE(since("chan receive"), now + 1'000'000);
      EXPECT_GE(since("chan receive"), started_.time_since_epoch().count() - 1'000'000);
    }
  }

  scratch_folder folder_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

TEST_F(DescriptorTest, GoroutinesOfAStoppedAndStrippedProcess) {
  const std::string original = built("test/programs/states");
  process program({stripped(original)});
  program.await_text(output::out, "ready\n");
  stop(program);
  const debug_reader reader(memory_image::of_process(program.pid()));
  EXPECT_EQ(reader.layout().runs, 1U);
  EXPECT_EQ(reader.get<std::uint32_t>(reader.layout().state), 2U);  // running
  EXPECT_EQ(reader.get<std::uint32_t>(reader.layout().processor_count), 1U);
  check(reader, program, original, true);
  program.signal(SIGCONT);
  program.signal(SIGUSR1);
  EXPECT_EQ(program.wait(), 0);
}

TEST_F(DescriptorTest, GoroutinesOfARunningProcess) {
  process program({built("test/programs/states")});
  program.await_text(output::out, "ready\n");
  const debug_reader reader(memory_image::of_process(program.pid()));
  check(reader, program, built("test/programs/states"), true);
  program.signal(SIGUSR1);
  EXPECT_EQ(program.wait(), 0);
}

// The linker is asked to export it: debuggers find it by name where the program was stripped.
TEST_F(DescriptorTest, IsAnExportedSymbol) {
  const std::string copy = stripped(built("test/programs/states"));
  EXPECT_NE(output_of("nm -D " + copy).find(" D tuco_debug_v1"), std::string::npos);
}

// As the kernel writes it, where it is asked to write a file.
TEST_F(DescriptorTest, GoroutinesOfACore) {
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
  GTEST_SKIP() << "sanitizers turn cores off: their shadow would be in them";
#endif
  std::string pattern;
  std::getline(std::ifstream("/proc/sys/kernel/core_pattern"), pattern);
  if (pattern.empty() || pattern.find_first_of("|/@%") != std::string::npos) {
    GTEST_SKIP() << "cores go elsewhere: core_pattern is " << pattern;
  }
  rlimit limit{};
  ::getrlimit(RLIMIT_CORE, &limit);
  if (limit.rlim_max != RLIM_INFINITY) GTEST_SKIP() << "cores may not be whole here: ulimit -Hc";
  const std::string original = built("test/programs/states");
  process program({stripped(original)},
                  {.limits = {{RLIMIT_CORE, RLIM_INFINITY}}, .folder = folder_.path()});
  program.await_text(output::out, "ready\n");
  program.signal(SIGTRAP);  // nobody handles it
  EXPECT_EQ(program.wait(), 128 + SIGTRAP);
  std::string core = folder_.file(pattern);
  if (!std::filesystem::exists(core)) core.append(".").append(std::to_string(program.pid()));
  ASSERT_TRUE(std::filesystem::exists(core)) << core;
  check(debug_reader(memory_image::of_core(core)), program, original, false);
}

}  // namespace
}  // namespace tuco::test
