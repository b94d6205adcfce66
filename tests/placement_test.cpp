// SPDX-License-Identifier: MIT
#include <cairn/hash_ring.hpp>
#include <cairn/placement.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "support/rings.hpp"

namespace {

using support::make;
using support::members_of;
using support::membership;
using support::random_key;
using support::random_nodes;
using support::test_hash;
using support::test_ring;

template <class Position>
using default_ring = cairn::hash_ring<std::string, cairn::indexed, cairn::virtual_nodes<Position>>;

/// A ring as its definition has it: all points in a set, by position, then by identity.
template <class Placement>
class definition {
  public:
    using position = typename Placement::position_type;
    definition(Placement const& placement, membership const& nodes) {
        for (auto const& [name, weight] : nodes) {
            std::uint64_t const identity = placement.identity(name);
            names_[identity] = name;
            for (std::size_t i = 0; i < placement.points_per_weight() * static_cast<std::size_t>(weight); ++i)
                points_.emplace(placement.point(identity, i), identity);
        }
    }
    [[nodiscard]] std::vector<std::string> preference(position h, std::size_t wanted) const {
        std::vector<std::string> found;
        auto next = points_.lower_bound({h, 0});
        for (std::size_t i = 0; i < points_.size() && found.size() < wanted; ++i, ++next) {
            if (next == points_.end()) next = points_.begin();
            std::string const& name = names_.at(next->second);
            if (std::find(found.begin(), found.end(), name) == found.end()) found.push_back(name);
        }
        return found;
    }
    [[nodiscard]] std::string owner(position h) const { return preference(h, 1).at(0); }
    [[nodiscard]] std::map<std::string, double> shares() const {
        std::map<std::string, double> shares;
        for (auto const& [identity, name] : names_) shares[name] = 0;
        position before = points_.rbegin()->first;
        for (auto const& [here, identity] : points_) {
            shares[names_.at(identity)] +=
                std::ldexp(static_cast<double>(static_cast<position>(here - before)),
                           -std::numeric_limits<position>::digits);
            before = here;
        }
        if (points_.begin()->first == points_.rbegin()->first) shares[names_.at(points_.begin()->second)] = 1;
        return shares;
    }
    /// Positions at which something could go wrong: each point and its neighbours, both ends, some at random.
    [[nodiscard]] std::vector<position> probes(std::mt19937_64& random) const {
        std::vector<position> all{0, 1, std::numeric_limits<position>::max()};
        for (auto const& point : points_)
            for (int step = -1; step <= 1; ++step) all.push_back(point.first + static_cast<position>(step));
        for (int i = 0; i < 200; ++i) all.push_back(static_cast<position>(random()));
        return all;
    }

  private:
    std::set<std::pair<position, std::uint64_t>> points_;
    std::map<std::uint64_t, std::string> names_;
};

/// What a ring says of some positions and keys. Asked through a pointer, so that the tests themselves are
/// compiled once and not for each of the 20 ring types.
template <class Position>
struct questions {
    membership nodes;
    std::size_t points_per_weight;
    test_hash hash;
    std::vector<Position> positions;
    std::vector<std::string> keys;
};
struct answers {
    std::vector<std::string> owners;  // of the positions, then of the keys
    std::vector<double> shares;
    std::uint64_t fingerprint = 0;
};
template <class Lookup, class Position>
answers ask(questions<Position> const& asked) {
    auto const circle = make<test_ring<Lookup, Position>>(asked.nodes, asked.points_per_weight, asked.hash);
    answers given{{}, circle.shares(), circle.fingerprint()};
    for (Position const h : asked.positions) given.owners.push_back(circle.node(circle.owner_of(h)));
    for (std::string const& key : asked.keys) given.owners.push_back(circle.find(key));
    return given;
}
template <class Lookup, class Position>
constexpr std::pair<std::string_view, answers (*)(questions<Position> const&)> strategy{
    Lookup::name, ask<Lookup, Position>};
template <class P>
constexpr std::array strategies{strategy<cairn::linear, P>,       strategy<cairn::linear_simd, P>,
                                strategy<cairn::standard, P>,     strategy<cairn::binary, P>,
                                strategy<cairn::eytzinger, P>,    strategy<cairn::stree, P>,
                                strategy<cairn::tree, P>,         strategy<cairn::indexed, P>,
                                strategy<cairn::indexed_line, P>, strategy<cairn::adaptive, P>};

template <class Position>
void check_against_definition(std::size_t nodes, std::size_t points_per_weight, std::uint64_t seed,
                              test_hash hash) {
    SCOPED_TRACE("seed " + std::to_string(seed) + ", nodes " + std::to_string(nodes));
    std::mt19937_64 random{seed};
    questions<Position> asked{random_nodes(random, nodes), points_per_weight, hash, {}, {}};
    cairn::virtual_nodes<Position, test_hash> const placement(points_per_weight, hash);
    definition const defined(placement, asked.nodes);
    asked.positions = defined.probes(random);
    std::vector<std::string> owners;
    for (Position const h : asked.positions) owners.push_back(defined.owner(h));
    for (int i = 0; i < 100; ++i) {
        asked.keys.push_back(random_key(random));
        owners.push_back(defined.owner(placement.position(asked.keys.back())));
    }
    auto const shares = defined.shares();
    std::uint64_t const fingerprint = ask<cairn::standard, Position>(asked).fingerprint;
    for (auto const& [name, ask_it] : strategies<Position>) {
        answers const given = ask_it(asked);
        ASSERT_EQ(given.owners, owners) << name;
        ASSERT_EQ(given.fingerprint, fingerprint) << name;
        for (std::size_t i = 0; i < nodes; ++i)
            ASSERT_NEAR(given.shares[i], shares.at(asked.nodes[i].first), 1e-12) << name;
    }
}

TEST(Placement, EachLookupFindsTheFirstPointClockwise) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed)
        for (std::size_t const nodes : {1U, 2U, 5U, 20U}) {
            check_against_definition<std::uint32_t>(nodes, seed == 1 ? 1 : 8 * seed, seed, {});
            check_against_definition<std::uint64_t>(nodes, seed == 1 ? 1 : 8 * seed, seed, {});
        }
}

