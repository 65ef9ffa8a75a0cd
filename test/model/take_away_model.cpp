// SPDX-License-Identifier: Apache-2.0
// A processor is taken from a worker that has left the runtime, and never from one inside. When the run ends,
// a worker is kept out, or it is inside and waited for.
//
// MUTANTS: no_heavy_fence no_light_fence take_by_store keep_by_store leave_relaxed processor_read_late takers_unlocked abandon_by_store return_by_store
//
// A worker brackets every call into the runtime by two plain stores. The monitor takes the processor
// of a worker that has been outside for too long, while that worker may be on its way in. The end of a
// run does the same with all of them (it is the only taker then), and keeps them out for good.
//
// Words of a worker W (its memory is never freed while a taker may look):
//
//     in_runtime   0 / 1. Written by W alone.
//     grip         what W's hold on its processor is worth (worker::attention_word; kept is its `none`)
//                    kept    W holds W.p
//                    yield   the same, and please let others run
//                    asked   a taker is about to take W.p, if W is outside
//                    taken   W has lost it, and does not know yet
//                    abandoned  the same, and W may not come in any more
//     p            the processor; null: none. Written by W alone, inside the runtime. A relaxed atomic,
//                  because a taker reads it.
//
//     from     to      by      when
//     kept     yield   taker   would rather that W gives way by itself
//     yield    kept    W       comes in, and gives way
//     kept,    asked   taker   wants the processor
//     yield
//     asked    taken   taker   saw W outside: from here the processor is the taker's
//     asked    kept    taker   saw W inside: withdraws (and asks for a yield by other means)
//     asked    kept    W       comes in and wins against the taker
//     taken    kept    W       comes in, knows, and has no processor
//     taken    abandoned  taker  ends the run
//
//   enter, by the worker                          take, by the one taker at a time (under a lock)
//   W1  in_runtime.store(1, relaxed)              M1  grip.cas(kept or yield -> asked, relaxed)
//   W2  light_fence()                             M2  heavy_fence(): one for all suspects together
//   W3  grip.load(relaxed): kept? then go on      M3  in_runtime.load(acquire) != 0?
//   W4  else grip.cas(asked -> kept,                  then grip.cas(asked -> kept, relaxed); not taken
//         relaxed, on failure acquire)            M4  q = p.load(relaxed)
//       won, or failed on `kept`: go on           M5  grip.cas(asked -> taken, acq_rel); failed: not taken
//       failed on `yield`: cas to kept, again
//       failed on `taken`:                        M6  q is the taker's; it hands q on with release
//   W6    grip.cas(taken -> kept): lost, see      M7  the end of the run: grip.cas(taken -> abandoned);
//         below; failed: stay outside for ever        won: W is gone; failed: W is inside
//   ... the runtime; touches *p freely ...
//   leave
//   W5  in_runtime.store(0, release)
//
//   lost: W stays inside the runtime and touches nothing of the old processor: p.store(null). It may take
//   another one from where such are kept (acquire). Else it queues its goroutine and parks, inside the
//   runtime, so that no taker gets beyond M3. Giving a processor up is the same.
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
//            M4 reads the right processor: W stores p inside only, so before the W5 whose 0 M3 read, or
//            after an entry that is later; and that one got to W6, after M5 and so after M4.
//            It need not be the processor that made W a suspect: the taker uses what M4 read.
// Claim      After a won M7, W touches nothing of the runtime any more; after a lost one it is inside, and
//            knows that it has no processor.
// Proof      W6 and M7 contend for one word that nobody else changes while it is `taken`.
// No waiting The worker never waits for a verdict: whoever wins the one word has decided.
// Pairs      W5 with M3: the processor's fields, to the taker. M5 with W4: p, back to the worker.
// Too weak   Without M2, or without the barrier that the kernel sends to W for it, W1 waits in W's store
//            buffer while W3 reads `kept`: both go on with the processor. On x86 too.
//            Without W2 the compiler may move W3 above W1.
//            W5 relaxed: the taker owns a processor whose last changes it may not see (ARM).
//            M5 or W4 as a plain store: each overrules the other's win.
//            M4 after M5: the processor that W has got since, taken from under it.
//            W6 as a plain store: W comes in although it was abandoned, and touches what is being
//            cleared away. M7 as a plain store: the end does not wait for W, which is inside.
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

