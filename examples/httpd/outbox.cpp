// SPDX-License-Identifier: Apache-2.0
#include "outbox.hpp"

#include <unistd.h>

#include <algorithm>

namespace httpd {

bool outbox::begin_portion(std::error_code& ec) {
  connection_.set_write_deadline(std::chrono::steady_clock::now() + patience_, ec);
  return !ec;
}

bool outbox::flush() {
  std::error_code ec;
  for (std::string_view left = text_; open_ && !left.empty();) {
    const std::string_view now = left.substr(0, portion);
    if (!begin_portion(ec)) break;
    connection_.write(now, ec);
    if (ec) break;
    left.remove_prefix(now.size());
  }
  text_.clear();
  if (text_.capacity() > 2 * plenty) text_ = {};  // after a long listing
  open_ &= !ec;
  return open_;
}

void outbox::send_file(int file, std::uint64_t offset, std::uint64_t count) {
  if (!flush()) return;
  std::error_code ec;
  while (count > 0) {
    const std::uint64_t now = std::min(count, portion);
    std::uint64_t sent = 0;
    if (begin_portion(ec)) sent = connection_.send_file(file, offset, now, ec);
    if (ec || sent < now) return fail();
    offset += now;
    count -= now;
  }
}

void outbox::copy_file(int file, std::uint64_t offset, std::size_t count) {
  const std::size_t before = text_.size();
  text_.resize(before + count);
  for (std::size_t done = 0; done < count;) {
    const ssize_t n = ::pread(file, text_.data() + before + done, count - done, static_cast<off_t>(offset + done));
    if (n <= 0) {
      text_.resize(before);
      return fail();
    }
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace httpd
