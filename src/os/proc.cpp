// SPDX-License-Identifier: Apache-2.0
#include "os/proc.hpp"

#include <asm/unistd.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>

#include "os/memory.hpp"
#include "os/socket.hpp"
#include "os/syscall.hpp"

namespace tuco::inline v1::os {
namespace {

int open_file(const char* path, int flags) noexcept {
  return retry_eintr([&] {
    return system_call(call::open, [&] { return ::open(path, flags | O_CLOEXEC); });
  });
}

ssize_t read_some(int file, char* buffer, std::size_t size) noexcept {
  return retry_eintr(
      [&] { return system_call(call::read, [&] { return ::read(file, buffer, size); }); });
}

constexpr std::size_t syscall_limit = 512;

constexpr std::array<const char*, syscall_limit> syscall_names = [] {
  std::array<const char*, syscall_limit> names{};
#define TUCO_SYSCALL(name) \
  if (__NR_##name < syscall_limit) names[__NR_##name] = #name;
#include "os/syscall_names.inc"
#undef TUCO_SYSCALL
  return names;
}();

}  // namespace

ssize_t read_file(const char* path, char* buffer, std::size_t size) noexcept {
  const int file = open_file(path, O_RDONLY);
  if (file < 0) return file;
  std::size_t used = 0;
  ssize_t result = 0;
  while (used < size) {
    result = read_some(file, buffer + used, size - used);
    if (result <= 0) break;
    used += static_cast<std::size_t>(result);
  }
  close_descriptor(file);
  return result < 0 ? result : static_cast<ssize_t>(used);
}

int thread_probe::open(pid_t thread) noexcept {
  close();
  char path[64] = "/proc/self/task/";
  char* at = path + std::strlen(path);
  at = std::to_chars(at, path + 40, thread).ptr;
  std::memcpy(at, "/syscall", sizeof "/syscall");
  const int file = open_file(path, O_RDONLY);
  if (file < 0) return file;
  file_ = file;
  return 0;
}

void thread_probe::close() noexcept {
  if (file_ >= 0) close_descriptor(file_);
  file_ = -1;
}

thread_activity thread_probe::activity() const noexcept {
  using kind = thread_activity::kind;
  if (file_ < 0) return {kind::unavailable, -1};
  // "running", or "NR args... sp pc", with NR -1 when the thread sleeps outside a system call.
  char text[32];
  const ssize_t n = retry_eintr([&] {
    return system_call(call::read, [&] { return ::pread(file_, text, sizeof text, 0); });
  });
  if (n == -ESRCH || n == 0) return {kind::ended, -1};
  if (n < 0) return {kind::unavailable, -1};
  if (text[0] == 'r') return {kind::running, -1};
  int number = -1;
  const auto parsed = std::from_chars(text, text + n, number);
  if (parsed.ec != std::errc{}) return {kind::unavailable, -1};
  if (number < 0) return {kind::blocked, -1};
  return {kind::in_syscall, number};
}

std::string_view syscall_name(int number) noexcept {
  if (number < 0 || static_cast<std::size_t>(number) >= syscall_limit) return {};
  const char* name = syscall_names[static_cast<std::size_t>(number)];
  return name == nullptr ? std::string_view() : std::string_view(name);
}

int thread_count() noexcept {
  // The kernel counts each thread's directory as a link of its parent, as Unix directories do.
  struct stat info {};
  const int result =
      system_call(call::stat, [&] { return ::stat("/proc/self/task", &info); });
  // Without /proc, or with one whose directories do not count (some sandboxes): by looking.
  if (result < 0 || info.st_nlink <= 2) return list_threads({});
  return static_cast<int>(info.st_nlink) - 2;
}

int list_threads(std::span<pid_t> out) noexcept {
  // Not opendir: it allocates, and this is also asked when the heap is not to be trusted.
  const int directory = open_file("/proc/self/task", O_RDONLY | O_DIRECTORY);
  if (directory < 0) return directory;
  alignas(std::uint64_t) char buffer[2048];
  int count = 0;
  long n = 0;
  while ((n = system_call(call::getdents, [&] {
            return ::syscall(SYS_getdents64, directory, buffer, sizeof buffer);
          })) > 0) {
    for (long at = 0; at < n;) {
      // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name
      unsigned short length = 0;
      std::memcpy(&length, buffer + at + 16, sizeof length);
      const char* name = buffer + at + 19;
      pid_t id = 0;
      const auto parsed = std::from_chars(name, name + std::strlen(name), id);
      if (parsed.ec == std::errc{} && *parsed.ptr == '\0') {
        if (static_cast<std::size_t>(count) < out.size()) out[static_cast<std::size_t>(count)] = id;
        ++count;
      }
      at += length;
    }
  }
  close_descriptor(directory);
  return n < 0 ? static_cast<int>(n) : count;
}

std::uint64_t resident_bytes() noexcept {
  char text[128];
  const ssize_t n = read_file("/proc/self/statm", text, sizeof text);
  if (n <= 0) return 0;
  const char* const end = text + n;
  const char* at = static_cast<const char*>(std::memchr(text, ' ', static_cast<std::size_t>(n)));
  std::uint64_t pages = 0;
  if (at == nullptr || std::from_chars(at + 1, end, pages).ec != std::errc{}) return 0;
  return pages * page_size();
}

std::uint64_t page_table_bytes() noexcept {
  char text[4096];
  const ssize_t n = read_file("/proc/self/status", text, sizeof text);
  if (n <= 0) return 0;
  const std::string_view status(text, static_cast<std::size_t>(n));
  std::size_t at = status.find("VmPTE:");
  if (at == std::string_view::npos) return 0;
  at = status.find_first_not_of(" \t", at + 6);
  std::uint64_t kib = 0;
  if (at == std::string_view::npos ||
      std::from_chars(text + at, text + n, kib).ec != std::errc{}) {
    return 0;
  }
  return kib * 1024;
}

std::size_t mapping_count() noexcept {
  const int file = open_file("/proc/self/maps", O_RDONLY);
  if (file < 0) return 0;
  char buffer[4096];
  std::size_t lines = 0;
  ssize_t n = 0;
  while ((n = read_some(file, buffer, sizeof buffer)) > 0) {
    for (ssize_t i = 0; i < n; ++i) lines += buffer[i] == '\n';
  }
  close_descriptor(file);
  return lines;
}

}  // namespace tuco::inline v1::os
