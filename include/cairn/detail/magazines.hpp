// SPDX-License-Identifier: MIT
// Free things, cached by each thread: magazines and a depot (Bonwick, Adams, "Magazines and Vmem", 2001).
//
// A stack of free things that all threads share makes its top travel from core to core at each operation. So
// each thread has two magazines of its own, arrays of free things, and takes and gives from these. Only when
// both are empty, or both full, does it go to the depot, under a lock, and exchange a whole magazine.
//
//     thread   [ loaded ]  [ previous ]        take: from loaded; empty? swap the two; both empty? then
//                  │            │                    exchange one for a full one of the depot
//     depot    [ full ] [ full ] …   [ empty ] …     give: the same, the other way
//
// Two, not one: a thread that takes and gives around a boundary would else go to the depot each time. A
// thread that ends leaves its magazines to the depot. There is no compare-and-swap loop, so no ABA: the depot
// is changed under its lock only, and a magazine is used by one thread at a time.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "assert.hpp"

namespace cairn::detail {

/// An array of free things, on sixteen lines of its own: two threads' magazines side by side in memory would
/// share one. A thread that has loaded it counts for itself, and `count` is 0 meanwhile.
struct alignas(128) magazine {
    static constexpr std::uint32_t largest = 126;
    explicit magazine(std::uint32_t rounds) noexcept : most(rounds) {}

    // relaxed throughout: for onlookers. What is in a magazine reaches another thread by the depot's locks.
    std::atomic<std::uint32_t> count{0};
    std::uint32_t const most;
    magazine* next = nullptr;  // in a list of the depot
    std::array<void*, largest> round;

    [[nodiscard]] std::uint32_t size() const noexcept { return count.load(std::memory_order_relaxed); }
    void set_size(std::size_t n) noexcept {
        count.store(static_cast<std::uint32_t>(n), std::memory_order_relaxed);
    }
    [[nodiscard]] void* pop() noexcept {
        std::uint32_t const n = size() - 1;
        set_size(n);
        return round[n];
    }
    // Its lines may be in another core's cache: these ask for all at once, in the order of their use.
    void call_to_take() const noexcept {
        for (std::uint32_t n = size(); n != 0; n -= std::min<std::uint32_t>(n, 8))
            __builtin_prefetch(&round[n - 1]);
    }
    void call_to_give() const noexcept {
        for (std::uint32_t i = 0; i < most; i += 8) __builtin_prefetch(&round[i], 1);
    }
    [[nodiscard]] bool full() const noexcept { return size() == most; }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
};
static_assert(sizeof(magazine) == 1024 || sizeof(void*) != 8);

class depot;

/// What a thread has of one depot. The loaded magazine is a stack, and its top stands here: a take is one
/// comparison with `begin`, and no count is looked up elsewhere (two threads on one core: 1.3 times faster).
struct thread_magazines {
    // relaxed, both: only its thread changes them, others look.
    std::atomic<void**> top{nullptr}, begin{nullptr};
    void** end = nullptr;
    depot* owner = nullptr;
    magazine *loaded = nullptr, *previous = nullptr;
    std::size_t shelf = 0;

    [[nodiscard]] void** now() const noexcept { return top.load(std::memory_order_relaxed); }
    [[nodiscard]] void** bottom() const noexcept { return begin.load(std::memory_order_relaxed); }
    void set(void** t) noexcept { top.store(t, std::memory_order_relaxed); }
    /// How many things are loaded; for onlookers, about so many.
    [[nodiscard]] std::size_t size() const noexcept {
        auto const n = static_cast<std::size_t>(now() - bottom());
        return n <= magazine::largest ? n : 0;
    }
    void load(magazine* m) noexcept {
        loaded = m;
        begin.store(m->round.data(), std::memory_order_relaxed);
        end = bottom() + m->most;
        set(bottom() + m->size());
        m->set_size(0);
    }
    [[nodiscard]] magazine* unload() noexcept {
        loaded->set_size(size());
        set(bottom());
        return loaded;
    }
    /// Previous becomes loaded, and the other way.
    void swap() noexcept {
        magazine* const was = unload();
        load(std::exchange(previous, was));
    }
    [[nodiscard]] bool none_left() const noexcept { return now() == bottom(); }
    [[nodiscard]] bool no_room() const noexcept { return now() == end; }
};

/// What all threads share. A pool has one, and so has each thread that uses the pool, so that its address
/// stays its own as long as a thread may compare with it.
class depot {
    /// Some of the magazines, under a lock of their own. A thread has one shelf that it goes to first.
    struct alignas(128) shelf {
        std::mutex mutex;
        std::atomic<magazine*> full{nullptr};  // not empty; atomic for a look without the lock
        magazine* empty = nullptr;
        std::atomic<std::size_t> stored{0};  // things in full; relaxed: changed under the lock, for onlookers
    };

