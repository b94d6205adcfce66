// SPDX-License-Identifier: MIT
// A string interner for any number of threads: a hit takes no lock and writes nothing.
//
// Nearly all calls are hits: the string is there already. A lecture's interner guards its map with a
// read-write lock, and this is what it teaches:
//
//     func intern(s):  mu.RLock(); v, ok := m[s]; mu.RUnlock(); if ok { return v }
//                      mu.Lock(); defer mu.Unlock()
//                      if v, ok := m[s]; ok { return v }     // the double check
//                      m[s] = s; return s
//
// The double check is needed: between RUnlock and Lock another thread may have stored the same string, and
// without a second look it would be stored twice, under two addresses. The lock is not: even a read lock
// counts its readers, so each hit writes a line that all other threads have just written.
//
//     hash ─▶ the table, by one acquire load ─▶ tags ─▶ symbol ─▶ string        no lock, and no write
//                └─ not found: the lock of a region (1 of 16); look again (the double check); store, publish
//
// The table and the strings are those of string_interner, and readers may read them while a writer inserts:
// a string is written first, then its symbol, then, with release, its tag. A table that is full is replaced,
// under all 16 locks; readers may still be in the old one, so it is kept until the end: all that were
// replaced are together as large as the last.
//
//   operation        costs                                             shared writes
//   --------------   -----------------------------------------------   --------------------------------------
//   intern, a hit    as string_interner's                              none
//   intern, new      O(length), amortized, under a region's lock       the region
//   find             as a hit                                          none
//   view             O(1), 2 to 8 ns: one directory for all regions    none
//
// What is written, and how it is read:
//
//   the pointer to the table   release   acquire in intern and find    the groups of the table
//   a group's tags             release   acquire (symbol_table)        symbols, and the strings' bytes
//   the directory's entries    before the tags of any string in them: who has a symbol sees its entry
//
// Limits, hash and seed: as string_interner. Memory: 13 to 26 bytes a string in tables, and a block for each
// region. When not to use it: one thread (string_interner keeps the order and needs half the tables); strings
// that are mostly new (then each call locks). Sources: Go's sync.RWMutex form is the lecture's; publishing as
// in Michael, "Safe memory reclamation" (2002), without the reclaiming.
// Thread safety: all functions but the constructor and destructor may be called by any threads at once.
//
//   cairn::concurrent_string_interner names;
//   cairn::symbol here, there;
//   std::thread other([&] { there = names.intern("AAPL"); });
//   here = names.intern("AAPL");
//   other.join();
//   std::cout << (here == there) << ' ' << names.view(here) << ' ' << names.size() << '\n';
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/assert.hpp"
#include "detail/string_arena.hpp"
#include "detail/string_hash.hpp"
#include "detail/symbol_table.hpp"
#include "symbol.hpp"

namespace cairn {

class concurrent_string_interner {
  public:
    /// An empty interner with a random seed. Allocates the directory, whose pages are not touched.
    concurrent_string_interner() : concurrent_string_interner(detail::random_seed()) {}
    explicit concurrent_string_interner(std::uint64_t seed)
        : hash_(seed), directory_(std::make_unique_for_overwrite<char*[]>(detail::chunk_count)) {}
    concurrent_string_interner(concurrent_string_interner const&) = delete;
    concurrent_string_interner& operator=(concurrent_string_interner const&) = delete;

    /// The symbol of this string, which is stored if it is new. The same for all threads.
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

