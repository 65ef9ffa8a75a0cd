// SPDX-License-Identifier: Apache-2.0
// What the system has runs out for real: descriptors, address space, mappings. The call that asked is
// told by std::system_error, all others go on, and when there is some again it is used. Threads:
// test/hazard/out_of_resources_test.cpp.
//
// Each test is a child process of its own, which takes the limit along when it ends.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <tuco/chan.hpp>
#include <tuco/go.hpp>
#include <tuco/net.hpp>
#include <tuco/run.hpp>
#include <tuco/time.hpp>
#include <tuco/wait_group.hpp>

#include "base/sanitizer.hpp"
#include "fault/child.hpp"
#include "os/memory.hpp"
#include "os/proc.hpp"

namespace tuco::test {
namespace {

using namespace std::chrono_literals;

#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
constexpr bool under_sanitizer = true;  // shadow memory, and many mappings
#else
constexpr bool under_sanitizer = false;
#endif

void limit(__rlimit_resource_t what, rlim_t most) {
  rlimit now{};
  ::getrlimit(what, &now);
  now.rlim_cur = most;
  if (::setrlimit(what, &now) != 0) throw std::system_error(errno, std::system_category(), "setrlimit");
}

/// Of this process, in bytes.
std::size_t address_space() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * os::page_size();
}

/// @return The error, or none.
std::error_code error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::system_error& e) {
    return e.code();
  }
  return {};
}

/// What a program does besides, all the time: two goroutines that pass a number to and fro and sleep now
/// and then.
class bystanders {
 public:
  bystanders() {
    done_.add(2);
    go([this] {
      while (auto n = there_.recv()) back_.send(*n + 1);
      back_.close();
      done_.done();
    });
    go([this] {
      int n = 0;
      while (!stop_.load(std::memory_order_relaxed)) {
        there_.send(int{n});
        n = *back_.recv();
        count_.store(n, std::memory_order_release);
        if (n % 64 == 0) sleep_for(50us);
      }
      there_.close();
      done_.done();
    });
    await_progress();
  }
  /// Returns when they have got on by some rounds since the call.
  void await_progress() {
    const int seen = count_.load();
    while (count_.load(std::memory_order_acquire) < seen + 200) tuco::yield();
  }
  ~bystanders() {
    stop_ = true;
    done_.wait();
  }

 private:
  chan<int> there_{0}, back_{0};
  wait_group done_;
  std::atomic<bool> stop_{false};
  std::atomic<int> count_{0};
};

#define CHECK_IN_CHILD(condition)                                                     \
  do {                                                                                \
    if (!(condition)) {                                                               \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      std::fflush(stderr);                                                            \
      ::_exit(1);                                                                     \
    }                                                                                 \
  } while (false)

void expect_good_end(const std::function<void()>& body) {
  const child_end end = run_child([&] {
    body();
    return 0;
  });
  EXPECT_FALSE(end.hung) << end.text;
  EXPECT_EQ(end.signal, 0) << end.text;
  EXPECT_EQ(end.status, 0) << end.text;
}

/// Goroutines that wait at a gate, one after the other, until one is refused.
struct crowd {
  explicit crowd(std::size_t stack_size = 0, int most = 1'000'000) {
    for (int i = 0; i < most && !refusal; ++i) {
      all.add();
      refusal = error_of([&] {
        go({.stack_size = stack_size}, [this] {
          (void)gate.recv();
          passed.fetch_add(1, std::memory_order_relaxed);
          all.done();
        });
      });
      if (refusal) all.done();
      else ++started;
      if (i % 16 == 0) tuco::yield();  // a goroutine takes its stack when it first runs
    }
  }
  void dissolve() {
    gate.close();
    all.wait();
    CHECK_IN_CHILD(passed == started);
  }
  chan<int> gate{0};
  wait_group all;
  std::error_code refusal;
  int started = 0;
  std::atomic<int> passed{0};
};

const std::error_code no_memory(ENOMEM, std::system_category());

