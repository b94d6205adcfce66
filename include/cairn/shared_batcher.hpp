// SPDX-License-Identifier: MIT
// Batching before a slow sink, without handles: any thread pushes, into one buffer under a mutex.
//
// The same promises as batcher, the same flusher, another way in. All threads share one lane of `capacity`
// slots, and a mutex lets one of them at a time be its producer. The slots of the ring are used again and
// again, so the flusher works on some while others are filled: N buffers that rotate, without a swap.
//
//                           batcher                          shared_batcher
//   ---------------------   ------------------------------   ------------------------------------------
//   push                    some 10 ns, no lock              some 40 ns and a mutex, 4 times slower when two
//                                                            threads meet in it
//   memory                  capacity events per producer     capacity events in all
//   order                   of each producer                 of all: the order in which pushes got the mutex
//   who may push            the owner of a handle            any thread, at any time
//
// When not to use it: where each thread can keep a handle, and pushes often: batcher. Everything else that
// batcher's head says holds here. Source: as there.
// Thread safety: all functions may be called by any threads at once, but for the constructor and destructor.
//
//   std::size_t rows = 0;
//   cairn::shared_batcher<int, std::function<void(std::span<int>)>> batcher(
//       [&rows](std::span<int> batch) { rows += batch.size(); });
//   std::thread other([&batcher] { batcher.push(1); });
//   batcher.push(2);
//   other.join();
//   batcher.close();
//   std::cout << rows << '\n';  // 2
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "batch_options.hpp"
#include "detail/batch_flusher.hpp"
#include "detail/batch_lanes.hpp"

namespace cairn {

/// Batches events of type T from any threads. Parameters as those of batcher.
template <class T, class Sink, class Clock = batch_clock>
class shared_batcher {
    using core = detail::batch_flusher<T, Sink, Clock>;

  public:
    using value_type = T;

    /// Starts the flusher thread. @throws as batcher does.
    explicit shared_batcher(Sink sink, batch_options options = {}, batch_hooks<T> hooks = {})
        : core_(std::make_shared<core>(std::move(sink), std::move(options), std::move(hooks))),
          lane_(core_->lanes.make_lane()) {
        core::start(core_);
    }
    shared_batcher(shared_batcher const&) = delete;
    shared_batcher& operator=(shared_batcher const&) = delete;
    /// As batcher's. Precondition: no thread is in a call.
    ~shared_batcher() { core_->end(); }

    /// Offers an event, as batcher::producer::push does. If `sequence` is given, it is set to the number of
    /// the event once that is accepted: what on_committed speaks of (the producer is always 1). The hook
    /// on_drop may be called with the mutex held: it may push, but must not wait for another thread's push.
    push_result push(T const& event, std::uint64_t* sequence = nullptr) {
        return offer(core_->lanes.usual(), sequence, event);
    }
    push_result push(T&& event, std::uint64_t* sequence = nullptr) {
        return offer(core_->lanes.usual(), sequence, std::move(event));
    }
    /// Offers T(args...).
    template <class... Args>
        requires std::is_constructible_v<T, Args...>
    push_result emplace(Args&&... args) {
        return offer(core_->lanes.usual(), nullptr, std::forward<Args>(args)...);
    }
    /// Never waits for room and never drops: `full` if there is none, and the event stays with the caller.
    [[nodiscard]] push_result try_push(T const& event) {
        return offer({overflow_policy::fail, {}, true}, nullptr, event);
    }
    [[nodiscard]] push_result try_push(T&& event) {
        return offer({overflow_policy::fail, {}, true}, nullptr, std::move(event));
    }
    /// Waits for room, at most for `limit`, whatever on_full says; then `timed_out`.
    [[nodiscard]] push_result push_for(T const& event, std::chrono::nanoseconds limit) {
        return offer({overflow_policy::block, limit, true}, nullptr, event);
    }
    [[nodiscard]] push_result push_for(T&& event, std::chrono::nanoseconds limit) {
        return offer({overflow_policy::block, limit, true}, nullptr, std::move(event));
    }
    /// Offers many in order, and stops at the first that is refused. Others' events may come in between.
    /// Returns how many were accepted.
    std::size_t push_n(std::span<T const> events) {
        if (core_->lanes.is_forked()) return 0;
        std::size_t accepted = 0;
        while (!events.empty()) {
            {
                std::lock_guard const lock(mutex_);
                std::size_t const n =
                    core_->lanes.offer_n(*lane_, {overflow_policy::fail, {}, true, true}, events);
                accepted += n;
                events = events.subspan(n);
            }
            if (events.empty()) break;
            push_result const result = push(events.front());
            if (result == push_result::ok)
                ++accepted;
            else if (result != push_result::dropped)
                break;
            events = events.subspan(1);
        }
        return accepted;
    }

    /// As batcher's.
    flush_result flush() { return core_->flush(forever); }
    [[nodiscard]] flush_result flush_for(std::chrono::nanoseconds limit) { return core_->flush(limit); }
    close_report close() { return close(core_->lanes.options.close_timeout); }
    close_report close(std::chrono::nanoseconds limit) { return core_->close(limit); }
    [[nodiscard]] batch_stats stats() const { return core_->stats(); }
    [[nodiscard]] bool closed() const noexcept {
        return core_->lanes.is_forked() ||
               core_->lanes.refusal.load(std::memory_order_relaxed) != push_result::ok;
    }

  private:
    template <class... Args>
    push_result offer(detail::batch_manner manner, std::uint64_t* sequence, Args&&... args) {
        auto& lanes = core_->lanes;
        if (lanes.is_forked())
            return push_result::forked;  // the mutex may be held by a thread that is not here
        bool const waits = manner.policy == overflow_policy::block;
        detail::batch_manner at_once = manner;
        if (waits) at_once = {overflow_policy::fail, {}, true, true};
        std::optional<typename Clock::time_point> deadline;
        for (;;) {
            push_result result;
            {
                std::lock_guard const lock(mutex_);
                result = lanes.offer(*lane_, [&] { return at_once; }, std::forward<Args>(args)...);
                if (result == push_result::ok && sequence != nullptr) *sequence = lane_->in.accepted.get();
            }
            if (!waits || result == push_result::ok) return result;
            // Not with the mutex: who only tries must not wait behind who waits.
            if (result == push_result::full)
                result = lanes.wait_for_room(*lane_, manner.limit, deadline, [this] {
                    std::lock_guard const lock(mutex_);
                    lane_->events.become_producer();
                    return !lane_->events.reserve(1).empty();
                });
            if (result == push_result::ok) continue;
            std::lock_guard const lock(mutex_);
            lanes.give_up(*lane_, manner, result, std::forward<Args>(args)...);
            return result;
        }
    }

    std::shared_ptr<core> core_;
    // The producer's side of the lane belongs to who holds it. Recursive for the hook on_drop: it is called
    // when the lane is in order, and may push.
    mutable std::recursive_mutex mutex_;
    detail::batch_lane<T>* lane_;
};

}  // namespace cairn
