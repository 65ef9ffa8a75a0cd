// SPDX-License-Identifier: Apache-2.0
// looking_in_test.cpp - the commands of docs/guide/looking-in.md work: each line "(gdb) ..." is given to
// gdb, in the order in which they stand there, and the settings and functions that it names exist.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "base/sanitizer.hpp"
#include "e2e/command.hpp"
#include "e2e/process.hpp"
#include "e2e/tcp_client.hpp"

namespace tuco::test {
namespace {

std::string content(const std::string& path) {
  std::ifstream in(TUCO_TEST_SOURCE_DIR "/" + path);
  EXPECT_TRUE(in) << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

TEST(LookingIn, GdbKnowsEveryCommandOfTheGuide) {
  if (!is_installed("gdb")) GTEST_SKIP() << "gdb is not installed: scripts/bootstrap test";
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
  GTEST_SKIP() << "gdb and the sanitizers' shadow memory do not go together";
#endif
  const scratch_folder folder;
  process server({built("examples/httpd"), "--listen", "127.0.0.1:0", "--root", folder.path()});
  const std::string address = server.await_line(output::out, "listening on ");
  std::vector<tcp_client> idle;
  for (int i = 0; i < 3; ++i) {
    idle.emplace_back(address);
    idle.back().send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    EXPECT_TRUE(idle.back().read_until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
  }
  const std::string gdb = "cd " TUCO_TEST_SOURCE_DIR " && gdb -nx -batch -iex 'set debuginfod enabled off' -ex 'set width 0' -p " +
                          std::to_string(server.pid());
  const std::string list = output_of(gdb + " -ex 'source scripts/gdb/tuco.py' -ex 'info goroutines'");
  std::smatch connection;
  ASSERT_TRUE(std::regex_search(list, connection, std::regex("\n  ([0-9]+) +IO wait +\"connection\"  on 0x[0-9a-f]+  created by goroutine 1 at server.cpp:[0-9]+\n"))) << list;
  // In the guide it is goroutine 3; which it is here depends on who was quicker.
  const std::string one = "goroutine " + connection[1].str() + " ";
  std::string line = gdb;
  int commands = 0;
  std::istringstream guide(content("docs/guide/looking-in.md"));
  for (std::string text; std::getline(guide, text);) {
    if (!text.starts_with("(gdb) ")) continue;
    std::string command = text.substr(6);
    if (command.starts_with("goroutine 3 ")) command.replace(0, 12, one);
    line.append(" -ex 'echo == ").append(command).append("\\n' -ex '").append(command).append("'");
    ++commands;
  }
  EXPECT_GE(commands, 8);
  const std::string said = output_of(line);
  EXPECT_TRUE(std::regex_search(said, std::regex("== " + one + "frame function httpd::connection::serve\n#[0-9]+ .*httpd::connection::serve"))) << said;
  for (const char* complaint : {"Undefined", "Error", "error:", "No symbol", "No frame", "no goroutine"}) {
    EXPECT_EQ(said.find(complaint), std::string::npos) << complaint << " in\n" << said;
  }
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST(LookingIn, TheSettingsOfTheGuideAreKnown) {
  const std::string guide = content("docs/guide/looking-in.md");
  const std::string settings = content("docs/guide/settings.md");
  const std::regex setting("TUCO_DEBUG=([a-z=0-9,]+)|`([a-z]+)=[0-9]+`");
  int found = 0;
  for (std::sregex_iterator at(guide.begin(), guide.end(), setting), end; at != end; ++at) {
    std::istringstream list((*at)[1].matched ? (*at)[1].str() : (*at)[2].str());
    for (std::string one; std::getline(list, one, ',');) {
      const std::string key = one.substr(0, one.find('='));
      if (key == "idleprocs" || key == "status") continue;  // of what is printed
      EXPECT_NE(settings.find("`" + key + "="), std::string::npos) << key;
      ++found;
    }
  }
  EXPECT_GE(found, 5);
}

}  // namespace
}  // namespace tuco::test
