// SPDX-License-Identifier: MIT
#include <cairn/lookup.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

/// The answer that all strategies must give, written so that it can be read off the definition.
template <class Position>
std::size_t successor_by_definition(std::span<Position const> sorted, Position h) {
    auto const found = std::find_if(sorted.begin(), sorted.end(), [h](Position p) { return p >= h; });
    return found == sorted.end() ? 0 : static_cast<std::size_t>(found - sorted.begin());
}

/// The same by std::lower_bound, for circles on which the definition is too slow. The test
/// TheOracleAgreesWithTheDefinition ties the two together.
template <class Position>
std::size_t oracle(std::span<Position const> sorted, Position h) {
    auto const found = std::lower_bound(sorted.begin(), sorted.end(), h);
    return found == sorted.end() ? 0 : static_cast<std::size_t>(found - sorted.begin());
}

template <class Position>
struct circle {
    std::string name;
    std::vector<Position> positions;
};

/// Circles that a strategy could get wrong: sizes around every power of two and every block size, all
/// points equal, all in one bucket, at both ends, duplicates, equal prefixes, arithmetic series.
template <class Position>
std::vector<circle<Position>> circles() {
    constexpr auto max = std::numeric_limits<Position>::max();
    constexpr int digits = std::numeric_limits<Position>::digits;
    std::mt19937_64 random{20260101};
    auto const draw = [&] { return static_cast<Position>(random() >> (64 - digits)); };
    std::vector<circle<Position>> all;
    auto const add = [&](std::string name, std::vector<Position> positions) {
        std::sort(positions.begin(), positions.end());
        all.push_back({std::move(name), std::move(positions)});
    };
    std::vector<std::size_t> sizes{3,   5,   6,   7,   10,  12,  13,  17,   18,   30,   31,   33,    48,
                                   100, 160, 271, 272, 273, 289, 300, 1000, 4623, 4624, 4625, 16000, 70000};
    for (std::size_t size = 1; size <= 4096; size *= 2) sizes.insert(sizes.end(), {size, size + 1});
    for (std::size_t const size : sizes) {
        std::vector<Position> random_points(size), low_points(size), high_points(size), few_values(size),
            series(size);
        for (std::size_t i = 0; i < size; ++i) {
            random_points[i] = draw();
            low_points[i] = static_cast<Position>(draw() % (2 * size + 1));
            high_points[i] = static_cast<Position>(max - draw() % (2 * size + 1));
            few_values[i] = static_cast<Position>(draw() % 5 * (max / 4));
            series[i] = static_cast<Position>(max / size * i);
        }
        auto const suffix = " x " + std::to_string(size);
        add("random" + suffix, random_points);
        add("at the start, one bucket" + suffix, low_points);
        add("at the end, one bucket" + suffix, high_points);
        add("five values" + suffix, few_values);
        add("series" + suffix, series);
        add("all equal" + suffix, std::vector<Position>(size, draw()));
        add("all zero" + suffix, std::vector<Position>(size, 0));
        add("all max" + suffix, std::vector<Position>(size, max));
        // The upper 32 bits (here: half the digits) are equal for runs of points.
        for (auto& p : random_points)
            p = static_cast<Position>((p >> (digits - 6) << (digits - 6)) | (p & 0xff));
        add("equal prefixes" + suffix, random_points);
    }
    std::vector<Position> million(std::size_t{1} << 20);
    for (auto& p : million) p = draw();
    add("2^20 random", million);
    return all;
}

template <class Lookup, class Position>
struct combination {
    using lookup = Lookup;
    using position = Position;
};

template <class Combination>
class Lookup : public testing::Test {};

using combinations = testing::Types<
    combination<cairn::linear, std::uint32_t>, combination<cairn::linear, std::uint64_t>,
    combination<cairn::linear_simd, std::uint32_t>, combination<cairn::linear_simd, std::uint64_t>,
    combination<cairn::standard, std::uint32_t>, combination<cairn::standard, std::uint64_t>,
    combination<cairn::binary, std::uint32_t>, combination<cairn::binary, std::uint64_t>,
    combination<cairn::eytzinger, std::uint32_t>, combination<cairn::eytzinger, std::uint64_t>,
    combination<cairn::stree, std::uint32_t>, combination<cairn::stree, std::uint64_t>,
    combination<cairn::tree, std::uint32_t>, combination<cairn::tree, std::uint64_t>,
    combination<cairn::indexed, std::uint32_t>, combination<cairn::indexed, std::uint64_t>,
    combination<cairn::indexed_line, std::uint32_t>, combination<cairn::indexed_line, std::uint64_t>,
    combination<cairn::adaptive, std::uint32_t>, combination<cairn::adaptive, std::uint64_t>>;

