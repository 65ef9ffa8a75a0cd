// SPDX-License-Identifier: Apache-2.0
#include "io/net_fd.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "base/sanitizer.hpp"
#include "os/clock.hpp"
#include "os/eventfd.hpp"
#include "os/sleep.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::io {
namespace {

using poll::poll_descriptor;
using poll::the_poller;

struct commit_argument {
  poll_descriptor* record;
  direction which;
  bool has_deadline;
};

bool commit_wait(sched::goroutine* self, void* argument) noexcept {
  // Copied first: as soon as the word holds the goroutine, it may run and end this frame.
  const commit_argument a = *static_cast<commit_argument*>(argument);
  return the_poller().commit(*a.record, a.which, self, a.has_deadline);
}

bool is_plain_thread(const sched::goroutine* g) noexcept {
  return (g->flags & task::flag_plain_thread) != 0;
}

// How much one sendfile() moves: bounds the time between two looks at the deadline.
constexpr std::size_t file_chunk = 4 << 20;
// Vectors handed to one sendmsg(), on the stack; the kernel's limit is 1024.
constexpr std::size_t vector_chunk = 64;

constexpr std::int64_t first_backoff = 5'000'000;
constexpr std::int64_t last_backoff = 1'000'000'000;

bool is_out_of_resources(int error) noexcept {
  return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

// Errors of a connection that was still in the queue; accept(2) tells them to the listener. The next
// connection has nothing to do with them.
bool is_of_the_connection(int error) noexcept {
  switch (-error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH: return true;
    default: return false;
  }
}

}  // namespace

std::error_code to_error_code(std::int64_t result) noexcept {
  if (result >= 0) return {};
  if (result == error_closed) return make_error_code(net_errc::closed);
  if (result == error_deadline) return std::make_error_code(std::errc::timed_out);
  return {static_cast<int>(-result), std::system_category()};
}

// ---------------------------------------------------------------------------- open and close

/// Counts a user for a scope.
class net_fd::user {
 public:
  explicit user(net_fd& fd) noexcept : fd_(fd), inside_(fd.mutex_.enter()) {}
  ~user() {
    if (inside_ && fd_.mutex_.leave()) fd_.left_orphan();
  }
  user(const user&) = delete;
  user& operator=(const user&) = delete;
  explicit operator bool() const noexcept { return inside_; }

 private:
  net_fd& fd_;
  const bool inside_;
};

/// Holds one direction for a scope.
class net_fd::holder {
 public:
  holder(net_fd& fd, direction d) noexcept : fd_(fd), d_(d), inside_(take(fd, d)) {}
  ~holder() {
    if (inside_ && fd_.mutex_.unlock(d_)) fd_.left_orphan();
  }
  holder(const holder&) = delete;
  holder& operator=(const holder&) = delete;
  explicit operator bool() const noexcept { return inside_; }

