// SPDX-License-Identifier: Apache-2.0
#include "os/fault.hpp"

#include <array>

namespace tuco::inline v1::os {
namespace {

struct plan {
  std::atomic<call> kind{call::count_};
  std::atomic<int> error{0};
  std::atomic<std::uint64_t> nth{0};
  std::atomic<std::uint64_t> calls{0};
  std::atomic<std::uint64_t> hits{0};
};
plan current;

[[maybe_unused]] int consult(call kind) noexcept {
  if (kind != current.kind.load(std::memory_order_acquire)) return 0;
  const std::uint64_t number = current.calls.fetch_add(1, std::memory_order_relaxed) + 1;
  const std::uint64_t nth = current.nth.load(std::memory_order_relaxed);
  const int error = current.error.load(std::memory_order_relaxed);
  if (error == 0 || (nth != scoped_fault::every && nth != number)) return 0;
  current.hits.fetch_add(1, std::memory_order_relaxed);
  return error;
}

constexpr std::array<std::string_view, static_cast<std::size_t>(call::count_)> names = {
    "mmap", "munmap", "mprotect", "madvise", "mincore", "prctl",
    "futex", "membarrier", "thread_create", "sigaltstack", "tgkill", "affinity",
    "clock_gettime", "nanosleep",
    "open", "close", "read", "write", "stat", "fcntl", "getdents",
    "epoll_create", "epoll_ctl", "epoll_wait", "eventfd",
    "socket", "bind", "listen", "accept", "connect", "shutdown", "sockopt", "sockname", "resolve",
    "send", "recv", "sendfile",
};
static_assert(!names.back().empty());

}  // namespace

scoped_fault::scoped_fault(call kind, int error, std::uint64_t nth) noexcept {
  current.error.store(error, std::memory_order_relaxed);
  current.nth.store(nth, std::memory_order_relaxed);
  current.calls.store(0, std::memory_order_relaxed);
  current.hits.store(0, std::memory_order_relaxed);
  // Release: a thread that sees the kind sees the rest of the plan.
  current.kind.store(kind, std::memory_order_release);
#ifdef TUCO_FAULT_INJECTION
  fault_hook.store(&consult, std::memory_order_release);
#endif
}

scoped_fault::~scoped_fault() {
  current.kind.store(call::count_, std::memory_order_release);
#ifdef TUCO_FAULT_INJECTION
  fault_hook.store(nullptr, std::memory_order_release);
#endif
}

std::uint64_t scoped_fault::calls() const noexcept {
  return current.calls.load(std::memory_order_relaxed);
}
std::uint64_t scoped_fault::hits() const noexcept {
  return current.hits.load(std::memory_order_relaxed);
}

std::string_view to_string(call kind) noexcept {
  const auto index = static_cast<std::size_t>(kind);
  return index < names.size() ? names[index] : "unknown call";
}

}  // namespace tuco::inline v1::os
