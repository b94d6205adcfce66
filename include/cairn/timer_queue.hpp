// SPDX-License-Identifier: MIT
// A queue of deadlines: add, refresh, cancel, and fire in order.
//
// A server has a timer for each connection, and moves it at each request: "idle for 30 seconds" begins anew.
// Nearly no timer ever fires. A sorted set pays for the order at each move, a heap for sifting. Here a timer
// that is moved to a later time only notes it: its place in the heap stays, and when that comes to the top it
// is looked up and sifted down once. So a refresh is a store.
//
//     heap of four children a node   { when, sequence, slot } …      4 siblings on one line; hot
//     slots                          { deadline, generation } value  an id names a slot and a generation
//
//   operation            costs                                         memory
//   ------------------   ------------------------------------------- ---------------------------------------
//   add                  O(log n), mostly O(1); 11 to 20 ns, 10,000    36 bytes and T, in chunks
//   rearm, to later      O(1), 4 ns                                    none
//   rearm, to earlier    O(log n)                                      none
//   cancel               O(log n), 20 ns in order, 32 at random        none
//   fire                 O(log n) each, and one sift for each period   none
//                        in which a timer was refreshed
//
// Equal deadlines fire in the order in which they were set. Nothing fires early: time is what the caller says
// it is. Values stay where they are until their timer is gone.
//
// When not to use it: for some ten timers (a sorted vector is as fast).
// Sources: Johnson, d-ary heaps (1975); Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987),
// which this ties with for refreshes, without ticks.
// Thread safety: one thread at a time.
//
//   using namespace std::chrono_literals;
//   cairn::timer_queue<std::string> queue;
//   std::chrono::steady_clock::time_point const start{};
//   auto const idle = queue.add(start + 30s, "idle");
//   (void)queue.add(start + 10s, "report");
//   queue.rearm(idle, start + 45s);  // a request came
//   auto const print = [](auto, std::string& what) { std::cout << what << '\n'; };
//   std::cout << queue.fire(start + 40s, print) << ' ' << queue.size() << '\n';  // report, then 1 1
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "detail/assert.hpp"

namespace cairn {

/// @tparam T      what a timer carries: any object type. It stays where it is until its timer is gone.
/// @tparam Clock  whose time_points are the deadlines. The queue never asks it for the time.
template <class T, class Clock = std::chrono::steady_clock>
class timer_queue {
    static_assert(std::is_object_v<T> && std::is_nothrow_destructible_v<T>);

  public:
    using value_type = T;
    using time_point = typename Clock::time_point;
    using duration = typename Clock::duration;

    /// Names a timer, also after it is gone: then nothing answers to it. A default one names none.
    class id {
      public:
        id() noexcept = default;
        [[nodiscard]] friend bool operator==(id, id) noexcept = default;

      private:
        friend timer_queue;
        id(std::uint32_t slot, std::uint32_t generation) noexcept : slot_(slot), generation_(generation) {}
        std::uint32_t slot_ = none;
        std::uint32_t generation_ = 0;
    };

    /// An empty queue. Allocates nothing.
    timer_queue() noexcept = default;
    timer_queue(timer_queue const&) = delete;
    timer_queue& operator=(timer_queue const&) = delete;
    ~timer_queue() { clear(); }

    /// A new timer, due at `when`, with the value T(args...). O(log n), mostly O(1); amortized for memory.
    /// @throws std::bad_alloc and what the constructor throws; nothing has changed then.
    template <class... Args>
        requires std::is_constructible_v<T, Args...>
    [[nodiscard]] id add(time_point when, Args&&... args) {
        if (free_ == none) grow();
        std::uint32_t const slot = free_;
        free_ = std::exchange(places_[slot], none);
        try {
            ::new (static_cast<void*>(values_[slot / chunk]->of[slot % chunk]))
                T(std::forward<Args>(args)...);
        } catch (...) {
            places_[slot] = std::exchange(free_, slot);
            throw;
        }
        ++size_;
        ++requests_[slot].generation;
        arm(slot, when);
        return {slot, requests_[slot].generation};
    }

    /// Sets a new deadline. O(1) if it is not earlier than the one before, else O(log n). Allocates nothing.
    /// Within fire(), the timer that fires may be armed again. False if there is no such timer.
    bool rearm(id timer, time_point when) noexcept {
        if (!contains(timer)) return false;
        arm(timer.slot_, when);
        return true;
    }

