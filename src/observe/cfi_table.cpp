// SPDX-License-Identifier: Apache-2.0
#include "observe/cfi_table.hpp"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "observe/byte_cursor.hpp"
#include "observe/eh_frame.hpp"
#include "observe/mapped_region.hpp"

namespace tuco::inline v1::observe {
namespace {

struct alignas(64) shard_counter {
  std::atomic<std::uint32_t> readers{0};
};

constexpr std::size_t shard_count = 32;

constinit std::atomic<const table_set*> current_set{nullptr};
constinit std::array<shard_counter, shard_count> shards{};

std::size_t spread(std::uintptr_t value, unsigned bits) noexcept {
  return static_cast<std::size_t>((value * 0x9e3779b97f4a7c15ULL) >> (64 - bits));
}

/// Tells one build of a module from another, wherever it is loaded.
struct module_identity {
  std::uint64_t hash = 0;
  std::uint64_t code_bytes = 0;
  std::uint64_t hdr_bytes = 0;
  bool operator==(const module_identity&) const = default;
};

struct owned_rows {
  module_identity identity;
  mapped_region memory;
  module_rows rows;
};

using shared_rows = std::shared_ptr<const owned_rows>;

/// A set and what keeps it alive.
struct publication {
  mapped_region memory;
  const table_set* set = nullptr;
  std::vector<shared_rows> rows;  // in the order of set->modules
  std::uint32_t shards_pending = ~std::uint32_t{0};
};

// What the callback notes about a module. It runs under the dynamic linker's lock, where a malloc
// that was interposed could call back into the linker: so no allocation but mmap.
struct loaded_code {
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;
  module_identity identity;
  const shared_rows* known = nullptr;
  mapped_region copy;
  eh_frame_image image;
};

constexpr std::size_t max_modules = 16384;

struct collection {
  const publication* previous = nullptr;
  mapped_region memory{max_modules * sizeof(loaded_code)};
  std::size_t count = 0;
  unsigned long long adds = 0;
  unsigned long long subs = 0;
  bool out_of_memory = false;

  collection() = default;
  collection(const collection&) = delete;
  collection& operator=(const collection&) = delete;
  ~collection() {
    for (loaded_code& m : modules()) m.~loaded_code();
  }
  [[nodiscard]] std::span<loaded_code> modules() const {
    return {static_cast<loaded_code*>(memory.data()), count};
  }
};

class module_view {
 public:
  explicit module_view(const dl_phdr_info& info) : info_(info) {}

  [[nodiscard]] std::span<const ElfW(Phdr)> headers() const {
    return {info_.dlpi_phdr, info_.dlpi_phnum};
  }
  [[nodiscard]] std::uintptr_t address(const ElfW(Phdr) & header) const {
    return info_.dlpi_addr + header.p_vaddr;
  }

  /// From `start` to the end of the readable segment that holds it.
  [[nodiscard]] std::span<const std::byte> bytes_from(std::uintptr_t start) const {
    for (const auto& header : headers()) {
      if (header.p_type != PT_LOAD || (header.p_flags & PF_R) == 0) continue;
      const std::uintptr_t low = address(header);
      if (start < low || start - low >= header.p_filesz) continue;
      return {reinterpret_cast<const std::byte*>(start),
              static_cast<std::size_t>(header.p_filesz - (start - low))};
    }
    return {};
  }