TEST(Limits, Descriptors) {
  expect_good_end([] {
    run([] {
      bystanders others;
      std::vector<std::pair<unix_conn, unix_conn>> pairs;
      pairs.push_back(unix_conn::pair());
      limit(RLIMIT_NOFILE, 40);
      std::error_code refusal;
      while (!refusal) refusal = error_of([&] { pairs.push_back(unix_conn::pair()); });
      CHECK_IN_CHILD(refusal == std::error_code(EMFILE, std::system_category()));
      CHECK_IN_CHILD(pairs.size() > 5);
      for (const auto& f : {std::function<void()>([] { (void)tcp_listener::listen("127.0.0.1:0"); }),
                            std::function<void()>([] { (void)tcp_conn::dial("127.0.0.1:9"); }),
                            std::function<void()>([] { (void)unix_listener::listen("@tuco-limits-test"); })}) {
        // One may be left over from the last pair.
        const int one = ::dup(0);
        CHECK_IN_CHILD(error_of(f) == std::errc::too_many_files_open);
        if (one >= 0) ::close(one);
      }
      others.await_progress();
      for (auto& [near, far] : pairs) {
        near.write("x");
        char byte = 0;
        CHECK_IN_CHILD(far.read_some({&byte, 1}) == 1 && byte == 'x');
      }
      // More than are needed: the monitor may want one, too.
      for (int i = 0; i < 3; ++i) pairs.pop_back();
      pairs.push_back(unix_conn::pair());
      others.await_progress();
    });
  });
}

// Two are left, and the poller wants three: two of its own and the caller's.
TEST(Limits, DescriptorsOfThePollerItself) {
  expect_good_end([] {
    run([] {
      bystanders others;
      std::vector<int> taken;
      limit(RLIMIT_NOFILE, 40);
      for (int file = 0; (file = ::dup(0)) >= 0;) taken.push_back(file);
      for (int left = 1; left <= 3; ++left) {
        ::close(taken.back());
        taken.pop_back();
        CHECK_IN_CHILD(error_of([] { (void)unix_conn::pair(); }) == std::errc::too_many_files_open);
        others.await_progress();
      }
      for (int i = 0; i < 8; ++i) {  // the monitor may want one for each worker, too
        ::close(taken.back());
        taken.pop_back();
      }
      CHECK_IN_CHILD(!error_of([] { (void)unix_conn::pair(); }));
    });
  });
}

class LimitsOfMemory : public ::testing::TestWithParam<std::pair<__rlimit_resource_t, const char*>> {
 protected:
  void SetUp() override {
    if (under_sanitizer) GTEST_SKIP() << "the sanitizer's shadow memory is beyond any limit";
  }
};

TEST_P(LimitsOfMemory, GoThrowsAndTheOthersGoOn) {
  const auto what = GetParam().first;
  expect_good_end([what] {
    run([what] {
      bystanders others;
      limit(what, address_space() + (std::size_t{600} << 20));
      for (int round = 0; round < 3; ++round) {
        crowd all;
        CHECK_IN_CHILD(all.refusal == no_memory);
        CHECK_IN_CHILD(all.started > 500);
        others.await_progress();
        all.dissolve();
        others.await_progress();
      }
      // Larger than what is left, from a program that has all its stacks back.
      crowd deep(std::size_t{64} << 20);
      CHECK_IN_CHILD(deep.refusal == no_memory);
      CHECK_IN_CHILD(deep.started < 20);
      others.await_progress();
      deep.dissolve();
      crowd again(0, 100);
      CHECK_IN_CHILD(!again.refusal);
      again.dissolve();
    });
  });
}

INSTANTIATE_TEST_SUITE_P(By, LimitsOfMemory,
                         ::testing::Values(std::pair(RLIMIT_AS, "address_space"), std::pair(RLIMIT_DATA, "data")),
                         [](const auto& info) { return std::string(info.param.second); });

TEST(Limits, MappingsRunOut) {
  if (under_sanitizer) GTEST_SKIP() << "the sanitizer needs mappings itself";
  if (os::max_mappings() > 300'000) GTEST_SKIP() << "vm.max_map_count is raised here";
  expect_good_end([] {
    run([] {
      bystanders others;
      // Every second page another protection: two mappings for each two pages.
      const std::size_t page = os::page_size();
      const std::size_t bytes = os::max_mappings() * page;
      void* const pieces = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      CHECK_IN_CHILD(pieces != MAP_FAILED);
      std::size_t at = page;
      while (::mprotect(static_cast<char*>(pieces) + at, page, PROT_READ) == 0) at += 2 * page;
      CHECK_IN_CHILD(at < bytes);
      crowd all;
      CHECK_IN_CHILD(all.refusal == no_memory);
      others.await_progress();
      all.dissolve();
      others.await_progress();
      ::munmap(pieces, bytes);
      crowd again(0, 5000);
      CHECK_IN_CHILD(!again.refusal);
      again.dissolve();
    });
  });
}

}  // namespace
}  // namespace tuco::test
