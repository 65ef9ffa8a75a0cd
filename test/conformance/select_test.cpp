// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/select.hpp: which case happens, when it parks, what the losers keep.
#include <tuco/select.hpp>

#include <array>
#include <string>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_parked;
using test::await_waiting;
using test::spawn;

class SelectTest : public test::runtime_test {};
TUCO_PROCESSORS(SelectTest);

// -- which case

TUCO_TEST(SelectTest, ReadyReceiveHappensAndItsHandlerGetsTheValue) {
  chan<int> a(1), b(1);
  b.send(7);
  int got = 0;
  const auto chosen = select(on_recv(a, [&](auto) { ADD_FAILURE(); }),
                             on_recv(b, [&](std::optional<int> v) { got = *v; }));
  EXPECT_EQ(chosen, 1u);
  EXPECT_EQ(got, 7);
}

TUCO_TEST(SelectTest, ReadySendHappens) {
  chan<int> a(0), b(1);
  bool sent = false;
  EXPECT_EQ(select(on_send(a, 1, [] { ADD_FAILURE(); }), on_send(b, 2, [&] { sent = true; })), 1u);
  EXPECT_TRUE(sent);
  EXPECT_EQ(b.recv(), 2);
}

TUCO_TEST(SelectTest, ClosedChannelIsReadyToReceive) {
  chan<int> a(0), b(0);
  a.close();
  bool told = false;
  EXPECT_EQ(select(on_recv(a, [&](std::optional<int> v) { told = !v.has_value(); }), on_recv(b)), 0u);
  EXPECT_TRUE(told);
}

TUCO_TEST(SelectTest, ClosedChannelGivesWhatIsLeftFirst) {
  chan<int> a(2), b(0);
  a.send(1);
  a.close();
  std::vector<std::optional<int>> got;
  for (int i = 0; i < 2; ++i) select(on_recv(a, [&](auto v) { got.push_back(v); }), on_recv(b));
  EXPECT_EQ(got, (std::vector<std::optional<int>>{1, std::nullopt}));
}

TUCO_TEST(SelectTest, SendOnClosedThrows) {
  chan<std::string> a(1), b(0);
  a.close();
  std::string value = "mine";
  EXPECT_THROW(select(on_send(a, std::move(value)), on_recv(b)), closed_error);
  EXPECT_EQ(value, "mine");
  EXPECT_THROW(select(on_send(a, std::move(value))), closed_error);
  EXPECT_THROW(select(on_send(a, std::move(value)), on_default()), closed_error);
  EXPECT_EQ(value, "mine");
}

TUCO_TEST(SelectTest, SendParkedInSelectThrowsWhenClosed) {
  chan<int> a(0), b(0);
  auto sender = spawn([=]() mutable { EXPECT_THROW(select(on_send(a, 1), on_recv(b)), closed_error); });
  await_waiting(sender.id(), wait_reason::select);
  a.close();
  sender.join();
}

TUCO_TEST(SelectTest, DefaultHappensOnlyWhenNothingElseCan) {
  chan<int> a(1), b(1);
  EXPECT_EQ(select(on_recv(a), on_recv(b), on_default()), 2u);
  EXPECT_EQ(select(on_default(), on_recv(a)), 0u);
  a.send(1);
  EXPECT_EQ(select(on_recv(a), on_recv(b), on_default()), 0u);
  b.send(2);
  EXPECT_EQ(select(on_default(), on_recv(a), on_recv(b)), 2u);
  EXPECT_EQ(select(on_send(a, 1), on_default()), 0u);
  EXPECT_EQ(select(on_send(a, 1), on_default()), 1u);
}

TUCO_TEST(SelectTest, DefaultAloneHappens) {
  bool happened = false;
  EXPECT_EQ(select(on_default([&] { happened = true; })), 0u);
  EXPECT_TRUE(happened);
}

TUCO_TEST(SelectTest, NilChannelsNeverHappen) {
  chan<int> nil, a(1);
  EXPECT_EQ(select(on_recv(nil), on_default()), 1u);
  EXPECT_EQ(select(on_send(nil, 1), on_default()), 1u);
  EXPECT_EQ(select(on_recv(nil), on_send(nil, 1), on_default()), 2u);
  EXPECT_EQ(select(on_recv(nil), on_send(a, 1)), 1u);
  EXPECT_EQ(select(on_recv(a), on_send(nil, 1)), 0u);
  EXPECT_EQ(select(on_recv(nil), on_timeout(1ms)), 1u);
}

