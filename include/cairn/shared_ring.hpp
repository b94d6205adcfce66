// SPDX-License-Identifier: MIT
// A ring that changes while others read it: readers neither lock nor wait, writers publish whole copies.
//
// A lookup takes some 3 ns, so whatever guards the ring must be cheaper than that. A lock is not: it makes
// every reader write to one cache line, and the cores take turns to own it. Here a published ring never
// changes again. A writer copies the current one, changes the copy, and publishes it under the next version
// number. Each thread that reads has a `reader`, which holds a snapshot and the version it came from:
//
//     writer   copy ─▶ change ─▶ publish ── version 8 ──▶ the replaced ring waits until nobody uses it
//     reader   version still 7? yes: my snapshot, no lock        no: take the new one, once
//
// The version is one number on a cache line of its own that is written only when membership changes. Between
// two changes all cores keep that line, and `get()` is one load and a comparison: it writes nothing, to no
// one.
//
//   what guards a lookup, one thread    costs       and with many readers
//   ---------------------------------   ---------   --------------------------------------------------
//   this: read the version              +0.4 ns     the same: nothing is written
//   copy a shared_ptr each time         +4.5 ns     all write one count
//   std::mutex / std::shared_mutex      +5.4/6.4    all write one lock word; writers make readers wait
//   std::atomic<std::shared_ptr>        +7.1 ns     all write one word and one count
//
//   update()        copies and changes a ring: O(points), some 0.1 ms for 100 nodes x 160 points
//   after update()  each reader tries one lock and writes one count, once; if the lock is taken it goes
//                   on with the snapshot it has and tries again at its next call
//
// Old snapshots: a replaced ring waits in a list until no reader holds it; the next update() or collect()
// then frees it. So a ring's destructor runs on a writer's path, never on a reader's. A reader moves on at
// its next call; one that makes no calls keeps one old ring alive: let it release() before it goes idle.
// At most one ring per reader waits, and those that snapshot() gave out.
//
// When not to use it: if membership changes at every few lookups, copies are waste: use a mutex. If it
// never changes, share a const ring. If a reader must not see an old ring for even one call, use refresh().
// Source: McKenney, Slingwine, "Read-Copy Update" (1998). Thread safety: shared_ring: all members may run
// concurrently. reader: one thread at a time, and it must be gone before the shared_ring is.
//
//   cairn::shared_ring shared{cairn::hash_ring<std::string>{"cache-a", "cache-b"}};
//   std::thread worker([&shared] {
//       auto reader = shared.make_reader();                  // one for each thread
//       for (int i = 0; i < 3; ++i) std::cout << reader.find(i) << '\n';
//   });
//   shared.update([](auto& ring) { ring.add("cache-c"); });  // the worker goes on meanwhile
//   worker.join();
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "detail/assert.hpp"
#include "hash_ring.hpp"

namespace cairn {

/// @tparam Ring  what is shared: a hash_ring, or anything else that can be copied and read while const.
template <class Ring = hash_ring<>>
    requires std::copy_constructible<Ring>
class shared_ring {
  public:
    using ring_type = Ring;
    class reader;

    /// Publishes `initial` as version 0.
    explicit shared_ring(Ring initial = Ring{}) : current_(on_own_lines(std::move(initial))) {}

    shared_ring(shared_ring const&) = delete;
    shared_ring& operator=(shared_ring const&) = delete;

    /// Precondition: no reader of it is left. Rings that snapshot() gave out live on with their holders.
    ~shared_ring() {
        // acquire: pairs with the release in ~reader, so that what a reader did is over before all is freed.
        CAIRN_ASSERT(readers_.load(std::memory_order_acquire) == 0);
    }

    // ---- For writers, one of them at a time: others wait. ----

