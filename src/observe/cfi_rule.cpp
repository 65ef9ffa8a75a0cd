// SPDX-License-Identifier: Apache-2.0
#include "observe/cfi_rule.hpp"

#include <cstring>
#include <string_view>

#include "observe/byte_cursor.hpp"
#include "observe/mapped_region.hpp"

namespace tuco::inline v1::observe {
namespace {

std::size_t hash_bytes(const void* data, std::size_t size) {
  return std::hash<std::string_view>{}({static_cast<const char*>(data), size});
}

// A DWARF expression in unwind information has a dozen operations; a malformed one may branch
// for ever, and a handler must not.
constexpr int max_steps = 256;
constexpr int max_depth = 16;

class expression_stack {
 public:
  void push(std::uint64_t v) noexcept {
    if (depth_ == max_depth) {
      ok_ = false;
    } else {
      values_[depth_++] = v;
    }
  }
  std::uint64_t pop() noexcept {
    if (depth_ == 0) {
      ok_ = false;
      return 0;
    }
    return values_[--depth_];
  }
  [[nodiscard]] std::uint64_t pick(unsigned from_top) noexcept {
    if (from_top >= static_cast<unsigned>(depth_)) {
      ok_ = false;
      return 0;
    }
    return values_[depth_ - 1 - static_cast<int>(from_top)];
  }
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  void fail() noexcept { ok_ = false; }

