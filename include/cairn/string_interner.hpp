// SPDX-License-Identifier: MIT
// A string interner: each different string is stored once, and a 32-bit symbol stands for it.
//
// A program that handles names, tags, tickers or URLs meets the same strings millions of times. As
// std::string each costs 32 bytes and a comparison costs its length; as a symbol it costs 4 bytes and one
// instruction. The price is paid once, at the entrance: a hash and a lookup.
//
//     "AAPL" ─▶ hash ─▶ table: one line, 12 tags compared at once ─▶ offset ─▶ ┌ 4 A A P L 0 ┐  equal? done
//                       ┌ tags ┬ symbols ┐                          directory   └ arena ──────┘
//
// A hit touches two cache lines: one of the table and the string itself. The symbol is where the string lies,
// so from a symbol to its string there is no second table. Strings never move, and each ends with a NUL.
//
//   operation        costs                                             memory
//   --------------   -----------------------------------------------   --------------------------------------
//   intern, a hit    O(length), 10 to 20 ns while all is in the cache   none
//   intern, new      O(length), amortized                              the string, 2 bytes (6 above 254), and
//   find             as a hit                                          6 to 10 in the table
//   view             O(1), 2 to 8 ns                                   none
//   intern_n         as intern, several misses at once                 none
//
// Limits: 4 GiB of strings, with lengths, NULs and the unused ends of blocks; beyond, intern throws
// std::length_error and nothing is lost. The table grows by half when it is full: O(all strings), once.
// The hash has a random seed, so who chooses strings cannot choose collisions. Who learns the seed can: then
// all strings are neighbours in the table, and a lookup costs O(size). Symbols do not depend on the seed.
//
// When not to use it: for strings that are seen once (it is a copy and a hash for nothing), that must be
// forgotten again (nothing is ever taken out, short of clear()), or from several threads
// (concurrent_string_interner). Sources: Lisp's symbols (McCarthy, 1960); the table is in the manner of
// Facebook's F14 (Bronson, Shi, 2019).
// Thread safety: const functions may run at once; else one thread at a time.
//
//   cairn::string_interner names;
//   cairn::symbol const a = names.intern("AAPL");
//   cairn::symbol const b = names.intern(std::string("AA") + "PL");
//   std::cout << (a == b) << ' ' << names.view(a) << ' ' << names.size() << '\n';
//   for (cairn::symbol const s : names) std::cout << names.view(s) << '\n';  // in order of interning
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/assert.hpp"
#include "detail/string_arena.hpp"
#include "detail/string_hash.hpp"
#include "detail/symbol_table.hpp"
#include "symbol.hpp"

namespace cairn {

class string_interner {
  public:
    /// Goes over symbols in the order in which their strings were interned.
    class const_iterator {
      public:
        using value_type = symbol;
        using difference_type = std::ptrdiff_t;
        using iterator_concept = std::forward_iterator_tag;

        const_iterator() noexcept = default;
        [[nodiscard]] symbol operator*() const noexcept {
            return symbol::of(static_cast<std::uint32_t>(at_.offset));
        }
        const_iterator& operator++() noexcept {
            at_ = arena_->next(at_);
            return *this;
        }
        const_iterator operator++(int) noexcept { return std::exchange(*this, ++const_iterator(*this)); }
        [[nodiscard]] friend bool operator==(const_iterator const& a, const_iterator const& b) noexcept {
            return a.at_.offset == b.at_.offset;
        }

      private:
        friend string_interner;
        const_iterator(detail::string_arena const& arena, detail::string_arena::place at) noexcept
            : arena_(&arena), at_(at) {}
        detail::string_arena const* arena_ = nullptr;
        detail::string_arena::place at_;
    };

    /// An empty interner with a random seed. Allocates nothing.
    string_interner() : string_interner(detail::random_seed()) {}
    /// With a seed of one's own, for repeatable timings.
    explicit string_interner(std::uint64_t seed) noexcept : hash_(seed) {}

    /// A copy has the same strings under the same symbols. O(memory()).
    string_interner(string_interner const&) = default;
    /// Views into the one that was moved from stay valid; it is empty then, and can be used.
    string_interner(string_interner&& from) noexcept : string_interner(from.hash_.seed()) { swap(from); }
    string_interner& operator=(string_interner from) noexcept {
        swap(from);
        return *this;
    }
    void swap(string_interner& other) noexcept {
        std::swap(hash_, other.hash_);
        table_.swap(other.table_);
        std::swap(arena_, other.arena_);
        std::swap(size_, other.size_);
        std::swap(bytes_, other.bytes_);
    }

    /// The symbol of this string, which is stored if it is new. It may hold NULs, and be empty.
    /// @throws std::length_error if the string is new and 4 GiB are full, std::bad_alloc; nothing has
    /// changed then.
    symbol intern(std::string_view text) {
        std::size_t const n = text.size();
        if (n > detail::two_words::most) return intern_long(text);
        detail::two_words const words(text.data(), n);
        std::uint64_t const hash = hash_.of(words, n);
        if (std::uint32_t const found = lookup(words, n, hash)) [[likely]]
            return symbol::of(found);
        return add(text, hash);
    }

