// SPDX-License-Identifier: Apache-2.0
#include "os/cgroup.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "os/socket.hpp"
#include "os/syscall.hpp"
#include "os/thread.hpp"

namespace tuco::inline v1::os {
namespace {

// Paths on the stack: this may run in a process that is out of memory, and never allocates.
class path {
 public:
  path& append(std::string_view s) noexcept {
    if (s.size() >= sizeof text_ - size_) {
      overflow_ = true;
      return *this;
    }
    std::copy(s.begin(), s.end(), text_ + size_);
    size_ += s.size();
    text_[size_] = '\0';
    return *this;
  }
  [[nodiscard]] const char* c_str() const noexcept { return text_; }
  [[nodiscard]] bool fits() const noexcept { return !overflow_; }
  [[nodiscard]] std::string_view view() const noexcept { return {text_, size_}; }
  void clear() noexcept {
    size_ = 0;
    text_[0] = '\0';
    overflow_ = false;
  }

 private:
  char text_[4096] = {};
  std::size_t size_ = 0;
  bool overflow_ = false;
};

int open_read(const path& p) noexcept {
  if (!p.fits()) return -ENAMETOOLONG;
  return retry_eintr([&] {
    return system_call(call::open, [&] { return ::open(p.c_str(), O_RDONLY | O_CLOEXEC); });
  });
}

ssize_t pread_start(int file, char* buffer, std::size_t size) noexcept {
  return retry_eintr(
      [&] { return system_call(call::read, [&] { return ::pread(file, buffer, size, 0); }); });
}

// The lines of a file, without those above 4 KiB; mountinfo has no bound as a whole.
class line_reader {
 public:
  explicit line_reader(int file) noexcept : file_(file) {}