    /// Interns all of `texts` into `symbols`, which is as long; several lookups at once, as
    /// string_interner's. If it throws, those before are interned and their symbols written.
    void intern_n(std::span<std::string_view const> texts, std::span<symbol> symbols) {
        CAIRN_ASSERT(symbols.size() >= texts.size());
        constexpr std::size_t at_once = 16;
        std::array<std::uint64_t, at_once> hashes;
        std::array<std::uint32_t, at_once> likely;
        for (std::size_t from = 0; from < texts.size(); from += at_once) {
            std::size_t const n = std::min(at_once, texts.size() - from);
            table const& now = current();
            if (now.memory() <= detail::table_in_cache) {
                for (std::size_t i = 0; i < n; ++i) symbols[from + i] = intern(texts[from + i]);
                continue;
            }
            for (std::size_t i = 0; i < n; ++i) now.call(hashes[i] = hash_(texts[from + i]));
            for (std::size_t i = 0; i < n; ++i)
                if ((likely[i] = now.candidate(hashes[i])) != 0) __builtin_prefetch(at(likely[i]));
            for (std::size_t i = 0; i < n; ++i) {
                std::string_view const text = texts[from + i];
                bool const right = likely[i] != 0 && detail::is_entry(at(likely[i]), text);
                symbols[from + i] = right ? symbol::of(likely[i]) : intern(text, hashes[i]);
            }
        }
    }

    /// The symbol of this string, if it was interned before: by this thread, or so that this one knows.
    [[nodiscard]] std::optional<symbol> find(std::string_view text) const noexcept {
        std::uint32_t const found = lookup(text, hash_(text));
        return found == 0 ? std::nullopt : std::optional(symbol::of(found));
    }
    [[nodiscard]] bool contains(std::string_view text) const noexcept { return find(text).has_value(); }

    /// The string of a symbol; data() ends with a NUL. Valid until the interner's end. Precondition: the
    /// symbol is of this interner, and came to this thread by a way that synchronizes. O(1).
    [[nodiscard]] std::string_view view(symbol s) const noexcept {
        CAIRN_ASSERT(s.has_value());
        return detail::string_entry::read(at(s.value()));
    }

    /// Makes room in the table for n strings in all. @throws std::bad_alloc
    void reserve(std::size_t n) {
        // A region may get more than its part.
        replace([n](table const& now) { return now.capacity() < n + n / 8 ? n + n / 8 : 0; });
    }

    /// How many strings there are: exact when no thread is interning.
    [[nodiscard]] std::size_t size() const noexcept {
        return sum([](region const& one) { return one.size; });
    }
    /// The bytes of all strings.
    [[nodiscard]] std::size_t bytes() const noexcept {
        return sum([](region const& one) { return one.bytes; });
    }
    /// All memory that is allocated, but for the part of the directory that is not in use.
    [[nodiscard]] std::size_t memory() const noexcept {
        std::size_t const strings = sum([](region const& one) { return one.block_memory; });
        std::scoped_lock const lock(writing_->mutex, writing_->directory_mutex);
        std::size_t n = sizeof *this + strings + writing_->chunks_used * sizeof(char*);
        for (auto const& kept : writing_->tables) n += kept->memory();
        return n;
    }

  private:
    using table = detail::symbol_table<true>;

    /// What the writers of a region share, under its lock.
    struct alignas(128) region {
        mutable std::mutex mutex;
        char* at = nullptr;  // where the next string goes, how much room there is, and which offset it has
        std::size_t left = 0, offset = 0;
        std::size_t size = 0, bytes = 0, block_memory = 0;
    };

