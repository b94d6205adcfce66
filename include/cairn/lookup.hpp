// SPDX-License-Identifier: MIT
// The lookup strategies of a ring: those that compute where to look, and with them all that search.
//
// The positions of a ring are hashes, so they are spread evenly, and the top bits of a key's hash say
// almost exactly where its successor stands. No search is needed: an index that uses this answers in
// constant time, for 4 points as for 16,384.
//
// `indexed` is a guide table. The circle is cut into equal buckets, a power of two of them, with 1.6 to
// 3.2 points in each. A bucket is one cell of 16 bytes, a quarter of a cache line:
//
//     hash  ┌── bucket k ──┬── next 15 bits: x ──┬── the rest ──┐
//
//     cell k   | b0 | b1 | b2 | b3 | b4 | b5 |  first  |    successor = first + (how many b < x)
//               six bounds: the same 15 bits    32 bits
//               of the bucket's own points
//
// The bounds lie beside the count of all points before the bucket, so a lookup is one load, one compare
// of eight lanes, one count of trailing ones. Two things can go wrong, and both are seen in the same
// compare: a bound EQUAL to x leaves open which of the two is first (1 lookup in 15,000), and a hash past
// the sixth bound may have more points of its bucket before it (3 in 1,000 at 2 points a bucket). Then
// a binary search among the bucket's exact positions decides. So the answer is always exact, and if all
// points share one bucket, because somebody chose the positions, the cost is that of `standard`, not more.
//
//   strategy       bytes a point   lookups that touch a second line   best for
//   -------------  --------------  ---------------------------------  ---------------------------------
//   indexed        5 to 10         0.3 % (at 2 points a bucket)       everything up to some 30,000 points
//   indexed_line   3.2 to 6.4      0.5 % or less                      rings larger than the L2 cache
//   adaptive       as its choice   as its choice                      sizes not known beforehand
//
// The known guide table (Chen, Asau 1974) holds only `first` and reads the positions next: two lines, one
// after the other. With the bounds in the cell the second wait is gone; on a Zen 3 core with 16,384 points
// that took latency from 14 ns to 11 ns, and 64-bit positions became as fast as 32-bit ones.
// When not to use it: for positions that are not hashes. Thread safety: as a container: any number of
// threads may read while none changes it.
//
//   std::vector<std::uint64_t> circle{10, 20, 1ULL << 63};   // sorted, duplicates allowed
//   cairn::indexed::index<std::uint64_t> const lookup{circle};
//   auto const exact = lookup.successor(20);                 // 1
//   auto const next = lookup.successor(21);                  // 2
//   auto const wrap = lookup.successor((1ULL << 63) + 1);    // 0
//   bool const good = exact == 1 && next == 2 && wrap == 0;
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "detail/assert.hpp"
#include "detail/ring_points.hpp"
#include "search.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cairn {

/// An index that a few points can be put into and taken out of, in place. `can_become(n)` says whether the
/// index of n points has the shape of this one; if not, build it anew. `insert` puts points[i] before what
/// stands at ranks[i], `erase` takes points[i] out, which stands at ranks[i]. Both are sorted, and the ranks
/// mean the index as it was. `insert` needs `reserve(n)` before, for the n points there will be.
template <class Index, class Position>
concept editable_index = successor_index<Index, Position> &&
                         requires(Index& index, Index const& as_is, std::size_t n,
                                  std::span<std::uint32_t const> ranks, std::span<Position const> points) {
                             { as_is.can_become(n) } noexcept -> std::same_as<bool>;
                             index.reserve(n);
                             { index.insert(ranks, points) } noexcept;
                             { index.erase(ranks, points) } noexcept;
                         };

