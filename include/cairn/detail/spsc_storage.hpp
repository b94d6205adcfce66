// SPDX-License-Identifier: MIT
// What spsc_queue needs around its ring: where the slots are, who may call, how a core is told to wait, and
// how many items are copied at once.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

#include "spsc_rings.hpp"

namespace cairn::detail {

/// Tells the core that it waits in a loop: it then leaves its pipeline to the neighbour.
inline void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    asm volatile("yield");
#endif
}

/// The blocks of a ring, inside the queue. No pointer: the same bytes work at another address.
template <class Ring, std::size_t Capacity, class Allocator>
class spsc_storage {
  public:
    using block = typename Ring::block;
    [[nodiscard]] static constexpr std::size_t capacity() noexcept { return Capacity; }
    [[nodiscard]] block* blocks() noexcept { return blocks_; }

  private:
    alignas(apart) block blocks_[Ring::block_count(Capacity)];
};

/// The blocks of a ring, from an allocator.
template <class Ring, class Allocator>
class spsc_storage<Ring, 0, Allocator> {
  public:
    using block = typename Ring::block;

    spsc_storage(std::size_t capacity, Allocator const& allocator)
        : capacity_(capacity), allocator_(allocator), memory_(traits::allocate(allocator_, count())) {
        blocks_ = std::to_address(memory_);
        // One byte of each page is written now, or the first lap would pay a page fault, 1 to 2 µs, for each.
        auto* const bytes = reinterpret_cast<std::byte*>(blocks_);
        for (std::size_t at = 0; at < count() * sizeof(block); at += 4'096) bytes[at] = std::byte{};
        for (std::size_t i = 0; i < count(); ++i) ::new (static_cast<void*>(blocks_ + i)) block;
    }
    ~spsc_storage() {
        std::destroy_n(blocks_, count());
        traits::deallocate(allocator_, memory_, count());
    }
    spsc_storage(spsc_storage const&) = delete;
    spsc_storage& operator=(spsc_storage const&) = delete;

    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] block* blocks() const noexcept { return blocks_; }

  private:
    using traits = typename std::allocator_traits<Allocator>::template rebind_traits<block>;
    [[nodiscard]] std::size_t count() const noexcept { return Ring::block_count(capacity_); }

    std::size_t capacity_;
    block* blocks_;
    [[no_unique_address]] typename traits::allocator_type allocator_;
    typename traits::pointer memory_;
};

/// The thread that one side of a queue belongs to: the first that asks. Empty where contracts are not
/// checked.
template <int Side>
class one_thread {
#if !defined(NDEBUG) || defined(CAIRN_HARDENED)
  public:
    [[nodiscard]] bool is_this_thread() noexcept {
        std::thread::id expected{};
        std::thread::id const me = std::this_thread::get_id();
        // relaxed: each thread compares with its own number only, and no data comes with it.
        return thread_.compare_exchange_strong(expected, me, std::memory_order_relaxed) || expected == me;
    }
    void become() noexcept { thread_.store(std::this_thread::get_id(), std::memory_order_relaxed); }

  private:
    std::atomic<std::thread::id> thread_{};
#else
  public:
    static void become() noexcept {}
#endif
};

/// Whether items of type T can be copied between slots and `Iterator` as bytes.
template <class T, class Iterator>
inline constexpr bool plain_bytes = false;
template <class T, std::contiguous_iterator Iterator>
inline constexpr bool plain_bytes<T, Iterator> =
    std::is_trivially_copyable_v<T> && std::is_same_v<std::iter_value_t<Iterator>, T>;

/// A whole block of `Usual` items is copied by a size that the compiler knows, without a call. A long run
/// is copied in pieces: from some KiB on glibc uses rep movsb, which on AMD's Zen 3 and 4 takes 5 times as
/// long where both places lie alike in their pages (glibc bug 30994).
template <std::size_t Usual, class T>
void copy_bytes(T* to, T const* from, std::uint32_t n) noexcept {
    if (Usual != 0 && n == Usual) {
        std::memcpy(static_cast<void*>(to), from, Usual * sizeof(T));
        return;
    }
    constexpr std::uint32_t piece = std::max<std::uint32_t>(1, 2'047 / sizeof(T));
    for (; n > piece; n -= piece, to += piece, from += piece)
        std::memcpy(static_cast<void*>(to), from, piece * sizeof(T));
    std::memcpy(static_cast<void*>(to), from, n * sizeof(T));
}
/// Constructs n items at `slots`; `done` counts along, for an exception in the middle. Returns the next.
template <std::size_t Usual, class Iterator, class T>
Iterator copy_in(Iterator first, std::uint32_t n, T* slots, std::uint32_t& done) {
    if constexpr (plain_bytes<T, Iterator>) {
        copy_bytes<Usual>(slots, std::to_address(first), done = n);
        return first + static_cast<std::iter_difference_t<Iterator>>(n);
    } else {
        for (; done < n; ++done, ++first) std::construct_at(slots + done, *first);
        return first;
    }
}
/// Moves n items to `out`; `done` counts along. Returns the next place.
template <std::size_t Usual, class T, class Iterator>
Iterator copy_out(T* items, std::uint32_t n, Iterator out, std::uint32_t& done) {
    if constexpr (plain_bytes<T, Iterator>) {
        copy_bytes<Usual>(std::to_address(out), items, done = n);
        return out + static_cast<std::iter_difference_t<Iterator>>(n);
    } else {
        for (; done < n; ++done, ++out) *out = std::move(items[done]);
        return out;
    }
}

}  // namespace cairn::detail
