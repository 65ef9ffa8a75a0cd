// SPDX-License-Identifier: Apache-2.0
// The worker that sleeps in the poller does not sleep past a timer, whenever that is added.
//
// MUTANTS: no_adder_fence no_sleeper_fence no_second_look interrupt_forgotten added_late
//
// The shape is that of sched/find_work.cpp (sleep_in_poller, timer_became_earliest) and of the
// argument at timer::heap::next().
//
//   add, on any processor                        sleep, by the one worker in the poller's seat
//   A1  heap.next.store(when)                    L1  poller_deadline.store(d)
//   A2  full_fence()                             L2  full_fence()
//   A3  d = poller_deadline.load(): asleep,      L3  d' = earliest of all heap.next.load();
//       and when < d: interrupt the poller           d' < d: again from L1 with d'
//                                                L4  sleep until d or an interrupt
//                                                L5  poller_deadline.store(0): awake
//
// Claim      When the worker sleeps (L4) and nobody is between A1 and A3, d is not later than any timer.
// Proof      A2 first in the order of fences: L3 sees A1 or a later value of the same word, and later
//            values are set by whoever has taken the timer out. L2 first: A3 sees L1, or a
//            later value: 0 means that the worker is awake and will pass L1 to L3 again, after our A2.
//            The interrupt may come before L4: the poller's eventfd remembers it.
// Pairs      The fences. The words carry no data, so relaxed is enough: timers are taken under the
//            heap's lock.
// Too weak   Without A2 or L2 both miss, x86 included. Without L3 a timer that was added before L1 is
//            slept past. An interrupt that is not remembered is lost between L3 and L4. A1 after A3:
//            the adder looked before there was anything to see.
// Test       this file. Time stands still in it: a sleep ends by itself only if it was for the
//            earliest timer there is; any other must be interrupted, or the checker reports a deadlock.
#include "model.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct bugs {
  bool no_adder_fence = false;
  bool no_sleeper_fence = false;
  bool no_second_look = false;
  bool interrupt_forgotten = false;
  bool added_late = false;
};

constexpr int never = 1000;
constexpr int awake = 0;

template <bugs B, int Adders>
struct suite : rl::test_suite<suite<B, Adders>, 1 + Adders> {
  static constexpr const char* goals[] = {"interrupted", "the second look finds a timer",
                                          "slept for the earliest"};

  atomic<int> next[Adders];       // one heap for each adder
  atomic<int> poller_deadline{awake};
  event poller;                   // the eventfd
  bool in_poller = false;
  int pending[Adders];            // the truth, for sleep(): timers that have not fired

  void before() {
    for (int i = 0; i < Adders; ++i) {
      next[i].store(never, order::relaxed);
      pending[i] = when(i);
    }
  }

  static int when(int adder) { return 100 - 10 * adder; }

  void thread(unsigned index) {
    if (index != 0) {
      add(static_cast<int>(index) - 1);
      return;
    }
    for (int fired = 0; fired < Adders;) fired += sleep();
  }

  void add(int i) {
    if (!B.added_late) next[i].store(when(i), order::relaxed);                  // A1
    if (!B.no_adder_fence) atomics::full_fence();                               // A2
    const int d = poller_deadline.load(order::relaxed);                         // A3
    if (B.added_late) next[i].store(when(i), order::relaxed);
    if (d != awake && when(i) < d) interrupt();
  }

  void interrupt() {
    if (B.interrupt_forgotten && !in_poller) return;
    poller.post();
  }

  int earliest() {
    int d = never;
    for (auto& n : next) d = std::min(d, n.load(order::relaxed));
    return d;
  }

  /// @return How many timers fired.
  int sleep() {
    int d = earliest();
    for (;;) {
      poller_deadline.store(d, order::relaxed);                                 // L1
      if (!B.no_sleeper_fence) atomics::full_fence();                           // L2
      if (B.no_second_look) break;
      const int again = earliest();                                             // L3
      if (again >= d) break;
      reached(1);
      d = again;
    }
    in_poller = true;                                                           // L4
    if (d != *std::min_element(std::begin(pending), std::end(pending))) {
      poller.wait();
      reached(0);
    } else {
      reached(2);
    }
    in_poller = false;
    poller_deadline.store(awake, order::relaxed);                               // L5
    // What is due is taken under the heap's lock, hence by a read-modify-write here.
    int fired = 0;
    for (int i = 0; i < Adders; ++i) {
      const int n = next[i].load(order::relaxed);
      if (n == never || n > d) continue;
      if (next[i].exchange(never, order::acq_rel) == never) continue;
      pending[i] = never;
      ++fired;
    }
    return fired;
  }
};

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<suite<bugs{}, 1>>("one adder", {.bound = 6});
  m.correct<suite<bugs{}, 2>>("two adders", {.bound = 3});
  m.mutant<suite<bugs{.no_adder_fence = true}, 1>>("no_adder_fence");
  m.mutant<suite<bugs{.no_sleeper_fence = true}, 1>>("no_sleeper_fence");
  m.mutant<suite<bugs{.no_second_look = true}, 1>>("no_second_look");
  m.mutant<suite<bugs{.interrupt_forgotten = true}, 1>>("interrupt_forgotten");
  m.mutant<suite<bugs{.added_late = true}, 1>>("added_late");
  return m.run();
}
