// SPDX-License-Identifier: MIT
// Guava's Hashing.consistentHash: jump consistent hash, but for one rounding.
//
// `jump` (router.hpp) is the formula of Lamping and Veach: it multiplies (at + 1) by 2^31 / d. Guava divides
// (at + 1) by d / 2^31. The two are the same number; as doubles they differ in the last digit now and then,
// and if a whole number lies between them, a key belongs to another bucket: one in some millions, and only if
// there are many buckets. Of the golden vectors two differ:
//
//   key                        buckets      Guava        jump
//   9785603933605476243        1,048,581    1,048,576    1,048,575
//   17039100631692912564       4,194,309    4,194,304    4,194,303
//
// And one throw of its dice in 2^31 overflows an int and becomes negative. The search ends there, so the key
// 17068571456203592619 belongs to bucket 0, however many there are.
//
// Guava hashes no key: it is given a long, or a HashCode, of which it takes the first 8 bytes, the lowest
// first (a shorter one is filled up with zeros). `guava` does the same with its default hash, `given_hash`.
//
// When not to use it: for anything but a fleet whose Java side uses Guava. Source: Guava 31.1, verified by
// 1,002 of its own answers (tests/golden). Cost: 40 ns for 100 buckets, as jump. Needs IEEE doubles: no
// -ffast-math, no x87. Thread safety: as a container: const members may run concurrently, others need
// exclusion.
//
//   cairn::fleets::guava<> const buckets(1'048'581);
//   bool const differs = buckets.find(9'785'603'933'605'476'243u) == 1'048'576;
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "../router.hpp"

namespace cairn::fleets {

/// The rule, for shard_router.
struct guava_rule {
    static constexpr char const* name = "fleets::guava";
    static constexpr bool is_placement_rule = jump_rule::is_placement_rule;
    static constexpr std::uint64_t max_shards = 0x7fff'ffff;
    [[nodiscard]] constexpr std::size_t operator()(std::uint64_t hash, std::size_t shards) const noexcept {
        std::int64_t at = 0;
        for (;;) {
            hash = hash * 2'862'933'555'777'941'757 + 1;
            std::uint64_t const throws = (hash >> 33) + 1;
            double const next = static_cast<double>(at + 1) / (static_cast<double>(throws) / 2'147'483'648.0);
            bool const overflows = throws == std::uint64_t{1} << 31;  // negative there, so it ends the search
            if (overflows || next >= static_cast<double>(shards)) return static_cast<std::size_t>(at);
            at = static_cast<std::int64_t>(next);
        }
    }
};

/// The hash of a key that is a hash already: itself.
struct given_hash {
    static constexpr bool is_placement_hash = true;
    [[nodiscard]] constexpr std::uint64_t operator()(std::uint64_t hash) const noexcept { return hash; }
    friend constexpr bool operator==(given_hash const&, given_hash const&) = default;
};

/// Buckets 0 … n - 1, of which only the last can leave.
template <class Hash = given_hash>
using guava = shard_router<guava_rule, Hash>;

}  // namespace cairn::fleets
