// SPDX-License-Identifier: Apache-2.0
#include "os/membarrier.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/env.hpp"
#include "os/lock.hpp"
#include "os/sleep.hpp"
#include "os/syscall.hpp"

namespace tuco::inline v1::os {
namespace {

long membarrier(int command) noexcept {
  return system_call(call::membarrier, [&] { return ::syscall(SYS_membarrier, command, 0, 0); });
}

lock start_lock;
bool started = false;

}  // namespace

void restart_membarrier() noexcept {
  const bool works = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
                     membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
  detail::light_fence_is_full.store(!works, std::memory_order_seq_cst);
}

void start_membarrier() noexcept {
  start_lock.lock();
  if (!started) {
    started = true;
    if (!debug_option("nomembarrier")) restart_membarrier();
  }
  start_lock.unlock();
}

bool membarrier_works() noexcept {
  return !detail::light_fence_is_full.load(std::memory_order_relaxed);
}

void heavy_fence() noexcept {
  if (!detail::light_fence_is_full.load(std::memory_order_relaxed)) {
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return;
    // Threads that read the flag a moment ago made light fences that nobody completes any more.
    // The kernel gives us no way to reach them; but store buffers drain by themselves, and each core
    // that runs a thread has passed a timer interrupt after 20 ms. From then on all see the flag.
    detail::light_fence_is_full.store(true, std::memory_order_seq_cst);
    sleep_for(20'000'000);
  }
  base::full_fence();
}

void force_fence_fallback() noexcept {
  detail::light_fence_is_full.store(true, std::memory_order_seq_cst);
}

}  // namespace tuco::inline v1::os
