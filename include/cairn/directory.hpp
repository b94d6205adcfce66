// SPDX-License-Identifier: MIT
// The static map: a table that says for each known key where it goes. Full control, paid for by the key.
//
// The first way to route that anyone thinks of is to write it down. Nothing else lets you move one hot
// customer to a machine of its own, and nothing moves unless you say so. The price: memory for each key
// on each process that routes, somebody who keeps all copies equal, and the question what to do with a
// key that nobody has written down. Here the fallback answers it, a router of its own: so a directory can
// also be the short list of exceptions to a rule.
//
//   find("vip:1")   ── known ──▶   the node that was assigned to it
//   find("bob")     ── not known ──▶   fallback.find("bob"):  one fixed node, a ring, jump …
//
//   find            15 ns among 10,000 integers, 40 ns among as many strings, memory latency among millions
//   memory          bytes_per_key(): 27 to 53 for 64-bit integers, 51 to 101 for short strings; a rule takes
//   0 what moves      what you say, key by key; unknown keys as the fallback has it who may leave   any node
//   without known keys (replace_fallback) weights         by your choice of keys
//
// Not for: many keys without a reason for each, which is the usual case (a rule: router.hpp, hash_ring.hpp);
// ranges of keys (a sorted map of their bounds). Source: folklore; the table is open addressing with linear
// probing and deletion by shifting back (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
// Thread safety: as a container: const members may run concurrently, others need exclusion.
//
//   cairn::directory<std::string> routes(cairn::fixed<std::string>({"small", "large"}));
//   routes.assign("vip:1", "large");
//   std::string const& vip = routes.find("vip:1");      // "large"
//   std::string const& rest = routes.find("bob");       // "small": the fixed node for all others
//   double const cost = routes.bytes_per_key();
//   bool const good = vip == "large" && rest == "small" && cost > 0;
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "detail/routing.hpp"
#include "hash.hpp"

namespace cairn {

/// The router that sends every key to one node of a list: the fallback of a directory for which "unknown"
/// is a node like any other. Memory: the nodes. Nothing ever moves.
template <class Node = std::string>
    requires std::equality_comparable<Node>
class fixed {
  public:
    using node_type = Node;

    /// @throws std::invalid_argument unless chosen < nodes.size().
    explicit fixed(std::vector<Node> nodes, std::size_t chosen = 0)
        : nodes_(std::move(nodes)), chosen_(chosen) {
        if (chosen_ >= nodes_.size())
            detail::refuse("fixed", "there is no node " + std::to_string(chosen) + " of " +
                                        std::to_string(nodes_.size()));
    }
    template <class Key>
    [[nodiscard]] std::size_t find_index(Key const&) const noexcept {
        return chosen_;
    }
    template <class Key>
    [[nodiscard]] Node const& find(Key const&) const noexcept {
        return nodes_[chosen_];
    }
    [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }
    [[nodiscard]] Node const& node(std::size_t index) const noexcept { return nodes_[index]; }

  private:
    std::vector<Node> nodes_;
    std::size_t chosen_;
};

/// Known keys with the nodes that somebody chose for them, and a fallback for all other keys.
/// @tparam Fallback a router whose nodes are the nodes of the directory. @tparam Hash must take Key, and
/// whatever find is asked with: equal keys must have equal hashes.
template <class Key, class Node = std::string, class Fallback = fixed<Node>, class Hash = xxh3>
    requires placement_hash_for<Hash, Key> && std::same_as<typename Fallback::node_type, Node>
class directory {
    // Erasing moves the last entry into the hole, which must not fail half-way.
    static_assert(std::is_nothrow_move_constructible_v<Key> && std::is_nothrow_move_assignable_v<Key>);

  public:
    using node_type = Node;

    /// @throws std::invalid_argument for a fallback without nodes.
    explicit directory(Fallback fallback, Hash hash = Hash{})
        : hash_(std::move(hash)), fallback_(std::move(fallback)), slots_(8, 0) {
        if (fallback_.size() == 0) detail::refuse("directory", "the fallback has no nodes");
    }

    /// The node of a key. `Asked` may be another type than Key: std::string_view for std::string. No
    /// allocation.
    template <class Asked>
        requires placement_hash_for<Hash, Asked> && std::equality_comparable_with<Key, Asked>
    [[nodiscard]] std::size_t find_index(Asked const& key) const noexcept {
        std::uint64_t const slot = slots_[slot_of(key)];
        return slot == 0 ? fallback_.find_index(key) : entries_[number(slot)].node;
    }
    template <class Asked>
        requires placement_hash_for<Hash, Asked> && std::equality_comparable_with<Key, Asked>
    [[nodiscard]] decltype(auto) find(Asked const& key) const noexcept {
        return node(find_index(key));
    }
    /// Is the key known, or does the fallback answer for it?
    template <class Asked>
    [[nodiscard]] bool contains(Asked const& key) const noexcept {
        return slots_[slot_of(key)] != 0;
    }

    [[nodiscard]] std::size_t size() const noexcept { return fallback_.size(); }
    /// Precondition: index < size().
    [[nodiscard]] decltype(auto) node(std::size_t index) const noexcept { return fallback_.node(index); }
    [[nodiscard]] Fallback const& fallback() const noexcept { return fallback_; }
    /// How many keys are known.
    [[nodiscard]] std::size_t keys() const noexcept { return entries_.size(); }

