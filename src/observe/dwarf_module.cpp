// SPDX-License-Identifier: Apache-2.0
#include "observe/dwarf_module.hpp"

#include "observe/demangle.hpp"
#include "observe/elf_symbols.hpp"
#include "os/file.hpp"
#include "os/socket.hpp"

// Types only: every function is found by dlsym().
#if __has_include(<elfutils/libdwfl.h>)
#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string_view>
#endif

namespace tuco::inline v1::observe {

std::string debug_file_of(std::span<const std::byte> build_id) {
  if (build_id.size() < 2) return {};
  std::string path = "/usr/lib/debug/.build-id/";
  for (std::size_t i = 0; i < build_id.size(); ++i) {
    constexpr char digits[] = "0123456789abcdef";
    const auto byte = std::to_integer<unsigned>(build_id[i]);
    path += digits[byte >> 4];
    path += digits[byte & 15U];
    if (i == 0) path += '/';
  }
  return path + ".debug";
}

#if __has_include(<elfutils/libdwfl.h>)

namespace {

struct libdw {
#define TUCO_LIBDW_FUNCTION(name) decltype(&::name) name = nullptr;
#define TUCO_LIBDW_FUNCTIONS(F)                                                                    \
  F(dwfl_begin)                                                                                    \
  F(dwfl_end) F(dwfl_report_begin) F(dwfl_report_elf) F(dwfl_report_end) F(dwfl_module_info)       \
      F(dwfl_module_getdwarf) F(dwfl_module_nextcu) F(dwarf_child) F(dwarf_siblingof) F(dwarf_tag) \
          F(dwarf_haspc) F(dwarf_hasattr) F(dwarf_ranges) F(dwarf_entrypc) F(dwarf_attr)           \
              F(dwarf_attr_integrate) F(dwarf_formstring) F(dwarf_formudata) F(dwarf_formref_die)  \
                  F(dwarf_diename) F(dwarf_getscopes_die) F(dwarf_getsrc_die) F(dwarf_lineno)      \
                      F(dwarf_linesrc) F(dwarf_getsrcfiles) F(dwarf_filesrc)
  TUCO_LIBDW_FUNCTIONS(TUCO_LIBDW_FUNCTION)
#undef TUCO_LIBDW_FUNCTION

  static const libdw* get() {
    static const std::optional<libdw> loaded = load();
    return loaded ? &*loaded : nullptr;
  }

 private:
  static std::optional<libdw> load() {
    // RTLD_LOCAL: our libdw must not satisfy anybody else's symbols. Never closed.
    void* const handle = ::dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return std::nullopt;
    libdw out;
    bool complete = true;
    const auto find = [&](auto& function, const char* name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, name));
      complete = complete && function != nullptr;
    };
#define TUCO_LIBDW_FIND(name) find(out.name, #name);
    TUCO_LIBDW_FUNCTIONS(TUCO_LIBDW_FIND)
#undef TUCO_LIBDW_FIND
    return complete ? std::optional(out) : std::nullopt;
  }
};

/// libdwfl asks for the file that holds the debug information of a stripped module.
int find_debug_file(Dwfl_Module*, void** user_data, const char*, Dwarf_Addr, const char* file_name,
                    const char* debuglink, GElf_Word, char**) {
  const auto* module = static_cast<const loaded_module*>(*user_data);
  if (module == nullptr || module->build_id.empty()) return -1;
  std::vector<std::string> candidates{debug_file_of(module->build_id)};
  if (debuglink != nullptr && file_name != nullptr) {
    const auto folder = std::filesystem::path(module->name).parent_path().string();
    for (const auto& at : {folder, folder + "/.debug", "/usr/lib/debug" + folder}) {
      candidates.push_back(at + '/' + debuglink);
    }
  }
  for (const std::string& path : candidates) {
    if (build_id_of_file(path) == module->build_id) {
      return std::max(os::open_for_reading(path.c_str()), -1);
    }
  }
  return -1;
}

std::string normal_path(const char* file, const char* folder) {
  if (file == nullptr) return {};
  std::filesystem::path path(file);
  if (path.is_relative() && folder != nullptr) path = folder / path;
  return path.lexically_normal().string();
}

class libdw_module final : public dwarf_module {
 public:
  libdw_module(const libdw& dw, const loaded_module& module) : dw_(dw), module_(module) {}
  libdw_module(const libdw_module&) = delete;
  libdw_module& operator=(const libdw_module&) = delete;
  ~libdw_module() override {
    if (dwfl_ != nullptr) dw_.dwfl_end(dwfl_);
  }

