// SPDX-License-Identifier: Apache-2.0
#include "files.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <system_error>
#include <utility>

namespace httpd {
namespace {

// Without openat2: part by part, and through no symbolic link at all. `path` has no ".." part.
int open_by_parts(int folder, const char* path) noexcept {
  constexpr int always = O_NOFOLLOW | O_CLOEXEC;
  for (int at = folder;;) {
    const char* const end = ::strchrnul(path, '/');
    const bool last = end[0] == 0 || end[1] == 0;
    char part[NAME_MAX + 1] = {};
    int next = -1;
    int error = ENAMETOOLONG;
    if (static_cast<std::size_t>(end - path) < sizeof part) {
      std::memcpy(part, path, static_cast<std::size_t>(end - path));
      next = ::openat(at, part, !last ? always | O_PATH | O_DIRECTORY
                                      : always | O_RDONLY | O_NOCTTY | O_NONBLOCK | (*end != 0 ? O_DIRECTORY : 0));
      error = errno;
    }
    if (at != folder) ::close(at);
    if (next < 0) return -error;
    if (last) return next;
    at = next;
    path = end + 1;
  }
}

// The address of errno is the thread's, and a goroutine may change its thread in any call of the
// runtime: a function that reads errno makes no such call, and is not inlined into one that does.
[[gnu::noinline]] int open_beneath(int folder, const char* path) noexcept {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;  // does not wait for a fifo's other end
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  for (int attempt = 0;; ++attempt) {
    const long fd = ::syscall(SYS_openat2, folder, path, &how, sizeof how);
    if (fd >= 0) return static_cast<int>(fd);
    if (errno == ENOSYS) return open_by_parts(folder, path);  // before Linux 5.6, in some sandboxes, under valgrind
    // EAGAIN: something on the way was renamed meanwhile.
    if (errno != EINTR && (errno != EAGAIN || attempt == 100)) return -errno;
  }
}

int status_of(int error) noexcept {
  switch (-error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG: return 404;
    case EXDEV:  // leads out of the root
    case ELOOP:
    case EACCES:
    case EPERM:
    case ENXIO: return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM: return 503;
    default: return 500;
  }
}

/// Whether a list of tags (If-None-Match) holds `tag`; W/ makes no difference there.
bool lists(std::string_view field, std::string_view tag) noexcept {
  return field == "*" || field.find(tag) != field.npos;
}

/// Decides by the request's conditions and range what of a file is sent.
/// @param send  (status, first, count, header lines)
template <class Send>
void serve_part(const description& about, const request& asked, reply& answer, Send send) {
  const bool unchanged = !asked.if_none_match.empty() ? lists(asked.if_none_match, about.tag)
                                                      : asked.if_modified_since == about.modified;
  if (unchanged) return answer.send(304, about.fields);

  const bool same_file =
      asked.if_range.empty() || asked.if_range == about.tag || asked.if_range == about.modified;
  if (asked.range.empty() || asked.method != method::get || !same_file) {
    return send(200, 0, about.size, about.fields);
  }
  const byte_range range = parse_range(asked.range, about.size);
  const std::string whole = "/" + std::to_string(about.size) + "\r\n";
  switch (range.what) {
    case byte_range::kind::whole: return send(200, 0, about.size, about.fields);
    case byte_range::kind::unsatisfiable: return answer.send(416, "Content-Range: bytes *" + whole);
    case byte_range::kind::part:
      return send(206, range.first, range.count,
                  about.fields + "Content-Range: bytes " + std::to_string(range.first) + "-" +
                      std::to_string(range.first + range.count - 1) + whole);
  }
}

auto in_memory(reply& answer, const small_files::entry& kept) {
  return [&](int status, std::uint64_t first, std::uint64_t count, std::string_view fields) {
    answer.send(status, kept.about.type, std::string_view(kept.content).substr(first, count), fields);
  };
}

}  // namespace

file& file::operator=(file&& other) noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = other.release();
  return *this;
}

