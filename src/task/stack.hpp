// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A goroutine's stack: [low, high), growing down, with an inaccessible guard right below `low`.

#include <cstddef>
#include <cstdint>

namespace tuco::inline v1::task {

struct stack {
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;

  /// Where the first frame begins: 64 to 960 bytes below `high`, by a multiplicative hash, so that neighbours
  /// differ: otherwise the hot lines of all parked goroutines would compete for the same few sets of the
  /// cache. A shallow stack still touches one page only.
  [[nodiscard]] constexpr std::uintptr_t top() const noexcept {
    constexpr std::uintptr_t least_apart = 16384;
    const std::uint64_t hash = (high / least_apart) * 0x9e3779b97f4a7c15u;
    return high - 64 * (1 + (hash >> 32) % 15);
  }
  explicit operator bool() const noexcept { return high != 0; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return high - low; }
  [[nodiscard]] bool contains(std::uintptr_t address) const noexcept {
    return address >= low && address < high;
  }
};

}  // namespace tuco::inline v1::task
