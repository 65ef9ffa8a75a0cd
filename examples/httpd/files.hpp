// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The files below a root folder: GET and HEAD, conditional or in parts.

#include <string>
#include <string_view>

#include "reply.hpp"
#include "request.hpp"
#include "small_files.hpp"
#include "target.hpp"

namespace httpd {

/// A descriptor that is closed with its owner; a negative number is an error instead.
class file {
 public:
  explicit file(int descriptor) noexcept : descriptor_(descriptor) {}
  file(file&& other) noexcept : descriptor_(other.release()) {}
  file& operator=(file&& other) noexcept;
  ~file();
  [[nodiscard]] explicit operator bool() const noexcept { return descriptor_ >= 0; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  /// A negative errno value, unless it is open.
  [[nodiscard]] int error() const noexcept { return descriptor_; }
  [[nodiscard]] int release() noexcept;

 private:
  int descriptor_;
};

class root_folder {
 public:
  /// @throws std::system_error when it is no folder that can be read
  explicit root_folder(const std::string& path);

  /// Opens a path of target::path's form. The kernel sees to it that neither ".." nor a symbolic link
  /// leads out of the root (openat2, RESOLVE_BENEATH), also while somebody moves folders about. A kernel
  /// without that call is asked for each part, and no symbolic link is followed.
  [[nodiscard]] file open(std::string_view path) const noexcept;

  /// Answers with the file, the folder's index.html, or a listing.
  void serve(const target& what, const request& asked, reply& answer) const;

 private:
  void serve_folder(file folder, const target& what, const request& asked, reply& answer) const;

  file folder_;
  mutable small_files small_files_;
};

/// The part of a file that a Range field names (RFC 9110, 14). Several parts at once, and what is no
/// valid range, mean the whole: a server may always answer so.
struct byte_range {
  enum class kind { whole, part, unsatisfiable } what = kind::whole;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};
byte_range parse_range(std::string_view field, std::uint64_t size) noexcept;

/// By the name's ending; text is UTF-8.
std::string_view content_type(std::string_view path) noexcept;

/// The page that lists an open folder, which it closes. @param path  for the title, ends with '/'
std::string list_folder(file folder, std::string_view path);

}  // namespace httpd