  public:
    static constexpr std::size_t shelves = 8;

    /// @param rounds   things in a magazine.
    /// @param limit    how many things the depot keeps. What is more goes to `discard`, without a lock.
    depot(std::uint32_t rounds, std::size_t limit, void (*discard)(void*) noexcept) noexcept
        : rounds_(rounds), limit_(limit), discard_(discard) {}
    depot(depot const&) = delete;
    depot& operator=(depot const&) = delete;

    /// A magazine that is not empty, for an empty one; null if there is none. It comes from the thread's own
    /// shelf, else, if that may be, from another's.
    [[nodiscard]] magazine* full_for(magazine* empty, std::size_t home, bool from_others) noexcept {
        for (std::size_t i = 0; i < (from_others ? shelves : 1); ++i) {
            shelf& at = shelves_[(home + i) % shelves];
            // relaxed: a hint. What is read is read again under the lock.
            if (at.full.load(std::memory_order_relaxed) == nullptr) continue;
            std::lock_guard const lock(at.mutex);
            magazine* const full = get_full(at);
            if (full == nullptr) continue;
            put(at.empty, empty);
            return full;
        }
        return nullptr;
    }
    /// An empty magazine for a full one. Null, and nothing has changed, if there is none and no memory for
    /// one, or if the depot has as much as it keeps.
    [[nodiscard]] magazine* empty_for(magazine* full, std::size_t home) noexcept {
        shelf& at = shelf_of(home);
        magazine* empty = nullptr;
        for (int attempt = 0; attempt < 2; ++attempt) {
            {
                std::lock_guard const lock(at.mutex);
                if (empty != nullptr) put(at.empty, std::exchange(empty, nullptr));
                if (stored_in(at) + full->size() > limit_) return nullptr;
                if (at.empty != nullptr) {
                    put_full(at, full);
                    return get(at.empty);
                }
            }
            empty = make();
            if (empty == nullptr) return nullptr;
        }
        // Another thread has taken the one that was made. There is one more.
        std::lock_guard const lock(at.mutex);
        put_full(at, full);
        return empty;
    }
    /// Gives a thread that comes two empty magazines and a shelf. @throws std::bad_alloc
    void join(thread_magazines& mine) {
        std::lock_guard const lock(mutex_);
        members_.reserve(members_.size() + 1);
        magazine* const first = get_spare();
        magazine* const second = get_spare();
        if (second == nullptr) {
            if (first != nullptr) put(spare_, first);
            throw std::bad_alloc();
        }
        mine.owner = this;
        mine.previous = second;
        mine.shelf = joined_++ % shelves;
        mine.load(first);
        members_.push_back(&mine);
    }
    /// Takes the magazines of a thread that goes, unless the pool has ended; that may happen at any time.
    void leave(thread_magazines& mine) noexcept {
        std::array<void*, 2 * magazine::largest> over;  // more than is kept: discarded when no lock is held
        std::size_t n = 0;
        {
            std::lock_guard const lock(mutex_);
            if (ended_) return;
            std::erase(members_, &mine);
            shelf& at = shelf_of(mine.shelf);
            std::lock_guard const shelf_lock(at.mutex);
            for (magazine* const m : {mine.unload(), mine.previous}) {
                if (stored_in(at) + m->size() > limit_)
                    while (!m->empty()) over[n++] = m->pop();
                if (m->empty())
                    put(spare_, m);
                else
                    put_full(at, m);
            }
        }
        while (n != 0) discard_(over[--n]);
    }
    /// Empties all magazines of the depot: calls `take` for each thing, without a lock, for what it does
    /// may come back here.
    template <class Take>
    void drain(Take take) noexcept {
        std::array<void*, magazine::largest> some;
        for (shelf& at : shelves_)
            for (std::size_t n = 1; n != 0;) {
                n = 0;
                {
                    std::lock_guard const lock(at.mutex);
                    if (magazine* const m = get_full(at)) {
                        while (!m->empty()) some[n++] = m->pop();
                        put(at.empty, m);
                    }
                }
                for (std::size_t i = n; i != 0;) take(some[--i]);
            }
    }
    /// The pool ends: calls `take` for each thing in any magazine, those of threads too, and frees them all.
    /// Precondition: no thread is at work on the pool.
    template <class Take>
    void end(Take take) noexcept {
        std::vector<std::unique_ptr<magazine>> all;
        std::vector<thread_magazines*> members;
        {
            std::lock_guard const lock(mutex_);
            ended_ = true;
            all.swap(all_);
            members.swap(members_);
        }
        for (thread_magazines* const one : members) (void)one->unload();
        for (auto const& m : all)
            while (!m->empty()) take(m->pop());
    }
    /// Things in all magazines: exact when no thread is at work.
    [[nodiscard]] std::size_t size() const noexcept {
        std::lock_guard const lock(mutex_);
        std::size_t n = 0;
        for (auto const& m : all_) n += m->size();
        for (thread_magazines const* const one : members_) n += one->size();
        return n;
    }
    /// Things that any thread may take: about so many.
    [[nodiscard]] std::size_t stored() const noexcept {
        std::size_t n = 0;
        for (shelf const& at : shelves_) n += stored_in(at);
        return n;
    }
    [[nodiscard]] bool ended() const noexcept {
        std::lock_guard const lock(mutex_);
        return ended_;
    }

