// SPDX-License-Identifier: MIT
// Where nodes and keys land on the circle.
//
// A placement turns a key into one position, and a node into many: its virtual nodes. Two processes that
// use the same placement send every key to the same node, whatever machine, compiler or lookup strategy
// they run on, and in whatever order they learned of the nodes.
//
// `virtual_nodes` is cairn's own. A node has an identity, the hash of what names it, and point number i
// of the node lies at hash(identity + i * g), g odd: a counter sent through the hash. No text labels are
// put together, so there are no labels that two nodes could share ("s1" + "11" against "s11" + "1").
//
// How many points should a node have? Keys are spread as unevenly as the arcs between the points:
// the standard deviation of a node's share is about 1/sqrt(points) of the mean.
//
//   points of each of 100 nodes    fullest node / mean    ring size     lookup with `indexed`, 64 bit
//   ---------------------------    -------------------    ----------    -----------------------------
//     1                            5.2                    100 points    2 ns
//    40                            1.46                     4,000       2 ns
//   160 (the default)              1.22                    16,000       3 ns
//   500                            1.12                    50,000       5 ns
//   1000                           1.08                   100,000       6 to 8 ns
//
// With a search that costs log n, few points were a virtue; with `indexed` a thousand points a node cost
// memory (18 bytes each) and a few nanoseconds, and buy a balance of 8 % instead of 22 %.
//
// Weights are integers, and so is all arithmetic on them: a node of weight w has exactly
// w * points_per_weight points. Formulas in floating point are how well-known clients came to give 156
// points instead of 160, and to move 4 % of the keys where 1 % would do.
//
// Source: Karger et al., "Consistent Hashing and Random Trees" (1997). Thread safety: immutable values.
//
//   cairn::virtual_nodes<> const placement;                   // 64-bit positions, 160 points a weight
//   cairn::virtual_nodes<std::uint32_t> const compact{1000};  // 32-bit positions, 1000 points a weight
//   auto const key = placement.position("user:42");
//   auto const id = placement.identity("node-a");
//   auto const point = placement.point(id, 0);                // the first virtual node of node-a
//   bool const good = key != point && compact.points(2) == 2000;
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "hash.hpp"

namespace cairn {

/// What a ring asks of a placement: the position of a key, the identity of a node, how many points a
/// weight is worth (at least one, or an exception), and where point i of a node lies. Equal placements
/// place everything equally.
template <class Placement, class Node>
concept ring_placement = std::copyable<Placement> && std::equality_comparable<Placement> &&
                         requires(Placement const& placement, Node const& node, std::uint64_t identity) {
                             typename Placement::position_type;
                             {
                                 placement.position(node)
                             } noexcept -> std::same_as<typename Placement::position_type>;
                             { placement.identity(node) } noexcept -> std::same_as<std::uint64_t>;
                             { placement.points(std::int64_t{1}) } -> std::same_as<std::size_t>;
                             {
                                 placement.point(identity, std::size_t{0})
                             } noexcept -> std::same_as<typename Placement::position_type>;
                         };

/// cairn's own placement. `Position` is std::uint32_t or std::uint64_t: 32 bits save a third of the
/// memory; of 16,000 points two then share a position in 3 rings of 100, which the ring settles by rule.
template <class Position = std::uint64_t, class Hash = xxh3>
class virtual_nodes {
    static_assert(std::same_as<Position, std::uint32_t> || std::same_as<Position, std::uint64_t>);
    static_assert(
        placement_hash<Hash>,
        "This hash does not promise to be the same everywhere (is_placement_hash). std::hash is such a "
        "one: it is the identity for integers, so all small keys would go to one node. Use cairn::xxh3.");
    static_assert(placement_hash_for<Hash, std::uint64_t>,
                  "The hash must take std::uint64_t, for the points.");

  public:
    using position_type = Position;
    using hash_type = Hash;

    static constexpr std::size_t default_points_per_weight = 160;
    /// More points than this for one node are a mistake: 2^24 of them take 300 MB.
    static constexpr std::size_t max_points = std::size_t{1} << 24;

    /// @throws std::invalid_argument unless 1 <= points_per_weight <= max_points.
    explicit virtual_nodes(std::size_t points_per_weight = default_points_per_weight, Hash hash = Hash{})
        : points_per_weight_(points_per_weight), hash_(std::move(hash)) {
        if (points_per_weight < 1 || points_per_weight > max_points)
            throw std::invalid_argument("cairn::virtual_nodes: points_per_weight must be from 1 to " +
                                        std::to_string(max_points) + ", not " +
                                        std::to_string(points_per_weight));
    }

    /// Where a key lies: the top bits of its hash.
    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] Position position(Key const& key) const noexcept {
        return top_bits(hash_(key));
    }

    /// What names a node on the circle, and settles equal positions: the lesser identity comes first.
    template <class Node>
        requires placement_hash_for<Hash, Node>
    [[nodiscard]] std::uint64_t identity(Node const& node) const noexcept {
        return hash_(node);
    }

    /// How many points a node of this weight has: weight * points_per_weight, at least one.
    /// @throws std::invalid_argument for a weight below 1, or so great that it exceeds max_points.
    [[nodiscard]] std::size_t points(std::int64_t weight) const {
        auto const most = static_cast<std::int64_t>(max_points / points_per_weight_);
        if (weight < 1 || weight > most)
            throw std::invalid_argument("cairn::virtual_nodes: a weight must be from 1 to " +
                                        std::to_string(most) + ", not " + std::to_string(weight));
        return static_cast<std::size_t>(weight) * points_per_weight_;
    }

    /// Where point `i` of a node lies. Independent of all other nodes and of the node's other points.
    [[nodiscard]] Position point(std::uint64_t identity, std::size_t i) const noexcept {
        constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;  // 2^64 / golden ratio, odd
        return top_bits(hash_(identity + golden * std::uint64_t{i}));
    }

    [[nodiscard]] std::size_t points_per_weight() const noexcept { return points_per_weight_; }
    [[nodiscard]] Hash const& hash() const noexcept { return hash_; }

    /// A hash without members needs no comparison of its own.
    friend bool operator==(virtual_nodes const& a, virtual_nodes const& b) noexcept {
        if constexpr (std::is_empty_v<Hash>)
            return a.points_per_weight_ == b.points_per_weight_;
        else
            return a.points_per_weight_ == b.points_per_weight_ && a.hash_ == b.hash_;
    }

  private:
    static constexpr Position top_bits(std::uint64_t hash) noexcept {
        return static_cast<Position>(hash >> (64 - std::numeric_limits<Position>::digits));
    }

    std::size_t points_per_weight_;
    [[no_unique_address]] Hash hash_;
};

}  // namespace cairn
