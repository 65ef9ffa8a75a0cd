// SPDX-License-Identifier: Apache-2.0
// Scenarios of descriptors and sockets. A fault at one end of a connection makes that end close it, and
// the other one sees the end of the stream or a reset: so nobody needs a deadline to get away.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <tuco/chan.hpp>
#include <tuco/net.hpp>
#include <tuco/run.hpp>
#include <tuco/time.hpp>

#include "fault/scenarios.hpp"

namespace tuco::test {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr std::size_t message_size = 100'000;  // more than a socket buffers: reads and writes park

/// Echoes until the peer has finished. The connection closes with it.
template <class Conn>
void echo(witness& w, Conn conn) {
  std::error_code ec;
  std::string buffer(16 << 10, 0);
  for (;;) {
    const std::size_t n = conn.read_some(buffer, ec);
    if (ec) return w.error(ec, "read");
    if (n == 0) break;
    conn.write({buffer.data(), n}, ec);
    if (ec) return w.error(ec, "write");
  }
  conn.shutdown_write(ec);
  if (ec) w.error(ec, "shutdown");
}

/// Sends in pieces, receives it back, in both directions at once.
template <class Conn>
void talk(witness& w, Conn conn) {
  std::string sent(message_size, 0);
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>('a' + i % 23);
  troupe writer(w);
  const bool writes = writer.go([&] {
    std::error_code ec;
    const std::array<const_buffer, 3> parts{const_buffer(sent.data(), 10), const_buffer(),
                                            const_buffer(sent.data() + 10, sent.size() - 10)};
    conn.write(parts, ec);
    if (!ec) conn.shutdown_write(ec);
    if (ec) {
      w.error(ec, "write");
      conn.close();  // the reader must not wait for an answer
    }
  });
  if (writes) {
    std::string got(sent.size(), 0);
    std::error_code ec;
    const bool full = conn.read_full(got, ec);
    if (ec) w.error(ec, "read_full");
    if (full) w.require(got == sent, "what comes back is what was sent");
    else w.require_unless_failed(false, "all of it comes back");
    if (!full) conn.close();  // or the writer would wait for room
  }
  writer.wait();
}

/// Accepts until the listener is closed; closes it when accepting fails for good.
template <class Listener>
void serve(witness& w, Listener& listener) {
  troupe handlers(w);
  for (int failures = 0; failures < 3;) {
    std::error_code ec;
    auto conn = listener.accept(ec);
    if (ec == net_errc::closed) break;
    if (ec) {
      w.error(ec, "accept");
      ++failures;
      continue;
    }
    handlers.go([&w, conn = std::move(conn)]() mutable { echo(w, std::move(conn)); });
  }
  listener.close();  // whoever is still in the queue is reset
  handlers.wait();
}

/// A server and some clients; `dial(ec)` makes the clients' connections.
template <class Listener, class Dial>
void serve_and_talk(witness& w, Listener listener, Dial dial) {
  troupe server(w);
  if (server.go([&] { serve(w, listener); })) {
    troupe clients(w);
    for (int i = 0; i < 3; ++i) {
      clients.go([&, i] {
        std::error_code ec;
        auto conn = dial(i, ec);
        if (ec) return w.error(ec, "dial");
        talk(w, std::move(conn));
      });
    }
    clients.wait();
  }
  listener.close();
  server.wait();
}

/// Nothing will come: the deadline passes, unless the other end has given up.
void read_in_vain(witness& w, unix_conn& conn) {
  char byte = 0;
  std::error_code ec;
  (void)conn.read_some({&byte, 1}, ec);
  if (!ec) w.require(w.hit(), "nobody writes and nobody closes");
  // Ours, and not the kernel's ETIMEDOUT: that one is of another category.
  else if (ec != std::make_error_code(std::errc::timed_out)) w.error(ec, "read that times out");
}

std::string folder_of_temporaries() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr ? folder : "/tmp";
}

}  // namespace

void play_tcp(witness& w) {
  run_watched(w, 2, [&] {
    std::error_code ec;
    auto listener = tcp_listener::listen("127.0.0.1:0", ec);
    if (ec) return w.error(ec, "listen");
    const endpoint address = listener.local_endpoint();
    if (address.port() == 0) {
      w.require(w.hit(), "a listener knows its address");
      return;
    }
    serve_and_talk(w, std::move(listener), [&](int i, std::error_code& failed) {
      auto conn = i == 0 ? tcp_conn::dial(address, failed)
                         : tcp_conn::dial(address.to_string(), clock::now() + 1h, failed);
      if (failed) return conn;
      conn.set_no_delay(false, failed);
      if (failed) w.error(failed, "set_no_delay");
      conn.set_keep_alive(true, 10s, 5s, 3, failed);
      if (failed) w.error(failed, "set_keep_alive");
      conn.set_linger(-1s, failed);
      if (failed) w.error(failed, "set_linger");
      failed.clear();
      return conn;
    });
  });
}

