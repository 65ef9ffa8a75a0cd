// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `small_files`: the contents of small files that were asked for lately.
///
/// Never stale: whoever takes one asks the kernel whether the path still leads to that very file,
/// unchanged. That is one call instead of four (open, stat, read, close), which are a third of
/// what a request costs. A file that changed less than two seconds ago is not kept, because another
/// change could leave its times as they are.

#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include <tuco/mutex.hpp>

namespace httpd {

/// What is said of a file beside its content.
struct description {
  description(std::string_view path, const struct stat& s);
  std::uint64_t size;
  std::string_view type;
  std::string tag;       ///< quoted, as in ETag
  std::string modified;  ///< as in Last-Modified
  std::string fields;    ///< header lines
};

class small_files {
 public:
  static constexpr std::uint64_t largest = 32 << 10;

  struct entry {
    struct stat status;
    description about;
    std::string content;
  };

  /// @param folder  that `path`, which begins with '/', starts from
  /// @return Null: unknown, or changed.
  std::shared_ptr<const entry> find(int folder, const std::string& path) const;

  /// Remembers an open file if it may. @param status  taken before; tells later whether it has changed
  /// @return Null: it may not, or it could not be read.
  std::shared_ptr<const entry> keep(int file, const std::string& path, const struct stat& status);

 private:
  static constexpr std::size_t most = 256;

  mutable tuco::mutex lock_;
  std::unordered_map<std::string, std::shared_ptr<const entry>> entries_;
};

}  // namespace httpd
