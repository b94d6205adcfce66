// SPDX-License-Identifier: MIT
// An object pool: objects of one type are made and ended often, and their memory is used again.
//
// A general allocator must find out, for every free(), how large the block was and whose it is, and must
// serve every thread and size. A pool knows: one type, one owner. What is left is to keep the slots that
// came back on a stack, and that is 1 ns. Slots come from slabs, which grow geometrically and never move, so
// an address stays good until its object ends.
//
//     slab 1 ┌──┬──┬──┐   slab 2 ┌──┬──┬──┬──┬──┬──┐   …      free: [ ■ ■ ■ ■ … ]  the last in is the next
//            └──┴──┴──┘          └──┴──┴──┴──┴──┴──┘                out: it is still in the cache
//
//   operation                      costs                                      memory
//   ----------------------------   ----------------------------------------   -----------------------------
//   make, construct, allocate      O(1), 1 to 2 ns and the constructor;       0 bytes an object beyond its
//                                  more when a slab is needed                 slot; 56 a slab, 8 KiB a pool
//                                                                             (later 2 a slot, to 128 KiB)
//   destroy, deallocate            O(1), 1 to 2 ns and the destructor         none
//   reserve                        O(1): one slab, not touched                what is missing
//   shrink                         O(free slots x slabs)                      unused slabs go back
//
// A slot is as large as T, but at least a pointer. A new slab is about as large as all before it (4 KiB to 16
// MiB): so about half of the memory, at most, was never used. It goes back at the end, or by shrink().
//
// What is checked in debug builds and where CAIRN_HARDENED is defined for the whole program: an object
// released twice, to another pool, by a wrong address, or after the pool's end; objects that are out when
// the pool ends. Each ends the program with a message. Under AddressSanitizer, free slots are poisoned too,
// so that a use after release is reported.
//
// When not to use it: where objects live long (there is nothing to reuse); where several threads share it
// (concurrent_object_pool); where an object costs much to make and could be cleaned instead
// (recycling_pool). The allocator wins where its memory is shared by many types: a pool keeps its peak.
// Sources: Kenwright, "Fast Efficient Fixed-Size Memory Pool" (2012); Bonwick, "The Slab Allocator" (1994).
// Thread safety: none; one thread at a time.
//
//   struct order { int id; double price; };
//   cairn::object_pool<order> pool;
//   {
//       auto first = pool.make(1, 9.5);   // a unique_ptr that returns the slot
//       order* second = pool.construct(2, 8.0);
//       std::cout << first->id + second->id << " " << pool.size() << '\n';
//       pool.destroy(second);
//   }
//   std::cout << pool.size() << '\n';     // 0: both are back
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "detail/assert.hpp"
#include "detail/slot_guard.hpp"
#include "detail/slot_pool.hpp"

namespace cairn {

/// @tparam T          any object type, over-aligned ones too.
/// @tparam Allocator  where slabs come from.
template <class T, class Allocator = std::allocator<T>>
class object_pool {
    static_assert(std::is_object_v<T> && !std::is_array_v<T> && std::is_nothrow_destructible_v<T>);

  public:
    using value_type = T;
    using allocator_type = Allocator;

    /// What a handle does at its end: pool.destroy(object).
    class releaser {
      public:
        releaser() noexcept = default;
        explicit releaser(object_pool& pool) noexcept : pool_(&pool) {}
        void operator()(T* object) const noexcept { pool_->destroy(object); }

      private:
        object_pool* pool_ = nullptr;
    };
    /// Owns an object of the pool: a unique_ptr, so it moves, and holds one object or none. It must end
    /// before the pool.
    using handle = std::unique_ptr<T, releaser>;

    /// An empty pool. Allocates nothing.
    explicit object_pool(Allocator const& allocator = Allocator())
        : slots_(slot_bytes, 512, source(allocator)) {}
    /// Objects point back to their pool and into its slabs, so it stays where it is.
    object_pool(object_pool const&) = delete;
    object_pool& operator=(object_pool const&) = delete;
    /// Gives all memory back. Precondition: no object is out. The destructors of those that are do not run.
    ~object_pool() {
        CAIRN_ASSERT(size() == 0 && "the pool ends while objects are out");
        life_.end();
    }

    /// A new object T(args...) in a handle that ends it. O(1), but for a new slab. Strong guarantee: if the
    /// constructor or the allocator throws, nothing has changed.
    template <class... Args>
        requires std::is_constructible_v<T, Args...>
    [[nodiscard]] handle make(Args&&... args) {
        return handle(construct(std::forward<Args>(args)...), releaser(*this));
    }

    /// A new object for those who end it themselves, by destroy(). As make.
    template <class... Args>
        requires std::is_constructible_v<T, Args...>
    [[nodiscard]] T* construct(Args&&... args) {
        return detail::construct_in(*this, std::forward<Args>(args)...);
    }
    /// Ends an object that construct() made, or that was made in a slot of allocate(). Precondition: it is
    /// of this pool, and not null. O(1).
    void destroy(T* object) noexcept {
        life_.check();
        std::destroy_at(object);
        give(object);
    }

    /// A slot without an object: memory for one T. O(1), but for a new slab.
    /// @throws what the allocator throws; nothing has changed then.
    [[nodiscard]] T* allocate() {
        life_.check();
        void* const slot = slots_.take();
        guard::out(slot, sizeof(T), this);
        return static_cast<T*>(slot);
    }
    /// Takes back a slot that holds no object. Precondition: as destroy().
    void deallocate(T* slot) noexcept {
        life_.check();
        give(slot);
    }

    /// Makes room for n objects in all: until then no call allocates. One slab, whose pages are not touched.
    /// @throws what the allocator throws.
    void reserve(std::size_t n) { slots_.reserve(n); }
    /// Gives slabs that no object is in back to the allocator. O(free slots x slabs).
    void shrink() noexcept { slots_.shrink(); }

    /// How many objects and slots are out.
    [[nodiscard]] std::size_t size() const noexcept { return slots_.size(); }
    /// How many there can be before a slab is allocated.
    [[nodiscard]] std::size_t capacity() const noexcept { return slots_.capacity(); }
    [[nodiscard]] allocator_type get_allocator() const noexcept { return slots_.source().get(); }

  private:
    static constexpr std::size_t alignment = std::max(alignof(T), alignof(void*));
    // Slabs begin at a line, so that an object of a line is in one.
    static constexpr std::size_t slab_alignment = std::max<std::size_t>(alignment, 64);
    using guard = detail::slot_guard<>;
    static constexpr std::size_t slot_bytes = guard::slot_bytes(sizeof(T), alignment);
    using source = detail::slab_allocator<Allocator, slab_alignment>;

    void give(T* slot) noexcept {
        guard::in(slot, sizeof(T), this);
        slots_.give(slot);
    }

    detail::slot_pool<source> slots_;
    [[no_unique_address]] detail::life<> life_;
};

}  // namespace cairn
