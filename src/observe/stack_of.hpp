// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The stack of any goroutine, whatever it does.

#include <cstdint>
#include <span>

#include "observe/unwinder.hpp"
#include "task/goroutine.hpp"

namespace tuco::inline v1::observe {

enum class stack_source : std::uint8_t {
  parked,       ///< from its saved context, held still meanwhile
  signal,       ///< it was running: from the context of a signal
  own,          ///< the caller's
  not_started,  ///< it has no stack yet
  unavailable,  ///< its thread did not answer in time, or it ended meanwhile
};

struct stack_capture {
  stack_source source = stack_source::unavailable;
  walk_result walk;
};

/// Walks the stack of `g`, which may be any live goroutine, and writes its addresses, innermost first.
/// Takes microseconds for a parked one, up to `patience_ns` for one whose thread takes no signals, some
/// seconds for one whose thread wants to run but gets no processor.
/// Inside a registry::reading section, unless `g` is the caller.
/// @param sps  as of capture()
stack_capture capture_goroutine(task::goroutine* g, std::span<std::uintptr_t> pcs,
                                std::span<std::uintptr_t> sps = {},
                                std::int64_t patience_ns = 100'000'000) noexcept;

/// While one exists and is `held()`, `g` does not run: what it waits for is there, its stack stands
/// still. Keep it for microseconds. Inside a registry::reading section.
class parked_pin {
 public:
  explicit parked_pin(task::goroutine* g) noexcept;
  ~parked_pin();
  parked_pin(const parked_pin&) = delete;
  parked_pin& operator=(const parked_pin&) = delete;
  /// False: it is running, or has ended.
  [[nodiscard]] bool held() const noexcept { return held_; }

 private:
  task::goroutine* g_;
  bool held_;
};

/// What a signal handler interrupted.
struct interrupted_stack {
  /// Stack on which the registers lie; empty when it is no goroutine's.
  stack_bounds stack;
  /// The interrupted ones, or, between two contexts, those that are being resumed.
  register_state registers;
};

/// Says where a signal has hit its thread. Async-signal-safe.
[[nodiscard]] interrupted_stack where_interrupted(const void* ucontext) noexcept;

/// Installs the signal's handler; idempotent. False if the program has one of its own: then running
/// goroutines of others are `unavailable`.
bool install_sampling_signal() noexcept;

}  // namespace tuco::inline v1::observe
