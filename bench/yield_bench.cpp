// SPDX-License-Identifier: Apache-2.0
// yield_bench.cpp - what one trip through the scheduler costs when nobody waits for anything.
//
// Question   How far is the bare switch from the hardware?
// Unit       ns per yield().
// Baseline   bench/peers/go/yield.go (runtime.Gosched); ceiling: bench/peers/ceiling, a switch between
//            two contexts with a queue of pointers.
// Shape      2: a pair, everything in the first-level cache. 1000: a thousand goroutines take turns, so
//            that records and stacks come from the second and third level.
// Axes       processors {1, all}. With all, a pair has a processor each and meets nobody: then it is
//            the cost of finding that out.
// Left out   starting and joining the goroutines, spread over the yields of a round.
// Checked    each goroutine counts its yields; the sum must be exact.
// Run        bench/run --only yield
#include <cstdint>
#include <vector>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

constexpr std::int64_t yields_per_round = 1'000'000;

void take_turns(benchmark::State& state, std::int64_t goroutines) {
  in_runtime(state, [&] {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(goroutines));
    std::int64_t expected = 0;
    for (auto _ : state) {
      wait_group all;
      all.add(static_cast<int>(goroutines));
      for (std::int64_t& count : counts) {
        go([&all, &count, goroutines] {
          for (std::int64_t i = 0; i < yields_per_round / goroutines; ++i) {
            yield();
            ++count;
          }
          all.done();
        });
      }
      all.wait();
      expected += yields_per_round;
    }
    std::int64_t sum = 0;
    for (const std::int64_t count : counts) sum += count;
    return sum == expected;
  });
  state.SetItemsProcessed(state.iterations() * yields_per_round);
}

void pair(benchmark::State& state) { take_turns(state, 2); }
void thousand(benchmark::State& state) { take_turns(state, 1'000); }

BENCHMARK(pair)->Name("yield/2")->Apply(processors);
BENCHMARK(thousand)->Name("yield/1000")->Apply(processors);

}  // namespace
}  // namespace tuco::bench