 private:
  static bool take(net_fd& fd, direction d) noexcept {
    // One section for each operation, also for those that never wait: here a goroutine that always
    // finds data learns that its processor was taken or is wanted by others.
    sched::runtime_section section;
    return fd.mutex_.lock(d);
  }
  net_fd& fd_;
  const direction d_;
  const bool inside_;
};

void net_fd::short_address::set(const endpoint& e) noexcept {
  if (e.size() > sizeof bytes) return;
  size = static_cast<std::uint8_t>(e.size());
  std::memcpy(bytes, e.data(), size);
}

net_fd::net_fd(int descriptor, net_kind kind, poll_descriptor* record) noexcept
    : descriptor_(descriptor),
      kind_(kind),
      short_read_drains_(kind == net_kind::tcp),
      epoch_(the_poller().epoch()),
      record_(record) {}

int net_fd::open(int descriptor, net_kind kind, const endpoint* remote, net_fd*& out) noexcept {
  poll_descriptor* record = nullptr;
  if (const int error = the_poller().open(descriptor, record); error < 0) return error;
  net_fd* fd = new (std::nothrow) net_fd(descriptor, kind, record);
  if (fd == nullptr) {
    the_poller().close(record);
    return -ENOMEM;
  }
  fd->local_.set(fd->local());
  if (kind == net_kind::tcp || kind == net_kind::unix_stream) {
    fd->remote_.set(remote != nullptr ? *remote : fd->remote());
    const base::unseen_by_tsan unseen;
    // For dumps: what a goroutine that waits here is talking to.
    record->peer_size = fd->remote_.size;
    std::memcpy(record->peer, fd->remote_.bytes, fd->remote_.size);
  }
  out = fd;
  return 0;
}

// Waits are ended in three steps, in this order: nobody new gets in (the mutex), whoever is about to
// wait sees `closing` (poll_word.hpp, I), whoever waits is woken. Then the users leave, and only then
// the registration and the number are given back.
bool net_fd::shut() noexcept {
  if (!mutex_.close()) return false;
  record_->closing.store(true, std::memory_order_seq_cst);
  kick(direction::read);
  kick(direction::write);
  return true;
}

void net_fd::finish() noexcept {
  const base::unseen_by_tsan unseen;  // the users have left, in an order that only fd_mutex knows
  the_poller().close(record_);
  os::close_descriptor(descriptor_);
  finished_ = true;
}

bool net_fd::close() noexcept {
  if (!shut()) return false;
  if (unlink_.load(std::memory_order_relaxed)) remove_path();
  // A run() that ended has left its goroutines where they stood. One that stood in here never
  // leaves, and waiting for it would hang a static destructor at exit: destroy() sees to the rest.
  if (epoch_ == the_poller().epoch()) {
    mutex_.wait_until_unused();
  } else if (!mutex_.is_unused()) {
    return true;
  }
  finish();
  return true;
}

// While the descriptor is still bound: afterwards somebody else may have taken the name.
void net_fd::remove_path() noexcept {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  if (os::socket_name(descriptor_, &name, &size) < 0 || name.sun_family != AF_UNIX) return;
  if (size > offsetof(sockaddr_un, sun_path) && name.sun_path[0] != 0) {
    os::remove_name(name.sun_path);
  }
}

int net_fd::release() noexcept {
  if (!shut()) return -1;
  mutex_.wait_until_unused();
  the_poller().close(record_);
  finished_ = true;
  return descriptor_;
}

void net_fd::destroy(net_fd* fd) noexcept {
  fd->close();
  if (!fd->finished_) {
    if (fd->mutex_.disown()) return;  // the last user, if it ever leaves, does it
    fd->finish();
  }
  delete fd;
}

void net_fd::left_orphan() noexcept {
  finish();
  delete this;
}

// ---------------------------------------------------------------------------------- waiting
//
// Deadlines. A descriptor has no timer of its own (Go has two). It has a word per direction that holds
// the deadline, and the goroutine that waits parks with that as its own timeout.
//   - set_deadline() is a store, and a wake-up only when somebody waits and the new deadline is
//     earlier. A server that moves an idle deadline before each of a thousand reads that find data
//     pays a thousand stores; Go modifies a timer each time.
//   - A deadline that was moved to later while somebody waits costs one superfluous wake-up: the
//     waiter finds, at the old deadline, that there is a new one.
//   - No timer can fire for a descriptor that was closed and reused: Go needs sequence numbers there.
// The price: a read that parks puts an entry into the timer heap and takes it out, also if the
// deadline is the same as last time (docs/design/poller.md has the comparison).

// Before each operation: Go fails a read past its deadline even when data is there.
int net_fd::check(direction d) noexcept {
  const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_relaxed);
  if (deadline != poll::no_deadline && deadline <= os::steady_now_ns()) [[unlikely]] {
    return error_deadline;
  }
  return 0;
}

// Returns when trying again may help (0), or why it will not. The caller holds the lock of `d`.
int net_fd::wait(direction d) noexcept {
  {
    sched::runtime_section section;
    if (!is_plain_thread(section.self())) return wait_parked(d, section.self());
  }
  return wait_on_thread(d);
}

// Inside the caller's section.
int net_fd::wait_parked(direction d, sched::goroutine* self) noexcept {
  poll::poll_word<>& word = record_->of(d);
  for (;;) {
    if (!word.arm()) return 0;
    if (record_->closing.load(std::memory_order_seq_cst)) {
      word.disarm();
      return error_closed;
    }
    const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_seq_cst);
    if (deadline == poll::no_deadline) {
      commit_argument argument{record_, d, false};
      sched::park(commit_wait, &argument, wait_reason::io_wait, record_);
      break;
    }
    if (deadline <= os::steady_now_ns()) {
      word.disarm();
      return error_deadline;
    }
    commit_argument argument{record_, d, true};
    sched::arm_claim(self);
    const std::uint32_t by =
        sched::park_until(deadline, commit_wait, &argument, wait_reason::io_wait, record_);
    if (by != sched::claimed_by_deadline) break;
    the_poller().withdraw(*record_, d, self);
    // Once more around: the deadline may have been moved while we waited.
  }
  return record_->closing.load(std::memory_order_acquire) ? error_closed : 0;
}

