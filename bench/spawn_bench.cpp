// SPDX-License-Identifier: Apache-2.0
// spawn_bench.cpp - what it costs to start a goroutine and to learn of its end.
//
// Question   Can a goroutine be the unit of concurrency, however small the task?
// Unit       ns per goroutine: go(), its first and only run, its end, its share of the join.
// Baseline   bench/peers/go/spawn.go; ceiling: bench/peers/ceiling, stacks from a list and nothing else.
// Shape      batch: 1,000 are started, then joined. at_once: 100,000 exist at the same time, before the
//            first one runs on one processor. one: each is joined before the next one starts.
// Axes       processors {1, all}.
// Left out   runtime start; the first allocation of records and stacks, but for at_once, where the
//            caches cannot hold them all and that is the point.
// Checked    each goroutine writes the round into a slot of its own; one missing fails the run.
// Run        bench/run --only spawn
#include <cstdint>
#include <vector>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

void spawn_and_join(benchmark::State& state, std::size_t count) {
  in_runtime(state, [&] {
    std::vector<std::uint32_t> slots(count);
    std::uint32_t round = 0;
    for (auto _ : state) {
      ++round;
      wait_group all;
      all.add(static_cast<int>(count));
      for (std::size_t i = 0; i < count; ++i) {
        go([&all, slot = &slots[i], round] {
          *slot = round;
          all.done();
        });
      }
      all.wait();
      for (const std::uint32_t slot : slots) {
        if (slot != round) return false;
      }
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(count));
}

void batch(benchmark::State& state) { spawn_and_join(state, 1'000); }
void at_once(benchmark::State& state) { spawn_and_join(state, 100'000); }
void one(benchmark::State& state) { spawn_and_join(state, 1); }

BENCHMARK(batch)->Name("spawn/batch")->Apply(processors);
BENCHMARK(at_once)->Name("spawn/at_once")->Apply(processors);
BENCHMARK(one)->Name("spawn/one")->Apply(processors);

}  // namespace
}  // namespace tuco::bench