namespace detail {

/// One bucket of the circle: 16 bits of each of its points (the last bit of the bucket's number and the 15
/// below it) in ascending order, filled up with the greatest value, and the count of points before it. All
/// of a bucket share the first of the 16 bits, the sign, so signed order is the order of the hashes.
template <std::size_t Bounds>
struct alignas(2 * Bounds + 4) guide_cell {
    static constexpr std::size_t bounds = Bounds;
    std::int16_t bound[Bounds];
    std::uint32_t first;
};

/// What a compare of a cell with x tells: how many bounds are less, and whether that is the whole truth.
struct guide_match {
    std::uint32_t less;  // bit i: bound i < x; the bits past the bounds mean nothing
    bool open;           // a bound equals x, or x is past the last bound
    [[nodiscard]] std::uint32_t count() const noexcept {
        return static_cast<std::uint32_t>(std::countr_one(less));
    }
};

#if defined(__SSE2__)
[[nodiscard]] inline guide_match match(guide_cell<6> const& cell, std::int16_t x) noexcept {
    __m128i const lane = _mm_load_si128(reinterpret_cast<__m128i const*>(&cell));
    __m128i const all = _mm_set1_epi16(x);
    // Both compares in one mask: bits 0 to 7 say less, bits 8 to 15 say equal, and one test asks for
    // bit 5 (past the last bound) and bits 8 to 13 (equal).
    __m128i const both = _mm_packs_epi16(_mm_cmplt_epi16(lane, all), _mm_cmpeq_epi16(lane, all));
    auto const mask = static_cast<std::uint32_t>(_mm_movemask_epi8(both));
    return {mask, (mask & 0x3f20U) != 0};
}

[[nodiscard]] inline guide_match match(guide_cell<30> const& cell, std::int16_t x) noexcept {
    auto const* const lane = reinterpret_cast<__m128i const*>(&cell);
    __m128i const a = _mm_load_si128(lane), b = _mm_load_si128(lane + 1);
    __m128i const c = _mm_load_si128(lane + 2), d = _mm_load_si128(lane + 3);
    __m128i const all = _mm_set1_epi16(x);
    auto const low = _mm_movemask_epi8(_mm_packs_epi16(_mm_cmplt_epi16(a, all), _mm_cmplt_epi16(b, all)));
    auto const high = _mm_movemask_epi8(_mm_packs_epi16(_mm_cmplt_epi16(c, all), _mm_cmplt_epi16(d, all)));
    auto const less = static_cast<std::uint32_t>(low) | static_cast<std::uint32_t>(high) << 16;
    // `first` takes part in the compare, in the last two lanes. An equality there opens a question that
    // was none; the slow path answers it all the same.
    __m128i const equal = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi16(a, all), _mm_cmpeq_epi16(b, all)),
                                       _mm_or_si128(_mm_cmpeq_epi16(c, all), _mm_cmpeq_epi16(d, all)));
    return {less, (static_cast<std::uint32_t>(_mm_movemask_epi8(equal)) | (less >> 29 & 1U)) != 0};
}
#else
template <std::size_t Bounds>
[[nodiscard]] inline guide_match match(guide_cell<Bounds> const& cell, std::int16_t x) noexcept {
    std::uint32_t less = 0;
    std::uint32_t equal = 0;
    for (std::size_t i = 0; i < Bounds; ++i) {
        less |= static_cast<std::uint32_t>(cell.bound[i] < x) << i;
        equal |= static_cast<std::uint32_t>(cell.bound[i] == x);
    }
    return {less, (equal | (less >> (Bounds - 1) & 1U)) != 0};
}
#endif

/// The guide table. Invariants: there are 2^bits cells and one more that closes the last; cell k covers
/// the hashes whose top `bits` bits are k; cells_[k].first is the index of its first point, or of the next
/// one clockwise.
template <ring_position Position, std::size_t Bounds, std::size_t PointsPerCell10>
class guide_index {
    using cell = guide_cell<Bounds>;
    static_assert(sizeof(cell) == 2 * Bounds + 4);

  public:
    guide_index() = default;
    explicit guide_index(std::vector<Position> sorted) : positions_(std::move(sorted)) {
        std::size_t const n = positions_.size();
        std::size_t const buckets = buckets_for(n);
        shift_ = 64 - static_cast<unsigned>(std::countr_zero(buckets)) - 15;
        cell empty{};
        std::fill_n(empty.bound, Bounds, std::numeric_limits<std::int16_t>::max());
        cells_.assign(buckets + 1, empty);
        // Each point is written to its bucket, and its rank + 1 to where the next bucket begins. No branch
        // depends on how many points a bucket has: this is 3 times faster than filling cell by cell.
        cell* const cells = cells_.data();
        std::uint64_t bucket = buckets;  // none yet
        std::size_t slot = 0;            // how many points of this bucket came before
        for (std::size_t rank = 0; rank < n; ++rank) {
            std::uint64_t const bits = bits_of(positions_.data()[rank]);
            slot = (slot + 1) & (std::size_t{0} - (bits >> 15 == bucket));  // as a choice, g++ branches
            bucket = bits >> 15;
            if (slot < Bounds) [[likely]]
                cells[bucket].bound[slot] = static_cast<std::int16_t>(bits);
            cells[bucket + 1].first = static_cast<std::uint32_t>(rank + 1);
        }
        std::uint32_t begin = 0;
        for (std::size_t k = 1; k < buckets; ++k)  // an empty bucket begins where the last one ended
            begin = cells[k].first = std::max(cells[k].first, begin);
        // Past the last point the circle begins again, and no lookup should have to ask for that: the
        // buckets behind the last point begin with point 0, and in the last point's own bucket its bound
        // fills the free places, so that a hash past it is past the sixth bound and takes the slow path.
        // (That is why a table has 512 bytes at least: in a few buckets it would happen too often.)
        for (std::size_t k = bucket + 1; k <= buckets; ++k) cells[k].first = 0;
        if (n > 0)
            for (++slot; slot < Bounds; ++slot) cells[bucket].bound[slot] = cells[bucket].bound[slot - 1];
    }

