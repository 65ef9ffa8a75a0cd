// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Throws the exceptions of tuco/error.hpp with the calling goroutine's name in them.

namespace tuco::inline v1::sync {

/// @param text  Go's words, static storage
[[noreturn]] void throw_misuse(const char* text);
/// The same as a closed_error.
[[noreturn]] void throw_closed(const char* text);

}  // namespace tuco::inline v1::sync
