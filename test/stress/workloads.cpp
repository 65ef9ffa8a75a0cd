// SPDX-License-Identifier: Apache-2.0
#include "stress/workloads.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <tuco/tuco.hpp>

namespace tuco::test {
namespace {

using std::chrono::steady_clock;

/// Shares `total` among `n` as evenly as it goes.
std::uint64_t share_of(std::uint64_t total, std::uint64_t i, std::uint64_t n) {
  return total / n + (i < total % n ? 1 : 0);
}

// ------------------------------------------------------------------------------------ channels

/// Two goroutines, one value back and forth.
void ping_pong(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t tables = 4;
  crew players;
  for (std::uint64_t t = 0; t < tables; ++t) {
    const chan<std::uint64_t> ping(0);
    const chan<std::uint64_t> pong(0);
    players.go([=] {
      for (const std::uint64_t ball : ping) pong.send(ball + 1);
      pong.close();
    });
    players.go([=, &progress] {
      const std::uint64_t rounds = share_of(pairs / 2, t, tables);
      for (std::uint64_t i = 0; i < rounds; ++i) {
        ping.send(i);
        EXPECT_EQ(pong.recv(), i + 1);
        progress.add(2);
      }
      ping.close();
      EXPECT_FALSE(pong.recv());
    });
  }
}

/// Tokens that go round a ring; each passes every goroutine as often as every other one.
void ring(std::uint64_t pairs, tally& progress) {
  constexpr std::size_t size = 64;
  constexpr std::uint64_t tokens = 8;
  std::vector<chan<std::uint64_t>> links;
  for (std::size_t i = 0; i < size; ++i) links.emplace_back(i % 3);
  // A token ends at the goroutine where it has no steps left.
  const chan<std::uint64_t> ended(tokens);
  std::atomic<std::uint64_t> passed{0};
  crew members;
  for (std::size_t i = 0; i < size; ++i) {
    members.go([&, i] {
      const chan<std::uint64_t> next = links[(i + 1) % size];
      for (const std::uint64_t left : links[i]) {
        passed.fetch_add(1, std::memory_order_relaxed);
        progress.add();
        if (left == 0) ended.send(i);
        else next.send(left - 1);
      }
    });
  }
  std::uint64_t expected = 0;
  for (std::uint64_t t = 0; t < tokens; ++t) {
    const std::uint64_t steps = share_of(pairs, t, tokens);
    expected += steps + 1;
    links[t * 5 % size].send(steps);
  }
  for (std::uint64_t t = 0; t < tokens; ++t) EXPECT_TRUE(ended.recv());
  for (const auto& link : links) link.close();
  members.wait();
  EXPECT_EQ(passed, expected);
}

/// Plain threads send to goroutines and receive from them.
void threads_and_goroutines(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t pairs_of_users = 2;
  const chan<std::uint64_t> requests(1);
  const chan<std::uint64_t> answers(1);
  std::atomic<std::uint64_t> sent{0};
  std::atomic<std::uint64_t> received{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < pairs_of_users; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < share_of(pairs / 2, t, pairs_of_users); ++i) {
        requests.send(i + 1);
        sent.fetch_add(i + 1, std::memory_order_relaxed);
        const auto answer = answers.recv();
        EXPECT_TRUE(answer);
        received.fetch_add(answer.value_or(0), std::memory_order_relaxed);
        progress.add(2);
      }
    });
  }
  crew servers;
  for (std::uint64_t t = 0; t < pairs_of_users; ++t) {
    servers.go([&] {
      for (const std::uint64_t v : requests) answers.send(v);
    });
  }
  // Waits in the kernel, as code that knows nothing of us does.
  for (std::thread& t : threads) t.join();
  requests.close();
  servers.wait();
  EXPECT_EQ(sent, received);
  EXPECT_EQ(answers.size(), 0u);
}

