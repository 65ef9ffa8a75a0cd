// SPDX-License-Identifier: Apache-2.0
#include "small_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <ctime>
#include <mutex>

#include "files.hpp"
#include "reply.hpp"

namespace httpd {
namespace {

bool same_moment(const timespec& a, const timespec& b) noexcept {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool same_file(const struct stat& a, const struct stat& b) noexcept {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         same_moment(a.st_mtim, b.st_mtim) && same_moment(a.st_ctim, b.st_ctim);
}

std::string entity_tag(const struct stat& s) {
  std::string tag = "\"";
  const auto add = [&](auto number, char behind) {
    char digits[16];
    tag.append(digits, std::to_chars(digits, digits + sizeof digits, static_cast<std::uint64_t>(number), 16).ptr);
    tag.push_back(behind);
  };
  add(s.st_ino, '-');
  add(s.st_size, '-');
  add(s.st_mtim.tv_sec * 1'000'000'000 + s.st_mtim.tv_nsec, '"');
  return tag;
}

}  // namespace

description::description(std::string_view path, const struct stat& s)
    : size(static_cast<std::uint64_t>(s.st_size)), type(content_type(path)), tag(entity_tag(s)) {
  append_date(modified, s.st_mtim.tv_sec);
  fields.reserve(160);
  fields.append("Last-Modified: ").append(modified).append("\r\nETag: ").append(tag);
  fields.append("\r\nAccept-Ranges: bytes\r\n");
}

std::shared_ptr<const small_files::entry> small_files::find(int folder, const std::string& path) const {
  std::shared_ptr<const entry> found;
  {
    const std::scoped_lock held(lock_);
    const auto at = entries_.find(path);
    if (at == entries_.end()) return nullptr;
    found = at->second;
  }
  struct stat now {};
  const bool unchanged = ::fstatat(folder, path.c_str() + 1, &now, 0) == 0 && same_file(found->status, now);
  return unchanged ? found : nullptr;
}

std::shared_ptr<const small_files::entry> small_files::keep(int file, const std::string& path,
                                                            const struct stat& status) {
  constexpr std::time_t settled = 2;
  if (static_cast<std::uint64_t>(status.st_size) > largest || std::time(nullptr) - status.st_ctim.tv_sec <= settled) {
    return nullptr;
  }
  std::string content(static_cast<std::size_t>(status.st_size), '\0');
  if (::pread(file, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) return nullptr;
  auto fresh = std::make_shared<const entry>(entry{status, description(path, status), std::move(content)});
  const std::scoped_lock held(lock_);
  if (entries_.size() >= most) entries_.clear();
  return entries_[path] = std::move(fresh);
}

}  // namespace httpd
