// SPDX-License-Identifier: Apache-2.0
// Channel operations that never wait, or not for ever.
#include <tuco/chan.hpp>

#include <thread>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using test::await_parked;
using test::await_waiting;
using test::spawn;

class ChanTryTest : public test::runtime_test {};
TUCO_PROCESSORS(ChanTryTest);

TUCO_TEST(ChanTryTest, TrySendFillsTheBufferAndThenWouldBlock) {
  chan<int> ch(2);
  EXPECT_EQ(ch.try_send(1), chan_status::ok);
  EXPECT_EQ(ch.try_send(2), chan_status::ok);
  EXPECT_EQ(ch.try_send(3), chan_status::would_block);
  EXPECT_EQ(ch.size(), 2u);
}

TUCO_TEST(ChanTryTest, TryRecvEmptiesTheBufferAndThenWouldBlock) {
  chan<int> ch(2);
  ch.send(1);
  int out = -1;
  EXPECT_EQ(ch.try_recv(out), chan_status::ok);
  EXPECT_EQ(out, 1);
  EXPECT_EQ(ch.try_recv(out), chan_status::would_block);
  EXPECT_EQ(out, 1) << "changes only on ok";
}

TUCO_TEST(ChanTryTest, TryRecvOfClosed) {
  chan<int> ch(2);
  ch.send(1);
  ch.close();
  std::optional<int> out;
  EXPECT_EQ(ch.try_recv(out), chan_status::ok);
  EXPECT_EQ(out, 1);
  EXPECT_EQ(ch.try_recv(out), chan_status::closed);
  EXPECT_EQ(out, 1) << "changes only on ok";
  chan<int> unbuffered(0);
  unbuffered.close();
  EXPECT_EQ(unbuffered.try_recv(out), chan_status::closed);
}

TUCO_TEST(ChanTryTest, TrySendOnClosedThrows) {
  chan<int> buffered(1), unbuffered(0);
  buffered.close();
  unbuffered.close();
  EXPECT_THROW((void)buffered.try_send(1), closed_error);
  EXPECT_THROW((void)unbuffered.try_send(1), closed_error);
  EXPECT_THROW((void)unbuffered.send_for(1, 1ms), closed_error);
}

TUCO_TEST(ChanTryTest, UnbufferedNeedsAWaitingPeer) {
  chan<int> ch(0);
  int out = 0;
  EXPECT_EQ(ch.try_send(1), chan_status::would_block);
  EXPECT_EQ(ch.try_recv(out), chan_status::would_block);

  auto receiver = spawn([=]() mutable { return ch.recv(); });
  await_parked(1);
  EXPECT_EQ(ch.try_send(2), chan_status::ok);
  EXPECT_EQ(receiver.join(), 2);

  auto sender = spawn([=]() mutable { ch.send(3); });
  await_parked(1);
  EXPECT_EQ(ch.try_recv(out), chan_status::ok);
  EXPECT_EQ(out, 3);
  sender.join();
}

TUCO_TEST(ChanTryTest, TryRecvFromFullLetsAWaitingSenderIn) {
  chan<int> ch(1);
  ch.send(1);
  auto sender = spawn([=]() mutable { ch.send(2); });
  await_parked(1);
  int out = 0;
  EXPECT_EQ(ch.try_recv(out), chan_status::ok);
  EXPECT_EQ(out, 1);
  EXPECT_EQ(ch.size(), 1u) << "the sender's value has moved up";
  sender.join();
  EXPECT_EQ(ch.recv(), 2);
}

TUCO_TEST(ChanTryTest, NilWouldBlock) {
  chan<int> ch;
  int out = 0;
  EXPECT_EQ(ch.try_send(1), chan_status::would_block);
  EXPECT_EQ(ch.try_recv(out), chan_status::would_block);
  EXPECT_EQ(ch.send_for(1, 1ms), chan_status::timed_out);
  EXPECT_EQ(ch.recv_for(out, 1ms), chan_status::timed_out);
  EXPECT_EQ(ch.recv_for(out, 0ms), chan_status::timed_out);
}

