// SPDX-License-Identifier: Apache-2.0
#include "e2e/debug_reader.hpp"

#include <elf.h>
#include <sys/uio.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>

#include "base/tick_clock.hpp"

namespace tuco::test {

using observe::debug_descriptor;
using observe::debug_field;

memory_image memory_image::of_process(pid_t pid) {
  memory_image image;
  image.read = [pid](std::uint64_t address, void* to, std::size_t size) {
    const iovec local{to, size};
    const iovec remote{reinterpret_cast<void*>(address), size};
    return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
  };
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    image.candidates.push_back(std::stoull(line, nullptr, 16));
  }
  return image;
}

namespace {

constexpr std::uint64_t locked_to_thread = 16;  // of the flags

/// What was mapped from files: a core leaves out what the files still hold.
struct mapped_file {
  std::uint64_t start, end, offset;
  std::string name;
};

std::vector<mapped_file> mapped_files(std::span<const char> notes) {
  std::vector<mapped_file> out;
  const auto align = [](std::size_t n) { return (n + 3) / 4 * 4; };
  for (std::size_t at = 0; at + sizeof(Elf64_Nhdr) <= notes.size();) {
    Elf64_Nhdr note{};
    std::memcpy(&note, notes.data() + at, sizeof note);
    const char* content = notes.data() + at + sizeof note + align(note.n_namesz);
    at += sizeof note + align(note.n_namesz) + align(note.n_descsz);
    if (note.n_type != NT_FILE) continue;
    std::uint64_t count = 0;
    std::memcpy(&count, content, sizeof count);
    const char* entry = content + 16;  // behind the count and the page size
    const char* name = entry + 24 * count;
    for (std::uint64_t i = 0; i < count; ++i, entry += 24) {
      std::uint64_t words[3];
      std::memcpy(words, entry, sizeof words);
      out.push_back({words[0], words[1], words[2] * 4096, name});
      name += out.back().name.size() + 1;
    }
  }
  return out;
}

std::vector<char> whole_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class core_file {
 public:
  explicit core_file(const std::string& path) : bytes_(whole_file(path)) {
    Elf64_Ehdr header{};
    if (bytes_.size() < sizeof header) throw std::runtime_error(path + ": no core");
    std::memcpy(&header, bytes_.data(), sizeof header);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_type != ET_CORE) {
      throw std::runtime_error(path + ": no core");
    }
    segments_.resize(header.e_phnum);
    std::memcpy(segments_.data(), bytes_.data() + header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr));
    for (const auto& s : segments_) {
      if (s.p_type == PT_NOTE) files_ = mapped_files(std::span(bytes_).subspan(s.p_offset, s.p_filesz));
    }
  }

  [[nodiscard]] const std::vector<Elf64_Phdr>& segments() const { return segments_; }

  bool read(std::uint64_t address, void* to, std::size_t size) {
    for (const auto& s : segments_) {
      if (s.p_type != PT_LOAD || address < s.p_vaddr || address + size > s.p_vaddr + s.p_memsz) continue;
      const std::uint64_t at = address - s.p_vaddr;
      if (at + size <= s.p_filesz) {
        std::memcpy(to, bytes_.data() + s.p_offset + at, size);
        return true;
      }
      return read_file(address, to, size);
    }
    return false;
  }

 private:
  bool read_file(std::uint64_t address, void* to, std::size_t size) {
    for (const auto& f : files_) {
      if (address < f.start || address + size > f.end) continue;
      const auto [file, is_new] = contents_.try_emplace(f.name);
      if (is_new) file->second = whole_file(f.name);
      const std::uint64_t at = f.offset + (address - f.start);
      if (at + size > file->second.size()) return false;
      std::memcpy(to, file->second.data() + at, size);
      return true;
    }
    return false;
  }

  std::vector<char> bytes_;
  std::vector<Elf64_Phdr> segments_;
  std::vector<mapped_file> files_;
  std::map<std::string, std::vector<char>> contents_;
};

}  // namespace

