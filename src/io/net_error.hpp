// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How the throwing forms are made of the others, and what() of them.

#include <string>
#include <system_error>

#include <tuco/resolve.hpp>

namespace tuco::inline v1::io {

class net_fd;

/// Does nothing when `ec` is clear; else throws net_error with
/// "OPERATION NETWORK LOCAL->REMOTE: reason", as far as the addresses are known.
void throw_if(const std::error_code& ec, const char* operation, net_fd* fd);
/// "OPERATION SUBJECT: reason".
void throw_if(const std::error_code& ec, const char* operation, const std::string& subject);

}  // namespace tuco::inline v1::io