    /// Ends a timer and destroys its value: at once, or if it is the one that fires, when its call returns.
    /// O(log n), mostly O(1). False if there is no such timer.
    bool cancel(id timer) noexcept {
        if (!contains(timer)) return false;
        std::uint32_t const slot = timer.slot_;
        if (places_[slot] != none) take_out(places_[slot]);
        retire(slot);
        if (slot != firing_) give_back(slot);
        return true;
    }

    /// Whether the timer is there: it waits, or it fires just now.
    [[nodiscard]] bool contains(id timer) const noexcept {
        return timer.slot_ < requests_.size() && requests_[timer.slot_].generation == timer.generation_;
    }
    /// The value of a timer, or nullptr.
    [[nodiscard]] T* find(id timer) noexcept { return contains(timer) ? value(timer.slot_) : nullptr; }
    /// The deadline of a timer; of the one that fires, if it was not armed again, that at which it was due.
    [[nodiscard]] std::optional<time_point> deadline(id timer) const noexcept {
        if (!contains(timer)) return std::nullopt;
        return time_point(duration(requests_[timer.slot_].when));
    }

    /// Calls f(id, value) for each timer that is due at `now`, in the order of their deadlines, and of equal
    /// deadlines in the order in which they were set. A timer is gone when its call returns, unless the call
    /// armed it again. f may add, rearm and cancel any timer; what is armed meanwhile waits for the next call
    /// of fire(), even if due. If f returns false, or throws, the others stay due. Returns the number of
    /// calls. Precondition: not called by f.
    template <class F>
        requires std::invocable<F&, id, T&>
    std::size_t fire(time_point now, F&& f) {
        CAIRN_ASSERT(firing_ == none && "fire() within fire()");
        rep const time = now.time_since_epoch().count();
        std::size_t calls = 0;
        if (armed_ == 0 || at(root).when > time) return calls;
        // Nothing is armed for before `now` meanwhile, so that it comes behind all that is due already.
        struct round {
            timer_queue& queue;
            ~round() { queue.floor_ = std::numeric_limits<rep>::lowest(); }
        } const scope{*this};
        floor_ = time;
        std::uint32_t const end = sequence_;
        while (armed_ != 0 && at(root).when <= time) {
            entry const top = at(root);
            request const& set = requests_[top.slot];
            if (set.when != top.when ||
                set.sequence != top.sequence) {  // it was put off: to where it belongs
                sift_down(root, {set.when, set.sequence, top.slot});
                continue;
            }
            if (top.when == time && !before(top.sequence, end)) break;  // armed meanwhile
            ++calls;
            if (!call(top.slot, f)) break;
        }
        return calls;
    }

    /// No timer is due before this; nothing if there are none. It is the earliest deadline, or, after that
    /// was extended, an earlier time: fire() then calls nothing and knows better. O(1).
    [[nodiscard]] std::optional<time_point> next() const noexcept {
        if (armed_ == 0) return std::nullopt;
        return time_point(duration(at(root).when));
    }

    /// How many timers there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    /// Makes room for n timers in all. @throws std::bad_alloc
    void reserve(std::size_t n) {
        while (requests_.size() < n) grow();
    }
    /// Cancels all.
    void clear() noexcept {
        for (std::uint32_t slot = 0; size_ != 0 && slot != requests_.size(); ++slot)
            if (requests_[slot].generation % 2 == 1) cancel({slot, requests_[slot].generation});
    }

  private:
    using rep = typename duration::rep;
    static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
    static constexpr std::uint32_t chunk = 256;

    // A slot is a timer's number. Invariants: its generation is odd while the timer is there, and its value
    // is alive then. Its place is where it stands in the heap, or none; of a free slot, the next free one.
    // What the heap says of a timer is what was asked for last, or, if that was put off, an earlier time.
    struct entry {
        rep when;
        std::uint32_t sequence, slot;
    };
    struct request {
        rep when;
        std::uint32_t sequence, generation;
    };
    struct alignas(64) siblings {  // four, on one line
        entry of[4];
    };
    struct values {
        alignas(T) std::byte of[chunk][sizeof(T)];
    };

    // Equal deadlines are ordered by a count of 32 bits that wraps: right as long as the two were set less
    // than 2^31 settings apart.
    [[nodiscard]] static bool before(std::uint32_t a, std::uint32_t b) noexcept {
        return static_cast<std::int32_t>(a - b) < 0;
    }
    [[nodiscard]] static bool before(entry const& a, entry const& b) noexcept {
        return a.when < b.when || (a.when == b.when && before(a.sequence, b.sequence));
    }

