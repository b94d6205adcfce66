// SPDX-License-Identifier: MIT
// Small 32-bit hashes of texts, as the programs of fleets compute them, with their quirks.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "bytes.hpp"
#include "lanes.hpp"

namespace cairn::detail {

/// Bob Jenkins' one-at-a-time (1997). Bytes from 0x80 on count as negative, as plain char does on x86. A Word
/// is a number, or eight of them.
template <class Word>
[[nodiscard]] constexpr Word one_at_a_time_step(Word h, Word const& byte) noexcept {
    h = h + byte;
    h = h + (h << 10);
    return h ^ h >> 6;
}
template <class Word>
[[nodiscard]] constexpr Word one_at_a_time_end(Word h) noexcept {
    h = h + (h << 3);
    h = h ^ h >> 11;
    return h + (h << 15);
}
[[nodiscard]] constexpr std::uint32_t one_at_a_time(std::string_view text) noexcept {
    std::uint32_t h = 0;
    for (std::size_t i = 0; i < text.size(); ++i) h = one_at_a_time_step(h, signed_byte_at(text, i));
    return one_at_a_time_end(h);
}

/// The same of eight texts: side by side up to the end of the shortest, then each for itself. A third of the
/// time if they are about equally long.
[[nodiscard]] inline std::array<std::uint32_t, 8> one_at_a_time_of_eight(
    std::span<std::string_view const, 8> texts) noexcept {
    std::size_t const shortest =
        std::ranges::min(texts, {}, [](auto const& text) { return text.size(); }).size();
    eight_words hash;
    auto const four_of_each = [&](std::size_t at) {  // flipped at their highest bits, see below
        return eight_words::of([&](std::size_t lane) { return little_32(texts[lane], at) ^ 0x80808080; });
    };
    auto const add = [&](eight_words const& four, int bits) {  // the byte flipped, less that bit, is signed
        hash = one_at_a_time_step(hash, (four >> bits & 0xff) - 0x80);
    };
    std::size_t done = 0;
    for (; shortest - done >= 4; done += 4) {
        eight_words const four = four_of_each(done);
        add(four, 0);
        add(four, 8);
        add(four, 16);
        add(four, 24);
    }
    if (done != shortest && shortest >= 4) {
        eight_words const four = four_of_each(shortest - 4);  // of these the first were added already
        if (shortest - done == 3) add(four, 8);
        if (shortest - done >= 2) add(four, 16);
        add(four, 24);
        done = shortest;
    }
    auto hashes = hash.words();
    for (std::size_t lane = 0; lane < 8; ++lane) {
        std::string_view const text = texts[lane];
        for (std::size_t i = done; i < text.size(); ++i)
            hashes[lane] = one_at_a_time_step(hashes[lane], signed_byte_at(text, i));
        hashes[lane] = one_at_a_time_end(hashes[lane]);
    }
    return hashes;
}

/// Fowler, Noll and Vo's hashes (1991), with the bytes signed. Of the 64-bit ones programs keep the low half,
/// for which the low halves of the constants are enough.
struct fnv_constants {
    std::uint32_t start;
    std::uint32_t prime;
};
inline constexpr fnv_constants fnv_32{0x811c9dc5, 0x01000193};
inline constexpr fnv_constants fnv_64_low{0x84222325, 0x000001b3};

[[nodiscard]] constexpr std::uint32_t fnv1(std::string_view text, fnv_constants constants) noexcept {
    std::uint32_t h = constants.start;
    for (std::size_t i = 0; i < text.size(); ++i) h = h * constants.prime ^ signed_byte_at(text, i);
    return h;
}
[[nodiscard]] constexpr std::uint32_t fnv1a(std::string_view text, fnv_constants constants) noexcept {
    std::uint32_t h = constants.start;
    for (std::size_t i = 0; i < text.size(); ++i) h = (h ^ signed_byte_at(text, i)) * constants.prime;
    return h;
}

/// Bob Jenkins' lookup3, hashlittle (2006).
[[nodiscard]] constexpr std::uint32_t lookup3(std::string_view text, std::uint32_t seed) noexcept {
    std::uint32_t a = 0xdeadbeef + static_cast<std::uint32_t>(text.size()) + seed;
    std::uint32_t b = a;
    std::uint32_t c = a;
    std::size_t i = 0;
    for (; text.size() - i > 12; i += 12) {
        a += little_32(text, i);
        b += little_32(text, i + 4);
        c += little_32(text, i + 8);
        a = (a - c) ^ std::rotl(c, 4), c += b;
        b = (b - a) ^ std::rotl(a, 6), a += c;
        c = (c - b) ^ std::rotl(b, 8), b += a;
        a = (a - c) ^ std::rotl(c, 16), c += b;
        b = (b - a) ^ std::rotl(a, 19), a += c;
        c = (c - b) ^ std::rotl(b, 4), b += a;
    }
    std::size_t const rest = text.size() - i;  // 1 to 12 bytes, unless there was nothing at all
    if (rest == 0) return c;
    std::uint32_t last[3] = {};
    for (std::size_t at = 0; at < rest; ++at) last[at / 4] |= byte_at(text, i + at) << at % 4 * 8;
    a += last[0], b += last[1], c += last[2];
    c = (c ^ b) - std::rotl(b, 14);
    a = (a ^ c) - std::rotl(c, 11);
    b = (b ^ a) - std::rotl(a, 25);
    c = (c ^ b) - std::rotl(b, 16);
    a = (a ^ c) - std::rotl(c, 4);
    b = (b ^ a) - std::rotl(a, 14);
    return (c ^ b) - std::rotl(b, 24);
}

/// Paul Hsieh's SuperFastHash (2004) from 0. The last of three bytes that are left over is signed, the last
/// of one is not.
[[nodiscard]] constexpr std::uint32_t super_fast_hash(std::string_view text) noexcept {
    std::uint32_t h = 0;
    std::size_t i = 0;
    for (; text.size() - i >= 4; i += 4) {
        h += little_16(text, i);
        h = h << 16 ^ little_16(text, i + 2) << 11 ^ h;
        h += h >> 11;
    }
    switch (text.size() - i) {
        case 3:
            h += little_16(text, i);
            h ^= h << 16;
            h ^= signed_byte_at(text, i + 2) << 18;
            h += h >> 11;
            break;
        case 2:
            h += little_16(text, i);
            h ^= h << 11;
            h += h >> 17;
            break;
        case 1:
            h += byte_at(text, i);
            h ^= h << 10;
            h += h >> 1;
            break;
        default:
            break;
    }
    h ^= h << 3;
    h += h >> 5;
    h ^= h << 4;
    h += h >> 17;
    h ^= h << 25;
    return h + (h >> 6);
}

/// The hash of the sdbm data base (Ozan Yigit): h * 65599 + byte.
[[nodiscard]] constexpr std::uint32_t sdbm(std::string_view text) noexcept {
    std::uint32_t h = 0;
    for (std::size_t i = 0; i < text.size(); ++i) h = h * 65599 + byte_at(text, i);
    return h;
}

/// Daniel Bernstein's: h * 33 + byte, from 5381.
[[nodiscard]] constexpr std::uint32_t djb2(std::string_view text) noexcept {
    std::uint32_t h = 5381;
    for (std::size_t i = 0; i < text.size(); ++i) h = h * 33 + byte_at(text, i);
    return h;
}

/// HAProxy's own: two registers that turn by amounts which they choose themselves.
[[nodiscard]] constexpr std::uint32_t wt6(std::string_view text) noexcept {
    std::uint32_t h0 = 0xa53c965a;
    std::uint32_t h1 = 0x5ca6953a;
    std::uint32_t step0 = 6;
    std::uint32_t step1 = 18;
    for (std::size_t i = 0; i < text.size(); ++i) {
        std::uint32_t const byte = byte_at(text, i);
        h0 = ~(h0 ^ byte);
        h1 = ~(h1 + byte);
        std::uint32_t const turned = std::rotl(h1, static_cast<int>(step0));
        h1 = std::rotl(h0, static_cast<int>(step1));
        h0 = turned;
        std::uint32_t const steps = (h0 >> 16 ^ h1) & 0xffff;
        step0 = steps & 0x1f;
        step1 = steps >> 11;
    }
    return h0 ^ h1;
}

}  // namespace cairn::detail
