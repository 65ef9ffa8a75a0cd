// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `process`: a program of this build under test: started, listened to, signalled, waited for.
///
///     process server({built("examples/httpd"), "--listen", "127.0.0.1:0", "--root", folder});
///     const std::string address = server.await_line(output::out, "listening on ");
///     tcp_client client(address);                      // e2e/tcp_client.hpp
///     server.signal(SIGQUIT);
///     server.await_text(output::err, "goroutine 1 [");
///     server.signal(SIGTERM);
///     EXPECT_EQ(server.wait(), 0);
///
/// Waits are for states. Each gives up after a minute and throws a `waited_in_vain` that says what for
/// and what the program has printed, which GoogleTest reports as the failure of the test.
/// **Thread safety.** All members, from plain threads; not from goroutines, as they block.
/// **Leaving.** The destructor kills the program; it also dies with the thread that started it, so that
/// a test that crashes leaves nothing running.

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace tuco::test {

/// How long a wait may last that should have ended: a limit on hangs, no measure of speed.
inline constexpr auto hang_limit = std::chrono::minutes(1);

struct waited_in_vain : std::runtime_error {
  using runtime_error::runtime_error;
};

/// A file of the build folder: built("examples/httpd").
std::string built(std::string_view path);

enum class output : int { out, err };

struct process_options {
  /// "NAME=value", on top of the test's own environment.
  std::vector<std::string> environment{};
  /// {RLIMIT_NOFILE, 64}: the soft limit and, so that the program cannot raise it, the hard one.
  std::vector<std::pair<int, rlim_t>> limits{};
  /// Where it runs; empty: where the test does.
  std::string folder{};
};

class process {
 public:
  /// @param command  the program's path and its arguments
  /// @throws std::system_error when it cannot be started
  explicit process(std::vector<std::string> command, const process_options& options = {});
  ~process();
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  /// Sends a signal. Nothing happens if it has ended and was waited for.
  void signal(int number);

  /// Writes to its standard input.
  void write(std::string_view text);
  void close_input();

  /// All it has printed so far.
  [[nodiscard]] std::string text(output which) const;

  /// Waits until `what` stands in the output behind position `from`.
  /// @return The position behind it: where to look for the next.
  std::size_t await_text(output which, std::string_view what, std::size_t from = 0);

  /// Waits for a whole line that begins with `prefix`. @return The rest of that line.
  std::string await_line(output which, std::string_view prefix);

  /// Waits for its end, and the end of its output.
  /// @return Its exit status; 128 and the signal's number if a signal ended it.
  int wait();

  /// Whether it has ended; does not wait.
  [[nodiscard]] bool has_ended();

 private:
  struct stream {
    int descriptor = -1;
    std::string text;
    bool open = true;
  };
  void listen();
  template <class Condition>
  void await(std::unique_lock<std::mutex>& held, Condition condition, const std::string& what);
  [[nodiscard]] std::string report(const std::string& what) const;

  std::string name_;
  pid_t pid_ = -1;
  int input_ = -1;
  int status_ = -1;  ///< as wait() returns it; -1: still running
  mutable std::mutex lock_;
  std::condition_variable changed_;
  stream streams_[2];
  std::thread listener_;
  std::mutex reaping_;
};

}  // namespace tuco::test
