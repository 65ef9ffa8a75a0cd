// SPDX-License-Identifier: Apache-2.0
#include "io/net_error.hpp"

#include <tuco/io.hpp>

#include "io/net_fd.hpp"

namespace tuco::inline v1 {
namespace {

class net_category_type final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "tuco.net"; }
  [[nodiscard]] std::string message(int value) const override {
    switch (static_cast<net_errc>(value)) {
      case net_errc::closed: return "use of closed network connection";
      case net_errc::unexpected_eof: return "unexpected EOF";
      case net_errc::bad_address: return "invalid address";
      case net_errc::no_such_host: return "no such host";
      case net_errc::lookup_failed: return "temporary failure in name resolution";
    }
    return "unknown network error";
  }
};

}  // namespace

const std::error_category& net_category() noexcept {
  // Never destroyed: error codes may be looked at by static destructors.
  alignas(net_category_type) static unsigned char storage[sizeof(net_category_type)];
  static const net_category_type* const category = ::new (storage) net_category_type;
  return *category;
}

std::string error_text(const std::error_code& code) {
  if (code == std::make_error_code(std::errc::timed_out) &&
      code.category() == std::generic_category()) {
    return "i/o timeout";
  }
  std::string text = code.message();
  // "Connection refused" -> "connection refused", but not the first word of "I/O error".
  if (text.size() > 1 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a' && text[1] <= 'z') {
    text[0] = static_cast<char>(text[0] - 'A' + 'a');
  }
  return text;
}

net_error::net_error(std::error_code code, const std::string& operation_and_address)
    : std::system_error(code), text_(operation_and_address + ": " + error_text(code)) {}
net_error::~net_error() = default;

namespace io {

void throw_if(const std::error_code& ec, const char* operation, const std::string& subject) {
  if (!ec) return;
  throw net_error(ec, subject.empty() ? operation : operation + (" " + subject));
}

void throw_if(const std::error_code& ec, const char* operation, net_fd* fd) {
  if (!ec) return;
  std::string subject;
  if (fd != nullptr) {
    const std::string local = fd->local().to_string();
    const std::string remote = fd->remote().to_string();
    subject = fd->network();
    if (!local.empty() || !remote.empty()) subject += ' ';
    subject += local;
    if (!local.empty() && !remote.empty()) subject += "->";
    subject += remote;
  }
  throw_if(ec, operation, subject);
}

}  // namespace io
}  // namespace tuco::inline v1
