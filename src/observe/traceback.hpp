// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Stacks as text, in Go's format, for dumps and crashes.
///
/// What a dump's text is made of, so that parsers of Go's dumps read it (dump_test.cpp has it as a
/// grammar):
///
///     goroutine 18 [chan receive, 3 minutes, locked to thread]:      header
///     app::worker(app::queue&)                                       frame: ends in its parameters,
///     	/src/worker.cpp:20 +0x1d                                       or in (...) where they are unknown
///     created by app::start in goroutine 1                           creator, without parameters
///     	/src/main.cpp:30 +0x45
///                                                                    blank line between goroutines

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <tuco/goroutines.hpp>

#include "base/tick_clock.hpp"
#include "observe/stack_of.hpp"

namespace tuco::inline v1::observe {

/// Deeper stacks are cut off at the outer end.
inline constexpr std::size_t deepest_traceback = 256;

/// What a dump shows of a goroutine. False if it has ended meanwhile.
bool describe(const task::goroutine& g, const base::tick_scale& scale, goroutine_info& out);

/// `goroutine 18 [chan receive, 3 minutes, locked to thread]:`
std::string goroutine_header(const goroutine_info& info, bool names);

/// A function's name as the line of a frame: "app::f(int)", "main(...)".
std::string function_line(std::string_view name);

/// What capture() has left in two arrays.
struct captured_stack {
  std::span<const std::uintptr_t> pcs;
  std::span<const std::uintptr_t> sps;
  walk_end end = walk_end::no_rule;
};

/// Writes goroutines one after the other. Remembers what it has found out about addresses, so that
/// many goroutines at the same places cost little. One thread at a time; not for signal handlers.
class traceback_writer {
 public:
  explicit traceback_writer(const dump_options& options);

  /// Header, frames and creator, with the stack as it is now.
  void append_goroutine(std::string& out, task::goroutine& g, const goroutine_info& info);
  /// With a stack that was captured before.
  void append_goroutine(std::string& out, task::goroutine& g, const goroutine_info& info,
                        const captured_stack& stack);
  /// Function, then file, line and offset; 50 innermost and 50 outermost frames when there are more.
  /// With dump_options::runtime also, as Go at that level, ` fp=0x.. sp=0x.. pc=0x..`: the stack pointer
  /// before the frame's call, in the frame, and the address.
  void append_frames(std::string& out, const captured_stack& stack);

  [[nodiscard]] const base::tick_scale& scale() const noexcept { return scale_; }

 private:
  struct frame_text {
    std::string text;  ///< both lines, without the last line feed
    bool runtime = false;
    bool inlined = false;
  };
  const std::vector<frame_text>& frames_at(std::uintptr_t pc, bool is_return_address);
  void append_header(std::string& out, task::goroutine& g, const goroutine_info& info) const;
  void append_start(std::string& out, const task::goroutine& g);
  void append_creator(std::string& out, const task::goroutine& g);

  dump_options options_;
  base::tick_scale scale_;
  std::unordered_map<std::uint64_t, std::vector<frame_text>> frames_;
  std::unordered_map<std::uintptr_t, std::string> creators_;
};

struct dump_order {
  /// Comes first if it is alive; null: the calling goroutine.
  task::goroutine* first = nullptr;
  /// Has been printed already.
  const task::goroutine* left_out = nullptr;
};

/// All goroutines, each piece of text to `emit`, which says whether it wants more. Needs nothing of
/// the scheduler. The text begins with a goroutine's header and ends with a line feed.
void write_goroutines(const dump_options& options, const dump_order& order,
                      const std::function<bool(std::string_view)>& emit);

}  // namespace tuco::inline v1::observe
