// SPDX-License-Identifier: MIT
// Eight numbers side by side, for the hashes of eight texts at once. A hash is a chain: each step waits for
// the one before it, and meanwhile most of the core stands still. Eight chains that do not wait for each
// other fill it, four in each register.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cairn::detail {

/// Four numbers of 32 bits in a register: SSE2, NEON, or what the machine has. Elsewhere plain numbers.
#if defined(__GNUC__)  // clang too
using four_words = std::uint32_t __attribute__((vector_size(16)));
#else
struct four_words {
    std::uint32_t word[4];
    template <class Make>
    [[nodiscard]] static four_words of(Make const& make) noexcept {
        return {{make(0), make(1), make(2), make(3)}};
    }
    friend four_words operator+(four_words const& a, four_words const& b) noexcept {
        return of([&](int i) { return a.word[i] + b.word[i]; });
    }
    friend four_words operator-(four_words const& a, four_words const& b) noexcept {
        return of([&](int i) { return a.word[i] - b.word[i]; });
    }
    friend four_words operator&(four_words const& a, four_words const& b) noexcept {
        return of([&](int i) { return a.word[i] & b.word[i]; });
    }
    friend four_words operator|(four_words const& a, four_words const& b) noexcept {
        return of([&](int i) { return a.word[i] | b.word[i]; });
    }
    friend four_words operator^(four_words const& a, four_words const& b) noexcept {
        return of([&](int i) { return a.word[i] ^ b.word[i]; });
    }
    friend four_words operator~(four_words const& a) noexcept {
        return of([&](int i) { return ~a.word[i]; });
    }
    friend four_words operator<<(four_words const& a, int by) noexcept {
        return of([&](int i) { return a.word[i] << by; });
    }
    friend four_words operator>>(four_words const& a, int by) noexcept {
        return of([&](int i) { return a.word[i] >> by; });
    }
};
#endif

/// Eight numbers of 32 bits. Each operation works on all of them. (Two members and not an array: g++ 12 keeps
/// these in registers.)
struct eight_words {
    four_words low{};
    four_words high{};

    eight_words() = default;  // zeros
    eight_words(four_words first, four_words second) noexcept : low(first), high(second) {}
    eight_words(std::uint32_t all) noexcept : low{all, all, all, all}, high{all, all, all, all} {}

    /// Number i is word(i).
    template <class Word>
    [[nodiscard]] static eight_words of(Word const& word) noexcept {
        return {four_words{word(0), word(1), word(2), word(3)},
                four_words{word(4), word(5), word(6), word(7)}};
    }
    [[nodiscard]] std::array<std::uint32_t, 8> words() const noexcept {
        std::array<std::uint32_t, 8> all;
        std::memcpy(all.data(), &low, sizeof low);
        std::memcpy(all.data() + 4, &high, sizeof high);
        return all;
    }

    friend eight_words operator+(eight_words const& a, eight_words const& b) noexcept {
        return {a.low + b.low, a.high + b.high};
    }
    friend eight_words operator-(eight_words const& a, eight_words const& b) noexcept {
        return {a.low - b.low, a.high - b.high};
    }
    friend eight_words operator&(eight_words const& a, eight_words const& b) noexcept {
        return {a.low & b.low, a.high & b.high};
    }
    friend eight_words operator|(eight_words const& a, eight_words const& b) noexcept {
        return {a.low | b.low, a.high | b.high};
    }
    friend eight_words operator^(eight_words const& a, eight_words const& b) noexcept {
        return {a.low ^ b.low, a.high ^ b.high};
    }
    friend eight_words operator~(eight_words const& a) noexcept { return {~a.low, ~a.high}; }
    friend eight_words operator<<(eight_words const& a, int by) noexcept {
        return {a.low << by, a.high << by};
    }
    friend eight_words operator>>(eight_words const& a, int by) noexcept {
        return {a.low >> by, a.high >> by};
    }
};

}  // namespace cairn::detail
