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

/// An array of free things. Only the thread that holds it changes it; `count` is atomic for onlookers.
struct magazine {
    static constexpr std::uint32_t largest = 64;
    explicit magazine(std::uint32_t rounds) noexcept : most(rounds) {}

    std::atomic<std::uint32_t> count{0};
    std::uint32_t const most;
    magazine* next = nullptr;  // in a list of the depot
    std::array<void*, largest> round;

    // relaxed throughout: what is in a magazine is handed to another thread by the depot's lock.
    [[nodiscard]] std::uint32_t size() const noexcept { return count.load(std::memory_order_relaxed); }
    void set_size(std::uint32_t n) noexcept { count.store(n, std::memory_order_relaxed); }
    void push(void* thing) noexcept {
        round[size()] = thing;
        set_size(size() + 1);
    }
    [[nodiscard]] void* pop() noexcept {
        set_size(size() - 1);
        return round[size()];
    }
    [[nodiscard]] bool full() const noexcept { return size() == most; }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
};

/// What all threads share. A pool has one, and so has each thread that uses the pool, so that its address
/// stays its own as long as a thread may compare with it.
class depot {
  public:
    /// @param rounds   things in a magazine.
    /// @param limit    how many things the depot keeps. What is more goes to `discard`, without a lock.
    depot(std::uint32_t rounds, std::size_t limit, void (*discard)(void*) noexcept) noexcept
        : rounds_(rounds), limit_(limit), discard_(discard) {}
    depot(depot const&) = delete;
    depot& operator=(depot const&) = delete;

    /// A magazine that is not empty, for an empty one; null if there is none.
    [[nodiscard]] magazine* full_for(magazine* empty) noexcept {
        std::lock_guard const lock(mutex_);
        if (full_ == nullptr) return nullptr;
        put(empty_, empty);
        stored_ -= full_->size();
        return get(full_);
    }
    /// An empty magazine for a full one. Null, and nothing has changed, if there is none and no memory for
    /// one, or if the depot has as much as it keeps.
    [[nodiscard]] magazine* empty_for(magazine* full) noexcept {
        std::lock_guard const lock(mutex_);
        if (stored_ + full->size() > limit_) return nullptr;
        magazine* const empty = empty_ != nullptr ? get(empty_) : make();
        if (empty == nullptr) return nullptr;
        stored_ += full->size();
        put(full_, full);
        return empty;
    }
    /// Two empty magazines for a thread that comes. @throws std::bad_alloc
    [[nodiscard]] std::pair<magazine*, magazine*> join() {
        std::lock_guard const lock(mutex_);
        magazine* const first = empty_ != nullptr ? get(empty_) : make();
        magazine* const second = empty_ != nullptr ? get(empty_) : make();
        if (second != nullptr) return {first, second};
        if (first != nullptr) put(empty_, first);
        throw std::bad_alloc();
    }
    /// Takes the magazines of a thread that goes, unless the pool has ended; that may happen at any time.
    void leave(magazine* first, magazine* second) noexcept {
        std::array<void*, 2 * magazine::largest> over;  // more than is kept: discarded when the lock is free
        std::size_t n = 0;
        {
            std::lock_guard const lock(mutex_);
            if (ended_) return;
            for (magazine* const m : {first, second}) {
                if (stored_ + m->size() > limit_)
                    while (!m->empty()) over[n++] = m->pop();
                stored_ += m->size();
                put(m->empty() ? empty_ : full_, m);
            }
        }
        while (n != 0) discard_(over[--n]);
    }
    /// Empties all magazines of the depot: calls `take` for each thing, without the lock, for what it does
    /// may come back here.
    template <class Take>
    void drain(Take take) noexcept {
        std::array<void*, magazine::largest> some;
        for (;;) {
            std::size_t n = 0;
            {
                std::lock_guard const lock(mutex_);
                if (full_ == nullptr) return;
                magazine* const m = get(full_);
                stored_ -= m->size();
                while (!m->empty()) some[n++] = m->pop();
                put(empty_, m);
            }
            while (n != 0) take(some[--n]);
        }
    }
    /// The pool ends: calls `take` for each thing in any magazine, those of threads too, and frees them all.
    /// Precondition: no thread is at work on the pool.
    template <class Take>
    void end(Take take) noexcept {
        std::vector<std::unique_ptr<magazine>> all;
        {
            std::lock_guard const lock(mutex_);
            ended_ = true;
            all.swap(all_);
            full_ = empty_ = nullptr;
        }
        for (auto const& m : all)
            while (!m->empty()) take(m->pop());
    }
    /// Things in all magazines: exact when no thread is at work.
    [[nodiscard]] std::size_t size() const noexcept {
        std::lock_guard const lock(mutex_);
        std::size_t n = 0;
        for (auto const& m : all_) n += m->size();
        return n;
    }
    [[nodiscard]] bool ended() const noexcept {
        std::lock_guard const lock(mutex_);
        return ended_;
    }

