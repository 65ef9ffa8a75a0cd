// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `tcp_client`: the other end of a connection, in plain sockets: what is under test does not test
/// itself. Blocks its thread; gives up as e2e/process.hpp says.

#include <string>
#include <string_view>

namespace tuco::test {

class tcp_client {
 public:
  /// Connects to "127.0.0.1:80". @throws std::system_error
  explicit tcp_client(std::string_view address);
  tcp_client(tcp_client&& other) noexcept;
  tcp_client& operator=(tcp_client&& other) noexcept;
  ~tcp_client();

  /// Sends all of it. @return False: the peer has closed or reset the connection.
  bool send(std::string_view text);

  /// Reads until what came ends with `end`. @return What came, with `end`; less of it if the peer
  ///         finished before. What came behind `end` stays for the next call.
  std::string read_until(std::string_view end);
  /// Reads `n` bytes; less if the peer finished before.
  std::string read(std::size_t n);
  /// Reads until the peer has finished or reset the connection.
  std::string read_all();

  /// Whether the peer has finished or reset, with nothing left to read; waits for one or the other.
  bool at_end();

  /// Whether there is something to read, or the end; does not wait.
  [[nodiscard]] bool has_something() const;

  /// Half-close: the peer reads the end.
  void finish();
  /// Closes, with a reset instead of the orderly end.
  void reset();
  void close();

  /// Each send() leaves at once, as a segment of its own.
  void set_no_delay();

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  bool receive();
  int descriptor_ = -1;
  std::string buffer_;
};

}  // namespace tuco::test
