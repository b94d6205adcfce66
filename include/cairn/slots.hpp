// SPDX-License-Identifier: MIT
// Redis Cluster's way to route: 16,384 slots, and a table that says which node has each.
//
// Two steps instead of one: a key belongs to a slot, by a hash that never changes; a slot belongs to a
// node, by a table that an operator changes. The unit that moves is the slot, and who gets it is a
// decision, not the outcome of a formula: full control at 2 bytes a slot, however many keys there are.
//
//   key "{user:42}.cart" ──tag──▶ "user:42" ──CRC16 % 16384──▶ slot 8000 ──table──▶ node "x"
//
// If a key has a part in braces, only that part counts, so related keys can be kept on one node. Of
// several braces the text between the first '{' and the first '}' after it counts; if there is none,
// or nothing between them, the whole key does.
//
//   find          9 ns for a key of 15 letters: one table step a letter, eight at a time, then a load
//   memory        32 KB
//   what moves    what you say. `add`, `remove` and `rebalance` move the least number of slots that does it
//   who may leave any node
//   weights       none: assign as many slots as you like
//   a change      O(16,384) steps and a few per node
//
// Not for: integers as keys (Redis hashes their text; write it first); more than 16,384 nodes; balance
// finer than a slot; keys chosen by an attacker (whoever can pick keys can pick the slot). The table is
// state: processes agree only if they apply the same moves. A formula that needs no table: router.hpp.
// Source: the Redis Cluster specification. Verified against CLUSTER KEYSLOT of Redis 7.0.15.
// Thread safety: as a container: const members may run concurrently, others need exclusion.
//
//   cairn::slots<std::string> cluster({"x", "y", "z"});
//   std::string const& node = cluster.find("{user:42}.cart");
//   bool const together = node == cluster.find("{user:42}.name");
//   auto const moves = cluster.add("w");      // each move: slots first to last, from a node, to "w"
//   cluster.assign(0, 99, "w");               // or slot by slot, as you decide
//   auto const even = cluster.rebalance();
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/routing.hpp"

namespace cairn {

namespace detail {

/// after[k][b] is the CRC16 of byte b with k zero bytes behind it (polynomial 0x1021, start 0: XMODEM).
using crc16_table = std::array<std::array<std::uint16_t, 256>, 8>;
inline constexpr crc16_table crc16_after = [] {
    crc16_table after{};
    for (unsigned b = 0; b < 256; ++b) {
        unsigned crc = b << 8;
        for (int bit = 0; bit < 8; ++bit) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021u : 0u)) & 0xffff;
        after[0][b] = static_cast<std::uint16_t>(crc);
    }
    for (std::size_t k = 1; k < 8; ++k)
        for (std::size_t b = 0; b < 256; ++b) {
            unsigned const crc = after[k - 1][b];
            after[k][b] = static_cast<std::uint16_t>(crc << 8 ^ after[0][crc >> 8]);
        }
    return after;
}();

/// CRC16-XMODEM, eight bytes at a time: the CRC is linear, so eight letters are eight loads that do not
/// wait for each other. The letters that do not fill a block come first, for which the CRC is still 0.
[[nodiscard]] constexpr std::uint16_t crc16(std::string_view text) noexcept {
    auto const byte = [&](std::size_t i) {
        return static_cast<std::size_t>(static_cast<unsigned char>(text[i]));
    };
    std::size_t const head = text.size() % 8;
    std::size_t crc = 0;
    for (std::size_t i = 0; i < head; ++i) crc ^= crc16_after[head - 1 - i][byte(i)];
    for (std::size_t i = head; i < text.size(); i += 8)
        crc = static_cast<std::size_t>(
            crc16_after[7][byte(i) ^ crc >> 8] ^ crc16_after[6][byte(i + 1) ^ (crc & 0xff)] ^
            crc16_after[5][byte(i + 2)] ^ crc16_after[4][byte(i + 3)] ^ crc16_after[3][byte(i + 4)] ^
            crc16_after[2][byte(i + 5)] ^ crc16_after[1][byte(i + 6)] ^ crc16_after[0][byte(i + 7)]);
    return static_cast<std::uint16_t>(crc);
}

}  // namespace detail

