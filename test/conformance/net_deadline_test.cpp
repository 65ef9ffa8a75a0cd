// SPDX-License-Identifier: Apache-2.0
// Deadlines: the promises of stream_conn::set_deadline() and tcp_listener::set_deadline().
#include <vector>

#include "conformance/net_fixture.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class NetDeadline : public net_test {};
TUCO_PROCESSORS(NetDeadline);

std::error_code read_one(stream_conn& conn) {
  char c = 0;
  std::error_code ec;
  (void)conn.read_some({&c, 1}, ec);
  return ec;
}

// Writes until nothing more goes out.
std::error_code write_forever(stream_conn& conn) {
  const std::string block(1 << 16, 'x');
  std::error_code ec;
  while (!ec) conn.write(block, ec);
  return ec;
}

TEST_P(NetDeadline, ReadEndsAtItAndNotBefore) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    for (auto wait : {1us, 100us, 2000us, 20000us}) {
      const auto deadline = steady_clock::now() + wait;
      client.set_read_deadline(deadline);
      EXPECT_EQ(read_one(client), std::errc::timed_out);
      EXPECT_GE(steady_clock::now(), deadline);
    }
  });
}

TEST_P(NetDeadline, PastOneFailsAtOnceEvenWithDataThere) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    server.write("data");
    client.set_read_deadline(steady_clock::now() - 1h);
    EXPECT_EQ(read_one(client), std::errc::timed_out);
    client.set_write_deadline(steady_clock::time_point::min());
    std::error_code ec;
    EXPECT_EQ(client.write("x", ec), 0u);
    EXPECT_EQ(ec, std::errc::timed_out);
    client.set_deadline(no_deadline);
    char buffer[4];
    EXPECT_TRUE(client.read_full(buffer)) << "the connection is as good as before";
  });
}

TEST_P(NetDeadline, WriteEndsAtItAndReportsWhatWasTaken) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    const std::string large(64 << 20, 'x');
    const auto deadline = steady_clock::now() + 20ms;
    client.set_write_deadline(deadline);
    std::error_code ec;
    const std::size_t sent = client.write(large, ec);
    EXPECT_EQ(ec, std::errc::timed_out);
    EXPECT_GE(steady_clock::now(), deadline);
    EXPECT_GT(sent, 0u);
    EXPECT_LT(sent, large.size());
    client.close();
    EXPECT_EQ(read_all(server).size(), sent);
  });
}

TEST_P(NetDeadline, DirectionsAreIndependent) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    client.set_read_deadline(steady_clock::now() - 1s);
    client.write("works");
    client.set_read_deadline(no_deadline);
    client.set_write_deadline(steady_clock::now() - 1s);
    server.write("!");
    EXPECT_FALSE(read_one(client));
  });
}

TEST_P(NetDeadline, SetWhileAReadWaitsEndsIt) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    for (bool had_one : {false, true}) {
      client.set_read_deadline(had_one ? steady_clock::now() + 1h : no_deadline);
      crew reader;
      reader.go([&client = client] { EXPECT_EQ(read_one(client), std::errc::timed_out); });
      await_io_waiters(1);
      client.set_read_deadline(steady_clock::now());
    }
    client.set_read_deadline(no_deadline);
    crew reader;
    reader.go([&client = client] { EXPECT_EQ(read_one(client), std::errc::timed_out); });
    await_io_waiters(1);
    client.set_deadline(steady_clock::now() + 2ms);
  });
}

TEST_P(NetDeadline, SetWhileAWriteWaitsEndsIt) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    crew writer;
    writer.go([&client = client] { EXPECT_EQ(write_forever(client), std::errc::timed_out); });
    await_io_waiters(1);
    client.set_write_deadline(steady_clock::now() - 1s);
  });
}

