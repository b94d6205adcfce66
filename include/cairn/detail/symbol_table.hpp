// SPDX-License-Identifier: MIT
// The hash table of the interners: from a string's hash to the 32-bit symbols that may be it.
//
//     group, one cache line   ┌ 12 tags of 8 bits ┬ overflowed ┬ 12 symbols of 32 bits ┐
//                             └───────────────────┴────────────┴───────────────────────┘
//
// A lookup reads one line, compares its 12 tags at once (SSE2), and asks the strings only of those that
// match: besides the right one, that is one in 25 lookups. A symbol that found its group full went to the
// next one, and the group says so; there is no other probing, and nothing is ever taken out. At most 10 of 12
// slots are in use on average, and it grows by half: 6.4 to 9.6 bytes a symbol.
//
// The shared form is read without a lock while others insert. It has 16 regions, chosen by the top bits of
// the hash, and nothing that belongs to one is ever in another: so each region has a lock for its writers.
//
//   what is written            with      read with   then
//   ------------------------   -------   ---------   ---------------------------------------------------
//   tags (two 64-bit words)    release   acquire     the symbols they stand for, and the strings' bytes
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cairn::detail {

/// Bytes of a table below which a lookup does not wait for memory, so that several at once gain nothing.
inline constexpr std::size_t table_in_cache = std::size_t{1} << 18;

/// @tparam Shared  whether it is read while it is written.
///                 Then one thread at a time may insert into a region, and all may read.
template <bool Shared>
class symbol_table {
  public:
    static constexpr std::uint32_t slots = 12, usual = 10;  // of a group, and how many are used on average
    static constexpr unsigned region_bits = Shared ? 4 : 0;
    static constexpr std::size_t regions = std::size_t{1} << region_bits;

    /// Room for none; allocates nothing.
    symbol_table() noexcept = default;
    /// Room for n symbols. @throws std::bad_alloc
    explicit symbol_table(std::size_t n) : groups_((n / usual / regions + 1) * regions) {
        own_ = std::make_unique<group[]>(groups_);
        table_ = own_.get();
    }
    symbol_table(symbol_table&& from) noexcept { swap(from); }
    symbol_table& operator=(symbol_table&& from) noexcept {
        symbol_table(std::move(from)).swap(*this);
        return *this;
    }
    symbol_table(symbol_table const& from)
        requires(!Shared)
    {
        if (from.own_ == nullptr) return;
        own_ = std::make_unique<group[]>(from.groups_);
        std::copy_n(from.table_, from.groups_, own_.get());
        table_ = own_.get();
        groups_ = from.groups_;
    }
    void swap(symbol_table& other) noexcept {
        std::swap(own_, other.own_);
        std::swap(table_, other.table_);
        std::swap(groups_, other.groups_);
    }

    [[nodiscard]] std::size_t capacity() const noexcept { return own_ == nullptr ? 0 : groups_ * usual; }
    [[nodiscard]] std::size_t memory() const noexcept {
        return own_ == nullptr ? 0 : groups_ * sizeof(group);
    }

    /// The symbol of this hash for which is_it(symbol), or 0. Nearly always it is the first one whose tag is
    /// right; all else is out of the way, so that the caller's loop keeps its registers.
    template <class IsIt>
    [[nodiscard]] std::uint32_t find(std::uint64_t hash, IsIt is_it) const noexcept {
        group const& g = table_[home(hash)];
        tags const found = g.read();
        std::uint32_t const match = found.equal_to(tag_of(hash));
        if (match != 0) [[likely]] {
            std::uint32_t const likely = g.symbol(static_cast<std::size_t>(std::countr_zero(match)));
            if (is_it(likely)) [[likely]]
                return likely;
        } else if (!found.overflowed()) {
            return 0;
        }
        return find_further(hash, is_it);
    }
    /// The region that this hash belongs to.
    [[nodiscard]] static std::size_t region([[maybe_unused]] std::uint64_t hash) noexcept {
        if constexpr (Shared)
            return hash >> (64 - region_bits);
        else
            return 0;
    }
    /// Enters a symbol that is not there. Precondition: its region has fewer than capacity() / regions.
    void insert(std::uint64_t hash, std::uint32_t symbol) noexcept {
        for (std::size_t at = home(hash);; at = next(at, hash))
            if (table_[at].add(tag_of(hash), symbol)) return;
    }

    /// All symbols, in no order. Precondition: nobody inserts.
    template <class Visit>
    void for_each(Visit visit) const {
        for (std::size_t at = 0; at < groups_; ++at) {
            tags const found = table_[at].read();
            for (std::uint32_t i = 0; i < slots && found.at(i) != 0; ++i) visit(table_[at].symbol(i));
        }
    }

    /// Calls for the line that find(hash) will read.
    void call(std::uint64_t hash) const noexcept { __builtin_prefetch(&table_[home(hash)]); }
    /// A symbol that find(hash) will ask for, or 0.
    [[nodiscard]] std::uint32_t candidate(std::uint64_t hash) const noexcept {
        group const& g = table_[home(hash)];
        std::uint32_t const match = g.read().equal_to(tag_of(hash));
        return match == 0 ? 0 : g.symbol(static_cast<std::size_t>(std::countr_zero(match)));
    }

  private:
    using word = std::conditional_t<Shared, std::atomic<std::uint64_t>, std::uint64_t>;
    using cell = std::conditional_t<Shared, std::atomic<std::uint32_t>, std::uint32_t>;

    /// Tag i is byte i of the two words; byte 12 says whether the group overflowed.
    struct tags {
        std::uint64_t low, high;

        [[nodiscard]] bool overflowed() const noexcept { return (high >> 32 & 1) != 0; }
        /// Bit i is set if tag i is this one.
        [[nodiscard]] std::uint32_t equal_to(std::uint8_t tag) const noexcept {
#if defined(__SSE2__)
            __m128i const all = _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
            __m128i const same = _mm_cmpeq_epi8(all, _mm_set1_epi8(static_cast<char>(tag)));
            return static_cast<std::uint32_t>(_mm_movemask_epi8(same)) & ((1U << slots) - 1);
#else
            std::uint32_t match = 0;
            for (std::uint32_t i = 0; i < slots; ++i) match |= static_cast<std::uint32_t>(at(i) == tag) << i;
            return match;
#endif
        }
        [[nodiscard]] std::uint8_t at(std::uint32_t i) const noexcept {
            return static_cast<std::uint8_t>((i < 8 ? low : high) >> i % 8 * 8);
        }
    };

    struct alignas(64) group {
        word low{0}, high{0};
        std::array<cell, slots> symbols{};

        [[nodiscard]] tags read() const noexcept {
            // acquire: pairs with the release in write().
            if constexpr (Shared)
                return {low.load(std::memory_order_acquire), high.load(std::memory_order_acquire)};
            else
                return {low, high};
        }
        [[nodiscard]] std::uint32_t symbol(std::size_t i) const noexcept {
            // relaxed: written before the tag that was read with acquire.
            if constexpr (Shared)
                return symbols[i].load(std::memory_order_relaxed);
            else
                return symbols[i];
        }
        static void write(word& to, std::uint64_t value) noexcept {
            // release: pairs with the acquire in read(): who sees the tag sees the symbol and its string.
            if constexpr (Shared)
                to.store(value, std::memory_order_release);
            else
                to = value;
        }
        /// False, and marked so, if it is full.
        [[nodiscard]] bool add(std::uint8_t tag, std::uint32_t symbol) noexcept {
            tags const now = read();
            std::uint32_t const free = now.equal_to(0);
            if (free == 0) {
                write(high, now.high | std::uint64_t{1} << 32);
                return false;
            }
            auto const i = static_cast<std::uint32_t>(std::countr_zero(free));
            if constexpr (Shared)
                symbols[i].store(symbol, std::memory_order_relaxed);
            else
                symbols[i] = symbol;
            std::uint64_t const bits = std::uint64_t{tag} << i % 8 * 8;
            if (i < 8)
                write(low, now.low | bits);
            else
                write(high, now.high | bits);
            return true;
        }
    };
    static_assert(sizeof(group) == 64);

    template <class IsIt>
    [[nodiscard, gnu::noinline]] std::uint32_t find_further(std::uint64_t hash, IsIt is_it) const noexcept {
        for (std::size_t at = home(hash);; at = next(at, hash)) {
            group const& g = table_[at];
            tags const found = g.read();
            for (std::uint32_t match = found.equal_to(tag_of(hash)); match != 0; match &= match - 1) {
                std::uint32_t const symbol = g.symbol(static_cast<std::size_t>(std::countr_zero(match)));
                if (is_it(symbol)) return symbol;
            }
            if (!found.overflowed()) return 0;
        }
    }
    [[nodiscard]] static std::uint8_t tag_of(std::uint64_t hash) noexcept {
        auto const tag = static_cast<std::uint8_t>(hash);
        return tag == 0 ? 1 : tag;  // 0 is a free slot
    }
    [[nodiscard]] std::size_t home(std::uint64_t hash) const noexcept { return (hash >> 32) * groups_ >> 32; }
    [[nodiscard]] std::size_t next(std::size_t at, std::uint64_t hash) const noexcept {
        std::size_t const size = groups_ / regions, begin = region(hash) * size;
        return at + 1 == begin + size ? begin : at + 1;
    }

    static inline constinit group none{};  // what an empty table reads; never written
    std::unique_ptr<group[]> own_;
    group* table_ = &none;
    std::size_t groups_ = 1;
};

}  // namespace cairn::detail