/// A table of 16,384 slots and their nodes. @tparam Node a name, an address, a number: anything that can be
/// copied and compared.
template <class Node = std::string>
    requires std::equality_comparable<Node> && std::copyable<Node>
class slots {
  public:
    using node_type = Node;
    static constexpr std::size_t slot_count = 16'384;

    /// Slots `first` to `last`, both included, go from one node to another.
    struct move {
        std::size_t first;
        std::size_t last;
        Node from;
        Node to;
        friend bool operator==(move const&, move const&) = default;
    };

    /// Gives each node a run of slots, in this order, as even as can be.
    /// @throws std::invalid_argument for no node or a duplicate; std::length_error for more than 16,384.
    explicit slots(std::vector<Node> nodes) {
        if (nodes.empty()) detail::refuse("slots", "at least one node is needed, not zero");
        check_count(nodes.size());
        for (auto node = nodes.begin(); node != nodes.end(); ++node)
            if (std::find(nodes.begin(), node, *node) != node)
                detail::refuse("slots", "duplicate node " + detail::node_name(*node));
        for (std::size_t slot = 0; slot < slot_count; ++slot)
            owners_.push_back(static_cast<std::uint16_t>(slot * nodes.size() / slot_count));
        nodes_ = std::move(nodes);
    }

    /// What of a key counts: the part in braces, or all of it.
    [[nodiscard]] static constexpr std::string_view hash_tag(std::string_view key) noexcept {
        std::size_t const open = key.find('{');
        if (open == key.npos) return key;
        std::size_t const close = key.find('}', open + 1);
        return close == key.npos || close == open + 1 ? key : key.substr(open + 1, close - open - 1);
    }
    /// The slot of a key, as CLUSTER KEYSLOT gives it.
    [[nodiscard]] static constexpr std::size_t slot_of(std::string_view key) noexcept {
        return detail::crc16(hash_tag(key)) % slot_count;
    }

    /// The node of a key. No allocation. Precondition: not moved from.
    [[nodiscard]] std::size_t find_index(std::string_view key) const noexcept {
        return owners_[slot_of(key)];
    }
    [[nodiscard]] Node const& find(std::string_view key) const noexcept { return nodes_[find_index(key)]; }

    [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }
    /// Precondition: index < size().
    [[nodiscard]] Node const& node(std::size_t index) const noexcept { return nodes_[index]; }
    /// For each slot the index of its node.
    [[nodiscard]] std::span<std::uint16_t const> owners() const noexcept { return owners_; }
    /// How many slots each node has.
    [[nodiscard]] std::vector<std::size_t> counts() const {
        std::vector<std::size_t> counts(size(), 0);
        for (std::uint16_t const owner : owners_) ++counts[owner];
        return counts;
    }

    // Changes. Strong guarantee: after an exception the router is as it was. To see a plan without taking
    // it, ask a copy; to take it slot by slot, `join`, then `assign` each slot when its keys have moved.

    /// A new node that has no slot yet. @throws std::invalid_argument for a duplicate, std::length_error.
    void join(Node node) {
        if (std::ranges::find(nodes_, node) != nodes_.end())
            detail::refuse("slots", "duplicate node " + detail::node_name(node));
        check_count(size() + 1);
        nodes_.push_back(std::move(node));
    }
    /// Gives slots `first` to `last`, both included, to a node.
    /// @throws std::invalid_argument unless first <= last < 16,384, and for an unknown node.
    void assign(std::size_t first, std::size_t last, Node const& node) {
        if (first > last || last >= slot_count)
            detail::refuse("slots", "first <= last < 16384 does not hold for first = " +
                                        std::to_string(first) + ", last = " + std::to_string(last));
        std::fill(owners_.begin() + static_cast<std::ptrdiff_t>(first),
                  owners_.begin() + static_cast<std::ptrdiff_t>(last + 1),
                  static_cast<std::uint16_t>(require(node)));
    }
    /// Moves the least number of slots after which all nodes have the same number of them, give or take one.
    std::vector<move> rebalance() { return move_to(even_counts()); }

