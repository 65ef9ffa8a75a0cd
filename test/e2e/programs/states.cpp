// SPDX-License-Identifier: Apache-2.0
// One goroutine in every state that a goroutine can be in, named after it; then stands still.
//
// "ready" on standard output when all are where they belong, before it a line "ID THREAD NAME" for
// each. SIGUSR1 lets it go on to its end, status 0. With the argument "wedged" the main goroutine holds
// the scheduler's lock meanwhile; with "handler" the program handles SIGQUIT itself.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string_view>

#include <tuco/tuco.hpp>

#include "base/tick_clock.hpp"
#include "sched/park.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

using namespace std::chrono_literals;

namespace app {

std::atomic<bool> go_on{false};
std::atomic<int> spinning{0};
volatile unsigned sink;

tuco::mutex held;
tuco::mutex condition_lock;
tuco::condition_variable condition;
tuco::wait_group group;
tuco::once only_once;

// The frames that the tests look for; each does something after its call, so that none is a tail call.
[[gnu::noinline]] void innermost(const std::function<void()>& wait) {
  wait();
  sink = sink + 1;
}
[[gnu::noinline]] void middle(const std::function<void()>& wait) {
  innermost(wait);
  sink = sink + 1;
}

tuco::goroutine_id start(std::string_view name, std::function<void()> wait) {
  return tuco::go({.name = name}, [wait = std::move(wait)] { middle(wait); });
}

template <class Condition>
void await(Condition condition, const char* what) {
  const auto limit = std::chrono::steady_clock::now() + 1min;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) {
      std::fprintf(stderr, "states: waited in vain for %s\n", what);
      std::_Exit(3);
    }
    tuco::yield();
  }
}

void await_status(tuco::goroutine_id id, tuco::goroutine_status status, tuco::wait_reason reason = {}) {
  await(
      [&] {
        for (const auto& g : tuco::goroutines()) {
          if (g.id == id) return g.status == status && (reason == tuco::wait_reason::none || g.reason == reason);
        }
        return false;
      },
      to_string(reason).data());
}

tuco::goroutine_id start_waiting(std::string_view name, tuco::wait_reason reason, std::function<void()> wait) {
  const auto id = start(name, std::move(wait));
  await_status(id, tuco::goroutine_status::waiting, reason);
  return id;
}

[[gnu::noinline]] void compute() {
  spinning.fetch_add(1);
  unsigned x = 1;
  while (!go_on.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 1000; ++i) x = x * 1664525U + 1013904223U;
  }
  sink = x;
}

/// The test's clock: as if it had parked so much earlier.
void make_older(tuco::goroutine_id id, std::chrono::nanoseconds by) {
  const tuco::base::tick_scale scale;
  const tuco::task::registry::reading section(tuco::task::the_registry());
  tuco::task::goroutine* g = tuco::task::the_registry().find(id);
  g->wait_since.store(g->wait_since.load() - scale.span_ticks(by.count()));
}

void stand_still(bool wedged) {
  // Inside the runtime nobody takes the processor away: what is runnable stays runnable.
  const tuco::sched::runtime_section section;
  if (wedged) tuco::sched::the_scheduler.lock.lock();
  for (const auto& g : tuco::goroutines()) {
    std::printf("%llu %d %s\n", static_cast<unsigned long long>(g.id), g.thread, g.name.c_str());
  }
  std::puts("ready");
  std::fflush(stdout);
  while (!go_on.load()) ::usleep(1000);
  if (wedged) tuco::sched::the_scheduler.lock.unlock();
}

int run_all(bool wedged) {
  using enum tuco::wait_reason;
  static tuco::chan<int> never(0), full(1), nil;
  full.send(1);
  start_waiting("chan receive", chan_receive, [] { (void)never.recv(); });
  const auto old = start_waiting("chan receive, 3 minutes", chan_receive, [] { (void)never.recv(); });
  make_older(old, 3min + 20s);
  start_waiting("chan send", chan_send, [] { full.send(2); });
  start_waiting("nil receive", chan_receive_nil, [] { (void)nil.recv(); });
  start_waiting("nil send", chan_send_nil, [] { nil.send(1); });
  start_waiting("select", tuco::wait_reason::select,
                [] { tuco::select(tuco::on_recv(never, [](auto) {}), tuco::on_send(full, 3)); });
  start_waiting("select nothing", select_no_cases, [] { tuco::select(); });
  start_waiting("sleep", sleep, [] { tuco::sleep_for(1h); });
  held.lock();
  start_waiting("mutex", mutex_lock, [] { std::scoped_lock lock(held); });
  start_waiting("condition", cond_wait, [] {
    std::unique_lock lock(condition_lock);
    condition.wait(lock);
  });
  group.add();
  start_waiting("wait group", wait_group_wait, [] { group.wait(); });
  start_waiting("once holder", chan_receive, [] { only_once.call([] { (void)never.recv(); }); });
  start_waiting("once", once_wait, [] { only_once.call([] {}); });
  static tuco::shared_mutex shared, written;
  shared.lock_shared();
  start_waiting("writer", shared_mutex_lock, [] { shared.lock(); });
  written.lock();
  start_waiting("reader", shared_mutex_rlock, [] { written.lock_shared(); });
  static tuco::semaphore units(4);
  units.acquire(3);
  start_waiting("semaphore", semaphore_acquire, [] { units.acquire(2); });
  static tuco::latch door(2);
  start_waiting("latch", latch_wait, [] { door.wait(); });
  static tuco::barrier meeting(3);
  start_waiting("barrier", barrier_wait, [] { meeting.arrive_and_wait(); });
  static auto listener = tuco::tcp_listener::listen("127.0.0.1:0");
  start_waiting("accept", io_wait, [] { listener.accept(); });
  start_waiting("second accept", semacquire, [] { listener.accept(); });
  start_waiting("locked", chan_receive, [] {
    tuco::lock_thread();
    (void)never.recv();
  });
  static int ends[2];
  if (::pipe(ends) != 0) return 3;
  const auto in_kernel = start("syscall", [] {
    char byte;
    sink = sink + static_cast<unsigned>(::read(ends[0], &byte, 1));
  });
  await_status(in_kernel, tuco::goroutine_status::syscall);
  start("running", [] { compute(); });
  await([] { return spinning.load() == 1; }, "the computation to run");
  start("runnable", [] {
    while (!go_on.load()) tuco::yield();
  });
  tuco::yield();
  start("fresh", [] { sink = sink + 1; });
  stand_still(wedged);
  return 0;
}

}  // namespace app

int main(int argc, char** argv) {
  const std::string_view how = argc > 1 ? argv[1] : "";
  signal(SIGUSR1, [](int) { app::go_on.store(true); });
  if (how == "handler") {
    signal(SIGQUIT, [](int) {
      constexpr std::string_view text = "the program's own handler\n";
      app::sink = app::sink + static_cast<unsigned>(::write(2, text.data(), text.size()));
    });
  }
  return tuco::run([&] { return app::run_all(how == "wedged"); }, {.procs = 1});
}
