// SPDX-License-Identifier: Apache-2.0
// The guards of a stack_pool's slots.
#include <cerrno>

#include "os/memory.hpp"
#include "os/proc.hpp"
#include "task/stack_arena.hpp"

namespace tuco::inline v1::task {
namespace {

constexpr const char* no_mappings_text =
    "no mapping left for the guard page of a goroutine's stack: vm.max_map_count is nearly reached; "
    "raise it, or use Linux 6.13 or later, whose guard pages need no mappings";

}  // namespace

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

// @param mapped  whether it takes mappings
// @return False: `why` tells the reason.
bool stack_pool::install_guard(unsigned size_class, std::uintptr_t slot, bool& mapped,
                               stack_failure& why) noexcept {
  void* const address = reinterpret_cast<void*>(slot);
  const std::size_t size = guard_bytes(size_class);
  mapped = false;
  if (options_.guards == guard_kind::automatic && os::guard_install_works()) {
    const int result = os::guard_install(address, size);
    if (result == 0) return true;
    // No page table can be had, and the stack itself would need one, too.
    if (result == -ENOMEM) {
      why = {ENOMEM, no_memory_text};
      return false;
    }
    // Refused although the kernel knows it: the memory is locked (mlockall), or a sandbox was put on
    // since it was tried out. mprotect does not mind.
  }
  if (!may_map_guard()) {
    why = {ENOMEM, no_mappings_text};
    return false;
  }
  const int result = os::protect_none(address, size);
  if (result == 0) {
    mapped = true;
    return true;
  }
  lock_.lock();
  --mapped_guards_;
  lock_.unlock();
  why = result == -ENOMEM ? stack_failure{ENOMEM, no_mappings_text}
                          : stack_failure{-result, guard_refused_text};
  return false;
}

}  // namespace tuco::inline v1::task
