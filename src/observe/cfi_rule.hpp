// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/cfi_rule.hpp
/// One unwinding rule - how to find the caller's frame from any pc it covers - and the pool that
/// holds each distinct rule of the process once.
///
/// A whole libLLVM (837,200 rows) has 989 distinct rules, so a row in a table is a 32-bit code
/// offset and a 16-bit number into this pool, and the rule itself may say everything.
///
/// **Thread safety.** The pool has one writer at a time (the caller's lock) and any number of
/// readers, signal handlers included: entries are appended, never changed, never freed. A reader
/// may use a number only if it came out of a table that was published after the entry was made.
/// The growth is bounded: 65,535 rules, 4,095 expressions; what exceeds that is "no rule".

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "observe/mapped_region.hpp"
#include "observe/registers.hpp"

namespace tuco::inline v1::observe {

/// How the caller's value of one register is found. `same` on the stack pointer means the CFA.
enum class recover : std::uint8_t {
  same,
  undefined,      ///< on the return address: this is the outermost frame
  at_cfa,         ///< stored at CFA + 8 * where
  is_cfa,         ///< is CFA + 8 * where
  in_register,    ///< held by DWARF register `where`
  at_expression,  ///< stored at the address that expression `where` computes from the CFA
  is_expression,  ///< is what expression `where` computes from the CFA
};

struct cfi_rule {
  static constexpr std::uint8_t cfa_is_expression = 1;
  static constexpr std::uint8_t signal_frame = 2;  ///< the caller's pc is exact, not a return

  std::uint64_t how = 0;        ///< a `recover` in four bits per tracked register
  std::int32_t cfa_offset = 0;  ///< or the number of an expression
  std::uint8_t cfa_register = 0;
  std::uint8_t flags = 0;
  std::uint16_t unused = 0;  ///< keeps the object free of padding: it is hashed by bytes
  std::array<std::int16_t, tracked_registers.size()> where{};

  [[nodiscard]] recover how_of(std::size_t tracked) const noexcept {
    return static_cast<recover>((how >> (tracked * 4)) & 15U);
  }
  void set_how(std::size_t tracked, recover r) noexcept {
    how &= ~(std::uint64_t{15} << (tracked * 4));
    how |= static_cast<std::uint64_t>(r) << (tracked * 4);
  }
  [[nodiscard]] bool is_outermost() const noexcept {
    constexpr auto ra = static_cast<std::size_t>(tracked_index(dwarf_ra));
    return how_of(ra) == recover::undefined;
  }
  bool operator==(const cfi_rule&) const = default;
};

class cfi_rule_pool {
 public:
  static constexpr std::size_t max_rules = 65536;  // number 0 is "no rule"
  static constexpr std::size_t max_expressions = 4096;
  static constexpr std::size_t max_expression_bytes = 64 * 1024;

  cfi_rule_pool();
  cfi_rule_pool(const cfi_rule_pool&) = delete;
  cfi_rule_pool& operator=(const cfi_rule_pool&) = delete;

  /// @return The number of the rule equal to `rule`, or 0 when the pool is full.
  std::uint16_t intern(const cfi_rule& rule);

  /// @return The number of the expression, or -1 when it does not fit.
  int intern_expression(std::span<const std::byte> bytes);

  // Readers; async-signal-safe.
  [[nodiscard]] const cfi_rule* rule(std::uint16_t number) const noexcept {
    return number == 0 ? nullptr : &rules_[number];
  }
  [[nodiscard]] std::span<const std::byte> expression(int number) const noexcept {
    if (number < 0 || static_cast<std::size_t>(number) >= max_expressions) return {};
    const expression_entry e = expressions_[number];
    return {bytes_ + e.offset, e.size};
  }

  [[nodiscard]] std::size_t rules() const noexcept { return rule_count_ - 1; }
  [[nodiscard]] std::size_t expressions() const noexcept { return expression_count_; }

 private:
  struct expression_entry {
    std::uint32_t offset;
    std::uint32_t size;
  };

  mapped_region memory_;  // reserved whole (so nothing moves), committed as it fills

  // Constant after construction; what they point to is append-only.
  cfi_rule* rules_ = nullptr;
  expression_entry* expressions_ = nullptr;
  std::byte* bytes_ = nullptr;

  // The writer's own.
  std::size_t rule_count_ = 1;
  std::size_t expression_count_ = 0;
  std::size_t byte_count_ = 0;
  std::unordered_multimap<std::size_t, std::uint16_t> by_hash_;
};

/// What an expression may see: registers (a bit in `known` for each readable one), the pc, and
/// the memory of [low, high).
struct frame_view {
  const std::uintptr_t* registers;
  std::uint64_t known;
  std::uintptr_t pc;
  std::uintptr_t low;
  std::uintptr_t high;

  /// Loads an aligned word, if it lies inside the stack.
  [[nodiscard]] bool load(std::uintptr_t address, std::uintptr_t& value) const noexcept;
};

/// Computes DWARF expression `code`; `initial`, unless null, is already on its stack.
/// Async-signal-safe; ends after a bounded number of steps.
/// @return False for anything it does not know, may not read, or that does not end.
[[nodiscard]] bool evaluate(std::span<const std::byte> code, const frame_view& frame,
                            const std::uintptr_t* initial, std::uintptr_t& result) noexcept;

/// The word at `address`, which the caller has checked to be readable. Written in assembly: the
/// sanitizers must not see it, for a walk crosses red zones and races with the owner of the words
/// it will not use.
[[nodiscard]] inline std::uintptr_t load_word(std::uintptr_t address) noexcept {
  std::uintptr_t value;
#if defined(__x86_64__)
  asm volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
#else
  asm volatile("ldr %0, [%1]" : "=r"(value) : "r"(address) : "memory");
#endif
  return value;
}

inline bool frame_view::load(std::uintptr_t address, std::uintptr_t& value) const noexcept {
  constexpr std::uintptr_t word = sizeof(std::uintptr_t);
  if (address % word != 0 || address < low || high < word || address > high - word) return false;
  value = load_word(address);
  return true;
}

}  // namespace tuco::inline v1::observe
