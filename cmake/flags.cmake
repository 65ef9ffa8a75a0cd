# SPDX-License-Identifier: Apache-2.0
# Which machine this is for, and the compiler options that follow from what the runtime does.
include(CheckCXXCompilerFlag)

if(CMAKE_SOURCE_DIR STREQUAL CMAKE_BINARY_DIR)
  message(FATAL_ERROR "Build outside the source tree: cmake --preset release")
endif()
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  message(FATAL_ERROR "tuco runs on Linux, not on ${CMAKE_SYSTEM_NAME}")
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
  set(TUCO_ARCH x86_64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(TUCO_ARCH aarch64)
else()
  message(FATAL_ERROR "tuco has no context switch for ${CMAKE_SYSTEM_PROCESSOR}")
endif()

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

# Frame pointers in every frame, leaves too, let a dump walk a stack without tables; probing each
# page of a large frame makes an overflow hit the guard instead of a neighbour's stack. Both are
# needed in the code that *runs in* goroutines, hence handed to users (INTERFACE).
set(tuco_user_flags)
foreach(flag -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -fstack-clash-protection)
  string(MAKE_C_IDENTIFIER "TUCO_HAS${flag}" known)
  set(CMAKE_REQUIRED_QUIET TRUE)
  check_cxx_compiler_flag("${flag} -Werror" ${known})
  if(${known})
    list(APPEND tuco_user_flags ${flag})
  else()
    message(STATUS "tuco: ${CMAKE_CXX_COMPILER_ID} does not know ${flag}; left out")
  endif()
endforeach()

# -g: the runtime's own frames are named in every dump; lines cost nothing at run time.
# The shared library calls its own functions directly; the runtime is not a place to interpose in.
set(tuco_private_flags -g -fno-semantic-interposition)
if(TUCO_ARCH STREQUAL "x86_64")
  list(APPEND tuco_private_flags -fcf-protection=branch)
endif()

# Developer presets only (asan, tsan): instruments everything in this build, the tests included.
set(TUCO_SANITIZER "" CACHE STRING "Value for -fsanitize=, for developers")
if(TUCO_SANITIZER)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${TUCO_SANITIZER};-fno-sanitize-recover=all>")
  add_link_options("-fsanitize=${TUCO_SANITIZER}")
  if(TUCO_SANITIZER MATCHES "thread")
    add_compile_definitions(TUCO_TSAN_PROGRAM)
  endif()
endif()

set(tuco_strict_flags)
set(tuco_test_flags)
if(TUCO_DEV_MODE)
  set(tuco_strict_flags -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror)
  # No -Wshadow: the parameter `info` that everybody writes shadows one of GoogleTest's own macros.
  set(tuco_test_flags -Wall -Wextra -Werror)
  # gcc 12 sees ghosts in <regex> once it is instrumented.
  if(TUCO_SANITIZER AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND tuco_test_flags -Wno-maybe-uninitialized)
  endif()
endif()
