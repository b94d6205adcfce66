// SPDX-License-Identifier: MIT
// How an error names a node.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

namespace cairn::detail {

/// Its text, shortened to 80 characters, or its number; other types have no printable name.
template <class Node>
[[nodiscard]] std::string node_name(Node const& node) {
    if constexpr (std::is_convertible_v<Node const&, std::string_view>) {
        std::string_view const text = node;
        return '"' + std::string(text.substr(0, 80)) + (text.size() > 80 ? "...\"" : "\"");
    } else if constexpr (std::is_integral_v<Node>) {
        return std::to_string(node);
    } else {
        return "(of a type without a printable name)";
    }
}

}  // namespace cairn::detail
