// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/cfa_program.hpp
/// Runs the programs of call frame information, each of which draws the (virtual) table "pc ->
/// how to find the caller's registers" of one function.
///
/// Implementation of observe/eh_frame.hpp, apart for its size. Nothing here trusts its input.
///
/// **Source.** DWARF 5, section 6.4.2.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "observe/byte_cursor.hpp"
#include "observe/cfi_rule.hpp"
#include "observe/eh_frame.hpp"

namespace tuco::inline v1::observe {

using bytes_view = std::span<const std::byte>;

struct register_rule {
  recover how = recover::same;
  std::int64_t value = 0;  // byte offset from the CFA, or a register number
  bytes_view expression;
};

/// One line of the (virtual) unwind table that a CFA program draws.
struct unwind_line {
  bool cfa_known = false;
  bool cfa_by_expression = false;
  std::uint64_t cfa_register = 0;
  std::int64_t cfa_offset = 0;
  bytes_view cfa_expression;
  std::array<register_rule, tracked_registers.size()> registers;
};

/// The rule that `line` amounts to; nothing when it cannot be written as one.
[[nodiscard]] std::optional<cfi_rule> encode(const unwind_line& line, bool signal_frame,
                                             cfi_rule_pool& pool);

/// What the functions that name it have in common.
struct cie {
  std::uint64_t code_align = 1;
  std::int64_t data_align = 1;
  std::uint8_t fde_encoding = 0;
  bool has_augmentation_data = false;
  bool signal_frame = false;
  unwind_line initial;
};

struct fde {
  std::uintptr_t begin;
  std::uintptr_t end;
  const cie* common;
  bytes_view program;
};

/// Runs CFA programs. One per module, so that its buffers are reused.
class cfa_machine {
 public:
  explicit cfa_machine(const eh_frame_image& image) : image_(image) {}

  /// Runs a CIE's initial instructions.
  bool run_initial(const cie& common, bytes_view program, unwind_line& line) {
    line_ = &line;
    initial_ = nullptr;
    return run(common, program, 0, [](std::uintptr_t) {});
  }

  /// Runs an FDE's; calls `emit(pc)` when `line` is complete up to that pc.
  template <class Emit>
  bool run_function(const fde& f, unwind_line& line, Emit emit) {
    line_ = &line;
    initial_ = &f.common->initial;
    return run(*f.common, f.program, f.begin, emit);
  }

 private:
  static constexpr std::size_t max_remembered = 64;

  void set(std::uint64_t number, recover how, std::int64_t value = 0, bytes_view expression = {}) {
    const int i = tracked_index(number);
    if (i >= 0) line_->registers[static_cast<std::size_t>(i)] = {how, value, expression};
  }
  void restore(std::uint64_t number) {
    const int i = tracked_index(number);
    if (i < 0 || initial_ == nullptr) return;
    const auto n = static_cast<std::size_t>(i);
    line_->registers[n] = initial_->registers[n];
  }
  void define_cfa(std::uint64_t number, std::int64_t offset) {
    line_->cfa_known = true;
    line_->cfa_by_expression = false;
    line_->cfa_register = number;
    line_->cfa_offset = offset;
  }

  template <class Emit>
  bool run(const cie& common, bytes_view program, std::uintptr_t pc, Emit emit) {
    byte_cursor in(program);
    program_address_ =
        image_.address + static_cast<std::uintptr_t>(program.data() - image_.bytes.data());
    remembered_.clear();
    while (!in.at_end()) {
      const auto op = in.read<std::uint8_t>();
      const auto low6 = static_cast<std::uint8_t>(op & 0x3fU);
      switch (op >> 6) {
        case 1:
          pc += low6 * common.code_align;
          emit(pc);
          continue;
        case 2:
          set(low6, recover::at_cfa, factored(in.uleb(), common));
          continue;
        case 3:
          restore(low6);
          continue;
        default:
          break;
      }
      std::uintptr_t to = pc;
      if (advances(op, in, common, to)) {
        pc = to;
        emit(pc);
      } else if (!define(op, in, common) && !describe(op, in, common)) {
        return false;
      }
    }
    return in.ok();
  }