memory_image memory_image::of_core(const std::string& path) {
  const auto core = std::make_shared<core_file>(path);
  memory_image image;
  for (const auto& s : core->segments()) {
    if (s.p_type == PT_LOAD) image.candidates.push_back(s.p_vaddr);
  }
  image.read = [core](std::uint64_t address, void* to, std::size_t size) {
    return core->read(address, to, size);
  };
  return image;
}

debug_reader::debug_reader(memory_image image) : image_(std::move(image)) {
  for (const std::uint64_t at : image_.candidates) {
    if (find_in(at)) return;
  }
  throw std::runtime_error("no module has the note of tuco_debug_v1");
}

bool debug_reader::find_in(std::uint64_t module) {
  Elf64_Ehdr header{};
  if (!image_.read(module, &header, sizeof header)) return false;
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phnum > 64) return false;
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  if (!image_.read(module + header.e_phoff, segments.data(), segments.size() * sizeof(Elf64_Phdr))) {
    return false;
  }
  std::uint64_t bias = module;
  for (const auto& s : segments) {
    if (s.p_type == PT_LOAD && s.p_offset == 0) bias = module - s.p_vaddr;
  }
  for (const auto& s : segments) {
    if (s.p_type != PT_NOTE || s.p_memsz > 65536) continue;
    std::vector<char> notes(s.p_memsz);
    if (!image_.read(bias + s.p_vaddr, notes.data(), notes.size())) continue;
    for (std::size_t at = 0; at + sizeof(Elf64_Nhdr) <= notes.size();) {
      Elf64_Nhdr note{};
      std::memcpy(&note, notes.data() + at, sizeof note);
      const std::size_t name = at + sizeof note;
      const std::size_t content = name + (note.n_namesz + 3) / 4 * 4;
      if (content + note.n_descsz > notes.size()) break;
      if (note.n_type == observe::debug_note_type && note.n_namesz == 5 && note.n_descsz == 8 &&
          std::memcmp(notes.data() + name, "tuco", 5) == 0) {
        std::int64_t distance = 0;
        std::memcpy(&distance, notes.data() + content, sizeof distance);
        address_ = bias + s.p_vaddr + content + static_cast<std::uint64_t>(distance);
        module_ = bias;
        return image_.read(address_, &layout_, sizeof layout_) &&
               std::strcmp(layout_.magic, "tuco_debug_v1") == 0;
      }
      at = content + (note.n_descsz + 3) / 4 * 4;
    }
  }
  return false;
}

void debug_reader::get_bytes(std::uint64_t address, void* to, std::size_t size) const {
  if (!image_.read(address, to, size)) throw std::runtime_error("unreadable address");
}

std::uint64_t debug_reader::field(std::span<const std::byte> record, debug_field f) const {
  if (f.size == 0 || f.size > 8 || f.offset + f.size > record.size()) return 0;
  std::uint64_t value = 0;
  std::memcpy(&value, record.data() + f.offset, f.size);
  return value;
}

std::uint64_t debug_reader::field_at(std::uint64_t record, debug_field f) const {
  std::uint64_t value = 0;
  get_bytes(record + f.offset, &value, f.size);
  return value;
}

std::string debug_reader::text(std::uint64_t address) const {
  std::string out;
  for (char c; address != 0 && out.size() < 4096 && image_.read(address + out.size(), &c, 1) && c != 0;) {
    out.push_back(c);
  }
  return out;
}

