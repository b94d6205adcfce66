// SPDX-License-Identifier: MIT
#include <cairn/router.hpp>
#include <cairn/slots.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/count_allocations.hpp"

namespace {

using cluster = cairn::slots<std::string>;

static_assert(cairn::router<cluster, std::string_view>);
static_assert(cairn::router<cluster, std::string>);
static_assert(!cairn::router<cluster, int>);
static_assert(noexcept(std::declval<cluster const&>().find("key")));
static_assert(cluster::slot_of("123456789") == 0x31c3 % 16'384);  // the check value of CRC16-XMODEM
static_assert(cluster::slot_of("{user:42}.cart") == cluster::slot_of("{user:42}.name"));

std::vector<std::string> names(std::size_t count) {
    std::vector<std::string> nodes;
    for (std::size_t i = 0; i < count; ++i) nodes.push_back("node-" + std::to_string(i));
    return nodes;
}

/// CRC16-XMODEM bit by bit, as the definition has it.
std::uint16_t crc16_by_definition(std::string_view text) {
    unsigned crc = 0;
    for (char const letter : text)
        for (int bit = 7; bit >= 0; --bit) {
            unsigned const in = static_cast<unsigned>(letter) >> bit & 1;
            unsigned const out = crc >> 15 & 1;
            crc = crc << 1 & 0xffff;
            if (in != out) crc ^= 0x1021;
        }
    return static_cast<std::uint16_t>(crc);
}

std::string unhex(std::string_view digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        bytes.push_back(static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16)));
    return bytes;
}

/// The moves, taken by hand on a copy of the owners' names, must give what the router says now.
std::vector<std::string> owners_of(cluster const& router) {
    std::vector<std::string> owners;
    for (std::uint16_t const owner : router.owners()) owners.push_back(router.node(owner));
    return owners;
}
std::size_t slots_in(std::vector<cluster::move> const& moves) {
    std::size_t sum = 0;
    for (auto const& one : moves) sum += one.last - one.first + 1;
    return sum;
}
void expect_moves_explain(std::vector<std::string> before, std::vector<cluster::move> const& moves,
                          cluster const& after) {
    std::size_t next = 0;
    for (auto const& one : moves) {
        EXPECT_LE(next, one.first);  // in order, without overlap
        EXPECT_LE(one.first, one.last);
        EXPECT_NE(one.from, one.to);
        for (std::size_t slot = one.first; slot <= one.last; ++slot) {
            EXPECT_EQ(before[slot], one.from);
            before[slot] = one.to;
        }
        next = one.last + 1;
    }
    EXPECT_EQ(before, owners_of(after));
}
std::size_t spread(cluster const& router) {
    auto const counts = router.counts();
    return *std::ranges::max_element(counts) - *std::ranges::min_element(counts);
}

template <class Change>
void expect_refused(cluster router, Change change, std::string const& named) {
    auto const before = owners_of(router);
    std::size_t const nodes = router.size();
    try {
        change(router);
        FAIL() << "not refused: " << named;
    } catch (std::logic_error const& error) {
        EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
        EXPECT_EQ(std::string(error.what()).rfind("cairn::slots: ", 0), 0u) << error.what();
    }
    EXPECT_EQ(owners_of(router), before);
    EXPECT_EQ(router.size(), nodes);
}

TEST(Slots, GiveTheSlotsOfRedisForItsGoldenKeys) {
    std::ifstream file(CAIRN_GOLDEN_DIR "/redis_keyslot.csv");
    ASSERT_TRUE(file) << "no " CAIRN_GOLDEN_DIR "/redis_keyslot.csv";
    std::string line;
    std::size_t checked = 0;
    while (std::getline(file, line)) {
        std::size_t const comma = line.find(',');
        if (line.starts_with('#') || line.starts_with("key_hex")) continue;
        ASSERT_NE(comma, line.npos) << line;
        EXPECT_EQ(cluster::slot_of(unhex(line.substr(0, comma))), std::stoul(line.substr(comma + 1))) << line;
        ++checked;
    }
    EXPECT_EQ(checked, 257u);
}

