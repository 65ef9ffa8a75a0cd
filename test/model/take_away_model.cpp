// SPDX-License-Identifier: Apache-2.0
// A processor is taken from a worker that has left the runtime, and never from one inside.
//
// MUTANTS: no_heavy_fence no_light_fence take_by_store keep_by_store leave_relaxed processor_read_late takers_unlocked
//
// A worker brackets every call into the runtime by two plain stores. The monitor takes the processor
// of a worker that has been outside for too long, while that worker may be on its way in.
//
// Words of a worker W (its memory is never freed while a taker may look):
//
//     in_runtime   0 / 1. Written by W alone.
//     grip         what W's hold on its processor is worth (worker::attention_word; kept is its `none`)
//                    kept    W holds W.p
//                    yield   the same, and please let others run
//                    asked   W holds W.p, a taker is about to take it
//                    taken   W holds none: it lost it, gave it up, or never had one
//     p            the processor. Written by W alone, inside the runtime, and only while the grip is
//                  `taken`. A relaxed atomic, because a taker reads it.
//
//     from     to      by      when
//     kept     yield   taker   would rather that W gives way by itself
//     yield    kept    W       comes in, and gives way
//     kept,    asked   taker   wants the processor
//     yield
//     asked    taken   taker   saw W outside: from here the processor is the taker's
//     asked    kept    taker   saw W inside: withdraws (and asks for a yield by other means)
//     asked    kept    W       comes in, or gives the processor up, and wins against the taker
//     not      taken   W       gives the processor up inside the runtime (compare-and-swap: may be asked)
//     taken
//     taken    kept    W       has got a processor, inside the runtime, after storing p
//
//   enter, by the worker                          take, by the one taker at a time (under a lock)
//   W1  in_runtime.store(1, relaxed)              M1  grip.cas(kept or yield -> asked, relaxed)
//   W2  light_fence()                             M2  heavy_fence(): one for all suspects together
//   W3  grip.load(relaxed): kept? then go on      M3  in_runtime.load(acquire) != 0?
//   W4  else grip.cas(asked -> kept,                  then grip.cas(asked -> kept, relaxed); not taken
//         relaxed, on failure acquire)            M4  q = p.load(relaxed)
//       won, or failed on `kept`: go on           M5  grip.cas(asked -> taken, acq_rel); failed: not taken
//       failed on `yield`: cas to kept, again
//       failed on `taken`: lost, see below        M6  q is the taker's; it hands q on with release
//   ... the runtime; touches *p freely ...
//   leave
//   W5  in_runtime.store(0, release)
//
//   lost: W stays inside the runtime and touches nothing of the old processor. It may take another
//   one from where such are kept (acquire): p.store(it, relaxed); grip.store(kept, relaxed). Else it
//   queues its goroutine and parks: inside the runtime, grip `taken`, so that no taker bothers it.
//
// Claim      At every moment a processor's fields belong to one thread: the worker inside W3/W4 .. W5,
//            or the taker after M5 until it has handed it on.
// Proof      Let M5 succeed. Between M1 and M5 the grip was `asked` throughout: W changes it only by
//            W4 and M5 would have failed. Take W's first entry E whose W1 is later in in_runtime's
//            order than the 0 that M3 read. The fences of E and of the taker are ordered one way:
//            W2 first: then M3 sees W1 of E, not the older 0. So M2 is first, and W3 of E sees M1 or a
//            later value; not `kept`, as just said, so E goes to W4, and W4 and M5 contend for one word:
//            M5 won, so W4 failed on `taken` and W lets go. Entries before E have left: the 0 that M3
//            read was stored by the last of them, and all they did happens before M3 (W5, M3).
//            If there is no such E, W is outside and stays there.
//            M4 reads the right processor although W may have another one by now: W stores p only
//            under a `taken` that M5 made, seen with acquire, and M4 is before M5 (release); or under one
//            that it made itself, and then M5 has failed.
//            It need not be the processor that made W a suspect: the taker uses what M4 read.
// No waiting The worker never waits for a verdict: whoever wins the one word has decided.
// Pairs      W5 with M3: the processor's fields, to the taker. M5 with W4: p, back to the worker.
// Too weak   Without M2, or without the barrier that the kernel sends to W for it, W1 waits in W's store
//            buffer while W3 reads `kept`: both go on with the processor. On x86 too.
//            Without W2 the compiler may move W3 above W1.
//            W5 relaxed: the taker owns a processor whose last changes it may not see (ARM).
//            M5 or W4 as a plain store: each overrules the other's win.
//            M4 after M5: the processor that W has got since, taken from under it.
// Enough     M1 relaxed: what it must order, M2 orders. The withdrawal needs no order: nothing is
//            handed over. It is a compare-and-swap so that `taken` always means "holds none"; with one
//            taker a plain store would do no harm.
// One taker  Two takers at once break the "throughout" of the proof: one withdraws, asks again, and the
//            other's M5 succeeds on the first one's `asked`. Hence the lock.
// Fallback   Where membarrier is refused both fences are full ones (base::symmetric_fences). Both forms
//            are tried here.
// Test       this file. The worker's third step ("kept?") is the only test on the fast path.
#include "model.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