/// Selects on both sides, over the same channels, so that a case often goes to the other one's select.
void select_against_select(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 4;
  std::array<chan<std::uint64_t>, 3> c{chan<std::uint64_t>(0), chan<std::uint64_t>(0),
                                       chan<std::uint64_t>(2)};
  const chan<bool> stop(0);
  std::atomic<std::uint64_t> sent{0};
  std::atomic<std::uint64_t> received{0};
  crew receivers;
  for (std::uint64_t r = 0; r < users; ++r) {
    receivers.go([&] {
      const auto take = [&](std::optional<std::uint64_t> v) {
        received.fetch_add(*v, std::memory_order_relaxed);
      };
      for (bool over = false; !over;) {
        select(on_recv(c[2], take), on_recv(c[0], take), on_recv(c[1], take),
               on_recv(stop, [&] { over = true; }));
      }
    });
  }
  {
    crew senders;
    for (std::uint64_t s = 0; s < users; ++s) {
      senders.go([&, s] {
        for (std::uint64_t i = 0; i < share_of(pairs, s, users); ++i) {
          // Of a select exactly one case happens, so each value is counted once.
          select(on_send(c[0], i), on_send(c[1], i), on_send(c[2], i));
          sent.fetch_add(i, std::memory_order_relaxed);
          progress.add();
        }
      });
    }
  }
  while (c[2].size() != 0) yield();
  stop.close();
  receivers.wait();
  EXPECT_EQ(sent, received);
}

/// Waits whose deadline comes at about the same time as what they wait for.
void timed_races(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 4;
  const chan<std::uint64_t> c(0);
  std::atomic<std::uint64_t> sent{0};
  std::atomic<std::uint64_t> received{0};
  std::atomic<bool> over{false};
  crew receivers;
  for (std::uint64_t r = 0; r < users; ++r) {
    receivers.go([&, random = new_random()]() mutable {
      while (!over.load(std::memory_order_acquire)) {
        const auto limit = std::chrono::microseconds(random.below(30));
        std::uint64_t v = 0;
        const auto before = steady_clock::now();
        const auto take = [&](std::optional<std::uint64_t> got) { v = *got; };
        if (random.below(2) == 0) {
          if (c.recv_for(v, limit) == chan_status::timed_out) {
            EXPECT_GE(steady_clock::now() - before, limit);
          }
        } else {
          if (select(on_recv(c, take), on_timeout(limit)) == 1) {
            EXPECT_GE(steady_clock::now() - before, limit);
          }
        }
        received.fetch_add(v, std::memory_order_relaxed);
      }
    });
  }
  {
    crew senders;
    for (std::uint64_t s = 0; s < users; ++s) {
      senders.go([&, s, random = new_random()]() mutable {
        for (std::uint64_t i = 0; i < share_of(pairs, s, users); ++i) {
          const std::uint64_t value = i + 1;
          for (;;) {
            const auto limit = std::chrono::microseconds(random.below(30));
            // The value stays ours when the time has passed: it must be sent again, and only then.
            if (c.send_for(value, limit) == chan_status::ok) break;
            progress.add();
          }
          sent.fetch_add(value, std::memory_order_relaxed);
          progress.add();
        }
      });
    }
  }
  over.store(true, std::memory_order_release);
  receivers.wait();
  EXPECT_EQ(sent, received);
}

/// Channels that are closed while all sorts of waiters are in line.
void close_storm(std::uint64_t pairs, tally& progress) {
  constexpr int waiters = 8;
  for (std::uint64_t round = 0; round < pairs / waiters + 1; ++round) {
    const chan<int> c(round % 3);
    const chan<int> never(0);
    std::atomic<int> sent{0};
    std::atomic<int> received{0};
    std::atomic<int> told{0};
    crew all;
    for (int i = 0; i < waiters; ++i) {
      all.go([&, i] {
        try {
          switch (i % 4) {
            case 0:
              if (c.recv()) ++received;
              break;
            case 1:
              select(on_recv(never), on_recv(c, [&](std::optional<int> v) { received += v.has_value(); }));
              break;
            case 2:
              c.send(1);
              ++sent;
              break;
            case 3:
              select(on_recv(never), on_send(c, 1, [&] { ++sent; }));
              break;
          }
        } catch (const closed_error&) {
        }
        ++told;
        progress.add();
      });
    }
    if (round % 2 == 0) yield();
    c.close();
    all.wait();
    EXPECT_EQ(told, waiters);
    int left = 0;
    while (c.recv()) ++left;
    EXPECT_EQ(sent, received + left);
  }
}

