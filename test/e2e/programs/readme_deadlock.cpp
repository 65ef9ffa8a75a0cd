// SPDX-License-Identifier: Apache-2.0
// The program of the README that is stuck.
#include <cstdio>

#include <tuco/tuco.hpp>

void worker(tuco::chan<int> jobs) {
  while (const auto job = jobs.recv()) std::printf("%d\n", *job);
}

int main() {
  return tuco::run([] {
    tuco::chan<int> jobs(8);
    tuco::go([jobs] { worker(jobs); });
    tuco::mutex lock;
    lock.lock();
    lock.lock();  // for ever: it is not recursive
  });
}
