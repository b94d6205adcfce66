// SPDX-License-Identifier: MIT
// Rings as the tests make them: random memberships, and a hash that can be told to collide.
#pragma once

#include <cairn/hash_ring.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

using membership = std::vector<std::pair<std::string, std::int64_t>>;

/// xxh3, but points may be made to fall on a few places only: the first at 0, the last at the very end.
/// Not inline, or these tests, with a ring type for each strategy, take minutes and gigabytes to compile.
struct test_hash {
    static constexpr bool is_placement_hash = true;
    std::uint64_t places = 0;  // 0: anywhere
    [[gnu::noinline]] std::uint64_t operator()(std::string_view text) const noexcept {
        return cairn::xxh3{}(text);
    }
    std::uint64_t operator()(std::integral auto number) const noexcept {
        return point(static_cast<std::uint64_t>(number));
    }
    [[gnu::noinline]] std::uint64_t point(std::uint64_t number) const noexcept {
        std::uint64_t const hash = cairn::xxh3{}(number);
        if (places == 0) return hash;
        return hash % places *
               (std::numeric_limits<std::uint64_t>::max() / std::max<std::uint64_t>(places - 1, 1));
    }
    friend bool operator==(test_hash const&, test_hash const&) = default;
};

template <class Lookup, class Position>
using test_ring = cairn::hash_ring<std::string, Lookup, cairn::virtual_nodes<Position, test_hash>>;

template <class Ring>
std::vector<typename Ring::member> members_of(membership const& nodes) {
    std::vector<typename Ring::member> members;
    for (auto const& [name, weight] : nodes) members.push_back({name, weight});
    return members;
}
template <class Ring, class Hash = typename Ring::placement_type::hash_type>
Ring make(membership const& nodes, std::size_t points_per_weight = 160, Hash hash = {}) {
    return Ring(members_of<Ring>(nodes), typename Ring::placement_type(points_per_weight, hash));
}

/// `count` of 2 * count possible nodes, so that two of these have nodes in common, in any order.
inline membership random_nodes(std::mt19937_64& random, std::size_t count) {
    membership pool;
    for (std::size_t i = 0; i < 2 * count; ++i)
        pool.emplace_back("node-" + std::to_string(i), 1 + static_cast<std::int64_t>(random() % 3));
    std::shuffle(pool.begin(), pool.end(), random);
    pool.resize(count);
    return pool;
}
inline std::string random_key(std::mt19937_64& random) { return "key-" + std::to_string(random()); }

}  // namespace support