  private:
    [[nodiscard]] static std::size_t stored_in(shelf const& at) noexcept {
        return at.stored.load(std::memory_order_relaxed);
    }
    static void put(magazine*& list, magazine* m) noexcept { m->next = std::exchange(list, m); }
    [[nodiscard]] static magazine* get(magazine*& list) noexcept { return std::exchange(list, list->next); }
    // relaxed: under the shelf's lock, but for the hint in full_for().
    static void put_full(shelf& at, magazine* m) noexcept {
        at.stored.store(stored_in(at) + m->size(), std::memory_order_relaxed);
        m->next = at.full.load(std::memory_order_relaxed);
        at.full.store(m, std::memory_order_relaxed);
    }
    [[nodiscard]] static magazine* get_full(shelf& at) noexcept {
        magazine* const m = at.full.load(std::memory_order_relaxed);
        if (m == nullptr) return nullptr;
        at.full.store(m->next, std::memory_order_relaxed);
        at.stored.store(stored_in(at) - m->size(), std::memory_order_relaxed);
        return m;
    }
    /// A bound on what is kept is a bound for all threads together, so they share one shelf then.
    [[nodiscard]] shelf& shelf_of(std::size_t home) noexcept {
        return shelves_[limit_ == std::numeric_limits<std::size_t>::max() ? home : 0];
    }
    [[nodiscard]] magazine* make() noexcept {
        std::lock_guard const lock(mutex_);
        return get_spare();
    }
    [[nodiscard]] magazine* get_spare() noexcept {
        if (spare_ != nullptr) return get(spare_);
        try {
            return all_.emplace_back(std::make_unique<magazine>(rounds_)).get();
        } catch (std::bad_alloc const&) {
            return nullptr;
        }
    }

    // mutex_ is taken before a shelf's, if both are.
    std::array<shelf, shelves> shelves_;
    mutable std::mutex mutex_;  // for what follows
    magazine* spare_ = nullptr;
    std::size_t joined_ = 0;
    std::uint32_t rounds_;
    std::size_t limit_;
    void (*discard_)(void*) noexcept;
    bool ended_ = false;
    std::vector<std::unique_ptr<magazine>> all_;
    std::vector<thread_magazines*> members_;
};

/// All that a thread has, and where it looks first. A plain thread_local: no guard, no call.
struct thread_directory {
    static constexpr std::size_t ways = 8;
    static inline constinit thread_magazines nobody{};
    std::array<thread_magazines*, ways> quick{&nobody, &nobody, &nobody, &nobody,
                                              &nobody, &nobody, &nobody, &nobody};
    bool ended = false;  // the thread is past the end of its magazines
};
inline constinit thread_local thread_directory this_thread;

/// Owns a thread's magazines, and hands them back at its end.
class thread_registry {
  public:
    thread_registry() = default;
    thread_registry(thread_registry const&) = delete;
    thread_registry& operator=(thread_registry const&) = delete;
    ~thread_registry() {
        this_thread = {};
        this_thread.ended = true;
        for (auto const& one : all_) one->keeps->leave(one->mine);
    }
    /// The magazines of this depot, made if there are none, and found in this way from now on. Null if there
    /// is no memory, or at the end of the thread: then one does without.
    [[nodiscard]] static thread_magazines* of(std::shared_ptr<depot> const& owner, std::size_t way) noexcept {
        if (this_thread.ended) return nullptr;
        thread_local thread_registry registry;
        try {
            return this_thread.quick[way] = registry.find(owner);
        } catch (std::bad_alloc const&) {
            return nullptr;
        }
    }

