// SPDX-License-Identifier: Apache-2.0
// Random programs against the obvious channel.
//
// The reference below is a channel written for reading: two deques of waiters and one of values, one
// step at a time. A program is a random sequence of operations (send, receive, their try and timed
// forms, close, select over both channels), each in a goroutine of its own. After each step the test
// waits until all goroutines have ended or are parked, and then every operation must be where the
// reference has it: still parked, or done with this value, this case, this error. Where Go leaves a
// choice (a select with several ready cases) the reference checks that the choice was one of them and
// follows it.
//
// The seed is part of every failure; run it again with TUCO_TEST_SEED.
#include <algorithm>
#include <deque>
#include <random>

#include <tuco/select.hpp>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

enum class outcome { pending, ok, closed, threw, would_block };

struct result {
  outcome what = outcome::pending;
  std::size_t chosen = 0;  // selects
  int value = 0;           // receives
  bool operator==(const result&) const = default;
};

std::ostream& operator<<(std::ostream& out, const result& r) {
  constexpr const char* names[] = {"pending", "ok", "closed", "threw", "would_block"};
  return out << names[static_cast<int>(r.what)] << " case " << r.chosen << " value " << r.value;
}

struct operation {
  result got;                    // written by its goroutine before `done`
  std::atomic<bool> done{false};
  result expected;
};

struct select_step {
  std::size_t channel;
  bool sends;
  int value;
};

class reference {
 public:
  struct waiter {
    operation* op;
    std::size_t chosen;
    int value;
  };
  struct line_pair {
    std::size_t capacity = 0;
    bool closed = false;
    std::deque<int> buffer;
    std::deque<waiter> senders, receivers;
  };

  explicit reference(std::vector<std::size_t> capacities) {
    for (const auto c : capacities) channels.push_back({c, false, {}, {}, {}});
  }

  bool can_send(std::size_t c) const {
    const line_pair& ch = channels[c];
    return ch.closed || !ch.receivers.empty() || ch.buffer.size() < ch.capacity;
  }
  bool can_recv(std::size_t c) const {
    const line_pair& ch = channels[c];
    return ch.closed || !ch.senders.empty() || !ch.buffer.empty();
  }

  result send_now(std::size_t c, int value, std::size_t chosen = 0) {
    line_pair& ch = channels[c];
    if (ch.closed) return {outcome::threw, 0, 0};
    if (!ch.receivers.empty()) finish(ch.receivers.front(), outcome::ok, value);
    else ch.buffer.push_back(value);
    return {outcome::ok, chosen, 0};
  }

  result recv_now(std::size_t c, std::size_t chosen = 0) {
    line_pair& ch = channels[c];
    if (!ch.buffer.empty()) {
      const int value = ch.buffer.front();
      ch.buffer.pop_front();
      if (!ch.senders.empty()) {
        ch.buffer.push_back(ch.senders.front().value);
        finish(ch.senders.front(), outcome::ok, 0);
      }
      return {outcome::ok, chosen, value};
    }
    if (!ch.senders.empty()) {
      const int value = ch.senders.front().value;
      finish(ch.senders.front(), outcome::ok, 0);
      return {outcome::ok, chosen, value};
    }
    return {outcome::closed, chosen, 0};
  }

  void wait(std::size_t c, bool sends, waiter w) {
    (sends ? channels[c].senders : channels[c].receivers).push_back(w);
  }

  result close(std::size_t c) {
    line_pair& ch = channels[c];
    if (ch.closed) return {outcome::threw, 0, 0};
    ch.closed = true;
    while (!ch.receivers.empty()) finish(ch.receivers.front(), outcome::closed, 0);
    while (!ch.senders.empty()) finish(ch.senders.front(), outcome::threw, 0);
    return {outcome::ok, 0, 0};
  }

  std::vector<line_pair> channels;

 private:
  void finish(waiter w, outcome what, int value) {  // by value: it lies in what is erased
    w.op->expected = {what, what == outcome::threw ? 0 : w.chosen, value};
    for (line_pair& ch : channels) {
      std::erase_if(ch.senders, [&](const waiter& x) { return x.op == w.op; });
      std::erase_if(ch.receivers, [&](const waiter& x) { return x.op == w.op; });
    }
  }
};