    // The root is at 3, so that the children of i, at 4(i - 2) and on, begin a line.
    static constexpr std::uint32_t root = 3;
    [[nodiscard]] static constexpr std::uint32_t parent(std::uint32_t i) noexcept { return i / 4 + 2; }
    [[nodiscard]] entry& at(std::uint32_t i) noexcept { return heap_[i / 4].of[i % 4]; }
    [[nodiscard]] entry const& at(std::uint32_t i) const noexcept { return heap_[i / 4].of[i % 4]; }
    void put(std::uint32_t i, entry const& item) noexcept {
        at(i) = item;
        places_[item.slot] = i;
    }

    [[nodiscard]] T* value(std::uint32_t slot) noexcept {
        return std::launder(reinterpret_cast<T*>(values_[slot / chunk]->of[slot % chunk]));
    }

    void arm(std::uint32_t slot, time_point deadline) noexcept {
        request& set = requests_[slot];
        rep const when = std::max(deadline.time_since_epoch().count(), floor_);
        bool const put_off = when >= set.when && places_[slot] != none;
        set.when = when;
        set.sequence = sequence_++;
        if (put_off) return;
        std::uint32_t const place = places_[slot];
        if (place == none)
            sift_up(root + armed_++, {when, set.sequence, slot});
        else if (when < at(place).when)
            sift_up(place, {when, set.sequence, slot});
    }

    void sift_up(std::uint32_t i, entry const& item) noexcept {
        while (i != root && before(item, at(parent(i)))) {
            put(i, at(parent(i)));
            i = parent(i);
        }
        put(i, item);
    }
    void sift_down(std::uint32_t i, entry const& item) noexcept {
        std::uint32_t const end = root + armed_;
        for (;;) {
            std::uint32_t const first = 4 * (i - 2);
            if (first >= end) break;
            std::uint32_t least = first;
            for (std::uint32_t k = first + 1; k < std::min(first + 4, end); ++k)
                if (before(at(k), at(least))) least = k;
            if (!before(at(least), item)) break;
            put(i, at(least));
            i = least;
        }
        put(i, item);
    }
    void take_out(std::uint32_t i) noexcept {
        places_[at(i).slot] = none;
        entry const last = at(root + --armed_);
        if (i == root + armed_) return;
        if (i != root && before(last, at(parent(i))))
            sift_up(i, last);
        else
            sift_down(i, last);
    }

    template <class F>
    bool call(std::uint32_t slot, F& f) {
        take_out(root);
        struct call_end {
            timer_queue& queue;
            id timer;
            ~call_end() {
                queue.firing_ = none;
                bool const cancelled = !queue.contains(timer);
                if (!cancelled && queue.places_[timer.slot_] != none) return;  // it was armed again
                if (!cancelled) queue.retire(timer.slot_);
                queue.give_back(timer.slot_);
            }
        } const end{*this, id(slot, requests_[slot].generation)};
        firing_ = slot;
        if constexpr (std::is_same_v<std::invoke_result_t<F&, id, T&>, bool>) {
            return std::invoke(f, end.timer, *value(slot));
        } else {
            std::invoke(f, end.timer, *value(slot));
            return true;
        }
    }

    /// From here on no id names the slot.
    void retire(std::uint32_t slot) noexcept {
        ++requests_[slot].generation;
        --size_;
    }
    void give_back(std::uint32_t slot) noexcept {
        std::destroy_at(value(slot));
        places_[slot] = std::exchange(free_, slot);
    }
    /// More slots. The heap has room for all of them, so that no rearm() allocates.
    [[gnu::noinline]] void grow() {
        auto const n = static_cast<std::uint32_t>(requests_.size());
        if (n > none - 2 * chunk) throw std::length_error("timer_queue: 4294966784 timers are the most");
        values_.reserve(values_.size() + 1);
        values_.push_back(std::make_unique_for_overwrite<values>());
        try {
            heap_.resize((root + n + chunk + 3) / 4);
            places_.reserve(n + chunk);
            requests_.resize(n + chunk);
        } catch (...) {
            values_.pop_back();
            throw;
        }
        places_.resize(n + chunk);
        for (std::uint32_t slot = n + chunk; slot-- != n;) places_[slot] = std::exchange(free_, slot);
    }

    std::vector<siblings> heap_;
    std::vector<request> requests_;  // by slot, as are the next two
    std::vector<std::uint32_t> places_;
    std::vector<std::unique_ptr<values>> values_;
    std::uint32_t armed_ = 0;  // entries in the heap
    std::uint32_t sequence_ = 0;
    std::uint32_t free_ = none;
    std::uint32_t firing_ = none;
    std::size_t size_ = 0;
    rep floor_ = std::numeric_limits<rep>::lowest();  // nothing is armed for an earlier time
};

}  // namespace cairn
