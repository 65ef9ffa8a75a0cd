# SPDX-License-Identifier: Apache-2.0
# bench/*_bench.cpp and src/<layer>/*_bench.cpp: Google Benchmark programs, built so that they stay
# compilable, run by hand (bench/README.md) and never by the tests: a number is not a verdict.
if(NOT tuco_whole OR CMAKE_CROSSCOMPILING OR TUCO_SANITIZER)
  return()
endif()
file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/*_bench.cpp"
     "${PROJECT_SOURCE_DIR}/src/*/*_bench.cpp")
if(NOT sources)
  return()
endif()
find_package(benchmark REQUIRED)
foreach(source IN LISTS sources)
  get_filename_component(name "${source}" NAME_WE)
  if(TARGET ${name})
    message(FATAL_ERROR "two benchmarks are called ${name}")
  endif()
  add_executable(${name} "${source}")
  target_link_libraries(${name} PRIVATE ${tuco_whitebox} benchmark::benchmark benchmark::benchmark_main)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_options(${name} PRIVATE ${tuco_test_flags})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench")
endforeach()
