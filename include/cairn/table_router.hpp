// SPDX-License-Identifier: MIT
// Routers that are tables: between the hash of a key and its node lie one load, or a few.
//
// A ring answers "which arc is this hash in?" by a search. If the arcs are all equally long, there is
// nothing to search: the hash, scaled to the table's size, is the place of the answer. What is left to
// decide is who fills the table, and how little of it changes with the nodes:
//
//   maglev   the nodes fill it, in turns, each by its own random order of preference. Nobody stores a
//            history: whoever knows the nodes computes the same table. A change moves a little too much.
//   anchor   the table holds the history: who was removed, and who took over. Moves exactly what it must.
//   slots    an operator fills it, as in Redis Cluster: any slot can go to any node, one by one.
//
//   100 nodes            maglev (65,537 entries)   anchor (capacity 110)    slots
//   ------------------   -----------------------   ----------------------   ------------------------
//   find, 64-bit key     3 ns                      5 ns                     strings only
//   find, 15 letters     4 ns                      7 ns                     9 ns
//   steps                1 load                    1 + ln(capacity/nodes)   1 load, 1 per letter
//   memory               131 KB                    2 KB                     32 KB
//   fullest / mean       1.001                     1 (even odds)            1.001
//   node 101 comes       1.5 % move, 1 % must      1 % move: the minimum    1 % move: the minimum
//   which may leave      any                       any                      any
//   weights              yes                       no                       by assigning slots
//   a change costs       2 ms                      some ns                  60 us
//   processes agree on   the set of nodes          every change, in order   every assignment
//
// Not for: more than 65,535 nodes (anchor: 2^28); nodes that come and go by the second (maglev is built
// anew each time; take a ring); a fleet that can agree on the nodes but not on a history (of these three only
// maglev is a function of the nodes alone). Sources: Eisenbud et al., "Maglev" (NSDI 2016); Mendelson,
// Vargaftik, Barabash, Lorenz, Keslassy and Orda, "AnchorHash" (2020); the Redis Cluster specification.
// Thread safety: as a container: const members may run concurrently, others need exclusion.
//
//   cairn::maglev<std::string> balancer{"a", "b", {"c", 2}};  // c takes twice the share of a
//   std::string const& backend = balancer.find("user:42");
//   cairn::anchor<> shards(10, 16);                           // shards 0 ... 9, room for 16
//   shards.remove(3);                                         // any shard may go
//   cairn::slots<std::string> cluster({"x", "y", "z"});
//   auto const moves = cluster.add("w");                      // the slots to migrate, and from where
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "detail/routing.hpp"
#include "hash.hpp"
#include "slots.hpp"

namespace cairn {

/// A node and its weight: its share of the keys, relative to the other nodes. A plain node converts to
/// one of weight 1, so that {"a", "b", {"c", 2}} lists three nodes.
template <class Node>
struct weighted_node {
    /// More than a million times the share of another node is a mistake, not a weight.
    static constexpr std::int64_t max_weight = 1'000'000;

    Node node;
    std::int64_t weight;

