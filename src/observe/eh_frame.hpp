// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/eh_frame.hpp
/// Turns the .eh_frame of one module into rows "from this code offset on, that rule".
///
/// The input is a *copy* of the section: the interpreting takes milliseconds for a large library,
/// too long to hold the dynamic linker's lock, which is all that keeps the original mapped.
/// Malformed input yields fewer rows, never a fault.
///
/// **Source.** Linux Standard Base 5, "Exception Frames"; DWARF 5, section 6.4; the AArch64 and
/// x86-64 DWARF supplements.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "observe/cfi_rule.hpp"

namespace tuco::inline v1::observe {

/// A copy of .eh_frame, with the addresses its relative pointers are relative to.
struct eh_frame_image {
  std::span<const std::byte> bytes;
  std::uintptr_t address = 0;      ///< of bytes[0] in the original
  std::uintptr_t hdr_address = 0;  ///< of .eh_frame_hdr, for data-relative pointers
  bool terminated = false;         ///< stop at a zero length (the extent is only a guess)
};

/// A row covers from its offset up to the next row's. Rule 0: nothing is known here.
struct cfi_row {
  std::uint32_t offset;
  std::uint16_t rule;
};

/// Rows for the code in [low, high), offsets relative to `low`, ascending; the first is at 0.
/// Functions outside of that range are left out. high - low must fit in 32 bits.
[[nodiscard]] std::vector<cfi_row> build_rows(const eh_frame_image& image, std::uintptr_t low,
                                              std::uintptr_t high, cfi_rule_pool& pool);

/// A pointer in one of the DW_EH_PE encodings at `cursor`, whose byte 0 has address `base`.
/// Fails the cursor on an encoding it does not know. An indirect pointer is not followed.
std::uintptr_t read_encoded(class byte_cursor& cursor, std::uint8_t encoding, std::uintptr_t base,
                            std::uintptr_t data_base) noexcept;

}  // namespace tuco::inline v1::observe
