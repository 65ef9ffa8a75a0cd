// SPDX-License-Identifier: Apache-2.0
#include "fault/scenarios.hpp"

#include <netdb.h>

#include <cstdio>

#include <tuco/io.hpp>
#include <tuco/run.hpp>

namespace tuco::test {
namespace {

constexpr scenario all[] = {
    {"start_stop", &play_start_stop},   {"spawn", &play_spawn},
    {"blocking", &play_blocking},       {"timers", &play_timers},
    {"plain_threads", &play_plain_threads}, {"locked", &play_locked},
    {"dump", &play_dump},               {"settings", &play_settings},
    {"old_kernel", &play_old_kernel},
    {"deadlock", &play_deadlock, "fatal error: all goroutines are asleep - deadlock!"},
    {"tcp", &play_tcp},                 {"unix", &play_unix},
    {"send_file", &play_send_file},     {"resolve", &play_resolve},
    {"net_threads", &play_net_threads}, {"descriptors", &play_descriptors},
};

}  // namespace

std::span<const scenario> scenarios() { return all; }

bool witness::is_excused(const std::error_code& code) const noexcept {
  if (!hit() || fault_ == nullptr) return false;
  if (code == std::error_code(fault_->error, std::system_category())) return true;
  switch (fault_->kind) {
    case os::call::mmap:
    case os::call::mprotect:
    case os::call::madvise:
      if (code == std::errc::not_enough_memory) return true;
      break;
    case os::call::thread_create:
      if (code == std::errc::resource_unavailable_try_again) return true;
      break;
    case os::call::resolve:
      if (code == net_errc::no_such_host || code == net_errc::lookup_failed ||
          code == net_errc::bad_address || code == std::errc::not_enough_memory) {
        return true;
      }
      break;
    default: break;
  }
  // What the other end of a connection sees when this one has given up.
  for (const std::errc seen : {std::errc::connection_reset, std::errc::broken_pipe, std::errc::not_connected,
                               std::errc::connection_refused, std::errc::no_such_file_or_directory}) {
    if (code == seen) return true;
  }
  return code == net_errc::unexpected_eof || code == net_errc::closed;
}

void witness::error(const std::error_code& code, const char* operation) noexcept {
  errors_.fetch_add(1);
  if (!is_excused(code)) complain(operation, ": " + error_text(code));
}

void witness::require(bool holds, const char* what) noexcept {
  if (!holds) complain(what, {});
}

void witness::require_unless_failed(bool holds, const char* what) noexcept {
  if (!holds && errors() == 0) complain(what, {});
}

void witness::complain(const char* what, const std::string& more) noexcept {
  broken_.store(true);
  std::fprintf(stderr, "witness: %s%s%s\n", what, more.c_str(), hit() ? "" : " (before any fault)");
}

bool run_watched(witness& w, int procs, const std::function<void()>& body) {
  try {
    run_options options;
    options.procs = procs;
    run(body, options);
    return true;
  } catch (const std::system_error& e) {
    w.error(e, "run");
    return false;
  }
}

void troupe::wait() {
  all_.wait();
  witness_.require(ended_.load() == started_, "a goroutine did not come to its end");
}

}  // namespace tuco::test
