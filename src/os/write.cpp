// SPDX-License-Identifier: Apache-2.0
#include "os/write.hpp"

#include <poll.h>
#include <unistd.h>

#include <cstring>

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

int write_all(int descriptor, std::string_view text) noexcept {
  int patience = 10;
  while (!text.empty()) {
    const ssize_t written = retry_eintr([&] {
      return system_call(call::write,
                         [&] { return ::write(descriptor, text.data(), text.size()); });
    });
    if (written == -EAGAIN && patience-- > 0) {
      pollfd room{descriptor, POLLOUT, 0};
      int& error = thread_errno();
      const int before = error;
      ::poll(&room, 1, 100);
      error = before;
      continue;
    }
    if (written < 0) return static_cast<int>(written);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

fd_writer& fd_writer::text(std::string_view s) noexcept {
  while (!s.empty()) {
    if (used_ == sizeof buffer_) flush();
    const std::size_t n = s.size() < sizeof buffer_ - used_ ? s.size() : sizeof buffer_ - used_;
    std::memcpy(buffer_ + used_, s.data(), n);
    used_ += n;
    s.remove_prefix(n);
  }
  return *this;
}

fd_writer& fd_writer::text(const char* s) noexcept {
  return text(s == nullptr ? std::string_view("(null)") : std::string_view(s));
}

fd_writer& fd_writer::udec(std::uint64_t value) noexcept {
  char digits[20];
  std::size_t at = sizeof digits;
  do {
    digits[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return text(std::string_view(digits + at, sizeof digits - at));
}

fd_writer& fd_writer::dec(std::int64_t value) noexcept {
  if (value >= 0) return udec(static_cast<std::uint64_t>(value));
  return text("-").udec(0 - static_cast<std::uint64_t>(value));
}

fd_writer& fd_writer::hex(std::uint64_t value, int digits) noexcept {
  char out[16];
  std::size_t at = sizeof out;
  if (digits > 16) digits = 16;
  do {
    out[--at] = "0123456789abcdef"[value & 15];
    value >>= 4;
  } while (value != 0 || sizeof out - at < static_cast<std::size_t>(digits));
  return text("0x").text(std::string_view(out + at, sizeof out - at));
}

void fd_writer::flush() noexcept {
  write_all(descriptor_, {buffer_, used_});  // nobody is left to tell of a failure
  used_ = 0;
}

}  // namespace tuco::inline v1::os
