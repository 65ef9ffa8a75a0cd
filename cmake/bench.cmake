# SPDX-License-Identifier: Apache-2.0
# Benchmarks: built so that they stay compilable, run by bench/run and never by the tests: a number is
# not a verdict.
#
#   bench/*_bench.cpp, src/<layer>/*_bench.cpp   Google Benchmark programs
#   bench/echo/*.cpp                             the echo server and its load, a program each
#   bench/peers/ceiling/*.cpp                    what the machine can do without a runtime, a program each
#
# The target `benchmarks` is all of them.
if(NOT tuco_whole OR CMAKE_CROSSCOMPILING OR TUCO_SANITIZER)
  return()
endif()

add_custom_target(benchmarks)
function(tuco_bench_program source)
  get_filename_component(name "${source}" NAME_WE)
  if(TARGET ${name})
    message(FATAL_ERROR "two benchmarks are called ${name}")
  endif()
  add_executable(${name} "${source}")
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_link_libraries(${name} PRIVATE ${ARGN})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/bench")
  target_compile_options(${name} PRIVATE ${tuco_test_flags})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench")
  add_dependencies(benchmarks ${name})
endfunction()

file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/*_bench.cpp"
     "${PROJECT_SOURCE_DIR}/src/*/*_bench.cpp")
if(sources)
  find_package(benchmark REQUIRED)
endif()
foreach(source IN LISTS sources)
  tuco_bench_program("${source}" ${tuco_whitebox} benchmark::benchmark benchmark::benchmark_main)
endforeach()

file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/echo/*.cpp"
     "${PROJECT_SOURCE_DIR}/bench/peers/ceiling/*.cpp")
foreach(source IN LISTS sources)
  tuco_bench_program("${source}" ${tuco_whitebox})
endforeach()