  bool next(std::string_view& line) noexcept {
    for (;;) {
      if (const void* newline = std::memchr(buffer_ + begin_, '\n', end_ - begin_)) {
        const std::size_t length =
            static_cast<std::size_t>(static_cast<const char*>(newline) - (buffer_ + begin_));
        line = {buffer_ + begin_, length};
        begin_ += length + 1;
        if (!skipping_) return true;
        skipping_ = false;
        continue;
      }
      if (begin_ == 0 && end_ == sizeof buffer_) {  // longer than we care for
        skipping_ = true;
        end_ = 0;
      }
      std::memmove(buffer_, buffer_ + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
      const ssize_t n = retry_eintr([&] {
        return system_call(call::read,
                           [&] { return ::read(file_, buffer_ + end_, sizeof buffer_ - end_); });
      });
      if (n <= 0) {
        failed_ = n < 0;  // then what is left may be half a line
        line = {buffer_, end_};
        const bool more = end_ != 0 && !skipping_ && !failed_;
        end_ = 0;
        return more;
      }
      end_ += static_cast<std::size_t>(n);
    }
  }

  /// The lines ended before the file did.
  [[nodiscard]] bool failed() const noexcept { return failed_; }

 private:
  int file_;
  bool failed_ = false;
  bool skipping_ = false;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  char buffer_[4096];
};

bool list_contains(std::string_view list, std::string_view item) noexcept {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (list.substr(0, comma) == item) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

// "HIERARCHY:CONTROLLERS:PATH". The cpu controller is on version 1 when some line lists it.
struct membership {
  int version = 0;
  path where;
};

void find_membership(std::string_view root, membership& out) noexcept {
  path p;
  p.append(root).append("/proc/self/cgroup");
  const int file = open_read(p);
  if (file < 0) return;
  line_reader lines(file);
  std::string_view line;
  while (lines.next(line)) {
    const std::size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool v1 = list_contains(controllers, "cpu");
    const bool v2 = controllers.empty() && line.substr(0, first) == "0";
    if (!v1 && !v2) continue;
    out.version = v1 ? 1 : 2;
    out.where.clear();
    out.where.append(line.substr(second + 1));
    if (v1) break;  // a mixed system: the controller is where it is listed
  }
  if (lines.failed()) out.version = 0;
  close_descriptor(file);
}

// Blanks and backslashes are written as octal in mountinfo.
void append_unescaped(path& out, std::string_view s) noexcept {
  while (!s.empty()) {
    if (s.size() >= 4 && s[0] == '\\') {
      const char c =
          static_cast<char>(((s[1] - '0') << 6) | ((s[2] - '0') << 3) | (s[3] - '0'));
      out.append({&c, 1});
      s.remove_prefix(4);
    } else {
      const std::size_t plain = std::min(s.find('\\', 1), s.size());
      out.append(s.substr(0, plain));
      s.remove_prefix(plain);
    }
  }
}

std::string_view next_field(std::string_view& line) noexcept {
  const std::size_t space = line.find(' ');
  const std::string_view field = line.substr(0, space);
  line = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
  return field;
}

// "36 35 98:0 ROOT MOUNT-POINT options optional... - TYPE source super-options"
bool find_directory(std::string_view root, const membership& member, path& out) noexcept {
  path p;
  p.append(root).append("/proc/self/mountinfo");
  const int file = open_read(p);
  if (file < 0) return false;
  line_reader lines(file);
  std::string_view line;
  bool found = false;
  path mount_root;
  while (!found && lines.next(line)) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view tail = line.substr(dash + 3);
    const std::string_view type = next_field(tail);
    next_field(tail);
    if (member.version == 2 ? type != "cgroup2" : type != "cgroup" || !list_contains(tail, "cpu")) {
      continue;
    }
    std::string_view head = line.substr(0, dash);
    for (int i = 0; i < 3; ++i) next_field(head);
    mount_root.clear();
    append_unescaped(mount_root, next_field(head));
    // Without a cgroup namespace a container sees its path from the host's root, and only its own
    // part mounted: the mount's root is then the head of the path.
    std::string_view below = member.where.view();
    if (mount_root.view() != "/") {
      if (!below.starts_with(mount_root.view())) continue;
      below.remove_prefix(mount_root.view().size());
      if (!below.empty() && below.front() != '/') continue;  // "/a" is no ancestor of "/ab"
    }
    out.clear();
    out.append(root);
    append_unescaped(out, next_field(head));
    if (!below.empty() && below != "/") out.append(below);
    found = out.fits();
  }
  close_descriptor(file);
  return found;
}

}  // namespace

cpu_quota_reader::cpu_quota_reader(std::string_view root) noexcept {
  if (root.size() >= sizeof root_) return;
  std::copy(root.begin(), root.end(), root_);
  open();
}

cpu_quota_reader::~cpu_quota_reader() { close(); }

void cpu_quota_reader::open() noexcept {
  membership member;
  find_membership(root_, member);
  path directory;
  if (member.version == 0 || !find_directory(root_, member, directory)) return;
  path p;
  p.append(directory.view()).append(member.version == 2 ? "/cpu.max" : "/cpu.cfs_quota_us");
  quota_file_ = open_read(p);
  if (member.version == 1) {
    p.clear();
    p.append(directory.view()).append("/cpu.cfs_period_us");
    period_file_ = open_read(p);
    if (period_file_ < 0) close();
  }
}

void cpu_quota_reader::close() noexcept {
  if (quota_file_ >= 0) close_descriptor(quota_file_);
  if (period_file_ >= 0) close_descriptor(period_file_);
  quota_file_ = period_file_ = -1;
}

std::optional<double> cpu_quota_reader::quota() noexcept {
  if (quota_file_ < 0) return std::nullopt;
  char text[64];
  ssize_t n = pread_start(quota_file_, text, sizeof text);
  if (n == -ENODEV) {  // moved to another cgroup, and the old one was removed
    close();
    open();
    if (quota_file_ < 0) return std::nullopt;
    n = pread_start(quota_file_, text, sizeof text);
  }
  if (n <= 0) return std::nullopt;
  // Version 2: "max 100000" or "150000 100000". Version 1: "-1" or "150000".
  std::int64_t quota = 0;
  const auto parsed = std::from_chars(text, text + n, quota);
  if (parsed.ec != std::errc{} || quota <= 0) return std::nullopt;
  std::int64_t period = 0;
  if (period_file_ < 0) {
    const char* at = parsed.ptr;
    if (at == text + n || *at != ' ' ||
        std::from_chars(at + 1, text + n, period).ec != std::errc{}) {
      return std::nullopt;
    }
  } else {
    n = pread_start(period_file_, text, sizeof text);
    if (n <= 0 || std::from_chars(text, text + n, period).ec != std::errc{}) return std::nullopt;
  }
  if (period <= 0) return std::nullopt;
  return static_cast<double>(quota) / static_cast<double>(period);
}

int default_processors(int affinity, std::optional<double> quota) noexcept {
  affinity = std::max(affinity, 1);
  if (!quota || *quota >= affinity) return affinity;
  return std::min(affinity, std::max(2, static_cast<int>(std::ceil(*quota))));
}

int default_processors(cpu_quota_reader& reader) noexcept {
  return default_processors(affinity_count(), reader.quota());
}

}  // namespace tuco::inline v1::os
