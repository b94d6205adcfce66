# SPDX-License-Identifier: MIT
# The example in a header's head comment, word for word, as a program: the last block of lines that begin
# with "//   " before #pragma once. What is shown to a reader compiles and runs, or the build fails.
function(cairn_header_example folder name output)
    set(header "${folder}/${name}")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${header}")
    file(READ "${header}" text)
    string(FIND "${text}" "#pragma once" end)
    string(SUBSTRING "${text}" 0 ${end} head)
    string(REGEX MATCH "(//   [^\n]*\n)+$" block "${head}")
    if(block STREQUAL "")
        message(FATAL_ERROR "${header}: no example (lines of \"//   code\") right before #pragma once")
    endif()
    string(REGEX REPLACE "(^|\n)//   " "\\1    " body "${block}")
    file(CONFIGURE OUTPUT "${output}" @ONLY CONTENT
"// Made from the head comment of cairn/@name@.
#include <cairn/@name@>

#include <array>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <vector>

int main() {
@body@}
")
endfunction()
