// SPDX-License-Identifier: MIT
// The routers of fleets that already run: a placement that another program has defined, under cairn's lookup.
//
// A cache fleet has many clients, in many languages, and a key is found only if all of them send it to the
// same server. Whoever joins cannot choose a better placement; it must compute the one that is there, bit for
// bit, with all its accidents: counts in floating point, bytes that became negative, points that were
// dropped. What is free to choose is how the circle is searched. The clients search by bisection and pay for
// a dozen mispredicted branches; here the same circle lies under `indexed`, and the answer takes one load.
//
//   servers ──placement.points()──▶ all points of the fleet ──sort──▶ index     once, when servers change
//   key ──placement.position()──▶ a place on the circle ──index──▶ server       for each key
//
// `virtual_nodes` (placement.hpp) says of each node by itself where its points lie. Most fleets cannot: how
// many points a server has, and even which, depends on all the others. So their placements give the points of
// the whole fleet, and a change of servers makes the ring anew.
//
//   header                    placement             of which program
//   -----------------------   -------------------   ---------------------------------------------------
//   fleets/libmemcached.hpp   ketama, spy, modula   libmemcached: PHP, Python, Ruby and Perl clients
//   fleets/ketama.hpp         ketama                the original C library of last.fm
//   fleets/twemproxy.hpp      ketama, modula        twemproxy (nutcracker)
//   fleets/nginx.hpp          consistent, plain     nginx: `hash key consistent;` and `hash key;`
//   fleets/envoy.hpp          ring_hash             Envoy and gRPC
//   fleets/haproxy.hpp        consistent            HAProxy: `hash-type consistent`
//   fleets/kafka.hpp          partitioner           Kafka's producers, for records with a key
//   fleets/guava.hpp          consistentHash        Guava
//   slots.hpp                 slots                 Redis Cluster
//
//   operation    cost
//   ----------   -------------------------------------------------------------------------------
//   find         the hash of the key and 4 to 14 ns; O(1). `fleet_table`: the hash and a division
//   find_each    many keys, as for a multi-get: a half to a third of the time where the hash is a long chain
//   assign       O(points): the points' hashes, and a sort by distribution
//   memory       11 to 16 bytes a point of 32 bits
//
// When not to use it: for a fleet of your own. `hash_ring` is more even, cheaper to change, and its hash is
// faster than any of these. Limits: 65,535 servers, 2^28 points.
// Thread safety: as a container: const members may run concurrently, others need exclusion.
//
//   // What a placement looks like: each server at one place, and a key at the place of its length.
//   struct by_length {
//       using server_type = std::string;
//       using position_type = std::uint32_t;
//       std::uint32_t position(std::string_view key) const noexcept { return std::uint32_t(key.size()); }
//       cairn::fleet_points<std::uint32_t> points(std::span<std::string const> servers) const {
//           cairn::fleet_points<std::uint32_t> all;
//           for (std::size_t i = 0; i < servers.size(); ++i) all.add(std::uint32_t(10 * i), i);
//           return all;
//       }
//   };
//   cairn::fleet_ring<by_length> const ring({"a", "b", "c"});
//   bool const good = ring.find("user:42") == "b";   // 7 lies between 0 and 10
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/assert.hpp"
#include "detail/ring_points.hpp"
#include "lookup.hpp"

namespace cairn {

/// The points of a whole fleet, in any order: owners[i], the place of a server in its list, owns
/// positions[i].
template <ring_position Position>
struct fleet_points {
    std::vector<Position> positions;
    std::vector<std::uint16_t> owners;