    weighted_node(Node name, std::int64_t share = 1) : node(std::move(name)), weight(share) {}
    template <class Name>
        requires(!std::is_arithmetic_v<Node> && std::convertible_to<Name, Node> &&
                 !std::same_as<std::remove_cvref_t<Name>, weighted_node>)
    weighted_node(Name&& name, std::int64_t share = 1) : node(std::forward<Name>(name)), weight(share) {}
};

/// Maglev hashing: the load balancer's table. Each node has its own random order of all entries; the nodes
/// take turns, and each takes the first entry of its order that is still free, until none is.
///
///   find        hash, multiply, shift, load: 3 ns for a 64-bit key while the table is in the L2 cache.
///               The hash is scaled to the table by a multiplication instead of the paper's `%`: that takes
///               4 cycles where a division takes 10 to 40, and is as even (an entry's odds differ by 1.5e-5).
///   memory      2 bytes an entry. 100 entries a node and more keep the shares within 1 %: 65,537 entries
///   serve
///               up to 600 nodes, 655,373 up to 6,500.
///   a change    rebuilds the table, O(entries * log entries): 2 ms for 65,537.
///   what moves  the share that must, and a little more: 1 of 1000 nodes gone changes 0.7 % of 65,537 entries
///               and 0.4 % of 655,373, where 0.1 % must. Any node may leave.
///   weights     a node of weight w takes a turn in w of max(w) rounds, at least one. Its entries are
///               proportional to w, give or take one.
///
/// The table depends on the set of nodes and weights only: turns are taken in the order of the nodes'
/// hashes. Two nodes of equal hash could not be told apart and are refused as duplicates.
template <class Node = std::string, class Hash = xxh3>
    requires placement_hash_for<Hash, Node> && std::equality_comparable<Node>
class maglev {
  public:
    using node_type = Node;
    using member = weighted_node<Node>;
    static constexpr std::size_t default_table_size = 65'537;
    static constexpr std::size_t max_table_size = std::size_t{1} << 24;
    static constexpr std::size_t max_nodes = 65'535;

    /// @throws std::invalid_argument for no node, a duplicate, a weight outside [1, 1,000,000], a table size
    /// that is not prime, exceeds max_table_size or is less than the number of nodes; std::length_error for
    /// more than max_nodes nodes.
    explicit maglev(std::vector<member> members, std::size_t table_size = default_table_size,
                    Hash hash = Hash{})
        : hash_(std::move(hash)),
          entries_(populate(members, table_size, hash_)),
          members_(std::move(members)) {}
    maglev(std::initializer_list<member> members, std::size_t table_size = default_table_size,
           Hash hash = Hash{})
        : maglev(std::vector<member>(members), table_size, std::move(hash)) {}

    /// The node of a key; its place in members(). No allocation. Precondition: not moved from.
    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        return entries_[detail::scale(hash_(key), entries_.size())];
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
    /// The table: for each entry the place of its node in members().
    [[nodiscard]] std::span<std::uint16_t const> entries() const noexcept { return entries_; }

