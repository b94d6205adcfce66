// SPDX-License-Identifier: MIT
// Consistent hashing with bounded loads: a ring on which no node gets more than its share and a bit.
//
// A ring spreads keys as unevenly as its arcs: of 100 nodes with 100 points each, the fullest has 1.42
// times the mean. More points help, but slowly. Here each node has a capacity: (1 + epsilon) times its
// share of the keys that are placed. A key walks clockwise to the first node that has room:
//
//     key ──▶ A 11/11 full ──▶ B 7/11 has room: the key goes to B, which now holds 8
//
// Only a few keys walk on, and a node's arrival or departure still moves few of them (all keys placed again
// in the same order, by a capacity that grows with them):
//
//   100 nodes x 100 points, 10,000 keys    fullest / mean    nodes looked at    moved when one node leaves
//   -----------------------------------    --------------    ---------------    --------------------------
//   plain ring                             1.42              1                  1.0 %: all that must
//   epsilon = 0.25                         1.25              1.05               3 %
//   epsilon = 0.1                          1.10              1.14               8 %
//
// The capacity of a node of weight w, when m keys are placed and one more comes, W the sum of all weights:
//
//     capacity = ceil((1 + epsilon) * (m + 1) * w / W)
//
// Capacities sum to more than m, so some node always has room. All of it is computed in integers: epsilon
// is rounded to a multiple of 2^-20 once, products are 128 bits wide, nothing is divided or rounded. The same
// calls in the same order give the same answers on every machine.
//
//   assign, candidate      one walk on the ring; nodes looked at: O(1 / epsilon^2) expected, see the table
//   release, load, total   O(1)
//   replace                O(nodes * log nodes)
//   memory                 16 bytes a node besides the ring
//
// What is bounded, to the word: a key is never placed on a node that would then hold more than its capacity.
// While keys are only placed, so is every load at every moment. After release() there are fewer keys and
// smaller capacities, and after replace() other shares; nodes above them are not emptied (moving a key
// is the caller's business), they only get no more keys: compare load(i) with capacity(i).
//
// When not to use it: the answer depends on what was placed before, so two processes with counters of their
// own route differently, and a key must be remembered with its node to find it again. It suits a balancer
// that places connections or jobs; for a cache that many clients share, give the ring more points
// (placement.hpp). Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2016;
// SODA 2018). Thread safety: as a container: const members may run concurrently, others need exclusion.
//
//   cairn::hash_ring<std::string> const ring{"cache-a", "cache-b", "cache-c"};
//   cairn::bounded_loads balancer(ring, 0.25);            // no node above 1.25 times its share
//   std::size_t const place = balancer.assign("job:42");  // counted on members()[place]
//   std::string const& owner = balancer.ring().node(place);
//   std::cout << owner << " holds " << balancer.load(place) << " of " << balancer.total() << '\n';
//   balancer.release(place);                              // the job is done
#pragma once

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "detail/assert.hpp"
#include "hash_ring.hpp"

namespace cairn {

/// @tparam Ring  a hash_ring. Nodes are numbered as in its members().
template <class Ring = hash_ring<>>
class bounded_loads {
    // The last step of replace() must not fail.
    static_assert(std::is_nothrow_move_assignable_v<Ring>);

  public:
    using ring_type = Ring;
    using node_type = typename Ring::node_type;

    /// No keys are placed. `epsilon` is rounded to the nearest multiple of 2^-20, but not to zero; from some
    /// size on (one less than the number of equal nodes) it bounds nothing.
    /// @throws std::invalid_argument for an empty ring, for an epsilon that is not positive or not finite, or
    /// if the weights sum to 2^44 or more.
    bounded_loads(Ring ring, double epsilon)
        : factor_(checked_factor(epsilon)),
          ring_(std::move(ring)),
          shares_(shares_of(ring_, factor_)),
          loads_(ring_.size(), 0) {}

    // ---- Placing keys. ----

