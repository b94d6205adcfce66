// SPDX-License-Identifier: MIT
// How a sorted circle is searched by comparing: linear, binary, tree, Eytzinger, B-tree.
//
// A ring is a sorted array of positions on a circle of hashes. A key with hash h belongs to its
// SUCCESSOR: the first position >= h, and past the last one it wraps to the first.
//
//        0 ──────●────────●──────────────●───● max        successor(h) = 1
//               p[0]     p[1]           p[2] p[3]         successor(past p[3]) = 0
//                   ^ h
//
// All strategies give this one answer. They differ in what a CPU has to wait for:
//
//   strategy     a lookup costs                                    beats
//   -----------  ------------------------------------------------  ---------------------------------
//   linear       n/2 compares, one misprediction (the exit)        standard (g++), up to 50 points
//   linear_simd  n compares, four at a time, no branch             binary, from 16 to 50 points
//   standard     log2 n compares, half of them mispredicted (g++)  nothing; it is what people write
//   binary       log2 n compares as conditional moves, no branch   all, up to 4 points; least memory
//   eytzinger    as binary, in breadth-first order, prefetched     binary, past the L2 cache
//   stree        log17 n blocks of 16, counted four at a time      binary, at 16 points and in latency
//   tree         log2 n pointers to follow (std::map)              nothing; the usual textbook ring
//
// Misprediction is the cost to look at: about 5 ns, as much as 15 compares. It explains why a linear
// scan beats std::lower_bound up to some 50 points (one misprediction against log2(n)/2), although
// both run in the first-level cache; and why it loses to a search that has no branch to mispredict.
// For anything larger than a few points `indexed` (lookup.hpp) beats everything in this file: it
// computes where to look and does not search. Measure with `cairn-compare lookup`.
//
// Sources: Eytzinger order and branch-free search: Khuong, Morin, "Array Layouts for Comparison-Based
// Searching" (2017). Static B-trees: the same, and Slotin, Algorithmica, "Static B-Trees" (2022).
// Thread safety: an index is immutable; any number of threads may search it.
//
//   std::vector<std::uint32_t> circle{10, 20, 30};           // sorted, duplicates allowed
//   cairn::binary::index<std::uint32_t> const search{circle};
//   auto const first = search.successor(10);                 // 0: a position owns its own hash
//   auto const next = search.successor(11);                  // 1
//   auto const wrap = search.successor(31);                  // 0: past the last one, to the first
//   bool const good = first == 0 && next == 1 && wrap == 0;
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/assert.hpp"

