// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/mapped_region.hpp
/// Zeroed memory straight from the kernel, unmapped with its owner.
///
/// For tables that signal handlers read: malloc'ed memory would tie their life to an allocator
/// that the program may replace, and large tables would fragment it.

#include <cstddef>
#include <new>
#include <utility>

#include "os/memory.hpp"

namespace tuco::inline v1::observe {

class mapped_region {
 public:
  mapped_region() = default;

  /// @throws std::bad_alloc
  explicit mapped_region(std::size_t bytes) {
    if (bytes == 0) return;
    const std::size_t page = os::page_size();
    size_ = (bytes + page - 1) / page * page;
    data_ = os::reserve(size_, page).address;
    if (data_ == nullptr) throw std::bad_alloc();
  }

  mapped_region(mapped_region&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapped_region& operator=(mapped_region&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapped_region() {
    if (data_ != nullptr) os::release(data_, size_);
  }

  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace tuco::inline v1::observe
