// SPDX-License-Identifier: Apache-2.0
#include <tuco/wait_reason.hpp>

namespace tuco::inline v1 {

std::string_view to_string(wait_reason reason) noexcept {
  switch (reason) {
    case wait_reason::none: return "";
    case wait_reason::io_wait: return "IO wait";
    case wait_reason::semacquire: return "semacquire";
    case wait_reason::sleep: return "sleep";
    case wait_reason::chan_receive_nil: return "chan receive (nil chan)";
    case wait_reason::chan_send_nil: return "chan send (nil chan)";
    case wait_reason::select_no_cases: return "select (no cases)";
    case wait_reason::select: return "select";
    case wait_reason::chan_receive: return "chan receive";
    case wait_reason::chan_send: return "chan send";
    case wait_reason::cond_wait: return "sync.Cond.Wait";
    case wait_reason::mutex_lock: return "sync.Mutex.Lock";
    case wait_reason::shared_mutex_rlock: return "sync.RWMutex.RLock";
    case wait_reason::shared_mutex_lock: return "sync.RWMutex.Lock";
    case wait_reason::wait_group_wait: return "sync.WaitGroup.Wait";
    case wait_reason::stopping_the_world: return "stopping the world";
    case wait_reason::preempted: return "preempted";
    case wait_reason::once_wait: return "sync.Once.Do";
    case wait_reason::join: return "join";
    case wait_reason::timer_stop: return "timer stop";
    case wait_reason::resolve: return "name resolution";
    case wait_reason::semaphore_acquire: return "semaphore acquire";
    case wait_reason::latch_wait: return "latch wait";
    case wait_reason::barrier_wait: return "barrier wait";
    case wait_reason::count_: break;
  }
  return "unknown wait reason";
}

std::string_view to_string(goroutine_status status) noexcept {
  switch (status) {
    case goroutine_status::idle: return "idle";
    case goroutine_status::runnable: return "runnable";
    case goroutine_status::running: return "running";
    case goroutine_status::syscall: return "syscall";
    case goroutine_status::waiting: return "waiting";
    case goroutine_status::dead: return "dead";
  }
  return "???";
}

}  // namespace tuco::inline v1
