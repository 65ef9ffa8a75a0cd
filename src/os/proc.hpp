// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What /proc tells about this process and its threads.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tuco::inline v1::os {

/// Reads a small file of /proc, /sys or the cgroup file system: at most `size` bytes.
/// @return How many, or a negative errno value.
ssize_t read_file(const char* path, char* buffer, std::size_t size) noexcept;

/// What a thread does at the moment of asking.
struct thread_activity {
  enum class kind : std::uint8_t {
    running,      ///< on a processor, or waiting for one
    in_syscall,   ///< sleeps inside system call `number`
    blocked,      ///< sleeps in the kernel for another reason: a page fault
    ended,        ///< there is no such thread any more
    unavailable,  ///< the kernel does not tell (no /proc, hidepid, a sandbox)
  };
  kind what = kind::unavailable;
  int number = -1;
};

/// /proc/self/task/TID/syscall, kept open: asking costs one pread, about 1 µs.
/// One asker at a time.
class thread_probe {
 public:
  thread_probe() noexcept = default;
  ~thread_probe() { close(); }
  thread_probe(const thread_probe&) = delete;
  thread_probe& operator=(const thread_probe&) = delete;
  thread_probe(thread_probe&& other) noexcept : file_(other.file_) { other.file_ = -1; }
  thread_probe& operator=(thread_probe&& other) noexcept {
    close();
    file_ = other.file_;
    other.file_ = -1;
    return *this;
  }

  /// @return 0 or a negative errno value; then activity() says `unavailable`.
  int open(pid_t thread) noexcept;
  void close() noexcept;
  [[nodiscard]] thread_activity activity() const noexcept;

 private:
  int file_ = -1;
};

/// Name of a system call of this machine: "read", "nanosleep"; empty when unknown.
std::string_view syscall_name(int number) noexcept;

/// Threads of this process, or a negative errno value. One system call.
int thread_count() noexcept;

/// Writes the ids of this process's threads to `out`, as many as fit.
/// @return How many there are (may be more than fit), or a negative errno value.
int list_threads(std::span<pid_t> out) noexcept;

/// Memory of this process that is in RAM, in bytes; 0 when unknown.
std::uint64_t resident_bytes() noexcept;
/// Page tables of this process, in bytes; 0 when unknown.
std::uint64_t page_table_bytes() noexcept;
/// Mappings of this process (what vm.max_map_count limits); 0 when unknown. Reads all of
/// /proc/self/maps: not for hot paths.
std::size_t mapping_count() noexcept;

}  // namespace tuco::inline v1::os
