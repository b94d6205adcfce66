// SPDX-License-Identifier: MIT
// The points of a ring as two parallel arrays: how they are sorted from nothing, and how one node's
// points are put in and taken out. Shared by hash_ring.hpp, the indexes and their measurements.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
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

/// A position and its owner side by side, as they travel while they are sorted.
template <class Position>
struct owned_point {
    Position position;
    std::uint16_t owner;
};

/// The same order as sort_points, by std::sort.
template <class Position, class IdentityOf>
void sort_points_by_comparison(point_list<Position>& points, IdentityOf identity_of) {
    std::size_t const n = points.positions.size();
    std::vector<owned_point<Position>> sorted(n);
    for (std::size_t i = 0; i < n; ++i) sorted[i] = {points.positions[i], points.owners[i]};
    std::sort(sorted.begin(), sorted.end(), [&](auto const& a, auto const& b) {
        return a.position < b.position ||
               (a.position == b.position && identity_of(a.owner) < identity_of(b.owner));
    });
    for (std::size_t i = 0; i < n; ++i) {
        points.positions[i] = sorted[i].position;
        points.owners[i] = sorted[i].owner;
    }
}

/// Sorts points by position, and equal positions by the identity of the owner. Positions are hashes, so
/// log2(n) + 5 of their bits tell all but one pair in 64 apart: two passes distribute by these bits, the
/// low digit first, each keeping the order of the one before, and one pass inserts the rest. No branch
/// depends on the points: at 16,384 of them this takes 80 µs, one distribution to n buckets with its
/// mispredicted insertions 145, std::sort 880 (Zen 3). O(n) for hashes. If somebody chose the positions so
/// that they share these bits, std::sort does it all: O(n log n), never quadratic. After an
/// exception the points are all there, in some order.
template <class Position, class IdentityOf>
void sort_points(point_list<Position>& points, IdentityOf identity_of) {
    constexpr int width = std::numeric_limits<Position>::digits;
    std::size_t const n = points.positions.size();
    int const bits = std::min((static_cast<int>(std::bit_width(n)) + 5) / 2, width / 2);  // of one digit
    std::size_t const digits = std::size_t{1} << bits;
    int const high = width - bits;
    int const low = width - 2 * bits;
    std::vector<std::uint32_t> next(2 * digits, 0);  // first how many have the digit, then where they begin
    std::uint32_t* const next_high = next.data();
    std::uint32_t* const next_low = next.data() + digits;
    for (Position const position : points.positions) {
        ++next_high[position >> high];
        ++next_low[position >> low & (digits - 1)];
    }
    std::exclusive_scan(next_high, next_high + digits, next_high, 0U);
    std::exclusive_scan(next_low, next_low + digits, next_low, 0U);
    auto const by_low = std::make_unique_for_overwrite<owned_point<Position>[]>(n);
    Position* const position = points.positions.data();
    std::uint16_t* const owner = points.owners.data();
    for (std::size_t i = 0; i < n; ++i)
        by_low[next_low[position[i] >> low & (digits - 1)]++] = {position[i], owner[i]};
    for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t const at = next_high[by_low[i].position >> high]++;
        position[at] = by_low[i].position;
        owner[at] = by_low[i].owner;
    }

    std::size_t moves = 0;
    for (std::size_t i = 1; i < n; ++i) {
        if (position[i] > position[i - 1]) [[likely]]
            continue;
        Position const here = position[i];
        std::uint16_t const here_owner = owner[i];
        std::size_t at = i;
        for (; at > 0; --at) {
            if (position[at - 1] < here ||
                (position[at - 1] == here && identity_of(owner[at - 1]) <= identity_of(here_owner)))
                break;
            position[at] = position[at - 1];
            owner[at] = owner[at - 1];
        }
        position[at] = here;
        owner[at] = here_owner;
        moves += i - at;
        if (moves > 4 * n) return sort_points_by_comparison(points, identity_of);
    }
}

/// Puts value(i) before what stands at places[i], for all i. The places are ascending, one may come more
/// than once, and all mean the array as it is now. Each element moves once. Precondition: the capacity.
template <class T, class Value>
void insert_at(std::vector<T>& array, std::span<std::uint32_t const> places, Value value) noexcept {
    std::size_t end = array.size();
    array.resize(end + places.size());
    T* const data = array.data();
    for (std::size_t i = places.size(); i-- > 0; end = places[i]) {
        std::copy_backward(data + places[i], data + end, data + end + i + 1);
        data[places[i] + i] = value(i);
    }
}

/// Takes out what stands at `places`, which ascend and differ. Each element moves once.
template <class T>
void erase_at(std::vector<T>& array, std::span<std::uint32_t const> places) noexcept {
    T* const data = array.data();
    for (std::size_t i = 0; i < places.size(); ++i) {
        std::size_t const end = i + 1 < places.size() ? places[i + 1] : array.size();
        std::copy(data + places[i] + 1, data + end, data + places[i] - i);
    }
    array.resize(array.size() - places.size());
}

/// Room for `n` elements. Grows by an eighth at least, so that nodes added one by one are not copied
/// each time, and no ring is twice as large as it must be.
template <class T>
void reserve_an_eighth(std::vector<T>& array, std::size_t n) {
    if (n > array.capacity()) array.reserve(std::max(n, array.size() + array.size() / 8));
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