TUCO_TEST(SelectTest, WithoutAnythingToWaitForParksForEver) {
  test::leaves_behind(4);
  auto none = spawn([] { select(); });
  auto nils = spawn([] {
    chan<int> a, b;
    select(on_recv(a), on_send(b, 1));
  });
  auto one = spawn([] { select(on_recv(chan<int>())); });
  auto dynamic = spawn([] { select_cases({}); });
  await_waiting(none.id(), wait_reason::select_no_cases);
  await_waiting(nils.id(), wait_reason::select_no_cases);
  await_waiting(one.id(), wait_reason::chan_receive_nil);
  await_waiting(dynamic.id(), wait_reason::select_no_cases);
  EXPECT_EQ(to_string(wait_reason::select_no_cases), "select (no cases)");
}

// -- parking

TUCO_TEST(SelectTest, ParksOnceUntilAReceiveCanHappen) {
  chan<int> a(0), b(0);
  auto selecting = spawn([=]() mutable {
    std::pair<std::size_t, int> result{};
    result.first = select(on_recv(a, [&](auto v) { result.second = *v; }),
                          on_recv(b, [&](auto v) { result.second = *v; }));
    return result;
  });
  await_waiting(selecting.id(), wait_reason::select);
  b.send(9);
  EXPECT_EQ(selecting.join(), (std::pair<std::size_t, int>(1, 9)));
  EXPECT_EQ(select(on_send(a, 1), on_default()), 1u) << "it has left the other line";
}

TUCO_TEST(SelectTest, ParksOnceUntilASendCanHappen) {
  chan<std::string> a(0), b(0);
  auto selecting = spawn([=]() mutable {
    std::string x = "to a", y = "to b";
    const auto chosen = select(on_send(a, std::move(x)), on_send(b, std::move(y)));
    EXPECT_EQ(x, "to a") << "the losing case has kept its value";
    EXPECT_EQ(y, "");
    return chosen;
  });
  await_waiting(selecting.id(), wait_reason::select);
  EXPECT_EQ(b.recv(), "to b");
  EXPECT_EQ(selecting.join(), 1u);
  std::string rest;
  EXPECT_EQ(a.try_recv(rest), chan_status::would_block);
}

TUCO_TEST(SelectTest, CloseWakesASelect) {
  chan<int> a(0), b(0);
  auto selecting = spawn([=]() mutable {
    bool drained = false;
    EXPECT_EQ(select(on_recv(a), on_recv(b, [&](auto v) { drained = !v; })), 1u);
    return drained;
  });
  await_waiting(selecting.id(), wait_reason::select);
  b.close();
  EXPECT_TRUE(selecting.join());
}

TUCO_TEST(SelectTest, OneChannelOnlyIsAPlainOperation) {
  chan<int> ch(0);
  auto receiving = spawn([=]() mutable { return select(on_recv(ch)); });
  await_waiting(receiving.id(), wait_reason::chan_receive);
  ch.send(1);
  EXPECT_EQ(receiving.join(), 0u);
  auto sending = spawn([=]() mutable { return select(on_send(ch, 1)); });
  await_waiting(sending.id(), wait_reason::chan_send);
  EXPECT_EQ(ch.recv(), 1);
  EXPECT_EQ(sending.join(), 0u);
}

TUCO_TEST(SelectTest, NamesItsChannelWhenThereIsOnlyOne) {
  chan<int> ch(0), other(0);
  auto one = spawn([=]() mutable { return select(on_recv(ch), on_timeout(1h)); });
  await_waiting(one.id(), wait_reason::select);
  EXPECT_EQ(test::look_at(one.id())->wait_object, ch.address());
  auto two = spawn([=]() mutable { return select(on_recv(ch), on_recv(other)); });
  await_waiting(two.id(), wait_reason::select);
  EXPECT_EQ(test::look_at(two.id())->wait_object, nullptr);
  ch.close();
  EXPECT_EQ(one.join(), 0u);
  EXPECT_EQ(two.join(), 0u);
}