// --------------------------------------------------------------------------------------- locks

/// One mutex, many goroutines; some hold it while they let others run.
void one_mutex(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 8;
  mutex m;
  std::uint64_t count = 0;
  std::uint64_t timed_out = 0;
  {
    crew all;
    for (std::uint64_t u = 0; u < users; ++u) {
      all.go([&, u, random = new_random()]() mutable {
        for (std::uint64_t i = 0; i < share_of(pairs, u, users); ++i) {
          bool have = true;
          if (random.below(8) == 0) have = m.try_lock_for(std::chrono::microseconds(random.below(20)));
          else m.lock();
          if (!have) m.lock();
          ++count;
          if (!have) ++timed_out;
          if (random.below(4) == 0) yield();
          m.unlock();
          progress.add();
        }
      });
    }
  }
  EXPECT_EQ(count, pairs);
}

/// A bounded queue from a mutex and two condition variables.
void condition(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 3;
  constexpr std::size_t room = 2;
  mutex m;
  condition_variable not_empty;
  condition_variable not_full;
  std::deque<std::uint64_t> queue;
  bool closed = false;
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  crew consumers;
  for (std::uint64_t u = 0; u < users; ++u) {
    consumers.go([&] {
      for (;;) {
        std::unique_lock lock(m);
        not_empty.wait(lock, [&] { return closed || !queue.empty(); });
        if (queue.empty()) return;
        out += queue.front();
        queue.pop_front();
        not_full.notify_one();
      }
    });
  }
  {
    crew producers;
    for (std::uint64_t u = 0; u < users; ++u) {
      producers.go([&, u, random = new_random()]() mutable {
        for (std::uint64_t i = 0; i < share_of(pairs, u, users); ++i) {
          std::unique_lock lock(m);
          const auto roomy = [&] { return queue.size() < room; };
          while (!not_full.wait_for(lock, std::chrono::microseconds(1 + random.below(50)), roomy)) {
          }
          queue.push_back(i);
          in += i;
          not_empty.notify_one();
          progress.add();
        }
      });
    }
  }
  {
    const std::scoped_lock lock(m);
    closed = true;
  }
  not_empty.notify_all();
  consumers.wait();
  EXPECT_EQ(in, out);
}

/// Forks and joins; each wait_group dies at once when its wait returns.
void fork_join(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t width = 4;
  std::atomic<std::uint64_t> ran{0};
  std::uint64_t expected = 0;
  for (std::uint64_t i = 0; i < pairs / width + 1; ++i) {
    wait_group all;
    all.add(width);
    for (std::uint64_t k = 0; k < width; ++k) {
      go([&ran, &all, k] {
        if (k % 2 == 0) yield();
        ran.fetch_add(1, std::memory_order_relaxed);
        all.done();
      });
    }
    expected += width;
    if (i % 8 == 0) {
      while (!all.wait_for(5us)) progress.add();
    } else {
      all.wait();
    }
    progress.add(width);
  }
  EXPECT_EQ(ran, expected);
}

// ---------------------------------------------------------------------------------------- time

void sleepers(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 50;
  crew all;
  for (std::uint64_t u = 0; u < users; ++u) {
    all.go([&, u, random = new_random()]() mutable {
      for (std::uint64_t i = 0; i < share_of(pairs, u, users); ++i) {
        const auto wanted = std::chrono::microseconds(random.below(300));
        const auto before = steady_clock::now();
        sleep_for(wanted);
        EXPECT_GE(steady_clock::now() - before, wanted);
        progress.add();
      }
    });
  }
}

