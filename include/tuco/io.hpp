// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/io.hpp
/// What all of net shares: buffers, errors, deadlines, `socket_handle`, the owner of a connection or a
/// listener, and `stream_conn`, the byte stream under tcp_conn and unix_conn.
///
///                     nothing there /    peer has       deadline     close() by another
///                     no room            finished       passes       goroutine meanwhile
///     read_some       parks              0              timed_out    closed
///     read_full       parks              false, or      timed_out    closed
///                                        unexpected_eof
///     write           parks              broken_pipe or timed_out    closed
///                                        reset by peer
///     send_file       parks              the same       timed_out    closed
///
/// **Blocking.** "Parks" suspends the calling goroutine and frees its worker; on a plain thread the
/// same call blocks that thread. A call first tries, and parks only when the kernel says "not now".
/// **Two forms.** Every operation that can fail comes twice: one throws net_error, whose what() names
/// the operation and the addresses (`read tcp 127.0.0.1:80->127.0.0.1:5000: i/o timeout`); the other
/// takes a `std::error_code&`, which it clears on success, and does not throw.
/// **Thread safety.** A connection has one owner, and only the owner may move or destroy it. All other
/// members may be called from any goroutine or thread at the same time, close() in particular: it
/// wakes who waits. Concurrent reads take turns, so do writes; a read and a write do not disturb
/// each other. The bytes of one write() are not mixed with another's.
/// **Ownership.** Closing gives the descriptor's number free only when the last call that uses it
/// has left, so a number that the kernel hands out again never carries data of its predecessor.
/// **Signals.** Writing to a connection whose peer is gone is an error, never a SIGPIPE.
/// **Source.** Go's package net; names as in the C++ standard library and Asio.

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include <tuco/config.hpp>

namespace tuco::inline v1 {

class endpoint;
namespace io {
class net_fd;
}

// ---------------------------------------------------------------------------------- buffers

namespace detail {

template <class T>
concept byte_like = std::same_as<std::remove_cv_t<T>, char> ||
                    std::same_as<std::remove_cv_t<T>, unsigned char> ||
                    std::same_as<std::remove_cv_t<T>, signed char> ||
                    std::same_as<std::remove_cv_t<T>, char8_t> ||
                    std::same_as<std::remove_cv_t<T>, std::byte>;

/// std::string, std::vector<char>, std::array, std::span<std::byte>, char[N], ...
template <class R>
concept byte_range = requires(R& range) {
  { std::data(range) };
  { std::size(range) } -> std::convertible_to<std::size_t>;
} && byte_like<std::remove_pointer_t<decltype(std::data(std::declval<R&>()))>>;

}  // namespace detail

/// Memory to read into. Borrowed.
struct mutable_buffer {
  void* data = nullptr;
  std::size_t size = 0;

  constexpr mutable_buffer() noexcept = default;
  constexpr mutable_buffer(void* d, std::size_t n) noexcept : data(d), size(n) {}
  template <detail::byte_range R>
    requires(!std::is_const_v<std::remove_pointer_t<decltype(std::data(std::declval<R&>()))>>)
  constexpr mutable_buffer(R&& range) noexcept  // NOLINT: implicit, as std::span
      : data(std::data(range)), size(std::size(range)) {}
};

/// Memory to write from. Borrowed.
struct const_buffer {
  const void* data = nullptr;
  std::size_t size = 0;

  constexpr const_buffer() noexcept = default;
  constexpr const_buffer(const void* d, std::size_t n) noexcept : data(d), size(n) {}
  constexpr const_buffer(const mutable_buffer& b) noexcept : data(b.data), size(b.size) {}  // NOLINT
  /// A string without its terminating zero.
  constexpr const_buffer(const char* text) noexcept  // NOLINT: so that write("x") works
      : data(text), size(std::string_view(text).size()) {}
  /// Is it a string or all N bytes? Say so: {array, n} or std::string_view(array).
  template <std::size_t N>
  constexpr const_buffer(char (&)[N]) = delete;
  template <detail::byte_range R>
    requires(!std::is_array_v<std::remove_reference_t<R>>)
  constexpr const_buffer(R&& range) noexcept  // NOLINT
      : data(std::data(range)), size(std::size(range)) {}
};

// ----------------------------------------------------------------------------------- errors

/// Errors that the operating system has no number for. Its own come as errno values in
/// std::system_category(); a deadline as std::errc::timed_out in std::generic_category().
enum class net_errc {
  closed = 1,       ///< the connection was closed here, by this program (Go: net.ErrClosed)
  unexpected_eof,   ///< the peer finished in the middle of what read_full() was to read
  bad_address,      ///< not an address: a port is missing, brackets do not match, ...
  no_such_host,     ///< the name has no address
  lookup_failed,    ///< the name service failed; trying again may help
};

TUCO_API const std::error_category& net_category() noexcept;
inline std::error_code make_error_code(net_errc e) noexcept {
  return {static_cast<int>(e), net_category()};
}

/// Thrown by the throwing forms. what() is Go's: operation, network, addresses, reason.
class TUCO_API net_error : public std::system_error {
 public:
  net_error(std::error_code code, const std::string& operation_and_address);
  net_error(const net_error&) noexcept = default;
  net_error& operator=(const net_error&) noexcept = default;
  ~net_error() override;
  [[nodiscard]] const char* what() const noexcept override { return text_.what(); }
  /// Whether a deadline was the reason.
  [[nodiscard]] bool timeout() const noexcept { return code() == std::errc::timed_out; }

