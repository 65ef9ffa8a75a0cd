// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Under ThreadSanitizer only: what ended goroutines leave waits here for a while.
///
/// The next user of a record or a stack has to be ordered behind the one before, or its first writes
/// would be taken for races. But that order is one that the program did not make: without this, a
/// goroutine would be ordered behind the one that ended just before it, which is the pair whose race is
/// the most likely one. First in, first out, so that only goroutines far apart are joined in this way.

#include <array>
#include <cstddef>
#include <utility>

#include "os/lock.hpp"
#include "task/goroutine.hpp"

namespace tuco::inline v1::sched {

class quarantine {
 public:
  constexpr quarantine() noexcept = default;

  /// Keeps a record, and the stack in it. @return The one that has been here longest, or null.
  task::goroutine* exchange(task::goroutine* g) noexcept {
    lock_.lock();
    task::goroutine* const oldest = std::exchange(kept_[next_], g);
    next_ = (next_ + 1) % kept_.size();
    lock_.unlock();
    return oldest;
  }

 private:
  os::lock lock_;
  std::size_t next_ = 0;
  std::array<task::goroutine*, 256> kept_{};
};

}  // namespace tuco::inline v1::sched
