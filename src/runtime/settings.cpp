// SPDX-License-Identifier: Apache-2.0
#include "runtime/settings.hpp"

#include <algorithm>
#include <optional>

#include "os/cgroup.hpp"
#include "os/env.hpp"
#include "os/write.hpp"

namespace tuco::inline v1::runtime {
namespace {

void complain(const char* name, std::string_view value, const char* wanted) noexcept {
  os::fd_writer(2).text("runtime: ").text(name).text("=").text(value).text(" ignored: not ").text(wanted).text("\n");
}

std::optional<int> processors_from(const char* name) noexcept {
  const auto text = os::get_env(name);
  if (!text || text->empty()) return std::nullopt;
  const auto number = os::parse_number(*text);
  if (!number || *number < 1) {
    complain(name, *text, "a positive number");
    return std::nullopt;
  }
  return static_cast<int>(std::min<std::int64_t>(*number, sched::max_processors));
}

// Every key that some layer asks for (docs/guide/settings.md explains them). Kept in one place only to
// name the others: a misspelt one would do nothing, and nobody would see why.
constexpr std::string_view debug_keys[] = {"dumplimit",      "names",       "noguardinstall", "nomembarrier",
                                           "notsc",          "scheddetail", "schedtrace",     "waits"};
constexpr std::string_view traceback_levels[] = {"", "none", "single", "all", "system", "crash", "0", "1", "2"};

void complain_of_unknown_words() noexcept {
  std::string_view list = os::get_env("TUCO_DEBUG").value_or("");
  while (const auto item = os::take_item(list)) {
    if (std::ranges::find(debug_keys, item->key) == std::end(debug_keys)) {
      complain("TUCO_DEBUG", item->key, "an option of this version");
    }
  }
  const std::string_view level = os::get_env("TUCO_TRACEBACK").value_or("");
  if (std::ranges::find(traceback_levels, level) == std::end(traceback_levels)) {
    complain("TUCO_TRACEBACK", level, "none, single, all, system or crash");
  }
}

}  // namespace

sched::start_options resolve_settings(const run_options& options) noexcept {
  complain_of_unknown_words();
  sched::start_options out;
  std::optional<int> processors;
  if (options.procs > 0) processors = std::min(options.procs, sched::max_processors);
  if (!processors) processors = processors_from("TUCO_PROCS");
  if (!processors) processors = processors_from("GOMAXPROCS");
  if (processors) {
    out.processors = *processors;
  } else {
    os::cpu_quota_reader quota;
    out.processors = std::min(os::default_processors(quota), sched::max_processors);
    out.follow_quota = true;
  }

  if (options.stack_size != 0) {
    out.stack_size = options.stack_size;
  } else if (const auto text = os::get_env("TUCO_STACK_SIZE"); text && !text->empty()) {
    if (const auto bytes = os::parse_bytes(*text); bytes && *bytes >= 16 * 1024) {
      out.stack_size = static_cast<std::size_t>(*bytes);
    } else {
      complain("TUCO_STACK_SIZE", *text, "a size of at least 16K");
    }
  }
  if (options.max_threads > 0) out.max_workers = options.max_threads;

  const std::string_view debug = os::get_env("TUCO_DEBUG").value_or("");
  if (const auto text = os::list_option(debug, "schedtrace")) {
    const auto ms = os::parse_number(*text);
    if (ms && *ms > 0) out.schedtrace_ns = *ms * 1'000'000;
    else complain("TUCO_DEBUG=schedtrace", *text, "a positive number of milliseconds");
  }
  out.scheddetail = os::debug_option("scheddetail");
  return out;
}

}  // namespace tuco::inline v1::runtime
