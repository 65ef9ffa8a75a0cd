// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the kernel may answer to each kind of call that the runtime makes, and what must come of it.
/// docs/design/faults.md shows this table; a test holds the two together.
///
/// **Source.** The ERRORS sections of the manual pages (Debian 12, manpages 6.03) and, where they are
/// silent, the kernel's source; EPERM and ENOSYS besides for calls that sandboxes like to refuse.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "os/syscall.hpp"

namespace tuco::test {

/// What a kind of call is for. Areas divide the kinds into tests of about equal length.
struct call_use {
  os::call kind;
  std::string_view area;
  std::string_view use;
};
std::span<const call_use> call_uses();

/// How often in a row the kernel may answer it.
enum class how_long : std::uint8_t {
  passing,   ///< it is about this one call: an interruption, a connection that is gone
  lasting,   ///< it may also be the answer from now on: no memory, a sandbox
};

/// What may come of it.
enum outcome : unsigned {
  absorbed = 1,  ///< nobody notices
  reported = 2,  ///< the operation that needed the call fails with it
  ended = 4,     ///< the program says why and ends with status 2
};

struct errors_of_call {
  os::call kind;
  how_long persistence;
  std::span<const int> errors;
  unsigned outcomes;
  std::string_view becomes;        ///< the same in words
  std::string_view end = {};       ///< what it says, for `ended`
  std::string_view scenario = {};  ///< the only one in which the kernel may answer it; empty: any
};
std::span<const errors_of_call> call_table();

/// Documented answers that are not injected, with the reason.
struct left_out {
  os::call kind;
  std::span<const int> errors;
  std::string_view reason;
};
std::span<const left_out> left_out_table();

/// "EMFILE"; for resolve "EAI_AGAIN" and the like.
std::string error_name(os::call kind, int error);

/// All of this as tables in Markdown.
std::string call_table_text();

}  // namespace tuco::test
