// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The untyped select behind tuco/select.hpp.

#include <cstddef>
#include <cstdint>

#include <tuco/config.hpp>
#include <tuco/detail/chan_core.hpp>

namespace tuco::inline v1::detail {

enum class select_kind : std::uint8_t { none, send, recv };

/// One case: what it wants, its place in the line of its channel, and a cell of each of the two
/// orders in which the cases are visited. So a select of any size needs no memory of its own.
struct select_entry {
  chan_node node;                 ///< slot and deliver are the caller's to set
  chan_core* channel = nullptr;   ///< null: never ready
  select_kind kind = select_kind::none;
  std::uint32_t poll = 0;         ///< poll order, k-th: index of a case
  std::uint32_t lock = 0;         ///< lock order, k-th: index of a case
};

inline constexpr std::ptrdiff_t select_default = -1;
inline constexpr std::ptrdiff_t select_timed_out = -2;

/// Waits for the first of `count` operations that can proceed, does it, and says which.
/// @param has_default  return select_default instead of waiting
/// @param deadline     return select_timed_out when it has passed
/// @return The index; node.result tells `done` from `closed` (a receive without a value).
/// @throws closed_error if the chosen case sends on a closed channel; what moving the value throws
TUCO_API std::ptrdiff_t select_run(select_entry* entries, std::size_t count, bool has_default,
                                   std::int64_t deadline);

/// `select()` without cases.
[[noreturn]] TUCO_API void select_forever();

}  // namespace tuco::inline v1::detail
