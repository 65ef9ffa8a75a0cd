// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How much processor time this process may use: its cgroup's CPU bandwidth limit.
///
/// Version 1 (cpu.cfs_quota_us / cpu.cfs_period_us) and version 2 (cpu.max). As in Go, the limit that
/// counts is that of the cgroup in which the process itself is: containers set it there.
/// **Source.** Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/; Go 1.25, release notes, "Runtime".

#include <optional>
#include <string_view>

namespace tuco::inline v1::os {

/// Finds the cgroup once, keeps its files open; quota() costs one or two preads then.
class cpu_quota_reader {
 public:
  /// @param root  put before every path, for tests: "" is the system itself
  explicit cpu_quota_reader(std::string_view root = {}) noexcept;
  ~cpu_quota_reader();
  cpu_quota_reader(const cpu_quota_reader&) = delete;
  cpu_quota_reader& operator=(const cpu_quota_reader&) = delete;

  /// Processors' worth of time per time (quota / period), or nullopt: no limit, no cgroup, unreadable.
  [[nodiscard]] std::optional<double> quota() noexcept;

 private:
  void open() noexcept;
  void close() noexcept;

  char root_[256] = {};
  int quota_file_ = -1;   ///< cpu.max, or cpu.cfs_quota_us
  int period_file_ = -1;  ///< cpu.cfs_period_us; none in version 2
};

/// The number of processors to start with, by Go's rule: what the affinity mask allows, but no more
/// than the quota rounded up, and a quota counts as 2 at least (with one processor a hog would make
/// everything else wait although the quota allows both to run for a while).
int default_processors(cpu_quota_reader& reader) noexcept;
/// The rule itself.
int default_processors(int affinity, std::optional<double> quota) noexcept;

}  // namespace tuco::inline v1::os