class program {
 public:
  explicit program(std::uint64_t seed) : random_(seed), model_({random_() % 4, random_() % 2}) {
    for (const auto& ch : model_.channels) channels_.emplace_back(ch.capacity);
  }

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      step();
      check();
      if (::testing::Test::HasFailure()) ADD_FAILURE() << "that was step " << i;
    }
    for (std::size_t c = 0; c < channels_.size(); ++c) {  // nobody may be left parked
      start([ch = channels_[c]] { return guarded([&] { return ch.close(), result{outcome::ok, 0, 0}; }); })
          .expected = model_.close(c);
      check();
    }
  }

 private:
  template <class F>
  static result guarded(F f) {
    try {
      return f();
    } catch (const closed_error&) {
      return {outcome::threw, 0, 0};
    }
  }

  template <class F>
  operation& start(F f) {
    operation& op = operations_.emplace_back();
    tuco::go([&op, f] {
      op.got = f();
      op.done.store(true, std::memory_order_release);
    });
    return op;
  }

  static result from(const std::optional<int>& v, std::size_t chosen = 0) {
    return v ? result{outcome::ok, chosen, *v} : result{outcome::closed, chosen, 0};
  }
  static result from(chan_status s, int value) {
    if (s == chan_status::ok) return {outcome::ok, 0, value};
    return {s == chan_status::closed ? outcome::closed : outcome::would_block, 0, 0};
  }

  void step() {
    const std::size_t c = random_() % channels_.size();
    const chan<int> ch = channels_[c];
    const int value = next_value_++;
    switch (random_() % 16) {
      case 0: case 1: case 2: case 3: {
        operation& op = start([=] {
          return guarded([&] { return ch.send(value), result{outcome::ok, 0, 0}; });
        });
        if (model_.can_send(c)) op.expected = model_.send_now(c, value);
        else model_.wait(c, true, {&op, 0, value});
        break;
      }
      case 4: case 5: case 6: case 7: {
        operation& op = start([=] { return from(ch.recv()); });
        if (model_.can_recv(c)) op.expected = model_.recv_now(c);
        else model_.wait(c, false, {&op, 0, 0});
        break;
      }
      case 8: {
        operation& op = start([=] {
          return guarded([&] { return from(ch.try_send(value), 0); });
        });
        op.expected = model_.can_send(c) ? model_.send_now(c, value)
                                         : result{outcome::would_block, 0, 0};
        break;
      }
      case 9: {
        operation& op = start([=] {
          int out = 0;
          const chan_status s = ch.try_recv(out);
          return from(s, out);
        });
        op.expected = model_.can_recv(c) ? model_.recv_now(c) : result{outcome::would_block, 0, 0};
        break;
      }
      case 10: {
        operation& op = start([=] {
          int out = 0;
          const chan_status s = ch.recv_for(out, std::chrono::microseconds(20));
          return from(s, out);
        });
        op.expected = model_.can_recv(c) ? model_.recv_now(c) : result{outcome::would_block, 0, 0};
        break;
      }
      case 11: {
        if (random_() % 8 != 0) break;
        operation& op = start([=] {
          return guarded([&] { return ch.close(), result{outcome::ok, 0, 0}; });
        });
        op.expected = model_.close(c);
        break;
      }
      default: select_both(value);
    }
  }

  void select_both(int value) {
    std::vector<select_step> cases;
    for (std::size_t i = 0, n = 1 + random_() % 4; i < n; ++i) {
      cases.push_back({random_() % channels_.size(), random_() % 2 == 0, value});
    }
    // Cases that want the same of the same channel cannot be told apart: they count as the first.
    std::vector<std::size_t> same(cases.size());
    for (std::size_t i = 0; i < cases.size(); ++i) {
      while (cases[same[i]].channel != cases[i].channel || cases[same[i]].sends != cases[i].sends) {
        ++same[i];
      }
    }
    const bool has_default = random_() % 3 == 0;
    operation& op = start([=, channels = channels_] {
      std::vector<std::optional<int>> places(cases.size());
      std::vector<int> values(cases.size(), value);
      std::vector<select_case> list;
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const chan<int>& ch = channels[cases[i].channel];
        list.push_back(cases[i].sends ? select_case::send(ch, values[i])
                                      : select_case::recv(ch, places[i]));
      }
      return guarded([&] {
        const auto chosen = has_default ? try_select_cases(list) : select_cases(list);
        if (!chosen) return result{outcome::would_block, 0, 0};
        return cases[*chosen].sends ? result{outcome::ok, same[*chosen], 0}
                                    : from(places[*chosen], same[*chosen]);
      });
    });
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto& k = cases[i];
      if (k.sends ? model_.can_send(k.channel) : model_.can_recv(k.channel)) ready.push_back(i);
    }
    if (ready.empty()) {
      if (has_default) op.expected = {outcome::would_block, 0, 0};
      else {
        for (std::size_t i = 0; i < cases.size(); ++i) {
          model_.wait(cases[i].channel, cases[i].sends, {&op, same[i], value});
        }
      }
      return;
    }
    ASSERT_TRUE(test::await([&] { return op.done.load(std::memory_order_acquire); }, "a ready select"));
    std::size_t chosen = op.got.chosen;
    if (op.got.what == outcome::threw) {  // which of the closed ones cannot be told, nor matters
      for (const std::size_t i : ready) {
        if (cases[i].sends && model_.channels[cases[i].channel].closed) chosen = i;
      }
    }
    ASSERT_NE(std::find(ready.begin(), ready.end(), chosen), ready.end()) << "was not ready: " << chosen;
    op.expected = cases[chosen].sends ? model_.send_now(cases[chosen].channel, value, chosen)
                                      : model_.recv_now(cases[chosen].channel, chosen);
  }

  void check() {
    std::size_t parked = 0;
    for (const operation& op : operations_) parked += op.expected.what == outcome::pending;
    test::await_parked(parked);
    for (operation& op : operations_) {
      const bool done = op.done.load(std::memory_order_acquire);
      ASSERT_EQ(done, op.expected.what != outcome::pending);
      if (done) {
        ASSERT_EQ(op.got, op.expected);
      }
    }
    for (std::size_t c = 0; c < channels_.size(); ++c) {
      ASSERT_EQ(channels_[c].size(), model_.channels[c].buffer.size());
    }
    while (!operations_.empty() && operations_.front().done.load(std::memory_order_relaxed)) {
      operations_.pop_front();
    }
  }

  std::mt19937_64 random_;
  reference model_;
  std::vector<chan<int>> channels_;
  std::deque<operation> operations_;  // addresses stay: grows at the end, shrinks at the front
  int next_value_ = 1;
};

