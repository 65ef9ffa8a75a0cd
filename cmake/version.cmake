# SPDX-License-Identifier: Apache-2.0
# The version stands once, in include/tuco/config.hpp.
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../include/tuco/config.hpp" tuco_version_lines
     REGEX "^#define TUCO_VERSION_(MAJOR|MINOR|PATCH) [0-9]+$")
list(TRANSFORM tuco_version_lines REPLACE "^.* ([0-9]+)$" "\\1")
list(JOIN tuco_version_lines "." TUCO_VERSION)
if(NOT TUCO_VERSION MATCHES "^[0-9]+\\.[0-9]+\\.[0-9]+$")
  message(FATAL_ERROR "include/tuco/config.hpp does not name a version: '${TUCO_VERSION}'")
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
             "${CMAKE_CURRENT_LIST_DIR}/../include/tuco/config.hpp")
