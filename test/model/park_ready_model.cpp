// SPDX-License-Identifier: Apache-2.0
// A goroutine is run by another worker only after all of it is in memory, is woken once for each
// park, and is never woken too early.
//
// MUTANTS: unlock_before_save waiting_after_unlock queue_relaxed node_after_ready ready_under_no_lock
//
// The parking goroutine cannot unlock what guards its waiter and then save its registers: a waker could
// run it in between, on a stack that is still in use. So the *next* context does the rest for it
// (sched/switch.cpp, finish_switch; sched/park.hpp, commit action).
//
//   goroutine G on worker M                    waker on another worker
//   P1  lock; look: must wait                  R1  lock
//   P2  waiter node on G's stack, linked       R2  unlink the node; fill it in
//   P3  switch: G's registers saved            R3  unlock
//   -- on the next context, on M               R4  status.store(runnable, release)
//   P4  status.store(waiting, release)         R5  into a run queue (release)
//   P5  commit action: unlock                  -- whoever dequeues (acquire)
//                                              X1  status.store(running), pins (pin_model.cpp)
//                                              X2  switch to G
//
// Claim      X2 happens after P3. Between P3 and X2 nobody runs on G's stack. R4 follows P4.
// Proof      The node is reachable only under the lock. P1 to P5 is one critical section, R1 to R3
//            another, and the waker's R1 saw the node, so P5 happens before R1. All of P3 and P4 is
//            before P5. R5 and the dequeue carry it on to X2.
//            Once for each park: R2 unlinks, so no second waker finds the node.
// Pairs      P5 with R1 (the lock), R5 with the dequeue.
// Too weak   P5 before P3: G runs on two workers at once. P4 after P5: `waiting` overwrites the waker's
//            `runnable`; a reader of the status, or of the dump, sees a goroutine that waits and runs.
//            R5 relaxed: the worker that runs G may see old registers.
//            The node is gone with R5: G may run to the end of the function that holds it. So
//            R2 reads from it what R4 and R5 need.
// Enough     P4 need not be release for the waker, who gets it by the lock; it is for readers that pin.
#include "model.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

enum status_value : unsigned { runnable, running, waiting, dead };

struct bugs {
  bool unlock_before_save = false;
  bool waiting_after_unlock = false;
  bool queue_relaxed = false;
  bool node_after_ready = false;
  bool ready_under_no_lock = false;
};

struct goroutine;

struct waiter {
  goroutine* g = nullptr;
  var<int> result{0};
};

// What is waited for: a value that one waker delivers. Everything is guarded by the lock.
struct object {
  mutex lock;
  var<bool> arrived{false};
  var<waiter*> line{nullptr};
};

// A goroutine is its saved step, its stack and where it waits; whoever runs it plays it.
struct goroutine {
  atomic<unsigned> status{runnable};
  var<int> context{0};  // the step to go on with: what the switch saves
  var<int> stack{0};
  waiter node;          // on the stack
};

template <bugs B>
struct suite : rl::test_suite<suite<B>, 4> {
  static constexpr int parks = 2;
  static constexpr const char* goals[] = {"parked", "the value was there", "resumed elsewhere"};

  goroutine g;
  object objects[parks];
  atomic<goroutine*> queue{nullptr};
  atomic<int> ended{0};
  int ready_count = 0;
  int park_count = 0;

  void before() {
    g.node.g = &g;
    queue.store(&g, order::relaxed);
  }

  // Two workers that run what is in the queue; two that first wake, then do the same.
  void thread(unsigned index) {
    if (index >= 2) wake(objects[index - 2]);
    while (ended.load(order::acquire) == 0) {
      goroutine* next = queue.exchange(nullptr, B.queue_relaxed ? order::relaxed : order::acq_rel);
      if (next == nullptr) {
        spin();
        continue;
      }
      MODEL_ASSERT(next->status.load(order::relaxed) == runnable);
      next->status.store(running, order::relaxed);                              // X1
      play(*next, index);                                                       // X2
    }
  }

  void after() {
    MODEL_ASSERT(g.status.peek() == dead);
    MODEL_ASSERT(ready_count == park_count);
  }

  /// Runs the goroutine until it parks or ends. The step lives in registers meanwhile.
  void play(goroutine& self, unsigned worker) {
    int step = self.context.get();
    if (step < 0) {  // resumed
      step = -step;
      MODEL_ASSERT(self.node.result.get() == step);
      if (worker != last_worker) reached(2);
    }
    last_worker = worker;
    for (; step < parks; ++step) {
      self.stack.add(1);
      object& o = objects[step];
      o.lock.lock();                                                            // P1
      if (o.arrived.get()) {
        o.lock.unlock();
        reached(1);
        continue;
      }
      self.node.result.set(0);
      o.line.set(&self.node);                                                   // P2
      ++park_count;
      reached(0);
      if (B.unlock_before_save) o.lock.unlock();
      self.context.set(-(step + 1));                                            // P3
      if (!B.waiting_after_unlock) self.status.store(waiting, order::release);  // P4
      if (!B.unlock_before_save) o.lock.unlock();                               // P5
      if (B.waiting_after_unlock) self.status.store(waiting, order::release);
      return;
    }
    self.stack.add(1);
    self.status.store(dead, order::release);
    ended.store(1, order::release);
  }

  void wake(object& o) {
    if (!B.ready_under_no_lock) o.lock.lock();                                  // R1
    waiter* node = o.line.get();
    goroutine* target = nullptr;
    if (node == nullptr) {
      o.arrived.set(true);
    } else {
      o.line.set(nullptr);                                                      // R2
      target = node->g;
      if (!B.node_after_ready) node->result.set(static_cast<int>(&o - objects) + 1);
    }
    if (!B.ready_under_no_lock) o.lock.unlock();                                // R3
    if (target == nullptr) return;
    ++ready_count;
    target->status.store(runnable, order::release);                             // R4
    MODEL_ASSERT(queue.exchange(target, B.queue_relaxed ? order::relaxed : order::acq_rel) == nullptr);  // R5
    if (B.node_after_ready) node->result.set(static_cast<int>(&o - objects) + 1);
  }

  unsigned last_worker = 0;
};

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<suite<bugs{}>>("two parks, two wakers");
  m.mutant<suite<bugs{.unlock_before_save = true}>>("unlock_before_save");
  m.mutant<suite<bugs{.waiting_after_unlock = true}>>("waiting_after_unlock");
  m.mutant<suite<bugs{.queue_relaxed = true}>>("queue_relaxed");
  m.mutant<suite<bugs{.node_after_ready = true}>>("node_after_ready");
  m.mutant<suite<bugs{.ready_under_no_lock = true}>>("ready_under_no_lock");
  return m.run();
}
