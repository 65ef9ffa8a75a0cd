// SPDX-License-Identifier: Apache-2.0
#include "task/stack_cache.hpp"

#include <algorithm>

#include "base/sanitizer.hpp"

namespace tuco::inline v1::task {

bool stack_cache::refill(unsigned size_class, stack_failure& why) noexcept {
  if (size_class >= stack_class_count) {
    pool_->take(size_class, nullptr, 0, why);  // says why not
    return false;
  }
  pile& p = piles_[size_class];
  const std::size_t half = std::max(1u, capacity_of(size_class) / 2);
  p.count = static_cast<unsigned>(pool_->take(size_class, p.slots.data(), half, why));
  return p.count != 0;
}

// The older half leaves: the younger one is warmer.
void stack_cache::spill(unsigned size_class) noexcept {
  const base::unseen_by_tsan unseen;
  pile& p = piles_[size_class];
  const unsigned leaving = (p.count + 1) / 2;
  pool_->give(size_class, p.slots.data(), leaving);
  std::copy(p.slots.begin() + leaving, p.slots.begin() + p.count, p.slots.begin());
  p.count -= leaving;
}

void stack_cache::drain() noexcept {
  for (unsigned c = 0; c < stack_class_count; ++c) {
    pile& p = piles_[c];
    if (p.count != 0) pool_->give(c, p.slots.data(), p.count);
    p.count = 0;
  }
}

}  // namespace tuco::inline v1::task
