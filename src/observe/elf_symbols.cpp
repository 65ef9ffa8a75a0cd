// SPDX-License-Identifier: Apache-2.0
#include "observe/elf_symbols.hpp"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "observe/modules.hpp"
#include "os/file.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::observe {
namespace {

// Larger than any real table, small enough that a malformed size does not take the machine down.
constexpr std::uint64_t max_table_bytes = std::uint64_t{1} << 30;

/// Copies `size` bytes at `offset` of the file or image into the buffer; false if they are not
/// all there.
using reader = std::function<bool(std::uint64_t offset, void* buffer, std::size_t size)>;

class open_file {
 public:
  explicit open_file(const std::string& path) : descriptor_(os::open_for_reading(path.c_str())) {}
  open_file(const open_file&) = delete;
  open_file& operator=(const open_file&) = delete;
  ~open_file() {
    if (descriptor_ >= 0) os::close_descriptor(descriptor_);
  }

  [[nodiscard]] bool read(std::uint64_t offset, void* buffer, std::size_t size) const {
    auto* at = static_cast<char*>(buffer);
    while (size > 0) {
      if (descriptor_ < 0) return false;
      const auto n = os::file_read_at(descriptor_, at, size, static_cast<std::int64_t>(offset));
      if (n <= 0) return false;
      at += n;
      offset += static_cast<std::uint64_t>(n);
      size -= static_cast<std::size_t>(n);
    }
    return true;
  }

 private:
  int descriptor_;
};

}  // namespace

class elf_reader {
 public:
  explicit elf_reader(reader read) : read_(std::move(read)) { valid_ = read_header(); }

  [[nodiscard]] std::vector<std::byte> build_id() const {
    for (const auto& section : sections_) {
      if (section.sh_type != SHT_NOTE) continue;
      const auto notes = table<std::byte>(section);
      const auto id = find_build_id(notes);
      if (!id.empty()) return {id.begin(), id.end()};
    }
    return {};
  }

  [[nodiscard]] elf_symbols symbols() const {
    elf_symbols out;
    if (!valid_) return out;
    const ElfW(Shdr)* chosen = nullptr;
    for (const auto& section : sections_) {
      if (section.sh_type == SHT_SYMTAB) chosen = &section;
      if (section.sh_type == SHT_DYNSYM && chosen == nullptr) chosen = &section;
    }
    if (chosen == nullptr || chosen->sh_link >= sections_.size()) return out;
    const auto names = table<char>(sections_[chosen->sh_link]);
    if (names.empty()) return out;
    out.names_.assign(names.data(), names.size());
    out.has_symtab_ = chosen->sh_type == SHT_SYMTAB;
    for (const auto& symbol : table<ElfW(Sym)>(*chosen)) add(symbol, out);
    keep_best_names(out);
    return out;
  }

 private:
  bool read_header() {
    ElfW(Ehdr) header;
    if (!read_(0, &header, sizeof(header))) return false;
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return false;
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
      return false;
    }
    if (header.e_shentsize != sizeof(ElfW(Shdr)) || header.e_shnum == 0) return false;
    sections_.resize(header.e_shnum);
    if (!read_(header.e_shoff, sections_.data(), sections_.size() * sizeof(ElfW(Shdr)))) {
      sections_.clear();
      return false;
    }
    return true;
  }

  template <class T>
  [[nodiscard]] std::vector<T> table(const ElfW(Shdr) & section) const {
    if (section.sh_type == SHT_NOBITS || section.sh_size > max_table_bytes) return {};
    std::vector<T> out(section.sh_size / sizeof(T));
    if (!read_(section.sh_offset, out.data(), out.size() * sizeof(T))) out.clear();
    return out;
  }

  void add(const ElfW(Sym) & symbol, elf_symbols& out) const {
    const auto type = ELF64_ST_TYPE(symbol.st_info);
    if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) return;
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= sections_.size()) return;
    const auto& section = sections_[symbol.st_shndx];
    if ((section.sh_flags & SHF_EXECINSTR) == 0 || symbol.st_name >= out.names_.size()) return;
    const char first = out.names_[symbol.st_name];
    if (first == 0 || first == '$') return;  // '$': aarch64 marks code and data so
    // Assembly often gives no size: such a function reaches to the next one, which
    // keep_best_names() finds, or to the end of its section.
    const std::uintptr_t end =
        symbol.st_size != 0 ? symbol.st_value + symbol.st_size : section.sh_addr + section.sh_size;
    if (end <= symbol.st_value) return;
    out.entries_.push_back(
        {symbol.st_value, end, symbol.st_name, rank(symbol, static_cast<unsigned>(type), out)});
  }

  static constexpr unsigned sizeless = 32;

  static std::uint8_t rank(const ElfW(Sym) & symbol, unsigned type, const elf_symbols& out) {
    const auto binding = ELF64_ST_BIND(symbol.st_info);
    unsigned r = binding == STB_WEAK ? 1 : 0;
    // nanosleep, weak as it is, rather than __nanosleep
    const char* name = out.names_.data() + symbol.st_name;
    for (unsigned n = 0; n < 3 && name[n] == '_'; ++n) r += 2;
    if (binding == STB_LOCAL) r += 8;
    if (type == STT_NOTYPE) r += 16;
    if (symbol.st_size == 0) r += sizeless;
    return static_cast<std::uint8_t>(r);
  }

  static void keep_best_names(elf_symbols& out) {
    auto& all = out.entries_;
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return a.start != b.start ? a.start < b.start : a.rank < b.rank;
    });
    all.erase(std::unique(all.begin(), all.end(),
                          [](const auto& a, const auto& b) { return a.start == b.start; }),
              all.end());
    for (std::size_t i = 0; i + 1 < all.size(); ++i) {
      if (all[i].rank >= sizeless) all[i].end = std::min(all[i].end, all[i + 1].start);
    }
    all.shrink_to_fit();
  }

  reader read_;
  std::vector<ElfW(Shdr)> sections_;
  bool valid_ = false;
};

elf_symbols elf_symbols::from_file(const std::string& path, std::span<const std::byte> build_id) {
  const open_file file(path);
  const elf_reader elf([&](std::uint64_t offset, void* buffer, std::size_t size) {
    return file.read(offset, buffer, size);
  });
  if (!build_id.empty() && !std::ranges::equal(elf.build_id(), build_id)) return {};
  return elf.symbols();
}

elf_symbols elf_symbols::from_memory(std::span<const std::byte> image) {
  const elf_reader elf([&](std::uint64_t offset, void* buffer, std::size_t size) {
    if (offset > image.size() || size > image.size() - offset) return false;
    std::memcpy(buffer, image.data() + offset, size);
    return true;
  });
  return elf.symbols();
}

std::optional<elf_symbols::symbol> elf_symbols::find(std::uintptr_t address) const {
  auto it = std::upper_bound(entries_.begin(), entries_.end(), address,
                             [](std::uintptr_t a, const entry& e) { return a < e.start; });
  // A short alias inside of a function (an assembly label) must not hide the function around it.
  for (int tries = 0; tries < 8 && it != entries_.begin(); ++tries) {
    --it;
    if (address < it->end) return symbol{names_.c_str() + it->name, it->start};
  }
  return std::nullopt;
}

std::vector<std::byte> build_id_of_file(const std::string& path) {
  const open_file file(path);
  const elf_reader elf([&](std::uint64_t offset, void* buffer, std::size_t size) {
    return file.read(offset, buffer, size);
  });
  return elf.build_id();
}

}  // namespace tuco::inline v1::observe
