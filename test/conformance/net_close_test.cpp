// SPDX-License-Identifier: Apache-2.0
// Closing wakes who waits, once, for good; and accept() at the limits.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "conformance/net_fixture.hpp"
#include "os/fault.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class NetClose : public net_test {};
TUCO_PROCESSORS(NetClose);

TEST_P(NetClose, WakesAReader) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    for (bool with_deadline : {false, true}) {
      auto [a, b] = make_tcp_pair();
      if (with_deadline) a.set_read_deadline(steady_clock::now() + 1h);
      crew reader;
      reader.go([&a = a] {
        EXPECT_EQ(read_error(a), net_errc::closed);
      });
      await_io_waiters(1);
      EXPECT_TRUE(a.close());
      EXPECT_FALSE(a.close()) << "only one call closes";
      EXPECT_FALSE(a.is_open());
    }
  });
}

TEST_P(NetClose, WakesAWriter) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    crew writer;
    writer.go([&client = client] {
      EXPECT_EQ(write_error(client), net_errc::closed);
    });
    await_io_waiters(1);
    client.close();
  });
}

TEST_P(NetClose, WakesEveryoneInLine) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    crew all;
    for (int i = 0; i < 4; ++i) {
      all.go([&client = client] {
        EXPECT_EQ(read_error(client), net_errc::closed);
      });
      all.go([&client = client] {
        EXPECT_EQ(write_error(client), net_errc::closed);
      });
    }
    await_io_waiters(2);
    client.close();
  });
}

TEST_P(NetClose, WakesAccept) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    crew all;
    for (int i = 0; i < 3; ++i) {
      all.go([&] {
        std::error_code ec;
        auto conn = listener.accept(ec);
        EXPECT_EQ(ec, net_errc::closed);
        EXPECT_FALSE(conn.is_open());
      });
    }
    await_io_waiters(1);
    listener.close();
  });
}

TEST_P(NetClose, HasClosedTheDescriptorWhenItReturns) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    const int fd = client.native_handle();
    crew reader;
    reader.go([&client = client] {
      char c = 0;
      std::error_code ec;
      (void)client.read_some({&c, 1}, ec);
    });
    await_io_waiters(1);
    client.close();
    EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
    EXPECT_EQ(client.native_handle(), -1);
  });
}

TEST_P(NetClose, OfManyAtOnceOneCloses) {
  in_runtime([] {
    for (int round = 0; round < 50; ++round) {
      auto [client, server] = make_tcp_pair();
      int closed = 0;
      crew all;
      all.go([&client = client] {
        EXPECT_EQ(read_error(client), net_errc::closed);
      });
      for (int i = 0; i < 4; ++i) {
        all.go([&, &client = client] {
          if (client.close()) __atomic_fetch_add(&closed, 1, __ATOMIC_RELAXED);
        });
      }
      all.wait();
      EXPECT_EQ(closed, 1);
    }
  });
}

TEST_P(NetClose, DeliversWhatWasWritten) {
  in_runtime([] {
    auto [client, server] = make_tcp_pair();
    const std::string text = pattern(100'000);
    crew writer;
    writer.go([&, &client = client] {
      client.write(text);
      client.close();
    });
    EXPECT_TRUE(read_all(server) == text);
  });
}

// Lowers the limit of descriptors for the scope. Existing ones above it stay open; with 0 there can be
// no new one, whatever numbers the monitor gives free meanwhile.
class descriptor_limit {
 public:
  explicit descriptor_limit(rlim_t limit) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    rlimit lowered = before_;
    lowered.rlim_cur = limit;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &lowered), 0);
  }
  ~descriptor_limit() { lift(); }
  void lift() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_P(NetClose, AcceptAtTheDescriptorLimitWaitsAndRecovers) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    auto first = tcp_conn::dial(listener.local_endpoint());
    auto second = tcp_conn::dial(listener.local_endpoint());
    descriptor_limit limit(0);
    crew acceptor;
    std::vector<tcp_conn> accepted;
    std::atomic<int> count{0};
    acceptor.go([&] {
      for (int i = 0; i < 2; ++i) {
        accepted.push_back(listener.accept());
        ++count;
      }
    });
    // It waits in the backoff, not in an error and not in a busy loop; then descriptors return.
    await_io_waiters(1);
    EXPECT_EQ(count.load(), 0);
    limit.lift();
    acceptor.wait();
    ASSERT_EQ(accepted.size(), 2u);
    EXPECT_EQ(accepted[0].remote_endpoint(), first.local_endpoint());
  });
}

