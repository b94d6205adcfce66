// SPDX-License-Identifier: MIT
#include <cairn/hash_ring.hpp>
#include <cairn/router.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <numeric>
#include <random>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/count_allocations.hpp"

namespace {

using lots = cairn::rendezvous<std::string>;
using member = lots::member;

// The concept, and that lookups cannot throw.
static_assert(cairn::router<cairn::modulo<>, int>);
static_assert(cairn::router<cairn::multiply_shift<>, std::string_view>);
static_assert(cairn::router<cairn::jump<>, std::string>);
static_assert(cairn::router<lots, int>);
static_assert(cairn::router<lots, std::string_view>);
static_assert(cairn::router<cairn::hash_ring<std::string>, std::string_view>);  // the ring models it too
static_assert(cairn::router<cairn::hash_ring<int, cairn::linear>, int>);
static_assert(!cairn::router<cairn::jump<>, double>);
static_assert(!cairn::router<std::vector<int>, int>);
static_assert(noexcept(std::declval<cairn::jump<> const&>().find("key")));
static_assert(noexcept(std::declval<lots const&>().find("key")));

/// A key is its own hash: what std::hash is in libstdc++ and libc++, and what the lecture counts with.
struct identity {
    static constexpr bool is_placement_hash = true;
    std::uint64_t operator()(std::uint64_t key) const noexcept { return key; }
};

auto first_keys(std::uint64_t count) { return std::views::iota(std::uint64_t{0}, count); }

std::vector<member> members(std::size_t count) {
    std::vector<member> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back("node-" + std::to_string(i));
    return all;
}

/// How far counts are from what the weights say, in standard deviations of chi squared about its mean.
double surprise(std::vector<std::size_t> const& counts, std::vector<double> const& weights) {
    double const all = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::size_t{0}));
    double const sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    double chi_squared = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        double const fair = all * weights[i] / sum;
        chi_squared +=
            (static_cast<double>(counts[i]) - fair) * (static_cast<double>(counts[i]) - fair) / fair;
    }
    double const freedom = static_cast<double>(counts.size() - 1);
    return (chi_squared - freedom) / std::sqrt(2 * freedom);
}
double surprise(std::vector<std::size_t> const& counts) {
    return surprise(counts, std::vector<double>(counts.size(), 1.0));
}

template <class Act>
void expect_refused(Act act, std::string const& named) {
    try {
        act();
        FAIL() << "not refused: " << named;
    } catch (std::invalid_argument const& error) {
        EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
        EXPECT_EQ(std::string(error.what()).rfind("cairn::", 0), 0u) << error.what();
    }
}

// ---- movement and balance ----

/// A router written by hand: key k belongs to node owners[k].
struct by_hand {
    using node_type = std::string;
    std::vector<std::string> nodes;
    std::vector<std::size_t> owners;
    std::size_t size() const noexcept { return nodes.size(); }
    std::size_t find_index(std::uint64_t key) const noexcept { return owners[key]; }
    std::string const& find(std::uint64_t key) const noexcept { return nodes[owners[key]]; }
    std::string const& node(std::size_t index) const noexcept { return nodes[index]; }
};
static_assert(cairn::router<by_hand, std::uint64_t>);

TEST(Movement, CountsMovesAndThoseThatNobodyNeeded) {
    by_hand const before{{"a", "b", "gone"}, {0, 0, 1, 1, 2, 2}};
    by_hand const after{{"new", "b", "a"}, {2, 1, 1, 0, 1, 0}};  // a a b b gone gone -> a b b new b new
    auto const report = cairn::movement(before, after, first_keys(6));
    EXPECT_EQ(report.keys, 6u);
    EXPECT_EQ(report.moved, 4u);
    EXPECT_EQ(report.unnecessary, 1u);  // key 1, from a to b
    EXPECT_DOUBLE_EQ(report.fraction(), 4.0 / 6);
    EXPECT_DOUBLE_EQ(report.unnecessary_fraction(), 1.0 / 6);
    EXPECT_EQ(cairn::movement(before, before, first_keys(6)).moved, 0u);
}

