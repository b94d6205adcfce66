// SPDX-License-Identifier: MIT
// Three of Austin Appleby's Murmur hashes (2008 to 2011), as their little-endian originals compute them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "bytes.hpp"

namespace cairn::detail {

/// MurmurHash2, 32 bits.
[[nodiscard]] constexpr std::uint32_t murmur2(std::string_view text, std::uint32_t seed) noexcept {
    constexpr std::uint32_t m = 0x5bd1e995;
    std::uint32_t h = seed ^ static_cast<std::uint32_t>(text.size());
    std::size_t i = 0;
    for (; text.size() - i >= 4; i += 4) {
        std::uint32_t k = little_32(text, i) * m;
        k = (k ^ k >> 24) * m;
        h = h * m ^ k;
    }
    if (std::size_t const rest = text.size() - i; rest > 0) {
        for (std::size_t at = rest; at-- > 0;) h ^= byte_at(text, i + at) << 8 * at;
        h *= m;
    }
    h = (h ^ h >> 13) * m;
    return h ^ h >> 15;
}

/// MurmurHash64A: MurmurHash2 with 64 bits.
[[nodiscard]] constexpr std::uint64_t murmur2_64a(std::string_view text, std::uint64_t seed) noexcept {
    constexpr std::uint64_t m = 0xc6a4a7935bd1e995;
    std::uint64_t h = seed ^ std::uint64_t{text.size()} * m;
    std::size_t i = 0;
    for (; text.size() - i >= 8; i += 8) {
        std::uint64_t k = little_64(text, i) * m;
        k = (k ^ k >> 47) * m;
        h = (h ^ k) * m;
    }
    if (std::size_t const rest = text.size() - i; rest > 0) {
        for (std::size_t at = rest; at-- > 0;) h ^= std::uint64_t{byte_at(text, i + at)} << 8 * at;
        h *= m;
    }
    h = (h ^ h >> 47) * m;
    return h ^ h >> 47;
}

/// MurmurHash3, x86, 32 bits.
[[nodiscard]] constexpr std::uint32_t murmur3(std::string_view text, std::uint32_t seed) noexcept {
    auto const scrambled = [](std::uint32_t k) { return std::rotl(k * 0xcc9e2d51U, 15) * 0x1b873593U; };
    std::uint32_t h = seed;
    std::size_t i = 0;
    for (; text.size() - i >= 4; i += 4)
        h = std::rotl(h ^ scrambled(little_32(text, i)), 13) * 5 + 0xe6546b64;
    std::uint32_t rest = 0;
    for (std::size_t at = text.size() - i; at-- > 0;) rest |= byte_at(text, i + at) << 8 * at;
    h ^= scrambled(rest);  // nothing of nothing is 0
    h ^= static_cast<std::uint32_t>(text.size());
    h = (h ^ h >> 16) * 0x85ebca6b;
    h = (h ^ h >> 13) * 0xc2b2ae35;
    return h ^ h >> 16;
}

}  // namespace cairn::detail
