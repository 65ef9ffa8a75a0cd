// SPDX-License-Identifier: Apache-2.0
#include "observe/crash.hpp"

#include <cxxabi.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

#include "base/fatal.hpp"
#include "observe/cfi_table.hpp"
#include "observe/debug_descriptor.hpp"
#include "observe/demangle.hpp"
#include "observe/register_dump.hpp"
#include "observe/reporter.hpp"
#include "observe/traceback.hpp"
#include "os/env.hpp"
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
  if (text == "all" || text == "1") return level::all;
  if (text == "system" || text == "2") return level::system;
  if (text == "crash") return level::crash;
  return level::single;
}

dump_options options_at(level wanted) {
  dump_options options;
  options.waits = os::debug_option("waits");
  options.names = os::debug_option("names");
  options.runtime = wanted >= level::system;
  const std::string_view list = os::get_env("TUCO_DEBUG").value_or("");
  if (const auto text = os::list_option(list, "dumplimit")) {
    if (const auto n = os::parse_number(*text); n && *n > 0) options.limit = static_cast<std::size_t>(*n);
  }
  return options;
}

const sched::worker* current_worker() noexcept {
  const sched::worker* w = sched::this_worker();
  return w == nullptr || w->plain_thread ? nullptr : w;
}

task::goroutine* current_goroutine() noexcept {
  const sched::worker* w = current_worker();
  return w == nullptr ? nullptr : w->running();
}

[[noreturn]] void end_process() noexcept {
  if (traceback_level() == level::crash) {
    ::signal(SIGABRT, SIG_DFL);
    std::abort();
  }
  ::_exit(2);
}

bool print(std::string_view text) { return os::write_all(2, text) == 0; }

// -- the last words of a thread

/// Prepared by the thread that dies, written by the reporter. One for ever: base::begin_dying().
struct last_words {
  bool everybody = false;  ///< also when the level says `single`
  task::goroutine* g = nullptr;
  bool on_own_stack = false;  ///< of the worker: no goroutine ran
  walk_result walk;
  std::array<std::uintptr_t, deepest_traceback> pcs;
  std::array<std::uintptr_t, deepest_traceback> sps;
  bool with_registers = false;
  register_values registers;
};
last_words the_words;
std::atomic<int> dying_thread{0};

void write_last_words(void*) noexcept {
  const last_words& words = the_words;
  const level wanted = traceback_level();
  const dump_options options = options_at(wanted);
  const captured_stack stack{std::span(words.pcs).first(words.walk.frames),
                             std::span(words.sps).first(words.walk.frames), words.walk.end};
  std::string text;
  if (words.g != nullptr) {
    const task::registry::reading section(task::the_registry());
    traceback_writer writer(options);
    goroutine_info info;
    if (describe(*words.g, writer.scale(), info)) {
      // That its thread waits for us, maybe without a processor, is nothing to be told.
      info.status = goroutine_status::running;
      text.append("\n");
      writer.append_goroutine(text, *words.g, info, stack);
    }
  } else if (words.on_own_stack && wanted >= level::system) {
    dump_options with_runtime = options;
    with_runtime.runtime = true;
    text.append("\nruntime stack:\n");
    traceback_writer(with_runtime).append_frames(text, stack);
  }
  print(text);
  if (words.everybody || words.g == nullptr || wanted >= level::all) {
    bool first = true;
    write_goroutines(options, {.left_out = words.g}, [&](std::string_view piece) {
      if (std::exchange(first, false)) print("\n");
      return print(piece);
    });
  }
  if (words.with_registers) {
    os::fd_writer out(2);
    write_registers(out.text("\n"), words.registers);
  }
}

/// The stack of the caller's caller, or what a signal interrupted.
void take_stack(const register_state& from, task::goroutine* g) noexcept {
  the_words.g = g;
  const sched::worker* w = current_worker();
  the_words.on_own_stack = g == nullptr && w != nullptr;
  const task::stack* bounds = g != nullptr ? &g->stack : w != nullptr ? &w->own_stack : nullptr;
  if (bounds != nullptr) {
    the_words.walk = capture(from, {bounds->low, bounds->high}, the_words.pcs, true, the_words.sps);
  }
}

