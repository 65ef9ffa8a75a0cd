# SPDX-License-Identifier: Apache-2.0
# test/model/*.cpp: one protocol each, its schedules explored by Relacy. Status 0 means that every
# explored schedule held. `// MUTANTS: a b` in the file names ways to break the protocol: the program
# started with `--mutant a` must find the schedule and end with status 1. Any other end (a crash, a
# usage error, a mutant that survives) fails the test.
#
# A model holds nothing of what presets differ in, and its templates take long to compile: one preset has them.
option(TUCO_MODELS "Build the models of the lock-free protocols" ON)
if(NOT TUCO_MODELS OR CMAKE_CROSSCOMPILING OR TUCO_SANITIZER)
  return()
endif()

find_path(RELACY_INCLUDE_DIR relacy/relacy.hpp)
mark_as_advanced(RELACY_INCLUDE_DIR)
file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/model/*.cpp")
if(sources AND NOT RELACY_INCLUDE_DIR)
  message(FATAL_ERROR "test/model needs Relacy (package relacy-dev): run scripts/bootstrap")
endif()

foreach(source IN LISTS sources)
  get_filename_component(stem "${source}" NAME_WE)
  string(REGEX REPLACE "_model$" "" name "${stem}")
  add_executable(model_${name} "${source}")
  target_compile_features(model_${name} PRIVATE cxx_std_20)
  target_compile_definitions(model_${name} PRIVATE TUCO_MODEL=1)
  target_compile_options(model_${name} PRIVATE -O2 -Wall -Wextra)
  target_include_directories(model_${name} PRIVATE
    "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/test")
  set_target_properties(model_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/test")
  add_test(NAME model.${name} COMMAND model_${name})
  set_tests_properties(model.${name} PROPERTIES LABELS model TIMEOUT ${tuco_timeout_model})

  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
  file(STRINGS "${source}" line REGEX "^// MUTANTS: " LIMIT_COUNT 1)
  string(REGEX REPLACE "^// MUTANTS: " "" line "${line}")
  string(REGEX MATCHALL "[A-Za-z0-9_]+" mutants "${line}")
  if(NOT mutants)
    message(FATAL_ERROR "${source}: no `// MUTANTS: ` line; a model that cannot fail proves nothing")
  endif()
  list(JOIN mutants "\n" lines)
  file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/test/model_${name}.mutants" CONTENT "@lines@\n" @ONLY)
  add_test(NAME model.${name}.all_mutants_are_run
    COMMAND "${PROJECT_SOURCE_DIR}/scripts/expect" --stdout "${PROJECT_BINARY_DIR}/test/model_${name}.mutants"
            $<TARGET_FILE:model_${name}> --mutants)
  set_tests_properties(model.${name}.all_mutants_are_run PROPERTIES LABELS model TIMEOUT 60)
  foreach(mutant IN LISTS mutants)
    add_test(NAME model.${name}.mutant.${mutant}
      COMMAND "${PROJECT_SOURCE_DIR}/scripts/expect" --status 1 $<TARGET_FILE:model_${name}> --mutant ${mutant})
    set_tests_properties(model.${name}.mutant.${mutant} PROPERTIES LABELS model TIMEOUT ${tuco_timeout_model})
  endforeach()
endforeach()
