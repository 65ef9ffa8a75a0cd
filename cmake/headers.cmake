# SPDX-License-Identifier: Apache-2.0
# Every public header compiles alone, and twice, with nothing but the public include path.
file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/include"
     "${PROJECT_SOURCE_DIR}/include/tuco/*.hpp")
set(header_sources)
foreach(header IN LISTS headers)
  string(REPLACE "/" "_" stem "${header}")
  set(source "${PROJECT_BINARY_DIR}/headers/${stem}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "#include <@header@>\n#include <@header@>\n" @ONLY)
  list(APPEND header_sources "${source}")
endforeach()
add_library(tuco_headers OBJECT ${header_sources})
target_link_libraries(tuco_headers PRIVATE tuco::tuco)
target_compile_options(tuco_headers PRIVATE ${tuco_strict_flags})