 private:
  std::uint64_t values_[max_depth];
  int depth_ = 0;
  bool ok_ = true;
};

// DWARF 5, section 7.7.1.
enum op : std::uint8_t {
  op_deref = 0x06,
  op_const1u = 0x08,
  op_const1s = 0x09,
  op_const2u = 0x0a,
  op_const2s = 0x0b,
  op_const4u = 0x0c,
  op_const4s = 0x0d,
  op_const8u = 0x0e,
  op_const8s = 0x0f,
  op_constu = 0x10,
  op_consts = 0x11,
  op_dup = 0x12,
  op_drop = 0x13,
  op_over = 0x14,
  op_pick = 0x15,
  op_swap = 0x16,
  op_rot = 0x17,
  op_abs = 0x19,
  op_and = 0x1a,
  op_div = 0x1b,
  op_minus = 0x1c,
  op_mod = 0x1d,
  op_mul = 0x1e,
  op_neg = 0x1f,
  op_not = 0x20,
  op_or = 0x21,
  op_plus = 0x22,
  op_plus_uconst = 0x23,
  op_shl = 0x24,
  op_shr = 0x25,
  op_shra = 0x26,
  op_xor = 0x27,
  op_bra = 0x28,
  op_eq = 0x29,
  op_ge = 0x2a,
  op_gt = 0x2b,
  op_le = 0x2c,
  op_lt = 0x2d,
  op_ne = 0x2e,
  op_skip = 0x2f,
  op_lit0 = 0x30,
  op_lit31 = 0x4f,
  op_breg0 = 0x70,
  op_breg31 = 0x8f,
  op_bregx = 0x92,
  op_nop = 0x96,
};

std::uint64_t binary(std::uint8_t code, std::uint64_t a, std::uint64_t b, bool& ok) noexcept {
  const auto sa = static_cast<std::int64_t>(a);
  const auto sb = static_cast<std::int64_t>(b);
  switch (code) {
    case op_and:
      return a & b;
    case op_or:
      return a | b;
    case op_xor:
      return a ^ b;
    case op_plus:
      return a + b;
    case op_minus:
      return a - b;
    case op_mul:
      return a * b;
    case op_shl:
      return b < 64 ? a << b : 0;
    case op_shr:
      return b < 64 ? a >> b : 0;
    case op_shra:
      return static_cast<std::uint64_t>(sa >> (b < 64 ? b : 63));
    case op_div:
      if (sb == 0 || sb == -1) break;  // -1: INT64_MIN / -1 traps
      return static_cast<std::uint64_t>(sa / sb);
    case op_mod:
      if (b == 0) break;
      return a % b;
    case op_eq:
      return static_cast<std::uint64_t>(sa == sb);
    case op_ne:
      return static_cast<std::uint64_t>(sa != sb);
    case op_ge:
      return static_cast<std::uint64_t>(sa >= sb);
    case op_gt:
      return static_cast<std::uint64_t>(sa > sb);
    case op_le:
      return static_cast<std::uint64_t>(sa <= sb);
    case op_lt:
      return static_cast<std::uint64_t>(sa < sb);
    default:
      break;
  }
  ok = false;
  return 0;
}

bool is_binary(std::uint8_t code) noexcept {
  return code == op_and || code == op_div || code == op_minus || code == op_mod || code == op_mul ||
         code == op_or || code == op_plus || (code >= op_shl && code <= op_xor) ||
         (code >= op_eq && code <= op_ne);
}

std::uint64_t register_value(const frame_view& frame, std::uint64_t number,
                             expression_stack& stack) noexcept {
#if defined(__x86_64__)
  if (number == dwarf_ra) return frame.pc;  // PLT entries ask where in the entry they are
#endif
  if (number >= dwarf_registers || ((frame.known >> number) & 1U) == 0) {
    stack.fail();
    return 0;
  }
  return frame.registers[number];
}

bool constant(std::uint8_t code, byte_cursor& in, std::uint64_t& value) noexcept {
  const auto sign = [](auto v) { return static_cast<std::uint64_t>(static_cast<std::int64_t>(v)); };
  if (code >= op_lit0 && code <= op_lit31) {
    value = static_cast<std::uint64_t>(code - op_lit0);
    return true;
  }
  switch (code) {
    case op_const1u:
      value = in.read<std::uint8_t>();
      return true;
    case op_const1s:
      value = sign(in.read<std::int8_t>());
      return true;
    case op_const2u:
      value = in.read<std::uint16_t>();
      return true;
    case op_const2s:
      value = sign(in.read<std::int16_t>());
      return true;
    case op_const4u:
      value = in.read<std::uint32_t>();
      return true;
    case op_const4s:
      value = sign(in.read<std::int32_t>());
      return true;
    case op_const8u:
    case op_const8s:
      value = in.read<std::uint64_t>();
      return true;
    case op_constu:
      value = in.uleb();
      return true;
    case op_consts:
      value = sign(in.sleb());
      return true;
    default:
      return false;
  }
}

void shuffle(std::uint8_t code, byte_cursor& in, expression_stack& stack) noexcept {
  switch (code) {
    case op_dup:
      stack.push(stack.pick(0));
      break;
    case op_drop:
      stack.pop();
      break;
    case op_over:
      stack.push(stack.pick(1));
      break;
    case op_pick:
      stack.push(stack.pick(in.read<std::uint8_t>()));
      break;
    case op_swap: {
      const auto b = stack.pop();
      const auto a = stack.pop();
      stack.push(b);
      stack.push(a);
      break;
    }
    default: {  // op_rot: the top becomes the third
      const auto c = stack.pop();
      const auto b = stack.pop();
      const auto a = stack.pop();
      stack.push(c);
      stack.push(a);
      stack.push(b);
      break;
    }
  }
}

void unary(std::uint8_t code, byte_cursor& in, const frame_view& frame,
           expression_stack& stack) noexcept {
  const auto a = stack.pop();
  switch (code) {
    case op_plus_uconst:
      stack.push(a + in.uleb());
      break;
    case op_neg:
      stack.push(0 - a);
      break;
    case op_not:
      stack.push(~a);
      break;
    case op_abs:
      stack.push(static_cast<std::int64_t>(a) < 0 ? 0 - a : a);
      break;
    default: {  // op_deref
      std::uintptr_t word = 0;
      if (!stack.ok() || !frame.load(a, word)) stack.fail();
      stack.push(word);
      break;
    }
  }
}

}  // namespace

bool evaluate(std::span<const std::byte> code, const frame_view& frame,
              const std::uintptr_t* initial, std::uintptr_t& result) noexcept {
  byte_cursor in(code);
  expression_stack stack;
  if (initial != nullptr) stack.push(*initial);
  for (int steps = 0; !in.at_end(); ++steps) {
    if (steps == max_steps) return false;
    const auto op = in.read<std::uint8_t>();
    std::uint64_t value = 0;
    if (constant(op, in, value)) {
      stack.push(value);
    } else if (op >= op_breg0 && op <= op_breg31) {
      const auto number = static_cast<std::uint64_t>(op - op_breg0);
      const auto offset = static_cast<std::uint64_t>(in.sleb());
      stack.push(register_value(frame, number, stack) + offset);
    } else if (op == op_bregx) {
      const auto number = in.uleb();
      const auto offset = static_cast<std::uint64_t>(in.sleb());
      stack.push(register_value(frame, number, stack) + offset);
    } else if (is_binary(op)) {
      const auto b = stack.pop();
      const auto a = stack.pop();
      bool ok = true;
      stack.push(binary(op, a, b, ok));
      if (!ok) return false;
    } else if (op >= op_dup && op <= op_rot) {
      shuffle(op, in, stack);
    } else if (op == op_deref || op == op_abs || op == op_neg || op == op_not ||
               op == op_plus_uconst) {
      unary(op, in, frame, stack);
    } else if (op == op_skip || op == op_bra) {
      const auto distance = in.read<std::int16_t>();
      if (op == op_skip || stack.pop() != 0) in.jump(distance);
    } else if (op != op_nop) {
      return false;
    }
    if (!stack.ok() || !in.ok()) return false;
  }
  result = stack.pop();
  return stack.ok() && in.ok();
}

cfi_rule_pool::cfi_rule_pool()
    : memory_(max_rules * sizeof(cfi_rule) + max_expressions * sizeof(expression_entry) +
              max_expression_bytes) {
  // Zeroed pages are valid objects of these trivial types, and writing them all here would commit
  // two megabytes for what is usually a few pages.
  auto* at = static_cast<std::byte*>(memory_.data());
  rules_ = reinterpret_cast<cfi_rule*>(at);
  at += max_rules * sizeof(cfi_rule);
  expressions_ = reinterpret_cast<expression_entry*>(at);
  bytes_ = at + max_expressions * sizeof(expression_entry);
}

std::uint16_t cfi_rule_pool::intern(const cfi_rule& rule) {
  const std::size_t hash = hash_bytes(&rule, sizeof(rule));
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    if (rules_[it->second] == rule) return it->second;
  }
  if (rule_count_ == max_rules) return 0;
  const auto number = static_cast<std::uint16_t>(rule_count_++);
  rules_[number] = rule;
  by_hash_.emplace(hash, number);
  return number;
}

int cfi_rule_pool::intern_expression(std::span<const std::byte> bytes) {
  // A process has a handful of distinct expressions, so a scan beats a second hash table.
  for (std::size_t i = 0; i < expression_count_; ++i) {
    const auto known = expression(static_cast<int>(i));
    if (known.size() == bytes.size() &&
        std::memcmp(known.data(), bytes.data(), bytes.size()) == 0) {
      return static_cast<int>(i);
    }
  }
  if (expression_count_ == max_expressions || bytes.size() > max_expression_bytes - byte_count_) {
    return -1;
  }
  std::memcpy(bytes_ + byte_count_, bytes.data(), bytes.size());
  expressions_[expression_count_] = {static_cast<std::uint32_t>(byte_count_),
                                     static_cast<std::uint32_t>(bytes.size())};
  byte_count_ += bytes.size();
  return static_cast<int>(expression_count_++);
}

}  // namespace tuco::inline v1::observe
