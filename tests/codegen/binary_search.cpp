// SPDX-License-Identifier: MIT
// Compiled to assembly by tests/codegen/check, never run: the branch-free search of both widths.
#include <cairn/search.hpp>

extern "C" std::size_t probe_32(cairn::binary::index<std::uint32_t> const& index, std::uint32_t h) {
    return index.successor(h);
}
extern "C" std::size_t probe_64(cairn::binary::index<std::uint64_t> const& index, std::uint64_t h) {
    return index.successor(h);
}
