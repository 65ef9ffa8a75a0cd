// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The environment variables that the runtime reads, at start.

#include <cstdint>
#include <optional>
#include <string_view>

namespace tuco::inline v1::os {

/// The value, or nullopt when unset. Valid until somebody changes the environment.
std::optional<std::string_view> get_env(const char* name) noexcept;

/// All of `text` as a decimal number, else nullopt. An optional sign; no blanks, no overflow.
std::optional<std::int64_t> parse_number(std::string_view text) noexcept;

/// A number of bytes: "65536", "256K", "1M", "2G", also "KiB", "kb" and the like (always powers of
/// 1024). nullopt for anything else, also negative and too large ones.
std::optional<std::uint64_t> parse_bytes(std::string_view text) noexcept;

/// One item of a list such as TUCO_DEBUG=schedtrace=1000,scheddetail=1. Without '=' the value is empty.
struct list_item {
  std::string_view key, value;
};

/// Takes the first item off `list`; empty ones are passed over. nullopt: none is left.
std::optional<list_item> take_item(std::string_view& list) noexcept;

/// The value of `key` in such a list; of several the last.
std::optional<std::string_view> list_option(std::string_view list, std::string_view key) noexcept;

/// True when TUCO_DEBUG holds `key` with a value other than 0.
bool debug_option(std::string_view key) noexcept;

}  // namespace tuco::inline v1::os
