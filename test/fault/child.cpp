// SPDX-License-Identifier: Apache-2.0
#include "fault/child.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>

#include "os/proc.hpp"

namespace tuco::test {
namespace {

int output_of_child = -1;

std::string contents_of(int file) {
  std::string text;
  char buffer[4096];
  ssize_t n = 0;
  while ((n = ::pread(file, buffer, sizeof buffer, static_cast<off_t>(text.size()))) > 0) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

/// @return Whether it ended in time.
bool await_end(int process, std::chrono::milliseconds limit) {
  pollfd ended{process, POLLIN, 0};
  const auto give_up = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(give_up - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    if (::poll(&ended, 1, static_cast<int>(left.count())) == 1) return true;
  }
}

[[noreturn]] void be_the_child(const std::function<int()>& body, int output) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(output, 1);
  ::dup2(output, 2);
  ::close(output);
  output_of_child = 1;
  if (std::getenv("TUCO_FAULT") == nullptr) {
    const rlimit no_cores{0, 0};  // there may be thousands
    ::setrlimit(RLIMIT_CORE, &no_cores);
  }
  int status = 0;
  try {
    status = body();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "child left by an exception: %s\n", e.what());
    status = 99;
  }
  std::fflush(nullptr);
  ::_exit(status);
}

}  // namespace

child_end run_child(const std::function<int()>& body, std::chrono::milliseconds limit) {
  std::fflush(nullptr);  // or the child would print what the buffers hold once more
  const int output = ::memfd_create("output of a child", MFD_CLOEXEC);
  if (output < 0) throw std::system_error(errno, std::system_category(), "memfd_create");
  ::fcntl(output, F_SETFL, O_APPEND);  // whoever writes, by whatever descriptor, overwrites nobody
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (child == 0) be_the_child(body, output);

  child_end result;
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  if (process < 0) throw std::system_error(errno, std::system_category(), "pidfd_open");
  if (!await_end(process, limit)) {
    result.hung = true;
    ::kill(child, SIGQUIT);
    await_end(process, std::chrono::seconds(2));
    ::kill(child, SIGKILL);
  }
  ::close(process);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  result.text = contents_of(output);
  ::close(output);
  return result;
}

std::string own_text() { return contents_of(output_of_child); }

namespace {
template <class F>
void each_descriptor(F&& f) {
  DIR* const folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return;
  while (const dirent* entry = ::readdir(folder)) {
    const int number = std::atoi(entry->d_name);
    if (entry->d_name[0] == '.' || number == ::dirfd(folder)) continue;
    char target[256];
    const ssize_t n = ::readlinkat(::dirfd(folder), entry->d_name, target, sizeof target);
    f(number, std::string(target, static_cast<std::size_t>(n < 0 ? 0 : n)));
  }
  ::closedir(folder);
}
}  // namespace

std::string open_descriptors() {
  std::string text;
  each_descriptor([&](int number, const std::string& target) {
    text += "  " + std::to_string(number) + " " + target + "\n";
  });
  return text;
}

std::size_t count_descriptors() {
  std::size_t all = 0, epolls = 0, events = 0;
  char program[256];
  const ssize_t n = ::readlink("/proc/self/exe", program, sizeof program);
  const std::string_view self(program, static_cast<std::size_t>(n < 0 ? 0 : n));
  each_descriptor([&](int, const std::string& target) {
    if (target == self || target.find(".so") != std::string::npos) return;
    if (target.ends_with(".debug") || target.ends_with("/syscall")) return;
    ++all;
    epolls += target == "anon_inode:[eventpoll]";
    events += target == "anon_inode:[eventfd]";
  });
  if (epolls > 0) --all;
  if (events > 0) --all;
  return all;
}

bool await_threads(int at_most) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (os::thread_count() > at_most) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace tuco::test
