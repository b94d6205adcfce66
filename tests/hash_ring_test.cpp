// SPDX-License-Identifier: MIT
#include <cairn/hash_ring.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <new>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/count_allocations.hpp"
#include "support/rings.hpp"

namespace {

using support::fail_after;
using support::make;
using support::members_of;
using support::membership;
using support::random_key;
using support::random_nodes;
using support::test_hash;
using support::test_ring;

/// All that can be seen of a ring.
template <class Ring>
auto seen(Ring const& ring) {
    std::vector<std::pair<std::string, std::int64_t>> members;
    for (auto const& one : ring.members()) members.emplace_back(one.node, one.weight);
    std::vector<std::string> found;
    for (int key = 0; key < 50 && !ring.empty(); ++key) found.push_back(ring.find(key));
    auto const positions = ring.positions();
    auto const owners = ring.owners();
    return std::tuple(std::move(members), std::move(found), ring.fingerprint(), ring.shares(),
                      std::vector(positions.begin(), positions.end()),
                      std::vector(owners.begin(), owners.end()));
}

template <class Error, class Action>
void expect_error(std::string_view named, Action action) {
    try {
        action();
    } catch (Error const& error) {
        EXPECT_NE(std::string_view(error.what()).find(named), std::string_view::npos)
            << '"' << error.what() << "\" does not name " << named;
        return;
    }
    ADD_FAILURE() << "no error that names " << named;
}

/// With one width of positions, since membership does not depend on it; placement_test has both.
template <class Check>
void for_each_strategy(Check check) {
    auto const with = [&]<class Lookup>() {
        SCOPED_TRACE(Lookup::name);
        check.template operator()<test_ring<Lookup, std::uint64_t>>();
    };
    with.template operator()<cairn::linear>();
    with.template operator()<cairn::linear_simd>();
    with.template operator()<cairn::standard>();
    with.template operator()<cairn::binary>();
    with.template operator()<cairn::eytzinger>();
    with.template operator()<cairn::stree>();
    with.template operator()<cairn::tree>();
    with.template operator()<cairn::indexed>();
    with.template operator()<cairn::indexed_line>();
    with.template operator()<cairn::adaptive>();
}

using ring = test_ring<cairn::indexed, std::uint64_t>;
static_assert(noexcept(std::declval<cairn::hash_ring<> const&>().find(1)) &&
              noexcept(std::declval<cairn::hash_ring<> const&>().try_find("a")));
static_assert(noexcept(std::declval<cairn::hash_ring<> const&>().find_index(1)) &&
              noexcept(std::declval<cairn::hash_ring<> const&>().owner_of(1)));
static_assert(noexcept(std::declval<cairn::hash_ring<> const&>().find_n(1, {})));
static_assert(noexcept(std::declval<cairn::hash_ring<> const&>().find_each(std::span<int const>{}, {})));
static_assert(noexcept(std::declval<cairn::hash_ring<> const&>().walk(1, [](std::size_t) noexcept {
    return true;
})));
static_assert(!noexcept(std::declval<cairn::hash_ring<> const&>().walk(1, [](std::size_t) { return true; })));
static_assert(std::is_nothrow_move_constructible_v<cairn::hash_ring<>> &&
              std::is_nothrow_move_assignable_v<cairn::hash_ring<>>);

void check_order(std::uint64_t seed, std::size_t points_per_weight, std::uint64_t places) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    using tested = test_ring<cairn::indexed, std::uint64_t>;
    std::mt19937_64 random{seed};
    membership nodes = random_nodes(random, 1 + seed % 12);
    auto const reference = make<tested>(nodes, points_per_weight, test_hash{places});
    std::shuffle(nodes.begin(), nodes.end(), random);
    auto const shuffled = make<tested>(nodes, points_per_weight, test_hash{places});
    tested grown{reference.placement()};
    for (auto const& [name, weight] : nodes) grown.add(name, weight);
    // Any change at all, for a while; then what is missing is added, what is too much removed.
    membership const others = random_nodes(random, 20);
    tested wandered{reference.placement()};
    for (int step = 0; step < 60; ++step) {
        auto const& [name, weight] = others[random() % others.size()];
        if (!wandered.contains(name))
            wandered.add(name, weight);
        else if (random() % 2 == 0)
            wandered.remove(name);
        else
            wandered.reweight(name, 1 + static_cast<std::int64_t>(random() % 4));
    }
    for (auto const& [name, weight] : nodes) {
        if (wandered.contains(name))
            wandered.reweight(name, weight);
        else
            wandered.add(name, weight);
    }
    for (auto const& other : others)
        if (wandered.contains(other.first) && !reference.contains(other.first)) wandered.remove(other.first);
    for (tested const* const one : {&shuffled, &std::as_const(grown), &std::as_const(wandered)}) {
        ASSERT_EQ(one->fingerprint(), reference.fingerprint());
        ASSERT_EQ(one->size(), reference.size());
        for (int i = 0; i < 50; ++i) {
            std::string const key = random_key(random);
            ASSERT_EQ(one->find(key), reference.find(key)) << key;
        }
        for (auto const& member : one->members()) {
            auto const same = std::find_if(nodes.begin(), nodes.end(),
                                           [&](auto const& n) { return n.first == member.node; });
            ASSERT_EQ(member.weight, same->second);
        }
    }
}