file::~file() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int file::release() noexcept { return std::exchange(descriptor_, -EBADF); }

root_folder::root_folder(const std::string& path) : folder_(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  if (!folder_) throw std::system_error(errno, std::system_category(), path);
  if (const int found = open_beneath(folder_.descriptor(), "."); found >= 0) {
    ::close(found);
  } else {
    throw std::system_error(-found, std::system_category(), path);
  }
}

file root_folder::open(std::string_view path) const noexcept {
  path.remove_prefix(1);
  if (path.empty()) path = ".";
  char name[4096];
  if (path.size() >= sizeof name) return file(-ENAMETOOLONG);
  name[path.copy(name, sizeof name)] = 0;
  return file(open_beneath(folder_.descriptor(), name));
}

void root_folder::serve(const target& what, const request& asked, reply& answer) const {
  if (const auto kept = small_files_.find(folder_.descriptor(), what.path)) {
    return serve_part(kept->about, asked, answer, in_memory(answer, *kept));
  }
  file found = open(what.path);
  struct stat status {};
  if (!found) return answer.send(status_of(found.error()));
  if (::fstat(found.descriptor(), &status) != 0) return answer.send(500);
  if (S_ISDIR(status.st_mode)) return serve_folder(std::move(found), what, asked, answer);
  if (!S_ISREG(status.st_mode)) return answer.send(403);  // a device or a fifo has no end
  if (const auto kept = small_files_.keep(found.descriptor(), what.path, status)) {
    return serve_part(kept->about, asked, answer, in_memory(answer, *kept));
  }
  const description about(what.path, status);
  serve_part(about, asked, answer,
             [&](int code, std::uint64_t first, std::uint64_t count, std::string_view fields) {
               answer.send_file(code, about.type, found.descriptor(), first, count, fields);
             });
}

void root_folder::serve_folder(file folder, const target& what, const request& asked, reply& answer) const {
  // Relative links of the page would lead elsewhere without the '/'.
  if (!what.path.ends_with('/')) {
    std::string location = "Location: " + encode(what.path) + "/";
    if (!what.query.empty()) location.append("?").append(what.query);
    return answer.send(301, location + "\r\n");
  }
  const target index{what.path + "index.html", {}};
  if (const file page = open(index.path); page || page.error() != -ENOENT) return serve(index, asked, answer);
  answer.send(200, "text/html; charset=utf-8", list_folder(std::move(folder), what.path));
}

byte_range parse_range(std::string_view field, std::uint64_t size) noexcept {
  using kind = byte_range::kind;
  const byte_range whole{kind::whole, 0, size};
  const auto number = [](std::string_view text, std::uint64_t& out) {
    out = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return false;
      const auto digit = static_cast<std::uint64_t>(c - '0');
      out = out > (UINT64_MAX - digit) / 10 ? UINT64_MAX : out * 10 + digit;  // far behind any end
    }
    return !text.empty();
  };

  constexpr std::string_view unit = "bytes=";
  if (!field.starts_with(unit)) return whole;
  field.remove_prefix(unit.size());
  const std::size_t dash = field.find('-');
  if (dash == field.npos) return whole;
  const std::string_view from = field.substr(0, dash);
  const std::string_view to = field.substr(dash + 1);

  std::uint64_t first = 0;
  std::uint64_t last = UINT64_MAX;
  if (from.empty()) {  // the last `suffix` bytes
    std::uint64_t suffix = 0;
    if (!number(to, suffix)) return whole;
    if (suffix == 0 || size == 0) return {kind::unsatisfiable, 0, 0};
    suffix = std::min(suffix, size);
    return {kind::part, size - suffix, suffix};
  }
  if (!number(from, first) || (!to.empty() && !number(to, last)) || last < first) return whole;
  if (first >= size) return {kind::unsatisfiable, 0, 0};
  last = std::min(last, size - 1);
  return {kind::part, first, last - first + 1};
}

}  // namespace httpd
