// SPDX-License-Identifier: MIT
// The ways to route a key to a node, besides the ring: what each costs, and what it moves when nodes change.
//
// A router is a function from keys to nodes that all processes compute alike. All of them spread keys; they
// differ in what happens when there is one node more, or one less. With `hash % n`, almost every key
// belongs elsewhere: caches are cold, data must be copied. The least that can move is the new node's share.
//
//   100 nodes          find: 64-bit key /   memory that    moved by        who may   weights   fullest
//                      15 letters, ns       lookups use    node 101        leave               / mean
//   ----------------   ------------------   ------------   -------------   -------   -------   -------
//   modulo                3 /   4           0              99 %            the last  no        1.00
//   multiply_shift        2 /   3           0              50 %            the last  no        1.00
//   jump                 43 /  44           0              1 % minimum     the last  no        1.00
//   rendezvous          170 / 170           0.8 KB         1 % minimum     any       yes       1.00
//   maglev                3 /   4           131 KB         1.5 %           any       yes       1.001
//   anchor                5 /   7           0.9 KB         1 % minimum     any       no        1.00
//   slots                 - /   9           32 KB          1 % minimum     any       by hand   1.001
//   directory            15 /  40           40 B a key     what you say    any       by hand   by hand
//   hash_ring             5 /   7           163 KB         1 % minimum     any       yes       1.22
//
// Keys hashed by xxh3 (2 and 3 ns of each); anchor with room for 110; 10,000 keys in the directory; a shared
// 3.5 GHz x86-64, so the order counts, not the digit: cairn-compare measures yours. "1.00": even odds, only
// chance sets nodes apart.
//
// maglev, anchor: table_router.hpp. slots: slots.hpp. directory: directory.hpp. The ring: hash_ring.hpp.
// Which one? Shards that only grow: jump. Few nodes, weights, no state: rendezvous. Lookups above all:
// maglev. The least movement, and fast: the ring, anchor. Full control: slots, directory.
//
// `movement` and `balance` measure any two routers, or one, on your own keys.
// Sources: Lamping, Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm" (2014); Thaler, Ravishankar
// (1998) for rendezvous, with the weights of Schindelhauer, Schomaker (2005); Lemire, "Fast Random Integer
// Generation in an Interval" (2019) for multiply_shift.
// Thread safety: as a container: const members may run concurrently, others need exclusion.
//
//   cairn::jump<> shards(100);
//   std::size_t const shard = shards.find("user:42");
//   auto grown = shards;
//   grown.resize(101);
//   auto const moved = cairn::movement(shards, grown, std::views::iota(0, 100'000));
//   bool const good = shard < 100 && moved.unnecessary == 0 && moved.fraction() < 0.012;
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "detail/routing.hpp"
#include "directory.hpp"
#include "hash.hpp"
#include "table_router.hpp"