TEST(HashRing, TheOrderOfChangesNeverMatters) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        check_order(seed, 40, 0);
        check_order(seed, 3, 6);
        check_order(seed, 5, 1);
    }
}

TEST(HashRing, AListOfNodesIsTheSameAsAddingThem) {
    ring grown;
    for (char const* const name : {"c", "a", "b"}) grown.add(name);
    EXPECT_EQ((ring{"a", "b", "c"}).fingerprint(), grown.fingerprint());
    EXPECT_NE((ring{"a", "b", "d"}).fingerprint(), grown.fingerprint());
}

TEST(HashRing, FindNListsTheDistinctNodesClockwise) {
    for (std::size_t const nodes : {1U, 2U, 3U, 15U, 16U, 17U, 18U, 63U, 64U, 65U, 130U}) {
        SCOPED_TRACE(nodes);
        std::mt19937_64 random{nodes};
        using tested = test_ring<cairn::indexed, std::uint32_t>;
        auto const circle = make<tested>(random_nodes(random, nodes), 5, test_hash{256});
        auto const positions = circle.positions();
        for (std::size_t const n : {std::size_t{0}, std::size_t{1}, std::size_t{3}, std::size_t{15},
                                    std::size_t{16}, std::size_t{17}, nodes, nodes + 1, nodes + 40}) {
            for (int i = 0; i < 20; ++i) {
                std::string const key = random_key(random);
                std::vector<std::string const*> expected;
                auto point = static_cast<std::size_t>(
                    std::ranges::lower_bound(positions, circle.placement().position(key)) -
                    positions.begin());
                for (std::size_t step = 0; step < positions.size() && expected.size() < n; ++step, ++point) {
                    std::string const* const node = &circle.node(circle.owners()[point % positions.size()]);
                    if (std::ranges::find(expected, node) == expected.end()) expected.push_back(node);
                }
                std::vector<std::string const*> out(n + 1, nullptr);
                ASSERT_EQ(circle.find_n(key, std::span(out).first(n)), std::min(n, nodes)) << key;
                expected.resize(n + 1, nullptr);  // what is past the nodes, or past the span, is not written
                ASSERT_EQ(out, expected) << key;
                ASSERT_TRUE(n == 0 || out[0] == &circle.find(key));
            }
        }
    }
}

TEST(HashRing, WalkStopsWhenToldAndMeetsEachNodeOnce) {
    std::mt19937_64 random{7};
    auto const circle = make<ring>(random_nodes(random, 30), 4);
    for (std::size_t stop = 1; stop <= 31; ++stop) {
        std::vector<std::size_t> met;
        circle.walk(stop, [&](std::size_t node) {
            met.push_back(node);
            return met.size() == stop;
        });
        EXPECT_EQ(met.size(), std::min<std::size_t>(stop, 30));
        EXPECT_EQ(met.front(), circle.find_index(stop));
        EXPECT_EQ(std::set(met.begin(), met.end()).size(), met.size());
    }
}

TEST(HashRing, FindEachIsFindForEachKey) {
    std::mt19937_64 random{8};
    auto const circle = make<ring>(random_nodes(random, 20));
    for (std::size_t const n : {0U, 1U, 31U, 32U, 33U, 64U, 1000U}) {
        std::vector<std::string> keys(n);
        for (std::string& key : keys) key = random_key(random);
        std::vector<std::string const*> out(n + 1, nullptr);
        circle.find_each(std::span<std::string const>(keys), out);
        for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(out[i], &circle.find(keys[i])) << i << " of " << n;
        EXPECT_EQ(out[n], nullptr);
    }
    ring{}.find_each(std::span<int const>{}, {});
}

