// SPDX-License-Identifier: MIT
// The hashes by which the clients of memcached place keys: those of libmemcached and of twemproxy.
//
// They are here for one reason: other programs have used them, and the keys lie where they sent them. Each
// gives 32 bits, the same as the program it is named after gives on x86, quirks included. For a fleet of
// your own take `virtual_nodes` (placement.hpp) and its XXH3: it is faster and spreads better.
//
//   name            libmemcached   twemproxy      a key of 15 bytes   quirks
//   -------------   ------------   ------------   -----------------   ----------------------------------
//   one_at_a_time   DEFAULT        one_at_a_time  15 ns               bytes from 0x80 on count as negative
//   md5             MD5            md5            110 ns              the first 4 bytes of the digest
//   crc32           CRC            crc32          10 ns               15 bits: (crc >> 16) & 0x7fff
//   crc32a          -              crc32a         10 ns               none, the whole CRC-32
//   crc16           -              crc16          20 ns               a register of 32 bits, not of 16
//   fnv1_64         FNV1_64        fnv1_64        9 ns                the low 32 bits; negative bytes
//   fnv1a_64        FNV1A_64       fnv1a_64       9 ns                as fnv1_64: not FNV-1a of 64 bits
//   fnv1_32         FNV1_32        fnv1_32        9 ns                negative bytes
//   fnv1a_32        FNV1A_32       fnv1a_32       9 ns                negative bytes
//   hsieh           HSIEH          hsieh          6 ns                negative: the last of 4n + 3 bytes
//   hsieh_left_out  (libhashkit)   -              0 ns                always 1: see below
//   murmur          MURMUR         murmur         7 ns                seed 0xdeadbeef * length
//   murmur3         MURMUR3        -              9 ns                seed 0xdeadbeef * length
//   jenkins         JENKINS        jenkins        10 ns               lookup3, seed 13
//
// Bytes count as negative where the program adds plain chars, which are signed on x86. The same program on a
// machine whose chars are unsigned (ARM) places keys that are not ASCII elsewhere; cairn gives the values of
// x86 on all machines. Most builds of libmemcached leave Hsieh's hash out (so does Debian's): the setting is
// refused, the hash before it stays, and libhashkit's function gives 1 for every key: that is
// `hsieh_left_out`.
//
// When not to use them: for anything new. crc32 has 15 bits, so a ring of it uses the first 32,768 of 2^32
// positions only. Sources: Jenkins (1997, 2006); Fowler, Noll, Vo (1991); Hsieh (2004); Appleby (2008, 2011);
// RFC 1321. Verified against libmemcached 1.1.4 and nutcracker 0.5.0. Thread safety: pure functions.
//
//   std::uint32_t const by_default = cairn::fleets::one_at_a_time{}("user:42");
//   std::uint32_t const by_md5 = cairn::fleets::md5{}("user:42");
//   bool const known = cairn::fleets::fnv1a_32{}("abc") == 440920331 && by_default != by_md5;
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../detail/bytes.hpp"
#include "../detail/crc32.hpp"
#include "../detail/md5.hpp"
#include "../detail/murmur.hpp"
#include "../detail/text_hashes.hpp"
#include "../slots.hpp"

namespace cairn::fleets {

/// A hash of 32 bits that a fleet places keys by: without members, pure, `noexcept`. One whose values stay
/// below 2^n says so: `static constexpr int bits = n`. One that is faster at eight keys than at eight times
/// one has `of_eight`, noexcept too.
template <class Hash>
concept text_hash = std::copyable<Hash> && std::default_initializable<Hash> &&
                    requires(Hash const& hash, std::string_view key) {
                        { hash(key) } noexcept -> std::same_as<std::uint32_t>;
                    };

/// libmemcached's default.
struct one_at_a_time {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::one_at_a_time(key);
    }
    /// Half the time a key, if they are about equally long.
    [[nodiscard]] std::array<std::uint32_t, 8> of_eight(
        std::span<std::string_view const, 8> keys) const noexcept {
        return detail::one_at_a_time_of_eight(keys);
    }
};
/// The first four bytes of the digest, the lowest first.
struct md5 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::md5(key)[0];
    }
    /// Less than half the time a key, if none has more than 55 bytes.
    [[nodiscard]] std::array<std::uint32_t, 8> of_eight(
        std::span<std::string_view const, 8> keys) const noexcept {
        return detail::md5_of_eight(keys);
    }
};
/// 15 bits out of the middle of the CRC-32.
struct crc32 {
    static constexpr int bits = 15;  ///< the values are below 2^15
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::crc32(key) >> 16 & 0x7fff;
    }
};
/// The whole CRC-32.
struct crc32a {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::crc32(key);
    }
};
/// CRC16-XMODEM in a register of 32 bits: what leaves the low 16 stays in the high 16 for two bytes.
struct crc16 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        std::uint32_t crc = 0;
        for (std::size_t i = 0; i < key.size(); ++i)
            crc = crc << 8 ^ detail::crc16_after[0][(crc >> 8 ^ detail::byte_at(key, i)) & 0xff];
        return crc;
    }
};
struct fnv1_64 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::fnv1(key, detail::fnv_64_low);
    }
};
/// twemproxy's default.
struct fnv1a_64 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::fnv1a(key, detail::fnv_64_low);
    }
};
struct fnv1_32 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::fnv1(key, detail::fnv_32);
    }
};
struct fnv1a_32 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::fnv1a(key, detail::fnv_32);
    }
};
struct hsieh {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::super_fast_hash(key);
    }
};
/// What libhashkit computes when it is asked for Hsieh's hash and was built without it.
struct hsieh_left_out {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view) const noexcept { return 1; }
};
struct murmur {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::murmur2(key, 0xdeadbeef * static_cast<std::uint32_t>(key.size()));
    }
};
struct murmur3 {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::murmur3(key, 0xdeadbeef * static_cast<std::uint32_t>(key.size()));
    }
};
struct jenkins {
    [[nodiscard]] constexpr std::uint32_t operator()(std::string_view key) const noexcept {
        return detail::lookup3(key, 13);
    }
};

}  // namespace cairn::fleets

namespace cairn::detail {

/// The hashes of many keys, eight at a time if the hash can. Precondition: hashes.size() >= keys.size().
template <fleets::text_hash Hash>
void hash_each(Hash const& hash, std::span<std::string_view const> keys,
               std::span<std::uint32_t> hashes) noexcept {
    std::size_t done = 0;
    if constexpr (requires(std::span<std::string_view const, 8> eight) { hash.of_eight(eight); })
        for (; keys.size() - done >= 8; done += 8) {
            auto const eight = hash.of_eight(keys.subspan(done).template first<8>());
            std::ranges::copy(eight, hashes.begin() + static_cast<std::ptrdiff_t>(done));
        }
    for (; done < keys.size(); ++done) hashes[done] = hash(keys[done]);
}

}  // namespace cairn::detail
