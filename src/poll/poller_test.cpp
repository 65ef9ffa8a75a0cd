// SPDX-License-Identifier: Apache-2.0
// The promises of poll/poller.hpp on real descriptors, without a scheduler: the tests play waiter.
#include "poll/poller.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "os/clock.hpp"
#include "os/epoll.hpp"
#include "os/eventfd.hpp"
#include "os/fault.hpp"
#include "os/proc.hpp"
#include "os/thread.hpp"
#include "task/goroutine.hpp"

namespace tuco::inline v1::poll {
namespace {

using task::goroutine;
using task::ready_list;

struct socket_pair {
  int end[2] = {-1, -1};
  socket_pair() {
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, end), 0);
  }
  ~socket_pair() {
    for (int fd : end) {
      if (fd >= 0) ::close(fd);
    }
  }
};

// The scheduler's part of a wait: announces, publishes, "parks".
void park_on(poll_descriptor& d, direction which, goroutine& g, bool has_deadline = false) {
  ASSERT_TRUE(d.of(which).arm());
  if (has_deadline) task::arm_claim(&g);
  ASSERT_TRUE(the_poller().commit(d, which, &g, has_deadline));
}

// Takes the edge that registration itself reports (a socket is writable from the start).
void drain_edges() {
  ready_list out;
  the_poller().poll(0, out);
  EXPECT_EQ(out.count, 0u);
}

void consume_readiness(poll_descriptor& d) {
  drain_edges();
  for (direction which : {direction::read, direction::write}) {
    if (d.of(which).arm()) d.of(which).disarm();
  }
}

class Poller : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(the_poller().open(pair.end[0], d), 0);
    consume_readiness(*d);
  }
  void TearDown() override {
    the_poller().close(d);
    EXPECT_EQ(the_poller().waiters(), 0);
  }
  void write_byte() { ASSERT_EQ(::write(pair.end[1], "x", 1), 1); }

  socket_pair pair;
  poll_descriptor* d = nullptr;
  std::unique_ptr<goroutine> g = std::make_unique<goroutine>();
};

TEST_F(Poller, ReturnsTheGoroutineThatWaitsForData) {
  park_on(*d, direction::read, *g);
  EXPECT_EQ(the_poller().waiters(), 1);
  ready_list out;
  the_poller().poll(0, out);
  EXPECT_EQ(out.count, 0u);
  write_byte();
  the_poller().poll(-1, out);
  EXPECT_EQ(out.pop_front(), g.get());
  EXPECT_EQ(out.pop_front(), nullptr);
  EXPECT_EQ(the_poller().waiters(), 0);
}

TEST_F(Poller, DataThatCameBeforeTheWaitIsRemembered) {
  write_byte();
  drain_edges();
  EXPECT_FALSE(d->of(direction::read).arm());
}

TEST_F(Poller, OneEventWakesBothDirections) {
  auto writer = std::make_unique<goroutine>();
  park_on(*d, direction::read, *g);
  park_on(*d, direction::write, *writer);
  EXPECT_TRUE(d->waits(g.get(), direction::read));
  EXPECT_FALSE(d->waits(g.get(), direction::write));
  EXPECT_TRUE(d->waits(writer.get(), direction::write));
  write_byte();
  ready_list out;
  the_poller().poll(-1, out);
  EXPECT_EQ(out.count, 2u);
}

TEST_F(Poller, EndOfStreamIsMarkedBeforeTheReaderWakes) {
  park_on(*d, direction::read, *g);
  EXPECT_FALSE(d->ended.load());
  ::shutdown(pair.end[1], SHUT_WR);
  ready_list out;
  the_poller().poll(-1, out);
  EXPECT_EQ(out.pop_front(), g.get());
  EXPECT_TRUE(d->ended.load());
}

TEST_F(Poller, EdgeLosesAgainstADeadlineThatClaimedFirst) {
  park_on(*d, direction::read, *g, true);
  ASSERT_TRUE(task::try_claim(g.get(), task::claimed_by_deadline));
  write_byte();
  ready_list out;
  the_poller().poll(-1, out);
  EXPECT_EQ(out.count, 0u) << "the deadline's party readies it";
  EXPECT_EQ(the_poller().waiters(), 0);
  the_poller().withdraw(*d, direction::read, g.get());
  EXPECT_FALSE(d->of(direction::read).arm()) << "the edge is not lost";
}

