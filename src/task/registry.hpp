// SPDX-License-Identifier: Apache-2.0
#pragma once
/// All goroutines (Go's allgs): where their records live, and how to look at them all.
///
///     registry_roots     what another process, or the reader of a core, needs
///       segment          2 MiB, found through a directory that only grows; never unmapped
///         slab           64 KiB, the unit that is given back; records lie from its start on
///           goroutine    a record: in use if its id is not 0
///
/// **Reading.** Anybody walks the records at any time without a lock: the memory of a record is a
/// record for ever. One that is not in use reads as id 0 and status idle or dead; its other fields
/// are what the last goroutine left, or zeros. While a goroutine is looked at it may end and its
/// record serve another one: read the id again after the fields.
///
/// **Giving back.** A slab whose records are all free, none of them in a cache, is idle. tidy(), which the
/// monitor calls now and then, takes the pages of those that nobody needed since its last call, but for a
/// few: they read as zeros then, which is a record at rest. Not at once: a program that starts 100,000
/// goroutines again and again would pay for the pages each time, which was half of its time. What
/// is known of free records lies beside the slabs and not in them, so that it survives.
///
/// **Pins and giving back.** A reader writes to a record in one case only: it raises and lowers
/// `pins`. If the zeros came in between, the count would be wrong for ever. So a reader pins only
/// inside a registry::reading section and only records in use, and a slab is given back only
/// while there is no section:
///
///     reader                                     giver (all ids of the slab are 0)
///     R1  readings.fetch_add(1)                  G1  id = 0, in each record; then the lock
///     R2  full_fence()                           G2  full_fence()
///     R3  read id; if not 0: pin, look, unpin    G3  read readings (acquire); if 0: discard
///     R4  readings.fetch_sub(1, release)
///
/// Claim      No pin is raised before the discard and lowered after it.
/// Proof      If G3 misses R1, then G2 comes before R2 and R3 reads 0: the reader leaves the record
///            alone. If G3 sees R1 but not R4, it does not discard; if it sees R4, the unpin is over.
/// Too weak   Without the fences both may miss: R3 reads the id of before, G3 reads no section.
/// Test       registry_test.cpp, "PinsSurviveThatSlabsAreGivenBack".
///
/// **Thread safety.** registry: any thread; walks take no lock. goroutine_cache: its owner.
/// **Failure.** noexcept; a null record when memory ran out.
/// The whole story: docs/design/memory.md.

#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/atomic.hpp"
#include "os/lock.hpp"
#include "task/goroutine.hpp"

namespace tuco::inline v1::task {

inline constexpr std::size_t segment_bytes = std::size_t{2} << 20;
inline constexpr std::size_t slab_bytes = std::size_t{64} << 10;
inline constexpr std::size_t slabs_per_segment = segment_bytes / slab_bytes;
inline constexpr std::size_t records_per_slab = slab_bytes / sizeof(goroutine);
inline constexpr std::size_t max_segments = 16384;  // 100 million goroutines

/// Part of tuco_debug_v1: plain words.
/// Record k of slab j of segment i: segments[i] + j * slab_bytes + k * record_bytes.
struct registry_roots {
  std::uint64_t segment_bytes = task::segment_bytes;
  std::uint64_t slab_bytes = task::slab_bytes;
  std::uint64_t record_bytes = sizeof(goroutine);
  std::uint64_t records_per_slab = task::records_per_slab;
  std::atomic<std::uint64_t> segment_count{0};  ///< entries of `segments` that are set
  /// max_segments pointers; null until the first goroutine.
  std::atomic<std::atomic<std::byte*>*> segments{nullptr};
};
static_assert(std::is_standard_layout_v<registry_roots>);
static_assert(std::is_standard_layout_v<goroutine>);

struct registry_statistics {
  std::size_t slabs = 0;
  std::size_t free_records = 0;    ///< not in use and in no cache
  std::size_t idle_slabs = 0;      ///< all free, pages kept
  std::size_t returned_slabs = 0;  ///< all free, pages given back or never touched
};

class registry {
 public:
  constexpr registry() noexcept = default;
  registry(const registry&) = delete;
  registry& operator=(const registry&) = delete;
  /// Unmaps all. The process's own registry is never destroyed.
  ~registry();

  /// While one exists, no slab is given back: see above. Nests; cheap; may last long.
  class reading {
   public:
    explicit reading(const registry& r) noexcept : registry_(r) {
      registry_.readings_.fetch_add(1, std::memory_order_relaxed);
      base::full_fence();
    }
    ~reading() { registry_.readings_.fetch_sub(1, std::memory_order_release); }
    reading(const reading&) = delete;
    reading& operator=(const reading&) = delete;

   private:
    const registry& registry_;
  };

  /// Calls f(goroutine&) for each record in use, in no particular order, inside a reading section. A
  /// goroutine that exists during the whole call is visited once; one that begins or ends meanwhile
  /// may be. When `f` returns bool, false ends the walk.
  template <std::invocable<goroutine&> F>
  void for_each(F&& f) const;

  /// The goroutine with this id, or null. It may end at any time: hold a reading section around this
  /// and what follows, and check the id after each look. O(number of goroutines).
  [[nodiscard]] goroutine* find(std::uint64_t id) const noexcept;

