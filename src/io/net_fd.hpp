// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `net_fd`: a non-blocking socket that looks blocking. What stands behind every connection and
/// listener.
///
/// **Results** are values >= 0 or negative errno values, as everywhere in os/, and two of our own:
/// error_closed and error_deadline.
/// **Thread safety.** All members, concurrently, while the owner keeps the object. `destroy` is the
/// owner's alone.
/// **Where.** net_fd.cpp: its life and its options; net_fd_wait.cpp, net_fd_transfer.cpp,
/// net_fd_connect.cpp: what their names say.
/// **Sections.** System calls are made outside of runtime sections: a send() from a file that is
/// mapped may block on a disk, and the processor must be takeable then. Only waiting is inside.

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <system_error>

#include <tuco/resolve.hpp>

#include "io/fd_mutex.hpp"
#include "poll/poller.hpp"

namespace tuco::inline v1::io {

inline constexpr int error_closed = -100'001;
inline constexpr int error_deadline = -100'002;

/// 0 or positive: no error.
std::error_code to_error_code(std::int64_t result) noexcept;

enum class net_kind : std::uint8_t { tcp, tcp_listener, unix_stream, unix_listener };
constexpr bool is_tcp(net_kind k) noexcept {
  return k == net_kind::tcp || k == net_kind::tcp_listener;
}
constexpr bool is_listener(net_kind k) noexcept {
  return k == net_kind::tcp_listener || k == net_kind::unix_listener;
}

class net_fd {
 public:
  /// Registers a non-blocking descriptor with the poller and takes it over. On failure it stays the
  /// caller's.
  /// @param remote  the peer, or null when the kernel is to be asked
  /// @param out     to be given to destroy()
  static int open(int descriptor, net_kind kind, const endpoint* remote, net_fd*& out) noexcept;
  /// Closes if that has not happened, and frees.
  static void destroy(net_fd* fd) noexcept;

  net_fd(const net_fd&) = delete;
  net_fd& operator=(const net_fd&) = delete;

  ssize_t read_some(void* data, std::size_t size) noexcept;
  /// @param done  bytes read; on 0 the stream ended before `size`
  int read_full(void* data, std::size_t size, std::size_t& done) noexcept;
  int write(const void* data, std::size_t size, std::size_t& done) noexcept;
  int write(const const_buffer* parts, std::size_t count, std::size_t& done) noexcept;
  int send_file(int file, std::uint64_t offset, std::uint64_t count, std::uint64_t& done) noexcept;

  /// @return The new descriptor, or an error.
  int accept(endpoint& peer) noexcept;
  /// After a connect that is in progress: 0 when it is established.
  int wait_connected() noexcept;
  /// After a connect, which has chosen it. By the owner, before anybody else knows the object.
  void refresh_local() noexcept;

  int shut_down(int how) noexcept;
  int set_deadline(bool read, bool write, std::int64_t ns) noexcept;
  int set_option(int level, int option, int value) noexcept;
  int set_option(int level, int option, const void* value, socklen_t size) noexcept;
  int get_option(int level, int option, void* value, socklen_t* size) noexcept;

  bool close() noexcept;
  int release() noexcept;
  /// Whether close() removes the path that a unix listener is bound to.
  void set_unlink(bool on) noexcept { unlink_.store(on, std::memory_order_relaxed); }

  [[nodiscard]] bool is_open() const noexcept { return !mutex_.is_closed(); }
  [[nodiscard]] int descriptor() const noexcept { return is_open() ? descriptor_ : -1; }
  [[nodiscard]] endpoint local() noexcept;
  [[nodiscard]] endpoint remote() noexcept;
  [[nodiscard]] const char* network() const noexcept;

 private:
  /// An address as long as those of TCP; longer ones are asked of the kernel when needed.
  struct short_address {
    std::uint8_t size = 0;
    alignas(4) unsigned char bytes[28] = {};
    void set(const endpoint& e) noexcept;
    [[nodiscard]] endpoint get() const noexcept { return {bytes, size}; }
  };
  class user;
  class holder;

  net_fd(int descriptor, net_kind kind, poll::poll_descriptor* record) noexcept;
  ~net_fd() = default;

  using ask_kernel = int (*)(int descriptor, void* address, socklen_t* size) noexcept;
  endpoint address(const short_address& kept, ask_kernel ask) noexcept;
  int check(direction d) noexcept;
  int wait(direction d) noexcept;
  int wait_parked(direction d, sched::goroutine* self) noexcept;
  int wait_on_thread(direction d) noexcept;
  int pause_until(direction d, std::int64_t until) noexcept;
  int pause_parked(direction d, sched::goroutine* self, std::int64_t until) noexcept;
  ssize_t read_locked(void* data, std::size_t size) noexcept;
  void kick(direction d) noexcept;
  int write_locked(const void* data, std::size_t size, std::size_t& done) noexcept;
  bool shut() noexcept;
  void finish() noexcept;
  void remove_path() noexcept;
  void left_orphan() noexcept;

  const int descriptor_;
  const net_kind kind_;
  /// A read that returns less than it asked for has emptied the socket: true of TCP, not of unix
  /// sockets, where a read also stops between messages of different senders.
  const bool short_read_drains_;
  bool drained_ = false;  ///< the next read would find nothing; under the read lock
  bool finished_ = false;  ///< the number is free again; the closer's, then the owner's
  std::atomic<bool> unlink_{false};
  const std::uint32_t epoch_;
  poll::poll_descriptor* const record_;
  fd_mutex mutex_;
  short_address local_;   // written before anybody else knows the object
  short_address remote_;
};

}  // namespace tuco::inline v1::io