    /// Calls change(ring) with a copy of the current ring, then publishes the copy. Readers go on meanwhile
    /// with the old ring. Frees what nobody uses any more. O(points) and what `change` does.
    /// Strong guarantee: if `change` or an allocation throws, nothing is published.
    /// `change` must not call update(), collect() or retired() of this shared_ring: it would wait for itself.
    template <std::invocable<Ring&> Change>
    void update(Change&& change) {
        std::lock_guard const one_writer(writing_);
        std::shared_ptr<Ring> next = on_own_lines(*current_);
        std::invoke(std::forward<Change>(change), *next);
        retired_.reserve(retired_.size() + 1);  // the last step that can fail
        retired_.push_back(publish(std::move(next)));
        free_unused();
    }

    /// Frees the replaced rings that no reader uses any more, without a change. Returns how many.
    std::size_t collect() {
        std::lock_guard const one_writer(writing_);
        return free_unused();
    }

    /// How many replaced rings are kept because somebody used them when update() or collect() last looked.
    [[nodiscard]] std::size_t retired() const {
        std::lock_guard const one_writer(writing_);
        return retired_.size();
    }

    // ---- For readers. ----

    /// A reader for the calling thread.
    [[nodiscard]] reader make_reader() const { return reader(*this); }

    /// The current ring, for as long as the caller keeps the pointer. Takes a short lock and writes a shared
    /// count: for reports and the like; a thread that looks up keys should have a reader.
    [[nodiscard]] std::shared_ptr<Ring const> snapshot() const {
        std::lock_guard const lock(swapping_);
        return current_;
    }

    /// How many updates were published. What the thread of an update did before it is visible to a thread
    /// that has read its number here.
    [[nodiscard]] std::uint64_t version() const noexcept {
        // acquire: pairs with the release store in publish().
        return version_.load(std::memory_order_acquire);
    }

  private:
    // Invariants:
    // - current_ is never null, and the ring it points to was not written to since it was published.
    // - current_ and version_ change together, inside `swapping_`: whoever holds it sees a pair that belongs
    //   together. Only the holder of `writing_` changes them, so that holder may read them without
    //   `swapping_`.
    // - Nobody constructs, changes or frees a ring while holding `swapping_`: it is held for a few
    // instructions.
    // - A published ring is in current_ or in retired_ until free_unused() finds that nobody else has it.
    // The locks are taken in the order writing_, swapping_.

    static constexpr std::size_t cache_line = 64;

    /// make_shared puts the reference counts before the object. Readers that come and go write them; this
    /// alignment keeps them off the lines of the ring that all readers read.
    struct alignas(cache_line) published {
        Ring ring;
    };
    template <class From>
    static std::shared_ptr<Ring> on_own_lines(From&& from) {
        auto const whole = std::make_shared<published>(published{Ring(std::forward<From>(from))});
        return std::shared_ptr<Ring>(whole, &whole->ring);
    }

    /// Returns the ring that was current.
    std::shared_ptr<Ring const> publish(std::shared_ptr<Ring const> next) {
        std::lock_guard const lock(swapping_);
        current_.swap(next);
        // The load may be relaxed: only the holder of writing_ stores, and that is us. The store is release
        // for those who read version(), see there. Readers need no order from it: if the number is unchanged
        // they use what they already have, and if it changed they come for the pointer through `swapping_`.
        version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
        return next;
    }

    /// Precondition: writing_ is held. Why the count may be trusted, although use_count() is a relaxed load:
    /// - It is not 1 too early. A reader raised the count inside `swapping_` while the ring was current;
    /// publish()
    ///   took `swapping_` later, so this load comes after that increment and sees it or a later value.
    /// - It does not rise from 1 again. New references are made from current_, which is another ring by now,
    ///   or from somebody else's reference, and there is none.
    /// - Freeing does not race with the last use. The reader's decrement is a release, and our own, which
    ///   reaches 0, an acquire that reads from it: shared_ptr promises that of every last owner.
    std::size_t free_unused() noexcept {
        return std::erase_if(retired_, [](auto const& ring) { return ring.use_count() == 1; });
    }

    // Read by all readers at every call, so alone on its line: a writer that locks does not disturb them.
    alignas(cache_line) std::atomic<std::uint64_t> version_{0};

