// SPDX-License-Identifier: MIT
// The hash of the interners' tables: for short strings, with a secret, and never written down.
//
// XXH3 is fast and good, and its values may be kept for ever. A table needs less: that who does not know the
// seed cannot find collisions, and that 4 to 16 characters cost little. Two loads that may overlap take them
// all, and the same two words tell later whether a string is the right one; each is mixed with a secret of
// its own, and one multiplication to 128 bits spreads the product. Were only one of the two secret, strings
// that make the other one zero would all collide, whatever the seed. (100,000 words, hit and lookup: 16 ns,
// and 22 with XXH3.)
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

#include "../hash.hpp"

namespace cairn::detail {

template <class Word>
[[nodiscard]] inline std::uint64_t word(char const* p) noexcept {
    Word w;
    std::memcpy(&w, p, sizeof w);
    return w;
}
/// All characters of a short text, in two words: texts of one length are equal if and only if these are.
/// A branch on the length is cheaper here than four loads without one: those cost words 3 ns a hit, as fewer
/// hits were under way at once.
struct two_words {
    static constexpr std::size_t most = 16;  // characters
    std::uint64_t a = 0, b = 0;

    two_words(char const* p, std::size_t n) noexcept {
        if (n >= 8) {
            a = word<std::uint64_t>(p);
            b = word<std::uint64_t>(p + n - 8);
        } else if (n >= 4) {
            a = word<std::uint32_t>(p);
            b = word<std::uint32_t>(p + n - 4);
        } else if (n != 0) {
            auto const byte = [p](std::size_t at) {
                return std::uint64_t{static_cast<unsigned char>(p[at])};
            };
            a = byte(0) << 16 | byte(n / 2) << 8 | byte(n - 1);
        }
    }
    friend bool operator==(two_words const& x, two_words const& y) noexcept {
        return ((x.a ^ y.a) | (x.b ^ y.b)) == 0;
    }
};

class string_hash {
  public:
    explicit string_hash(std::uint64_t seed) noexcept
        : long_strings_(seed), first_(xxh3(seed)(1)), second_(xxh3(seed)(2)) {}

    [[nodiscard]] std::uint64_t operator()(std::string_view text) const noexcept {
        std::size_t const n = text.size();
        return n <= two_words::most ? of(two_words(text.data(), n), n) : of_long(text);
    }
    /// Of a text of up to 16 characters.
    [[nodiscard]] std::uint64_t of(two_words words, std::size_t n) const noexcept {
        return mix(mix(words.a ^ first_, words.b ^ second_ ^ n), first_ ^ n);
    }
    /// Of a longer one.
    [[nodiscard]] std::uint64_t of_long(std::string_view text) const noexcept {
        std::size_t const n = text.size();
        char const* const p = text.data();
        if (n > 64) return long_strings_(text);
        std::uint64_t before = n;
        for (std::size_t at = 0; at + 16 < n; at += 16)
            before =
                mix(word<std::uint64_t>(p + at) ^ first_, word<std::uint64_t>(p + at + 8) ^ second_ ^ before);
        return mix(
            mix(word<std::uint64_t>(p + n - 16) ^ first_, word<std::uint64_t>(p + n - 8) ^ second_ ^ before),
            first_ ^ n);
    }
    [[nodiscard]] std::uint64_t seed() const noexcept { return long_strings_.seed(); }

  private:
    /// Both halves of the product of two words, folded.
    [[nodiscard]] static std::uint64_t mix(std::uint64_t x, std::uint64_t y) noexcept {
#if defined(__SIZEOF_INT128__)
        __extension__ using wide = unsigned __int128;
        wide const product = wide{x} * y;
        return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
        std::uint64_t const low = (x & 0xFFFF'FFFF) * (y & 0xFFFF'FFFF), high = (x >> 32) * (y >> 32);
        std::uint64_t const cross = (x >> 32) * (y & 0xFFFF'FFFF), other = (x & 0xFFFF'FFFF) * (y >> 32);
        return low ^ high ^ std::rotl(cross, 32) ^ std::rotl(other, 32);
#endif
    }

    xxh3 long_strings_;
    std::uint64_t first_, second_;
};

/// A seed that nobody can guess.
[[nodiscard]] inline std::uint64_t random_seed() {
    std::random_device random;
    return std::uint64_t{random()} << 32 | random();
}

}  // namespace cairn::detail
