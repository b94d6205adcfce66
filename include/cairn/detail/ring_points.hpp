// SPDX-License-Identifier: MIT
// The points of a ring as two parallel arrays, and the three ways in which they come about: sorted from
// nothing, merged, thinned out. Shared by hash_ring.hpp and its measurements.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace cairn::detail {

/// owners[i] is the number of the node that the point at positions[i] belongs to.
template <class Position>
struct point_list {
    std::vector<Position> positions;
    std::vector<std::uint16_t> owners;
};

/// The same order as sort_points, by std::sort.
template <class Position, class IdentityOf>
[[nodiscard]] point_list<Position> sort_points_by_comparison(point_list<Position> const& points,
                                                             IdentityOf identity_of) {
    struct point {
        Position position;
        std::uint16_t owner;
    };
    std::size_t const n = points.positions.size();
    std::vector<point> sorted(n);
    for (std::size_t i = 0; i < n; ++i) sorted[i] = {points.positions[i], points.owners[i]};
    std::sort(sorted.begin(), sorted.end(), [&](point const& a, point const& b) {
        return a.position < b.position ||
               (a.position == b.position && identity_of(a.owner) < identity_of(b.owner));
    });
    point_list<Position> list{std::vector<Position>(n), std::vector<std::uint16_t>(n)};
    for (std::size_t i = 0; i < n; ++i) {
        list.positions[i] = sorted[i].position;
        list.owners[i] = sorted[i].owner;
    }
    return list;
}

/// Sorts points by position, and equal positions by the identity of the owner. Positions are hashes, so
/// their top bits alone bring each point within a place or two of its rank: one pass counts, one
/// distributes to buckets of one half to one point on average, one inserts. O(n) for hashes. If somebody
/// has filled a bucket on purpose, std::sort does it all: O(n log n), never quadratic.
template <class Position, class IdentityOf>
[[nodiscard]] point_list<Position> sort_points(point_list<Position> const& points, IdentityOf identity_of) {
    std::size_t const n = points.positions.size();
    std::size_t const buckets = std::bit_ceil(std::max<std::size_t>(n, 2));
    int const shift = std::numeric_limits<Position>::digits - std::countr_zero(buckets);
    std::vector<std::uint32_t> next(buckets, 0);  // first the size of each bucket, then where it begins
    for (Position const position : points.positions) ++next[position >> shift];
    std::uint32_t fullest = 0;
    for (std::uint32_t begin = 0; std::uint32_t& bucket : next) {
        fullest = std::max(fullest, bucket);
        bucket = std::exchange(begin, begin + bucket);
    }
    constexpr std::uint32_t many = 32;  // hashes never come near it: 2^28 of them reach 14
    if (fullest >= many) return sort_points_by_comparison(points, identity_of);

    point_list<Position> sorted{std::vector<Position>(n), std::vector<std::uint16_t>(n)};
    for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t const at = next[points.positions[i] >> shift]++;
        sorted.positions[at] = points.positions[i];
        sorted.owners[at] = points.owners[i];
    }
    for (std::size_t i = 1; i < n; ++i) {
        Position const position = sorted.positions[i];
        if (position > sorted.positions[i - 1]) continue;  // 5 of 6 points
        std::uint16_t const owner = sorted.owners[i];
        std::size_t at = i;
        for (; at > 0; --at) {
            Position const left = sorted.positions[at - 1];
            std::uint16_t const left_owner = sorted.owners[at - 1];
            if (left < position || (left == position && identity_of(left_owner) <= identity_of(owner))) break;
            sorted.positions[at] = left;
            sorted.owners[at] = left_owner;
        }
        sorted.positions[at] = position;
        sorted.owners[at] = owner;
    }
    return sorted;
}

