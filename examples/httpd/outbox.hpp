// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `outbox`: what is to be sent over a connection. Answers gather here, so that those to pipelined
/// requests leave with one system call; flush() before anything that may take time. After an error
/// it swallows everything: is_open() tells.

#include <tuco/net.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace httpd {

class outbox {
 public:
  /// @param patience  how long a reader may take for a portion
  outbox(tuco::tcp_conn& connection, std::chrono::milliseconds patience) noexcept
      : connection_(connection), patience_(patience) {}

  /// To be appended to; no more than a few KiB between two calls of settle().
  [[nodiscard]] std::string& text() noexcept { return text_; }

  /// Flushes what has become too much to keep.
  void settle() {
    if (text_.size() >= plenty) flush();
  }

  bool flush();

  /// Sends a part of a file behind what is there. A file that has become shorter ends the connection:
  /// its length was promised.
  void send_file(int file, std::uint64_t offset, std::uint64_t count);
  /// The same by copying: for small parts.
  void copy_file(int file, std::uint64_t offset, std::size_t count);

  /// What follows was promised and cannot be had.
  void fail() noexcept { open_ = false; }
  [[nodiscard]] bool is_open() const noexcept { return open_; }

 private:
  static constexpr std::size_t plenty = 64 << 10;
  static constexpr std::uint64_t portion = 512 << 10;

  bool begin_portion(std::error_code& ec);

  tuco::tcp_conn& connection_;
  const std::chrono::milliseconds patience_;
  std::string text_;
  bool open_ = true;
};

}  // namespace httpd
