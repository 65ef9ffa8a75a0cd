// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/dwarf_module.hpp
/// Lines and inlined functions of one module, out of its debug information, by libdw.
///
/// libdw is opened with dlopen() when the first module is, so programs neither link nor need it:
/// without it, or without debug information, open() gives null and the caller falls back. An index
/// of compilation units is built here, for clang emits no .debug_aranges and libdw's own search
/// then finds nothing. Debug files are looked for on this machine only, never over the network
/// (debuginfod), since a dump must not wait for a server.
///
/// Not for signal handlers. **Thread safety.** None: the caller's lock covers all objects, for
/// libdw 0.188 promises nothing.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "observe/modules.hpp"

namespace tuco::inline v1::observe {

/// A function, perhaps inlined into the next one, and the position in it.
struct dwarf_frame {
  std::string function;  ///< readable; empty when the debug information has no name for it
  std::string file;
  unsigned line = 0;
  std::uintptr_t start = 0;  ///< of the function that is really there, as an address of the process
  bool inlined = false;
  bool has_parameters = true;  ///< false: `function` came without its parameter types
};

class dwarf_module {
 public:
  virtual ~dwarf_module() = default;

  /// `module` must outlive the result.
  /// @return Null when there is no libdw, no file, no debug information, or it is of another build.
  [[nodiscard]] static std::unique_ptr<dwarf_module> open(const loaded_module& module);

  /// The frames at `pc` (an address of the process), innermost first; empty when the debug
  /// information does not cover it.
  [[nodiscard]] virtual std::vector<dwarf_frame> find(std::uintptr_t pc) = 0;
};

/// Whether libdw can be loaded; loads it.
[[nodiscard]] bool libdw_is_available();

/// /usr/lib/debug/.build-id/ab/cdef....debug, where Debian's -dbg packages put debug files.
[[nodiscard]] std::string debug_file_of(std::span<const std::byte> build_id);

}  // namespace tuco::inline v1::observe
