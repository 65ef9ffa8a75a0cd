# SPDX-License-Identifier: Apache-2.0
# examples/<name>/*.cpp is one program. Where examples/<name>/expected.txt stands beside it, a test
# runs the program and compares what it prints, byte for byte, a second time under valgrind, which must
# have nothing to say; servers are driven by test/e2e.
set(tuco_examples)
if(NOT tuco_whole)
  return()
endif()
find_program(VALGRIND valgrind)
mark_as_advanced(VALGRIND)
if(TUCO_TESTS AND NOT VALGRIND AND NOT TUCO_SANITIZER)
  message(STATUS "tuco: valgrind not found (scripts/bootstrap tools); the examples are not run under it")
endif()
file(GLOB folders CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/examples"
     "${PROJECT_SOURCE_DIR}/examples/*")
foreach(name IN LISTS folders)
  set(folder "${PROJECT_SOURCE_DIR}/examples/${name}")
  file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.cpp")
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  if(NOT sources)
    continue()
  endif()
  add_executable(example_${name} ${sources})
  target_link_libraries(example_${name} PRIVATE tuco::tuco)
  target_compile_options(example_${name} PRIVATE ${tuco_test_flags})
  set_target_properties(example_${name} PROPERTIES
    OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/examples")
  list(APPEND tuco_examples example_${name})
  if(EXISTS "${folder}/expected.txt")
    add_test(NAME example.${name}
      COMMAND "${PROJECT_SOURCE_DIR}/scripts/expect" --stdout "${folder}/expected.txt"
              $<TARGET_FILE:example_${name}>)
    set_tests_properties(example.${name} PROPERTIES LABELS example TIMEOUT 60)
    if(VALGRIND AND NOT TUCO_SANITIZER)
      # Fair: one lock is all that valgrind's threads take turns by, and a worker that spins for work
      # would keep it. Definite leaks only: a thread that still runs at the end, as workers do, holds its
      # thread-local memory by a pointer into the middle of it.
      add_test(NAME example.${name}.valgrind
        COMMAND "${PROJECT_SOURCE_DIR}/scripts/expect" --stdout "${folder}/expected.txt" --no-stderr
                "${VALGRIND}" --quiet --fair-sched=yes --leak-check=full
                --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=99
                $<TARGET_FILE:example_${name}>)
      set_tests_properties(example.${name}.valgrind PROPERTIES LABELS example TIMEOUT 240)
    endif()
  endif()
endforeach()
