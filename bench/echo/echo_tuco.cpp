// SPDX-License-Identifier: Apache-2.0
// The echo server that bench/run measures: a goroutine per connection, straight-line code.
//
//   echo_tuco      prints `listening PORT`, serves until it is killed
#include <array>
#include <cstdio>
#include <system_error>

#include <tuco/tuco.hpp>

int main() {
  return tuco::run([] {
    auto listener = tuco::tcp_listener::listen("127.0.0.1:0");
    std::printf("listening %d\n", int{listener.local_endpoint().port()});
    std::fflush(stdout);
    for (;;) {
      tuco::go({.name = "echo"}, [conn = listener.accept()]() mutable {
        std::array<char, 4096> buffer;
        std::error_code ec;
        for (;;) {
          const std::size_t n = conn.read_some(buffer, ec);
          if (ec || n == 0) return;
          conn.write({buffer.data(), n}, ec);
          if (ec) return;
        }
      });
    }
  });
}