TEST(HashRing, LookupsAllocateNothing) {
    for_each_strategy([]<class Ring>() {
        std::mt19937_64 random{9};
        auto const circle = make<Ring>(random_nodes(random, 40), 10);
        std::array<std::string_view, 100> keys;
        keys.fill("a key that is longer than what a std::string holds in itself");
        std::array<std::string const*, 100> out{};
        std::size_t const before = support::allocations;
        for (int key = 0; key < 200; ++key) {
            out[0] = &circle.find(key);
            out[1] = circle.try_find(keys[0]);
            out[2] = &circle.node(circle.find_index("user"));
            out[circle.find_n(key, out) - 1] = nullptr;
        }
        circle.find_each(std::span<std::string_view const>(keys), out);
        EXPECT_EQ(support::allocations, before);
    });
}

TEST(HashRing, SharesAreWhatKeysExperience) {
    std::mt19937_64 random{10};
    auto const circle = make<ring>(random_nodes(random, 25));
    auto const shares = circle.shares();
    EXPECT_NEAR(std::accumulate(shares.begin(), shares.end(), 0.0), 1.0, 1e-12);
    constexpr int keys = 100'000;
    std::vector<double> sampled(circle.size(), 0);
    for (int key = 0; key < keys; ++key) sampled[circle.find_index(key)] += 1.0 / keys;
    for (std::size_t i = 0; i < shares.size(); ++i)  // 5 standard deviations of a sample this large
        EXPECT_NEAR(sampled[i], shares[i], 5 * std::sqrt(shares[i] * (1 - shares[i]) / keys))
            << circle.node(i);
    EXPECT_EQ((ring{"alone"}).shares(), std::vector{1.0});
    EXPECT_EQ(
        (cairn::hash_ring<int, cairn::indexed, cairn::virtual_nodes<>>({{7, 3}}, cairn::virtual_nodes<>{1}))
            .shares(),
        std::vector{1.0});
}

template <class Before, class After>
void check_moved(Before const& before, After const& after, std::mt19937_64& random) {
    using position = typename Before::position_type;
    auto const plan = moved(before, after);
    std::vector<position> probes{0, std::numeric_limits<position>::max()};
    std::map<std::string, double> gained;
    double sum = 0;
    for (std::size_t i = 0; i < plan.arcs.size(); ++i) {
        auto const& arc = plan.arcs[i];
        ASSERT_LE(arc.first, arc.last);
        ASSERT_NE(arc.from, arc.to);
        if (i > 0) {
            auto const& left = plan.arcs[i - 1];
            ASSERT_LT(left.last, arc.first);
            ASSERT_FALSE(left.last + 1 == arc.first && left.from == arc.from && left.to == arc.to)
                << "not joined";
        }
        for (int step = -1; step <= 1; ++step)
            for (position const end : {arc.first, arc.last})
                probes.push_back(end + static_cast<position>(step));
        sum += arc.share();
        gained[arc.to] += arc.share();
        gained[arc.from] -= arc.share();
    }
    ASSERT_NEAR(sum, plan.share, 1e-12);
    for (int i = 0; i < 300; ++i) probes.push_back(static_cast<position>(random()));
    for (position const h : probes) {
        auto const past =
            std::ranges::upper_bound(plan.arcs, h, {}, [](auto const& arc) { return arc.first; });
        bool const inside = past != plan.arcs.begin() && h <= std::prev(past)->last;
        std::string const& from = before.node(before.owner_of(h));
        std::string const& to = after.node(after.owner_of(h));
        ASSERT_EQ(inside, from != to) << h;
        ASSERT_TRUE(!inside || (std::prev(past)->from == from && std::prev(past)->to == to)) << h;
    }
    auto const old_shares = before.shares();
    for (std::size_t i = 0; i < before.size(); ++i) gained[before.node(i)] += old_shares[i];
    auto const new_shares = after.shares();
    for (std::size_t i = 0; i < after.size(); ++i) gained[after.node(i)] -= new_shares[i];
    for (auto const& [node, rest] : gained) ASSERT_NEAR(rest, 0, 1e-12) << node;
}

