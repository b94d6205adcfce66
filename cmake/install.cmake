# SPDX-License-Identifier: MIT
# Headers, CMake package, pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(cairn_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/cairn")
install(TARGETS cairn EXPORT cairn FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")

# A system xxHash is found again by the consumer; one that was fetched is installed beside our headers.
get_property(cairn_fetched_xxhash GLOBAL PROPERTY CAIRN_FETCHED_XXHASH)
if(cairn_fetched_xxhash)
    install(TARGETS cairn_xxhash EXPORT cairn)
    install(FILES "${cairn_fetched_xxhash}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/cairn/third_party")
    set(cairn_xxhash_cflags " -isystem \${includedir}/cairn/third_party")
else()
    install(FILES "${CMAKE_CURRENT_LIST_DIR}/FindxxHash.cmake" DESTINATION "${cairn_package_dir}")
    set(cairn_xxhash_cflags "")
endif()
install(EXPORT cairn NAMESPACE cairn:: DESTINATION "${cairn_package_dir}" FILE cairn-targets.cmake)

set(cairn_needs_xxhash NOT_FETCHED)
if(cairn_fetched_xxhash)
    set(cairn_needs_xxhash FETCHED)
endif()
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/cairn-config.cmake.in"
    "${CMAKE_CURRENT_BINARY_DIR}/cairn-config.cmake" INSTALL_DESTINATION "${cairn_package_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/cairn-config-version.cmake"
    COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/cairn-config.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/cairn-config-version.cmake" DESTINATION "${cairn_package_dir}")

configure_file("${CMAKE_CURRENT_LIST_DIR}/cairn.pc.in" "${CMAKE_CURRENT_BINARY_DIR}/cairn.pc" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/cairn.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