    /// Memory of the map by known key: what its two arrays have allocated, and the characters of std::string
    /// keys that have a heap block. Computed from the capacities, so exact but for what the allocator adds to
    /// a block. The nodes do not count. 0 without keys. O(keys).
    [[nodiscard]] double bytes_per_key() const noexcept {
        std::size_t bytes = entries_.capacity() * sizeof(entry) + slots_.capacity() * sizeof(std::uint64_t);
        if constexpr (std::same_as<Key, std::string>)
            for (entry const& one : entries_)
                if (one.key.capacity() > std::string().capacity()) bytes += one.key.capacity() + 1;
        return keys() == 0 ? 0.0 : static_cast<double>(bytes) / static_cast<double>(keys());
    }

    // Changes. Strong guarantee. Amortised O(1) and, to find the node by name, O(nodes).

    /// From now on `key` goes to `node`. @throws std::invalid_argument for a node that the fallback lacks.
    void assign(Key key, Node const& node) {
        auto const index = index_of(node, 0);
        if (index == size()) detail::refuse("directory", "unknown node " + detail::node_name(node));
        if (std::uint64_t const slot = slots_[slot_of(key)]; slot != 0) {
            entries_[number(slot)].node = static_cast<std::uint32_t>(index);
            return;
        }
        if (4 * (keys() + 1) > 3 * slots_.size()) grow();
        std::size_t const free = slot_of(key);
        std::uint64_t const print = hash_(key) >> 32;
        entries_.push_back({std::move(key), static_cast<std::uint32_t>(index)});
        slots_[free] = print << 32 | entries_.size();
    }
    /// Forgets a key: the fallback answers for it again. False if it was not known.
    template <class Asked>
    bool erase(Asked const& key) {
        std::size_t gone = slot_of(key);
        if (slots_[gone] == 0) return false;
        std::size_t const hole = number(slots_[gone]);
        std::uint64_t& last = slots_[slot_of(entries_.back().key)];  // the last entry moves into the hole
        last = (last >> 32 << 32) | (hole + 1);
        if (hole + 1 != keys()) entries_[hole] = std::move(entries_.back());
        entries_.pop_back();
        slots_[gone] = 0;
        for (std::size_t next = (gone + 1) & mask(); slots_[next] != 0; next = (next + 1) & mask()) {
            std::size_t const home = (slots_[next] >> 32) & mask();
            if (((next - home) & mask()) < ((next - gone) & mask())) continue;  // the gap is not on its way
            slots_[gone] = std::exchange(slots_[next], 0);
            gone = next;
        }
        return true;
    }
    /// Other nodes, or another rule for unknown keys. Known keys keep their nodes.
    /// @throws std::invalid_argument if a known key belongs to a node that the new fallback lacks.
    void replace_fallback(Fallback fallback) {
        directory changed(std::move(fallback), hash_);
        std::vector<std::uint32_t> moved(size());
        for (std::size_t i = 0, guess = 0; i < size(); ++i) {
            guess = changed.index_of(node(i), guess);
            moved[i] = static_cast<std::uint32_t>(guess);  // == changed.size(): it is gone
        }
        for (entry const& one : entries_)
            if (moved[one.node] == changed.size())
                detail::refuse("directory", "node " + detail::node_name(node(one.node)) + " still has keys");
        fallback_ = std::move(changed.fallback_);
        for (entry& one : entries_) one.node = moved[one.node];
    }

  private:
    // Invariants: entries_ are the known keys, in no order. slots_ is a hash table over them, open
    // addressing, a power of two of slots, at most 3/4 full. A slot is 0, or 32 bits of the hash, which also
    // are its home in the table, above the number of the entry plus 1.
    struct entry {
        Key key;
        std::uint32_t node;
    };

    [[nodiscard]] std::size_t mask() const noexcept { return slots_.size() - 1; }
    static std::size_t number(std::uint64_t slot) noexcept { return (slot & 0xffff'ffff) - 1; }

    /// Integers compare as they hash: by value, whatever their width.
    template <class Asked>
    static bool same(Key const& key, Asked const& asked) noexcept {
        if constexpr (std::integral<Key> && std::integral<Asked>)
            return static_cast<std::uint64_t>(key) == static_cast<std::uint64_t>(asked);
        else
            return key == asked;
    }
    /// Where the key is, or the free slot where it would be.
    template <class Asked>
    [[nodiscard]] std::size_t slot_of(Asked const& key) const noexcept {
        std::uint64_t const print = hash_(key) >> 32;
        for (std::size_t at = print & mask();; at = (at + 1) & mask())
            if (slots_[at] == 0 || (slots_[at] >> 32 == print && same(entries_[number(slots_[at])].key, key)))
                return at;
    }
    void grow() {
        if (keys() >= 0x8000'0000) throw std::length_error("cairn::directory: at most 2^31 keys");
        std::vector<std::uint64_t> larger(2 * slots_.size(), 0);
        for (std::uint64_t const slot : slots_)
            if (slot != 0) {
                std::size_t at = slot >> 32 & (larger.size() - 1);
                while (larger[at] != 0) at = (at + 1) & (larger.size() - 1);
                larger[at] = slot;
            }
        slots_ = std::move(larger);
    }
    /// The index of a node, sought from `guess` on; size() if there is none.
    [[nodiscard]] std::size_t index_of(Node const& wanted, std::size_t guess) const {
        for (std::size_t i = 0; i < size(); ++i)
            if (std::size_t const at = (guess + i) % size(); node(at) == wanted) return at;
        return size();
    }

    [[no_unique_address]] Hash hash_;
    Fallback fallback_;
    std::vector<entry> entries_;
    std::vector<std::uint64_t> slots_;
};

}  // namespace cairn
