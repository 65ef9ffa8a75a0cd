// SPDX-License-Identifier: Apache-2.0
// Threads that are not workers: the record and the stand-in goroutine with which they block.
#include <pthread.h>

#include <new>

#include "arch/thread_slot.hpp"
#include "base/fatal.hpp"
#include "os/thread.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

struct plain_thread_record {
  worker thread;
  goroutine stand_in;
};

pthread_key_t key;
pthread_once_t once = PTHREAD_ONCE_INIT;

/// The thread ends. A destructor that runs later and uses a primitive attaches it anew.
void detach(void* value) noexcept {
  arch::set_thread_slot(nullptr);
  the_scheduler.plain_threads.fetch_sub(1, std::memory_order_relaxed);
  delete static_cast<plain_thread_record*>(value);
}

/// The child of a fork has one thread and none of the workers; what they held stays locked.
void after_fork_in_child() noexcept {
  the_scheduler.forked.store(true, std::memory_order_relaxed);
  if (worker* w = this_worker()) {
    w->attention_word.store(attention::forked, std::memory_order_relaxed);
  }
}

}  // namespace

worker* this_worker_or_attach() {
  if (worker* w = this_worker()) return w;
  if (the_scheduler.forked.load(std::memory_order_relaxed)) die_after_fork();
  pthread_once(&once, [] { pthread_key_create(&key, &detach); });
  auto* record = new (std::nothrow) plain_thread_record;
  if (record == nullptr) base::fatal("out of memory for a thread's record");
  worker* w = &record->thread;
  goroutine* g = &record->stand_in;
  g->flags = task::flag_plain_thread;
  g->status.store(goroutine_status::running, std::memory_order_relaxed);
  g->epoch = 0;
  w->plain_thread = true;
  w->current.store(g, std::memory_order_relaxed);
  w->stand_in = g;
  attach_thread(w);
  w->tid = os::thread_id();
  pthread_setspecific(key, record);
  arch::set_thread_slot(w);
  the_scheduler.plain_threads.fetch_add(1, std::memory_order_relaxed);
  return w;
}

void watch_forks() noexcept {
  static pthread_once_t registered = PTHREAD_ONCE_INIT;
  pthread_once(&registered, [] { pthread_atfork(nullptr, nullptr, &after_fork_in_child); });
}

void die_after_fork() noexcept {
  base::fatal(
      "goroutine call in the child of a fork: its workers stayed in the parent. Call exec after "
      "fork, or use posix_spawn");
}

}  // namespace tuco::inline v1::sched
