// SPDX-License-Identifier: MIT
// MD5 of a text (RFC 1321). Fleets place keys by it. It protects nothing: collisions are made at will.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "bytes.hpp"
#include "lanes.hpp"

namespace cairn::detail {

/// The digest as four numbers: number i is its bytes 4i to 4i + 3, the lowest first.
using md5_digest = std::array<std::uint32_t, 4>;
using md5_block = std::array<std::uint32_t, 16>;

/// floor(2^32 * |sin(i + 1)|), i in radians.
inline constexpr std::array<std::uint32_t, 64> md5_sines{
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};

/// Step I of 64, known at compile time: which letters take part, and by how much it turns, costs nothing.
/// A Word is a number, or eight of them.
template <std::size_t I, class Word>
constexpr void md5_step(std::array<Word, 4>& state, std::array<Word, 16> const& block) noexcept {
    constexpr int turns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    constexpr std::size_t which = I < 16   ? I
                                  : I < 32 ? (5 * I + 1) % 16
                                  : I < 48 ? (3 * I + 5) % 16
                                           : 7 * I % 16;
    constexpr int turn = turns[I / 16][I % 4];
    Word& a = state[(64 - I) % 4];
    Word const b = state[(65 - I) % 4];
    Word const c = state[(66 - I) % 4];
    Word const d = state[(67 - I) % 4];
    // In the second round the two terms share no bit, so + is | there, and one of them need not wait for b.
    Word const mixed = I < 16   ? d ^ (b & (c ^ d))
                       : I < 32 ? (c & ~d) + (b & d)
                       : I < 48 ? b ^ c ^ d
                                : c ^ (b | ~d);
    Word const sum = a + block[which] + md5_sines[I] + mixed;
    a = b + (sum << turn | sum >> (32 - turn));
}

template <class Word>
constexpr void md5_add_block(std::array<Word, 4>& digest, std::array<Word, 16> const& block) noexcept {
    auto state = digest;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        (md5_step<I>(state, block), ...);
    }(std::make_index_sequence<64>{});
    for (std::size_t i = 0; i < 4; ++i) digest[i] = digest[i] + state[i];
}

inline constexpr md5_digest md5_start{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

/// What is left of a text, less than 64 bytes, and a bit 1 behind it.
[[nodiscard]] constexpr md5_block md5_rest(std::string_view text) noexcept {
    md5_block block{};
    std::size_t const words = text.size() / 4;
    for (std::size_t i = 0; i < words; ++i) block[i] = little_32(text, 4 * i);
    for (std::size_t i = 4 * words; i < text.size(); ++i) block[words] |= byte_at(text, i) << i % 4 * 8;
    block[words] |= std::uint32_t{0x80} << text.size() % 4 * 8;
    return block;
}

/// One block for each 64 bytes, and one more for what is left. 110 ns for a key of up to 55 bytes.
[[nodiscard]] constexpr md5_digest md5(std::string_view text) noexcept {
    md5_digest digest = md5_start;
    std::uint64_t const bits = std::uint64_t{text.size()} * 8;
    for (; text.size() >= 64; text.remove_prefix(64)) {
        md5_block block{};
        for (std::size_t i = 0; i < 16; ++i) block[i] = little_32(text, 4 * i);
        md5_add_block(digest, block);
    }
    md5_block block = md5_rest(text);
    if (text.size() >= 56) {  // no room for the length: it gets a block of its own
        md5_add_block(digest, block);
        block = {};
    }
    block[14] = static_cast<std::uint32_t>(bits);
    block[15] = static_cast<std::uint32_t>(bits >> 32);
    md5_add_block(digest, block);
    return digest;
}

/// The first four bytes of the digests of eight texts. A third of the time of eight times md5, if none has
/// more than 55 bytes; else the same time.
[[nodiscard]] inline std::array<std::uint32_t, 8> md5_of_eight(
    std::span<std::string_view const, 8> texts) noexcept {
    std::array<std::uint32_t, 8> first;
    if (std::ranges::any_of(texts, [](auto const& text) { return text.size() > 55; })) {
        std::ranges::transform(texts, first.begin(), [](auto const& text) { return md5(text)[0]; });
        return first;
    }
    std::array<md5_block, 8> one;
    for (std::size_t lane = 0; lane < 8; ++lane) {
        one[lane] = md5_rest(texts[lane]);
        one[lane][14] = static_cast<std::uint32_t>(texts[lane].size() * 8);
    }
    std::array<eight_words, 16> block;
    for (std::size_t i = 0; i < 16; ++i)
        block[i] = eight_words::of([&](std::size_t lane) { return one[lane][i]; });
    std::array<eight_words, 4> digest{md5_start[0], md5_start[1], md5_start[2], md5_start[3]};
    md5_add_block(digest, block);
    return digest[0].words();
}

}  // namespace cairn::detail
