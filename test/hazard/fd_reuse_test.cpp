// SPDX-License-Identifier: Apache-2.0
// H34: a descriptor's number is closed and opened again while others use it. Nobody may read, write or
// be woken for the connection that comes after.
//
// Every message names its connection and carries a checksum. Connections are closed from outside at
// random moments while goroutines sit in read, in write, and in line for both; their numbers are
// taken at once by the next connections. A byte that crosses over makes a message that is not of the
// connection it arrived on.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "conformance/net_fixture.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class FdReuse : public net_test {};
TUCO_PROCESSORS(FdReuse);

struct message {
  std::uint32_t connection;
  std::uint32_t number;
  std::uint64_t sum;
  unsigned char filling[240];
};

std::uint64_t checksum(const message& m) {
  std::uint64_t sum = 1469598103934665603u ^ m.connection;
  sum = (sum ^ m.number) * 1099511628211u;
  for (unsigned char c : m.filling) sum = (sum ^ c) * 1099511628211u;
  return sum;
}

message make_message(std::uint32_t connection, std::uint32_t number) {
  message m{connection, number, 0, {}};
  std::memset(m.filling, static_cast<int>(connection * 31 + number), sizeof m.filling);
  m.sum = checksum(m);
  return m;
}

// What may end a conversation that is cut off at a random moment.
bool is_expected(const std::error_code& ec) {
  return !ec || ec == net_errc::closed || ec == net_errc::unexpected_eof ||
         ec == std::errc::broken_pipe || ec == std::errc::connection_reset;
}

// Small buffers in the kernel: both ends wait for each other all the time, and little is in flight.
void make_small(const stream_conn& conn) {
  const int size = 4096;
  ::setsockopt(conn.native_handle(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  ::setsockopt(conn.native_handle(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

void send_messages(stream_conn& conn, std::uint32_t id) {
  std::error_code ec;
  for (std::uint32_t n = 0; !ec; ++n) {
    const message m = make_message(id, n);
    conn.write({&m, sizeof m}, ec);
  }
  EXPECT_TRUE(is_expected(ec)) << ec.message();
}

void receive_messages(stream_conn& conn, std::uint32_t id) {
  std::error_code ec;
  message m{};
  std::uint32_t next = 0;
  while (conn.read_full({&m, sizeof m}, ec)) {
    ASSERT_EQ(m.connection, id) << "data of another connection";
    ASSERT_EQ(m.number, next++);
    ASSERT_EQ(m.sum, checksum(m));
  }
  EXPECT_TRUE(is_expected(ec)) << ec.message();
}

template <class MakePair>
void storm(int rounds, int at_once, MakePair make_pair) {
  std::mt19937 random(12345);
  std::uint32_t id = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<decltype(make_pair())> pairs;
    for (int i = 0; i < at_once; ++i) pairs.push_back(make_pair());
    crew all;
    for (auto& pair : pairs) {
      auto& [a, b] = pair;
      make_small(a);
      make_small(b);
      const std::uint32_t up = ++id;
      const std::uint32_t down = ++id;
      all.go([&a = a, up] { send_messages(a, up); });
      all.go([&b = b, up] { receive_messages(b, up); });
      all.go([&b = b, down] { send_messages(b, down); });
      all.go([&a = a, down] { receive_messages(a, down); });
    }
    // Close one end of each, in some order; the other end's users find out by themselves. The
    // replacement is opened at once and gets the number that has just become free.
    std::vector<std::size_t> order(pairs.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), random);
    std::vector<decltype(make_pair())> replacements;
    for (std::size_t at : order) {
      for (unsigned y = random() % 8; y > 0; --y) tuco::yield();
      auto& [a, b] = pairs[at];
      (random() % 2 == 0 ? a : b).close();
      replacements.push_back(make_pair());
      auto& [c, d] = replacements.back();
      const std::uint32_t fresh = ++id;
      std::error_code ec;
      for (std::uint32_t n = 0; n < 3; ++n) {
        const message sent = make_message(fresh, n);
        c.write({&sent, sizeof sent}, ec);
        ASSERT_FALSE(ec) << ec.message();
      }
      c.shutdown_write();
      receive_messages(d, fresh);
    }
    all.wait();
  }
}

TEST_P(FdReuse, TcpConnectionsNeverSeeEachOthersData) {
  in_runtime([] {
    storm(12, 8, [] {
      auto pair = make_tcp_pair();
      return std::pair<tcp_conn, tcp_conn>(std::move(pair.client), std::move(pair.server));
    });
  });
}

TEST_P(FdReuse, UnixConnectionsNeverSeeEachOthersData) {
  in_runtime([] { storm(25, 8, [] { return unix_conn::pair(); }); });
}

// A goroutine that waits on the new owner of a number and of a poll record is not woken by the end
// of the old one, and an idle reader of the new one stays idle.
TEST_P(FdReuse, WaitersOfTheNextOwnerStayParked) {
  in_runtime([] {
    int reused = 0;  // not always: the monitor may have taken the number for a file of its own
    for (int round = 0; round < 200; ++round) {
      auto [old_a, old_b] = unix_conn::pair();
      const int number = old_a.native_handle();
      crew old_reader;
      old_reader.go([&old_a = old_a] {
        char c = 0;
        std::error_code ec;
        (void)old_a.read_some({&c, 1}, ec);
        EXPECT_EQ(ec, net_errc::closed);
      });
      await_io_waiters(1);
      old_a.close();
      auto [a, b] = unix_conn::pair();
      reused += std::min(a.native_handle(), b.native_handle()) == number;
      crew reader;
      reader.go([&a = a] {
        char c = 0;
        EXPECT_EQ(a.read_some({&c, 1}), 1u);
        EXPECT_EQ(c, 'n');
      });
      await_io_waiters(1);
      old_b.close();
      b.write("n");
    }
    EXPECT_GT(reused, 0);
  });
}

}  // namespace
}  // namespace tuco
