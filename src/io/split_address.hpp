// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include <tuco/config.hpp>

namespace tuco::inline v1::io {

/// "host:port", "[v6]:port", ":port" into its parts, without brackets. @return False: not an address.
bool split_address(std::string_view text, std::string_view& host,
                   std::string_view& service) noexcept;

}  // namespace tuco::inline v1::io
