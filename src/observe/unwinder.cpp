// SPDX-License-Identifier: Apache-2.0
#include "observe/unwinder.hpp"

#include <ucontext.h>

#include <bit>

#include "observe/cfi_table.hpp"

namespace tuco::inline v1::observe {
namespace {

constexpr std::uintptr_t word = sizeof(std::uintptr_t);

// Addresses this low are never code: a jump there was a call through a null pointer (or a null
// object's table).
constexpr std::uintptr_t null_page = 65536;

/// Drops the signature that a return address carries where pointer authentication is on.
std::uintptr_t plain_code_address(std::uintptr_t address) noexcept {
#if defined(__aarch64__)
  // xpaclri, a no-op on processors without it; it works on x30 only.
  register std::uintptr_t x30 asm("x30") = address;
  asm("hint #7" : "+r"(x30));
  return x30;
#else
  return address;
#endif
}

/// Where a frame lies is not told by its frame pointer alone.
#if defined(__aarch64__)
constexpr bool record_at_bottom = true;
#else
constexpr bool record_at_bottom = false;
#endif

enum class step_result : std::uint8_t { moved, entry, no_rule, bad_frame };

class walker {
 public:
  walker(const register_state& from, stack_bounds stack, bool exact) noexcept
      : tables_(from.sp), stack_(stack), pc_(from.pc), known_(from.known), exact_(exact) {
    // Only what is known is ever read, so only that is copied.
    for (std::uint64_t left = from.known & mask_of_all; left != 0; left &= left - 1) {
      const auto i = static_cast<unsigned>(std::countr_zero(left));
      registers_[i] = from.other[i];
    }
    set(dwarf_sp, from.sp);
    set(dwarf_fp, from.fp);
  }

  [[nodiscard]] std::uintptr_t pc() const noexcept { return pc_; }
  [[nodiscard]] std::uintptr_t sp() const noexcept { return registers_[dwarf_sp]; }

  step_result step() noexcept {
    // A return address may be one past its function's end (a call that does not return is the
    // last instruction), so it is looked up inside the call.
    const unwind_entry entry = tables_.find(exact_ ? pc_ : pc_ - 1);
    if (entry.rule != nullptr) return by_rule(*entry.rule);
    // A gap in described code is a PLT whose linker did not describe it, rarely anything that has
    // a frame. In code without CFI (generated, or loaded a moment ago) frames are the rule.
    const bool frameless = pc_ < null_page || entry.has_cfi;
    if (exact_ && frameless && before_prologue()) return step_result::moved;
    const step_result by_frame = by_frame_pointer();
    if (by_frame != step_result::no_rule || !exact_ || frameless) return by_frame;
    return before_prologue() ? step_result::moved : by_frame;
  }

 private:
  static constexpr std::uint64_t mask_of_all = (std::uint64_t{1} << dwarf_registers) - 1;

  [[nodiscard]] bool is_known(unsigned number) const noexcept {
    return ((known_ >> number) & 1U) != 0;
  }
  void set(unsigned number, std::uintptr_t value) noexcept {
    registers_[number] = value;
    known_ |= std::uint64_t{1} << number;
  }
  [[nodiscard]] frame_view view() const noexcept {
    return {registers_, known_, pc_, stack_.low, stack_.high};
  }

  bool find_cfa(const cfi_rule& rule, std::uintptr_t& cfa) const noexcept {
    if ((rule.flags & cfi_rule::cfa_is_expression) != 0) {
      return evaluate(tables_.pool()->expression(rule.cfa_offset), view(), nullptr, cfa);
    }
    const bool known = is_known(rule.cfa_register);
    if (known) {
      cfa = registers_[rule.cfa_register] +
            static_cast<std::uintptr_t>(static_cast<std::intptr_t>(rule.cfa_offset));
    }
    if constexpr (record_at_bottom) {
      if (!exact_ && rule.cfa_register == dwarf_sp && cfa_by_record(rule, known, cfa)) return true;
    }
    return known;
  }

