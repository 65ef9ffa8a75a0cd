// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/byte_cursor.hpp
/// Reads numbers from bytes that nobody has checked (ELF, .eh_frame, DWARF expressions).
///
/// Reading past the end returns 0 and makes ok() false for good, so that a parser may check once
/// per record instead of once per field. No allocation, no lock: usable in a signal handler.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace tuco::inline v1::observe {

class byte_cursor {
 public:
  byte_cursor() = default;
  explicit byte_cursor(std::span<const std::byte> bytes) noexcept
      : begin_(bytes.data()), at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool at_end() const noexcept { return !ok_ || at_ == end_; }
  [[nodiscard]] std::size_t offset() const noexcept {
    return static_cast<std::size_t>(at_ - begin_);
  }
  [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }

  template <class T>
  requires std::is_trivially_copyable_v<T> T read()
  noexcept {
    T value{};
    if (!take(sizeof(T))) return value;
    std::memcpy(static_cast<void*>(&value), at_ - sizeof(T), sizeof(T));
    return value;
  }

  std::uint64_t uleb() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = read<std::uint8_t>();
      if (!ok_) return 0;
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      if ((byte & 0x80U) == 0) return value;
    }
  }

  std::int64_t sleb() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0;;) {
      const auto byte = read<std::uint8_t>();
      if (!ok_) return 0;
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      shift += 7;
      if ((byte & 0x80U) != 0) continue;
      if (shift < 64 && (byte & 0x40U) != 0) value |= ~std::uint64_t{0} << shift;
      return static_cast<std::int64_t>(value);
    }
  }

  std::span<const std::byte> bytes(std::uint64_t count) noexcept {
    if (!take(count)) return {};
    return {at_ - count, static_cast<std::size_t>(count)};
  }

  void skip(std::uint64_t count) noexcept { take(count); }

  void seek(std::uint64_t offset) noexcept {
    if (offset > static_cast<std::uint64_t>(end_ - begin_)) {
      fail();
    } else {
      at_ = begin_ + offset;
    }
  }

  /// Moves by a signed distance, as DWARF branches do.
  void jump(std::int64_t distance) noexcept {
    const std::int64_t target = (at_ - begin_) + distance;
    if (target < 0) {
      fail();
    } else {
      seek(static_cast<std::uint64_t>(target));
    }
  }

  void fail() noexcept {
    ok_ = false;
    at_ = end_;
  }

 private:
  bool take(std::uint64_t count) noexcept {
    if (!ok_ || count > left()) {
      fail();
      return false;
    }
    at_ += count;
    return true;
  }

  const std::byte* begin_ = nullptr;
  const std::byte* at_ = nullptr;
  const std::byte* end_ = nullptr;
  bool ok_ = true;
};

}  // namespace tuco::inline v1::observe