  bool open() {
    const int file = os::open_for_reading(module_.path.c_str());
    if (file < 0) return false;
    static constexpr Dwfl_Callbacks callbacks{nullptr, find_debug_file, nullptr, nullptr};
    dwfl_ = dw_.dwfl_begin(&callbacks);
    if (dwfl_ == nullptr) {
      os::close_descriptor(file);
      return false;
    }
    dw_.dwfl_report_begin(dwfl_);
    Dwfl_Module* const reported = dw_.dwfl_report_elf(
        dwfl_, module_.name.c_str(), module_.path.c_str(), file, module_.bias, true);
    if (reported == nullptr) {
      os::close_descriptor(file);
      return false;
    }
    void** user_data = nullptr;
    dw_.dwfl_module_info(reported, &user_data, nullptr, nullptr, nullptr, nullptr, nullptr,
                         nullptr);
    // For find_debug_file(); the module outlives this object (the caller's promise).
    *user_data = const_cast<loaded_module*>(&module_);
    if (dw_.dwfl_report_end(dwfl_, nullptr, nullptr) != 0) return false;
    Dwarf_Addr bias = 0;
    if (dw_.dwfl_module_getdwarf(reported, &bias) == nullptr) return false;
    index_units(reported);
    return !ranges_.empty();
  }

  std::vector<dwarf_frame> find(std::uintptr_t pc) override {
    unit* const u = unit_at(pc);
    if (u == nullptr) return {};
    const Dwarf_Addr address = pc - u->bias;
    Dwarf_Die function;
    std::vector<dwarf_frame> frames;
    position at = line_at(*u, address);
    if (!find_function(*u, address, function)) {
      // Assembly has lines, but often no functions.
      if (at.line != 0) frames.push_back({{}, std::move(at.file), at.line});
      return frames;
    }
    // Outermost first: the function that is there, then what was inlined into it.
    std::vector<Dwarf_Die> chain{function};
    collect_inlined(function, address, chain);
    if (at.line == 0) at = declaration_of(*u, chain.back());
    const std::uintptr_t start = start_of(function, address) + u->bias;
    for (std::size_t i = chain.size(); i-- > 0;) {
      dwarf_frame& f = frames.emplace_back();
      f.file = std::move(at.file);
      f.line = at.line;
      f.start = start;
      f.inlined = i > 0;
      name(chain[i], f);
      if (i > 0) at = call_site(*u, chain[i]);
    }
    return frames;
  }

 private:
  struct function_range {
    Dwarf_Addr low;
    Dwarf_Addr high;
    Dwarf_Die die;
  };
  struct unit {
    Dwarf_Die die;
    Dwarf_Addr bias;
    bool indexed = false;
    bool searched_nested = false;
    std::vector<function_range> functions;  // by low
  };
  struct unit_range {
    Dwarf_Addr low;
    Dwarf_Addr high;
    std::size_t unit;
  };
  struct position {
    std::string file;
    unsigned line = 0;
  };

  void index_units(Dwfl_Module* reported) {
    Dwarf_Die* die = nullptr;
    Dwarf_Addr bias = 0;
    while ((die = dw_.dwfl_module_nextcu(reported, die, &bias)) != nullptr) {
      units_.push_back({*die, bias, false, false, {}});
      each_range(*die, [&](Dwarf_Addr low, Dwarf_Addr high) {
        ranges_.push_back({low + bias, high + bias, units_.size() - 1});
      });
    }
    std::sort(ranges_.begin(), ranges_.end(),
              [](const auto& a, const auto& b) { return a.low < b.low; });
  }

  template <class F>
  void each_range(Dwarf_Die& die, F f) const {
    Dwarf_Addr base = 0;
    Dwarf_Addr low = 0;
    Dwarf_Addr high = 0;
    // A function that the linker discarded keeps an entry at 0 (or 1).
    for (std::ptrdiff_t at = 0; (at = dw_.dwarf_ranges(&die, at, &base, &low, &high)) > 0;) {
      if (low > 1 && low < high) f(low, high);
    }
  }

  // Ranges nest only in malformed input, so the nearest one below is the one.
  template <class Ranges>
  static auto nearest(Ranges& ranges, Dwarf_Addr address) -> decltype(ranges.data()) {
    auto after = std::upper_bound(ranges.begin(), ranges.end(), address,
                                  [](Dwarf_Addr a, const auto& r) { return a < r.low; });
    if (after == ranges.begin() || address >= std::prev(after)->high) return nullptr;
    return &*std::prev(after);
  }

  unit* unit_at(std::uintptr_t pc) {
    const unit_range* const r = nearest(ranges_, pc);
    return r == nullptr ? nullptr : &units_[r->unit];
  }

