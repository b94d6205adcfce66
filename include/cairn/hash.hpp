// SPDX-License-Identifier: MIT
// What a key becomes: a 64-bit hash that is the same on every machine, in every build, forever.
//
// Whoever places data by hash must be able to find it again: from another process, after the next
// compiler upgrade, on a big-endian machine. `std::hash` promises none of that. It may differ between
// two standard libraries and even between two runs, and for integers it is the identity in libstdc++
// and libc++: the keys 0, 1, 2 … 1,000,000 all lie at the very start of a 64-bit circle, so the node
// that owns the start gets 100 % of them. That is why a ring refuses `std::hash` at compile time: a
// placement hash says of itself that it is one (`is_placement_hash`), and `std::hash` does not.
//
// `xxh3` is the hash that cairn uses unless told otherwise: XXH3-64, by Yann Collet (2019, frozen since
// xxHash 0.8.0). What is hashed is stated to the byte, so that any language with an XXH3 can agree:
//
//   key                                  bytes that go through XXH3, seed as given
//   -----------------------------------  -----------------------------------------------------------
//   string, string_view, "literal"       its characters (no terminator)
//   span of std::byte                    its bytes
//   integer, bool, enum                  its VALUE, sign-extended to 64 bits, as 8 bytes little-endian
//   char                                 the same, from its unsigned value (plain char is signed here,
//                                        unsigned there)
//   pair, tuple, or several arguments    the hashes of the parts, 8 bytes little-endian each
//
// An integer's width does not count: 7, 7u, 7LL and an enumerator of value 7 are one key. A composite
// hashes its parts first, so ("a", "bc") and ("ab", "c") differ although their letters are the same.
//
// Cost: an integer 1.5 ns, a 15-byte string 4 ns, long inputs 10 GB/s or more (a 3 GHz x86-64 core).
// Not for: keys chosen by an attacker who knows the seed (XXH3 is fast, not cryptographic; give it a
// secret seed), nor for a fleet that already hashes otherwise (give the ring that fleet's hash).
//
// Thread safety: immutable after construction; every call may run concurrently.
//
//   cairn::xxh3 const hash;                      // seed 0
//   std::uint64_t const a = hash("user:42");     // same on every machine
//   std::uint64_t const b = hash(42);            // by value, any integer type
//   std::uint64_t const c = hash("eu", 42);      // composite
//   cairn::xxh3 const other{2026};               // another seed, an unrelated hash
//   bool const differs = other("user:42") != a;
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

// The only place where cairn includes xxHash. Inline: nothing to link, and a key of constant length
// compiles to the few instructions that its length needs.
#define XXH_INLINE_ALL
#include <xxhash.h>
#undef XXH_INLINE_ALL

namespace cairn {

/// A hash fit for placement: it declares `static constexpr bool is_placement_hash = true`, a promise
/// that its values depend on the key and on its own members only (never on the machine, the build, the
/// run or an address), and that all 64 bits are well mixed. (FNV-1a of short
/// labels is not: the fullest of 10 nodes then had 1.71 times the mean, not 1.13.) The compiler cannot check
/// the promise; it can check that somebody made it.
template <class Hash>
concept placement_hash = std::copyable<Hash> && requires { requires Hash::is_placement_hash; };

/// A placement hash that takes `Key`: `hash(key)` is `noexcept` and gives a `std::uint64_t`.
template <class Hash, class Key>
concept placement_hash_for = placement_hash<Hash> && requires(Hash const& hash, Key const& key) {
    { hash(key) } noexcept -> std::same_as<std::uint64_t>;
};

/// An integer, character or enumeration of at most 64 bits whose value is the same on every platform.
/// `wchar_t` is out: its width and sign are the platform's. Pointers are out: an address is no key.
template <class T>
concept hashable_value =
    (std::integral<T> || std::is_enum_v<T>) && sizeof(T) <= 8 && !std::same_as<T, wchar_t>;

/// XXH3-64 over strings, bytes, integers, enumerations and composites of them, as the table at the head
/// of this file says. Transparent: a `std::string` key can be looked up by `std::string_view`. Every
/// call is `noexcept`, allocates nothing, and takes time linear in the bytes of the key.
class xxh3 {
  public:
    static constexpr bool is_placement_hash = true;
    using is_transparent = void;

    /// Seed 0: the plain XXH3_64bits of the reference implementation.
    constexpr xxh3() noexcept = default;

    /// Hashes of different seeds are unrelated. Processes that share a placement must share the seed.
    constexpr explicit xxh3(std::uint64_t seed) noexcept : seed_(seed) {}

    [[nodiscard]] constexpr std::uint64_t seed() const noexcept { return seed_; }

    /// The characters of a string.
    [[nodiscard]] std::uint64_t operator()(std::string_view text) const noexcept {
        return XXH3_64bits_withSeed(text.data(), text.size(), seed_);
    }

    /// The bytes of a span.
    [[nodiscard]] std::uint64_t operator()(std::span<std::byte const> bytes) const noexcept {
        return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed_);
    }

    /// The value of an integer or enumerator: 8 bytes, little-endian, whatever its width and the machine.
    template <hashable_value T>
    [[nodiscard]] std::uint64_t operator()(T value) const noexcept {
        std::uint64_t const bytes = little_endian(widen(value));
        return XXH3_64bits_withSeed(&bytes, sizeof bytes, seed_);
    }

    /// A composite key: ("a", "bc") is not ("ab", "c").
    template <class First, class Second, class... Rest>
        requires placement_hash_for<xxh3, First> && placement_hash_for<xxh3, Second> &&
                 (placement_hash_for<xxh3, Rest> && ...)
    [[nodiscard]] std::uint64_t operator()(First const& first, Second const& second,
                                           Rest const&... rest) const noexcept {
        std::uint64_t const parts[] = {little_endian((*this)(first)), little_endian((*this)(second)),
                                       little_endian((*this)(rest))...};
        return XXH3_64bits_withSeed(parts, sizeof parts, seed_);
    }

    /// A pair or tuple of two or more parts hashes as its parts given one by one.
    template <class... Parts>
        requires(sizeof...(Parts) >= 2) &&
                requires(xxh3 const& hash, Parts const&... parts) { hash(parts...); }
    [[nodiscard]] std::uint64_t operator()(std::tuple<Parts...> const& key) const noexcept {
        return std::apply([this](Parts const&... parts) { return (*this)(parts...); }, key);
    }
    template <class First, class Second>
        requires requires(xxh3 const& hash, First const& first, Second const& second) { hash(first, second); }
    [[nodiscard]] std::uint64_t operator()(std::pair<First, Second> const& key) const noexcept {
        return (*this)(key.first, key.second);
    }

    friend constexpr bool operator==(xxh3 const&, xxh3 const&) noexcept = default;

  private:
    template <hashable_value T>
    static constexpr std::uint64_t widen(T value) noexcept {
        if constexpr (std::is_enum_v<T>)
            return widen(static_cast<std::underlying_type_t<T>>(value));
        else if constexpr (std::same_as<T, char>)
            return static_cast<unsigned char>(value);
        else
            return static_cast<std::uint64_t>(value);  // modulo 2^64: sign-extends the signed
    }

    static constexpr std::uint64_t little_endian(std::uint64_t value) noexcept {
        if constexpr (std::endian::native == std::endian::little) return value;
        std::uint64_t swapped = 0;
        for (int byte = 0; byte < 8; ++byte) swapped = swapped << 8 | (value >> 8 * byte & 0xff);
        return swapped;
    }

    std::uint64_t seed_ = 0;
};

}  // namespace cairn
