// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How the members of net_fd begin: as users, or as the one that holds a direction, and with a look at
/// the deadline. Whoever comes after close() stays outside; whoever leaves last, of an object that nobody
/// owns any more, frees it.

#include "io/net_fd.hpp"
#include "os/clock.hpp"
#include "sched/park.hpp"

namespace tuco::inline v1::io {

/// Counts a user for a scope.
class net_fd::user {
 public:
  explicit user(net_fd& fd) noexcept : fd_(fd), inside_(fd.mutex_.enter()) {}
  ~user() {
    if (inside_ && fd_.mutex_.leave()) fd_.left_orphan();
  }
  user(const user&) = delete;
  user& operator=(const user&) = delete;
  explicit operator bool() const noexcept { return inside_; }

 private:
  net_fd& fd_;
  const bool inside_;
};

/// Holds one direction for a scope.
class net_fd::holder {
 public:
  holder(net_fd& fd, direction d) noexcept : fd_(fd), d_(d), inside_(take(fd, d)) {}
  ~holder() {
    if (inside_ && fd_.mutex_.unlock(d_)) fd_.left_orphan();
  }
  holder(const holder&) = delete;
  holder& operator=(const holder&) = delete;
  explicit operator bool() const noexcept { return inside_; }

 private:
  static bool take(net_fd& fd, direction d) noexcept {
    // One section for each operation, also for those that never wait: here a goroutine that always
    // finds data learns that its processor was taken or is wanted by others.
    sched::runtime_section section;
    return fd.mutex_.lock(d);
  }
  net_fd& fd_;
  const direction d_;
  const bool inside_;
};

// Before each operation: Go fails a read past its deadline even when data is there.
inline int net_fd::check(direction d) noexcept {
  const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_relaxed);
  if (deadline != poll::no_deadline && deadline <= os::steady_now_ns()) [[unlikely]] {
    return error_deadline;
  }
  return 0;
}

}  // namespace tuco::inline v1::io
