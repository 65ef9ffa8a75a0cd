// SPDX-License-Identifier: Apache-2.0
// wait_group_bench.cpp - what a wait_group costs when nobody has to wait.
//
// Question   Does counting cost more than the atomic operations that it consists of?
// Unit       ns per add(), done() and wait().
// Baseline   bench/peers/go/wait_group.go.
// Shape      one goroutine goes through the three.
// Axes       processors {1, all}.
// Left out   parking: that is spawn_bench.
// Checked    the counter is 0 after each round.
// Run        bench/run --only wait_group
#include <cstdint>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

void cycle(benchmark::State& state) {
  constexpr std::int64_t cycles = 100'000;
  in_runtime(state, [&] {
    wait_group group;
    for (auto _ : state) {
      for (std::int64_t i = 0; i < cycles; ++i) {
        group.add();
        group.done();
        group.wait();
      }
      if (group.count() != 0) return false;
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * cycles);
}

BENCHMARK(cycle)->Name("wait_group/cycle")->Apply(processors);

}  // namespace
}  // namespace tuco::bench
