// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/symbolizer.hpp
/// Code addresses to functions, files and lines.
///
/// Lazy: nothing is read before the first question about a module. Three sources, the next one
/// where the one before is silent: debug information (libdw, when it is installed), with inlined
/// functions expanded; the ELF symbol tables; module and offset.
///
/// **Not for signal handlers**: it allocates, locks and reads files. Capture there, symbolize
/// later. **Thread safety.** Any member, from any thread; one mutex.
/// **Cost.** The first question about a module opens its debug information: 1 ms or so, more for
/// a large one. After that microseconds per new address; answers are kept.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tuco::inline v1::observe {

struct source_frame {
  std::string function;       ///< readable; "libx.so.1+0x1234" or "0x7f..." when nothing is known
  std::string file;           ///< absolute path; empty when unknown
  unsigned line = 0;          ///< 0 when unknown
  std::uintptr_t offset = 0;  ///< pc - start of the function, or of the module when unnamed
  bool inlined = false;       ///< into the next frame of the same answer
};

class symbolizer {
 public:
  struct options {
    bool debug_information = true;  ///< off: as if libdw were not installed
    bool symbol_tables = true;
  };

  symbolizer();
  explicit symbolizer(options o);
  ~symbolizer();
  symbolizer(const symbolizer&) = delete;
  symbolizer& operator=(const symbolizer&) = delete;

  /// What `pc` belongs to, innermost inlined function first; never empty.
  /// @param is_return_address  look at the call before pc rather than at what follows it. Of a
  ///                           captured stack that is every pc but the first.
  [[nodiscard]] std::vector<source_frame> symbolize(std::uintptr_t pc, bool is_return_address);

 private:
  class state;
  std::unique_ptr<state> state_;
};

/// symbolizer::symbolize() of the one that the process shares. Never destroyed.
[[nodiscard]] std::vector<source_frame> symbolize(std::uintptr_t pc, bool is_return_address);

}  // namespace tuco::inline v1::observe