template <class Position>
void check_moved_at_random(std::uint64_t seed, std::size_t points_per_weight, test_hash hash) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random{seed};
    membership nodes = random_nodes(random, 1 + seed % 9);
    auto const before = make<test_ring<cairn::indexed, Position>>(nodes, points_per_weight, hash);
    membership const others = random_nodes(random, 1 + random() % 9);
    check_moved(before, make<test_ring<cairn::tree, Position>>(others, points_per_weight, hash), random);
    std::shuffle(nodes.begin(), nodes.end(), random);
    auto const same = moved(before, make<test_ring<cairn::binary, Position>>(nodes, points_per_weight, hash));
    ASSERT_TRUE(same.arcs.empty());
    ASSERT_EQ(same.share, 0.0);
}

TEST(HashRing, MovedIsExactlyTheKeysThatChangeTheirNode) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        check_moved_at_random<std::uint32_t>(seed, 10, {});
        check_moved_at_random<std::uint64_t>(seed, 1, {});
        check_moved_at_random<std::uint64_t>(seed, 2, {6});
        check_moved_at_random<std::uint32_t>(seed, 2, {1});
    }
    auto const all = moved(ring{"old"}, ring{"new"});  // one node for another: one arc, the whole circle
    ASSERT_EQ(all.arcs.size(), 1U);
    EXPECT_EQ(all.arcs[0].share(), 1.0);
    EXPECT_NEAR(all.share, 1.0, 1e-12);
    EXPECT_THROW(static_cast<void>(moved(ring{}, ring{"a"})), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(moved(ring{"a"}, ring{})), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(moved(ring{"a"}, make<ring>({{"a", 1}}, 159))), std::invalid_argument);
}

TEST(HashRing, AChangeOfOneNodeMovesKeysOnlyToItOrFromIt) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937_64 random{seed};
        auto const start = make<ring>(random_nodes(random, 2 + seed), 20);
        std::string const node = start.node(random() % start.size());
        auto heavier = start, lighter = start, without = start;
        heavier.reweight(node, 9);
        lighter.reweight(node, 9);
        lighter.reweight(node, 1);
        without.remove(node);
        auto const only = [&](ring const& before, ring const& after, bool to_it) {
            auto const plan = moved(before, after);
            EXPECT_GT(plan.arcs.size(), 0U);
            for (auto const& arc : plan.arcs) ASSERT_EQ(to_it ? arc.to : arc.from, node);
            for (int key = 0; key < 500; ++key)
                ASSERT_TRUE(before.find(key) == after.find(key) ||
                            (to_it ? after : before).find(key) == node);
        };
        only(start, heavier, true);
        only(heavier, lighter, false);
        only(start, without, false);
        only(without, start, true);
    }
}

enum class rack : std::uint8_t { left = 1, right = 2 };
struct machine {
    std::string name;
    int port = 0;
    bool operator==(machine const&) const = default;
};
struct machine_hash : cairn::xxh3 {
    using cairn::xxh3::operator();
    std::uint64_t operator()(machine const& m) const noexcept { return (*this)(m.name, m.port); }
};

TEST(HashRing, TakesAnyKeyThatItsHashTakes) {
    std::mt19937_64 random{20};
    auto const circle = make<cairn::hash_ring<>>(random_nodes(random, 30));
    for (int i = 0; i < 300; ++i) {
        std::string const text = random_key(random);
        EXPECT_EQ(circle.find(text), circle.find(std::string_view(text)));
        EXPECT_EQ(circle.find(text), circle.find(text.c_str()));
        EXPECT_EQ(circle.find(text), circle.node(circle.owner_of(cairn::xxh3{}(text))));
        EXPECT_EQ(circle.find(i), circle.find(static_cast<std::uint64_t>(i)));
        EXPECT_EQ(circle.find(i), circle.node(circle.owner_of(cairn::xxh3{}(i))));
        EXPECT_EQ(circle.find(std::tuple(text, i)), circle.find(std::pair(std::string_view(text), i)));
        EXPECT_EQ(circle.find(std::tuple(text, i)), circle.node(circle.owner_of(cairn::xxh3{}(text, i))));
    }
    EXPECT_EQ(circle.find("user:42"), circle.find(std::string("user:42")));
    EXPECT_EQ(circle.find(rack::right), circle.find(2));
}

