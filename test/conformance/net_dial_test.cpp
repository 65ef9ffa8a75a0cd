// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/tcp.hpp about how connections come to be: dialling, listening, adopting, their
// addresses and options, and what errors say. Behaviours of Go's own net tests, written anew from their
// descriptions.
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "conformance/net_fixture.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class NetDial : public net_test {};
TUCO_PROCESSORS(NetDial);

int option(const tcp_conn& conn, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(conn.native_handle(), level, name, &value, &size), 0);
  return value;
}

TEST_P(NetDial, AddressesAreThoseOfBothEnds) {
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

TEST_P(NetDial, DelayIsOffAndKeepAliveIsOnAtBothEnds) {
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

TEST_P(NetDial, DescriptorsAreNonBlockingAndClosedOnExec) {
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

TEST_P(NetDial, EmptyHostListensOnIpv4AndIpv6) {
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

TEST_P(NetDial, Ipv6Loopback) {
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

TEST_P(NetDial, DialByName) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    const auto port = std::to_string(listener.local_endpoint().port());
    // ::1 is refused, then 127.0.0.1 answers.
    auto client = tcp_conn::dial("localhost:" + port);
    EXPECT_EQ(client.remote_endpoint(), listener.local_endpoint());
  });
}

TEST_P(NetDial, PortsThatAreNoneAreNoAddress) {
  in_runtime([] {
    for (const char* port : {"65536", "99999", "4294967376", "-1", "+80", " 80", "80 ", "", "8_0"}) {
      for (const char* host : {"127.0.0.1", "localhost", ""}) {
        const std::string address = std::string(host) + ":" + port;
        std::error_code ec;
        EXPECT_FALSE(tcp_listener::listen(address, ec).is_open()) << address;
        EXPECT_EQ(ec, net_errc::bad_address) << address;
        EXPECT_FALSE(tcp_conn::dial(address, ec).is_open()) << address;
        EXPECT_EQ(ec, net_errc::bad_address) << address;
      }
    }
    std::error_code ec;
    // A bare machine has no list of services (/etc/services).
    const bool has_names = ::getservbyname("http", "tcp") != nullptr;
    EXPECT_EQ(resolve("127.0.0.1", "http", ec).empty(), !has_names) << ec.message();
    EXPECT_TRUE(resolve("127.0.0.1", "no-such-service", ec).empty());
    EXPECT_EQ(ec, net_errc::bad_address);
  });
}

TEST_P(NetDial, RefusedDialSaysSo) {
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

TEST_P(NetDial, UnreachableDialSaysSo) {
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
TEST_P(NetDial, DialGivesUpAtItsDeadline) {
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

TEST_P(NetDial, DialPastItsDeadlineDoesNotTry) {
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

TEST_P(NetDial, DeadlineOfADialIsNotTheConnections) {
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

TEST_P(NetDial, ListenOnATakenPortSaysSo) {
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

TEST_P(NetDial, ClosedPortCanBeListenedOnAtOnce) {
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

TEST_P(NetDial, AdoptedSocketsWork) {
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

TEST_P(NetDial, ErrorsNameOperationAndAddresses) {
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

TEST_P(NetDial, EmptyHandlesAreClosed) {
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
