// SPDX-License-Identifier: Apache-2.0
// Scenarios of the scheduler: threads, stacks, records, timers, dumps.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <tuco/chan.hpp>
#include <tuco/condition_variable.hpp>
#include <tuco/goroutines.hpp>
#include <tuco/mutex.hpp>
#include <tuco/run.hpp>
#include <tuco/select.hpp>
#include <tuco/time.hpp>
#include <tuco/unix.hpp>

#include "fault/child.hpp"
#include "fault/scenarios.hpp"
#include "os/epoll.hpp"
#include "sched/scheduler.hpp"

namespace tuco::test {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

/// A pipe of the program's own, of which the runtime knows nothing.
struct raw_pipe {
  int end[2] = {-1, -1};
  raw_pipe() {
    if (::pipe(end) != 0) end[0] = end[1] = -1;
  }
  ~raw_pipe() {
    ::close(end[0]);
    ::close(end[1]);
  }
  raw_pipe(const raw_pipe&) = delete;
  raw_pipe& operator=(const raw_pipe&) = delete;
};

}  // namespace

void play_start_stop(witness& w) {
  for (int procs : {1, 2, 3}) {
    int ran = 0;
    const bool started = run_watched(w, procs, [&] {
      tuco::yield();
      ++ran;
    });
    w.require(ran == (started ? 1 : 0), "run() runs its function once");
  }
}

// More goroutines at once than an arena of stacks or a slab of records holds, of several sizes; then
// all end, and what they held goes back.
void play_spawn(witness& w) {
  run_watched(w, 2, [&] {
    chan<int> gate(0);
    troupe all(w);
    std::atomic<int> passed{0};
    int started = 0;
    const auto wait_at_gate = [&, gate] {
      w.require(!gate.recv().has_value(), "nobody sends through the gate");
      passed.fetch_add(1);
    };
    for (int i = 0; i < 700; ++i) started += all.go(wait_at_gate);
    for (int i = 0; i < 20; ++i) started += all.go(wait_at_gate, {.stack_size = 1 << 20});
    for (int i = 0; i < 20; ++i) started += all.go(wait_at_gate, {.name = "small", .stack_size = 16 << 10});
    for (int i = 0; i < 3; ++i) tuco::yield();
    gate.close();
    all.wait();
    w.require(passed.load() == started, "each goroutine that was started has run");
  });
}

