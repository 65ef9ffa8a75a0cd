// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tuco::inline v1::base {

/// A small fast generator for scheduling choices; not for secrets.
/// **Source.** Sebastiano Vigna, xorshift64*, "An experimental exploration of Marsaglia's xorshift
/// generators, scrambled" (2016).
class random_source {
 public:
  explicit random_source(std::uint64_t seed) noexcept : state_(seed * 0x9e3779b97f4a7c15ull + 1) {
    if (state_ == 0) state_ = 1;
  }
  std::uint32_t next() noexcept {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<std::uint32_t>((state_ * 0x2545f4914f6cdd1dull) >> 32);
  }
  /// Uniform in [0, bound) but for a bias of at most bound / 2^32.
  std::uint32_t below(std::uint32_t bound) noexcept {
    return static_cast<std::uint32_t>((std::uint64_t{next()} * bound) >> 32);
  }

 private:
  std::uint64_t state_;
};

}  // namespace tuco::inline v1::base
