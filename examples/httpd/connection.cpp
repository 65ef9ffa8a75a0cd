// SPDX-License-Identifier: Apache-2.0
#include "connection.hpp"

#include <exception>
#include <system_error>
#include <utility>

#include "files.hpp"
#include "reply.hpp"
#include "routes.hpp"
#include "server.hpp"

namespace httpd {

using std::chrono::steady_clock;

connection::connection(server& owner, tuco::tcp_conn conn)
    : owner_(owner), conn_(std::move(conn)), in_(conn_), out_(conn_, owner.time().write) {
  owner_.enter(*this);
}

connection::~connection() { owner_.leave(*this); }

void connection::finish_reading() noexcept {
  std::error_code ignored;
  conn_.shutdown_read(ignored);
}

void connection::serve() {
  got last = got::request;
  while (keep_alive_ && out_.is_open() && (last = receive()) == got::request) answer();
  if (last != got::nothing && out_.flush()) linger();
}

// Reads a whole request: its body is read past before it is answered, so that the answer never crosses
// it. Whoever asks before sending a body is answered instead of encouraged: no route wants a body.
connection::got connection::receive() {
  using stage = request_parser::stage;
  const server::limits& limits = owner_.time();
  const auto began = steady_clock::now();
  auto deadline = began + limits.idle;
  bool has_begun = false;
  bool skipped = false;
  stage seen = stage::head;
  parser_.begin();
  for (;;) {
    if (!has_begun && !skipped && in_.view().starts_with("\r\n")) {
      in_.take(2);  // RFC 9112, 2.2: one empty line, left by some clients
      skipped = true;
    }
    if (!in_.view().empty() && (has_begun || skipped || in_.view() != "\r")) {
      if (!has_begun) deadline = steady_clock::now() + limits.head;
      has_begun = true;
      in_.take(parser_.feed(in_.view()));
      if (parser_.at() == stage::failed) return refuse(parser_.status());
      if (parser_.at() == stage::complete) return got::request;
      if (parser_.at() == stage::body && seen == stage::head) {
        if (parser_.request().expects_continue) return got::request;
        deadline = steady_clock::now() + limits.body;
        seen = stage::body;
        continue;
      }
      if (in_.is_full()) return refuse(seen == stage::head ? 431 : 400);
    }
    if (!out_.flush()) return got::nothing;
    switch (in_.fill(deadline)) {
      case inbox::outcome::more: break;
      case inbox::outcome::ended: return got::nothing;
      case inbox::outcome::timed_out: return has_begun ? refuse(408) : got::nothing;
    }
  }
}

connection::got connection::refuse(int status) {
  reply(out_, {}).send(status);
  return got::refusal;
}

void connection::answer() {
  const request& asked = parser_.request();
  keep_alive_ = asked.keep_alive && parser_.at() == request_parser::stage::complete && !owner_.is_draining();
  reply answer(out_, {.without_body = asked.method == method::head,
                      .keep_alive = keep_alive_,
                      .http_1_0 = asked.http_1_0});
  const std::size_t before = out_.text().size();
  try {
    if (asked.method == method::other) return answer.send(405, "Allow: GET, HEAD\r\n");
    if (const int status = parse_target(asked.target, target_); status != 0) return answer.send(status);
    if (!serve_route(target_, answer)) owner_.root().serve(target_, asked, answer);
  } catch (const std::exception&) {  // no memory, no goroutine: the next request may fare better
    if (out_.text().size() != before) return out_.fail();
    answer.send(503);
  }
}

// A close while the client still sends makes the kernel reset the connection, and the reset may
// overtake the answer. So say that we have finished, and read until the client has as well.
void connection::linger() {
  std::error_code ec;
  conn_.shutdown_write(ec);
  const auto deadline = steady_clock::now() + std::chrono::seconds(1);
  while (in_.take(in_.view().size()), in_.fill(deadline) == inbox::outcome::more) {
  }
}

}  // namespace httpd
