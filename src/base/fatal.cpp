// SPDX-License-Identifier: Apache-2.0
#include "base/fatal.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace tuco::inline v1::base {
namespace {

std::atomic<fatal_hook> hook{nullptr};
std::atomic<bool> dying{false};

void write_text(const char* text) noexcept {
  std::size_t left = std::strlen(text);
  while (left > 0) {
    const ssize_t n = ::write(STDERR_FILENO, text, left);
    if (n <= 0) return;
    text += n;
    left -= static_cast<std::size_t>(n);
  }
}

}  // namespace

void set_fatal_hook(fatal_hook h) noexcept { hook.store(h, std::memory_order_release); }

void begin_dying() noexcept {
  if (!dying.exchange(true)) return;
  for (;;) ::pause();
}

bool is_dying() noexcept { return dying.load(std::memory_order_acquire); }

void fatal(const char* text) noexcept {
  begin_dying();
  write_text("fatal error: ");
  write_text(text);
  write_text("\n");
  if (const fatal_hook h = hook.load(std::memory_order_acquire)) h(text);
  ::_exit(2);
}

}  // namespace tuco::inline v1::base
