// SPDX-License-Identifier: MIT
// The producers' side of a batcher: lanes, what happens when one is full, and what the flusher shares.
//
// A lane is a queue from one producer to the flusher, and a mark. The mark closes the one gap that such a
// queue leaves: a push that found the lane open must be seen by who closes it. So push sets the mark, looks
// whether the lane is closed, publishes, and takes the mark back; who closes first closes the lane, then
// waits until the mark is gone, and then looks into the queue for the last time.
//
//   push                                          close
//   inside = true        (relaxed)                closed = true
//   light_fence          (nothing, see below)     heavy_fence        (all threads pass a fence)
//   closed? then go                               inside? then wait  (acquire)
//   slot, published      (release, the queue's)
//   inside = false       (release)                look into the queue
//
// A push that did not see `closed` had set its mark before the heavy fence, so its mark is seen, until it has
// published. Where the system has no such fence, the first two steps of both sides are seq_cst.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "../batch_options.hpp"
#include "../spsc_queue.hpp"
#include "batch_process.hpp"

namespace cairn::detail {

/// A count that one thread writes and others read.
class tally {
  public:
    // relaxed: no data comes with a count.
    void add(std::uint64_t n) noexcept { n_.store(get() + n, std::memory_order_relaxed); }
    void at_least(std::uint64_t n) noexcept {
        if (n > get()) n_.store(n, std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t get() const noexcept { return n_.load(std::memory_order_relaxed); }

  private:
    std::atomic<std::uint64_t> n_{0};
};

/// now + wait, or the end of time.
template <class TimePoint>
[[nodiscard]] TimePoint later(TimePoint now, std::chrono::nanoseconds wait) noexcept {
    return wait < TimePoint::max() - now
               ? now + std::chrono::duration_cast<typename TimePoint::duration>(wait)
               : TimePoint::max();
}

template <class T>
struct batch_lane {
    explicit batch_lane(std::size_t capacity) : events(capacity) {}

    // A full lane is waited for elsewhere, so the queue itself never waits.
    spsc_queue<T, dynamic_capacity, std::allocator<T>, spin, compact_layout> events;

    struct alignas(apart) producer {
        std::atomic<bool> inside{false};
        bool plain = true;        // push may take the short way
        std::uint32_t forks = 0;  // when the lane was made
        std::uint32_t id = 0;     // of the producer that has the lane now
        std::uint64_t base = 0;   // accepted before that producer
        tally accepted, rejected, dropped_newest, blocked, blocked_ns, bytes;
    } in;
    struct alignas(apart) flusher {
        tally delivered, dead, abandoned;
        tally dropped_oldest;      // by who holds `oldest`
        std::uint64_t taken = 0;   // events that have left the queue, for whatever reason
        std::uint64_t target = 0;  // a flush waits until this many are taken
        std::uint64_t bytes = 0;   // taken
        std::size_t seen = 0;      // ready at the last look
    } out;
    std::mutex oldest;      // drop_oldest: who holds it is the consumer
    bool returned = false;  // its producer is gone; guarded by batch_lanes::mutex
    bool unused = false;    // and it is empty: it may have a new one

    [[nodiscard]] std::uint64_t settled() const noexcept {
        return out.delivered.get() + out.dead.get() + out.abandoned.get() + out.dropped_oldest.get();
    }
};

/// Who waits how when there is no room.
struct batch_manner {
    overflow_policy policy;
    std::chrono::nanoseconds limit = forever;
    bool keeps = false;  // the caller keeps the event, so it is not lost if it is refused
    bool quiet = false;  // the caller counts refusals: it may wait and try again
};

/// What the flusher and the producers share, and the way in.
template <class T, class Clock>
class batch_lanes {
  public:
    using lane = batch_lane<T>;

    batch_lanes(batch_options o, batch_hooks<T> h) : options(std::move(o)), hooks(std::move(h)) {
        auto const require = [](bool holds, char const* what, auto value) {
            if (!holds)
                throw std::invalid_argument(std::string("batcher: ") + what + ", not " +
                                            std::to_string(value));
        };
        require(options.max_batch >= 1, "max_batch must be at least 1", options.max_batch);
        require(options.capacity >= 1 && options.capacity <= 0x7FFF'FFFF,
                "capacity must be between 1 and 2147483647", options.capacity);
        require(options.linger.count() >= 0, "linger must not be negative", options.linger.count());
        require(options.retry.attempts >= 1, "retry.attempts must be at least 1", options.retry.attempts);
        require(options.retry.jitter >= 0 && options.retry.jitter <= 1,
                "retry.jitter must be between 0 and 1", options.retry.jitter);
        require(options.max_bytes == 0 || hooks.size_of, "max_bytes needs the hook size_of; it must be 0",
                options.max_bytes);
        if (options.on_full == overflow_policy::drop_oldest && !std::is_nothrow_move_constructible_v<T>)
            throw std::invalid_argument("batcher: drop_oldest needs events whose move does not throw");
        count_forks();
        born = forks();
    }

    [[nodiscard]] bool is_forked() const noexcept { return born != forks(); }
    [[nodiscard]] bool is_flusher() const noexcept {
        // relaxed: a thread compares with its own number only.
        return flusher.load(std::memory_order_relaxed) == std::this_thread::get_id();
    }

    [[nodiscard]] batch_manner usual() const noexcept { return {options.on_full, options.max_block}; }

    /// A lane for a new producer: one that is unused, or a new one.
    [[nodiscard]] lane* make_lane() {
        if (is_forked()) throw std::logic_error("batcher: no producer can be made in a forked child");
        std::unique_lock lock(mutex);
        for (auto const& old : all)
            if (old->unused) {
                old->unused = old->returned = false;
                old->in.id = ++producers;
                old->in.base = old->in.accepted.get();
                return old.get();
            }
        lock.unlock();  // memory is touched without the lock, which the flusher needs
        auto made = std::make_unique<lane>(options.capacity);
        made->in.forks = born;
        made->in.plain = one_sided_fences() && options.max_bytes == 0;
        lock.lock();
        made->in.id = ++producers;
        if (refusal.load(std::memory_order_relaxed) != push_result::ok) made->events.close();
        all.push_back(std::move(made));
        return all.back().get();
    }
    void give_back(lane& l) noexcept {
        if (is_forked()) return;
        std::lock_guard const lock(mutex);
        l.returned = true;
    }

    /// The way in: an event T(args...) for lane l. manner() says what to do if there is no room.
    template <class Manner, class... Args>
    [[gnu::always_inline]] push_result offer(lane& l, Manner manner, Args&&... args) {
        if (l.in.forks != forks()) [[unlikely]]
            return push_result::forked;
        l.events.become_producer();
        if (l.in.plain) [[likely]] {
            inside const mark(l);
            if (l.events.try_emplace(std::forward<Args>(args)...)) [[likely]] {
                l.in.accepted.add(1);
                return push_result::ok;
            }
        }
        return offer_slowly(l, manner(), std::forward<Args>(args)...);
    }

    /// Many, in runs where copying cannot throw. Stops at the first that is refused; dropped ones are passed.
    std::size_t offer_n(lane& l, batch_manner manner, std::span<T const> events) {
        if (l.in.forks != forks()) return 0;
        l.events.become_producer();
        std::size_t accepted = 0;
        while (!events.empty()) {
            if constexpr (std::is_nothrow_copy_constructible_v<T>) {
                if (l.in.plain) {
                    inside const mark(l);
                    std::size_t const n = l.events.try_push_n(events);
                    l.in.accepted.add(n);
                    accepted += n;
                    events = events.subspan(n);
                    if (events.empty()) break;
                }
            }
            push_result const result = offer_slowly(l, manner, events.front());
            if (result == push_result::ok)
                ++accepted;
            else if (result != push_result::dropped)
                break;
            events = events.subspan(1);
        }
        return accepted;
    }

    /// Counts an event that is refused, and shows it to the hook if it is lost for want of room.
    template <class... Args>
    void give_up(lane& l, batch_manner manner, push_result why, Args&&... args) {
        (why == push_result::dropped ? l.in.dropped_newest : l.in.rejected).add(1);
        if (manner.keeps || !hooks.on_drop) return;
        if (why != push_result::full && why != push_result::timed_out && why != push_result::dropped &&
            why != push_result::would_deadlock)
            return;
        T lost(std::forward<Args>(args)...);
        hooks.on_drop(lost, why);
    }

    /// Waits until has_room() or a refusal (ok: try again), or the deadline (timed_out). The deadline is set
    /// by the first of several waits for one event.
    template <class HasRoom>
    [[nodiscard]] push_result wait_for_room(lane& l, std::chrono::nanoseconds limit,
                                            std::optional<typename Clock::time_point>& deadline,
                                            HasRoom has_room) {
        if (is_flusher()) return push_result::would_deadlock;
        auto const since = Clock::now();
        if (!deadline) {
            deadline = later(since, limit);
            l.in.blocked.add(1);
        }
        auto const over = [&] {
            return has_room() || refusal.load(std::memory_order_relaxed) != push_result::ok;
        };
        bool const in_time = wait_until_over(*deadline, over);
        auto const waited = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - since);
        l.in.blocked_ns.add(static_cast<std::uint64_t>(waited.count()));
        return in_time ? push_result::ok : push_result::timed_out;
    }

    /// Refuses all pushes from now on. Call with the mutex.
    void refuse(push_result why) noexcept {
        refusal.store(
            why, std::memory_order_seq_cst);  // pairs with offer_slowly(), where fences are not one-sided
        for (auto const& l : all) l->events.close();
        heavy_fence();
        room.notify_all();
    }
    /// Makes the flusher look. Call with the mutex.
    void call_flusher() noexcept {
        called = true;
        if (asleep) awake.notify_one();
    }

    batch_options const options;
    batch_hooks<T> const hooks;

    std::mutex mutex;  // for what follows, up to the blank line
    std::condition_variable awake, room, done;
    bool called = false, asleep = false;
    std::size_t waiting = 0;  // producers
    std::vector<std::unique_ptr<lane>> all;
    std::uint32_t producers = 0;

    std::atomic<push_result> refusal{push_result::ok};
    std::atomic<std::thread::id> flusher{};  // who calls the sink and the hooks
    std::uint32_t born = 0;

  private:
    struct inside {
        lane& l;
        explicit inside(lane& into) noexcept : l(enter(into)) {}
        // A function, so that the fence comes before the object: one that is alive at a fence has to lie in
        // memory, and push would read from there where its lane is.
        static lane& enter(lane& into) noexcept {
            into.in.inside.store(true, std::memory_order_relaxed);  // see the head of this file
            light_fence();
            return into;
        }
        // release: pairs with the acquire in the flusher's drained(): the event is published.
        ~inside() { l.in.inside.store(false, std::memory_order_release); }
        inside(inside const&) = delete;
        inside& operator=(inside const&) = delete;
    };

    /// The same with all that is rare: a limit of bytes, a full lane, a closed one, no one-sided fences.
    template <class... Args>
    [[gnu::noinline]] push_result offer_slowly(lane& l, batch_manner manner, Args&&... args) {
        if constexpr (!(sizeof...(Args) == 1 && (std::is_same_v<std::remove_cvref_t<Args>, T> && ...))) {
            // Both a measure and a hook want the event itself.
            if (hooks.size_of || hooks.on_drop)
                return offer_slowly(l, manner, T(std::forward<Args>(args)...));
        }
        std::size_t const bytes = measure(args...);
        push_result result = push_result::too_large;
        if (options.max_bytes == 0 || bytes <= options.max_bytes) {
            std::optional<typename Clock::time_point> deadline;
            do {
                result = try_once(l, bytes, std::forward<Args>(args)...);
                if (result != push_result::full) break;
                result = make_room(l, manner, deadline);
            } while (result == push_result::ok);
        }
        if (result != push_result::ok && !manner.quiet)
            give_up(l, manner, result, std::forward<Args>(args)...);
        return result;
    }
    template <class... Args>
    [[nodiscard]] push_result try_once(lane& l, std::size_t bytes, Args&&... args) {
        inside const mark(l);
        // seq_cst, both: where fences are not one-sided, pairs with refuse() and the flusher's drained().
        l.in.inside.store(true, std::memory_order_seq_cst);
        push_result refused = refusal.load(std::memory_order_seq_cst);
        if (refused != push_result::ok) return refused;
        if (!l.events.try_emplace(std::forward<Args>(args)...)) {
            refused = refusal.load(std::memory_order_relaxed);
            return refused == push_result::ok ? push_result::full : refused;
        }
        l.in.bytes.add(bytes);
        l.in.accepted.add(1);
        return push_result::ok;
    }
    template <class... Args>
    [[nodiscard]] std::size_t measure(Args const&... args) const {
        if constexpr (sizeof...(Args) == 1 && (std::is_same_v<Args, T> && ...))
            if (hooks.size_of) return hooks.size_of(args...);
        return 0;
    }
    /// ok: there is room, or was; try again. Else what push is to answer.
    [[nodiscard]] push_result make_room(lane& l, batch_manner manner,
                                        std::optional<typename Clock::time_point>& deadline) {
        switch (manner.policy) {
            case overflow_policy::fail:
                return push_result::full;
            case overflow_policy::drop_newest:
                return push_result::dropped;
            case overflow_policy::drop_oldest:
                return drop_oldest(l);
            case overflow_policy::block:
                break;
        }
        return wait_for_room(l, manner.limit, deadline, [&l] { return !l.events.reserve(1).empty(); });
    }
    template <class Over>
    [[nodiscard]] bool wait_until_over(typename Clock::time_point deadline, Over over) {
        {
            std::lock_guard const lock(mutex);
            call_flusher();
        }
        // A quick sink makes room before a sleep has begun.
        for (int looks = 0; looks != 100; ++looks) {
            if (over()) return true;
            looks < 50 ? relax() : std::this_thread::yield();
        }
        std::unique_lock lock(mutex);
        ++waiting;  // under the mutex, which the flusher takes after it has made room: one of us sees the
                    // other
        bool in_time = true;
        while (!over() && in_time) {
            if (deadline == Clock::time_point::max()) {
                room.wait(lock);
            } else {
                Clock::wait_until(room, lock, deadline);
                in_time = Clock::now() < deadline;
            }
        }
        --waiting;
        return in_time || over();
    }
    [[nodiscard]] push_result drop_oldest(lane& l) {
        if constexpr (std::is_nothrow_move_constructible_v<T>) {
            std::optional<T> lost;
            {
                std::lock_guard const lock(l.oldest);
                l.events.become_consumer();
                if (T* const event = l.events.front()) {
                    if (options.max_bytes != 0) l.out.bytes += measure(*event);
                    if (hooks.on_drop) lost.emplace(std::move(*event));
                    l.events.pop_front();
                    l.out.dropped_oldest.add(1);
                    ++l.out.taken;
                }
            }
            if (lost) hooks.on_drop(*lost, push_result::ok);
        }
        return push_result::ok;
    }
};

}  // namespace cairn::detail
