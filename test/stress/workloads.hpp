// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Things that goroutines do all day, each with an account that must come out even: no value lost,
/// none twice, nobody early. Each test disturbs them in its own way.

#include <cstdint>
#include <ostream>
#include <span>
#include <string_view>

#include "stress/stress.hpp"

namespace tuco::test {

struct workload {
  std::string_view name;
  /// Runs in a goroutine, returns when all it started has ended. About `pairs` times somebody parks
  /// and is made ready; `progress` counts them roughly. Failures are EXPECTs.
  void (*run)(std::uint64_t pairs, tally& progress);
  /// Nanoseconds of a pair, to tell how long a test will take; only the order of magnitude counts.
  std::uint64_t cost;

  friend void PrintTo(const workload& w, std::ostream* out) { *out << w.name; }
};

[[nodiscard]] std::span<const workload> workloads() noexcept;

/// All of them at once until each has done its share of `pairs`.
void run_all_workloads(std::uint64_t pairs, tally& progress);

}  // namespace tuco::test