TUCO_TEST(ChanTryTest, RefusedTrySendLeavesTheValue) {
  chan<std::unique_ptr<int>> ch(0);
  auto value = std::make_unique<int>(1);
  EXPECT_EQ(ch.try_send(std::move(value)), chan_status::would_block);
  EXPECT_NE(value, nullptr);
  EXPECT_EQ(ch.send_for(std::move(value), 1ms), chan_status::timed_out);
  EXPECT_NE(value, nullptr);
}

// Go's TestNonblockRecvRace: a value was sent and the channel closed before the try; it must not
// say "would block".
TUCO_TEST(ChanTryTest, RefusesWithoutLockOnlyWhatWasEmptyAndOpen) {
  for (int i = 0; i < 1'000; ++i) {
    chan<int> ch(1);
    ch.send(1);
    auto other = spawn([=]() mutable {
      int out = 0;
      return ch.try_recv(out);
    });
    ch.close();
    std::optional<int> rest;
    (void)ch.try_recv(rest);
    const chan_status status = other.join();
    EXPECT_NE(status, chan_status::would_block);
    EXPECT_TRUE((status == chan_status::ok) != rest.has_value());
  }
}

// Go's TestNonblockSelectRace2 in terms of try_recv: closed or a value, seen through two channels.
TUCO_TEST(ChanTryTest, RefusesWithoutLockNeverAfterTheCloseWasSeen) {
  for (int i = 0; i < 1'000; ++i) {
    chan<int> first(1), second(0);
    first.send(1);
    auto other = spawn([=]() mutable {
      int out = 0;
      if (first.try_recv(out) == chan_status::would_block) {
        return second.try_recv(out) == chan_status::closed;
      }
      return true;
    });
    second.close();
    int out = 0;
    (void)first.try_recv(out);
    EXPECT_TRUE(other.join());
  }
}

// -- with a deadline

TUCO_TEST(ChanTryTest, TimedOperationsSucceedAtOnceWhenTheyCan) {
  chan<int> ch(1);
  int out = 0;
  EXPECT_EQ(ch.send_for(1, 1h), chan_status::ok);
  EXPECT_EQ(ch.recv_for(out, 1h), chan_status::ok);
  EXPECT_EQ(out, 1);
  EXPECT_EQ(ch.send_until(2, clock::now() + 1h), chan_status::ok);
  EXPECT_EQ(ch.recv_until(out, clock::now() + 1h), chan_status::ok);
  EXPECT_EQ(out, 2);
}

TUCO_TEST(ChanTryTest, DeadlineInThePastTriesAndReportsTimedOut) {
  chan<int> ch(1);
  int out = 0;
  const auto past = clock::now() - 1s;
  EXPECT_EQ(ch.recv_until(out, past), chan_status::timed_out);
  EXPECT_EQ(ch.send_until(1, past), chan_status::ok);
  EXPECT_EQ(ch.send_until(2, past), chan_status::timed_out);
  EXPECT_EQ(ch.recv_until(out, past), chan_status::ok);
  EXPECT_EQ(ch.recv_for(out, -5s), chan_status::timed_out);
  EXPECT_EQ(ch.recv_until(out, clock::time_point::min()), chan_status::timed_out);
}

TUCO_TEST(ChanTryTest, TimesOutNeverEarly) {
  chan<int> empty(0), full(1);
  full.send(0);
  int out = 0;
  for (const auto timeout : {100us, 1'000us, 5'000us}) {
    auto start = clock::now();
    EXPECT_EQ(empty.recv_for(out, timeout), chan_status::timed_out);
    EXPECT_GE(clock::now() - start, timeout);
    start = clock::now();
    EXPECT_EQ(full.send_for(1, timeout), chan_status::timed_out);
    EXPECT_GE(clock::now() - start, timeout);
  }
  EXPECT_EQ(full.size(), 1u);
}

