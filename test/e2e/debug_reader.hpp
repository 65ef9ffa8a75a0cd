// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Reads the goroutines of a process that is not asked, or of a core: by tuco_debug_v1 alone, with no
/// symbols, no debug information and no help of the process (docs/design/debug_descriptor.md).

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "observe/debug_descriptor.hpp"

namespace tuco::test {

/// Memory of the subject, and where modules may begin in it.
struct memory_image {
  std::function<bool(std::uint64_t address, void* to, std::size_t size)> read;
  std::vector<std::uint64_t> candidates;

  /// By process_vm_readv. Of /proc only the addresses in `maps` are used.
  static memory_image of_process(pid_t pid);
  /// By the segments of an ELF core; what it leaves out as unchanged, by the files that were mapped.
  /// @throws std::runtime_error
  static memory_image of_core(const std::string& path);
};

struct seen_goroutine {
  std::uint64_t id = 0, parent = 0;
  std::string name, status, reason;
  std::uint64_t wait_object = 0;
  std::uint64_t wait_since = 0;   ///< ticks
  std::uint64_t sp = 0, fp = 0, pc = 0;
  std::uint64_t stack_low = 0, stack_high = 0;
  std::string created_file;
  std::uint32_t created_line = 0;
  std::uint32_t switches = 0;
  std::uint64_t worker = 0;
  bool locked = false;
};

struct seen_worker {
  std::uint64_t address = 0;
  int number = 0, tid = 0;
  std::uint64_t goroutine = 0;
};

class debug_reader {
 public:
  /// @throws std::runtime_error when the image holds no descriptor
  explicit debug_reader(memory_image image);

  [[nodiscard]] std::vector<seen_goroutine> goroutines() const;
  [[nodiscard]] std::vector<seen_worker> workers() const;
  [[nodiscard]] const observe::debug_descriptor& layout() const noexcept { return layout_; }
  [[nodiscard]] std::uint64_t address() const noexcept { return address_; }
  [[nodiscard]] std::uint64_t module() const noexcept { return module_; }

  /// Nanoseconds of the steady clock; for a live process by our own clocks, which it shares.
  [[nodiscard]] std::optional<std::int64_t> steady_ns(std::uint64_t ticks, bool live) const;

  /// Return addresses along the chain of frame pointers, from the saved context outwards.
  [[nodiscard]] std::vector<std::uint64_t> frame_chain(const seen_goroutine& g) const;

  template <class T>
  [[nodiscard]] T get(std::uint64_t address) const {
    T value{};
    get_bytes(address, &value, sizeof value);
    return value;
  }

 private:
  void get_bytes(std::uint64_t address, void* to, std::size_t size) const;
  [[nodiscard]] std::uint64_t field(std::span<const std::byte> record, observe::debug_field f) const;
  [[nodiscard]] std::uint64_t field_at(std::uint64_t record, observe::debug_field f) const;
  [[nodiscard]] std::string text(std::uint64_t address) const;
  bool find_in(std::uint64_t module);

  memory_image image_;
  std::uint64_t module_ = 0;
  std::uint64_t address_ = 0;
  observe::debug_descriptor layout_{};
};

}  // namespace tuco::test
