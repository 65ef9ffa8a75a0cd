// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/fatal.hpp"

namespace tuco::inline v1::sched {

/// What goexit() throws. Not derived from std::exception, so that only `catch (...)` can meet it.
/// A handler that swallows it destroys it before it has arrived at the goroutine's entry, and the
/// program ends with a message: going on would run code after a call that never returns.
class goexit_unwinding {
 public:
  goexit_unwinding() noexcept = default;
  goexit_unwinding(const goexit_unwinding&) = delete;
  goexit_unwinding& operator=(const goexit_unwinding&) = delete;
  ~goexit_unwinding() {
    if (!arrived_) base::fatal("goexit was swallowed by a catch (...) that does not rethrow");
  }
  void arrived() noexcept { arrived_ = true; }

 private:
  bool arrived_ = false;
};

}  // namespace tuco::inline v1::sched
