// SPDX-License-Identifier: MIT
// The consistent-hash ring: keys to nodes, so that a change of membership moves only what it must.
//
// With `hash % n`, going from 100 nodes to 101 moves 99 % of all keys. On a ring each node owns arcs of
// the circle of hashes, the arcs that end at its points; a new node takes its share out of the arcs of
// all others, 1/101 of the keys, and each of them moves to the new node only.
//
//            A                      A                 a key belongs to the first point clockwise;
//        ·───●───·              ·───●───·             N takes the arcs that end at its points,
//      C●         ●B    add N  C●         ●B          nothing else changes its owner
//       │         │    ─────▶   N●        ●N
//      B●         ●A           B●         ●A
//        ·───●───·              ·───●───·
//            C                      C
//
// hash_ring = Placement x Lookup. The placement (placement.hpp) says where nodes and keys land; the lookup
// (lookup.hpp) says how the circle is searched. They are independent: the lookup never changes an answer.
//
//   operation                100 nodes x 160 points   in general
//   ----------------------   ----------------------   ------------------------------------------------
//   find(key)                3 ns + the key's hash    O(1) with `indexed`; noexcept, allocates nothing
//   find_n(key, n nodes)     16 ns for 3              O(n) points visited on average
//   add, remove, reweight    13 µs, 29 µs             O(points): they move, few are indexed again
//   assign (all at once)     160 µs                   O(points): sorts by distribution
//   memory                   10 bytes a point hot, 18 in all (64-bit positions; 16,000 points)
//
// The order in which nodes were added never matters to `find`. If two points fall on one position, the
// node with the lesser identity (the hash of its name) owns it. A node of positive weight has at least
// one point. Limits: 65,535 nodes, 2^28 points. A ring that was moved from is empty and can be filled again.
//
// When not to use it: for a fixed number of shards that only ever grows at the end, `jump` needs no
// memory; if nodes fail rarely and balance matters most, `maglev` (both router.hpp).
// Source: Karger et al. (1997); virtual nodes: Dabek et al., CFS (2001). Thread safety: as a container:
// const members may run concurrently, others need exclusion. For change under running readers: shared_ring.
//
//   cairn::hash_ring<std::string> ring;              // 64-bit positions, 160 points a node, indexed
//   ring.add("cache-a");
//   ring.add("cache-b", 2);                          // twice the share
//   std::string const& owner = ring.find("user:42");
//   std::array<std::string const*, 2> replicas{};    // the owner and the next distinct node
//   auto const found = ring.find_n("user:42", replicas);
//   bool const good = found == 2 && *replicas[0] == owner;
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "detail/assert.hpp"
#include "detail/node_name.hpp"
#include "detail/ring_points.hpp"
#include "lookup.hpp"
#include "placement.hpp"

namespace cairn {

/// @tparam Node      what a key is sent to: a name, an address, a number. Anything the placement hashes.
/// @tparam Lookup    how the circle is searched (lookup.hpp). Never changes an answer.
/// @tparam Placement where nodes and keys land (placement.hpp). All processes must agree on it.
template <class Node = std::string, class Lookup = indexed, class Placement = virtual_nodes<>>
    requires ring_placement<Placement, Node> && lookup_strategy<Lookup, typename Placement::position_type>
class hash_ring {
    // The last step of a change must not fail, or the ring would be left between two memberships.
    static_assert(std::is_nothrow_move_constructible_v<Node> && std::is_nothrow_move_assignable_v<Node>);

  public:
    using node_type = Node;
    using lookup_type = Lookup;
    using placement_type = Placement;
    using position_type = typename Placement::position_type;

    /// A node and its weight: its share of the keys relative to the others.
    struct member {
        Node node;
        std::int64_t weight = 1;
    };

    static constexpr std::size_t max_nodes = 65'535;
    static constexpr std::size_t max_points = std::size_t{1} << 28;

    hash_ring() = default;
    explicit hash_ring(Placement placement) : placement_(std::move(placement)) {}

    /// A ring of these nodes. @throws as assign.
    explicit hash_ring(std::vector<member> members, Placement placement = Placement{})
        : placement_(std::move(placement)) {
        assign(std::move(members));
    }
    /// hash_ring<std::string>{{"a", 1}, {"b", 2}}: nodes with weights.
    hash_ring(std::initializer_list<member> members) { assign(std::vector<member>(members)); }
    /// hash_ring<std::string>{"a", "b"}: nodes of weight 1. A template, so that the other one is preferred:
    /// {"a", 1} could as well be the std::string of the one letter of "a".
    template <class N = Node>
    hash_ring(std::initializer_list<std::type_identity_t<N>> nodes) {
        std::vector<member> members;
        for (Node const& node : nodes) members.push_back({node, 1});
        assign(std::move(members));
    }

