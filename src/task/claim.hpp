// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Who ends a wait that more than one party may end. See sched/park.hpp.
///
/// Invariant: a waiter that refers to a goroutine by claim is unlinked from every queue (and its
/// deadline from the heap) before the goroutine arms its claim anew. So a party that still holds a
/// waiter cannot hit a later wait, and the word needs no generation (hazards H31).

#include <atomic>
#include <cstdint>

#include "task/goroutine.hpp"

namespace tuco::inline v1::task {

/// Other values belong to the primitive that armed the claim (select: 1 + case index).
inline constexpr std::uint32_t unclaimed = 0;
inline constexpr std::uint32_t claimed_by_deadline = 0xffffffffu;
inline constexpr std::uint32_t claimed_by_commit = 0xfffffffeu;  ///< the commit action: it need not wait

inline void arm_claim(goroutine* g) noexcept {
  g->claim.store(unclaimed, std::memory_order_relaxed);
}

/// @return True for the one party that may, and must, ready the goroutine.
inline bool try_claim(goroutine* g, std::uint32_t by) noexcept {
  std::uint32_t expected = unclaimed;
  return g->claim.compare_exchange_strong(expected, by, std::memory_order_acq_rel,
                                          std::memory_order_acquire);
}

}  // namespace tuco::inline v1::task