namespace cairn {

/// Sends keys to nodes. `find` gives the node, `find_index` its number from 0 to size() - 1, and node(i) the
/// node of a number: node(find_index(key)) == find(key). Precondition of both finds: size() > 0.
template <class Router, class Key>
concept router = std::equality_comparable<typename Router::node_type> &&
                 requires(Router const& router, Key const& key, std::size_t index) {
                     { router.size() } noexcept -> std::same_as<std::size_t>;
                     { router.find_index(key) } noexcept -> std::same_as<std::size_t>;
                     { router.find(key) } noexcept -> std::convertible_to<typename Router::node_type const&>;
                     { router.node(index) } -> std::convertible_to<typename Router::node_type const&>;
                 };

/// Keys that can be given to a router, one after the other.
template <class Keys, class Router>
concept keys_for = std::ranges::input_range<Keys> &&
                   router<Router, std::remove_cvref_t<std::ranges::range_reference_t<Keys>>>;

// ---- Two measurements. ----

/// What a change of routers moves.
struct movement_report {
    std::size_t keys = 0;
    /// Keys that have another node than before.
    std::size_t moved = 0;
    /// Of these, keys that went from one node to another although both were there before and after: if
    /// nothing but membership changed, none of them had to.
    std::size_t unnecessary = 0;
    [[nodiscard]] double fraction() const noexcept {
        return static_cast<double>(moved) / static_cast<double>(keys);
    }
    [[nodiscard]] double unnecessary_fraction() const noexcept {
        return static_cast<double>(unnecessary) / static_cast<double>(keys);
    }
};

/// How evenly a router spreads keys over its nodes, regardless of weights.
struct balance_report {
    std::size_t keys = 0;
    std::size_t nodes = 0;
    double mean = 0;  ///< keys a node
    std::size_t max = 0;
    std::size_t min = 0;
    double max_over_mean = 0;
    double standard_deviation = 0;  ///< relative to the mean. Chance alone gives 1 / sqrt(mean)
};

namespace detail {

/// Numbers of different types are compared by value.
template <class A, class B>
[[nodiscard]] constexpr bool same_node(A const& a, B const& b) {
    if constexpr (std::integral<A> && std::integral<B> && !std::same_as<A, B>)
        return std::cmp_equal(a, b);
    else
        return a == b;
}

/// For each node of `from`: does `in` have it? Linear if both have their nodes in about the same order.
template <class From, class In>
[[nodiscard]] std::vector<bool> nodes_also_in(From const& from, In const& in) {
    std::vector<bool> shared(from.size(), false);
    for (std::size_t i = 0, next = 0; i < from.size(); ++i)
        for (std::size_t tried = 0; tried < in.size() && !shared[i]; ++tried, ++next) {
            if (next >= in.size()) next = 0;
            shared[i] = same_node(from.node(i), in.node(next));
        }
    return shared;
}

}  // namespace detail

/// How many keys a node has, for each node index. @throws std::invalid_argument for a router without nodes.
template <class Router, keys_for<Router> Keys>
[[nodiscard]] std::vector<std::size_t> count_keys(Router const& router, Keys&& keys) {
    if (router.size() == 0) detail::refuse("count_keys", "a router without nodes");
    std::vector<std::size_t> counts(router.size(), 0);
    for (auto const& key : keys) ++counts[router.find_index(key)];
    return counts;
}

/// Compares where two routers send the same keys. They may be of different types.
/// @throws std::invalid_argument if a router has no nodes, or there are no keys.
template <class Before, class After, keys_for<Before> Keys>
    requires keys_for<Keys, After> &&
             std::equality_comparable_with<typename Before::node_type, typename After::node_type>
[[nodiscard]] movement_report movement(Before const& before, After const& after, Keys&& keys) {
    if (before.size() == 0 || after.size() == 0) detail::refuse("movement", "a router without nodes");
    auto const stayed = detail::nodes_also_in(before, after);
    auto const was_there = detail::nodes_also_in(after, before);
    movement_report report;
    for (auto const& key : keys) {
        ++report.keys;
        if (detail::same_node(before.find(key), after.find(key))) continue;
        ++report.moved;
        report.unnecessary += stayed[before.find_index(key)] && was_there[after.find_index(key)];
    }
    if (report.keys == 0) detail::refuse("movement", "there are no keys");
    return report;
}

/// Counts the keys of each node. @throws std::invalid_argument if there are no nodes, or no keys.
template <class Router, keys_for<Router> Keys>
[[nodiscard]] balance_report balance(Router const& router, Keys&& keys) {
    auto const counts = count_keys(router, std::forward<Keys>(keys));
    balance_report report;
    report.nodes = counts.size();
    for (std::size_t const count : counts) report.keys += count;
    if (report.keys == 0) detail::refuse("balance", "there are no keys");
    report.mean = static_cast<double>(report.keys) / static_cast<double>(report.nodes);
    report.max = std::ranges::max(counts);
    report.min = std::ranges::min(counts);
    report.max_over_mean = static_cast<double>(report.max) / report.mean;
    double squares = 0;
    for (std::size_t const count : counts) {
        double const deviation = static_cast<double>(count) / report.mean - 1;
        squares += deviation * deviation;
    }
    report.standard_deviation = std::sqrt(squares / static_cast<double>(report.nodes));
    return report;
}

// ---- Numbered shards: a formula, no memory, and only the last shard can leave. ----

/// hash % shards. 3 ns: a division. Uses the low bits. The first 2^64 % shards shards get one hash value of
/// 2^64 more than the others: shares differ by a part of shards / 2^64 at most. From n to n + 1 shards n / (n
/// + 1) of the keys move, where 1 / (n + 1) would do.
struct modulo_rule {
    static constexpr char const* name = "modulo";
    static constexpr bool is_placement_rule = true;
    static constexpr std::uint64_t max_shards = std::numeric_limits<std::size_t>::max();
    [[nodiscard]] constexpr std::size_t operator()(std::uint64_t hash, std::size_t shards) const noexcept {
        return static_cast<std::size_t>(hash % shards);
    }
};

/// hash * shards / 2^32, of the high 32 bits of the hash. 2 ns: a multiplication. The shares of two shards
/// differ by a part of shards / 2^32 at most: 2.4e-7 for 1000 shards. From n to n + 1 half of the keys move:
/// each shard is a run of hashes, and the runs shift.
struct multiply_shift_rule {
    static constexpr char const* name = "multiply_shift";
    static constexpr bool is_placement_rule = true;
    static constexpr std::uint64_t max_shards = 0xffff'ffff;
    [[nodiscard]] constexpr std::size_t operator()(std::uint64_t hash, std::size_t shards) const noexcept {
        return detail::scale(hash, shards);
    }
};

/// Jump consistent hash. As shards are added one by one, a key jumps from shard b to shard j > b with just
/// the odds that keep all shards even; the loop visits only the jumps, ln(shards) of them: 40 ns for 100.
/// From n to n + 1 only 1 / (n + 1) of the keys move, all to the new shard. Bit for bit the formula of
/// Lamping and Veach; Guava's `consistentHash` rounds otherwise and differs for about one key in a million.
/// Needs IEEE doubles: no -ffast-math, no x87.
struct jump_rule {
    static constexpr char const* name = "jump";
    static constexpr bool is_placement_rule =
        std::numeric_limits<double>::is_iec559 && FLT_EVAL_METHOD >= 0 && FLT_EVAL_METHOD != 2;
    static constexpr std::uint64_t max_shards = 0x7fff'ffff;
    [[nodiscard]] constexpr std::size_t operator()(std::uint64_t hash, std::size_t shards) const noexcept {
        std::int64_t at = 0;
        for (std::int64_t next = 0; next < static_cast<std::int64_t>(shards);) {
            at = next;
            hash =
                hash * 2'862'933'555'777'941'757 + 1;  // a linear congruential generator: the key's own dice
            double const odds = 2'147'483'648.0 / static_cast<double>((hash >> 33) + 1);
            next = static_cast<std::int64_t>(static_cast<double>(at + 1) * odds);
        }
        return static_cast<std::size_t>(at);
    }
};

/// Shards 0 … n - 1, and a rule that says which one a hash belongs to. Memory: the number of shards. Shards
/// come and go at the end only: `resize`. No weights.
template <class Rule, class Hash = xxh3>
    requires placement_hash<Hash>
class shard_router {
    static_assert(Rule::is_placement_rule,
                  "On this platform, or with these flags, the rule is not reproducible.");