    // ---- Lookup. `noexcept`, no allocation, concurrent. References live until the ring changes. ----

    /// The node that owns `key`. Precondition: !empty(). O(1) with `indexed`.
    template <class Key>
    [[nodiscard]] Node const& find(Key const& key) const noexcept {
        return members_[find_index(key)].node;
    }

    /// The node that owns `key`, or null if the ring is empty.
    template <class Key>
    [[nodiscard]] Node const* try_find(Key const& key) const noexcept {
        return empty() ? nullptr : &find(key);
    }

    /// The same as a number: the place of the node in members(). Precondition: !empty().
    template <class Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        return owner_of(placement_.position(key));
    }

    /// The place in members() of the node that owns a position of the circle. Precondition: !empty().
    [[nodiscard]] std::size_t owner_of(position_type position) const noexcept {
        CAIRN_ASSERT(!empty());
        return owners_[index_.successor(position)];
    }

    /// The preference list of `key`: the distinct nodes met clockwise from it, the owner first, as many as
    /// `out` has room for and the ring has nodes. Returns how many. Visits n points and a few more for
    /// small n; to list all N nodes takes O(N log N) points on average.
    template <class Key>
    std::size_t find_n(Key const& key, std::span<Node const*> out) const noexcept {
        std::size_t const wanted = std::min(out.size(), size());
        std::size_t found = 0;
        if (wanted == 0) return 0;
        if (wanted <= few) {  // `out` itself says which nodes were met, and no branch depends on it
            std::size_t point = index_.successor(placement_.position(key));
            while (found < wanted) {
                Node const* const node = &members_[owners_[point]].node;
                bool is_new = true;
                for (std::size_t i = 0; i < found; ++i) is_new &= out[i] != node;
                out[found] = node;
                found += is_new;
                point = point + 1 == points() ? 0 : point + 1;
            }
            return found;
        }
        walk(key, [&](std::size_t node) {
            out[found++] = &members_[node].node;
            return found == wanted;
        });
        return found;
    }

    /// Calls visit(i) for the distinct nodes members()[i] clockwise from `key`, the owner first, until one
    /// call returns true or all nodes were met. Precondition: !empty().
    template <class Key, std::predicate<std::size_t> Visit>
    void walk(Key const& key, Visit&& visit) const noexcept(noexcept(visit(std::size_t{}))) {
        CAIRN_ASSERT(!empty());
        detail::seen_nodes seen;
        std::size_t point = index_.successor(placement_.position(key));
        for (std::size_t met = 0; met < size(); point = point + 1 == points() ? 0 : point + 1) {
            if (!seen.insert(owners_[point], size())) continue;
            if (visit(std::size_t{owners_[point]})) return;
            ++met;
        }
    }

    /// The owners of many keys: out[i] = &find(keys[i]). Hashes a block of keys before it looks them up: as
    /// fast as one by one with g++ 12, 1.4 times as fast with clang 19.
    /// Preconditions: !empty(), out.size() >= keys.size().
    template <class Key>
    void find_each(std::span<Key const> keys, std::span<Node const*> out) const noexcept {
        CAIRN_ASSERT(out.size() >= keys.size());
        constexpr std::size_t block = 32;
        position_type positions[block];
        for (std::size_t done = 0; done < keys.size(); done += block) {
            std::size_t const now = std::min(block, keys.size() - done);
            for (std::size_t i = 0; i < now; ++i) positions[i] = placement_.position(keys[done + i]);
            for (std::size_t i = 0; i < now; ++i) out[done + i] = &members_[owner_of(positions[i])].node;
        }
    }

    // ---- Membership. Strong guarantee: after an exception the ring is as it was. O(points). ----

    /// Adds a node with weight * (points per weight) points.
    /// @throws std::invalid_argument for a node that is there already, or a weight that the placement
    /// refuses (zero, negative, absurd); std::length_error beyond max_nodes or max_points.
    void add(Node node, std::int64_t weight = 1) {
        std::uint64_t const identity = placement_.identity(node);
        if (index_of(identity) != size()) throw_duplicate(node, identity);
        std::size_t const count = placement_.points(weight);
        check_limits(size() + 1, points() + count);
        members_.reserve(size() + 1);
        identities_.reserve(size() + 1);
        insert_points(points_of(identity, 0, count), size(), identity);
        members_.push_back({std::move(node), weight});
        identities_.push_back(identity);
    }

