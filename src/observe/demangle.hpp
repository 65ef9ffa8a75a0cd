// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/demangle.hpp
/// Function names as a person would write them.
///
/// Not for signal handlers: it allocates.

#include <string>
#include <string_view>

namespace tuco::inline v1::observe {

/// Demangles an ELF symbol (clone suffixes such as `.isra.0` or `.cold` and versions such as
/// `@GLIBC_2.34` are dropped) and shortens the result. A name that is not mangled is returned as
/// it is.
[[nodiscard]] std::string readable_name(std::string_view symbol);

/// Shortens a demangled name:
///
///     std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >  std::string
///     std::vector<int, std::allocator<int> >                                  std::vector<int>
///     tuco::v1::chan<int>::send(int)                                          tuco::chan<int>::send(int)
///     void app::f<int>(int)                                                   app::f<int>(int)
///
/// that is: typedef names of the standard library, no defaulted allocators, comparators, hashes or
/// deleters, no inline namespaces, no return type. Parameter types stay.
[[nodiscard]] std::string shorten_name(std::string_view demangled);

}  // namespace tuco::inline v1::observe