  private:
    struct entry {
        std::shared_ptr<depot> keeps;  // its address must not be another's as long as it is compared
        thread_magazines mine;
    };
    [[nodiscard]] thread_magazines* find(std::shared_ptr<depot> const& owner) {
        for (auto const& one : all_)
            if (one->keeps == owner) return &one->mine;
        std::erase_if(all_, [](auto const& one) {  // those of pools that have ended
            if (!one->keeps->ended()) return false;
            for (auto& at : this_thread.quick)
                if (at == &one->mine) at = &thread_directory::nobody;
            return true;
        });
        all_.reserve(all_.size() + 1);
        auto made = std::make_unique<entry>();
        owner->join(made->mine);
        made->keeps = owner;
        return &all_.emplace_back(std::move(made))->mine;
    }

    std::vector<std::unique_ptr<entry>> all_;
};

/// The face that pools use: take and give by this thread's magazines.
class magazine_cache {
  public:
    explicit magazine_cache(std::uint32_t rounds = magazine::largest,
                            std::size_t limit = std::numeric_limits<std::size_t>::max(),
                            void (*discard)(void*) noexcept = nullptr)
        : depot_(std::make_shared<depot>(rounds, limit, discard)), owner_(depot_.get()) {}

    /// A free thing of this thread's magazine, or null: then take() must be tried.
    [[nodiscard]] void* take_at_once() noexcept {
        thread_magazines& mine = *this_thread.quick[way_];
        void** const top = mine.now();
        if (mine.owner != owner_ || top == mine.bottom()) [[unlikely]]
            return nullptr;
        mine.set(top - 1);
        void* const thing = top[-1];
        if (thing == nullptr) __builtin_unreachable();  // so that the caller does not ask again
        return thing;
    }
    /// A free thing, or null if neither this thread nor the depot has one. What other threads have left in
    /// the depot lies in their caches, and beside things that they have: `from_others` says whether to ask.
    [[nodiscard, gnu::noinline]] void* take(bool from_others = true) noexcept {
        thread_magazines* const mine = here();
        if (mine == nullptr) return nullptr;
        if (mine->none_left()) {
            if (!mine->previous->empty()) {
                mine->swap();
            } else {
                magazine* const full = depot_->full_for(mine->previous, mine->shelf, from_others);
                if (full == nullptr) return nullptr;
                full->call_to_take();
                mine->previous = mine->unload();
                mine->load(full);
            }
        }
        return take_at_once();
    }
    /// Takes a thing if this thread's magazine has room at once. Else false: then give() must be tried.
    [[nodiscard]] bool give_at_once(void* thing) noexcept {
        thread_magazines& mine = *this_thread.quick[way_];
        void** const top = mine.now();
        if (mine.owner != owner_ || top == mine.end) [[unlikely]]
            return false;
        *top = thing;
        mine.set(top + 1);
        return true;
    }
    /// False if it was not taken: there is no memory for a magazine, or the depot has enough.
    [[nodiscard, gnu::noinline]] bool give(void* thing) noexcept {
        thread_magazines* const mine = here();
        if (mine == nullptr) return false;
        if (mine->no_room()) {
            if (!mine->previous->full()) {
                mine->swap();
            } else {
                magazine* const empty = depot_->empty_for(mine->previous, mine->shelf);
                if (empty == nullptr) return false;
                empty->call_to_give();
                mine->previous = mine->unload();
                mine->load(empty);
            }
        }
        return give_at_once(thing);
    }
    [[nodiscard]] depot& shared() const noexcept { return *depot_; }

  private:
    [[nodiscard]] thread_magazines* here() noexcept {
        thread_magazines* const mine = this_thread.quick[way_];
        return mine->owner == owner_ ? mine : thread_registry::of(depot_, way_);
    }
    // Pools take turns, so that the first eight of a program are found at once by every thread.
    static inline std::atomic<std::size_t> made{0};  // relaxed: any number will do

    std::shared_ptr<depot> depot_;
    depot* owner_;
    std::size_t way_ = made.fetch_add(1, std::memory_order_relaxed) % thread_directory::ways;
};

}  // namespace cairn::detail
