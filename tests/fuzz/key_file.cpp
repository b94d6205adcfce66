// SPDX-License-Identifier: MIT
// The key file of cairn-compare, fuzzed: any bytes are either refused by an error that names the file, or
// taken as lines that hold what they should, the same when they are read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "input.hpp"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string_view const text(reinterpret_cast<char const*>(data), size);
    cairn::bench::lines read;
    try {
        read = cairn::bench::parse_lines(text, "the file");
    } catch (std::runtime_error const& error) {
        require(std::string_view(error.what()).starts_with("the file"));
        require(text.find('\0') != text.npos || text.find_first_not_of("\r\n") == text.npos);
        return 0;
    }
    require(!read.items.empty());
    std::string again;
    for (std::string const& line : read.items) {
        require(!line.empty() && line.size() <= cairn::bench::max_line);
        require(line.find_first_of(std::string_view("\0\n", 2)) == line.npos);
        require(text.find(line) != text.npos);
        again += line + "\r\n";
    }
    require(cairn::bench::parse_lines(again, "again").items == read.items);
    return 0;
}
