// SPDX-License-Identifier: Apache-2.0
// Prints how many processors there are, and whether goroutines run on them.
#include <cstdio>

#include <tuco/tuco.hpp>

int main() {
  return tuco::run([] {
    tuco::chan<int> answer(0);
    tuco::go([=] { answer.send(tuco::procs()); });
    std::printf("%d\n", answer.recv().value());
  });
}
