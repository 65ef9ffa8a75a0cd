// SPDX-License-Identifier: Apache-2.0
// The ceiling of the benchmarks of yield and spawn: stackful contexts on one thread with a ring of
// pointers, and nothing else. No record of who exists, no wait reason, no thieves, no timers, no growth of
// the ring, no guard pages. The distance to it is the price of being a runtime.
//
//   ceiling --list             the names
//   ceiling NAME [SECONDS]     prints `ns <time of one item>`
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include <sys/mman.h>

#include "arch/context.hpp"

namespace {

using tuco::arch::context;

constexpr std::size_t stack_bytes = 64 * 1024;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "ceiling: %s\n", what);
  std::exit(1);
}

struct fiber {
  context saved;
  std::uintptr_t stack_top = 0;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
};

/// First in, first out; never full here.
struct ring {
  static constexpr std::size_t size = std::size_t{1} << 17;
  std::vector<fiber*> slots = std::vector<fiber*>(size);
  std::size_t head = 0, tail = 0;
  void push(fiber* f) { slots[tail++ % size] = f; }
  fiber* pop() { return head == tail ? nullptr : slots[head++ % size]; }
};

ring runnable;
std::vector<fiber*> unused;
fiber main_fiber;
fiber* current = &main_fiber;

// Opaque to interprocedural analysis: others run before it returns, which no compiler sees in it.
#if defined(__clang__)
[[gnu::noinline]]
#else
[[gnu::noinline, gnu::noipa]]
#endif
void switch_to(fiber* next) {
  fiber* const before = current;
  current = next;
  tuco::arch::switch_context(before->saved, next->saved);
}

void yield() {
  runnable.push(current);
  switch_to(runnable.pop());
}

/// Somebody else is always there: the one that waits for the end stays in the ring.
void entry() {
  current->body(current->argument);
  unused.push_back(current);
  switch_to(runnable.pop());
}

void spawn(void (*body)(void*), void* argument) {
  if (unused.empty()) {
    void* memory = ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for a stack");
    auto* made = new fiber;
    // Tops at different places of their pages: a thousand stacks would share one set of the cache.
    made->stack_top = reinterpret_cast<std::uintptr_t>(memory) + stack_bytes -
                      reinterpret_cast<std::uintptr_t>(memory) / stack_bytes % 16 * 128;
    unused.push_back(made);
  }
  fiber* const f = unused.back();
  unused.pop_back();
  f->body = body;
  f->argument = argument;
  tuco::arch::make_context(f->saved, f->stack_top, &entry);
  runnable.push(f);
}

struct turns {
  std::int64_t each, count = 0;
  int* running;
};

void take_turns(std::int64_t fibers) {
  constexpr std::int64_t total = 1'000'000;
  int running = static_cast<int>(fibers);
  std::vector<turns> all(static_cast<std::size_t>(fibers), turns{total / fibers, 0, &running});
  for (turns& t : all) {
    spawn(
        [](void* p) {
          auto& mine = *static_cast<turns*>(p);
          for (std::int64_t i = 0; i < mine.each; ++i) {
            yield();
            ++mine.count;
          }
          if (--*mine.running == 0) runnable.push(&main_fiber);
        },
        &t);
  }
  switch_to(runnable.pop());  // not in the ring until the last one is done: it takes no turn of its own
  std::int64_t sum = 0;
  for (const turns& t : all) sum += t.count;
  if (sum != total / fibers * fibers) fail("yields are missing");
}

void spawn_and_join(std::size_t count) {
  static std::vector<std::uint32_t> slots;
  static std::uint32_t round = 0;
  static std::size_t left;
  slots.resize(count);
  left = count;
  ++round;
  for (std::uint32_t& slot : slots) {
    spawn(
        [](void* p) {
          *static_cast<std::uint32_t*>(p) = round;
          --left;
        },
        &slot);
  }
  while (left != 0) yield();
  for (const std::uint32_t slot : slots) {
    if (slot != round) fail("a fiber is missing");
  }
}

struct benchmark {
  std::string_view name;
  std::int64_t items;
  std::function<void()> run;
};

}  // namespace

int main(int argc, char** argv) {
  const benchmark all[] = {
      {"yield/2", 1'000'000, [] { take_turns(2); }},
      {"yield/1000", 1'000'000, [] { take_turns(1'000); }},
      {"spawn/batch", 1'000, [] { spawn_and_join(1'000); }},
      {"spawn/at_once", 100'000, [] { spawn_and_join(100'000); }},
      {"spawn/one", 1, [] { spawn_and_join(1); }},
  };
  if (argc < 2) fail("usage: ceiling NAME [SECONDS]; --list names them");
  const std::string_view wanted = argv[1];
  if (wanted == "--list") {
    for (const benchmark& b : all) std::printf("%s\n", b.name.data());
    return 0;
  }
  const std::chrono::duration<double> length(argc > 2 ? std::atof(argv[2]) : 0.3);
  for (const benchmark& b : all) {
    if (b.name != wanted) continue;
    b.run();
    std::int64_t rounds = 0;
    const auto begin = std::chrono::steady_clock::now();
    auto now = begin;
    for (std::int64_t batch = 1; now - begin < length; batch *= 2) {
      for (std::int64_t i = 0; i < batch; ++i) b.run();
      rounds += batch;
      now = std::chrono::steady_clock::now();
    }
    std::printf("ns %.4f\n", std::chrono::duration<double, std::nano>(now - begin).count() /
                                 static_cast<double>(rounds * b.items));
    return 0;
  }
  fail("no benchmark of that name");
}
