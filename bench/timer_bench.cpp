// SPDX-License-Identifier: Apache-2.0
// timer_bench.cpp - what a timer costs that nearly always is stopped before it expires, and how late the
// others are.
//
// Question   Can every request have a deadline? Is a sleep as long as one asked for?
// Unit       ns per timer; lateness in µs behind the moment that was asked for; CPU ns per sleep.
// Baseline   bench/peers/go/timer.go.
// Shape      start_stop: one timer of an hour at a time. bulk: 100,000 timers are started, with hours of
//            all sizes, then stopped in another order. sleepers: 1,000 goroutines sleep a hundred times 1 to 10 ms
//            each, so that some hundred thousand wake-ups fall into each second. ticker: one goroutine sleeps 500
//            times 1 ms, beside 100 that sit in raw blocking calls of 1 ms and one that burns the CPU.
// Axes       processors {1, all}.
// Left out   runtime start.
// Checked    stop() says that it was in time; no sleep ends early; all sleepers come back.
// Run        bench/run --only timer
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <vector>

#include <time.h>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

double seconds_since(clock::time_point begin) {
  return std::chrono::duration<double>(clock::now() - begin).count();
}

void start_stop(benchmark::State& state) {
  constexpr std::int64_t timers = 20'000;
  in_runtime(state, [&] {
    for (auto _ : state) {
      for (std::int64_t i = 0; i < timers; ++i) {
        timer t(1h);
        if (!t.stop()) return false;
      }
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * timers);
}

/// One of the two halves is on the clock.
void bulk(benchmark::State& state, bool timed_start) {
  constexpr std::size_t timers = 100'000;
  in_runtime(state, [&] {
    std::mt19937_64 random(42);
    std::vector<std::chrono::seconds> spans(timers);
    for (auto& span : spans) span = std::chrono::seconds(3'600 + random() % 36'000);
    std::vector<std::size_t> order(timers);
    for (std::size_t i = 0; i < timers; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (auto _ : state) {
      std::vector<timer> all;
      all.reserve(timers);
      const auto begin = clock::now();
      for (const auto span : spans) all.emplace_back(span);
      const auto middle = clock::now();
      for (const std::size_t i : order) {
        if (!all[i].stop()) return false;
      }
      state.SetIterationTime(timed_start ? std::chrono::duration<double>(middle - begin).count()
                                         : seconds_since(middle));
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(timers));
}
void bulk_start(benchmark::State& state) { bulk(state, true); }
void bulk_stop(benchmark::State& state) { bulk(state, false); }

double process_cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

double quantile_us(std::vector<std::int64_t>& lateness, double q) {
  std::sort(lateness.begin(), lateness.end());
  const auto at = static_cast<std::size_t>(q * static_cast<double>(lateness.size() - 1));
  return static_cast<double>(lateness[at]) / 1000;
}

/// Sleeps once. @return How late it came back, in ns; negative if early.
std::int64_t sleep_once(std::chrono::nanoseconds span) {
  const auto due = clock::now() + span;
  sleep_until(due);
  return std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now() - due).count();
}

void sleepers(benchmark::State& state) {
  static constexpr std::size_t count = 1'000, sleeps = 100;
  in_runtime(state, [&] {
    for (auto _ : state) {
      std::vector<std::int64_t> lateness(count * sleeps);
      const double cpu = process_cpu_ns();
      wait_group all;
      all.add(static_cast<int>(count));
      for (std::size_t g = 0; g < count; ++g) {
        go([&all, g, late = lateness.data() + g * sleeps] {
          std::minstd_rand random(static_cast<unsigned>(g + 1));
          for (std::size_t i = 0; i < sleeps; ++i) {
            late[i] = sleep_once(1ms + std::chrono::microseconds(random() % 9'000));
          }
          all.done();
        });
      }
      all.wait();
      state.counters["cpu_ns"] = (process_cpu_ns() - cpu) / static_cast<double>(count * sleeps);
      state.counters["p50_us"] = quantile_us(lateness, 0.5);
      state.counters["p99_us"] = quantile_us(lateness, 0.99);
      if (lateness.front() < 0) return false;
    }
    return true;
  });
}

void ticker(benchmark::State& state) {
  in_runtime(state, [&] {
    for (auto _ : state) {
      std::atomic<bool> over{false};
      wait_group others;
      others.add(101);
      for (int i = 0; i < 100; ++i) {
        go([&] {
          const timespec one_ms{0, 1'000'000};
          while (!over.load(std::memory_order_relaxed)) ::nanosleep(&one_ms, nullptr);
          others.done();
        });
      }
      go([&] {
        while (!over.load(std::memory_order_relaxed)) {
        }
        others.done();
      });
      std::vector<std::int64_t> lateness(500);
      for (std::int64_t& late : lateness) late = sleep_once(1ms);
      over.store(true, std::memory_order_relaxed);
      others.wait();
      state.counters["p50_us"] = quantile_us(lateness, 0.5);
      state.counters["p99_us"] = quantile_us(lateness, 0.99);
      if (lateness.front() < 0) return false;
    }
    return true;
  });
}

BENCHMARK(start_stop)->Name("timer/start_stop")->Apply(processors);
BENCHMARK(bulk_start)->Name("timer/bulk_start")->Apply(axis)->UseManualTime();
BENCHMARK(bulk_stop)->Name("timer/bulk_stop")->Apply(axis)->UseManualTime();
BENCHMARK(sleepers)->Name("timer/sleepers")->Apply(processors)->Iterations(1);
BENCHMARK(ticker)->Name("timer/ticker")->Apply(processors)->Iterations(1);

}  // namespace
}  // namespace tuco::bench