/// Two sorted lists as one. `added` is the short one: what lies between two of its points is copied whole.
template <class Position, class IdentityOf>
[[nodiscard]] point_list<Position> merge(std::span<Position const> positions,
                                         std::span<std::uint16_t const> owners,
                                         point_list<Position> const& added, IdentityOf identity_of) {
    point_list<Position> merged;
    merged.positions.reserve(positions.size() + added.positions.size());
    merged.owners.reserve(positions.size() + added.positions.size());
    std::size_t copied = 0;
    auto const copy_until = [&](std::size_t end) {
        auto const from = static_cast<std::ptrdiff_t>(copied);
        auto const to = static_cast<std::ptrdiff_t>(end);
        merged.positions.insert(merged.positions.end(), positions.begin() + from, positions.begin() + to);
        merged.owners.insert(merged.owners.end(), owners.begin() + from, owners.begin() + to);
        copied = end;
    };
    for (std::size_t i = 0; i < added.positions.size(); ++i) {
        Position const here = added.positions[i];
        auto end = static_cast<std::size_t>(
            std::lower_bound(positions.begin() + static_cast<std::ptrdiff_t>(copied), positions.end(), here) -
            positions.begin());
        while (end < positions.size() && positions[end] == here &&
               identity_of(owners[end]) < identity_of(added.owners[i]))
            ++end;
        copy_until(end);
        merged.positions.push_back(here);
        merged.owners.push_back(added.owners[i]);
    }
    copy_until(positions.size());
    return merged;
}

/// The points that `gone` does not own. The numbers of the nodes behind it go down by `renumber` (1 or 0).
template <class Position>
[[nodiscard]] point_list<Position> without(std::span<Position const> positions,
                                           std::span<std::uint16_t const> owners, std::uint16_t gone,
                                           std::uint16_t renumber) {
    std::size_t const n = positions.size();
    point_list<Position> rest;
    rest.positions.reserve(n);
    rest.owners.resize(n);
    std::size_t kept = 0;
    std::size_t run = 0;  // the positions from here on are not copied yet; they go in whole runs
    auto const copy_until = [&](std::size_t end) {
        rest.positions.insert(rest.positions.end(), positions.begin() + static_cast<std::ptrdiff_t>(run),
                              positions.begin() + static_cast<std::ptrdiff_t>(end));
        run = end + 1;
    };
    for (std::size_t i = 0; i < n; ++i) {
        rest.owners[kept++] = static_cast<std::uint16_t>(owners[i] - (owners[i] > gone ? renumber : 0));
        if (owners[i] == gone) [[unlikely]] {
            copy_until(i);
            --kept;
        }
    }
    copy_until(n);
    rest.owners.resize(kept);
    return rest;
}

/// A set of node numbers that needs no allocation: 16 in a row, compared one by one, which is all that a
/// preference list takes; then one bit for each node.
class seen_nodes {
  public:
    /// True if `node` was not in the set. `nodes` is the number of nodes there are, the same in all calls.
    bool insert(std::uint16_t node, std::size_t nodes) noexcept {
        if (count_ < few) {
            if (std::find(first_, first_ + count_, node) != first_ + count_) return false;
            first_[count_++] = node;
            if (count_ == few) {
                std::fill_n(bits_, (nodes + 63) / 64, std::uint64_t{0});
                for (std::uint16_t const seen : first_) bits_[seen / 64] |= bit(seen);
            }
            return true;
        }
        bool const is_new = (bits_[node / 64] & bit(node)) == 0;
        bits_[node / 64] |= bit(node);
        return is_new;
    }

  private:
    static constexpr std::size_t few = 16;
    static constexpr std::uint64_t bit(std::uint16_t node) noexcept { return std::uint64_t{1} << node % 64; }
    std::size_t count_ = 0;
    std::uint16_t first_[few];
    std::uint64_t bits_[65'536 / 64];  // written only from the 16th node on
};

/// An arc's length as a fraction of the circle.
template <class Position>
[[nodiscard]] double fraction_of_circle(Position arc) noexcept {
    return std::ldexp(static_cast<double>(arc), -std::numeric_limits<Position>::digits);
}

}  // namespace cairn::detail
