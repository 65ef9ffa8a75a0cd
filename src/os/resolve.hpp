// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The system's resolver.

#include <netdb.h>

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

/// Looks a name up; blocks the thread for as long as the resolver likes (seconds).
/// @param host     null: this machine
/// @param service  null: port 0
/// @param out      the list, to be given to free_addresses(); null on failure
/// @return 0, an EAI_ code (negative, from -1 to -999), or -1000 - errno for EAI_SYSTEM.
int look_up(const char* host, const char* service, const addrinfo& hints, addrinfo** out) noexcept;
void free_addresses(addrinfo* list) noexcept;

/// The resolver's words for an EAI_ code.
const char* look_up_error(int code) noexcept;

}  // namespace tuco::inline v1::os
