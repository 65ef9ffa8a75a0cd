// SPDX-License-Identifier: Apache-2.0
#include "observe/debug_descriptor.hpp"

#include <elf.h>

#include <iterator>
#include <string_view>

#include <tuco/wait_reason.hpp>

#include "base/tick_clock.hpp"
#include "sched/scheduler.hpp"
#include "task/goroutine.hpp"
#include "task/registry.hpp"

namespace {

using tuco::observe::debug_descriptor;
using tuco::observe::debug_field;
using tuco::sched::processor;
using tuco::sched::worker;
using tuco::task::creation_site;
using tuco::task::goroutine;
using tuco::task::registry_roots;
using tuco::task::stack;

// Some records are no standard-layout types, for whose members offsetof is "conditionally supported":
// both compilers support it where there are no virtual bases.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

#define TUCO_FIELD(record, member) \
  debug_field{offsetof(record, member), sizeof(static_cast<record*>(nullptr)->member)}

constexpr debug_field inside(debug_field outer, debug_field inner) {
  return {outer.offset + inner.offset, inner.size};
}

template <std::size_t N>
constexpr void copy_text(char (&to)[N], std::string_view text) {
  for (std::size_t i = 0; i < text.size() && i + 1 < N; ++i) to[i] = text[i];
}

// What this structure cannot say for itself is part of its definition; the guide repeats it.
static_assert(offsetof(registry_roots, segment_bytes) == 0 &&
              offsetof(registry_roots, slab_bytes) == 8 &&
              offsetof(registry_roots, record_bytes) == 16 &&
              offsetof(registry_roots, records_per_slab) == 24 &&
              offsetof(registry_roots, segment_count) == 32 &&
              offsetof(registry_roots, segments) == 40 && sizeof(registry_roots) == 48);
static_assert(sizeof(tuco::base::tick_calibration) == 40);
using tuco::sched::phase;
static_assert(phase::stopped == phase{0} && phase::starting == phase{1} && phase::running == phase{2} &&
              phase::stopping == phase{3} && phase::overdue == phase{4});

constexpr debug_descriptor describe_layout() {
  debug_descriptor d{};
  copy_text(d.magic, "tuco_debug_v1");
  d.size = sizeof d;
#if defined(__x86_64__)
  d.machine = EM_X86_64;
#else
  d.machine = EM_AARCH64;
#endif
  d.field_size = sizeof(debug_field);

  constexpr debug_field context = TUCO_FIELD(goroutine, context);
  constexpr debug_field bounds = TUCO_FIELD(goroutine, stack);
  constexpr debug_field created = TUCO_FIELD(goroutine, created);
  constexpr debug_field start = TUCO_FIELD(goroutine, start);
  d.g_id = TUCO_FIELD(goroutine, id);
  d.g_parent = TUCO_FIELD(goroutine, parent);
  d.g_status = TUCO_FIELD(goroutine, status);
  d.g_reason = TUCO_FIELD(goroutine, reason);
  d.g_flags = TUCO_FIELD(goroutine, flags);
  d.g_pins = TUCO_FIELD(goroutine, pins);
  d.g_wait_object = TUCO_FIELD(goroutine, wait_object);
  d.g_wait_since = TUCO_FIELD(goroutine, wait_since);
  d.g_sp = inside(context, TUCO_FIELD(tuco::arch::context, sp));
  d.g_fp = inside(context, TUCO_FIELD(tuco::arch::context, fp));
  d.g_pc = inside(context, TUCO_FIELD(tuco::arch::context, pc));
  d.g_stack_low = inside(bounds, TUCO_FIELD(stack, low));
  d.g_stack_high = inside(bounds, TUCO_FIELD(stack, high));
  d.g_name = TUCO_FIELD(goroutine, name);
  d.g_created_file = inside(created, TUCO_FIELD(creation_site, file));
  d.g_created_function = inside(created, TUCO_FIELD(creation_site, function));
  d.g_created_line = inside(created, TUCO_FIELD(creation_site, line));
  d.g_created_pc = inside(created, TUCO_FIELD(creation_site, pc));
  d.g_start = inside(start, TUCO_FIELD(tuco::detail::closure, code));
  d.g_worker = TUCO_FIELD(goroutine, worker);
  d.g_switches = TUCO_FIELD(goroutine, switches);
  d.g_epoch = TUCO_FIELD(goroutine, epoch);

  d.m_next = TUCO_FIELD(worker, all_next);
  d.m_number = TUCO_FIELD(worker, number);
  d.m_tid = TUCO_FIELD(worker, tid);
  d.m_goroutine = TUCO_FIELD(worker, current);
  d.m_in_use = TUCO_FIELD(worker, in_use);
  d.m_attention = TUCO_FIELD(worker, attention_word);

  d.p_number = TUCO_FIELD(processor, id);
  d.p_status = TUCO_FIELD(processor, status);
  d.p_owner = TUCO_FIELD(processor, owner);
  d.p_slices = TUCO_FIELD(processor, slices);
  return d;
}

#pragma GCC diagnostic pop

template <class T>
std::uint64_t address_of(const T& object) noexcept {
  return reinterpret_cast<std::uintptr_t>(&object);
}

}  // namespace

// In writable memory, and written to by each run(): such pages are part of every core.
extern "C" {
__attribute__((used, visibility("hidden"))) constinit debug_descriptor tuco_debug_descriptor =
    describe_layout();
extern debug_descriptor tuco_debug_v1 __attribute__((alias("tuco_debug_descriptor")));
}

// strip leaves notes alone, and they are mapped, so this finds the descriptor where there is no symbol.
asm(R"(
  .pushsection .note.tuco, "a", %note
  .balign 4
  .long 5
  .long 8
  .long 1
  .asciz "tuco"
  .balign 4
  .quad tuco_debug_descriptor - .
  .popsection
)");

namespace tuco::inline v1::observe {

void publish_debug_descriptor() noexcept {
  debug_descriptor& d = tuco_debug_descriptor;
  const sched::scheduler& s = sched::the_scheduler;
  d.registry = address_of(task::the_registry().roots());
  d.epoch = address_of(s.epoch);
  d.state = address_of(s.state);
  d.workers = address_of(s.all_workers);
  d.processors = address_of(s.processors);
  d.processor_slots = address_of(s.processor_slots);
  d.processor_count = address_of(s.processor_count);
  d.idle_processors = address_of(s.idle_processor_count);
  d.global_queue = address_of(s.global_size);
  d.last_id = address_of(s.next_goroutine_id);
  d.clock = address_of(base::calibration());
  // Here and not in the initializer: to_string() is the one place that has the words.
  d.status_name_count = static_cast<std::uint32_t>(goroutine_status::dead) + 1;
  for (std::uint32_t i = 0; i < d.status_name_count; ++i) {
    const auto name = to_string(static_cast<goroutine_status>(i));
    if (name != "???") copy_text(d.status_names[i], name);
  }
  d.reason_name_count = static_cast<std::uint32_t>(wait_reason::count_);
  for (std::uint32_t i = 0; i < d.reason_name_count; ++i) {
    copy_text(d.reason_names[i], to_string(static_cast<wait_reason>(i)));
  }
  // Last: who sees it sees the rest.
  __atomic_store_n(&d.runs, d.runs + 1, __ATOMIC_RELEASE);
}

static_assert(static_cast<std::size_t>(wait_reason::count_) <= std::size(debug_descriptor{}.reason_names));

}  // namespace tuco::inline v1::observe