void say_last_words() noexcept {
  if (traceback_level() == level::none) return;
  if (report_and_wait(&write_last_words, nullptr)) return;
  write_last_words(nullptr);
}

/// The child of a fork may meet locks that nobody there will ever release: it reads no symbols.
void say_last_words_of_child(const task::goroutine* g) noexcept {
  if (g == nullptr || traceback_level() == level::none) return;
  os::fd_writer out(2);
  out.text("\ngoroutine ").udec(g->id.load(std::memory_order_relaxed)).text(" [running]:\n");
  if ((g->flags & task::flag_main) != 0 || g->created.function == nullptr) return;
  out.text("created by ").text(g->created.function);
  if (g->parent != 0) out.text(" in goroutine ").udec(g->parent);
  out.text("\n\t").text(g->created.file).text(":").udec(g->created.line).text("\n");
}

void on_fatal(const char*) noexcept {
  dying_thread.store(os::thread_id(), std::memory_order_relaxed);
  task::goroutine* g = current_goroutine();
  if (sched::the_scheduler.forked.load(std::memory_order_relaxed)) {
    say_last_words_of_child(g);
  } else {
    the_words.everybody = true;
    take_stack(current_registers(), g);
    say_last_words();
  }
  end_process();
}

// -- an exception that leaves a goroutine

std::string type_name(const std::type_info& type) {
  int status = 0;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string out = name != nullptr ? shorten_name(name) : type.name();
  std::free(name);
  return out;
}

/// "std::runtime_error: no such file", of the exception in flight.
std::string exception_text() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type == nullptr) return "std::terminate called without an exception";
  std::string text = type_name(*type);
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
  return text;
}

std::terminate_handler old_terminate = nullptr;

[[noreturn]] void on_terminate() {
  task::goroutine* g = current_goroutine();
  if (g == nullptr) {
    if (old_terminate != nullptr) old_terminate();
    std::abort();
  }
  base::begin_dying();
  dying_thread.store(os::thread_id(), std::memory_order_relaxed);
  print("panic: " + exception_text() + "\n");
  take_stack(current_registers(), g);
  say_last_words();
  end_process();
}

// -- SIGQUIT

struct quit_facts {
  std::atomic<std::uintptr_t> pc{0};
  std::atomic<int> worker{0};
  std::atomic<int> code{0};
  std::atomic<task::goroutine*> g{nullptr};  ///< interrupted by it
  std::array<std::atomic<std::uint64_t>, printed_registers> registers{};
};
quit_facts the_quit;
bool quit_installed = false;
struct sigaction old_quit {};

void on_quit(int, siginfo_t* info, void* context) noexcept {
  const int saved_errno = errno;
  const sched::worker* w = current_worker();
  the_quit.pc.store(from_ucontext(context).pc, std::memory_order_relaxed);
  the_quit.worker.store(w != nullptr ? w->number : 0, std::memory_order_relaxed);
  the_quit.code.store(info->si_code, std::memory_order_relaxed);
  the_quit.g.store(current_goroutine(), std::memory_order_relaxed);
  const register_values registers = registers_of(context);
  for (std::size_t i = 0; i < registers.size(); ++i) {
    the_quit.registers[i].store(registers[i], std::memory_order_relaxed);
  }
  request_report();
  errno = saved_errno;
}

void answer_quit() {
  os::fd_writer(2)
      .text("SIGQUIT: quit\nPC=")
      .hex(the_quit.pc.load(std::memory_order_relaxed))
      .text(" m=")
      .dec(the_quit.worker.load(std::memory_order_relaxed))
      .text(" sigcode=")
      .dec(the_quit.code.load(std::memory_order_relaxed))
      .text("\n\n");
  write_goroutines(options_at(traceback_level()),
                   {.first = the_quit.g.load(std::memory_order_relaxed)}, print);
  register_values registers;
  for (std::size_t i = 0; i < registers.size(); ++i) {
    registers[i] = the_quit.registers[i].load(std::memory_order_relaxed);
  }
  os::fd_writer out(2);
  write_registers(out.text("\n"), registers);
}