void play_unix(witness& w) {
  run_watched(w, 2, [&] {
    std::error_code ec;
    static int number = 0;
    const std::string path = folder_of_temporaries() + "/tuco-fault-" + std::to_string(::getpid()) + "-" +
                             std::to_string(++number);
    ::unlink(path.c_str());  // of a process that had our number before, and was killed
    auto listener = unix_listener::listen(path, ec);
    if (ec) {
      w.require(::access(path.c_str(), F_OK) != 0, "a failed listen leaves no path");
      return w.error(ec, "listen");
    }
    serve_and_talk(w, std::move(listener), [&](int, std::error_code& failed) {
      auto conn = unix_conn::dial(path, failed);
      if (failed) return conn;
      std::error_code no_names;
      (void)conn.peer_credentials(no_names);
      if (no_names) w.error(no_names, "peer_credentials");
      return conn;
    });
    // Only an address that could not be asked for may keep the name.
    if (::unlink(path.c_str()) == 0) w.require(w.hit(), "close() removes the path");

    auto [near, far] = unix_conn::pair(ec);
    if (ec) return w.error(ec, "pair");
    near.close();
    (void)far.read_some(std::span<char>(), ec);
    // Sockets of somebody else.
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
    for (const int end : ends) {
      auto adopted = unix_conn::adopt(end, ec);
      if (ec) {
        w.error(ec, "adopt");
        ::close(end);
      } else if (const int released = adopted.release(); released >= 0) {
        ::close(released);
      }
    }
  });
}

void play_send_file(witness& w) {
  const int file = ::memfd_create("file to send", MFD_CLOEXEC);
  const std::string contents(300'000, 'f');
  w.require(::write(file, contents.data(), contents.size()) == static_cast<ssize_t>(contents.size()),
            "a file can be written");
  const int not_for_the_kernel = ::open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
  run_watched(w, 2, [&] {
    std::error_code ec;
    auto ends = unix_conn::pair(ec);
    if (ec) return w.error(ec, "pair");
    troupe all(w);
    std::uint64_t got = 0;
    const bool reads = all.go([&] {
      std::error_code failed;
      std::string buffer(64 << 10, 0);
      while (const std::size_t n = ends.second.read_some(buffer, failed)) got += n;
      if (failed) w.error(failed, "read");
      ends.second.close();  // the writer must not wait for room
    });
    if (reads) {
      const std::uint64_t sent = ends.first.send_file(file, 0, contents.size(), ec);
      if (ec) w.error(ec, "send_file");
      else w.require(sent == contents.size(), "all of the file is sent");
      if (!ec) (void)ends.first.send_file(not_for_the_kernel, 0, 1, ec);
      if (ec) w.error(ec, "send_file of a file that must be copied");
      ends.first.close();
    }
    all.wait();
    w.require_unless_failed(got >= contents.size(), "all of the file arrives");
  });
  ::close(not_for_the_kernel);
  ::close(file);
}

void play_resolve(witness& w) {
  const auto look_up = [&w] {
    for (const char* service : {"80", "no such service"}) {
      std::error_code ec;
      const auto found = resolve("localhost", service, ec);
      if (ec == net_errc::bad_address && service[0] == 'n') continue;
      if (ec) w.error(ec, "resolve");
      else w.require(!found.empty(), "a name has addresses");
    }
  };
  look_up();
  run_watched(w, 2, [&] {
    troupe all(w);
    for (int i = 0; i < 3; ++i) all.go(look_up);
    all.wait();
    std::error_code ec;
    auto listener = tcp_listener::listen("localhost:0", ec);
    if (ec) return w.error(ec, "listen");
    (void)tcp_conn::dial("localhost:" + std::to_string(listener.local_endpoint().port()), ec);
    if (ec && listener.local_endpoint().port() != 0) w.error(ec, "dial");
  });
}

// Threads that are not the runtime's wait in poll(2).
void play_net_threads(witness& w) {
  std::error_code ec;
  auto ends = unix_conn::pair(ec);
  if (ec) return w.error(ec, "pair");
  std::thread echoing([&] { echo(w, std::move(ends.second)); });
  ends.first.set_read_deadline(clock::now() + 2ms);
  char byte = 0;
  read_in_vain(w, ends.first);
  ends.first.set_read_deadline(no_deadline);
  ends.first.write("x", ec);
  if (ec) w.error(ec, "write");
  else if (!ends.first.read_full({&byte, 1}, ec) && ec) w.error(ec, "read");
  // Two of this end's calls are ended by close(), one after the other.
  std::thread reading([&] {
    std::error_code failed;
    (void)ends.first.read_some({&byte, 1}, failed);
    if (failed && failed != net_errc::closed) w.error(failed, "read that is closed");
  });
  ends.first.close();
  reading.join();
  echoing.join();
}

// Goroutines that wait on descriptors while the runtime goes from idle to busy and back: the poller is
// slept in, interrupted, looked at.
void play_descriptors(witness& w) {
  run_watched(w, 2, [&] {
    std::error_code ec;
    auto ends = unix_conn::pair(ec);
    if (ec) return w.error(ec, "pair");
    troupe all(w);
    const bool echoes = all.go([&] { echo(w, std::move(ends.second)); });
    if (echoes) {
      for (int i = 0; i < 20; ++i) {
        char byte = 'x';
        ends.first.write({&byte, 1}, ec);
        if (!ec && !ends.first.read_full({&byte, 1}, ec) && !ec) ec = net_errc::unexpected_eof;
        if (ec) {
          w.error(ec, "a byte there and back");
          break;
        }
        if (i % 4 == 0) sleep_for(100us);
      }
      ends.first.set_read_deadline(clock::now() + 1ms, ec);
      if (!ec) read_in_vain(w, ends.first);
    }
    ends.first.close();
    all.wait();
  });
}

}  // namespace tuco::test