    [[nodiscard]] std::size_t successor(Position h) const noexcept {
        CAIRN_ASSERT(positions_.size() > 0);
        std::uint64_t const bits = bits_of(h);
        cell const* const here = cells_.data() + (bits >> 15);
        guide_match const found = match(*here, static_cast<std::int16_t>(bits));
        if (found.open) [[unlikely]]
            return exact_successor(h, here);
        return here->first + found.count();
    }
    [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
    [[nodiscard]] std::size_t hot_bytes() const noexcept { return cells_.size() * sizeof(cell); }

    // ---- Changes in place (editable_index): the cells behind a changed point count one more or one less,
    // and only its own cell is filled again. 160 of 16,000 points cost 10 µs, a whole new index 50.

    [[nodiscard]] bool can_become(std::size_t n) const noexcept {
        return n > 0 && positions_.size() > 0 && cells_.size() == buckets_for(n) + 1;
    }
    void reserve(std::size_t n) { reserve_an_eighth(positions_.edit(), n); }

    void insert(std::span<std::uint32_t const> ranks, std::span<Position const> added) noexcept {
        std::size_t const old_last = last_bucket();
        auto const old_size = static_cast<std::uint32_t>(positions_.size());
        insert_at(positions_.edit(), ranks, [&](std::size_t i) { return added[i]; });
        // The buckets behind the last point began with point 0; those that are no longer behind it begin
        // where the points ended.
        for (std::size_t k = old_last + 1; k <= last_bucket(); ++k) cells_[k].first = old_size;
        renumber(added, last_bucket(), 1);
        fill(old_last);
        fill(last_bucket());
        for (Position const position : added) fill(bucket_of(position));
    }
    void erase(std::span<std::uint32_t const> ranks, std::span<Position const> erased) noexcept {
        std::size_t const old_last = last_bucket();
        erase_at(positions_.edit(), ranks);
        renumber(erased, old_last, std::uint32_t{0} - 1);
        for (std::size_t k = last_bucket() + 1; k <= old_last; ++k) cells_[k].first = 0;
        fill(old_last);
        fill(last_bucket());
        for (Position const position : erased) fill(bucket_of(position));
    }

  private:
    /// By binary search among the points of one bucket. The bucket of the last point is followed by a 0.
    /// Kept out of the loop that asks (a sixth of the whole lookup), and pure, or clang reads all members
    /// again after each key.
    [[nodiscard, gnu::noinline, gnu::cold, gnu::pure]] std::size_t exact_successor(
        Position h, cell const* here) const noexcept {
        std::size_t const end = here[1].first == 0 ? positions_.size() : here[1].first;
        return positions_.wrap(positions_.rank_between(h, here[0].first, end));
    }

    [[nodiscard]] static std::size_t buckets_for(std::size_t n) noexcept {
        return std::bit_floor(std::max(n * 10 / PointsPerCell10, 512 / sizeof(cell)));
    }
    [[nodiscard]] std::size_t bucket_of(Position h) const noexcept { return bits_of(h) >> 15; }
    [[nodiscard]] std::size_t last_bucket() const noexcept {
        return bucket_of(positions_.data()[positions_.size() - 1]);
    }

    /// Moves what follows each of the changed points by `step`, up to the bucket `last`.
    void renumber(std::span<Position const> changed, std::size_t last, std::uint32_t step) noexcept {
        std::uint32_t moved = 0;
        std::size_t k = 0;
        auto const move_until = [&](std::size_t end) {
            for (; k < end; ++k) cells_[k].first += moved;
        };
        for (Position const position : changed) {
            move_until(bucket_of(position) + 1);
            moved += step;
        }
        move_until(last + 1);
    }

    /// Writes the bounds of bucket k from the positions, as the constructor does.
    void fill(std::size_t k) noexcept {
        cell& filled = cells_[k];
        std::size_t const first = filled.first;
        std::int16_t bound = std::numeric_limits<std::int16_t>::max();
        for (std::size_t slot = 0; slot < Bounds; ++slot) {
            bool const has =
                first + slot < positions_.size() && bucket_of(positions_.data()[first + slot]) == k;
            if (has)
                bound = static_cast<std::int16_t>(bits_of(positions_.data()[first + slot]));
            else if (k != last_bucket())
                bound = std::numeric_limits<std::int16_t>::max();
            filled.bound[slot] = bound;
        }
    }

    /// The bucket's number and the 15 bits below it: all that a lookup looks at.
    [[nodiscard]] std::uint64_t bits_of(Position h) const noexcept {
        return std::uint64_t{h} << (64 - std::numeric_limits<Position>::digits) >> shift_;
    }

    detail::sorted_positions<Position> positions_;
    unsigned shift_ = 49;
    std::vector<cell> cells_;
};

}  // namespace detail

