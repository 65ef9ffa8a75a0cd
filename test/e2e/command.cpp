// SPDX-License-Identifier: Apache-2.0
#include "e2e/command.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <utility>

namespace tuco::test {

command_result run_command(const std::string& line) {
  command_result result;
  FILE* const pipe = ::popen(("exec 2>&1; " + line).c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("no shell for: " + line);
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.out.append(buffer, n);
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string output_of(const std::string& line) {
  command_result result = run_command(line);
  EXPECT_EQ(result.status, 0) << line << "\n" << result.out;
  return std::move(result.out);
}

bool is_installed(const std::string& program) {
  return run_command("command -v " + program).status == 0;
}

scratch_folder::scratch_folder() {
  std::string name = ::testing::TempDir() + "tuco_XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder " + name);
  path_ = name;
}

scratch_folder::~scratch_folder() { std::filesystem::remove_all(path_); }

}  // namespace tuco::test