    // Changes rebuild the table. Strong guarantee: after an exception the router is as it was.

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
        auto const gone = detail::require_node("maglev", members_, node);
        changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(gone));
        replace(std::move(changed));
    }
    /// @throws std::invalid_argument for an unknown node, or a weight out of range.
    void reweight(Node const& node, std::int64_t weight) {
        auto changed = members_;
        changed[detail::require_node("maglev", members_, node)].weight = weight;
        replace(std::move(changed));
    }

  private:
    // Invariants: members_ is not empty; entries_.size() is prime and at least members_.size(); each member
    // has an entry.

    void replace(std::vector<member> members) {
        entries_ = populate(members, entries_.size(), hash_);
        members_ = std::move(members);
    }

    static bool is_prime(std::size_t n) noexcept {
        for (std::size_t d = 2; d * d <= n; ++d)
            if (n % d == 0) return false;
        return n >= 2;
    }

    static std::vector<std::uint16_t> populate(std::vector<member> const& members, std::size_t table_size,
                                               Hash const& hash) {
        if (members.size() > max_nodes)
            throw std::length_error("cairn::maglev: at most 65,535 nodes, not " +
                                    std::to_string(members.size()));
        if (table_size > max_table_size || !is_prime(table_size))
            detail::refuse("maglev",
                           "the table size must be a prime below 2^24, not " + std::to_string(table_size));
        if (table_size < members.size())
            detail::refuse("maglev", "a table of " + std::to_string(table_size) +
                                         " entries is too small for " + std::to_string(members.size()) +
                                         " nodes");
        auto const identities = detail::checked_identities("maglev", members, hash);
        // The preferences of a node: offset, offset + skip, offset + 2 skip … modulo the size. The size is
        // prime, so any skip from 1 to size - 1 visits every entry once.
        struct preference {
            std::uint32_t next;
            std::uint32_t skip;
        };
        std::vector<preference> preferences;
        for (std::uint64_t const identity : identities)
            preferences.push_back(
                {static_cast<std::uint32_t>(identity % table_size),
                 static_cast<std::uint32_t>(detail::remix(identity) % (table_size - 1) + 1)});
        constexpr std::uint16_t free = 0xffff;  // no node: there are 65,535 at most
        std::vector<std::uint16_t> entries(table_size, free);
        for (std::uint16_t const node : turns(members, identities, table_size)) {
            auto& [next, skip] = preferences[node];
            while (entries[next] != free) {
                next += skip;
                if (next >= table_size) next -= static_cast<std::uint32_t>(table_size);
            }
            entries[next] = node;
        }
        return entries;
    }

    /// Whose turn it is, entry by entry. Within a round nodes come by their hashes. The heaviest node takes a
    /// turn in each round; turn t of a node of weight w comes in round ceil(t * heaviest / w), so all have
    /// their first turn in round 0.
    static std::vector<std::uint16_t> turns(std::vector<member> const& members,
                                            std::vector<std::uint64_t> const& identities, std::size_t count) {
        std::vector<std::uint16_t> order(members.size());
        std::iota(order.begin(), order.end(), std::uint16_t{0});
        std::ranges::sort(order, {}, [&](std::uint16_t i) { return identities[i]; });
        std::uint64_t const heaviest =
            static_cast<std::uint64_t>(std::ranges::max(members, {}, &member::weight).weight);
        auto const weight = [&](std::uint16_t i) { return static_cast<std::uint64_t>(members[i].weight); };
        auto const taken = [&](std::uint64_t rounds) {  // how many turns there are in that many rounds
            std::uint64_t sum = 0;
            for (std::uint16_t const i : order) sum += (rounds - 1) * weight(i) / heaviest + 1;
            return sum;
        };
        std::uint64_t rounds = 1;  // the least number that fills the table; `count` always does
        for (std::uint64_t enough = count; rounds < enough;) {
            std::uint64_t const middle = rounds + (enough - rounds) / 2;
            if (taken(middle) >= count)
                enough = middle;
            else
                rounds = middle + 1;
        }
        auto const each_turn = [&](auto take) {
            for (std::uint16_t const i : order)
                for (std::uint64_t t = 0, round = 0; round < rounds;
                     round = (++t * heaviest + weight(i) - 1) / weight(i))
                    take(round, i);
        };
        // Sorted by round, by counting.
        std::vector<std::uint32_t> place(rounds + 1, 0);
        each_turn([&](std::uint64_t round, std::uint16_t) { ++place[round + 1]; });
        std::partial_sum(place.begin(), place.end(), place.begin());
        std::vector<std::uint16_t> sequence(place.back());
        each_turn([&](std::uint64_t round, std::uint16_t i) { sequence[place[round]++] = i; });
        sequence.resize(count);  // the last round ends when the table is full
        return sequence;
    }

    [[no_unique_address]] Hash hash_;
    std::vector<std::uint16_t> entries_;
    std::vector<member> members_;
};

/// AnchorHash: numbered buckets of which any may be removed, and come back, at the least movement possible.
/// A key starts at one of `capacity` buckets. If that one was removed, it is hashed again over those that
/// were still there at that time; each removed bucket remembers how many that were, and who took its place.
///
///   find        hash, load; a key that meets removed buckets hashes again, 1 + ln(capacity / size) times on
///               average: 5 ns at 100 of 110 buckets, 15 ns at 100 of 200, 30 ns at 100 of 1000.
///   memory      20 bytes a bucket of the capacity, 8 of them hot.
///   a change    O(1).
///   what moves  exactly the keys of the bucket that goes, or that comes. Any bucket may leave. A bucket that
///               is added is the one that was removed last, or the lowest number never used.
///   weights     none (give a strong machine several buckets).
///
/// The answer depends on the history: processes that are to agree must make the same changes in the same
/// order, or copy the router.
template <class Hash = xxh3>
    requires placement_hash<Hash>
class anchor {
  public:
    using node_type = std::size_t;
    static constexpr std::size_t max_capacity = std::size_t{1} << 28;

