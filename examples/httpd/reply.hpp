// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `reply`: the one answer to a request. It knows what the request allows: no body after HEAD, whether
/// the connection stays.

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "outbox.hpp"

namespace httpd {

class reply {
 public:
  struct options {
    bool without_body = false;
    bool keep_alive = false;
    bool http_1_0 = false;
  };

  reply(outbox& out, options o) noexcept : out_(out), options_(o) {}

  /// @param fields  further header lines, each with its CRLF
  void send(int status, std::string_view type, std::string_view body, std::string_view fields = {});
  /// A status with its name as the body.
  void send(int status, std::string_view fields = {});
  /// A part of a file.
  void send_file(int status, std::string_view type, int file, std::uint64_t offset, std::uint64_t count,
                 std::string_view fields);

  /// Lets go what waits in the outbox: the handler is about to take its time.
  void pause() { out_.flush(); }

 private:
  void head(int status, std::string_view type, std::uint64_t length, std::string_view fields);

  outbox& out_;
  const options options_;
};

/// "Sun, 06 Nov 1994 08:49:37 GMT"
void append_date(std::string& out, std::time_t t);

}  // namespace httpd
