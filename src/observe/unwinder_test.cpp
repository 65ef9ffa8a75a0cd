// SPDX-License-Identifier: Apache-2.0
// unwinder_test.cpp - known stacks come out whole; on ordinary ones the walk agrees with glibc's
// backtrace(); whatever the stack holds, a walk ends inside its bounds.
#include "observe/unwinder.hpp"

#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "observe/cfi_table.hpp"
#include "observe/test_stack.hpp"

// Ends in a call that does not return: its return address is the next function's first byte.
extern "C" [[gnu::visibility("hidden")]] void tuco_test_ends_in_call(void (*fn)());
// Its first instruction traps; the function before it has another frame.
extern "C" [[gnu::visibility("hidden")]] void tuco_test_traps_at_once();
#if defined(__x86_64__)
asm(R"(
  .text
  .type tuco_test_ends_in_call, @function
tuco_test_ends_in_call:
  .cfi_startproc
  sub $24, %rsp
  .cfi_def_cfa_offset 32
  call *%rdi
  .cfi_endproc
  .size tuco_test_ends_in_call, . - tuco_test_ends_in_call
  .type tuco_test_after_call, @function
tuco_test_after_call:
  .cfi_startproc
  ret
  .cfi_endproc
  .size tuco_test_after_call, . - tuco_test_after_call
  .type tuco_test_before_trap, @function
tuco_test_before_trap:
  .cfi_startproc
  .cfi_def_cfa_offset 64
  nop
  .cfi_endproc
  .size tuco_test_before_trap, . - tuco_test_before_trap
  .type tuco_test_traps_at_once, @function
tuco_test_traps_at_once:
  .cfi_startproc
  ud2
  .cfi_endproc
  .size tuco_test_traps_at_once, . - tuco_test_traps_at_once
)");
#else
asm(R"(
  .text
  .type tuco_test_ends_in_call, %function
tuco_test_ends_in_call:
  .cfi_startproc
  str x30, [sp, #-32]!
  .cfi_def_cfa_offset 32
  .cfi_offset x30, -32
  blr x0
  .cfi_endproc
  .size tuco_test_ends_in_call, . - tuco_test_ends_in_call
  .type tuco_test_after_call, %function
tuco_test_after_call:
  .cfi_startproc
  ret
  .cfi_endproc
  .size tuco_test_after_call, . - tuco_test_after_call
  .type tuco_test_before_trap, %function
tuco_test_before_trap:
  .cfi_startproc
  .cfi_def_cfa_offset 64
  nop
  .cfi_endproc
  .size tuco_test_before_trap, . - tuco_test_before_trap
  .type tuco_test_traps_at_once, %function
tuco_test_traps_at_once:
  .cfi_startproc
  .inst 0
  .cfi_endproc
  .size tuco_test_traps_at_once, . - tuco_test_traps_at_once
)");
#endif

namespace tuco::inline v1::observe {
namespace {

constexpr std::size_t max_frames = 256;
volatile unsigned sink;

stack_bounds this_thread_stack() {
  pthread_attr_t attributes;
  EXPECT_EQ(pthread_getattr_np(pthread_self(), &attributes), 0);
  void* low = nullptr;
  std::size_t size = 0;
  pthread_attr_getstack(&attributes, &low, &size);
  pthread_attr_destroy(&attributes);
  const auto at = reinterpret_cast<std::uintptr_t>(low);
  return {at, at + size};
}

class UnwinderTest : public ::testing::Test {
 protected:
  void SetUp() override { refresh_unwind_tables(); }
};

// --- known stacks -----------------------------------------------------------------------------

struct captured {
  std::array<std::uintptr_t, max_frames> pcs{};
  walk_result result;

  [[nodiscard]] std::span<const std::uintptr_t> frames() const {
    return {pcs.data(), result.frames};
  }
};

captured last_capture;

/// The libraries of sanitizers put one of their own before it, which adds a frame.
decltype(&::backtrace) glibc_backtrace = reinterpret_cast<decltype(&::backtrace)>(
    ::dlsym(::dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD), "backtrace"));

[[gnu::noinline]] void capture_here(stack_bounds stack) {
  last_capture.result = capture(current_registers(), stack, last_capture.pcs, true);
  asm volatile("" ::: "memory");  // not a tail call: this frame is part of the expectation
}

[[gnu::noinline]] int descend(int depth, stack_bounds stack, void** theirs, int* their_count) {
  volatile int keep = depth;
  if (depth == 0) {
    capture_here(stack);
    *their_count = glibc_backtrace(theirs, max_frames);
  } else {
    descend(depth - 1, stack, theirs, their_count);
  }
  return keep;
}

TEST_F(UnwinderTest, AgreesWithGlibcBacktrace) {
  std::array<void*, max_frames> theirs{};
  int count = 0;
  std::thread([&] { descend(40, this_thread_stack(), theirs.data(), &count); }).join();

  const auto ours = last_capture.frames();
  EXPECT_EQ(last_capture.result.end, walk_end::entry);
  // Ours: capture_here, descend (after the call of it), ...; theirs: descend (after its own call).
  ASSERT_GT(count, 41);
  ASSERT_EQ(ours.size(), static_cast<std::size_t>(count) + 1);
  for (std::size_t i = 1; i < static_cast<std::size_t>(count); ++i) {
    EXPECT_EQ(ours[i + 1], reinterpret_cast<std::uintptr_t>(theirs[i])) << "frame " << i;
  }
}

TEST_F(UnwinderTest, FullBufferIsReportedAsTruncated) {
  test_stack stack;
  std::array<std::uintptr_t, 2> pcs{};
  walk_result r;
  stack.call([&] {
    [&]() __attribute__((noinline)) {
      r = capture(current_registers(), stack.bounds(), pcs, true);
      asm volatile("" ::: "memory");
    }
    ();
  });
  EXPECT_EQ(r.frames, 2U);
  EXPECT_EQ(r.end, walk_end::truncated);
  r = capture(register_state{}, stack.bounds(), {}, true);
  EXPECT_EQ(r.frames, 0U);
}

// gcc 12 gives this leaf no frame, whatever the flags: a frame-pointer walk loses its caller.
std::atomic<bool> leaf_sampled{false};
stack_bounds leaf_stack;

[[gnu::noinline]] unsigned spin_in_leaf(const std::atomic<bool>& stop, unsigned x) {
  while (!stop.load(std::memory_order_relaxed)) x = x * 1664525U + 1013904223U;
  return x;
}
[[gnu::noinline]] unsigned caller_of_leaf(unsigned x) {
  const unsigned r = spin_in_leaf(leaf_sampled, x);
  return r + 1;
}
[[gnu::noinline]] unsigned caller_of_caller(unsigned x) {
  const unsigned r = caller_of_leaf(x);
  return r + 1;
}

void on_leaf_signal(int, siginfo_t*, void* context) {
  const register_state from = from_ucontext(context);
  // Delivered on the way into the leaf, perhaps; wait for the one that is inside.
  const auto in = [](std::uintptr_t pc, auto* f) {
    const auto at = reinterpret_cast<std::uintptr_t>(f);
    return pc >= at && pc < at + 256;
  };
  if (in(from.pc, &spin_in_leaf) && !leaf_sampled) {
    last_capture.result = capture(from, leaf_stack, last_capture.pcs, true);
    leaf_sampled = true;
  }
}

TEST_F(UnwinderTest, LeafWithoutFrameKeepsItsCaller) {
  struct sigaction action {};
  action.sa_sigaction = on_leaf_signal;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
  leaf_sampled = false;
  std::atomic<bool> started{false};
  std::thread spinner([&] {
    leaf_stack = this_thread_stack();
    started = true;
    sink = caller_of_caller(1);
  });
  while (!started) std::this_thread::yield();
  while (!leaf_sampled) {
    ::pthread_kill(spinner.native_handle(), SIGUSR1);
    std::this_thread::yield();
  }
  spinner.join();
  ::signal(SIGUSR1, SIG_DFL);

  ASSERT_GE(last_capture.result.frames, 3U);
  const auto distance = [](std::uintptr_t pc, auto* f) {
    return pc - reinterpret_cast<std::uintptr_t>(f);
  };
  EXPECT_LT(distance(last_capture.pcs[1], &caller_of_leaf), 64U);
  EXPECT_LT(distance(last_capture.pcs[2], &caller_of_caller), 64U);
  EXPECT_EQ(last_capture.result.end, walk_end::entry);
}

stack_bounds foreign_stack;
std::array<void*, max_frames> glibc_frames;
int glibc_count;

/// Both walks from the same function, whose frame is the first that both have.
[[gnu::noinline]] void capture_both() {
  capture_here(foreign_stack);
  glibc_count = glibc_backtrace(glibc_frames.data(), max_frames);
}

void expect_glibc_agrees() {
  const auto ours = last_capture.frames();
  ASSERT_EQ(ours.size(), static_cast<std::size_t>(glibc_count) + 1);
  for (std::size_t i = 2; i < ours.size(); ++i) {
    EXPECT_EQ(ours[i], reinterpret_cast<std::uintptr_t>(glibc_frames[i - 1])) << "frame " << i;
  }
}

// An application's handler without SA_ONSTACK runs on the goroutine's stack; a sample taken in
// it must go through the signal frame to the interrupted code.
void foreign_handler(int) {
  capture_both();
}

// aarch64 returns from a handler by code of the vdso, whose CFI tells what is in a signal frame.
#define TUCO_NEEDS_SIGNAL_FRAMES()                     \
  if (::getauxval(AT_SYSINFO_EHDR) == 0) GTEST_SKIP() << "this kernel (an emulator) has no vdso"

TEST_F(UnwinderTest, WalksThroughASignalFrameOfTheApplication) {
  TUCO_NEEDS_SIGNAL_FRAMES();
  struct sigaction action {};
  action.sa_handler = foreign_handler;
  ASSERT_EQ(::sigaction(SIGUSR2, &action, nullptr), 0);
  test_stack stack;
  foreign_stack = stack.bounds();
  stack.call([&] { ::raise(SIGUSR2); });
  ::signal(SIGUSR2, SIG_DFL);

  EXPECT_EQ(last_capture.result.end, walk_end::entry);
  const auto frames = last_capture.frames();
  ASSERT_GE(frames.size(), 5U);
  EXPECT_EQ(frames.back(), base_pc());
  expect_glibc_agrees();
}

sigjmp_buf after_trap;

// Below a signal frame a pc is the next instruction, not a return address: at the first one of a
// function, pc - 1 is in another function.
TEST_F(UnwinderTest, AnInterruptedFirstInstructionBelongsToItsFunction) {
  TUCO_NEEDS_SIGNAL_FRAMES();
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {
    capture_both();
    ::siglongjmp(after_trap, 1);
  };
  ASSERT_EQ(::sigaction(SIGILL, &action, &before), 0);
  test_stack stack;
  foreign_stack = stack.bounds();
  stack.call([] {
    if (sigsetjmp(after_trap, 1) == 0) tuco_test_traps_at_once();
  });
  ::sigaction(SIGILL, &before, nullptr);

  EXPECT_EQ(last_capture.result.end, walk_end::entry);
  EXPECT_EQ(last_capture.frames().back(), base_pc());
  expect_glibc_agrees();
}

jmp_buf after_endless_call;

TEST_F(UnwinderTest, ACallAtTheEndOfAFunctionBelongsToThatFunction) {
  test_stack stack;
  foreign_stack = stack.bounds();
  stack.call([] {
    if (setjmp(after_endless_call) == 0) {
      tuco_test_ends_in_call([] {
        capture_both();
        ::longjmp(after_endless_call, 1);
      });
    }
  });
  EXPECT_EQ(last_capture.result.end, walk_end::entry);
  expect_glibc_agrees();
}

sigjmp_buf after_null_call;
void on_null_call(int, siginfo_t*, void* context) {
  last_capture.result = capture(from_ucontext(context), foreign_stack, last_capture.pcs, true);
  ::siglongjmp(after_null_call, 1);
}

TEST_F(UnwinderTest, CallThroughANullPointerKeepsTheCaller) {
  std::vector<char> memory(64 * 1024);
  stack_t alternate{};
  alternate.ss_sp = memory.data();
  alternate.ss_size = memory.size();
  ASSERT_EQ(::sigaltstack(&alternate, nullptr), 0);
  struct sigaction action {};
  struct sigaction before {};
  action.sa_sigaction = on_null_call;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  ASSERT_EQ(::sigaction(SIGSEGV, &action, &before), 0);
  test_stack stack;
  foreign_stack = stack.bounds();
  stack.call([] {
    void (*volatile nothing)() = nullptr;
    if (sigsetjmp(after_null_call, 1) == 0) nothing();
  });
  ::sigaction(SIGSEGV, &before, nullptr);
  alternate.ss_flags = SS_DISABLE;
  ::sigaltstack(&alternate, nullptr);

  EXPECT_EQ(last_capture.result.end, walk_end::entry);
  ASSERT_GE(last_capture.result.frames, 3U);
  EXPECT_EQ(last_capture.pcs[0], 0U);
  EXPECT_EQ(last_capture.frames().back(), base_pc());
}

// Generated code: no module, no CFI, but a frame.
TEST_F(UnwinderTest, CodeOutsideOfModulesIsWalkedByFramePointer) {
#if defined(__x86_64__)
  const unsigned char code[] = {0x55,                    // push %rbp
                                0x48, 0x89, 0xe5,        // mov %rsp, %rbp
                                0x48, 0x83, 0xec, 0x40,  // sub $64, %rsp
                                0xff, 0xd7,              // call *%rdi
                                0xc9,                    // leave
                                0xc3};                   // ret
#else
  const std::uint32_t code[] = {0xa9bf7bfd,   // stp x29, x30, [sp, #-16]!
                                0x910003fd,   // mov x29, sp
                                0xd63f0000,   // blr x0
                                0xa8c17bfd,   // ldp x29, x30, [sp], #16
                                0xd65f03c0};  // ret
#endif
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  std::memcpy(page, code, sizeof(code));
  ASSERT_EQ(::mprotect(page, 4096, PROT_READ | PROT_EXEC), 0);
  __builtin___clear_cache(static_cast<char*>(page), static_cast<char*>(page) + 4096);

  test_stack stack;
  foreign_stack = stack.bounds();
  stack.call([&] {
    reinterpret_cast<void (*)(void (*)())>(page)([] { capture_here(foreign_stack); });
    asm volatile("" ::: "memory");
  });
  ::munmap(page, 4096);

  const auto frames = last_capture.frames();
  const auto at = reinterpret_cast<std::uintptr_t>(page);
  EXPECT_TRUE(std::any_of(frames.begin(), frames.end(),
                          [&](std::uintptr_t pc) { return pc >= at && pc < at + 4096; }));
  EXPECT_EQ(last_capture.result.end, walk_end::entry);
  EXPECT_EQ(frames.back(), base_pc());
}

TEST_F(UnwinderTest, ZeroFramePointerInUnknownCodeIsTheEntry) {
  std::array<std::uintptr_t, 8> pcs{};
  alignas(16) std::uintptr_t words[4] = {};
  const auto low = reinterpret_cast<std::uintptr_t>(words);
  const register_state from{.pc = 0x7fffdeadbeef, .sp = low, .fp = 0};
  const walk_result r = capture(from, {low, low + sizeof(words)}, pcs, true);
  EXPECT_EQ(r.frames, 1U);
  EXPECT_EQ(r.end, walk_end::entry);
  register_state lost = from;
  lost.fp = 0x1234567;
  EXPECT_EQ(capture(lost, {low, low + sizeof(words)}, pcs, true).end, walk_end::no_rule);
}

// --- words that are no stack --------------------------------------------------------------------

std::vector<std::uintptr_t> code_addresses() {
  std::vector<std::uintptr_t> ranges;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& h = info->dlpi_phdr[i];
          if (h.p_type != PT_LOAD || (h.p_flags & PF_X) == 0) continue;
          auto& v = *static_cast<std::vector<std::uintptr_t>*>(out);
          v.push_back(info->dlpi_addr + h.p_vaddr);
          v.push_back(info->dlpi_addr + h.p_vaddr + h.p_memsz);
        }
        return 0;
      },
      &ranges);
  return ranges;
}

