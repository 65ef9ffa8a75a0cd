// SPDX-License-Identifier: Apache-2.0
// compute [SECONDS]: two goroutines that compute, one in its own code and one in libc, until the program has
// used so much processor time (0.4 s unless said). For profilers that look from outside.
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <tuco/tuco.hpp>

namespace app {

volatile unsigned sink;
std::clock_t enough;

[[gnu::noinline]] unsigned own_leaf(unsigned x) {
  for (int i = 0; i < 20'000; ++i) x = x * 1664525U + 1013904223U;
  return x;
}

[[gnu::noinline]] void in_own_code() {
  while (std::clock() < enough) {
    for (int i = 0; i < 20; ++i) sink = own_leaf(sink);
    tuco::yield();
  }
  sink = sink + 1;
}

int by_value(const void* a, const void* b) {
  const unsigned x = *static_cast<const unsigned*>(a);
  const unsigned y = *static_cast<const unsigned*>(b);
  return x < y ? -1 : x > y;
}

[[gnu::noinline]] void in_libc() {
  while (std::clock() < enough) {
    unsigned values[2000];
    unsigned x = sink;
    for (unsigned& v : values) v = x = x * 1664525U + 1013904223U;
    sink = x;
    std::qsort(values, 2000, sizeof values[0], by_value);
    tuco::yield();
  }
  sink = sink + 1;
}

}  // namespace app

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::strtod(argv[1], nullptr) : 0.4;
  app::enough = std::clock() + static_cast<std::clock_t>(seconds * CLOCKS_PER_SEC);
  return tuco::run([] {
    tuco::wait_group all;
    all.add(2);
    tuco::go({.name = "own code"}, [&] { app::in_own_code(), all.done(); });
    tuco::go({.name = "libc"}, [&] { app::in_libc(), all.done(); });
    all.wait();
  });
}
