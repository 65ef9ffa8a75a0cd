// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/select.hpp
/// `select`: waits for the first of several channel operations, a deadline, or nothing at all.
///
///     tuco::select(
///         tuco::on_recv(jobs, [&](std::optional<job> j) { if (j) run(*j); else finished = true; }),
///         tuco::on_send(results, std::move(result), [&] { ++sent; }),
///         tuco::on_timeout(5s, [] { log("idle"); }));
///
/// Exactly one case happens. If several can, one of them is chosen at random; if none can,
///
///     with on_default          that one happens at once; the select never parks
///     with on_timeout          the goroutine parks until a case can happen or the time has passed
///     otherwise                the goroutine parks until a case can happen
///
/// The handler of the case that happened runs after the select is over: it holds no lock and may do
/// anything, another select included. select() returns the position of that case among its
/// arguments, counted from 0, so handlers may be left out and the result switched on.
///
///     case                                  can happen when              its handler gets
///     on_recv(ch[, f])                      recv() would not park        std::optional<T>, or nothing
///     on_send(ch, value[, f])               send() would not park        nothing
///     on_timeout(duration|time_point[, f])  the moment has passed        nothing
///     on_default([f])                       no other case can            nothing
///
/// **Nil channels** never can: their cases count as left out. With nothing left, select() parks for
/// ever. The same channel may stand in several cases; a goroutine never meets itself.
/// **Losing cases** do nothing: their values are not moved from. A value given to on_send as an
/// lvalue is copied before the select begins, whether or not its case wins.
/// **Write the cases inside the call.** They refer to what they were made from; the channels must
/// outlive the select.
/// **Blocking.** Parks once, for all cases together.
/// **Thread safety.** As tuco/chan.hpp; on a plain thread it blocks that thread.
/// **Ordering.** That of the operation that happened.
/// **Fairness.** Uniform among the cases that can happen at the moment of choice. While parked, a
/// select stands in the line of each of its channels, first come, first served.
/// **Failure.** Sending on a closed channel throws closed_error if that case is chosen. Exceptions
/// of a handler leave select().
/// **Cost.** O(number of cases), plus sorting them when it parks. Allocates nothing.
/// **Source.** The Go specification, "Select statements". Explained in docs/design/channels.md.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <tuco/chan.hpp>
#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/detail/select_core.hpp>

namespace tuco::inline v1 {

namespace detail {

struct no_handler {
  void operator()() const noexcept {}
};

enum class case_kind : std::uint8_t { channel, timeout, fallback };

// Cases are neither copied nor moved: they are made in the call of select() and end with it.
// Chan is `chan<T>&` for a handle that lives on, or `chan<T>` for one that is moved in.
template <class Chan, class F>
struct recv_case {
  using value_type = typename std::remove_cvref_t<Chan>::value_type;
  static constexpr case_kind kind = case_kind::channel;
  static_assert(std::is_invocable_v<F, std::optional<value_type>> || std::is_invocable_v<F>,
                "the handler of on_recv takes a std::optional<T>, or nothing");

  Chan channel;
  F handler;
  recv_slot<value_type> value{};

  [[nodiscard]] chan_core* core() const noexcept { return chan_access::core(channel); }
  void fill(select_entry& e) noexcept {
    e.kind = select_kind::recv;
    e.channel = core();
    e.node.slot = value.place();
    e.node.deliver = recv_slot<value_type>::deliver;
  }
  bool wait_alone() { return chan_recv(core(), value.place(), recv_slot<value_type>::deliver); }
  chan_status try_alone() {
    return chan_try_recv(core(), value.place(), recv_slot<value_type>::deliver);
  }
  void handle(bool received) {
    if constexpr (std::is_invocable_v<F, std::optional<value_type>>) {
      std::invoke(std::forward<F>(handler), value.take(received));
    } else {
      std::invoke(std::forward<F>(handler));
    }
  }
};

// Value is `T*` for a value that is moved from if the case wins, or `T`, a copy made before.
template <class Chan, class Value, class F>
struct send_case {
  using value_type = typename std::remove_cvref_t<Chan>::value_type;
  static constexpr case_kind kind = case_kind::channel;

  Chan channel;
  Value value;
  F handler;

