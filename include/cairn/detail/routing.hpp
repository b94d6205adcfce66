// SPDX-License-Identifier: MIT
// What the routers share: scaling a hash to a count, a second hash from a first, and the errors for nodes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "node_name.hpp"

namespace cairn::detail {

/// hash * count / 2^64, from the high 32 bits of the hash: a multiplication and a shift where `hash % count`
/// divides. Needs good high bits and count < 2^32. Of the 2^32 values each result gets floor(2^32 / count)
/// or one more: the shares of two results differ by a part of count / 2^32 at most.
[[nodiscard]] constexpr std::size_t scale(std::uint64_t hash, std::uint64_t count) noexcept {
    return static_cast<std::size_t>((hash >> 32) * count >> 32);
}

/// A second hash from a first one: a bijection of 64 bits (the finisher of SplitMix64, variant 13 of
/// Stafford). Different inputs never give the same output.
[[nodiscard]] constexpr std::uint64_t remix(std::uint64_t x) noexcept {
    x = (x ^ x >> 30) * 0xbf58'476d'1ce4'e5b9;
    x = (x ^ x >> 27) * 0x94d0'49bb'1331'11eb;
    return x ^ x >> 31;
}

[[noreturn]] inline void refuse(std::string_view router, std::string const& why) {
    throw std::invalid_argument("cairn::" + std::string(router) + ": " + why);
}

/// The hashes of the nodes, once nothing is wrong with them: at least one, all different, weights in range.
/// Member is a weighted_node.
template <class Member, class Hash>
[[nodiscard]] std::vector<std::uint64_t> checked_identities(std::string_view router,
                                                            std::vector<Member> const& members,
                                                            Hash const& hash) {
    if (members.empty()) refuse(router, "at least one node is needed, not zero");
    std::vector<std::uint64_t> identities;
    identities.reserve(members.size());
    for (Member const& member : members) {
        if (member.weight < 1 || member.weight > Member::max_weight)
            refuse(router, "the weight of node " + node_name(member.node) + " must be from 1 to " +
                               std::to_string(Member::max_weight) + ", not " + std::to_string(member.weight));
        identities.push_back(hash(member.node));
    }
    std::vector<std::uint64_t> sorted = identities;
    std::ranges::sort(sorted);
    if (auto const twice = std::ranges::adjacent_find(sorted); twice != sorted.end()) {
        auto const which = std::ranges::find(identities, *twice) - identities.begin();
        refuse(router, "duplicate node " + node_name(members[static_cast<std::size_t>(which)].node));
    }
    return identities;
}

/// The place of `node` among `members`, which must have it.
template <class Member, class Node>
[[nodiscard]] std::size_t require_node(std::string_view router, std::vector<Member> const& members,
                                       Node const& node) {
    auto const found = std::ranges::find(members, node, &Member::node);
    if (found == members.end()) refuse(router, "unknown node " + node_name(node));
    return static_cast<std::size_t>(found - members.begin());
}

}  // namespace cairn::detail
