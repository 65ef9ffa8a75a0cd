// SPDX-License-Identifier: Apache-2.0
#include "observe/cfa_program.hpp"

#include <limits>

namespace tuco::inline v1::observe {

std::optional<cfi_rule> encode(const unwind_line& line, bool signal_frame, cfi_rule_pool& pool) {
  constexpr auto fits = [](std::int64_t v) {
    return v % 8 == 0 && v / 8 >= std::numeric_limits<std::int16_t>::min() &&
           v / 8 <= std::numeric_limits<std::int16_t>::max();
  };
  cfi_rule rule;
  if (signal_frame) rule.flags |= cfi_rule::signal_frame;
  constexpr auto ra = static_cast<std::size_t>(tracked_index(dwarf_ra));
  const bool outermost = line.registers[ra].how == recover::undefined;
  if (!line.cfa_known && !outermost) return std::nullopt;
  if (line.cfa_by_expression) {
    rule.flags |= cfi_rule::cfa_is_expression;
    rule.cfa_offset = pool.intern_expression(line.cfa_expression);
    if (rule.cfa_offset < 0) return std::nullopt;
  } else {
    if (line.cfa_register >= dwarf_registers ||
        line.cfa_offset < std::numeric_limits<std::int32_t>::min() ||
        line.cfa_offset > std::numeric_limits<std::int32_t>::max()) {
      return std::nullopt;
    }
    rule.cfa_register = static_cast<std::uint8_t>(line.cfa_register);
    rule.cfa_offset = static_cast<std::int32_t>(line.cfa_offset);
  }
  for (std::size_t i = 0; i < tracked_registers.size(); ++i) {
    const register_rule& r = line.registers[i];
    rule.set_how(i, r.how);
    switch (r.how) {
      case recover::same:
      case recover::undefined:
        break;
      case recover::at_cfa:
      case recover::is_cfa:
        if (!fits(r.value)) return std::nullopt;
        rule.where[i] = static_cast<std::int16_t>(r.value / 8);
        break;
      case recover::in_register:
        if (r.value < 0 || r.value >= dwarf_registers) return std::nullopt;
        rule.where[i] = static_cast<std::int16_t>(r.value);
        break;
      case recover::at_expression:
      case recover::is_expression: {
        const int number = pool.intern_expression(r.expression);
        if (number < 0) return std::nullopt;
        rule.where[i] = static_cast<std::int16_t>(number);
        break;
      }
    }
  }
  return rule;
}

}  // namespace tuco::inline v1::observe
