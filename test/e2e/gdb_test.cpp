// SPDX-License-Identifier: Apache-2.0
// gdb_test.cpp - Debian's gdb with scripts/gdb/tuco.py: it lists goroutines and walks their stacks to the
// entry, parked and running, in a live process, in a stripped one, and in a core.
#include <gtest/gtest.h>
#include <signal.h>

#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "base/sanitizer.hpp"
#include "e2e/command.hpp"
#include "e2e/process.hpp"

namespace tuco::test {
namespace {

class GdbTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!is_installed("gdb")) GTEST_SKIP() << "gdb is not installed: scripts/bootstrap test";
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
    GTEST_SKIP() << "gdb and the sanitizers' shadow memory do not go together";
#endif
  }

  /// What gdb says to commands, of the process or of a program and its core.
  static std::string gdb(const std::string& subject, const std::vector<std::string>& commands) {
    std::string line = "gdb -nx -batch -iex 'set debuginfod enabled off' " + subject +
                       " -ex 'set width 0' -ex 'source " TUCO_TEST_SOURCE_DIR "/scripts/gdb/tuco.py'";
    for (const std::string& c : commands) line.append(" -ex '").append(c).append("'");
    return output_of(line);
  }

  static std::string id_of(const process& program, const std::string& name) {
    std::smatch m;
    const std::string text = program.text(output::out);
    EXPECT_TRUE(std::regex_search(text, m, std::regex("(?:^|\n)([0-9]+) [0-9]+ " + name + "\n"))) << text;
    return m[1];
  }

  /// Through both functions, in this order, to where a goroutine begins, with nothing behind it.
  static bool reaches_entry(const std::string& text, const std::string& inner, const std::string& outer) {
    std::istringstream in(text);
    bool seen_inner = false;
    bool seen_outer = false;
    std::string last;
    for (std::string line; std::getline(in, line);) {
      if (line.find("Backtrace stopped") != std::string::npos) return false;
      if (!line.starts_with("#")) continue;
      seen_inner |= line.find(inner) != std::string::npos;
      seen_outer |= seen_inner && line.find(outer) != std::string::npos;
      last = line;
    }
    return seen_outer && (last.find(" in tuco_context_entry ") != std::string::npos ||
                          last.find(" in tuco_restart_stack ") != std::string::npos);
  }

  static void finish(process& program) {
    program.signal(SIGUSR1);
    EXPECT_EQ(program.wait(), 0);
  }
};

const std::string list_of_states[] = {
    "\n  2 +chan receive +\"chan receive\"  on 0x[0-9a-f]+  created by goroutine 1 at states.cpp:[0-9]+\n",
    "\n  [0-9]+ +chan send \\(nil chan\\) +\"nil send\"  created by goroutine 1 at states.cpp:[0-9]+\n",
    "\n  [0-9]+ +sync.Mutex.Lock +\"mutex\"  on 0x[0-9a-f]+  created by goroutine 1 at states.cpp:[0-9]+\n",
    "\n  [0-9]+ +IO wait +\"accept\"  on 0x[0-9a-f]+  created by goroutine 1 at states.cpp:[0-9]+\n",
    "\n\\* 1 +running +\"main\"  m=[0-9]+ thread [0-9]+\n",
    "\n\\* [0-9]+ +running +\"running\"  m=[0-9]+ thread [0-9]+  created by goroutine 1 at states.cpp:[0-9]+\n",
    "\n  [0-9]+ +runnable +\"fresh\"  created by goroutine 1 at states.cpp:[0-9]+\n",
};

