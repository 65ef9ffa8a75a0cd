// SPDX-License-Identifier: Apache-2.0
// select_bench.cpp - what waiting for several channels costs.
//
// Question   Does a select cost more than the operation that it ends with, and how does it grow?
// Unit       ns per select.
// Baseline   bench/peers/go/select.go.
// Shape      ready_N: N channels that all hold a value; what was taken is put back, so a select and a
//            send. blocking_N: N unbuffered channels, a sender that uses them in turn: each select parks
//            in N lines. default: one empty channel, nothing to wait for. timeout: an unbuffered channel and
//            an hour; a value comes first.
// Axes       processors {1, all}.
// Left out   runtime start; channels and goroutines are spread over the selects of a round.
// Checked    the number of values taken, and of each channel's values the order.
// Run        bench/run --only select
#include <array>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

using channel = chan<std::int64_t>;

constexpr std::int64_t selects = 50'000;

template <std::size_t N>
std::vector<channel> channels(std::size_t capacity) {
  std::vector<channel> all;
  for (std::size_t i = 0; i < N; ++i) all.emplace_back(capacity);
  return all;
}

template <std::size_t N, class F>
void receive_from_any(std::vector<channel>& all, F handle) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    select(on_recv(all[I], [&](std::optional<std::int64_t> v) { handle(I, *v); })...);
  }(std::make_index_sequence<N>());
}

template <std::size_t N>
void ready(benchmark::State& state) {
  in_runtime(state, [&] {
    auto all = channels<N>(1);
    std::array<std::int64_t, N> taken{};
    for (const channel& ch : all) ch.send(0);
    std::int64_t expected = 0;
    bool right = true;
    for (auto _ : state) {
      for (std::int64_t i = 0; i < selects; ++i) {
        receive_from_any<N>(all, [&](std::size_t at, std::int64_t v) {
          right &= v == taken[at];
          all[at].send(++taken[at]);
        });
      }
      expected += selects;
    }
    std::int64_t sum = 0;
    for (const std::int64_t n : taken) sum += n;
    return right && sum == expected;
  });
  state.SetItemsProcessed(state.iterations() * selects);
}

template <std::size_t N>
void blocking(benchmark::State& state) {
  in_runtime(state, [&] {
    for (auto _ : state) {
      auto all = channels<N>(0);
      go([all] {
        for (std::int64_t i = 0; i < selects; ++i) all[static_cast<std::size_t>(i) % N].send(i);
      });
      std::int64_t next = 0;
      bool right = true;
      while (next < selects) {
        receive_from_any<N>(all, [&](std::size_t at, std::int64_t v) {
          right &= v == next && static_cast<std::size_t>(v) % N == at;
          ++next;
        });
      }
      if (!right) return false;
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * selects);
}

void with_default(benchmark::State& state) {
  in_runtime(state, [&] {
    const channel empty(1);
    std::int64_t passed = 0, expected = 0;
    for (auto _ : state) {
      for (std::int64_t i = 0; i < selects; ++i) {
        select(on_recv(empty), on_default([&] { ++passed; }));
      }
      expected += selects;
    }
    return passed == expected;
  });
  state.SetItemsProcessed(state.iterations() * selects);
}

void with_timeout(benchmark::State& state) {
  in_runtime(state, [&] {
    for (auto _ : state) {
      const channel ch(0);
      go([ch] {
        for (std::int64_t i = 0; i < selects; ++i) ch.send(i);
      });
      std::int64_t next = 0;
      bool right = true;
      while (next < selects && right) {
        select(on_recv(ch, [&](std::optional<std::int64_t> v) { right &= v == next++; }),
               on_timeout(std::chrono::hours(1), [&] { right = false; }));
      }
      if (!right) return false;
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * selects);
}

BENCHMARK(ready<2>)->Name("select/ready_2")->Apply(processors);
BENCHMARK(ready<8>)->Name("select/ready_8")->Apply(processors);
BENCHMARK(blocking<2>)->Name("select/blocking_2")->Apply(processors);
BENCHMARK(blocking<8>)->Name("select/blocking_8")->Apply(processors);
BENCHMARK(with_default)->Name("select/default")->Apply(processors);
BENCHMARK(with_timeout)->Name("select/timeout")->Apply(processors);

}  // namespace
}  // namespace tuco::bench