TEST(Placement, TheLesserIdentityOwnsEqualPositionsUnderEachLookup) {
    for (std::size_t const nodes : {1U, 2U, 7U})
        for (std::uint64_t const places : {1U, 6U, 256U}) {
            check_against_definition<std::uint32_t>(nodes, places < 256 ? 3 : 60, places, {places});
            check_against_definition<std::uint64_t>(nodes, places < 256 ? 3 : 60, places, {places});
        }
}

template <class Position>
void check_large_ring() {
    std::mt19937_64 random{5};
    questions<Position> asked{random_nodes(random, 40), 1000, {}, {}, {}};
    for (int i = 0; i < 100; ++i) asked.keys.push_back(random_key(random));
    answers const expected = ask<cairn::standard, Position>(asked);
    for (auto const& [name, ask_it] : strategies<Position>) {
        answers const given = ask_it(asked);
        EXPECT_EQ(given.owners, expected.owners) << name;
        EXPECT_EQ(given.fingerprint, expected.fingerprint) << name;
        EXPECT_EQ(given.shares, expected.shares) << name;
    }
}

TEST(Placement, AllLookupsAgreeOnALargeRing) {
    static_assert(40 * 1000 < cairn::adaptive::many &&
                  40 * 1000 * 3 > cairn::adaptive::many);  // weights 1 to 3
    check_large_ring<std::uint32_t>();
    check_large_ring<std::uint64_t>();
}

std::vector<std::string> equal_nodes(std::size_t count) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; ++i) names.push_back("node-" + std::to_string(i));
    return names;
}
membership weighted_one(std::vector<std::string> const& names) {
    membership nodes;
    for (std::string const& name : names) nodes.emplace_back(name, 1);
    return nodes;
}