TEST(HashRing, TakesAnyNodeThatItsHashTakes) {
    cairn::hash_ring<int> numbers{1, 2, 3};
    expect_error<std::invalid_argument>("duplicate node 2", [&] { numbers.add(2); });
    cairn::hash_ring<rack> racks{rack::left, rack::right};
    expect_error<std::invalid_argument>("duplicate node 2", [&] { racks.add(rack::right); });
    EXPECT_EQ(racks.find("k") == rack::left ? 1 : 2,
              (cairn::hash_ring<int>{1, 2}.find("k")));  // enums hash by value
    cairn::hash_ring<machine, cairn::indexed, cairn::virtual_nodes<std::uint64_t, machine_hash>> machines;
    machines.add({"a", 1});
    machines.add({"a", 2});
    auto const hash = std::to_string(machine_hash{}(machine{"a", 3}));
    expect_error<std::invalid_argument>(hash, [&] { machines.remove({"a", 3}); });
    machines.remove({"a", 1});
    EXPECT_EQ(machines.find("any"), (machine{"a", 2}));
}

TEST(HashRing, BracesTakeNodesOrNodesWithWeights) {
    ring const equal{"a", "b"};
    ring const weighted{{"a", 1}, {"b", 2}};
    ASSERT_EQ(equal.size(), 2U);
    ASSERT_EQ(weighted.size(), 2U);
    EXPECT_EQ(equal.points(), 320U);
    EXPECT_EQ(weighted.points(), 480U);
    EXPECT_EQ(weighted.members()[1].node, "b");
    EXPECT_EQ(weighted.members()[1].weight, 2);
    EXPECT_EQ((ring{{"a", 2}}).points(), 320U);
    EXPECT_EQ((cairn::hash_ring<int>{{7, 3}, {8, 1}}).points(), 640U);
}

struct port {  // a node that can be hashed and no more
    int number = 0;
};
struct port_hash : cairn::xxh3 {
    using cairn::xxh3::operator();
    std::uint64_t operator()(port const& p) const noexcept { return (*this)(p.number); }
};

TEST(HashRing, APlanNeedsNodesThatHashAndNotNodesThatCompare) {
    using ports = cairn::hash_ring<port, cairn::indexed, cairn::virtual_nodes<std::uint64_t, port_hash>>;
    ports const before{port{1}, port{2}};
    ports after = before;
    after.add(port{3});
    auto const plan = moved(before, after);
    EXPECT_NEAR(plan.share, after.shares()[2], 1e-12);
    for (auto const& arc : plan.arcs) ASSERT_EQ(arc.to.number, 3);
}

TEST(HashRing, ARefusedChangeNamesTheValueAndChangesNothing) {
    using bad = std::invalid_argument;
    std::mt19937_64 random{21};
    ring circle = make<ring>(random_nodes(random, 8), 20);
    circle.add("known");
    auto const before = seen(circle);
    std::string const long_name(500, 'x');
    expect_error<bad>("\"known\"", [&] { circle.add("known"); });
    expect_error<bad>("duplicate node", [&] { circle.add(circle.node(3)); });  // a node of the ring itself
    expect_error<bad>("\"stranger\"", [&] { circle.remove("stranger"); });
    expect_error<bad>("\"stranger\"", [&] { circle.reweight("stranger", 2); });
    expect_error<bad>('"' + std::string(80, 'x') + "...\"", [&] { circle.remove(long_name); });
    for (std::int64_t const weight : {std::int64_t{0}, std::int64_t{-3}, std::int64_t{1} << 40}) {
        auto const named = "not " + std::to_string(weight);
        expect_error<bad>(named, [&] { circle.add("new", weight); });
        expect_error<bad>(named, [&] { circle.reweight("known", weight); });
        expect_error<bad>(named, [&] { circle.assign({{"a", 1}, {"b", weight}}); });
    }
    expect_error<bad>("\"twice\"", [&] { circle.assign({{"twice", 1}, {"b", 1}, {"twice", 2}}); });
    EXPECT_EQ(seen(circle), before);
    expect_error<bad>("\"twice\"", [] { static_cast<void>(ring{"twice", "b", "twice"}); });
    expect_error<std::length_error>(std::to_string((std::size_t{1} << 28) + (std::size_t{1} << 24)), [] {
        membership nodes;
        for (int i = 0; i < 17; ++i) nodes.emplace_back(std::to_string(i), 1);
        make<ring>(nodes, ring::placement_type::max_points);
    });
}