enum grip_value : unsigned { kept, yield, asked, taken };

struct bugs {
  bool no_heavy_fence = false;
  bool no_light_fence = false;
  bool take_by_store = false;
  bool keep_by_store = false;
  bool leave_relaxed = false;
  bool processor_read_late = false;
  bool takers_unlocked = false;
};

struct worker;

struct processor {
  var<int> work{0};                       // whatever only the owner may touch
  atomic<worker*> holder{nullptr};        // a hint for the monitor, never a proof
};

struct worker {
  atomic<unsigned> in_runtime{1};
  atomic<unsigned> grip{taken};
  atomic<processor*> p{nullptr};
};

template <base::asymmetric_fences Fences, bugs B>
struct protocol {
  /// Worker. @return False: the processor is lost.
  static bool enter(worker& w) {
    w.in_runtime.store(1, order::relaxed);                                   // W1
    if (!B.no_light_fence) Fences::light_fence();                            // W2
    if (w.grip.load(order::relaxed) == kept) return true;                    // W3
    if (B.keep_by_store) {
      if (w.grip.load(order::relaxed) == taken) return false;
      w.grip.store(kept, order::relaxed);
      return true;
    }
    unsigned seen = asked;                                                   // W4
    while (!w.grip.compare_exchange_strong(seen, kept, order::relaxed, order::relaxed)) {
      if (seen == kept) return true;  // withdrawn
      if (seen == taken) break;
    }
    if (seen != taken) {
      reached(seen == yield ? 4 : 1);
      return true;
    }
    w.grip.load(order::acquire);  // the checker has no acquire on failure alone
    return false;
  }

  static void leave(worker& w) {
    w.in_runtime.store(0, B.leave_relaxed ? order::relaxed : order::release);  // W5
  }

  /// Worker, inside. The processor must have come with acquire.
  static void adopt(worker& w, processor* p) {
    w.p.store(p, order::relaxed);
    p->holder.store(&w, order::relaxed);
    w.grip.store(kept, order::relaxed);
  }

  /// Worker, inside and holding: the way to park or to change processors. Cannot fail: a taker that
  /// asks now will see in_runtime, so `asked` only has to be answered first.
  static processor* give_up(worker& w) {
    processor* const p = w.p.load(order::relaxed);
    unsigned seen = kept;
    while (!w.grip.compare_exchange_weak(seen, taken, order::relaxed, order::relaxed)) {
      MODEL_ASSERT(seen != taken);
    }
    return p;
  }

  /// Taker, one at a time. @return The processor that is the taker's now, or null.
  static processor* take(worker& w) {
    unsigned seen = kept;                                                    // M1
    if (!w.grip.compare_exchange_strong(seen, asked, order::relaxed, order::relaxed) &&
        (seen != yield ||
         !w.grip.compare_exchange_strong(seen, asked, order::relaxed, order::relaxed))) {
      return nullptr;
    }
    if (!B.no_heavy_fence) Fences::heavy_fence();                            // M2
    seen = asked;
    if (w.in_runtime.load(order::acquire) != 0) {                            // M3
      w.grip.compare_exchange_strong(seen, kept, order::relaxed, order::relaxed);
      reached(2);
      return nullptr;
    }
    processor* p = w.p.load(order::relaxed);                                 // M4
    if (B.take_by_store) {
      w.grip.store(taken, order::release);
    } else if (!w.grip.compare_exchange_strong(seen, taken, order::acq_rel, order::relaxed)) {  // M5
      return nullptr;
    }
    reached(0);
    if (B.processor_read_late) p = w.p.load(order::relaxed);
    return p;
  }
};

// `Workers` workers with a processor each, `Takers` takers. A worker comes and goes; it may swap its
// processor for a spare one; when it has lost it, it looks for a spare one, else it ends. Whoever holds
// a processor counts on it without synchronisation, so that every overlap is a data race.
template <class Fences, bugs B, int Workers, int Takers, int Rounds, int Tries, bool Yields = true>
struct suite : rl::test_suite<suite<Fences, B, Workers, Takers, Rounds, Tries, Yields>, Workers + Takers> {
  static constexpr const char* goals[] = {"the taker wins", "the worker answers the taker",
                                          "the taker withdraws", "a worker gets another processor",
                                          "a worker gives way"};
  using p = protocol<Fences, B>;
  processor processors[Workers];
  worker workers[Workers];
  atomic<processor*> spare[Workers];
  mutex takers;
  int counted[4] = {};

