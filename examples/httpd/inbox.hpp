// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `inbox`: what a connection has received and nobody has taken yet. Begins small, because most
/// connections wait for a request of a hundred bytes, and grows to what the head of one may take.

#include <tuco/net.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string_view>

#include "request.hpp"

namespace httpd {

class inbox {
 public:
  enum class outcome { more, ended, timed_out };

  explicit inbox(tuco::tcp_conn& connection)
      : connection_(connection), bytes_(std::make_unique_for_overwrite<char[]>(capacity_)) {}

  [[nodiscard]] std::string_view view() const noexcept { return {bytes_.get() + begin_, end_ - begin_}; }
  void take(std::size_t n) noexcept {
    begin_ += n;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  /// No room: what is there cannot be understood without more, and more is too much.
  [[nodiscard]] bool is_full() const noexcept { return end_ - begin_ >= head_limit; }

  /// Waits for more, until `deadline` or up to 100 ms less: one that moves a little with each request
  /// is not worth telling.
  outcome fill(std::chrono::steady_clock::time_point deadline) {
    make_room();
    std::error_code ec;
    if (deadline < armed_ || deadline - armed_ > std::chrono::milliseconds(100)) {
      connection_.set_read_deadline(deadline, ec);
      armed_ = deadline;
    }
    const std::size_t n = connection_.read_some({bytes_.get() + end_, capacity_ - end_}, ec);
    if (ec == std::errc::timed_out) return outcome::timed_out;
    if (n == 0) return outcome::ended;
    end_ += n;
    return outcome::more;
  }

 private:
  void make_room() {
    if (end_ < capacity_) return;
    const std::size_t used = end_ - begin_;
    if (begin_ > 0) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, used);
    } else {
      capacity_ = std::min(2 * capacity_, head_limit);
      auto larger = std::make_unique_for_overwrite<char[]>(capacity_);
      std::memcpy(larger.get(), bytes_.get(), used);
      bytes_ = std::move(larger);
    }
    begin_ = 0;
    end_ = used;
  }

  tuco::tcp_conn& connection_;
  std::size_t capacity_ = 4 << 10;
  std::unique_ptr<char[]> bytes_;
  std::size_t begin_ = 0, end_ = 0;
  std::chrono::steady_clock::time_point armed_{};
};

}  // namespace httpd