// The stack lies between two inaccessible pages: one load outside of it ends the test program.
TEST_F(UnwinderTest, ArbitraryStackContentsNeverFaultAndAlwaysEnd) {
  constexpr std::size_t page = 4096;
  auto* const memory =
      static_cast<char*>(::mmap(nullptr, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::mprotect(memory + page, page, PROT_READ | PROT_WRITE), 0);
  const auto low = reinterpret_cast<std::uintptr_t>(memory) + page;
  const stack_bounds stack{low, low + page};
  auto* const words = reinterpret_cast<std::uintptr_t*>(low);
  constexpr std::size_t word_count = page / sizeof(std::uintptr_t);

  const auto ranges = code_addresses();
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  SCOPED_TRACE("seed " + std::to_string(seed));
  const auto code = [&] {
    const std::size_t r = random() % (ranges.size() / 2) * 2;
    return ranges[r] + random() % (ranges[r + 1] - ranges[r]);
  };
  const auto any_word = [&]() -> std::uintptr_t {
    switch (random() % 8) {
      case 0:
        return 0;
      case 1:
        return random();
      case 2:
        return low - 64 + random() % (page + 128);
      case 3:
      case 4:
        return (low + random() % page) & ~std::uintptr_t{7};
      default:
        return code();
    }
  };
  std::array<std::size_t, 4> ends{};
  std::size_t longest = 0;
  std::array<std::uintptr_t, 1024> pcs;
  for (int round = 0; round < 30'000; ++round) {
    if (round % 16 == 0) {
      for (std::size_t i = 0; i < word_count; ++i) words[i] = any_word();
    }
    register_state from;
    from.pc = random() % 16 == 0 ? any_word() : code();
    from.sp = random() % 4 == 0 ? any_word() : (low + random() % page) & ~std::uintptr_t{7};
    from.fp = any_word();
    for (auto& r : from.other) r = any_word();
    from.known = random();
    const walk_result r = capture(from, stack, pcs, random() % 2 == 0);
    // Every step goes up by a word at least, but for the first.
    ASSERT_LE(r.frames, word_count + 2);
    ASSERT_NE(r.end, walk_end::truncated);
    ++ends[static_cast<std::size_t>(r.end)];
    longest = std::max(longest, r.frames);
  }
  // The generator must get past the first step, or nothing was tested.
  EXPECT_GT(longest, 4U);
  EXPECT_GT(ends[static_cast<std::size_t>(walk_end::bad_frame)], 100U);
  ::munmap(memory, 3 * page);
}

}  // namespace
}  // namespace tuco::inline v1::observe
