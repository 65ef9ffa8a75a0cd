// SPDX-License-Identifier: Apache-2.0
// The sieve of Doug McIlroy: a chain of goroutines, one for each prime, through which all numbers
// run. Each filter drops the multiples of its prime; what comes out at the end is the next prime.
#include <cstdio>

#include <tuco/tuco.hpp>

namespace {

void generate(tuco::send_chan<int> out) {
  for (int n = 2;; ++n) out.send(n);
}

void filter(tuco::recv_chan<int> in, tuco::send_chan<int> out, int prime) {
  for (int n : in) {
    if (n % prime != 0) out.send(n);
  }
}

}  // namespace

int main() {
  return tuco::run([] {
    tuco::chan<int> source(0);
    tuco::go([source] { generate(source); });
    for (int i = 0; i < 20; ++i) {
      const int prime = *source.recv();
      std::printf("%d\n", prime);
      tuco::chan<int> next(0);
      tuco::go([source, next, prime] { filter(source, next, prime); });
      source = next;
    }
  });  // the filters still run; as in Go, the program ends with its first goroutine
}
