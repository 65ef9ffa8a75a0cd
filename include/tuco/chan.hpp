// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/chan.hpp
/// `chan<T>`: a typed first-in, first-out queue between goroutines.
///
/// A channel is a buffer of at most `capacity()` values and two lines of parked goroutines: senders
/// that wait for room and receivers that wait for a value. At most one line is non-empty, unless a
/// select waits in both. Capacity 0 is a rendezvous: there is no buffer, and a send completes only
/// together with the receive that takes the value.
///
///     chan<std::string> lines(64);     // buffered
///     chan<int> meeting(0);            // unbuffered
///     chan<int> nothing;               // NIL: not a channel at all, see the last column!
///
///                empty        part full  full         closed, values left  closed, drained  nil
///     send       ok           ok         parks        throws               throws           parks for ever
///     try_send   ok           ok         would_block  throws               throws           would_block
///     recv       parks        value      value        value                nullopt          parks for ever
///     try_recv   would_block  ok         ok           ok                   closed           would_block
///     close      ok           ok         ok           throws               throws           throws
///
/// A parked peer turns "parks" and "would_block" into an immediate hand-over. An unbuffered channel
/// counts as full for senders and as empty for receivers. close() wakes every parked goroutine:
/// receivers get nullopt, senders throw.
///
/// **The nil channel.** `chan<T>` is a handle, like Go's: copies name the same channel, and one that
/// was default-constructed names none. Waiting on it waits for ever, which is what makes it useful:
/// a select whose case is set to nil does without that case. Write `(0)` for an unbuffered channel.
/// Like a pointer's, a handle's constness says nothing of the channel: a lambda that captured one by
/// value sends through it without being `mutable`.
/// **Directions.** `send_chan<T>` and `recv_chan<T>` are handles that can do only one half;
/// a `chan<T>` converts to both.
///
/// **Blocking.** "Parks" suspends the calling goroutine and frees its processor; on a thread that is
/// not the runtime's the same call blocks that thread.
/// **Thread safety.** Any member, from any goroutine or thread, concurrently, before, during and
/// after run(); a handle itself is an ordinary object, so assigning to one while another goroutine
/// uses that same handle is a race. Capture handles by value.
/// **Ordering.** A send happens before the receive that returns its value. The k-th receive happens
/// before send k + capacity() returns. close() happens before every receive that reports it.
/// **Fairness.** Each line is served first come, first served.
/// **Failure.** A send that does not return, or not `ok`, has not moved from its argument.
/// If the move constructor of T throws, the exception leaves the operation that called it; the
/// channel stays usable and no other value is lost; the value stays where it was, as far as its move
/// left it there. A goroutine on the other side that was about to take part goes on waiting, as the
/// last of its line. The last handle destroys the values that are still buffered.
/// **Values.** Any movable type: move-only, over-aligned, a megabyte large (it is moved straight
/// from the sender into the buffer, or into the place of a waiting receiver). Types without state
/// take no memory in the buffer. Copying `send(const T&)` copies before it locks.
/// Moves into and out of the buffer run while the channel is locked: a move constructor, move
/// assignment or destructor of T must not park and must not touch the channel that moves it.
/// **Cost.** O(1) per call; one allocation in the constructor, none after it. Measured in bench/.
/// **Source.** The Go specification, "Channel types", "Send statements", "Receive operator",
/// "Close"; the Go memory model. The algorithm is explained in docs/design/channels.md.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/detail/chan_core.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/error.hpp>