    /// Places one key: counts it on the first node clockwise from it that is below its capacity, and returns
    /// that node's place in ring().members(). Keep it: release() wants it. Equal keys are counted each time.
    template <class Key>
    [[nodiscard]] std::size_t assign(Key const& key) noexcept {
        std::size_t const node = candidate(key);
        ++loads_[node];
        ++total_;
        return node;
    }

    /// Where assign(key) would place it now. Counts nothing.
    template <class Key>
    [[nodiscard]] std::size_t candidate(Key const& key) const noexcept {
        std::size_t found = ring_.size();
        ring_.walk(key, [&](std::size_t node) noexcept {
            if (!has_room(node, loads_[node])) return false;
            found = node;
            return true;
        });
        CAIRN_ASSERT(found < ring_.size());  // the capacities sum to more than total_
        return found;
    }

    /// Takes one key off a node. @throws std::out_of_range for a place that no node has,
    /// std::invalid_argument for a node that holds no key; nothing is changed then.
    void release(std::size_t node) {
        if (load(node) == 0)
            throw std::invalid_argument("cairn::bounded_loads: node " + std::to_string(node) +
                                        " holds no key to release");
        --loads_[node];
        --total_;
    }

    // ---- Membership. ----

    /// Goes on with another ring. Nodes that both rings have, by identity (the hash of the name), keep their
    /// keys, whatever their weight is now. Returns how many keys were on nodes that left: they are counted no
    /// more, and whoever placed them must assign them again. Places change with members(): see index_of.
    /// Strong guarantee. @throws std::invalid_argument as the constructor, for the ring.
    std::size_t replace(Ring next) {
        share_table shares = shares_of(next, factor_);
        std::vector<std::size_t> loads(next.size(), 0);
        std::vector<std::size_t> const before = by_identity(ring_);
        std::size_t kept = 0;
        for (std::size_t i = 0; i < next.size(); ++i) {
            auto const identity_of = [&](std::size_t node) { return ring_.identity(node); };
            auto const same = std::ranges::lower_bound(before, next.identity(i), {}, identity_of);
            if (same == before.end() || ring_.identity(*same) != next.identity(i)) continue;
            loads[i] = loads_[*same];
            kept += loads[i];
        }
        ring_ = std::move(next);
        shares_ = std::move(shares);
        loads_ = std::move(loads);
        return std::exchange(total_, kept) - kept;
    }

    // ---- What there is. ----

    [[nodiscard]] Ring const& ring() const noexcept { return ring_; }

    /// The place of a node in ring().members(), if it is there. O(nodes).
    [[nodiscard]] std::optional<std::size_t> index_of(node_type const& node) const noexcept {
        std::uint64_t const identity = ring_.placement().identity(node);
        for (std::size_t i = 0; i < ring_.size(); ++i)
            if (ring_.identity(i) == identity) return i;
        return std::nullopt;
    }

    /// How many keys a node holds. @throws std::out_of_range for a place that no node has.
    [[nodiscard]] std::size_t load(std::size_t node) const {
        check(node);
        return loads_[node];
    }

