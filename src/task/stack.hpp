// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A goroutine's stack: [low, high), growing down, with an inaccessible guard right below `low`.

#include <cstddef>
#include <cstdint>

namespace tuco::inline v1::task {

struct stack {
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;
  std::uintptr_t top = 0;  ///< where the first frame begins: `high` less the colour, 16-byte aligned

  explicit operator bool() const noexcept { return high != 0; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return high - low; }
  [[nodiscard]] bool contains(std::uintptr_t address) const noexcept {
    return address >= low && address < high;
  }
};

}  // namespace tuco::inline v1::task
