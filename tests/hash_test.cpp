// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <cairn/hash.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using cairn::xxh3;

enum class small_enum : std::int8_t { minus_one = -1, seven = 7 };
enum plain_enum { plain_seven = 7 };
struct unknown {};

// What is no key, is refused: an address, a floating-point number, a character of the platform's width.
static_assert(!std::is_invocable_v<xxh3, void*>);
static_assert(!std::is_invocable_v<xxh3, int*>);
static_assert(!std::is_invocable_v<xxh3, std::unique_ptr<int>>);
static_assert(!std::is_invocable_v<xxh3, double>);
static_assert(!std::is_invocable_v<xxh3, wchar_t>);
static_assert(!std::is_invocable_v<xxh3, unknown>);
static_assert(!std::is_invocable_v<xxh3, std::pair<int, double>>);
static_assert(!std::is_invocable_v<xxh3, std::tuple<int>>);  // one part is not a composite

// std::hash has not promised what a placement needs, so the concept refuses it.
static_assert(!cairn::placement_hash<std::hash<int>>);
static_assert(!cairn::placement_hash<std::hash<std::string>>);
static_assert(!cairn::placement_hash_for<std::hash<std::uint64_t>, std::uint64_t>);
struct not_a_promise {
    static constexpr bool is_placement_hash = false;
    std::uint64_t operator()(int) const noexcept { return 0; }
};
static_assert(!cairn::placement_hash<not_a_promise>);

static_assert(cairn::placement_hash<xxh3>);
static_assert(cairn::placement_hash_for<xxh3, std::string>);
static_assert(cairn::placement_hash_for<xxh3, char const*>);
static_assert(cairn::placement_hash_for<xxh3, std::pair<std::string, int>>);
static_assert(
    cairn::placement_hash_for<xxh3, std::tuple<std::pair<int, char>, std::string_view, small_enum>>);
static_assert(noexcept(xxh3{}(std::string_view{})) && noexcept(xxh3{}(1)) && noexcept(xxh3{}(1, 2)));

/// The bytes 0, 1, 2 … as the reference vectors of other implementations use them.
std::string counting(std::size_t length) {
    std::string text(length, '\0');
    for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<char>(i);
    return text;
}

TEST(Hash, StringsHaveTheValuesOfTheReferenceImplementation) {
    // Values of XXH3_64bits of the reference library 0.8.1; lengths on each side of its internal limits.
    EXPECT_EQ(xxh3{}(""), 0x2d06800538d394c2U);
    EXPECT_EQ(xxh3{}("abc"), 0x78af5f94892f3950U);
    EXPECT_EQ(xxh3{}("user:42"), 0x9fc1e605fa7174aaU);
    for (std::size_t const length :
         {0U, 1U, 3U, 4U, 8U, 9U, 16U, 17U, 128U, 129U, 240U, 241U, 1024U, 5000U}) {
        std::string const text = counting(length);
        EXPECT_EQ(xxh3{}(text), XXH3_64bits(text.data(), text.size())) << length;
        EXPECT_EQ(xxh3{2026}(text), XXH3_64bits_withSeed(text.data(), text.size(), 2026)) << length;
    }
}

TEST(Hash, GoldenValuesOfIntegersAndCompositesNeverChange) {
    EXPECT_EQ(xxh3{}(7), 0x81671e58d6b596afU);
    EXPECT_EQ(xxh3{}(42), 0xd5a6f8c838df27c8U);
    EXPECT_EQ(xxh3{}(std::tuple{1, "a"}), 0x3c8a2ecde8d5eb6eU);
    std::array<std::byte, 3> const zeros{};
    EXPECT_EQ(xxh3{}(std::span<std::byte const>(zeros)), 0xeb5d658bb22f286bU);
}

TEST(Hash, AnIntegerHashesByItsValueAsEightLittleEndianBytes) {
    std::mt19937_64 random{20260201};
    for (int round = 0; round < 10'000; ++round) {
        std::uint64_t const value = random() >> (random() % 64);
        std::string bytes(8, '\0');
        for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
        ASSERT_EQ(xxh3{}(value), xxh3{}(bytes)) << value;
        ASSERT_EQ(xxh3{9}(value), xxh3{9}(bytes)) << value;
    }
}

