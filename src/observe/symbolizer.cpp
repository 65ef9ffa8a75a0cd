// SPDX-License-Identifier: Apache-2.0
#include "observe/symbolizer.hpp"

#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>

#include "observe/demangle.hpp"
#include "observe/dwarf_module.hpp"
#include "observe/elf_symbols.hpp"
#include "observe/hexadecimal.hpp"
#include "observe/modules.hpp"
#include "os/memory.hpp"

namespace tuco::inline v1::observe {
namespace {

// Answers are kept up to this many addresses: some ten megabytes. Programs have far fewer places
// at which they are ever seen.
constexpr std::size_t max_cached = 65536;

elf_symbols symbols_of(const loaded_module& module) {
  if (module.path.empty()) {
    // The vdso's section table lies behind its segment, in what is left of the last page.
    const std::size_t page = os::page_size();
    const std::size_t size = (module.high - module.low + page - 1) / page * page;
    return elf_symbols::from_memory({reinterpret_cast<const std::byte*>(module.low), size});
  }
  elf_symbols own = elf_symbols::from_file(module.path, module.build_id);
  if (own.has_symtab() || module.build_id.empty()) return own;
  elf_symbols split = elf_symbols::from_file(debug_file_of(module.build_id), module.build_id);
  return split.empty() ? std::move(own) : std::move(split);
}

/// What is known about one module, read when first asked for.
class module_symbols {
 public:
  module_symbols(std::shared_ptr<const loaded_module> module, const symbolizer::options& use)
      : module_(std::move(module)), use_(use) {}

  std::vector<source_frame> find(std::uintptr_t pc, std::uintptr_t lookup) {
    std::vector<source_frame> out;
    for (dwarf_frame& f : dwarf_frames(lookup)) {
      source_frame s{std::move(f.function), std::move(f.file), f.line, pc - f.start, f.inlined};
      if (f.start == 0) {
        name_by_table(pc, lookup, s);
      } else if (!f.has_parameters && !f.inlined) {
        prefer_table_name(lookup, s);
      }
      out.push_back(std::move(s));
    }
    if (out.empty()) {
      name_by_table(pc, lookup, out.emplace_back());
    }
    return out;
  }

 private:
  std::vector<dwarf_frame> dwarf_frames(std::uintptr_t lookup) {
    if (!use_.debug_information) return {};
    if (!dwarf_tried_) {
      dwarf_tried_ = true;
      dwarf_ = dwarf_module::open(*module_);
    }
    return dwarf_ == nullptr ? std::vector<dwarf_frame>{} : dwarf_->find(lookup);
  }

  // gcc gives static functions no linkage name, hence no parameters; their symbol has them.
  void prefer_table_name(std::uintptr_t lookup, source_frame& out) {
    const auto symbol = table_symbol(lookup);
    if (symbol && symbol->name.starts_with("_Z")) out.function = readable_name(symbol->name);
  }

  std::optional<elf_symbols::symbol> table_symbol(std::uintptr_t lookup) {
    if (!use_.symbol_tables) return std::nullopt;
    if (!symbols_) symbols_ = symbols_of(*module_);
    return symbols_->find(lookup - module_->bias);
  }

  void name_by_table(std::uintptr_t pc, std::uintptr_t lookup, source_frame& out) {
    if (const auto symbol = table_symbol(lookup)) {
      if (out.function.empty()) out.function = readable_name(symbol->name);
      out.offset = pc - (symbol->start + module_->bias);
      return;
    }
    out.offset = pc - module_->bias;
    if (out.function.empty()) {
      const std::string& path = module_->name;
      out.function = path.substr(path.rfind('/') + 1) + '+' + hexadecimal(out.offset);
    }
  }

  std::shared_ptr<const loaded_module> module_;  // first: dwarf_ refers to it
  const symbolizer::options& use_;
  bool dwarf_tried_ = false;
  std::unique_ptr<dwarf_module> dwarf_;
  std::optional<elf_symbols> symbols_;
};

}  // namespace

class symbolizer::state {
 public:
  explicit state(options use) : use_(use) {}

  std::vector<source_frame> symbolize(std::uintptr_t pc, bool is_return_address) {
    const std::lock_guard lock(mutex_);
    follow_loads();
    const std::uint64_t key = std::uint64_t{pc} << 1 | static_cast<unsigned>(is_return_address);
    if (const auto known = answers_.find(key); known != answers_.end()) return known->second;
    if (answers_.size() >= max_cached) answers_.clear();
    return answers_.emplace(key, answer(pc, is_return_address && pc != 0)).first->second;
  }

 private:
  std::vector<source_frame> answer(std::uintptr_t pc, bool is_return_address) {
    const std::uintptr_t lookup = is_return_address ? pc - 1 : pc;
    const auto module = list_->find(lookup);
    if (module == nullptr) return {{hexadecimal(pc), {}, 0, 0, false}};
    auto& symbols = modules_[module.get()];
    if (symbols == nullptr) symbols = std::make_unique<module_symbols>(module, use_);
    return symbols->find(pc, lookup);
  }

  // Answers about a module that went may be wrong for the one that came to its place.
  void follow_loads() {
    auto now = loaded_modules();
    if (now == list_) return;
    std::erase_if(modules_, [&](const auto& entry) {
      for (const auto& module : now->modules) {
        if (module.get() == entry.first) return false;
      }
      return true;
    });
    answers_.clear();
    list_ = std::move(now);
  }

  const options use_;
  std::mutex mutex_;
  std::shared_ptr<const module_list> list_;
  std::unordered_map<const loaded_module*, std::unique_ptr<module_symbols>> modules_;
  std::unordered_map<std::uint64_t, std::vector<source_frame>> answers_;
};

symbolizer::symbolizer() : symbolizer(options{}) {}
symbolizer::symbolizer(options o) : state_(std::make_unique<state>(o)) {}
symbolizer::~symbolizer() = default;

std::vector<source_frame> symbolizer::symbolize(std::uintptr_t pc, bool is_return_address) {
  return state_->symbolize(pc, is_return_address);
}

std::vector<source_frame> symbolize(std::uintptr_t pc, bool is_return_address) {
  static auto* const shared = new symbolizer;
  return shared->symbolize(pc, is_return_address);
}

}  // namespace tuco::inline v1::observe
