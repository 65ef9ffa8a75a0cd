// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/chan.hpp that concern blocking, order and closing: one test per cell of its
// table, and what Go's own tests of channels demand, written anew.
#include <tuco/chan.hpp>

#include <atomic>
#include <map>
#include <string>
#include <type_traits>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using test::await_parked;
using test::await_waiting;
using test::spawn;

class ChanTest : public test::runtime_test {};
TUCO_PROCESSORS(ChanTest);

// -- buffered

TUCO_TEST(ChanTest, BufferedSendDoesNotParkWhileThereIsRoom) {
  chan<int> ch(3);
  ch.send(1);
  ch.send(2);
  ch.send(3);
  EXPECT_EQ(ch.size(), 3u);
  EXPECT_EQ(ch.capacity(), 3u);
}

TUCO_TEST(ChanTest, ReceivesInTheOrderOfSends) {
  for (const std::size_t capacity : {0u, 1u, 10u}) {
    chan<int> ch(capacity);
    auto sender = spawn([=]() mutable {
      for (int i = 0; i < 100; ++i) ch.send(i);
    });
    for (int i = 0; i < 100; ++i) ASSERT_EQ(ch.recv(), i) << "capacity " << capacity;
    sender.join();
  }
}

// Operations that neither wait nor wake do not enter the runtime, and yet must not keep the processor.
TUCO_TEST(ChanTest, StreamingThroughABufferLetsOthersRun) {
  std::atomic<bool> stop{false};
  chan<int> ch(4);
  auto streamer = spawn([&stop, ch] {
    long sum = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      ch.send(1);
      sum += *ch.recv();
    }
    return sum;
  });
  yield();  // with one processor we come back only if it is given to us
  stop.store(true, std::memory_order_relaxed);
  EXPECT_GE(streamer.join(), 0);
}

TUCO_TEST(ChanTest, RecvOnEmptyParksUntilSend) {
  for (const std::size_t capacity : {0u, 1u, 7u}) {
    chan<int> ch(capacity);
    auto receiver = spawn([=]() mutable { return ch.recv(); });
    await_waiting(receiver.id(), wait_reason::chan_receive);
    ch.send(42);
    EXPECT_EQ(receiver.join(), 42);
  }
}

TUCO_TEST(ChanTest, SendToFullParksUntilReceive) {
  chan<int> ch(1);
  ch.send(1);
  auto sender = spawn([=]() mutable { ch.send(2); });
  await_waiting(sender.id(), wait_reason::chan_send);
  EXPECT_EQ(ch.size(), 1u);
  EXPECT_EQ(ch.recv(), 1);
  sender.join();
  EXPECT_EQ(ch.recv(), 2);
}

TUCO_TEST(ChanTest, WaitObjectIsTheChannel) {
  chan<int> ch(0);
  auto receiver = spawn([=]() mutable { return ch.recv(); });
  await_waiting(receiver.id(), wait_reason::chan_receive);
  const auto info = test::look_at(receiver.id());
  ASSERT_TRUE(info);
  EXPECT_EQ(info->wait_object, ch.address());
  ch.close();
  EXPECT_EQ(receiver.join(), std::nullopt);
}

TUCO_TEST(ChanTest, FullBufferWithSendersKeepsTheOrder) {
  chan<int> ch(2);
  ch.send(0);
  ch.send(1);
  std::vector<test::spawned<void>> senders;
  for (int i = 2; i < 8; ++i) {
    senders.push_back(spawn([=]() mutable { ch.send(i); }));
    await_parked(senders.size());  // one after the other into the line
  }
  for (int i = 0; i < 8; ++i) EXPECT_EQ(ch.recv(), i);
  for (auto& s : senders) s.join();
  EXPECT_EQ(ch.size(), 0u);
}

TUCO_TEST(ChanTest, ReceiversAreServedFirstComeFirstServed) {
  chan<int> ch(0);
  std::vector<test::spawned<std::optional<int>>> receivers;
  for (std::size_t i = 0; i < 6; ++i) {
    receivers.push_back(spawn([=]() mutable { return ch.recv(); }));
    await_parked(i + 1);
  }
  for (int i = 0; i < 6; ++i) ch.send(i);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(receivers[static_cast<std::size_t>(i)].join(), i);
}

