// SPDX-License-Identifier: Apache-2.0
// die HOW: ends in one of the ways that the runtime has words for. Goroutine 1 is the main one; the
// culprit, where it is another, is called "culprit", and a bystander waits in a channel.
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>

#include <tuco/tuco.hpp>

using namespace std::chrono_literals;

namespace app {

volatile int zero = 0;
volatile int sink;
std::atomic<bool> crash_in_malloc{false};
pthread_mutex_t allocator_lock = PTHREAD_MUTEX_INITIALIZER;

struct custom_error {
  int code;
};

[[gnu::noinline]] void innermost(const std::function<void()>& how) {
  how();
  sink = sink + 1;
}

/// Somebody to look at in dumps of all.
void start_bystander(const tuco::chan<int>& never) {
  const auto id = tuco::go({.name = "bystander"}, [=] { (void)never.recv(); });
  for (;;) {
    for (const auto& g : tuco::goroutines()) {
      if (g.id == id && g.status == tuco::goroutine_status::waiting) return;
    }
    tuco::yield();
  }
}

/// In a goroutine of its own, while main waits.
void in_goroutine(std::function<void()> how) {
  const tuco::chan<int> never(0);
  start_bystander(never);
  tuco::go({.name = "culprit"}, [how = std::move(how)] { innermost(how); });
  (void)never.recv();
}

[[gnu::noinline]] int recurse(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  if (depth == INT_MAX) return 0;
  return recurse(depth + 1) + frame[0];
}

[[gnu::noinline]] void fail() { throw std::logic_error("through a noexcept function"); }

[[gnu::noinline]] void dereference(volatile int* p) { *p = 1; }

void deadlock() {
  const tuco::chan<int> never(0);
  start_bystander(never);
  (void)never.recv();
}

void deadlock_with_idle_poller() {
  // Descriptors are registered, and nobody waits on any.
  auto listener = tuco::tcp_listener::listen("127.0.0.1:0");
  auto ends = tuco::unix_conn::pair();
  deadlock();
}

void deadlock_with_stopped_timers() {
  tuco::timer a(1h);
  tuco::timer b(2h);
  tuco::sleep_for(1ms);
  a.stop();
  b.stop();
  deadlock();
}

void fork_and_call(void (*call)()) {
  const pid_t child = ::fork();
  if (child == 0) {
    call();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  // As the child ended, so do we, through no report of ours.
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

void exhaust_threads() {
  static int ends[2];
  if (::pipe(ends) != 0) return;
  for (int i = 0; i < 16; ++i) {
    tuco::go([] {
      char byte;
      sink = static_cast<int>(::read(ends[0], &byte, 1));
    });
  }
  tuco::sleep_for(1h);
}

const std::map<std::string_view, std::function<void()>> ways{
    {"return", [] {}},
    {"deadlock", deadlock},
    {"deadlock-poller", deadlock_with_idle_poller},
    {"deadlock-timers", deadlock_with_stopped_timers},
    {"goexit",
     [] {
       tuco::go({.name = "bystander"}, [] { (void)tuco::chan<int>(0).recv(); });
       tuco::goexit();
     }},
    {"panic", [] { in_goroutine([] { throw std::runtime_error("no such file"); }); }},
    {"panic-main", [] { throw std::runtime_error("no such file"); }},
    {"panic-int", [] { in_goroutine([] { throw 42; }); }},
    {"panic-text", [] { in_goroutine([] { throw "some text"; }); }},
    {"panic-custom", [] { in_goroutine([] { throw custom_error{1}; }); }},
    {"panic-noexcept", [] { in_goroutine([]() noexcept { fail(); }); }},
    {"panic-small-stack",
     [] {
       const tuco::chan<int> never(0);
       tuco::go({.name = "culprit", .stack_size = 16 * 1024}, [] { throw std::runtime_error("on 16 KiB"); });
       (void)never.recv();
     }},
    {"terminate", [] { in_goroutine([] { std::terminate(); }); }},
    {"go-nil", [] { in_goroutine([] { tuco::go(std::function<void()>()); }); }},
    {"go-nil-pointer", [] { in_goroutine([] { tuco::go(static_cast<void (*)()>(nullptr)); }); }},
    {"unlock", [] { in_goroutine([] { tuco::mutex().unlock(); }); }},
    {"unlock-small-stack",
     [] {
       const tuco::chan<int> never(0);
       tuco::go({.name = "culprit", .stack_size = 16 * 1024}, [] { tuco::mutex().unlock(); });
       (void)never.recv();
     }},
    {"negative", [] { in_goroutine([] { tuco::wait_group().done(); }); }},
    {"send-closed",
     [] {
       in_goroutine([] {
         tuco::chan<int> c(1);
         c.close();
         c.send(1);
       });
     }},
    {"close-closed",
     [] {
       in_goroutine([] {
         tuco::chan<int> c(1);
         c.close();
         c.close();
       });
     }},
    {"close-nil", [] { in_goroutine([] { tuco::chan<int>().close(); }); }},
    {"overflow", [] { in_goroutine([] { sink = recurse(0); }); }},
    {"overflow-small",
     [] {
       const tuco::chan<int> never(0);
       tuco::go({.name = "culprit", .stack_size = 16 * 1024}, [] { sink = recurse(0); });
       (void)never.recv();
     }},
    {"threads", exhaust_threads},
    {"fork", [] { fork_and_call([] { tuco::yield(); }); }},
    {"fork-stream", [] { fork_and_call([] { tuco::chan<int>(1).send(1); }); }},
    {"null", [] { in_goroutine([] { dereference(nullptr); }); }},
    {"wild", [] { in_goroutine([] { dereference(reinterpret_cast<volatile int*>(0x5000'0000'0000)); }); }},
    {"null-call", [] { in_goroutine([] { reinterpret_cast<void (*)()>(zero)(); }); }},
    {"divide", [] { in_goroutine([] { sink = 1000 / zero; }); }},
    {"illegal", [] { in_goroutine([] { __builtin_trap(); }); }},
    {"abort", [] { in_goroutine([] { std::abort(); }); }},
    {"in-malloc",
     [] {
       in_goroutine([] {
         crash_in_malloc.store(true);
         void* volatile kept = std::malloc(10);  // a pair that nobody looks at would be optimized away
         std::free(kept);
       });
     }},
    {"null-plain-thread",
     [] {
       pthread_t thread;
       pthread_create(&thread, nullptr,
                      [](void*) -> void* {
                        dereference(nullptr);
                        return nullptr;
                      },
                      nullptr);
       pthread_join(thread, nullptr);
     }},
};

}  // namespace app

// Everybody's allocator; the way "in-malloc" faults in it, with its lock held.
extern "C" void* malloc(std::size_t size) {
  using function = void* (*)(std::size_t);
  static const auto next = reinterpret_cast<function>(dlsym(RTLD_NEXT, "malloc"));
  pthread_mutex_lock(&app::allocator_lock);
  if (app::crash_in_malloc.load(std::memory_order_relaxed)) app::dereference(nullptr);
  void* const result = next(size);
  pthread_mutex_unlock(&app::allocator_lock);
  return result;
}

int main(int argc, char** argv) {
  const std::string_view how = argc > 1 ? argv[1] : "";
  const auto way = app::ways.find(how);
  if (way == app::ways.end()) {
    std::fprintf(stderr, "die: unknown way '%s'\n", argc > 1 ? argv[1] : "");
    return 64;
  }
  tuco::run_options options;
  options.procs = 2;
  if (how == "threads") options.max_threads = 8;
  return tuco::run([&] { way->second(); }, options);
}
