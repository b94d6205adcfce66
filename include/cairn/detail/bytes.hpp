// SPDX-License-Identifier: MIT
// Texts read as little-endian numbers, on any machine and in constant expressions too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cairn::detail {

/// The byte at `i`, from 0 to 255, whether plain char is signed here or not. Precondition: i < text.size().
[[nodiscard]] constexpr std::uint32_t byte_at(std::string_view text, std::size_t i) noexcept {
    return static_cast<unsigned char>(text.data()[i]);
}

/// The same, from -128 to 127 modulo 2^32: what programs get that add up plain chars on x86.
[[nodiscard]] constexpr std::uint32_t signed_byte_at(std::string_view text, std::size_t i) noexcept {
    return static_cast<std::uint32_t>(
        static_cast<std::int32_t>(static_cast<signed char>(static_cast<unsigned char>(text.data()[i]))));
}

/// Two, four and eight bytes from `i` on, the lowest first. Both compilers make one load of it.
[[nodiscard]] constexpr std::uint32_t little_16(std::string_view text, std::size_t i) noexcept {
    return byte_at(text, i) | byte_at(text, i + 1) << 8;
}
[[nodiscard]] constexpr std::uint32_t little_32(std::string_view text, std::size_t i) noexcept {
    return byte_at(text, i) | byte_at(text, i + 1) << 8 | byte_at(text, i + 2) << 16 |
           byte_at(text, i + 3) << 24;
}
[[nodiscard]] constexpr std::uint64_t little_64(std::string_view text, std::size_t i) noexcept {
    return std::uint64_t{byte_at(text, i)} | std::uint64_t{byte_at(text, i + 1)} << 8 |
           std::uint64_t{byte_at(text, i + 2)} << 16 | std::uint64_t{byte_at(text, i + 3)} << 24 |
           std::uint64_t{byte_at(text, i + 4)} << 32 | std::uint64_t{byte_at(text, i + 5)} << 40 |
           std::uint64_t{byte_at(text, i + 6)} << 48 | std::uint64_t{byte_at(text, i + 7)} << 56;
}

}  // namespace cairn::detail
