// SPDX-License-Identifier: Apache-2.0
// The guards of a stack_pool's slots.
#include <cerrno>

#include "os/memory.hpp"
#include "os/proc.hpp"
#include "task/stack_pool.hpp"

namespace tuco::inline v1::task {

bool stack_pool::may_map_guard() noexcept {
  lock_.lock();
  if (mappings_limit_ == 0) {
    const std::size_t all = options_.max_mappings != 0 ? options_.max_mappings : os::max_mappings();
    const std::size_t spoken_for = os::mapping_count() + options_.spare_mappings;
    mappings_limit_ = all > spoken_for ? all - spoken_for : 1;
  }
  // Two each: the guard, and the stack that it cuts off from its neighbour's.
  const bool may = (mapped_guards_ + 1) * 2 <= mappings_limit_;
  if (may) ++mapped_guards_;
  lock_.unlock();
  return may;
}

// @return 0 or a negative errno value; -ENOBUFS: no mappings, by our own count
int stack_pool::install_guard(unsigned size_class, std::uintptr_t slot, bool& mapped) noexcept {
  void* const address = reinterpret_cast<void*>(slot);
  const std::size_t size = guard_bytes(size_class);
  mapped = false;
  if (options_.guards == guard_kind::automatic && os::guard_install_works()) {
    const int result = os::guard_install(address, size);
    // EINVAL although the kernel knows it: the memory is locked (mlockall). mprotect does not mind.
    if (result != -EINVAL) return result;
  }
  if (!may_map_guard()) return -ENOBUFS;
  const int result = os::protect_none(address, size);
  mapped = result == 0;
  if (!mapped) {
    lock_.lock();
    --mapped_guards_;
    lock_.unlock();
  }
  return result;
}

}  // namespace tuco::inline v1::task
