// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/debug_descriptor.hpp
/// `tuco_debug_v1`: what the reader of another process, or of a core, must know to list goroutines and
/// walk their stacks, without debug information and of any build.
///
/// The layout is an ABI between releases: fields are appended, `size` says how many there are, nothing
/// moves. A change that cannot be made so gets another symbol. docs/design/debug_descriptor.md tells
/// how to find it in a stripped program and how to read with it.

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tuco::inline v1::observe {

/// Where a field lies in its record, and how many bytes it has. {0, 0}: this build has no such field.
struct debug_field {
  std::uint32_t offset;
  std::uint32_t size;
};

struct debug_descriptor {
  char magic[16];              ///< "tuco_debug_v1" and zeros
  std::uint32_t size;          ///< bytes of this structure
  std::uint32_t machine;       ///< EM_X86_64 or EM_AARCH64
  /// 0: the runtime was never started and the addresses below are 0. Else how often it was.
  std::uint32_t runs;
  std::uint32_t field_size;    ///< sizeof(debug_field)

  // -- addresses in the process
  std::uint64_t registry;      ///< six words; see the guide
  std::uint64_t epoch;         ///< u32: goroutines of other epochs belong to a run that is over
  std::uint64_t state;         ///< u32: 0 stopped, 1 starting, 2 running, 3 stopping, 4 overdue
  std::uint64_t workers;       ///< pointer: the first of the list
  std::uint64_t processors;    ///< array of pointers
  std::uint64_t processor_slots;  ///< u32: how many of them are set
  std::uint64_t processor_count;  ///< u32: how many of those are in use
  std::uint64_t idle_processors;  ///< u32
  std::uint64_t global_queue;     ///< u32: goroutines in it
  std::uint64_t last_id;          ///< u64: no goroutine has a higher id
  std::uint64_t clock;            ///< five words; see the guide

  // -- a goroutine
  debug_field g_id, g_parent, g_status, g_reason, g_flags, g_pins;
  debug_field g_wait_object, g_wait_since;
  debug_field g_sp, g_fp, g_pc;
  debug_field g_stack_low, g_stack_high, g_stack_top;
  debug_field g_name;
  debug_field g_created_file, g_created_function, g_created_line, g_created_pc;
  debug_field g_start;
  debug_field g_worker, g_locked_worker;
  debug_field g_switches, g_cpu_ticks, g_epoch, g_stack_high_water;

  // -- a worker
  debug_field m_next, m_number, m_tid, m_goroutine, m_in_use, m_attention;

  // -- a processor
  debug_field p_number, p_status, p_owner, p_slices;

  // -- names, indexed by value; "" where there is no such value
  std::uint32_t status_name_count;
  std::uint32_t reason_name_count;
  char status_names[16][16];
  char reason_names[64][32];
};

static_assert(std::is_standard_layout_v<debug_descriptor> && std::is_trivial_v<debug_descriptor>);
static_assert(offsetof(debug_descriptor, size) == 16 && offsetof(debug_descriptor, runs) == 24 &&
              offsetof(debug_descriptor, registry) == 32 && offsetof(debug_descriptor, clock) == 112 &&
              offsetof(debug_descriptor, g_id) == 120 && offsetof(debug_descriptor, m_next) == 328 &&
              offsetof(debug_descriptor, p_number) == 376 &&
              offsetof(debug_descriptor, status_name_count) == 408 &&
              offsetof(debug_descriptor, status_names) == 416 &&
              offsetof(debug_descriptor, reason_names) == 672 && sizeof(debug_descriptor) == 2720);

/// The note by which it is found: owner "tuco", this type, and 8 bytes: the distance from those
/// bytes to the descriptor.
inline constexpr std::uint32_t debug_note_type = 1;

/// Fills in the addresses. Called by each run().
void publish_debug_descriptor() noexcept;

}  // namespace tuco::inline v1::observe

extern "C" __attribute__((visibility("default"))) tuco::observe::debug_descriptor tuco_debug_v1;