  // aarch64 puts the frame record (x29, x30) at the bottom of the frame, and x29 points to it. So a step by
  // frame pointer does not tell where the caller's frame ends, but the caller's x29 and the place that its
  // rule gives the record do. They also know better than an sp that comes from two places: the CFI of
  // glibc's lazy binding does not mention the 16 bytes that the PLT pushed, and libgcc, before it goes to a
  // landing pad, writes the registers of that frame over those that its own frame has saved.
  bool cfa_by_record(const cfi_rule& rule, bool have_other, std::uintptr_t& cfa) const noexcept {
    constexpr auto fp_index = static_cast<std::size_t>(tracked_index(dwarf_fp));
    constexpr auto ra_index = static_cast<std::size_t>(tracked_index(dwarf_ra));
    if (!is_known(dwarf_fp) || rule.how_of(fp_index) != recover::at_cfa ||
        rule.how_of(ra_index) != recover::at_cfa ||
        rule.where[ra_index] != rule.where[fp_index] + 1) {
      return false;
    }
    const std::uintptr_t fp = registers_[dwarf_fp];
    const std::uintptr_t by_record =
        fp - static_cast<std::uintptr_t>(static_cast<std::intptr_t>(rule.where[fp_index]) * 8);
    if (have_other && by_record == cfa) return true;
    // Code without frame pointers keeps anything in x29: believe it if a return address lies there.
    std::uintptr_t ra = 0;
    if (fp < registers_[dwarf_sp] || fp % 16 != 0 || !view().load(fp + word, ra)) return false;
    ra = plain_code_address(ra);
    if (ra != 0 && tables_.find(ra - 1).rule == nullptr) return false;
    cfa = by_record;
    return true;
  }

  bool recover_one(const cfi_rule& rule, std::size_t tracked, std::uintptr_t cfa,
                   std::uintptr_t& value) const noexcept {
    const std::int16_t where = rule.where[tracked];
    const std::uintptr_t at =
        cfa + static_cast<std::uintptr_t>(static_cast<std::intptr_t>(where) * 8);
    switch (rule.how_of(tracked)) {
      case recover::at_cfa:
        return view().load(at, value);
      case recover::is_cfa:
        value = at;
        return true;
      case recover::in_register: {
        const auto number = static_cast<unsigned>(where);
        if (!is_known(number)) return false;
        value = registers_[number];
        return true;
      }
      case recover::at_expression: {
        std::uintptr_t address = 0;
        return evaluate(tables_.pool()->expression(where), view(), &cfa, address) &&
               view().load(address, value);
      }
      case recover::is_expression:
        return evaluate(tables_.pool()->expression(where), view(), &cfa, value);
      case recover::same:
      case recover::undefined:
        break;
    }
    return false;
  }

  step_result by_rule(const cfi_rule& rule) noexcept {
    if (rule.is_outermost()) return step_result::entry;
    std::uintptr_t cfa = 0;
    if (!find_cfa(rule, cfa)) {
      return is_known(dwarf_sp) ? step_result::bad_frame : by_frame_pointer();
    }

    // All rules speak of the registers before the step: collect first, then replace.
    std::uintptr_t values[tracked_registers.size()];
    std::uint64_t found = 0;
    std::uint64_t next_known = known_ & callee_saved;
    for (std::uint64_t left = rule.how; left != 0;) {
      const auto i = static_cast<unsigned>(std::countr_zero(left)) / 4;
      left &= ~(std::uint64_t{15} << (i * 4));
      const unsigned number = tracked_registers[i];
      if (recover_one(rule, i, cfa, values[i])) {
        found |= std::uint64_t{1} << i;
        next_known |= std::uint64_t{1} << number;
      } else {
        // Undefined, unknown or unreadable. Only a return address or stack pointer that is
        // needed and missing ends the walk; any other register is just not known further out.
        next_known &= ~(std::uint64_t{1} << number);
        if (number == dwarf_ra || number == dwarf_sp) return step_result::bad_frame;
      }
    }
    const std::uintptr_t old_sp = registers_[dwarf_sp];
    for (std::uint64_t left = found; left != 0; left &= left - 1) {
      const auto i = static_cast<unsigned>(std::countr_zero(left));
      registers_[tracked_registers[i]] = values[i];
    }
    constexpr auto sp_index = static_cast<std::size_t>(tracked_index(dwarf_sp));
    if (rule.how_of(sp_index) == recover::same) registers_[dwarf_sp] = cfa;
    next_known |= std::uint64_t{1} << dwarf_sp;
    if ((next_known >> dwarf_ra & 1U) == 0) return step_result::bad_frame;
    known_ = next_known;
    return arrive(old_sp, (rule.flags & cfi_rule::signal_frame) != 0);
  }

  static constexpr std::uint64_t callee_saved = [] {
    std::uint64_t mask = 0;
    for (const auto number : tracked_registers) mask |= std::uint64_t{1} << number;
    return mask;
  }();

