// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Small programs that together make the runtime use every system call it knows. Each works to its end
/// whatever call fails, closes what it opened, joins what it started, and tells a `witness` what it saw.
///
/// What must not happen: that it hangs, that one of its goroutines does not come to its end, that an
/// operation succeeds with a wrong result, or fails for a reason that is not the fault.

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <tuco/go.hpp>
#include <tuco/wait_group.hpp>

#include "fault/injector.hpp"

namespace tuco::test {

class witness {
 public:
  /// @param f  the fault that is the excuse for errors, or null
  explicit witness(const injector* in, const fault* f) noexcept : injector_(in), fault_(f) {}

  /// An operation has failed. Right if the fault is the reason, or the other end that it has hit.
  void error(const std::error_code& code, const char* operation) noexcept;
  void error(const std::system_error& e, const char* operation) noexcept { error(e.code(), operation); }
  /// Something that holds with and without faults.
  void require(bool holds, const char* what) noexcept;
  /// Something that holds unless an operation has failed before.
  void require_unless_failed(bool holds, const char* what) noexcept;

  [[nodiscard]] int errors() const noexcept { return errors_.load(); }
  [[nodiscard]] bool broken() const noexcept { return broken_.load(); }
  [[nodiscard]] bool hit() const noexcept { return injector_ != nullptr && injector_->hits() != 0; }

 private:
  [[nodiscard]] bool is_excused(const std::error_code& code) const noexcept;
  void complain(const char* what, const std::string& more) noexcept;

  const injector* const injector_;
  const fault* const fault_;
  std::atomic<int> errors_{0};
  std::atomic<bool> broken_{false};
};

struct scenario {
  const char* name;
  void (*play)(witness& w);
  /// What the program says when it ends, status 2, as it must; empty: it goes on.
  std::string_view end = {};
};

std::span<const scenario> scenarios();

// scenario_net.cpp
void play_tcp(witness& w);
void play_unix(witness& w);
void play_send_file(witness& w);
void play_resolve(witness& w);
void play_net_threads(witness& w);
void play_descriptors(witness& w);

// scenario_run.cpp
void play_start_stop(witness& w);
void play_spawn(witness& w);
void play_blocking(witness& w);
void play_timers(witness& w);
void play_plain_threads(witness& w);
void play_locked(witness& w);
void play_dump(witness& w);
void play_settings(witness& w);
void play_old_kernel(witness& w);
void play_deadlock(witness& w);

/// tuco::run() that tells the witness when it cannot start. @return Whether `body` ran.
bool run_watched(witness& w, int procs, const std::function<void()>& body);

/// Goroutines of a scenario: each is seen to end.
class troupe {
 public:
  explicit troupe(witness& w) noexcept : witness_(w) {}
  /// @return False if it could not be started; the witness knows.
  template <class F>
  bool go(F&& f, const go_options& options = {});
  /// Waits for all; looks whether each came to its end.
  void wait();

 private:
  witness& witness_;
  wait_group all_;
  int started_ = 0;
  std::atomic<int> ended_{0};
};

template <class F>
bool troupe::go(F&& f, const go_options& options) {
  all_.add();
  try {
    tuco::go(options, [this, f = std::forward<F>(f)]() mutable {
      f();
      ended_.fetch_add(1, std::memory_order_relaxed);
      all_.done();
    });
  } catch (const std::system_error& e) {
    all_.done();
    witness_.error(e, "go");
    return false;
  }
  ++started_;
  return true;
}

}  // namespace tuco::test