  // Functions stand at the top of a unit, or in a namespace or class. Those that a compiler nests
  // in another function are looked for only when nothing else covers an address, because that
  // means reading every entry of the unit.
  void index_functions(Dwarf_Die& parent, bool nested, std::vector<function_range>& out,
                       int depth = 0) {
    Dwarf_Die die;
    if (depth > 64 || dw_.dwarf_child(&parent, &die) != 0) return;
    do {
      switch (dw_.dwarf_tag(&die)) {
        case DW_TAG_subprogram:
          each_range(die, [&](Dwarf_Addr low, Dwarf_Addr high) {
            out.push_back({low, high, die});
          });
          if (nested) index_functions(die, nested, out, depth + 1);
          break;
        case DW_TAG_namespace:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
        case DW_TAG_union_type:
        case DW_TAG_module:
          index_functions(die, nested, out, depth + 1);
          break;
        case DW_TAG_lexical_block:
          if (nested) index_functions(die, nested, out, depth + 1);
          break;
        default:
          break;
      }
    } while (dw_.dwarf_siblingof(&die, &die) == 0);
  }

  void index_unit(unit& u, bool nested) {
    u.functions.clear();
    index_functions(u.die, nested, u.functions);
    std::sort(u.functions.begin(), u.functions.end(),
              [](const auto& a, const auto& b) { return a.low < b.low; });
  }

  bool find_function(unit& u, Dwarf_Addr address, Dwarf_Die& out) {
    if (!u.indexed) {
      u.indexed = true;
      index_unit(u, false);
    }
    function_range* found = nearest(u.functions, address);
    if (found == nullptr && !u.searched_nested) {
      u.searched_nested = true;
      index_unit(u, true);
      found = nearest(u.functions, address);
    }
    if (found != nullptr) out = found->die;
    return found != nullptr;
  }

