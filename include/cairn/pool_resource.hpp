// SPDX-License-Identifier: MIT
// A std::pmr::memory_resource over pools of slots: lists, maps and sets of the standard library, at a pool's
// speed.
//
// A node-based container allocates blocks of one size or two, over and over. A general allocator serves
// them at 15 to 30 ns each; the standard library's unsynchronized_pool_resource is no faster. Here each size
// class has its own stack of free slots, as object_pool has (detail/slot_pool.hpp), and the class is found by
// a shift and a table.
//
//     bytes     1-16  17-32  33-48  …  241-256 │ 257-320  321-384  385-448  449-512 │ …  to 4,096
//     classes    16     32     48          256 │   320      384      448      512   │ …  four to a doubling
//
//   operation              costs                                     memory
//   --------------------   ---------------------------------------   ---------------------------------------
//   allocate, deallocate   O(1), 2 to 4 ns to 4,096 bytes;            to 256 bytes at most 15 lost, above at
//                          larger: the upstream's                     most a fifth; 2 KiB for each class used
//
// Over-aligned requests are served from a class that is a power of two. Memory goes back upstream by
// release(), by shrink(), and at the end.
//
// When not to use it: for vectors (they grow; each old size stays in its class); where threads share a
// container (std::pmr::synchronized_pool_resource, or one resource each).
// Checked in debug and hardened builds: release twice, a foreign pointer, another size than was asked for.
// Thread safety: none; one thread at a time.
//
//   cairn::pool_resource pool;
//   std::pmr::map<int, int> squares(&pool);
//   for (int i = 0; i < 1'000; ++i) squares[i] = i * i;
//   std::cout << squares[12] << '\n';
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>

#include "detail/assert.hpp"
#include "detail/slot_guard.hpp"
#include "detail/slot_pool.hpp"

namespace cairn {
namespace detail {

/// The table at the head of the file.
struct size_classes {
    static constexpr std::size_t unit = alignof(std::max_align_t);
    static constexpr std::size_t linear = 16;    // classes of 1 to 16 units
    static constexpr std::size_t quarters = 4;   // above them, in each doubling
    static constexpr std::size_t doublings = 4;  // to 512, 1,024, 2,048 and 4,096 bytes
    static constexpr std::size_t count = linear + doublings * quarters;
    static constexpr std::size_t largest = linear * unit << doublings;

    [[nodiscard]] static constexpr std::size_t of(std::size_t bytes) noexcept {
        std::size_t const units = (std::max<std::size_t>(bytes, 1) + unit - 1) / unit;
        if (units <= linear) return units - 1;
        // The top bit chooses the doubling, the two bits below it the quarter.
        auto const top = static_cast<std::size_t>(std::bit_width(units - 1)) - 1;
        return linear + (top - 4) * quarters + ((units - 1) >> (top - 2) & (quarters - 1));
    }
    [[nodiscard]] static constexpr std::size_t bytes(std::size_t of) noexcept {
        if (of < linear) return (of + 1) * unit;
        std::size_t const begin = linear * unit << (of - linear) / quarters;
        return begin + ((of - linear) % quarters + 1) * begin / quarters;
    }
};
static_assert(size_classes::of(256) == 15 && size_classes::of(257) == 16 && size_classes::bytes(16) == 320);
static_assert(size_classes::of(size_classes::largest) == size_classes::count - 1);
static_assert(size_classes::bytes(size_classes::count - 1) == size_classes::largest);

}  // namespace detail

class pool_resource final : public std::pmr::memory_resource {
  public:
    /// Blocks larger than this go to the upstream resource.
    static constexpr std::size_t largest_block = detail::size_classes::largest;

    /// Allocates nothing. @param upstream  where slabs and large blocks come from; it must outlive this.
    explicit pool_resource(std::pmr::memory_resource* upstream = std::pmr::get_default_resource()) noexcept
        : upstream_(upstream) {}
    pool_resource(pool_resource const&) = delete;
    pool_resource& operator=(pool_resource const&) = delete;
    /// Gives all slabs back, whatever is still out. Large blocks are their owners' to give back.
    ~pool_resource() override = default;

    /// Gives all slabs back at once: blocks up to largest_block that are out are gone.
    void release() noexcept {
        for (auto& one : classes_) one.reset();
    }
    /// Gives the slabs back of which no block is out. O(free blocks x slabs).
    void shrink() noexcept {
        for (auto& one : classes_)
            if (one) one->shrink();
    }
    /// How many blocks up to largest_block are out.
    [[nodiscard]] std::size_t size() const noexcept {
        std::size_t n = 0;
        for (auto const& one : classes_)
            if (one) n += one->size();
        return n;
    }
    [[nodiscard]] std::pmr::memory_resource* upstream_resource() const noexcept { return upstream_; }

  private:
    using guard = detail::slot_guard<>;
    using classes = detail::size_classes;

    /// Slabs from the upstream, aligned to a page, so that a class of a power of two is aligned to itself.
    struct slabs {
        static constexpr std::size_t alignment = largest_block;
        std::pmr::memory_resource* upstream;
        [[nodiscard]] void* allocate(std::size_t bytes) { return upstream->allocate(bytes, alignment); }
        void deallocate(void* p, std::size_t bytes) noexcept { upstream->deallocate(p, bytes, alignment); }
    };
    using pool = detail::slot_pool<slabs>;

    /// What is asked of the classes: more, where the alignment is more than that of any block.
    [[nodiscard]] static constexpr std::size_t asked(std::size_t bytes, std::size_t alignment) noexcept {
        return alignment <= classes::unit ? bytes : std::bit_ceil(std::max(bytes, alignment));
    }

    /// Without guard words, a slot is as large as its class, and so a power of two is aligned to itself.
    [[nodiscard]] static constexpr std::size_t alignment_of(std::size_t of) noexcept {
        return detail::checked ? std::bit_ceil(classes::bytes(of)) : classes::unit;
    }
    [[nodiscard]] void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (bytes > largest_block || alignment > largest_block) return upstream_->allocate(bytes, alignment);
        std::size_t const of = classes::of(asked(bytes, alignment));
        auto& from = classes_[of];
        if (!from) [[unlikely]]
            from.emplace(guard::slot_bytes(classes::bytes(of), alignment_of(of)), 128, slabs{upstream_});
        void* const block = from->take();
        guard::out(block, classes::bytes(of), this);
        return block;
    }
    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) noexcept override {
        if (bytes > largest_block || alignment > largest_block)
            return upstream_->deallocate(block, bytes, alignment);
        std::size_t const of = classes::of(asked(bytes, alignment));
        CAIRN_ASSERT(classes_[of] && "a block of this size was never handed out");
        guard::in(block, classes::bytes(of), this);
        classes_[of]->give(block);
    }
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* upstream_;
    std::array<std::optional<pool>, classes::count> classes_;
};

}  // namespace cairn