/// Timers that are stopped and reset by several at once. A value belongs to the last setting: never
/// early, never twice, never lost.
void timers(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 8;
  crew all;
  for (std::uint64_t u = 0; u < users; ++u) {
    all.go([&, u, random = new_random()]() mutable {
      timer t(1h);
      EXPECT_TRUE(t.stop());
      for (std::uint64_t i = 0; i < share_of(pairs, u, users); ++i) {
        const auto wanted = std::chrono::microseconds(random.below(100));
        const auto due = steady_clock::now() + wanted;
        t.reset(due);
        switch (random.below(4)) {
          case 0: {
            if (random.below(2) == 0) yield();
            // Either it was stopped in time, and never comes; or its value was received: not possible
            // here, nobody else receives. So stop() says true, and the channel is empty.
            EXPECT_TRUE(t.stop());
            timer::time_point none;
            EXPECT_EQ(t.channel().try_recv(none), chan_status::would_block);
            break;
          }
          case 1: {
            // Moved to later while it runs out.
            const auto later = due + std::chrono::microseconds(random.below(100));
            EXPECT_TRUE(t.reset(later));
            const auto fired = t.channel().recv();
            EXPECT_TRUE(fired && *fired >= later && steady_clock::now() >= later);
            EXPECT_FALSE(t.stop());
            break;
          }
          case 2: {
            bool fired = false;
            select(on_recv(t.channel(), [&] { fired = true; }), on_timeout(wanted));
            // Whoever lost, the books are even: fired and stop() false, or not and stop() true.
            EXPECT_EQ(t.stop(), !fired);
            break;
          }
          default: {
            const auto fired = t.channel().recv();
            EXPECT_TRUE(fired && *fired >= due);
            EXPECT_FALSE(t.stop());
          }
        }
        progress.add();
      }
      // A handle that goes while the timer runs.
      static_cast<void>(after(std::chrono::microseconds(random.below(100))));
    });
  }
}

// ----------------------------------------------------------------------------------- descriptors

struct message {
  std::uint64_t connection;
  std::uint64_t number;
  std::uint64_t check;

  [[nodiscard]] static std::uint64_t sum(std::uint64_t connection, std::uint64_t number) {
    return (connection * 0x9e3779b97f4a7c15u) ^ (number * 0xc2b2ae3d27d4eb4fu);
  }
};

/// Echoes until the peer ends.
void echo(stream_conn& conn) {
  message m;
  std::error_code ec;
  for (;;) {
    if (!conn.read_full({&m, sizeof m}, ec) || ec) return;
    conn.write({&m, sizeof m}, ec);
    if (ec) return;
  }
}

/// Short connections, one after the other, so that descriptor numbers are reused all the time; each
/// message says whose it is.
void tcp_echo(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t clients = 8;
  constexpr std::uint64_t messages = 10;
  tcp_listener listener = tcp_listener::listen("127.0.0.1:0");
  const endpoint address = listener.local_endpoint();
  static std::atomic<std::uint64_t> connections{0};
  crew servers;
  servers.go([&] {
    for (;;) {
      std::error_code ec;
      auto conn = std::make_shared<tcp_conn>(listener.accept(ec));
      if (ec) return;
      servers.go([conn] { echo(*conn); });
    }
  });
  {
    crew all;
    for (std::uint64_t c = 0; c < clients; ++c) {
      all.go([&, c] {
        for (std::uint64_t i = 0; i < share_of(pairs / messages / 2, c, clients) + 1; ++i) {
          tcp_conn conn = tcp_conn::dial(address);
          // Reset at the end: thousands of sockets in TIME_WAIT would use up the ports.
          conn.set_linger(0s);
          const std::uint64_t id = ++connections;
          for (std::uint64_t n = 0; n < messages; ++n) {
            message m{id, n, message::sum(id, n)};
            conn.write({&m, sizeof m});
            message back{};
            EXPECT_TRUE(conn.read_full({&back, sizeof back}));
            EXPECT_EQ(std::memcmp(&m, &back, sizeof m), 0) << back.connection << " for " << id;
            progress.add(2);
          }
        }
      });
    }
  }
  listener.close();
}

