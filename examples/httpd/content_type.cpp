// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "files.hpp"

namespace httpd {

std::string_view content_type(std::string_view path) noexcept {
  struct entry {
    std::string_view ending, type;
  };
  static constexpr std::array table{
      entry{"html", "text/html; charset=utf-8"},
      entry{"htm", "text/html; charset=utf-8"},
      entry{"txt", "text/plain; charset=utf-8"},
      entry{"md", "text/markdown; charset=utf-8"},
      entry{"css", "text/css; charset=utf-8"},
      entry{"csv", "text/csv; charset=utf-8"},
      entry{"js", "text/javascript; charset=utf-8"},
      entry{"mjs", "text/javascript; charset=utf-8"},
      entry{"json", "application/json"},
      entry{"xml", "application/xml"},
      entry{"pdf", "application/pdf"},
      entry{"wasm", "application/wasm"},
      entry{"gz", "application/gzip"},
      entry{"zip", "application/zip"},
      entry{"tar", "application/x-tar"},
      entry{"png", "image/png"},
      entry{"jpg", "image/jpeg"},
      entry{"jpeg", "image/jpeg"},
      entry{"gif", "image/gif"},
      entry{"svg", "image/svg+xml"},
      entry{"webp", "image/webp"},
      entry{"avif", "image/avif"},
      entry{"ico", "image/vnd.microsoft.icon"},
      entry{"mp3", "audio/mpeg"},
      entry{"ogg", "audio/ogg"},
      entry{"wav", "audio/wav"},
      entry{"mp4", "video/mp4"},
      entry{"webm", "video/webm"},
      entry{"woff", "font/woff"},
      entry{"woff2", "font/woff2"},
      entry{"ttf", "font/ttf"},
  };
  path.remove_prefix(path.rfind('/') + 1);
  const std::size_t dot = path.rfind('.');
  if (dot != path.npos) {
    const std::string_view ending = path.substr(dot + 1);
    const auto same = [](std::string_view a, std::string_view b) {
      if (a.size() != b.size()) return false;
      for (std::size_t i = 0; i < a.size(); ++i) {
        const char c = a[i] >= 'A' && a[i] <= 'Z' ? static_cast<char>(a[i] - 'A' + 'a') : a[i];
        if (c != b[i]) return false;
      }
      return true;
    };
    for (const entry& e : table) {
      if (same(ending, e.ending)) return e.type;
    }
  }
  return "application/octet-stream";
}

}  // namespace httpd