TEST_F(GdbTest, ListsAndWalksGoroutinesOfALiveProcess) {
  process program({built("test/programs/states")});
  program.await_text(output::out, "ready\n");
  const std::string parked = id_of(program, "mutex");
  const std::string running = id_of(program, "running");
  const std::string fresh = id_of(program, "fresh");
  const std::string text = gdb("-p " + std::to_string(program.pid()),
                               {"info goroutines", "echo --parked\\n", "goroutine " + parked + " bt",
                                "echo --running\\n", "goroutine " + running + " bt", "echo --fresh\\n",
                                "goroutine " + fresh + " bt", "echo --some\\n", "info goroutines nil chan",
                                "echo --thread\\n", "bt 1"});
  for (const std::string& line : list_of_states) EXPECT_TRUE(std::regex_search(text, std::regex(line))) << line << text;
  const auto part = [&](const std::string& from, const std::string& to) {
    const auto at = text.find(from + "\n");
    return text.substr(at, text.find(to + "\n") - at);
  };
  EXPECT_TRUE(reaches_entry(part("--parked", "--running"), "switch_saved", "app::middle")) << text;
  EXPECT_TRUE(reaches_entry(part("--running", "--fresh"), "app::compute", "app::middle")) << text;
  EXPECT_NE(part("--fresh", "--some").find("it has not begun"), std::string::npos) << text;
  EXPECT_TRUE(std::regex_match(part("--some", "--thread"), std::regex("--some\n.*\"nil receive\".*\n.*\"nil send\".*\n"))) << text;
  // The thread's own frames are back when the command is over.
  EXPECT_EQ(text.find("tuco_context_entry", text.find("--thread")), std::string::npos) << text;
  // It was looked at and not touched.
  finish(program);
}

TEST_F(GdbTest, EveryGoroutineIsWalkedToItsEntry) {
  process program({built("test/programs/states")});
  program.await_text(output::out, "ready\n");
  const std::string text = gdb("-p " + std::to_string(program.pid()), {"goroutine all bt"});
  finish(program);
  std::size_t goroutines = 0;
  std::size_t entries = 0;
  for (std::size_t at = 0; (at = text.find("\ngoroutine ", at)) != std::string::npos; ++at) ++goroutines;
  for (std::size_t at = 0; (at = text.find(" in tuco_context_entry ", at)) != std::string::npos; ++at) ++entries;
  for (std::size_t at = 0; (at = text.find(" in tuco_restart_stack ", at)) != std::string::npos; ++at) ++entries;
  EXPECT_GE(goroutines, 20U);
  EXPECT_EQ(entries, goroutines - 1) << text;  // all but the one that has not begun
  EXPECT_EQ(text.find("Backtrace stopped"), std::string::npos) << text;
}

// Without symbols and debug information: the exported descriptor and the unwind tables are enough.
TEST_F(GdbTest, ReadsAStrippedProcess) {
  const scratch_folder folder;
  output_of("strip -s -o " + folder.file("stripped") + " " + built("test/programs/states"));
  process program({folder.file("stripped")});
  program.await_text(output::out, "ready\n");
  const std::string text = gdb("-p " + std::to_string(program.pid()), {"info goroutines", "goroutine 2 bt"});
  for (const std::string& line : list_of_states) EXPECT_TRUE(std::regex_search(text, std::regex(line))) << line << text;
  std::size_t frames = 0;
  for (std::size_t at = 0; (at = text.find("\n#", at)) != std::string::npos; ++at) ++frames;
  EXPECT_GE(frames, 8U) << text;
  EXPECT_EQ(text.find("corrupt stack"), std::string::npos) << text;
  finish(program);
}

// gdb's own generate-core-file loses the stacks: it gives up at the first guard between them.
TEST_F(GdbTest, WritesAndReadsACore) {
  const scratch_folder folder;
  process program({built("test/programs/states")});
  program.await_text(output::out, "ready\n");
  const std::string running = id_of(program, "running");
  const std::string said = gdb("-p " + std::to_string(program.pid()), {"tuco-core " + folder.file("core")});
  EXPECT_TRUE(std::regex_search(said, std::regex("and the stacks of 25 goroutines\n"))) << said;
  finish(program);
  const std::string text = gdb(built("test/programs/states") + " " + folder.file("core"),
                               {"info goroutines", "goroutine 2 bt", "echo --running\\n", "goroutine " + running + " bt"});
  for (const std::string& line : list_of_states) EXPECT_TRUE(std::regex_search(text, std::regex(line))) << line << text;
  const auto second = text.find("--running\n");
  EXPECT_TRUE(reaches_entry(text.substr(0, second), "switch_saved", "app::middle")) << text;
  EXPECT_TRUE(reaches_entry(text.substr(second), "app::compute", "app::middle")) << text;
}

}  // namespace
}  // namespace tuco::test
