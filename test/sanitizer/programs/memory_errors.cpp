// SPDX-License-Identifier: Apache-2.0
// memory_errors WAY: does something wrong with memory on a goroutine's stack, or something that is right
// and looks odd to a tool that knows threads only.
#include <alloca.h>
#include <setjmp.h>
#include <signal.h>

#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tuco/tuco.hpp>

namespace app {

using namespace std::chrono_literals;
using tuco::chan;
using tuco::go;

volatile int zero = 0;
volatile int sink;

void in_goroutine(const std::function<void()>& f) {
  tuco::wait_group one;
  one.add(1);
  go([&] { f(); one.done(); });
  one.wait();
}

[[gnu::noinline]] void overflow() {
  char small[16];
  char* volatile p = small;  // the size of what it points to is not known here
  p[16 + zero] = 1;
}

[[gnu::noinline]] int* address_of_local() {
  int local = 1;
  int* volatile p = &local;
  return p;
}

[[gnu::noinline]] void touch(volatile int* p) { sink = *p; }

struct failure {
  int code;
};

/// Frames with arrays, which AddressSanitizer surrounds with poison; parks in the innermost.
[[gnu::noinline]] void descend(int depth, const std::function<void()>& at_the_bottom) {
  char frame[100];
  std::memset(frame, depth, sizeof frame);
  asm volatile("" : : "r"(frame) : "memory");
  if (depth > 0) descend(depth - 1, at_the_bottom);
  else at_the_bottom();
  sink = frame[zero];
}

void deep_throws() {
  tuco::wait_group all;
  all.add(8);
  for (int i = 0; i < 8; ++i) {
    go([&, i] {
      for (int round = 0; round < 20; ++round) {
        try {
          descend(51, [&] { tuco::yield(); throw failure{i}; });
        } catch (const failure& f) {
          tuco::yield();
          if (f.code != i) std::abort();
        }
        descend(51, [] { tuco::yield(); });
      }
      all.done();
    });
  }
  all.wait();
}

const std::map<std::string_view, void (*)()> wrong = {
    {"stack-buffer-overflow", [] { in_goroutine(overflow); }},
    {"stack-buffer-overflow-of-main", overflow},
    {"stack-use-after-scope",
     [] {
       in_goroutine([] {
         int* volatile p = nullptr;
         {
           int inner = 1;
           p = &inner;
           touch(p);
         }
         touch(p);
       });
     }},
    {"stack-use-after-return", [] { in_goroutine([] { touch(address_of_local()); }); }},
    {"stack-of-an-ended-goroutine",
     [] {
       int* volatile p = nullptr;
       in_goroutine([&] {
         int local = 1;
         p = &local;
         touch(p);
       });
       tuco::yield();
       touch(p);
     }},
    {"heap-use-after-free",
     [] {
       auto* const p = new int(1);
       in_goroutine([=] { delete p; });
       in_goroutine([=] { touch(p); });
     }},
    {"heap-buffer-overflow", [] { in_goroutine([] { const std::vector<int> v(4); touch(const_cast<int*>(v.data()) + 4 + zero); }); }},
    {"attempting double-free", [] { auto* const p = new int(1); in_goroutine([=] { delete p; }); in_goroutine([=] { delete p; }); }},
    {"detected memory leaks", [] { in_goroutine([] { sink = *new int(1); }); }},
    {"signed integer overflow", [] { in_goroutine([] { sink = INT_MAX + (1 + zero); }); }},
};

jmp_buf back;

[[gnu::noinline]] void jump() {
  if (setjmp(back) == 0) descend(30, [] { longjmp(back, 1); });
  descend(30, [] {});
}

const std::map<std::string_view, void (*)()> right = {
    {"exceptions-over-parks", deep_throws},
    {"exceptions-and-stacks-that-are-reused", [] { for (int i = 0; i < 5; ++i) deep_throws(); }},
    {"goexit-from-deep",
     [] {
       tuco::wait_group all;
       all.add(50);
       for (int i = 0; i < 50; ++i) {
         go([&] {
           struct at_end {
             tuco::wait_group& all;
             ~at_end() { all.done(); }
           } const end{all};
           descend(30, [] { tuco::yield(); tuco::goexit(); });
         });
       }
       all.wait();
       in_goroutine([] { descend(51, [] {}); });
     }},
    {"longjmp",
     [] {
       in_goroutine([] {
         for (int i = 0; i < 20; ++i) jump();
       });
     }},
    {"alloca",
     [] {
       in_goroutine([] {
         for (std::size_t n = 1; n < 2000; n += 100) {
           auto* const p = static_cast<char*>(alloca(n));
           std::memset(p, 1, n);
           tuco::yield();
           sink = p[n - 1];
         }
       });
     }},
    {"goroutines-left-behind",
     [] {
       const chan<int> never(0);
       for (int i = 0; i < 20; ++i) {
         go([never, held = std::make_unique<int>(i)] {
           const std::string on_the_stack(100, 'x');
           std::vector<std::unique_ptr<int>> more;
           more.push_back(std::make_unique<int>(1));
           (void)never.recv();
           sink = *held;
         });
       }
       tuco::yield();
       go([held = std::make_unique<int>(1)] { sink = *held; });  // never begins, perhaps
     }},
    {"goroutines-left-in-everything",
     [] {
       static tuco::mutex locked;
       locked.lock();
       const tuco::timer t(1h);
       auto ends = tuco::unix_conn::pair();
       go([] { auto p = std::make_unique<int>(1); tuco::sleep_for(1h); });
       go([t] { auto p = std::make_unique<int>(1); (void)t.channel().recv(); });
       go([] { auto p = std::make_unique<int>(1); locked.lock(); });
       go([c = std::move(ends.first)]() mutable { char b = 0; auto p = std::make_unique<int>(1); (void)c.read_full({&b, 1}); });
       go([c = chan<int>(0), d = chan<int>(0)] { auto p = std::make_unique<int>(1); tuco::select(tuco::on_recv(c), tuco::on_recv(d)); });
       for (int i = 0; i < 5; ++i) tuco::yield();
     }},
    {"signals",
     [] {
       ::signal(SIGUSR1, [](int) { descend(10, [] {}); });
       in_goroutine([] { descend(20, [] { ::raise(SIGUSR1); }); });
     }},
    {"many",
     [] {
       tuco::wait_group all;
       all.add(3000);
       for (int i = 0; i < 3000; ++i) go([&] { descend(5, [] { tuco::yield(); }); all.done(); });
       all.wait();
     }},
};

}  // namespace app

int main(int argc, char** argv) {
  const std::string_view how = argc > 1 ? argv[1] : "";
  if (how == "run-again") {
    for (int i = 0; i < 3; ++i) tuco::run([] { app::deep_throws(); }, {.procs = 2});
    return 0;
  }
  if (how == "exit-in-a-goroutine") {
    return tuco::run([] { app::in_goroutine([] { app::descend(10, [] { std::exit(0); }); }); });
  }
  for (const auto* ways : {&app::wrong, &app::right}) {
    if (const auto way = ways->find(how); way != ways->end()) return tuco::run([&] { way->second(); }, {.procs = 2});
  }
  std::fprintf(stderr, "memory_errors: unknown way '%s'\n", argc > 1 ? argv[1] : "");
  return 64;
}
