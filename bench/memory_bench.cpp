// SPDX-License-Identifier: Apache-2.0
// memory_bench.cpp - what a goroutine that waits costs in memory.
//
// Question   How many connections, sessions, timers fit into a machine?
// Unit       bytes per goroutine: growth of resident memory and of the page tables, which the resident
//            set does not count and which are what sparse stacks are paid with.
// Baseline   bench/peers/go/memory.go. Below one page a goroutine with a stack of its own cannot be.
// Shape      100,000 goroutines parked in a receive; each has run once, as far as its first wait.
// Axes       one processor; the number does not depend on it.
// Left out   the runtime itself.
// Checked    all 100,000 are there, and all of them end.
// Run        bench/run --only memory
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

/// Bytes that the kernel holds for this process.
double memory_in_use() {
  double kib = 0;
  if (std::FILE* file = std::fopen("/proc/self/status", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr) {
      double value = 0;
      if (std::sscanf(line, "VmRSS: %lf", &value) == 1 || std::sscanf(line, "VmPTE: %lf", &value) == 1) {
        kib += value;
      }
    }
    std::fclose(file);
  }
  return kib * 1024;
}

void parked(benchmark::State& state) {
  constexpr int count = 100'000;
  double bytes = 0;
  in_runtime(state, [&] {
    for (auto _ : state) {
      const double before = memory_in_use();
      chan<int> never(0);
      wait_group waiting, ended;
      waiting.add(count);
      ended.add(count);
      for (int i = 0; i < count; ++i) {
        go([never, &waiting, &ended] {
          waiting.done();
          if (!never.recv()) ended.done();
        });
      }
      waiting.wait();
      yield();  // the last one gets from done() into recv()
      bytes = (memory_in_use() - before) / count;
      never.close();
      ended.wait();
    }
    return true;
  });
  state.counters["bytes"] = bytes;
}

// Once: the second time it would find its stacks committed.
BENCHMARK(parked)->Name("memory/parked")->ArgName("procs")->Arg(1)->Iterations(1)->UseRealTime();

}  // namespace
}  // namespace tuco::bench