 private:
  const dl_phdr_info& info_;
};

std::uint64_t hash_words(std::uint64_t hash, std::span<const std::byte> bytes) {
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    hash = (hash ^ word) * 0x100000001b3ULL;
    hash ^= hash >> 29;
  }
  for (const std::byte b : bytes) {
    hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3ULL;
  }
  return hash;
}

/// Where .eh_frame is and how long, from .eh_frame_hdr, whose search table names every FDE.
struct section_extent {
  std::uintptr_t begin = 0;
  std::size_t size = 0;
  std::size_t hdr_size = 0;
  bool terminated = false;
};

section_extent find_extent(const module_view& module, std::uintptr_t hdr) {
  const auto bytes = module.bytes_from(hdr);
  byte_cursor in(bytes);
  const auto version = in.read<std::uint8_t>();
  const auto section_encoding = in.read<std::uint8_t>();
  const auto count_encoding = in.read<std::uint8_t>();
  const auto table_encoding = in.read<std::uint8_t>();
  section_extent out;
  if (version != 1) return out;
  const std::uintptr_t begin = read_encoded(in, section_encoding, hdr, hdr);
  const auto section = module.bytes_from(begin);
  if (!in.ok() || section.empty()) return out;
  out.begin = begin;

  const std::uintptr_t count = read_encoded(in, count_encoding, hdr, hdr);
  constexpr std::uint8_t data_relative_sdata4 = 0x3b;
  if (!in.ok() || count == 0 || count > in.left() / 8 || table_encoding != data_relative_sdata4) {
    out.size = section.size();
    out.hdr_size = in.ok() ? in.offset() : 0;
    out.terminated = true;
    return out;
  }
  std::uintptr_t last = begin;
  for (std::uintptr_t i = 0; i < count; ++i) {
    in.skip(4);
    last = std::max(last, hdr + static_cast<std::uintptr_t>(
                                    static_cast<std::int64_t>(in.read<std::int32_t>())));
  }
  out.hdr_size = in.offset();
  if (last - begin >= section.size()) return {};
  byte_cursor record(section.subspan(last - begin));
  std::uint64_t length = record.read<std::uint32_t>();
  if (length == 0xffffffffU) length = record.read<std::uint64_t>();
  if (!record.ok() || length > record.left()) return {};
  out.size = (last - begin) + record.offset() + static_cast<std::size_t>(length);
  return out;
}

void note_unwind_information(const module_view& module, std::uintptr_t hdr, loaded_code& out,
                             const publication* previous) {
  const section_extent extent = find_extent(module, hdr);
  if (extent.size == 0) return;
  std::uint64_t hash =
      hash_words(0xcbf29ce484222325ULL, module.bytes_from(hdr).first(extent.hdr_size));
  for (const auto& header : module.headers()) {  // the build id, where there is one
    if (header.p_type != PT_NOTE) continue;
    const auto note = module.bytes_from(module.address(header));
    hash = hash_words(hash, note.first(std::min<std::size_t>(note.size(), header.p_filesz)));
  }
  out.identity = {hash, out.high - out.low, (hdr - out.low) ^ extent.hdr_size};

  if (previous != nullptr) {
    for (const shared_rows& rows : previous->rows) {
      if (rows != nullptr && rows->identity == out.identity) {
        out.known = &rows;
        return;
      }
    }
  }
  out.copy = mapped_region(extent.size);
  std::memcpy(out.copy.data(), reinterpret_cast<const void*>(extent.begin), extent.size);
  out.image.bytes = {static_cast<const std::byte*>(out.copy.data()), extent.size};
  out.image.address = extent.begin;
  out.image.hdr_address = hdr;
  out.image.terminated = extent.terminated;
}

int collect_module(dl_phdr_info* info, std::size_t, void* argument) noexcept {
  auto& all = *static_cast<collection*>(argument);
  all.adds = info->dlpi_adds;
  all.subs = info->dlpi_subs;
  if (all.count == max_modules) return 1;

  const module_view module(*info);
  std::uintptr_t low = ~std::uintptr_t{0};
  std::uintptr_t high = 0;
  std::uintptr_t hdr = 0;
  for (const auto& header : module.headers()) {
    const std::uintptr_t at = module.address(header);
    if (header.p_type == PT_GNU_EH_FRAME) hdr = at;
    if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) continue;
    low = std::min(low, at);
    high = std::max<std::uintptr_t>(high, at + header.p_memsz);
  }
  if (low >= high || high - low > 0xffffffffU) return 0;
  auto* slot = new (static_cast<loaded_code*>(all.memory.data()) + all.count) loaded_code;
  ++all.count;
  slot->low = low;
  slot->high = high;
  if (hdr == 0) return 0;
  try {
    note_unwind_information(module, hdr, *slot, all.previous);
  } catch (const std::bad_alloc&) {
    all.out_of_memory = true;
    return 1;
  }
  return 0;
}