TUCO_TEST(ChanTest, SendersOfUnbufferedAreServedFirstComeFirstServed) {
  chan<int> ch(0);
  std::vector<test::spawned<void>> senders;
  for (int i = 0; i < 6; ++i) {
    senders.push_back(spawn([=]() mutable { ch.send(i); }));
    await_parked(senders.size());
  }
  for (int i = 0; i < 6; ++i) EXPECT_EQ(ch.recv(), i);
  for (auto& s : senders) s.join();
}

TUCO_TEST(ChanTest, WaitingReceiverGetsTheValueWithoutTheBuffer) {
  chan<int> ch(4);
  auto receiver = spawn([=]() mutable { return ch.recv(); });
  await_parked(1);
  ch.send(5);
  EXPECT_EQ(ch.size(), 0u) << "handed over, not buffered";
  EXPECT_EQ(receiver.join(), 5);
}

// -- unbuffered

TUCO_TEST(ChanTest, UnbufferedSendCompletesOnlyWithTheReceive) {
  chan<int> ch(0);
  std::atomic<bool> sent{false};
  auto sender = spawn([&, ch]() mutable {
    ch.send(1);
    sent = true;
  });
  await_waiting(sender.id(), wait_reason::chan_send);
  EXPECT_FALSE(sent);
  EXPECT_EQ(ch.size(), 0u);
  EXPECT_EQ(ch.capacity(), 0u);
  EXPECT_EQ(ch.recv(), 1);
  sender.join();
  EXPECT_TRUE(sent);
}

TUCO_TEST(ChanTest, PingPong) {
  chan<int> ping(0), pong(0);
  auto other = spawn([=]() mutable {
    while (auto v = ping.recv()) pong.send(*v + 1);
  });
  for (int i = 0; i < 5'000; ++i) {
    ping.send(i);
    ASSERT_EQ(pong.recv(), i + 1);
  }
  ping.close();
  other.join();
}

TUCO_TEST(ChanTest, KthReceiveHappensBeforeSendKPlusCapacity) {
  chan<int> limit(3);
  std::atomic<int> inside{0}, most{0};
  std::vector<test::spawned<void>> workers;
  for (int i = 0; i < 20; ++i) {
    workers.push_back(spawn([&, limit]() mutable {
      limit.send(1);
      const int now = ++inside;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      tuco::yield();
      --inside;
      EXPECT_EQ(limit.recv(), 1);
    }));
  }
  for (auto& w : workers) w.join();
  EXPECT_LE(most, 3);
}

// -- closing

TUCO_TEST(ChanTest, RecvOnClosedGivesWhatIsLeftAndThenNothing) {
  chan<int> ch(4);
  ch.send(1);
  ch.send(2);
  ch.close();
  EXPECT_TRUE(ch.is_closed());
  EXPECT_EQ(ch.size(), 2u);
  EXPECT_EQ(ch.recv(), 1);
  EXPECT_EQ(ch.recv(), 2);
  EXPECT_EQ(ch.recv(), std::nullopt);
  EXPECT_EQ(ch.recv(), std::nullopt) << "for ever";
}

TUCO_TEST(ChanTest, CloseWakesAllReceivers) {
  for (const std::size_t capacity : {0u, 3u}) {
    chan<int> ch(capacity);
    std::vector<test::spawned<std::optional<int>>> receivers;
    for (int i = 0; i < 10; ++i) receivers.push_back(spawn([=]() mutable { return ch.recv(); }));
    await_parked(10);
    ch.close();
    for (auto& r : receivers) EXPECT_EQ(r.join(), std::nullopt);
  }
}

TUCO_TEST(ChanTest, CloseMakesParkedSendersThrow) {
  chan<std::string> ch(0);
  std::vector<test::spawned<std::string>> senders;
  for (int i = 0; i < 4; ++i) {
    senders.push_back(spawn([=]() mutable {
      std::string value = "value " + std::to_string(i);
      try {
        ch.send(std::move(value));
      } catch (const closed_error&) {
        return value;  // NOLINT: a failed send has not moved from it
      }
      return std::string("sent");
    }));
  }
  await_parked(4);
  ch.close();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(senders[static_cast<std::size_t>(i)].join(), "value " + std::to_string(i));
  }
}

