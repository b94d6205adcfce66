// SPDX-License-Identifier: MIT
// Batching before a slow sink: many threads push events one by one, one thread hands them on in batches.
//
// A database commits some thousand times a second, and a million rows in a thousand commits. So events are
// collected, and what remains is what the thread that makes them has to wait for. A buffer that is flushed by
// who fills it stops the world for the whole flush. Two buffers that are swapped stop it for a wake-up, and
// for the rest of the flush if the second one is full too. Here push writes one slot of a ring and two words
// of its own, and does no more: no lock, no locked instruction, no system call. Nobody is woken: the flusher
// looks by its own clock.
//
//     producer ─▶ ┌ lane: a ring of `capacity` slots ┐ ─┐
//     producer ─▶ ┌ lane ────────────────────────────┐ ─┼─▶ flusher ─▶ sink(span of ≤ max_batch events)
//     producer ─▶ ┌ lane ────────────────────────────┐ ─┘        throws? the same again, later
//
// All lanes go into one call of the sink: one commit, not one for each. Slots are free again once the sink
// has returned. So a retry is free, memory is bounded by what was set, and nothing is lost in between:
//
//     offered  = accepted + rejected + dropped newest
//     accepted = delivered + dropped oldest + dead + abandoned + buffered          at every instant
//
//   operation         costs                                          memory
//   ---------------   --------------------------------------------   --------------------------------------
//   push              O(1), some 10 ns; full: as on_full says        capacity events for each producer
//   push_n            O(n), less for each
//   delivery          linger + one sink call later, at most          max_batch events, where lanes mix
//   an idle batcher   1 to 3 % of a core, for its clock              a thread
//   flush, close      what the sink takes for what is buffered
//
// The promise is at least once: a sink that commits and then throws is given the same batch again. batch_info
// says which, and by (producer, sequence) a sink with a unique key makes it exactly once. The order of each
// producer's events is kept. When the process dies, what is buffered dies: linger and one call's worth,
// mostly. Use on_committed to acknowledge only what is durable.
//
// When not to use it: too many or short-lived threads for a lane each (shared_batcher); a sink that wants the
// latest value only; a sink that is as quick by the item as by the batch (call it).
// Sources: Thompson, Farley et al., "Disruptor" (2011): batches form while the consumer is busy; Kafka's
// producer: linger, delivery time-out. Measured: `cairn-compare buffers`.
// Thread safety: each producer handle is for one thread at a time; all else may be called by any thread.
//
//   std::vector<std::string> table;
//   cairn::batcher<std::string, std::function<void(std::span<std::string>)>> batcher(
//       [&table](std::span<std::string> rows) { table.insert(table.end(), rows.begin(), rows.end()); });
//   auto producer = batcher.make_producer();
//   for (int i = 0; i < 10; ++i)
//       if (producer.push("row " + std::to_string(i)) != cairn::push_result::ok) return 1;
//   batcher.flush();  // all that was pushed is in the table
//   std::cout << table.size() << '\n';
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <type_traits>
#include <utility>

#include "batch_options.hpp"
#include "detail/batch_flusher.hpp"
#include "detail/batch_lanes.hpp"

namespace cairn {

/// Batches events of type T from any number of producers, each with a lane of its own.
/// @tparam T      destructible without an exception. Moved from slot to batch where lanes mix, if that cannot
///                throw; else each call of the sink gets events of one producer.
/// @tparam Sink   callable with std::span<T>, or with (std::span<T>, batch_info const&), by one thread. It
///                may change and move from the events only if it then does not throw. It may throw: see
///                retry_policy. What one lane gave lies where push put it, so a batch ends with the lane's
///                ring, once a lap.
/// @tparam Clock  for tests; see batch_clock.
template <class T, class Sink, class Clock = batch_clock>
class batcher {
    using core = detail::batch_flusher<T, Sink, Clock>;

  public:
    using value_type = T;

    /// A lane. Move-only, for one thread at a time. Its end gives the lane back once that is drained: events
    /// that were accepted are delivered all the same. It may outlive the batcher: then it is closed.
    class producer {
      public:
        producer(producer&& other) noexcept
            : core_(std::move(other.core_)), lane_(std::exchange(other.lane_, nullptr)) {}
        producer& operator=(producer&& other) noexcept {
            producer old(std::move(*this));
            core_ = std::move(other.core_);
            lane_ = std::exchange(other.lane_, nullptr);
            return *this;
        }
        ~producer() {
            if (lane_ != nullptr) core_->lanes.give_back(*lane_);
        }

