// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/io.hpp about an open stream: reading, writing, half-close. Behaviours of Go's own
// net tests, written anew from their descriptions.
#include <sys/socket.h>

#include <csignal>
#include <vector>

#include "conformance/net_fixture.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class NetTcp : public net_test {};
TUCO_PROCESSORS(NetTcp);

TEST_P(NetTcp, EchoesToManyClients) {
  in_runtime([] {
    constexpr int clients = 20;
    constexpr int requests = 50;
    auto listener = tcp_listener::listen("127.0.0.1:0");
    crew all;
    all.go([&] {
      for (int i = 0; i < clients; ++i) {
        all.go([conn = listener.accept()]() mutable {
          char buffer[512];
          while (const std::size_t n = conn.read_some(buffer)) conn.write({buffer, n});
        });
      }
    });
    for (int i = 0; i < clients; ++i) {
      all.go([&listener, i] {
        auto conn = tcp_conn::dial(listener.local_endpoint());
        for (int r = 0; r < requests; ++r) {
          const std::string sent = pattern(100, static_cast<std::uint32_t>(i * 1000 + r));
          conn.write(sent);
          std::string got(sent.size(), 0);
          ASSERT_TRUE(conn.read_full(got));
          ASSERT_EQ(got, sent);
        }
      });
    }
  });
}

TEST_P(NetTcp, ReadReturnsWhatIsThereAndZeroAtTheEnd) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    client.write("hello");
    char buffer[64];
    EXPECT_EQ(server.read_some(buffer), 5u);
    EXPECT_EQ(std::string(buffer, 5), "hello");
    client.close();
    EXPECT_EQ(server.read_some(buffer), 0u);
    EXPECT_EQ(server.read_some(buffer), 0u) << "the end stays the end";
  });
}

TEST_P(NetTcp, EmptyBuffersAreNoOperation) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    EXPECT_EQ(client.write(""), 0u);
    EXPECT_EQ(client.write(std::span<const const_buffer>()), 0u);
    EXPECT_EQ(server.read_some(mutable_buffer()), 0u) << "does not wait";
    EXPECT_TRUE(server.read_full(mutable_buffer()));
  });
}

// With an edge-triggered poller this is the case that hangs: the end arrives together with the data,
// one edge announces both, and the read that takes the data is short.
TEST_P(NetTcp, EndThatArrivesWithTheDataIsSeen) {
  in_runtime([] {
    for (int i = 0; i < 300; ++i) {
      auto [client, server] = make_tcp_pair();
      if (i % 3 == 0) {  // the reader is parked when both come
        crew reader;
        reader.go([&server = server] { EXPECT_EQ(read_all(server), "last words"); });
        await_io_waiters(1);
        client.write("last words");
        client.close();
      } else if (i % 3 == 1) {  // both are there before the first read
        client.write("last words");
        client.close();
        EXPECT_EQ(read_all(server), "last words");
      } else {  // the edge of both is consumed before the read that takes the data
        char first[5];
        client.write("first");
        ASSERT_TRUE(server.read_full(first));
        client.write("last words");
        client.shutdown_write();
        for (int y = 0; y < 3; ++y) tuco::yield();
        EXPECT_EQ(read_all(server), "last words");
      }
    }
  });
}

// A read stops in front of an urgent mark: short, and yet there is more behind it that was announced
// already. Nothing follows here that would bring another edge.
TEST_P(NetTcp, DataBehindAnUrgentMarkIsRead) {
  in_runtime([] {
    for (int i = 0; i < 20; ++i) {
      auto [client, server] = make_tcp_pair();
      crew reader;
      std::string got(12, 0);
      reader.go([&, &server = server] { EXPECT_TRUE(server.read_full(got)); });
      await_io_waiters(1);
      client.write("before");
      ASSERT_EQ(::send(client.native_handle(), "!", 1, MSG_OOB), 1);
      client.write("behind");
      reader.wait();
      EXPECT_EQ(got, "beforebehind");
    }
  });
}

TEST_P(NetTcp, ReadsOfOneByte) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    const std::string text = pattern(2000);
    crew writer;
    writer.go([&, &client = client] {
      for (char c : text) client.write({&c, 1});
      client.shutdown_write();
    });
    std::string got;
    char c = 0;
    while (server.read_some({&c, 1}) == 1) got.push_back(c);
    EXPECT_EQ(got, text);
  });
}

TEST_P(NetTcp, ReadFullTellsACleanEndFromACutOne) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    client.write("12345678abc");
    client.close();
    char record[8];
    EXPECT_TRUE(server.read_full(record));
    std::error_code ec;
    EXPECT_FALSE(server.read_full(record, ec));
    EXPECT_EQ(ec, net_errc::unexpected_eof);
    EXPECT_FALSE(server.read_full(record, ec)) << "nothing was left: a clean end";
    EXPECT_FALSE(ec);
  });
}