TEST_F(Poller, EdgeClaimsBeforeTheDeadline) {
  park_on(*d, direction::read, *g, true);
  write_byte();
  ready_list out;
  the_poller().poll(-1, out);
  EXPECT_EQ(out.pop_front(), g.get());
  EXPECT_EQ(g->claim.load(), claimed_by_event);
  EXPECT_FALSE(task::try_claim(g.get(), task::claimed_by_deadline));
}

TEST_F(Poller, WithdrawnGoroutineIsNotReturned) {
  park_on(*d, direction::read, *g, true);
  the_poller().withdraw(*d, direction::read, g.get());
  EXPECT_EQ(the_poller().waiters(), 0);
  write_byte();
  ready_list out;
  the_poller().poll(-1, out);
  EXPECT_EQ(out.count, 0u);
}

TEST_F(Poller, KickReturnsTheWaiter) {
  EXPECT_EQ(the_poller().kick(*d, direction::read), nullptr);
  park_on(*d, direction::read, *g, true);
  EXPECT_EQ(the_poller().kick(*d, direction::read), g.get());
  EXPECT_EQ(g->claim.load(), claimed_by_kick);
  EXPECT_EQ(the_poller().waiters(), 0);
}

TEST_F(Poller, AbandonedWaitersAreNeverReturned) {
  const std::uint32_t epoch = the_poller().epoch();
  park_on(*d, direction::read, *g);
  the_poller().abandon_waiters();
  EXPECT_EQ(the_poller().waiters(), 0);
  EXPECT_EQ(the_poller().epoch(), epoch + 1);
  write_byte();
  ready_list out;
  the_poller().poll(-1, out);
  EXPECT_EQ(out.count, 0u);
}

TEST_F(Poller, EventOfAnEarlierOwnerIsRejected) {
  // The registration outlives close(2) while a duplicate is open: the event of the old owner comes
  // although its record was given to somebody else.
  socket_pair old;
  poll_descriptor* before = nullptr;
  ASSERT_EQ(the_poller().open(old.end[0], before), 0);
  consume_readiness(*before);
  const std::uint32_t sequence = before->sequence.load();
  const std::uint64_t stale = std::uint64_t{sequence} << 32 | before->index;
  the_poller().close(before);

  socket_pair fresh;
  poll_descriptor* after = nullptr;
  ASSERT_EQ(the_poller().open(fresh.end[0], after), 0);
  ASSERT_EQ(after, before) << "the record is used again";
  EXPECT_NE(after->sequence.load(), sequence);
  consume_readiness(*after);
  park_on(*after, direction::read, *g);

  // Plant the stale event: a second descriptor registered under the old number.
  ASSERT_EQ(::write(old.end[1], "x", 1), 1);
  const int epoll = [] {  // the runtime's epoll descriptor, found the way a debugger would
    for (int fd = 3; fd < 1024; ++fd) {
      char link[64] = {};
      const std::string path = "/proc/self/fd/" + std::to_string(fd);
      if (::readlink(path.c_str(), link, sizeof link - 1) > 0 &&
          std::string(link) == "anon_inode:[eventpoll]") {
        return fd;
      }
    }
    return -1;
  }();
  ASSERT_GE(epoll, 0);
  ASSERT_EQ(os::epoll_add(epoll, old.end[0], EPOLLIN | EPOLLET, stale), 0);
  ready_list out;
  the_poller().poll(0, out);
  EXPECT_EQ(out.count, 0u);
  EXPECT_TRUE(after->waits(g.get(), direction::read)) << "still parked";

  os::epoll_delete(epoll, old.end[0]);
  EXPECT_EQ(the_poller().kick(*after, direction::read), g.get());
  the_poller().close(after);
}

TEST_F(Poller, InterruptEndsABlockedPoll) {
  std::thread other([] { the_poller().interrupt(); });
  ready_list out;
  the_poller().poll(-1, out);  // hangs when the interrupt is lost
  EXPECT_EQ(out.count, 0u);
  other.join();
}

