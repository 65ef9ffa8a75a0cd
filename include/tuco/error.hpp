// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/error.hpp
/// The exceptions that tuco throws for misuse: Go's panics with Go's words.
///
///     thrown                  text() is                                              by
///     closed_error            send on closed channel                                 chan, select
///     closed_error            close of closed channel                                chan
///     misuse_error            close of nil channel                                   chan
///     misuse_error            makechan: size out of range                            chan
///     misuse_error            sync: negative WaitGroup counter                       wait_group
///     misuse_error            latch: count below zero                                latch
///     misuse_error            barrier: more arrivals than expected; negative number  barrier
///     misuse_error            semaphore: released more than held; acquire of more    semaphore
///                             than its size; size out of range; negative number
///
/// what() adds who did it and where that goroutine came from, so that a log line is enough:
///
///     send on closed channel (goroutine 18 "parser", created at /src/main.cpp:30)
///
/// Misuse that leaves no sound state behind (unlock of an unlocked mutex) does not throw: it prints
/// `fatal error: ...` and ends the program with status 2.
///
/// **Failure.** An operation that throws one of these has changed nothing, and the value that it was
/// to send is still the caller's.
/// **Source.** Go 1.26, runtime/chan.go and sync/waitgroup.go.

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include <tuco/config.hpp>

namespace tuco::inline v1 {

/// The program used a primitive in a way that its contract forbids.
class TUCO_API misuse_error : public std::logic_error {
 public:
  /// @param text       Go's words; static storage
  /// @param goroutine  id of the culprit, 0 for a plain thread
  /// @param who        what what() shows in parentheses
  misuse_error(const char* text, std::uint64_t goroutine, const std::string& who);
  misuse_error(const misuse_error&) noexcept = default;
  misuse_error& operator=(const misuse_error&) noexcept = default;
  ~misuse_error() override;

  /// Go's words alone.
  [[nodiscard]] std::string_view text() const noexcept { return text_; }
  /// The goroutine that did it; 0: a plain thread.
  [[nodiscard]] std::uint64_t goroutine() const noexcept { return goroutine_; }

 private:
  const char* text_;
  std::uint64_t goroutine_;
};

/// The channel was closed already. Of its own type because a program may want to live on: a sender
/// that cannot know whether the receiver has gone.
class TUCO_API closed_error : public misuse_error {
 public:
  using misuse_error::misuse_error;
  closed_error(const closed_error&) noexcept = default;
  closed_error& operator=(const closed_error&) noexcept = default;
  ~closed_error() override;
};

}  // namespace tuco::inline v1
