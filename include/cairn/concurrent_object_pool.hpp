// SPDX-License-Identifier: MIT
// An object pool for any number of threads: each may make objects, and end those that others have made.
//
// One stack of free slots, shared, is the bottleneck that a pool was to remove: its top is a cache line that
// travels at each operation, with a lock around it or a compare-and-swap loop. With two threads such a pool
// is 50 times slower than this one, and slower than any malloc. So each thread keeps free slots of its own,
// in two magazines, and the threads share only what overflows: a depot that takes and gives whole magazines
// of 126 under a lock, once in 126 operations at most (detail/magazines.hpp).
//
//   operation                    costs                                    shared
//   --------------------------   --------------------------------------   ----------------------------------
//   make, construct, allocate    O(1), 1 to 2 ns and the constructor      nothing, but once in 126: a lock of
//                                                                         the depot, which has 8 shelves
//   destroy, deallocate          O(1), 1 to 2 ns and the destructor       the same
//   a thread's first call        two magazines, 2 KiB                     the depot's lock
//   size                         O(threads + magazines)                   two locks
//
// One thread that makes and another that ends: the slots go back by the depot, a magazine at a time, and cost
// up to 5 ns more than the queue between the two. A thread keeps at most 252 free slots; at its end they go
// to the depot. A thread prefers its own slots, then new ones, and takes those that others have released only
// when these are half of all: so the pool may grow to twice what is out at most. Slabs are those of
// object_pool, and so is what is checked in debug and hardened builds.
//
// When not to use it: one thread (object_pool is 2 times faster); objects that cost much to make
// (recycling_pool); a few objects a second (any malloc will do).
// Source: Bonwick, Adams, "Magazines and Vmem: Extending the Slab Allocator to Many CPUs" (2001).
// Thread safety: all functions may be called by any threads at once. The constructor and the destructor may
// not: at the pool's end no other thread may be at work on it. Threads that have used it may outlive it.
//
//   cairn::concurrent_object_pool<std::array<int, 16>> pool;
//   auto made = pool.make();
//   std::thread other([object = std::move(made)]() mutable { object.reset(); });  // ended over there
//   other.join();
//   std::cout << pool.size() << '\n';  // 0
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include "detail/assert.hpp"
#include "detail/magazines.hpp"
#include "detail/slot_guard.hpp"
#include "detail/slot_pool.hpp"

namespace cairn {

/// @tparam T          any object type, over-aligned ones too.
/// @tparam Allocator  where slabs come from. It is called under a lock.
template <class T, class Allocator = std::allocator<T>>
class concurrent_object_pool {
    static_assert(std::is_object_v<T> && !std::is_array_v<T> && std::is_nothrow_destructible_v<T>);

  public:
    using value_type = T;
    using allocator_type = Allocator;

    /// What a handle does at its end: pool.destroy(object).
    class releaser {
      public:
        releaser() noexcept = default;
        explicit releaser(concurrent_object_pool& pool) noexcept : pool_(&pool) {}
        void operator()(T* object) const noexcept { pool_->destroy(object); }

      private:
        concurrent_object_pool* pool_ = nullptr;
    };
    /// Owns an object of the pool. It may end in any thread, before the pool.
    using handle = std::unique_ptr<T, releaser>;

    /// An empty pool. Allocates the depot. @throws std::bad_alloc
    explicit concurrent_object_pool(Allocator const& allocator = Allocator())
        : slots_(slot_bytes, detail::magazine::largest, source(allocator)) {}
    concurrent_object_pool(concurrent_object_pool const&) = delete;
    concurrent_object_pool& operator=(concurrent_object_pool const&) = delete;
    /// Gives all memory back. Precondition: no object is out, and no thread at work on the pool.
    ~concurrent_object_pool() {
        CAIRN_ASSERT(size() == 0 && "the pool ends while objects are out");
        cache_.shared().end([](void*) noexcept {});
        life_.end();
    }

    /// A new object T(args...) in a handle that ends it. O(1), but for a new slab. Strong guarantee: if the
    /// constructor or the allocator throws, nothing has changed.
    template <class... Args>
        requires std::is_constructible_v<T, Args...>
    [[nodiscard]] handle make(Args&&... args) {
        return handle(construct(std::forward<Args>(args)...), releaser(*this));
    }
    /// A new object for those who end it themselves, by destroy(), in any thread. As make.
    template <class... Args>
        requires std::is_constructible_v<T, Args...>
    [[nodiscard]] T* construct(Args&&... args) {
        return detail::construct_in(*this, std::forward<Args>(args)...);
    }
    /// Ends an object of this pool. Precondition: not null. O(1).
    void destroy(T* object) noexcept {
        life_.check();
        std::destroy_at(object);
        give(object);
    }

    /// A slot without an object: memory for one T. @throws what the allocator throws.
    [[nodiscard]] T* allocate() {
        life_.check();
        void* slot = cache_.take_at_once();
        if (slot == nullptr) [[unlikely]]
            slot = take_slowly();
        guard::out(slot, sizeof(T), this);
        return static_cast<T*>(slot);
    }
    /// Takes back a slot that holds no object.
    void deallocate(T* slot) noexcept {
        life_.check();
        give(slot);
    }

