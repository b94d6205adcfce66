// SPDX-License-Identifier: MIT
#include <cairn/string_interner.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"

namespace {

using cairn::string_interner;
using cairn::symbol;

static_assert(std::is_trivially_copyable_v<symbol> && sizeof(symbol) == 4);
static_assert(std::forward_iterator<string_interner::const_iterator>);

/// Strings of all lengths that are told apart in different ways: at the lengths where the hash and the
/// comparison change, with NULs, and pairs that differ in one character at every place.
[[nodiscard]] std::vector<std::string> strings() {
    std::vector<std::string> all{"", std::string(1, '\0'), std::string(2, '\0'), std::string("a\0b", 3)};
    for (std::size_t const n :
         {1U,  2U,  3U,  4U,  5U,   7U,   8U,   9U,   15U,  16U,    17U,    31U,     32U,
          33U, 63U, 64U, 65U, 128U, 253U, 254U, 255U, 256U, 1'000U, 5'000U, 70'000U, 200'000U}) {
        std::string const base(n, 'x');
        all.push_back(base);
        for (std::size_t at = 0; at < n; at += n < 100 ? 1 : n / 17) {
            all.push_back(base);
            all.back()[at] = 'y';
        }
    }
    std::mt19937 random(4);
    for (int i = 0; i < 20'000; ++i) all.push_back("key-" + std::to_string(random()));
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    std::shuffle(all.begin(), all.end(), random);
    return all;
}

TEST(StringInterner, GivesEqualStringsOneSymbolAndOthersAnother) {
    auto const texts = strings();
    for (std::uint64_t const seed : {0U, 1U, 20'261'124U}) {
        string_interner names(seed);
        std::vector<symbol> symbols;
        std::size_t bytes = 0;
        for (auto const& text : texts) {
            EXPECT_FALSE(names.contains(text));
            symbols.push_back(names.intern(text));
            bytes += text.size();
        }
        EXPECT_EQ(names.size(), texts.size());
        EXPECT_EQ(names.bytes(), bytes);
        EXPECT_GE(names.memory(), bytes);
        for (std::size_t i = 0; i < texts.size(); ++i) {
            ASSERT_TRUE(symbols[i].has_value());
            ASSERT_EQ(names.intern(std::string(texts[i])), symbols[i]);
            ASSERT_EQ(names.find(texts[i]), symbols[i]);
            ASSERT_EQ(names.view(symbols[i]), texts[i]);
            ASSERT_EQ(names.view(symbols[i]).data()[texts[i].size()], '\0');
            if (i != 0) {
                ASSERT_LT(symbols[i - 1], symbols[i]);
            }
        }
        EXPECT_EQ(names.size(), texts.size());
        EXPECT_EQ(std::unordered_set<symbol>(symbols.begin(), symbols.end()).size(), texts.size());
        EXPECT_TRUE(std::equal(names.begin(), names.end(), symbols.begin(), symbols.end()));
    }
}

TEST(StringInterner, SymbolsDoNotDependOnTheSeed) {
    string_interner a(1), b(2), c;
    for (auto const& text : strings()) {
        symbol const s = a.intern(text);
        ASSERT_EQ(b.intern(text), s);
        ASSERT_EQ(c.intern(text), s);
    }
}

TEST(StringInterner, BehavesAsAMapUnderAnySequenceOfCalls) {
    std::mt19937 random(20'261'124);
    string_interner names;
    std::map<std::string, symbol> model;
    for (int i = 0; i < 50'000; ++i) {
        std::string text = std::to_string(random() % 3'000);
        if (random() % 4 == 0) text.append(random() % 40, '-');
        auto const known = model.find(text);
        switch (random() % 16) {
            case 0: {
                std::optional<symbol> const found = names.find(text);
                ASSERT_EQ(found.has_value(), known != model.end());
                if (found) {
                    ASSERT_EQ(*found, known->second);
                }
                break;
            }
            case 1:
                if (random() % 2'000 == 0) {
                    names.clear();
                    model.clear();
                }
                break;
            case 2:
                names.reserve(random() % 5'000);
                break;
            default: {
                symbol const s = names.intern(text);
                ASSERT_EQ(model.emplace(text, s).first->second, s);
                ASSERT_EQ(names.view(s), text);
            }
        }
        ASSERT_EQ(names.size(), model.size());
    }
    for (auto const& [text, s] : model) ASSERT_EQ(names.view(s), text);
}

TEST(StringInterner, InternsManyAsOneByOne) {
    auto texts = strings();
    for (int i = 0; i < 60'000; ++i) texts.push_back("number " + std::to_string(i));  // beyond table_in_cache
    std::vector<std::string_view> views(texts.begin(), texts.end());
    views.insert(views.end(), texts.begin(), texts.begin() + 101);  // known by then, and no multiple of 16
    string_interner one, many;
    std::vector<symbol> symbols(views.size());
    many.intern_n(views, symbols);
    for (std::size_t i = 0; i < views.size(); ++i) ASSERT_EQ(one.intern(views[i]), symbols[i]);
    EXPECT_EQ(many.size(), texts.size());
    many.intern_n({}, {});
}

TEST(StringInterner, StringsNeverMove) {
    string_interner names;
    std::string_view const first = names.view(names.intern("first"));
    char const* const at = first.data();
    for (int i = 0; i < 100'000; ++i) names.intern(std::to_string(i));
    EXPECT_EQ(names.view(*names.find("first")).data(), at);
    EXPECT_EQ(first, "first");
    string_interner const moved = std::move(names);
    EXPECT_EQ(moved.view(*moved.find("first")).data(), at);
}

TEST(StringInterner, CopiesAreIndependentAndTheMovedFromIsEmpty) {
    auto const texts = strings();
    string_interner names;
    std::vector<symbol> symbols;
    for (auto const& text : texts) symbols.push_back(names.intern(text));
    string_interner copy = names;
    symbol const extra = copy.intern("only in the copy");
    EXPECT_EQ(copy.view(extra), "only in the copy");
    EXPECT_FALSE(names.contains("only in the copy"));
    EXPECT_EQ(names.intern("only in the first"), extra);  // the next place of each
    for (std::size_t i = 0; i < texts.size(); ++i) ASSERT_EQ(copy.find(texts[i]), symbols[i]);

    string_interner moved = std::move(copy);
    EXPECT_EQ(moved.size(), texts.size() + 1);
    EXPECT_TRUE(copy.empty());  // NOLINT: that is the question
    EXPECT_FALSE(copy.contains(texts[0]));
    EXPECT_EQ(copy.begin(), copy.end());
    EXPECT_EQ(copy.view(copy.intern("new life")), "new life");
    copy = moved;
    EXPECT_EQ(copy.size(), moved.size());
    EXPECT_EQ(copy.view(extra), "only in the copy");
    copy = string_interner();
    EXPECT_TRUE(copy.empty());
}

TEST(StringInterner, IteratorsGoOnOverStringsThatCameLater) {
    string_interner names;
    EXPECT_EQ(names.begin(), names.end());
    symbol const first = names.intern("a");
    auto at = names.begin();
    EXPECT_EQ(*at, first);
    std::vector<symbol> later;
    for (int i = 0; i < 10'000; ++i) later.push_back(names.intern(std::to_string(i)));
    for (symbol const s : later) ASSERT_EQ(*++at, s);
    EXPECT_EQ(std::next(at), names.end());
}

TEST(StringInterner, AFullArenaIsAnErrorAndNothingIsLost) {
    // 4 GiB at once, which it refuses before it reads them; at the interner's door they would be hashed
    // first.
    cairn::detail::string_arena arena;
    std::uint32_t const before = arena.append("before");
    char const letter = 'x';
    char const* const volatile one = &letter;  // or the compiler sees it, and says so
    std::size_t const memory = arena.memory();
    EXPECT_THROW((void)arena.append({one, std::size_t{1} << 32}), std::length_error);
    EXPECT_EQ(arena.memory(), memory);
    EXPECT_EQ(cairn::detail::string_entry::read(arena.at(before)), "before");
}

TEST(StringInterner, IsUnharmedByAnyAllocationThatFails) {
    for (std::size_t n = 0;; ++n) {
        string_interner names(1);
        std::vector<symbol> symbols;
        symbols.reserve(3'000);
        bool threw = false;
        {
            support::fail_after const limit(n);
            try {
                for (std::uint32_t i = 0; i < 3'000; ++i) {
                    char text[16];
                    std::memset(text, 'a', sizeof text);
                    std::memcpy(text, &i, sizeof i);
                    symbols.push_back(names.intern({text, sizeof text}));
                }
            } catch (std::bad_alloc const&) {
                threw = true;
            }
        }
        ASSERT_EQ(names.size(), symbols.size());
        for (std::uint32_t i = 0; i < symbols.size(); ++i) {
            ASSERT_EQ(0, std::memcmp(names.view(symbols[i]).data(), &i, sizeof i));
            ASSERT_EQ(names.find(names.view(symbols[i])), symbols[i]);
        }
        ASSERT_EQ(names.view(names.intern("it goes on")), "it goes on");
        if (!threw) {
            EXPECT_GT(n, 10U);
            return;
        }
    }
}

TEST(StringInterner, AllocatesNothingForAHit) {
    string_interner names;
    for (int i = 0; i < 1'000; ++i) names.intern(std::to_string(i));
    std::string const text = "777";
    std::size_t const before = support::allocations;
    for (int i = 0; i < 1'000; ++i) (void)names.intern(text);
    EXPECT_EQ(support::allocations, before);
}

TEST(StringInterner, CollisionsCostTimeAndNothingElse) {
    // All strings under one hash: what an attacker who knows the seed could do.
    cairn::detail::symbol_table<false> table(2'000);
    for (std::uint32_t s = 1; s <= 1'000; ++s) table.insert(0x1234'5678'9ABC'DEF0, s);
    for (std::uint32_t s = 1; s <= 1'000; ++s)
        ASSERT_EQ(table.find(0x1234'5678'9ABC'DEF0, [s](std::uint32_t found) { return found == s; }), s);
    EXPECT_EQ(table.find(0x1234'5678'9ABC'DEF0, [](std::uint32_t) { return false; }), 0U);
    EXPECT_EQ(table.find(0x1234'5678'9ABC'DEF1, [](std::uint32_t) { return true; }), 0U);
}

TEST(StringInterner, TakesAtMost12BytesBeyondEachOfManyShortStrings) {
    string_interner names;
    double sum = 0;
    int n = 0;
    for (int i = 0; i < 200'000; ++i) {
        names.intern(std::to_string(i * 7'919LL));
        if (i < 1'000) continue;
        double const over =
            static_cast<double>(names.memory() - names.bytes()) / static_cast<double>(names.size());
        ASSERT_LE(over, 16);
        sum += over;
        ++n;
    }
    EXPECT_LE(sum / n, 12);
}

}  // namespace
