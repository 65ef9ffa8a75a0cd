// SPDX-License-Identifier: Apache-2.0
// A parked goroutine's stack holds still while somebody reads it, at no cost to the switch.
//
// MUTANTS: no_heavy_fence no_light_fence no_look_again look_relaxed unpin_relaxed park_relaxed back_off_relaxed one_status_look
//
// A reader (dump, profile, debugger inside the process) walks the stack of a goroutine that another
// thread may start to run at any moment. Go locks the status word by a scan bit, which makes every
// status change a compare-and-swap; here readers count themselves in a word of their own, and the
// switch only stores and looks.
//
// Words of a goroutine G (its memory is never unmapped, task/registry):
//
//     status   runnable, running, waiting, ... Stored by whoever G belongs to (task/goroutine.hpp).
//     pins     number of readers. Changed by readers alone.
//
//   pin, by the reader                              run, by the worker that has dequeued G
//   R1  pins.fetch_add(1, relaxed)                  X1  status.store(running, relaxed)
//   R2  heavy_fence(): one for all that it pins     X2  light_fence()
//   R3  s = status.load(acquire)                    X3  pins.load(acquire) == 0? switch to G
//       waiting or runnable: may read the saved     X4  else status.store(runnable, release) and
//       context and the stack, until R4                   wait until pins.load() == 0 (relaxed will
//       else: nothing of them; not pinned                 do), or put G back into a queue;
//   R4  pins.fetch_sub(1, release)                        then again from X1
//
//   park, by the context that runs after G's was saved (sched/park.hpp)
//   K1  status.store(waiting, release)              ready: status.store(runnable, release)
//
// Claim      Between R3 (if it says waiting or runnable) and R4 nobody writes G's context or stack, and
//            the reader sees all that was written before.
// Proof      Nobody but a worker that has passed X3 writes them. Take the first X1 that is later in the
//            status' order than the value that R3 read. Its X2 and R2 are ordered one way. X2 first:
//            then R3 would see that X1 or later. So R2 is first and X3 sees R1 or a later value of pins:
//            at least 1 until R4, because every reader adds before it subtracts. The worker backs
//            off, and looks again after each store of `running`, so the same holds for its next turn.
//            If X3 sees 0, it reads a value that R4's continues (readers only do read-modify-writes), so
//            the reads before R4 happen before the switch.
//            X1s that R3's value follows belong to runs that are over: whoever stored what R3 read
//            did so after them (K1, or X4 by the owner), with release.
// Pairs      K1 and ready with R3: the saved context. X4 with R3: the same; the worker that backs off
//            has got it from the queue. R4 with X3: the reads are over.
// Too weak   Without R2 or X2 both may miss: x86 too. X4 without looking again: a second reader that came
//            during the wait has seen `runnable`. X3 relaxed or R4 relaxed: the walk may still be
//            reading while G runs (on ARM). K1 or X4 relaxed: the reader walks an unsaved context.
// Both lose  R3 may see `running` from an X1 that then backs off. The reader gives up or tries again; it
//            must unpin in between, else both would wait.
// The price  A reader that loses its core while it pins holds up those goroutines, and a worker in X4
//            if it waits there. So readers copy out and unpin; a worker does better to queue G again
//            than to wait (X4 allows both).
// Not so     Pinning does not stop wakers from storing *into* G's stack (a channel hands values over
//            there, a waiter node lies there): a walk that looks beyond saved registers and return
//            addresses must expect such words to change.
// Fallback   Without membarrier both fences are full ones; both forms are tried here.
#include "model.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

enum status_value : unsigned { runnable, running, waiting, dead };

struct bugs {
  bool no_heavy_fence = false;
  bool no_light_fence = false;
  bool no_look_again = false;
  bool look_relaxed = false;
  bool unpin_relaxed = false;
  bool park_relaxed = false;
  bool back_off_relaxed = false;
  bool one_status_look = false;
};

struct goroutine {
  atomic<unsigned> status{runnable};
  atomic<unsigned> pins{0};
  var<int> context{0};  // what the switch saves
  var<int> stack{0};    // what the goroutine writes
};