  // Unsigned, for malformed factors may overflow.
  static std::int64_t factored(std::uint64_t n, const cie& common) {
    return static_cast<std::int64_t>(n * static_cast<std::uint64_t>(common.data_align));
  }
  static std::int64_t factored_signed(byte_cursor& in, const cie& common) {
    return factored(static_cast<std::uint64_t>(in.sleb()), common);
  }

  bool advances(std::uint8_t op, byte_cursor& in, const cie& common, std::uintptr_t& pc) const {
    switch (op) {
      case 0x01:  // set_loc
        pc = read_encoded(in, common.fde_encoding, program_address_, image_.hdr_address);
        return true;
      case 0x02:
        pc += in.read<std::uint8_t>() * common.code_align;
        return true;
      case 0x03:
        pc += in.read<std::uint16_t>() * common.code_align;
        return true;
      case 0x04:
        pc += in.read<std::uint32_t>() * common.code_align;
        return true;
      default:
        return false;
    }
  }

  bool define(std::uint8_t op, byte_cursor& in, const cie& common) {
    switch (op) {
      case 0x0c: {  // def_cfa
        const auto number = in.uleb();
        define_cfa(number, static_cast<std::int64_t>(in.uleb()));
        return true;
      }
      case 0x0d:
        define_cfa(in.uleb(), line_->cfa_offset);
        return true;
      case 0x0e:
        define_cfa(line_->cfa_register, static_cast<std::int64_t>(in.uleb()));
        return true;
      case 0x0f:  // def_cfa_expression
        line_->cfa_known = true;
        line_->cfa_by_expression = true;
        line_->cfa_expression = in.bytes(in.uleb());
        return true;
      case 0x12: {  // def_cfa_sf
        const auto number = in.uleb();
        define_cfa(number, factored_signed(in, common));
        return true;
      }
      case 0x13:
        define_cfa(line_->cfa_register, factored_signed(in, common));
        return true;
      default:
        return false;
    }
  }

  bool describe(std::uint8_t op, byte_cursor& in, const cie& common) {
    switch (op) {
      case 0x00:
        return true;  // nop
      case 0x2d:
        return true;  // aarch64: return addresses are signed from here on (or not)
      case 0x2e:
        in.uleb();
        return true;  // GNU_args_size
      case 0x0a:      // remember_state
        if (remembered_.size() == max_remembered) return false;
        remembered_.push_back(*line_);
        return true;
      case 0x0b:  // restore_state; the CFA too, as every producer means it
        if (remembered_.empty()) return false;
        *line_ = remembered_.back();
        remembered_.pop_back();
        return true;
      default:
        break;
    }
    const auto number = in.uleb();
    switch (op) {
      case 0x05:
        set(number, recover::at_cfa, factored(in.uleb(), common));
        return true;
      case 0x06:
        restore(number);
        return true;
      case 0x07:
        set(number, recover::undefined);
        return true;
      case 0x08:
        set(number, recover::same);
        return true;
      case 0x09:
        set(number, recover::in_register, static_cast<std::int64_t>(in.uleb()));
        return true;
      case 0x10:
        set(number, recover::at_expression, 0, in.bytes(in.uleb()));
        return true;
      case 0x11:
        set(number, recover::at_cfa, factored_signed(in, common));
        return true;
      case 0x14:
        set(number, recover::is_cfa, factored(in.uleb(), common));
        return true;
      case 0x15:
        set(number, recover::is_cfa, factored_signed(in, common));
        return true;
      case 0x16:
        set(number, recover::is_expression, 0, in.bytes(in.uleb()));
        return true;
      case 0x2f:
        set(number, recover::at_cfa, factored(0 - in.uleb(), common));
        return true;
      default:
        return false;  // the length of an unknown operation is unknown as well
    }
  }

  const eh_frame_image& image_;
  unwind_line* line_ = nullptr;
  const unwind_line* initial_ = nullptr;
  std::vector<unwind_line> remembered_;
  std::uintptr_t program_address_ = 0;  // of the program in the original
};

}  // namespace tuco::inline v1::observe