TEST_P(NetTcp, LargeTransferToASlowReader) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    constexpr std::size_t size = 8 << 20;
    const std::string text = pattern(size);
    crew writer;
    writer.go([&, &client = client] {
      EXPECT_EQ(client.write(text), size);
      client.shutdown_write();
    });
    await_io_waiters(1);  // the writer has filled every buffer and waits
    std::string got;
    got.reserve(size);
    std::vector<char> buffer(100'000);
    while (const std::size_t n = server.read_some(buffer)) {
      got.append(buffer.data(), n);
      tuco::yield();
    }
    EXPECT_EQ(got.size(), size);
    EXPECT_TRUE(got == text);
  });
}

TEST_P(NetTcp, BothDirectionsAtOnce) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    constexpr std::size_t size = 2 << 20;
    const std::string up = pattern(size, 1);
    const std::string down = pattern(size, 2);
    std::string got_up;
    std::string got_down;
    {
      crew all;
      all.go([&, &client = client] { client.write(up); client.shutdown_write(); });
      all.go([&, &server = server] { server.write(down); server.shutdown_write(); });
      all.go([&, &client = client] { got_down = read_all(client); });
      all.go([&, &server = server] { got_up = read_all(server); });
    }
    EXPECT_TRUE(got_up == up);
    EXPECT_TRUE(got_down == down);
  });
}

TEST_P(NetTcp, VectorsArriveInOrderOverPartialWrites) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    std::vector<std::string> parts;
    std::string whole;
    for (std::uint32_t i = 0; i < 300; ++i) {  // more than one system call takes
      parts.push_back(i % 7 == 0 ? std::string() : pattern(i * 97, i));
      whole += parts.back();
    }
    parts.push_back(pattern(3 << 20, 999));  // larger than the socket's buffers
    whole += parts.back();
    const std::vector<const_buffer> buffers(parts.begin(), parts.end());
    crew writer;
    writer.go([&, &client = client] {
      EXPECT_EQ(client.write(std::span<const const_buffer>(buffers)), whole.size());
      client.shutdown_write();
    });
    EXPECT_TRUE(read_all(server) == whole);
  });
}

TEST_P(NetTcp, WritesOfSeveralGoroutinesAreNotMixed) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    constexpr int writers = 4;
    constexpr std::size_t size = 3 << 20;  // more than the buffers hold: writes are cut in pieces
    std::string got;
    crew reader;
    reader.go([&, &server = server] { got = read_all(server); });
    {
      crew all;
      for (int i = 0; i < writers; ++i) {
        all.go([i, &client = client] {
          client.write(std::string(size, static_cast<char>('a' + i)));
        });
      }
    }
    client.shutdown_write();
    reader.wait();
    ASSERT_EQ(got.size(), writers * size);
    for (int block = 0; block < writers; ++block) {
      const std::string_view part(got.data() + static_cast<std::size_t>(block) * size, size);
      EXPECT_EQ(part.find_first_not_of(part.front()), std::string_view::npos) << "block " << block;
    }
  });
}

TEST_P(NetTcp, ReadersTakeTurns) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    constexpr int readers = 5;
    int got = 0;
    {
      crew all;
      for (int i = 0; i < readers; ++i) {
        all.go([&, &server = server] {
          char c = 0;
          if (server.read_some({&c, 1}) == 1) __atomic_fetch_add(&got, 1, __ATOMIC_RELAXED);
        });
      }
      await_io_waiters(1);  // one waits for data, the others for it
      client.write("abcde");
    }
    EXPECT_EQ(got, readers);
  });
}

TEST_P(NetTcp, HalfCloseLeavesTheOtherDirectionOpen) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    client.write("question");
    client.shutdown_write();
    EXPECT_EQ(read_all(server), "question");
    server.write("answer");
    server.close();
    EXPECT_EQ(read_all(client), "answer");
    std::error_code ec;
    client.write("more", ec);
    EXPECT_EQ(ec, std::errc::broken_pipe);
  });
}

TEST_P(NetTcp, ShutdownReadEndsAReadThatWaits) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    crew reader;
    reader.go([&server = server] {
      char c = 0;
      EXPECT_EQ(server.read_some({&c, 1}), 0u);
    });
    await_io_waiters(1);
    server.shutdown_read();
    reader.wait();
    server.write("still open");
  });
}

// H28. The default action of SIGPIPE would end this process.
TEST_P(NetTcp, WritingToAClosedPeerIsAnErrorAndNoSignal) {
  const auto before = std::signal(SIGPIPE, SIG_DFL);
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    server.close();
    std::error_code ec;
    while (!ec) client.write("x", ec);  // the first ones may still be buffered
    EXPECT_TRUE(ec == std::errc::broken_pipe || ec == std::errc::connection_reset) << ec.message();
    ec.clear();
    const const_buffer both[2] = {"x", "y"};
    client.write(both, ec);
    EXPECT_EQ(ec, std::errc::broken_pipe);
  });
  std::signal(SIGPIPE, before);
}

TEST_P(NetTcp, ResetIsReported) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    server.set_linger(0s);
    crew reader;
    reader.go([&client = client] {
      EXPECT_EQ(read_error(client), std::errc::connection_reset);
    });
    await_io_waiters(1);
    server.close();
  });
}

}  // namespace
}  // namespace tuco
