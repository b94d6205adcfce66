// SPDX-License-Identifier: MIT
// What the pools do so that misuse is noticed: where contracts are checked, each slot carries a word that
// says whose it is and whether it is out; under AddressSanitizer, free slots are poisoned.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "assert.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define CAIRN_POISONS_FREE_SLOTS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAIRN_POISONS_FREE_SLOTS 1
#endif
#endif
#if defined(CAIRN_POISONS_FREE_SLOTS)
#include <sanitizer/asan_interface.h>
#endif

namespace cairn::detail {

/// Under AddressSanitizer a free slot is poisoned: whoever touches it is told so.
inline void poison([[maybe_unused]] void const* p, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(CAIRN_POISONS_FREE_SLOTS)
    __asan_poison_memory_region(p, bytes);
#endif
}
inline void unpoison([[maybe_unused]] void const* p, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(CAIRN_POISONS_FREE_SLOTS)
    __asan_unpoison_memory_region(p, bytes);
#endif
}

/// The word behind each slot. Its owner is told apart by address, so a slot of another pool is noticed too.
template <bool Checked = checked>
class slot_guard {
  public:
    /// What a slot for `bytes` bytes takes, in multiples of `alignment`.
    [[nodiscard]] static constexpr std::size_t slot_bytes(std::size_t bytes, std::size_t alignment) noexcept {
        bytes = (bytes + sizeof(void*) - 1) / sizeof(void*) * sizeof(void*) + (Checked ? sizeof(word) : 0);
        return (bytes + alignment - 1) / alignment * alignment;
    }
    /// A slot goes out to hold an object of `bytes` bytes.
    static void out(void* slot, std::size_t bytes, [[maybe_unused]] void const* owner) noexcept {
        unpoison(slot, bytes);
        if constexpr (Checked) {
            unpoison(at(slot, bytes), sizeof(word));
            // relaxed, here and below: the word guards no data, it only notices what must not happen.
            ::new (at(slot, bytes)) word(is_out(owner));
        }
    }
    /// A slot comes back.
    static void in(void* slot, std::size_t bytes, [[maybe_unused]] void const* owner) noexcept {
        if constexpr (Checked) {
            auto* const found = std::launder(static_cast<word*>(at(slot, bytes)));
            [[maybe_unused]] std::uintptr_t const was =
                found->exchange(is_in(owner), std::memory_order_relaxed);
            CAIRN_ASSERT(was != is_in(owner) && "released twice");
            CAIRN_ASSERT(was == is_out(owner) && "released to a pool that it did not come from");
        }
        poison(slot, bytes);
    }

  private:
    using word = std::atomic<std::uintptr_t>;
    [[nodiscard]] static void* at(void* slot, std::size_t bytes) noexcept {
        return static_cast<std::byte*>(slot) + (bytes + sizeof(word) - 1) / sizeof(word) * sizeof(word);
    }
    [[nodiscard]] static std::uintptr_t is_out(void const* owner) noexcept {
        return reinterpret_cast<std::uintptr_t>(owner) ^ static_cast<std::uintptr_t>(0x6F7574'6F757421);
    }
    [[nodiscard]] static std::uintptr_t is_in(void const* owner) noexcept { return ~is_out(owner); }
};

/// Constructs an object in a slot of `pool`, which gets the slot back if the constructor throws.
template <class Pool, class... Args>
[[nodiscard]] typename Pool::value_type* construct_in(Pool& pool, Args&&... args) {
    using T = typename Pool::value_type;
    struct owning {
        Pool& pool;
        T* slot;
        ~owning() {
            if (slot != nullptr) pool.deallocate(slot);
        }
    } owned{pool, pool.allocate()};
    std::construct_at(owned.slot, std::forward<Args>(args)...);
    return std::exchange(owned.slot, nullptr);
}

/// Notices, where contracts are checked, that a pool is used after its end: mostly, for the memory may have
/// become something else by then.
template <bool Checked = checked>
class life {
  public:
    void check() const noexcept { CAIRN_ASSERT(alive_ == here && "the pool has ended"); }
    void end() noexcept { alive_ = 0; }

  private:
    // volatile: or the compiler would leave out a store to an object that ends.
    static constexpr std::uint32_t here = 0xCA1123;
    std::uint32_t volatile alive_ = here;
};
template <>
class life<false> {
  public:
    static void check() noexcept {}
    static void end() noexcept {}
};

}  // namespace cairn::detail
