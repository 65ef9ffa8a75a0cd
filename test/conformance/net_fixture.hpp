// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the net tests share.

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

#include <tuco/go.hpp>
#include <tuco/net.hpp>
#include <tuco/wait_group.hpp>

#include "fixture/runtime_test.hpp"
#include "poll/poller.hpp"

namespace tuco::test {

using std::chrono::steady_clock;
using namespace std::chrono_literals;  // NOLINT: of the tests alone

/// Bodies run as goroutine 1 with 1, 2 and 8 processors; a goroutine that is left parked on a
/// descriptor fails the test.
class net_test : public runtime_test {
 protected:
  void in_runtime(void (*body)()) {
    body_ = body;
    run_body([] {
      body_();
      EXPECT_EQ(poll::the_poller().waiters(), 0);
    });
  }

 private:
  static inline void (*body_)() = nullptr;
};

/// Goroutines that end before it does.
class crew {
 public:
  crew() = default;
  ~crew() { all_.wait(); }
  crew(const crew&) = delete;
  crew& operator=(const crew&) = delete;
  template <class F>
  void go(F&& f) {
    all_.add();
    tuco::go([this, f = std::forward<F>(f)]() mutable {
      f();
      all_.done();
    });
  }
  void wait() { all_.wait(); }

 private:
  tuco::wait_group all_;
};

/// Waits for a state: that `n` goroutines are parked on descriptors.
inline void await_io_waiters(int n) {
  await([n] { return poll::the_poller().waiters() == n; }, "goroutines to wait on descriptors");
}

struct tcp_pair {
  tcp_conn client;
  tcp_conn server;
};

inline tcp_pair make_tcp_pair(const char* address = "127.0.0.1:0") {
  auto listener = tcp_listener::listen(address);
  tcp_pair pair;
  pair.client = tcp_conn::dial(listener.local_endpoint());
  pair.server = listener.accept();
  return pair;
}

/// Reads until the peer has finished.
inline std::string read_all(stream_conn& conn) {
  std::string text;
  char buffer[4096];
  while (const std::size_t n = conn.read_some(buffer)) text.append(buffer, n);
  return text;
}

/// How a read that is to fail does.
inline std::error_code read_error(stream_conn& conn) {
  char c = 0;
  std::error_code ec;
  EXPECT_EQ(conn.read_some({&c, 1}, ec), 0u);
  return ec;
}

/// Writes until the peer's buffers and ours are full, and on: how it fails in the end.
inline std::error_code write_error(stream_conn& conn) {
  const std::string block(1 << 16, 'x');
  std::error_code ec;
  while (!ec) conn.write(block, ec);
  return ec;
}

/// The what() of what `f` throws.
template <class F>
std::string what_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "(nothing thrown)";
}

/// Bytes of which each says where it belongs.
inline std::string pattern(std::size_t size, std::uint32_t seed = 0) {
  std::string text(size, 0);
  std::uint32_t x = seed * 2654435761u + 12345;
  for (char& c : text) {
    x = x * 1664525u + 1013904223u;
    c = static_cast<char>(x >> 24);
  }
  return text;
}

}  // namespace tuco::test