 private:
  std::runtime_error text_;  // a string whose copies do not throw
};

/// The reason alone, in Go's spelling: "connection refused", "i/o timeout", ...
TUCO_API std::string error_text(const std::error_code& code);

// -------------------------------------------------------------------------------- deadlines

/// The deadline that never passes.
inline constexpr std::chrono::steady_clock::time_point no_deadline =
    std::chrono::steady_clock::time_point::max();

// ---------------------------------------------------------------------------- socket_handle

/// Owns a connection or a listener: what the two have in common. Made as one of those.
class TUCO_API socket_handle {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// From `t` on, whatever would use the connection (of a listener: accept()) fails with
  /// std::errc::timed_out, at once and without looking whether data is there, until the deadline is set
  /// anew. Applies to calls that wait already. A moment in the past ends them; no_deadline takes a
  /// deadline away. What it is of stays usable: set a new deadline and go on. Fails only with
  /// net_errc::closed.
  void set_deadline(time_point t);
  void set_deadline(time_point t, std::error_code& ec) noexcept;

  /// The own address, also after close(); an empty endpoint when there never was one. A unix path of
  /// more than 26 bytes is known only while the socket is open.
  [[nodiscard]] endpoint local_endpoint() const noexcept;

  /// False before there is a socket, and from the moment that close() is called.
  [[nodiscard]] bool is_open() const noexcept;

  /// The descriptor, for options this class does not know; -1 when closed. It is non-blocking and
  /// stays the object's. Somebody else's close() may make the number stale at any moment.
  [[nodiscard]] int native_handle() const noexcept;

  /// Closes: wakes every call that uses the socket (net_errc::closed), waits until they have left,
  /// closes the descriptor. Data that was written is still delivered; connections that a listener has
  /// not accepted are reset.
  /// @return True for the one call that closed it.
  bool close() noexcept;

  /// Like close(), but keeps the descriptor open and hands it out: non-blocking, no longer known to
  /// the poller, the caller's to close. -1 if there is none.
  [[nodiscard]] int release() noexcept;

 protected:
  socket_handle() noexcept = default;
  explicit socket_handle(io::net_fd* fd) noexcept : fd_(fd) {}
  socket_handle(socket_handle&& other) noexcept : fd_(other.fd_) { other.fd_ = nullptr; }
  socket_handle& operator=(socket_handle&& other) noexcept;
  ~socket_handle();  // closes
  io::net_fd* fd_ = nullptr;
};

// ------------------------------------------------------------------------------ stream_conn

/// An open byte stream in both directions. Made as tcp_conn or unix_conn.
class TUCO_API stream_conn : public socket_handle {
 public:
  /// No connection: every operation fails with net_errc::closed. Moving empties; destroying and
  /// assigning close what was there.
  stream_conn() noexcept = default;

  /// Reads what is there, at least one byte, at most the buffer's size.
  /// @return Bytes read. 0: the peer has finished (or the buffer is empty).
  [[nodiscard]] std::size_t read_some(mutable_buffer buffer);
  [[nodiscard]] std::size_t read_some(mutable_buffer buffer, std::error_code& ec) noexcept;

  /// Fills the buffer.
  /// @return True when it is full. False: the peer had finished before the first byte.
  /// @throws net_error, net_errc::unexpected_eof when the peer finished after the first byte. What
  ///         came is in the buffer, but lost to later reads.
  [[nodiscard]] bool read_full(mutable_buffer buffer);
  [[nodiscard]] bool read_full(mutable_buffer buffer, std::error_code& ec) noexcept;

  /// Writes all of it.
  /// @return Bytes written: all, or in the error_code form what was taken before the error.
  std::size_t write(const_buffer buffer);
  std::size_t write(const_buffer buffer, std::error_code& ec) noexcept;
  /// Writes the buffers one after the other, many with one system call.
  std::size_t write(std::span<const const_buffer> buffers);
  std::size_t write(std::span<const const_buffer> buffers, std::error_code& ec) noexcept;

  /// Sends `count` bytes of a file from `offset`, without copying them through the program where the
  /// kernel can. The file's own position is neither used nor moved. While the file's pages are read
  /// from a disk, the thread is blocked and its processor is given to others.
  /// @return Bytes sent; fewer than `count` without an error when the file ends before.
  std::uint64_t send_file(int file, std::uint64_t offset, std::uint64_t count);
  std::uint64_t send_file(int file, std::uint64_t offset, std::uint64_t count,
                          std::error_code& ec) noexcept;

  /// Half-close. After shutdown_write() the peer reads what was sent and then the end; reading here
  /// goes on. After shutdown_read() reads here return 0.
  void shutdown_write();
  void shutdown_write(std::error_code& ec) noexcept;
  void shutdown_read();
  void shutdown_read(std::error_code& ec) noexcept;

  /// As set_deadline(), which is both, of one direction.
  void set_read_deadline(time_point t);
  void set_read_deadline(time_point t, std::error_code& ec) noexcept;
  void set_write_deadline(time_point t);
  void set_write_deadline(time_point t, std::error_code& ec) noexcept;

  /// The peer's address, as local_endpoint() the own one.
  [[nodiscard]] endpoint remote_endpoint() const noexcept;

 protected:
  explicit stream_conn(io::net_fd* fd) noexcept : socket_handle(fd) {}
};

}  // namespace tuco::inline v1

template <>
struct std::is_error_code_enum<tuco::net_errc> : std::true_type {};
