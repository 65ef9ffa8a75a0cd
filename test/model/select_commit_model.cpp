// SPDX-License-Identifier: Apache-2.0
// A select that waits on several channels and a deadline is ended by exactly one of them; the others
// keep what they had, and none of them reaches into a later wait of the same goroutine.
//
// MUTANTS: claim_by_store claim_after_unlock no_dequeue no_timer_removal commit_reads_late
//
// The shape is that of sync/select.cpp, sync/wait_queue.hpp and task/claim.hpp.
//
//   goroutine G                                   a party: sender on channel i, or the deadline
//   G1  lock all channels, look, find nothing     S1  lock its channel (or heap)
//   G2  claim.store(unclaimed)                    S2  take G's node out of the line
//   G3  link a node in each line, the deadline    S3  claim.cas(unclaimed -> i, acq_rel)
//       in its heap; park; the commit action          failed: go on as if the line were empty
//       unlocks all                               S4  unlock
//   -- woken                                      S5  won: hand the value over, ready(G)
//   G4  by = claim.load(acquire)
//   G5  lock every line but the winner's in turn, take the node out; the deadline too
//   G6  the next wait: from G1
//
// Claim      (a) S5 is done by one party for each G2. (b) No S3 for the nodes of one wait is executed
//            after the G2 of the next. (c) The commit action reads no case after G has left select.
// Proof      (a) One compare-and-swap succeeds between two G2, because only G stores `unclaimed`.
//            (b) S2 and S3 lie in one critical section of their line. If it comes before G5's for the
//            same line, S3 is before G2. If after, S2 does not find the node. The winner's line
//            needs no G5: its S3 is the claim that G4 read.
//            (c) Argued at sync/select.cpp: the action touches nothing after its last unlock, and G
//            passes through the lock of the channel that was unlocked last, unless that one has won,
//            which it could only after the unlock.
// Pairs      S3 with G4; S5's ready with G's next step: the value that was handed over.
// Too weak   S3 as load and store: two parties win. S3 after S4: G may find its node unlinked, go on
//            and arm the next wait, which S3 then ends (hazards H31). The same without G5.
//            A deadline that is not removed: it ends the next wait, or touches a stack that is gone.
// Test       this file, and SelectTest under ASan.
#include "model.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct bugs {
  bool claim_by_store = false;
  bool claim_after_unlock = false;
  bool no_dequeue = false;
  bool no_timer_removal = false;
  bool commit_reads_late = false;
};

constexpr unsigned unclaimed = 0;
constexpr unsigned by_deadline = 100;

struct node {
  unsigned claim = 0;
  var<bool> linked{false};  // under the line's lock
  var<int> slot{0};         // where a sender puts the value: on G's stack
};

// A channel with room for both values of the test, or the heap with the deadline: a lock and a line
// of at most one.
struct party {
  mutex lock;
  var<node*> line{nullptr};
  var<int> buffered{0};     // sum of the values in the buffer
};

template <bugs B>
struct suite : rl::test_suite<suite<B>, 6> {
  static constexpr int rounds = 2;
  static constexpr int carriers = rounds + 1;  // threads that G runs on, one after the other
  static constexpr const char* goals[] = {"parked", "a value was handed over",
                                          "the deadline passed", "a party lost and kept its value"};

  party channels[2];
  party heap;
  node nodes[3];           // one for each channel; the deadline
  var<int> cases[2];       // what the commit action reads: on G's stack as well
  atomic<unsigned> claim{unclaimed};
  event resume[carriers];
  bool finished = false;
  bool waiting = false;    // G is between G2 and the ready() of that wait
  int round = 0;
  int received = 0;

  void before() {
    for (unsigned i = 0; i < 2; ++i) nodes[i].claim = 1 + i;
    nodes[2].claim = by_deadline;
    for (auto& c : cases) c.set(0);
  }

  void thread(unsigned index) {
    if (index < carriers) {
      if (index != 0) {
        resume[index].wait();
        if (finished) return;
        woken();
      }
      go_on();
    } else if (index < carriers + 2) {
      send(index - carriers, 10u << (index - carriers));
    } else {
      expire();
    }
  }

  void after() {
    const int left = channels[0].buffered.get() + channels[1].buffered.get();
    MODEL_ASSERT(received + left == 30);
    MODEL_ASSERT(round == rounds && !waiting);
  }

  // -- G

