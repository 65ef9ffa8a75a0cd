// SPDX-License-Identifier: Apache-2.0
#include "os/env.hpp"

#include <charconv>
#include <cstdlib>

namespace tuco::inline v1::os {

std::optional<std::string_view> get_env(const char* name) noexcept {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return std::string_view(value);
}

std::optional<std::int64_t> parse_number(std::string_view text) noexcept {
  if (!text.empty() && text.front() == '+') {
    text.remove_prefix(1);
    if (!text.empty() && text.front() == '-') return std::nullopt;
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) noexcept {
  std::uint64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc{}) return std::nullopt;
  std::string_view unit(end, static_cast<std::size_t>(last - end));
  int shift = 0;
  if (!unit.empty()) {
    switch (unit.front()) {
      case 'k': case 'K': shift = 10; break;
      case 'm': case 'M': shift = 20; break;
      case 'g': case 'G': shift = 30; break;
      case 'b': case 'B': break;
      default: return std::nullopt;
    }
    if (shift != 0) {
      unit.remove_prefix(1);
      if (!unit.empty() && unit.front() == 'i') unit.remove_prefix(1);
    }
    if (!unit.empty() && (unit.front() == 'b' || unit.front() == 'B')) unit.remove_prefix(1);
    if (!unit.empty()) return std::nullopt;
  }
  if (value > (UINT64_MAX >> shift)) return std::nullopt;
  return value << shift;
}

std::optional<list_item> take_item(std::string_view& list) noexcept {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view item = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
    if (item.empty()) continue;
    const std::size_t equals = item.find('=');
    return list_item{item.substr(0, equals),
                     equals == std::string_view::npos ? std::string_view() : item.substr(equals + 1)};
  }
  return std::nullopt;
}

std::optional<std::string_view> list_option(std::string_view list, std::string_view key) noexcept {
  std::optional<std::string_view> found;
  while (const auto item = take_item(list)) {
    if (item->key == key) found = item->value;
  }
  return found;
}

bool debug_option(std::string_view key) noexcept {
  const auto list = get_env("TUCO_DEBUG");
  if (!list) return false;
  const auto value = list_option(*list, key);
  return value && *value != "0";
}

}  // namespace tuco::inline v1::os
