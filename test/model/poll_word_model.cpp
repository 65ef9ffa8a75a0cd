// SPDX-License-Identifier: Apache-2.0
// poll/poll_word.hpp, the real text: no goroutine sleeps on an edge, a closing or an end of stream that
// it does not know of, and no notifier reaches into a later wait.
//
// MUTANTS: orders_weak state_not_seq_cst end_not_seq_cst commit_by_store untagged no_withdraw
//
// The argument, in three parts, is at the code. The waiter here is io/net_fd.cpp's wait_parked().
// What is broken in the word itself is broken from outside, by the policy.
#include "model.hpp"
#include "poll/poll_word.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct bugs {
  bool orders_weak = false;        // the word's seq_cst operations are acquire and release
  bool state_not_seq_cst = false;  // K1, W2
  bool end_not_seq_cst = false;    // III
  bool commit_by_store = false;    // W3
  bool untagged = false;           // a wait with a deadline that does not say so
  bool no_withdraw = false;        // D2
};

template <bugs B>
struct broken_atomics {
  template <class T>
  class atomic : public model::atomic<T> {
    using base = model::atomic<T>;
    static order weaker(order o, order instead) {
      return B.orders_weak && o == order::seq_cst ? instead : o;
    }

   public:
    using base::base;
    T load(order o, where w = where::current()) const {
      return base::load(weaker(o, order::acquire), w);
    }
    T exchange(T v, order o, where w = where::current()) {
      return base::exchange(v, weaker(o, order::acq_rel), w);
    }
    bool compare_exchange_strong(T& expected, T v, order success, order failure,
                                 where w = where::current()) {
      if (B.commit_by_store && expected == poll::poll_word<>::waiting &&
          v > poll::poll_word<>::tag_mask) {
        if (base::load(order::seq_cst, w) != expected) return false;
        base::store(v, order::seq_cst, w);
        return true;
      }
      return base::compare_exchange_strong(expected, v, weaker(success, order::acq_rel),
                                           weaker(failure, order::acquire), w);
    }
  };
  static void full_fence() noexcept { atomics::full_fence(); }
  static void compiler_barrier() noexcept {}
};

constexpr unsigned unclaimed = 0;
constexpr unsigned by_event = 1;
constexpr unsigned by_channel = 50;
constexpr unsigned by_deadline = 100;

struct goroutine {
  alignas(8) char address = 0;
  atomic<unsigned> claim{unclaimed};
  event resume;
  bool waiting = false;  // parked or about to, and not readied

  std::uintptr_t self() { return reinterpret_cast<std::uintptr_t>(&address); }
  void ready() {
    MODEL_ASSERT(waiting);
    waiting = false;
    resume.post();
  }
  bool try_claim(unsigned by) {
    unsigned seen = unclaimed;
    return claim.compare_exchange_strong(seen, by, order::acq_rel, order::acquire);
  }
};

template <bugs B>
struct descriptor {
  using word_type = poll::poll_word<broken_atomics<B>>;
  word_type word;
  atomic<int> available{0};  // what the kernel holds
  atomic<int> closing{0};
  atomic<int> ended{0};

  void edge(goroutine& g) {
    const auto taken = word.notify([&](std::uintptr_t) { return g.try_claim(by_event); });
    if (taken.goroutine != 0 && taken.won) g.ready();
  }
  void kick(goroutine& g) {
    const auto taken = word.kick([&](std::uintptr_t) { return g.try_claim(by_event); });
    if (taken.goroutine != 0 && taken.won) g.ready();
  }
  /// The system call: the kernel's lock makes it see all that came before, hence read-modify-writes.
  bool try_read() {
    if (available.fetch_sub(1, order::acq_rel) > 0) return true;
    available.fetch_add(1, order::acq_rel);
    return false;
  }
};

// Two bytes arrive, one by one; then the descriptor is closed. The waiter reads both, then waits for
// the closing.
template <bugs B>
struct edges : rl::test_suite<edges<B>, 3> {
  static constexpr const char* goals[] = {"parked", "an edge was waiting", "an edge came in between",
                                          "closed before parking"};
  descriptor<B> d;
  goroutine g;
  int read = 0;
  bool closed = false;

  void thread(unsigned index) {
    if (index == 0) {
      waiter();
    } else if (index == 1) {
      for (int i = 0; i < 2; ++i) {
        d.available.fetch_add(1, order::acq_rel);
        d.edge(g);
      }
    } else {
      all_read.wait();
      d.closing.store(1, B.state_not_seq_cst ? order::release : order::seq_cst);  // K1
      d.kick(g);
    }
  }