  [[nodiscard]] chan_core* core() const noexcept { return chan_access::core(channel); }
  [[nodiscard]] void* source() noexcept {
    if constexpr (std::is_same_v<Value, const value_type*>) return const_cast<value_type*>(value);
    else if constexpr (std::is_same_v<Value, value_type*>) return value;
    else return std::addressof(value);
  }
  void fill(select_entry& e) noexcept {
    e.kind = select_kind::send;
    e.channel = core();
    e.node.slot = source();
  }
  bool wait_alone() {
    chan_send(core(), source());
    return true;
  }
  chan_status try_alone() { return chan_try_send(core(), source()); }
  void handle(bool) { std::invoke(std::forward<F>(handler)); }
};

template <class F>
struct timeout_case {
  static constexpr case_kind kind = case_kind::timeout;
  std::int64_t deadline;
  F handler;
  void handle(bool) { std::invoke(std::forward<F>(handler)); }
};

template <class F>
struct default_case {
  static constexpr case_kind kind = case_kind::fallback;
  F handler;
  void handle(bool) { std::invoke(std::forward<F>(handler)); }
};

template <class C>
concept select_case_type = requires { { C::kind } -> std::convertible_to<case_kind>; };

template <class... Cases>
constexpr std::size_t count_cases(case_kind wanted) noexcept {
  return (std::size_t{Cases::kind == wanted} + ...);
}
/// Position of the one of that kind; the number of cases if there is none.
template <class... Cases>
constexpr std::size_t find_case(case_kind wanted) noexcept {
  std::size_t at = sizeof...(Cases);
  std::size_t i = 0;
  ((Cases::kind == wanted ? void(at = i) : void(), ++i), ...);
  return at;
}

template <class Chan>
using chan_value_t = typename std::remove_cvref_t<Chan>::value_type;

}  // namespace detail

/// A case that receives. `handler(std::optional<T>)`: nullopt when the channel is closed and drained.
template <class Chan, class F = detail::no_handler>
[[nodiscard]] detail::recv_case<Chan, F> on_recv(Chan&& channel, F&& handler = {}) {
  return {std::forward<Chan>(channel), std::forward<F>(handler)};
}

/// A case that sends. An rvalue of type T is moved from if, and only if, this case happens.
template <class Chan, class V, class F = detail::no_handler>
[[nodiscard]] auto on_send(Chan&& channel, V&& value, F&& handler = {}) {
  using T = detail::chan_value_t<Chan>;
  if constexpr (std::is_same_v<V, T>) {
    return detail::send_case<Chan, T*, F>{std::forward<Chan>(channel), std::addressof(value),
                                          std::forward<F>(handler)};
  } else if constexpr (std::is_same_v<std::remove_cvref_t<V>, T> && detail::is_plain<T>) {
    return detail::send_case<Chan, const T*, F>{
        std::forward<Chan>(channel), std::addressof(value), std::forward<F>(handler)};
  } else {
    return detail::send_case<Chan, T, F>{std::forward<Chan>(channel), T(std::forward<V>(value)),
                                         std::forward<F>(handler)};
  }
}

/// The case for when nothing has happened `timeout` after now. Not positive: at once, if no
/// channel is ready.
template <class Rep, class Period, class F = detail::no_handler>
[[nodiscard]] detail::timeout_case<F> on_timeout(std::chrono::duration<Rep, Period> timeout,
                                                 F&& handler = {}) {
  return {detail::deadline_after(timeout), std::forward<F>(handler)};
}
/// The same with a moment of the steady clock.
template <class Duration, class F = detail::no_handler>
[[nodiscard]] detail::timeout_case<F> on_timeout(
    std::chrono::time_point<std::chrono::steady_clock, Duration> deadline, F&& handler = {}) {
  return {detail::deadline_at(deadline), std::forward<F>(handler)};
}

/// The case for when no other can happen now.
template <class F = detail::no_handler>
[[nodiscard]] detail::default_case<F> on_default(F&& handler = {}) {
  return {std::forward<F>(handler)};
}

/// Waits for ever, and lets others run meanwhile.
[[noreturn]] inline void select() { detail::select_forever(); }

/// Waits for one of the cases; see above.
/// @return The position of the case that happened.
template <class... Cases>
  requires(sizeof...(Cases) > 0 && (detail::select_case_type<Cases> && ...))
std::size_t select(Cases&&... cases) {
  using detail::case_kind;
  constexpr std::size_t n = sizeof...(Cases);
  constexpr std::size_t channels = detail::count_cases<Cases...>(case_kind::channel);
  constexpr std::size_t default_at = detail::find_case<Cases...>(case_kind::fallback);
  constexpr std::size_t timeout_at = detail::find_case<Cases...>(case_kind::timeout);
  static_assert(detail::count_cases<Cases...>(case_kind::fallback) <= 1 &&
                    detail::count_cases<Cases...>(case_kind::timeout) <= 1,
                "a select has at most one on_default and one on_timeout");

  std::size_t chosen = n;
  bool received = false;
  const auto each = [&](auto&& action) {
    std::size_t i = 0;
    (action(cases, i++), ...);
  };

  if constexpr (channels == 1 && (default_at != n || timeout_at == n)) {
    // The usual small forms are plain channel operations, as Go's compiler makes them.
    constexpr std::size_t channel_at = detail::find_case<Cases...>(case_kind::channel);
    each([&](auto& c, std::size_t) {
      if constexpr (std::remove_cvref_t<decltype(c)>::kind == case_kind::channel) {
        if constexpr (default_at == n) {
          received = c.wait_alone();
          chosen = channel_at;
        } else {
          const chan_status status = c.try_alone();
          received = status == chan_status::ok;
          chosen = status == chan_status::would_block ? default_at : channel_at;
        }
      }
    });
  } else {
    std::array<detail::select_entry, n> entries;
    std::int64_t deadline = detail::no_deadline;
    each([&](auto& c, std::size_t i) {
      using C = std::remove_cvref_t<decltype(c)>;
      if constexpr (C::kind == case_kind::channel) c.fill(entries[i]);
      else if constexpr (C::kind == case_kind::timeout) deadline = c.deadline;
    });
    const std::ptrdiff_t result =
        detail::select_run(entries.data(), n, default_at != n, deadline);
    if (result == detail::select_default) chosen = default_at;
    else if (result == detail::select_timed_out) chosen = timeout_at;
    else {
      chosen = static_cast<std::size_t>(result);
      received = entries[chosen].node.result == detail::wait_result::done;
    }
  }

  each([&](auto& c, std::size_t i) {
    if (i == chosen) c.handle(received);
  });
  return chosen;
}

/// A case of a select whose number of cases is known only at run time. Holds a handle of its
/// channel; refers to the object that it sends or fills. May be used again after its select.
class select_case {
 public:
  select_case() noexcept = default;  ///< never happens

