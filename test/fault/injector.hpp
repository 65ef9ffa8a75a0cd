// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `injector`: makes a stretch of the runtime's system calls of one kind fail, in this process or in a
/// child that it will fork, and counts all calls by kind.
///
///     injector in;                                       // its tallies are shared with children
///     in.arm({os::call::accept, EMFILE, 2, 3});          // the second, third and fourth from now
///     ...
///     in.disarm();
///     in.hits()
///
/// os::scoped_fault is for unit tests with one fault at a time; this one is for the tests that do not
/// know beforehand what is called. One at a time in a process.

#include <atomic>
#include <cstdint>
#include <string>

#include "os/syscall.hpp"

namespace tuco::test {

inline constexpr std::size_t call_count = static_cast<std::size_t>(os::call::count_);
inline constexpr std::uint64_t endless = UINT64_MAX;

struct fault {
  os::call kind = os::call::count_;
  int error = 0;             ///< errno value, positive; for resolve see call_table.hpp
  std::uint64_t first = 1;   ///< counted from 1
  std::uint64_t count = 1;   ///< how many in a row; endless

  /// "the 2. accept fails with EMFILE"
  [[nodiscard]] std::string text() const;
};

class injector {
 public:
  injector();
  ~injector();
  injector(const injector&) = delete;
  injector& operator=(const injector&) = delete;

  /// Counts from 0 again; fails nothing.
  void count_only() noexcept { arm({}); }
  void arm(const fault& f) noexcept;
  void disarm() noexcept;

  [[nodiscard]] std::uint64_t calls(os::call kind) const noexcept;
  [[nodiscard]] std::uint64_t hits() const noexcept;

 private:
  struct tallies;
  static int consult(os::call kind) noexcept;
  static tallies* current;
  tallies* shared_;
};

}  // namespace tuco::test
