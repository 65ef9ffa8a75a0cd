// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The untyped channel behind `chan<T>`: templates add types, not algorithms.
///
/// The core moves values through the functions of an element_type, or as plain bytes where the type
/// allows it. All functions may be called from any goroutine or thread. A null core is the nil
/// channel.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/detail/wait_list.hpp>

namespace tuco::inline v1 {

/// Outcome of a channel operation that does not wait for ever. `closed` is final; the others may
/// change by the time the caller looks.
enum class chan_status : std::uint8_t { ok, would_block, timed_out, closed };

}  // namespace tuco::inline v1

namespace tuco::inline v1::detail {

/// How values of a type are kept in a buffer.
struct element_type {
  std::size_t size;       ///< bytes in the buffer; 0 if the type has no state
  std::size_t alignment;
  /// Move-constructs at `slot` from the value at `source`; null: copy `size` bytes. May throw.
  void (*store)(void* slot, void* source);
  /// Ends the life of the value at `slot`; null: nothing to do.
  void (*destroy)(void* slot) noexcept;
};

/// Moves the value at `source` into a receiver's `slot`, whatever that is; null: copy the bytes.
using deliver_function = void (*)(void* slot, void* source);

/// A goroutine in the line of a channel.
struct chan_node : wait_node {
  void* slot = nullptr;                ///< what is sent, or where it goes
  deliver_function deliver = nullptr;  ///< receivers
};

/// The part of the core that handles know.
struct chan_core {
  std::atomic<std::uint32_t> handles{1};
};

/// @throws misuse_error if `capacity` values do not fit into the address space, std::bad_alloc
TUCO_API chan_core* chan_make(const element_type& type, std::size_t capacity);
TUCO_API void chan_destroy(chan_core* core) noexcept;

/// @throws closed_error, and what the move of the value throws
TUCO_API void chan_send(chan_core* core, void* source);
TUCO_API chan_status chan_try_send(chan_core* core, void* source);
TUCO_API chan_status chan_send_until(chan_core* core, void* source, std::int64_t deadline);

/// @return False if the channel is closed and drained: nothing was delivered.
TUCO_API bool chan_recv(chan_core* core, void* slot, deliver_function deliver);
TUCO_API chan_status chan_try_recv(chan_core* core, void* slot, deliver_function deliver);
TUCO_API chan_status chan_recv_until(chan_core* core, void* slot, deliver_function deliver,
                                     std::int64_t deadline);

TUCO_API void chan_close(chan_core* core);
[[nodiscard]] TUCO_API bool chan_is_closed(const chan_core* core) noexcept;
[[nodiscard]] TUCO_API std::size_t chan_size(const chan_core* core) noexcept;
[[nodiscard]] TUCO_API std::size_t chan_capacity(const chan_core* core) noexcept;

/// A counted reference to a core, or nil.
class chan_handle {
 public:
  constexpr chan_handle() noexcept = default;
  explicit chan_handle(chan_core* owned) noexcept : core_(owned) {}
  chan_handle(const chan_handle& other) noexcept : core_(other.core_) {
    // relaxed: the copy is made from a reference that is alive, so nothing is decided here.
    if (core_ != nullptr) core_->handles.fetch_add(1, std::memory_order_relaxed);
  }
  chan_handle(chan_handle&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  chan_handle& operator=(chan_handle other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~chan_handle() {
    // acq_rel: whoever is last sees everything that the others did to the values.
    if (core_ != nullptr && core_->handles.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      chan_destroy(core_);
    }
  }
  [[nodiscard]] chan_core* get() const noexcept { return core_; }

 private:
  chan_core* core_ = nullptr;
};

/// Copied as bytes: no user code runs, and nothing can throw.
template <class T>
inline constexpr bool is_plain = std::is_trivially_copyable_v<T>;

/// Received through a place of raw bytes and handed on in registers. Larger ones are built where
/// they stay, so that a megabyte lies on a stack once.
template <class T>
inline constexpr bool is_small_plain = is_plain<T> && sizeof(T) <= 64;

template <class T>
struct element_functions {
  static void store(void* slot, void* source) {
    ::new (slot) T(std::move(*static_cast<T*>(source)));
  }
  static void destroy(void* slot) noexcept { std::launder(static_cast<T*>(slot))->~T(); }
  static void emplace(void* slot, void* source) {
    static_cast<std::optional<T>*>(slot)->emplace(std::move(*static_cast<T*>(source)));
  }
  static void assign(void* slot, void* source) {
    *static_cast<T*>(slot) = std::move(*static_cast<T*>(source));
  }
};

template <class T>
inline constexpr element_type element_of{
    std::is_empty_v<T> && is_plain<T> ? 0 : sizeof(T), alignof(T),
    is_plain<T> ? nullptr : &element_functions<T>::store,
    std::is_trivially_destructible_v<T> ? nullptr : &element_functions<T>::destroy};

/// Where a receiver lets a value be put, and how it becomes an optional.
template <class T, bool Small = is_small_plain<T>>
class recv_slot {
 public:
  static constexpr deliver_function deliver = &element_functions<T>::emplace;
  [[nodiscard]] void* place() noexcept { return &value_; }
  [[nodiscard]] std::optional<T>&& take(bool) noexcept { return std::move(value_); }

 private:
  std::optional<T> value_;
};

template <class T>
class recv_slot<T, true> {
 public:
  static constexpr deliver_function deliver = nullptr;
  [[nodiscard]] void* place() noexcept { return bytes_; }
  [[nodiscard]] std::optional<T> take(bool received) noexcept {
    if (!received) return std::nullopt;
    return std::optional<T>(std::move(*std::launder(reinterpret_cast<T*>(bytes_))));
  }

 private:
  // A type without state has size 1 here and 0 in the core, which then writes nothing.
  alignas(T) std::byte bytes_[sizeof(T)];
};

}  // namespace tuco::inline v1::detail