TEST_P(NetClose, EndsAnAcceptThatBacksOff) {
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    auto waiting = tcp_conn::dial(listener.local_endpoint());
    descriptor_limit limit(0);
    for (bool by_deadline : {true, false}) {
      crew acceptor;
      acceptor.go([&] {
        std::error_code ec;
        listener.accept(ec);
        if (by_deadline) {
          EXPECT_EQ(ec, std::errc::timed_out);
        } else {
          EXPECT_EQ(ec, net_errc::closed);
        }
      });
      await_io_waiters(1);
      if (by_deadline) {
        listener.set_deadline(steady_clock::now());
        acceptor.wait();
        listener.set_deadline(no_deadline);
      } else {
        listener.close();
      }
    }
  });
}

TEST_P(NetClose, AcceptPassesOverConnectionsThatEnded) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    for (int error : {ECONNABORTED, EPROTO, EINTR, EMFILE, ENFILE, ENOBUFS}) {
      auto client = tcp_conn::dial(listener.local_endpoint());
      os::scoped_fault fault(os::call::accept, error, 1);
      std::error_code ec;
      auto conn = listener.accept(ec);
      EXPECT_FALSE(ec) << error << ": " << ec.message();
      EXPECT_EQ(conn.remote_endpoint(), client.local_endpoint());
      EXPECT_EQ(fault.hits(), 1u);
    }
    os::scoped_fault fault(os::call::accept, EBADF, 1);
    std::error_code ec;
    listener.accept(ec);
    EXPECT_EQ(ec, std::errc::bad_file_descriptor);
  });
}

// Every call that makes a connection fails once with every error that it may give: the caller gets
// that error, nothing leaks, and the next attempt works.
TEST_P(NetClose, FailedStepsLeaveNothingBehind) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  in_runtime([] {
    auto listener = tcp_listener::listen("127.0.0.1:0");
    // Sockets, not the lowest free number: the monitor opens and closes files of its own meanwhile.
    auto sockets = [] {
      int n = 0;
      for (int fd = 0; fd < 256; ++fd) {
        // By name: ThreadSanitizer takes a look at a descriptor of the monitor's for a use of it.
        char name[16];
        n += ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), name, sizeof name) > 7 &&
             std::string_view(name, 7) == "socket:";
      }
      return n;
    };
    const int before = sockets();
    struct step {
      os::call kind;
      int error;
    };
    for (const step s : {step{os::call::socket, EMFILE}, step{os::call::socket, ENOBUFS},
                         step{os::call::connect, ECONNREFUSED}, step{os::call::connect, ENETUNREACH},
                         step{os::call::epoll_ctl, ENOSPC}, step{os::call::epoll_ctl, ENOMEM}}) {
      os::scoped_fault fault(s.kind, s.error, 1);
      std::error_code ec;
      auto conn = tcp_conn::dial(listener.local_endpoint(), ec);
      EXPECT_EQ(fault.hits(), 1u) << os::to_string(s.kind);
      EXPECT_EQ(ec, std::error_code(s.error, std::system_category())) << os::to_string(s.kind);
      EXPECT_FALSE(conn.is_open());
      EXPECT_EQ(sockets(), before) << os::to_string(s.kind);
    }
    for (const step s : {step{os::call::bind, EACCES}, step{os::call::listen, EADDRINUSE},
                         step{os::call::socket, ENFILE}, step{os::call::epoll_ctl, ENOSPC}}) {
      os::scoped_fault fault(s.kind, s.error, 1);
      std::error_code ec;
      auto other = tcp_listener::listen("127.0.0.1:0", ec);
      EXPECT_EQ(ec, std::error_code(s.error, std::system_category())) << os::to_string(s.kind);
      EXPECT_EQ(sockets(), before) << os::to_string(s.kind);
    }
    auto [a, b] = make_tcp_pair();
    for (const int error : {ECONNRESET, ETIMEDOUT, EINTR}) {
      os::scoped_fault fault(os::call::recv, error, 1);
      b.write("x");
      char c = 0;
      std::error_code ec;
      const std::size_t n = a.read_some({&c, 1}, ec);
      if (error == EINTR) {
        EXPECT_EQ(n, 1u) << "a signal is no error";
      } else {
        EXPECT_EQ(ec, std::error_code(error, std::system_category()));
      }
    }
    for (const int error : {EPIPE, ENOBUFS, EINTR}) {
      os::scoped_fault fault(os::call::send, error, 1);
      std::error_code ec;
      const std::size_t n = a.write("x", ec);
      if (error == EINTR) {
        EXPECT_EQ(n, 1u);
      } else {
        EXPECT_EQ(ec, std::error_code(error, std::system_category()));
      }
    }
  });
}

}  // namespace
}  // namespace tuco