/// The guide table with 16-byte cells: O(1), one cache line a lookup, 5 to 10 bytes a point. The default
/// of `hash_ring`. Building costs O(n) from sorted positions.
struct indexed {
    static constexpr std::string_view name = "indexed";
    template <ring_position Position>
    using index = detail::guide_index<Position, 6, 16>;
};

/// The guide table with cells of one whole cache line, 30 bounds in each: 10 to 20 points a bucket. Half
/// the memory of `indexed` for twice the compares, which pays once the table has left the L2 cache: at
/// 262,144 points 28 ns of latency against 39 ns (Zen 3, 512 KiB L2). O(1).
struct indexed_line {
    static constexpr std::string_view name = "indexed_line";
    template <ring_position Position>
    using index = detail::guide_index<Position, 30, 100>;
};

/// Takes the strategy that measured best for the size it is given: `binary` up to 4 points, `indexed_line`
/// beyond 65,536, `indexed` between. The choice is made when the index is built; a lookup pays one
/// predicted branch for it.
struct adaptive {
    static constexpr std::string_view name = "adaptive";
    static constexpr std::size_t few = 4;
    static constexpr std::size_t many = 65'536;

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted) {
            if (std::size_t const n = sorted.size(); n <= few)
                choice_.template emplace<small>(std::move(sorted));
            else if (n <= many)
                choice_.template emplace<medium>(std::move(sorted));
            else
                choice_.template emplace<large>(std::move(sorted));
        }

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            if (auto const* const usual = std::get_if<medium>(&choice_)) return usual->successor(h);
            if (auto const* const few_points = std::get_if<small>(&choice_)) return few_points->successor(h);
            return std::get_if<large>(&choice_)->successor(h);
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept {
            return std::visit([](auto const& chosen) { return chosen.positions(); }, choice_);
        }
        [[nodiscard]] std::size_t hot_bytes() const noexcept {
            return std::visit([](auto const& chosen) { return chosen.hot_bytes(); }, choice_);
        }

        // ---- Changes in place (editable_index), unless another strategy is the right one for n points.
        [[nodiscard]] bool can_become(std::size_t n) const noexcept {
            if (auto const* const usual = std::get_if<medium>(&choice_))
                return n > few && n <= many && usual->can_become(n);
            auto const* const line = std::get_if<large>(&choice_);
            return line != nullptr && n > many && line->can_become(n);
        }
        void reserve(std::size_t n) {
            if_editable([&](auto& chosen) { chosen.reserve(n); });
        }
        void insert(std::span<std::uint32_t const> ranks, std::span<Position const> points) noexcept {
            if_editable([&](auto& chosen) { chosen.insert(ranks, points); });
        }
        void erase(std::span<std::uint32_t const> ranks, std::span<Position const> points) noexcept {
            if_editable([&](auto& chosen) { chosen.erase(ranks, points); });
        }

      private:
        using small = binary::index<Position>;
        using medium = indexed::index<Position>;
        using large = indexed_line::index<Position>;

        template <class Edit>
        void if_editable(Edit edit) {
            if (auto* const usual = std::get_if<medium>(&choice_)) edit(*usual);
            if (auto* const line = std::get_if<large>(&choice_)) edit(*line);
        }

        std::variant<small, medium, large> choice_;
    };
};

}  // namespace cairn
