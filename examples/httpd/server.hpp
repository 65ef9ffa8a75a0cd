// SPDX-License-Identifier: Apache-2.0
#pragma once
/// `server`: accepts connections, knows those that are open, and takes leave of them.

#include <tuco/tuco.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <unordered_set>

#include "files.hpp"

namespace httpd {

class connection;

class server {
 public:
  struct limits {
    std::chrono::milliseconds idle{60'000};  ///< until the next request begins
    std::chrono::milliseconds head{10'000};  ///< from its first byte to the end of its head
    std::chrono::milliseconds body{30'000};  ///< from there to its end
    std::chrono::milliseconds write{30'000};  ///< for a portion of an answer, see outbox
  };

  server(tuco::tcp_listener listener, const std::string& root, limits time)
      : listener_(std::move(listener)), root_(root), time_(time) {}

  /// Accepts until stop().
  void accept_all();

  /// From any goroutine: no more connections, no more requests; those that have arrived are answered.
  void stop();

  /// Waits until all connections have ended. @return False: some had not after `patience`.
  bool drain(std::chrono::milliseconds patience) { return open_.wait_for(patience); }

  // For connections.
  [[nodiscard]] const root_folder& root() const noexcept { return root_; }
  [[nodiscard]] const limits& time() const noexcept { return time_; }
  [[nodiscard]] bool is_draining() const noexcept { return draining_.load(std::memory_order_relaxed); }
  void enter(connection& c);
  void leave(connection& c);

 private:
  tuco::tcp_listener listener_;
  const root_folder root_;
  const limits time_;
  std::atomic<bool> draining_{false};
  tuco::wait_group open_;
  tuco::mutex lock_;
  std::unordered_set<connection*> connections_;  // under the lock
};

}  // namespace httpd
