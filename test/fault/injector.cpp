// SPDX-License-Identifier: Apache-2.0
#include "fault/injector.hpp"

#include <sys/mman.h>

#include <new>
#include <system_error>

#include "fault/call_table.hpp"
#include "os/fault.hpp"

namespace tuco::test {

struct injector::tallies {
  std::atomic<std::uint32_t> armed{0};
  fault plan;
  std::atomic<std::uint64_t> calls[call_count] = {};
  std::atomic<std::uint64_t> hits{0};
};

injector::tallies* injector::current = nullptr;

injector::injector() {
  void* const memory =
      ::mmap(nullptr, sizeof(tallies), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  shared_ = ::new (memory) tallies;
  current = shared_;
  os::fault_hook.store(&consult, std::memory_order_release);
}

injector::~injector() {
  os::fault_hook.store(nullptr, std::memory_order_release);
  current = nullptr;
  ::munmap(shared_, sizeof(tallies));
}

void injector::arm(const fault& f) noexcept {
  shared_->armed.store(0, std::memory_order_relaxed);
  shared_->plan = f;
  for (auto& tally : shared_->calls) tally.store(0, std::memory_order_relaxed);
  shared_->hits.store(0, std::memory_order_relaxed);
  // Release: a thread that sees the mark sees the plan.
  shared_->armed.store(1, std::memory_order_release);
}

void injector::disarm() noexcept { shared_->armed.store(0, std::memory_order_release); }

std::uint64_t injector::calls(os::call kind) const noexcept {
  return shared_->calls[static_cast<std::size_t>(kind)].load(std::memory_order_relaxed);
}

std::uint64_t injector::hits() const noexcept { return shared_->hits.load(std::memory_order_relaxed); }

int injector::consult(os::call kind) noexcept {
  tallies& t = *current;
  if (t.armed.load(std::memory_order_acquire) == 0) return 0;
  const std::uint64_t number =
      t.calls[static_cast<std::size_t>(kind)].fetch_add(1, std::memory_order_relaxed) + 1;
  const fault& f = t.plan;
  if (kind != f.kind || f.error == 0 || number < f.first || number - f.first >= f.count) return 0;
  t.hits.fetch_add(1, std::memory_order_relaxed);
  return f.error;
}

std::string fault::text() const {
  if (error == 0) return "no fault";
  const std::string name(os::to_string(kind));
  const std::string which = count == endless ? "every " + name + " from the " + std::to_string(first) + ". on"
                            : count == 1
                                ? "the " + std::to_string(first) + ". " + name
                                : std::to_string(count) + " calls of " + name + " from the " +
                                      std::to_string(first) + ". on";
  return which + " fails with " + error_name(kind, error);
}

}  // namespace tuco::test