    /// Precondition: owner <= 65,534. Basic guarantee.
    void add(Position position, std::size_t owner) {
        positions.push_back(position);
        owners.push_back(static_cast<std::uint16_t>(owner));
    }
};

/// What a fleet_ring asks of a placement: where a key lies, and all points of the servers, at least one. If
/// points share a position, the server that stands first in the list owns it. `points` throws
/// std::invalid_argument or std::length_error for servers that it does not take: none, more than 65,535, a
/// weight or a name out of range. Optional, `static constexpr bool`, false if left out:
///   nearest             a key belongs to the nearest point, before it or behind, not to the next one
///   drops_equal_points  of the points at one position only the first is kept
///   low_bits_only       points and keys may all lie at the very start of the circle; the ring stretches it
/// Optional, where many keys are faster than one by one: `positions(std::span<std::string_view const> keys,
/// std::span<position_type> out)`, const and noexcept, which sets out[i] to position(keys[i]).
template <class Placement>
concept fleet_placement =
    std::copyable<Placement> && std::equality_comparable<typename Placement::server_type> &&
    ring_position<typename Placement::position_type> &&
    requires(Placement const& placement, std::span<typename Placement::server_type const> servers,
             std::string_view key) {
        { placement.position(key) } noexcept -> std::same_as<typename Placement::position_type>;
        { placement.points(servers) } -> std::same_as<fleet_points<typename Placement::position_type>>;
    };

/// What a fleet_table asks of a rule: a number for each key, and for each entry of the table the place of its
/// server in the list, one entry at least. `entries` throws as `points` does above.
template <class Rule>
concept fleet_rule =
    std::copyable<Rule> && std::equality_comparable<typename Rule::server_type> &&
    requires(Rule const& rule, std::span<typename Rule::server_type const> servers, std::string_view key) {
        { rule.number(key) } noexcept -> std::same_as<std::uint32_t>;
        { rule.entries(servers) } -> std::same_as<std::vector<std::uint16_t>>;
    };

/// The ring of a fleet. @tparam Placement where its servers and keys lie: see the table above.
/// @tparam Lookup how the circle is searched (lookup.hpp). Never changes an answer.
template <fleet_placement Placement, class Lookup = indexed>
    requires lookup_strategy<Lookup, typename Placement::position_type>
class fleet_ring {
  public:
    using node_type = typename Placement::server_type;
    using placement_type = Placement;
    using lookup_type = Lookup;
    using position_type = typename Placement::position_type;
    static constexpr std::size_t max_points = std::size_t{1} << 28;

    /// @throws as assign.
    explicit fleet_ring(std::vector<node_type> servers, Placement placement = Placement{})
        : placement_(std::move(placement)) {
        assign(std::move(servers));
    }

    /// The server of a key; its place in servers(). No allocation. Precondition: not moved from. O(1) with
    /// `indexed`.
    [[nodiscard]] std::size_t find_index(std::string_view key) const noexcept {
        return owner_of(placement_.position(key));
    }
    [[nodiscard]] node_type const& find(std::string_view key) const noexcept {
        return servers_[find_index(key)];
    }
    /// The servers of many keys, as for a multi-get: out[i] = &find(keys[i]). Half to a third of the time of
    /// one by one if the placement hashes by one_at_a_time and the keys are about equally long, or by md5;
    /// else about the same. No allocation. O(keys). Preconditions: not moved from, out.size() >= keys.size().
    template <std::convertible_to<std::string_view> Key>
    void find_each(std::span<Key const> keys, std::span<node_type const*> out) const noexcept {
        CAIRN_ASSERT(out.size() >= keys.size());
        constexpr std::size_t block = 32;
        std::string_view texts[block];
        position_type positions[block];
        for (std::size_t done = 0; done < keys.size(); done += block) {
            std::size_t const now = std::min(block, keys.size() - done);
            for (std::size_t i = 0; i < now; ++i) texts[i] = keys[done + i];
            if constexpr (requires {
                              placement_.positions(std::span(texts, now), std::span(positions, now));
                          })
                placement_.positions(std::span(texts, now), std::span(positions, now));
            else
                for (std::size_t i = 0; i < now; ++i) positions[i] = placement_.position(texts[i]);
            for (std::size_t i = 0; i < now; ++i) out[done + i] = &servers_[owner_of(positions[i])];
        }
    }
    /// The place in servers() of the server that has a position of the circle. Precondition: not moved from.
    [[nodiscard]] std::size_t owner_of(position_type position) const noexcept {
        CAIRN_ASSERT(points() > 0);
        return owners_[point_of(position)];
    }

    [[nodiscard]] std::size_t size() const noexcept { return servers_.size(); }
    /// Precondition: index < size().
    [[nodiscard]] node_type const& node(std::size_t index) const noexcept { return servers_[index]; }
    [[nodiscard]] std::span<node_type const> servers() const noexcept { return servers_; }
    [[nodiscard]] Placement const& placement() const noexcept { return placement_; }

    [[nodiscard]] std::size_t points() const noexcept { return owners_.size(); }
    /// Where point `i` lies, in ascending order. Precondition: i < points().
    [[nodiscard]] position_type position(std::size_t i) const noexcept {
        return static_cast<position_type>(index_.positions()[i] >> stretch_);
    }
    /// For each point the place of its server in servers().
    [[nodiscard]] std::span<std::uint16_t const> owners() const noexcept { return owners_; }
    /// The bytes that lookups touch.
    [[nodiscard]] std::size_t hot_bytes() const noexcept {
        return index_.hot_bytes() + owners_.size() * sizeof(std::uint16_t);
    }