enum grip_value : unsigned { kept, yield, asked, taken, abandoned };
enum class entry { holding, lost, kept_out };

struct bugs {
  bool no_heavy_fence = false;
  bool no_light_fence = false;
  bool take_by_store = false;
  bool keep_by_store = false;
  bool leave_relaxed = false;
  bool processor_read_late = false;
  bool takers_unlocked = false;
  bool abandon_by_store = false;
  bool return_by_store = false;
};

struct worker;

struct processor {
  var<int> work{0};                       // whatever only the owner may touch
  atomic<worker*> holder{nullptr};        // a hint for the monitor, never a proof
};

struct worker {
  atomic<unsigned> in_runtime{1};
  atomic<unsigned> grip{kept};
  atomic<processor*> p{nullptr};
  var<int> visits{0};  // whatever W touches inside, and the end of the run after W is gone
};

template <base::asymmetric_fences Fences, bugs B>
struct protocol {
  static entry enter(worker& w) {
    w.in_runtime.store(1, order::relaxed);                                   // W1
    if (!B.no_light_fence) Fences::light_fence();                            // W2
    if (w.grip.load(order::relaxed) == kept) return entry::holding;          // W3
    if (B.keep_by_store && w.grip.load(order::relaxed) < taken) {
      w.grip.store(kept, order::relaxed);
      return entry::holding;
    }
    unsigned seen = asked;                                                   // W4
    while (!w.grip.compare_exchange_strong(seen, kept, order::relaxed, order::relaxed)) {
      if (seen == kept) return entry::holding;  // withdrawn
      if (seen >= taken) break;
    }
    if (seen < taken) {
      reached(seen == yield ? 4 : 1);
      return entry::holding;
    }
    w.grip.load(order::acquire);  // the checker has no acquire on failure alone
    seen = taken;
    if (B.return_by_store) {
      if (w.grip.load(order::acquire) == abandoned) return entry::kept_out;
      w.grip.store(kept, order::relaxed);
    } else if (!w.grip.compare_exchange_strong(seen, kept, order::acq_rel, order::acquire)) {  // W6
      return entry::kept_out;
    }
    w.p.store(nullptr, order::relaxed);
    return entry::lost;
  }

  static void leave(worker& w) {
    w.in_runtime.store(0, B.leave_relaxed ? order::relaxed : order::release);  // W5
  }

  /// Worker, inside. The processor must have come with acquire.
  static void adopt(worker& w, processor* p) {
    w.p.store(p, order::relaxed);
    p->holder.store(&w, order::relaxed);
  }

  /// Worker, inside and holding: the way to park or to change processors.
  static processor* give_up(worker& w) {
    processor* const p = w.p.load(order::relaxed);
    w.p.store(nullptr, order::relaxed);
    return p;
  }

  /// The end of the run, when `w` was seen `taken` or was just taken. @return True: it is gone for good.
  static bool abandon(worker& w) {
    unsigned seen = taken;
    if (B.abandon_by_store) {
      if (w.grip.load(order::acquire) != taken) return false;
      w.grip.store(abandoned, order::release);
      return true;
    }
    return w.grip.compare_exchange_strong(seen, abandoned, order::acq_rel, order::relaxed);  // M7
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
template <class Fences, bugs B, int Workers, int Takers, int Rounds, int Tries, bool Yields = true, bool Ends = false>
struct suite : rl::test_suite<suite<Fences, B, Workers, Takers, Rounds, Tries, Yields, Ends>, Workers + Takers> {
  static constexpr const char* goals[] = {"the taker wins", "the worker answers the taker",
                                          "the taker withdraws", "a worker gets another processor",
                                          "a worker gives way", "a worker is abandoned",
                                          "a worker comes in before it is abandoned", "a worker is kept out"};
  using p = protocol<Fences, B>;
  processor processors[Workers];
  worker workers[Workers];
  atomic<processor*> spare[Workers];
  mutex takers;
  int counted[4] = {};
  atomic<int> inside_for_good[Workers];  // it has left by itself: nobody abandons it
  bool gone[Workers] = {};

  void before() {
    if (!Yields) reached(4);
    if (!Ends) {
      for (int goal = 5; goal < 8; ++goal) reached(goal);
    }
    for (auto& flag : inside_for_good) flag.store(0, order::relaxed);
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
      const entry how = p::enter(w);
      if (how == entry::kept_out) {
        reached(7);
        return;
      }
      w.visits.add(1);
      if (how == entry::lost) {
        processor* other = get_spare();
        if (other == nullptr) return leave_for_good(index);
        p::adopt(w, other);
        reached(3);
      }
      w.p.load(order::relaxed)->work.add(1);
      ++counted[index];
      if (round == 0 && index == 0) {  // the suspect's holder becomes a stale hint
        put_spare(p::give_up(w));
        processor* other = get_spare();
        if (other == nullptr) return leave_for_good(index);
        p::adopt(w, other);
      }
      p::leave(w);
    }
  }

  void leave_for_good(int index) { inside_for_good[index].store(1, order::release); }

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
    if (Ends) end(index);
  }

