// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/once_value.hpp
/// `once_value`: a value that is made when it is first asked for, once, whoever asks.
///
///     tuco::once_value table([] { return load_table("rates.csv"); });
///     ...
///     use(table.get());          // from any goroutine, any number of times
///
///              never asked for    being made               made
///     get      makes it           parks until it is there  returns it
///
/// **Blocking.** get() parks while another goroutine makes the value; on a plain thread it blocks. Asking for it
/// from inside the function waits for ever.
/// **Thread safety.** get() and made(), from any goroutine or thread. What the value allows is up to its type.
/// **Ordering.** The making of the value happens before every return of get().
/// **Failure.** If the function throws, the exception leaves that get(), and the next one tries again, like
/// `once` (Go's OnceValue would panic for ever).
/// **Cost.** When made: one load.
/// **Source.** Go, sync.OnceValue.

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include <tuco/once.hpp>

namespace tuco::inline v1 {

template <class F>
class once_value {
 public:
  using value_type = std::remove_cvref_t<std::invoke_result_t<F&>>;
  static_assert(!std::is_void_v<value_type>, "a function without a value: use tuco::once");

  explicit once_value(F f) : function_(std::move(f)) {}

  /// The value; lives as long as this object. @throws what the function throws
  [[nodiscard]] value_type& get() {
    once_.call([this] {
      value_.emplace(std::invoke(*function_));
      function_.reset();  // what it captured is needed no more
    });
    return *value_;
  }
  [[nodiscard]] bool made() const noexcept { return once_.done(); }

 private:
  once once_;
  std::optional<F> function_;
  std::optional<value_type> value_;
};

}  // namespace tuco::inline v1
