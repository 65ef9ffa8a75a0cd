// SPDX-License-Identifier: Apache-2.0
#include "e2e/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

namespace tuco::test {
namespace {

struct pipe_ends {
  int read = -1;
  int write = -1;
  pipe_ends() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe");
    read = ends[0];
    write = ends[1];
  }
  ~pipe_ends() {
    if (read >= 0) ::close(read);
    if (write >= 0) ::close(write);
  }
  pipe_ends(const pipe_ends&) = delete;
  pipe_ends& operator=(const pipe_ends&) = delete;
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& s : strings) result.push_back(s.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> environment_with(const std::vector<std::string>& more) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view old = *entry;
    bool replaced = false;
    for (const std::string& s : more) replaced |= old.starts_with(s.substr(0, s.find('=') + 1));
    if (!replaced) all.emplace_back(old);
  }
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

std::string built(std::string_view path) {
  return std::string(TUCO_TEST_BINARY_DIR "/").append(path);
}

process::process(std::vector<std::string> command, const process_options& options)
    : name_(command.at(0)) {
  pipe_ends in;
  pipe_ends out;
  pipe_ends err;
  pipe_ends failure;  // closed by a successful exec; carries errno otherwise
  std::vector<std::string> environment = environment_with(options.environment);
  const std::vector<char*> arguments = pointers(command);
  const std::vector<char*> variables = pointers(environment);
  const pid_t parent = ::getpid();

  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (pid_ == 0) {
    // The child of a program with threads: only what a signal handler may do, until exec.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    ::dup2(in.read, 0);
    ::dup2(out.write, 1);
    ::dup2(err.write, 2);
    for (const auto& [resource, most] : options.limits) {
      const rlimit limit{most, most};
      ::setrlimit(resource, &limit);
    }
    if (options.folder.empty() || ::chdir(options.folder.c_str()) == 0) {
      ::execve(arguments[0], arguments.data(), variables.data());
    }
    const int error = errno;
    [[maybe_unused]] const ssize_t n = ::write(failure.write, &error, sizeof error);
    ::_exit(127);
  }

  ::close(std::exchange(failure.write, -1));
  int error = 0;
  if (::read(failure.read, &error, sizeof error) == sizeof error) {
    ::waitpid(pid_, nullptr, 0);
    throw std::system_error(error, std::system_category(), "cannot start " + name_);
  }
  input_ = std::exchange(in.write, -1);
  streams_[0].descriptor = std::exchange(out.read, -1);
  streams_[1].descriptor = std::exchange(err.read, -1);
  listener_ = std::thread([this] { listen(); });
}

process::~process() {
  if (!has_ended()) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  // A grandchild that has inherited the pipes would keep the listener for ever; there is none in what
  // we start, and if there were, the test's own time limit would name it.
  listener_.join();
  close_input();
  for (const stream& s : streams_) ::close(s.descriptor);
}

void process::listen() {
  char buffer[16384];
  for (;;) {
    pollfd wanted[2];
    for (int i = 0; i < 2; ++i) wanted[i] = {streams_[i].open ? streams_[i].descriptor : -1, POLLIN, 0};
    if (!streams_[0].open && !streams_[1].open) return;
    if (::poll(wanted, 2, -1) < 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (wanted[i].revents == 0) continue;
      const ssize_t n = ::read(wanted[i].fd, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      const std::scoped_lock held(lock_);
      if (n > 0) streams_[i].text.append(buffer, static_cast<std::size_t>(n));
      else streams_[i].open = false;
      changed_.notify_all();
    }
  }
}

void process::signal(int number) {
  const std::scoped_lock held(reaping_);  // the number of a process that was waited for is not its own
  if (status_ < 0) ::kill(pid_, number);
}

void process::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(input_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw std::system_error(errno, std::system_category(), "write to " + name_);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

void process::close_input() {
  if (input_ >= 0) ::close(std::exchange(input_, -1));
}

std::string process::text(output which) const {
  const std::scoped_lock held(lock_);
  return streams_[static_cast<int>(which)].text;
}

std::string process::report(const std::string& what) const {
  const auto tail = [](const std::string& s) { return s.size() > 8000 ? "...\n" + s.substr(s.size() - 8000) : s; };
  return "waited in vain for " + what + " of " + name_ + "\n-- its output:\n" + tail(streams_[0].text) +
         "\n-- its errors:\n" + tail(streams_[1].text);
}

template <class Condition>
void process::await(std::unique_lock<std::mutex>& held, Condition condition, const std::string& what) {
  const auto give_up = std::chrono::steady_clock::now() + hang_limit;
  while (!condition()) {
    if (changed_.wait_until(held, give_up) == std::cv_status::timeout && !condition()) {
      throw waited_in_vain(report(what));
    }
  }
}

std::size_t process::await_text(output which, std::string_view what, std::size_t from) {
  std::unique_lock held(lock_);
  const stream& s = streams_[static_cast<int>(which)];
  std::size_t at = std::string::npos;
  await(
      held,
      [&] {
        at = s.text.find(what, from);
        return at != std::string::npos || !s.open;
      },
      "the text \"" + std::string(what) + "\"");
  if (at == std::string::npos) throw waited_in_vain(report("the text \"" + std::string(what) + "\""));
  return at + what.size();
}

std::string process::await_line(output which, std::string_view prefix) {
  std::unique_lock held(lock_);
  const stream& s = streams_[static_cast<int>(which)];
  std::string rest;
  bool found = false;
  const auto look = [&] {
    for (std::size_t begin = 0, end; (end = s.text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const std::string_view line = std::string_view(s.text).substr(begin, end - begin);
      if (!line.starts_with(prefix)) continue;
      rest = line.substr(prefix.size());
      return found = true;
    }
    return !s.open;
  };
  await(held, look, "the line \"" + std::string(prefix) + "...\"");
  if (!found) throw waited_in_vain(report("the line \"" + std::string(prefix) + "...\""));
  return rest;
}

bool process::has_ended() {
  const std::scoped_lock held(reaping_);
  if (status_ >= 0) return true;
  int raw = 0;
  if (::waitpid(pid_, &raw, WNOHANG) != pid_) return false;
  status_ = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
  return true;
}

int process::wait() {
  const auto give_up = std::chrono::steady_clock::now() + hang_limit;
  while (!has_ended()) {
    if (std::chrono::steady_clock::now() > give_up) {
      const std::scoped_lock held(lock_);
      throw waited_in_vain(report("the end"));
    }
    ::poll(nullptr, 0, 2);
  }
  std::unique_lock held(lock_);
  await(held, [&] { return !streams_[0].open && !streams_[1].open; }, "the end of the output");
  return status_;
}

}  // namespace tuco::test
