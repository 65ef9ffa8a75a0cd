# SPDX-License-Identifier: Apache-2.0
# The library: every src/<layer>/*.cpp that is neither a test nor a benchmark, and the assembly of
# one machine. Adding a file needs no edit here.
find_package(Threads REQUIRED)

set(tuco_layers base arch os trace queue task timer poll sched sync io observe debug runtime)
set(TUCO_LAYERS "" CACHE STRING "Only these layers, when the lower ones are cross-compiled alone; empty: all")
set(tuco_whole ON)
if(TUCO_LAYERS)
  set(tuco_layers ${TUCO_LAYERS})
  set(tuco_whole OFF)
endif()

set(tuco_sources)
foreach(layer IN LISTS tuco_layers)
  file(GLOB found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${layer}/*.cpp")
  list(APPEND tuco_sources ${found})
endforeach()
file(GLOB found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/arch/${TUCO_ARCH}/*.cpp"
     "${PROJECT_SOURCE_DIR}/src/arch/${TUCO_ARCH}/*.S")
list(APPEND tuco_sources ${found})
list(FILTER tuco_sources EXCLUDE REGEX "_(test|bench)\\.cpp$")

# ThreadSanitizer is to find the users' races. The queues and locks of the runtime would order
# everything with everything, so all but `sync`, where the users' order comes from, is compiled without
# it and says what orders what (src/base/sanitizer.hpp). So is, of `sync`, what a waiter and the commit action
# on another stack do with one word, and what reads the scheduler's.
if(TUCO_SANITIZER MATCHES "thread")
  foreach(source IN LISTS tuco_sources)
    if(source MATCHES "\\.cpp$" AND (NOT source MATCHES "/src/sync/" OR source MATCHES "/(condition_variable|caller)\\.cpp$"))
      set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS -fno-sanitize=thread)
    endif()
  endforeach()
endif()

function(tuco_library name)
  add_library(${name} ${ARGN} ${tuco_sources})
  target_compile_features(${name} PUBLIC cxx_std_20)
  # compat: stand-ins for <errno.h> and <pthread.h>, see docs/adr/0004-errno-wrapper.md.
  target_include_directories(${name}
    PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include/tuco/compat>"
           "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_options(${name}
    PUBLIC "$<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:${tuco_user_flags}>"
           "$<$<COMPILE_LANG_AND_ID:C,GNU,Clang>:${tuco_user_flags}>"
    PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${tuco_private_flags};${tuco_strict_flags}>"
            "$<$<COMPILE_LANGUAGE:ASM>:-g>")
  # Tests make chosen system calls fail (src/os/fault.hpp); installed headers know nothing of it.
  if(TUCO_DEV_MODE)
    target_compile_definitions(${name} PUBLIC "$<BUILD_INTERFACE:TUCO_FAULT_INJECTION>")
  endif()
  # The build id names the binary in profiles and cores, also after it was replaced on disk.
  # tuco_debug_v1 tells debuggers where the goroutines are, also in a program that was stripped.
  target_link_options(${name} PUBLIC "LINKER:--build-id" "LINKER:--export-dynamic-symbol=tuco_debug_v1")
  target_link_libraries(${name} PUBLIC Threads::Threads PRIVATE ${CMAKE_DL_LIBS})
  if(tuco_whole)
    target_link_libraries(${name} PRIVATE ZLIB::ZLIB)
  endif()
  set_target_properties(${name} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR})
endfunction()

if(tuco_whole)
  find_package(ZLIB REQUIRED)
endif()
tuco_library(tuco)
add_library(tuco::tuco ALIAS tuco)