/// Deadlines that are moved, and connections that are closed, while somebody reads and writes.
void deadlines_and_closes(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 4;
  crew all;
  for (std::uint64_t u = 0; u < users; ++u) {
    all.go([&, u, random = new_random()]() mutable {
      for (std::uint64_t i = 0; i < share_of(pairs / 8, u, users) + 1; ++i) {
        auto pair = unix_conn::pair();
        // Not a structured binding: clang 14 does not let a lambda capture one.
        unix_conn& near = pair.first;
        unix_conn& far = pair.second;
        std::atomic<std::uint64_t> written{0};
        std::uint64_t read = 0;
        bool closed = false;
        {
          crew both;
          both.go([&] {
            for (std::uint64_t k = 0; k < 8; ++k) {
              std::error_code ec;
              const char byte = 'x';
              written += far.write({&byte, 1}, ec);
              if (ec) break;
              if (k % 3 == 0) yield();
              progress.add();
            }
            if (i % 3 != 0) far.shutdown_write();
          });
          both.go([&] {
            for (;;) {
              char buffer[4];
              std::error_code ec;
              const std::size_t n = near.read_some({buffer, sizeof buffer}, ec);
              if (ec == std::errc::timed_out) {
                // Fails only when it is closed, which the next read says, too.
                near.set_read_deadline(
                    steady_clock::now() + std::chrono::microseconds(random.below(20)), ec);
                continue;
              }
              if (ec == net_errc::closed) closed = true;
              if (ec || n == 0) break;
              read += n;
            }
          });
          both.go([&, random = new_random()]() mutable {
            for (int k = 0; k < 4; ++k) {
              std::error_code ec;
              near.set_read_deadline(
                  steady_clock::now() + std::chrono::microseconds(random.below(20)), ec);
              yield();
            }
            if (i % 3 == 0) near.close();
          });
        }
        EXPECT_LE(read, written);
        if (!closed && i % 3 != 0) {
          EXPECT_EQ(read, written);
        }
      }
    });
  }
}

// -------------------------------------------------------------------------- code that knows nothing

