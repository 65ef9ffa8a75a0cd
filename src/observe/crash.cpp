// SPDX-License-Identifier: Apache-2.0
#include "observe/crash.hpp"

#include <cxxabi.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <typeinfo>

#include "base/fatal.hpp"
#include "observe/cfi_table.hpp"
#include "observe/demangle.hpp"
#include "observe/traceback.hpp"
#include "os/env.hpp"
#include "os/futex.hpp"
#include "os/thread.hpp"
#include "os/write.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"
#include "task/stack_pool.hpp"

namespace tuco::inline v1::observe {
namespace {

enum class level : std::uint8_t { none, single, all, system, crash };

level traceback_level() noexcept {
  const std::string_view text = os::get_env("TUCO_TRACEBACK").value_or("");
  if (text == "none" || text == "0") return level::none;
  if (text == "single") return level::single;
  if (text == "system" || text == "2") return level::system;
  if (text == "crash") return level::crash;
  return level::all;
}

task::goroutine* current_goroutine() noexcept {
  const sched::worker* w = sched::this_worker();
  return w == nullptr || w->plain_thread ? nullptr : w->current;
}

[[noreturn]] void end_process() noexcept {
  if (traceback_level() == level::crash) {
    ::signal(SIGABRT, SIG_DFL);
    std::abort();
  }
  ::_exit(2);
}

/// The traceback of the goroutine that runs here, as "running".
void print_own(task::goroutine* g) {
  goroutine_info info;
  if (!describe(*g, info)) return;
  info.status = goroutine_status::running;
  std::string out = "\n";
  append_goroutine(out, *g, info, {.names = false});
  os::write_all(2, out);
}

void on_fatal(const char* text) noexcept {
  const level wanted = traceback_level();
  if (wanted == level::none) return;
  refresh_unwind_tables();
  task::goroutine* own = current_goroutine();
  const bool deadlock = std::string_view(text).find("deadlock") != std::string_view::npos;
  if (wanted == level::single && own != nullptr && !deadlock) {
    print_own(own);
  } else {
    os::write_all(2, "\n");
    dump_goroutines(2);
  }
  if (wanted == level::crash) end_process();
}

std::string type_name(const std::type_info& type) {
  int status = 0;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string out = name != nullptr ? shorten_name(name) : type.name();
  std::free(name);
  return out;
}

std::terminate_handler old_terminate = nullptr;

[[noreturn]] void on_terminate() {
  task::goroutine* g = current_goroutine();
  if (g == nullptr) {
    if (old_terminate != nullptr) old_terminate();
    std::abort();
  }
  static std::atomic<bool> dying{false};
  if (dying.exchange(true)) {
    for (;;) ::pause();
  }
  std::string text = "panic: ";
  if (const std::type_info* type = abi::__cxa_current_exception_type()) {
    text.append(type_name(*type));
    try {
      throw;
    } catch (const std::exception& e) {
      text.append(": ").append(e.what());
    } catch (const char* message) {
      text.append(": ").append(message);
    } catch (const std::string& message) {
      text.append(": ").append(message);
    } catch (int number) {
      text.append(": ").append(std::to_string(number));
    } catch (...) {
    }
  } else {
    text.append("std::terminate called without an exception");
  }
  text.append("\n");
  os::write_all(2, text);
  if (traceback_level() != level::none) {
    refresh_unwind_tables();
    print_own(g);
  }
  end_process();
}

// -- SIGQUIT. The handler only wakes this thread, which is free to allocate and to read debug
// information. It needs nothing of the scheduler, so it answers when that is wedged.

std::atomic<std::uint32_t> quit_word{0};
std::atomic<bool> quit_thread_ends{false};
pthread_t quit_thread;
bool quit_installed = false;
struct sigaction old_quit {};

void on_quit(int) noexcept {
  quit_word.fetch_add(1, std::memory_order_release);
  os::futex_wake(quit_word);
}

/// What a fault handler leaves for that thread: a signal stack is too small for libdw.
struct fault_report {
  task::goroutine* g = nullptr;
  walk_result walk;
  std::array<std::uintptr_t, 256> pcs;
};
fault_report the_fault;
std::atomic<bool> fault_waits{false};

[[noreturn]] void report_fault() {
  std::string out = "\n";
  goroutine_info info;
  if (describe(*the_fault.g, info)) {
    info.status = goroutine_status::running;
    info.system_call.clear();
    out.append(goroutine_header(info, false));
    append_frames(out, std::span(the_fault.pcs).first(the_fault.walk.frames), the_fault.walk.end, true,
                  false);
    append_creator(out, *the_fault.g);
  }
  os::write_all(2, out);
  end_process();
}

void* answer_quit(void*) {
  os::set_thread_name("tuco-dump");
  std::uint32_t seen = quit_word.load(std::memory_order_acquire);
  for (;;) {
    const std::uint32_t word = quit_word.load(std::memory_order_acquire);
    if (quit_thread_ends.load(std::memory_order_acquire)) return nullptr;
    if (fault_waits.load(std::memory_order_acquire)) report_fault();
    if (word == seen) {
      os::futex_wait(quit_word, word);
      continue;
    }
    seen = word;
    std::string text = "SIGQUIT: quit\n\n";
    text.append(format_goroutines()).append("\n");
    os::write_all(2, text);
  }
}

// -- stack overflow

struct sigaction old_segv {}, old_bus {};

void pass_on(int signal, siginfo_t* info, void* context) noexcept {
  const struct sigaction& old = signal == SIGSEGV ? old_segv : old_bus;
  if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr) {
    return old.sa_sigaction(signal, info, context);
  }
  if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) return old.sa_handler(signal);
  // The default: on return the instruction faults again and ends the process with the right status.
  ::signal(signal, SIG_DFL);
}

