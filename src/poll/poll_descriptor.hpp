// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the poller knows of one open descriptor.
///
/// **Memory** is type-stable: slabs that are never unmapped, so that an event that was collected just
/// before the descriptor closed, a dump, or the reader of a core may look at any time. A late event
/// is recognised by its sequence number; one that slips through between the look and the use sets
/// `ready` for the new owner of the record, which costs that one a system call and nothing else.
///
/// Who may write:
///
///     field                  written by
///     reading, writing       see poll_word.hpp
///     deadline[]             anyone who holds a reference to the descriptor (set_deadline)
///     closing                the one that closes, once
///     ended                  the poller
///     descriptor, peer       open and close, while nobody else knows the record
///     sequence               close
///     plain_*                plain threads that wait, under plain_lock

#include <atomic>
#include <cstdint>

#include "base/spin_lock.hpp"
#include "poll/poll_word.hpp"
#include "task/goroutine.hpp"

namespace tuco::inline v1::poll {

enum class direction : std::uint8_t { read = 0, write = 1 };

/// The value of a deadline that never passes.
inline constexpr std::int64_t no_deadline = INT64_MAX;

struct alignas(64) poll_descriptor {
  // -- first line: what an event and a wait touch
  poll_word<> word[2];                   ///< by direction
  std::atomic<std::int64_t> deadline[2]{{no_deadline}, {no_deadline}};  ///< steady clock, ns
  std::atomic<std::uint32_t> sequence{0};
  std::atomic<int> descriptor{-1};       ///< -1: not in use
  std::atomic<bool> closing{false};
  /// The peer has finished, or the stream has an error or an urgent mark: from now on a short read
  /// does not mean that nothing is left to read (docs/design/poller.md, "Short reads").
  std::atomic<bool> ended{false};
  std::uint8_t peer_size = 0;
  std::uint32_t index = 0;               ///< place in the poller's table
  poll_descriptor* next_free = nullptr;

  // -- second line: rarely touched
  base::spin_lock plain_lock;
  std::atomic<int> plain_waiters{0};     ///< threads without a worker in poll(2); see io/wait.cpp
  int plain_wake[2] = {-1, -1};          ///< their eventfds, by direction
  /// The other end's address (a sockaddr, cut off where it does not fit), for dumps.
  alignas(4) unsigned char peer[32] = {};

  [[nodiscard]] poll_word<>& of(direction d) noexcept { return word[static_cast<int>(d)]; }
  [[nodiscard]] const poll_word<>& of(direction d) const noexcept {
    return word[static_cast<int>(d)];
  }
  [[nodiscard]] std::atomic<std::int64_t>& deadline_of(direction d) noexcept {
    return deadline[static_cast<int>(d)];
  }

  /// For dumps: whether `g`, which is parked on this descriptor, waits to read or to write.
  [[nodiscard]] bool waits(const task::goroutine* g, direction d) const noexcept {
    return (of(d).peek() & ~poll_word<>::tag_mask) == reinterpret_cast<std::uintptr_t>(g);
  }
};
static_assert(sizeof(poll_descriptor) == 128);
static_assert(alignof(task::goroutine) > poll_word<>::tag_mask);

}  // namespace tuco::inline v1::poll
