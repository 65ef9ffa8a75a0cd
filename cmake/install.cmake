# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where, for find_package(tuco) and for pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(tuco_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tuco")

install(TARGETS tuco EXPORT tucoTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/tuco/compat" "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/tuco" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.hpp" PATTERN "compat/*.h")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md"
              "${PROJECT_SOURCE_DIR}/CHANGELOG.md"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}")
# (gdb) source PREFIX/share/tuco/gdb/tuco.py
install(FILES "${PROJECT_SOURCE_DIR}/scripts/gdb/tuco.py" DESTINATION "${CMAKE_INSTALL_DATADIR}/tuco/gdb")

install(EXPORT tucoTargets NAMESPACE tuco:: DESTINATION "${tuco_cmake_dir}")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/tucoConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/tucoConfig.cmake" INSTALL_DESTINATION "${tuco_cmake_dir}")
# Before 1.0 a minor release may break users.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tucoConfigVersion.cmake"
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/tucoConfig.cmake" "${PROJECT_BINARY_DIR}/tucoConfigVersion.cmake"
  DESTINATION "${tuco_cmake_dir}")

# pkg-config: paths relative to the .pc file, so that the tree may be moved or packed.
file(RELATIVE_PATH tuco_pc_prefix
  "/p/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/p")
string(REGEX REPLACE "/$" "" tuco_pc_prefix "${tuco_pc_prefix}")
list(JOIN tuco_user_flags " " tuco_pc_flags)
if(BUILD_SHARED_LIBS)
  set(tuco_pc_libs "-ltuco -pthread")
  set(tuco_pc_requires_private "zlib")
  set(tuco_pc_libs_private "-ldl")
  set(tuco_pc_requires "")
else()
  # Nobody can tell `pkg-config --libs` that only the archive is there, so it says all.
  set(tuco_pc_libs "-ltuco -pthread -ldl")
  set(tuco_pc_requires "zlib")
  set(tuco_pc_requires_private "")
  set(tuco_pc_libs_private "")
endif()
configure_file("${PROJECT_SOURCE_DIR}/cmake/tuco.pc.in" "${PROJECT_BINARY_DIR}/tuco.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/tuco.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
