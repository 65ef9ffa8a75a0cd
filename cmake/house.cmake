# SPDX-License-Identifier: Apache-2.0
# Tests of the tree itself. Once per preset would say the same thing over again.
if(CMAKE_CROSSCOMPILING OR TUCO_SANITIZER)
  return()
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)

foreach(check layers bans)
  add_test(NAME house.${check}
    COMMAND ${Python3_EXECUTABLE} "${PROJECT_SOURCE_DIR}/scripts/check_${check}.py" "${PROJECT_SOURCE_DIR}")
  add_test(NAME house.${check}_are_enforced
    COMMAND ${Python3_EXECUTABLE} "${PROJECT_SOURCE_DIR}/scripts/check_${check}.py" --self-test)
  set_tests_properties(house.${check} house.${check}_are_enforced PROPERTIES LABELS house TIMEOUT 60)
endforeach()

# What scripts/hazard_mutants takes away must still be there to be taken.
add_test(NAME house.mutants COMMAND ${Python3_EXECUTABLE} "${PROJECT_SOURCE_DIR}/scripts/hazard_mutants" --list)
set_tests_properties(house.mutants PROPERTIES LABELS house TIMEOUT 60)

# The installed tree, used by a project that knows nothing of ours.
if(TUCO_INSTALL)
  set(package "${PROJECT_BINARY_DIR}/package")
  add_test(NAME house.package.install
    COMMAND ${CMAKE_COMMAND} -E env --unset=DESTDIR sh -c "rm -rf '${package}' && '${CMAKE_COMMAND}' --install '${PROJECT_BINARY_DIR}' --prefix '${package}/prefix'")
  add_test(NAME house.package.tree
    COMMAND "${PROJECT_SOURCE_DIR}/test/package/check_tree" "${package}/prefix" "${PROJECT_SOURCE_DIR}")
  add_test(NAME house.package.find_package
    COMMAND ${CMAKE_CTEST_COMMAND} --build-and-test "${PROJECT_SOURCE_DIR}/test/package" "${package}/find_package"
      --build-generator ${CMAKE_GENERATOR}
      --build-options "-DCMAKE_PREFIX_PATH=${package}/prefix" "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}"
                      "-DCMAKE_FIND_PACKAGE_NO_PACKAGE_REGISTRY=ON" "-DWANTED_VERSION=${PROJECT_VERSION}"
      --test-command consumer)
  add_test(NAME house.package.pkg_config
    COMMAND "${PROJECT_SOURCE_DIR}/test/package/pkg_config" "${package}/prefix" "${CMAKE_CXX_COMPILER}" "${package}/pkg_config")
  add_test(NAME house.package.compat_headers
    COMMAND "${PROJECT_SOURCE_DIR}/test/package/compat_headers" "${package}/prefix" "${CMAKE_CXX_COMPILER}")
  set_tests_properties(house.package.install PROPERTIES FIXTURES_SETUP package)
  set_tests_properties(house.package.tree house.package.find_package house.package.pkg_config
    house.package.compat_headers PROPERTIES FIXTURES_REQUIRED package)
  set_tests_properties(house.package.install house.package.tree house.package.find_package house.package.pkg_config
    house.package.compat_headers PROPERTIES LABELS house TIMEOUT 120)
endif()