TEST_F(Poller, InterruptBeforeThePollIsNotLost) {
  the_poller().interrupt();
  the_poller().interrupt();
  ready_list out;
  the_poller().poll(0, out);  // a mere look leaves it to the thread that blocks
  the_poller().poll(-1, out);
  the_poller().interrupt();
  the_poller().poll(-1, out);
}

TEST_F(Poller, TimeoutIsNotEarlyAndHasNanoseconds) {
  for (bool fine : {true, false}) {
    os::allow_pwait2(fine);
    for (std::int64_t ns : {1, 50'000, 1'500'000}) {
      const std::int64_t start = os::steady_now_ns();
      ready_list out;
      the_poller().poll(ns, out);
      EXPECT_GE(os::steady_now_ns() - start, ns) << (fine ? "epoll_pwait2" : "epoll_wait");
    }
  }
  os::allow_pwait2(true);
}

TEST_F(Poller, OldKernelsAndFiltersAreServedByTheOlderCall) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  os::scoped_fault refused(os::call::epoll_wait, ENOSYS, 1);
  ready_list out;
  the_poller().poll(1'000, out);
  EXPECT_EQ(refused.hits(), 1u);
  EXPECT_EQ(refused.calls(), 2u);
  EXPECT_FALSE(os::epoll_has_nanoseconds());
  os::allow_pwait2(true);
}

TEST_F(Poller, SignalEndsThePollWithNothing) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  os::scoped_fault interrupted(os::call::epoll_wait, EINTR, 1);
  ready_list out;
  the_poller().poll(-1, out);
  EXPECT_EQ(out.count, 0u);
  EXPECT_EQ(interrupted.hits(), 1u);
}

TEST_F(Poller, RegularFileIsRefusedAndItsRecordReturned) {
  const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  poll_descriptor* none = nullptr;
  EXPECT_EQ(the_poller().open(file, none), -EPERM);
  EXPECT_EQ(none, nullptr);
  ::close(file);
}

TEST_F(Poller, ManyDescriptorsHaveTheirOwnRecords) {
  constexpr int many = 1500;  // several slabs
  std::vector<int> fds;
  std::vector<poll_descriptor*> records;
  for (int i = 0; i < many; ++i) {
    const int fd = os::eventfd_open();
    if (fd < 0) break;  // a small descriptor limit
    poll_descriptor* record = nullptr;
    ASSERT_EQ(the_poller().open(fd, record), 0);
    fds.push_back(fd);
    records.push_back(record);
  }
  ASSERT_GT(fds.size(), 500u);
  std::vector<std::unique_ptr<goroutine>> gs;
  ready_list out;
  for (int i = 0; i < many; ++i) the_poller().poll(0, out);
  for (poll_descriptor* record : records) {
    gs.push_back(std::make_unique<goroutine>());
    park_on(*record, direction::read, *gs.back());
  }
  for (int fd : fds) os::eventfd_signal(fd);
  while (out.count < fds.size()) the_poller().poll(-1, out);
  EXPECT_EQ(out.count, fds.size());
  for (std::size_t i = 0; i < fds.size(); ++i) {
    the_poller().close(records[i]);
    ::close(fds[i]);
  }
}

// One thread blocks, two look, everybody's findings together are every wake-up exactly once.
TEST_F(Poller, SeveralThreadsMayPollAtOnce) {
  constexpr int rounds = 20'000;
  std::atomic<bool> stop{false};
  std::atomic<int> woken{0};
  auto collect = [&](std::int64_t timeout) {
    while (!stop.load(std::memory_order_relaxed)) {
      ready_list out;
      the_poller().poll(timeout, out);
      if (out.count > 0) woken.fetch_add(static_cast<int>(out.count), std::memory_order_release);
    }
  };
  std::thread blocked(collect, -1);
  std::thread looking1(collect, 0);
  for (int i = 0; i < rounds; ++i) {
    char byte = 0;
    write_byte();
    while (true) {
      if (::read(pair.end[0], &byte, 1) == 1) break;
      if (!d->of(direction::read).arm()) continue;
      if (!the_poller().commit(*d, direction::read, g.get(), false)) continue;
      while (woken.load(std::memory_order_acquire) == 0) std::this_thread::yield();
      ASSERT_EQ(woken.exchange(0), 1);
    }
    // Also a real wait each round: nothing is there now.
    if (d->of(direction::read).arm() &&
        the_poller().commit(*d, direction::read, g.get(), false)) {
      write_byte();
      while (woken.load(std::memory_order_acquire) == 0) std::this_thread::yield();
      ASSERT_EQ(woken.exchange(0), 1);
      ASSERT_EQ(::read(pair.end[0], &byte, 1), 1);
    }
  }
  stop = true;
  the_poller().interrupt();
  blocked.join();
  looking1.join();
}

