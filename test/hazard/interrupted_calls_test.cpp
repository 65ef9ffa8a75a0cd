// SPDX-License-Identifier: Apache-2.0
// H27: signals interrupt system calls.
//
// Danger      A handler that runs while a thread is in the kernel ends the call with EINTR; SA_RESTART does
//             not cover epoll_wait and nanosleep. What takes that for an error fails; what takes it for
//             the end of a wait is early.
// Mitigation  os::retry_eintr() around every call that may say so, absolute times for those that wait, and
//             never a second close(): the first one has freed the number (src/os).
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <thread>

#include <tuco/chan.hpp>
#include <tuco/mutex.hpp>
#include <tuco/time.hpp>

#include "conformance/net_fixture.hpp"
#include "os/proc.hpp"
#include "os/syscall.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class InterruptedCalls : public net_test {};
TUCO_PROCESSORS(InterruptedCalls);

std::atomic<std::uint64_t> interruptions{0};

/// Signals for every thread of the process but its own, as fast as it can, with a handler that restarts
/// nothing. Those of the runtime come and go meanwhile.
class storm {
 public:
  storm() {
    struct sigaction action {};
    action.sa_handler = [](int) { interruptions.fetch_add(1, std::memory_order_relaxed); };
    action.sa_flags = SA_ONSTACK;
    ::sigaction(SIGUSR2, &action, &before_);
    interruptions.store(0);
    thread_ = std::thread([this] {
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, nullptr);
      std::array<pid_t, 256> threads;
      while (!stop_.load(std::memory_order_relaxed)) {
        const int n = os::list_threads(threads);
        for (int i = 0; i < n && i < static_cast<int>(threads.size()); ++i) {
          const pid_t thread = threads[static_cast<std::size_t>(i)];
          if (thread != ::gettid()) ::syscall(SYS_tgkill, ::getpid(), thread, SIGUSR2);
        }
        ::usleep(100);
      }
    });
  }
  ~storm() {
    stop_.store(true);
    thread_.join();
    ::signal(SIGUSR2, SIG_IGN);  // and what is pending is dropped: the default would end the program
    ::sigaction(SIGUSR2, &before_, nullptr);
  }
  storm(const storm&) = delete;
  storm& operator=(const storm&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
  struct sigaction before_ {};
};

int file_of(const std::string& data) {
  const int file = ::memfd_create("tuco-interrupted-calls", MFD_CLOEXEC);
  if (file < 0 || ::write(file, data.data(), data.size()) != static_cast<ssize_t>(data.size())) std::abort();
  return file;
}

/// Everything that waits in the kernel, once.
void one_round() {
  crew all;
  for (int i = 1; i <= 4; ++i) {
    all.go([i] {
      const auto wait = std::chrono::microseconds(200 * i);
      const auto until = steady_clock::now() + wait;
      sleep_for(wait);
      EXPECT_GE(steady_clock::now(), until) << "a sleep that ended early";
    });
  }
  all.go([] {
    auto pair = make_tcp_pair();
    const std::string data = pattern(300'000);
    const int file = file_of(data);
    crew both;
    both.go([&] { EXPECT_EQ(read_all(pair.server), data + data); });
    pair.client.write(data);
    EXPECT_EQ(pair.client.send_file(file, 0, data.size()), data.size());
    pair.client.shutdown_write();
    both.wait();
    ::close(file);
  });
  all.go([] {
    auto [a, b] = unix_conn::pair();
    const auto until = steady_clock::now() + std::chrono::milliseconds(1);
    a.set_read_deadline(until);
    char c = 0;
    std::error_code ec;
    (void)a.read_some({&c, 1}, ec);
    EXPECT_EQ(ec, std::errc::timed_out) << ec.message();
    EXPECT_GE(steady_clock::now(), until) << "a deadline that passed early";
  });
  // Threads that are no workers wait in futexes of their own.
  const tuco::chan<int> to_thread(0), from_thread(0);
  std::thread plain([=] {
    const auto until = steady_clock::now() + std::chrono::microseconds(500);
    int n = 0;
    // Nothing comes before it has said that it is here.
    int none = 0;
    EXPECT_EQ(to_thread.recv_for(none, std::chrono::microseconds(500)), chan_status::timed_out);
    EXPECT_GE(steady_clock::now(), until);
    from_thread.send(1);
    while (auto v = to_thread.recv()) n += *v;
    from_thread.send(n);
  });
  (void)from_thread.recv();
  for (int i = 0; i < 20; ++i) to_thread.send(1);
  to_thread.close();
  EXPECT_EQ(from_thread.recv(), 20);
  // Blocking calls of the program's own, for which threads come and go.
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  for (int i = 0; i < 3; ++i) {
    all.go([&] {
      char c = 0;
      while (::read(ends[0], &c, 1) < 0 && errno == EINTR) {
      }
    });
  }
  for (int i = 0; i < 3; ++i) {
    while (::write(ends[1], "", 1) < 0 && errno == EINTR) {
    }
  }
  all.wait();
  ::close(ends[0]);
  ::close(ends[1]);
  plain.join();
}

TEST_P(InterruptedCalls, AStormOfSignalsChangesNothing) {
  in_runtime([] {
    const storm on;
    for (int i = 0; i < 5 || interruptions.load() < 1000; ++i) one_round();
  });
}

// The storm hits few calls that do not wait. Here each third one is interrupted, of every kind that can be.
// connect() is not among them: one that was not made cannot be said to go on.
int each_third(os::call kind) noexcept {
  static std::array<std::atomic<std::uint32_t>, static_cast<std::size_t>(os::call::count_)> counts;
  switch (kind) {
    case os::call::futex:
    case os::call::nanosleep:
    case os::call::open:
    case os::call::read:
    case os::call::write:
    case os::call::epoll_wait:
    case os::call::accept:
    case os::call::send:
    case os::call::recv:
    case os::call::sendfile:
      break;
    case os::call::close:  // Says so after the fact: the number is free.
      break;
    default:
      return 0;
  }
  if (counts[static_cast<std::size_t>(kind)].fetch_add(1, std::memory_order_relaxed) % 3 != 0) return 0;
  interruptions.fetch_add(1, std::memory_order_relaxed);
  return EINTR;
}

TEST_P(InterruptedCalls, EachThirdCallIsInterrupted) {
#ifdef TUCO_FAULT_INJECTION
  interruptions.store(0);
  in_runtime([] {
    os::fault_hook.store(&each_third);
    for (int i = 0; i < 10; ++i) one_round();
    os::fault_hook.store(nullptr);
  });
  EXPECT_GT(interruptions.load(), 100u);
#else
  GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
#endif
}

}  // namespace
}  // namespace tuco
