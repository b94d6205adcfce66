// SPDX-License-Identifier: MIT
// What both interners do at their limits: long strings, a full arena, strings that are made to collide.
#include <cairn/concurrent_string_interner.hpp>
#include <cairn/hash.hpp>
#include <cairn/string_interner.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include <gtest/gtest.h>

#include "support/sanitizers.hpp"

namespace {

using cairn::symbol;

template <class Interner>
class InternerLimits : public testing::Test {};
struct interner_names {
    template <class Interner>
    static std::string GetName(int) {
        return std::is_same_v<Interner, cairn::string_interner> ? "one_thread" : "concurrent";
    }
};
using interners = testing::Types<cairn::string_interner, cairn::concurrent_string_interner>;
TYPED_TEST_SUITE(InternerLimits, interners, interner_names);

/// What the system could give without swapping; 0 if it does not say.
[[nodiscard]] std::size_t available_gib() {
    std::ifstream file("/proc/meminfo");
    std::string name, unit;
    for (std::size_t kib = 0; file >> name >> kib; std::getline(file, unit))
        if (name == "MemAvailable:") return kib >> 20;
    return 0;
}

TYPED_TEST(InternerLimits, KeepsAStringOf1GiBAndLosesNothingWhenTheArenaIsFull) {
    if (support::sanitized) GTEST_SKIP() << "a GiB is too much for a sanitizer's shadow";
    if (available_gib() < 3) GTEST_SKIP() << "needs 1 GiB of memory, and 3 to be available";
    constexpr std::size_t gib = std::size_t{1} << 30;
    // Zeros that nobody has written take no memory, however many they are.
    std::unique_ptr<char[], void (*)(void*)> const zeros(static_cast<char*>(std::calloc(3, gib)), std::free);
    if (zeros == nullptr) GTEST_SKIP() << "the system gives no address space of 3 GiB";
    zeros[gib / 2] = 'm';
    std::string_view const large(zeros.get(), gib), too_large(zeros.get(), 3 * gib);

    TypeParam names(1);
    symbol const small = names.intern("before");
    symbol const one = names.intern(large);
    EXPECT_EQ(names.intern(large), one);
    EXPECT_THROW((void)names.intern(too_large), std::length_error);
    EXPECT_EQ(names.size(), 2U);
    EXPECT_EQ(names.bytes(), gib + 6);
    std::string_view const view = names.view(one);
    ASSERT_EQ(view.size(), gib);
    EXPECT_EQ(view[gib / 2], 'm');
    EXPECT_EQ(view.data()[gib], '\0');
    EXPECT_EQ(names.find(large), one);
    EXPECT_EQ(names.find("before"), small);
    EXPECT_EQ(names.view(names.intern("after")), "after");
}

TEST(StringArena, ThatIsFullSaysSoAndLosesNothing) {
    constexpr std::size_t chunks = 40;
    cairn::detail::basic_string_arena<chunks> arena;
    std::vector<std::uint32_t> offsets;
    std::string const longer(1'000, 'x');
    std::size_t memory = 0;
    try {
        for (;;) {
            memory = arena.memory();
            offsets.push_back(arena.append(longer + std::to_string(offsets.size())));
        }
    } catch (std::length_error const& error) {
        EXPECT_NE(std::string_view(error.what()).find("4 GiB"), std::string_view::npos);
    }
    EXPECT_EQ(arena.memory(), memory);
    EXPECT_GT(offsets.size(), 100U);
    EXPECT_LT(offsets.back(), chunks * cairn::detail::chunk_bytes);
    EXPECT_THROW((void)arena.append(longer), std::length_error);
    for (std::size_t i = 0; i < offsets.size(); ++i)
        ASSERT_EQ(cairn::detail::string_entry::read(arena.at(offsets[i])), longer + std::to_string(i));
    // The rest of the last block is still to be had.
    EXPECT_EQ(cairn::detail::string_entry::read(arena.at(arena.append("x"))), "x");
}

TEST(StringArena, IsFullBeforeSymbolsRunOut) {
    // An entry takes two bytes and more, and only the empty string takes two.
    constexpr std::uint64_t offsets = cairn::detail::chunk_bytes * cairn::detail::chunk_count;
    static_assert(offsets - 1 == std::numeric_limits<std::uint32_t>::max());
    static_assert(cairn::detail::string_entry::bytes(0) == 2 && cairn::detail::string_entry::bytes(1) == 3);
    // The last offset that there can be is a symbol like any other.
    symbol const last = symbol::of(std::numeric_limits<std::uint32_t>::max());
    EXPECT_TRUE(last.has_value());
    EXPECT_GT(last, symbol::of(1));
}

/// Strings of 16 characters that all have one hash under this seed: their first half is the secret that it
/// is mixed with, so the product is 0 whatever the second half.
[[nodiscard]] std::vector<std::string> collisions(std::uint64_t seed, std::uint64_t n) {
    std::uint64_t const secret = cairn::xxh3(seed)(std::uint64_t{1});
    std::vector<std::string> all;
    for (std::uint64_t i = 0; i < n; ++i) {
        std::string text(16, '\0');
        std::memcpy(text.data(), &secret, sizeof secret);
        std::memcpy(text.data() + 8, &i, sizeof i);
        all.push_back(text);
    }
    return all;
}

TYPED_TEST(InternerLimits, StringsThatCollideUnderAKnownSeedCostTimeAndNothingElse) {
    constexpr std::uint64_t seed = 20'261'124;
    auto const texts = collisions(seed, 2'000);
    cairn::detail::string_hash const known(seed), other(seed + 1);
    std::unordered_set<std::uint64_t> under_known, under_other;
    for (auto const& text : texts) {
        under_known.insert(known(text));
        under_other.insert(other(text));
    }
    ASSERT_EQ(under_known.size(), 1U) << "these strings do not collide any more: the hash has changed";
    EXPECT_EQ(under_other.size(), texts.size()) << "they collide under a seed that nobody knew";

    TypeParam names(seed);
    std::vector<symbol> symbols;
    for (auto const& text : texts) {
        EXPECT_FALSE(names.contains(text));
        symbols.push_back(names.intern(text));
    }
    EXPECT_EQ(std::unordered_set<symbol>(symbols.begin(), symbols.end()).size(), texts.size());
    EXPECT_EQ(names.size(), texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        ASSERT_EQ(names.intern(texts[i]), symbols[i]);
        ASSERT_EQ(names.view(symbols[i]), texts[i]);
    }
    std::vector<std::string_view> const views(texts.begin(), texts.end());
    std::vector<symbol> again(views.size());
    names.intern_n(views, again);
    EXPECT_EQ(again, symbols);
    names.intern("and one that does not");
    EXPECT_TRUE(names.contains("and one that does not"));
}

}  // namespace
