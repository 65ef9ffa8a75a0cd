// SPDX-License-Identifier: Apache-2.0
// chan_bench.cpp - what one value through a channel costs.
//
// Question   Is a channel cheap enough to be the first thing that one reaches for?
// Unit       ns per value; for ping_pong ns per round trip, which is two values and two switches.
// Baseline   bench/peers/go/chan.go.
// Shape      ping_pong: two unbuffered channels, a value there and back. unbuffered: one sender, one
//            receiver. buffered: the same with room for 128. buffered_4x4: four of each on one channel.
// Axes       processors {1, all}.
// Left out   runtime start; channel and goroutines are spread over the 100,000 values of a round.
// Checked    ping_pong: the peer answers with the successor. The others: the sum of what was received.
// Run        bench/run --only chan
#include <cstdint>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

constexpr std::int64_t values = 100'000;

void ping_pong(benchmark::State& state) {
  in_runtime(state, [&] {
    for (auto _ : state) {
      chan<std::int64_t> there(0), back(0);
      go([there, back] {
        while (const auto v = there.recv()) back.send(*v + 1);
        back.close();
      });
      for (std::int64_t i = 0; i < values; ++i) {
        there.send(i);
        if (back.recv() != i + 1) return false;
      }
      there.close();
      if (back.recv()) return false;
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * values);
}

void stream(benchmark::State& state, std::size_t capacity, std::int64_t pairs) {
  in_runtime(state, [&] {
    for (auto _ : state) {
      chan<std::int64_t> ch(capacity);
      chan<std::int64_t> sums(static_cast<std::size_t>(pairs));
      wait_group senders;
      senders.add(static_cast<int>(pairs));
      for (std::int64_t p = 0; p < pairs; ++p) {
        go([ch, sums] {
          std::int64_t sum = 0;
          while (const auto v = ch.recv()) sum += *v;
          sums.send(sum);
        });
        go([ch, p, pairs, &senders] {
          for (std::int64_t i = p; i < values; i += pairs) ch.send(i);
          senders.done();
        });
      }
      senders.wait();
      ch.close();
      std::int64_t sum = 0;
      for (std::int64_t p = 0; p < pairs; ++p) sum += sums.recv().value();
      if (sum != values * (values - 1) / 2) return false;
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * values);
}

void unbuffered(benchmark::State& state) { stream(state, 0, 1); }
void buffered(benchmark::State& state) { stream(state, 128, 1); }
void buffered_4x4(benchmark::State& state) { stream(state, 128, 4); }

BENCHMARK(ping_pong)->Name("chan/ping_pong")->Apply(processors);
BENCHMARK(unbuffered)->Name("chan/unbuffered")->Apply(processors);
BENCHMARK(buffered)->Name("chan/buffered")->Apply(processors);
BENCHMARK(buffered_4x4)->Name("chan/buffered_4x4")->Apply(processors);

}  // namespace
}  // namespace tuco::bench
