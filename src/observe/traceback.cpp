// SPDX-License-Identifier: Apache-2.0
#include "observe/traceback.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "observe/cfi_table.hpp"
#include "observe/demangle.hpp"
#include "observe/hexadecimal.hpp"
#include "observe/reporter.hpp"
#include "observe/symbolizer.hpp"
#include "observe/wait_object.hpp"
#include "os/write.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

namespace tuco::inline v1::observe {
namespace {

constexpr std::size_t kept_at_each_end = 50;
constexpr std::size_t piece = 64 * 1024;  // of text, that leaves in one write

/// What lies between a goroutine's own code and the switch, and between its entry and its function.
/// Go leaves out its own like this; what users call by name stays: tuco::mutex, tuco::sleep_for.
bool is_runtime(std::string_view function) {
  constexpr std::string_view plumbing[] = {
      "tuco::arch::",    "tuco::base::",    "tuco::detail::",    "tuco::io::",
      "tuco::observe::", "tuco::os::",      "tuco::poll::",      "tuco::queue::",
      "tuco::runtime::", "tuco::sched::",   "tuco::sync::",      "tuco::task::",
      "tuco::timers::",  "tuco::trace::",   "tuco::go<",         "tuco::run<",
      "tuco_context_",   "tuco_restart_",   "tuco::format_goroutines(", "tuco::dump_goroutines(",
      "std::__invoke",   "std::invoke<",    "std::_Function_handler<", "std::function<",
      "std::terminate(", "__cxxabiv1::__terminate(",
  };
  for (const std::string_view prefix : plumbing) {
    if (function.starts_with(prefix)) return true;
  }
  return false;
}

std::string_view without_qualifiers(std::string_view name) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view word : {" const", " volatile", " &", " &&", " noexcept"}) {
      if (name.ends_with(word)) {
        name.remove_suffix(word.size());
        again = true;
      }
    }
  }
  return name;
}

bool has_parameters(std::string_view name) {
  return name.ends_with(')') && !name.ends_with("operator()") &&
         !name.ends_with("(anonymous namespace)");
}

std::string_view without_parameters(std::string_view name) {
  name = without_qualifiers(name);
  if (!has_parameters(name)) return name;
  int open = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    if (name[i] == ')') ++open;
    if (name[i] == '(' && --open == 0) return name.substr(0, i);
  }
  return name;
}

std::string place_line(const source_frame& f) {
  std::string out = "\t" + (f.file.empty() ? std::string("?") : f.file);
  out.append(":").append(std::to_string(f.line));
  // As Go: none for what was inlined, none at the very start of a function.
  if (!f.inlined && f.offset != 0) out.append(" +").append(hexadecimal(f.offset));
  return out;
}

/// The name of what a goroutine that has not begun will run.
std::string start_function(const source_frame& code) {
  constexpr std::string_view wrapper = "tuco::detail::closure::invoke_";
  if (!code.function.starts_with(wrapper)) return code.function;
  // invoke_inline<D>(void*): D is the class of the callable.
  const std::string_view name = without_parameters(code.function);
  const auto open = name.find('<');
  if (open == std::string_view::npos || !name.ends_with('>')) return code.function;
  return std::string(name.substr(open + 1, name.size() - open - 2)) + "::operator()";
}

}  // namespace

std::string goroutine_header(const goroutine_info& info, bool names) {
  std::string out = "goroutine " + std::to_string(info.id);
  if (names && !info.name.empty()) out.append(" \"").append(info.name).append("\"");
  out.append(" [");
  if (info.status == goroutine_status::waiting) {
    out.append(to_string(info.reason));
    const auto minutes = std::chrono::duration_cast<std::chrono::minutes>(info.waiting).count();
    if (minutes >= 1) out.append(", ").append(std::to_string(minutes)).append(" minutes");
  } else if (info.status == goroutine_status::syscall && !info.system_call.empty()) {
    out.append("syscall (").append(info.system_call).append(")");
  } else {
    out.append(to_string(info.status));
  }
  if (info.locked_to_thread) out.append(", locked to thread");
  out.append("]:\n");
  return out;
}

