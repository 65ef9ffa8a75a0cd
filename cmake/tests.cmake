# SPDX-License-Identifier: Apache-2.0
# GoogleTest programs: one per layer from src/<layer>/*_test.cpp, one per folder of test/. Every
# case is a ctest test of its own, in its own process: a hang or a crash names its case.
include(GoogleTest)

if(CMAKE_CROSSCOMPILING)
  # Debian has GoogleTest compiled for the host only; its sources come with it.
  add_subdirectory(/usr/src/googletest/googletest "${PROJECT_BINARY_DIR}/googletest" EXCLUDE_FROM_ALL SYSTEM)
else()
  find_package(GTest REQUIRED)
endif()

# Unit tests reach below the public face, which a shared library hides.
set(tuco_whitebox tuco)
if(BUILD_SHARED_LIBS)
  tuco_library(tuco_static STATIC EXCLUDE_FROM_ALL)
  set(tuco_whitebox tuco_static)
endif()

file(GLOB fixture CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/fixture/*.cpp")
if(fixture AND tuco_whole)
  add_library(tuco_fixture STATIC ${fixture})
  target_link_libraries(tuco_fixture PUBLIC ${tuco_whitebox} GTest::gtest)
  target_include_directories(tuco_fixture PUBLIC "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/test")
  target_compile_options(tuco_fixture PRIVATE ${tuco_test_flags})
endif()

# Wall-clock limits catch hangs, nothing else: a loaded CI machine must not trip them.
set(tuco_timeout_unit 60)
set(tuco_timeout_stress 600)
if(TUCO_SANITIZER)
  set(tuco_timeout_unit 240)
  set(tuco_timeout_stress 1200)
endif()
math(EXPR tuco_timeout_unit "${tuco_timeout_unit} * ${TUCO_TIMEOUT_FACTOR}")
math(EXPR tuco_timeout_stress "${tuco_timeout_stress} * ${TUCO_TIMEOUT_FACTOR}")
math(EXPR tuco_timeout_model "300 * ${TUCO_TIMEOUT_FACTOR}")

function(tuco_test_program target prefix label timeout)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE ${tuco_whitebox} GTest::gtest GTest::gtest_main)
  if(TARGET tuco_fixture)
    target_link_libraries(${target} PRIVATE tuco_fixture)
  endif()
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/test")
  target_compile_options(${target} PRIVATE ${tuco_test_flags})
  target_compile_definitions(${target} PRIVATE
    TUCO_TEST_SOURCE_DIR="${PROJECT_SOURCE_DIR}" TUCO_TEST_BINARY_DIR="${PROJECT_BINARY_DIR}"
    "$<$<BOOL:${CMAKE_CROSSCOMPILING}>:TUCO_TEST_EMULATED>")
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/test")
  if(label MATCHES "^(unit|conformance|hazard|sanitizer)$")
    list(APPEND tuco_share ${target})
    set(tuco_share ${tuco_share} PARENT_SCOPE)
  endif()
  gtest_discover_tests(${target}
    TEST_PREFIX "${prefix}."
    DISCOVERY_MODE PRE_TEST
    DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${label} TIMEOUT ${timeout})
endfunction()

set(TUCO_TEST_LAYERS "" CACHE STRING "Only the unit tests of these layers; empty: all that are built")
set(tuco_tested_layers ${tuco_layers})
if(TUCO_TEST_LAYERS)
  set(tuco_tested_layers ${TUCO_TEST_LAYERS})
endif()
# ThreadSanitizer does not see the locks of the layers that are compiled without it (cmake/library.cmake),
# so it has nothing to say about tests that reach into them.
if(TUCO_SANITIZER MATCHES "thread")
  set(tuco_tested_layers sync io runtime)
endif()
foreach(layer IN LISTS tuco_tested_layers)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${layer}/*_test.cpp")
  if(layer STREQUAL "arch")
    file(GLOB found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/arch/${TUCO_ARCH}/*_test.cpp")
    list(APPEND sources ${found})
  endif()
  if(sources)
    tuco_test_program(${layer}_test ${layer} unit ${tuco_timeout_unit} ${sources})
  endif()
endforeach()

if(NOT tuco_whole)
  return() # what follows needs all of the library
endif()

# What the tests of hazards, faults and whole programs look at belongs to threads, on purpose: errno and
# thread_local data of goroutines that share one, handlers on their stacks, forks, ends in the middle of it
# all. To ThreadSanitizer each of these is a race.
set(folders conformance hazard fault stress e2e)
if(TUCO_SANITIZER MATCHES "thread")
  set(folders conformance stress)
endif()
foreach(folder IN LISTS folders)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/${folder}/*.cpp")
  if(sources)
    set(timeout ${tuco_timeout_unit})
    if(folder MATCHES "fault|stress|e2e")
      set(timeout ${tuco_timeout_stress})
    endif()
    tuco_test_program(${folder}_test ${folder} ${folder} ${timeout} ${sources})
  endif()
endforeach()

# Programs with errors that a sanitizer must see, and ones without.
set(sanitized)
if(TUCO_SANITIZER MATCHES "thread")
  set(sanitized race)
  set(sanitized_programs races)
elseif(TUCO_SANITIZER MATCHES "address")
  set(sanitized memory)
  set(sanitized_programs memory_errors)
endif()
if(sanitized)
  list(TRANSFORM sanitized_programs REPLACE "(.+)" "${PROJECT_SOURCE_DIR}/test/sanitizer/programs/\\1.cpp")
  tuco_test_program(sanitizer_test sanitizer sanitizer ${tuco_timeout_unit}
    "${PROJECT_SOURCE_DIR}/test/sanitizer/${sanitized}_test.cpp" "${PROJECT_SOURCE_DIR}/test/e2e/process.cpp")
endif()

# What is built of a preset of which a share is run (scripts/test --share).
add_custom_target(share)
foreach(program IN LISTS tuco_share)
  add_dependencies(share ${program})
endforeach()

# Small programs for the end-to-end tests to start: built("test/programs/NAME").
set(programs)
file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/e2e/programs/*.cpp")
if(NOT TARGET e2e_test)
  set(sources)
endif()
list(APPEND sources ${sanitized_programs})
foreach(source IN LISTS sources)
  get_filename_component(name "${source}" NAME_WE)
  add_executable(program_${name} "${source}")
  target_link_libraries(program_${name} PRIVATE ${tuco_whitebox})
  target_include_directories(program_${name} PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_options(program_${name} PRIVATE ${tuco_test_flags})
  set_target_properties(program_${name} PROPERTIES
    OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/test/programs")
  list(APPEND programs program_${name})
endforeach()

# Where the kernel refuses membarrier, every fence is a full one: the scheduler must hold there, too.
function(tuco_test_without_membarrier folder filter)
  add_test(NAME without_membarrier.${folder}
    COMMAND program_without_membarrier $<TARGET_FILE:${folder}_test> --gtest_brief=1 "--gtest_filter=${filter}")
  set_tests_properties(without_membarrier.${folder} PROPERTIES LABELS ${folder} TIMEOUT ${tuco_timeout_stress})
endfunction()
tuco_test_without_membarrier(conformance "*Scheduler*:*/Run.*:Membarrier.*:*SleepTest*:*WaitGroupTest*")
tuco_test_without_membarrier(stress "Shapes/ParkReady.*_2")

# Programs that drive other programs find them and the examples built.
foreach(driver e2e_test sanitizer_test)
  if(TARGET ${driver})
    add_dependencies(${driver} ${tuco_examples} ${programs})
  endif()
endforeach()

# What the optimizer may break is tested as the optimizer would see it: a file of test/hazard with
#   // VARIANTS: O0 O2 O3 PIC LTO
# becomes one more program for each word, compiled with exactly that.
# Not with a sanitizer, whose instrumentation is not what anybody optimizes.
if(TUCO_SANITIZER)
  return()
endif()
include(CheckIPOSupported)
check_ipo_supported(RESULT tuco_can_lto LANGUAGES CXX OUTPUT tuco_lto_answer)
file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/hazard/*.cpp")
foreach(source IN LISTS sources)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
  file(STRINGS "${source}" line REGEX "^// VARIANTS: " LIMIT_COUNT 1)
  string(REGEX MATCHALL "[A-Za-z0-9]+" variants "${line}")
  list(REMOVE_ITEM variants VARIANTS)
  get_filename_component(stem "${source}" NAME_WE)
  foreach(variant IN LISTS variants)
    if(variant STREQUAL "LTO" AND NOT tuco_can_lto)
      message(STATUS "tuco: this compiler cannot do LTO here; ${stem} is not tested with it")
      continue()
    endif()
    set(target ${stem}_${variant})
    tuco_test_program(${target} hazard.${variant} hazard ${tuco_timeout_unit} "${source}")
    if(variant MATCHES "^O[0-3s]$")
      target_compile_options(${target} PRIVATE -${variant})
    elseif(variant STREQUAL "PIC")
      target_compile_options(${target} PRIVATE -O2 -fPIC)
    elseif(variant STREQUAL "LTO")
      target_compile_options(${target} PRIVATE -O2)
      set_property(TARGET ${target} PROPERTY INTERPROCEDURAL_OPTIMIZATION ON)
    else()
      message(FATAL_ERROR "${source}: unknown variant '${variant}'")
    endif()
  endforeach()
endforeach()