  void end(int index) {
    for (int i = 0; i < Workers; ++i) {
      worker& w = workers[i];
      bool was_taken = w.grip.load(order::acquire) == taken;
      if (!was_taken) {
        if (processor* proc = p::take(w)) {
          proc->work.add(1);
          ++counted[index];
          put_spare(proc);
          was_taken = true;
        }
      }
      if (!was_taken) continue;
      if (p::abandon(w)) {
        reached(5);
        gone[i] = true;
        w.visits.add(1);  // everything of W's is ours now
      } else {
        reached(6);
      }
    }
  }

  void after() {
    int total = 0;
    for (int n : counted) total += n;
    int work = 0;
    for (auto& proc : processors) {
      work += proc.work.get();
      int places = 0;
      for (auto& w : workers) places += w.grip.peek() < taken && w.p.peek() == &proc ? 1 : 0;
      for (auto& slot : spare) places += slot.peek() == &proc ? 1 : 0;
      MODEL_ASSERT(places == 1);
    }
    MODEL_ASSERT(work == total);
    for (int i = 0; i < Workers; ++i) MODEL_ASSERT(!gone[i] || inside_for_good[i].peek() == 0);
  }
};

template <class Fences, bugs B>
using one_taker = suite<Fences, B, 2, 1, 3, 3>;
template <class Fences, bugs B>
using two_takers = suite<Fences, B, 2, 2, 2, 2>;
template <class Fences, bugs B>
using small = suite<Fences, B, 1, 1, 2, 1, false>;  // small enough to be tried to the end
template <class Fences, bugs B>
using ending = suite<Fences, B, 2, 1, 3, 2, true, true>;

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
  m.correct<ending<membarrier_fences, bugs{}>>("membarrier, to the end of the run");
  m.correct<ending<full_fences, bugs{}>>("full fences, to the end of the run");
  m.mutant<one_taker<membarrier_fences, bugs{.no_heavy_fence = true}>>("no_heavy_fence");
  m.mutant<one_taker<full_fences, bugs{.no_heavy_fence = true}>>("no_heavy_fence");
  m.mutant<one_taker<full_fences, bugs{.no_light_fence = true}>>("no_light_fence");
  m.mutant<one_taker<membarrier_fences, bugs{.take_by_store = true}>>("take_by_store");
  m.mutant<one_taker<membarrier_fences, bugs{.keep_by_store = true}>>("keep_by_store");
  m.mutant<one_taker<membarrier_fences, bugs{.leave_relaxed = true}>>("leave_relaxed");
  m.mutant<one_taker<membarrier_fences, bugs{.processor_read_late = true}>>("processor_read_late",
                                                                           {.random = 300'000});
  m.mutant<two_takers<membarrier_fences, bugs{.takers_unlocked = true}>>("takers_unlocked");
  m.mutant<ending<membarrier_fences, bugs{.abandon_by_store = true}>>("abandon_by_store");
  m.mutant<ending<membarrier_fences, bugs{.return_by_store = true}>>("return_by_store");
  return m.run();
}
