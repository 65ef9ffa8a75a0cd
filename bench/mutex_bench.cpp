// SPDX-License-Identifier: Apache-2.0
// mutex_bench.cpp - what a short critical section costs, alone and in a crowd.
//
// Question   Is the lock that frees its processor as cheap as one that does not, where nobody waits?
// Unit       ns per lock and unlock, by whomever.
// Baseline   bench/peers/go/mutex.go (sync.Mutex).
// Shape      1: one goroutine. 8: eight fight for one mutex around a counter.
// Axes       processors {1, all}.
// Left out   runtime start; starting and joining the goroutines is spread over the sections of a round.
// Checked    the counter, which is no atomic.
// Run        bench/run --only mutex
#include <cstdint>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

void contend(benchmark::State& state, std::int64_t goroutines) {
  constexpr std::int64_t sections = 400'000;
  in_runtime(state, [&] {
    mutex lock;
    std::int64_t counter = 0, expected = 0;
    for (auto _ : state) {
      wait_group all;
      all.add(static_cast<int>(goroutines));
      for (std::int64_t g = 0; g < goroutines; ++g) {
        go([&] {
          for (std::int64_t i = 0; i < sections / goroutines; ++i) {
            lock.lock();
            ++counter;
            lock.unlock();
          }
          all.done();
        });
      }
      all.wait();
      expected += sections;
    }
    return counter == expected;
  });
  state.SetItemsProcessed(state.iterations() * sections);
}

void alone(benchmark::State& state) { contend(state, 1); }
void crowd(benchmark::State& state) { contend(state, 8); }

BENCHMARK(alone)->Name("mutex/1")->Apply(processors);
BENCHMARK(crowd)->Name("mutex/8")->Apply(processors);

}  // namespace
}  // namespace tuco::bench
