// SPDX-License-Identifier: Apache-2.0
#include "target.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace httpd {
namespace {

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool decode(std::string_view raw, std::string& out) {
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '%') {
      out.push_back(raw[i]);
      continue;
    }
    if (i + 2 >= raw.size()) return false;
    const int high = hex_digit(raw[i + 1]);
    const int low = hex_digit(raw[i + 2]);
    if (high < 0 || low < 0 || (high | low) == 0) return false;  // no path holds a zero byte
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

/// Resolves ".", ".." and empty parts in place. @return False: it leads above the root.
bool normalize(std::string& path) {
  std::size_t write = 0;  // path[0, write) is done and ends without '/'
  bool folder = true;
  for (std::size_t read = 0; read < path.size();) {
    const std::size_t begin = read + 1;  // behind a '/'
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = std::string_view(path).substr(begin, end - begin);
    read = end;
    if (part.empty() || part == ".") {
      folder = true;
    } else if (part == "..") {
      if (write == 0) return false;
      write = path.rfind('/', write - 1);
      folder = true;
    } else {
      folder = false;
      path[write] = '/';
      std::memmove(path.data() + write + 1, part.data(), part.size());
      write += 1 + part.size();
    }
  }
  path.resize(write);
  if (folder) path.push_back('/');
  return true;
}

}  // namespace

int parse_target(std::string_view raw, target& out) {
  for (std::string_view scheme : {"http://", "https://"}) {
    if (!raw.starts_with(scheme)) continue;
    const std::size_t path = raw.find_first_of("/?", scheme.size());
    raw = path == raw.npos ? "/" : raw.substr(path);
    break;
  }
  const std::size_t mark = raw.find('?');
  out.query = mark == raw.npos ? std::string_view() : raw.substr(mark + 1);
  raw = raw.substr(0, mark);
  if (raw.empty()) raw = "/";  // of "http://host?query"

  out.path.clear();
  if (raw.front() != '/' || !decode(raw, out.path)) return 400;
  return normalize(out.path) ? 0 : 403;
}

std::optional<int> number_in(std::string_view query, std::string_view name, int low, int high) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (!pair.starts_with(name) || pair.substr(name.size(), 1) != "=") continue;
    const std::string_view text = pair.substr(name.size() + 1);
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) break;
    return value;
  }
  return std::nullopt;
}

std::string encode(std::string_view path) {
  constexpr std::string_view harmless = "/-._~";
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
        harmless.find(c) != harmless.npos) {
      out.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.append({'%', digits[byte >> 4], digits[byte & 15]});
    }
  }
  return out;
}

}  // namespace httpd
