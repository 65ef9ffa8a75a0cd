// SPDX-License-Identifier: Apache-2.0
// leave HOW [PROCS]: ends in the middle of everything that goroutines and threads can be doing, with status 0.
//
//     return       the main goroutine returns from run()
//     exit         a goroutine calls exit()
//     exit-main    the main goroutine does
//     exit-thread  a thread of the program's own does
//     threads      main() returns while threads of the program's own call go() and use channels
//
// Everybody counts what he does. Static objects that are destroyed look whether somebody still does it, and
// whether the scheduler has got rid of its workers or given up on them.
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string_view>
#include <thread>

#include <tuco/tuco.hpp>

#include "sched/scheduler.hpp"

using namespace std::chrono_literals;

namespace app {

std::atomic<unsigned long> done{0};
int workers_left = 0;        ///< how many the end of the run leaves: the one that calls exit()
bool late_ones_too = true;   ///< whether objects that goroutines have constructed outlive the run

void nap(long ns) {
  const timespec little{0, ns};
  ::nanosleep(&little, nullptr);
}

[[noreturn]] void complain(const char* who, const char* what) {
  std::fprintf(stderr, "%s: %s\n", who, what);
  ::_exit(3);
}

/// Must outlive everybody who uses it.
struct witness {
  witness(const char* text, bool is_late) : name(text), late(is_late) {}
  ~witness() {
    if (late && !late_ones_too) return;
    const tuco::sched::scheduler& s = tuco::sched::the_scheduler;
    if (s.worker_count != workers_left) complain(name, "the run has not ended");
    const unsigned long before = done;
    nap(1'000'000);
    // Who was outside comes to his next call of the runtime, and no further.
    const auto last_steps = static_cast<unsigned long>(2 * s.other_threads);
    if (done > before + last_steps) complain(name, "somebody goes on while static objects are destroyed");
  }
  const char* name;
  bool late;
};
const witness before_main("an object from before main()", false);

/// Destroyed by its thread, which is before any static object.
struct of_a_thread {
  of_a_thread() { ++done; }
  ~of_a_thread() {
    nap(100'000);
    ++done;
  }
  int uses = 0;
};

void use_thread_local() {
  static thread_local of_a_thread mine;
  ++mine.uses;
}

void start_all() {
  using tuco::go;
  // Constructed in a goroutine, so destroyed before all that is older.
  go([] {
    static const witness late("an object from within the run", true);
    for (;;) {
      ++done;
      tuco::yield();
    }
  });
  const tuco::chan<int> values(3);
  for (int i = 0; i < 2; ++i) {
    go([=] {
      for (;;) {
        values.send(1);
        ++done;
      }
    });
    go([=] {
      for (;;) {
        static_cast<void>(values.recv());
        ++done;
      }
    });
  }
  go([] {
    for (;;) {
      tuco::sleep_for(20us);
      use_thread_local();
      ++done;
    }
  });
  for (int i = 0; i < 3; ++i) {
    go([i] {
      for (;;) {
        nap(30'000 + 10'000 * i);  // in the kernel, without a word to the runtime
        tuco::yield();
        use_thread_local();
        ++done;
      }
    });
  }
  go([] {
    tuco::lock_thread();
    for (;;) {
      tuco::yield();
      ++done;
    }
  });
  go([] {
    for (;;) {
      tuco::go([] {
        tuco::lock_thread();  // the thread ends with it
        use_thread_local();
        ++done;
      });
      tuco::sleep_for(100us);
    }
  });
  go([] {
    auto [near, far] = tuco::unix_conn::pair();
    char byte = 'x';
    for (;;) {
      near.write({&byte, 1});
      static_cast<void>(far.read_full({&byte, 1}));
      ++done;
    }
  });
}

void busy_for(std::chrono::microseconds time) {
  const auto until = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < until) tuco::yield();
}

std::chrono::microseconds some_time() { return std::chrono::microseconds(::getpid() % 16 * 100); }

int leave_by_return() {
  return tuco::run([] {
    start_all();
    busy_for(some_time());
  });
}

int leave_by_exit() {
  workers_left = 1;
  tuco::run([] {
    start_all();
    tuco::go([] {
      busy_for(some_time());
      std::exit(0);
    });
    tuco::select();
  });
  return 4;
}

int leave_by_exit_of_main() {
  workers_left = 1;
  tuco::run([] {
    start_all();
    busy_for(some_time());
    std::exit(0);
  });
  return 4;
}

int leave_by_exit_of_thread() {
  late_ones_too = false;
  tuco::run([] {
    start_all();
    std::thread([] {
      std::this_thread::sleep_for(some_time());
      std::exit(0);
    }).detach();
    tuco::select();
  });
  return 4;
}

void* keep_going(void*) {
  const tuco::chan<int> values(1);
  for (;;) {
    try {
      tuco::go([] {});
    } catch (const std::logic_error&) {  // before the run, or after it
    }
    static_cast<void>(values.try_send(1));
    int value = 0;
    static_cast<void>(values.try_recv(value));
  }
  return nullptr;
}

int leave_beside_threads() {
  for (int i = 0; i < 2; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, keep_going, nullptr) != 0) return 5;
    pthread_detach(thread);
  }
  return tuco::run([] {
    start_all();
    busy_for(some_time());
  });
}

const std::map<std::string_view, int (*)()> ways{
    {"return", leave_by_return},
    {"exit", leave_by_exit},
    {"exit-main", leave_by_exit_of_main},
    {"exit-thread", leave_by_exit_of_thread},
    {"threads", leave_beside_threads},
};

}  // namespace app

int main(int argc, char** argv) {
  const auto way = app::ways.find(argc > 1 ? argv[1] : "");
  if (way == app::ways.end()) return 64;
  return way->second();
}