    alignas(cache_line) mutable std::mutex swapping_;
    std::shared_ptr<Ring const> current_;
    mutable std::atomic<std::size_t> readers_{0};  // checks a precondition of the destructor

    alignas(cache_line) mutable std::mutex writing_;
    std::vector<std::shared_ptr<Ring const>> retired_;
};

/// One thread's view of a shared_ring. Each call looks up in the newest ring it can get without waiting. What
/// get(), find() and the like refer to lives until the next call of a member that is not const.
/// Versions never go backwards. Neither copied nor moved.
template <class Ring>
    requires std::copy_constructible<Ring>
class shared_ring<Ring>::reader {
  public:
    /// What version() gives after release().
    static constexpr std::uint64_t no_version = std::numeric_limits<std::uint64_t>::max();

    /// Takes the current ring: a short lock.
    explicit reader(shared_ring const& owner) : owner_(&owner) {
        take(std::unique_lock(owner.swapping_));
        owner.readers_.fetch_add(1, std::memory_order_relaxed);  // a count and no message: no order needed
    }
    ~reader() {
        snapshot_.reset();
        // release: pairs with the acquire in ~shared_ring.
        owner_->readers_.fetch_sub(1, std::memory_order_release);
    }
    reader(reader const&) = delete;
    reader& operator=(reader const&) = delete;

    /// The newest ring that can be had without waiting: the current one, or if another thread is just
    /// taking or publishing it, the one this reader has. Waits for the short lock only if it has none,
    /// which is at the first call after release().
    [[nodiscard]] Ring const& get() noexcept {
        // relaxed: the number only says whether to ask again. An equal number means the snapshot that we
        // hold, whose contents came to us through `swapping_`; for another one we go through `swapping_`
        // again. Coherence of a single atomic is enough for "never backwards", and for this: a thread that
        // has heard of an update, by whatever synchronises, does not read an older number here.
        if (owner_->version_.load(std::memory_order_relaxed) != version_) [[unlikely]]
            renew();
        return *snapshot_;
    }

    /// As get(), but waits for the short lock if it must: the ring is not older than the last update that
    /// happened before the call.
    Ring const& refresh() noexcept {
        if (owner_->version_.load(std::memory_order_relaxed) != version_)  // relaxed: as in get()
            take(std::unique_lock(owner_->swapping_));
        return *snapshot_;
    }

    /// The ring's find, try_find and find_n on get(); their preconditions hold.
    template <class Key>
    [[nodiscard]] decltype(auto) find(Key const& key) noexcept {
        return get().find(key);
    }
    template <class Key>
    [[nodiscard]] decltype(auto) try_find(Key const& key) noexcept {
        return get().try_find(key);
    }
    template <class Key, class Out>
    std::size_t find_n(Key const& key, Out&& out) noexcept {
        return get().find_n(key, std::forward<Out>(out));
    }

    /// The version of the ring that the last call used, or no_version after release().
    [[nodiscard]] std::uint64_t version() const noexcept { return version_; }

    /// Lets go of the snapshot, so that this reader keeps no old ring alive while it is idle.
    void release() noexcept {
        snapshot_.reset();
        version_ = no_version;
    }

  private:
    // Invariant: snapshot_ is the ring of version_; it is null exactly when version_ is no_version.

    void renew() noexcept {
        std::unique_lock lock(owner_->swapping_, std::defer_lock);
        if (!snapshot_)
            lock.lock();
        else if (!lock.try_lock())
            return;  // somebody is at it; what we have will do for this call
        take(std::move(lock));
    }

    void take(std::unique_lock<std::mutex> lock) noexcept {
        std::shared_ptr<Ring const> fresh = owner_->current_;
        version_ = owner_->version_.load(
            std::memory_order_relaxed);  // stored only inside `swapping_`, which we hold
        lock.unlock();
        snapshot_ = std::move(fresh);  // the old ring is current or in retired_: this is never its last owner
    }

    shared_ring const* owner_;
    std::shared_ptr<Ring const> snapshot_;
    std::uint64_t version_ = no_version;
};

}  // namespace cairn
