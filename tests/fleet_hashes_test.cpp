// SPDX-License-Identifier: MIT
#include <cairn/fleets/envoy.hpp>
#include <cairn/fleets/haproxy.hpp>
#include <cairn/fleets/hashes.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <string_view>

#include "support/golden.hpp"

namespace {

using namespace cairn::fleets;
namespace detail = cairn::detail;

std::string hex(detail::md5_digest const& digest) {
    std::string text;
    for (std::uint32_t const word : digest)
        for (int byte = 0; byte < 4; ++byte)
            for (int nibble = 1; nibble >= 0; --nibble)
                text += "0123456789abcdef"[word >> (8 * byte + 4 * nibble) & 0xf];
    return text;
}

TEST(FleetHashes, Md5GivesTheDigestsOfTheRfc) {
    std::map<std::string_view, std::string_view> const suite{
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"a", "0cc175b9c0f1b6a831c399e269772661"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
         "d174ab98d277d9f5a5611c2c9f419d9f"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
         "57edf4a22be3c955ac49da2e2107b67a"}};
    for (auto const& [text, digest] : suite) EXPECT_EQ(hex(detail::md5(text)), digest) << text;
    static_assert(detail::md5("abc")[0] == 0x98500190, "and at compile time");
}

/// MD5 as the RFC words it: the text is padded first, then taken block by block, with a loop of 64 steps.
detail::md5_digest md5_by_definition(std::string text) {
    std::uint64_t const bits = std::uint64_t{text.size()} * 8;
    text += '\x80';
    while (text.size() % 64 != 56) text += '\0';
    for (int i = 0; i < 8; ++i) text += static_cast<char>(bits >> 8 * i);
    constexpr int turns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    detail::md5_digest digest{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    for (std::size_t block = 0; block < text.size(); block += 64) {
        auto [a, b, c, d] = digest;
        for (std::size_t i = 0; i < 64; ++i) {
            std::uint32_t f = 0;
            std::size_t g = 0;
            if (i < 16)
                f = (b & c) | (~b & d), g = i;
            else if (i < 32)
                f = (b & d) | (c & ~d), g = (5 * i + 1) % 16;
            else if (i < 48)
                f = b ^ c ^ d, g = (3 * i + 5) % 16;
            else
                f = c ^ (b | ~d), g = 7 * i % 16;
            std::uint32_t word = 0;
            for (std::size_t k = 4; k-- > 0;)
                word = word << 8 | static_cast<unsigned char>(text[block + 4 * g + k]);
            std::uint32_t const sum = a + f + detail::md5_sines[i] + word;
            int const by = turns[i / 16][i % 4];
            a = d, d = c, c = b;
            b += sum << by | sum >> (32 - by);
        }
        digest = {digest[0] + a, digest[1] + b, digest[2] + c, digest[3] + d};
    }
    return digest;
}

std::string random_text(std::mt19937_64& random, std::size_t length) {
    std::string text(length, '\0');
    for (char& letter : text) letter = static_cast<char>(random());
    return text;
}

TEST(FleetHashes, Md5IsThatOfTheDefinitionForEveryLengthOfPadding) {
    std::mt19937_64 random{20261101};
    for (std::size_t length = 0; length <= 200; ++length) {
        std::string const text = random_text(random, length);
        ASSERT_EQ(detail::md5(text), md5_by_definition(text)) << "length " << length;
    }
}

/// CRC-32 bit by bit.
std::uint32_t crc32_by_definition(std::string_view text) {
    std::uint32_t crc = 0xffffffff;
    for (char const letter : text)
        for (int bit = 0; bit < 8; ++bit) {
            bool const out = (crc ^ static_cast<unsigned char>(letter) >> bit) & 1;
            crc = crc >> 1 ^ (out ? 0xedb88320 : 0);
        }
    return ~crc;
}

TEST(FleetHashes, TheCrcIsThatOfTheDefinitionForEveryLengthAndInPieces) {
    EXPECT_EQ(detail::crc32("123456789"), 0xcbf43926U);  // the check value of the standard
    EXPECT_EQ(crc32{}("123456789"), 0xcbf43926U >> 16 & 0x7fff);
    EXPECT_EQ(crc16{}("123456789") & 0xffff, 0x31c3U);
    std::mt19937_64 random{20261102};
    for (std::size_t length = 0; length <= 70; ++length) {
        std::string const text = random_text(random, length);
        ASSERT_EQ(crc32a{}(text), crc32_by_definition(text)) << "length " << length;
        std::size_t const cut = length == 0 ? 0 : random() % length;
        std::uint32_t const first = detail::crc32_feed(detail::crc32_start, text.substr(0, cut));
        ASSERT_EQ(~detail::crc32_feed(first, text.substr(cut)), detail::crc32(text)) << cut;
    }
}

/// The check of SMHasher, which comes with the hashes: the keys {}, {0}, {0, 1} … {0, … 254}, each with
/// another seed, then the hash of all these hashes.
template <class Number>
std::uint32_t verification(std::function<Number(std::string_view, std::uint32_t)> const& hash) {
    std::string key;
    std::string hashes;
    for (std::uint32_t i = 0; i < 256; ++i) {
        Number const value = hash(key, 256 - i);
        for (std::size_t byte = 0; byte < sizeof value; ++byte)
            hashes += static_cast<char>(value >> 8 * byte);
        key += static_cast<char>(i);
    }
    return static_cast<std::uint32_t>(hash(hashes, 0));
}

TEST(FleetHashes, TheMurmursPassTheirAuthorsCheck) {
    EXPECT_EQ(verification<std::uint32_t>(detail::murmur2), 0x27864c1eU);
    EXPECT_EQ(verification<std::uint64_t>(detail::murmur2_64a), 0x1f0d3804U);
    EXPECT_EQ(verification<std::uint32_t>(detail::murmur3), 0xb0f57ee3U);
}

TEST(FleetHashes, Lookup3GivesItsAuthorsValues) {
    EXPECT_EQ(detail::lookup3("", 0), 0xdeadbeefU);
    EXPECT_EQ(detail::lookup3("", 0xdeadbeef), 0xbd5b7ddeU);
    EXPECT_EQ(detail::lookup3("Four score and seven years ago", 0), 0x17770551U);
    EXPECT_EQ(detail::lookup3("Four score and seven years ago", 1), 0xcd628161U);
}

TEST(FleetHashes, OtherHashesGiveTheirPublishedValues) {
    EXPECT_EQ(one_at_a_time{}("a"), 0xca2e9442U);
    EXPECT_EQ(one_at_a_time{}("The quick brown fox jumps over the lazy dog"), 0x519e91f5U);
    EXPECT_EQ(fnv1_32{}("foobar"), 0x31f0b262U);
    EXPECT_EQ(fnv1a_32{}("foobar"), 0xbf9cf968U);
    EXPECT_EQ(fnv1_64{}("foobar"), 0x340d8765a4dda9c2U & 0xffffffff);
    EXPECT_EQ(fnv1a_64{}("foobar"), 0x85944171f73967e8U & 0xffffffff);
}

TEST(FleetHashes, GiveWhatLibhashkitGave) {
    std::map<std::string, std::function<std::uint32_t(std::string_view)>> const hashes{
        {"DEFAULT", one_at_a_time{}},
        {"MD5", md5{}},
        {"CRC", crc32{}},
        {"FNV1_64", fnv1_64{}},
        {"FNV1A_64", fnv1a_64{}},
        {"FNV1_32", fnv1_32{}},
        {"FNV1A_32", fnv1a_32{}},
        {"HSIEH", hsieh_left_out{}},
        {"MURMUR", murmur{}},
        {"MURMUR3", murmur3{}},
        {"JENKINS", jenkins{}}};
    auto const rows = support::golden("libhashkit_functions.csv");
    EXPECT_EQ(rows.size(), 39u);
    for (auto const& row : rows) {
        std::string const& function = row.at(1);
        EXPECT_EQ(hashes.at(function)(row.at(0)), std::stoul(row.at(2))) << function << " of " << row.at(0);
    }
}

// No author has published values of these. They were taken when all 2,000 keys of each had gone where
// nutcracker 0.5.0 (crc16, hsieh) and HAProxy 2.6.12 (djb2, wt6, sdbm) sent them: see fleet_programs_test.
TEST(FleetHashes, KeepTheValuesThatTheProgramsAgreedWith) {
    std::map<std::string_view, std::array<std::uint32_t, 5>> const values{
        {"user:42", {0x6e3a3e08, 0xae4b9fa9, 0x45c1cda4, 0x2e68dc4f, 0x789cb0ed}},
        {"a", {0x00007c87, 0x93642e87, 0x0002b606, 0x714bf225, 0x00000061}},
        {"ab", {0x007c74ff, 0x5b8c0ec3, 0x00597728, 0x12b8a5f9, 0x00611841}},
        {"abc", {0x7c749dd6, 0xe5186b3a, 0x0b885c8b, 0x940028e8, 0x3025f862}},
        {"abcd", {0x749da836, 0x3ab452d8, 0x7c93ee4f, 0xd9bc1adb, 0xd1ba2082}},
        {"\xc3\xa9"
         "t\xc3\xa9",
         {0xe626a767, 0xcc955977, 0x16265db1, 0x194f1da3, 0xadee62f4}},
    };
    for (auto const& [key, value] : values) {
        EXPECT_EQ(crc16{}(key), value[0]) << key;
        EXPECT_EQ(hsieh{}(key), value[1]) << key;
        EXPECT_EQ(djb2{}(key), value[2]) << key;
        EXPECT_EQ(wt6{}(key), value[3]) << key;
        EXPECT_EQ(sdbm{}(key), value[4]) << key;
    }
}

/// Eight texts of any lengths around `length`, so that every place for the shortest and the longest comes up.
template <class Hash>
void check_eight(std::uint64_t seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random{seed};
    for (std::size_t length = 0; length <= 130; ++length)
        for (std::size_t spread : {1U, 5U, 100U}) {
            std::array<std::string, 8> texts;
            std::array<std::string_view, 8> views;
            for (std::size_t i = 0; i < 8; ++i)
                views[i] = texts[i] = random_text(random, length + random() % spread);
            auto const eight = Hash{}.of_eight(views);
            for (std::size_t i = 0; i < 8; ++i)
                ASSERT_EQ(eight[i], Hash{}(texts[i])) << "text " << i << ", length " << texts[i].size();
        }
}

TEST(FleetHashes, OfEightTextsSideBySideAreThoseOfEachAlone) {
    check_eight<one_at_a_time>(20261125);
    check_eight<md5>(20261126);
}

TEST(FleetHashes, GiveTheSameForKeysAnywhereInMemory) {
    std::mt19937_64 random{20261103};
    for (std::size_t length = 0; length <= 40; ++length) {
        std::string const text = random_text(random, length);
        for (std::size_t shift = 1; shift < 8; ++shift) {
            std::string const moved = std::string(shift, 'x') + text;
            std::string_view const view = std::string_view(moved).substr(shift);
            ASSERT_EQ(md5{}(view), md5{}(text));
            ASSERT_EQ(crc32a{}(view), crc32a{}(text));
            ASSERT_EQ(murmur{}(view), murmur{}(text));
            ASSERT_EQ(murmur3{}(view), murmur3{}(text));
            ASSERT_EQ(murmur2_64a{}(view), murmur2_64a{}(text));
            ASSERT_EQ(jenkins{}(view), jenkins{}(text));
            ASSERT_EQ(hsieh{}(view), hsieh{}(text));
        }
    }
}

}  // namespace