        /// Offers an event. No room: as the option on_full says. O(1); makes no system call unless it waits.
        /// If it is not `ok`, the event was not accepted: untouched, or moved into the hook on_drop.
        /// Strong guarantee: if T's constructor throws, nothing is published.
        push_result push(T const& event) { return emplace(event); }
        push_result push(T&& event) { return emplace(std::move(event)); }
        /// Offers T(args...).
        template <class... Args>
            requires std::is_constructible_v<T, Args...>
        push_result emplace(Args&&... args) {
            return core_->lanes.offer(
                *lane_, [this] { return core_->lanes.usual(); }, std::forward<Args>(args)...);
        }
        /// Never waits and never drops: `full` if there is no room, and the event stays with the caller.
        [[nodiscard]] push_result try_push(T const& event) {
            return core_->lanes.offer(
                *lane_, [] { return detail::batch_manner{overflow_policy::fail, {}, true}; }, event);
        }
        [[nodiscard]] push_result try_push(T&& event) {
            return core_->lanes.offer(
                *lane_, [] { return detail::batch_manner{overflow_policy::fail, {}, true}; },
                std::move(event));
        }
        /// Waits for room, at most for `limit`, whatever on_full says; then `timed_out`.
        [[nodiscard]] push_result push_for(T const& event, std::chrono::nanoseconds limit) {
            return core_->lanes.offer(
                *lane_, [limit] { return detail::batch_manner{overflow_policy::block, limit, true}; }, event);
        }
        [[nodiscard]] push_result push_for(T&& event, std::chrono::nanoseconds limit) {
            return core_->lanes.offer(
                *lane_, [limit] { return detail::batch_manner{overflow_policy::block, limit, true}; },
                std::move(event));
        }
        /// Offers many in order, each as push does, and stops at the first that is refused. Dropped ones are
        /// passed. Returns how many were accepted. Exceptions as push: those before it are accepted.
        std::size_t push_n(std::span<T const> events) {
            return core_->lanes.offer_n(*lane_, core_->lanes.usual(), events);
        }

        /// The number of the last accepted event: 1 for the first of this producer, 0 before it. O(1).
        [[nodiscard]] std::uint64_t sequence() const noexcept {
            return lane_->in.accepted.get() - lane_->in.base;
        }
        /// Which producer of the batcher this is: 1, 2, 3, … No two have the same.
        [[nodiscard]] std::uint32_t id() const noexcept { return lane_->in.id; }

      private:
        friend batcher;
        explicit producer(std::shared_ptr<core> c) : core_(std::move(c)), lane_(core_->lanes.make_lane()) {}

        std::shared_ptr<core> core_;
        detail::batch_lane<T>* lane_;
    };

    /// Starts the flusher thread. @throws std::invalid_argument if an option makes no sense, naming it;
    /// std::bad_alloc, std::system_error.
    explicit batcher(Sink sink, batch_options options = {}, batch_hooks<T> hooks = {})
        : core_(std::make_shared<core>(std::move(sink), std::move(options), std::move(hooks))) {
        core::start(core_);
    }
    batcher(batcher const&) = delete;
    batcher& operator=(batcher const&) = delete;
    /// Closes with close_timeout, then ends the thread and the sink. A sink that has not returned by then is
    /// left behind: its thread, the sink and its batch live on until it returns, so what the sink refers to
    /// must too. Precondition: not called by the sink or a hook. In a forked child it does nothing.
    ~batcher() { core_->end(); }

    /// A lane for a new producer; allocates one unless a drained one can be reused. After close() it answers
    /// `closed`. @throws std::bad_alloc; std::logic_error in a forked child.
    [[nodiscard]] producer make_producer() { return producer(core_); }

    /// Waits until all that was accepted before the call has been delivered, dead-lettered or dropped. Ends
    /// also while producers go on. Linger does not count for it. Any number of threads may call it.
    flush_result flush() { return core_->flush(forever); }
    /// The same, at most for `limit`.
    [[nodiscard]] flush_result flush_for(std::chrono::nanoseconds limit) { return core_->flush(limit); }

    /// Refuses new events, hands on what is buffered in batches as ever, and says what became of all. At the
    /// deadline nothing is tried any more: what is left is abandoned, and goes to dead_letter. What a sink
    /// has that does not return is abandoned too, but stays with it. A second call reports the same. A push
    /// that runs at the same time is either told `closed`, or delivered.
    close_report close() { return close(core_->lanes.options.close_timeout); }
    close_report close(std::chrono::nanoseconds limit) { return core_->close(limit); }

    /// A snapshot, without stopping anybody. In a forked child it is empty. O(producers).
    [[nodiscard]] batch_stats stats() const { return core_->stats(); }
    /// Whether push is refused: after close(), after the sink failed for good, or in a forked child.
    [[nodiscard]] bool closed() const noexcept {
        return core_->lanes.is_forked() ||
               core_->lanes.refusal.load(std::memory_order_relaxed) != push_result::ok;
    }

  private:
    std::shared_ptr<core> core_;
};

}  // namespace cairn
