// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `command`: a tool that is run to its end: gdb, perf, nm.

#include <string>

namespace tuco::test {

struct command_result {
  int status = 0;   ///< exit status; 127: there is no such program
  std::string out;  ///< standard output and standard error, as they came
};

/// Through the shell: give only what the test itself has made up.
command_result run_command(const std::string& line);

/// Fails the test where the status is not 0. @return The output.
std::string output_of(const std::string& line);

/// Whether the shell finds it.
bool is_installed(const std::string& program);

/// A folder for the life of the object.
class scratch_folder {
 public:
  scratch_folder();
  ~scratch_folder();
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace tuco::test
