// SPDX-License-Identifier: MIT
// The keys and nodes that a comparison runs on: the user's files, the system's word list, or generated.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::bench {

/// Lines of text and where they came from.
struct lines {
    std::string source;
    std::vector<std::string> items;
};

/// The longest line that is taken for a key or a node.
constexpr std::size_t max_line = std::size_t{1} << 20;

/// The non-empty lines of a text file, in order; a carriage return at the end of a line is dropped.
/// @throws std::runtime_error that names the file, and the line where there is one, if the file cannot be
/// read, has a line beyond max_line, a NUL byte, or no line at all.
[[nodiscard]] lines read_lines(std::string const& path);

/// The same of a text in memory; `source` names it in errors.
[[nodiscard]] lines parse_lines(std::string_view text, std::string source);

/// The system's word list if there is one, else the names of the installed packages, else generated.
[[nodiscard]] lines default_keys();

/// node-0 … node-(count - 1).
[[nodiscard]] lines default_nodes(std::size_t count);

/// @throws std::runtime_error that names the first node that stands twice in the list.
void refuse_duplicates(lines const& nodes);

}  // namespace cairn::bench
