// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/elf_symbols.hpp
/// Function names out of an ELF file's own tables: .symtab where it was left in, else .dynsym.
///
/// What names a frame when there is no debug information or no libdw. Unlike dladdr() it sees
/// static functions, and never answers with a neighbour's name. Malformed files yield fewer
/// symbols, never a fault: files are read, not mapped, for a mapping of a file that shrinks
/// meanwhile raises SIGBUS.
///
/// Not for signal handlers. Immutable once made, hence usable from any thread.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tuco::inline v1::observe {

class elf_symbols {
 public:
  elf_symbols() = default;

  /// Reads the file at `path`. Without symbols (check empty()) when it cannot be read, is not an
  /// ELF file of this machine, or has another build id than `build_id` (unless that is empty):
  /// a library that was replaced on disk would give wrong names.
  [[nodiscard]] static elf_symbols from_file(const std::string& path,
                                             std::span<const std::byte> build_id);

  /// Reads an image in memory, such as the vdso.
  [[nodiscard]] static elf_symbols from_memory(std::span<const std::byte> image);

  struct symbol {
    std::string_view name;  ///< as in the table: mangled; lives as long as the elf_symbols
    std::uintptr_t start;
  };

  /// The function around virtual address `address` of the file (not of the process).
  [[nodiscard]] std::optional<symbol> find(std::uintptr_t address) const;

  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  [[nodiscard]] bool has_symtab() const noexcept { return has_symtab_; }

 private:
  struct entry {
    std::uintptr_t start;
    std::uintptr_t end;
    std::uint32_t name;
    std::uint8_t rank;  // lower is the better of two names for one address
  };

  friend class elf_reader;

  std::vector<entry> entries_;  // by start; the best name of each address
  std::string names_;
  bool has_symtab_ = false;
};

/// The build id that the ELF file at `path` says it has; empty when it says none.
[[nodiscard]] std::vector<std::byte> build_id_of_file(const std::string& path);

}  // namespace tuco::inline v1::observe