TEST(Movement, ComparesRoutersOfDifferentTypes) {
    by_hand const before{{"a", "b"}, {0, 1, 0, 1}};
    lots const after{"a", "b"};
    auto const report = cairn::movement(before, after, first_keys(4));
    std::size_t moved = 0;
    for (std::uint64_t key = 0; key < 4; ++key) moved += before.find(key) != after.find(key);
    EXPECT_EQ(report.moved, moved);
    EXPECT_EQ(report.unnecessary, moved);
    EXPECT_EQ(cairn::movement(cairn::jump<>(1), cairn::modulo<>(1), first_keys(9)).moved, 0u);
}

TEST(Movement, TakesKeysThatCanBeReadOnlyOnce) {
    std::istringstream text("17 4 23 42 8");
    auto const report = cairn::movement(cairn::jump<>(2), cairn::jump<>(3), std::views::istream<int>(text));
    EXPECT_EQ(report.keys, 5u);
    std::istringstream again("17 4 23 42 8");
    EXPECT_EQ(cairn::balance(cairn::jump<>(2), std::views::istream<int>(again)).keys, 5u);
}

TEST(Balance, ReportsMeanExtremesAndDeviation) {
    by_hand const router{{"a", "b", "c", "d"}, {0, 0, 0, 0, 0, 1, 2, 2}};  // 5, 1, 2, 0
    auto const report = cairn::balance(router, first_keys(8));
    EXPECT_EQ(report.keys, 8u);
    EXPECT_EQ(report.nodes, 4u);
    EXPECT_EQ(report.max, 5u);
    EXPECT_EQ(report.min, 0u);
    EXPECT_DOUBLE_EQ(report.mean, 2.0);
    EXPECT_DOUBLE_EQ(report.max_over_mean, 2.5);
    EXPECT_DOUBLE_EQ(report.standard_deviation, std::sqrt((9 + 1 + 0 + 4) / 4.0) / 2.0);
    EXPECT_EQ(cairn::count_keys(router, first_keys(8)), (std::vector<std::size_t>{5, 1, 2, 0}));
}

TEST(Movement, NoKeysAndNoNodesAreRefused) {
    cairn::jump<> const router(3);
    expect_refused([&] { (void)cairn::movement(router, router, std::vector<int>{}); }, "there are no keys");
    expect_refused([&] { (void)cairn::balance(router, std::vector<int>{}); }, "there are no keys");
    cairn::hash_ring<int> const empty;
    expect_refused([&] { (void)cairn::balance(empty, std::vector<int>{1}); }, "a router without nodes");
    expect_refused([&] { (void)cairn::movement(empty, router, std::vector<int>{1}); },
                   "a router without nodes");
}

// ---- modulo, multiply_shift, jump ----