TEST(HashRing, Holds65535NodesAndNotOneMore) {
    using crowd = cairn::hash_ring<int, cairn::indexed, cairn::virtual_nodes<std::uint64_t>>;
    std::vector<crowd::member> nodes;
    for (int i = 0; i < 65'535; ++i) nodes.push_back({i, 1});
    crowd circle(nodes, cairn::virtual_nodes<>{1});
    auto const before = circle.fingerprint();
    nodes.push_back({65'535, 1});
    expect_error<std::length_error>("not 65536", [&] { circle.add(65'535); });
    expect_error<std::length_error>("not 65536", [&] { circle.assign(nodes); });
    EXPECT_EQ(circle.fingerprint(), before);
    std::vector<int const*> all(circle.size());
    EXPECT_EQ(circle.find_n("key", all), circle.size());
    EXPECT_EQ(std::set(all.begin(), all.end()).size(), circle.size());
    circle.remove(*all[0]);
    EXPECT_EQ(&circle.find("key"), &circle.node(circle.find_index("key")));
    circle.add(65'535);
    EXPECT_EQ(circle.size(), 65'535U);
}

TEST(HashRing, AFailedAllocationChangesNothing) {
    for_each_strategy([]<class Ring>() {
        std::mt19937_64 random{22};
        std::string const name = "a name that is too long to be held in the string itself";
        auto start = make<Ring>(random_nodes(random, 6), 3);
        start.add(name, 2);
        auto const others = members_of<Ring>(random_nodes(random, 9));
        auto const check = [&](std::function<void(Ring&)> const& change) {
            auto const before = seen(start);
            auto expected = start;
            change(expected);
            for (std::size_t n = 0;; ++n) {
                auto circle = start;
                try {
                    fail_after const failing(n);
                    change(circle);
                } catch (std::bad_alloc const&) {
                    ASSERT_EQ(seen(circle), before) << "after " << n << " support::allocations";
                    continue;
                }
                ASSERT_GE(n, 2U) << "nothing has failed";
                ASSERT_EQ(seen(circle), seen(expected));
                return;
            }
        };
        check([&](Ring& circle) { circle.add("another name that is too long to be held in it", 2); });
        check([&](Ring& circle) { circle.remove(name); });
        check([&](Ring& circle) { circle.reweight(name, 5); });
        check([&](Ring& circle) { circle.reweight(name, 1); });
        check([&](Ring& circle) { circle.assign(others); });
    });
}

TEST(HashRing, AnEmptyRingOwnsNothingAndCanBeFilledAgain) {
    for_each_strategy([]<class Ring>() {
        auto const expect_empty = [](Ring const& circle) {
            std::array<std::string const*, 3> out{};
            EXPECT_TRUE(circle.empty() && circle.size() == 0 && circle.points() == 0 &&
                        circle.members().empty());
            EXPECT_TRUE(circle.positions().empty() && circle.owners().empty() && circle.shares().empty());
            EXPECT_EQ(circle.try_find("key"), nullptr);
            EXPECT_EQ(circle.find_n("key", out), 0U);
            EXPECT_FALSE(circle.contains("a"));
            EXPECT_EQ(circle.fingerprint(), Ring{}.fingerprint());
        };
        Ring circle;
        expect_empty(circle);
        auto const filled = make<Ring>({{"a", 1}, {"b", 2}});
        circle.add("b", 2);
        circle.add("a", 1);
        EXPECT_EQ(circle.fingerprint(), filled.fingerprint());
        circle.remove(circle.node(0));  // the argument is the very node that goes
        circle.remove(circle.node(0));
        expect_empty(circle);
        circle = filled;
        circle.assign({});
        expect_empty(circle);
        circle = filled;
        auto copy = circle;
        auto const moved_to = std::move(circle);
        expect_empty(circle);  // NOLINT(bugprone-use-after-move): a moved-from ring is an empty one
        circle.add("c");
        EXPECT_EQ(circle.find("key"), "c");
        copy.reweight(copy.node(1), 1);  // copies are independent
        copy.remove("a");
        EXPECT_EQ(copy.find("key"), "b");
        EXPECT_EQ(seen(moved_to), seen(filled));
    });
}

}  // namespace