// A new one, also when the test is repeated. A poller lives for ever.
poller& uncreated() {
  static std::deque<poller> all;
  return all.emplace_back();
}

// A poller that has no descriptor yet: what a program sleeps in that has timers and nothing else.
TEST(PollerUncreated, SleepsInTheKernelUntilInterruptedOrCreated) {
  for (const bool create : {false, true}) {
    poller& p = uncreated();
    std::atomic<pid_t> tid{0};
    std::thread blocked([&] {
      tid = os::thread_id();
      ready_list out;
      p.poll(-1, out);
    });
    while (tid == 0) std::this_thread::yield();
    os::thread_probe probe;
    ASSERT_EQ(probe.open(tid), 0);
    const auto asleep = [&] {
      const os::thread_activity now = probe.activity();
      return now.what == os::thread_activity::kind::in_syscall && now.number == SYS_futex;
    };
    while (!asleep()) std::this_thread::yield();
    if (create) {
      socket_pair pair;
      poll_descriptor* d = nullptr;
      ASSERT_EQ(p.open(pair.end[0], d), 0);
      blocked.join();
      ready_list out;
      p.poll(-1, out);  // whatever woke the sleeper is not lost on who polls next
      p.close(d);
    } else {
      p.interrupt();
      blocked.join();
    }
    ready_list out;
    p.interrupt();
    p.poll(-1, out);  // remembered
  }
}

TEST(PollerUncreated, HonoursItsTimeout) {
  poller& fresh = uncreated();
  ready_list out;
  fresh.poll(0, out);
  const std::int64_t before = os::steady_now_ns();
  fresh.poll(2'000'000, out);
  EXPECT_GE(os::steady_now_ns() - before, 2'000'000);
}

// The one thing that must not happen is that the sleeper sleeps on.
TEST(PollerFaultsDeathTest, AWakeUpThatFailsEndsTheProgram) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  poller& fresh = uncreated();
  socket_pair pair;
  poll_descriptor* d = nullptr;
  ASSERT_EQ(fresh.open(pair.end[0], d), 0);
  ready_list none;
  fresh.poll(-1, none);  // takes the signal that creation has left
  {
    const os::scoped_fault passing(os::call::write, EINTR, 1);
    fresh.interrupt();
    EXPECT_EQ(passing.hits(), 1u);
    fresh.poll(-1, none);
  }
  EXPECT_EXIT(
      {
        const os::scoped_fault gone(os::call::write, EBADF);
        fresh.interrupt();
        ::_exit(0);
      },
      ::testing::ExitedWithCode(2), "somebody closed the runtime's descriptor");
  EXPECT_EXIT(
      {
        fresh.interrupt();
        const os::scoped_fault gone(os::call::read, EBADF);
        fresh.poll(-1, none);
        ::_exit(0);
      },
      ::testing::ExitedWithCode(2), "somebody closed the runtime's descriptor");
  {
    const os::scoped_fault full(os::call::write, EAGAIN);  // readable, then: nothing is lost
    fresh.interrupt();
    EXPECT_EQ(full.hits(), 1u);
  }
  fresh.close(d);
}

TEST(PollerFaults, FirstOpenReportsWhatTheKernelRefuses) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  poller& fresh = uncreated();
  socket_pair pair;
  poll_descriptor* d = nullptr;
  for (os::call kind : {os::call::eventfd, os::call::epoll_create, os::call::epoll_ctl}) {
    os::scoped_fault refused(kind, EMFILE, 1);
    EXPECT_EQ(fresh.open(pair.end[0], d), -EMFILE) << os::to_string(kind);
    EXPECT_FALSE(fresh.initialized());
  }
  EXPECT_EQ(fresh.open(pair.end[0], d), 0);
  EXPECT_TRUE(fresh.initialized());
  fresh.close(d);
}

}  // namespace
}  // namespace tuco::inline v1::poll