    /// Buckets 0 … working - 1 are there; there may be `capacity` at most, ever. Every bucket
    /// that is missing costs lookups a little, see find above.
    /// @throws std::invalid_argument unless 1 <= working <= capacity <= max_capacity.
    anchor(std::size_t working, std::size_t capacity, Hash hash = Hash{})
        : hash_(std::move(hash)), size_(checked(working, capacity)) {
        std::vector<std::uint32_t> numbers(capacity);
        std::iota(numbers.begin(), numbers.end(), std::uint32_t{0});
        K_ = L_ = W_ = numbers;
        A_.assign(capacity, 0);
        R_.reserve(capacity);
        for (std::size_t b = capacity; b-- > working;) {
            A_[b] = static_cast<std::uint32_t>(b);
            R_.push_back(static_cast<std::uint32_t>(b));
        }
    }

    /// The bucket of a key. No allocation. Precondition: not moved from.
    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] std::size_t find(Key const& key) const noexcept {
        std::uint64_t const hash = hash_(key);
        std::size_t b = detail::scale(hash, A_.size());
        while (A_[b] > 0) {
            constexpr std::uint64_t golden = 0x9e37'79b9'7f4a'7c15;  // 2^64 / golden ratio, odd
            std::size_t h = detail::scale(detail::remix(hash ^ (b + 1) * golden), A_[b]);
            while (A_[h] >= A_[b]) h = K_[h];
            b = h;
        }
        return b;
    }
    /// The same, as its place among the working buckets.
    template <class Key>
        requires placement_hash_for<Hash, Key>
    [[nodiscard]] std::size_t find_index(Key const& key) const noexcept {
        return L_[find(key)];
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return A_.size(); }
    /// The working bucket at a place. Places change with every removal. Precondition: index < size().
    [[nodiscard]] std::size_t node(std::size_t index) const noexcept { return W_[index]; }
    [[nodiscard]] bool contains(std::size_t bucket) const noexcept {
        return bucket < A_.size() && A_[bucket] == 0;
    }

    /// Adds a bucket and returns its number. @throws std::length_error if all `capacity` are there.
    std::size_t add() {
        if (R_.empty())
            throw std::length_error("cairn::anchor: all " + std::to_string(capacity()) +
                                    " buckets are there");
        std::uint32_t const b = R_.back();
        R_.pop_back();
        A_[b] = 0;
        L_[W_[size_]] = static_cast<std::uint32_t>(size_);
        W_[L_[b]] = b;
        K_[b] = b;
        ++size_;
        return b;
    }
    /// @throws std::invalid_argument for a bucket that is not there, or the last one; nothing has changed.
    void remove(std::size_t bucket) {
        if (!contains(bucket)) detail::refuse("anchor", "unknown bucket " + std::to_string(bucket));
        if (size_ == 1) detail::refuse("anchor", "bucket " + std::to_string(bucket) + " is the last one");
        R_.push_back(static_cast<std::uint32_t>(bucket));  // within its reserve: cannot fail
        --size_;
        A_[bucket] = static_cast<std::uint32_t>(size_);
        W_[L_[bucket]] = K_[bucket] = W_[size_];
        L_[W_[size_]] = L_[bucket];
    }

  private:
    // The arrays bear the paper's names.
    // A[b]  0 if bucket b works, else how many worked right after its removal
    // K[b]  who took the place of b when it was removed (b itself if it works)
    // W     the working buckets are W[0] … W[size - 1]
    // L[b]  where b is in W, or was when it was removed
    // R     the removed buckets, the last one on top

    static std::size_t checked(std::size_t working, std::size_t capacity) {
        if (working < 1 || working > capacity || capacity > max_capacity)
            detail::refuse("anchor", "1 <= working <= capacity <= 2^28 does not hold for working = " +
                                         std::to_string(working) +
                                         ", capacity = " + std::to_string(capacity));
        return working;
    }

    [[no_unique_address]] Hash hash_;
    std::size_t size_;
    std::vector<std::uint32_t> A_, K_, W_, L_, R_;
};

}  // namespace cairn