// These values were computed from the description alone, by another program, with the reference XXH3.
// If one of them changes, every fleet that uses cairn loses its data: never adapt them to the code.
TEST(Placement, GoldenPositionsNeverChange) {
    cairn::virtual_nodes<> const wide;
    cairn::virtual_nodes<std::uint32_t> const narrow;
    std::uint64_t const identity = wide.identity("node-a");
    EXPECT_EQ(identity, 0xdade'a24a'a124'81feU);
    EXPECT_EQ(narrow.identity("node-a"), identity);
    EXPECT_EQ(wide.point(identity, 0), 0x334d'afd0'ee6b'c7d9U);
    EXPECT_EQ(wide.point(identity, 1), 0x1dff'8af1'993e'8254U);
    EXPECT_EQ(wide.point(identity, 2), 0x0332'728e'b04e'e1daU);
    EXPECT_EQ(wide.point(identity, 159), 0x0b94'2acb'1d1c'760dU);
    EXPECT_EQ(wide.position("user:42"), 0x9fc1'e605'fa71'74aaU);
    EXPECT_EQ(wide.position(42), 0xd5a6'f8c8'38df'27c8U);
    EXPECT_EQ(narrow.point(identity, 1), 0x1dff'8af1U);
    EXPECT_EQ(narrow.position("user:42"), 0x9fc1'e605U);
}

template <class Position>
void check_golden(std::uint64_t fingerprint) {
    auto const circle = make<default_ring<Position>>(weighted_one(equal_nodes(10)));
    EXPECT_EQ((make<test_ring<cairn::indexed, Position>>(weighted_one(equal_nodes(10))).fingerprint()),
              fingerprint);
    EXPECT_EQ(circle.fingerprint(), fingerprint);
    constexpr int of_texts[] = {3, 6, 4, 8, 5, 2, 9, 4, 1, 0, 7, 2, 4, 8, 4, 6, 5, 8, 0, 0};
    constexpr int of_numbers[] = {5, 3, 8, 9, 2, 6, 8, 3, 9, 6, 9, 6, 6, 7, 3, 0, 4, 4, 3, 7};
    for (int key = 0; key < 20; ++key) {
        EXPECT_EQ(circle.find("key-" + std::to_string(key)), "node-" + std::to_string(of_texts[key])) << key;
        EXPECT_EQ(circle.find(key), "node-" + std::to_string(of_numbers[key])) << key;
    }
}

TEST(Placement, GoldenOwnersAndFingerprintsNeverChange) {
    check_golden<std::uint32_t>(0xd104'4f8f'7366'e0d0U);
    check_golden<std::uint64_t>(0x5072'f0d5'9214'226cU);
    EXPECT_EQ(cairn::hash_ring<>{}.fingerprint(), 0xc77b'3abb'6f87'acd9U);
}

struct unpromised {  // a hash like any other, of which nobody says that it is the same everywhere
    std::uint64_t operator()(int key) const noexcept { return static_cast<std::uint64_t>(key); }
};
struct stateless : unpromised {  // without an operator== of its own
    static constexpr bool is_placement_hash = true;
    std::uint64_t operator()(std::uint64_t key) const noexcept { return key; }
};
struct denied : unpromised {
    static constexpr bool is_placement_hash = false;
};
static_assert(!cairn::placement_hash<std::hash<int>> && !cairn::placement_hash<std::hash<std::string>>);
static_assert(!cairn::placement_hash<unpromised> && !cairn::placement_hash<denied>);
static_assert(!cairn::placement_hash_for<std::hash<int>, int>);
static_assert(cairn::placement_hash_for<test_hash, std::uint64_t> &&
              cairn::placement_hash_for<cairn::xxh3, int>);
static_assert(cairn::ring_placement<cairn::virtual_nodes<>, std::string>);
static_assert(!cairn::ring_placement<cairn::virtual_nodes<>, double>, "a double is no key");
static_assert(!cairn::ring_placement<cairn::virtual_nodes<>, int*>, "an address is no key");
static_assert(!cairn::ring_placement<int, std::string>);

TEST(Placement, PlacementsAreEqualIfTheyPlaceAlike) {
    using seeded = cairn::virtual_nodes<>;
    EXPECT_EQ(seeded{}, seeded{160});
    EXPECT_NE(seeded{}, seeded{161});
    EXPECT_NE(seeded{}, (seeded{160, cairn::xxh3{1}}));
    EXPECT_NE(seeded{}.position("a"), (seeded{160, cairn::xxh3{1}}.position("a")));
    EXPECT_NE((cairn::virtual_nodes<std::uint64_t, test_hash>{3, {1}}),
              (cairn::virtual_nodes<std::uint64_t, test_hash>{3, {2}}));
    using plain = cairn::virtual_nodes<std::uint64_t, stateless>;
    EXPECT_EQ(plain{3}, plain{3});
    EXPECT_NE(plain{3}, plain{4});
}

TEST(Placement, AWeightIsWorthExactlyItsMultipleOfPoints) {
    std::mt19937_64 random{1};
    for (std::size_t const per_weight : {1U, 7U, 160U, 333U, 1000U}) {
        membership nodes;
        for (int i = 0; i < 20; ++i)
            nodes.emplace_back("n" + std::to_string(i),
                               i == 0 ? 1 : 1 + static_cast<std::int64_t>(random() % 50));
        auto const circle = make<cairn::hash_ring<>>(nodes, per_weight);
        std::vector<std::size_t> points(nodes.size());
        for (auto const owner : circle.owners()) ++points[owner];
        for (std::size_t i = 0; i < nodes.size(); ++i)
            EXPECT_EQ(points[i], static_cast<std::size_t>(nodes[i].second) * per_weight);
    }
}

template <class Action>
void expect_refused(std::string_view named, Action action) {
    try {
        action();
        ADD_FAILURE() << named << " was taken";
    } catch (std::invalid_argument const& error) {
        EXPECT_NE(std::string_view(error.what()).find(named), std::string_view::npos) << error.what();
    }
}

TEST(Placement, RefusesWeightsAndCountsOutOfRange) {
    using placement = cairn::virtual_nodes<>;
    for (std::size_t const count :
         {std::size_t{0}, placement::max_points + 1, std::numeric_limits<std::size_t>::max()})
        expect_refused(std::to_string(count), [=] { placement{count}; });
    for (std::size_t const per_weight :
         {std::size_t{1}, std::size_t{160}, std::size_t{1000}, placement::max_points}) {
        placement const place{per_weight};
        auto const most = static_cast<std::int64_t>(placement::max_points / per_weight);
        for (std::int64_t const weight :
             {std::int64_t{0}, std::int64_t{-1}, most + 1, std::int64_t{1} << 40,
              std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()})
            expect_refused(std::to_string(weight), [&] { static_cast<void>(place.points(weight)); });
        EXPECT_EQ(place.points(1), per_weight);
        EXPECT_EQ(place.points(most), static_cast<std::size_t>(most) * per_weight);
    }
}

TEST(Placement, NodesWhoseLabelsWouldRunTogetherShareNoPoint) {
    cairn::virtual_nodes<> const placement;
    std::set<std::uint64_t> all;
    std::size_t points = 0;
    for (char const* const name :
         {"s", "s1", "s11", "s111", "s1:1", "s1-1", "s11-1", "s1-11", "s1:", "1", "11", ""})
        for (std::size_t i = 0; i < 2000; ++i, ++points)
            all.insert(placement.point(placement.identity(name), i));
    EXPECT_EQ(all.size(), points);
}

double fullest(std::size_t points_per_weight) {
    auto const shares = make<cairn::hash_ring<>>(weighted_one(equal_nodes(100)), points_per_weight).shares();
    return *std::max_element(shares.begin(), shares.end()) * 100;
}

TEST(Placement, TheFullestOfAHundredEqualNodesIsNearTheMean) {
    RecordProperty("fullest_160", std::to_string(fullest(160)));
    RecordProperty("fullest_1000", std::to_string(fullest(1000)));
    EXPECT_LE(fullest(160), 1.25);
    EXPECT_LE(fullest(1000), 1.09);
}

TEST(Placement, SharesFollowWeights) {
    membership nodes;
    for (int i = 0; i < 40; ++i) nodes.emplace_back("node-" + std::to_string(i), 1 + i % 8);
    auto const circle = make<cairn::hash_ring<>>(nodes, 1000);
    auto const shares = circle.shares();
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        double const fair = static_cast<double>(nodes[i].second) / (5.0 * 36);
        double const deviation = 1 / std::sqrt(1000.0 * static_cast<double>(nodes[i].second));
        EXPECT_NEAR(shares[i] / fair, 1, 5 * deviation) << nodes[i].first;
    }
}

template <class Position>
double check_growth_by_one(std::size_t points_per_weight, std::string const& joiner, int keys) {
    using tested = default_ring<Position>;
    auto const before = make<tested>(weighted_one(equal_nodes(100)), points_per_weight);
    auto after = before;
    after.add(joiner);
    auto const plan = moved(before, after);
    EXPECT_NEAR(plan.share, after.shares()[100], 1e-12);
    for (auto const& arc : plan.arcs) EXPECT_EQ(arc.to, joiner);
    int changed = 0;
    for (int key = 0; key < keys; ++key) {
        if (before.find(key) == after.find(key)) continue;
        ++changed;
        EXPECT_EQ(after.find(key), joiner) << key;
    }
    EXPECT_NEAR(static_cast<double>(changed) / keys, plan.share, 5 * std::sqrt(plan.share / keys));
    after.remove(joiner);
    EXPECT_EQ(after.fingerprint(), before.fingerprint());
    return plan.share * 101;
}

TEST(Placement, The101stNodeTakesItsShareAndNothingElseMoves) {
    EXPECT_NEAR(check_growth_by_one<std::uint32_t>(1000, "node-100", 200'000), 1, 0.1);
    EXPECT_NEAR(check_growth_by_one<std::uint64_t>(1000, "node-100", 200'000), 1, 0.1);
    // With 160 points a single node's share deviates by 1/sqrt(160) = 8 %: 1 in 5 is off by more than 10 %.
    double sum = 0;
    for (int i = 0; i < 50; ++i) {
        double const share = check_growth_by_one<std::uint64_t>(160, "node-" + std::to_string(100 + i), 2000);
        EXPECT_NEAR(share, 1, 5 / std::sqrt(160.0)) << i;
        sum += share;
    }
    EXPECT_NEAR(sum / 50, 1, 5 / std::sqrt(160.0 * 50));
}

// ---- detail/ring_points.hpp against std::sort, std::set and the like. ----

template <class Position>
using points_of = cairn::detail::point_list<Position>;

template <class Position>
points_of<Position> random_points(std::mt19937_64& random, std::size_t count, std::size_t owners, int kind) {
    points_of<Position> list;
    for (std::size_t i = 0; i < count; ++i) {
        auto position = static_cast<Position>(random());
        if (kind == 1) position = static_cast<Position>(position % 3 * 1'000'000'000);  // few values
        if (kind == 2) position = static_cast<Position>(position % (2 * count + 1));    // one bucket
        if (kind == 3)
            position = static_cast<Position>(Position{0} - position % (count + 1));  // the other end
        list.positions.push_back(position);
        list.owners.push_back(static_cast<std::uint16_t>(random() % owners));
    }
    return list;
}
template <class Position>
std::vector<std::tuple<Position, std::uint64_t, std::uint16_t>> rows(
    points_of<Position> const& list, std::vector<std::uint64_t> const& identities) {
    std::vector<std::tuple<Position, std::uint64_t, std::uint16_t>> all;
    for (std::size_t i = 0; i < list.positions.size(); ++i)
        all.emplace_back(list.positions[i], identities[list.owners[i]], list.owners[i]);
    return all;
}

template <class Position>
void check_points(std::uint64_t seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random{seed};
    std::size_t const count = seed < 70 ? seed / 2 : random() % 2000;
    std::vector<std::uint64_t> identities(1 + random() % 20);
    for (auto& identity : identities) identity = random();
    auto const identity_of = [&](std::size_t owner) { return identities[owner]; };
    for (int kind = 0; kind < 4; ++kind) {
        auto const list = random_points<Position>(random, count, identities.size(), kind);
        auto sorted = list;
        cairn::detail::sort_points(sorted, identity_of);
        auto by_comparison = list;
        cairn::detail::sort_points_by_comparison(by_comparison, identity_of);
        auto expected = rows(list, identities);
        std::sort(expected.begin(), expected.end());
        ASSERT_EQ(rows(sorted, identities), expected) << "kind " << kind;
        ASSERT_EQ(rows(by_comparison, identities), expected) << "kind " << kind;

        auto const gone = static_cast<std::uint16_t>(random() % identities.size());
        std::vector<std::uint32_t> erased;
        std::vector<std::uint32_t> places;
        std::vector<Position> rest;
        for (std::uint32_t i = 0; i < count; ++i)
            if (sorted.owners[i] == gone) {
                erased.push_back(i);
                places.push_back(static_cast<std::uint32_t>(rest.size()));
            } else {
                rest.push_back(sorted.positions[i]);
            }
        auto changed = sorted.positions;
        cairn::detail::erase_at(changed, erased);
        ASSERT_EQ(changed, rest);
        cairn::detail::reserve_an_eighth(changed, count);
        cairn::detail::insert_at(changed, places, [&](std::size_t i) { return sorted.positions[erased[i]]; });
        ASSERT_EQ(changed, sorted.positions);
    }
}

TEST(RingPoints, SortInsertAndEraseAgreeWithTheStandardLibrary) {
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        check_points<std::uint32_t>(seed);
        check_points<std::uint64_t>(seed);
    }
}

TEST(RingPoints, SeenNodesIsASet) {
    for (std::size_t const nodes : {1U, 15U, 16U, 17U, 64U, 65U, 1000U, 65'535U}) {
        std::mt19937_64 random{nodes};
        std::set<std::uint16_t> expected;
        cairn::detail::seen_nodes seen;
        for (std::size_t i = 0; i < 3 * nodes + 40; ++i) {
            auto const node = static_cast<std::uint16_t>(random() % nodes);
            ASSERT_EQ(seen.insert(node, nodes), expected.insert(node).second) << node << " of " << nodes;
        }
    }
}

}  // namespace
