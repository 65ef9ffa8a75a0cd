// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/modules.hpp
/// Which file a code address comes from: the program, its libraries, the vdso.
///
/// Not for signal handlers. **Thread safety.** Any function, from any thread.

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tuco::inline v1::observe {

struct loaded_module {
  std::string name;         ///< for people: absolute path, or "[vdso]"
  std::string path;         ///< to open: /proc/self/exe for the program; empty for the vdso
  std::uintptr_t bias = 0;  ///< address of a byte = bias + its virtual address in the file
  std::uintptr_t low = 0;   ///< of all its segments
  std::uintptr_t high = 0;
  std::vector<std::byte> build_id;  ///< empty when it has none

  [[nodiscard]] bool contains(std::uintptr_t pc) const noexcept { return pc >= low && pc < high; }
};

/// What was loaded at one moment, sorted by address. `loads` and `unloads` are the dynamic
/// linker's counters, to tell whether another moment would show anything else.
struct module_list {
  std::vector<std::shared_ptr<const loaded_module>> modules;
  unsigned long long loads = 0;
  unsigned long long unloads = 0;

  [[nodiscard]] std::shared_ptr<const loaded_module> find(std::uintptr_t pc) const;
};

/// The current list; cheap while nothing is loaded or unloaded.
[[nodiscard]] std::shared_ptr<const module_list> loaded_modules();

/// The module that holds `pc`, or null.
[[nodiscard]] std::shared_ptr<const loaded_module> module_of(std::uintptr_t pc);

/// The GNU build id in the bytes of a PT_NOTE segment or SHT_NOTE section.
[[nodiscard]] std::span<const std::byte> find_build_id(std::span<const std::byte> notes) noexcept;

}  // namespace tuco::inline v1::observe
