# SPDX-License-Identifier: MIT
# What cairn needs, from the system when it is there, else by FetchContent at a pinned version.
include(FetchContent)
list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")

# xxHash::headers: one header, compiled inline into whoever includes cairn/hash.hpp. Nothing is linked.
function(cairn_provide_xxhash)
    find_package(xxHash MODULE QUIET)
    if(NOT TARGET xxHash::headers)
        FetchContent_Declare(xxhash
            GIT_REPOSITORY https://github.com/Cyan4973/xxHash.git
            GIT_TAG v0.8.2 GIT_SHALLOW ON
            SOURCE_SUBDIR no-cmake-needed)
        FetchContent_MakeAvailable(xxhash)
        add_library(cairn_xxhash INTERFACE)
        add_library(xxHash::headers ALIAS cairn_xxhash)
        set_target_properties(cairn_xxhash PROPERTIES EXPORT_NAME xxhash)
        target_include_directories(cairn_xxhash SYSTEM INTERFACE
            $<BUILD_INTERFACE:${xxhash_SOURCE_DIR}> $<INSTALL_INTERFACE:include/cairn/third_party>)
        set_property(GLOBAL PROPERTY CAIRN_FETCHED_XXHASH "${xxhash_SOURCE_DIR}/xxhash.h")
    endif()
endfunction()

function(cairn_provide_googletest)
    find_package(GTest QUIET)
    if(NOT TARGET GTest::gtest_main)
        set(INSTALL_GTEST OFF)
        set(BUILD_GMOCK OFF)
        FetchContent_Declare(googletest
            GIT_REPOSITORY https://github.com/google/googletest.git GIT_TAG v1.14.0 GIT_SHALLOW ON SYSTEM)
        FetchContent_MakeAvailable(googletest)
    endif()
endfunction()

function(cairn_provide_benchmark)
    find_package(benchmark QUIET)
    if(NOT TARGET benchmark::benchmark)
        set(BENCHMARK_ENABLE_TESTING OFF)
        set(BENCHMARK_ENABLE_INSTALL OFF)
        set(BENCHMARK_ENABLE_WERROR OFF)
        FetchContent_Declare(benchmark
            GIT_REPOSITORY https://github.com/google/benchmark.git GIT_TAG v1.8.3 GIT_SHALLOW ON SYSTEM)
        FetchContent_MakeAvailable(benchmark)
    endif()
endfunction()

function(cairn_provide_json)
    find_package(nlohmann_json QUIET)
    if(NOT TARGET nlohmann_json::nlohmann_json)
        set(JSON_BuildTests OFF)
        set(JSON_Install OFF)
        FetchContent_Declare(nlohmann_json
            GIT_REPOSITORY https://github.com/nlohmann/json.git GIT_TAG v3.11.3 GIT_SHALLOW ON SYSTEM)
        FetchContent_MakeAvailable(nlohmann_json)
    endif()
endfunction()

function(cairn_provide_cli11)
    find_package(CLI11 QUIET)
    if(NOT TARGET CLI11::CLI11)
        set(CLI11_BUILD_TESTS OFF)
        set(CLI11_BUILD_EXAMPLES OFF)
        set(CLI11_INSTALL OFF)
        FetchContent_Declare(cli11
            GIT_REPOSITORY https://github.com/CLIUtils/CLI11.git GIT_TAG v2.4.2 GIT_SHALLOW ON SYSTEM)
        FetchContent_MakeAvailable(cli11)
    endif()
endfunction()
