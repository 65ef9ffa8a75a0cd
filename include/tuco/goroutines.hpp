// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/goroutines.hpp
/// Seeing goroutines: every one is on record from `go` to its end.
///
/// **Blocking.** Neither function stops or slows anybody but for microseconds: a parked goroutine is
/// held still while its stack is read, a running one is interrupted by a signal (SIGURG) for as long as
/// it takes to copy its return addresses. No lock of the scheduler is taken, so both work when it is
/// wedged. dump_goroutines() reads debug information, which can take seconds the first time.
/// **Consistency.** Each goroutine's entry is one moment's truth for that goroutine; the list as a
/// whole is not one moment's.
/// **Thread safety.** Any thread or goroutine; not from signal handlers.
/// **Source.** Go, runtime/traceback.go, for the text.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <tuco/config.hpp>
#include <tuco/go.hpp>
#include <tuco/wait_reason.hpp>

namespace tuco::inline v1 {

struct goroutine_info {
  goroutine_id id = 0;
  goroutine_id parent = 0;
  std::string name;
  goroutine_status status = goroutine_status::idle;
  wait_reason reason = wait_reason::none;     ///< while `status` is waiting
  const void* wait_object = nullptr;          ///< the channel, lock, descriptor ... it waits for
  std::chrono::nanoseconds waiting{0};        ///< since it parked
  const char* created_in = nullptr;           ///< function that called `go`
  const char* created_file = nullptr;
  std::uint32_t created_line = 0;
  bool locked_to_thread = false;
  int thread = 0;                             ///< kernel id of the thread that runs it, or 0
  std::string system_call;                    ///< while `status` is syscall: its name, if known
  std::uint32_t switches = 0;                 ///< how often it was given a worker
};

/// How many there are of each kind.
struct goroutine_counts {
  std::size_t runnable = 0, running = 0, syscall = 0, waiting = 0;
  [[nodiscard]] std::size_t total() const noexcept { return runnable + running + syscall + waiting; }
};

/// All goroutines of the current run(), in no particular order.
[[nodiscard]] TUCO_API std::vector<goroutine_info> goroutines();

/// Counted without building the list.
[[nodiscard]] TUCO_API goroutine_counts count_goroutines() noexcept;

/// The text of a dump. As it stands the options give Go's, to the letter, which parsers know;
/// TUCO_DEBUG=waits=1,names=1,dumplimit=1000 sets those of SIGQUIT and of fatal errors.
struct dump_options {
  /// A line more for each waiting goroutine: the exact time, the object, and who has it:
  /// `waiting 12.034567890 s for mutex 0x404080, held by goroutine 7`.
  bool waits = false;
  /// Names behind the ids: `goroutine 7 "parser" [running]:`. Off: Go's header to the letter.
  bool names = false;
  /// The runtime's own frames and goroutines, too.
  bool runtime = false;
  /// At most so many goroutines; the rest is counted in a last line.
  std::size_t limit = SIZE_MAX;
  /// Only this one; 0: all.
  goroutine_id only = 0;
};

/// All goroutines with their stacks as text, in the format of Go's dumps, the caller first.
/// Some 10 µs per goroutine once the places at which they stand are known.
[[nodiscard]] TUCO_API std::string format_goroutines(const dump_options& options = {});

/// format_goroutines() to a file descriptor, in pieces. @return 0 or a negative errno value.
TUCO_API int dump_goroutines(int descriptor, const dump_options& options = {});

}  // namespace tuco::inline v1