class strategy_name {
  public:
    template <class Combination>
    static std::string GetName(int) {
        return std::string{Combination::lookup::name} +
               (sizeof(typename Combination::position) == 4 ? "_32" : "_64");
    }
};

TYPED_TEST_SUITE(Lookup, combinations, strategy_name);

TEST(LookupOracle, TheOracleAgreesWithTheDefinition) {
    std::mt19937_64 random{1};
    for (int round = 0; round < 20000; ++round) {
        std::vector<std::uint32_t> sorted(1 + random() % 9);
        for (auto& p : sorted) p = static_cast<std::uint32_t>(random() % 16);
        std::sort(sorted.begin(), sorted.end());
        auto const h = static_cast<std::uint32_t>(random() % 18);
        ASSERT_EQ(oracle<std::uint32_t>(sorted, h), successor_by_definition<std::uint32_t>(sorted, h));
    }
}

TYPED_TEST(Lookup, GivesTheSuccessorOnEveryCircleAtEveryEdgeAndInBetween) {
    using strategy = typename TypeParam::lookup;
    using position = typename TypeParam::position;
    static_assert(cairn::lookup_strategy<strategy, position>);
    constexpr auto max = std::numeric_limits<position>::max();
    constexpr int digits = std::numeric_limits<position>::digits;
    std::mt19937_64 random{20260102};
    std::size_t queries = 0;
    for (auto const& circle : circles<position>()) {
        SCOPED_TRACE(circle.name);
        std::span<position const> const sorted = circle.positions;
        typename strategy::template index<position> const index{circle.positions};
        ASSERT_TRUE(std::ranges::equal(index.positions(), sorted));
        bool const slow = strategy::name.starts_with("linear") && sorted.size() > 10'000;
        auto const check = [&](position h) {
            ++queries;
            auto const expected = oracle(sorted, h);
            auto const got = index.successor(h);
            if (got != expected) ADD_FAILURE() << "successor(" << h << ") = " << got << ", not " << expected;
        };
        check(0), check(1), check(max - 1), check(max);
        std::size_t const edges = slow ? 30 : 5'000;
        for (std::size_t i = 0; i < sorted.size(); i += 1 + sorted.size() / edges) {
            check(sorted[i]);
            check(static_cast<position>(sorted[i] - 1));
            check(static_cast<position>(sorted[i] + 1));
        }
        for (int i = slow ? 30 : 300; i > 0; --i) check(static_cast<position>(random() >> (64 - digits)));
        if (testing::Test::HasFailure()) return;
    }
    this->RecordProperty("queries", std::to_string(queries));
}

TYPED_TEST(Lookup, ACopyAnswersAfterTheOriginalIsGone) {
    using position = typename TypeParam::position;
    using index = typename TypeParam::lookup::template index<position>;
    std::vector<position> sorted(1000);
    for (std::size_t i = 0; i < sorted.size(); ++i) sorted[i] = static_cast<position>(i * 1'000'003);
    index copy;
    {
        index const original{sorted};
        copy = original;
    }
    index const moved{std::move(copy)};
    for (position h = 0; h < 1'000'003'000U; h += 499'979)
        ASSERT_EQ(moved.successor(h), oracle<position>(sorted, h)) << h;
}

TYPED_TEST(Lookup, AnEmptyIndexHasNoPositions) {
    using position = typename TypeParam::position;
    using index = typename TypeParam::lookup::template index<position>;
    EXPECT_TRUE(index{}.positions().empty());
    EXPECT_TRUE(index{std::vector<position>{}}.positions().empty());
}

