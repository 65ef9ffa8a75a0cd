// SPDX-License-Identifier: Apache-2.0
// Whoever returns from wait() may destroy the wait_group at once: the last done() touches it no more.
//
// MUTANTS: zero_is_enough zero_relaxed lock_relaxed lock_after_zero woken_under_lock
//
// The shape is that of sync/wait_group.cpp. The counter and the number of waiters share one word.
//
//   the last done(), with waiters               wait()
//   D1  line.lock: exchange(1, acquire)         W1  state.load(acquire): counter 0?
//   D2  state.cas(-> 0, acq_rel)                W2  lock_word.load(acquire) == 0? return
//   D3  take all waiters out of the line        W3  else lock; state.load(acquire): 0: unlock, return
//   D4  line.unlock: store(0, release)          W4  else state.cas(+1 waiter), into the line, park
//   D5  ready() for each: on their own stacks   W5  woken: return
//   without waiters: state.cas alone, nothing else
//
// Claim      When wait() returns, D4 has happened; after D4 done() touches nothing of the wait_group.
// Proof      W1 that reads D2's zero sees D1 (D2 releases): so W2 reads D1's 1 or later. A 0 is D4's: it
//            has happened, and with it all that is before. By W3: the lock is free after D4 only, or
//            before D1, and then the state is not 0. By W5: D5 is after D4.
//            A zero that was stored without waiters was the last thing that its done() did.
// Pairs      D2 with W1, D4 with W2.
// Too weak   W1 alone: D3 and D4 are still to come, on freed memory. W1 or W2 relaxed: W2 may read the 0 from
//            before D1, or what D3 did does not happen before the caller's delete.
//            D2 before D1: then a zero says nothing about the lock. D5 before D4: the woken one frees it.
// Test       this file. The waiter that returns destroys: every later access of done() is a data race.
#include "model.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct bugs {
  bool zero_is_enough = false;
  bool zero_relaxed = false;
  bool lock_relaxed = false;
  bool lock_after_zero = false;
  bool woken_under_lock = false;
};

constexpr unsigned one = 16;  // the counter above, the number of waiters below
constexpr unsigned waiters_of(unsigned state) { return state % one; }

template <bugs B, bool Early>
struct suite : rl::test_suite<suite<B, Early>, 3> {
  static constexpr const char* goals[] = {"zero and the lock free", "zero, and done() still inside", "waited in line"};

  atomic<unsigned> state{0};
  atomic<unsigned> lock_word{0};
  var<int> memory{0};  // the wait_group's: touched by all who use it, and by whoever destroys it
  var<int> line{0};
  event woken[2];      // on the waiters' stacks
  bool in_line[2] = {};

  void before() {
    state.store(2 * one, order::relaxed);
    lock_word.store(0, order::relaxed);
    if (!Early) {  // somebody waits already: the last done() goes through the line
      reached(2);
      state.store(2 * one + 1, order::relaxed);
      in_line[1] = true;
      line.set(1);
    }
  }

  void thread(unsigned index) {
    if (index < 2) return done();
    wait();
    memory.set(-1);  // destroyed
  }

  void touch() { MODEL_ASSERT(memory.get() >= 0); }

  void lock() {
    while (lock_word.exchange(1, order::acquire) != 0) spin();
  }

  void done() {
    touch();
    unsigned old = state.load(order::relaxed);
    while (old / one != 1 || waiters_of(old) == 0) {
      touch();
      if (state.compare_exchange_weak(old, old - one, order::acq_rel, order::relaxed)) return;
    }
    touch();
    if (!B.lock_after_zero) lock();                                                              // D1
    old = state.load(order::relaxed);
    unsigned now;
    do {
      now = old - one;
      if (now / one == 0) now = 0;
    } while (!state.compare_exchange_weak(old, now, order::acq_rel, order::relaxed));            // D2
    if (B.lock_after_zero) lock();
    bool wake[2] = {};
    if (now == 0) {
      touch();
      line.set(0);                                                                               // D3
      for (int i = 0; i < 2; ++i) wake[i] = in_line[i];
    }
    if (B.woken_under_lock) post(wake);
    touch();
    lock_word.store(0, order::release);                                                          // D4
    if (!B.woken_under_lock) post(wake);                                                         // D5
  }

  void post(const bool (&wake)[2]) {
    for (int i = 0; i < 2; ++i) {
      if (wake[i]) woken[i].post();
    }
  }

  void wait() {
    const bool zero = state.load(B.zero_relaxed ? order::relaxed : order::acquire) / one == 0;   // W1
    if (zero) {
      if (B.zero_is_enough) return;
      if (lock_word.load(B.lock_relaxed ? order::relaxed : order::acquire) == 0) {               // W2
        reached(0);
        if (Early) reached(1);
        return;
      }
      reached(1);
    }
    lock();                                                                                      // W3
    unsigned old = state.load(order::acquire);
    do {
      if (old / one == 0) {
        lock_word.store(0, order::release);
        return;
      }
    } while (!state.compare_exchange_weak(old, old + 1, order::acq_rel, order::acquire));        // W4
    line.add(1);
    in_line[0] = true;
    lock_word.store(0, order::release);  // the commit action
    woken[0].wait();                                                                             // W5
    reached(2);
  }

  void after() { MODEL_ASSERT(state.peek() == 0); }
};

template <bugs B>
using beside_a_waiter = suite<B, false>;
template <bugs B>
using alone = suite<B, true>;

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<beside_a_waiter<bugs{}>>("a second waiter, beside one in line");
  m.correct<alone<bugs{}>>("the only waiter");
  m.mutant<beside_a_waiter<bugs{.zero_is_enough = true}>>("zero_is_enough");
  m.mutant<beside_a_waiter<bugs{.zero_relaxed = true}>>("zero_relaxed");
  m.mutant<beside_a_waiter<bugs{.lock_relaxed = true}>>("lock_relaxed");
  m.mutant<beside_a_waiter<bugs{.lock_after_zero = true}>>("lock_after_zero");
  m.mutant<alone<bugs{.woken_under_lock = true}>>("woken_under_lock");
  return m.run();
}
