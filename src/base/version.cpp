// SPDX-License-Identifier: Apache-2.0
#include <tuco/config.hpp>

#define TUCO_TEXT_(x) #x
#define TUCO_TEXT(x) TUCO_TEXT_(x)

namespace tuco::inline v1 {

const char* version() noexcept {
  return TUCO_TEXT(TUCO_VERSION_MAJOR) "." TUCO_TEXT(TUCO_VERSION_MINOR) "." TUCO_TEXT(
      TUCO_VERSION_PATCH);
}

}  // namespace tuco::inline v1
