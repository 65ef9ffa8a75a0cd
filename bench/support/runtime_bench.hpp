// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What all benchmarks of the runtime share: the axis of processors, and the way into run().
///
/// A benchmark is called `<concept>/<shape>/procs:<n>`, which is the name that the runner and the peers
/// use. Its unit of work is an *item*; the runner turns items per second into ns per item. What is not
/// time stands in a counter that the runner knows by name.

#include <benchmark/benchmark.h>

#include <sched.h>

#include <tuco/tuco.hpp>

namespace tuco::bench {

/// The cores that this process may use: what run() and Go take for "all".
inline int all_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/// One processor, and all. Goroutines change threads, so CPU time is that of the process.
inline void axis(benchmark::internal::Benchmark* b) {
  b->ArgName("procs")->Arg(1);
  if (all_processors() > 1) b->Arg(all_processors());
  b->MeasureProcessCPUTime();
}

/// The same, and time is the wall's.
inline void processors(benchmark::internal::Benchmark* b) {
  b->Apply(axis)->UseRealTime();
}

/// Runs `body` as the main goroutine on as many processors as the axis says. A wrong result is told
/// by returning false: the benchmark fails.
template <class F>
void in_runtime(benchmark::State& state, F body) {
  bool right = false;
  tuco::run([&] { right = body(); }, {.procs = static_cast<int>(state.range(0))});
  if (!right) state.SkipWithError("wrong result");
}

}  // namespace tuco::bench
