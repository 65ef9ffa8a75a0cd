// SPDX-License-Identifier: Apache-2.0
// What may travel through a channel, and what happens to it on the way.
#include <tuco/chan.hpp>

#include <array>
#include <cstring>
#include <string>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using test::await_parked;
using test::spawn;

class ChanValueTest : public test::runtime_test {};
TUCO_PROCESSORS(ChanValueTest);

/// Counts objects that are alive and have a value, and copies.
struct counted {
  static inline std::atomic<int> alive{0}, copies{0}, moves{0};
  int value;
  explicit counted(int v) : value(v) { ++alive; }
  counted(const counted& o) : value(o.value) { ++alive, ++copies; }
  counted(counted&& o) noexcept : value(std::exchange(o.value, -1)) { ++alive, ++moves; }
  counted& operator=(const counted&) = delete;
  ~counted() { --alive; }
  static void reset() { alive = copies = moves = 0; }
};

/// Throws from its move constructor when told to; then the source keeps its value.
struct moody {
  static inline std::atomic<int> throw_after{-1};  ///< moves until one throws; -1: never
  static inline std::atomic<int> more_throws{0};   ///< how many after that one throw, too
  static void maybe_throw() {
    if (throw_after < 0 || throw_after-- != 0) return;
    if (more_throws > 0) --more_throws, throw_after = 0;
    throw std::runtime_error("no move today");
  }
  static inline std::atomic<int> alive{0};
  int value = 0;
  explicit moody(int v) : value(v) { ++alive; }
  moody(moody&& o) : value(o.value) {
    maybe_throw();
    o.value = 0;
    ++alive;
  }
  moody& operator=(moody&& o) {
    maybe_throw();
    value = std::exchange(o.value, 0);
    return *this;
  }
  ~moody() { --alive; }
};

TUCO_TEST(ChanValueTest, MoveOnlyValues) {
  for (const std::size_t capacity : {0u, 2u}) {
    chan<std::unique_ptr<int>> ch(capacity);
    auto sender = spawn([=]() mutable {
      for (int i = 0; i < 10; ++i) ch.send(std::make_unique<int>(i));
      ch.close();
    });
    int expected = 0;
    for (auto& p : ch) {
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(*p, expected++);
    }
    EXPECT_EQ(expected, 10);
    sender.join();
  }
}

TUCO_TEST(ChanValueTest, SendOfAnLvalueCopiesOnceAndKeepsIt) {
  counted::reset();
  {
    chan<counted> ch(1);
    const counted value(5);
    ch.send(value);
    EXPECT_EQ(value.value, 5);
    EXPECT_EQ(counted::copies, 1);
    EXPECT_EQ(ch.recv()->value, 5);
  }
  EXPECT_EQ(counted::alive, 0);
}

TUCO_TEST(ChanValueTest, NeverCopiesAnRvalue) {
  counted::reset();
  {
    chan<counted> ch(0);
    auto receiver = spawn([=]() mutable { return ch.recv()->value; });
    await_parked(1);
    ch.send(counted(3));
    EXPECT_EQ(receiver.join(), 3);
    EXPECT_EQ(counted::copies, 0);
    EXPECT_EQ(counted::moves, 1) << "straight into the receiver's place";
  }
  EXPECT_EQ(counted::alive, 0);
}

TUCO_TEST(ChanValueTest, WhatIsLeftInTheBufferIsDestroyedOnce) {
  counted::reset();
  {
    chan<counted> ch(3);
    for (int round = 0; round < 2; ++round) {  // the ring wraps around
      ch.send(counted(1));
      ch.send(counted(2));
      EXPECT_EQ(ch.recv()->value, 1);
      EXPECT_EQ(ch.recv()->value, 2);
    }
    ch.send(counted(3));
    ch.send(counted(4));
    ch.send(counted(5));
    EXPECT_EQ(counted::alive, 3);
  }
  EXPECT_EQ(counted::alive, 0);
}

TUCO_TEST(ChanValueTest, ValuesWithoutStateTakeNoMemory) {
  struct nothing {};
  chan<nothing> ch(SIZE_MAX / 2);
  for (int i = 0; i < 1'000; ++i) ch.send(nothing{});
  EXPECT_EQ(ch.size(), 1'000u);
  EXPECT_TRUE(ch.recv().has_value());
  EXPECT_EQ(ch.size(), 999u);
  nothing out;
  EXPECT_EQ(ch.try_recv(out), chan_status::ok);

  chan<nothing> meeting(0);
  auto receiver = spawn([=]() mutable { return meeting.recv().has_value(); });
  await_parked(1);
  meeting.send({});
  EXPECT_TRUE(receiver.join());
}

TUCO_TEST(ChanValueTest, OverAlignedValues) {
  struct alignas(256) wide {
    std::uint64_t value[4];
  };
  chan<wide> ch(3);
  for (std::uint64_t i = 0; i < 3; ++i) ch.send(wide{{i, i, i, i}});
  for (std::uint64_t i = 0; i < 3; ++i) {
    const auto v = ch.recv();
    ASSERT_TRUE(v);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*v) % 256, 0u);
    EXPECT_EQ(v->value[3], i);
  }
}

