// SPDX-License-Identifier: Apache-2.0
#include "request.hpp"

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include <algorithm>
#include <new>

namespace httpd {

namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

bool is_host_character(char c) noexcept {
  constexpr std::string_view others = "-._~!$&'()*+,;=:[]%";  // RFC 3986, reg-name and IP literals
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         others.find(c) != others.npos;
}

// `HTTP/2.0` is a version that we do not speak, `HTTP/x` and `HTP/1.1` are not versions, and behind
// `HTTP/1.1` may stand something else than the end of the line: Beast calls all of it a bad version. `input`
// begins with the request line.
bool names_another_version(std::string_view input) noexcept {
  const std::string_view line = input.substr(0, input.find('\r'));
  const std::string_view version = line.substr(line.rfind(' ') + 1);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return version.size() == 8 && version.starts_with("HTTP/") && is_digit(version[5]) && version[6] == '.' &&
         is_digit(version[7]) && version != "HTTP/1.0" && version != "HTTP/1.1";
}

}  // namespace

class request_parser::grammar final : public http::basic_parser<true> {
 public:
  explicit grammar(httpd::request& out) noexcept : out_(out) {
    header_limit(head_limit);
    http::basic_parser<true>::body_limit(httpd::body_limit);
  }

  /// What to answer when a callback has failed; 0: none has.
  [[nodiscard]] int status() const noexcept { return status_; }

 private:
  void refuse(int status, beast::error_code& ec) noexcept {
    status_ = status;
    ec = http::error::bad_field;  // ends the parsing; the status says more
  }

  void on_request_impl(http::verb verb, beast::string_view, beast::string_view target, int version,
                       beast::error_code&) override {
    out_.method = verb == http::verb::get    ? method::get
                  : verb == http::verb::head ? method::head
                                             : method::other;
    out_.http_1_0 = version == 10;
    out_.target.assign(target.data(), target.size());
  }

  void on_field_impl(http::field name, beast::string_view, beast::string_view value,
                     beast::error_code& ec) override {
    if (is_header_done()) return;  // trailers of a chunked body
    const auto keep = [&](std::string& field) { field.assign(value.data(), value.size()); };
    switch (name) {
      case http::field::host:
        if (++hosts_ > 1 || !std::all_of(value.begin(), value.end(), is_host_character)) refuse(400, ec);
        break;
      case http::field::expect:
        if (!beast::iequals(value, "100-continue")) refuse(417, ec);
        out_.expects_continue = !out_.http_1_0;
        break;
      case http::field::transfer_encoding:
        // A coding that somebody on the way understands differently hides a second request in the body.
        if (out_.http_1_0) refuse(400, ec);
        else if (!beast::iequals(value, "chunked")) refuse(501, ec);
        break;
      case http::field::range: keep(out_.range); break;
      case http::field::if_range: keep(out_.if_range); break;
      case http::field::if_none_match: keep(out_.if_none_match); break;
      case http::field::if_modified_since: keep(out_.if_modified_since); break;
      default: break;
    }
  }

  void on_header_impl(beast::error_code& ec) override {
    if (hosts_ == 0 && !out_.http_1_0) refuse(400, ec);
    out_.keep_alive = keep_alive();
  }

  // The body of a request means nothing here; it is read past.
  void on_body_init_impl(const boost::optional<std::uint64_t>&, beast::error_code&) override {}
  std::size_t on_body_impl(beast::string_view body, beast::error_code&) override { return body.size(); }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, beast::error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body, beast::error_code&) override {
    return body.size();
  }
  void on_finish_impl(beast::error_code&) override {}
  void on_response_impl(int, beast::string_view, int, beast::error_code&) override {}  // never called

  httpd::request& out_;
  int hosts_ = 0;
  int status_ = 0;
};

request_parser::request_parser() : grammar_(std::make_unique<grammar>(request_)) {}
request_parser::~request_parser() = default;

void request_parser::begin() {
  // Beast's parser is for one message; a new one in the same place costs no allocation.
  std::destroy_at(grammar_.get());
  std::construct_at(grammar_.get(), request_);
  request_.expects_continue = false;
  for (std::string* s : {&request_.range, &request_.if_range, &request_.if_none_match, &request_.if_modified_since}) {
    s->clear();
  }
  stage_ = stage::head;
  status_ = 0;
  head_bytes_ = 0;
}

void request_parser::fail(int status) noexcept {
  stage_ = stage::failed;
  status_ = status;
}

std::size_t request_parser::feed(std::string_view input) {
  std::size_t taken = 0;
  while (taken < input.size()) {
    beast::error_code ec;
    const std::string_view rest = input.substr(taken);
    const std::size_t n = grammar_->put(boost::asio::const_buffer(rest.data(), rest.size()), ec);
    taken += n;
    if (stage_ == stage::head) head_bytes_ += n;

    if (ec && ec != http::error::need_more) {
      if (grammar_->status() != 0) fail(grammar_->status());
      else if (ec == http::error::header_limit) fail(431);
      else if (ec == http::error::body_limit) fail(413);
      else if (ec == http::error::bad_version && names_another_version(rest)) fail(505);
      else fail(400);
      return taken;
    }
    const bool head_is_new = stage_ == stage::head && grammar_->is_header_done();
    if (stage_ == stage::head && head_bytes_ + (head_is_new ? 0 : input.size() - taken) > head_limit) {
      fail(431);  // Beast's own limit begins anew whenever it has taken a whole line
      return taken;
    }
    if (grammar_->is_done()) {
      stage_ = stage::complete;
      return taken;
    }
    if (head_is_new) {
      stage_ = stage::body;
      return taken;
    }
    if (ec == http::error::need_more) break;
  }
  return taken;
}

}  // namespace httpd
