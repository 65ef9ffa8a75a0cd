// SPDX-License-Identifier: Apache-2.0
// idle_test.cpp - a program in which nothing happens does nothing: ten thousand goroutines wait for their
// connections and one sleeps for ten seconds; all threads together wake up at most once per second and use
// next to no CPU.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <time.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "e2e/process.hpp"
#include "e2e/tcp_client.hpp"

namespace tuco::test {
namespace {

using namespace std::chrono_literals;

/// How often each thread has gone to sleep, which is how often it was woken. A thread that is not there
/// any more was woken once more.
std::map<std::string, long> switches_of(pid_t pid) {
  std::map<std::string, long> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::ifstream status(entry.path() / "status");
    long count = 0;
    std::string line;
    while (std::getline(status, line)) {
      const std::size_t at = line.find("voluntary_ctxt_switches:");
      if (at == 0) count = std::stol(line.substr(24));
    }
    threads[entry.path().filename()] = count;
  }
  return threads;
}

long wake_ups(const std::map<std::string, long>& before, const std::map<std::string, long>& after) {
  long sum = 0;
  for (const auto& [thread, count] : before) {
    const auto now = after.find(thread);
    sum += now == after.end() ? 1 : now->second - count;
  }
  for (const auto& [thread, count] : after) {
    if (!before.contains(thread)) sum += count;
  }
  return sum;
}

double cpu_seconds(pid_t pid) {
  clockid_t clock;
  timespec time{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 1e9;
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

TEST(Idle, TenThousandWaitersAndASleeperWakeAtMostOncePerSecond) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  ASSERT_GE(files.rlim_max, 10'200u) << "the test needs as many descriptors: ulimit -Hn";
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  constexpr int n = 10'000;
  process program({built("test/programs/idle"), std::to_string(n)});
  const std::string address = program.await_line(output::out, "listening on ");
  std::vector<tcp_client> others;
  for (int i = 0; i < n; ++i) others.emplace_back(address);
  program.await_text(output::out, "ready\n");

  // Until it stands still: what the start has woken goes to sleep again.
  auto before = switches_of(program.pid());
  const auto give_up = std::chrono::steady_clock::now() + hang_limit;
  for (;;) {
    std::this_thread::sleep_for(200ms);
    const auto now = switches_of(program.pid());
    const bool still = wake_ups(before, now) == 0;
    before = now;
    if (still) break;
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << "it does not come to rest";
  }

  // One expiry of the sleeper lies in it.
  const auto begin = std::chrono::steady_clock::now();
  const double cpu_before = cpu_seconds(program.pid());
  std::this_thread::sleep_for(10s);
  const auto after = switches_of(program.pid());
  const double cpu = cpu_seconds(program.pid()) - cpu_before;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const long count = wake_ups(before, after);
  RecordProperty("wake_ups", std::to_string(count));
  RecordProperty("cpu_microseconds", std::to_string(static_cast<long>(1e6 * cpu)));
  EXPECT_LE(static_cast<double>(count) / seconds, 1.0) << count << " wake-ups in " << seconds << " s";
  EXPECT_LE(cpu / seconds, 0.01) << cpu << " s of CPU in " << seconds << " s";
}

}  // namespace
}  // namespace tuco::test
