// SPDX-License-Identifier: MIT
// Each placement against what the program it is named after answered (tests/golden), then its quirks one by
// one.
#include <cairn/fleets/envoy.hpp>
#include <cairn/fleets/guava.hpp>
#include <cairn/fleets/haproxy.hpp>
#include <cairn/fleets/kafka.hpp>
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
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/golden.hpp"

namespace {

using namespace cairn::fleets;

static_assert(cairn::router<libmemcached_ring<>, std::string_view>);
static_assert(cairn::router<libmemcached_modula_table<md5>, std::string>);
static_assert(cairn::router<ketama_ring, std::string_view>);
static_assert(cairn::router<twemproxy_ring<>, std::string_view>);
static_assert(cairn::router<nginx_ring, std::string_view>);
static_assert(cairn::router<ring_hash_ring<>, std::string_view>);
static_assert(cairn::router<haproxy_ring<>, std::string_view>);
static_assert(cairn::router<kafka_partitioner, std::string_view>);
static_assert(cairn::router<guava<>, std::uint64_t>);
static_assert(!cairn::router<libmemcached_ring<>, int>, "a number is no key there");

/// Every row of a file: a key, and the number that `answer` makes of the server's index must be the second
/// field.
template <class Router, class Answer>
void check_golden(std::string const& name, std::size_t row_count, Router const& router, Answer answer) {
    auto const rows = support::golden(name);
    EXPECT_EQ(rows.size(), row_count) << name;
    for (auto const& row : rows) {
        ASSERT_EQ(row.size(), 2u) << name;
        EXPECT_EQ(answer(router, router.find_index(row[0])), row[1]) << name << ": " << row[0];
        EXPECT_EQ(&router.find(row[0]), &router.node(router.find_index(row[0])));
    }
}
template <class Router>
std::string index_of(Router const&, std::size_t index) {
    return std::to_string(index);
}

// ---- libmemcached ----

std::vector<libmemcached_server> const five_equal{{"10.0.1.1", 11211, 0},
                                                  {"10.0.1.2", 11211, 0},
                                                  {"10.0.1.3", 11212, 0},
                                                  {"cache-a.example.com", 11211, 0},
                                                  {"cache-b.example.com", 9999, 0}};
std::vector<libmemcached_server> const three_weighted{
    {"10.0.1.1", 11211, 1}, {"10.0.1.2", 11212, 2}, {"10.0.1.3", 11213, 3}};

template <class Hash>
void check_libmemcached(std::string const& mode, libmemcached_weights weights = libmemcached_weights::if_any,
                        libmemcached_labels labels = libmemcached_labels::plain) {
    libmemcached_ketama<Hash> const placement{weights, labels};
    using ring = libmemcached_ring<Hash>;
    check_golden("libmemcached_" + mode + "_5eq.csv", 1001, ring(five_equal, placement), index_of<ring>);
    check_golden("libmemcached_" + mode + "_3ports_weights.csv", 1001, ring(three_weighted, placement),
                 index_of<ring>);
}

TEST(Fleets, LibmemcachedsGoldenKeysGoWhereItSentThem) {
    check_libmemcached<one_at_a_time>("KETAMA");
    check_libmemcached<md5>("KETAMA_MD5");
    check_libmemcached<fnv1a_32>("KETAMA_FNV1A32");
    check_libmemcached<murmur3>("KETAMA_MURMUR3");
    check_libmemcached<md5>("WEIGHTED", libmemcached_weights::always);
    check_libmemcached<md5>("SPY_WEIGHTED", libmemcached_weights::always, libmemcached_labels::spy);
    using table = libmemcached_modula_table<>;
    check_golden("libmemcached_MODULA_5eq.csv", 1001, table(five_equal), index_of<table>);
    check_golden("libmemcached_MODULA_3ports_weights.csv", 1001, table(three_weighted), index_of<table>);
}

std::vector<libmemcached_server> equal_servers(std::size_t count) {
    std::vector<libmemcached_server> servers;
    for (std::size_t i = 0; i < count; ++i) servers.push_back({"host-" + std::to_string(i)});
    return servers;
}

TEST(Fleets, AWeightAboveOneMakesTheWholeCircleOfLibmemcachedAWeightedOne) {
    auto servers = equal_servers(5);
    EXPECT_EQ(libmemcached_ring<>(servers).points(), 500u);
    servers[3].weight = 0;  // counts as 1
    EXPECT_EQ(libmemcached_ring<>(servers).points(), 500u);
    libmemcached_ketama<> const always{libmemcached_weights::always};
    libmemcached_ketama<> const never{libmemcached_weights::never};
    EXPECT_EQ(libmemcached_ring<>(servers, always).points(), 800u);
    servers[0].weight = 6;
    EXPECT_EQ(libmemcached_ring<>(servers).points(), libmemcached_ring<>(servers, always).points());
    EXPECT_EQ(libmemcached_ring<>(servers, never).points(), 500u);
    EXPECT_EQ(libmemcached_ring<>(servers).placement(), libmemcached_ketama<>{});
    EXPECT_NE(always, never);
}

TEST(Fleets, CountsInFloatFallShortForTheKnownNumbersOfEqualServers) {
    libmemcached_ketama<md5> const weighted{libmemcached_weights::always};
    std::vector<std::size_t> short_ones;
    for (std::size_t n = 1; n <= 500; ++n)
        if (cairn::detail::labels_in_float(1, n, n) != 40) {
            EXPECT_EQ(cairn::detail::labels_in_float(1, n, n), 39u);
            short_ones.push_back(n);
        }
    ASSERT_EQ(short_ones.size(), 54u);
    EXPECT_EQ(std::vector<std::size_t>(short_ones.begin(), short_ones.begin() + 8),
              (std::vector<std::size_t>{25, 47, 50, 55, 61, 71, 94, 100}));
    EXPECT_EQ(libmemcached_ring<md5>(equal_servers(24), weighted).points(), 24u * 160);
    EXPECT_EQ(libmemcached_ring<md5>(equal_servers(25), weighted).points(), 25u * 156);
    std::vector<twemproxy_server> pool;
    for (auto const& server : equal_servers(25)) pool.push_back({server.host});
    EXPECT_EQ(twemproxy_ring<>(pool).points(), 25u * 156);
}

TEST(Fleets, AVeryLightServerHasNoPointWhereItsProgramGivesItNone) {
    EXPECT_EQ(libmemcached_ring<>({{"light"}, {"heavy", 11211, 1000}}).points(), 316u);
    EXPECT_EQ(twemproxy_ring<>({{"light"}, {"heavy", 11211, 1000}}).points(), 316u);
    ketama_ring const ring({{"light"}, {"heavy", 1000}});
    EXPECT_EQ(ring.points(), 316u);
    for (auto const owner : ring.owners()) EXPECT_EQ(owner, 1);
    EXPECT_EQ(nginx_ring({{"light"}, {"heavy", 9}}).points(), 1600u);
}

TEST(Fleets, MoreThanAHundredHostsAreFine) {  // libmemcached itself aborts at the 101st
    libmemcached_ring<> const ring(equal_servers(300));
    EXPECT_EQ(ring.points(), 30'000u);
    std::vector<bool> used(300);
    for (int key = 0; key < 20'000; ++key) used[ring.find_index("key-" + std::to_string(key))] = true;
    EXPECT_EQ(std::ranges::count(used, true), 300);
}

TEST(Fleets, TheFirstOfTwoEqualServersHasTheKeysButUnderModula) {
    std::vector<libmemcached_server> const twice{{"a"}, {"b"}, {"a"}};
    libmemcached_ring<> const ring(twice);
    libmemcached_modula_table<> const table(twice);
    bool third = false;
    for (int key = 0; key < 1000; ++key) {
        EXPECT_NE(ring.find_index(std::to_string(key)), 2u);
        third |= table.find_index(std::to_string(key)) == 2;
    }
    EXPECT_TRUE(third);
}

TEST(Fleets, ACrcOfFifteenBitsIsSearchedAsFastAndAsRightAsAnother) {
    libmemcached_ring<crc32> const ring(equal_servers(50));
    EXPECT_LT(ring.position(ring.points() - 1), 1u << 15);
    for (std::uint32_t h = 0; h < (1u << 15) + 5; ++h) {
        std::size_t next = 0;
        while (next < ring.points() && ring.position(next) < h) ++next;
        ASSERT_EQ(ring.owner_of(h), ring.owners()[next == ring.points() ? 0 : next]) << h;
    }
    EXPECT_EQ(ring.owner_of(0xffff'ffff), ring.owners()[0]);
}

// ---- ketama, twemproxy ----

TEST(Fleets, KetamasGoldenKeysGoWhereItSentThem) {
    std::int64_t const memory[] = {600, 300, 200, 350, 1000, 800, 950, 100};
    std::vector<ketama_server> servers;
    for (std::size_t i = 0; i < 8; ++i)
        servers.push_back({"10.0.1." + std::to_string(i + 1) + ":11211", memory[i]});
    ketama_ring const ring(servers);
    EXPECT_EQ(ring.points(), 1264u);
    check_golden("rjketama_8weights.csv", 500, ring,
                 [](ketama_ring const& r, std::size_t i) { return r.node(i).address; });
}

std::vector<twemproxy_server> pool_of_four(std::vector<std::int64_t> const& weights,
                                           std::vector<std::string> const& names) {
    std::vector<twemproxy_server> servers;
    for (std::size_t i = 0; i < 4; ++i)
        servers.push_back({"127.0.0.1", static_cast<std::uint16_t>(18111 + i), weights[i], names[i]});
    return servers;
}

TEST(Fleets, TwemproxysGoldenKeysGoWhereItSentThem) {
    auto const port = [](auto const& router, std::size_t i) { return std::to_string(router.node(i).port); };
    auto const weighted = pool_of_four({1, 2, 1, 3}, {"", "", "", ""});
    check_golden("twemproxy_ketama_fnv1a64_w1231.csv", 300, twemproxy_ring<>(weighted), port);
    check_golden("twemproxy_modula_crc32a_w1231.csv", 300, twemproxy_modula_table<crc32a>(weighted), port);
    check_golden("twemproxy_ketama_md5_named.csv", 300,
                 twemproxy_ring<md5>(pool_of_four({1, 1, 1, 1}, {"alpha", "beta", "gamma", "delta"})), port);
}

TEST(Fleets, TwemproxysTagIsWhatStandsBetweenItsCharactersUnlessThatIsEmpty) {
    twemproxy_hash_tag const braces("{}");
    EXPECT_EQ(braces.of("a{user}b{other}"), "user");
    EXPECT_EQ(braces.of("{}{user}"), "{}{user}");
    EXPECT_EQ(braces.of("{user"), "{user");
    EXPECT_EQ(braces.of("}{user}"), "user");
    EXPECT_EQ(twemproxy_hash_tag("$$").of("a$b$c"), "b");
    EXPECT_EQ(twemproxy_hash_tag().of("{user}"), "{user}");
    EXPECT_THROW(twemproxy_hash_tag("{"), std::invalid_argument);
    EXPECT_THROW(twemproxy_hash_tag(""), std::invalid_argument);
    twemproxy_ring<> const ring({{"a"}, {"b"}, {"c"}}, twemproxy_ketama<>("{}"));
    twemproxy_ring<> const plain({{"a"}, {"b"}, {"c"}});
    for (int i = 0; i < 100; ++i) {
        std::string const tag = std::to_string(i);
        EXPECT_EQ(ring.find_index("{" + tag + "}.x"), plain.find_index(tag));
    }
}

TEST(Fleets, TwemproxysNamesAreAllThatCounts) {
    EXPECT_EQ((twemproxy_server{"h", 11211, 1, ""}.label()), "h");
    EXPECT_EQ((twemproxy_server{"h", 11212, 1, ""}.label()), "h:11212");
    EXPECT_EQ((twemproxy_server{"h", 11212, 1, "n"}.label()), "n");
    EXPECT_EQ((twemproxy_server{"/run/memcached", 0, 1, ""}.label()), "/run/memcached:");
    twemproxy_ring<> const before({{"a", 1, 1, "x"}, {"b", 2, 1, "y"}});
    twemproxy_ring<> const after({{"c", 3, 1, "x"}, {"d", 4, 1, "y"}});
    for (int i = 0; i < 200; ++i)
        EXPECT_EQ(before.find_index(std::to_string(i)), after.find_index(std::to_string(i)));
}

TEST(Fleets, TwemproxysModulaTakesTheShorterNameFirst) {
    twemproxy_modula_table<> const table(
        {{"h", 1, 2, "delta"}, {"h", 2, 1, "b"}, {"h", 3, 1, "alpha"}, {"h", 10000, 1}, {"h", 9999, 3}});
    std::vector<std::uint16_t> const expected{1, 2, 0, 0, 4, 4, 4, 3};
    EXPECT_TRUE(std::ranges::equal(table.owners(), expected));
}

// ---- nginx ----

TEST(Fleets, NginxsGoldenKeysGoWhereItSentThem) {
    std::vector<nginx_server> servers;
    std::int64_t const weights[] = {1, 2, 1, 3, 1};
    for (std::size_t i = 0; i < 5; ++i)
        servers.push_back({"127.0.0.1:" + std::to_string(18081 + i), weights[i]});
    auto const port = [](auto const& router, std::size_t i) { return router.node(i).address.substr(10); };
    check_golden("nginx_chash_weights.csv", 500, nginx_ring(servers), port);
    check_golden("nginx_hash_mod_weights.csv", 500, nginx_table(servers), port);
}

// The golden weights add up to 8, which a sixteenth bit would not change.
TEST(Fleets, NginxsPlainHashHasFifteenBitsOfTheCrc) {
    std::uint32_t any = 0;
    for (int i = 0; i < 1000; ++i) {
        std::string const key = "key-" + std::to_string(i);
        EXPECT_EQ(nginx_plain{}.number(key), cairn::detail::crc32(key) / 65'536 % 32'768) << key;
        any |= nginx_plain{}.number(key);
    }
    EXPECT_EQ(any, 0x7fffu);
}

TEST(Fleets, NginxKeepsOneOfThePointsAtOnePosition) {
    std::vector<nginx_server> servers;
    for (int i = 0; i < 500; ++i) servers.push_back({"10.0.0." + std::to_string(i) + ":80", 3});
    nginx_consistent const placement;
    auto made = placement.points(servers);
    EXPECT_EQ(made.positions.size(), 500u * 3 * 160);
    std::ranges::sort(made.positions);
    auto const distinct = std::ranges::unique(made.positions).begin() - made.positions.begin();
    nginx_ring const ring(servers);
    EXPECT_LT(ring.points(), 500u * 3 * 160);  // of 240,000 points at 2^32 positions some 6 fall together
    EXPECT_EQ(ring.points(), static_cast<std::size_t>(distinct));
}

TEST(Fleets, NginxTakesTheDigitsBehindTheLastColonForThePort) {
    auto const first_point = [](std::string const& address) {
        std::vector<nginx_server> const one{{address}};
        return nginx_consistent{}.points(one).positions.at(0);
    };
    std::string const nul(1, '\0');
    auto const by_definition = [&](std::string const& host, std::string const& port) {
        return cairn::detail::crc32(host + nul + port + std::string(4, '\0'));
    };
    EXPECT_EQ(first_point("10.0.0.1:80"), by_definition("10.0.0.1", "80"));
    EXPECT_EQ(first_point("10.0.0.1"), by_definition("10.0.0.1", ""));
    EXPECT_EQ(first_point("[::1]:80"), by_definition("[::1]", "80"));
    EXPECT_EQ(first_point("[::1]"), by_definition("[::1]", ""));
    EXPECT_EQ(first_point("host:http"), by_definition("host:http", ""));
    EXPECT_EQ(first_point("unix:/run/app:1"), by_definition("/run/app:1", ""));
    EXPECT_EQ(first_point("Unix:/run/app"), by_definition("/run/app", ""));
    EXPECT_EQ(first_point("1234"), by_definition("1234", ""));
}

// ---- Envoy, gRPC ----

TEST(Fleets, EnvoysGoldenPointsLieWhereItsOwnTestHasThem) {
    auto const rows = support::golden("envoy_ring_positions.csv");
    EXPECT_EQ(rows.size(), 18u);
    for (auto const& row : rows) {
        std::string const label = row.at(1) + '_' + row.at(2);
        std::uint64_t const point = row.at(0) == "xxh64" ? xxh64{}(label) : murmur2_64a{}(label);
        EXPECT_EQ(point, std::stoull(row.at(3))) << label;
        std::vector<ring_hash_server> const one{{row.at(1)}};
        std::size_t const i = std::stoul(row.at(2));
        ring_hash<> const xx{2};
        ring_hash<murmur2_64a> const murmurs{2};
        auto const all = row.at(0) == "xxh64" ? xx.points(one) : murmurs.points(one);
        EXPECT_EQ(all.positions.at(i), point) << "point " << i << " of the ring";
    }
}

std::vector<std::size_t> counts_of(ring_hash<> const& placement, std::vector<ring_hash_server> const& hosts) {
    std::vector<std::size_t> counts(hosts.size());
    for (auto const owner : placement.points(hosts).owners) ++counts[owner];
    return counts;
}

TEST(Fleets, EnvoysLightestHostHasAWholeNumberOfPointsAndFractionsGoByOrder) {
    using counts = std::vector<std::size_t>;
    // 3 hosts, a ring of at least 1024: 1024 / 3 is rounded up for the lightest.
    EXPECT_EQ(counts_of(ring_hash<>{}, {{"a"}, {"b"}, {"c"}}), (counts{342, 342, 342}));
    EXPECT_EQ(counts_of(ring_hash<>{12}, {{"a"}, {"b"}, {"c", 2}}), (counts{3, 3, 6}));
    EXPECT_EQ(counts_of(ring_hash<>{10}, {{"a", 3}, {"b", 3}, {"c", 5}}), (counts{3, 3, 5}));
    // The maximum cuts the ring to 14 points: 3.8, 3.8 and 6.4 of them, rounded up as they add up.
    EXPECT_EQ(counts_of(ring_hash<>(14, 14), {{"a", 3}, {"b", 3}, {"c", 5}}), (counts{4, 4, 6}));
    EXPECT_EQ(counts_of(ring_hash<>(14, 14), {{"c", 5}, {"a", 3}, {"b", 3}}), (counts{7, 4, 3}));
    EXPECT_EQ(counts_of(ring_hash<>(2, 2), {{"a"}, {"b", 5}, {"c"}}), (counts{1, 1, 0}));
    EXPECT_EQ(ring_hash_ring<>({{"a"}, {"b"}}, grpc_ring_hash(1, 1'000'000, 1)).points(), 1u);
    EXPECT_EQ(grpc_ring_hash(8000, 9000), ring_hash<>(4096, 4096));
}

TEST(Fleets, EnvoysRequestsGoToTheFirstPointAtOrAfterTheirHash) {
    ring_hash_ring<murmur2_64a> const ring({{"10.0.0.1:80"}, {"10.0.0.2:80", 2}, {"10.0.0.3:80"}});
    for (int i = 0; i < 1000; ++i) {
        std::string const key = "session-" + std::to_string(i);
        std::uint64_t const h = xxh64{}(key);
        std::size_t next = 0;
        while (next < ring.points() && ring.position(next) < h) ++next;
        ASSERT_EQ(ring.find_index(key), ring.owners()[next % ring.points()]) << key;
    }
}

// ---- HAProxy ----

template <class Ring>
void check_haproxy(std::string const& file, std::vector<haproxy_server> const& servers) {
    check_golden(file, 500, Ring(servers),
                 [](Ring const&, std::size_t i) { return std::to_string(18081 + i); });
}

TEST(Fleets, HaproxysGoldenKeysGoWhereItSentThem) {
    std::vector<haproxy_server> const equal{{"s1"}, {"s2"}, {"s3"}, {"s4"}, {"s5"}};
    check_haproxy<haproxy_ring<>>("haproxy_sdbm_eq.csv", equal);
    check_haproxy<haproxy_ring<crc32a, false>>("haproxy_crc32.csv", equal);
    check_haproxy<haproxy_ring<>>("haproxy_sdbm_w.csv", {{"s1"}, {"s2", 2}, {"s3"}, {"s4"}, {"s5", 10}});
    check_haproxy<haproxy_ring<>>("haproxy_sdbm_weights.csv",
                                  {{"s1", 1, 1}, {"s2", 2, 2}, {"s3", 1, 77}, {"s4"}, {"s5", 10}});
}

TEST(Fleets, HaproxysKeysBelongToTheNearestPoint) {
    haproxy_ring<> const ring({{"s1"}, {"s2", 3}});
    std::uint32_t const most = std::numeric_limits<std::uint32_t>::max();
    for (std::size_t i = 0; i < ring.points(); ++i) {
        std::size_t const after = i + 1 == ring.points() ? 0 : i + 1;
        std::uint32_t const from = ring.position(i);
        std::uint32_t const gap = ring.position(after) - from;  // modulo the circle
        EXPECT_EQ(ring.owner_of(from), ring.owners()[i]);
        EXPECT_EQ(ring.owner_of(from + gap / 2), ring.owners()[i]);
        EXPECT_EQ(ring.owner_of(from + gap / 2 + 1), ring.owners()[after]);
    }
    std::size_t const last = ring.points() - 1;
    bool const to_last = most - ring.position(last) <= ring.position(0);
    EXPECT_EQ(ring.owner_of(most), ring.owners()[to_last ? last : 0]);
}

TEST(Fleets, HaproxyGivesAServerWithoutAnIdTheFirstFreeOneFromItsPlaceOn) {
    auto const same = [](std::vector<haproxy_server> const& a, std::vector<haproxy_server> const& b) {
        haproxy_consistent<> const placement;
        return placement.points(a).positions == placement.points(b).positions;
    };
    EXPECT_TRUE(same({{"a"}, {"b"}, {"c"}}, {{"a", 1, 1}, {"b", 1, 2}, {"c", 1, 3}}));
    EXPECT_TRUE(same({{"a", 1, 2}, {"b"}, {"c"}}, {{"a", 1, 2}, {"b", 1, 3}, {"c", 1, 4}}));
    EXPECT_TRUE(same({{"a"}, {"b", 1, 77}, {"c"}}, {{"a", 1, 1}, {"b", 1, 77}, {"c", 1, 3}}));
    EXPECT_TRUE(same({{"a", 1, 1}}, {{"b", 1, 1 + (1 << 20)}}));  // 4096 apart, modulo 2^32
}

// ---- Kafka, Guava ----

TEST(Fleets, KafkasHashIsThatOfItsUnitTest) {
    auto const hash = [](std::string_view key) {
        return static_cast<std::int32_t>(kafka_partitioner::hash(key));
    };
    EXPECT_EQ(hash("21"), -973932308);
    EXPECT_EQ(hash("foobar"), -790332482);
    EXPECT_EQ(hash("a-little-bit-long-string"), -985981536);
    EXPECT_EQ(hash("a-little-bit-longer-string"), -1486304829);
    EXPECT_EQ(hash("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), -58897971);
    EXPECT_EQ(hash("abc"), 479470107);
    kafka_partitioner topic(12);
    EXPECT_EQ(topic.find("abc"), 479470107u % 12);
    EXPECT_EQ(topic.find("21"), (static_cast<std::uint32_t>(-973932308) & 0x7fffffff) % 12);
    topic.resize(1);
    EXPECT_EQ(topic.find("21"), 0u);
}

TEST(Fleets, GuavasGoldenKeysGoWhereItSentThem) {
    auto const rows = support::golden("guava_consistentHash.csv");
    EXPECT_EQ(rows.size(), 1002u);
    std::size_t as_jump = 0;
    for (auto const& row : rows) {
        std::uint64_t const key = std::stoull(row.at(0));
        std::size_t const buckets = std::stoul(row.at(1));
        EXPECT_EQ(guava<>(buckets).find(key), std::stoul(row.at(2))) << row.at(0) << " of " << buckets;
        as_jump += cairn::jump_rule{}(key, buckets) == std::stoul(row.at(2));
    }
    EXPECT_EQ(as_jump, 1000u);
}

TEST(Fleets, GuavaEndsItsSearchWhereItsDiceOverflow) {
    // Asked of Guava 31.1. These keys throw 2^31 at once, which is negative as an int.
    for (std::uint64_t const key :
         {17068571456203592619u, 18063469494497682072u, std::uint64_t{4626093953513826134}})
        for (std::size_t const buckets : {1u, 2u, 3u, 10u, 100u, 1'000'000u})
            EXPECT_EQ(guava<>(buckets).find(key), 0u) << key << " of " << buckets;
    EXPECT_EQ(guava<>(100).find(std::uint64_t{0xffff'ffff}), 74u);  // HashCode.fromInt(-1)
}

// ---- Bad input: named, and refused before anything has changed. ----

template <class Error, class Router>
void expect_refused(Router router, std::vector<typename Router::node_type> servers,
                    std::string const& named) {
    auto const owners = std::vector(router.owners().begin(), router.owners().end());
    auto const before = std::vector(router.servers().begin(), router.servers().end());
    try {
        router.assign(std::move(servers));
        ADD_FAILURE() << "not refused: " << named;
    } catch (Error const& error) {
        EXPECT_TRUE(std::string(error.what()).starts_with("cairn::fleets::")) << error.what();
        EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    }
    EXPECT_TRUE(std::ranges::equal(router.servers(), before));
    EXPECT_TRUE(std::ranges::equal(router.owners(), owners));
}
template <class Router>
void expect_count_refused(Router const& router) {
    expect_refused<std::invalid_argument>(router, {}, "at least one server is needed, not zero");
    expect_refused<std::length_error>(router, std::vector(65'536, router.node(0)), "not 65536");
}
std::string const with_nul("a\0b", 3);

TEST(Fleets, LibmemcachedServersOutOfRangeAreRefused) {
    libmemcached_ring<> const ring({{"a"}, {"b"}});
    using bad = std::invalid_argument;
    expect_count_refused(ring);
    expect_count_refused(libmemcached_modula_table<>({{"a"}, {"b"}}));
    expect_refused<bad>(ring, {{"a"}, {""}}, "a server without a name");
    expect_refused<bad>(ring, {{with_nul}}, "a NUL in the name");
    expect_refused<bad>(ring, {{"a", 1, -1}}, "\"a\" must be from 0 to 4294967295, not -1");
    expect_refused<bad>(ring, {{"a", 1, 1LL << 32}}, "not 4294967296");
    expect_refused<bad>(ring, {{"a", 1, 4294967295}, {"b"}}, "not 4294967296");
    expect_refused<std::length_error>(ring, {{std::string(1025, 'h')}}, "not 1025");
    EXPECT_EQ(libmemcached_ring<>({{std::string(1024, 'h')}}).points(), 100u);
}

TEST(Fleets, KetamaAndTwemproxyServersOutOfRangeAreRefused) {
    using bad = std::invalid_argument;
    ketama_ring const ring({{"a"}});
    expect_count_refused(ring);
    expect_refused<bad>(ring, {{""}}, "a server without a name");
    expect_refused<bad>(ring, {{with_nul}}, "a NUL in the name");
    expect_refused<bad>(ring, {{"a", 0}}, "not 0");
    expect_refused<std::length_error>(ring, {{std::string(23, 'h')}}, "at most 22 bytes, not 23");
    twemproxy_ring<> const pool({{"a"}});
    expect_count_refused(pool);
    expect_refused<bad>(pool, {{""}}, "a server without a name");
    expect_refused<bad>(pool, {{with_nul}}, "a NUL in the name");
    expect_refused<bad>(pool, {{"a", 1, 0}}, "not 0");
    expect_refused<bad>(pool, {{"a"}, {"b"}, {"a"}}, "duplicate server \"a\"");
    expect_refused<bad>(pool, {{"a", 1, 1, "x"}, {"b", 1, 1, "x"}}, "duplicate server \"x\"");
    expect_refused<bad>(pool, {{"a", 1, 0x7fffffff}, {"b"}}, "not 2147483648");
    expect_refused<std::length_error>(pool, {{"a", 1, 1, std::string(75, 'n')}}, "at most 74 bytes, not 75");
    twemproxy_modula_table<> const table({{"a"}});
    expect_count_refused(table);
    expect_refused<bad>(table, {{"a", 1, 1 << 24}, {"b"}}, "not 16777217");
    EXPECT_THROW(twemproxy_ketama<>("{"), std::invalid_argument);
    EXPECT_THROW(twemproxy_modula<>("{}}"), std::invalid_argument);
}

TEST(Fleets, NginxEnvoyAndHaproxyServersOutOfRangeAreRefused) {
    using bad = std::invalid_argument;
    nginx_ring const ring({{"a"}});
    expect_count_refused(ring);
    expect_count_refused(nginx_table({{"a"}}));
    expect_refused<bad>(ring, {{""}}, "a server without a name");
    expect_refused<bad>(ring, {{"a", 0}}, "not 0");
    expect_refused<bad>(ring, {{"a", nginx_consistent::max_weight}, {"b"}}, "must sum up to at most");
    expect_refused<std::length_error>(ring, {{std::string(4097, 'h')}}, "not 4097");
    expect_refused<bad>(nginx_table({{"a"}}), {{"a", -5}}, "not -5");
    ring_hash_ring<> const cluster({{"a"}});
    expect_count_refused(cluster);
    expect_refused<bad>(cluster, {{"a", 0}}, "not 0");
    expect_refused<bad>(cluster, {{"a", 4294967295}, {"b"}}, "not 4294967296");
    EXPECT_THROW(ring_hash<>(0), std::invalid_argument);
    EXPECT_THROW(ring_hash<>(11, 10), std::invalid_argument);
    EXPECT_THROW(ring_hash<>(1, 8'388'609), std::invalid_argument);
    haproxy_ring<> const backend({{"a"}});
    expect_count_refused(backend);
    expect_refused<bad>(backend, {{"a", 0}}, "from 1 to 256, not 0");
    expect_refused<bad>(backend, {{"a", 257}}, "not 257");
    expect_refused<bad>(backend, {{"a"}, {"a"}}, "duplicate server \"a\"");
    expect_refused<bad>(backend, {{"a", 1, 7}, {"b", 1, 7}}, "duplicate id 7");
    expect_refused<bad>(backend, {{"a", 1, -1}}, "not -1");
    expect_refused<bad>(backend, {{""}}, "a server without a name");
    EXPECT_THROW(kafka_partitioner(0), std::invalid_argument);
    EXPECT_THROW(kafka_partitioner(std::size_t{1} << 31), std::invalid_argument);
    EXPECT_THROW(guava<>(0), std::invalid_argument);
}

}  // namespace
