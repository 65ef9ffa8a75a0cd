// SPDX-License-Identifier: Apache-2.0
#include "server.hpp"

#include <cstdio>
#include <mutex>
#include <system_error>
#include <utility>

#include "connection.hpp"

namespace httpd {

void server::accept_all() {
  for (;;) {
    std::error_code ec;
    tuco::tcp_conn conn = listener_.accept(ec);  // waits when the process is out of descriptors
    if (ec == tuco::net_errc::closed) return;
    try {
      if (ec) throw tuco::net_error(ec, "accept");
      open_.add();
      try {
        tuco::go({.name = "connection"}, [this, conn = std::move(conn)]() mutable {
          connection(*this, std::move(conn)).serve();
          open_.done();
        });
      } catch (...) {
        open_.done();
        throw;
      }
    } catch (const std::exception& e) {
      // Short of memory. This client is lost; the others are served, and the next may be.
      std::fprintf(stderr, "httpd: %s\n", e.what());
      tuco::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

void server::stop() {
  listener_.close();
  const std::scoped_lock held(lock_);
  draining_.store(true, std::memory_order_relaxed);
  for (connection* c : connections_) c->finish_reading();
}

void server::enter(connection& c) {
  const std::scoped_lock held(lock_);
  connections_.insert(&c);
  if (is_draining()) c.finish_reading();
}

void server::leave(connection& c) {
  const std::scoped_lock held(lock_);
  connections_.erase(&c);
}

}  // namespace httpd