  // Takes the return address from its column and checks that the walk moved up the stack. Only
  // the innermost frame may keep its stack pointer: an aarch64 leaf has its return address in
  // x30 and has pushed nothing. So no words can make the walk go round.
  step_result arrive(std::uintptr_t old_sp, bool next_is_exact) noexcept {
    const std::uintptr_t sp = registers_[dwarf_sp];
    const bool may_stay = exact_ && dwarf_ra < dwarf_sp;
    if (sp < old_sp || (sp == old_sp && !may_stay) || sp > stack_.high || sp % word != 0) {
      return step_result::bad_frame;
    }
    pc_ = plain_code_address(registers_[dwarf_ra]);
    exact_ = next_is_exact;
    return pc_ == 0 ? step_result::entry : step_result::moved;
  }

  // At the first instruction of a function (a call to nowhere, a PLT entry that its linker did not
  // describe) the return address is where the call put it. A stray value is told from it by being
  // no address behind a call in described code.
  bool before_prologue() noexcept {
    std::uintptr_t ra = 0;
    const std::uintptr_t sp = registers_[dwarf_sp];
#if defined(__x86_64__)
    if (!view().load(sp, ra)) return false;
    const std::uintptr_t caller_sp = sp + word;
#else
    if (!is_known(dwarf_ra)) return false;
    ra = plain_code_address(registers_[dwarf_ra]);
    const std::uintptr_t caller_sp = sp;
#endif
    if (ra == 0 || tables_.find(ra - 1).rule == nullptr) return false;
    set(dwarf_sp, caller_sp);
    known_ &= callee_saved;
    pc_ = ra;
    exact_ = false;
    return true;
  }

  step_result by_frame_pointer() noexcept {
    if (!is_known(dwarf_fp)) return step_result::no_rule;
    const std::uintptr_t fp = registers_[dwarf_fp];
    if (fp == 0) return step_result::entry;
    std::uintptr_t caller_fp = 0;
    std::uintptr_t ra = 0;
    if (fp < registers_[dwarf_sp] || !view().load(fp, caller_fp) || !view().load(fp + word, ra)) {
      return step_result::no_rule;
    }
    pc_ = plain_code_address(ra);
    known_ = 0;
    set(dwarf_fp, caller_fp);
    set(dwarf_sp, fp + 2 * word);
    // The caller's sp is somewhere above; a bound for what comes, and nothing to start from.
    if constexpr (record_at_bottom) known_ &= ~(std::uint64_t{1} << dwarf_sp);
    exact_ = false;
    return pc_ == 0 ? step_result::entry : step_result::moved;
  }

  table_reader tables_;
  stack_bounds stack_;
  std::uintptr_t pc_;
  std::uint64_t known_;
  bool exact_;
  std::uintptr_t registers_[dwarf_registers];
};

}  // namespace

register_state from_ucontext(const void* ucontext) noexcept {
  const auto& machine = static_cast<const ucontext_t*>(ucontext)->uc_mcontext;
  register_state s;
#if defined(__x86_64__)
  constexpr int by_dwarf_number[16] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                       REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15};
  for (std::size_t i = 0; i < 16; ++i) {
    s.other[i] = static_cast<std::uintptr_t>(machine.gregs[by_dwarf_number[i]]);
  }
  s.known = 0xffff;
  s.pc = static_cast<std::uintptr_t>(machine.gregs[REG_RIP]);
  s.sp = s.other[dwarf_sp];
#else
  for (std::size_t i = 0; i < 31; ++i) s.other[i] = machine.regs[i];
  s.known = 0x7fffffff;
  s.pc = machine.pc;
  s.sp = machine.sp;
#endif
  s.fp = s.other[dwarf_fp];
  return s;
}

walk_result capture(const register_state& from, stack_bounds stack, std::span<std::uintptr_t> pcs,
                    bool first_is_exact, std::span<std::uintptr_t> sps) noexcept {
  walk_result result;
  walker walk(from, stack, first_is_exact);
  for (;;) {
    if (result.frames == pcs.size()) {
      result.end = walk_end::truncated;
      return result;
    }
    if (!sps.empty()) sps[result.frames] = walk.sp();
    pcs[result.frames++] = walk.pc();
    switch (walk.step()) {
      case step_result::moved:
        break;
      case step_result::entry:
        result.end = walk_end::entry;
        return result;
      case step_result::no_rule:
        result.end = walk_end::no_rule;
        return result;
      case step_result::bad_frame:
        result.end = walk_end::bad_frame;
        return result;
    }
  }
}

}  // namespace tuco::inline v1::observe
