// SPDX-License-Identifier: Apache-2.0
#include <tuco/run.hpp>

#include <stdexcept>

#include "observe/crash.hpp"
#include "runtime/settings.hpp"
#include "sched/lifecycle.hpp"

namespace tuco::inline v1 {
namespace detail {

int run(const run_options& options, int (*entry)(void*), void* object) {
  struct crash_reports {
    explicit crash_reports(bool keep_signals) { observe::install_crash_reports(keep_signals); }
    ~crash_reports() { observe::uninstall_crash_reports(); }
  };
  sched::run_claim claim;
  const crash_reports reports(options.keep_signals);
  return sched::run_main(claim, runtime::resolve_settings(options), entry, object);
}

}  // namespace detail

int procs() noexcept {
  return sched::the_scheduler.processor_count.load(std::memory_order_relaxed);
}

int set_procs(int n) {
  if (sched::the_scheduler.state.load(std::memory_order_acquire) != sched::phase::running) {
    throw std::logic_error("tuco::set_procs: no runtime; call it inside tuco::run()");
  }
  sched::the_scheduler.follow_quota.store(false, std::memory_order_relaxed);
  return sched::change_processors(n);
}

}  // namespace tuco::inline v1