  public:
    using node_type = std::size_t;
    using rule_type = Rule;

    /// @throws std::invalid_argument unless 1 <= shards <= Rule::max_shards.
    explicit shard_router(std::size_t shards, Hash hash = Hash{})
        : shards_(checked(shards)), hash_(std::move(hash)) {}

    /// @throws as the constructor; nothing has changed then.
    void resize(std::size_t shards) { shards_ = checked(shards); }

    [[nodiscard]] std::size_t size() const noexcept { return shards_; }
    [[nodiscard]] std::size_t node(std::size_t index) const noexcept { return index; }

    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] std::size_t find(Key const& key) const noexcept {
        return Rule{}(hash_(key), shards_);
    }
    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        return find(key);
    }

  private:
    static std::size_t checked(std::size_t shards) {
        if (shards < 1 || shards > Rule::max_shards)
            detail::refuse(Rule::name, "the number of shards must be from 1 to " +
                                           std::to_string(Rule::max_shards) + ", not " +
                                           std::to_string(shards));
        return shards;
    }

    std::size_t shards_;
    [[no_unique_address]] Hash hash_;
};

/// Each rule as a router: modulo<>, multiply_shift<>, jump<>.
template <class Hash = xxh3>
using modulo = shard_router<modulo_rule, Hash>;
template <class Hash = xxh3>
using multiply_shift = shard_router<multiply_shift_rule, Hash>;
template <class Hash = xxh3>
using jump = shard_router<jump_rule, Hash>;