TUCO_TEST(ChanTest, SendOnClosedThrowsAndLeavesTheValue) {
  chan<std::unique_ptr<int>> ch(1);
  ch.close();
  auto value = std::make_unique<int>(7);
  EXPECT_THROW(ch.send(std::move(value)), closed_error);
  ASSERT_NE(value, nullptr);
  EXPECT_EQ(*value, 7);
}

TUCO_TEST(ChanTest, MisuseNamesTheGoroutineAndItsCreator) {
  chan<int> ch(1);
  ch.close();
  auto culprit = spawn([=]() mutable {
    try {
      ch.send(1);
    } catch (const closed_error& e) {
      EXPECT_EQ(e.text(), "send on closed channel");
      EXPECT_EQ(e.goroutine(), this_goroutine::id());
      return std::string(e.what());
    }
    return std::string();
  });
  const auto id = culprit.id();
  const std::string what = culprit.join();
  EXPECT_EQ(what.find("send on closed channel (goroutine " + std::to_string(id)), 0u) << what;
  EXPECT_NE(what.find("runtime_test.hpp:"), std::string::npos) << what;
}

TUCO_TEST(ChanTest, ClosingTwiceThrows) {
  chan<int> ch(1);
  ch.close();
  try {
    ch.close();
    FAIL() << "did not throw";
  } catch (const closed_error& e) {
    EXPECT_EQ(e.text(), "close of closed channel");
  }
}

TUCO_TEST(ChanTest, ClosingNilThrows) {
  chan<int> ch;
  try {
    ch.close();
    FAIL() << "did not throw";
  } catch (const misuse_error& e) {
    EXPECT_EQ(e.text(), "close of nil channel");
  }
}

TUCO_TEST(ChanTest, CloseHappensBeforeTheReceiveThatReportsIt) {
  for (int i = 0; i < 200; ++i) {
    chan<int> ch(0);
    int plain = 0;  // a race here is ThreadSanitizer's to find
    auto closer = spawn([&plain, ch]() mutable {
      plain = 1;
      ch.close();
    });
    EXPECT_EQ(ch.recv(), std::nullopt);
    EXPECT_EQ(plain, 1);
    closer.join();
  }
}

// -- nil

TUCO_TEST(ChanTest, NilWaitsForEverWithGosWords) {
  test::leaves_behind(2);
  auto sender = spawn([] { chan<int>().send(1); });
  auto receiver = spawn([] { (void)chan<int>().recv(); });
  await_waiting(sender.id(), wait_reason::chan_send_nil);
  await_waiting(receiver.id(), wait_reason::chan_receive_nil);
  EXPECT_EQ(to_string(wait_reason::chan_send_nil), "chan send (nil chan)");
  EXPECT_EQ(to_string(wait_reason::chan_receive_nil), "chan receive (nil chan)");
}

TUCO_TEST(ChanTest, NilLooksEmpty) {
  chan<int> ch;
  EXPECT_TRUE(ch == nullptr);
  EXPECT_EQ(ch.size(), 0u);
  EXPECT_EQ(ch.capacity(), 0u);
  EXPECT_FALSE(ch.is_closed());
  EXPECT_EQ(ch, chan<int>(nullptr));
  ch = chan<int>(0);
  EXPECT_FALSE(ch == nullptr);
  ch = nullptr;
  EXPECT_TRUE(ch == nullptr);
}

// -- handles

template <class C>
concept can_recv = requires(C c) { c.recv(); };
template <class C>
concept can_range = requires(C c) { c.begin(); };
template <class C>
concept can_send = requires(C c) { c.send(1); };
template <class C>
concept can_close = requires(C c) { c.close(); };

