// SPDX-License-Identifier: Apache-2.0
#include "observe/modules.hpp"

#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <mutex>
#include <string_view>

#include "observe/byte_cursor.hpp"

namespace tuco::inline v1::observe {
namespace {

// The callback runs under the dynamic linker's lock, where an interposed malloc could call back
// into the linker. It therefore only fills what was made before; when that was too small, it says
// how much there is, and the caller comes again.
struct raw_module {
  std::uintptr_t bias;
  std::uintptr_t low;
  std::uintptr_t high;
  std::size_t name_at;
  std::size_t name_size;
  std::array<std::byte, 64> build_id;
  std::size_t build_id_size;
};

struct collection {
  std::span<raw_module> modules;
  std::span<char> names;
  std::size_t module_count = 0;
  std::size_t name_bytes = 0;
  unsigned long long loads = 0;
  unsigned long long unloads = 0;

  [[nodiscard]] bool complete() const {
    return module_count <= modules.size() && name_bytes <= names.size();
  }
};

int collect(dl_phdr_info* info, std::size_t, void* argument) noexcept {
  auto& all = *static_cast<collection*>(argument);
  all.loads = info->dlpi_adds;
  all.unloads = info->dlpi_subs;
  const std::string_view name = info->dlpi_name != nullptr ? info->dlpi_name : "";
  const std::size_t name_at = all.name_bytes;
  all.name_bytes += name.size();
  const std::size_t n = all.module_count++;
  if (!all.complete()) return 0;

  raw_module& m = all.modules[n];
  m = {};
  m.bias = info->dlpi_addr;
  m.low = ~std::uintptr_t{0};
  m.name_at = name_at;
  m.name_size = name.size();
  std::memcpy(all.names.data() + name_at, name.data(), name.size());
  for (const auto& header : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
    const std::uintptr_t at = m.bias + header.p_vaddr;
    if (header.p_type == PT_LOAD) {
      m.low = std::min(m.low, at);
      m.high = std::max<std::uintptr_t>(m.high, at + header.p_memsz);
    } else if (header.p_type == PT_NOTE && m.build_id_size == 0) {
      const auto id =
          find_build_id({reinterpret_cast<const std::byte*>(at), std::size_t{header.p_memsz}});
      m.build_id_size = std::min(id.size(), m.build_id.size());
      std::copy_n(id.begin(), m.build_id_size, m.build_id.begin());
    }
  }
  return 0;
}

std::string program_path() {
  std::array<char, PATH_MAX> buffer;
  const ssize_t n = ::readlink("/proc/self/exe", buffer.data(), buffer.size());
  return n > 0 ? std::string(buffer.data(), static_cast<std::size_t>(n)) : std::string("[program]");
}

std::shared_ptr<const loaded_module> make_module(const raw_module& raw, std::string_view name,
                                                 bool is_program) {
  auto m = std::make_shared<loaded_module>();
  m->bias = raw.bias;
  m->low = raw.low;
  m->high = raw.high;
  m->build_id.assign(raw.build_id.begin(),
                     raw.build_id.begin() + static_cast<std::ptrdiff_t>(raw.build_id_size));
  const auto vdso = static_cast<std::uintptr_t>(::getauxval(AT_SYSINFO_EHDR));
  if (vdso != 0 && m->contains(vdso)) {
    m->name = "[vdso]";
  } else if (is_program) {
    // The path may name another file by now; the link still leads to the one that runs.
    m->name = program_path();
    m->path = "/proc/self/exe";
  } else {
    m->name = name;
    m->path = name;
  }
  return m;
}

/// The same module in an earlier list, so that what others keep by it stays valid.
std::shared_ptr<const loaded_module> find_same(const module_list* before, const raw_module& raw,
                                               std::string_view name) {
  if (before == nullptr) return nullptr;
  auto m = before->find(raw.low);
  if (m == nullptr || m->bias != raw.bias || m->low != raw.low || m->high != raw.high ||
      !std::ranges::equal(m->build_id, std::span(raw.build_id).first(raw.build_id_size)) ||
      (m->build_id.empty() && !name.empty() && m->name != name)) {
    return nullptr;
  }
  return m;
}

std::shared_ptr<const module_list> take_list(const module_list* before) {
  std::vector<raw_module> modules(64);
  std::vector<char> names(8192);
  for (;;) {
    collection all;
    all.modules = modules;
    all.names = names;
    ::dl_iterate_phdr(collect, &all);
    if (!all.complete()) {
      modules.resize(std::max(modules.size(), all.module_count + 16));
      names.resize(std::max(names.size(), all.name_bytes + 1024));
      continue;
    }
    auto list = std::make_shared<module_list>();
    list->loads = all.loads;
    list->unloads = all.unloads;
    for (std::size_t i = 0; i < all.module_count; ++i) {
      const raw_module& raw = modules[i];
      if (raw.low >= raw.high) continue;
      const std::string_view name(names.data() + raw.name_at, raw.name_size);
      auto m = find_same(before, raw, name);
      // The dynamic linker lists the program first, and without a name.
      list->modules.push_back(m != nullptr ? std::move(m) : make_module(raw, name, i == 0));
    }
    std::sort(list->modules.begin(), list->modules.end(),
              [](const auto& a, const auto& b) { return a->low < b->low; });
    return list;
  }
}

class list_cache {
 public:
  std::shared_ptr<const module_list> get() {
    const std::lock_guard lock(mutex_);
    module_list now;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* argument) {
          auto& counters = *static_cast<module_list*>(argument);
          counters.loads = info->dlpi_adds;
          counters.unloads = info->dlpi_subs;
          return 1;
        },
        &now);
    if (list_ == nullptr || now.loads != list_->loads || now.unloads != list_->unloads) {
      list_ = take_list(list_.get());
    }
    return list_;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const module_list> list_;
};

}  // namespace

std::span<const std::byte> find_build_id(std::span<const std::byte> notes) noexcept {
  byte_cursor in(notes);
  while (!in.at_end()) {
    const auto name_size = in.read<std::uint32_t>();
    const auto size = in.read<std::uint32_t>();
    const auto type = in.read<std::uint32_t>();
    const auto name = in.bytes(name_size);
    in.skip((4 - name_size % 4) % 4);
    const auto content = in.bytes(size);
    if (!in.ok()) return {};
    if (type == NT_GNU_BUILD_ID && name_size == 4 && std::memcmp(name.data(), "GNU", 4) == 0) {
      return content;
    }
    in.skip((4 - size % 4) % 4);
  }
  return {};
}

std::shared_ptr<const loaded_module> module_list::find(std::uintptr_t pc) const {
  const auto after = std::upper_bound(
      modules.begin(), modules.end(), pc,
      [](std::uintptr_t address, const auto& module) { return address < module->low; });
  if (after == modules.begin()) return nullptr;
  const auto& candidate = *std::prev(after);
  return candidate->contains(pc) ? candidate : nullptr;
}

std::shared_ptr<const module_list> loaded_modules() {
  static auto* const cache = new list_cache;  // outlives static destructors, which may dump
  return cache->get();
}

std::shared_ptr<const loaded_module> module_of(std::uintptr_t pc) {
  return loaded_modules()->find(pc);
}

}  // namespace tuco::inline v1::observe
