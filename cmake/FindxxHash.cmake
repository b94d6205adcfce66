# SPDX-License-Identifier: MIT
# Finds xxhash.h (0.8.0 or later: XXH3 is frozen since) and defines xxHash::headers. cairn uses it inline,
# so the library itself is not needed. Installed beside cairn's package files, for find_dependency.
include(FindPackageHandleStandardArgs)
find_path(xxHash_INCLUDE_DIR xxhash.h)
mark_as_advanced(xxHash_INCLUDE_DIR)
if(xxHash_INCLUDE_DIR)
    file(STRINGS "${xxHash_INCLUDE_DIR}/xxhash.h" xxHash_lines REGEX "#define XXH_VERSION_(MAJOR|MINOR|RELEASE)")
    string(REGEX REPLACE "[^0-9;]" "" xxHash_numbers "${xxHash_lines}")
    list(JOIN xxHash_numbers "." xxHash_VERSION)
endif()
find_package_handle_standard_args(xxHash REQUIRED_VARS xxHash_INCLUDE_DIR VERSION_VAR xxHash_VERSION)
if(xxHash_FOUND AND xxHash_VERSION VERSION_LESS 0.8.0)
    set(xxHash_FOUND FALSE)
endif()
if(xxHash_FOUND AND NOT TARGET xxHash::headers)
    add_library(xxHash::headers INTERFACE IMPORTED)
    set_target_properties(xxHash::headers PROPERTIES
        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${xxHash_INCLUDE_DIR}"
        INTERFACE_INCLUDE_DIRECTORIES "${xxHash_INCLUDE_DIR}")
endif()