  /// Receives into `out`; nullopt when the channel is closed and drained.
  template <class T, chan_direction D>
    requires(D != chan_direction::send)
  [[nodiscard]] static select_case recv(const basic_chan<T, D>& channel, std::optional<T>& out) {
    select_case c(detail::chan_access::core(channel), detail::select_kind::recv, std::addressof(out));
    c.entry_.node.deliver = [](void* slot, void* source) {
      auto& place = *static_cast<std::optional<T>*>(slot);
      if (source != nullptr) place.emplace(std::move(*static_cast<T*>(source)));
      else place.reset();
    };
    return c;
  }

  /// Sends `value`, which is moved from if, and only if, this case happens.
  template <class T, chan_direction D>
    requires(D != chan_direction::recv)
  [[nodiscard]] static select_case send(const basic_chan<T, D>& channel, T& value) {
    return {detail::chan_access::core(channel), detail::select_kind::send, std::addressof(value)};
  }

  select_case(const select_case& other) noexcept
      : select_case(other.entry_.channel, other.entry_.kind, other.entry_.node.slot) {
    entry_.node.deliver = other.entry_.node.deliver;
  }
  select_case& operator=(const select_case& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      std::construct_at(this, other);
    }
    return *this;
  }
  ~select_case() { detail::chan_handle last(entry_.channel); }

 private:
  friend std::size_t select_cases(std::span<select_case> cases);
  template <class Duration>
  friend std::optional<std::size_t> select_cases_until(
      std::span<select_case> cases,
      std::chrono::time_point<std::chrono::steady_clock, Duration> deadline);
  friend std::optional<std::size_t> try_select_cases(std::span<select_case> cases);

  select_case(detail::chan_core* core, detail::select_kind kind, void* slot) noexcept {
    if (core != nullptr) core->handles.fetch_add(1, std::memory_order_relaxed);
    entry_.channel = core;
    entry_.kind = kind;
    entry_.node.slot = slot;
  }

  TUCO_API static std::ptrdiff_t run(std::span<select_case> cases, bool has_default,
                                     std::int64_t deadline);
  static std::optional<std::size_t> position(std::ptrdiff_t result) noexcept {
    if (result < 0) return std::nullopt;
    return static_cast<std::size_t>(result);
  }

  detail::select_entry entry_;  // the only member: an array of cases is an array of entries
};

/// Parks until one of the cases has happened; for ever if none can.
/// @return Its position.
/// @throws closed_error, as select()
inline std::size_t select_cases(std::span<select_case> cases) {
  return static_cast<std::size_t>(select_case::run(cases, false, detail::no_deadline));
}

/// Gives up at `deadline`, never earlier. @return nullopt: the deadline has passed.
template <class Duration>
[[nodiscard]] std::optional<std::size_t> select_cases_until(
    std::span<select_case> cases,
    std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) {
  return select_case::position(select_case::run(cases, false, detail::deadline_at(deadline)));
}

/// Like select_cases_until(now + timeout).
template <class Rep, class Period>
[[nodiscard]] std::optional<std::size_t> select_cases_for(
    std::span<select_case> cases, std::chrono::duration<Rep, Period> timeout) {
  const auto ns = detail::deadline_after(timeout);
  return select_cases_until(cases, std::chrono::steady_clock::time_point(
                                       std::chrono::nanoseconds(ns)));
}

/// Never parks. @return nullopt: no case can happen now.
[[nodiscard]] inline std::optional<std::size_t> try_select_cases(std::span<select_case> cases) {
  return select_case::position(select_case::run(cases, true, detail::no_deadline));
}

}  // namespace tuco::inline v1