// Parks a read that has `wait` until its deadline, and moves the deadline to `next` while it waits.
// On a machine that is too slow for that, tries again with more time.
template <class Check>
void move_deadline_of_a_waiting_read(tcp_conn& client, std::chrono::milliseconds longer,
                                     Check check) {
  for (auto wait = 10ms;; wait *= 2) {
    const auto first = steady_clock::now() + wait;
    const auto second = longer == 0ms ? no_deadline : first + longer;
    client.set_read_deadline(first);
    std::error_code ec;
    steady_clock::time_point ended;
    crew reader;
    reader.go([&] {
      ec = read_one(client);
      ended = steady_clock::now();
    });
    while (poll::the_poller().waiters() == 0 && steady_clock::now() < first) tuco::yield();
    client.set_read_deadline(second);
    const bool in_time = steady_clock::now() < first;
    check(reader, first);
    reader.wait();
    if (!in_time) continue;
    if (longer != 0ms) {
      EXPECT_EQ(ec, std::errc::timed_out);
      EXPECT_GE(ended, second);
    } else {
      EXPECT_FALSE(ec) << ec.message();
    }
    return;
  }
}

TEST_P(NetDeadline, MovedToLaterWhileAReadWaitsIsHonoured) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    move_deadline_of_a_waiting_read(client, 30ms, [](crew&, auto) {});
  });
}

TEST_P(NetDeadline, TakenAwayWhileAReadWaitsLetsItGoOn) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    move_deadline_of_a_waiting_read(client, 0ms, [&server = server](crew&, auto first) {
      while (steady_clock::now() < first + 5ms) tuco::yield();
      server.write("x");
    });
  });
}

TEST_P(NetDeadline, EndsEveryReaderInLine) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    client.set_read_deadline(steady_clock::now() + 10ms);
    crew readers;
    for (int i = 0; i < 5; ++i) {
      readers.go([&client = client] { EXPECT_EQ(read_one(client), std::errc::timed_out); });
    }
  });
}

TEST_P(NetDeadline, AcceptEndsAtIt) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    const auto deadline = steady_clock::now() + 5ms;
    listener.set_deadline(deadline);
    EXPECT_EQ(what_of([&] { listener.accept(); }),
              "accept tcp " + listener.local_endpoint().to_string() + ": i/o timeout");
    EXPECT_GE(steady_clock::now(), deadline);
    listener.set_deadline(no_deadline);
    auto client = tcp_conn::dial(listener.local_endpoint());
    EXPECT_TRUE(listener.accept().is_open());
  });
}

TEST_P(NetDeadline, ManyTimersAndEventsRace) {
  in_runtime([] {
    constexpr int conns = 16;
    constexpr int rounds = 60;
    crew all;
    for (int i = 0; i < conns; ++i) {
      all.go([i, pair = make_tcp_pair()]() mutable {
        auto& [client, server] = pair;
        int sent = 0;
        int got = 0;
        for (int r = 0; r < rounds; ++r) {
          crew writer;
          writer.go([&, &server = server] {
            for (int y = 0; y < (r + i) % 5; ++y) tuco::yield();
            server.write("x");
          });
          ++sent;
          // Sometimes the data is first, sometimes the deadline.
          client.set_read_deadline(steady_clock::now() + std::chrono::microseconds((r * 7 + i) % 90));
          char buffer[16];
          std::error_code ec;
          const std::size_t n = client.read_some(buffer, ec);
          if (ec) {
            ASSERT_EQ(ec, std::errc::timed_out);
          }
          got += static_cast<int>(n);
        }
        client.set_read_deadline(no_deadline);
        server.shutdown_write();
        got += static_cast<int>(read_all(client).size());
        EXPECT_EQ(got, sent) << "no byte is lost to a deadline";
      });
    }
  });
}

// The deadlines of a million years and of the day before the machine started.
TEST_P(NetDeadline, ExtremesDoNotWrap) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    server.write("abc");
    client.set_read_deadline(steady_clock::time_point::max() - 1ns);
    EXPECT_FALSE(read_one(client));
    client.set_read_deadline(steady_clock::time_point::max());
    EXPECT_FALSE(read_one(client));
    client.set_read_deadline(steady_clock::time_point());
    EXPECT_EQ(read_one(client), std::errc::timed_out);
    client.set_read_deadline(steady_clock::time_point::min());
    EXPECT_EQ(read_one(client), std::errc::timed_out);
  });
}

}  // namespace
}  // namespace tuco
