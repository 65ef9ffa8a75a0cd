// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A place in a program's text, taken by a default argument.
///
/// Ours, because clang 14 compiles libstdc++'s `std::source_location` away; one type for both
/// compilers, because it is part of the signatures of the library. Converts from the standard's.

#include <cstdint>
#include <version>

#if defined(__cpp_lib_source_location)
#include <source_location>
#endif

#include <tuco/config.hpp>

namespace tuco::inline v1 {

class source_location {
 public:
  constexpr source_location() noexcept = default;

  // constexpr, not consteval: an immediate function would be evaluated where the default argument is
  // written, not where it is used.
#if defined(__cpp_lib_source_location)
  constexpr source_location(const std::source_location& l) noexcept  // NOLINT: implicit, the same thing
      : file_(l.file_name()), function_(l.function_name()), line_(l.line()) {}
  static constexpr source_location current(
      std::source_location here = std::source_location::current()) noexcept {
    return here;
  }
#else
  static constexpr source_location current(const char* file = __builtin_FILE(),
                                           const char* function = __builtin_FUNCTION(),
                                           std::uint32_t line = __builtin_LINE()) noexcept {
    source_location here;
    here.file_ = file;
    here.function_ = function;
    here.line_ = line;
    return here;
  }
#endif

  [[nodiscard]] constexpr const char* file_name() const noexcept { return file_; }
  /// As the compiler spells it: with its signature by gcc, bare by clang 14.
  [[nodiscard]] constexpr const char* function_name() const noexcept { return function_; }
  [[nodiscard]] constexpr std::uint32_t line() const noexcept { return line_; }

 private:
  const char* file_ = "";
  const char* function_ = "";
  std::uint32_t line_ = 0;
};

}  // namespace tuco::inline v1