template <base::asymmetric_fences Fences, bugs B>
struct protocol {
  /// Reader. @return True if G holds still until unpin(); else it is not pinned.
  static bool pin(goroutine& g) {
    if (B.one_status_look) {  // looks, then pins: what the fence is for
      const unsigned s = g.status.load(order::acquire);
      if (s != waiting && s != runnable) return false;
      g.pins.fetch_add(1, order::relaxed);
      Fences::heavy_fence();
      return true;
    }
    g.pins.fetch_add(1, order::relaxed);                           // R1
    if (!B.no_heavy_fence) Fences::heavy_fence();                  // R2
    const unsigned s = g.status.load(order::acquire);              // R3
    if (s == waiting || s == runnable) return true;
    unpin(g);
    return false;
  }

  static void unpin(goroutine& g) {
    g.pins.fetch_sub(1, B.unpin_relaxed ? order::relaxed : order::release);  // R4
  }

  /// Worker that has dequeued G. @return True: G is running and its stack is the worker's.
  static bool start(goroutine& g) {
    g.status.store(running, order::relaxed);                       // X1
    if (!B.no_light_fence) Fences::light_fence();                  // X2
    if (g.pins.load(B.look_relaxed ? order::relaxed : order::acquire) == 0) return true;  // X3
    g.status.store(runnable, B.back_off_relaxed ? order::relaxed : order::release);       // X4
    return false;
  }
};

// One goroutine that passes from worker to worker as through a run queue: `turn` is the queue. Each
// worker runs it once: changes stack and context, parks it, readies it for the next.
template <class Fences, bugs B, int Workers, int Readers, int Rounds>
struct suite : rl::test_suite<suite<Fences, B, Workers, Readers, Rounds>, Workers + Readers> {
  static constexpr const char* goals[] = {"pinned while waiting", "pinned while runnable",
                                          "refused", "the worker backs off"};
  using p = protocol<Fences, B>;
  goroutine g;
  atomic<int> turn{0};

  void thread(unsigned index) {
    if (index < Workers) {
      work(static_cast<int>(index));
    } else {
      read();
    }
  }

  void work(int index) {
    while (turn.load(order::acquire) != index) spin();
    while (!p::start(g)) {
      reached(3);
      while (g.pins.load(order::relaxed) != 0) spin();
      if (B.no_look_again) {
        g.pins.load(order::acquire);
        g.status.store(running, order::relaxed);
        break;
      }
    }
    g.context.set(-1);  // live registers
    g.stack.add(1);
    g.context.set(index + 1);                                       // the switch saves
    g.status.store(waiting, B.park_relaxed ? order::relaxed : order::release);  // K1
    // ready(), by the same thread: it need not be another one, R3 may see either value.
    g.status.store(index + 1 < Workers ? runnable : waiting, order::release);
    turn.store(index + 1, order::release);
  }

  void read() {
    for (int i = 0; i < Rounds; ++i) {
      if (!p::pin(g)) {
        reached(2);
        spin();
        continue;
      }
      reached(g.status.peek() == waiting ? 0 : 1);
      const int context = g.context.get();
      MODEL_ASSERT(context >= 0);
      MODEL_ASSERT(g.stack.get() == context);
      p::unpin(g);
    }
  }
};

template <class Fences, bugs B>
using usual = suite<Fences, B, 2, 2, 2>;
template <class Fences, bugs B>
using small = suite<Fences, B, 1, 1, 1>;

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<usual<membarrier_fences, bugs{}>>("membarrier");
  m.correct<usual<full_fences, bugs{}>>("full fences");
  m.correct<suite<membarrier_fences, bugs{}, 1, 1, 2>>("membarrier, small", {.bound = 5});
  m.correct<suite<full_fences, bugs{}, 1, 1, 2>>("full fences, small", {.bound = 5});
  m.mutant<usual<membarrier_fences, bugs{.no_heavy_fence = true}>>("no_heavy_fence");
  m.mutant<usual<full_fences, bugs{.no_heavy_fence = true}>>("no_heavy_fence");
  m.mutant<usual<full_fences, bugs{.no_light_fence = true}>>("no_light_fence");
  m.mutant<usual<membarrier_fences, bugs{.no_look_again = true}>>("no_look_again");
  m.mutant<usual<membarrier_fences, bugs{.look_relaxed = true}>>("look_relaxed");
  m.mutant<usual<membarrier_fences, bugs{.unpin_relaxed = true}>>("unpin_relaxed");
  m.mutant<usual<membarrier_fences, bugs{.park_relaxed = true}>>("park_relaxed");
  m.mutant<usual<membarrier_fences, bugs{.back_off_relaxed = true}>>("back_off_relaxed");
  m.mutant<usual<membarrier_fences, bugs{.one_status_look = true}>>("one_status_look");
  return m.run();
}