shared_rows build_module(const loaded_code& code, cfi_rule_pool& pool) {
  const auto rows = build_rows(code.image, code.low, code.high, pool);
  const std::size_t pages = ((code.high - code.low) >> 12) + 2;
  auto out = std::make_shared<owned_rows>();
  out->identity = code.identity;
  out->memory = mapped_region(pages * 4 + rows.size() * (4 + 2));
  auto* index = static_cast<std::uint32_t*>(out->memory.data());
  auto* offsets = index + pages;
  auto* rules = reinterpret_cast<std::uint16_t*>(offsets + rows.size());
  std::uint32_t n = 0;
  for (std::size_t page = 0; page < pages; ++page) {
    while (n + 1 < rows.size() && rows[n + 1].offset <= (page << 12)) ++n;
    index[page] = n;
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    offsets[i] = rows[i].offset;
    rules[i] = rows[i].rule;
  }
  out->rows = {static_cast<std::uint32_t>(rows.size()), offsets, rules, index};
  return out;
}

std::unique_ptr<publication> assemble(collection& loaded, cfi_rule_pool& pool) {
  auto modules = loaded.modules();
  std::sort(modules.begin(), modules.end(),
            [](const loaded_code& a, const loaded_code& b) { return a.low < b.low; });
  auto out = std::make_unique<publication>();
  for (const loaded_code& m : modules) {
    if (m.known != nullptr) {
      out->rows.push_back(*m.known);
    } else if (!m.image.bytes.empty()) {
      out->rows.push_back(build_module(m, pool));
    } else {
      out->rows.push_back(nullptr);
    }
  }
  constexpr std::size_t cache_bytes = table_set::cache_entries * sizeof(std::uint64_t);
  const std::size_t module_bytes = modules.size() * sizeof(table_set::module);
  out->memory = mapped_region(sizeof(table_set) + cache_bytes + module_bytes);
  auto* at = static_cast<std::byte*>(out->memory.data());
  auto* set = new (at) table_set;
  at += sizeof(table_set);
  set->cache = reinterpret_cast<std::atomic<std::uint64_t>*>(at);
  // Touches every page, too: the first captures after a refresh need not fault them in.
  for (std::size_t i = 0; i < table_set::cache_entries; ++i) {
    new (&set->cache[i]) std::atomic<std::uint64_t>(0);
  }
  at += cache_bytes;
  auto* table = reinterpret_cast<table_set::module*>(at);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const module_rows rows = out->rows[i] ? out->rows[i]->rows : module_rows{};
    new (&table[i]) table_set::module{modules[i].low, modules[i].high, rows};
  }
  set->pool = &pool;
  set->modules = table;
  set->module_count = modules.size();
  out->set = set;
  return out;
}

class table_writer {
 public:
  bool refresh() {
    const std::lock_guard lock(mutex_);
    reclaim();
    if (current_ != nullptr && !modules_changed()) return false;
    collection loaded;
    loaded.previous = current_.get();
    ::dl_iterate_phdr(collect_module, &loaded);
    if (loaded.out_of_memory) throw std::bad_alloc();
    retired_.reserve(retired_.size() + 1);
    auto next = assemble(loaded, pool_);

    current_set.store(next->set, std::memory_order_seq_cst);  // W1
    std::swap(current_, next);
    if (next != nullptr) retired_.push_back(std::move(next));
    adds_ = loaded.adds;
    subs_ = loaded.subs;
    ++refreshes_;
    reclaim();
    return true;
  }