  void waiter() {
    while (!closed) {
      while (d.try_read()) ++read;
      if (read == 2 && !told) {
        told = true;
        all_read.post();
      }
      if (!d.word.arm()) {                                                        // W1
        reached(1);
        continue;
      }
      if (d.closing.load(B.state_not_seq_cst ? order::acquire : order::seq_cst) != 0) {  // W2
        d.word.disarm();
        closed = true;
        reached(3);
        break;
      }
      g.waiting = true;
      if (!d.word.commit(g.self())) {                                             // W3
        g.waiting = false;
        reached(2);
        continue;
      }
      reached(0);
      g.resume.wait();
    }
  }

  void after() { MODEL_ASSERT(read == 2 && closed); }

  event all_read;
  bool told = false;
};

// A wait with a deadline, and then another wait of the same goroutine, in a channel. An edge, the
// deadline and the channel's other side race.
template <bugs B>
struct deadlines : rl::test_suite<deadlines<B>, 4> {
  static constexpr const char* goals[] = {"the deadline won", "the edge won",
                                          "withdrawn while a notifier claims"};
  descriptor<B> d;
  goroutine g;
  mutex heap;
  var<bool> queued{false};
  mutex channel;
  var<bool> in_line{false};
  var<bool> sent{false};

  void thread(unsigned index) {
    switch (index) {
      case 0: waiter(); break;
      case 1: d.edge(g); break;
      case 2: expire(); break;
      case 3: send(); break;
    }
  }

  void waiter() {
    if (d.word.arm()) {
      // park_until(): the deadline is queued first, then the word is told, both by the commit action.
      g.claim.store(unclaimed, order::relaxed);
      g.waiting = true;
      heap.lock();
      queued.set(true);
      heap.unlock();
      const std::uintptr_t tag = B.untagged ? 0 : poll::poll_word<>::has_deadline;
      bool parked = d.word.commit(g.self() | tag);
      if (!parked) {
        // The deadline may have been faster: then the goroutine is as good as woken.
        heap.lock();
        const bool removed = queued.get();
        queued.set(false);
        heap.unlock();
        if (removed) {
          g.waiting = false;
        } else {
          parked = true;
        }
      }
      if (parked) {
        g.resume.wait();
        heap.lock();
        queued.set(false);
        heap.unlock();
        if (g.claim.load(order::acquire) == by_deadline) {
          reached(0);
          if (!B.no_withdraw) {
            d.word.withdraw(g.self() | tag, [&] {
              reached(2);
              spin();
            });
          }
        } else {
          reached(1);
        }
      }
    }
    // The next wait.
    channel.lock();
    if (sent.get()) {
      channel.unlock();
      return;
    }
    g.claim.store(unclaimed, order::relaxed);
    g.waiting = true;
    in_line.set(true);
    channel.unlock();
    g.resume.wait();
    MODEL_ASSERT(g.claim.load(order::acquire) == by_channel);
  }

  void expire() {
    for (int i = 0; i < 2; ++i) {
      heap.lock();
      const bool won = queued.get() && g.try_claim(by_deadline);
      if (queued.get()) queued.set(false);
      heap.unlock();
      if (won) {
        g.ready();
        return;
      }
      spin();
    }
    // It passes sooner or later.
    d.edge(g);
  }

  void send() {
    channel.lock();
    const bool won = in_line.get() && g.try_claim(by_channel);
    if (!won) sent.set(true);
    channel.unlock();
    if (won) g.ready();
  }
};

// The stream ends while an older edge lies in the word, not consumed yet.
template <bugs B>
struct end_of_stream : rl::test_suite<end_of_stream<B>, 2> {
  static constexpr const char* goals[] = {"parked", "the old edge was consumed"};
  descriptor<B> d;
  goroutine g;

  void before() { d.edge(g); }

  void thread(unsigned index) {
    const order store = B.end_not_seq_cst ? order::release : order::seq_cst;
    const order load = B.end_not_seq_cst ? order::acquire : order::seq_cst;
    if (index == 1) {
      d.ended.store(1, store);
      d.edge(g);
      return;
    }
    while (d.ended.load(load) == 0) {
      if (!d.word.arm()) {
        reached(1);
        continue;
      }
      g.waiting = true;
      if (!d.word.commit(g.self())) {
        g.waiting = false;
        continue;
      }
      reached(0);
      g.resume.wait();
    }
  }
};

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<edges<bugs{}>>("edges and closing", {.random = 200'000, .bound = 3});
  m.correct<deadlines<bugs{}>>("deadlines", {.random = 200'000, .bound = 3});
  m.correct<end_of_stream<bugs{}>>("end of stream", {.bound = 6});
  m.mutant<edges<bugs{.orders_weak = true}>>("orders_weak");
  m.mutant<edges<bugs{.state_not_seq_cst = true}>>("state_not_seq_cst");
  m.mutant<end_of_stream<bugs{.end_not_seq_cst = true}>>("end_not_seq_cst");
  m.mutant<edges<bugs{.commit_by_store = true}>>("commit_by_store");
  m.mutant<deadlines<bugs{.untagged = true}>>("untagged");
  m.mutant<deadlines<bugs{.no_withdraw = true}>>("no_withdraw");
  return m.run();
}