/// Ten million queries over both widths, all strategies against std::lower_bound, on the ring that the
/// README talks about and on one whose positions somebody chose badly.
TYPED_TEST(Lookup, AgreesWithLowerBoundOnManyRandomAndAdversarialQueries) {
    using position = typename TypeParam::position;
    constexpr int digits = std::numeric_limits<position>::digits;
    bool const slow = TypeParam::lookup::name.starts_with("linear");
    std::mt19937_64 random{20260103};
    std::vector<position> even(slow ? 256 : 16'384);
    for (auto& p : even) p = static_cast<position>(random() >> (64 - digits));
    std::vector<position> clustered = even;  // 64 clusters
    for (auto& p : clustered) p = static_cast<position>((p >> (digits - 6) << (digits - 6)) | p >> 20);
    for (auto* const circle : {&even, &clustered}) {
        std::sort(circle->begin(), circle->end());
        typename TypeParam::lookup::template index<position> const index{*circle};
        std::size_t wrong = 0;
        for (int i = 0; i < 260'000; ++i) {
            auto const h = static_cast<position>(random() >> (64 - digits));
            position const near = (*circle)[random() % circle->size()];
            auto const edge = static_cast<position>(near + random() % 3 - 1);
            wrong += index.successor(h) != oracle<position>(*circle, h);
            wrong += index.successor(edge) != oracle<position>(*circle, edge);
        }
        EXPECT_EQ(wrong, 0U);
    }
}

TEST(LookupMemory, IndexedTouchesAtMostTenBytesAPointAndIndexedLineLess) {
    for (std::size_t n = 64; n <= 300'000; n += n / 3) {
        std::vector<std::uint32_t> const points(n);
        EXPECT_LE(cairn::indexed::index<std::uint32_t>{points}.hot_bytes(), 10 * n + 16) << n;
        EXPECT_LE(cairn::indexed_line::index<std::uint32_t>{points}.hot_bytes(), 64 * n / 10 + 576) << n;
        EXPECT_LE(cairn::indexed::index<std::uint64_t>(std::vector<std::uint64_t>(n)).hot_bytes(),
                  10 * n + 16)
            << n;
    }
}

template <class Combination>
class EditableLookup : public testing::Test {};

using editable_combinations =
    testing::Types<combination<cairn::indexed, std::uint32_t>, combination<cairn::indexed, std::uint64_t>,
                   combination<cairn::indexed_line, std::uint32_t>,
                   combination<cairn::indexed_line, std::uint64_t>,
                   combination<cairn::adaptive, std::uint32_t>, combination<cairn::adaptive, std::uint64_t>>;
TYPED_TEST_SUITE(EditableLookup, editable_combinations, strategy_name);

/// Puts random points in and takes random ones out, in place where the index allows it and else anew, as a
/// ring does; after each step every position and both its neighbours have the successor that they should.
TYPED_TEST(EditableLookup, ChangesInPlaceLikeAnIndexBuiltAnew) {
    using position = typename TypeParam::position;
    using index_type = typename TypeParam::lookup::template index<position>;
    static_assert(cairn::editable_index<index_type, position>);
    constexpr auto max = std::numeric_limits<position>::max();
    std::mt19937_64 random{20260103};
    std::size_t in_place = 0;
    std::size_t anew = 0;
    for (int round = 0; round < 60; ++round) {
        int const kind = round % 5;
        auto const draw = [&] {
            auto const any = static_cast<position>(random() >> (64 - std::numeric_limits<position>::digits));
            if (kind == 1) return static_cast<position>(any % 3000);           // one bucket, the first
            if (kind == 2) return static_cast<position>(max - any % 3000);     // one bucket, the last
            if (kind == 3) return static_cast<position>(any % 5 * (max / 4));  // five values
            if (kind == 4) return static_cast<position>(any / 4 + max / 3);    // empty at both ends
            return any;
        };
        std::vector<position> sorted(random() % (round % 2 == 0 ? 40 : 4000) + 1);
        for (position& p : sorted) p = draw();
        std::ranges::sort(sorted);
        index_type index{sorted};
        for (int step = 0; step < 30; ++step) {
            std::vector<std::uint32_t> ranks;
            std::vector<position> points;
            std::vector<position> after;
            bool const insert = random() % 2 == 0;
            std::size_t const some = 1 + random() % (round % 3 == 0 ? 3 : 160);
            if (insert) {
                for (std::size_t i = 0; i < some; ++i) points.push_back(draw());
                std::ranges::sort(points);
                for (position const p : points)
                    ranks.push_back(
                        static_cast<std::uint32_t>(std::ranges::lower_bound(sorted, p) - sorted.begin()));
                std::ranges::merge(sorted, points, std::back_inserter(after));
            } else {
                bool const ends = random() % 4 == 0;  // the first and the last point are special
                for (std::uint32_t i = 0; i < sorted.size(); ++i)
                    if (ends ? i == 0 || i + 2 >= sorted.size() : random() % sorted.size() < some) {
                        ranks.push_back(i);
                        points.push_back(sorted[i]);
                    } else {
                        after.push_back(sorted[i]);
                    }
                if (after.empty()) continue;
            }
            if (!index.can_become(after.size())) {
                index = index_type{after};
                ++anew;
            } else if (insert) {
                index.reserve(after.size());
                index.insert(ranks, points);
                ++in_place;
            } else {
                index.erase(ranks, points);
                ++in_place;
            }
            sorted = after;
            ASSERT_TRUE(std::ranges::equal(index.positions(), sorted));
            std::vector<position> queries{0, max};
            for (position const p : sorted)
                queries.insert(queries.end(),
                               {p, static_cast<position>(p + 1), static_cast<position>(p - 1), draw()});
            for (position const h : queries)
                ASSERT_EQ(index.successor(h), oracle<position>(sorted, h))
                    << "round " << round << ", step " << step << ", hash " << h;
        }
    }
    EXPECT_GT(in_place, 100U);
    EXPECT_GT(anew, 50U);
}

}  // namespace