    /// How many keys a node may hold once the next key is placed, by the formula at the head of this file,
    /// but not more than all of them, total() + 1. O(64). @throws std::out_of_range for a place that no node
    /// has.
    [[nodiscard]] std::size_t capacity(std::size_t node) const {
        check(node);
        std::size_t low = 0;
        for (std::size_t high = total_ + 1; low < high;) {  // the least load without room
            std::size_t const middle = low + (high - low) / 2;
            if (has_room(node, middle))
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }

    /// How many keys are placed: the sum of all loads.
    [[nodiscard]] std::size_t total() const noexcept { return total_; }

    /// The epsilon that is used: a multiple of 2^-20.
    [[nodiscard]] double epsilon() const noexcept {
        return std::ldexp(static_cast<double>(factor_ - one), -20);
    }

  private:
    // Invariants: the ring is not empty; loads_ and shares_.rates run parallel to its members; total_ is the
    // sum of loads_; factor_ is (1 + epsilon) * 2^20.
    //
    // A load is below ceil(x) exactly if it is below x, since it is an integer. So with
    //     rate = (1 + epsilon) * 2^20 * w   and   unit = 2^20 * W   a node has room if and only if
    //     load * unit < (m + 1) * rate
    // which needs no division. A rate above unit would allow more keys than there are; it is cut to unit,
    // which changes no answer and keeps both products below 2^128.

    static constexpr std::uint64_t one = std::uint64_t{1} << 20;
    static constexpr std::uint64_t max_weights = std::uint64_t{1} << 44;

    struct share_table {
        std::uint64_t unit = 0;
        std::vector<std::uint64_t> rates;
    };
    struct product {
        std::uint64_t high;
        std::uint64_t low;
        friend constexpr auto operator<=>(product const&, product const&) noexcept = default;
    };

    /// a * b in 128 bits, from halves as in long multiplication.
    static constexpr product multiply(std::uint64_t a, std::uint64_t b) noexcept {
        constexpr std::uint64_t half = 0xffff'ffff;
        std::uint64_t const low = (a & half) * (b & half);
        std::uint64_t const cross = (a >> 32) * (b & half) + (low >> 32);
        std::uint64_t const middle = (a & half) * (b >> 32) + (cross & half);
        return {(a >> 32) * (b >> 32) + (cross >> 32) + (middle >> 32), middle << 32 | (low & half)};
    }

    [[nodiscard]] bool has_room(std::size_t node, std::size_t load) const noexcept {
        return multiply(load, shares_.unit) < multiply(std::uint64_t{total_} + 1, shares_.rates[node]);
    }

    void check(std::size_t node) const {
        if (node >= ring_.size())
            throw std::out_of_range("cairn::bounded_loads: there are " + std::to_string(ring_.size()) +
                                    " nodes, none at place " + std::to_string(node));
    }

    static std::uint64_t checked_factor(double epsilon) {
        if (!(epsilon > 0) || !std::isfinite(epsilon)) {
            char value[32];
            std::snprintf(value, sizeof value, "%g", epsilon);  // std::to_string would write 1e-9 as 0
            throw std::invalid_argument("cairn::bounded_loads: epsilon must be positive and finite, not " +
                                        std::string(value));
        }
        double const scaled = std::floor(std::ldexp(epsilon, 20) + 0.5);
        if (scaled >= std::ldexp(1.0, 63)) return std::uint64_t{1} << 63;  // above any W / w: no bound
        return one + std::max(static_cast<std::uint64_t>(scaled), std::uint64_t{1});
    }

    static share_table shares_of(Ring const& ring, std::uint64_t factor) {
        if (ring.empty())
            throw std::invalid_argument("cairn::bounded_loads: an empty ring has no room for keys");
        std::uint64_t weights = 0;
        for (auto const& member : ring.members()) {
            auto const weight = static_cast<std::uint64_t>(member.weight);
            if (weight >= max_weights - weights)
                throw std::invalid_argument(
                    "cairn::bounded_loads: the weights must sum to less than 2^44, not " +
                    std::to_string(weights) + " + " + std::to_string(weight) + " and more");
            weights += weight;
        }
        share_table shares{one * weights, {}};
        shares.rates.reserve(ring.size());
        for (auto const& member : ring.members()) {
            auto const weight = static_cast<std::uint64_t>(member.weight);
            bool const unbounded = factor >= shares.unit / weight + (shares.unit % weight != 0);
            shares.rates.push_back(unbounded ? shares.unit : factor * weight);
        }
        return shares;
    }

    static std::vector<std::size_t> by_identity(Ring const& ring) {
        std::vector<std::size_t> order(ring.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::ranges::sort(order, {}, [&](std::size_t node) { return ring.identity(node); });
        return order;
    }

    std::uint64_t factor_;
    Ring ring_;
    share_table shares_;
    std::vector<std::size_t> loads_;
    std::size_t total_ = 0;
};

}  // namespace cairn