  void collect_inlined(Dwarf_Die parent, Dwarf_Addr address, std::vector<Dwarf_Die>& chain,
                       int depth = 0) {
    Dwarf_Die die;
    if (depth > 128 || dw_.dwarf_child(&parent, &die) != 0) return;
    do {
      const int tag = dw_.dwarf_tag(&die);
      if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_lexical_block &&
          tag != DW_TAG_try_block && tag != DW_TAG_catch_block) {
        continue;
      }
      const bool here = dw_.dwarf_haspc(&die, address) > 0;
      // A block of which nothing was kept but what is in it.
      const bool anywhere = tag == DW_TAG_lexical_block && !dw_.dwarf_hasattr(&die, DW_AT_low_pc) &&
                            !dw_.dwarf_hasattr(&die, DW_AT_ranges);
      if (!here && !anywhere) continue;
      if (tag == DW_TAG_inlined_subroutine) chain.push_back(die);
      const std::size_t before = chain.size();
      collect_inlined(die, address, chain, depth + 1);
      if (here || chain.size() != before) return;
    } while (dw_.dwarf_siblingof(&die, &die) == 0);
  }

  // The part of the function that `address` is in, for a cold part lies elsewhere.
  std::uintptr_t start_of(Dwarf_Die& function, Dwarf_Addr address) const {
    Dwarf_Addr entry = 0;
    if (dw_.dwarf_entrypc(&function, &entry) == 0 && entry <= address &&
        dw_.dwarf_haspc(&function, entry) > 0) {
      bool contiguous = false;
      each_range(function, [&](Dwarf_Addr low, Dwarf_Addr high) {
        contiguous = contiguous || (entry >= low && entry < high && address < high);
      });
      if (contiguous) return entry;
    }
    std::uintptr_t start = address;
    each_range(function, [&](Dwarf_Addr low, Dwarf_Addr high) {
      if (address >= low && address < high) start = low;
    });
    return start;
  }

  const char* string_attribute(Dwarf_Die& die, unsigned name) const {
    Dwarf_Attribute attribute;
    return dw_.dwarf_attr_integrate(&die, name, &attribute) == nullptr
               ? nullptr
               : dw_.dwarf_formstring(&attribute);
  }
  std::optional<Dwarf_Word> number_attribute(Dwarf_Die& die, unsigned name) const {
    Dwarf_Attribute attribute;
    Dwarf_Word value = 0;
    if (dw_.dwarf_attr_integrate(&die, name, &attribute) == nullptr ||
        dw_.dwarf_formudata(&attribute, &value) != 0) {
      return std::nullopt;
    }
    return value;
  }

  // Follows an inlined or out-of-line instance to the declaration inside its namespace or class.
  Dwarf_Die origin_of(Dwarf_Die die) const {
    for (int hops = 0; hops < 8; ++hops) {
      Dwarf_Attribute attribute;
      Dwarf_Die next;
      if ((dw_.dwarf_attr(&die, DW_AT_abstract_origin, &attribute) == nullptr &&
           dw_.dwarf_attr(&die, DW_AT_specification, &attribute) == nullptr) ||
          dw_.dwarf_formref_die(&attribute, &next) == nullptr) {
        break;
      }
      die = next;
    }
    return die;
  }

  void name(Dwarf_Die& die, dwarf_frame& out) const {
    const char* linkage = string_attribute(die, DW_AT_linkage_name);
    if (linkage == nullptr) linkage = string_attribute(die, DW_AT_MIPS_linkage_name);
    // Others than C++ ones are aliases that nobody writes, such as glibc's __GI_qsort.
    if (linkage != nullptr && std::string_view(linkage).starts_with("_Z")) {
      out.function = readable_name(linkage);
      return;
    }
    out.has_parameters = false;
    if (const char* const own = string_attribute(die, DW_AT_name)) {
      out.function = qualified(own, die);
    }
  }

  std::string qualified(std::string name, Dwarf_Die& die) const {
    Dwarf_Die origin = origin_of(die);
    Dwarf_Die* scopes = nullptr;
    const int count = dw_.dwarf_getscopes_die(&origin, &scopes);
    for (int i = 1; i < count; ++i) {
      const int tag = dw_.dwarf_tag(&scopes[i]);
      if (tag == DW_TAG_subprogram) {
        // A lambda or a local class: what its function is called says where to look.
        dwarf_frame function;
        this->name(scopes[i], function);
        if (!function.function.empty()) name.insert(0, function.function + "::");
        break;
      }
      if (tag != DW_TAG_namespace && tag != DW_TAG_class_type && tag != DW_TAG_structure_type &&
          tag != DW_TAG_union_type) {
        continue;
      }
      const char* const scope = dw_.dwarf_diename(&scopes[i]);
      if (tag == DW_TAG_namespace) {
        name.insert(0, scope != nullptr ? std::string(scope) + "::" : "(anonymous namespace)::");
      } else if (scope == nullptr || std::string_view(scope).starts_with("<lambda")) {
        name.insert(0, "{lambda}::");
      } else {
        name.insert(0, std::string(scope) + "::");
      }
    }
    std::free(scopes);
    return shorten_name(name);
  }

  position line_at(unit& u, Dwarf_Addr address) const {
    Dwarf_Line* const line = dw_.dwarf_getsrc_die(&u.die, address);
    int number = 0;
    if (line == nullptr || dw_.dwarf_lineno(line, &number) != 0 || number <= 0) return {};
    return {normal_path(dw_.dwarf_linesrc(line, nullptr, nullptr), folder_of(u)),
            static_cast<unsigned>(number)};
  }

  const char* folder_of(unit& u) const { return string_attribute(u.die, DW_AT_comp_dir); }

  position position_of(unit& u, Dwarf_Die& die, unsigned file_name, unsigned line_name) const {
    position out;
    const auto file = number_attribute(die, file_name);
    const auto line = number_attribute(die, line_name);
    if (line) out.line = static_cast<unsigned>(*line);
    Dwarf_Files* files = nullptr;
    std::size_t count = 0;
    if (file && dw_.dwarf_getsrcfiles(&u.die, &files, &count) == 0 && *file < count) {
      out.file = normal_path(dw_.dwarf_filesrc(files, *file, nullptr, nullptr), folder_of(u));
    }
    return out;
  }
  position call_site(unit& u, Dwarf_Die& inlined) const {
    return position_of(u, inlined, DW_AT_call_file, DW_AT_call_line);
  }
  position declaration_of(unit& u, Dwarf_Die& function) const {
    return position_of(u, function, DW_AT_decl_file, DW_AT_decl_line);
  }

  const libdw& dw_;
  const loaded_module& module_;
  Dwfl* dwfl_ = nullptr;
  std::vector<unit> units_;
  std::vector<unit_range> ranges_;  // by low
};

}  // namespace

bool libdw_is_available() {
  return libdw::get() != nullptr;
}

std::unique_ptr<dwarf_module> dwarf_module::open(const loaded_module& module) {
  if (module.path.empty()) return nullptr;
  const libdw* const dw = libdw::get();
  if (dw == nullptr) return nullptr;
  if (!module.build_id.empty() && build_id_of_file(module.path) != module.build_id) return nullptr;
  auto out = std::make_unique<libdw_module>(*dw, module);
  if (!out->open()) return nullptr;
  return out;
}

#else

bool libdw_is_available() {
  return false;
}
std::unique_ptr<dwarf_module> dwarf_module::open(const loaded_module&) {
  return nullptr;
}

#endif

}  // namespace tuco::inline v1::observe