    /// Makes room for n objects in all. Slots that other threads keep do not help this one: add 252 for each.
    void reserve(std::size_t n) {
        std::lock_guard const lock(mutex_);
        slots_.reserve(n);
        note_slabs();
    }
    /// Gives slabs back of which no slot is out or with a thread.
    void shrink() noexcept {
        std::lock_guard const lock(mutex_);
        cache_.shared().drain([this](void* slot) noexcept { slots_.give(slot); });
        slots_.shrink();
        note_slabs();
    }

    /// How many objects and slots are out: exact when no thread is at work. O(magazines).
    [[nodiscard]] std::size_t size() const noexcept {
        std::lock_guard const lock(mutex_);
        std::size_t const out = slots_.size();
        std::size_t const cached = cache_.shared().size();
        return out > cached ? out - cached : 0;
    }
    [[nodiscard]] std::size_t capacity() const noexcept {
        std::lock_guard const lock(mutex_);
        return slots_.capacity();
    }
    [[nodiscard]] allocator_type get_allocator() const noexcept { return slots_.source().get(); }

  private:
    // Slabs begin at a line, so that objects of whole lines share none.
    static constexpr std::size_t alignment = std::max(alignof(T), alignof(void*));
    static constexpr std::size_t slab_alignment = std::max<std::size_t>(alignment, 64);
    using guard = detail::slot_guard<>;
    static constexpr std::size_t slot_bytes = guard::slot_bytes(sizeof(T), alignment);
    using source = detail::slab_allocator<Allocator, slab_alignment>;
    // Fresh slots for a thread: a magazine's worth, unless they are large, and a power of two.
    static constexpr std::size_t at_a_time =
        std::bit_floor(std::clamp<std::size_t>((std::size_t{32} << 10) / slot_bytes, 8, 128));
    // The step in which they are handed out. In the order of their addresses, a core that runs through whole
    // lines has the next ones fetched, which the other core is about to write. Scattered, the way from thread
    // to thread takes 0.7 of the time (64 bytes), 0.6 (256). Several slots in a line are better side by side.
    static constexpr std::size_t stride = slot_bytes < 64 ? at_a_time - 1 : 37;

    void give(T* slot) noexcept {
        guard::in(slot, sizeof(T), this);
        if (!cache_.give_at_once(slot)) [[unlikely]]
            give_slowly(slot);
    }
    [[gnu::noinline]] void give_slowly(void* slot) noexcept {
        if (cache_.give(slot)) return;
        std::lock_guard const lock(mutex_);
        slots_.give(slot);
        note_slabs();
    }
    /// Under the lock: what others may know of slots_ without it.
    void note_slabs() noexcept {
        in_slabs_.store(slots_.size() != slots_.capacity(), std::memory_order_relaxed);
        slots_so_far_.store(slots_.capacity(), std::memory_order_relaxed);
    }
    /// A slot that this thread has released; else one that nobody has had yet; else, if other threads have
    /// left half of all slots in the depot, one of those; else one of a new slab. The slots of other threads
    /// lie beside objects that these still have: two threads with 1,000 objects each were 2 to 5 times slower
    /// once their slots had mixed. But one that only makes must take what another one ends.
    [[nodiscard, gnu::noinline]] void* take_slowly() {
        if (void* const slot = cache_.take(false)) return slot;
        // relaxed, both: hints. The slots are counted again under the lock.
        if (in_slabs_.load(std::memory_order_relaxed))
            if (void* const slot = take_from_slabs(false)) return slot;
        if (2 * cache_.shared().stored() >= slots_so_far_.load(std::memory_order_relaxed))
            if (void* const slot = cache_.take()) return slot;
        try {
            return take_from_slabs(true);
        } catch (...) {
            if (void* const slot = cache_.take()) return slot;
            throw;
        }
    }
    /// A slot for now, and some for this thread's magazines: whole lines, so that threads share none of them.
    [[nodiscard]] void* take_from_slabs(bool grow) {
        std::array<void*, at_a_time> some;
        std::size_t n = 0;
        {
            std::lock_guard const lock(mutex_);
            if (grow) some[n++] = slots_.take();
            while (n != at_a_time && slots_.size() != slots_.capacity()) some[n++] = slots_.take();
            note_slabs();
        }
        if (n == 0) return nullptr;
        // An odd step meets each place of a power of two. The last one given is the first one taken.
        for (std::size_t i = stride % at_a_time; i != 0; i = (i + stride) % at_a_time)
            if (i < n) give_slowly(some[i]);
        return some[0];
    }

    mutable std::mutex mutex_;  // for slots_
    detail::slot_pool<source> slots_;
    std::atomic<bool> in_slabs_{false};  // whether slots_ has free slots
    std::atomic<std::size_t> slots_so_far_{0};
    detail::magazine_cache cache_;
    [[no_unique_address]] detail::life<> life_;
};

}  // namespace cairn
