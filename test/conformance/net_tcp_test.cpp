// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/io.hpp and tuco/tcp.hpp: reading, writing, half-close, addresses, dialling.
// Behaviours of Go's own net tests, written anew from their descriptions.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <vector>

#include "conformance/net_fixture.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class NetTcp : public net_test {};
TUCO_PROCESSORS(NetTcp);

int option(const tcp_conn& conn, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(conn.native_handle(), level, name, &value, &size), 0);
  return value;
}

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
      char c = 0;
      std::error_code ec;
      EXPECT_EQ(client.read_some({&c, 1}, ec), 0u);
      EXPECT_EQ(ec, std::errc::connection_reset);
    });
    await_io_waiters(1);
    server.close();
  });
}

TEST_P(NetTcp, AddressesAreThoseOfBothEnds) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    EXPECT_NE(listener.local_endpoint().port(), 0);
    auto client = tcp_conn::dial(listener.local_endpoint().to_string());
    auto server = listener.accept();
    EXPECT_EQ(client.remote_endpoint(), listener.local_endpoint());
    EXPECT_EQ(server.local_endpoint(), listener.local_endpoint());
    EXPECT_EQ(client.local_endpoint(), server.remote_endpoint());
    EXPECT_NE(client.local_endpoint().port(), 0);
    const endpoint kept = client.local_endpoint();
    client.close();
    EXPECT_EQ(client.local_endpoint(), kept) << "known after close, for log lines";
  });
}

TEST_P(NetTcp, DelayIsOffAndKeepAliveIsOnAtBothEnds) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    for (const tcp_conn* conn : {&client, &server}) {
      EXPECT_EQ(option(*conn, IPPROTO_TCP, TCP_NODELAY), 1);
      EXPECT_EQ(option(*conn, SOL_SOCKET, SO_KEEPALIVE), 1);
      EXPECT_EQ(option(*conn, IPPROTO_TCP, TCP_KEEPIDLE), 15);
      EXPECT_EQ(option(*conn, IPPROTO_TCP, TCP_KEEPINTVL), 15);
      EXPECT_EQ(option(*conn, IPPROTO_TCP, TCP_KEEPCNT), 9);
    }
    client.set_no_delay(false);
    EXPECT_EQ(option(client, IPPROTO_TCP, TCP_NODELAY), 0);
    client.set_keep_alive(true, 30s, 5s, 3);
    EXPECT_EQ(option(client, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    EXPECT_EQ(option(client, IPPROTO_TCP, TCP_KEEPINTVL), 5);
    EXPECT_EQ(option(client, IPPROTO_TCP, TCP_KEEPCNT), 3);
    client.set_keep_alive(false);
    EXPECT_EQ(option(client, SOL_SOCKET, SO_KEEPALIVE), 0);
  });
}

TEST_P(NetTcp, DescriptorsAreNonBlockingAndClosedOnExec) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    auto client = tcp_conn::dial(listener.local_endpoint());
    auto server = listener.accept();
    for (int fd : {listener.native_handle(), client.native_handle(), server.native_handle()}) {
      EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
      EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    }
  });
}

TEST_P(NetTcp, EmptyHostListensOnIpv4AndIpv6) {
  in_runtime([] {
    auto listener = tcp_listener::listen(":0");
    const std::uint16_t port = listener.local_endpoint().port();
    auto four = tcp_conn::dial(endpoint::ip("127.0.0.1", port));
    auto accepted = listener.accept();
    EXPECT_EQ(accepted.remote_endpoint().to_string(), four.local_endpoint().to_string())
        << "an IPv4 peer is shown as IPv4";
    std::error_code ec;
    auto six = tcp_conn::dial(endpoint::ip("::1", port), ec);
    if (ec == std::errc::address_not_available || ec == std::errc::address_family_not_supported) {
      GTEST_SKIP() << "no IPv6 here";
    }
    EXPECT_FALSE(ec) << ec.message();
    EXPECT_EQ(listener.accept().remote_endpoint(), six.local_endpoint());
    auto here = tcp_conn::dial(":" + std::to_string(port));
    EXPECT_TRUE(here.is_open());
  });
}

