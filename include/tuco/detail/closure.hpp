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

  struct operations {
    void (*call)(void* object);     ///< calls, does not destroy
    void (*destroy)(void* object);  ///< destroys; frees what lies on the heap; null: nothing to do
  };

  const operations* does = nullptr;  ///< of static storage
  void* code = nullptr;              ///< address to name the start function by in dumps
  alignas(16) std::byte storage[inline_size];

  closure() noexcept = default;
  closure(const closure&) = delete;
  closure& operator=(const closure&) = delete;

  template <class F>
  static constexpr bool fits =
      sizeof(F) <= inline_size && alignof(F) <= 16 && std::is_nothrow_move_constructible_v<F>;

  /// Nobody's code runs when such a function is put in place.
  template <class F>
  static constexpr bool is_plain = fits<F> && std::is_trivially_copyable_v<F>;

  /// @throws whatever the copy or move of `f` throws, std::bad_alloc
  template <class F>
  void emplace(F&& f) {
    using D = std::decay_t<F>;
    if constexpr (fits<D>) {
      ::new (static_cast<void*>(storage)) D(std::forward<F>(f));
      does = &of_inline<D>;
    } else {
      ::new (static_cast<void*>(storage)) D*(new D(std::forward<F>(f)));
      does = &of_heap<D>;
    }
    if constexpr (std::is_pointer_v<D> && std::is_function_v<std::remove_pointer_t<D>>) {
      code = reinterpret_cast<void*>(*reinterpret_cast<D*>(storage));
    } else {
      code = reinterpret_cast<void*>(does->call);
    }
  }

  void call() { does->call(storage); }
  void destroy() {
    if (does->destroy != nullptr) does->destroy(storage);
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

  template <class D>
  static constexpr operations of_inline{
      &invoke_inline<D>, std::is_trivially_destructible_v<D> ? nullptr : &destroy_inline<D>};
  template <class D>
  static constexpr operations of_heap{&invoke_heap<D>, &destroy_heap<D>};
};

}  // namespace tuco::inline v1::detail