// Raw blocking calls and a hog hold no processor: the others get on.
void play_blocking(witness& w) {
  run_watched(w, 2, [&] {
    constexpr int blocked = 4;
    raw_pipe pipes[blocked];
    std::atomic<bool> stop{false};
    troupe all(w);
    std::vector<int> reading;
    for (int i = 0; i < blocked; ++i) {
      const bool started = all.go([&, file = pipes[i].end[0]] {
        char byte = 0;
        while (::read(file, &byte, 1) < 0 && errno == EINTR) {
        }
      });
      if (started) reading.push_back(i);
    }
    all.go([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
    for (int i = 0; i < 20; ++i) tuco::yield();
    sleep_for(200us);
    for (const int i : reading) w.require(::write(pipes[i].end[1], "x", 1) == 1, "the pipe takes a byte");
    stop = true;
    all.wait();
  });
}

void play_timers(witness& w) {
  run_watched(w, 2, [&] {
    troupe all(w);
    for (int i = 0; i < 30; ++i) {
      all.go([&w, d = 100us * (1 + i % 15)] {
        const auto before = clock::now();
        sleep_for(d);
        w.require(clock::now() - before >= d, "a sleep is never early");
      });
    }
    // A timer that comes while the last idle worker sleeps until a later one.
    all.go([&] {
      const auto late = after(3ms);
      sleep_for(300us);
      w.require(select(on_recv(late), on_timeout(300us)) < 2, "a select ends");
      timer t(1h);
      w.require(t.reset(200us), "a pending timer says so");
      w.require(t.channel().recv().has_value(), "a timer sends the time");
      w.require(!t.stop(), "a timer that was received is over");
    });
    all.wait();
  });
}

// Threads that are not the runtime's block on futexes; here and in the runtime.
void play_plain_threads(witness& w) {
  const auto talk = [&w](chan<int> there, chan<int> back) {
    for (int i = 0; i < 50; ++i) {
      there.send(int{i});
      w.require(back.recv() == i + 1, "the answer comes back");
    }
    there.close();
    w.require(!back.recv().has_value(), "the other side closes, too");
  };
  const auto answer = [](chan<int> there, chan<int> back) {
    while (auto value = there.recv()) back.send(*value + 1);
    back.close();
  };
  // Between threads, without a runtime.
  {
    chan<int> there(0), back(1);
    std::thread other([&] { answer(there, back); });
    talk(there, back);
    other.join();
  }
  run_watched(w, 2, [&] {
    chan<int> there(1), back(0);
    mutex m;
    condition_variable changed;
    int count = 0;
    std::thread other([&] {
      talk(there, back);
      std::optional<int> none;
      w.require(chan<int>(0).recv_for(none, 300us) == chan_status::timed_out, "a timed receive ends");
      sleep_for(100us);
      for (int i = 0; i < 50; ++i) {
        const std::scoped_lock lock(m);
        ++count;
        changed.notify_one();
      }
    });
    answer(there, back);
    {
      std::unique_lock lock(m);
      changed.wait(lock, [&] { return count == 50; });
    }
    other.join();
  });
}

void play_locked(witness& w) {
  run_watched(w, 2, [&] {
    chan<int> values(0);
    troupe all(w);
    const bool receives = all.go([&] {
      lock_thread();
      const auto self = std::this_thread::get_id();
      while (values.recv()) w.require(std::this_thread::get_id() == self, "a locked goroutine keeps its thread");
      // Ends locked: so does the thread.
    });
    if (receives) {
      for (int i = 0; i < 10; ++i) values.send(int{i});
    }
    values.close();
    all.wait();
  });
}

void play_dump(witness& w) {
  const std::size_t before = own_text().size();
  run_watched(w, 2, [&] {
    chan<int> gate(0);
    troupe all(w);
    std::atomic<bool> stop{false};
    std::atomic<bool> spins{false};
    const bool waits = all.go([&] { (void)gate.recv(); });
    const bool hogs = all.go([&] {
      spins = true;
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
    while (hogs && !spins) tuco::yield();
    w.require(goroutines().size() >= std::size_t{1} + waits + hogs, "every goroutine is listed");
    const std::string text = format_goroutines();
    const std::string own = "goroutine " + std::to_string(this_goroutine::id()) + " [";
    w.require(text.find(own) != std::string::npos, "the dump shows who asks for it");
    if (sched::the_scheduler.other_threads.load() != 0) {  // else the signal would end the program
      ::kill(::getpid(), SIGQUIT);
      while (own_text().find("SIGQUIT: quit", before) == std::string::npos && !w.hit()) sleep_for(50us);
    }
    stop = true;
    gate.close();
    all.wait();
  });
}

void play_deadlock(witness& w) {
  run_watched(w, 2, [] { (void)chan<int>(0).recv(); });
}

// How many processors: the affinity mask, the cgroup's quota; and changes of the number.
void play_settings(witness& w) {
  run_watched(w, 0, [&] {
    w.require(procs() >= 1, "there is a processor");
    troupe all(w);
    for (int n : {1, 4, 2, 3, 1}) {
      set_procs(n);
      w.require(procs() == n, "set_procs sets");
      for (int i = 0; i < 10; ++i) all.go([] { tuco::yield(); });
      tuco::yield();
    }
    all.wait();
  });
}

// What was new when the runtime was written is refused from the start: guards are mapped, fences are full,
// the poller counts in milliseconds.
void play_old_kernel(witness& w) {
  ::setenv("TUCO_DEBUG", "noguardinstall=1,nomembarrier=1,notsc=1", 1);
  os::allow_pwait2(false);
  play_spawn(w);
  play_blocking(w);
  play_timers(w);
}

}  // namespace tuco::test
