// SPDX-License-Identifier: MIT
// A symbol: 32 bits that stand for a string which an interner keeps.
//
// Two strings of one interner are equal if and only if their symbols are, so comparing, hashing and storing a
// string becomes comparing, hashing and storing a number. Symbols order by when their strings were interned,
// not by alphabet. They mean nothing to another interner, nor in another run: write strings to files, not
// symbols. They are not dense: they are places in memory, and grow by the length of each string.
//
//   cairn::symbol const none;
//   std::unordered_set<cairn::symbol> seen{none};
//   std::cout << none.has_value() << seen.size() << '\n';
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace cairn {

class symbol {
  public:
    /// No string: what no interner hands out.
    constexpr symbol() noexcept = default;
    /// The symbol of this number, as value() gave it.
    [[nodiscard]] static constexpr symbol of(std::uint32_t value) noexcept {
        symbol s;
        s.value_ = value;
        return s;
    }
    [[nodiscard]] constexpr std::uint32_t value() const noexcept { return value_; }
    [[nodiscard]] constexpr bool has_value() const noexcept { return value_ != 0; }

    friend constexpr auto operator<=>(symbol, symbol) noexcept = default;

  private:
    std::uint32_t value_ = 0;
};

}  // namespace cairn

/// Spreads the number over all bits: offsets are far from random in their low ones.
template <>
struct std::hash<cairn::symbol> {
    [[nodiscard]] std::size_t operator()(cairn::symbol s) const noexcept {
        std::uint64_t const mixed = std::uint64_t{s.value()} * 0x9E37'79B9'7F4A'7C15U;
        return static_cast<std::size_t>(mixed ^ mixed >> 32);
    }
};
