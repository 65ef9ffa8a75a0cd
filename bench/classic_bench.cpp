// SPDX-License-Identifier: Apache-2.0
// classic_bench.cpp - the programs by which runtimes like this one are compared.
//
// Question   What do switches, channels and births add up to in programs that consist of them?
// Unit       sieve, chain, skynet: ms for the whole; ring: ns per pass; fib: ns per goroutine.
// Baseline   bench/peers/go/classic.go.
// Shape      sieve: the first 2,000 primes through a chain of filters that grows. chain: 100,000
//            goroutines, each hands the number of its right neighbour on, plus one. ring: a token goes round
//            among 503 goroutines. skynet: a tree of 1,111,111 goroutines, ten children each, the million leaves add
//            up. fib: fib(25), one half of each call in a goroutine of its own.
// Axes       processors {1, all}.
// Left out   runtime start.
// Checked    the 2,000th prime, the length of the chain, where the token ends, the sum, the number.
// Run        bench/run --only classic
#include <cstdint>

#include "support/runtime_bench.hpp"

namespace tuco::bench {
namespace {

/// `once` returns whether it was right.
template <class F>
void whole(benchmark::State& state, std::int64_t items, F once) {
  in_runtime(state, [&] {
    for (auto _ : state) {
      if (!once()) return false;
    }
    return true;
  });
  state.SetItemsProcessed(state.iterations() * items);
}

bool sieve() {
  constexpr int primes = 2'000;
  constexpr int last = 17'389;
  chan<int> in(0);
  go([in] {
    for (int n = 2; n <= last; ++n) in.send(n);
    in.close();
  });
  int prime = 0;
  for (int i = 0; i < primes; ++i) {
    prime = in.recv().value();
    const chan<int> out(0);
    go([in, out, prime] {
      for (const int n : in) {
        if (n % prime != 0) out.send(n);
      }
      out.close();
    });
    in = out;
  }
  return prime == last && !in.recv();
}

bool chain() {
  constexpr int length = 100'000;
  const chan<int> leftmost(0);
  chan<int> left = leftmost;
  for (int i = 0; i < length; ++i) {
    const chan<int> right(0);
    go([left, right] { left.send(1 + right.recv().value()); });
    left = right;
  }
  go([left] { left.send(0); });
  return leftmost.recv() == length;
}

constexpr std::int64_t passes = 500'000;

bool ring() {
  constexpr std::int64_t members = 503;
  const chan<std::int64_t> result(0);
  const chan<std::int64_t> first(0);
  chan<std::int64_t> in = first;
  for (std::int64_t i = 0; i < members; ++i) {
    const chan<std::int64_t> out = i + 1 == members ? first : chan<std::int64_t>(0);
    go([in, out, result, i] {
      for (;;) {
        const std::int64_t left = in.recv().value();
        if (left == 1 - members) result.send(i);  // everybody has seen the end
        else out.send(left - 1);
        if (left <= 0) return;
      }
    });
    in = out;
  }
  first.send(passes);
  return result.recv() == (passes + members - 1) % members;
}

void skynet_node(const chan<std::int64_t>& parent, std::int64_t number, std::int64_t size) {
  if (size == 1) {
    parent.send(number);
    return;
  }
  const chan<std::int64_t> children(0);
  for (std::int64_t i = 0; i < 10; ++i) {
    go([children, first = number + i * (size / 10), size] { skynet_node(children, first, size / 10); });
  }
  std::int64_t sum = 0;
  for (int i = 0; i < 10; ++i) sum += children.recv().value();
  parent.send(sum);
}

bool skynet() {
  const chan<std::int64_t> root(0);
  go([root] { skynet_node(root, 0, 1'000'000); });
  return root.recv() == 499'999'500'000;
}

std::int64_t fib(int n) {
  if (n < 2) return n;
  std::int64_t other = 0;
  wait_group done;
  done.add();
  go([&, n] {
    other = fib(n - 1);
    done.done();
  });
  const std::int64_t mine = fib(n - 2);
  done.wait();
  return mine + other;
}

void sieve_2000(benchmark::State& state) { whole(state, 1, sieve); }
void chain_100k(benchmark::State& state) { whole(state, 1, chain); }
void ring_503(benchmark::State& state) { whole(state, passes, ring); }
void skynet_1m(benchmark::State& state) { whole(state, 1, skynet); }
void fib_25(benchmark::State& state) {
  whole(state, 121'392, [] { return fib(25) == 75'025; });
}

BENCHMARK(sieve_2000)->Name("classic/sieve")->Apply(processors);
BENCHMARK(chain_100k)->Name("classic/chain")->Apply(processors);
BENCHMARK(ring_503)->Name("classic/ring")->Apply(processors);
BENCHMARK(skynet_1m)->Name("classic/skynet")->Apply(processors);
BENCHMARK(fib_25)->Name("classic/fib")->Apply(processors);

}  // namespace
}  // namespace tuco::bench