std::string function_line(std::string_view name) {
  std::string out(without_qualifiers(name));
  if (!has_parameters(out)) out.append("(...)");
  return out;
}

traceback_writer::traceback_writer(const dump_options& options) : options_(options) {
  refresh_unwind_tables();
}

const std::vector<traceback_writer::frame_text>& traceback_writer::frames_at(
    std::uintptr_t pc, bool is_return_address) {
  const std::uint64_t key = std::uint64_t{pc} << 1 | static_cast<unsigned>(is_return_address);
  const auto [at, is_new] = frames_.try_emplace(key);
  if (is_new) {
    for (const source_frame& f : symbolize(pc, is_return_address)) {
      at->second.push_back(
          {function_line(f.function) + "\n" + place_line(f), is_runtime(f.function), f.inlined});
    }
  }
  return at->second;
}

void traceback_writer::append_frames(std::string& out, const captured_stack& stack) {
  struct line {
    const frame_text* frame;
    std::size_t index;
  };
  std::vector<line> lines;
  for (std::size_t i = 0; i < stack.pcs.size(); ++i) {
    for (const frame_text& f : frames_at(stack.pcs[i], i != 0)) {
      if (options_.runtime || !f.runtime) lines.push_back({&f, i});
    }
  }
  const bool cut = lines.size() > 2 * kept_at_each_end;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (cut && i == kept_at_each_end) {
      const std::size_t elided = lines.size() - 2 * kept_at_each_end;
      out.append("...").append(std::to_string(elided)).append(" frames elided...\n");
      i += elided;
    }
    out.append(lines[i].frame->text);
    const std::size_t at = lines[i].index;
    if (options_.runtime && !lines[i].frame->inlined && at < stack.sps.size()) {
      // The outermost frame was called by nobody.
      out.append(" fp=").append(hexadecimal(stack.sps[std::min(at + 1, stack.sps.size() - 1)]));
      out.append(" sp=").append(hexadecimal(stack.sps[at]));
      out.append(" pc=").append(hexadecimal(stack.pcs[at]));
    }
    out.append("\n");
  }
  if (stack.end == walk_end::truncated) out.append("...additional frames elided...\n");
}

void traceback_writer::append_start(std::string& out, const task::goroutine& g) {
  const auto frames = symbolize(reinterpret_cast<std::uintptr_t>(g.start.code), false);
  source_frame start = frames.back();
  const std::string name = start_function(start);
  if (name != start.function && g.created.file != nullptr) {
    // Of a lambda nothing but a wrapper has an address; it is written where `go` is.
    start.file = g.created.file;
    start.line = g.created.line;
  }
  start.inlined = false;
  start.offset = 0;
  out.append(function_line(name)).append("\n").append(place_line(start)).append("\n");
}

void traceback_writer::append_creator(std::string& out, const task::goroutine& g) {
  if ((g.flags & task::flag_main) != 0 || g.created.function == nullptr) return;
  const auto [at, is_new] = creators_.try_emplace(g.created.pc);
  if (is_new) {
    std::string name;
    std::uintptr_t offset = 0;
    if (g.created.pc != 0) {
      for (const source_frame& f : symbolize(g.created.pc, true)) {
        offset = f.offset;
        if (name.empty() && !is_runtime(f.function)) name = without_parameters(f.function);
      }
    }
    if (name.empty()) name = without_parameters(shorten_name(g.created.function));
    at->second = std::move(name);
    // The source location is what the user wrote; the return address adds the offset.
    at->second.append("\n\t").append(g.created.file).append(":");
    at->second.append(std::to_string(g.created.line));
    if (offset != 0) at->second.append(" +").append(hexadecimal(offset));
    at->second.append("\n");
  }
  const std::string_view text = at->second;
  const auto end_of_name = text.find('\n');
  out.append("created by ").append(text.substr(0, end_of_name));
  if (g.parent != 0) out.append(" in goroutine ").append(std::to_string(g.parent));
  out.append(text.substr(end_of_name));
}

