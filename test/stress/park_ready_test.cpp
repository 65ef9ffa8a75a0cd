// SPDX-License-Identifier: Apache-2.0
// A hundred million times somebody parks and is made ready, in every shape that the primitives have,
// with 1, 2 and 8 processors, and no wake-up is lost.
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include <tuco/tuco.hpp>

#include "stress/stress.hpp"
#include "stress/workloads.hpp"

namespace tuco::test {
namespace {

class ParkReady : public ::testing::TestWithParam<std::tuple<workload, int>> {};

/// What each shape gets of the hundred million, by what it costs.
std::uint64_t share(const workload& w) {
  const std::uint64_t full = w.cost <= 300 ? 7'000'000 : 1'000'000'000 / w.cost * 3;
  const std::uint64_t daily = 250'000'000 / w.cost;
  return stress_size(full, daily);
}

TEST_P(ParkReady, NoWakeUpIsLost) {
  const auto [work, processors] = GetParam();
  tally progress;
  const watchdog guard(work.name, progress);
  run([&, &w = work] { w.run(share(w), progress); }, {.procs = processors});
  RecordProperty("steps", std::to_string(progress.total()));
}

INSTANTIATE_TEST_SUITE_P(Shapes, ParkReady,
                         ::testing::Combine(::testing::ValuesIn(workloads().begin(), workloads().end()),
                                            ::testing::Values(1, 2, 8)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace tuco::test