void on_fault(int signal, siginfo_t* info, void* context) noexcept {
  task::goroutine* g = current_goroutine();
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (g == nullptr || !g->stack || !task::in_guard(g->stack, address)) {
    return pass_on(signal, info, context);
  }
  {
    os::fd_writer out(2);
    out.text("runtime: goroutine ").udec(g->id.load(std::memory_order_relaxed));
    if (g->name[0] != '\0') out.text(" \"").text(g->name).text("\"");
    out.text(" stack overflow (").udec(task::slot_bytes(g->size_class) / 1024).text(" KiB");
    if (g->created.file != nullptr) {
      out.text(", created at ").text(g->created.file).text(":").udec(g->created.line);
    }
    out.text(")\nfatal error: stack overflow\n");
  }
  if (traceback_level() != level::none && quit_installed && !fault_waits.load()) {
    the_fault.g = g;
    the_fault.walk = capture(from_ucontext(context), {g->stack.low, g->stack.high}, the_fault.pcs);
    fault_waits.store(true, std::memory_order_release);
    on_quit(SIGQUIT);
    for (;;) ::pause();  // the other thread ends the process
  }
  end_process();
}

void install_fault_handler(int signal, struct sigaction& old) noexcept {
  struct sigaction action {};
  action.sa_sigaction = &on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, &old);
}

bool faults_installed = false;

}  // namespace

void install_crash_reports(bool keep_signals) noexcept {
  base::set_fatal_hook(&on_fatal);
  if (std::get_terminate() != &on_terminate) old_terminate = std::set_terminate(&on_terminate);
  refresh_unwind_tables();
  if (keep_signals) return;
  install_sampling_signal();
  install_fault_handler(SIGSEGV, old_segv);
  install_fault_handler(SIGBUS, old_bus);
  faults_installed = true;

  struct sigaction now {};
  sigaction(SIGQUIT, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) return;
  quit_thread_ends.store(false, std::memory_order_relaxed);
  if (os::create_thread(&answer_quit, nullptr, 256 * 1024, quit_thread) < 0) return;
  sched::the_scheduler.other_threads.fetch_add(1, std::memory_order_relaxed);
  struct sigaction action {};
  action.sa_handler = &on_quit;
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  sigfillset(&action.sa_mask);
  sigaction(SIGQUIT, &action, &old_quit);
  quit_installed = true;
}

void uninstall_crash_reports() noexcept {
  if (faults_installed) {
    sigaction(SIGSEGV, &old_segv, nullptr);
    sigaction(SIGBUS, &old_bus, nullptr);
    faults_installed = false;
  }
  if (!quit_installed) return;
  sigaction(SIGQUIT, &old_quit, nullptr);
  quit_thread_ends.store(true, std::memory_order_release);
  quit_word.fetch_add(1, std::memory_order_release);
  os::futex_wake(quit_word);
  os::join_thread(quit_thread);
  sched::the_scheduler.other_threads.fetch_sub(1, std::memory_order_relaxed);
  quit_installed = false;
}

}  // namespace tuco::inline v1::observe
