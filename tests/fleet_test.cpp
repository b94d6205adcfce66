// SPDX-License-Identifier: MIT
#include <cairn/fleet.hpp>
#include <cairn/fleets/ketama.hpp>
#include <cairn/fleets/libmemcached.hpp>
#include <cairn/fleets/nginx.hpp>
#include <cairn/fleets/twemproxy.hpp>
#include <cairn/router.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/count_allocations.hpp"

namespace {

/// A server is the list of its points, so a test says where they lie. A key is four bytes, the position
/// itself.
template <class Position>
struct given {
    using server_type = std::vector<Position>;
    using position_type = Position;
    [[nodiscard]] Position position(std::string_view key) const noexcept {
        Position h = 0;
        for (char const letter : key) h = static_cast<Position>(h << 8 | static_cast<unsigned char>(letter));
        return h;
    }
    [[nodiscard]] cairn::fleet_points<Position> points(std::span<server_type const> servers) const {
        if (servers.empty()) throw std::invalid_argument("no server");
        cairn::fleet_points<Position> all;
        for (std::size_t i = 0; i < servers.size(); ++i)
            for (Position const point : servers[i]) all.add(point, i);
        return all;
    }
};
template <class Position>
struct given_nearest : given<Position> {
    static constexpr bool nearest = true;
};
template <class Position>
struct given_dropping : given<Position> {
    static constexpr bool drops_equal_points = true;
};
template <class Position>
struct given_low : given<Position> {
    static constexpr bool low_bits_only = true;
};

static_assert(cairn::router<cairn::fleet_ring<given<std::uint32_t>>, std::string_view>);
static_assert(!cairn::fleet_placement<int> && cairn::fleet_placement<given<std::uint64_t>>);
static_assert(cairn::fleet_rule<cairn::fleets::nginx_plain> && !cairn::fleet_rule<given<std::uint32_t>>);
static_assert(!cairn::fleet_placement<cairn::fleets::nginx_plain>);

/// The owner as the definition has it: all points one by one.
template <class Position>
std::size_t owner_by_definition(std::vector<std::vector<Position>> const& servers, Position h, bool nearest) {
    std::size_t best = 0;
    Position best_ahead = std::numeric_limits<Position>::max();
    bool any = false;
    std::size_t behind = 0;
    Position best_behind = std::numeric_limits<Position>::max();
    for (std::size_t i = 0; i < servers.size(); ++i)
        for (Position const point : servers[i]) {
            auto const ahead = static_cast<Position>(point - h);
            if (!any || ahead < best_ahead) best = i, best_ahead = ahead;
            auto const back = static_cast<Position>(h - point);
            // The point at h itself is ahead; the last of equals is the one before.
            if (back != 0 && back <= best_behind) behind = i, best_behind = back;
            any = true;
        }
    return nearest && best_ahead != 0 && best_behind <= best_ahead ? behind : best;
}

template <class Position>
std::vector<std::vector<Position>> random_servers(std::mt19937_64& random, Position range) {
    std::vector<std::vector<Position>> servers(1 + random() % 6);
    for (auto& server : servers)
        for (std::size_t left = random() % 20; left > 0; --left)
            server.push_back(range == 0 ? static_cast<Position>(random())
                                        : static_cast<Position>(random() % range));
    servers.front().push_back(range == 0 ? static_cast<Position>(random())
                                         : static_cast<Position>(random() % range));
    return servers;
}

template <class Placement, class Lookup>
void check_against_definition(std::uint64_t seed, bool nearest) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    using position = typename Placement::position_type;
    std::mt19937_64 random{seed};
    for (position const range : {position{0}, position{30}, position{1000}, position{40'000}})
        for (int round = 0; round < 20; ++round) {
            auto const servers = random_servers<position>(random, range);
            cairn::fleet_ring<Placement, Lookup> const ring(servers);
            std::vector<position> probes{0, 1, std::numeric_limits<position>::max()};
            for (auto const& server : servers)
                for (position const point : server)
                    for (int step = -1; step <= 1; ++step)
                        probes.push_back(static_cast<position>(point + static_cast<position>(step)));
            for (int i = 0; i < 50; ++i) probes.push_back(static_cast<position>(random()));
            for (position const h : probes)
                ASSERT_EQ(ring.owner_of(h), owner_by_definition(servers, h, nearest))
                    << h << ", range " << range;
        }
}

TEST(FleetRing, GivesAKeyToTheFirstPointAtOrAfterItAndTheFirstServerOfEquals) {
    check_against_definition<given<std::uint32_t>, cairn::indexed>(1, false);
    check_against_definition<given<std::uint64_t>, cairn::indexed>(2, false);
    check_against_definition<given<std::uint32_t>, cairn::standard>(3, false);
    check_against_definition<given_dropping<std::uint32_t>, cairn::indexed>(4, false);
    check_against_definition<given_low<std::uint32_t>, cairn::indexed>(5, false);
    check_against_definition<given_low<std::uint64_t>, cairn::adaptive>(6, false);
}

TEST(FleetRing, GivesAKeyToTheNearestPointIfThePlacementSaysSo) {
    check_against_definition<given_nearest<std::uint32_t>, cairn::indexed>(7, true);
    check_against_definition<given_nearest<std::uint64_t>, cairn::standard>(8, true);
}

TEST(FleetRing, DropsEqualPointsOnlyIfThePlacementSaysSo) {
    std::vector<std::vector<std::uint32_t>> const servers{{5, 5, 9}, {5, 7, 9}};
    cairn::fleet_ring<given<std::uint32_t>> const all(servers);
    cairn::fleet_ring<given_dropping<std::uint32_t>> const some(servers);
    EXPECT_EQ(all.points(), 6u);
    ASSERT_EQ(some.points(), 3u);
    EXPECT_EQ(some.position(0), 5u);
    EXPECT_EQ(some.position(1), 7u);
    EXPECT_EQ(some.position(2), 9u);
    EXPECT_TRUE(std::ranges::equal(some.owners(), std::vector<std::uint16_t>{0, 1, 0}));
}

TEST(FleetRing, StretchesLowPositionsAndStillSaysWhereTheyAre) {
    cairn::fleet_ring<given_low<std::uint32_t>> const low({{3, 32'767}, {100}});
    EXPECT_EQ(low.position(0), 3u);
    EXPECT_EQ(low.position(1), 100u);
    EXPECT_EQ(low.position(2), 32'767u);
    cairn::fleet_ring<given_low<std::uint32_t>> const zero({{0}, {0}});
    EXPECT_EQ(zero.position(1), 0u);
    EXPECT_EQ(zero.owner_of(0), 0u);
    EXPECT_EQ(zero.owner_of(0xffff'ffff), 0u);
}

TEST(FleetRing, FindsWithoutAllocatingAndByEachName) {
    cairn::fleets::libmemcached_ring<> const ring({{"a"}, {"b"}, {"c", 11212}});
    std::size_t const before = support::allocations;
    for (std::string_view const key : {"", "a", "user:42", "a key that is longer than any small string"}) {
        std::size_t const index = ring.find_index(key);
        EXPECT_EQ(&ring.find(key), &ring.node(index));
        EXPECT_EQ(&ring.node(index), &ring.servers()[index]);
        EXPECT_EQ(ring.owner_of(ring.placement().position(key)), index);
    }
    EXPECT_EQ(support::allocations, before);
    EXPECT_EQ(ring.size(), 3u);
    EXPECT_EQ(ring.points(), ring.owners().size());
    EXPECT_GE(ring.hot_bytes(), ring.points() * 2);
}

template <class Ring>
void check_find_each(Ring const& ring, std::uint64_t seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random{seed};
    for (std::size_t const n : {0U, 1U, 7U, 8U, 9U, 31U, 32U, 33U, 500U}) {
        std::vector<std::string> keys(n);
        bool const any_byte = n % 2 == 1;
        for (std::string& key : keys) {
            key.resize(random() % 4 == 0 ? random() % 200 : 15);
            for (char& letter : key) letter = any_byte ? static_cast<char>(random()) : "ab{}:1"[random() % 6];
        }
        std::vector<typename Ring::node_type const*> out(n + 1, nullptr);
        std::size_t const before = support::allocations;
        ring.find_each(std::span<std::string const>(keys), out);
        EXPECT_EQ(support::allocations, before);
        for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(out[i], &ring.find(keys[i])) << i << " of " << n;
        EXPECT_EQ(out[n], nullptr);
    }
}

TEST(FleetRing, FindEachIsFindForEachKey) {
    using namespace cairn::fleets;
    std::vector<libmemcached_server> const servers{{"a"}, {"b"}, {"c", 11212}, {"d"}};
    check_find_each(libmemcached_ring<>(servers), 41);
    check_find_each(libmemcached_ring<md5>(servers), 42);
    check_find_each(libmemcached_ring<murmur>(servers), 43);
    check_find_each(libmemcached_ring<crc32>(servers), 44);
    check_find_each(ketama_ring({{"a:1"}, {"b:1"}, {"c:1", 3}}), 45);
    check_find_each(
        twemproxy_ring<one_at_a_time>({{"a"}, {"b"}, {"c"}}, twemproxy_ketama<one_at_a_time>("{}")), 46);
    check_find_each(twemproxy_ring<md5>({{"a"}, {"b"}, {"c"}}), 47);
    check_find_each(nginx_ring({{"a:1"}, {"b:1", 2}}), 48);  // has no way of its own to take many
}

TEST(FleetRing, IsAsItWasAfterAnyAllocationHasFailed) {
    using servers_t = std::vector<cairn::fleets::libmemcached_server>;
    servers_t const few{{"a"}, {"b"}};
    servers_t const more{{"c", 11211, 2}, {"d"}, {"a long name of a server that is not small", 7}};
    cairn::fleets::libmemcached_ring<> ring(few);
    auto const owners = std::vector(ring.owners().begin(), ring.owners().end());
    std::size_t failures = 0;
    for (std::size_t n = 0;; ++n) {
        servers_t given = more;
        try {
            support::fail_after const scope(n);
            ring.assign(std::move(given));
            break;
        } catch (std::bad_alloc const&) {
            ++failures;
        }
        ASSERT_TRUE(std::ranges::equal(ring.servers(), few)) << n;
        ASSERT_TRUE(std::ranges::equal(ring.owners(), owners)) << n;
        ASSERT_EQ(ring.find("user:42"), few[ring.find_index("user:42")]);
    }
    EXPECT_GT(failures, 10u);
    EXPECT_TRUE(std::ranges::equal(ring.servers(), more));
    EXPECT_EQ(ring.points(), cairn::fleets::libmemcached_ring<>(more).points());
}

TEST(FleetRing, RefusesNoServerAndChangesNothing) {
    cairn::fleet_ring<given<std::uint32_t>> ring({{1}, {2}});
    EXPECT_THROW(ring.assign({}), std::invalid_argument);
    EXPECT_EQ(ring.size(), 2u);
    EXPECT_EQ(ring.owner_of(2), 1u);
    EXPECT_THROW((cairn::fleet_ring<given<std::uint32_t>>({})), std::invalid_argument);
}

TEST(FleetRing, CopiesAndMovesAreIndependentOfTheirSource) {
    using ring_t = cairn::fleets::libmemcached_ring<>;
    ring_t ring({{"a"}, {"b"}, {"c"}});
    ring_t copy = ring;
    ring.assign({{"x"}});
    EXPECT_EQ(copy.size(), 3u);
    ring_t const moved = std::move(copy);
    EXPECT_EQ(&moved.find("k"), &moved.servers()[ring_t({{"a"}, {"b"}, {"c"}}).find_index("k")]);
}

TEST(FleetTable, TakesTheNumberOfAKeyModuloItsEntries) {
    using cairn::fleets::nginx_plain;
    cairn::fleet_table<nginx_plain> table({{"a:1", 2}, {"b:1", 3}});
    EXPECT_TRUE(std::ranges::equal(table.owners(), std::vector<std::uint16_t>{0, 0, 1, 1, 1}));
    std::size_t const before = support::allocations;
    for (int i = 0; i < 100; ++i) {
        char const key[] = {'k', static_cast<char>('0' + i / 10), static_cast<char>('0' + i % 10)};
        std::string_view const text(key, 3);
        EXPECT_EQ(table.find_index(text), nginx_plain{}.number(text) % 5 < 2 ? 0u : 1u);
        EXPECT_EQ(&table.find(text), &table.node(table.find_index(text)));
    }
    EXPECT_EQ(support::allocations, before);
    EXPECT_EQ(table.size(), 2u);
    table.assign({{"c:1"}});
    EXPECT_EQ(table.find("k").address, "c:1");
    EXPECT_EQ(table.rule(), nginx_plain{});
    EXPECT_THROW(table.assign({}), std::invalid_argument);
    EXPECT_EQ(table.servers().front().address, "c:1");
}

TEST(FleetRing, MovementAndBalanceMeasureItLikeAnyRouter) {
    std::vector<cairn::fleets::libmemcached_server> servers;
    for (int i = 0; i < 24; ++i) servers.push_back({"host-" + std::to_string(i)});
    std::vector<std::string> keys;
    for (int i = 0; i < 20'000; ++i) keys.push_back("user:" + std::to_string(i));
    cairn::fleets::libmemcached_ketama<> const plain;
    cairn::fleets::libmemcached_ketama<> const weighted{cairn::fleets::libmemcached_weights::always};
    auto const before = cairn::fleets::libmemcached_ring<>(servers, plain);
    auto const before_weighted = cairn::fleets::libmemcached_ring<>(servers, weighted);
    servers.push_back({"host-24"});
    auto const report = cairn::movement(before, cairn::fleets::libmemcached_ring<>(servers, plain), keys);
    EXPECT_EQ(report.unnecessary, 0u);
    // The 25th server takes four points of each of the others: the quirk of the counts in float.
    auto const quirk =
        cairn::movement(before_weighted, cairn::fleets::libmemcached_ring<>(servers, weighted), keys);
    EXPECT_GT(quirk.unnecessary, 200u);
    EXPECT_LT(cairn::balance(before, keys).max_over_mean, 1.6);
}

}  // namespace