TUCO_TEST(SelectTest, TimesOutNeverEarlyAndLeavesTheLines) {
  chan<int> a(0), b(0);
  for (const auto timeout : {100us, 2'000us}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(select(on_recv(a), on_send(b, 1), on_timeout(timeout)), 2u);
    EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
  }
  EXPECT_EQ(a.try_send(1), chan_status::would_block);
  int out = 0;
  EXPECT_EQ(b.try_recv(out), chan_status::would_block);
}

TUCO_TEST(SelectTest, PastDeadlineStillTakesWhatIsReady) {
  chan<int> a(1);
  EXPECT_EQ(select(on_recv(a), on_timeout(0s)), 1u);
  EXPECT_EQ(select(on_recv(a), on_timeout(std::chrono::steady_clock::now() - 1h)), 1u);
  a.send(1);
  EXPECT_EQ(select(on_recv(a), on_timeout(-1s)), 0u);
}

TUCO_TEST(SelectTest, TimeoutAloneSleeps) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(select(on_timeout(2ms)), 0u);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 2ms);
}

TUCO_TEST(SelectTest, TimeoutDoesNotHappenWhenACaseDoes) {
  chan<int> a(0);
  auto selecting = spawn([=]() mutable { return select(on_timeout(1h), on_recv(a)); });
  await_waiting(selecting.id(), wait_reason::select);
  a.send(1);
  EXPECT_EQ(selecting.join(), 1u);
}

// -- the same channel, the same goroutine

TUCO_TEST(SelectTest, SameChannelInSeveralCases) {
  chan<int> ch(0);
  auto selecting = spawn([=]() mutable {
    int got = 0;
    select(on_recv(ch, [&](auto v) { got = *v; }), on_recv(ch, [&](auto v) { got = *v; }),
           on_recv(ch, [&](auto v) { got = *v; }));
    return got;
  });
  await_waiting(selecting.id(), wait_reason::select);
  ch.send(4);
  EXPECT_EQ(selecting.join(), 4);
  EXPECT_EQ(ch.try_send(1), chan_status::would_block) << "all its nodes are out of the line";
}

TUCO_TEST(SelectTest, NeverMeetsItself) {
  chan<int> ch(0);
  EXPECT_EQ(select(on_send(ch, 1), on_recv(ch), on_default()), 2u);
  EXPECT_EQ(select(on_send(ch, 1), on_recv(ch), on_timeout(1ms)), 2u);
}

// Go's TestSelfSelect: two goroutines that both send and receive on one channel meet each other.
TUCO_TEST(SelectTest, TwoThatSendAndReceiveOnOneChannelMeetEachOther) {
  for (const std::size_t capacity : {0u, 10u}) {
    chan<int> ch(capacity);
    std::vector<test::spawned<void>> both;
    for (int p = 0; p < 2; ++p) {
      both.push_back(spawn([=]() mutable {
        for (int i = 0; i < 500; ++i) {
          const auto got = [&](std::optional<int> v) {
            EXPECT_TRUE(capacity != 0 || *v != p) << "received its own value";
          };
          if (p == 0 || i % 2 == 0) select(on_send(ch, p), on_recv(ch, got));
          else select(on_recv(ch, got), on_send(ch, p));
        }
        if (capacity == 0) {
          // The other one may be a step behind: keep meeting it.
          select(on_send(ch, p), on_recv(ch), on_timeout(1ms));
        }
      }));
    }
    if (capacity == 0) {
      // Rounds do not come in pairs that end together; lend the last one a partner.
      while (!both[0].done() || !both[1].done()) {
        select(on_send(ch, 2), on_recv(ch), on_default());
        tuco::yield();
      }
    }
    for (auto& g : both) g.join();
  }
}

// -- fairness