// -- faults

struct fault {
  int signal;
  const char* name;
  const char* text;
  bool installed = false;
  struct sigaction old {};
};
fault faults[] = {
    {SIGSEGV, "SIGSEGV", "segmentation violation"}, {SIGBUS, "SIGBUS", "bus error"},
    {SIGFPE, "SIGFPE", "floating-point exception"}, {SIGILL, "SIGILL", "illegal instruction"},
    {SIGABRT, "SIGABRT", "abort"},
};

fault& fault_of(int signal) noexcept {
  for (fault& f : faults) {
    if (f.signal == signal) return f;
  }
  __builtin_unreachable();
}

/// To whoever had the signal before us. True if that is nobody.
bool pass_on(const fault& f, siginfo_t* info, void* context) noexcept {
  if ((f.old.sa_flags & SA_SIGINFO) != 0 && f.old.sa_sigaction != nullptr) {
    f.old.sa_sigaction(f.signal, info, context);
    return false;
  }
  if (f.old.sa_handler != SIG_DFL && f.old.sa_handler != SIG_IGN) {
    f.old.sa_handler(f.signal);
    return false;
  }
  return true;
}

/// Lets the signal end the process as if nobody had handled it: the status, and a core whose last
/// frame is the place of the fault.
void let_it_kill(int signal, const siginfo_t* info) noexcept {
  ::signal(signal, SIG_DFL);
  // On return the instruction faults again; a signal that somebody sent must be sent again.
  if (info->si_code <= 0) os::signal_thread(os::thread_id(), signal);
}

/// @return Whether the registers belong to the report: as Go, when the signal has no panic's words.
bool print_fault(const fault& f, const siginfo_t* info, std::uintptr_t pc, int worker) noexcept {
  constexpr std::uintptr_t null_page = 4096;  // as Go
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  os::fd_writer out(2);
  if (info->si_code > 0 && (f.signal == SIGSEGV || f.signal == SIGBUS)) {
    if (address < null_page) {
      out.text("panic: runtime error: invalid memory address or nil pointer dereference\n");
    } else {
      out.text("unexpected fault address ").hex(address).text("\nfatal error: fault\n");
    }
  } else if (f.signal == SIGFPE && info->si_code == FPE_INTDIV) {
    out.text("panic: runtime error: integer divide by zero\n");
  } else {
    out.text(f.name).text(": ").text(f.text).text("\nPC=").hex(pc).text(" m=").dec(worker);
    out.text(" sigcode=").dec(info->si_code).text("\n");
    return true;
  }
  out.text("[signal ").text(f.name).text(": ").text(f.text).text(" code=");
  out.hex(static_cast<std::uint32_t>(info->si_code)).text(" addr=").hex(address);
  out.text(" pc=").hex(pc).text("]\n");
  return false;
}

enum class overflow : std::uint8_t { none, of_a_frame, of_a_signal_frame };

/// A handler without SA_ONSTACK runs on the goroutine's stack. Where the kernel finds no room for its
/// frame it sends SIGSEGV with no address, as for a general protection fault, which has a trap number.
bool no_room_for_signal_frame(const task::stack& s, const siginfo_t& info, const void* context) noexcept {
#if defined(__x86_64__)
  constexpr int general_protection = 13;
  if (static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_TRAPNO] == general_protection) {
    return false;
  }
#endif
  return info.si_code == SI_KERNEL && info.si_addr == nullptr &&
         from_ucontext(context).sp - s.low < os::signal_frame_size();
}

overflow overflow_of(const task::goroutine* g, int signal, const siginfo_t& info,
                     const void* context) noexcept {
  if (signal != SIGSEGV || info.si_code <= 0 || g == nullptr || !g->stack) return overflow::none;
  if (task::in_guard(g->stack, reinterpret_cast<std::uintptr_t>(info.si_addr))) {
    return overflow::of_a_frame;
  }
  return no_room_for_signal_frame(g->stack, info, context) ? overflow::of_a_signal_frame
                                                           : overflow::none;
}