    /// Replaces all servers. Their order counts where the placement says so. O(points). Strong guarantee.
    /// @throws std::invalid_argument and std::length_error as the placement does; std::length_error for more
    /// than max_points points.
    void assign(std::vector<node_type> servers) {
        auto made = placement_.points(servers);
        CAIRN_ASSERT(!made.positions.empty() && made.positions.size() == made.owners.size());
        if (made.positions.size() > max_points)
            throw std::length_error("cairn::fleet_ring: at most 2^28 points, not " +
                                    std::to_string(made.positions.size()));
        detail::point_list<position_type> sorted{std::move(made.positions), std::move(made.owners)};
        detail::sort_points(sorted, [](std::size_t owner) { return owner; });
        if constexpr (drops_equal_points) drop_equal(sorted);
        int stretch = 0;
        if constexpr (low_bits_only) {
            stretch = std::countl_zero(static_cast<position_type>(sorted.positions.back() | 1));
            for (auto& position : sorted.positions) position <<= stretch;
        }
        index_ = index_type(std::move(sorted.positions));
        owners_ = std::move(sorted.owners);
        servers_ = std::move(servers);
        stretch_ = stretch;
    }

  private:
    // Invariants: owners_[i] owns the point at index_.positions()[i]; these are sorted, then by owner; a
    // position of the circle was shifted left by stretch_, which is 0 unless low_bits_only.

    using index_type = typename Lookup::template index<position_type>;

    static constexpr bool nearest = [] {
        if constexpr (requires { Placement::nearest; }) return Placement::nearest;
        return false;
    }();
    static constexpr bool drops_equal_points = [] {
        if constexpr (requires { Placement::drops_equal_points; }) return Placement::drops_equal_points;
        return false;
    }();
    static constexpr bool low_bits_only = [] {
        if constexpr (requires { Placement::low_bits_only; }) return Placement::low_bits_only;
        return false;
    }();

    [[nodiscard]] std::size_t point_of(position_type position) const noexcept {
        if constexpr (low_bits_only) {
            if (position > index_.positions().back() >> stretch_) return 0;  // would be shifted out
            position = static_cast<position_type>(position << stretch_);
        }
        std::size_t const next = index_.successor(position);
        if constexpr (nearest) {
            std::size_t const before = (next == 0 ? points() : next) - 1;
            auto const back = static_cast<position_type>(position - index_.positions()[before]);
            auto const ahead = static_cast<position_type>(index_.positions()[next] - position);
            return back <= ahead ? before : next;
        }
        return next;
    }

    static void drop_equal(detail::point_list<position_type>& sorted) {
        std::size_t kept = 0;
        for (std::size_t i = 1; i < sorted.positions.size(); ++i) {
            if (sorted.positions[i] == sorted.positions[kept]) continue;
            ++kept;
            sorted.positions[kept] = sorted.positions[i];
            sorted.owners[kept] = sorted.owners[i];
        }
        sorted.positions.resize(kept + 1);
        sorted.owners.resize(kept + 1);
    }

    [[no_unique_address]] Placement placement_;
    std::vector<node_type> servers_;
    std::vector<std::uint16_t> owners_;
    index_type index_;
    int stretch_ = 0;
};

/// The table of a fleet that takes the number of a key modulo the table's size. One division; O(1).
/// @tparam Rule how a key becomes a number, and which entries of the table each server has.
template <fleet_rule Rule>
class fleet_table {
  public:
    using node_type = typename Rule::server_type;
    using rule_type = Rule;

    /// @throws as assign.
    explicit fleet_table(std::vector<node_type> servers, Rule rule = Rule{}) : rule_(std::move(rule)) {
        assign(std::move(servers));
    }

    /// The server of a key; its place in servers(). No allocation. Precondition: not moved from.
    [[nodiscard]] std::size_t find_index(std::string_view key) const noexcept {
        CAIRN_ASSERT(!owners_.empty());
        return owners_[rule_.number(key) % static_cast<std::uint32_t>(owners_.size())];
    }
    [[nodiscard]] node_type const& find(std::string_view key) const noexcept {
        return servers_[find_index(key)];
    }

    [[nodiscard]] std::size_t size() const noexcept { return servers_.size(); }
    /// Precondition: index < size().
    [[nodiscard]] node_type const& node(std::size_t index) const noexcept { return servers_[index]; }
    [[nodiscard]] std::span<node_type const> servers() const noexcept { return servers_; }
    [[nodiscard]] Rule const& rule() const noexcept { return rule_; }
    /// For each entry the place of its server in servers().
    [[nodiscard]] std::span<std::uint16_t const> owners() const noexcept { return owners_; }

    /// Replaces all servers; their order counts. O(entries). Strong guarantee.
    /// @throws std::invalid_argument and std::length_error as the rule does.
    void assign(std::vector<node_type> servers) {
        auto entries = rule_.entries(servers);
        CAIRN_ASSERT(!entries.empty());
        owners_ = std::move(entries);
        servers_ = std::move(servers);
    }

  private:
    // Invariants: owners_ is not empty, and each owner is an index into servers_.

    [[no_unique_address]] Rule rule_;
    std::vector<node_type> servers_;
    std::vector<std::uint16_t> owners_;
};

}  // namespace cairn
