// SPDX-License-Identifier: Apache-2.0
// Channels and select between plain threads, without run(): the same calls block the thread.
#include <tuco/chan.hpp>
#include <tuco/select.hpp>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sync/channel.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;

TEST(ChannelOnThreads, UnbufferedHandsOver) {
  chan<int> ch(0);
  std::thread sender([=] {
    for (int i = 0; i < 1'000; ++i) ch.send(i);
    ch.close();
  });
  int expected = 0;
  for (const int v : ch) EXPECT_EQ(v, expected++);
  EXPECT_EQ(expected, 1'000);
  sender.join();
}

TEST(ChannelOnThreads, BufferedBetweenMany) {
  chan<int> ch(16);
  constexpr int each = 5'000;
  std::atomic<long> sum{0};
  std::vector<std::thread> senders, receivers;
  for (int i = 0; i < 3; ++i) {
    senders.emplace_back([=] {
      for (int v = 1; v <= each; ++v) ch.send(v);
    });
    receivers.emplace_back([&sum, ch] {
      long mine = 0;
      for (const int v : ch) mine += v;
      sum += mine;
    });
  }
  for (auto& t : senders) t.join();
  ch.close();
  for (auto& t : receivers) t.join();
  EXPECT_EQ(sum, 3L * each * (each + 1) / 2);
}

TEST(ChannelOnThreads, TimedAndTryForms) {
  chan<int> ch(0);
  int out = 0;
  EXPECT_EQ(ch.try_recv(out), chan_status::would_block);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ch.recv_for(out, 2ms), chan_status::timed_out);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 2ms);
  std::thread sender([=] { EXPECT_EQ(ch.send_for(5, 1h), chan_status::ok); });
  EXPECT_EQ(ch.recv_for(out, 1h), chan_status::ok);
  EXPECT_EQ(out, 5);
  sender.join();
}

TEST(ChannelOnThreads, MisuseNamesAPlainThread) {
  chan<int> ch(0);
  ch.close();
  try {
    ch.send(1);
    FAIL() << "did not throw";
  } catch (const closed_error& e) {
    EXPECT_STREQ(e.what(), "send on closed channel (plain thread)");
    EXPECT_EQ(e.goroutine(), 0u);
  }
}

TEST(ChannelOnThreads, CloseWakesAll) {
  chan<int> ch(0);
  std::vector<std::thread> receivers;
  for (int i = 0; i < 5; ++i) receivers.emplace_back([=] { EXPECT_EQ(ch.recv(), std::nullopt); });
  ch.close();
  for (auto& t : receivers) t.join();
}

TEST(ChannelOnThreads, SelectsMeet) {
  chan<int> a(0), b(0), stop(0);
  std::thread other([=] {
    for (int i = 0; i < 500; ++i) select(on_send(a, i), on_send(b, i));
    stop.close();
  });
  int got = 0;
  while (select(on_recv(a), on_recv(b), on_recv(stop)) != 2) ++got;
  EXPECT_EQ(got, 500);
  EXPECT_EQ(select(on_recv(a), on_recv(b), on_timeout(1ms)), 2u);
  other.join();
}

TEST(ChannelLayout, HotFieldsShareALine) {
  EXPECT_EQ(sizeof(sync::channel), 128u);
  EXPECT_EQ(alignof(sync::channel), 64u);
}

TEST(ChannelOffer, PutsIntoTheBufferOrHandsOverAndNeverWaits) {
  chan<long> ch(1);
  detail::chan_core* core = detail::chan_access::core(ch);
  sched::ready_list woken;
  long value = 7;
  EXPECT_TRUE(sync::offer(core, &value, woken));
  value = 8;
  EXPECT_FALSE(sync::offer(core, &value, woken)) << "full";
  EXPECT_EQ(ch.recv(), 7);

  std::thread receiver([=] { EXPECT_EQ(ch.recv(), 9); });
  value = 9;
  while (ch.size() == 0 && woken.head == nullptr) {
    // Either the receiver has parked by now and is in the list, or the buffer takes it.
    ASSERT_TRUE(sync::offer(core, &value, woken));
  }
  if (woken.head != nullptr) {
    sched::runtime_section section;
    sched::ready_all(woken);
  }
  receiver.join();
  ch.close();
  EXPECT_FALSE(sync::offer(core, &value, woken)) << "closed";
}

}  // namespace
}  // namespace tuco