  /// Plays G from the start of a select until it parks or ends. There are as many values as selects,
  /// so that each wait has a sender left that will end it.
  void go_on() {
    while (round < rounds) {
      channels[0].lock.lock();                                                  // G1
      channels[1].lock.lock();
      int value = 0;
      for (auto& c : channels) {
        if (value == 0 && (value = take(c)) != 0) break;
      }
      if (value != 0) {
        channels[1].lock.unlock();
        channels[0].lock.unlock();
        received += value;
        ++round;
        continue;
      }
      claim.store(unclaimed, order::relaxed);                                   // G2
      waiting = true;
      reached(0);
      for (int i = 0; i < 2; ++i) {
        nodes[i].slot.set(0);
        cases[i].set(i);
        nodes[i].linked.set(true);                                              // G3
        channels[i].line.set(&nodes[i]);
      }
      // The commit action, on the next context of this thread.
      if (round == 0) {
        heap.lock.lock();
        nodes[2].linked.set(true);
        heap.line.set(&nodes[2]);
        heap.lock.unlock();
      }
      const int second = cases[1].get();
      if (!B.commit_reads_late) {
        const int first = cases[0].get();
        channels[first].lock.unlock();
        channels[second].lock.unlock();
      } else {
        channels[second].lock.unlock();
        channels[cases[0].get()].lock.unlock();
        cases[1].get();
      }
      return;
    }
    finished = true;
    for (auto& e : resume) e.post();
  }

  void woken() {
    const unsigned by = claim.load(order::acquire);                             // G4
    MODEL_ASSERT(by != unclaimed);
    for (int i = 0; i < 2; ++i) {                                               // G5
      if (by == nodes[i].claim || B.no_dequeue) continue;
      channels[i].lock.lock();
      if (nodes[i].linked.get()) {
        nodes[i].linked.set(false);
        channels[i].line.set(nullptr);
      }
      channels[i].lock.unlock();
    }
    if (!B.no_timer_removal) {
      heap.lock.lock();
      if (nodes[2].linked.get()) {
        nodes[2].linked.set(false);
        heap.line.set(nullptr);
      }
      heap.lock.unlock();
    }
    if (by == by_deadline) {
      MODEL_ASSERT(round == 0);  // only the first wait has one
      reached(2);
    } else {
      const int value = nodes[by - 1].slot.get();
      MODEL_ASSERT(value != 0);
      received += value;
      reached(1);
    }
    for (auto& c : cases) c.set(-1);  // select has returned: its frame is somebody else's
    ++round;
  }

  // -- the parties

  void send(unsigned channel, unsigned value) {
    party& c = channels[channel];
    c.lock.lock();                                                              // S1
    if (node* n = take_first(c)) {
      c.lock.unlock();                                                          // S4
      n->slot.set(static_cast<int>(value));                                     // S5
      ready();
      return;
    }
    c.buffered.add(static_cast<int>(value));
    c.lock.unlock();
  }

  void expire() {
    for (int i = 0; i < 2; ++i) {
      heap.lock.lock();
      node* n = take_first(heap);
      heap.lock.unlock();
      if (n != nullptr) {
        ready();
        return;
      }
      spin();
    }
  }

  /// The line's lock is held.
  node* take_first(party& p) {
    while (node* n = p.line.get()) {
      p.line.set(nullptr);
      n->linked.set(false);                                                     // S2
      if (B.claim_after_unlock) p.lock.unlock();
      const bool won = try_claim(n->claim);                                     // S3
      if (B.claim_after_unlock) p.lock.lock();
      if (won) return n;
      reached(3);
    }
    return nullptr;
  }

  bool try_claim(unsigned by) {
    unsigned seen = unclaimed;
    if (!B.claim_by_store) {
      return claim.compare_exchange_strong(seen, by, order::acq_rel, order::acquire);
    }
    if (claim.load(order::acquire) != unclaimed) return false;
    claim.store(by, order::release);
    return true;
  }

  void ready() {
    MODEL_ASSERT(waiting);
    waiting = false;
    resume[round + 1].post();
  }

  static int take(party& c) {
    const int value = c.buffered.get();
    if (value != 0) c.buffered.set(0);
    return value;
  }
};

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<suite<bugs{}>>("two channels and a deadline");
  m.mutant<suite<bugs{.claim_by_store = true}>>("claim_by_store");
  m.mutant<suite<bugs{.claim_after_unlock = true}>>("claim_after_unlock");
  m.mutant<suite<bugs{.no_dequeue = true}>>("no_dequeue");
  m.mutant<suite<bugs{.no_timer_removal = true}>>("no_timer_removal");
  m.mutant<suite<bugs{.commit_reads_late = true}>>("commit_reads_late");
  return m.run();
}