void print_overflow(const task::goroutine& g, overflow what) noexcept {
  os::fd_writer out(2);
  out.text("runtime: goroutine ").udec(g.id.load(std::memory_order_relaxed));
  if (g.name[0] != '\0') out.text(" \"").text(g.name).text("\"");
  out.text(" stack overflow (").udec(task::slot_bytes(g.size_class) / 1024).text(" KiB");
  if (g.created.file != nullptr) {
    out.text(", created at ").text(g.created.file).text(":").udec(g.created.line);
  }
  out.text(")\n");
  if (what == overflow::of_a_signal_frame) {
    out.text("runtime: no room for a signal handler without SA_ONSTACK\n");
  }
  out.text("fatal error: stack overflow\n");
}

void on_fault(int signal, siginfo_t* info, void* context) noexcept {
  const int saved_errno = errno;
  const fault& f = fault_of(signal);
  task::goroutine* g = current_goroutine();
  const overflow full = overflow_of(g, signal, *info, context);
  if (full == overflow::none && !pass_on(f, info, context)) {
    errno = saved_errno;
    return;
  }
  // A fault of a thread that is not ours, or of our own last words.
  const sched::worker* w = current_worker();
  const int thread = os::thread_id();
  if (w == nullptr || dying_thread.load(std::memory_order_relaxed) == thread) {
    return let_it_kill(signal, info);
  }
  base::begin_dying();
  dying_thread.store(thread, std::memory_order_relaxed);
  const interrupted_stack at = where_interrupted(context);
  if (full != overflow::none) print_overflow(*g, full);
  else the_words.with_registers = print_fault(f, info, from_ucontext(context).pc, w->number);
  the_words.registers = registers_of(context);
  take_stack(at.registers, g);
  say_last_words();
  if (full != overflow::none) end_process();
  let_it_kill(signal, info);
}

// -- handlers come and go

bool is_ours(int signal) noexcept {
  struct sigaction now {};
  sigaction(signal, nullptr, &now);
  return (now.sa_flags & SA_SIGINFO) != 0 &&
         (now.sa_sigaction == &on_fault || now.sa_sigaction == &on_quit);
}

void install_faults() noexcept {
  for (fault& f : faults) {
    struct sigaction action {};
    action.sa_sigaction = &on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    f.installed = sigaction(f.signal, &action, &f.old) == 0;
  }
}

void install_quit() noexcept {
  struct sigaction now {};
  sigaction(SIGQUIT, nullptr, &now);
  // Ignored is what a shell makes of it for what it starts in the background, so, as Go, not a wish
  // of the program's own.
  if ((now.sa_flags & SA_SIGINFO) != 0 || (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN)) {
    return;
  }
  struct sigaction action {};
  action.sa_sigaction = &on_quit;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&action.sa_mask);
  quit_installed = sigaction(SIGQUIT, &action, &old_quit) == 0;
}

}  // namespace

void install_crash_reports(bool keep_signals) noexcept {
  base::set_fatal_hook(&on_fatal);
  if (std::get_terminate() != &on_terminate) old_terminate = std::set_terminate(&on_terminate);
  refresh_unwind_tables();
  publish_debug_descriptor();
  const bool has_reporter = start_reporter(&answer_quit);
  if (keep_signals) return;
  install_sampling_signal();
  install_faults();
  if (has_reporter) install_quit();
}

void uninstall_crash_reports() noexcept {
  while (base::is_dying()) ::pause();
  // What the program has installed over ours stays.
  for (fault& f : faults) {
    if (std::exchange(f.installed, false) && is_ours(f.signal)) sigaction(f.signal, &f.old, nullptr);
  }
  if (std::exchange(quit_installed, false) && is_ours(SIGQUIT)) sigaction(SIGQUIT, &old_quit, nullptr);
  stop_reporter();
}

}  // namespace tuco::inline v1::observe
