// SPDX-License-Identifier: Apache-2.0
// idle N: N goroutines wait for data of their connections, one sleeps for ten seconds again and again, and
// nothing happens. Prints where to connect to, and "ready" when all wait.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <tuco/tuco.hpp>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  const int n = argc > 1 ? std::atoi(argv[1]) : 10'000;
  return tuco::run([n] {
    auto listener = tuco::tcp_listener::listen("127.0.0.1:0");
    std::printf("listening on %s\n", listener.local_endpoint().to_string().c_str());
    std::fflush(stdout);
    for (int i = 0; i < n; ++i) {
      tuco::go([conn = std::make_shared<tuco::tcp_conn>(listener.accept())] {
        char byte = 0;
        static_cast<void>(conn->read_some({&byte, 1}));
      });
    }
    tuco::go([] {
      for (;;) tuco::sleep_for(10s);
    });
    while (tuco::count_goroutines().waiting != static_cast<std::size_t>(n) + 1) tuco::yield();
    std::puts("ready");
    std::fflush(stdout);
    static_cast<void>(tuco::chan<int>(0).recv());
  });
}