    /// A new node, and slots for it: rebalances. All moves go to it if the slots were even before.
    /// @throws as join.
    std::vector<move> add(Node node) {
        slots changed = *this;
        changed.join(std::move(node));
        auto moves = changed.rebalance();
        *this = std::move(changed);
        return moves;
    }
    /// Only the slots of the node that leaves move, each to the node that has the fewest by then. The nodes
    /// behind it move up by one index. @throws std::invalid_argument for an unknown node, or the last one.
    std::vector<move> remove(Node const& node) {
        std::size_t const gone = require(node);
        if (size() == 1) detail::refuse("slots", "node " + detail::node_name(node) + " is the last one");
        auto target = counts();
        std::size_t const slots_left = std::exchange(target[gone], slot_count + 1);  // never the fewest
        for (std::size_t i = 0; i < slots_left; ++i) ++*std::ranges::min_element(target);
        target[gone] = 0;
        slots changed = *this;
        auto moves = changed.move_to(target);
        changed.nodes_.erase(changed.nodes_.begin() + static_cast<std::ptrdiff_t>(gone));
        for (std::uint16_t& owner : changed.owners_)
            owner = static_cast<std::uint16_t>(owner - (owner > gone));
        *this = std::move(changed);
        return moves;
    }

  private:
    // Invariants: owners_.size() == slot_count; nodes_ is not empty, and each owner is an index into it.

    static void check_count(std::size_t nodes) {
        if (nodes > slot_count)
            throw std::length_error("cairn::slots: at most 16,384 nodes, not " + std::to_string(nodes));
    }
    [[nodiscard]] std::size_t require(Node const& node) const {
        auto const found = std::ranges::find(nodes_, node);
        if (found == nodes_.end()) detail::refuse("slots", "unknown node " + detail::node_name(node));
        return static_cast<std::size_t>(found - nodes_.begin());
    }

    /// Even numbers of slots; what does not divide stays with those that have most.
    [[nodiscard]] std::vector<std::size_t> even_counts() const {
        auto const count = counts();
        std::vector<std::size_t> order(size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
            return count[a] > count[b] || (count[a] == count[b] && a < b);
        });
        std::vector<std::size_t> even(size(), slot_count / size());
        for (std::size_t i = 0; i < slot_count % size(); ++i) ++even[order[i]];
        return even;
    }

    /// Nodes that have more slots than their target give the highest ones away; the others fill up in order.
    std::vector<move> move_to(std::vector<std::size_t> const& target) {
        auto count = counts();
        auto owners = owners_;
        constexpr std::uint16_t nobody = 0xffff;
        for (std::size_t slot = slot_count; slot-- > 0;)
            if (std::uint16_t& owner = owners[slot]; count[owner] > target[owner]) {
                --count[owner];
                owner = nobody;
            }
        std::vector<move> moves;
        std::size_t to = 0;
        for (std::size_t slot = 0; slot < slot_count; ++slot) {
            if (owners[slot] != nobody) continue;
            while (count[to] >= target[to]) ++to;
            owners[slot] = static_cast<std::uint16_t>(to);
            ++count[to];
            Node const& giver = nodes_[owners_[slot]];
            if (!moves.empty() && moves.back().last + 1 == slot && moves.back().from == giver &&
                moves.back().to == nodes_[to])
                moves.back().last = slot;
            else
                moves.push_back({slot, slot, giver, nodes_[to]});
        }
        owners_ = std::move(owners);
        return moves;
    }

    std::vector<std::uint16_t> owners_;
    std::vector<Node> nodes_;
};

}  // namespace cairn
