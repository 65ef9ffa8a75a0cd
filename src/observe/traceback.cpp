// SPDX-License-Identifier: Apache-2.0
#include "observe/traceback.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "observe/cfi_table.hpp"
#include "observe/symbolizer.hpp"
#include "os/write.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

namespace tuco::inline v1::observe {
namespace {

constexpr std::size_t deepest = 256;
constexpr std::size_t kept_at_each_end = 50;

void append_hex(std::string& out, std::uintptr_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
  out.append("0x").append(digits, end);
}

struct text_frame {
  std::string function;
  std::string place;
};

/// What lies between a goroutine's own code and the switch, and between its entry and its function.
bool is_runtime(std::string_view function) {
  for (const std::string_view layer :
       {"tuco::sched::", "tuco::arch::", "tuco::observe::", "tuco::sync::", "tuco::base::",
        "tuco::format_goroutines", "tuco::dump_goroutines", "tuco::detail::", "tuco::detail::closure::", "tuco_context_entry",
        "tuco_restart_stack", "void tuco::detail::closure::", "std::__invoke", "std::invoke"}) {
    if (function.starts_with(layer)) return true;
  }
  return function.find("std::__invoke_impl<") != std::string_view::npos ||
         function.find("tuco::detail::closure::invoke") != std::string_view::npos ||
         function.find(" std::invoke<") != std::string_view::npos ||
         function.find("std::__invoke<") != std::string_view::npos;
}

void append_place(std::string& out, const source_frame& f) {
  out.append("\t").append(f.file.empty() ? "?" : f.file).append(":").append(std::to_string(f.line));
  if (!f.inlined) {
    out.append(" +");
    append_hex(out, f.offset);
  }
  out.append("\n");
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

void append_frames(std::string& out, std::span<const std::uintptr_t> pcs, walk_end end,
                   bool first_is_exact, bool runtime_frames) {
  std::vector<text_frame> frames;
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    for (const source_frame& f : symbolize(pcs[i], i != 0 || !first_is_exact)) {
      if (!runtime_frames && is_runtime(f.function)) continue;
      text_frame t{f.function, {}};
      if (t.function.find('(') == std::string::npos) t.function.append("(...)");
      append_place(t.place, f);
      frames.push_back(std::move(t));
    }
  }
  const bool cut = frames.size() > 2 * kept_at_each_end;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (cut && i == kept_at_each_end) {
      const std::size_t elided = frames.size() - 2 * kept_at_each_end;
      out.append("...").append(std::to_string(elided)).append(" frames elided...\n");
      i += elided;
    }
    out.append(frames[i].function).append("\n").append(frames[i].place);
  }
  if (end == walk_end::truncated) out.append("...additional frames elided...\n");
}

void append_creator(std::string& out, const task::goroutine& g) {
  if (g.parent == 0 || g.created.function == nullptr) return;
  source_frame at;
  if (auto frames = symbolize(g.created.pc, true); !frames.empty()) {
    at.function = frames.front().function;
    at.offset = frames.back().offset;
  }
  // The source location is what the user wrote; the return address adds the offset.
  at.file = g.created.file;
  at.line = g.created.line;
  out.append("created by ").append(at.function.empty() ? g.created.function : at.function);
  out.append(" in goroutine ").append(std::to_string(g.parent)).append("\n");
  append_place(out, at);
}

void append_goroutine(std::string& out, task::goroutine& g, const goroutine_info& info,
                      const dump_options& options) {
  out.append(goroutine_header(info, options.names));
  if (options.waits && info.status == goroutine_status::waiting) {
    out.append("\twaiting on ");
    append_hex(out, reinterpret_cast<std::uintptr_t>(info.wait_object));
    out.append(" for ").append(std::to_string(info.waiting.count())).append("ns\n");
  }
  std::array<std::uintptr_t, deepest> pcs;
  const stack_capture capture = capture_goroutine(&g, pcs);
  switch (capture.source) {
    case stack_source::not_started: break;
    case stack_source::unavailable:
      out.append("\tgoroutine running on other thread; stack unavailable\n");
      break;
    default:
      append_frames(out, std::span(pcs).first(capture.walk.frames), capture.walk.end, true, false);
  }
  append_creator(out, g);
}

}  // namespace tuco::inline v1::observe

namespace tuco::inline v1 {

std::string format_goroutines(const dump_options& options) {
  observe::refresh_unwind_tables();
  std::string out;
  std::size_t left = options.limit;
  const auto add = [&](task::goroutine& g) {
    goroutine_info info;
    if (left == 0 || !observe::describe(g, info)) return;
    if (options.only != 0 && info.id != options.only) return;
    --left;
    if (!out.empty()) out.append("\n");
    observe::append_goroutine(out, g, info, options);
  };
  task::goroutine* own = nullptr;
  if (const sched::worker* w = sched::this_worker(); w != nullptr && !w->plain_thread) {
    own = w->current;
    if (own != nullptr) add(*own);
  }
  task::the_registry().for_each([&](const task::goroutine& g) {
    if (&g != own) add(const_cast<task::goroutine&>(g));
  });
  return out;
}

int dump_goroutines(int descriptor, const dump_options& options) {
  return os::write_all(descriptor, format_goroutines(options));
}

}  // namespace tuco::inline v1
