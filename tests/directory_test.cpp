// SPDX-License-Identifier: MIT
#include <cairn/directory.hpp>
#include <cairn/router.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/count_allocations.hpp"

namespace {

using routes = cairn::directory<std::string>;
using sharded = cairn::directory<std::uint64_t, std::size_t, cairn::jump<>>;
using over_maglev = cairn::directory<std::string, std::string, cairn::maglev<std::string>>;

static_assert(cairn::router<routes, std::string>);
static_assert(cairn::router<routes, std::string_view>);  // heterogeneous
static_assert(cairn::router<sharded, std::uint64_t>);
static_assert(cairn::router<sharded, int>);
static_assert(cairn::router<over_maglev, std::string_view>);
static_assert(cairn::router<cairn::fixed<std::string>, int>);
static_assert(noexcept(std::declval<routes const&>().find("key")));

routes small_routes() { return routes(cairn::fixed<std::string>({"a", "b", "c"}, 2)); }

template <class Change>
void expect_refused(Change change, std::string const& named) {
    try {
        change();
        FAIL() << "not refused: " << named;
    } catch (std::invalid_argument const& error) {
        EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
        EXPECT_EQ(std::string(error.what()).rfind("cairn::", 0), 0u) << error.what();
    }
}

TEST(Directory, AKnownKeyGoesWhereItWasAssignedAndAnUnknownOneToTheFallback) {
    routes router = small_routes();
    EXPECT_EQ(router.find("x"), "c");
    router.assign("x", "a");
    EXPECT_EQ(router.find("x"), "a");
    EXPECT_EQ(router.find(std::string_view("x")), "a");
    EXPECT_EQ(router.find("y"), "c");
    EXPECT_TRUE(router.contains("x"));
    EXPECT_FALSE(router.contains("y"));
    router.assign("x", "b");
    EXPECT_EQ(router.find("x"), "b");
    EXPECT_EQ(router.keys(), 1u);
    EXPECT_TRUE(router.erase("x"));
    EXPECT_FALSE(router.erase("x"));
    EXPECT_EQ(router.find("x"), "c");
    EXPECT_EQ(router.keys(), 0u);
}

/// A hash by which many keys share a home, so that chains form, wrap around and break up.
struct crowded {
    static constexpr bool is_placement_hash = true;
    std::uint64_t operator()(std::uint64_t key) const noexcept { return (key % 13 + 0xffff'fff8) << 32; }
};

template <class Router>
void expect_like_a_map(Router router, std::uint64_t keys, std::uint64_t seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random{seed};
    std::map<std::uint64_t, std::size_t> model;
    for (int step = 0; step < 20'000; ++step) {
        std::uint64_t const key = random() % keys;
        if (random() % 5 < (step / 2'000 % 2 == 0 ? 4u : 1u)) {  // times of growth, times of shrinking
            std::size_t const node = random() % router.size();
            router.assign(key, node);
            model[key] = node;
        } else {
            ASSERT_EQ(router.erase(key), model.erase(key) == 1);
        }
        ASSERT_EQ(router.keys(), model.size());
        std::uint64_t const asked = random() % keys;
        auto const known = model.find(asked);
        ASSERT_EQ(router.contains(asked), known != model.end());
        ASSERT_EQ(router.find(asked), known != model.end() ? known->second : router.fallback().find(asked));
        ASSERT_EQ(router.node(router.find_index(asked)), router.find(asked));
    }
    for (std::uint64_t key = 0; key < keys; ++key) {
        auto const known = model.find(key);
        ASSERT_EQ(router.find(key), known != model.end() ? known->second : router.fallback().find(key));
    }
}

TEST(Directory, BehavesLikeAMapWithADefault) {
    expect_like_a_map(sharded(cairn::jump<>(10)), 3'000, 20260110);
    expect_like_a_map(sharded(cairn::jump<>(3)), 10, 20260111);
    using worst = cairn::directory<std::uint64_t, std::size_t, cairn::jump<>, crowded>;
    expect_like_a_map(worst(cairn::jump<>(10)), 100, 20260112);
}

TEST(Directory, IntegersAreOneKeyWhateverTheirWidth) {
    sharded router(cairn::jump<>(10));
    router.assign(7, 3);
    EXPECT_EQ(router.find(7), 3u);
    EXPECT_EQ(router.find(7u), 3u);
    EXPECT_EQ(router.find(7LL), 3u);
    EXPECT_TRUE(router.contains(static_cast<unsigned char>(7)));
}

TEST(Directory, LookupsAllocateNothing) {
    routes router = small_routes();
    std::string const longer = "a key that is longer than any small string";
    router.assign(longer, "a");
    std::string_view const view = longer;
    std::size_t const before = support::allocations;
    EXPECT_EQ(router.find_index(view), 0u);
    EXPECT_EQ(router.find_index("another key that is longer than any small string"), 2u);
    EXPECT_EQ(support::allocations, before);
}

TEST(Directory, ReportsTheBytesOfAKey) {
    sharded router(cairn::jump<>(10));
    EXPECT_EQ(router.bytes_per_key(), 0.0);
    for (std::uint64_t key = 0; key < 100'000; ++key) {
        router.assign(key, key % 10);
        if (key < 1'000) continue;
        // 16 for the entry, as much again before the vector grows; 8 for a slot, 3/8 to 3/4 of them in use.
        EXPECT_GE(router.bytes_per_key(), 16 + 8 / 0.75 - 0.1);
        EXPECT_LE(router.bytes_per_key(), 32 + 8 / 0.375 + 0.1);
    }
    routes names = small_routes();
    names.assign("short", "a");
    double const of_short = names.bytes_per_key();
    EXPECT_TRUE(names.erase("short"));
    names.assign(std::string(1000, 'x'), "a");
    EXPECT_GE(names.bytes_per_key(), of_short + 1000);
}

TEST(Directory, CanBeTheExceptionsToARule) {
    over_maglev router(cairn::maglev<std::string>{"a", "b", "c"});
    std::string const rule = router.find("hot customer");
    std::string const other = rule == "a" ? "b" : "a";
    router.assign("hot customer", other);
    EXPECT_EQ(router.find("hot customer"), other);
    std::size_t changed = 0;
    for (int i = 0; i < 1000; ++i) {
        std::string const key = "user:" + std::to_string(i);
        changed += router.find(key) != router.fallback().find(key);
    }
    EXPECT_EQ(changed, 0u);
}

TEST(Directory, KnownKeysKeepTheirNodesWhenTheFallbackChanges) {
    over_maglev router(cairn::maglev<std::string>{"a", "b", "c", "d"});
    router.assign("one", "b");
    router.assign("two", "d");
    router.replace_fallback(cairn::maglev<std::string>{"d", "e", "b"});
    EXPECT_EQ(router.find("one"), "b");
    EXPECT_EQ(router.find("two"), "d");
    EXPECT_EQ(router.size(), 3u);
    expect_refused([&] { router.replace_fallback(cairn::maglev<std::string>{"e", "b"}); },
                   "node \"d\" still has keys");
    EXPECT_EQ(router.find("two"), "d");
    EXPECT_EQ(router.size(), 3u);
}

TEST(Directory, BadInputIsNamedAndChangesNothing) {
    routes router = small_routes();
    router.assign("x", "a");
    expect_refused([&] { router.assign("x", "stranger"); }, "unknown node \"stranger\"");
    expect_refused([&] { router.assign("y", "stranger"); }, "unknown node \"stranger\"");
    EXPECT_EQ(router.find("x"), "a");
    EXPECT_FALSE(router.contains("y"));
    EXPECT_EQ(router.keys(), 1u);
    expect_refused([] { cairn::fixed<std::string>({"a", "b"}, 2); }, "no node 2 of 2");
    expect_refused([] { cairn::fixed<std::string>(std::vector<std::string>{}); }, "no node 0 of 0");
}

}  // namespace