TEST(Modulo, TheLecturesSixKeysFromTwoToThreeShards) {
    // The lecture says that 3 of its 6 keys move. With keys that are their own hashes it is 4, whether one
    // counts from 0 or from 1: k % 2 and k % 3 agree for k % 6 in {0, 1} only. 2/3 is what to expect of any
    // hash; with xxh3 these very keys happen to be 3, and "user0" … "user5" are 4.
    auto const moved = [](auto const& hash, auto const& keys) {
        return cairn::movement(cairn::modulo(2, hash), cairn::modulo(3, hash), keys).moved;
    };
    EXPECT_EQ(moved(identity{}, first_keys(6)), 4u);
    EXPECT_EQ(moved(identity{}, std::views::iota(std::uint64_t{1}, std::uint64_t{7})), 4u);
    EXPECT_EQ(moved(cairn::xxh3{}, first_keys(6)), 3u);
    EXPECT_EQ(moved(cairn::xxh3{}, std::views::iota(std::uint64_t{1}, std::uint64_t{7})), 3u);
    std::vector<std::string> users;
    for (int i = 0; i < 6; ++i) users.push_back("user" + std::to_string(i));
    EXPECT_EQ(moved(cairn::xxh3{}, users), 4u);
    EXPECT_NEAR(cairn::movement(cairn::modulo<>(2), cairn::modulo<>(3), first_keys(100'000)).fraction(),
                2 / 3.0, 0.01);
}

TEST(Modulo, AlmostEveryKeyMovesWithOneShardMore) {
    for (std::size_t const shards : {1u, 2u, 10u, 100u}) {
        auto const report =
            cairn::movement(cairn::modulo<>(shards), cairn::modulo<>(shards + 1), first_keys(100'000));
        double const n = static_cast<double>(shards);
        EXPECT_NEAR(report.fraction(), n / (n + 1), 0.01) << shards;
        EXPECT_NEAR(report.unnecessary_fraction(), n / (n + 1) - 1 / (n + 1), 0.01)
            << shards;  // 1 / (n + 1) must
    }
}

TEST(MultiplyShift, HalfOfTheKeysMoveWithOneShardMore) {
    for (std::size_t const shards : {2u, 10u, 100u}) {
        cairn::multiply_shift<> const before(shards);
        auto const report = cairn::movement(before, cairn::multiply_shift<>(shards + 1), first_keys(100'000));
        EXPECT_NEAR(report.fraction(), 0.5, 0.01) << shards;
    }
}

TEST(MultiplyShift, EachShardHasAsManyOfThe32BitValuesAsTheBiasSays) {
    for (std::uint64_t const shards : {1u, 3u, 7u, 1000u, 65'537u}) {
        cairn::multiply_shift_rule const rule;
        std::uint64_t least = ~std::uint64_t{0};
        std::uint64_t most = 0;
        for (std::uint64_t shard = 0, first = 0; shard < shards; ++shard) {  // its values are one run
            std::uint64_t const next = (((shard + 1) << 32) + shards - 1) / shards;
            ASSERT_EQ(rule(first << 32, shards), shard);
            ASSERT_EQ(rule((next << 32) - 1, shards), shard);
            least = std::min(least, next - first);
            most = std::max(most, next - first);
            first = next;
        }
        EXPECT_LE(most - least, 1u) << shards;
    }
}

TEST(ShardRouters, AreEven) {
    for (std::size_t const shards : {2u, 3u, 100u, 1000u}) {
        EXPECT_LT(surprise(cairn::count_keys(cairn::modulo<>(shards), first_keys(500'000))), 5) << shards;
        EXPECT_LT(surprise(cairn::count_keys(cairn::multiply_shift<>(shards), first_keys(500'000))), 5)
            << shards;
        EXPECT_LT(surprise(cairn::count_keys(cairn::jump<>(shards), first_keys(500'000))), 5) << shards;
    }
}

TEST(ShardRouters, AnIdentityHashSendsSequentialKeysToOneShard) {
    EXPECT_EQ(cairn::balance(cairn::multiply_shift(10, identity{}), first_keys(1000)).max,
              1000u);  // the high bits
    auto const tens = first_keys(1000) | std::views::transform([](std::uint64_t key) { return key * 10; });
    EXPECT_EQ(cairn::balance(cairn::modulo(10, identity{}), tens).max, 1000u);  // the low digits
}

TEST(Jump, KeysMoveToTheNewShardOnly) {
    for (std::size_t shards = 1; shards < 200; shards += 1 + shards / 10) {
        cairn::jump<> const before(shards);
        cairn::jump<> const after(shards + 1);
        std::size_t moved = 0;
        for (std::uint64_t const key : first_keys(20'000)) {
            if (before.find(key) == after.find(key)) continue;
            ASSERT_EQ(after.find(key), shards);
            ++moved;
        }
        double const p = 1.0 / static_cast<double>(shards + 1);
        EXPECT_NEAR(static_cast<double>(moved), 20'000 * p, 5 * std::sqrt(20'000 * p * (1 - p))) << shards;
        EXPECT_EQ(cairn::movement(before, after, first_keys(20'000)).unnecessary, 0u);
    }
}

TEST(Jump, AgreesWithGuavaButForTheVectorsWhereGuavaRoundsOtherwise) {
    // Guava computes (c + 1) / (d / 2^31) where Lamping and Veach have (c + 1) * (2^31 / d).
    std::map<std::pair<std::uint64_t, std::size_t>, std::size_t> const papers{
        {{9'785'603'933'605'476'243u, 1'048'581}, 1'048'575},
        {{17'039'100'631'692'912'564u, 4'194'309}, 4'194'303}};
    std::ifstream file(CAIRN_GOLDEN_DIR "/guava_consistentHash.csv");
    ASSERT_TRUE(file) << "no " CAIRN_GOLDEN_DIR "/guava_consistentHash.csv";
    std::string line;
    std::size_t checked = 0;
    std::size_t others = 0;
    while (std::getline(file, line)) {
        if (line.starts_with('#') || line.starts_with("key")) continue;
        std::istringstream fields(line);
        std::uint64_t key = 0;
        std::size_t buckets = 0;
        std::size_t guavas = 0;
        char comma = 0;
        ASSERT_TRUE(fields >> key >> comma >> buckets >> comma >> guavas) << line;
        auto const differs = papers.find({key, buckets});
        EXPECT_EQ(cairn::jump_rule{}(key, buckets), differs == papers.end() ? guavas : differs->second)
            << line;
        others += differs != papers.end();
        ++checked;
    }
    EXPECT_EQ(checked, 1002u);
    EXPECT_EQ(others, 2u);
    for (std::uint64_t key = 0; std::size_t const bucket : {0u, 55u, 62u, 8u, 45u, 59u, 86u, 97u})
        EXPECT_EQ(cairn::jump_rule{}(key++, 100), bucket);
}

TEST(Jump, ThePapersTableOfStandardErrors) {
    // 1000 buckets. The ring has 0.9979060, 0.3151810, 0.0996996 and 0.0315723 with 1, 10, 100 and 1000
    // points a bucket; jump 0.00000000764, which is what chance leaves of 2^64 keys: sqrt(1000 / 2^64)
    // = 7.4e-9.
    struct row {
        std::size_t points;
        double standard_error;
    };
    for (auto const& [points, paper] :
         {row{1, 0.9979060}, {10, 0.3151810}, {100, 0.0996996}, {1000, 0.0315723}}) {
        using ring = cairn::hash_ring<int>;
        std::vector<ring::member> buckets;
        for (int i = 0; i < 1000; ++i) buckets.push_back({i});
        double squares = 0;
        for (double const share : ring(std::move(buckets), cairn::virtual_nodes<>(points)).shares())
            squares += (share * 1000 - 1) * (share * 1000 - 1);
        EXPECT_NEAR(std::sqrt(squares / 1000), paper, 0.12 * paper) << points;
    }
    for (std::uint64_t const keys : {100'000u, 1'000'000u}) {
        double const floor = std::sqrt(1000.0 / static_cast<double>(keys));
        EXPECT_NEAR(cairn::balance(cairn::jump<>(1000), first_keys(keys)).standard_deviation, floor,
                    0.1 * floor);
    }
}

template <class Router>
void expect_bad_sizes_refused(std::string const& name, std::uint64_t too_many) {
    expect_refused([] { Router(0); }, "cairn::" + name + ": the number of shards must be from 1 to");
    Router router(7);
    expect_refused([&] { router.resize(0); }, "not 0");
    if (too_many != 0) expect_refused([&] { router.resize(too_many); }, "not " + std::to_string(too_many));
    EXPECT_EQ(router.size(), 7u);
}

TEST(ShardRouters, BadSizesAreNamedAndChangeNothing) {
    expect_bad_sizes_refused<cairn::modulo<>>("modulo", 0);
    expect_bad_sizes_refused<cairn::multiply_shift<>>("multiply_shift", std::uint64_t{1} << 32);
    expect_bad_sizes_refused<cairn::jump<>>("jump", std::uint64_t{1} << 31);
    cairn::jump<> router(7);
    router.resize(0x7fff'ffff);
    EXPECT_LT(router.find(1), 0x7fff'ffffu);
}

// ---- rendezvous ----

TEST(Rendezvous, TheLogarithmIsThatOfTheDefinition) {
    std::mt19937_64 random{20260140};
    auto const expect_close = [](std::uint64_t x) {
        long double const exact = 64 - std::log2(static_cast<long double>(x | 1));
        long double const mine =
            static_cast<long double>(cairn::detail::minus_log2(x)) / 274'877'906'944.0L;  // 2^38
        ASSERT_NEAR(static_cast<double>(mine), static_cast<double>(exact),
                    static_cast<double>(1.5e-6L * exact + 11e-12L))
            << x;
    };
    for (int i = 0; i < 1'000'000; ++i) {
        std::uint64_t const x = random() >> random() % 64;
        expect_close(x);
        expect_close(~x);
    }
    for (int bit = 0; bit < 64; ++bit) expect_close(std::uint64_t{1} << bit);
    EXPECT_EQ(cairn::detail::minus_log2(0), std::uint64_t{1} << 44);
    EXPECT_EQ(cairn::detail::minus_log2(~std::uint64_t{0} >> 1), std::uint64_t{1} << 38);
}

TEST(Rendezvous, TheLogarithmNeverGrowsWithItsArgument) {
    std::mt19937_64 random{20260141};
    auto const expect_ordered = [](std::uint64_t x) {
        for (std::uint64_t const step : {std::uint64_t{1}, x >> 38})
            ASSERT_TRUE(x > ~std::uint64_t{0} - step ||
                        cairn::detail::minus_log2(x) >= cairn::detail::minus_log2(x + step))
                << x << " + " << step;
    };
    for (int octave = 0; octave < 63; ++octave)
        for (std::uint64_t step = 0; step <= 256; ++step) {  // where two lines meet
            std::uint64_t const x = (~std::uint64_t{0} - (step << 55)) >> octave;
            for (std::uint64_t near = x < 100 ? 0 : x - 100; near < x; ++near) expect_ordered(near);
        }
    for (int i = 0; i < 1'000'000; ++i)
        expect_ordered((random() >> random() % 64) & (~std::uint64_t{0} >> 1));
}

TEST(Rendezvous, TheHighestLotWins) {
    auto nodes = members(40);
    lots const router(nodes);
    cairn::xxh3 const hash;
    for (std::uint64_t const key : first_keys(5000)) {
        auto const lot = [&](member const& one) { return cairn::detail::remix(hash(key) ^ hash(one.node)); };
        ASSERT_EQ(router.find(key), std::ranges::max(nodes, {}, lot).node);
    }
}

TEST(Rendezvous, WithWeightsTheLeastLogarithmOverWeightWins) {
    std::mt19937_64 random{20260142};
    auto nodes = members(40);
    for (auto& one : nodes) one.weight = static_cast<std::int64_t>(1 + random() % 1000);
    lots const router(nodes);
    cairn::xxh3 const hash;
    std::size_t others = 0;
    for (std::uint64_t const key : first_keys(20'000)) {
        auto const cost = [&](member const& one) {
            auto const lot = static_cast<long double>(cairn::detail::remix(hash(key) ^ hash(one.node)));
            return (64 - std::log2(lot)) / static_cast<long double>(one.weight);
        };
        others += router.find(key) != std::ranges::min(nodes, {}, cost).node;
    }
    EXPECT_LE(others, 2u);  // two lots within 2 millionths: one key in 100,000
}

TEST(Rendezvous, EqualWeightsOfAnySizeAreTheSameRouter) {
    auto nodes = members(30);
    lots const ones(nodes);
    for (auto& one : nodes) one.weight = 777;
    lots const equal(nodes);
    // A further node that hardly ever wins forces the weighted path.
    for (auto& one : nodes) one.weight = member::max_weight;
    nodes.push_back({"hardly there", 1});
    lots const weighted(nodes);
    std::size_t others = 0;
    for (std::uint64_t const key : first_keys(50'000)) {
        ASSERT_EQ(ones.find(key), equal.find(key));
        if (weighted.find(key) == "hardly there") {
            ++others;
        } else {
            ASSERT_EQ(ones.find(key), weighted.find(key));
        }
    }
    EXPECT_LE(others, 2u);
}

TEST(Rendezvous, TheOrderOfInsertionNeverMatters) {
    std::mt19937_64 random{20260143};
    auto nodes = members(30);
    for (auto const weighted : {false, true}) {
        if (weighted)
            for (auto& one : nodes) one.weight = static_cast<std::int64_t>(1 + random() % 5);
        lots const router(nodes);
        for (int round = 0; round < 5; ++round) {
            std::ranges::shuffle(nodes, random);
            lots shuffled{nodes[0]};
            for (std::size_t i = 1; i < nodes.size(); ++i) shuffled.add(nodes[i].node, nodes[i].weight);
            ASSERT_EQ(cairn::movement(router, shuffled, first_keys(5000)).moved, 0u);
        }
    }
}

TEST(Rendezvous, AnyHistoryMovesExactlyWhatItMust) {
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937_64 random{seed};
        auto nodes = members(1 + random() % 20);
        bool const weighted = seed % 2 == 1;
        auto const draw = [&] {
            return weighted ? static_cast<std::int64_t>(1 + random() % 9) : std::int64_t{1};
        };
        for (auto& one : nodes) one.weight = draw();
        lots router(nodes);
        for (int step = 0; step < 30; ++step) {
            lots const before = router;
            std::string const some = router.node(random() % router.size());
            std::string to;    // if set, keys may only move there
            std::string from;  // if set, keys may only come from there
            switch (random() % 3) {
                case 0:
                    to = "late-" + std::to_string(step);
                    router.add(to, draw());
                    break;
                case 1:
                    if (router.size() == 1) continue;
                    from = some;
                    router.remove(some);
                    break;
                default: {
                    std::int64_t const was = std::ranges::find(router.members(), some, &member::node)->weight;
                    std::int64_t const is = draw();
                    router.reweight(some, is);
                    (is >= was ? to : from) = some;
                }
            }
            for (std::uint64_t const key : first_keys(1000)) {
                if (before.find(key) == router.find(key)) continue;
                ASSERT_TRUE(to.empty() || router.find(key) == to);
                ASSERT_TRUE(from.empty() || before.find(key) == from);
            }
        }
    }
}

TEST(Rendezvous, KeysAreSpreadByWeight) {
    EXPECT_LT(surprise(cairn::count_keys(lots(members(2)), first_keys(300'000))), 5);
    EXPECT_LT(surprise(cairn::count_keys(lots(members(50)), first_keys(300'000))), 5);
    auto nodes = members(12);
    std::vector<double> weights;
    for (auto& one : nodes)
        weights.push_back(static_cast<double>(one.weight += static_cast<std::int64_t>(weights.size())));
    EXPECT_LT(surprise(cairn::count_keys(lots(nodes), first_keys(300'000)), weights), 5);
    lots const unequal{{"great", 1000}, {"small", 1}};
    EXPECT_LT(surprise(cairn::count_keys(unequal, first_keys(1'000'000)), {1000, 1}), 5);
}

TEST(Rendezvous, TheKeysOfANodeThatLeavesAreSpreadEvenlyToo) {
    lots const before(members(20));
    lots after = before;
    after.remove("node-7");
    std::vector<std::size_t> heirs(after.size(), 0);
    for (std::uint64_t const key : first_keys(400'000))
        if (before.find(key) == "node-7") ++heirs[after.find_index(key)];
    EXPECT_LT(surprise(heirs), 5);
}

TEST(Rendezvous, BadInputIsNamedAndChangesNothing) {
    expect_refused([] { lots(std::vector<member>{}); }, "at least one node");
    expect_refused([] { lots({"a", "b", "a"}); }, "duplicate node \"a\"");
    lots router{"a", {"b", 2}, "c"};
    lots const before = router;
    expect_refused([&] { router.add("b"); }, "duplicate node \"b\"");
    for (std::int64_t const weight :
         {std::int64_t{0}, std::int64_t{-5}, std::int64_t{1'000'001}, INT64_MAX, INT64_MIN}) {
        expect_refused([&] { router.add("d", weight); }, "not " + std::to_string(weight));
        expect_refused([&] { router.reweight("a", weight); }, "not " + std::to_string(weight));
    }
    expect_refused([&] { router.remove("stranger"); }, "unknown node \"stranger\"");
    expect_refused([&] { router.reweight("stranger", 1); }, "unknown node \"stranger\"");
    expect_refused([] { lots({"only"}).remove("only"); }, "at least one node");
    expect_refused([&] { router.remove(std::string(1000, 'x')); },
                   "unknown node \"" + std::string(80, 'x') + "...\"");
    EXPECT_EQ(router.size(), 3u);
    EXPECT_EQ(cairn::movement(before, router, first_keys(5000)).moved, 0u);
}

// ---- all of them ----

template <class Router, class Key>
void expect_no_allocation(Router const& router, Key const& key) {
    std::size_t const before = support::allocations;
    std::size_t const index = router.find_index(key);
    bool const same = router.find(key) == router.node(index);
    EXPECT_EQ(support::allocations, before);
    EXPECT_TRUE(same);
    EXPECT_LT(index, router.size());
}

TEST(Routers, LookupsAllocateNothingAndIndexAndNodeAgree) {
    std::string const text = "a key that is longer than any small string";
    for (int round = 0; round < 100; ++round) {
        expect_no_allocation(cairn::modulo<>(10), text + std::to_string(round));
        expect_no_allocation(cairn::multiply_shift<>(10), text + std::to_string(round));
        expect_no_allocation(cairn::jump<>(10), text + std::to_string(round));
        expect_no_allocation(lots(members(10)), text + std::to_string(round));
        expect_no_allocation(lots{"a", {"b", 2}}, round);
        expect_no_allocation(cairn::anchor<>(10, 20), round);
        expect_no_allocation(cairn::slots<std::string>({"a", "b"}), text + std::to_string(round));
    }
}

/// A hash over where 10,000 keys go.
template <class Router>
std::uint64_t fingerprint(Router const& router) {
    std::uint64_t print = 0;
    for (std::uint64_t const key : first_keys(10'000))
        print = cairn::detail::remix(print ^ router.find_index(key));
    return print;
}

TEST(Routers, SendTheSameKeysToTheSameNodesOnEveryMachineAndInEveryRelease) {
    EXPECT_EQ(fingerprint(cairn::modulo<>(100)), 0xccb3'eedb'5766'23bd);
    EXPECT_EQ(fingerprint(cairn::multiply_shift<>(100)), 0xf1d2'e6d8'10da'c79a);
    EXPECT_EQ(fingerprint(cairn::jump<>(100)), 0x3e69'9d3a'b7e7'a8d8);
    EXPECT_EQ(fingerprint(lots(members(100))), 0xa581'74f7'f324'6fa0);
    EXPECT_EQ(fingerprint(lots{"a", {"b", 2}, {"c", 1000}}), 0x0e33'168a'a877'5f8e);
    EXPECT_EQ(fingerprint(cairn::maglev<std::string>{"a", {"b", 2}, {"c", 3}}), 0x4b5c'08aa'ddf5'be0b);
    cairn::anchor<> shards(50, 100);
    shards.remove(7);
    EXPECT_EQ(fingerprint(shards), 0xf79e'0be4'ca71'ec87);
}

}  // namespace
