# SPDX-License-Identifier: MIT
# Warnings for cairn's own programs. They are properties of targets; whoever uses cairn never sees them.
function(cairn_warnings target)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow
        $<$<BOOL:${CAIRN_WARNINGS_AS_ERRORS}>:-Werror>)
endfunction()