namespace cairn {

/// A place on the circle of hashes: 32 bits are half the memory, 64 bits (almost) never collide.
template <class P>
concept ring_position = std::same_as<P, std::uint32_t> || std::same_as<P, std::uint64_t>;

/// What every strategy's `index<Position>` can do. Built from positions sorted in ascending order
/// (duplicates allowed), which it owns; a copy is independent. `successor` needs at least one position.
template <class Index, class Position>
concept successor_index =
    std::regular<Position> && std::copyable<Index> && std::default_initializable<Index> &&
    std::constructible_from<Index, std::vector<Position>> && requires(Index const& index, Position h) {
        { index.successor(h) } noexcept -> std::same_as<std::size_t>;
        { index.positions() } noexcept -> std::same_as<std::span<Position const>>;
        { index.hot_bytes() } noexcept -> std::same_as<std::size_t>;
    };

/// A lookup strategy: a name to show, and an index for each width of position.
template <class Lookup, class Position>
concept lookup_strategy = requires {
    { Lookup::name } -> std::convertible_to<std::string_view>;
} && successor_index<typename Lookup::template index<Position>, Position>;

namespace detail {

/// What all indexes share: the sorted positions, and their answer to "which ones are they?".
template <ring_position Position>
class sorted_positions {
  public:
    sorted_positions() = default;
    explicit sorted_positions(std::vector<Position> sorted) : positions_(std::move(sorted)) {
        CAIRN_ASSERT(std::is_sorted(positions_.begin(), positions_.end()));
        CAIRN_ASSERT(positions_.size() < std::numeric_limits<std::uint32_t>::max());
    }
    [[nodiscard]] std::span<Position const> span() const noexcept { return positions_; }
    /// For an index that changes in place; it keeps them sorted.
    [[nodiscard]] std::vector<Position>& edit() noexcept { return positions_; }
    [[nodiscard]] Position const* data() const noexcept { return positions_.data(); }
    [[nodiscard]] std::size_t size() const noexcept { return positions_.size(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return positions_.size() * sizeof(Position); }

    /// Rank -> index: past the last position the circle begins again. The branch is taken once in n
    /// lookups, so it is predicted, and off the path that the next load waits for.
    [[nodiscard]] std::size_t wrap(std::size_t rank) const noexcept { return rank < size() ? rank : 0; }

    /// The exact rank in [from, to), for the few lookups that an approximation could not settle.
    [[nodiscard]] std::size_t rank_between(Position h, std::size_t from, std::size_t to) const noexcept {
        return static_cast<std::size_t>(std::lower_bound(data() + from, data() + to, h) - data());
    }

  private:
    std::vector<Position> positions_;
};

#if defined(__GNUC__)
using lanes = std::int32_t __attribute__((vector_size(16)));  // 4 lanes: SSE2, NEON and AltiVec have it
#else
struct lanes {
    std::int32_t lane[4];
};
#endif

/// The top 32 bits of a position with the sign flipped, so that signed order is hash order: SSE2 compares
/// signed 32-bit lanes only. Two positions with equal prefixes are told apart by the caller.
template <ring_position Position>
[[nodiscard]] constexpr std::int32_t prefix_of(Position h) noexcept {
    auto const top = static_cast<std::uint32_t>(h >> (std::numeric_limits<Position>::digits - 32));
    return static_cast<std::int32_t>(top ^ 0x8000'0000U);
}

constexpr std::size_t block_size = 16;  // prefixes in one 64-byte cache line

struct alignas(64) prefix_block {
    lanes part[4];
};

/// Lanes of -1 for each prefix in the block that is less than `h`, summed.
[[nodiscard]] inline lanes less_than(prefix_block const& block, std::int32_t h) noexcept {
#if defined(__GNUC__)
    lanes const all = {h, h, h, h};
    return ((block.part[0] < all) + (block.part[1] < all)) + ((block.part[2] < all) + (block.part[3] < all));
#else
    lanes sum{};
    for (lanes const& part : block.part)
        for (int i = 0; i < 4; ++i) sum.lane[i] -= part.lane[i] < h;
    return sum;
#endif
}

[[nodiscard]] inline std::size_t count_of(lanes sum) noexcept {
#if defined(__GNUC__)
    return static_cast<std::size_t>(-((sum[0] + sum[1]) + (sum[2] + sum[3])));
#else
    return static_cast<std::size_t>(-((sum.lane[0] + sum.lane[1]) + (sum.lane[2] + sum.lane[3])));
#endif
}

/// Prefixes in blocks. What is left over in the last block is filled with the greatest prefix, which is
/// never less than anything.
class prefix_blocks {
  public:
    void append(std::span<std::int32_t const> prefixes) {
        std::size_t const first = blocks_.size() * block_size;
        blocks_.resize(blocks_.size() + (prefixes.size() + block_size - 1) / block_size);
        for (std::size_t i = 0; first + i < blocks_.size() * block_size; ++i)
            set(first + i, i < prefixes.size() ? prefixes[i] : std::numeric_limits<std::int32_t>::max());
    }
    [[nodiscard]] prefix_block const& operator[](std::size_t block) const noexcept { return blocks_[block]; }
    [[nodiscard]] std::size_t size() const noexcept { return blocks_.size(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return blocks_.size() * sizeof(prefix_block); }

  private:
    void set(std::size_t i, std::int32_t value) noexcept {
        lanes& part = blocks_[i / block_size].part[i % block_size / 4];
#if defined(__GNUC__)
        part[i % 4] = value;
#else
        part.lane[i % 4] = value;
#endif
    }
    std::vector<prefix_block> blocks_;
};

/// The prefixes of sorted positions, ascending.
template <ring_position Position>
[[nodiscard]] std::vector<std::int32_t> prefixes_of(std::span<Position const> positions) {
    std::vector<std::int32_t> prefixes(positions.size());
    std::transform(positions.begin(), positions.end(), prefixes.begin(), prefix_of<Position>);
    return prefixes;
}

}  // namespace detail

/// From the first position on, until one is >= h. O(n): n/2 compares on average, and the loop's exit is
/// mispredicted nearly every time, since no two keys leave at the same place.
struct linear {
    static constexpr std::string_view name = "linear";

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted) : positions_(std::move(sorted)) {}

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            CAIRN_ASSERT(positions_.size() > 0);
            std::size_t rank = 0;
            while (rank < positions_.size() && positions_.data()[rank] < h) ++rank;
            return positions_.wrap(rank);
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
        [[nodiscard]] std::size_t hot_bytes() const noexcept { return positions_.bytes(); }

      private:
        detail::sorted_positions<Position> positions_;
    };
};

/// Counts the positions < h, all of them, four at a time: no exit to mispredict. O(n). Reads 4 bytes a
/// point: for 64-bit positions only the prefixes, and settles equal prefixes exactly at the end.
struct linear_simd {
    static constexpr std::string_view name = "linear_simd";

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted) : positions_(std::move(sorted)) {
            prefixes_.append(detail::prefixes_of(positions_.span()));
        }

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            CAIRN_ASSERT(positions_.size() > 0);
            auto const prefix = detail::prefix_of(h);
            detail::lanes sum{};
            for (std::size_t block = 0; block < prefixes_.size(); ++block)
                sum = sum + detail::less_than(prefixes_[block], prefix);
            std::size_t rank = detail::count_of(sum);
            if constexpr (sizeof(Position) > 4)  // equal prefix: about n in 2^32 lookups come here
                if (rank < positions_.size() && positions_.data()[rank] < h) [[unlikely]]
                    rank = positions_.rank_between(h, rank, positions_.size());
            return positions_.wrap(rank);
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
        [[nodiscard]] std::size_t hot_bytes() const noexcept { return prefixes_.bytes(); }