TUCO_TEST(ChanTest, CopiesNameTheSameChannel) {
  chan<int> a(2);
  const chan<int> b = a;
  chan<int> other(2);
  a.send(1);
  EXPECT_EQ(b.size(), 1u);
  EXPECT_TRUE(a == b);
  EXPECT_FALSE(a == other);
  chan<int> moved = std::move(a);
  EXPECT_TRUE(a == nullptr);  // NOLINT: documented
  EXPECT_EQ(moved.recv(), 1);
}

TUCO_TEST(ChanTest, DirectionsConvertFromTheWholeOnly) {
  static_assert(std::is_convertible_v<chan<int>, send_chan<int>>);
  static_assert(std::is_convertible_v<chan<int>, recv_chan<int>>);
  static_assert(!std::is_convertible_v<send_chan<int>, recv_chan<int>>);
  static_assert(!std::is_convertible_v<recv_chan<int>, send_chan<int>>);
  static_assert(!std::is_convertible_v<send_chan<int>, chan<int>>);
  static_assert(!std::is_convertible_v<recv_chan<int>, chan<int>>);
  static_assert(!std::is_constructible_v<recv_chan<int>, std::size_t>);
  static_assert(!can_recv<send_chan<int>> && !can_range<send_chan<int>>);
  static_assert(!can_send<recv_chan<int>> && !can_close<recv_chan<int>>);
  static_assert(can_send<send_chan<int>> && can_close<send_chan<int>>);
  static_assert(can_recv<recv_chan<int>> && can_range<recv_chan<int>>);
  chan<int> ch(1);
  send_chan<int> in = ch;
  recv_chan<int> out = ch;
  in.send(3);
  EXPECT_TRUE(in == ch && ch == out);
  EXPECT_EQ(out.recv(), 3);
  in.close();
  EXPECT_EQ(out.recv(), std::nullopt);
}

TUCO_TEST(ChanTest, TheLastHandleDestroysWhatIsLeft) {
  auto value = std::make_shared<int>(1);
  {
    chan<std::shared_ptr<int>> ch(4);
    ch.send(value);
    ch.send(value);
    EXPECT_EQ(ch.recv(), value);
    ch.send(value);
    EXPECT_EQ(value.use_count(), 3);
  }
  EXPECT_EQ(value.use_count(), 1);
}

TUCO_TEST(ChanTest, ReceiverMayDestroyTheChannelAtOnce) {
  for (int i = 0; i < 500; ++i) {
    // The sender holds a reference, not a handle: nothing of the channel may be touched after the
    // receiver has its value.
    auto ch = std::make_unique<chan<int>>(static_cast<std::size_t>(i % 2));
    auto sender = spawn([&c = *ch, i] { c.send(i); });
    EXPECT_EQ(ch->recv(), i);
    ch.reset();
    sender.join();
  }
}

TUCO_TEST(ChanTest, TooLargeACapacityThrows) {
  EXPECT_THROW(chan<int>(SIZE_MAX / 2), misuse_error);
  EXPECT_THROW(chan<int>(static_cast<std::size_t>(-1)), misuse_error);
  try {
    chan<std::array<char, 4096>> ch(SIZE_MAX / 4096);
    FAIL() << "did not throw";
  } catch (const misuse_error& e) {
    EXPECT_EQ(e.text(), "makechan: size out of range");
  }
}

// -- range

TUCO_TEST(ChanTest, RangeEndsWhenClosedAndDrained) {
  chan<std::string> ch(2);
  auto sender = spawn([=]() mutable {
    for (int i = 0; i < 10; ++i) ch.send(std::to_string(i));
    ch.close();
  });
  std::string all;
  for (auto& s : ch) all += s;
  EXPECT_EQ(all, "0123456789");
  sender.join();
}

TUCO_TEST(ChanTest, RangeMayTakeTheValuesAndLetTheHandleGo) {
  chan<std::unique_ptr<int>> ch(3);
  for (int i = 0; i < 3; ++i) ch.send(std::make_unique<int>(i));
  ch.close();
  std::vector<std::unique_ptr<int>> taken;
  for (auto& p : ch) {
    taken.push_back(std::move(p));
    ch = nullptr;
  }
  EXPECT_EQ(taken.size(), 3u);
}

