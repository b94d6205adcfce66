// SPDX-License-Identifier: MIT
// How an error names a node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace cairn::detail {

/// Whether a node has a text or a number to be named by.
template <class Node>
inline constexpr bool has_name =
    std::is_convertible_v<Node const&, std::string_view> || std::is_integral_v<Node> || std::is_enum_v<Node>;

/// Its text, shortened to 80 characters, or its number; other types have no printable name.
template <class Node>
[[nodiscard]] std::string node_name(Node const& node) {
    if constexpr (std::is_convertible_v<Node const&, std::string_view>) {
        std::string_view const text = node;
        return '"' + std::string(text.substr(0, 80)) + (text.size() > 80 ? "...\"" : "\"");
    } else if constexpr (std::is_enum_v<Node>) {
        return std::to_string(static_cast<std::underlying_type_t<Node>>(node));
    } else if constexpr (std::is_integral_v<Node>) {
        return std::to_string(node);
    } else {
        return "(of a type without a printable name)";
    }
}

/// The same where the hash of the node is known: it tells nodes apart that have no name.
template <class Node>
[[nodiscard]] std::string node_name(Node const& node, std::uint64_t hash) {
    return has_name<Node> ? node_name(node) : "with the hash " + std::to_string(hash);
}

}  // namespace cairn::detail
