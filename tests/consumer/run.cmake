# SPDX-License-Identifier: MIT
# Installs or takes cairn as a user would, builds main.cpp with it and runs it.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE "${SCRATCH}")
file(MAKE_DIRECTORY "${SCRATCH}")
set(prefix "${SCRATCH}/prefix")
if(NOT KIND STREQUAL "fetch_content")
    execute_process(COMMAND "${CMAKE_COMMAND}" --install "${CAIRN_BINARY}" --prefix "${prefix}"
                    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
endif()
if(KIND STREQUAL "pkg_config")
    find_program(pkg_config NAMES pkg-config pkgconf)
    if(NOT pkg_config)
        message("skipped: pkg-config is not installed")
        return()
    endif()
    set(ENV{PKG_CONFIG_PATH} "${prefix}/share/pkgconfig")
    execute_process(COMMAND "${pkg_config}" --cflags cairn OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE
                    COMMAND_ERROR_IS_FATAL ANY)
    separate_arguments(flags UNIX_COMMAND "${flags}")
    execute_process(COMMAND "${COMPILER}" -std=c++20 ${flags} "${CMAKE_CURRENT_LIST_DIR}/main.cpp" -o "${SCRATCH}/consumer"
                    COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND "${SCRATCH}/consumer" COMMAND_ERROR_IS_FATAL ANY)
    return()
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${CMAKE_CURRENT_LIST_DIR}/${KIND}" -B "${SCRATCH}/build"
                        "-DCMAKE_PREFIX_PATH=${prefix}" "-DCAIRN_SOURCE=${CAIRN_SOURCE}"
                        "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Release
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${SCRATCH}/build" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${SCRATCH}/build/consumer" COMMAND_ERROR_IS_FATAL ANY)
