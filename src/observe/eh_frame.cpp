// SPDX-License-Identifier: Apache-2.0
#include "observe/eh_frame.hpp"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "observe/byte_cursor.hpp"
#include "observe/cfa_program.hpp"

namespace tuco::inline v1::observe {
namespace {

constexpr std::uint8_t pe_omit = 0xff;

/// Appends rows in ascending order and drops those that change nothing.
class row_writer {
 public:
  row_writer(std::uintptr_t low, std::uintptr_t high) : low_(low), high_(high) {
    rows_.push_back({0, 0});
  }

  void add(std::uintptr_t at, std::uint16_t rule) {
    if (at < low_ || at > high_) return;
    const auto offset = static_cast<std::uint32_t>(at - low_);
    // A function that begins where (or, malformed, before) the last one ended replaces its end.
    while (!rows_.empty() && rows_.back().offset >= offset) rows_.pop_back();
    if (rows_.empty() && offset != 0) rows_.push_back({0, 0});
    if (!rows_.empty() && rows_.back().rule == rule) return;
    rows_.push_back({offset, rule});
  }

  [[nodiscard]] std::vector<cfi_row> take() { return std::move(rows_); }

 private:
  std::uintptr_t low_;
  std::uintptr_t high_;
  std::vector<cfi_row> rows_;
};

class section_reader {
 public:
  explicit section_reader(const eh_frame_image& image) : image_(image), machine_(image) {}

  std::vector<fde> functions() {
    std::vector<fde> found;
    for (std::size_t at = 0;;) {
      const record r = record_at(at);
      if (!r.ok) break;
      at = r.end;
      if (r.id_at == r.end) {
        // A terminator. One in the middle is passed when the linker's table says there is more.
        if (image_.terminated) break;
        continue;
      }
      byte_cursor in(image_.bytes.first(r.end));
      in.seek(r.id_at);
      const auto back = in.read<std::uint32_t>();
      if (back == 0 || back > r.id_at) continue;  // a CIE: read when a function names it
      if (const cie* common = find_cie(r.id_at - back)) add_function(in, *common, found);
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const fde& a, const fde& b) { return a.begin < b.begin; });
    return found;
  }

  cfa_machine& machine() { return machine_; }

 private:
  struct record {
    bool ok = false;
    std::size_t id_at = 0;  // == end for a terminator
    std::size_t end = 0;
  };

  [[nodiscard]] record record_at(std::size_t at) const {
    byte_cursor in(image_.bytes);
    in.seek(at);
    std::uint64_t length = in.read<std::uint32_t>();
    if (length == 0xffffffffU) length = in.read<std::uint64_t>();
    if (!in.ok() || length > in.left()) return {};
    return {true, in.offset(), in.offset() + static_cast<std::size_t>(length)};
  }

  // `in` stands behind the CIE pointer.
  void add_function(byte_cursor in, const cie& common, std::vector<fde>& found) const {
    const std::uintptr_t begin =
        read_encoded(in, common.fde_encoding, image_.address, image_.hdr_address);
    // The size has the pointer's format, but is relative to nothing.
    const std::uintptr_t size = read_encoded(in, common.fde_encoding & 0x0fU, 0, 0);
    if (common.has_augmentation_data) in.skip(in.uleb());
    // A function the linker discarded keeps an FDE at address 0.
    if (!in.ok() || begin == 0 || size == 0 || begin + size < begin) return;
    found.push_back({begin, begin + size, &common, in.bytes(in.left())});
  }

  const cie* find_cie(std::size_t offset) {
    const auto [it, is_new] = cies_.try_emplace(offset);
    if (is_new) it->second = parse_cie(offset);
    return it->second ? &*it->second : nullptr;
  }