    /// Removes a node; the nodes behind it in members() move up by one.
    /// @throws std::invalid_argument if the ring does not have it.
    void remove(Node const& node) {
        std::size_t const gone = require(node);
        erase_points(ranks_of(gone));
        for (std::uint16_t& owner : owners_) owner = static_cast<std::uint16_t>(owner - (owner > gone));
        members_.erase(members_.begin() + static_cast<std::ptrdiff_t>(gone));
        identities_.erase(identities_.begin() + static_cast<std::ptrdiff_t>(gone));
    }

    /// Changes a node's weight. Growing adds points to those it has, shrinking takes its last ones away,
    /// so keys move only to it or only from it. @throws std::invalid_argument as add, or if unknown.
    void reweight(Node const& node, std::int64_t weight) {
        std::size_t const changed = require(node);
        std::size_t const count = placement_.points(weight);
        std::size_t const before = placement_.points(members_[changed].weight);
        check_limits(size(), points() - before + count);
        if (count > before)
            insert_points(points_of(identities_[changed], before, count), changed, identities_[changed]);
        else if (count < before)
            erase_points(ranks_of(changed, points_of(identities_[changed], count, before)));
        members_[changed].weight = weight;
    }

    /// Replaces all members at once. Sorts the points by distribution: some 8 times faster than std::sort.
    /// @throws std::invalid_argument for a duplicate or a bad weight; std::length_error beyond the limits.
    void assign(std::vector<member> members) {
        std::vector<std::uint64_t> identities;
        std::size_t total = 0;
        for (member const& one : members) {
            identities.push_back(placement_.identity(one.node));
            total += placement_.points(one.weight);
            check_limits(identities.size(), total);
        }
        refuse_duplicates(members, identities);
        detail::point_list<position_type> points{std::vector<position_type>(total),
                                                 std::vector<std::uint16_t>(total)};
        for (std::size_t i = 0, next = 0; i < members.size(); ++i)
            for (std::size_t k = 0, count = placement_.points(members[i].weight); k < count; ++k, ++next) {
                points.positions[next] = placement_.point(identities[i], k);
                points.owners[next] = static_cast<std::uint16_t>(i);
            }
        auto const identity_of = [&](std::size_t owner) { return identities[owner]; };
        detail::sort_points(points, identity_of);
        index_ = index_type(std::move(points.positions));
        owners_ = std::move(points.owners);
        members_ = std::move(members);
        identities_ = std::move(identities);
    }

    // ---- What the ring is. ----

    [[nodiscard]] bool empty() const noexcept { return members_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return members_.size(); }
    [[nodiscard]] std::size_t points() const noexcept { return owners_.size(); }
    [[nodiscard]] std::span<member const> members() const noexcept { return members_; }
    [[nodiscard]] Node const& node(std::size_t i) const noexcept { return members_[i].node; }
    [[nodiscard]] bool contains(Node const& node) const noexcept {
        return index_of(placement_.identity(node)) != size();
    }
    [[nodiscard]] Placement const& placement() const noexcept { return placement_; }

    /// The sorted positions of all points, and for each the place of its owner in members().
    [[nodiscard]] std::span<position_type const> positions() const noexcept { return index_.positions(); }
    [[nodiscard]] std::span<std::uint16_t const> owners() const noexcept { return owners_; }
    /// The identity of members()[i], which does not depend on i.
    [[nodiscard]] std::uint64_t identity(std::size_t i) const noexcept { return identities_[i]; }

    /// The bytes that lookups touch: the index and the owners. A ring should fit in a cache by this number.
    [[nodiscard]] std::size_t hot_bytes() const noexcept {
        return index_.hot_bytes() + owners_.size() * sizeof(std::uint16_t);
    }

    /// The share of the circle that each node owns, in the order of members(): computed from the arcs, not
    /// sampled; sums to 1. O(points).
    [[nodiscard]] std::vector<double> shares() const {
        std::vector<position_type> arcs(size(), 0);  // modulo the circle: a sum of 0 is nothing, or all
        position_type from = points() == 0 ? position_type{0} : positions().back();
        for (std::size_t i = 0; i < points(); from = positions()[i++])
            arcs[owners_[i]] = static_cast<position_type>(arcs[owners_[i]] + (positions()[i] - from));
        std::vector<double> shares(size());
        for (std::size_t i = 0; i < size(); ++i) shares[i] = detail::fraction_of_circle(arcs[i]);
        if (!empty() && std::ranges::all_of(arcs, [](position_type arc) { return arc == 0; }))
            shares[owners_[0]] = 1.0;  // one owner of the whole circle
        return shares;
    }

