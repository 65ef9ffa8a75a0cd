// SPDX-License-Identifier: Apache-2.0
// No worker sleeps, and no processor is idle, while a goroutine waits in a queue.
//
// MUTANTS: no_submit_fence no_searcher_fence no_second_look no_replacement
//
// The shape is that of sched/find_work.cpp and sched/idle.cpp, with their names and the real run queue.
//
//   submit                                       give up (every worker, searching or not)
//   S1  queue: tail or next .store(release);     P0  under the lock: processor to the idle list,
//       or the global queue's size                   idle_count.fetch_add(1)
//   S2  full_fence()                             P1  searching: searching.fetch_sub(1)
//   S3  idle_count.load(relaxed) == 0?  done     P2  full_fence()
//       searching.load(relaxed) != 0?   done     P3  global size, every queue's empty()
//       searching.cas(0 -> 1); take a processor      work: take a processor back and search
//       from the idle list and wake a worker     P4  sleep
//       with it, as a searcher
//
//   a searcher that has found work: if searching.fetch_sub(1) was 1: S2, S3 in its own name
//
// Claim      When all stand still, no goroutine is in a queue while a processor is idle.
// Proof      One of the fences S2, P2 is first. S2 first: P3 sees S1, and the worker goes back. P2 first:
//            S3 sees P0 and P1. So it finds an idle processor, and nobody searching unless a searcher
//            X other than this worker. X ends its search in one of two ways. It gives up: its P1 is
//            not in what S3 read, so its P2 is not before S2 and its P3 sees the work. Or it finds
//            work: then the last one of the searchers submits in its own name, later by the order of
//            the fences and of read-modify-writes on `searching`.
//            Two submitters may both see an idle processor: one wins the exchange 0 -> 1, and the
//            searcher that it sends does what is said of X. If the winner finds no processor on the list
//            any more, all are in use, and who gives one up next passes P3.
//            P3 finds no processor on the list: the same.
// Pairs      S1 with the thief's loads: the goroutine. The fences with each other: the order.
// Too weak   Without S2 or P2 both sides may miss, x86 included for S2 (P1 is a locked instruction
//            there). release and acquire do not help: they order no store before a later load.
//            Without P3 the goroutine waits although both sides were careful.
//            Without the replacement, two goroutines submitted while one searches get one worker.
// Not needed Go's `needspinning` serves workers that give up without looking again; here all look.
// Test       this file. A goroutine that was submitted blocks its submitter until it has run, so a
//            missed wake-up ends as a deadlock.
// Source     Go, runtime/proc.go, "Worker thread parking/unparking".
#include "model.hpp"
#include "queue/run_queue.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct bugs {
  bool no_submit_fence = false;
  bool no_searcher_fence = false;
  bool no_second_look = false;
  bool no_replacement = false;
};

struct goroutine {
  int number = 0;
};

// Goroutine 0 submits the others, one after the other, and then waits for the first of them; each
// waits for the next one; the last just runs. So each needs a processor of its own. Goroutine 0 runs
// on worker 0 with processor 0, or, if `Outside`, on a thread that has none.
//
// One worker more than processors, because a worker may be between giving up and sleeping when
// the processor that it gave up is handed to another one.
template <bugs B, int Processors, bool Outside>
struct suite : rl::test_suite<suite<B, Processors, Outside>, Processors + (Outside ? 2 : 1)> {
  static constexpr int worker_count = Processors + 1;
  static constexpr int children = Outside ? Processors : Processors - 1;
  static constexpr const char* goals[] = {"stolen", "the second look finds work", "slept",
                                          "woken for work"};
  using queue_type = queue::run_queue<goroutine, atomics, 4>;

  struct worker {
    int p = -1;
    bool spinning = false;
    int next_processor = -1;
    bool next_spinning = false;
    event wake;
  };

  mutex lock;
  // under the lock
  int idle_processors[Processors] = {};
  int idle_processor_stack = 0;
  worker* idle_workers[worker_count] = {};
  int idle_worker_stack = 0;
  goroutine* global[children + 1] = {};
  int global_first = 0;
  int global_last = 0;

  atomic<int> idle_count{0};
  atomic<int> searching{0};
  atomic<int> global_size{0};
  atomic<int> stopping{0};
  queue_type queues[Processors];
  worker workers[worker_count];
  goroutine goroutines[children + 1];
  event ended[children + 2];
  int runs = 0;

  void before() {
    if (Outside) reached(0);  // nothing is ever in a queue of one's own
    for (int i = 0; i <= children; ++i) goroutines[i].number = i;
    const int busy = Outside ? 1 : 2;  // the others sleep from the start
    for (int i = 0; i < worker_count; ++i) {
      if (i < busy && i < Processors) {
        workers[i].p = i;
      } else {
        idle_workers[idle_worker_stack++] = &workers[i];
      }
    }
    for (int i = busy; i < Processors; ++i) {
      idle_processors[idle_processor_stack++] = i;
      idle_count.fetch_add(1, order::relaxed);
    }
  }

  void thread(unsigned index) {
    if (Outside && index == worker_count) {
      submitter(nullptr);
      return;
    }
    worker& w = workers[index];
    if (!Outside && index == 0) {
      submitter(&w);
      return;
    }
    if (w.p < 0 && !sleep(w)) return;
    while (goroutine* g = find_runnable(w)) {
      if (w.spinning) {
        w.spinning = false;
        if (searching.fetch_sub(1, order::acq_rel) == 1 && !B.no_replacement) wake_worker();
      }
      run(*g);
    }
  }

  void after() { MODEL_ASSERT(runs == children); }

  // -- goroutines