TUCO_TEST(ChanTest, RangeOverAReceiver) {
  chan<int> ch(5);
  for (int i = 0; i < 5; ++i) ch.send(i);
  ch.close();
  recv_chan<int> out = ch;
  int sum = 0;
  for (const int v : out) sum += v;
  EXPECT_EQ(sum, 10);
}

// -- many

TUCO_TEST(ChanTest, NothingIsLostOrDoubledBetweenManySendersAndReceivers) {
  constexpr int senders = 4, receivers = 4, each = 500;
  for (const std::size_t capacity : {0u, 1u, 10u}) {
    chan<int> ch(capacity);
    std::vector<test::spawned<void>> sending;
    std::vector<test::spawned<std::map<int, int>>> receiving;
    for (int s = 0; s < senders; ++s) {
      sending.push_back(spawn([=]() mutable {
        for (int i = 0; i < each; ++i) ch.send(i);
      }));
    }
    for (int r = 0; r < receivers; ++r) {
      receiving.push_back(spawn([=]() mutable {
        std::map<int, int> seen;
        for (int v : ch) ++seen[v];
        return seen;
      }));
    }
    for (auto& s : sending) s.join();
    ch.close();
    std::map<int, int> total;
    for (auto& r : receiving) {
      for (const auto& [value, times] : r.join()) total[value] += times;
    }
    ASSERT_EQ(total.size(), static_cast<std::size_t>(each));
    for (const auto& [value, times] : total) ASSERT_EQ(times, senders) << value;
  }
}

TUCO_TEST(ChanTest, EachReceiverSeesEachSendersValuesInOrder) {
  chan<std::pair<int, int>> ch(3);
  std::vector<test::spawned<void>> senders;
  for (int s = 0; s < 3; ++s) {
    senders.push_back(spawn([=]() mutable {
      for (int i = 0; i < 300; ++i) ch.send(std::pair(s, i));
    }));
  }
  auto receive = [=]() mutable {
    int last[3] = {-1, -1, -1};
    for (auto [s, i] : ch) {
      if (i <= last[s]) return false;
      last[s] = i;
    }
    return true;
  };
  auto a = spawn(receive), b = spawn(receive);
  for (auto& s : senders) s.join();
  ch.close();
  EXPECT_TRUE(a.join());
  EXPECT_TRUE(b.join());
}

TUCO_TEST(ChanTest, ChainOfGoroutinesPassesTheValueThrough) {
  constexpr int length = 500;
  chan<int> first(0);
  recv_chan<int> from = first;
  for (int i = 0; i < length; ++i) {
    chan<int> to(0);
    tuco::go([from, to]() mutable { to.send(1 + *from.recv()); });
    from = to;
  }
  first.send(0);
  EXPECT_EQ(from.recv(), length);
}

TUCO_TEST(ChanTest, PrimeSieve) {
  chan<int> numbers(0);
  chan<int> done(0);
  tuco::go([=]() mutable {
    for (int i = 2; done.is_closed() == false; ++i) {
      if (numbers.send_for(i, std::chrono::hours(1)) != chan_status::ok) return;
    }
    numbers.close();
  });
  const int expected[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47};
  recv_chan<int> in = numbers;
  std::vector<recv_chan<int>> stages;
  for (const int prime : expected) {
    const auto p = in.recv();
    ASSERT_EQ(p, prime);
    chan<int> out(0);
    tuco::go([in, out, prime]() mutable {
      for (int i : in) {
        if (i % prime != 0) out.send(i);
      }
      out.close();
    });
    in = out;
  }
  done.close();
  for ([[maybe_unused]] int rest : in) {
  }
}

TUCO_TEST(ChanTest, ChannelsTravelThroughChannels) {
  struct request {
    int argument;
    chan<int> answer;
  };
  chan<request> requests(0);
  auto server = spawn([=]() mutable {
    for (auto& r : requests) r.answer.send(r.argument * 2);
  });
  for (int i = 0; i < 50; ++i) {
    request r{i, chan<int>(0)};
    requests.send(r);
    EXPECT_EQ(r.answer.recv(), 2 * i);
  }
  requests.close();
  server.join();
}

}  // namespace
}  // namespace tuco