      private:
        detail::sorted_positions<Position> positions_;
        detail::prefix_blocks prefixes_;
    };
};

/// std::lower_bound: what most programs use. O(log n). g++ compiles it to branches, of which every second
/// one is mispredicted; clang 19 to conditional moves.
struct standard {
    static constexpr std::string_view name = "standard";

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted) : positions_(std::move(sorted)) {}

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            CAIRN_ASSERT(positions_.size() > 0);
            return positions_.wrap(positions_.rank_between(h, 0, positions_.size()));
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
        [[nodiscard]] std::size_t hot_bytes() const noexcept { return positions_.bytes(); }

      private:
        detail::sorted_positions<Position> positions_;
    };
};

/// Binary search without a branch on the data. O(log n), no memory beyond the positions. No single source
/// form becomes a conditional move in both compilers: clang wants to be told that the branch is
/// unpredictable, g++ 12 does not know that builtin and wants a choice between two indexes. A check in
/// tests/codegen looks at what both made of it.
struct binary {
    static constexpr std::string_view name = "binary";

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted) : positions_(std::move(sorted)) {}

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            CAIRN_ASSERT(positions_.size() > 0);
            Position const* const p = positions_.data();
            std::size_t rank = 0;
            std::size_t left = positions_.size();  // the answer is in [rank, rank + left]
            while (left > 1) {
                std::size_t const half = left / 2;
#if defined(__clang__)
                if (__builtin_unpredictable(p[rank + half - 1] < h)) rank += half;
#else
                std::size_t const upper = rank + half;
                rank = p[upper - 1] < h ? upper : rank;
#endif
                left -= half;
            }
            return positions_.wrap(rank + (p[rank] < h));
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
        [[nodiscard]] std::size_t hot_bytes() const noexcept { return positions_.bytes(); }

      private:
        detail::sorted_positions<Position> positions_;
    };
};

/// Binary search over the positions in breadth-first order: the root at 1, the children of k at 2k and
/// 2k + 1. The first levels share cache lines, and the descendants of k four levels down lie side by
/// side and are fetched ahead. O(log n). The tree is padded to 2^levels - 1 positions, so that after `levels`
/// steps k - 2^levels IS the rank: no table of ranks, no uneven last level, no branch.
struct eytzinger {
    static constexpr std::string_view name = "eytzinger";

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted)
            : positions_(std::move(sorted)),
              levels_(static_cast<unsigned>(std::bit_width(positions_.size()))),
              tree_(std::size_t{1} << levels_, std::numeric_limits<Position>::max()) {
            for (std::size_t k = 1; k < tree_.size(); ++k) {
                // k is the i-th node of its level, and halves the i-th stretch of 2^height ranks.
                auto const level = static_cast<unsigned>(std::bit_width(k)) - 1;
                std::size_t const i = k - (std::size_t{1} << level);
                std::size_t const rank = (2 * i + 1) * (std::size_t{1} << (levels_ - level - 1)) - 1;
                if (rank < positions_.size()) tree_[k] = positions_.data()[rank];
            }
        }

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            CAIRN_ASSERT(positions_.size() > 0);
            auto const origin = reinterpret_cast<std::uintptr_t>(tree_.data());
            std::size_t k = 1;
            for (unsigned level = 0; level < levels_; ++level) {
                prefetch(origin + k * 64);  // four levels down (three for 64 bits): one line, or two
                k = 2 * k + (tree_[k] < h);
            }
            return positions_.wrap(k - (std::size_t{1} << levels_));
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
        [[nodiscard]] std::size_t hot_bytes() const noexcept { return tree_.size() * sizeof(Position); }

      private:
        /// The address may lie past the end of the tree, hence not a pointer: a prefetch never faults.
        static void prefetch([[maybe_unused]] std::uintptr_t address) noexcept {
#if defined(__GNUC__)
            __builtin_prefetch(reinterpret_cast<void const*>(address));
#endif
        }
        detail::sorted_positions<Position> positions_;
        unsigned levels_ = 0;
        std::vector<Position> tree_;  // tree_[0] is not used
    };
};

