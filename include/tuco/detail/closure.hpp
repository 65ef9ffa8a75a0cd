// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The function of a goroutine that has not begun: type-erased, moved into the goroutine's record.
/// Small callables lie in the record itself, so that `go` allocates nothing; larger ones on the heap.

#include <cstddef>
#include <functional>
#include <new>
#include <type_traits>
#include <utility>

namespace tuco::inline v1::detail {

struct closure {
  static constexpr std::size_t inline_size = 48;

  using invoke_function = void (*)(void* object);   ///< calls, does not destroy
  using destroy_function = void (*)(void* object);  ///< destroys; frees what lies on the heap

  invoke_function invoke = nullptr;
  destroy_function destroy = nullptr;
  void* code = nullptr;  ///< address to name the start function by in dumps
  alignas(16) std::byte storage[inline_size];

  closure() noexcept = default;
  closure(const closure&) = delete;
  closure& operator=(const closure&) = delete;

  template <class F>
  static constexpr bool fits =
      sizeof(F) <= inline_size && alignof(F) <= 16 && std::is_nothrow_move_constructible_v<F>;

  /// @throws whatever the copy or move of `f` throws, std::bad_alloc
  template <class F>
  void emplace(F&& f) {
    using D = std::decay_t<F>;
    if constexpr (fits<D>) {
      ::new (static_cast<void*>(storage)) D(std::forward<F>(f));
      invoke = &invoke_inline<D>;
      destroy = &destroy_inline<D>;
    } else {
      ::new (static_cast<void*>(storage)) D*(new D(std::forward<F>(f)));
      invoke = &invoke_heap<D>;
      destroy = &destroy_heap<D>;
    }
    if constexpr (std::is_pointer_v<D> && std::is_function_v<std::remove_pointer_t<D>>) {
      code = reinterpret_cast<void*>(*reinterpret_cast<D*>(storage));
    } else {
      code = reinterpret_cast<void*>(invoke);
    }
  }

 private:
  template <class D> static D& in(void* p) { return *std::launder(static_cast<D*>(p)); }
  // The call stays a frame of its own: it is the line "started by" that a dump shows last.
  // The empty statement keeps the compiler from jumping there instead of calling.
  template <class D> static void invoke_inline(void* p) {
    std::invoke(in<D>(p));
    asm volatile("");
  }
  template <class D> static void destroy_inline(void* p) { in<D>(p).~D(); }
  template <class D> static void invoke_heap(void* p) {
    std::invoke(*in<D*>(p));
    asm volatile("");
  }
  template <class D> static void destroy_heap(void* p) { delete in<D*>(p); }
};

}  // namespace tuco::inline v1::detail
