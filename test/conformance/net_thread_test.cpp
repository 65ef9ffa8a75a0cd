// SPDX-License-Identifier: Apache-2.0
// Connections on threads that are not the runtime's: the same calls block the thread, with or without
// a running runtime.
#include <atomic>
#include <thread>
#include <vector>

#include <tuco/run.hpp>

#include "conformance/net_fixture.hpp"
#include "os/fault.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

TEST(NetThread, EchoBetweenTwoThreadsWithoutARuntime) {
  auto listener = tcp_listener::listen("127.0.0.1:0");
  std::thread server([&] {
    auto conn = listener.accept();
    char buffer[64];
    while (const std::size_t n = conn.read_some(buffer)) conn.write({buffer, n});
  });
  auto client = tcp_conn::dial(listener.local_endpoint());
  for (int i = 0; i < 100; ++i) {
    client.write("ping");
    char answer[4];
    ASSERT_TRUE(client.read_full(answer));
  }
  client.close();
  server.join();
}

TEST(NetThread, DeadlineEndsABlockedRead) {
  auto [client, server] = make_tcp_pair();
  const auto deadline = steady_clock::now() + 3ms;
  client.set_read_deadline(deadline);
  EXPECT_EQ(read_error(client), std::errc::timed_out);
  EXPECT_GE(steady_clock::now(), deadline);
}

TEST(NetThread, CloseByAnotherThreadEndsABlockedRead) {
  for (int i = 0; i < 200; ++i) {
    auto [client, server] = make_tcp_pair();
    std::atomic<bool> begun{false};
    std::thread reader([&, &client = client] {
      begun = true;
      EXPECT_EQ(read_error(client), net_errc::closed);
    });
    while (!begun) std::this_thread::yield();
    client.close();
    reader.join();
  }
}

TEST(NetThread, DeadlineSetByAnotherThreadEndsABlockedRead) {
  for (int i = 0; i < 200; ++i) {
    auto [client, server] = make_tcp_pair();
    std::atomic<bool> begun{false};
    std::thread reader([&, &client = client] {
      begun = true;
      EXPECT_EQ(read_error(client), std::errc::timed_out);
    });
    while (!begun) std::this_thread::yield();
    client.set_read_deadline(steady_clock::now());
    reader.join();
  }
}

TEST(NetThread, WithoutADescriptorForTheWakeUpItStillEnds) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  auto [client, server] = make_tcp_pair();
  os::scoped_fault none_left(os::call::eventfd, EMFILE);
  std::thread reader([&client = client] {
    EXPECT_EQ(read_error(client), net_errc::closed);
  });
  while (none_left.hits() == 0) std::this_thread::yield();
  client.close();
  reader.join();
}

// poll(2) fails for good when there is no memory for it, or RLIMIT_NOFILE is below the two descriptors.
TEST(NetThread, AWaitThatTheKernelRefusesIsAnErrorOfTheRead) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  auto [client, server] = make_tcp_pair();
  char c = 0;
  std::error_code ec;
  {
    const os::scoped_fault interrupted(os::call::epoll_wait, EINTR, 1);
    client.set_read_deadline(steady_clock::now() + 1ms);
    (void)client.read_some({&c, 1}, ec);
    EXPECT_EQ(ec, std::errc::timed_out) << "an interruption is none";
    EXPECT_EQ(interrupted.hits(), 1u);
    client.set_read_deadline(no_deadline);
  }
  for (const int error : {ENOMEM, EINVAL}) {
    const os::scoped_fault refused(os::call::epoll_wait, error);
    (void)client.read_some({&c, 1}, ec);
    EXPECT_EQ(ec, std::error_code(error, std::system_category()));
    EXPECT_EQ(refused.hits(), 1u);
  }
  server.write("y");
  EXPECT_EQ(client.read_some({&c, 1}, ec), 1u);
  EXPECT_EQ(c, 'y');
}

TEST(NetThread, LargeTransferBetweenThreads) {
  auto [client, server] = make_tcp_pair();
  const std::string text = pattern(4 << 20);
  std::thread writer([&, &client = client] {
    client.write(text);
    client.close();
  });
  EXPECT_TRUE(read_all(server) == text);
  writer.join();
}

TEST(NetThread, ThreadAndGoroutineShareAConnection) {
  tuco::run([] {
    auto [client, server] = make_tcp_pair();
    std::thread writer([&client = client] {
      for (int i = 0; i < 1000; ++i) client.write("x");
      client.shutdown_write();
    });
    EXPECT_EQ(read_all(server).size(), 1000u);
    writer.join();

    // Readers of both kinds in one line, all ended by close().
    auto [a, b] = make_tcp_pair();
    std::vector<std::thread> threads;
    crew goroutines;
    auto read = [&a = a] {
      EXPECT_EQ(read_error(a), net_errc::closed);
    };
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back(read);
      goroutines.go(read);
    }
    a.close();
    for (auto& t : threads) t.join();
  });
}

// A descriptor that was opened before run() and used in it, whose user stood in a read when run()
// returned: the destructor, after run(), must not wait for that goroutine.
TEST(NetThread, ConnectionOutlivesTheRuntimeThatUsedIt) {
  auto [client, server] = make_tcp_pair();
  tuco::run([&client = client] {
    tuco::go([&client] {
      char c = 0;
      (void)client.read_some({&c, 1});
    });
    await_io_waiters(1);
  });
  EXPECT_EQ(poll::the_poller().waiters(), 0);
  EXPECT_TRUE(client.close());
  tuco::run([] {
    auto [a, b] = make_tcp_pair();
    a.write("the next runtime works");
    a.close();
    EXPECT_EQ(read_all(b), "the next runtime works");
  });
}

}  // namespace
}  // namespace tuco
