// SPDX-License-Identifier: Apache-2.0
#include "os/thread.hpp"

#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <ctime>

#include "base/sanitizer.hpp"
#include "os/clock.hpp"
#include "os/memory.hpp"
#include "os/syscall.hpp"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

namespace tuco::inline v1::os {

int create_thread(void* (*entry)(void*), void* argument, std::size_t stack_size,
                  pthread_t& out) noexcept {
  if (const int fault = injected_fault(call::thread_create); fault != 0) return -fault;
  pthread_attr_t attributes;
  if (const int error = ::pthread_attr_init(&attributes); error != 0) return -error;
  if (stack_size != 0) {
    const std::size_t page = page_size();
    stack_size = std::max<std::size_t>(stack_size, static_cast<std::size_t>(PTHREAD_STACK_MIN));
    ::pthread_attr_setstacksize(&attributes, (stack_size + page - 1) & ~(page - 1));
  }
  const sigset_t before = block_all_signals();
  const int error = ::pthread_create(&out, &attributes, entry, argument);
  set_signal_mask(before);
  ::pthread_attr_destroy(&attributes);
  return -error;
}

int join_thread(pthread_t thread) noexcept { return -::pthread_join(thread, nullptr); }

int join_thread(pthread_t thread, std::int64_t deadline_ns) noexcept {
#ifdef TUCO_TSAN_FIBERS
  // ThreadSanitizer 14 does not know the join with a clock: it would report a thread that nobody joined.
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  deadline_ns += now.tv_sec * 1'000'000'000 + now.tv_nsec - steady_now_ns();
#endif
  const timespec deadline{static_cast<time_t>(deadline_ns / 1'000'000'000),
                          static_cast<long>(deadline_ns % 1'000'000'000)};
#ifdef TUCO_TSAN_FIBERS
  return -::pthread_timedjoin_np(thread, nullptr, &deadline);
#else
  return -::pthread_clockjoin_np(thread, nullptr, CLOCK_MONOTONIC, &deadline);
#endif
}

sigset_t block_all_signals() noexcept {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  return before;
}

void set_signal_mask(const sigset_t& mask) noexcept {
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

pid_t thread_id() noexcept { return static_cast<pid_t>(::syscall(SYS_gettid)); }

int signal_thread(pid_t thread, int signal) noexcept {
  return static_cast<int>(system_call(
      call::tgkill, [&] { return ::syscall(SYS_tgkill, ::getpid(), thread, signal); }));
}

void set_thread_name(const char* name) noexcept {
  system_call(call::prctl, [&] { return ::prctl(PR_SET_NAME, name, 0, 0, 0); });
}

std::size_t signal_frame_size() noexcept {
  const std::size_t frame = ::getauxval(AT_MINSIGSTKSZ);
  return frame != 0 ? frame : static_cast<std::size_t>(MINSIGSTKSZ);
}

std::size_t signal_stack_size() noexcept {
  const std::size_t frame = signal_frame_size();
  const std::size_t page = page_size();
  const std::size_t size = std::max<std::size_t>(std::size_t{64} << 10, 4 * frame);
  return (size + page - 1) & ~(page - 1);
}

int install_signal_stack(signal_stack& out) noexcept {
  out = {};
  stack_t present{};
  const int asked = system_call(call::sigaltstack, [&] { return ::sigaltstack(nullptr, &present); });
  if (asked < 0) return asked;
  if ((present.ss_flags & SS_DISABLE) == 0 && present.ss_size >= signal_stack_size()) return 0;

  const std::size_t page = page_size();
  const std::size_t size = signal_stack_size() + page;
  const mapping memory = reserve(size, page);
  if (!memory) return memory.error;
  // A handler that needs more than this dies at the guard instead of overwriting a neighbour.
  int result = protect_none(memory.address, page);
  if (result == 0) {
    name_region(memory.address, size, "tuco signal stack");
    stack_t wanted{};
    wanted.ss_sp = static_cast<char*>(memory.address) + page;
    wanted.ss_size = size - page;
    result = system_call(call::sigaltstack, [&] { return ::sigaltstack(&wanted, nullptr); });
  }
  if (result < 0) {
    release(memory.address, size);
    return result;
  }
  out = {memory.address, size};
  return 0;
}

void remove_signal_stack(signal_stack& stack) noexcept {
  if (stack.base == nullptr) return;
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  // If the kernel refuses (we run on it), the memory must stay.
  if (system_call(call::sigaltstack, [&] { return ::sigaltstack(&none, nullptr); }) == 0) {
    release(stack.base, stack.size);
  }
  stack = {};
}

std::int64_t thread_cpu_ns(pid_t thread) noexcept {
  // The kernel's encoding of "CPU time of thread" (pthread_getcpuclockid needs a live pthread_t).
  constexpr clockid_t per_thread = 4;
  constexpr clockid_t scheduler_time = 2;
  const auto id = static_cast<clockid_t>((~static_cast<unsigned>(thread) << 3)) | per_thread |
                  scheduler_time;
  timespec time{};
  const int result =
      system_call(call::clock_gettime, [&] { return ::clock_gettime(id, &time); });
  if (result < 0) return result;
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

int set_timer_slack(std::uint64_t ns) noexcept {
  return system_call(call::prctl, [&] {
    return ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(ns), 0, 0, 0);
  });
}

int affinity_count() noexcept {
  // The kernel refuses a mask smaller than its own, whose size it does not tell.
  for (std::size_t cpus = 1024; cpus <= (std::size_t{1} << 17); cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(cpus);
    const int result =
        system_call(call::affinity, [&] { return ::sched_getaffinity(0, size, set); });
    const int count = result < 0 ? 0 : CPU_COUNT_S(size, set);
    CPU_FREE(set);
    if (count > 0) return count;
    if (result != -EINVAL) break;
  }
  return cpu_count();
}

int cpu_count() noexcept {
  const long count = ::sysconf(_SC_NPROCESSORS_ONLN);
  return count < 1 ? 1 : static_cast<int>(count);
}

}  // namespace tuco::inline v1::os