template <std::size_t N>
void sizes_travel() {
  struct bytes {
    std::array<unsigned char, N> data;
  };
  chan<bytes> ch(1);
  bytes in{};
  for (std::size_t i = 0; i < N; ++i) in.data[i] = static_cast<unsigned char>(i * 31 + N);
  ch.send(in);
  EXPECT_EQ(ch.recv()->data, in.data) << N;
  bytes out{};
  ch.send(in);
  EXPECT_EQ(ch.try_recv(out), chan_status::ok);
  EXPECT_EQ(out.data, in.data) << N;

  // None of them touches its neighbour in the buffer.
  chan<bytes> three(3);
  for (unsigned char i = 0; i < 3; ++i) {
    in.data.fill(i);
    three.send(in);
  }
  for (unsigned char i = 0; i < 3; ++i) {
    in.data.fill(i);
    EXPECT_EQ(three.recv()->data, in.data) << N << ", number " << int{i};
  }
}

TUCO_TEST(ChanValueTest, PlainValuesOfEverySize) {
  [&]<std::size_t... N>(std::index_sequence<N...>) { (sizes_travel<N + 1>(), ...); }(
      std::make_index_sequence<72>());
}

struct megabyte {
  std::array<unsigned char, 1 << 20> data;
};

TUCO_TEST(ChanValueTest, MegabyteValuesOnDefaultStacks) {
  // The default stack has 256 KiB: one such value on it would be too many.
  static constexpr auto check = [](const megabyte& m, unsigned char mark) {
    return m.data.front() == mark && m.data[1 << 19] == mark && m.data.back() == mark;
  };
  for (const std::size_t capacity : {0u, 2u}) {
    chan<megabyte> ch(capacity);
    auto sender = spawn([=]() mutable {
      auto value = std::make_unique<megabyte>();
      for (int i = 0; i < 4; ++i) {
        std::memset(value.get(), i, sizeof(megabyte));
        ch.send(*value);
      }
      ch.close();
    });
    auto out = std::make_unique<std::optional<megabyte>>();
    for (unsigned char i = 0; i < 4; ++i) {
      ASSERT_EQ(ch.recv_for(*out, std::chrono::hours(1)), chan_status::ok);
      EXPECT_TRUE(check(**out, i));
    }
    sender.join();
    auto place = std::make_unique<megabyte>();
    EXPECT_EQ(ch.try_recv(*place), chan_status::closed);
  }
}

struct large_and_deep {
  std::string text;
  std::array<unsigned char, 1 << 20> data;
};

TUCO_TEST(ChanValueTest, LargeCopiesDoNotComeFromTheStack) {
  chan<large_and_deep> ch(1);
  auto value = std::make_unique<large_and_deep>();
  value->text = "some text that is not short enough to be stored inline";
  value->data.fill(9);
  ch.send(*value);
  EXPECT_FALSE(value->text.empty());
  auto out = std::make_unique<large_and_deep>();
  ASSERT_EQ(ch.try_recv(*out), chan_status::ok);
  EXPECT_EQ(out->text, value->text);
  EXPECT_EQ(out->data, value->data);
}

TUCO_TEST(ChanValueTest, OptionalsAndPairsAndFunctions) {
  chan<std::optional<int>> optionals(2);
  optionals.send(std::nullopt);
  optionals.send(4);
  std::optional<int> inner = 7;
  ASSERT_EQ(optionals.try_recv(inner), chan_status::ok);
  EXPECT_EQ(inner, std::nullopt);
  EXPECT_EQ(optionals.recv(), std::optional<std::optional<int>>(4));
  chan<std::function<int(int)>> functions(1);
  functions.send([](int x) { return x + 1; });
  EXPECT_EQ((*functions.recv())(1), 2);
}

TUCO_TEST(ChanValueTest, ValuesWithoutDefaultOrAssignment) {
  struct strict {
    const int value;
    explicit strict(int v) : value(v) {}
    strict(strict&&) = default;
  };
  chan<strict> ch(2);
  ch.send(strict(1));
  ch.send(strict(2));
  std::optional<strict> out;
  EXPECT_EQ(ch.try_recv(out), chan_status::ok);
  EXPECT_EQ(out->value, 1);
  EXPECT_EQ(ch.recv()->value, 2);
  ch.send(strict(3));
  ch.close();
  for (auto& v : ch) EXPECT_EQ(v.value, 3);
}

// -- moves that throw

TUCO_TEST(ChanValueTest, ThrowingMoveIntoTheBufferLeavesTheValueWithTheSender) {
  moody::alive = 0;
  {
    chan<moody> ch(2);
    ch.send(moody(1));
    moody value(2);
    moody::throw_after = 0;
    EXPECT_THROW(ch.send(std::move(value)), std::runtime_error);
    moody::throw_after = -1;
    EXPECT_EQ(value.value, 2);
    EXPECT_EQ(ch.size(), 1u);
    ch.send(std::move(value));
    EXPECT_EQ(ch.recv()->value, 1);
    EXPECT_EQ(ch.recv()->value, 2);
  }
  EXPECT_EQ(moody::alive, 0);
}