// A thread that is not a worker blocks in poll(2): no runtime may be there to poll for it. Whoever
// kicks the descriptor reaches it through an eventfd.
int net_fd::wait_on_thread(direction d) noexcept {
  const int which = static_cast<int>(d);
  const int wake = os::eventfd_open();
  record_->plain_lock.lock();
  record_->plain_wake[which] = wake;
  record_->plain_lock.unlock();
  record_->plain_waiters.fetch_add(1, std::memory_order_seq_cst);  // as W1 in poll_word.hpp

  int result = 0;
  for (;;) {
    if (record_->closing.load(std::memory_order_seq_cst)) {
      result = error_closed;
      break;
    }
    const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_seq_cst);
    std::int64_t timeout = -1;
    if (deadline != poll::no_deadline) {
      timeout = deadline - os::steady_now_ns();
      if (timeout <= 0) {
        result = error_deadline;
        break;
      }
    }
    // No descriptor left for the eventfd: look around every 10 ms instead.
    constexpr std::int64_t blind = 10'000'000;
    if (wake < 0) timeout = timeout < 0 ? blind : std::min(timeout, blind);
    const short events = d == direction::read ? POLLIN | POLLRDHUP : POLLOUT;
    const int what = os::poll_descriptors(descriptor_, events, wake, timeout);
    if (what < 0) {
      if (what == -EINTR) continue;
      result = what;  // no memory, or a limit below the two descriptors (RLIMIT_NOFILE): it may last
      break;
    }
    if ((what & 1) != 0) {
      if (record_->closing.load(std::memory_order_acquire)) result = error_closed;
      break;
    }
    if ((what & 2) != 0 && (result = os::eventfd_drain(wake)) < 0) break;
  }

  record_->plain_waiters.fetch_sub(1, std::memory_order_relaxed);
  record_->plain_lock.lock();
  record_->plain_wake[which] = -1;  // from here on nobody writes to the number
  record_->plain_lock.unlock();
  if (wake >= 0) os::close_descriptor(wake);
  return result;
}

void net_fd::kick(direction d) noexcept {
  sched::runtime_section section;
  if (sched::goroutine* g = the_poller().kick(*record_, d)) sched::ready(g);
  if (record_->plain_waiters.load(std::memory_order_seq_cst) > 0) {
    record_->plain_lock.lock();
    const int wake = record_->plain_wake[static_cast<int>(d)];
    if (wake >= 0) poll::must_signal(wake);
    record_->plain_lock.unlock();
  }
}

// Waits until `until`, whatever edges come; ended early by close() and by the deadline.
int net_fd::pause_until(direction d, std::int64_t until) noexcept {
  {
    sched::runtime_section section;
    if (!is_plain_thread(section.self())) return pause_parked(d, section.self(), until);
  }
  // In slices, because nothing wakes this sleep: a thread that accepts without a worker, while the
  // process is out of descriptors, is too rare for a wake-up of its own.
  for (;;) {
    if (record_->closing.load(std::memory_order_acquire)) return error_closed;
    if (const int error = check(d)) return error;
    const std::int64_t left = until - os::steady_now_ns();
    if (left <= 0) return 0;
    os::sleep_for(std::min<std::int64_t>(left, 10'000'000));
  }
}

int net_fd::pause_parked(direction d, sched::goroutine* self, std::int64_t until) noexcept {
  poll::poll_word<>& word = record_->of(d);
  for (;;) {
    if (!word.arm()) continue;  // consumes the edge; the caller tries again anyway
    const bool closing = record_->closing.load(std::memory_order_seq_cst);
    const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_seq_cst);
    const std::int64_t now = os::steady_now_ns();
    if (closing || deadline <= now || until <= now) {
      word.disarm();
      return closing ? error_closed : deadline <= now ? error_deadline : 0;
    }
    commit_argument argument{record_, d, true};
    sched::arm_claim(self);
    const std::uint32_t by = sched::park_until(std::min(until, deadline), commit_wait, &argument,
                                               wait_reason::io_wait, record_);
    if (by == sched::claimed_by_deadline) the_poller().withdraw(*record_, d, self);
  }
}

int net_fd::set_deadline(bool read, bool write, std::int64_t ns) noexcept {
  user inside(*this);
  if (!inside) return error_closed;
  for (direction d : {direction::read, direction::write}) {
    if (d == direction::read ? !read : !write) continue;
    // seq_cst: K1 of poll_word.hpp. Against the latest value and not the one the waiter has seen: a
    // waiter with an older one is woken by the time it has, and looks again.
    const std::int64_t old = record_->deadline_of(d).exchange(ns, std::memory_order_seq_cst);
    if (ns < old) kick(d);
  }
  return 0;
}

