// SPDX-License-Identifier: MIT
// The CRC-32 of Ethernet, gzip and PNG (reflected, polynomial 0xedb88320).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "bytes.hpp"

namespace cairn::detail {

/// after[k][b] is the CRC register after byte b and k zero bytes, from 0.
using crc32_table = std::array<std::array<std::uint32_t, 256>, 8>;
inline constexpr crc32_table crc32_after = [] {
    crc32_table after{};
    for (std::uint32_t b = 0; b < 256; ++b) {
        std::uint32_t crc = b;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0U);
        after[0][b] = crc;
    }
    for (std::size_t k = 1; k < 8; ++k)
        for (std::size_t b = 0; b < 256; ++b)
            after[k][b] = after[k - 1][b] >> 8 ^ after[0][after[k - 1][b] & 0xff];
    return after;
}();

/// The register after `text`, from the register before it. Begin with crc32_start; the CRC of what was fed is
/// the complement of the register. Eight bytes at a time: their loads do not wait for each other.
inline constexpr std::uint32_t crc32_start = 0xffffffff;
[[nodiscard]] constexpr std::uint32_t crc32_feed(std::uint32_t state, std::string_view text) noexcept {
    std::size_t i = 0;
    for (; text.size() - i >= 8; i += 8) {
        std::uint32_t const low = state ^ little_32(text, i);
        std::uint32_t const high = little_32(text, i + 4);
        state = crc32_after[7][low & 0xff] ^ crc32_after[6][low >> 8 & 0xff] ^
                crc32_after[5][low >> 16 & 0xff] ^ crc32_after[4][low >> 24] ^ crc32_after[3][high & 0xff] ^
                crc32_after[2][high >> 8 & 0xff] ^ crc32_after[1][high >> 16 & 0xff] ^
                crc32_after[0][high >> 24];
    }
    for (; i < text.size(); ++i) state = state >> 8 ^ crc32_after[0][(state ^ byte_at(text, i)) & 0xff];
    return state;
}

[[nodiscard]] constexpr std::uint32_t crc32(std::string_view text) noexcept {
    return ~crc32_feed(crc32_start, text);
}

}  // namespace cairn::detail