    [[nodiscard]] table& current() const noexcept {
        // acquire: pairs with the release in replace(): the groups of a new table are there.
        return *now_.load(std::memory_order_acquire);
    }
    [[nodiscard]] char const* at(std::uint32_t offset) const noexcept {
        return directory_[offset / detail::chunk_bytes] + offset % detail::chunk_bytes;
    }
    [[nodiscard]] std::uint32_t lookup(std::string_view text, std::uint64_t hash) const noexcept {
        return current().find(hash, [this, text](std::uint32_t s) { return detail::is_entry(at(s), text); });
    }
    [[nodiscard]] std::uint32_t lookup(detail::two_words words, std::size_t n,
                                       std::uint64_t hash) const noexcept {
        return current().find(
            hash, [this, words, n](std::uint32_t s) { return detail::is_entry(at(s), words, n); });
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
        region& in = writing_->regions[table::region(hash)];
        for (;;) {
            {
                std::lock_guard const lock(in.mutex);
                // The double check. Nobody replaces the table while this lock is held.
                if (std::uint32_t const found = lookup(text, hash)) return symbol::of(found);
                if (in.size < current().capacity() / table::regions) return store(in, text, hash);
            }
            replace([&in](table const& now) {
                bool const full = in.size >= now.capacity() / table::regions;
                return full ? std::max(2 * now.capacity(), table::regions * table::usual) : 0;
            });
        }
    }
    /// Under the region's lock. What can throw comes before anything that readers see.
    [[nodiscard]] symbol store(region& in, std::string_view text, std::uint64_t hash) {
        std::size_t const needed = detail::string_entry::bytes(text.size());
        if (needed > in.left) add_block(in, needed);
        detail::string_entry::write(in.at, text);
        auto const offset = static_cast<std::uint32_t>(in.offset);
        in.at += needed;
        in.left -= needed;
        in.offset += needed;
        current().insert(hash, offset);
        ++in.size;
        in.bytes += text.size();
        return symbol::of(offset);
    }
    /// Puts a table for needed(current table) strings in its place, unless that is 0. Takes all locks.
    template <class Needed>
    void replace(Needed needed) {
        std::lock_guard const lock(writing_->mutex);
        std::array<std::unique_lock<std::mutex>, table::regions> locks;
        std::transform(writing_->regions.begin(), writing_->regions.end(), locks.begin(),
                       [](region& one) { return std::unique_lock(one.mutex); });
        std::size_t const n = needed(current());
        if (n == 0) return;
        writing_->tables.reserve(writing_->tables.size() + 1);
        auto larger = std::make_unique<table>(n);
        current().for_each([&](std::uint32_t offset) {
            larger->insert(hash_(detail::string_entry::read(at(offset))), offset);
        });
        // release: pairs with the acquire in current().
        now_.store(larger.get(), std::memory_order_release);
        writing_->tables.push_back(std::move(larger));
    }
    /// A block of chunks that no region has, for `needed` bytes and more.
    void add_block(region& in, std::size_t needed) {
        if (needed >= detail::chunk_bytes * detail::chunk_count) detail::throw_arena_full();
        std::size_t const bytes = detail::block_bytes(needed + 1, in.block_memory);
        std::size_t const chunks = detail::chunks_for(bytes);
        auto memory = std::make_unique_for_overwrite<char[]>(bytes);

        std::lock_guard const lock(writing_->directory_mutex);
        if (chunks > detail::chunk_count - writing_->chunks_used) detail::throw_arena_full();
        writing_->blocks.reserve(writing_->blocks.size() + 1);
        for (std::size_t i = 0; i < chunks; ++i)
            directory_[writing_->chunks_used + i] = memory.get() + i * detail::chunk_bytes;
        std::size_t const skipped = writing_->chunks_used == 0;  // offset 0 is no string
        in.at = memory.get() + skipped;
        in.left = bytes - skipped;
        in.offset = writing_->chunks_used * detail::chunk_bytes + skipped;
        in.block_memory += bytes;
        writing_->chunks_used += chunks;
        writing_->blocks.push_back(std::move(memory));
    }
    template <class Part>
    [[nodiscard]] std::size_t sum(Part part) const noexcept {
        std::size_t n = 0;
        for (region const& one : writing_->regions) {
            std::lock_guard const lock(one.mutex);
            n += part(one);
        }
        return n;
    }

    /// What only writers touch: on lines of its own. Locks are taken in the order in which they stand here.
    struct writing {
        std::mutex mutex;                            // for tables
        std::vector<std::unique_ptr<table>> tables;  // those before the last are kept for slow readers
        std::array<region, table::regions> regions;
        std::mutex directory_mutex;  // for what follows, and entries of the directory that are not in use
        std::size_t chunks_used = 0;
        std::vector<std::unique_ptr<char[]>> blocks;
    };

    detail::string_hash hash_;
    table none_;                          // before the first string
    std::atomic<table*> now_{&none_};     // what all look in: the last of writing_->tables
    std::unique_ptr<char*[]> directory_;  // an entry is written once, before any string in its chunk is seen
    std::unique_ptr<writing> writing_ = std::make_unique<writing>();
};

}  // namespace cairn