TEST_P(NetTcp, Ipv6Loopback) {
  in_runtime([] {
    std::error_code ec;
    auto listener = tcp_listener::listen("[::1]:0", ec);
    if (ec) GTEST_SKIP() << "no IPv6 here: " << ec.message();
    auto client = tcp_conn::dial(listener.local_endpoint().to_string());
    auto server = listener.accept();
    client.write("six");
    client.close();
    EXPECT_EQ(read_all(server), "six");
    EXPECT_EQ(server.local_endpoint().to_string().rfind("[::1]:", 0), 0u);
  });
}

TEST_P(NetTcp, DialByName) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    const auto port = std::to_string(listener.local_endpoint().port());
    // ::1 is refused, then 127.0.0.1 answers.
    auto client = tcp_conn::dial("localhost:" + port);
    EXPECT_EQ(client.remote_endpoint(), listener.local_endpoint());
  });
}

TEST_P(NetTcp, RefusedDialSaysSo) {
  in_runtime([] {
    const endpoint nobody = [] {
      auto listener = tcp_listener::listen("127.0.0.1:0");
      return listener.local_endpoint();
    }();
    std::error_code ec;
    auto conn = tcp_conn::dial(nobody, ec);
    EXPECT_EQ(ec, std::errc::connection_refused);
    EXPECT_FALSE(conn.is_open());
    EXPECT_EQ(what_of([&] { tcp_conn::dial(nobody); }),
              "dial tcp " + nobody.to_string() + ": connection refused");
    EXPECT_EQ(what_of([&] { tcp_conn::dial(nobody.to_string()); }),
              "dial tcp " + nobody.to_string() + ": connection refused");
  });
}

TEST_P(NetTcp, UnreachableDialSaysSo) {
  in_runtime([] {
    std::error_code ec;
    // A multicast address is nobody's to connect to.
    auto conn = tcp_conn::dial(endpoint::ip("224.0.0.1", 9), ec);
    EXPECT_TRUE(ec == std::errc::network_unreachable || ec == std::errc::host_unreachable ||
                ec == std::errc::invalid_argument)
        << ec.message();
    EXPECT_FALSE(conn.is_open());
  });
}

// A listener whose backlog is full leaves further connects without an answer.
TEST_P(NetTcp, DialGivesUpAtItsDeadline) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0", 1);
    std::vector<tcp_conn> queued;
    std::error_code ec;
    steady_clock::time_point start;
    for (int i = 0; i < 16 && !ec; ++i) {
      start = steady_clock::now();
      queued.push_back(tcp_conn::dial(listener.local_endpoint(), start + 30ms, ec));
    }
    EXPECT_EQ(ec, std::errc::timed_out);
    EXPECT_GE(steady_clock::now() - start, 30ms);
    EXPECT_FALSE(queued.back().is_open());
    EXPECT_EQ(
        what_of([&] { tcp_conn::dial(listener.local_endpoint(), steady_clock::now() + 1ms); }),
        "dial tcp " + listener.local_endpoint().to_string() + ": i/o timeout");
  });
}

TEST_P(NetTcp, DialPastItsDeadlineDoesNotTry) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    std::error_code ec;
    auto conn = tcp_conn::dial(listener.local_endpoint(), steady_clock::now() - 1s, ec);
    EXPECT_EQ(ec, std::errc::timed_out);
    listener.set_deadline(steady_clock::now() + 1ms);
    listener.accept(ec);
    EXPECT_EQ(ec, std::errc::timed_out) << "nobody had come";
  });
}

TEST_P(NetTcp, DeadlineOfADialIsNotTheConnections) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    const auto deadline = steady_clock::now() + 300ms;
    auto client = tcp_conn::dial(listener.local_endpoint(), deadline);
    auto server = listener.accept();
    while (steady_clock::now() < deadline) tuco::yield();
    client.write("after");
    client.close();
    EXPECT_EQ(read_all(server), "after");
  });
}

TEST_P(NetTcp, ListenOnATakenPortSaysSo) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    const std::string address = listener.local_endpoint().to_string();
    std::error_code ec;
    EXPECT_FALSE(tcp_listener::listen(address, ec).is_open());
    EXPECT_EQ(ec, std::errc::address_in_use);
    EXPECT_EQ(what_of([&] { tcp_listener::listen(address); }),
              "listen tcp " + address + ": address already in use");
  });
}