TUCO_TEST(ChanTryTest, LongTimeoutsDoNotOverflow) {
  chan<int> ch(0);
  auto receiver = spawn([=]() mutable {
    int out = 0;
    EXPECT_EQ(ch.recv_for(out, std::chrono::hours::max()), chan_status::ok);
    EXPECT_EQ(ch.recv_for(out, std::chrono::nanoseconds::max()), chan_status::ok);
    EXPECT_EQ(ch.recv_until(out, clock::time_point::max()), chan_status::ok);
    EXPECT_EQ(ch.recv_for(out, std::chrono::duration<double>(1e300)), chan_status::ok);
    return out;
  });
  for (int i = 0; i < 4; ++i) {
    await_waiting(receiver.id(), wait_reason::chan_receive);
    ch.send(i);
  }
  EXPECT_EQ(receiver.join(), 3);
}

TUCO_TEST(ChanTryTest, TimedReceiverGetsTheValueWhileItWaits) {
  chan<std::string> ch(0);
  auto receiver = spawn([=]() mutable {
    std::string out;
    EXPECT_EQ(ch.recv_for(out, 1h), chan_status::ok);
    return out;
  });
  await_waiting(receiver.id(), wait_reason::chan_receive);
  ch.send("hello");
  EXPECT_EQ(receiver.join(), "hello");
}

TUCO_TEST(ChanTryTest, TimedWaitersAreEndedByClose) {
  chan<int> ch(0);
  auto receiver = spawn([=]() mutable {
    int out = 0;
    return ch.recv_for(out, 1h);
  });
  await_waiting(receiver.id(), wait_reason::chan_receive);
  ch.close();
  EXPECT_EQ(receiver.join(), chan_status::closed);

  chan<int> other(0);
  auto sender = spawn([=]() mutable { EXPECT_THROW((void)other.send_for(1, 1h), closed_error); });
  await_waiting(sender.id(), wait_reason::chan_send);
  other.close();
  sender.join();
}

TUCO_TEST(ChanTryTest, AReceiverThatTimedOutDoesNotEatAValue) {
  chan<int> ch(0);
  int out = 0;
  ASSERT_EQ(ch.recv_for(out, 100us), chan_status::timed_out);
  EXPECT_EQ(ch.try_send(1), chan_status::would_block) << "nobody waits any more";
  auto receiver = spawn([=]() mutable { return ch.recv(); });
  await_parked(1);
  ch.send(2);
  EXPECT_EQ(receiver.join(), 2);
}

TUCO_TEST(ChanTryTest, ASenderThatTimedOutHasSentNothing) {
  chan<int> ch(1);
  ch.send(0);
  ASSERT_EQ(ch.send_for(1, 100us), chan_status::timed_out);
  EXPECT_EQ(ch.recv(), 0);
  int out = -1;
  EXPECT_EQ(ch.try_recv(out), chan_status::would_block);
}

// Values and deadlines meet at the same moment, over and over: each value arrives exactly once,
// unless its sender was told otherwise.
TUCO_TEST(ChanTryTest, DeadlinesAndValuesRace) {
  constexpr int rounds = 1'000;
  for (const std::size_t capacity : {0u, 1u}) {
    chan<int> ch(capacity);
    std::vector<test::spawned<long>> senders, receivers;
    std::atomic<int> sending{3};
    for (int s = 0; s < 3; ++s) {
      senders.push_back(spawn([&, ch, s]() mutable {
        long sent = 0;
        for (int i = 1; i <= rounds; ++i) {
          const auto timeout = std::chrono::microseconds((i * 7 + s) % 40);
          if (ch.send_for(i, timeout) == chan_status::ok) sent += i;
        }
        if (--sending == 0) ch.close();
        return sent;
      }));
    }
    for (int r = 0; r < 3; ++r) {
      receivers.push_back(spawn([=]() mutable {
        long received = 0;
        for (int i = 0;; ++i) {
          int out = 0;
          const auto status = ch.recv_for(out, std::chrono::microseconds((i * 11 + r) % 30));
          if (status == chan_status::ok) received += out;
          if (status == chan_status::closed) return received;
        }
      }));
    }
    long sent = 0, received = 0;
    for (auto& s : senders) sent += s.join();
    for (auto& r : receivers) received += r.join();
    EXPECT_EQ(sent, received);
  }
}

}  // namespace
}  // namespace tuco
