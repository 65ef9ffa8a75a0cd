// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/shared_mutex.hpp.
#include <tuco/shared_mutex.hpp>

#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "conformance/lifetime.hpp"
#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_waiting;
using test::spawn;

class SharedMutexTest : public test::runtime_test {};
TUCO_PROCESSORS(SharedMutexTest);

TUCO_TEST(SharedMutexTest, ReadersShareWritersExclude) {
  shared_mutex m;
  int a = 0, b = 0;  // equal whenever nobody writes
  std::atomic<int> inside{0}, most{0};
  std::vector<test::spawned<void>> all;
  for (int g = 0; g < 6; ++g) {
    all.push_back(spawn([&, g] {
      for (int i = 0; i < 500; ++i) {
        if (g < 2) {
          std::unique_lock lock(m);
          EXPECT_EQ(inside.load(), 0);
          ++a;
          if (i % 16 == 0) tuco::yield();
          ++b;
        } else {
          std::shared_lock lock(m);
          const int now = ++inside;
          for (int seen = most.load(); seen < now && !most.compare_exchange_weak(seen, now);) {
          }
          EXPECT_EQ(a, b);
          if (i % 16 == 0) tuco::yield();
          --inside;
        }
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(a, 1'000);
  EXPECT_EQ(b, 1'000);
  EXPECT_GT(most.load(), 1) << "no two readers were ever inside together";
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(SharedMutexTest, TellsWhoHasItAndWhoWaits) {
  shared_mutex m;
  EXPECT_EQ(m.owner(), 0u);
  m.lock();
  EXPECT_EQ(m.owner(), this_goroutine::id());
  auto reader = spawn([&] { m.lock_shared(); });
  await_waiting(reader.id(), wait_reason::shared_mutex_rlock);
  auto writer = spawn([&] {
    m.lock();
    const auto owner = m.owner();
    m.unlock();
    return owner;
  });
  await_waiting(writer.id(), wait_reason::shared_mutex_lock);
  EXPECT_EQ(test::look_at(writer.id())->wait_object, &m);
  EXPECT_EQ(to_string(wait_reason::shared_mutex_lock), "sync.RWMutex.Lock");
  EXPECT_EQ(to_string(wait_reason::shared_mutex_rlock), "sync.RWMutex.RLock");
  m.unlock();
  reader.join();
  EXPECT_EQ(m.readers(), 1u);
  EXPECT_EQ(m.owner(), 0u);
  m.unlock_shared();  // what another goroutine has locked
  EXPECT_EQ(writer.join(), writer.id());
  EXPECT_EQ(m.readers(), 0u);
}

TUCO_TEST(SharedMutexTest, TriesNeverPark) {
  shared_mutex m;
  EXPECT_TRUE(m.try_lock_shared());
  EXPECT_TRUE(m.try_lock_shared());
  EXPECT_FALSE(m.try_lock());
  m.unlock_shared();
  m.unlock_shared();
  EXPECT_TRUE(m.try_lock());
  EXPECT_FALSE(m.try_lock());
  EXPECT_FALSE(m.try_lock_shared());
  m.unlock();
}

TUCO_TEST(SharedMutexTest, AWaitingWriterKeepsNewReadersOut) {
  shared_mutex m;
  m.lock_shared();
  auto writer = spawn([&] {
    m.lock();
    m.unlock();
  });
  await_waiting(writer.id(), wait_reason::shared_mutex_lock);
  EXPECT_FALSE(m.try_lock_shared());
  auto reader = spawn([&] {
    m.lock_shared();
    EXPECT_TRUE(writer.done() || m.owner() == 0);
    m.unlock_shared();
  });
  await_waiting(reader.id(), wait_reason::shared_mutex_rlock);
  m.unlock_shared();
  writer.join();
  reader.join();
}

TUCO_TEST(SharedMutexTest, AfterAWriterAllWaitingReadersComeBeforeTheNextWriter) {
  shared_mutex m;
  m.lock();
  std::atomic<int> readers{0};
  std::vector<test::spawned<void>> all;
  auto next_writer = spawn([&] {
    m.lock();
    const int before = readers.load();
    m.unlock();
    return before;
  });
  await_waiting(next_writer.id(), wait_reason::shared_mutex_lock);
  for (int i = 0; i < 5; ++i) {
    all.push_back(spawn([&] {
      m.lock_shared();
      ++readers;
      m.unlock_shared();
    }));
    await_waiting(all.back().id(), wait_reason::shared_mutex_rlock);
  }
  m.unlock();
  EXPECT_EQ(next_writer.join(), 5);
  for (auto& g : all) g.join();
}

TUCO_TEST(SharedMutexTest, WritersComeInTheirOrder) {
  shared_mutex m;
  m.lock();
  std::vector<int> order;
  std::vector<test::spawned<void>> all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(spawn([&, i] {
      std::scoped_lock lock(m);
      order.push_back(i);
    }));
    await_waiting(all.back().id(), wait_reason::shared_mutex_lock);
  }
  m.unlock();
  for (auto& g : all) g.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TUCO_TEST(SharedMutexTest, TimedAttemptsTimeOutNeverEarly) {
  shared_mutex m;
  m.lock();
  spawn([&] {
    for (const auto timeout : {0us, 200us, 3'000us}) {
      auto start = std::chrono::steady_clock::now();
      EXPECT_FALSE(m.try_lock_for(timeout));
      EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
      start = std::chrono::steady_clock::now();
      EXPECT_FALSE(m.try_lock_shared_for(timeout));
      EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
    }
    EXPECT_FALSE(m.try_lock_until(std::chrono::steady_clock::now() - 1h));
    EXPECT_FALSE(m.try_lock_shared_until(std::chrono::steady_clock::now() - 1h));
  }).join();
  m.unlock();
  EXPECT_TRUE(m.try_lock_for(1h));
  m.unlock();
  EXPECT_TRUE(m.try_lock_shared_for(1h));
  m.unlock_shared();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(SharedMutexTest, AWriterThatGivesUpLetsTheReadersBehindItIn) {
  shared_mutex m;
  m.lock_shared();
  std::atomic<bool> reader_waits{false};
  auto writer = spawn([&] {
    // As long as it takes until the reader waits behind us.
    while (!reader_waits) {
      if (m.try_lock_for(1ms)) {
        ADD_FAILURE() << "locked beside a reader";
        m.unlock();
      }
    }
  });
  auto reader = spawn([&] {
    for (;;) {
      if (m.try_lock_shared()) {  // the writer did not wait just now
        m.unlock_shared();
        tuco::yield();
        continue;
      }
      reader_waits = true;
      m.lock_shared();
      m.unlock_shared();
      return;
    }
  });
  reader.join();
  writer.join();
  m.unlock_shared();
}

TUCO_TEST(SharedMutexTest, StormOfTimedAttempts) {
  shared_mutex m;
  int plain = 0;
  std::atomic<int> writes{0};
  std::vector<test::spawned<void>> all;
  for (int g = 0; g < 8; ++g) {
    all.push_back(spawn([&, g] {
      for (int i = 0; i < 300; ++i) {
        const auto timeout = std::chrono::microseconds((g * 31 + i * 17) % 200);
        if (g % 2 == 0) {
          if (!m.try_lock_for(timeout)) continue;
          ++plain;
          ++writes;
          if (i % 8 == 0) tuco::yield();
          m.unlock();
        } else {
          if (!m.try_lock_shared_for(timeout)) continue;
          const int before = plain;
          if (i % 8 == 0) tuco::yield();
          EXPECT_EQ(plain, before);
          m.unlock_shared();
        }
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(plain, writes.load());
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(SharedMutexTest, PlainThreadsTakePart) {
  shared_mutex m;
  int plain = 0;
  std::vector<std::thread> threads;
  std::vector<test::spawned<void>> all;
  const auto work = [&] {
    for (int i = 0; i < 300; ++i) {
      if (i % 3 == 0) {
        std::unique_lock lock(m);
        ++plain;
      } else {
        std::shared_lock lock(m);
        EXPECT_GE(plain, 0);
      }
    }
  };
  for (int t = 0; t < 2; ++t) threads.emplace_back(work);
  for (int g = 0; g < 2; ++g) all.push_back(spawn(work));
  for (auto& g : all) g.join();
  for (auto& t : threads) t.join();
  EXPECT_EQ(plain, 400);
}

TUCO_TEST(SharedMutexTest, MayBeDestroyedByWhoeverHadItLast) {
  test::last_holder_destroys<shared_mutex>(
      [] { return shared_mutex(); },
      [](shared_mutex& m, auto time) { if (m.try_lock_shared_for(time)) m.unlock_shared(); },
      [](shared_mutex& m) { m.lock(); }, [](shared_mutex& m) { m.unlock(); });
}

TEST(SharedMutexDeathTest, UnlockOfUnlocked) {
  EXPECT_EXIT(shared_mutex().unlock(), testing::ExitedWithCode(2), "fatal error: sync: Unlock of unlocked RWMutex");
  EXPECT_EXIT(shared_mutex().unlock_shared(), testing::ExitedWithCode(2),
              "fatal error: sync: RUnlock of unlocked RWMutex");
  EXPECT_EXIT(
      {
        shared_mutex m;
        m.lock_shared();
        m.unlock();
      },
      testing::ExitedWithCode(2), "fatal error: sync: Unlock of unlocked RWMutex");
  EXPECT_EXIT(
      {
        shared_mutex m;
        m.lock();
        m.unlock_shared();
      },
      testing::ExitedWithCode(2), "fatal error: sync: RUnlock of unlocked RWMutex");
}

}  // namespace
}  // namespace tuco