namespace tuco::inline v1 {

/// What a handle may do.
enum class chan_direction : std::uint8_t { send = 1, recv = 2, both = 3 };

template <class T, chan_direction Direction>
class basic_chan;

/// The whole channel.
template <class T>
using chan = basic_chan<T, chan_direction::both>;
/// The end that sends and closes.
template <class T>
using send_chan = basic_chan<T, chan_direction::send>;
/// The end that receives.
template <class T>
using recv_chan = basic_chan<T, chan_direction::recv>;

namespace detail {
struct chan_access;
}

template <class T, chan_direction Direction>
class basic_chan {
  static_assert(std::is_object_v<T> && !std::is_const_v<T> && !std::is_array_v<T>,
                "a channel carries objects");
  static_assert(std::is_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

  static constexpr bool sends = Direction != chan_direction::recv;
  static constexpr bool receives = Direction != chan_direction::send;
  static constexpr bool whole = sends && receives;

 public:
  using value_type = T;

  /// The nil channel: waits for ever. An unbuffered channel is `chan<T>(0)`.
  constexpr basic_chan() noexcept = default;
  /// `ch = nullptr`. A template, so that the 0 of `chan<T>(0)` is a capacity.
  template <class Null>
    requires std::is_same_v<Null, std::nullptr_t>
  constexpr basic_chan(Null) noexcept {}  // NOLINT: implicit, as in Go

  /// Makes an open channel that buffers up to `capacity` values (not bytes); 0: unbuffered.
  /// @throws misuse_error if that many cannot be addressed, std::bad_alloc
  explicit basic_chan(std::size_t capacity)
    requires whole
      : handle_(detail::chan_make(detail::element_of<T>, capacity)) {}

  /// A view of the same channel with one direction.
  template <chan_direction From>
    requires(!whole && From == chan_direction::both)
  basic_chan(const basic_chan<T, From>& other) noexcept  // NOLINT: implicit, as in Go
      : handle_(other.handle_) {}
  template <chan_direction From>
    requires(!whole && From == chan_direction::both)
  basic_chan(basic_chan<T, From>&& other) noexcept  // NOLINT: implicit, as in Go
      : handle_(std::move(other.handle_)) {}

  // -- sending

  /// Sends `value`, parking while the channel is full.
  /// @throws closed_error if the channel is closed, also while parked; what the move of T throws
  void send(T&& value) const
    requires sends
  {
    detail::chan_send(core(), std::addressof(value));
  }
  /// Sends a copy. @throws also what the copy throws
  void send(const T& value) const
    requires sends && std::is_copy_constructible_v<T>
  {
    with_copy(value, [this](void* source) { detail::chan_send(core(), source); });
  }

  /// Sends `value` only if that needs no waiting. Never parks.
  /// @return `ok` or `would_block`
  /// @throws closed_error
  [[nodiscard]] chan_status try_send(T&& value) const
    requires sends
  {
    return detail::chan_try_send(core(), std::addressof(value));
  }
  [[nodiscard]] chan_status try_send(const T& value) const
    requires sends && std::is_copy_constructible_v<T>
  {
    return with_copy(value, [this](void* s) { return detail::chan_try_send(core(), s); });
  }

  /// Like send(), but gives up at `deadline`, never earlier. A deadline in the past makes this a
  /// try_send() that reports `timed_out`.
  /// @return `ok` or `timed_out`
  /// @throws closed_error
  template <class Duration>
  [[nodiscard]] chan_status send_until(
      T&& value, std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) const
    requires sends
  {
    return detail::chan_send_until(core(), std::addressof(value), detail::deadline_at(deadline));
  }
  template <class Duration>
  [[nodiscard]] chan_status send_until(
      const T& value, std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) const
    requires sends && std::is_copy_constructible_v<T>
  {
    return with_copy(value, [&](void* source) {
      return detail::chan_send_until(core(), source, detail::deadline_at(deadline));
    });
  }

  /// Like send_until(now + timeout).
  template <class Rep, class Period>
  [[nodiscard]] chan_status send_for(T&& value, std::chrono::duration<Rep, Period> timeout) const
    requires sends
  {
    return detail::chan_send_until(core(), std::addressof(value), detail::deadline_after(timeout));
  }
  template <class Rep, class Period>
  [[nodiscard]] chan_status send_for(const T& value, std::chrono::duration<Rep, Period> timeout) const
    requires sends && std::is_copy_constructible_v<T>
  {
    return with_copy(value, [&](void* source) {
      return detail::chan_send_until(core(), source, detail::deadline_after(timeout));
    });
  }

  /// Says that no more values will be sent. Values still buffered stay receivable. Wakes every
  /// parked goroutine; O(their number).
  /// @throws closed_error on a closed channel, misuse_error on nil
  void close() const
    requires sends
  {
    detail::chan_close(core());
  }

  // -- receiving

  /// Takes the oldest value, parking while the channel is open and empty.
  /// @return The value, or `nullopt` once the channel is closed and drained.
  [[nodiscard]] std::optional<T> recv() const
    requires receives
  {
    if constexpr (detail::is_small_plain<T>) {
      detail::recv_slot<T> slot;
      return slot.take(detail::chan_recv(core(), slot.place(), nullptr));
    } else {
      return recv_in_place();
    }
  }

  /// Takes the oldest value into `out` only if that needs no waiting. Never parks.
  /// @return `ok`, `would_block` or `closed`; `out` changes only on `ok`.
  [[nodiscard]] chan_status try_recv(T& out) const
    requires receives && std::is_move_assignable_v<T>
  {
    return detail::chan_try_recv(core(), std::addressof(out), into_value);
  }
  [[nodiscard]] chan_status try_recv(std::optional<T>& out) const
    requires receives
  {
    return detail::chan_try_recv(core(), std::addressof(out), into_optional);
  }

  /// Like recv(), but gives up at `deadline`, never earlier. A deadline in the past makes this a
  /// try_recv() that reports `timed_out`.
  /// @return `ok`, `timed_out` or `closed`; `out` changes only on `ok`.
  template <class Duration>
  [[nodiscard]] chan_status recv_until(
      T& out, std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) const
    requires receives && std::is_move_assignable_v<T>
  {
    return detail::chan_recv_until(core(), std::addressof(out), into_value,
                                   detail::deadline_at(deadline));
  }
  template <class Duration>
  [[nodiscard]] chan_status recv_until(
      std::optional<T>& out, std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) const
    requires receives
  {
    return detail::chan_recv_until(core(), std::addressof(out), into_optional,
                                   detail::deadline_at(deadline));
  }

  /// Like recv_until(now + timeout).
  template <class Rep, class Period>
  [[nodiscard]] chan_status recv_for(T& out, std::chrono::duration<Rep, Period> timeout) const
    requires receives && std::is_move_assignable_v<T>
  {
    return detail::chan_recv_until(core(), std::addressof(out), into_value,
                                   detail::deadline_after(timeout));
  }
  template <class Rep, class Period>
  [[nodiscard]] chan_status recv_for(std::optional<T>& out,
                                     std::chrono::duration<Rep, Period> timeout) const
    requires receives
  {
    return detail::chan_recv_until(core(), std::addressof(out), into_optional,
                                   detail::deadline_after(timeout));
  }

  /// `for (auto& value : ch)` receives until the channel is closed and drained. The value belongs to
  /// the loop: it may be moved from.
  class iterator;
  [[nodiscard]] iterator begin() const
    requires receives
  {
    return iterator(*this);
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept
    requires receives
  {
    return std::default_sentinel;
  }

  // -- looking; snapshots that another goroutine may change before the caller looks

  /// Values in the buffer; 0 for nil.
  [[nodiscard]] std::size_t size() const noexcept { return detail::chan_size(core()); }
  /// Constant for the channel's life; 0 for nil.
  [[nodiscard]] std::size_t capacity() const noexcept { return detail::chan_capacity(core()); }
  /// True from close() on, also while values are left; false for nil.
  [[nodiscard]] bool is_closed() const noexcept { return detail::chan_is_closed(core()); }
  /// What dumps show as the object that a goroutine waits for; null for nil.
  [[nodiscard]] const void* address() const noexcept { return core(); }

  /// Whether both name the same channel.
  template <chan_direction Other>
  [[nodiscard]] bool operator==(const basic_chan<T, Other>& other) const noexcept {
    return address() == other.address();
  }
  [[nodiscard]] bool operator==(std::nullptr_t) const noexcept { return core() == nullptr; }

 private:
  template <class, chan_direction>
  friend class basic_chan;
  friend struct detail::chan_access;

  static constexpr detail::deliver_function into_optional = &detail::element_functions<T>::emplace;
  static constexpr detail::deliver_function into_value = [] {
    if constexpr (detail::is_plain<T>) return detail::deliver_function{nullptr};
    else return &detail::element_functions<T>::assign;
  }();

  // A function of its own, so that compilers build the result where the caller wants it.
  std::optional<T> recv_in_place() const {
    std::optional<T> value;
    detail::chan_recv(core(), &value, into_optional);
    return value;
  }

  // The copy is made before the channel is locked: it may allocate and be slow. A large one goes to
  // the heap, for it could be larger than the stack.
  template <class Send>
  static decltype(auto) with_copy(const T& value, Send send) {
    if constexpr (detail::is_plain<T>) {
      return send(const_cast<T*>(std::addressof(value)));  // the core only reads the bytes
    } else if constexpr (sizeof(T) <= 1024) {
      T copy(value);
      return send(std::addressof(copy));
    } else {
      auto copy = std::make_unique<T>(value);
      return send(copy.get());
    }
  }

  [[nodiscard]] detail::chan_core* core() const noexcept { return handle_.get(); }

  detail::chan_handle handle_;
};

/// Receives as it goes. Holds a handle, so that the loop may assign to the one it began with.
template <class T, chan_direction Direction>
class basic_chan<T, Direction>::iterator {
 public:
  using iterator_concept = std::input_iterator_tag;
  using value_type = T;
  using difference_type = std::ptrdiff_t;
  using reference = T&;

  iterator() noexcept = default;
  explicit iterator(const basic_chan& from) : handle_(from.handle_) { ++*this; }

  [[nodiscard]] T& operator*() const noexcept { return *value_; }
  [[nodiscard]] T* operator->() const noexcept { return std::addressof(*value_); }
  iterator& operator++() {
    value_.reset();
    detail::chan_recv(handle_.get(), &value_, into_optional);
    return *this;
  }
  void operator++(int) { ++*this; }
  [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept {
    return !value_.has_value();
  }

 private:
  detail::chan_handle handle_;
  mutable std::optional<T> value_;  // an input iterator gives access to what it took
};

namespace detail {
/// For select, and for primitives that are built from channels.
struct chan_access {
  template <class T, chan_direction D>
  static chan_core* core(const basic_chan<T, D>& ch) noexcept {
    return ch.core();
  }
  /// A handle that takes over one reference.
  template <class Chan>
  static Chan adopt(chan_core* owned) noexcept {
    Chan ch;
    ch.handle_ = chan_handle(owned);
    return ch;
  }
};
}  // namespace detail

}  // namespace tuco::inline v1
