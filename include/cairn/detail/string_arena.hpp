// SPDX-License-Identifier: MIT
// Where the interners keep their strings: one after the other, each found by a 32-bit offset.
//
//     entry    ┌ length ┬ characters … ┬ NUL ┐     length: 1 byte, or 255 and 4 bytes
//     offset   16 bits: which chunk of 64 KiB │ 16 bits: where in it
//
// A directory has the address of each chunk, so from an offset to a string it is a load from the directory,
// which is small and stays in the first-level cache, and one from the string itself. Strings never move.
// Memory comes in blocks, each some chunks that follow each other in offsets and in memory, so a string may
// be longer than a chunk. A block is an eighth of all before it, from 4 KiB to 1 MiB.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "string_hash.hpp"

namespace cairn::detail {

inline constexpr std::size_t chunk_bytes = std::size_t{1} << 16;
inline constexpr std::size_t chunk_count = std::size_t{1} << 16;  // of all offsets

/// Strings as they lie in memory.
struct string_entry {
    static constexpr std::size_t short_length = 254;

    [[nodiscard]] static constexpr std::size_t bytes(std::size_t length) noexcept {
        return (length <= short_length ? 1 : 5) + length + 1;
    }
    static void write(char* at, std::string_view text) noexcept {
        auto const length = static_cast<std::uint32_t>(text.size());
        if (text.size() <= short_length) {
            *at++ = static_cast<char>(length);
        } else {
            *at++ = static_cast<char>(0xFF);
            std::memcpy(at, &length, sizeof length);
            at += sizeof length;
        }
        if (!text.empty()) std::memcpy(at, text.data(), text.size());
        at[text.size()] = '\0';
    }
    [[nodiscard]] static std::string_view read(char const* at) noexcept {
        std::size_t const length = static_cast<unsigned char>(*at++);
        if (length <= short_length) [[likely]]
            return {at, length};
        std::uint32_t long_length;
        std::memcpy(&long_length, at, sizeof long_length);
        return {at + sizeof long_length, long_length};
    }
};

/// Whether an entry is this text, of up to 16 characters. Neither a loop nor a call.
[[nodiscard]] inline bool is_entry(char const* entry, two_words words, std::size_t n) noexcept {
    return static_cast<unsigned char>(*entry) == n && two_words(entry + 1, n) == words;
}
[[nodiscard]] inline bool is_entry(char const* entry, std::string_view text) noexcept {
    std::size_t const n = text.size();
    if (n <= two_words::most) return is_entry(entry, two_words(text.data(), n), n);
    return string_entry::read(entry) == text;
}

/// How large the next block is, for an entry of `needed` bytes, when there are `so_far` bytes.
[[nodiscard]] constexpr std::size_t block_bytes(std::size_t needed, std::size_t so_far) noexcept {
    return std::max(needed, std::clamp(so_far / 8 / 4'096 * 4'096, std::size_t{4'096}, std::size_t{1} << 20));
}
[[nodiscard]] constexpr std::size_t chunks_for(std::size_t bytes) noexcept {
    return (bytes + chunk_bytes - 1) / chunk_bytes;
}
[[noreturn]] inline void throw_arena_full() {
    throw std::length_error("string interner: 4 GiB of strings are full");
}

/// The arena of one thread. Offset 0 is no string.
/// @tparam Chunks  how many there may be; fewer only so that a test can fill them.
template <std::size_t Chunks>
class basic_string_arena {
    struct block {
        std::unique_ptr<char[]> memory;
        std::size_t bytes, used;
        std::size_t first;  // the offset of its first entry
    };

  public:
    /// A place in the order of all entries.
    struct place {
        std::size_t block = 0, offset = 0;
    };

    basic_string_arena() noexcept = default;
    basic_string_arena(basic_string_arena&&) noexcept = default;
    basic_string_arena& operator=(basic_string_arena&&) noexcept = default;
    basic_string_arena(basic_string_arena const& from) {
        directory_.reserve(from.directory_.size());
        blocks_.reserve(from.blocks_.size());
        for (block const& b : from.blocks_) {
            add_block(b.bytes);
            std::memcpy(blocks_.back().memory.get(), b.memory.get(), b.used);
            blocks_.back().used = b.used;
        }
    }

    /// Stores a string; returns its offset. @throws std::length_error if no offset is left, std::bad_alloc;
    /// nothing has changed then.
    std::uint32_t append(std::string_view text) {
        std::size_t const needed = string_entry::bytes(text.size());
        if (blocks_.empty() || needed > blocks_.back().bytes - blocks_.back().used) {
            // The first byte of all stays unused: so offset 0 is no string.
            if (text.size() >= chunk_bytes * Chunks) throw_arena_full();
            add_block(block_bytes(needed + blocks_.empty(), memory_));
        }
        block& last = blocks_.back();
        std::size_t const offset = last.first + last.used;
        string_entry::write(last.memory.get() + last.used, text);
        last.used += needed;
        return static_cast<std::uint32_t>(offset);
    }
    [[nodiscard]] char const* at(std::uint32_t offset) const noexcept {
        return directory_[offset / chunk_bytes] + offset % chunk_bytes;
    }
    [[nodiscard]] bool has(std::uint32_t offset) const noexcept {
        return offset != 0 && offset / chunk_bytes < directory_.size();
    }

    // All entries, in the order in which they came.
    [[nodiscard]] place begin() const noexcept { return blocks_.empty() ? place{} : place{0, 1}; }
    [[nodiscard]] place end() const noexcept {
        if (blocks_.empty()) return {};
        return {blocks_.size() - 1, blocks_.back().first + blocks_.back().used};
    }
    [[nodiscard]] place next(place now) const noexcept {
        block const& b = blocks_[now.block];
        now.offset += string_entry::bytes(string_entry::read(b.memory.get() + (now.offset - b.first)).size());
        if (now.offset == b.first + b.used && now.block + 1 != blocks_.size())
            now = {now.block + 1, blocks_[now.block + 1].first};
        return now;
    }

    /// What is allocated.
    [[nodiscard]] std::size_t memory() const noexcept {
        return memory_ + directory_.capacity() * sizeof(char*) + blocks_.capacity() * sizeof(block);
    }

  private:
    void add_block(std::size_t bytes) {
        std::size_t const first = directory_.size(), chunks = chunks_for(bytes);
        if (chunks > Chunks - first) throw_arena_full();
        blocks_.reserve(blocks_.size() + 1);
        directory_.reserve(first + chunks);
        block added{std::make_unique_for_overwrite<char[]>(bytes), bytes, blocks_.empty() ? 1U : 0U,
                    first * chunk_bytes};
        for (std::size_t i = 0; i < chunks; ++i) directory_.push_back(added.memory.get() + i * chunk_bytes);
        blocks_.push_back(std::move(added));
        memory_ += bytes;
    }

    std::vector<char*> directory_;  // where each chunk of offsets begins
    std::vector<block> blocks_;
    std::size_t memory_ = 0;  // of all blocks
};
using string_arena = basic_string_arena<chunk_count>;

}  // namespace cairn::detail
