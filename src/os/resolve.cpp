// SPDX-License-Identifier: Apache-2.0
#include "os/resolve.hpp"

namespace tuco::inline v1::os {

int look_up(const char* host, const char* service, const addrinfo& hints,
            addrinfo** out) noexcept {
  *out = nullptr;
  if (const int fault = injected_fault(call::resolve); fault != 0) return -1000 - fault;
  int& error = thread_errno();
  const int before = error;
  const int result = ::getaddrinfo(host, service, &hints, out);
  const int code = result == EAI_SYSTEM ? -1000 - error : result;
  error = before;
  if (result != 0) *out = nullptr;
  return code;
}

void free_addresses(addrinfo* list) noexcept {
  if (list != nullptr) ::freeaddrinfo(list);
}

const char* look_up_error(int code) noexcept { return ::gai_strerror(code); }

}  // namespace tuco::inline v1::os