/// A static B-tree: a node is one cache line of 16 prefixes, counted without a branch, so that a lookup
/// touches log17(n) lines instead of log2(n) positions. The leaves are the sorted prefixes; entry i of an
/// inner node is the greatest prefix under its child i, and the 17th child needs no entry. For 64-bit
/// positions equal prefixes are settled exactly at the end, as in `linear_simd`.
struct stree {
    static constexpr std::string_view name = "stree";

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted) : positions_(std::move(sorted)) {
            constexpr auto greatest = std::numeric_limits<std::int32_t>::max();
            std::vector<std::vector<std::int32_t>> layers{detail::prefixes_of(positions_.span())};
            std::vector<std::int32_t> maxima;  // the greatest prefix under each node of the last layer
            for (std::size_t end = detail::block_size; end < layers[0].size(); end += detail::block_size)
                maxima.push_back(layers[0][end - 1]);
            maxima.push_back(greatest);  // whatever is greater than all goes to the last leaf
            while (maxima.size() > 1) {
                std::vector<std::int32_t> entries;
                std::vector<std::int32_t> above;
                for (std::size_t child = 0; child < maxima.size(); ++child)
                    (child % fan_out < detail::block_size ? entries : above).push_back(maxima[child]);
                if (maxima.size() % fan_out != 0) above.push_back(greatest);
                layers.push_back(std::move(entries));
                maxima = std::move(above);
            }
            for (; !layers.empty(); layers.pop_back()) {  // root first
                first_[depth_++] = nodes_.size();
                nodes_.append(layers.back());
            }
        }

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            CAIRN_ASSERT(positions_.size() > 0);
            auto const prefix = detail::prefix_of(h);
            std::size_t node = 0;
            for (std::size_t level = 0; level + 1 < depth_; ++level)
                node = node * fan_out +
                       detail::count_of(detail::less_than(nodes_[first_[level] + node], prefix));
            std::size_t rank = node * detail::block_size +
                               detail::count_of(detail::less_than(nodes_[first_[depth_ - 1] + node], prefix));
            if constexpr (sizeof(Position) > 4)
                if (rank < positions_.size() && positions_.data()[rank] < h) [[unlikely]]
                    rank = positions_.rank_between(h, rank, positions_.size());
            return positions_.wrap(rank);
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
        [[nodiscard]] std::size_t hot_bytes() const noexcept { return nodes_.bytes(); }

      private:
        static constexpr std::size_t fan_out = detail::block_size + 1;

        detail::sorted_positions<Position> positions_;
        detail::prefix_blocks nodes_;         // layer after layer, the root first, the leaves last
        std::array<std::size_t, 8> first_{};  // where each layer begins: 17^8 exceeds 2^32 points
        std::size_t depth_ = 0;
    };
};

/// std::map: the red-black tree of the textbook ring, and the ceiling of what pointers can do. O(log n)
/// with a cache miss at each level of a large ring, 48 bytes a point. The nodes are allocated in mixed
/// order, as in a map that has lived for a while; built in sorted order they would lie side by side and
/// look two times better than they are.
struct tree {
    static constexpr std::string_view name = "tree";

    template <ring_position Position>
    class index {
      public:
        index() = default;
        explicit index(std::vector<Position> sorted) : positions_(std::move(sorted)) {
            std::size_t const n = positions_.size();
            std::size_t step = n * 5 / 8 | 1;  // a stride coprime to n visits every rank once
            while (n > 0 && std::gcd(step, n) != 1) step += 2;
            for (std::size_t i = 0, rank = 0; i < n; ++i, rank = (rank + step) % n) {
                bool const first = rank == 0 || positions_.data()[rank - 1] != positions_.data()[rank];
                if (first) ranks_.emplace(positions_.data()[rank], static_cast<std::uint32_t>(rank));
            }
        }

        [[nodiscard]] std::size_t successor(Position h) const noexcept {
            CAIRN_ASSERT(positions_.size() > 0);
            auto const found = ranks_.lower_bound(h);
            return found == ranks_.end() ? 0 : found->second;
        }
        [[nodiscard]] std::span<Position const> positions() const noexcept { return positions_.span(); }
        [[nodiscard]] std::size_t hot_bytes() const noexcept {
            // libstdc++ and libc++: three pointers and a colour before the value, allocated in 16s.
            constexpr std::size_t node = 4 * sizeof(void*) + sizeof(std::pair<Position const, std::uint32_t>);
            return ranks_.size() * ((node + 15) / 16 * 16);
        }

      private:
        detail::sorted_positions<Position> positions_;
        std::map<Position, std::uint32_t> ranks_;
    };
};

}  // namespace cairn