  /// How many goroutines have each status; the index is the value of goroutine_status.
  using status_counts = std::array<std::size_t, 8>;
  [[nodiscard]] status_counts count_by_status() const noexcept;

  /// A record with id 0, or null. What else is in it is old, or zeros: whoever makes a goroutine of
  /// it sets all fields but `pins` and `slab_index`, the id last (release).
  goroutine* allocate() noexcept {
    goroutine* g = nullptr;
    return allocate(&g, 1) != 0 ? g : nullptr;
  }
  /// @pre Id 0, stored with release; status idle or dead; it owns nothing any more.
  void release(goroutine* g) noexcept { release(&g, 1); }

  /// Up to `wanted` of them, at least one unless memory ran out. @return How many.
  std::size_t allocate(goroutine** records, std::size_t wanted) noexcept;
  void release(goroutine* const* records, std::size_t count) noexcept;

  /// Gives back the slabs that were idle all the time since the last call, but for some 1 MiB. After two
  /// calls in a row no more than that is idle.
  void tidy() noexcept;
  /// Gives back all slabs that are free as a whole.
  void trim() noexcept;

  /// Records that are in use or in a cache.
  [[nodiscard]] std::size_t in_use() const noexcept {
    return in_use_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] const registry_roots& roots() const noexcept { return roots_; }
  [[nodiscard]] registry_statistics statistics() const noexcept;

 private:
  static constexpr std::size_t words = (records_per_slab + 63) / 64;
  static constexpr std::uint32_t none = UINT32_MAX;
  static constexpr std::size_t idle_slabs_kept = 16;  // 1 MiB

  enum class place : std::uint8_t { full, partial, idle, returned, going };
  struct slab {
    std::array<std::uint64_t, words> free{};
    std::uint32_t next = none;
    std::uint32_t previous = none;
    std::uint16_t free_count = 0;
    place where = place::full;
    /// False only while no record is in use or in a cache: readers skip the slab then, and do not
    /// touch what was given back.
    std::atomic<bool> alive{false};
  };
  struct list {
    std::uint32_t head = none;
    std::size_t count = 0;
  };

  // Relaxed: whoever knows an index has it from under the lock or from segment_count (acquire).
  slab& slab_at(std::uint32_t index) const noexcept {
    return slabs_.load(std::memory_order_relaxed)[index / slabs_per_segment].load(
        std::memory_order_relaxed)[index % slabs_per_segment];
  }
  std::byte* memory_of(std::uint32_t index) const noexcept {
    return roots_.segments.load(std::memory_order_relaxed)[index / slabs_per_segment].load(
               std::memory_order_relaxed) +
           index % slabs_per_segment * slab_bytes;
  }
  list& list_of(place p) noexcept;
  void move(std::uint32_t index, place to) noexcept;
  bool open() noexcept;
  bool grow() noexcept;
  bool discard_one(std::size_t keep) noexcept;

  mutable os::lock lock_;
  list partial_;
  list idle_;
  list returned_;
  std::size_t never_needed_ = 0;  ///< the fewest slabs that were idle since the last tidy()
  std::atomic<std::size_t> in_use_{0};
  alignas(64) mutable std::atomic<std::uint32_t> readings_{0};
  /// Beside each segment, what is known of its slabs.
  alignas(64) std::atomic<std::atomic<slab*>*> slabs_{nullptr};
  registry_roots roots_;
};

/// The process's registry; never destroyed.
registry& the_registry() noexcept;

/// The records that a processor has at hand: last in, first out.
class goroutine_cache {
 public:
  static constexpr std::size_t capacity = 64;

  explicit goroutine_cache(registry& r = the_registry()) noexcept : registry_(&r) {}
  goroutine_cache(const goroutine_cache&) = delete;
  goroutine_cache& operator=(const goroutine_cache&) = delete;
  ~goroutine_cache() { drain(); }

  /// As registry::allocate().
  goroutine* allocate() noexcept {
    if (count_ == 0) [[unlikely]] count_ = registry_->allocate(records_.data(), capacity / 2);
    return count_ == 0 ? nullptr : records_[--count_];
  }

  /// As registry::release().
  void release(goroutine* g) noexcept {
    if (count_ == capacity) [[unlikely]] spill();
    records_[count_++] = g;
  }

  /// Returns all to the registry.
  void drain() noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return count_; }

 private:
  void spill() noexcept;

  registry* registry_;
  std::size_t count_ = 0;
  std::array<goroutine*, capacity> records_;
};

template <std::invocable<goroutine&> F>
void registry::for_each(F&& f) const {
  const reading section(*this);
  const std::size_t segments = roots_.segment_count.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < segments * slabs_per_segment; ++i) {
    const auto index = static_cast<std::uint32_t>(i);
    if (!slab_at(index).alive.load(std::memory_order_acquire)) continue;
    auto* const records = reinterpret_cast<goroutine*>(memory_of(index));
    for (std::size_t k = 0; k < records_per_slab; ++k) {
      if (records[k].id.load(std::memory_order_acquire) == 0) continue;
      if constexpr (std::same_as<std::invoke_result_t<F&, goroutine&>, bool>) {
        if (!f(records[k])) return;
      } else {
        f(records[k]);
      }
    }
  }
}

}  // namespace tuco::inline v1::task