TUCO_TEST(ChanValueTest, ThrowingMoveOutOfTheBufferLeavesTheValueThere) {
  moody::alive = 0;
  {
    chan<moody> ch(2);
    ch.send(moody(1));
    ch.send(moody(2));
    moody::throw_after = 0;
    EXPECT_THROW((void)ch.recv(), std::runtime_error);
    std::optional<moody> out;
    moody::throw_after = 0;
    EXPECT_THROW((void)ch.try_recv(out), std::runtime_error);
    moody::throw_after = -1;
    EXPECT_EQ(ch.size(), 2u);
    EXPECT_EQ(ch.recv()->value, 1);
    EXPECT_EQ(ch.recv()->value, 2);
  }
  EXPECT_EQ(moody::alive, 0);
}

TUCO_TEST(ChanValueTest, ThrowingHandOverToAReceiverThrowsInTheSender) {
  moody::alive = 0;
  {
    chan<moody> ch(0);
    auto receiver = spawn([=]() mutable {
      std::optional<moody> out;
      EXPECT_EQ(ch.recv_for(out, std::chrono::hours(1)), chan_status::ok);
      return out->value;
    });
    await_parked(1);
    moody value(5);
    moody::throw_after = 0;
    EXPECT_THROW(ch.send(std::move(value)), std::runtime_error);
    moody::throw_after = -1;
    EXPECT_EQ(value.value, 5);
    await_parked(1);  // the receiver waits on
    ch.send(std::move(value));
    EXPECT_EQ(receiver.join(), 5);
  }
  EXPECT_EQ(moody::alive, 0);
}

TUCO_TEST(ChanValueTest, ThrowingTakeOverFromASenderThrowsInTheReceiver) {
  moody::alive = 0;
  {
    chan<moody> ch(0);
    auto sender = spawn([=]() mutable {
      moody value(6);
      ch.send(std::move(value));
    });
    await_parked(1);
    moody::throw_after = 0;
    EXPECT_THROW((void)ch.recv(), std::runtime_error);
    moody::throw_after = -1;
    await_parked(1);  // the sender waits on, with its value
    EXPECT_EQ(ch.recv()->value, 6);
    sender.join();
  }
  EXPECT_EQ(moody::alive, 0);
}

TUCO_TEST(ChanValueTest, ThrowingRefillFallsToTheSender) {
  moody::alive = 0;
  {
    chan<moody> ch(1);
    ch.send(moody(1));
    auto failing = spawn([=]() mutable {
      moody value(2);
      EXPECT_THROW(ch.send(std::move(value)), std::runtime_error);
      return value.value;
    });
    await_parked(1);
    std::optional<moody> out;
    moody::more_throws = 1;
    moody::throw_after = 1;  // the receive's own move succeeds, the refill throws, and so does the
    EXPECT_EQ(ch.try_recv(out), chan_status::ok);  // sender's second attempt
    EXPECT_EQ(out->value, 1);
    EXPECT_EQ(failing.join(), 2);
    moody::throw_after = -1;
    EXPECT_EQ(ch.size(), 0u);
  }
  EXPECT_EQ(moody::alive, 0);
}

TUCO_TEST(ChanValueTest, AFailedRefillGivesTheRoomToTheNextSender) {
  moody::alive = 0;
  {
    chan<moody> ch(1);
    ch.send(moody(1));
    auto first = spawn([=]() mutable { ch.send(moody(2)); });
    await_parked(1);
    auto second = spawn([=]() mutable { ch.send(moody(3)); });
    await_parked(2);
    std::optional<moody> out;
    moody::throw_after = 1;
    EXPECT_EQ(ch.try_recv(out), chan_status::ok);
    second.join();  // got the room that the first could not use
    EXPECT_EQ(ch.recv()->value, 3);
    EXPECT_EQ(ch.recv()->value, 2);
    first.join();
  }
  EXPECT_EQ(moody::alive, 0);
}

TUCO_TEST(ChanValueTest, ThrowingCopyHasSentNothing) {
  struct uncopyable_today {
    int value = 0;
    explicit uncopyable_today(int v) : value(v) {}
    uncopyable_today(const uncopyable_today&) { throw std::bad_alloc(); }
    uncopyable_today(uncopyable_today&& o) noexcept : value(o.value) {}
  };
  chan<uncopyable_today> ch(1);
  const uncopyable_today value(1);
  EXPECT_THROW(ch.send(value), std::bad_alloc);
  EXPECT_EQ(ch.size(), 0u);
  ch.send(uncopyable_today(2));
  EXPECT_EQ(ch.recv()->value, 2);
}

}  // namespace
}  // namespace tuco