// ---- Rendezvous: every node draws a lot for the key, the best lot wins. ----

namespace detail {

/// lot_slope[i] = -log2(1 - t) / t * 2^24 at t = i / 512, up to t = 1/2. The function is smooth (1.44 to 2)
/// and grows: between the points, straight lines are within 1.4 millionths of it.
inline constexpr std::array<std::uint32_t, 258> lot_slope = [] {
    constexpr double ln2 = 0.693147180559945309417;
    std::array<std::uint32_t, 258> slope{};
    for (std::size_t i = 0; i < slope.size(); ++i) {
        double const t = static_cast<double>(i) / 512;
        double sum = 0;
        double power = 1;
        for (int k = 1; k <= 64; ++k, power *= t) sum += power / k;
        slope[i] = static_cast<std::uint32_t>(sum / ln2 * 16'777'216 + 0.5);
    }
    return slope;
}();

/// -log2(x / 2^64) with 38 binary digits behind the point, at most 2^44. Error: below 1.5 millionths of the
/// result, plus 3 in the last digit. Never grows with x. All in integers: std::log may differ in the last bit
/// from one C library to the next, and arithmetic in doubles from one compiler to the next (some fuse a * b +
/// c), and a key whose best two lots are that close would be sent to different nodes.
[[nodiscard]] constexpr std::uint64_t minus_log2(std::uint64_t x) noexcept {
    x |= 1;
    int const octave = std::countl_zero(x);
    std::uint64_t const t = 0 - (x << octave);  // x = 2^-octave * (1 - t), 0 < t <= 1/2, as t / 2^64
    std::uint64_t const fraction = t >> 31 & 0xff'ffff;
    std::uint64_t const low = lot_slope[t >> 55];
    std::uint64_t const slope = low + ((lot_slope[(t >> 55) + 1] - low) * fraction >> 24);
    return (static_cast<std::uint64_t>(octave) << 38) + ((t >> 26) * slope >> 24);
}

}  // namespace detail

/// Rendezvous hashing, or highest random weight: the node whose hash with the key is best has the key.
///
///   find        O(nodes): 1.7 ns for each, 3 ns with weights. Nothing to build or to agree on but the nodes.
///   memory      8 bytes a node, 16 with weights, and the nodes themselves.
///   what moves  exactly what must: the keys of a node that leaves, the share of a node that comes, and after
///               a change of weight only keys to it (grown) or from it (shrunk). Any node may leave.
///   weights     a share is exact to 10 millionths of itself: the lot is -log(u) / weight, the least wins.
///   Equal weights need no
///               logarithm: the greatest u wins, which is the same node.
///
/// The same node on every machine: integer arithmetic only. The lots of two nodes for one key are never
/// equal (remix is a bijection), so the order of nodes never matters; two nodes of equal hash are refused
/// as duplicates.
template <class Node = std::string, class Hash = xxh3>
    requires placement_hash_for<Hash, Node> && std::equality_comparable<Node>
class rendezvous {
  public:
    using node_type = Node;
    using member = weighted_node<Node>;

    /// @throws std::invalid_argument for no node, a duplicate, or a weight outside [1, 1,000,000].
    explicit rendezvous(std::vector<member> members, Hash hash = Hash{}) : hash_(std::move(hash)) {
        replace(std::move(members));
    }
    rendezvous(std::initializer_list<member> members, Hash hash = Hash{})
        : rendezvous(std::vector<member>(members), std::move(hash)) {}

