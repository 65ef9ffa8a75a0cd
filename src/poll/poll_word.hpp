// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file poll_word.hpp
/// `poll_word`: one direction (reading or writing) of a descriptor; a binary semaphore between the
/// one goroutine that may wait for it and the threads that poll.
///
///     value         meaning                        left by
///     nil           nothing known, nobody waits    arm -> waiting; notify -> ready
///     ready         an edge was seen               arm -> nil (consumed)
///     waiting       somebody is about to park      commit -> goroutine; disarm, kick -> nil;
///                                                  notify -> ready
///     goroutine     it is parked                   notify, kick -> nil, by way of claiming when a
///                                                  deadline may end the wait too; withdraw -> nil
///     claiming      a notifier is between taking   the notifier -> nil (it won the goroutine) or
///                   the goroutine out and knowing  ready (the deadline won; the edge is kept)
///                   whether it won it
///
/// `ready` is a hint, never a promise: whoever is woken, for whatever reason, tries its system call
/// and looks at its deadline and at `closing` again. So a spurious value costs a system call, a lost
/// one costs a hang, and every doubt below is decided that way.
///
/// **Thread safety.** arm, commit, disarm and withdraw: the waiter alone (the descriptor's lock of
/// that direction makes it one). notify and kick: anyone, concurrently.
/// **Source.** The words rg and wg of Go's runtime/netpoll.go. Different here: a woken goroutine
/// finds nil and not ready, because the wake-up itself is the news; and `claiming`, because our
/// deadlines belong to the waiting goroutine (docs/design/poller.md) and compete for it.

#include <cstdint>

#include "base/atomic.hpp"

namespace tuco::inline v1::poll {

// I. No goroutine sleeps on an edge, a closing or an earlier deadline that it does not know of.
//
//   waiter                                       close(), set_deadline(): "kick"
//   W1  word.cas(nil -> waiting, seq_cst)        K1  state.store(new, seq_cst)
//   W2  state.load(seq_cst); leave if it says so K2  word.load(seq_cst)
//   W3  word.cas(waiting -> G) in the commit     K3  waiting: cas -> nil;  G: cas -> nil, wake
//       action; if it fails, do not park
//
// Claim      Either the waiter sees the new state in W2, or its W3 fails, or K3 wakes it.
// Proof      All of W1, W2, K1, K2 lie in the single total order S of seq_cst operations.
//            K1 before W2 in S: W2 sees it. Otherwise W1 < W2 < K1 < K2: K2 reads waiting or what
//            came after it. waiting: K3 replaces it, and W3 fails (or W3 came first, K3's cas fails,
//            and it reads again). G: K3 takes it. nil or ready: the waiter is already out.
//            claiming: another party is waking it, and it looks at the state before it parks again.
//            An edge needs no K1: the kernel holds what it announces, and notify() leaves `ready`
//            where it finds nil or waiting, so either W1 or W3 fails, or notify() takes G.
// Pairs      W1/W2 with K1/K2, across two words: hence seq_cst and not acquire/release.
// Too weak   With release/acquire both sides may miss: W2 reads the old state, K2 still reads nil.
//            x86 hides it as long as W1 stays a locked instruction; a plain K1 store does not.
//
// II. A notifier never claims a goroutine that has gone on to another wait (hazards H31).
//
//   notifier                                     the deadline, then the waiter it woke
//   N1  word.cas(G -> claiming)                  D1  try_claim(G) wins, G is readied and runs
//   N2  won = try_claim(G)                       D2  withdraw: word.cas(G -> nil); claiming: spin
//   N3  word.store(won ? nil : ready)            D3  G may arm its claim anew, anywhere
//   N4  won: hand G to the scheduler
//
// Claim      N2 is never executed after D3 of the wait that N1 ended.
// Proof      N2 lies between N1 and N3, where the word is `claiming`; D2 does not end before the
//            word has left it. When the deadline does not win, G runs only after N4, which is after
//            N3. Without `claiming`, N1 could succeed, the thread could lose its core, G could time
//            out and park in a channel's select, and N2 would end *that* wait.
// Cost       Only waits with a deadline go through it; the others are ended by N1 alone.
// Spinning   D2 waits for the few instructions of N2 and N3; the caller yields its core.
//
// III. A flag that a notifier raises before notify() is seen by a waiter that consumed the `ready`
// which that notifier found there already: flag.store(1), word.load() = ready on one side,
// word.exchange(nil), flag.load() on the other, all four seq_cst. (The flag is "the stream has ended":
// poll_descriptor::ended. Missing it once would mean parking behind an end that was announced.)
//
// Test       test/model/poll_word_model.cpp; src/poll/poll_word_test.cpp.
template <base::atomics_policy Atomics = base::real_atomics>
class poll_word {
 public:
  static constexpr std::uintptr_t nil = 0;
  static constexpr std::uintptr_t ready = 1;
  static constexpr std::uintptr_t waiting = 2;
  static constexpr std::uintptr_t claiming = 3;
  /// Set in a goroutine's value when a deadline may end the wait too. Goroutines are aligned.
  static constexpr std::uintptr_t has_deadline = 4;
  static constexpr std::uintptr_t tag_mask = 7;

