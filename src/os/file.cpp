// SPDX-License-Identifier: Apache-2.0
#include "os/file.hpp"

#include <fcntl.h>

namespace tuco::inline v1::os {

int open_for_reading(const char* path) noexcept {
  return retry_eintr([&] {
    return system_call(call::open, [&] { return ::open(path, O_RDONLY | O_CLOEXEC); });
  });
}

}  // namespace tuco::inline v1::os
