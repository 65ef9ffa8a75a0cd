// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The registers that a signal interrupted, as Go prints them behind the goroutines:
///
///     rax    0xca
///     ...
///     rip    0x4611e1
///     rflags 0x286

#include <array>
#include <cstddef>
#include <cstdint>

#include "os/write.hpp"

namespace tuco::inline v1::observe {

#if defined(__x86_64__)
inline constexpr std::size_t printed_registers = 21;
#else
inline constexpr std::size_t printed_registers = 34;
#endif
using register_values = std::array<std::uint64_t, printed_registers>;

/// From the third argument of a signal handler. Async-signal-safe, as is write_registers().
[[nodiscard]] register_values registers_of(const void* ucontext) noexcept;

/// A line for each.
void write_registers(os::fd_writer& out, const register_values& values) noexcept;

}  // namespace tuco::inline v1::observe
