// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Runs a function in a child process of its own, so that a crash, a fatal error and a hang are results.

#include <chrono>
#include <functional>
#include <string>

namespace tuco::test {

struct child_end {
  bool hung = false;   ///< the limit passed; `text` ends with what SIGQUIT made it say
  int signal = 0;      ///< that ended it, or 0
  int status = -1;     ///< of its exit
  std::string text;    ///< what it wrote to stdout and stderr
};

/// How long a child may take: a limit on hangs. Generous, as the machine may be loaded.
inline constexpr auto child_limit = std::chrono::seconds(60);

/// Forks. The caller must have started no thread and no runtime in this process before.
/// @param body  its result is the child's exit status; no destructor and no atexit handler runs after it
child_end run_child(const std::function<int()>& body, std::chrono::milliseconds limit = child_limit);

/// Inside a child: what it has written so far.
std::string own_text();

/// Numbers of this process's open descriptors, with what they are: "3 anon_inode:[eventfd]".
std::string open_descriptors();
/// Without those that the runtime keeps once it has them: its epoll descriptor and its eventfd, what the
/// monitor asks its threads' activity by, the program and the libraries whose debug information was read.
std::size_t count_descriptors();

/// Waits until this process has so few threads: those that have ended leave the list a little later.
bool await_threads(int at_most);

}  // namespace tuco::test
