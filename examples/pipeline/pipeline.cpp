// SPDX-License-Identifier: Apache-2.0
// Three stages joined by channels: numbers, four goroutines that square them, one that adds.
#include <cstdio>

#include <tuco/tuco.hpp>

namespace {

tuco::recv_chan<long> numbers(long last) {
  tuco::chan<long> out(16);
  tuco::go({.name = "numbers"}, [out, last] {
    for (long i = 1; i <= last; ++i) out.send(i);
    out.close();
  });
  return out;
}

tuco::recv_chan<long> squares(tuco::recv_chan<long> in, int workers) {
  tuco::chan<long> out(16);
  tuco::go({.name = "squares"}, [in, out, workers] {
    tuco::wait_group running;
    running.add(workers);
    for (int i = 0; i < workers; ++i) {
      tuco::go({.name = "square"}, [in, out, &running] {
        for (long n : in) out.send(n * n);
        running.done();
      });
    }
    running.wait();
    out.close();
  });
  return out;
}

}  // namespace

int main() {
  return tuco::run([] {
    long sum = 0;
    for (long square : squares(numbers(1000), 4)) sum += square;
    std::printf("the squares of 1 to 1000 add up to %ld\n", sum);
  });
}
