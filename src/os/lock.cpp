// SPDX-License-Identifier: Apache-2.0
#include "os/lock.hpp"

#include <sched.h>

#include "base/pause.hpp"
#include "base/spin_lock.hpp"
#include "os/futex.hpp"

namespace tuco::inline v1::os {

void futex_lock::lock_slow() noexcept {
  for (int i = 0; i < 100; ++i) {
    base::pause();
    if (word_.load(std::memory_order_relaxed) == free_ && try_lock()) return;
  }
  // From here on we take it as `contended`, also when nobody waits: we cannot know, and forgetting
  // a sleeper would be worse than one wake too many.
  while (word_.exchange(contended_, std::memory_order_acquire) != free_) {
    futex_wait(word_, contended_);
  }
}

void futex_lock::wake_one() noexcept { futex_wake(word_, 1); }

}  // namespace tuco::inline v1::os

namespace tuco::inline v1::base {

void spin_wait_yield() noexcept { ::sched_yield(); }

}  // namespace tuco::inline v1::base
