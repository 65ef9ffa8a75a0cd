// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a request's target says: a path in plain characters, and parameters.

#include <optional>
#include <string>
#include <string_view>

namespace httpd {

struct target {
  /// Decoded. Begins with '/'; no empty, "." or ".." part; ends with '/' where a folder is meant.
  std::string path;
  /// As it came, without the '?'.
  std::string_view query;
};

/// Takes "/path?query" and "http://host/path?query".
/// @param raw  must outlive `out`
/// @return 0, or the status to answer with: 400 for what is no target, 403 for one that leaves the root
int parse_target(std::string_view raw, target& out);

/// The parameter `name` as a number from `low` to `high`; nullopt: there is none, or it is none such.
std::optional<int> number_in(std::string_view query, std::string_view name, int low, int high);

/// A path for a Location field or a link: everything but the harmless is %-encoded.
std::string encode(std::string_view path);

}  // namespace httpd
