// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Text to a descriptor from anywhere: signal handlers, a wedged scheduler, out of memory.
/// No allocation, no lock, no locale, nothing but write(2).

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tuco::inline v1::os {

/// Writes all of `text`, over short writes, EINTR and EAGAIN (a pipe that its reader made
/// non-blocking: waits for room up to a second).
/// @return 0 or a negative errno value.
int write_all(int descriptor, std::string_view text) noexcept;

/// Collects text in 512 bytes and writes what is collected at flush(), at the end of its life, and
/// when full, so that a message usually leaves in one write and does not mix with others'.
class fd_writer {
 public:
  explicit fd_writer(int descriptor) noexcept : descriptor_(descriptor) {}
  ~fd_writer() { flush(); }
  fd_writer(const fd_writer&) = delete;
  fd_writer& operator=(const fd_writer&) = delete;

  fd_writer& text(std::string_view s) noexcept;
  /// A C string, or "(null)".
  fd_writer& text(const char* s) noexcept;
  fd_writer& dec(std::int64_t value) noexcept;
  fd_writer& udec(std::uint64_t value) noexcept;
  /// "0x1f"; with zeros in front up to `digits`.
  fd_writer& hex(std::uint64_t value, int digits = 1) noexcept;
  fd_writer& pointer(const void* p) noexcept {
    return hex(reinterpret_cast<std::uintptr_t>(p));
  }
  void flush() noexcept;

 private:
  int descriptor_;
  std::size_t used_ = 0;
  char buffer_[512];
};

}  // namespace tuco::inline v1::os