  /// Announces the wait. Look at what else may end it (closing, the deadline) after this call.
  /// @return False if an edge was waiting: it is consumed, go and try.
  bool arm() noexcept {
    std::uintptr_t old = nil;
    if (word_.compare_exchange_strong(old, waiting, std::memory_order::seq_cst,
                                      std::memory_order::seq_cst)) {
      return true;
    }
    // It is `ready`, and nobody but the waiter takes that away. An exchange and not a plain store, for
    // III: in the total order a notifier that still saw `ready` comes before it.
    word_.exchange(nil, std::memory_order::seq_cst);
    return false;
  }

  /// The commit action's part: from here on others may wake the goroutine.
  /// @param self  the goroutine's address, with has_deadline where it applies
  /// @return False if an edge or a kick came in between: do not park.
  bool commit(std::uintptr_t self) noexcept {
    std::uintptr_t old = waiting;
    return word_.compare_exchange_strong(old, self, std::memory_order::acq_rel,
                                         std::memory_order::acquire);
  }

  /// Takes the announcement back.
  void disarm() noexcept {
    std::uintptr_t old = waiting;
    word_.compare_exchange_strong(old, nil, std::memory_order::acq_rel, std::memory_order::acquire);
  }

  /// After the deadline has ended the wait: when it returns, nobody knows the goroutine through
  /// this word any more. `pause` is called while a notifier is between N1 and N3.
  /// @return True if the goroutine was still in the word: the caller accounts for it.
  template <class Pause>
  bool withdraw(std::uintptr_t self, Pause&& pause) noexcept {
    for (;;) {
      std::uintptr_t old = self;
      if (word_.compare_exchange_strong(old, nil, std::memory_order::acq_rel,
                                        std::memory_order::acquire)) {
        return true;
      }
      if (old != claiming) return false;
      pause();
    }
  }

  /// What became of a goroutine that notify() or kick() took out of the word.
  struct taken {
    std::uintptr_t goroutine = 0;  ///< address without tags; 0 if nobody was parked
    bool won = false;              ///< false: its deadline was first and has readied it
  };

  /// An edge.
  /// @param claim  bool(std::uintptr_t goroutine): one party of several that may end the wait
  template <class Claim>
  taken notify(Claim&& claim) noexcept {
    std::uintptr_t old = word_.load(std::memory_order::seq_cst);  // III
    for (;;) {
      // claiming: the wake-up that is under way comes after this edge, so it covers it.
      if (old == ready || old == claiming) return {};
      if (old == nil || old == waiting) {
        if (word_.compare_exchange_strong(old, ready, std::memory_order::acq_rel,
                                          std::memory_order::acquire)) {
          return {};
        }
        continue;
      }
      const std::uintptr_t next = (old & has_deadline) != 0 ? claiming : nil;
      const std::uintptr_t self = old;
      if (!word_.compare_exchange_strong(old, next, std::memory_order::acq_rel,
                                         std::memory_order::acquire)) {
        continue;
      }
      return finish(self, next, ready, claim);
    }
  }

  /// The state of the descriptor has changed: whoever waits looks again. Leaves `ready` alone.
  template <class Claim>
  taken kick(Claim&& claim) noexcept {
    std::uintptr_t old = word_.load(std::memory_order::seq_cst);
    for (;;) {
      if (old == nil || old == ready || old == claiming) return {};
      if (old == waiting) {
        if (word_.compare_exchange_strong(old, nil, std::memory_order::seq_cst,
                                          std::memory_order::seq_cst)) {
          return {};
        }
        continue;
      }
      const std::uintptr_t next = (old & has_deadline) != 0 ? claiming : nil;
      const std::uintptr_t self = old;
      if (!word_.compare_exchange_strong(old, next, std::memory_order::seq_cst,
                                         std::memory_order::seq_cst)) {
        continue;
      }
      return finish(self, next, nil, claim);
    }
  }

  /// A snapshot, for dumps and tests.
  [[nodiscard]] std::uintptr_t peek() const noexcept {
    return word_.load(std::memory_order::acquire);
  }

  /// A fresh descriptor. Nobody may know of the word.
  void reset() noexcept { word_.store(nil, std::memory_order::relaxed); }

 private:
  template <class Claim>
  taken finish(std::uintptr_t self, std::uintptr_t next, std::uintptr_t when_lost,
               Claim&& claim) noexcept {
    const std::uintptr_t g = self & ~tag_mask;
    if (next != claiming) return {g, true};
    const bool won = claim(g);
    word_.store(won ? nil : when_lost, std::memory_order::release);
    return {g, won};
  }

  typename Atomics::template atomic<std::uintptr_t> word_{nil};
};

}  // namespace tuco::inline v1::poll
