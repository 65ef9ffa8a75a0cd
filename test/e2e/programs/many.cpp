// SPDX-License-Identifier: Apache-2.0
// many N FILE: N goroutines, each parked in a receive of its own, and four that play ping-pong; while
// those go on, the parked ones are counted, listed, and dumped to FILE. Prints how long that took.
// Status 0 when every number was right.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <tuco/tuco.hpp>

namespace app {

using clock = std::chrono::steady_clock;

std::atomic<bool> over{false};

[[gnu::noinline]] bool parked(const tuco::chan<int>& own) { return own.recv().has_value(); }

void player(tuco::chan<int> in, tuco::chan<int> out) {
  while (auto ball = in.recv()) {
    if (over.load()) {
      out.close();
      return;
    }
    out.send(*ball + 1);
  }
}

bool check(bool right, const char* what) {
  if (!right) std::fprintf(stderr, "many: wrong: %s\n", what);
  return right;
}

double ms_since(clock::time_point start) {
  return std::chrono::duration<double, std::milli>(clock::now() - start).count();
}

int run(std::size_t n, const char* file) {
  std::vector<tuco::chan<int>> channels(n);
  for (auto& c : channels) {
    c = tuco::chan<int>(0);
    tuco::go([&c] { parked(c); });
  }
  while (tuco::count_goroutines().waiting != n) tuco::yield();

  // At rest the counts are exact.
  bool good = true;
  for (int i = 0; i < 100; ++i) {
    const auto counts = tuco::count_goroutines();
    good = check(counts.waiting == n && counts.running == 1 && counts.runnable == 0 &&
                     counts.syscall == 0 && counts.total() == n + 1,
                 "counts at rest") && good;
  }

  std::vector<tuco::chan<int>> table;
  for (int i = 0; i < 4; ++i) table.emplace_back(0);
  for (std::size_t i = 0; i < 4; ++i) tuco::go([=] { player(table[i], table[i ^ 1]); });
  tuco::go([=] { table[0].send(0); table[2].send(0); });
  while (tuco::count_goroutines().total() != n + 5) tuco::yield();

  auto start = clock::now();
  const auto list = tuco::goroutines();
  const double list_ms = ms_since(start);
  std::size_t waiting = 0;
  for (const auto& g : list) waiting += g.reason == tuco::wait_reason::chan_receive && g.wait_object != nullptr;
  good = check(list.size() == n + 5, "goroutines listed") && good;
  good = check(waiting >= n, "goroutines that wait") && good;

  const int fd = ::open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  start = clock::now();
  good = check(tuco::dump_goroutines(fd) == 0, "the dump") && good;
  const double dump_ms = ms_since(start);
  ::close(fd);
  std::printf("%zu goroutines: listed in %.1f ms, dumped in %.1f ms\n", n, list_ms, dump_ms);

  over.store(true);
  for (auto& c : channels) c.close();
  while (tuco::count_goroutines().total() != 1) tuco::yield();
  good = check(tuco::goroutines().size() == 1, "the list at the end") && good;
  return good ? 0 : 1;
}

}  // namespace app

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  return tuco::run([&] { return app::run(std::strtoull(argv[1], nullptr, 10), argv[2]); });
}
