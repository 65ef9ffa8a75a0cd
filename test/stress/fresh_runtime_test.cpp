// SPDX-License-Identifier: Apache-2.0
// Ten thousand times a fresh runtime in one process. What it had, it gives back: threads, descriptors,
// mappings, memory. And it ends, whatever its goroutines are doing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <tuco/tuco.hpp>

#include "poll/poller.hpp"
#include "sched/scheduler.hpp"
#include "stress/stress.hpp"

namespace tuco::test {
namespace {

void nap(long ns) {
  const timespec little{0, ns};
  ::nanosleep(&little, nullptr);
}

/// One of the things that goroutines do; returns when it is over.
void do_something(std::uint32_t what, crew& all) {
  switch (what % 8) {
    case 0:
      for (int i = 0; i < 20; ++i) all.go([] { yield(); });
      break;
    case 1: all.go([] { sleep_for(20us); }); break;
    case 2: {
      const chan<int> c(1);
      all.go([c] { c.send(1); });
      all.go([c] { EXPECT_EQ(c.recv(), 1); });
      break;
    }
    case 3:
      all.go([&all] {
        auto [near, far] = unix_conn::pair();
        auto there = std::make_shared<unix_conn>(std::move(far));
        all.go([there] { there->write("x"); });
        char byte = 0;
        EXPECT_TRUE(near.read_full({&byte, 1}));
      });
      break;
    case 4:
      all.go([] {
        lock_thread();
        yield();
        sleep_for(5us);
      });
      break;
    case 5:
      for (int i = 0; i < 3; ++i) all.go([] { nap(50'000); });
      break;
    case 6:
      all.go([] {
        timer t(1h);
        EXPECT_TRUE(t.reset(10us));
        EXPECT_TRUE(t.channel().recv());
      });
      break;
    default:
      all.go([] {
        std::thread plain([] { go([] {}); });
        plain.join();
      });
  }
}

/// All have been joined; the kernel takes them off the list a moment later.
void await_threads(int wanted) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (count_belongings().threads != wanted) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit)
        << count_belongings().threads << " threads, not " << wanted;
    std::this_thread::yield();
  }
}

TEST(FreshRuntime, GivesBackWhatItHad) {
  const std::uint64_t rounds = stress_size(10'000, 300);
  const std::uint64_t warm_up = rounds / 4 + 50;
  tally progress;
  const watchdog guard("fresh runtimes", progress);
  base::random_source random = new_random();
  const int threads = count_belongings().threads;
  belongings before;
  for (std::uint64_t i = 0; i < rounds + warm_up; ++i) {
    if (i == warm_up) before = count_belongings();
    const int processors = 1 + static_cast<int>(random.below(4));
    const int result = run(
        [&] {
          crew all;
          for (int k = 0; k < 3; ++k) do_something(random.next(), all);
          all.wait();
          return 7;
        },
        {.procs = processors});
    ASSERT_EQ(result, 7);
    ASSERT_NO_FATAL_FAILURE(await_threads(threads));
    progress.add();
  }
  const belongings after = count_belongings();
  EXPECT_EQ(after.descriptors, before.descriptors);
  EXPECT_LE(after.mappings, before.mappings + 8);
  EXPECT_LT(after.resident, before.resident + (8 << 20));
}

/// What lives on when a run ends: kept outside, so that the test can take it away afterwards.
struct leftovers {
  std::vector<int> descriptors;
  std::atomic<bool> stop{false};
  std::atomic<int> in_the_kernel{0};
  std::atomic<int> spinning{0};
  chan<int> never{0};
  mutex held;
  condition_variable changed;
  std::mutex changed_lock;
};

/// Threads whose goroutine had left the runtime when its run ended: it cannot be stopped, only kept out.
int abandoned_threads() { return sched::the_scheduler.other_threads; }

/// A goroutine that will not end, in one of the states that there are.
void leave_one(std::uint32_t how, leftovers& l) {
  switch (how) {
    case 0: go([&] { static_cast<void>(l.never.recv()); }); return;
    case 1: go([&] { l.never.send(1); }); return;
    case 2: go([&] { select(on_recv(l.never), on_timeout(1h)); }); return;
    case 3: go([] { sleep_for(1h); }); return;
    case 4: go([] { select(); }); return;
    case 5: {
      // Not closed by their destructors, which do not run.
      auto ends = unix_conn::pair();
      l.descriptors.push_back(ends.first.native_handle());
      l.descriptors.push_back(ends.second.native_handle());
      go([ends = std::move(ends)]() mutable {
        char byte = 0;
        std::error_code ec;
        static_cast<void>(ends.first.read_full({&byte, 1}, ec));
      });
      return;
    }
    case 6:
      go([] {
        for (;;) yield();
      });
      return;
    case 7:
      go([] {
        lock_thread();
        sleep_for(1h);
      });
      return;
    case 8:
      go([] {
        lock_thread();
        for (;;) yield();
      });
      return;
    case 9:  // never gets to run, most likely
      for (int i = 0; i < 10; ++i) go([] { yield(); });
      return;
    case 10:
      go([&] {
        for (;;) {
          const std::scoped_lock lock(l.held);
          yield();
        }
      });
      return;
    case 11:
      go([] {
        timer t(5us);
        for (;;) {
          static_cast<void>(t.channel().recv());
          t.reset(5us);
        }
      });
      return;
    case 12: {  // raw call
      int ends[2];
      EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
      l.descriptors.push_back(ends[0]);
      l.descriptors.push_back(ends[1]);
      go([&l, from = ends[0]] {
        ++l.in_the_kernel;
        char byte = 0;
        static_cast<void>(!::read(from, &byte, 1));
        yield();  // never returns: its run is over
        ADD_FAILURE() << "a goroutine of an earlier run runs";
      });
      return;
    }
    case 13:  // hog
      go([&l] {
        ++l.spinning;
        while (!l.stop) {
        }
        yield();
        ADD_FAILURE() << "a goroutine of an earlier run runs";
      });
      return;
    default: return;
  }
}

TEST(FreshRuntime, EndsWhateverStateGoroutinesAreIn) {
  const std::uint64_t rounds = stress_size(10'000, 300);
  tally progress;
  const watchdog guard("runtimes that end in the middle", progress);
  base::random_source random = new_random();
  const int threads = count_belongings().threads - abandoned_threads();
  const int descriptors = count_belongings().descriptors;
  const bool had_poller = poll::the_poller().initialized();
  // They keep what they stand on; so does this, for they stand on it, too.
  std::vector<std::unique_ptr<leftovers>> all;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    leftovers& l = *all.emplace_back(std::make_unique<leftovers>());
    int raw = 0;
    int hogs = 0;
    run(
        [&] {
          for (int k = 0; k < 4; ++k) {
            // Each of the last two costs a thread for good, so they come seldom.
            std::uint32_t how = random.below(12);
            if (i % (rounds / 30 + 1) == 0) how = 12 + random.below(2);
            leave_one(how, l);
            raw += how == 12;
            hogs += how == 13;
          }
          await([&] { return l.in_the_kernel == raw && l.spinning == hogs; }, "raw calls and hogs");
          for (std::uint32_t n = random.below(5); n > 0; --n) yield();
          if (random.below(4) == 0) sleep_for(30us);
        },
        {.procs = 1 + static_cast<int>(random.below(4))});
    ASSERT_GE(abandoned_threads(), raw + hogs);
    ASSERT_NO_FATAL_FAILURE(await_threads(threads + abandoned_threads()));
    EXPECT_EQ(count_goroutines().total(), 0u);
    l.stop = true;
    for (const int fd : l.descriptors) ::close(fd);
    progress.add();
  }
  // The next one does not notice what came before.
  run([] {
    crew last;
    for (std::uint32_t k = 0; k < 8; ++k) do_something(k, last);
  });
  EXPECT_EQ(count_belongings().descriptors, descriptors + (had_poller ? 0 : 2));
  RecordProperty("abandoned_threads", std::to_string(abandoned_threads()));
}

}  // namespace
}  // namespace tuco::test
