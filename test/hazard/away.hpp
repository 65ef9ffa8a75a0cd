// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Forces the calling goroutine to another thread while the one it leaves stays alive and in use.

#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include <tuco/go.hpp>
#include <tuco/time.hpp>

#include "fixture/runtime_test.hpp"

namespace tuco::test {

/// From its constructor's return the caller runs on another thread than before.
///
///     away trip([] { /* on the thread that was left */ }, [] { /* there, at the end */ });
///
/// The trick: a visitor is put where the caller's thread looks first when the caller parks, and blocks
/// that thread in the kernel. The processor is taken from it, so the caller wakes up elsewhere. With
/// several processors another worker may steal the visitor: see visited().
class away {
 public:
  explicit away(std::function<void()> arrived = {}, std::function<void()> leaving = {}) {
    const pid_t here = ::gettid();
    do {
      end();
      visitor_ = std::make_shared<visitor>();
      if (::pipe(visitor_->pipe) != 0) std::abort();
      tuco::go([v = visitor_, arrived, leaving] {
        v->thread.store(::gettid(), std::memory_order_relaxed);
        if (arrived) arrived();
        char c = 0;
        static_cast<void>(!::read(v->pipe[0], &c, 1));
        if (leaving) leaving();
        v->done.store(true, std::memory_order_release);
      });
      tuco::sleep_for(std::chrono::microseconds(100));
    } while (::gettid() == here);
    visited_ = visitor_->thread.load(std::memory_order_relaxed) == here;
  }
  ~away() { end(); }
  away(const away&) = delete;
  away& operator=(const away&) = delete;

  /// The visitor was on the thread that was left.
  [[nodiscard]] bool visited() const noexcept { return visited_; }

  /// Lets the visitor go and waits for its end.
  void end() {
    if (visitor_ == nullptr) return;
    static_cast<void>(!::write(visitor_->pipe[1], "", 1));
    await([this] { return visitor_->done.load(std::memory_order_acquire); }, "the visitor to leave");
    ::close(visitor_->pipe[0]);
    ::close(visitor_->pipe[1]);
    visitor_ = nullptr;
  }

 private:
  struct visitor {
    int pipe[2] = {-1, -1};
    std::atomic<pid_t> thread{0};
    std::atomic<bool> done{false};
  };
  std::shared_ptr<visitor> visitor_;
  bool visited_ = false;
};

}  // namespace tuco::test
