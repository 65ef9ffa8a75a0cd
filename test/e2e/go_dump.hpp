// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Go's dumps as a grammar: what a strict parser of them accepts, and nothing else.
///
/// **Source.** Go 1.26, runtime/traceback.go (goroutineheader, traceback2, printcreatedby1).

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tuco::test {

struct dumped_frame {
  std::string function;  ///< without what is in the last parentheses
  std::string file;
  int line = 0;
  /// At the level `system`: the stack pointer before the call and in the frame, and the address; else 0.
  unsigned long fp = 0, sp = 0, pc = 0;
};

struct dumped_goroutine {
  long id = 0;
  std::string state;   ///< "chan receive", "running", "syscall (read)" ...
  int minutes = 0;
  bool locked = false;
  bool has_record = false;  ///< gp= and m=, as at the level `system`
  std::vector<dumped_frame> frames;
  int elided = 0;
  bool unavailable = false;
  std::string creator;
  dumped_frame created_at;
  long parent = 0;

  /// Whether a frame's function begins with `prefix`.
  [[nodiscard]] bool has_frame(std::string_view prefix) const;
};

struct parsed_dump {
  std::vector<dumped_goroutine> goroutines;
  std::map<std::string, unsigned long> registers;  ///< that stand behind the goroutines
  std::string error;  ///< empty: every line is Go's; else the first that is not, and its number

  [[nodiscard]] const dumped_goroutine* find(long id) const;
};

/// Reads goroutines from the first header on, up to the end of `text` or a line that is neither part
/// of a goroutine nor blank, provided that it is one of `ends`. Registers may stand at the end.
parsed_dump parse_go_dump(std::string_view text, const std::vector<std::string>& ends = {});

}  // namespace tuco::test
