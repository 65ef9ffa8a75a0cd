// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/config.hpp
/// Version, export marks and the ABI namespace. Every public header includes this one; it includes
/// nothing.
///
/// **ABI.** All names live in `namespace tuco::inline v1`, written out at each opening brace. A
/// release that breaks the ABI moves to `v2`, so that mixing the two is a link error and never a
/// silent misreading of an object.
/// **Export.** The library is compiled with hidden visibility: a function that is defined in the
/// library and meant for users carries TUCO_API, everything else stays inside.

// The one place that holds the version: CMake reads these three lines.
#define TUCO_VERSION_MAJOR 0
#define TUCO_VERSION_MINOR 1
#define TUCO_VERSION_PATCH 0

#define TUCO_API __attribute__((visibility("default")))

#if !defined(__linux__)
#error "tuco runs on Linux"
#endif
#if !defined(__x86_64__) && !defined(__aarch64__)
#error "tuco has a context switch for x86-64 and aarch64 only"
#endif

namespace tuco::inline v1 {

/// @return The version of the library that was linked, "0.1.0"; with a shared library it may differ
/// from the TUCO_VERSION_* of the headers.
TUCO_API const char* version() noexcept;

}  // namespace tuco::inline v1
