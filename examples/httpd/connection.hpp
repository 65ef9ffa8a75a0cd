// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `connection`: reads requests from one client and answers them in order, until one of both has had
/// enough. One goroutine each, straight on.

#include <tuco/net.hpp>

#include "inbox.hpp"
#include "outbox.hpp"
#include "request.hpp"
#include "target.hpp"

namespace httpd {

class server;

class connection {
 public:
  connection(server& owner, tuco::tcp_conn conn);
  ~connection();
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  void serve();

  /// From any goroutine: no further requests are read; one that has arrived is answered.
  void finish_reading() noexcept;

 private:
  enum class got { request, refusal, nothing };
  got receive();
  got refuse(int status);
  void answer();
  void linger();

  server& owner_;
  tuco::tcp_conn conn_;
  inbox in_;
  outbox out_;
  request_parser parser_;
  target target_;
  bool keep_alive_ = true;
};

}  // namespace httpd
