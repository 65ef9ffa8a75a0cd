// SPDX-License-Identifier: Apache-2.0
// H28: signals that come where nobody expects them.
//
// Danger      Writing to a connection whose peer is gone raises SIGPIPE, which ends the process. A signal
//             that arrives on a thread before it has a signal stack runs its handler on the wrong one.
// Mitigation  MSG_NOSIGNAL; around sendfile, which has no such flag, SIGPIPE is blocked and taken out of
//             the queue (os/socket.cpp). Threads begin with all signals blocked (os/thread.cpp).
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "conformance/net_fixture.hpp"
#include "os/proc.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

std::atomic<int> broken_pipes{0};

// With a handler and not with the default action: one SIGPIPE would end the test program and say nothing
// of the others.
class ClosedPeer : public net_test {
 protected:
  void SetUp() override {
    broken_pipes.store(0);
    struct sigaction action {};
    action.sa_handler = [](int) { broken_pipes.fetch_add(1); };
    action.sa_flags = SA_ONSTACK;
    ::sigaction(SIGPIPE, &action, &before_);
  }
  void TearDown() override {
    ::sigaction(SIGPIPE, &before_, nullptr);
    EXPECT_EQ(broken_pipes.load(), 0);
  }

 private:
  struct sigaction before_ {};
};
TUCO_PROCESSORS(ClosedPeer);

bool is_gone(const std::error_code& ec) {
  return ec == std::errc::broken_pipe || ec == std::errc::connection_reset;
}

/// Writes until that fails, as a few bytes may still be buffered.
template <class Write>
std::error_code write_until_error(Write write) {
  std::error_code ec;
  for (int i = 0; i < 1000 && !ec; ++i) write(ec);
  return ec;
}

template <class Conn>
void every_way_of_writing(Conn& conn) {
  std::string data = pattern(1 << 16);
  EXPECT_TRUE(is_gone(write_until_error([&](std::error_code& ec) { conn.write(data, ec); })));
  EXPECT_TRUE(is_gone(write_until_error([&](std::error_code& ec) {
    const const_buffer parts[] = {data, data};
    conn.write(parts, ec);
  })));
  char name[] = "/tmp/tuco-closed-peer-XXXXXX";
  const int file = ::mkostemp(name, O_CLOEXEC);
  ASSERT_GE(file, 0);
  ::unlink(name);
  ASSERT_EQ(::write(file, data.data(), data.size()), static_cast<ssize_t>(data.size()));
  EXPECT_TRUE(is_gone(write_until_error(
      [&](std::error_code& ec) { (void)conn.send_file(file, 0, data.size(), ec); })));
  ::close(file);
}

TEST_P(ClosedPeer, OfAUnixConnectionIsAnErrorAndNoSignal) {
  in_runtime([] {
    auto [a, b] = unix_conn::pair();
    b.close();
    every_way_of_writing(a);
  });
}

TEST_P(ClosedPeer, OfATcpConnectionIsAnErrorAndNoSignal) {
  in_runtime([] {
    auto pair = make_tcp_pair();
    pair.server.set_linger(std::chrono::seconds(0));
    pair.server.close();
    every_way_of_writing(pair.client);
  });
}

// The sender is parked in the middle of it when the peer goes.
TEST_P(ClosedPeer, ThatGoesDuringAWriteIsAnErrorAndNoSignal) {
  in_runtime([] {
    for (int i = 0; i < 20; ++i) {
      auto [a, b] = unix_conn::pair();
      std::error_code ec;
      crew writer;
      writer.go([&, &a = a] { a.write(pattern(4 << 20), ec); });
      await_io_waiters(1);
      b.close();
      writer.wait();
      EXPECT_TRUE(is_gone(ec)) << ec.message();
    }
  });
}

// One that the program itself has blocked and pending is not ours to swallow.
TEST_P(ClosedPeer, LeavesTheProgramsOwnPendingSignalAlone) {
  in_runtime([] {
    tuco::lock_thread();
    sigset_t pipe_only, before, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ::raise(SIGPIPE);
    {
      auto [a, b] = unix_conn::pair();
      b.close();
      every_way_of_writing(a);
    }
    sigpending(&pending);
    EXPECT_EQ(sigismember(&pending, SIGPIPE), 1);
    const timespec now{};
    EXPECT_EQ(sigtimedwait(&pipe_only, nullptr, &now), SIGPIPE);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    tuco::unlock_thread();
  });
}

// -- handlers and the beginning of threads

std::atomic<int> off_the_signal_stack{0};
std::atomic<int> handled_on_workers{0};

void check_stack(int) {
  const int saved_errno = errno;
  char name[16] = "";
  ::prctl(PR_GET_NAME, name);
  if (std::strcmp(name, "tuco-worker") == 0) {
    handled_on_workers.fetch_add(1);
    stack_t now{};
    ::sigaltstack(nullptr, &now);
    if ((now.ss_flags & SS_ONSTACK) == 0) off_the_signal_stack.fetch_add(1);
  }
  errno = saved_errno;
}

class SignalsAtBirth : public runtime_test {};
TUCO_PROCESSORS(SignalsAtBirth);

// Threads come by the dozen while signals rain on the process: goroutines that block in the kernel, then
// a new run().
TEST_P(SignalsAtBirth, NoHandlerRunsOnAWorkerBeforeItHasASignalStack) {
  struct sigaction action {}, before {};
  action.sa_handler = &check_stack;
  action.sa_flags = SA_ONSTACK;
  ::sigaction(SIGUSR2, &action, &before);
  off_the_signal_stack.store(0);
  handled_on_workers.store(0);
  std::atomic<bool> stop{false};
  std::thread storm([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    // To each thread: what is sent to the process as a whole, the main thread takes.
    std::array<pid_t, 256> threads;
    while (!stop.load()) {
      const int n = os::list_threads(threads);
      for (int k = 0; k < n && k < static_cast<int>(threads.size()); ++k) {
        const pid_t thread = threads[static_cast<std::size_t>(k)];
        if (thread != ::gettid()) ::syscall(SYS_tgkill, ::getpid(), thread, SIGUSR2);
      }
    }
  });
  for (int i = 0; i < 20; ++i) {
    tuco::run([&] {
      int ends[2];
      ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
      std::vector<spawned<void>> blocked;
      for (int k = 0; k < 10; ++k) {
        blocked.push_back(spawn([&] {
          char c = 0;
          while (::read(ends[0], &c, 1) < 0 && errno == EINTR) {
          }
        }));
      }
      await([&] { return count_goroutines().syscall + count_goroutines().running >= 10; }, "threads");
      for (int k = 0; k < 10; ++k) static_cast<void>(!::write(ends[1], "", 1));
      for (auto& g : blocked) g.join();
      ::close(ends[0]);
      ::close(ends[1]);
    }, {.procs = GetParam()});
  }
  stop.store(true);
  storm.join();
  ::signal(SIGUSR2, SIG_IGN);  // and what is pending is dropped: the default would end the program
  ::sigaction(SIGUSR2, &before, nullptr);
  EXPECT_GT(handled_on_workers.load(), 0);
  EXPECT_EQ(off_the_signal_stack.load(), 0);
}

}  // namespace
}  // namespace tuco