class ChanModelTest : public test::runtime_test {};
TUCO_PROCESSORS(ChanModelTest);

TUCO_TEST(ChanModelTest, RandomProgramsAgreeWithTheReference) {
  const std::uint64_t first = test::seed();
  for (std::uint64_t i = 0; i < 40; ++i) {
    program(first + i).run(60);
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << "again with TUCO_TEST_SEED=" << first + i;
      return;
    }
  }
}

// Without goroutines: what never parks, against a deque.
TUCO_TEST(ChanModelTest, TryOperationsAgreeWithADeque) {
  const std::uint64_t seed = test::seed();
  std::mt19937_64 random(seed);
  for (const std::size_t capacity : {0u, 1u, 4u, 7u}) {
    chan<std::unique_ptr<int>> ch(capacity);
    std::deque<int> model;
    for (int i = 0; i < 10'000; ++i) {
      if (random() % 2 == 0) {
        const auto want = model.size() < capacity ? chan_status::ok : chan_status::would_block;
        ASSERT_EQ(ch.try_send(std::make_unique<int>(i)), want) << "step " << i;
        if (want == chan_status::ok) model.push_back(i);
      } else {
        std::unique_ptr<int> got;
        const auto want = model.empty() ? chan_status::would_block : chan_status::ok;
        ASSERT_EQ(ch.try_recv(got), want) << "step " << i;
        if (want == chan_status::ok) {
          ASSERT_EQ(*got, model.front()) << "step " << i;
          model.pop_front();
        }
      }
      ASSERT_EQ(ch.size(), model.size()) << "TUCO_TEST_SEED=" << seed;
    }
  }
}

}  // namespace
}  // namespace tuco
