// SPDX-License-Identifier: Apache-2.0
// A million goroutines, each parked in a receive of its own: what they cost, how long it takes to list
// them, and what is left when they have ended. The figures stand in lines NAME=VALUE.
//
//   million [count]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <tuco/tuco.hpp>

#include "os/memory.hpp"
#include "os/proc.hpp"

namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

double megabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

double seconds_since(steady_clock::time_point t) {
  return duration<double>(steady_clock::now() - t).count();
}

struct figures {
  std::uint64_t resident = tuco::os::resident_bytes();
  std::uint64_t tables = tuco::os::page_table_bytes();
  std::size_t mappings = tuco::os::mapping_count();
};

figures print(const char* when) {
  const figures f;
  std::printf("%-28s %10.1f MB resident  %8.1f MB page tables  %6zu mappings\n", when,
              megabytes(f.resident), megabytes(f.tables), f.mappings);
  return f;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::size_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  return tuco::run([count] {
    std::vector<tuco::chan<int>> channels;
    channels.reserve(count);
    for (std::size_t i = 0; i < count; ++i) channels.emplace_back(0);
    const figures before = print("channels made");

    auto start = steady_clock::now();
    tuco::wait_group all;
    all.add(static_cast<int>(count));
    for (std::size_t i = 0; i < count; ++i) {
      tuco::go([c = channels[i], &all] {
        static_cast<void>(c.recv());
        all.done();
      });
    }
    while (tuco::count_goroutines().waiting != count) tuco::yield();
    const double started = seconds_since(start);
    const figures parked = print("all parked");

    start = steady_clock::now();
    const std::size_t listed = tuco::goroutines().size();
    const double listing = seconds_since(start);
    start = steady_clock::now();
    const std::size_t counted = tuco::count_goroutines().total();
    const double counting = seconds_since(start);

    start = steady_clock::now();
    for (const auto& c : channels) c.close();
    all.wait();
    while (tuco::count_goroutines().total() != 1) tuco::yield();
    const double ended = seconds_since(start);
    const figures after = print("all ended");

    const double each =
        static_cast<double>(parked.resident + parked.tables - before.resident - before.tables) / static_cast<double>(count);
    const auto left = static_cast<double>(after.resident + after.tables) -
                      static_cast<double>(before.resident + before.tables);
    std::printf("started and parked in %.2f s; listed in %.3f s; counted in %.3f s; ended in %.2f s\n", started, listing,
                counting, ended);
    std::printf("listed=%zu\ncounted=%zu\nbytes_each=%.0f\nmappings_added=%ld\nleft_behind=%.0f\n", listed, counted,
                each, static_cast<long>(parked.mappings) - static_cast<long>(before.mappings), left);
    std::printf("guards_cost_mappings=%d\n", tuco::os::guard_install_works() ? 0 : 1);
  });
}