TUCO_TEST(SelectTest, ReadyCasesAreChosenEvenly) {
  // Go's TestSelectFairness, with a bound: a fair coin thrown 4,000 times stays within 400 of the
  // middle but for one run in 10^35.
  chan<int> a(1), b(1);
  int count[2] = {};
  for (int i = 0; i < 4'000; ++i) {
    (void)a.try_send(0);
    (void)b.try_send(0);
    ++count[select(on_recv(a), on_recv(b))];
  }
  EXPECT_NEAR(count[0], 2'000, 400);
}

TUCO_TEST(SelectTest, EvenlyAlsoBesideCasesThatAreNotReady) {
  chan<int> never(0), a(1), b(1), c(1);
  std::array<int, 5> count{};
  for (int i = 0; i < 6'000; ++i) {
    for (auto ch : {a, b, c}) (void)ch.try_send(0);
    ++count[select(on_recv(a), on_recv(never), on_recv(b), on_send(never, 1), on_recv(c))];
  }
  EXPECT_EQ(count[1] + count[3], 0);
  for (const int i : {0, 2, 4}) EXPECT_NEAR(count[static_cast<std::size_t>(i)], 2'000, 450) << i;
}

TUCO_TEST(SelectTest, RandomSendsAreMixed) {
  chan<int> ch(0);
  auto sender = spawn([=]() mutable {
    for (int i = 0; i < 1'000; ++i) select(on_send(ch, 0), on_send(ch, 1));
    ch.close();
  });
  int ones = 0;
  for (const int v : ch) ones += v;
  EXPECT_NEAR(ones, 500, 200);
  sender.join();
}

TUCO_TEST(SelectTest, ASteadyStreamDoesNotStarveTheOther) {
  chan<int> busy(0), rare(0);
  chan<int> stop(0);
  auto flood = spawn([=]() mutable {
    while (select(on_send(busy, 1), on_recv(stop)) == 0) {
    }
  });
  auto one = spawn([=]() mutable { rare.send(1); });
  while (select(on_recv(busy), on_recv(rare)) == 0) {
  }
  one.join();
  stop.close();
  flood.join();
}

// -- values and handlers

TUCO_TEST(SelectTest, LosingSendsKeepTheirValues) {
  chan<std::unique_ptr<int>> a(0), b(0);
  auto x = std::make_unique<int>(1), y = std::make_unique<int>(2);
  EXPECT_EQ(select(on_send(a, std::move(x)), on_send(b, std::move(y)), on_default()), 2u);
  EXPECT_NE(x, nullptr);
  EXPECT_NE(y, nullptr);
  EXPECT_EQ(select(on_send(a, std::move(x)), on_send(b, std::move(y)), on_timeout(1ms)), 2u);
  EXPECT_NE(x, nullptr);
  EXPECT_NE(y, nullptr);
}

TUCO_TEST(SelectTest, SendsCopiesOfLvaluesAndConvertsOthers) {
  chan<std::string> ch(3);
  const std::string constant = "constant";
  std::string variable = "variable";
  select(on_send(ch, constant), on_default());
  select(on_send(ch, variable), on_default());
  select(on_send(ch, "literal"), on_default());
  EXPECT_EQ(variable, "variable");
  EXPECT_EQ(ch.recv(), "constant");
  EXPECT_EQ(ch.recv(), "variable");
  EXPECT_EQ(ch.recv(), "literal");
}

TUCO_TEST(SelectTest, TakesMoveOnlyValuesToTheHandler) {
  chan<std::unique_ptr<int>> a(1), b(1);
  a.send(std::make_unique<int>(3));
  std::unique_ptr<int> got;
  select(on_recv(a, [&](std::optional<std::unique_ptr<int>> v) { got = std::move(*v); }), on_recv(b));
  ASSERT_NE(got, nullptr);
  EXPECT_EQ(*got, 3);
}

TUCO_TEST(SelectTest, TemporaryHandlesAndViews) {
  const auto make = [] {
    chan<int> ch(1);
    ch.send(1);
    return ch;
  };
  chan<int> other(0);
  EXPECT_EQ(select(on_recv(make()), on_recv(other)), 0u);
  const recv_chan<int> out = make();
  const send_chan<int> in = other;
  EXPECT_EQ(select(on_send(send_chan<int>(in), 1), on_recv(recv_chan<int>(out))), 1u);
}

TUCO_TEST(SelectTest, HandlersMayDoAnything) {
  chan<int> a(1), b(1);
  a.send(1);
  int depth = 0;
  select(on_recv(a, [&](auto) {
           a.send(2);
           select(on_recv(a, [&](auto v) { depth = *v; }), on_recv(b));
         }),
         on_recv(b));
  EXPECT_EQ(depth, 2);
}

TUCO_TEST(SelectTest, ExceptionsOfHandlersLeaveTheSelect) {
  chan<int> a(1), b(1);
  a.send(1);
  EXPECT_THROW(select(on_recv(a, [](auto) { throw std::runtime_error("mine"); }), on_recv(b)),
               std::runtime_error);
  EXPECT_EQ(a.size(), 0u) << "the receive has happened";
}

TUCO_TEST(SelectTest, DifferentTypesInOneSelect) {
  chan<int> numbers(1);
  chan<std::string> words(1);
  words.send("word");
  std::string got;
  EXPECT_EQ(select(on_recv(numbers, [](std::optional<int>) {}),
                   on_recv(words, [&](std::optional<std::string> s) { got = s.value(); })),
            1u);
  EXPECT_EQ(got, "word");
}

struct throwing_move {
  static inline std::atomic<bool> armed{false};
  int value = 0;
  explicit throwing_move(int v) : value(v) {}
  throwing_move(throwing_move&& o) : value(o.value) {
    if (armed.exchange(false)) throw std::runtime_error("no");
    o.value = 0;
  }
};

TUCO_TEST(SelectTest, AThrowingHandOverMakesTheSelectWaitOn) {
  chan<throwing_move> a(0), b(0);
  auto selecting = spawn([=]() mutable {
    int got = 0;
    select(on_recv(a, [&](auto&& v) { got = v->value; }), on_recv(b));
    return got;
  });
  await_waiting(selecting.id(), wait_reason::select);
  throwing_move value(8);
  throwing_move::armed = true;
  EXPECT_THROW(a.send(std::move(value)), std::runtime_error);
  EXPECT_EQ(value.value, 8);
  await_waiting(selecting.id(), wait_reason::select);
  a.send(std::move(value));
  EXPECT_EQ(selecting.join(), 8);
}

// -- selects that meet selects

TUCO_TEST(SelectTest, SelectMeetsSelect) {
  chan<int> a(0), b(0);
  constexpr int rounds = 1'000;
  auto sender = spawn([=]() mutable {
    int sent[2] = {};
    for (int i = 0; i < rounds; ++i) ++sent[select(on_send(a, i), on_send(b, i))];
    return sent[0];
  });
  int got = 0, from_a = 0;
  for (int i = 0; i < rounds; ++i) {
    from_a += select(on_recv(b, [&](auto v) { got = *v; }), on_recv(a, [&](auto v) { got = *v; })) == 1;
    ASSERT_EQ(got, i);
  }
  EXPECT_EQ(sender.join(), from_a);
}

// Go's TestSelectStress in small: senders and receivers over four channels, plain and in selects of
// different orders, each value counted.
TUCO_TEST(SelectTest, StressOverFourChannels) {
  std::array<chan<int>, 4> c{chan<int>(0), chan<int>(0), chan<int>(2), chan<int>(3)};
  constexpr int n = 1'000;
  std::vector<test::spawned<void>> all;
  for (int k = 0; k < 4; ++k) {
    all.push_back(spawn([=]() mutable {
      for (int i = 0; i < n; ++i) c[static_cast<std::size_t>(k)].send(0);
    }));
    all.push_back(spawn([=]() mutable {
      for (int i = 0; i < n; ++i) ASSERT_TRUE(c[static_cast<std::size_t>(k)].recv());
    }));
  }
  all.push_back(spawn([c]() mutable {
    auto left = c;
    int sent[4] = {};
    for (int i = 0; i < 4 * n; ++i) {
      const auto k = select(on_send(left[3], 1), on_send(left[2], 1), on_send(left[0], 1),
                            on_send(left[1], 1));
      constexpr std::size_t channel_of[] = {3, 2, 0, 1};
      if (++sent[channel_of[k]] == n) left[channel_of[k]] = nullptr;
    }
  }));
  all.push_back(spawn([c]() mutable {
    auto left = c;
    int received[4] = {};
    for (int i = 0; i < 4 * n; ++i) {
      const auto k =
          select(on_recv(left[0]), on_recv(left[1]), on_recv(left[2]), on_recv(left[3]));
      if (++received[k] == n) left[k] = nullptr;
    }
  }));
  for (auto& g : all) g.join();
  for (auto& ch : c) EXPECT_EQ(ch.size(), 0u);
}

// The commit action of a parking select walks over the cases while wakers on all its channels are at
// work, and the goroutine leaves as soon as one has won. Run under ASan.
TUCO_TEST(SelectTest, CommitRacesWithWakers) {
  constexpr int rounds = 1'500;
  chan<int> a(0), b(0), c(0);
  std::vector<test::spawned<void>> senders;
  for (auto ch : {a, b, c}) {
    senders.push_back(spawn([=]() mutable {
      for (int i = 0; i < rounds; ++i) ch.send(i);
    }));
  }
  for (int i = 0; i < 3 * rounds; ++i) {
    (void)spawn([] {}).id();  // a stack that is reused at once
    select(on_recv(a), on_recv(b), on_recv(c), on_timeout(1h));
  }
  for (auto& s : senders) s.join();
}

TUCO_TEST(SelectTest, DeadlinesRaceWithWakers) {
  chan<int> a(0), b(0);
  chan<int> stop(0);
  auto sender = spawn([=]() mutable {
    long sent = 0;
    for (int i = 1;; ++i) {
      const auto k = select(on_send(a, 1), on_send(b, 1), on_recv(stop),
                            on_timeout(std::chrono::microseconds(i % 50)));
      if (k == 2) return sent;
      sent += k < 2;
    }
  });
  long received = 0;
  for (int i = 0; i < 3'000; ++i) {
    received += select(on_recv(b), on_recv(a), on_timeout(std::chrono::microseconds(i % 40))) < 2;
  }
  stop.close();
  EXPECT_EQ(sender.join(), received);
}

// -- number of cases known at run time

TUCO_TEST(SelectTest, DynamicChoosesWhatIsReady) {
  chan<int> a(1);
  chan<std::string> b(1);
  std::optional<int> number;
  std::string word = "w";
  std::vector<select_case> cases{select_case::recv(a, number), select_case::send(b, word)};
  EXPECT_EQ(select_cases(cases), 1u);
  EXPECT_EQ(word, "");
  a.send(5);
  EXPECT_EQ(select_cases(cases), 0u);
  EXPECT_EQ(number, 5);
  EXPECT_EQ(try_select_cases(cases), std::nullopt);
  EXPECT_EQ(select_cases_for(cases, 1ms), std::nullopt);
  a.close();
  EXPECT_EQ(select_cases(cases), 0u);
  EXPECT_EQ(number, std::nullopt) << "closed and drained";
}

TUCO_TEST(SelectTest, DynamicOverManyChannels) {
  constexpr std::size_t n = 300;
  std::vector<chan<int>> channels;
  std::vector<std::optional<int>> places(n);
  std::vector<select_case> cases;
  for (std::size_t i = 0; i < n; ++i) {
    channels.emplace_back(0);
    cases.push_back(select_case::recv(channels.back(), places[i]));
    cases.push_back(select_case::recv(channels.back(), places[i]));
    cases.emplace_back();
  }
  auto sender = spawn([=]() mutable {
    for (std::size_t i = 0; i < n; ++i) channels[(i * 7) % n].send(static_cast<int>(i));
  });
  std::vector<bool> seen(n);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t chosen = select_cases(cases) / 3;
    EXPECT_FALSE(seen[chosen]);
    seen[chosen] = true;
    EXPECT_EQ((static_cast<std::size_t>(*places[chosen]) * 7) % n, chosen);
  }
  sender.join();
}

TUCO_TEST(SelectTest, DynamicCasesHoldTheirChannels) {
  std::optional<int> place;
  std::vector<select_case> cases;
  {
    chan<int> ch(1);
    ch.send(3);
    cases.push_back(select_case::recv(ch, place));
  }
  const auto copy = cases;
  cases = copy;
  EXPECT_EQ(select_cases(cases), 0u);
  EXPECT_EQ(place, 3);
}

}  // namespace
}  // namespace tuco
