// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/unix.hpp.
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "conformance/net_fixture.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class NetUnix : public net_test {};
TUCO_PROCESSORS(NetUnix);

// A path in a folder of its own.
class temporary_path {
 public:
  temporary_path() {
    char name[] = "/tmp/tuco-unix-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  ~temporary_path() {
    ::unlink(path().c_str());
    ::rmdir(folder_.c_str());
  }
  std::string path() const { return folder_ + "/s"; }
  bool exists() const {
    struct stat s {};
    return ::lstat(path().c_str(), &s) == 0;
  }

 private:
  std::string folder_;
};

TEST_P(NetUnix, EchoOverAPath) {
  in_runtime([] {
    temporary_path where;
    auto listener = unix_listener::listen(where.path());
    EXPECT_EQ(listener.local_endpoint().to_string(), where.path());
    crew all;
    all.go([&] {
      auto conn = listener.accept();
      char buffer[64];
      while (const std::size_t n = conn.read_some(buffer)) conn.write({buffer, n});
    });
    auto client = unix_conn::dial(where.path());
    EXPECT_EQ(client.remote_endpoint().to_string(), where.path());
    client.write("hello");
    char buffer[5];
    EXPECT_TRUE(client.read_full(buffer));
    EXPECT_EQ(std::string(buffer, 5), "hello");
  });
}

TEST_P(NetUnix, AbstractNames) {
  in_runtime([] {
    const std::string name = "@tuco-test-" + std::to_string(::getpid());
    auto listener = unix_listener::listen(name);
    EXPECT_EQ(listener.local_endpoint().to_string(), name);
    auto client = unix_conn::dial(name);
    auto server = listener.accept();
    EXPECT_EQ(server.remote_endpoint().to_string(), "");
    client.write("x");
    client.close();
    EXPECT_EQ(read_all(server), "x");
    listener.close();
    std::error_code ec;
    unix_conn::dial(name, ec);
    EXPECT_EQ(ec, std::errc::connection_refused) << "gone with its last socket";
  });
}

TEST_P(NetUnix, CloseRemovesThePathUnlessTold) {
  in_runtime([] {
    temporary_path where;
    {
      auto listener = unix_listener::listen(where.path());
      EXPECT_TRUE(where.exists());
      std::error_code ec;
      unix_listener::listen(where.path(), ec);
      EXPECT_EQ(ec, std::errc::address_in_use);
      EXPECT_TRUE(where.exists()) << "a failed listen leaves the other's path alone";
    }
    EXPECT_FALSE(where.exists());
    auto listener = unix_listener::listen(where.path());
    listener.set_unlink(false);
    listener.close();
    EXPECT_TRUE(where.exists());
    std::error_code ec;
    unix_conn::dial(where.path(), ec);
    EXPECT_EQ(ec, std::errc::connection_refused);
  });
}

TEST_P(NetUnix, ErrorsNameThePath) {
  in_runtime([] {
    temporary_path where;
    EXPECT_EQ(what_of([&] { unix_conn::dial(where.path()); }),
              "dial unix " + where.path() + ": no such file or directory");
    EXPECT_EQ(what_of([&] { unix_listener::listen("/nowhere/at/all"); }),
              "listen unix /nowhere/at/all: no such file or directory");
    EXPECT_EQ(what_of([] { unix_conn::dial(std::string(200, 'x')); }),
              "dial unix " + std::string(200, 'x') + ": invalid address");
  });
}

TEST_P(NetUnix, PairIsConnected) {
  in_runtime([] {
    auto [a, b] = unix_conn::pair();
    a.write("one");
    b.write("two");
    a.shutdown_write();
    b.shutdown_write();
    EXPECT_EQ(read_all(a), "two");
    EXPECT_EQ(read_all(b), "one");
    EXPECT_EQ(a.peer_credentials().pid, ::getpid());
    EXPECT_EQ(b.peer_credentials().uid, ::getuid());
  });
}

// A read of a unix socket stops between messages of different senders and where descriptors were
// passed along, so a short read says nothing about what is left: it must not park on it.
TEST_P(NetUnix, ShortReadsInFrontOfPassedDescriptors) {
  in_runtime([] {
    auto ends = unix_conn::pair();  // no structured binding: clang 14 cannot capture one
    unix_conn& a = ends.first;
    unix_conn& b = ends.second;
    crew reader;
    std::string got(50 * 13, 0);
    reader.go([&] { EXPECT_TRUE(b.read_full(got)); });
    await_io_waiters(1);
    auto send_with_descriptor = [&](const char* text) {
      char control[CMSG_SPACE(sizeof(int))] = {};
      iovec part{const_cast<char*>(text), std::string_view(text).size()};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      const int zero = 0;
      std::memcpy(CMSG_DATA(header), &zero, sizeof zero);
      EXPECT_GT(::sendmsg(a.native_handle(), &message, 0), 0);
    };
    for (int i = 0; i < 50; ++i) {
      send_with_descriptor("first,");
      send_with_descriptor("second;");
    }
    reader.wait();  // no end of the stream comes to its help
    EXPECT_EQ(got.substr(0, 26), "first,second;first,second;");
  });
}

TEST_P(NetUnix, DialWaitsForRoomInTheBacklog) {
  in_runtime([] {
    temporary_path where;
    auto listener = unix_listener::listen(where.path(), 1);
    std::vector<unix_conn> queued;
    std::error_code ec;
    while (true) {
      auto conn = unix_conn::dial(where.path(), steady_clock::now() + 5ms, ec);
      if (ec) break;
      queued.push_back(std::move(conn));
    }
    EXPECT_EQ(ec, std::errc::timed_out);
    crew dialer;
    dialer.go([&] { EXPECT_TRUE(unix_conn::dial(where.path()).is_open()); });
    for (std::size_t i = 0; i <= queued.size(); ++i) EXPECT_TRUE(listener.accept().is_open());
  });
}

TEST_P(NetUnix, AdoptedEndsWork) {
  in_runtime([] {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    auto a = unix_conn::adopt(ends[0]);
    auto b = unix_conn::adopt(ends[1]);
    crew reader;
    reader.go([&] { EXPECT_EQ(read_all(b), "x"); });
    await_io_waiters(1);  // it was a blocking descriptor; now the goroutine parks
    a.write("x");
    a.close();
    reader.wait();
    std::error_code ec;
    int datagrams[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagrams), 0);
    unix_conn::adopt(datagrams[0], ec);
    EXPECT_EQ(ec, std::errc::wrong_protocol_type);
    ::close(datagrams[0]);
    ::close(datagrams[1]);
  });
}

}  // namespace
}  // namespace tuco