  void submitter(worker* w) {
    for (int i = 1; i <= children; ++i) {
      if (w != nullptr) {
        push_local(*w, &goroutines[i]);
      } else {
        push_global(&goroutines[i]);
      }
      wake_worker();
    }
    ended[1].wait();
    stopping.store(1, order::release);
    lock.lock();
    while (idle_worker_stack != 0) {
      worker* sleeper = idle_workers[--idle_worker_stack];
      sleeper->next_processor = -1;
      sleeper->wake.post();
    }
    lock.unlock();
  }

  void run(goroutine& g) {
    ++runs;
    if (g.number < children) ended[g.number + 1].wait();
    ended[g.number].post();
  }

  // -- submitting

  void push_local(worker& w, goroutine* g) {
    if (choose(2) == 0) {
      if (goroutine* kicked = queues[w.p].set_next(g)) MODEL_ASSERT(queues[w.p].push_back(kicked));
    } else {
      MODEL_ASSERT(queues[w.p].push_back(g));
    }
  }

  void push_global(goroutine* g) {
    lock.lock();
    global[global_last++] = g;
    global_size.store(global_last - global_first, order::release);
    lock.unlock();
  }

  void wake_worker() {
    if (!B.no_submit_fence) atomics::full_fence();                              // S2
    if (idle_count.load(order::relaxed) == 0) return;                           // S3
    int nobody = 0;
    if (searching.load(order::relaxed) != 0 ||
        !searching.compare_exchange_strong(nobody, 1, order::acq_rel, order::relaxed)) {
      return;
    }
    lock.lock();
    const int p = take_idle();
    if (p < 0) {
      searching.fetch_sub(1, order::acq_rel);
      lock.unlock();
      return;
    }
    // A worker that is on its way to sleep stands for the thread that would be made here.
    while (idle_worker_stack == 0) {
      lock.unlock();
      spin();
      lock.lock();
    }
    worker* sleeper = idle_workers[--idle_worker_stack];
    lock.unlock();
    sleeper->next_processor = p;
    sleeper->next_spinning = true;
    reached(3);
    sleeper->wake.post();
  }

  // -- under the lock

  void put_idle(int p) {
    idle_processors[idle_processor_stack++] = p;
    idle_count.fetch_add(1, order::seq_cst);                                    // P0
  }

  int take_idle() {
    if (idle_processor_stack == 0) return -1;
    idle_count.fetch_sub(1, order::seq_cst);
    return idle_processors[--idle_processor_stack];
  }

  // -- looking for work

  void begin_search(worker& w) {
    w.spinning = true;
    searching.fetch_add(1, order::acq_rel);
  }

  bool any_work_visible() {
    if (global_size.load(order::acquire) != 0) return true;
    for (auto& q : queues) {
      if (!q.empty()) return true;
    }
    return false;
  }

  goroutine* take_from_global() {
    if (global_size.load(order::relaxed) == 0) return nullptr;
    lock.lock();
    goroutine* g = global_first != global_last ? global[global_first++] : nullptr;
    global_size.store(global_last - global_first, order::relaxed);
    lock.unlock();
    return g;
  }

  goroutine* steal(worker& w) {
    for (int i = 1; i < Processors; ++i) {
      goroutine* first = nullptr;
      if (queues[(w.p + i) % Processors].steal_into(queues[w.p], true, first) != 0) {
        reached(0);
        return first;
      }
    }
    return nullptr;
  }

  bool sleep(worker& w) {  // P4. False: the end.
    w.wake.wait();
    if (w.next_processor < 0) return false;
    w.p = w.next_processor;
    w.spinning = w.next_spinning;
    return true;
  }

  goroutine* find_runnable(worker& w) {
    for (;;) {
      if (stopping.load(order::acquire) != 0) return nullptr;
      if (goroutine* g = queues[w.p].pop().item) return g;
      if (goroutine* g = take_from_global()) return g;
      if (w.spinning || 2 * searching.load(order::relaxed) <
                            Processors - idle_count.load(order::relaxed)) {
        if (!w.spinning) begin_search(w);
        if (goroutine* g = steal(w)) return g;
      }
      lock.lock();
      if (global_first != global_last) {
        lock.unlock();
        continue;
      }
      put_idle(w.p);
      w.p = -1;
      lock.unlock();
      const bool searched = w.spinning;
      if (searched) {
        w.spinning = false;
        searching.fetch_sub(1, order::acq_rel);                                 // P1
      }
      if (!B.no_searcher_fence) atomics::full_fence();                          // P2
      if (!B.no_second_look && any_work_visible()) {                            // P3
        lock.lock();
        w.p = take_idle();
        lock.unlock();
        if (w.p >= 0) {
          reached(1);
          if (searched) begin_search(w);
          continue;
        }
      }
      lock.lock();
      if (stopping.load(order::relaxed) != 0) {
        lock.unlock();
        return nullptr;
      }
      idle_workers[idle_worker_stack++] = &w;
      lock.unlock();
      reached(2);
      if (!sleep(w)) return nullptr;
    }
  }
};

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<suite<bugs{}, 2, false>>("two processors");
  m.correct<suite<bugs{}, 3, false>>("three processors", {.random = 30'000});
  m.correct<suite<bugs{}, 2, true>>("submitted from outside", {.random = 40'000});
  m.mutant<suite<bugs{.no_submit_fence = true}, 2, false>>("no_submit_fence");
  m.mutant<suite<bugs{.no_searcher_fence = true}, 2, false>>("no_searcher_fence");
  m.mutant<suite<bugs{.no_second_look = true}, 2, false>>("no_second_look");
  m.mutant<suite<bugs{.no_replacement = true}, 3, false>>("no_replacement");
  return m.run();
}
