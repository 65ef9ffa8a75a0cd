// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Makes chosen system calls of the runtime fail: for tests, in builds with TUCO_FAULT_INJECTION.
///
///     os::scoped_fault fault(os::call::mmap, ENOMEM);           // every mmap
///     os::scoped_fault fault(os::call::madvise, EINVAL, 3);     // the third one from now, once
///     ...
///     EXPECT_EQ(fault.hits(), 1);
///
/// To try every call of a scenario: run it once under scoped_fault(kind, 0), which fails nothing, ask
/// calls(), then run it once for each n.

#include <cstdint>
#include <string_view>

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

/// One at a time in a process; counts and fails calls of all threads.
class scoped_fault {
 public:
  static constexpr std::uint64_t every = 0;

  /// @param error  errno value (positive); 0 only counts
  /// @param nth    which call fails, counted from 1; `every` for all
  explicit scoped_fault(call kind, int error, std::uint64_t nth = every) noexcept;
  ~scoped_fault();
  scoped_fault(const scoped_fault&) = delete;
  scoped_fault& operator=(const scoped_fault&) = delete;

  /// How many calls of this kind were asked for since.
  [[nodiscard]] std::uint64_t calls() const noexcept;
  /// How many of them failed by our hand.
  [[nodiscard]] std::uint64_t hits() const noexcept;
};

/// "mmap", "epoll_ctl", ...
std::string_view to_string(call kind) noexcept;

}  // namespace tuco::inline v1::os