  void before() {
    if (!Yields) reached(4);
    for (int i = 0; i < Workers; ++i) {
      spare[i].store(nullptr, order::relaxed);
      p::adopt(workers[i], &processors[i]);
      p::leave(workers[i]);
    }
  }

  void put_spare(processor* proc) {
    for (auto& slot : spare) {
      processor* none = nullptr;
      if (slot.compare_exchange_strong(none, proc, order::release, order::relaxed)) return;
    }
    fail("more spare processors than there are");
  }

  processor* get_spare() {
    for (auto& slot : spare) {
      if (processor* proc = slot.exchange(nullptr, order::acquire)) return proc;
    }
    return nullptr;
  }

  void thread(unsigned index) {
    if (index < Workers) {
      work(static_cast<int>(index));
    } else {
      monitor(static_cast<int>(index));
    }
  }

  void work(int index) {
    worker& w = workers[index];
    for (int round = 0; round < Rounds; ++round) {
      if (!p::enter(w)) {
        processor* other = get_spare();
        if (other == nullptr) return;  // parks
        p::adopt(w, other);
        reached(3);
      }
      w.p.load(order::relaxed)->work.add(1);
      ++counted[index];
      if (round == 0 && index == 0) {  // the suspect's holder becomes a stale hint
        put_spare(p::give_up(w));
        processor* other = get_spare();
        if (other == nullptr) return;
        p::adopt(w, other);
      }
      p::leave(w);
    }
  }

  void monitor(int index) {
    for (int i = 0; i < Tries; ++i) {
      worker* w = processors[i % Workers].holder.load(order::relaxed);
      if (!B.takers_unlocked) takers.lock();
      if (Yields && choose(2) == 0) {
        unsigned seen = kept;
        w->grip.compare_exchange_strong(seen, yield, order::relaxed, order::relaxed);
      }
      processor* proc = p::take(*w);
      if (!B.takers_unlocked) takers.unlock();
      if (proc == nullptr) continue;
      proc->work.add(1);
      ++counted[index];
      put_spare(proc);
    }
  }

  void after() {
    int total = 0;
    for (int n : counted) total += n;
    int work = 0;
    for (auto& proc : processors) {
      work += proc.work.get();
      int places = 0;
      for (auto& w : workers) places += w.grip.peek() != taken && w.p.peek() == &proc ? 1 : 0;
      for (auto& slot : spare) places += slot.peek() == &proc ? 1 : 0;
      MODEL_ASSERT(places == 1);
    }
    MODEL_ASSERT(work == total);
  }
};

template <class Fences, bugs B>
using one_taker = suite<Fences, B, 2, 1, 3, 3>;
template <class Fences, bugs B>
using two_takers = suite<Fences, B, 2, 2, 2, 2>;
template <class Fences, bugs B>
using small = suite<Fences, B, 1, 1, 2, 1, false>;  // small enough to be tried to the end

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<one_taker<membarrier_fences, bugs{}>>("membarrier");
  m.correct<one_taker<full_fences, bugs{}>>("full fences");
  m.correct<small<membarrier_fences, bugs{}>>("membarrier, small", {.bound = 4});
  m.correct<small<full_fences, bugs{}>>("full fences, small", {.bound = 4});
  m.correct<two_takers<membarrier_fences, bugs{}>>("membarrier, two takers");
  m.mutant<one_taker<membarrier_fences, bugs{.no_heavy_fence = true}>>("no_heavy_fence");
  m.mutant<one_taker<full_fences, bugs{.no_heavy_fence = true}>>("no_heavy_fence");
  m.mutant<one_taker<full_fences, bugs{.no_light_fence = true}>>("no_light_fence");
  m.mutant<one_taker<membarrier_fences, bugs{.take_by_store = true}>>("take_by_store");
  m.mutant<one_taker<membarrier_fences, bugs{.keep_by_store = true}>>("keep_by_store");
  m.mutant<one_taker<membarrier_fences, bugs{.leave_relaxed = true}>>("leave_relaxed");
  m.mutant<one_taker<membarrier_fences, bugs{.processor_read_late = true}>>("processor_read_late",
                                                                           {.random = 300'000});
  m.mutant<two_takers<membarrier_fences, bugs{.takers_unlocked = true}>>("takers_unlocked");
  return m.run();
}
