// SPDX-License-Identifier: Apache-2.0
// stream_conn::send_file(): ranges, the end of the file, files that the kernel cannot send.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "conformance/net_fixture.hpp"
#include "os/fault.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class NetFile : public net_test {};
TUCO_PROCESSORS(NetFile);

// A file without a name that holds `text`.
class temporary_file {
 public:
  explicit temporary_file(const std::string& text) {
    char name[] = "/tmp/tuco-net-test-XXXXXX";
    fd_ = ::mkstemp(name);
    EXPECT_GE(fd_, 0);
    ::unlink(name);
    EXPECT_EQ(::pwrite(fd_, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  ~temporary_file() { ::close(fd_); }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

std::string received(stream_conn& from, stream_conn& to, auto&& send) {
  crew sender;
  sender.go([&] {
    send(from);
    from.shutdown_write();
  });
  return read_all(to);
}

TEST_P(NetFile, SendsTheRangeAskedFor) {
  in_runtime([] {
    const std::string text = pattern(100'000);
    temporary_file file(text);
    struct range {
      std::uint64_t offset, count;
    };
    for (const range r : {range{0, 100'000}, range{0, 1}, range{99'999, 1}, range{4096, 8192},
                          range{1, 99'998}, range{5, 0}}) {
      auto [client, server] = make_tcp_pair();
      const std::string got = received(client, server, [&](stream_conn& conn) {
        EXPECT_EQ(conn.send_file(file.fd(), r.offset, r.count), r.count);
      });
      EXPECT_TRUE(got == text.substr(r.offset, r.count)) << r.offset << '+' << r.count;
    }
    EXPECT_EQ(::lseek(file.fd(), 0, SEEK_CUR), 0) << "the file's position is not touched";
  });
}

TEST_P(NetFile, EndsEarlyAtTheEndOfTheFile) {
  in_runtime([] {
    temporary_file file("0123456789");
    auto [client, server] = make_tcp_pair();
    const std::string got = received(client, server, [&](stream_conn& conn) {
      EXPECT_EQ(conn.send_file(file.fd(), 4, 1000), 6u);
      EXPECT_EQ(conn.send_file(file.fd(), 10, 5), 0u);
      EXPECT_EQ(conn.send_file(file.fd(), 1000, 5), 0u);
    });
    EXPECT_EQ(got, "456789");
  });
}

TEST_P(NetFile, LargeFileToASlowReader) {
  in_runtime([] {
    const std::string text = pattern(12 << 20);
    temporary_file file(text);
    auto [client, server] = make_tcp_pair();
    crew sender;
    sender.go([&, &client = client] {
      EXPECT_EQ(client.send_file(file.fd(), 0, text.size()), text.size());
      client.shutdown_write();
    });
    await_io_waiters(1);
    EXPECT_TRUE(read_all(server) == text);
  });
}

TEST_P(NetFile, HeaderAndFileAndTrailerStayInOrder) {
  in_runtime([] {
    const std::string text = pattern(3 << 20);
    temporary_file file(text);
    auto [client, server] = make_tcp_pair();
    const std::string got = received(client, server, [&](stream_conn& conn) {
      conn.write("header");
      conn.send_file(file.fd(), 0, text.size());
      conn.write("trailer");
    });
    EXPECT_TRUE(got == "header" + text + "trailer");
  });
}

TEST_P(NetFile, OverUnixSockets) {
  in_runtime([] {
    const std::string text = pattern(1 << 20);
    temporary_file file(text);
    auto [a, b] = unix_conn::pair();
    const std::string got = received(a, b, [&](stream_conn& conn) {
      EXPECT_EQ(conn.send_file(file.fd(), 0, text.size()), text.size());
    });
    EXPECT_TRUE(got == text);
  });
}

TEST_P(NetFile, IsCopiedWhereTheKernelCannotSendIt) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  in_runtime([] {
    const std::string text = pattern(500'000);
    temporary_file file(text);
    for (int error : {EINVAL, ENOSYS}) {
      auto [client, server] = make_tcp_pair();
      os::scoped_fault fault(os::call::sendfile, error);
      const std::string got = received(client, server, [&](stream_conn& conn) {
        EXPECT_EQ(conn.send_file(file.fd(), 1000, 300'000), 300'000u);
        EXPECT_EQ(conn.send_file(file.fd(), 499'990, 300'000), 10u);
      });
      EXPECT_TRUE(got == text.substr(1000, 300'000) + text.substr(499'990));
      EXPECT_GE(fault.hits(), 2u);
    }
  });
}

TEST_P(NetFile, PipeInsteadOfAFileIsAnError) {
  in_runtime([] {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    auto [client, server] = make_tcp_pair();
    std::error_code ec;
    EXPECT_EQ(client.send_file(ends[0], 0, 10, ec), 0u);
    EXPECT_TRUE(ec) << "a pipe has no offsets";
    EXPECT_EQ(client.send_file(-1, 0, 10, ec), 0u);
    EXPECT_EQ(ec, std::errc::bad_file_descriptor);
    EXPECT_EQ(client.send_file(ends[0], UINT64_MAX, 10, ec), 0u);
    EXPECT_EQ(ec, std::errc::invalid_argument);
    ::close(ends[0]);
    ::close(ends[1]);
  });
}

// sendfile(2) has no MSG_NOSIGNAL.
TEST_P(NetFile, PeerThatIsGoneIsAnErrorAndNoSignal) {
  const auto before = std::signal(SIGPIPE, SIG_DFL);
  in_runtime([] {
    const std::string text = pattern(1 << 20);
    temporary_file file(text);
    auto [client, server] = make_tcp_pair();
    server.close();
    std::error_code ec;
    while (!ec) client.send_file(file.fd(), 0, text.size(), ec);
    EXPECT_TRUE(ec == std::errc::broken_pipe || ec == std::errc::connection_reset) << ec.message();
    client.send_file(file.fd(), 0, text.size(), ec);
    EXPECT_EQ(ec, std::errc::broken_pipe);
    sigset_t blocked;
    sigset_t pending;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    EXPECT_EQ(::sigismember(&blocked, SIGPIPE), 0) << "the mask is as it was";
    ::sigpending(&pending);
    EXPECT_EQ(::sigismember(&pending, SIGPIPE), 0) << "and nothing is left in the queue";
  });
  std::signal(SIGPIPE, before);
}

TEST_P(NetFile, DeadlineEndsIt) {
  in_runtime([] {
    const std::string text = pattern(32 << 20);
    temporary_file file(text);
    auto [client, server] = make_tcp_pair();
    client.set_write_deadline(steady_clock::now() + 10ms);
    std::error_code ec;
    const std::uint64_t sent = client.send_file(file.fd(), 0, text.size(), ec);
    EXPECT_EQ(ec, std::errc::timed_out);
    EXPECT_LT(sent, text.size());
    client.close();
    EXPECT_EQ(read_all(server).size(), sent);
  });
}

}  // namespace
}  // namespace tuco