TEST(Slots, TheCrcIsThatOfTheDefinitionForEveryLengthAndEveryByte) {
    std::mt19937_64 random{20260102};
    for (std::size_t length = 0; length <= 70; ++length)
        for (int round = 0; round < 20; ++round) {
            std::string text(length, '\0');
            for (char& letter : text) letter = static_cast<char>(random());
            std::size_t const brace = text.find('{');
            if (brace != text.npos) text[brace] = '(';
            ASSERT_EQ(cluster::slot_of(text), crc16_by_definition(text) % 16'384u) << "length " << length;
        }
    for (int byte = 0; byte < 256; ++byte) {
        std::string const text(1, static_cast<char>(byte));
        ASSERT_EQ(cluster::slot_of(text), crc16_by_definition(text) % 16'384u) << byte;
    }
}

TEST(Slots, OnlyTheFirstTagThatIsNotEmptyCounts) {
    EXPECT_EQ(cluster::hash_tag("{user}.a"), "user");
    EXPECT_EQ(cluster::hash_tag("a{user}b{other}"), "user");
    EXPECT_EQ(cluster::hash_tag("a{{user}}"), "{user");
    EXPECT_EQ(cluster::hash_tag("{}{user}"), "{}{user}");
    EXPECT_EQ(cluster::hash_tag("}{user"), "}{user");
    EXPECT_EQ(cluster::hash_tag("}{user}"), "user");
    EXPECT_EQ(cluster::hash_tag("{"), "{");
    EXPECT_EQ(cluster::hash_tag(""), "");
}

TEST(Slots, StartEvenAndEachNodeHasOneRun) {
    for (std::size_t const count : {1u, 2u, 3u, 7u, 100u, 1000u, 16'383u, 16'384u}) {
        std::vector<std::string> nodes = names(count > 1000 ? 0 : count);
        std::vector<std::size_t> owned;
        if (count > 1000) {  // a duplicate check of so many strings is for patience; numbers do as well
            std::vector<std::size_t> numbers(count);
            for (std::size_t i = 0; i < count; ++i) numbers[i] = i;
            owned = cairn::slots<std::size_t>(numbers).counts();
        } else {
            cluster const router(nodes);
            EXPECT_TRUE(std::ranges::is_sorted(router.owners()));
            owned = router.counts();
        }
        ASSERT_EQ(owned.size(), count);
        EXPECT_LE(std::ranges::max(owned) - std::ranges::min(owned), 1u) << count;
    }
}

TEST(Slots, FindIsTheOwnerOfTheSlotAndAllocatesNothing) {
    cluster const router(names(5));
    std::size_t const before = support::allocations;
    for (std::string_view const key :
         {"", "a", "user:42", "{x}y", "a key that is longer than any small string"}) {
        std::size_t const index = router.find_index(key);
        EXPECT_EQ(index, router.owners()[cluster::slot_of(key)]);
        EXPECT_EQ(&router.find(key), &router.node(index));
    }
    EXPECT_EQ(support::allocations, before);
}

TEST(Slots, AddingANodeMovesTheLeastSlotsThatEvenThemOutAndAllToIt) {
    cluster router(names(3));
    for (int i = 3; i < 40; ++i) {
        auto const before = owners_of(router);
        std::string const added = "node-" + std::to_string(i);
        auto const moves = router.add(added);
        EXPECT_LE(spread(router), 1u);
        EXPECT_EQ(slots_in(moves), router.counts().back());
        EXPECT_EQ(slots_in(moves), 16'384 / router.size());  // the newcomer gets no more than it must
        for (auto const& one : moves) EXPECT_EQ(one.to, added);
        expect_moves_explain(before, moves, router);
    }
}

TEST(Slots, RemovingANodeMovesOnlyItsSlotsAndKeepsTheRestEven) {
    cluster router(names(20));
    std::mt19937_64 random{20260103};
    while (router.size() > 1) {
        auto const before = owners_of(router);
        std::string const gone = router.node(random() % router.size());
        auto const moves = router.remove(gone);
        EXPECT_LE(spread(router), 1u);
        EXPECT_EQ(slots_in(moves), static_cast<std::size_t>(std::ranges::count(before, gone)));
        for (auto const& one : moves) EXPECT_EQ(one.from, gone);
        expect_moves_explain(before, moves, router);
    }
}

TEST(Slots, RebalancingMovesNoMoreThanTheSurplus) {
    std::mt19937_64 random{20260104};
    for (int round = 0; round < 50; ++round) {
        cluster router(names(2 + random() % 20));
        for (int i = 0; i < 5; ++i) {
            std::size_t const first = random() % 16'384;
            router.assign(first, first + random() % (16'384 - first), router.node(random() % router.size()));
        }
        auto const before = owners_of(router);
        // With base = floor(mean), `extra` nodes may keep base + 1. The least that must move is what the
        // others have above base, and those above base + 1.
        auto counts = router.counts();
        std::ranges::sort(counts, std::greater{});
        std::size_t must = 0;
        for (std::size_t i = 0; i < counts.size(); ++i) {
            std::size_t const keeps = 16'384 / counts.size() + (i < 16'384 % counts.size());
            must += counts[i] > keeps ? counts[i] - keeps : 0;
        }
        auto const moves = router.rebalance();
        EXPECT_EQ(slots_in(moves), must);
        EXPECT_LE(spread(router), 1u);
        expect_moves_explain(before, moves, router);
        EXPECT_TRUE(router.rebalance().empty());
    }
}

TEST(Slots, ANodeThatJoinedCanTakeThePlannedSlotsOneByOne) {
    cluster router(names(4));
    cluster planned = router;
    auto const plan = planned.add("new");
    router.join("new");
    EXPECT_EQ(router.counts().back(), 0u);
    for (auto const& one : plan)
        for (std::size_t slot = one.first; slot <= one.last; ++slot) router.assign(slot, slot, one.to);
    EXPECT_EQ(owners_of(router), owners_of(planned));
}

TEST(Slots, BadInputIsNamedAndChangesNothing) {
    cluster const router(names(3));
    expect_refused(router, [](cluster& r) { r.assign(5, 4, "node-0"); }, "first = 5, last = 4");
    expect_refused(router, [](cluster& r) { r.assign(0, 16'384, "node-0"); }, "last = 16384");
    expect_refused(router, [](cluster& r) { r.assign(0, 10, "stranger"); }, "unknown node \"stranger\"");
    expect_refused(router, [](cluster& r) { r.add("node-1"); }, "duplicate node \"node-1\"");
    expect_refused(router, [](cluster& r) { r.join("node-2"); }, "duplicate node \"node-2\"");
    expect_refused(router, [](cluster& r) { r.remove("stranger"); }, "unknown node \"stranger\"");
    expect_refused(cluster({"only"}), [](cluster& r) { r.remove("only"); }, "\"only\" is the last one");
    EXPECT_THROW(cluster(std::vector<std::string>{}), std::invalid_argument);
    EXPECT_THROW(cluster({"a", "b", "a"}), std::invalid_argument);
    std::vector<std::size_t> many(16'385);
    EXPECT_THROW(cairn::slots<std::size_t>{many}, std::length_error);
}

TEST(Slots, MovementCountsWhatTheMovesSay) {
    cluster const before(names(4));
    cluster after = before;
    auto const moves = after.add("new");
    std::vector<std::string> keys;
    for (int i = 0; i < 20'000; ++i) keys.push_back("user:" + std::to_string(i));
    auto const report = cairn::movement(before, after, keys);
    EXPECT_EQ(report.unnecessary, 0u);
    EXPECT_NEAR(report.fraction(), static_cast<double>(slots_in(moves)) / 16'384, 0.015);
}

}  // namespace
