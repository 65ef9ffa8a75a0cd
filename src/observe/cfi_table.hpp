// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/cfi_table.hpp
/// pc -> unwinding rule, for every loaded module, readable from any signal handler.
///
/// .eh_frame itself cannot be read there: finding it takes the dynamic linker's lock, and a
/// dlclose() may unmap it under the reader. So refresh_unwind_tables() copies and digests it ahead
/// of time into memory of our own, and publishes the result with one pointer.
///
///     row          32-bit code offset and 16-bit rule number, two arrays   6 bytes
///     page index   first row of each 4 KiB of code                         1 / 1024 of the code
///     module       sorted by address, in the set
///     cache        pc -> rule number, one word per entry, filled by the readers
///
/// **Readers** (table_reader) never wait, allocate or lock, and may interrupt anything, including
/// a refresh in their own thread. **Writers** exclude each other with a mutex.
///
/// Neither side may meet a table that is gone:
///
///     reader                                     refresh
///     R1  shard.fetch_add(1, seq_cst)            W1  current.store(new, seq_cst)
///     R2  set = current.load(seq_cst)            W2  each shard.load(seq_cst) seen 0 once
///     R3  reads set and what it points to        W3  unmaps the old set
///     R4  shard.fetch_sub(1, release)
///
/// Claim      No R3 touches what W3 unmapped.
/// Proof      Take a reader whose R2 returned the old set: in the total order of the seq_cst
///            operations R2 is before W1, so R1 is before W2's load of that shard. That load
///            counts the reader until R4. So W2 saw 0 only after R4, and synchronizes with it: R3
///            happens before W3. A reader whose R2 returned the new set never sees the old one.
/// Pairs      R4 (release) with W2: R3's loads stay before it. W1 with R2: the tables' contents.
/// Too weak   release/acquire at R1-R2 and W1-W2 is the store-buffering pattern: R2 may read the
///            old set although W2 missed R1.
/// Enough     W2 may see each shard's 0 at a different moment, and other readers may come and
///            go in between: each pinned the new set if it came after W1. A shard that is never
///            seen 0 only delays the unmapping to a later refresh; no one waits.
/// Shards     The counter is split by stack address, so that captures on different threads do not
///            fight over a cache line; a reader keeps its shard, whichever it is.
/// Test       CfiTable.ReadersOutliveModules.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "observe/cfi_rule.hpp"

namespace tuco::inline v1::observe {

/// The rows of one module; independent of where it is loaded. Immutable once published.
struct module_rows {
  std::uint32_t count = 0;
  const std::uint32_t* offsets = nullptr;
  const std::uint16_t* rules = nullptr;
  const std::uint32_t* page_index = nullptr;  ///< last row at or before each 4 KiB boundary

  /// @pre offset < size of the code.
  [[nodiscard]] std::uint16_t find(std::uint32_t offset) const noexcept {
    std::uint32_t first = page_index[offset >> 12];
    std::uint32_t last = page_index[(offset >> 12) + 1];
    while (first < last) {
      const std::uint32_t middle = first + (last - first + 1) / 2;
      if (offsets[middle] <= offset) {
        first = middle;
      } else {
        last = middle - 1;
      }
    }
    return rules[first];
  }
};

struct table_set {
  struct module {
    std::uintptr_t low;
    std::uintptr_t high;
    module_rows rows;  ///< count 0: no usable .eh_frame
  };

  static constexpr std::size_t cache_entries = 4096;

  const cfi_rule_pool* pool = nullptr;
  std::size_t module_count = 0;
  const module* modules = nullptr;
  std::atomic<std::uint64_t>* cache = nullptr;  ///< pc << 16 | rule number; 0 is empty
};

/// What is known about a pc. `rule` null and `has_cfi` true: a gap, such as a PLT from a linker
/// that describes none, or assembly without CFI.
struct unwind_entry {
  const cfi_rule* rule = nullptr;
  bool is_code = false;
  bool has_cfi = false;
};

/// Pins the tables published at its construction. Async-signal-safe.
class table_reader {
 public:
  explicit table_reader(std::uintptr_t stack_address) noexcept;
  table_reader(const table_reader&) = delete;
  table_reader& operator=(const table_reader&) = delete;
  ~table_reader();

  [[nodiscard]] unwind_entry find(std::uintptr_t pc) const noexcept;
  [[nodiscard]] const cfi_rule_pool* pool() const noexcept;

 private:
  std::atomic<std::uint32_t>& shard_;
  const table_set* set_;
};

/// Brings the tables up to date with what is loaded. Not for signal handlers; any thread.
/// Costs one dl_iterate_phdr() step (about 0.1 us) when nothing was loaded or unloaded since the
/// last call, else time in proportion to the unwind information of the *new* modules.
/// @return Whether new tables were published. Without memory for them those in force stay, if any: walks
///         then rely on frame pointers alone where code is new.
bool refresh_unwind_tables() noexcept;

struct unwind_table_stats {
  std::size_t modules = 0;
  std::size_t modules_without_cfi = 0;
  std::size_t rows = 0;
  std::size_t bytes = 0;  ///< of rows, indices, set and cache in force
  std::size_t rules = 0;  ///< distinct ones, ever
  std::size_t expressions = 0;
  std::size_t retired_sets = 0;  ///< not yet unmapped
  std::uint64_t refreshes = 0;   ///< that published
};
[[nodiscard]] unwind_table_stats unwind_stats();

}  // namespace tuco::inline v1::observe