  std::optional<cie> parse_cie(std::size_t offset) {
    const record r = record_at(offset);
    if (!r.ok) return std::nullopt;
    byte_cursor in(image_.bytes.first(r.end));
    in.seek(r.id_at);
    if (in.read<std::uint32_t>() != 0) return std::nullopt;
    const auto version = in.read<std::uint8_t>();
    if (version != 1 && version != 3 && version != 4) return std::nullopt;

    char augmentation[9] = {};
    for (std::size_t n = 0;; ++n) {
      const auto c = in.read<char>();
      if (c == 0) break;
      if (n == sizeof(augmentation) - 1) return std::nullopt;
      augmentation[n] = c;
    }
    if (version == 4) in.skip(2);  // address and segment size
    cie out;
    out.code_align = in.uleb();
    out.data_align = in.sleb();
    const std::uint64_t ra = version == 1 ? in.read<std::uint8_t>() : in.uleb();
    if (ra != dwarf_ra) return std::nullopt;
    if (augmentation[0] != 0 && !parse_augmentation(augmentation, in, out)) return std::nullopt;
    if (!in.ok() || !machine_.run_initial(out, in.bytes(in.left()), out.initial)) {
      return std::nullopt;
    }
    return out;
  }

  bool parse_augmentation(const char* letters, byte_cursor& in, cie& out) {
    if (*letters != 'z') return false;  // without a length, the instructions cannot be found
    const auto length = in.uleb();
    if (!in.ok() || length > in.left()) return false;
    out.has_augmentation_data = true;
    const std::size_t end = in.offset() + static_cast<std::size_t>(length);
    for (++letters; *letters != 0; ++letters) {
      switch (*letters) {
        case 'R':
          out.fde_encoding = in.read<std::uint8_t>();
          break;
        case 'L':
          in.skip(1);
          break;
        case 'P': {
          const auto encoding = in.read<std::uint8_t>();
          if (encoding != pe_omit) read_encoded(in, encoding & 0x0fU, 0, 0);
          break;
        }
        case 'S':
          out.signal_frame = true;
          break;
        case 'B':  // aarch64: the second pointer-signing key
        case 'G':
          break;
        default:
          return false;
      }
    }
    in.seek(end);
    return in.ok();
  }

  const eh_frame_image& image_;
  cfa_machine machine_;
  std::unordered_map<std::size_t, std::optional<cie>> cies_;  // node-based: fde keeps pointers
};

}  // namespace

std::uintptr_t read_encoded(byte_cursor& cursor, std::uint8_t encoding, std::uintptr_t base,
                            std::uintptr_t data_base) noexcept {
  if (encoding == pe_omit) return 0;
  const std::uintptr_t here = base + cursor.offset();
  const auto sign = [](auto v) {
    return static_cast<std::uintptr_t>(static_cast<std::int64_t>(v));
  };
  std::uintptr_t value = 0;
  switch (encoding & 0x0fU) {
    case 0x00:
      value = cursor.read<std::uintptr_t>();
      break;
    case 0x01:
      value = cursor.uleb();
      break;
    case 0x02:
      value = cursor.read<std::uint16_t>();
      break;
    case 0x03:
      value = cursor.read<std::uint32_t>();
      break;
    case 0x04:
    case 0x0c:
      value = cursor.read<std::uint64_t>();
      break;
    case 0x09:
      value = sign(cursor.sleb());
      break;
    case 0x0a:
      value = sign(cursor.read<std::int16_t>());
      break;
    case 0x0b:
      value = sign(cursor.read<std::int32_t>());
      break;
    default:
      cursor.fail();
      return 0;
  }
  if (value == 0) return 0;  // a null pointer is relative to nothing
  switch (encoding & 0x70U) {
    case 0x00:
      return value;
    case 0x10:
      return value + here;
    case 0x30:
      return value + data_base;
    default:
      cursor.fail();
      return 0;
  }
}

std::vector<cfi_row> build_rows(const eh_frame_image& image, std::uintptr_t low,
                                std::uintptr_t high, cfi_rule_pool& pool) {
  section_reader section(image);
  row_writer rows(low, high);
  for (const fde& f : section.functions()) {
    if (f.begin < low || f.end > high) continue;
    unwind_line line = f.common->initial;
    std::uintptr_t from = f.begin;
    const auto emit = [&](std::uintptr_t pc) {
      // Several advances may meet at one pc, and a malformed one may go back or leave.
      if (pc <= from || pc > f.end) return;
      const auto rule = encode(line, f.common->signal_frame, pool);
      rows.add(from, rule ? pool.intern(*rule) : std::uint16_t{0});
      from = pc;
    };
    if (section.machine().run_function(f, line, emit)) emit(f.end);
    rows.add(from, 0);
  }
  return rows.take();
}

}  // namespace tuco::inline v1::observe
