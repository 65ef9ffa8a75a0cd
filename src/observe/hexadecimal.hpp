// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <string>

namespace tuco::inline v1::observe {

/// "0x1f".
inline std::string hexadecimal(std::uintptr_t value) {
  char text[18] = {'0', 'x'};
  return {text, std::to_chars(text + 2, text + sizeof text, value, 16).ptr};
}
inline std::string hexadecimal(const void* p) {
  return hexadecimal(reinterpret_cast<std::uintptr_t>(p));
}

}  // namespace tuco::inline v1::observe