  private:
    static void put(magazine*& list, magazine* m) noexcept { m->next = std::exchange(list, m); }
    [[nodiscard]] static magazine* get(magazine*& list) noexcept { return std::exchange(list, list->next); }
    [[nodiscard]] magazine* make() noexcept {
        try {
            return all_.emplace_back(std::make_unique<magazine>(rounds_)).get();
        } catch (std::bad_alloc const&) {
            return nullptr;
        }
    }

    mutable std::mutex mutex_;
    magazine* full_ = nullptr;  // not empty
    magazine* empty_ = nullptr;
    std::size_t stored_ = 0;  // things in full_
    std::uint32_t rounds_;
    std::size_t limit_;
    void (*discard_)(void*) noexcept;
    bool ended_ = false;
    std::vector<std::unique_ptr<magazine>> all_;
};

/// The magazines that a thread has of one depot.
struct thread_magazines {
    depot* owner = nullptr;
    magazine* loaded = nullptr;
    magazine* previous = nullptr;
};

/// All that a thread has, and where it looks first. A plain thread_local: no guard, no call.
struct thread_directory {
    static constexpr std::size_t ways = 8;
    static inline constinit thread_magazines nobody{};
    std::array<thread_magazines*, ways> quick{&nobody, &nobody, &nobody, &nobody,
                                              &nobody, &nobody, &nobody, &nobody};
    bool ended = false;  // the thread is past the end of its magazines
    [[nodiscard]] static std::size_t way(depot const* owner) noexcept {
        return reinterpret_cast<std::uintptr_t>(owner) / 128 % ways;
    }
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
        for (auto const& one : all_) one->mine.owner->leave(one->mine.loaded, one->mine.previous);
    }
    /// The magazines of this depot, made if there are none. Null if there is no memory, or at the end of the
    /// thread: then one does without.
    [[nodiscard]] static thread_magazines* of(std::shared_ptr<depot> const& owner) noexcept {
        if (this_thread.ended) return nullptr;
        thread_local thread_registry registry;
        try {
            return registry.find(owner);
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
        thread_magazines*& quick = this_thread.quick[thread_directory::way(owner.get())];
        for (auto const& one : all_)
            if (one->mine.owner == owner.get()) return quick = &one->mine;
        std::erase_if(all_, [](auto const& one) {  // those of pools that have ended
            if (!one->mine.owner->ended()) return false;
            for (auto& at : this_thread.quick)
                if (at == &one->mine) at = &thread_directory::nobody;
            return true;
        });
        auto made = std::make_unique<entry>();
        all_.reserve(all_.size() + 1);
        auto const [loaded, previous] = owner->join();
        made->keeps = owner;
        made->mine = {owner.get(), loaded, previous};
        return quick = &all_.emplace_back(std::move(made))->mine;
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

    /// A free thing, or null if neither this thread nor the depot has one. One test and one load.
    [[nodiscard]] void* take() noexcept {
        thread_magazines* const mine = this_thread.quick[thread_directory::way(owner_)];
        if (mine->owner == owner_ && !mine->loaded->empty()) [[likely]]
            return mine->loaded->pop();
        return take_slowly();
    }
    /// False if it was not taken: there is no memory for a magazine, or the depot has enough.
    [[nodiscard]] bool give(void* thing) noexcept {
        thread_magazines* const mine = this_thread.quick[thread_directory::way(owner_)];
        if (mine->owner == owner_ && !mine->loaded->full()) [[likely]] {
            mine->loaded->push(thing);
            return true;
        }
        return give_slowly(thing);
    }
    [[nodiscard]] depot& shared() const noexcept { return *depot_; }

  private:
    [[nodiscard, gnu::noinline]] void* take_slowly() noexcept {
        thread_magazines* const mine = thread_registry::of(depot_);
        if (mine == nullptr) return nullptr;
        if (mine->loaded->empty()) {
            std::swap(mine->loaded, mine->previous);
            if (mine->loaded->empty()) {
                magazine* const full = depot_->full_for(mine->previous);
                if (full == nullptr) return nullptr;
                mine->previous = std::exchange(mine->loaded, full);
            }
        }
        return mine->loaded->pop();
    }
    [[nodiscard, gnu::noinline]] bool give_slowly(void* thing) noexcept {
        thread_magazines* const mine = thread_registry::of(depot_);
        if (mine == nullptr) return false;
        if (mine->loaded->full()) {
            std::swap(mine->loaded, mine->previous);
            if (mine->loaded->full()) {
                magazine* const empty = depot_->empty_for(mine->previous);
                if (empty == nullptr) return false;
                mine->previous = std::exchange(mine->loaded, empty);
            }
        }
        mine->loaded->push(thing);
        return true;
    }

    std::shared_ptr<depot> depot_;
    depot* owner_;
};

}  // namespace cairn::detail