  unwind_table_stats stats() {
    const std::lock_guard lock(mutex_);
    reclaim();
    unwind_table_stats s;
    s.rules = pool_.rules();
    s.expressions = pool_.expressions();
    s.retired_sets = retired_.size();
    s.refreshes = refreshes_;
    if (current_ == nullptr) return s;
    s.modules = current_->rows.size();
    s.bytes = current_->memory.size();
    for (const shared_rows& rows : current_->rows) {
      if (rows == nullptr) {
        ++s.modules_without_cfi;
      } else {
        s.rows += rows->rows.count;
        s.bytes += rows->memory.size();
      }
    }
    return s;
  }

 private:
  // The counters of loads and unloads are in every entry: the first one tells.
  bool modules_changed() const {
    struct counters {
      unsigned long long adds = 0;
      unsigned long long subs = 0;
    } now;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* argument) {
          *static_cast<counters*>(argument) = {info->dlpi_adds, info->dlpi_subs};
          return 1;
        },
        &now);
    return now.adds != adds_ || now.subs != subs_;
  }

  // W2 and W3.
  void reclaim() {
    for (std::size_t i = 0; i < shard_count; ++i) {
      if (shards[i].readers.load(std::memory_order_seq_cst) != 0) continue;
      for (auto& old : retired_) old->shards_pending &= ~(std::uint32_t{1} << i);
    }
    std::erase_if(retired_, [](const auto& old) { return old->shards_pending == 0; });
  }

  std::mutex mutex_;
  cfi_rule_pool pool_;
  std::unique_ptr<publication> current_;
  std::vector<std::unique_ptr<publication>> retired_;
  unsigned long long adds_ = 0;
  unsigned long long subs_ = 0;
  std::uint64_t refreshes_ = 0;
};

// Never destroyed: handlers may run until the process is gone.
table_writer& writer() {
  static auto* const instance = new table_writer;
  return *instance;
}

}  // namespace

table_reader::table_reader(std::uintptr_t stack_address) noexcept
    : shard_(shards[spread(stack_address >> 12, 5)].readers) {
  shard_.fetch_add(1, std::memory_order_seq_cst);      // R1
  set_ = current_set.load(std::memory_order_seq_cst);  // R2
}

table_reader::~table_reader() {
  shard_.fetch_sub(1, std::memory_order_release);  // R4
}

const cfi_rule_pool* table_reader::pool() const noexcept {
  return set_ == nullptr ? nullptr : set_->pool;
}

unwind_entry table_reader::find(std::uintptr_t pc) const noexcept {
  if (set_ == nullptr) return {};
  // A cache word is whole or not there, and belongs to this set: relaxed is enough, for the rule
  // it names was published before the set was.
  std::atomic<std::uint64_t>& slot = set_->cache[spread(pc, 12)];
  const bool cacheable = (pc >> 48) == 0;
  const std::uint64_t word = slot.load(std::memory_order_relaxed);
  if (cacheable && word >> 16 == pc && word != 0) {
    return {set_->pool->rule(static_cast<std::uint16_t>(word)), true, true};
  }

  std::size_t first = 0;
  std::size_t last = set_->module_count;
  while (first < last) {
    const std::size_t middle = first + (last - first) / 2;
    if (set_->modules[middle].high <= pc) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  if (first == set_->module_count || pc < set_->modules[first].low) return {};
  const table_set::module& module = set_->modules[first];
  if (module.rows.count == 0) return {nullptr, true, false};
  const std::uint16_t number = module.rows.find(static_cast<std::uint32_t>(pc - module.low));
  if (number == 0) return {nullptr, true, true};
  if (cacheable) {
    slot.store(std::uint64_t{pc} << 16 | number, std::memory_order_relaxed);
  }
  return {set_->pool->rule(number), true, true};
}

bool refresh_unwind_tables() noexcept {
  try {
    return writer().refresh();
  } catch (const std::bad_alloc&) {
    return false;
  }
}

unwind_table_stats unwind_stats() {
  return writer().stats();
}

}  // namespace tuco::inline v1::observe