// ------------------------------------------------------------------------- reading and writing

ssize_t net_fd::read_locked(void* data, std::size_t size) noexcept {
  if (const int error = check(direction::read)) return error;
  for (;;) {
    // The socket was emptied by the last read, and whatever came since has brought an edge, which
    // wait() finds. So the call that could only say EAGAIN is left out: one system call less for each
    // request of an echo server. Not when the stream has ended: the end itself may have been
    // announced before that read, together with the data, and there is no second edge.
    if (!drained_) {
      const ssize_t n = os::socket_receive(descriptor_, data, size);
      if (n >= 0) {
        drained_ = short_read_drains_ && n > 0 && static_cast<std::size_t>(n) < size &&
                   !record_->ended.load(std::memory_order_seq_cst);  // III of poll_word.hpp
        return n;
      }
      if (n != -EAGAIN) return n;
    }
    const int error = wait(direction::read);
    drained_ = false;
    if (error < 0) return error;
  }
}

ssize_t net_fd::read_some(void* data, std::size_t size) noexcept {
  holder held(*this, direction::read);
  if (!held) return error_closed;
  if (size == 0) return check(direction::read);
  return read_locked(data, size);
}

int net_fd::read_full(void* data, std::size_t size, std::size_t& done) noexcept {
  done = 0;
  holder held(*this, direction::read);
  if (!held) return error_closed;
  while (done < size) {
    const ssize_t n = read_locked(static_cast<char*>(data) + done, size - done);
    if (n < 0) return static_cast<int>(n);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return 0;
}

int net_fd::write_locked(const void* data, std::size_t size, std::size_t& done) noexcept {
  const char* from = static_cast<const char*>(data);
  for (std::size_t sent = 0;;) {
    const ssize_t n = os::socket_send(descriptor_, from + sent, size - sent);
    if (n >= 0) {
      sent += static_cast<std::size_t>(n);
      done += static_cast<std::size_t>(n);
      if (sent == size) return 0;
      continue;  // a short write is followed by the call that says EAGAIN: rare, and no doubt is left
    }
    if (n != -EAGAIN) return static_cast<int>(n);
    if (const int error = wait(direction::write)) return error;
    if (const int error = check(direction::write)) return error;
  }
}

int net_fd::write(const void* data, std::size_t size, std::size_t& done) noexcept {
  done = 0;
  holder held(*this, direction::write);
  if (!held) return error_closed;
  if (const int error = check(direction::write)) return error;
  return size == 0 ? 0 : write_locked(data, size, done);
}

int net_fd::write(const const_buffer* parts, std::size_t count, std::size_t& done) noexcept {
  done = 0;
  holder held(*this, direction::write);
  if (!held) return error_closed;
  if (const int error = check(direction::write)) return error;

  std::size_t skip = 0;  // bytes of parts[0] that were sent
  for (;;) {
    iovec vector[vector_chunk];
    std::size_t used = 0;
    for (std::size_t i = 0; i < count && used < vector_chunk; ++i) {
      const std::size_t from = i == 0 ? skip : 0;
      if (parts[i].size == from) continue;
      // sendmsg does not write to it; iovec has no const form.
      vector[used++] = {const_cast<char*>(static_cast<const char*>(parts[i].data)) + from,
                        parts[i].size - from};
    }
    if (used == 0) return 0;
    const ssize_t n = os::socket_send_vector(descriptor_, vector, used);
    if (n < 0) {
      if (n != -EAGAIN) return static_cast<int>(n);
      if (const int error = wait(direction::write)) return error;
      if (const int error = check(direction::write)) return error;
      continue;
    }
    std::size_t sent = static_cast<std::size_t>(n);
    done += sent;
    while (count > 0 && sent >= parts->size - skip) {
      sent -= parts->size - skip;
      skip = 0;
      ++parts;
      --count;
    }
    skip += sent;
  }
}

int net_fd::send_file(int file, std::uint64_t offset, std::uint64_t count,
                      std::uint64_t& done) noexcept {
  done = 0;
  holder held(*this, direction::write);
  if (!held) return error_closed;
  if (offset > INT64_MAX || count > INT64_MAX - offset) return -EINVAL;

  auto at = static_cast<std::int64_t>(offset);
  std::unique_ptr<char[]> copy;  // once the kernel has refused this kind of file
  constexpr std::size_t copy_size = 64 << 10;
  while (done < count) {
    if (const int error = check(direction::write)) return error;
    const std::uint64_t left = count - done;
    if (copy == nullptr) {
      const ssize_t n = os::socket_send_file(descriptor_, file, &at,
                                             std::min<std::uint64_t>(left, file_chunk));
      if (n == 0) return 0;  // the file ends here
      if (n > 0) {
        done += static_cast<std::uint64_t>(n);
        continue;
      }
      if (n == -EAGAIN) {
        if (const int error = wait(direction::write)) return error;
        continue;
      }
      if (n != -EINVAL && n != -ENOSYS) return static_cast<int>(n);
      copy.reset(new (std::nothrow) char[copy_size]);
      if (copy == nullptr) return -ENOMEM;
    }
    const ssize_t got =
        os::file_read_at(file, copy.get(), std::min<std::uint64_t>(left, copy_size), at);
    if (got <= 0) return static_cast<int>(got);
    at += got;
    std::size_t sent = 0;
    const int error = write_locked(copy.get(), static_cast<std::size_t>(got), sent);
    done += sent;
    if (error < 0) return error;
  }
  return 0;
}

// ---------------------------------------------------------------------- connecting, accepting

int net_fd::accept(endpoint& peer) noexcept {
  holder held(*this, direction::read);
  if (!held) return error_closed;
  if (const int error = check(direction::read)) return error;
  std::int64_t backoff = first_backoff;
  for (;;) {
    unsigned char address[112];
    socklen_t size = sizeof address;
    const int fd = os::socket_accept(descriptor_, address, &size);
    if (fd >= 0) {
      peer = endpoint(address, std::min<std::size_t>(size, sizeof address));
      return fd;
    }
    if (fd == -EAGAIN) {
      if (const int error = wait(direction::read)) return error;
    } else if (is_out_of_resources(fd)) {
      // The connection stays in the queue and there will be no second edge for it: wait a while and
      // try again. Failing instead would end the accept loop of a server for a passing shortage.
      const std::int64_t until = os::saturating_add(os::steady_now_ns(), backoff);
      backoff = std::min(backoff * 2, last_backoff);
      if (const int error = pause_until(direction::read, until)) return error;
    } else if (!is_of_the_connection(fd)) {
      return fd;
    }
  }
}

int net_fd::wait_connected() noexcept {
  holder held(*this, direction::write);
  if (!held) return error_closed;
  for (;;) {
    if (const int error = wait(direction::write)) return error;
    if (const int error = os::socket_error(descriptor_)) return error;
    // No error and yet not connected: the wake-up was not for us.
    unsigned char address[112];
    socklen_t size = sizeof address;
    const int connected = os::socket_peer(descriptor_, address, &size);
    if (connected != -ENOTCONN) return connected;
  }
}

void net_fd::refresh_local() noexcept {
  local_ = {};
  local_.set(local());
}

// ------------------------------------------------------------------------------------- others

int net_fd::shut_down(int how) noexcept {
  user inside(*this);
  return inside ? os::socket_shutdown(descriptor_, how) : error_closed;
}

int net_fd::set_option(int level, int option, int value) noexcept {
  return set_option(level, option, &value, sizeof value);
}

int net_fd::set_option(int level, int option, const void* value, socklen_t size) noexcept {
  user inside(*this);
  return inside ? os::set_option(descriptor_, level, option, value, size) : error_closed;
}

int net_fd::get_option(int level, int option, void* value, socklen_t* size) noexcept {
  user inside(*this);
  return inside ? os::get_option(descriptor_, level, option, value, size) : error_closed;
}

endpoint net_fd::local() noexcept {
  if (local_.size != 0) return local_.get();
  user inside(*this);
  unsigned char address[112];
  socklen_t size = sizeof address;
  if (!inside || os::socket_name(descriptor_, address, &size) < 0) return {};
  return {address, std::min<std::size_t>(size, sizeof address)};
}

endpoint net_fd::remote() noexcept {
  if (remote_.size != 0) return remote_.get();
  user inside(*this);
  unsigned char address[112];
  socklen_t size = sizeof address;
  if (!inside || os::socket_peer(descriptor_, address, &size) < 0) return {};
  return {address, std::min<std::size_t>(size, sizeof address)};
}

const char* net_fd::network() const noexcept {
  return kind_ == net_kind::tcp || kind_ == net_kind::tcp_listener ? "tcp" : "unix";
}

}  // namespace tuco::inline v1::io