/// Raw blocking calls: pipes between goroutines, sleeps in the kernel, a lock on a file.
void raw_calls(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 3;
  char path[] = "/tmp/tuco-stress-XXXXXX";
  const int file = ::mkostemp(path, O_CLOEXEC);
  EXPECT_GE(file, 0);
  std::atomic<int> inside{0};
  {
    crew all;
    for (std::uint64_t u = 0; u < users; ++u) {
      int ends[2];
      EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
      const std::uint64_t count = share_of(pairs, u, users);
      all.go([=, &progress] {
        for (std::uint64_t i = 0; i < count; ++i) {
          std::uint64_t value = ~i;
          ssize_t n;
          do n = ::read(ends[0], &value, sizeof value);
          while (n < 0 && errno == EINTR);
          EXPECT_EQ(n, static_cast<ssize_t>(sizeof value));
          EXPECT_EQ(value, i);
          progress.add();
        }
        ::close(ends[0]);
      });
      all.go([&, ends1 = ends[1], count, path, random = new_random()]() mutable {
        const int mine = ::open(path, O_RDWR | O_CLOEXEC);
        for (std::uint64_t i = 0; i < count; ++i) {
          switch (random.below(16)) {
            case 0: {
              const timespec little{0, static_cast<long>(random.below(200'000))};
              ::nanosleep(&little, nullptr);
              break;
            }
            case 1: {
              int got;
              do got = ::flock(mine, LOCK_EX);
              while (got != 0 && errno == EINTR);
              EXPECT_EQ(++inside, 1);
              yield();
              --inside;
              ::flock(mine, LOCK_UN);
              break;
            }
            case 2: yield(); break;
            default: break;
          }
          ssize_t n;
          do n = ::write(ends1, &i, sizeof i);
          while (n < 0 && errno == EINTR);
          EXPECT_EQ(n, static_cast<ssize_t>(sizeof i));
        }
        ::close(ends1);
        ::close(mine);
      });
    }
  }
  ::close(file);
  ::unlink(path);
}

/// Computes for up to some milliseconds without a call, then once with one.
void hogs(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 3;
  const chan<int> turns(1);
  crew all;
  for (std::uint64_t u = 0; u < users; ++u) {
    all.go([&, u, random = new_random()]() mutable {
      for (std::uint64_t i = 0; i < share_of(pairs, u, users); ++i) {
        const auto until = steady_clock::now() + std::chrono::microseconds(
                                                     random.below(random.below(64) == 0 ? 25'000 : 100));
        while (steady_clock::now() < until) {
        }
        turns.send(1);
        EXPECT_TRUE(turns.recv());
        progress.add();
      }
    });
  }
}

/// Goroutines that have locked their threads park, let others run, call the kernel, and end.
void locked(std::uint64_t pairs, tally& progress) {
  constexpr std::uint64_t users = 4;
  const chan<std::uint64_t> there(0);
  const chan<std::uint64_t> back(1);
  std::atomic<std::uint64_t> sent{0};
  std::atomic<std::uint64_t> received{0};
  std::atomic<bool> over{false};
  crew servers;
  for (std::uint64_t u = 0; u < users; ++u) {
    servers.go([&, random = new_random()]() mutable {
      while (!over) {
        // One life: some requests, then it ends with its thread, or unlocks it.
        crew life;
        life.go([&] {
          lock_thread();
          const auto thread = ::gettid();
          for (int i = 0; i < 20; ++i) {
            const auto v = there.recv();
            EXPECT_EQ(::gettid(), thread);
            if (!v) return;
            if (random.below(8) == 0) yield();
            if (random.below(64) == 0) {
              const timespec little{0, 50'000};
              ::nanosleep(&little, nullptr);
            }
            if (random.below(16) == 0) sleep_for(std::chrono::microseconds(random.below(50)));
            back.send(*v);
            EXPECT_EQ(::gettid(), thread);
          }
          if (random.below(2) == 0) unlock_thread();
        });
      }
    });
  }
  {
    crew clients;
    for (std::uint64_t u = 0; u < users; ++u) {
      clients.go([&, u] {
        for (std::uint64_t i = 0; i < share_of(pairs / 4, u, users); ++i) {
          there.send(i);
          sent += i;
          const auto v = back.recv();
          EXPECT_TRUE(v);
          received += v.value_or(0);
          progress.add(4);
        }
      });
    }
  }
  over = true;
  there.close();
  servers.wait();
  EXPECT_EQ(sent, received);
}

constexpr workload all_workloads[] = {
    {"PingPong", &ping_pong, 100},
    {"Ring", &ring, 150},
    {"Mutex", &one_mutex, 200},
    {"Condition", &condition, 500},
    {"ForkJoin", &fork_join, 300},
    {"SelectAgainstSelect", &select_against_select, 300},
    {"CloseStorm", &close_storm, 500},
    {"TimedRaces", &timed_races, 2'000},
    {"ThreadsAndGoroutines", &threads_and_goroutines, 20'000},
    {"Sleepers", &sleepers, 5'000},
    {"Timers", &timers, 10'000},
    {"TcpEcho", &tcp_echo, 10'000},
    {"DeadlinesAndCloses", &deadlines_and_closes, 5'000},
    {"RawCalls", &raw_calls, 5'000},
    {"Hogs", &hogs, 200'000},
    {"Locked", &locked, 20'000},
};

}  // namespace

std::span<const workload> workloads() noexcept { return all_workloads; }

void run_all_workloads(std::uint64_t pairs, tally& progress) {
  std::uint64_t cheapest = UINT64_MAX;
  for (const workload& w : all_workloads) cheapest = std::min(cheapest, w.cost);
  crew all;
  for (const workload& w : all_workloads) {
    all.go([&w, pairs, cheapest, &progress] {
      w.run(std::max<std::uint64_t>(8, pairs * cheapest / w.cost), progress);
    });
  }
}

}  // namespace tuco::test
