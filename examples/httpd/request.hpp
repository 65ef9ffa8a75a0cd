// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `request_parser`: bytes in, requests out. The grammar of HTTP is Boost.Beast's
/// (Debian's libboost-dev, headers only); request.cpp alone includes it. Beside the grammar it holds requests
/// to the rules that protect whoever stands in front of us or behind: one Host, one way to tell the
/// body's length, limits.
///
/// A parser serves one connection and is used again for each request: once its strings have grown,
/// parsing allocates nothing.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace httpd {

inline constexpr std::size_t head_limit = 16 << 10;  ///< request line and fields, in bytes
inline constexpr std::uint64_t body_limit = 1 << 20;

enum class method : std::uint8_t { get, head, other };

struct request {
  httpd::method method = method::other;
  bool http_1_0 = false;
  bool keep_alive = false;        ///< what version and Connection field ask for
  bool expects_continue = false;  ///< the client waits for a word before it sends the body
  std::string target;
  std::string range, if_range, if_none_match, if_modified_since;  ///< empty: no such field
};

class request_parser {
 public:
  enum class stage : std::uint8_t {
    head,      ///< wants more
    body,      ///< request() is valid; what follows is a body, to be read past
    complete,  ///< request() is valid, the next byte belongs to the next request
    failed,    ///< status() says how; the connection cannot be understood any further
  };

  request_parser();
  ~request_parser();
  request_parser(const request_parser&) = delete;
  request_parser& operator=(const request_parser&) = delete;

  /// Before each request.
  void begin();

  /// Reads on. Stops behind the head, and behind the request. What was not taken is to be shown
  /// again, with more behind it.
  /// @return How many bytes were taken.
  std::size_t feed(std::string_view input);

  [[nodiscard]] stage at() const noexcept { return stage_; }
  /// `failed`: the status to answer with.
  [[nodiscard]] int status() const noexcept { return status_; }
  [[nodiscard]] const httpd::request& request() const noexcept { return request_; }

 private:
  class grammar;
  void fail(int status) noexcept;

  httpd::request request_;
  stage stage_ = stage::head;
  int status_ = 0;
  std::size_t head_bytes_ = 0;
  std::unique_ptr<grammar> grammar_;
};

}  // namespace httpd
