// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace tuco::inline v1::base {

/// Distance that keeps two words from sharing. 128 and not 64: the adjacent-line prefetcher of
/// Intel cores moves lines in pairs (Intel 64 optimization manual, 3.7.3), and Apple's and some Arm
/// servers' lines are 128 bytes.
inline constexpr std::size_t cache_line = 128;

}  // namespace tuco::inline v1::base