    /// A hash of the whole placement: every point and the identity of its owner. Two processes whose
    /// fingerprints are equal route every key alike. The same on all machines, for all lookups. O(points).
    [[nodiscard]] std::uint64_t fingerprint() const noexcept {
        xxh3 const mix;
        std::uint64_t print = mix(points());
        for (std::size_t i = 0; i < points(); ++i)
            print = mix(print, positions()[i], identities_[owners_[i]]);
        return print;
    }

  private:
    // Invariants: owners_[i] owns the arc that ends at positions()[i]; points are sorted by position, then
    // by identity of the owner; members_ and identities_ run parallel; each member has at least one point.

    using index_type = typename Lookup::template index<position_type>;
    static constexpr std::size_t few = 8;  // so many nodes are compared one by one

    [[nodiscard]] std::size_t index_of(std::uint64_t identity) const noexcept {
        return static_cast<std::size_t>(std::ranges::find(identities_, identity) - identities_.begin());
    }
    [[nodiscard]] std::size_t require(Node const& node) const {
        std::uint64_t const identity = placement_.identity(node);
        std::size_t const found = index_of(identity);
        if (found == size())
            throw std::invalid_argument("cairn::hash_ring: unknown node " +
                                        detail::node_name(node, identity));
        return found;
    }
    [[noreturn]] static void throw_duplicate(Node const& node, std::uint64_t identity) {
        throw std::invalid_argument("cairn::hash_ring: duplicate node " + detail::node_name(node, identity));
    }
    static void refuse_duplicates(std::vector<member> const& members,
                                  std::vector<std::uint64_t> const& identities) {
        std::vector<std::size_t> order(members.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        auto const identity = [&](std::size_t i) { return identities[i]; };
        std::ranges::sort(order, {}, identity);
        auto const twice = std::ranges::adjacent_find(order, {}, identity);
        if (twice != order.end()) throw_duplicate(members[*twice].node, identities[*twice]);
    }
    static void check_limits(std::size_t nodes, std::size_t points) {
        if (nodes > max_nodes)
            throw std::length_error("cairn::hash_ring: at most 65,535 nodes, not " + std::to_string(nodes));
        if (points > max_points)
            throw std::length_error("cairn::hash_ring: at most 2^28 points, not " + std::to_string(points));
    }
    /// Points `from` to `to` of a node, sorted.
    [[nodiscard]] std::vector<position_type> points_of(std::uint64_t identity, std::size_t from,
                                                       std::size_t to) const {
        std::vector<position_type> points(to - from);
        for (std::size_t i = from; i < to; ++i) points[i - from] = placement_.point(identity, i);
        std::ranges::sort(points);
        return points;
    }
    [[nodiscard]] std::size_t rank_of(position_type position) const noexcept {
        std::size_t const next = points() == 0 ? 0 : index_.successor(position);
        return next == 0 && points() > 0 && positions()[0] < position ? points() : next;  // not around
    }

    /// Where all points of a node stand.
    [[nodiscard]] std::vector<std::uint32_t> ranks_of(std::size_t node) const {
        std::vector<std::uint32_t> ranks;
        ranks.reserve(placement_.points(members_[node].weight));
        for (std::size_t i = 0; i < points(); ++i)
            if (owners_[i] == node) ranks.push_back(static_cast<std::uint32_t>(i));
        return ranks;
    }
    /// Where those of a node's points stand that are given, sorted.
    [[nodiscard]] std::vector<std::uint32_t> ranks_of(std::size_t node,
                                                      std::vector<position_type> const& some) const {
        std::vector<std::uint32_t> ranks(some.size());
        std::size_t rank = 0;
        for (std::size_t i = 0; i < some.size(); ++i) {
            rank = std::max(rank, rank_of(some[i]));
            while (owners_[rank] != node) ++rank;  // only if others have a point at the same position
            ranks[i] = static_cast<std::uint32_t>(rank++);
        }
        return ranks;
    }

    /// Gives sorted points to a node. Strong guarantee. O(points): they move, but only cells that change
    /// are indexed again, if the index can (lookup.hpp, editable_index).
    void insert_points(std::vector<position_type> const& added, std::size_t node, std::uint64_t identity) {
        std::size_t const n = points() + added.size();
        std::vector<std::uint32_t> ranks(added.size());
        for (std::size_t i = 0; i < added.size(); ++i) {
            std::size_t rank = rank_of(added[i]);
            while (rank < points() && positions()[rank] == added[i] && identities_[owners_[rank]] < identity)
                ++rank;
            ranks[i] = static_cast<std::uint32_t>(rank);
        }
        detail::reserve_an_eighth(owners_, n);
        change_index(
            n, [&](auto& index) { index.reserve(n), index.insert(ranks, added); },
            [&](std::vector<position_type>& all) {
                all.reserve(n);
                detail::insert_at(all, ranks, [&](std::size_t i) { return added[i]; });
            });
        detail::insert_at(owners_, ranks, [&](std::size_t) { return static_cast<std::uint16_t>(node); });
    }
    /// Takes the points of these ranks away. Strong guarantee. O(points).
    void erase_points(std::vector<std::uint32_t> const& ranks) {
        std::vector<position_type> erased(ranks.size());
        for (std::size_t i = 0; i < ranks.size(); ++i) erased[i] = positions()[ranks[i]];
        change_index(
            points() - ranks.size(), [&](auto& index) { index.erase(ranks, erased); },
            [&](std::vector<position_type>& all) { detail::erase_at(all, ranks); });
        detail::erase_at(owners_, ranks);
    }
    /// Changes the index in place if it can become one of n points, else builds a new one.
    template <class InPlace, class Anew>
    void change_index(std::size_t n, InPlace in_place, Anew anew) {
        if constexpr (editable_index<index_type, position_type>)
            if (index_.can_become(n)) return in_place(index_);
        std::vector<position_type> all(positions().begin(), positions().end());
        anew(all);
        index_ = index_type(std::move(all));
    }

    Placement placement_{};
    std::vector<member> members_;
    std::vector<std::uint64_t> identities_;
    std::vector<std::uint16_t> owners_;
    index_type index_;
};

/// One arc of the circle whose keys change their node: all positions from `first` to `last`, both included.
template <class Node, class Position>
struct moved_arc {
    Node from;
    Node to;
    Position first;
    Position last;
    [[nodiscard]] double share() const noexcept {
        return detail::fraction_of_circle(static_cast<Position>(last - first)) +
               detail::fraction_of_circle(Position{1});
    }
};

/// What a change of membership moves: the arcs in ascending order, neighbours joined where both nodes are
/// the same, and their sum as a share of all keys.
template <class Node, class Position>
struct rebalancing {
    std::vector<moved_arc<Node, Position>> arcs;
    double share = 0;
};

/// The plan that takes the keys from where `before` has them to where `after` looks for them. Exact: a key
/// changes its node if and only if its position lies in one of the arcs. O(points of both).
/// @throws std::invalid_argument if a ring is empty, or if the two place keys differently.
template <class Node, class Before, class After, class Placement>
[[nodiscard]] rebalancing<Node, typename Placement::position_type> moved(
    hash_ring<Node, Before, Placement> const& before, hash_ring<Node, After, Placement> const& after) {
    using position = typename Placement::position_type;
    if (before.empty() || after.empty())
        throw std::invalid_argument("cairn::moved: an empty ring owns no keys");
    if (!(before.placement() == after.placement()))
        throw std::invalid_argument("cairn::moved: the rings place keys differently, so every key may move");
    rebalancing<Node, position> plan;
    std::size_t b = 0;  // the next point of each ring, at or after `first`
    std::size_t a = 0;
    std::size_t last_from = 0;  // the nodes of the arc found last
    std::size_t last_to = 0;
    for (position first = 0;;) {
        while (b < before.points() && before.positions()[b] < first) ++b;
        while (a < after.points() && after.positions()[a] < first) ++a;
        position last =
            std::numeric_limits<position>::max();  // the arc past the last point belongs to the first
        if (b < before.points()) last = std::min(last, before.positions()[b]);
        if (a < after.points()) last = std::min(last, after.positions()[a]);
        std::size_t const from = before.owners()[b < before.points() ? b : 0];
        std::size_t const to = after.owners()[a < after.points() ? a : 0];
        if (before.identity(from) != after.identity(to)) {
            plan.share += detail::fraction_of_circle(static_cast<position>(last - first)) +
                          detail::fraction_of_circle(position{1});
            bool const joins = !plan.arcs.empty() && plan.arcs.back().last + 1 == first &&
                               from == last_from && to == last_to;
            if (joins)
                plan.arcs.back().last = last;
            else
                plan.arcs.push_back({before.node(from), after.node(to), first, last});
            last_from = from;
            last_to = to;
        }
        if (last == std::numeric_limits<position>::max()) return plan;
        first = static_cast<position>(last + 1);
    }
}

}  // namespace cairn