TEST_P(NetTcp, ClosedPortCanBeListenedOnAtOnce) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    const endpoint local = listener.local_endpoint();
    for (int i = 0; i < 20; ++i) {
      auto client = tcp_conn::dial(local);
      auto server = listener.accept();
      server.close();  // leaves TIME_WAIT behind
      listener.close();
      listener = tcp_listener::listen(local);
    }
  });
}

TEST_P(NetTcp, AdoptedSocketsWork) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    const int fd = client.release();
    ASSERT_GE(fd, 0);
    EXPECT_FALSE(client.is_open());
    EXPECT_EQ(client.release(), -1);
    auto again = tcp_conn::adopt(fd);
    EXPECT_EQ(again.remote_endpoint(), server.local_endpoint());
    again.write("adopted");
    again.close();
    EXPECT_EQ(read_all(server), "adopted");

    std::error_code ec;
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    tcp_conn::adopt(pipe_ends[0], ec);
    EXPECT_EQ(ec, std::errc::not_a_socket);
    EXPECT_EQ(::close(pipe_ends[0]), 0) << "stays the caller's";
    ::close(pipe_ends[1]);

    auto listener = tcp_listener::listen("127.0.0.1:0");
    tcp_conn::adopt(listener.native_handle(), ec);
    EXPECT_EQ(ec, std::errc::invalid_argument) << "a listener is no connection";
    auto taken = tcp_listener::adopt(listener.release());
    auto dialled = tcp_conn::dial(taken.local_endpoint());
    EXPECT_TRUE(taken.accept().is_open());
  });
}

TEST_P(NetTcp, ErrorsNameOperationAndAddresses) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    const std::string route =
        client.local_endpoint().to_string() + "->" + client.remote_endpoint().to_string();
    client.set_read_deadline(steady_clock::now() - 1s);
    char c = 0;
    EXPECT_EQ(what_of([&, &conn = client] { (void)conn.read_some({&c, 1}); }),
              "read tcp " + route + ": i/o timeout");
    try {
      (void)client.read_some({&c, 1});
      ADD_FAILURE();
    } catch (const net_error& e) {
      EXPECT_TRUE(e.timeout());
      EXPECT_EQ(e.code(), std::errc::timed_out);
    }
    client.close();
    EXPECT_EQ(what_of([&, &conn = client] { conn.write("x"); }),
              "write tcp " + route + ": use of closed network connection");
    auto listener = tcp_listener::listen("127.0.0.1:0");
    const std::string local = listener.local_endpoint().to_string();
    listener.close();
    EXPECT_EQ(what_of([&] { listener.accept(); }),
              "accept tcp " + local + ": use of closed network connection");
    EXPECT_EQ(what_of([] { tcp_conn::dial("127.0.0.1"); }),
              "dial tcp 127.0.0.1: invalid address");
    EXPECT_EQ(what_of([] { tcp_listener::listen("1.2.3.4.5:80"); }).rfind("listen tcp ", 0), 0u);
    EXPECT_EQ(what_of([] { tcp_conn().write("x"); }), "write: use of closed network connection");
  });
}

TEST_P(NetTcp, EmptyHandlesAreClosed) {
  in_runtime([] {
    tcp_conn none;
    std::error_code ec;
    char c = 0;
    EXPECT_EQ(none.read_some({&c, 1}, ec), 0u);
    EXPECT_EQ(ec, net_errc::closed);
    none.set_deadline(no_deadline, ec);
    EXPECT_EQ(ec, net_errc::closed);
    none.shutdown_write(ec);
    EXPECT_EQ(ec, net_errc::closed);
    EXPECT_FALSE(none.is_open());
    EXPECT_FALSE(none.close());
    EXPECT_EQ(none.native_handle(), -1);
    EXPECT_EQ(none.local_endpoint(), endpoint());
    tcp_listener no_listener;
    no_listener.accept(ec);
    EXPECT_EQ(ec, net_errc::closed);

    auto [client, server] = make_tcp_pair();
    tcp_conn moved = std::move(client);
    EXPECT_TRUE(moved.is_open());
    EXPECT_FALSE(client.is_open());  // NOLINT: that a moved-from handle is empty is the promise
    moved = tcp_conn();
    EXPECT_EQ(read_all(server), "") << "assignment closes what was there";
  });
}

}  // namespace
}  // namespace tuco