    /// Interns all of `texts` into `symbols`, which is as long. From some tens of thousands of strings on, it
    /// looks several up at once, so that their cache misses overlap: for a million, 3 to 4 times as fast as
    /// one by one. If it throws, those before are interned and their symbols written.
    void intern_n(std::span<std::string_view const> texts, std::span<symbol> symbols) {
        CAIRN_ASSERT(symbols.size() >= texts.size());
        constexpr std::size_t at_once = 16;
        std::array<std::uint64_t, at_once> hashes;
        std::array<std::uint32_t, at_once> likely;
        for (std::size_t from = 0; from < texts.size(); from += at_once) {
            std::size_t const n = std::min(at_once, texts.size() - from);
            if (table_.memory() <= detail::table_in_cache) {
                for (std::size_t i = 0; i < n; ++i) symbols[from + i] = intern(texts[from + i]);
                continue;
            }
            for (std::size_t i = 0; i < n; ++i) table_.call(hashes[i] = hash_(texts[from + i]));
            for (std::size_t i = 0; i < n; ++i)
                if ((likely[i] = table_.candidate(hashes[i])) != 0) __builtin_prefetch(arena_.at(likely[i]));
            for (std::size_t i = 0; i < n; ++i) {
                std::string_view const text = texts[from + i];
                bool const right = likely[i] != 0 && detail::is_entry(arena_.at(likely[i]), text);
                symbols[from + i] = right ? symbol::of(likely[i]) : intern(text, hashes[i]);
            }
        }
    }

    /// The symbol of this string, if it was interned.
    [[nodiscard]] std::optional<symbol> find(std::string_view text) const noexcept {
        std::uint32_t const found = lookup(text, hash_(text));
        return found == 0 ? std::nullopt : std::optional(symbol::of(found));
    }
    [[nodiscard]] bool contains(std::string_view text) const noexcept {
        return lookup(text, hash_(text)) != 0;
    }

    /// The string of a symbol. Its data() ends with a NUL. Valid until clear() or the interner's end.
    /// Precondition: the symbol is of this interner. O(1).
    [[nodiscard]] std::string_view view(symbol s) const noexcept {
        CAIRN_ASSERT(arena_.has(s.value()) && "a symbol of another interner, or none");
        return detail::string_entry::read(arena_.at(s.value()));
    }

    /// Makes room in the table for n strings in all. @throws std::bad_alloc
    void reserve(std::size_t n) {
        if (n > table_.capacity()) grow(n);
    }
    /// Forgets all. Symbols and views are invalid then.
    void clear() noexcept { string_interner(hash_.seed()).swap(*this); }

    /// How many strings there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    /// The bytes of all strings.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    /// All memory that is allocated.
    [[nodiscard]] std::size_t memory() const noexcept { return table_.memory() + arena_.memory(); }

    /// Over the symbols, in order of interning. Interning leaves iterators valid, except end().
    [[nodiscard]] const_iterator begin() const noexcept { return {arena_, arena_.begin()}; }
    [[nodiscard]] const_iterator end() const noexcept { return {arena_, arena_.end()}; }

  private:
    [[nodiscard]] std::uint32_t lookup(std::string_view text, std::uint64_t hash) const noexcept {
        return table_.find(hash,
                           [this, text](std::uint32_t s) { return detail::is_entry(arena_.at(s), text); });
    }
    [[nodiscard]] std::uint32_t lookup(detail::two_words words, std::size_t n,
                                       std::uint64_t hash) const noexcept {
        return table_.find(
            hash, [this, words, n](std::uint32_t s) { return detail::is_entry(arena_.at(s), words, n); });
    }
    symbol intern(std::string_view text, std::uint64_t hash) {
        if (std::uint32_t const found = lookup(text, hash)) [[likely]]
            return symbol::of(found);
        return add(text, hash);
    }
    [[nodiscard, gnu::noinline]] symbol intern_long(std::string_view text) {
        return intern(text, hash_.of_long(text));
    }

    [[nodiscard, gnu::noinline]] symbol add(std::string_view text, std::uint64_t hash) {
        if (size_ == table_.capacity()) grow(size_ + size_ / 2 + 1);
        std::uint32_t const offset = arena_.append(text);
        table_.insert(hash, offset);
        ++size_;
        bytes_ += text.size();
        return symbol::of(offset);
    }
    void grow(std::size_t n) {
        detail::symbol_table<false> larger(n);
        for (symbol const s : *this) larger.insert(hash_(view(s)), s.value());
        table_.swap(larger);
    }

    detail::string_hash hash_;
    detail::symbol_table<false> table_;
    detail::string_arena arena_;
    std::size_t size_ = 0;
    std::size_t bytes_ = 0;
};

}  // namespace cairn