std::vector<seen_goroutine> debug_reader::goroutines() const {
  const debug_descriptor& d = layout_;
  const auto slab_bytes = get<std::uint64_t>(d.registry + 8);
  const auto segment_bytes = get<std::uint64_t>(d.registry);
  const auto record_bytes = get<std::uint64_t>(d.registry + 16);
  const auto per_slab = get<std::uint64_t>(d.registry + 24);
  const auto segment_count = get<std::uint64_t>(d.registry + 32);
  const auto segments = get<std::uint64_t>(d.registry + 40);
  const auto epoch = get<std::uint32_t>(d.epoch);
  std::vector<seen_goroutine> out;
  std::vector<std::byte> slab(slab_bytes);
  for (std::uint64_t i = 0; i < segment_count; ++i) {
    const auto segment = get<std::uint64_t>(segments + 8 * i);
    for (std::uint64_t at = 0; at < segment_bytes; at += slab_bytes) {
      if (!image_.read(segment + at, slab.data(), slab.size())) continue;  // given back
      for (std::uint64_t k = 0; k < per_slab; ++k) {
        const auto record = std::span(slab).subspan(k * record_bytes, record_bytes);
        seen_goroutine g;
        g.id = field(record, d.g_id);
        if (g.id == 0 || field(record, d.g_epoch) != epoch) continue;
        const auto status = field(record, d.g_status);
        const auto reason = field(record, d.g_reason);
        if (status < d.status_name_count) g.status = d.status_names[status];
        if (reason < d.reason_name_count) g.reason = d.reason_names[reason];
        g.parent = field(record, d.g_parent);
        g.wait_object = field(record, d.g_wait_object);
        g.wait_since = field(record, d.g_wait_since);
        g.sp = field(record, d.g_sp);
        g.fp = field(record, d.g_fp);
        g.pc = field(record, d.g_pc);
        g.stack_low = field(record, d.g_stack_low);
        g.stack_high = field(record, d.g_stack_high);
        const auto* name = reinterpret_cast<const char*>(record.data()) + d.g_name.offset;
        g.name.assign(name, ::strnlen(name, d.g_name.size));
        g.created_file = text(field(record, d.g_created_file));
        g.created_line = static_cast<std::uint32_t>(field(record, d.g_created_line));
        g.switches = static_cast<std::uint32_t>(field(record, d.g_switches));
        g.worker = field(record, d.g_worker);
        g.locked = (field(record, d.g_flags) & locked_to_thread) != 0;
        out.push_back(std::move(g));
      }
    }
  }
  return out;
}

std::vector<seen_worker> debug_reader::workers() const {
  std::vector<seen_worker> out;
  for (auto at = get<std::uint64_t>(layout_.workers); at != 0 && out.size() < 100'000;
       at = field_at(at, layout_.m_next)) {
    if (field_at(at, layout_.m_in_use) == 0) continue;
    out.push_back({at, static_cast<int>(field_at(at, layout_.m_number)),
                   static_cast<int>(field_at(at, layout_.m_tid)), field_at(at, layout_.m_goroutine)});
  }
  return out;
}

std::optional<std::int64_t> debug_reader::steady_ns(std::uint64_t ticks, bool live) const {
  const auto trusted = get<std::uint64_t>(layout_.clock);
  const auto first_ticks = get<std::uint64_t>(layout_.clock + 8);
  const auto first_ns = get<std::int64_t>(layout_.clock + 16);
  auto later_ticks = get<std::uint64_t>(layout_.clock + 24);
  auto later_ns = get<std::int64_t>(layout_.clock + 32);
  if (trusted == 0) return static_cast<std::int64_t>(ticks);
  if (live) {
    base::start_ticks(true);  // the same counter as the subject's
    later_ticks = base::ticks();
    later_ns = std::chrono::steady_clock::now().time_since_epoch().count();
  }
  if (later_ticks <= first_ticks) return std::nullopt;
  const double rate = static_cast<double>(later_ns - first_ns) / static_cast<double>(later_ticks - first_ticks);
  const double from_first = static_cast<double>(static_cast<std::int64_t>(ticks - first_ticks));
  return first_ns + static_cast<std::int64_t>(from_first * rate);
}

std::vector<std::uint64_t> debug_reader::frame_chain(const seen_goroutine& g) const {
  std::vector<std::uint64_t> out{g.pc};
  for (std::uint64_t fp = g.fp; fp != 0 && out.size() < 1000;) {
    if (fp < g.stack_low || fp + 16 > g.stack_high || fp % 8 != 0) {
      throw std::runtime_error("the chain leaves the stack");
    }
    out.push_back(get<std::uint64_t>(fp + 8));
    const auto next = get<std::uint64_t>(fp);
    if (next != 0 && next <= fp) throw std::runtime_error("the chain goes down");
    fp = next;
  }
  return out;
}

}  // namespace tuco::test