TEST(Hash, TheWidthOfAnIntegerDoesNotMatterButItsValueDoes) {
    xxh3 const hash;
    EXPECT_EQ(hash(7), hash(7U));
    EXPECT_EQ(hash(7), hash(std::int8_t{7}));
    EXPECT_EQ(hash(7), hash(7ULL));
    EXPECT_EQ(hash(-1), hash(std::int8_t{-1}));
    EXPECT_EQ(hash(-1), hash(std::numeric_limits<std::uint64_t>::max()));
    EXPECT_EQ(hash(7), hash(small_enum::seven));
    EXPECT_EQ(hash(7), hash(plain_seven));
    EXPECT_EQ(hash(-1), hash(small_enum::minus_one));
    EXPECT_EQ(hash(1), hash(true));
    EXPECT_NE(hash(255), hash(-1));
    std::set<std::uint64_t> values;
    for (int i = -5'000; i < 5'000; ++i) values.insert(hash(i));
    EXPECT_EQ(values.size(), 10'000U);
}

TEST(Hash, ACharIsUnsignedWhateverThePlatformSays) {
    EXPECT_EQ(xxh3{}(static_cast<char>(0xff)), xxh3{}(255));
    EXPECT_EQ(xxh3{}('a'), xxh3{}(97));
    EXPECT_EQ(xxh3{}(static_cast<signed char>(-1)), xxh3{}(-1));
}

TEST(Hash, AllKindsOfStringAreOneKey) {
    xxh3 const hash;
    char const* const pointer = "cache-a";
    std::array<std::byte, 7> bytes{};
    for (std::size_t i = 0; i < 7; ++i) bytes[i] = static_cast<std::byte>(pointer[i]);
    EXPECT_EQ(hash("cache-a"), hash(std::string("cache-a")));
    EXPECT_EQ(hash("cache-a"), hash(std::string_view("cache-a")));
    EXPECT_EQ(hash("cache-a"), hash(pointer));
    EXPECT_EQ(hash("cache-a"), hash(std::span<std::byte const>(bytes)));
    EXPECT_EQ(hash("cache-a"), hash(bytes));
    EXPECT_NE(hash(std::string_view("a\0b", 3)), hash(std::string_view("a\0c", 3)));
    EXPECT_NE(hash(std::string_view("a\0", 2)), hash("a"));
}

TEST(Hash, CompositesHaveNoSeams) {
    xxh3 const hash;
    EXPECT_NE(hash("a", "bc"), hash("ab", "c"));
    EXPECT_NE(hash("a", "bc"), hash("abc", ""));
    EXPECT_NE(hash("", "abc"), hash("abc", ""));
    EXPECT_NE(hash("a", "b", "c"), hash("a", "bc"));
    EXPECT_NE(hash(1, 2), hash(2, 1));
    EXPECT_NE(hash(1, 2), hash(12));
    // All ways to cut a text in two or three are different keys.
    std::string const text = "0123456789abcdef";
    std::set<std::uint64_t> values;
    std::size_t cuts = 0;
    for (std::size_t i = 0; i <= text.size(); ++i) {
        values.insert(hash(text.substr(0, i), text.substr(i)));
        ++cuts;
        for (std::size_t j = i; j <= text.size(); ++j, ++cuts)
            values.insert(hash(text.substr(0, i), text.substr(i, j - i), text.substr(j)));
    }
    EXPECT_EQ(values.size(), cuts);
}

TEST(Hash, ATupleAPairAndSeveralArgumentsAreOneComposite) {
    xxh3 const hash{5};
    EXPECT_EQ(hash("eu", 42), hash(std::pair{"eu", 42}));
    EXPECT_EQ(hash("eu", 42), hash(std::pair{std::string("eu"), std::uint8_t{42}}));
    EXPECT_EQ(hash("eu", 42), hash(std::tuple{"eu", 42}));
    EXPECT_EQ(hash(1, 2, 3), hash(std::tuple{1, 2U, 3LL}));
    EXPECT_EQ(hash(1, std::pair{2, 3}), hash(std::tuple{1, std::tuple{2, 3}}));
    EXPECT_NE(hash(1, std::pair{2, 3}), hash(1, 2, 3));
}

TEST(Hash, SeedsGiveUnrelatedHashes) {
    EXPECT_EQ(xxh3{}, xxh3{0});
    EXPECT_NE(xxh3{1}, xxh3{2});
    EXPECT_EQ(xxh3{77}.seed(), 77U);
    int equal_bits = 0;
    constexpr int keys = 4'000;
    for (int key = 0; key < keys; ++key) {
        EXPECT_NE(xxh3{1}(key), xxh3{2}(key));
        equal_bits += std::popcount(~(xxh3{1}(key) ^ xxh3{2}(key)));
    }
    EXPECT_NEAR(equal_bits, 32 * keys, 6 * 4 * 64);  // half of them, within six standard deviations
}

TEST(Hash, SequentialIntegersFillTheCircleEvenly) {
    // The fault of the identity: all small numbers at the start. Here: 64 arcs of the circle, by the top
    // bits.
    std::array<int, 64> arcs{};
    for (int key = 0; key < 64'000; ++key) ++arcs[xxh3{}(key) >> 58];
    for (int const keys : arcs) EXPECT_NEAR(keys, 1'000, 6 * 32);
}

}  // namespace