    /// The node of a key; its place in members(). No allocation. Precondition: not moved from.
    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        std::uint64_t const hash = hash_(key);
        return weights_.empty() ? best_of_equals(hash) : best_by_weight(hash);
    }
    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] Node const& find(Key const& key) const noexcept {
        return members_[find_index(key)].node;
    }

    [[nodiscard]] std::size_t size() const noexcept { return members_.size(); }
    /// Precondition: index < size().
    [[nodiscard]] Node const& node(std::size_t index) const noexcept { return members_[index].node; }
    [[nodiscard]] std::span<member const> members() const noexcept { return members_; }

    // Changes: O(nodes log nodes). Strong guarantee: after an exception the router is as it was.

    /// @throws as the constructor.
    void add(Node node, std::int64_t weight = 1) {
        auto changed = members_;
        changed.push_back({std::move(node), weight});
        replace(std::move(changed));
    }
    /// The nodes behind it in members() move up by one.
    /// @throws std::invalid_argument for an unknown node, or the last one.
    void remove(Node const& node) {
        auto changed = members_;
        auto const gone = detail::require_node("rendezvous", members_, node);
        changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(gone));
        replace(std::move(changed));
    }
    /// @throws std::invalid_argument for an unknown node, or a weight out of range.
    void reweight(Node const& node, std::int64_t weight) {
        auto changed = members_;
        changed[detail::require_node("rendezvous", members_, node)].weight = weight;
        replace(std::move(changed));
    }

  private:
    // Invariants: members_ is not empty; identities_[i] is the hash of members_[i].node, and all are
    // different; weights_[i] is the weight of members_[i], but weights_ is empty if all weights are equal.

    void replace(std::vector<member> members) {
        auto identities = detail::checked_identities("rendezvous", members, hash_);
        std::vector<std::uint64_t> weights;
        if (std::ranges::adjacent_find(members, std::ranges::not_equal_to{}, &member::weight) !=
            members.end())
            for (member const& one : members) weights.push_back(static_cast<std::uint64_t>(one.weight));
        identities_ = std::move(identities);
        weights_ = std::move(weights);
        members_ = std::move(members);
    }

    [[nodiscard]] std::size_t best_of_equals(std::uint64_t hash) const noexcept {
        std::size_t best = 0;
        std::uint64_t best_lot = detail::remix(hash ^ identities_[0]);
        for (std::size_t i = 1; i < identities_.size(); ++i)
            if (std::uint64_t const lot = detail::remix(hash ^ identities_[i]); lot > best_lot) {
                best = i;
                best_lot = lot;
            }
        return best;
    }

    /// The least logarithm / weight. Compared crosswise: a logarithm of 44 bits times a weight of 20 fits.
    /// -log2(x / 2^64) is more than 1 - x / 2^64, which is ~lot here, so most nodes lose without a logarithm.
    [[nodiscard]] std::size_t best_by_weight(std::uint64_t hash) const noexcept {
        std::size_t best = 0;
        std::uint64_t best_lot = detail::remix(hash ^ identities_[0]);
        std::uint64_t best_log = detail::minus_log2(best_lot);
        for (std::size_t i = 1; i < identities_.size(); ++i) {
            std::uint64_t const lot = detail::remix(hash ^ identities_[i]);
            std::uint64_t const others = best_log * weights_[i];
            if ((~lot >> 26) * weights_[best] > others) continue;
            std::uint64_t const log = detail::minus_log2(lot);
            std::uint64_t const mine = log * weights_[best];
            if (mine < others || (mine == others && lot > best_lot)) {
                best = i;
                best_lot = lot;
                best_log = log;
            }
        }
        return best;
    }

    [[no_unique_address]] Hash hash_;
    std::vector<std::uint64_t> identities_;
    std::vector<std::uint64_t> weights_;
    std::vector<member> members_;
};

}  // namespace cairn