void traceback_writer::append_header(std::string& out, task::goroutine& g,
                                     const goroutine_info& info) const {
  std::string header = goroutine_header(info, options_.names);
  if (options_.runtime) {
    // As Go at this level: the record, the thread's number and record.
    std::string who = " gp=" + hexadecimal(&g);
    const sched::worker* w = g.worker.load(std::memory_order_relaxed);
    if (w == nullptr) who.append(" m=nil");
    else who.append(" m=").append(std::to_string(w->number)).append(" mp=").append(hexadecimal(w));
    header.insert(header.rfind(" ["), who);
  }
  out.append(header);
}

void traceback_writer::append_goroutine(std::string& out, task::goroutine& g,
                                        const goroutine_info& info, const captured_stack& stack) {
  append_header(out, g, info);
  append_frames(out, stack);
  append_creator(out, g);
}

void traceback_writer::append_goroutine(std::string& out, task::goroutine& g,
                                        const goroutine_info& info) {
  append_header(out, g, info);
  if (options_.waits && info.status == goroutine_status::waiting) append_wait(out, g, info);
  std::array<std::uintptr_t, deepest_traceback> pcs;
  std::array<std::uintptr_t, deepest_traceback> sps;
  const stack_capture capture = capture_goroutine(&g, pcs, sps);
  switch (capture.source) {
    case stack_source::not_started: append_start(out, g); break;
    case stack_source::unavailable:
      out.append("\tgoroutine running on other thread; stack unavailable\n");
      break;
    default:
      append_frames(out, {std::span(pcs).first(capture.walk.frames),
                          std::span(sps).first(capture.walk.frames), capture.walk.end});
  }
  append_creator(out, g);
}

void write_goroutines(const dump_options& options, const dump_order& order,
                      const std::function<bool(std::string_view)>& emit) {
  traceback_writer writer(options);
  std::string text;
  bool wanted = true;
  std::size_t written = 0;
  std::size_t left_over = 0;
  const auto add = [&](task::goroutine& g) {
    note_progress();
    if ((g.flags & task::flag_system) != 0 && !options.runtime) return;
    goroutine_info info;
    if (!describe(g, writer.scale(), info)) return;
    if (options.only != 0 && info.id != options.only) return;
    if (written == options.limit) {
      ++left_over;
      return;
    }
    if (written++ != 0) text.append("\n");
    writer.append_goroutine(text, g, info);
    if (text.size() >= piece) {
      wanted = emit(text);
      text.clear();
    }
  };
  const task::registry::reading section(task::the_registry());
  task::goroutine* first = order.first;
  if (first == nullptr) {
    const sched::worker* w = sched::this_worker();
    if (w != nullptr && !w->plain_thread) first = w->running();
  }
  if (first != nullptr && first != order.left_out) add(*first);
  task::the_registry().for_each([&](task::goroutine& g) {
    if (&g != first && &g != order.left_out) add(g);
    return wanted;
  });
  if (left_over != 0) {
    text.append("\n...").append(std::to_string(left_over)).append(" goroutines elided...\n");
  }
  if (wanted && !text.empty()) emit(text);
}

}  // namespace tuco::inline v1::observe

namespace tuco::inline v1 {

std::string format_goroutines(const dump_options& options) {
  std::string out;
  observe::write_goroutines(options, {}, [&](std::string_view text) {
    out.append(text);
    return true;
  });
  return out;
}

int dump_goroutines(int descriptor, const dump_options& options) {
  int error = 0;
  observe::write_goroutines(options, {}, [&](std::string_view text) {
    error = os::write_all(descriptor, text);
    return error == 0;
  });
  return error;
}

}  // namespace tuco::inline v1
