// SPDX-License-Identifier: MIT
// The words that batchers speak: what is set, what push answers, what a sink is told, what is counted.
//
// A batcher stands between threads that make events quickly and a sink that is slow by the call and quick by
// the item: a database, a file, a connection. Four questions decide how it behaves, and each has an option.
//
//   question                          options                        default
//   -------------------------------   ----------------------------   ----------------------------------------
//   When is a batch sent?             max_batch, max_bytes, linger   1,000 events or 5 ms, what comes first
//   How much may wait, and then?      capacity, on_full, max_block   8,000 events, then push waits
//   What if the sink throws?          retry                          5 attempts, 10 ms doubled up to 1 s
//   What if it goes on throwing?      on_failure                     the batch goes to the dead-letter hook
//
// Two laws help to choose. A sink is called at most 1 / (linger + one call) times a second, and an event is
// durable after about linger / 2 + one call. And if the sink stalls for T while events come at a rate of r,
// push waits T - capacity / r at most, so a capacity of r * T hides the stall.
// When not to change them: before `stats()` has shown that you must.
// Thread safety: plain values.
//
//   cairn::batch_options options;
//   options.max_batch = 10'000;
//   options.linger = std::chrono::milliseconds(20);
//   options.on_full = cairn::overflow_policy::drop_oldest;
//   std::cout << options.capacity << '\n';  // 8000
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <string>

namespace cairn {

/// A limit that is never reached.
inline constexpr std::chrono::nanoseconds forever = std::chrono::nanoseconds::max();

/// What push does when there is no room.
enum class overflow_policy {
    block,        ///< waits, at most max_block
    fail,         ///< refuses the event at once: push_result::full
    drop_newest,  ///< drops the event that was to be pushed: push_result::dropped
    drop_oldest,  ///< drops the oldest event that waits, never one that the sink has been given
};

/// What push answers. Only `ok` means that the event was accepted.
enum class push_result {
    ok,              ///< accepted: it will be delivered, or appear in a counter and a hook
    full,            ///< no room, and the policy (or try_push) does not wait
    timed_out,       ///< no room within the limit
    dropped,         ///< no room, and the policy is drop_newest
    closed,          ///< close() was called
    stopped,         ///< the sink failed for good, and failure_action is stop
    would_deadlock,  ///< no room, and the caller is the sink or a hook: nobody would make room
    too_large,       ///< the event alone is larger than max_bytes
    forked,          ///< this process is a child that has no flusher thread
};

/// What happens to a batch once its retries are used up.
enum class failure_action {
    dead_letter,  ///< it goes to the dead_letter hook, and the next batch is tried
    stop,         ///< nothing is tried any more; push answers `stopped`; close() hands all to dead_letter
};

/// How often, and how soon, a batch is tried again when the sink throws. Retries of a batch hold up those
/// behind it: so the order of each producer's events stays.
struct retry_policy {
    unsigned attempts = 5;  ///< calls in all, at least 1
    std::chrono::nanoseconds first =
        std::chrono::milliseconds(10);  ///< pause after the first call; then twice it
    std::chrono::nanoseconds longest = std::chrono::seconds(1);  ///< no pause is longer
    double jitter = 0.2;  ///< a pause is multiplied by a random number from 1 - jitter to 1 + jitter
    std::chrono::nanoseconds deadline = std::chrono::seconds(120);  ///< no attempt starts later than this
};

/// How a batcher behaves. The constructor of a batcher checks them.
struct batch_options {
    std::size_t max_batch = 1'000;  ///< events in a call of the sink, at most
    std::size_t max_bytes = 0;      ///< bytes in a call, by the hook size_of; 0: not limited
    /// How long an event waits for company, at most. 0: it is sent as soon as the sink is free.
    std::chrono::nanoseconds linger = std::chrono::milliseconds(5);
    /// Events that may wait, those that the sink has included: exact. Of each producer, or in all for
    /// shared_batcher. With drop_oldest, those that the sink has come on top: max_batch at most.
    std::size_t capacity = 8'000;
    overflow_policy on_full = overflow_policy::block;
    std::chrono::nanoseconds max_block = forever;  ///< how long push waits for room
    retry_policy retry{};
    failure_action on_failure = failure_action::dead_letter;
    /// How long the destructor, and close() without an argument, wait for the sink.
    std::chrono::nanoseconds close_timeout = std::chrono::seconds(30);
    std::uint64_t seed = 0x6361'6972'6E21;  ///< of the jitter: differs between processes that share a sink
};

/// Events first, first + 1, …, first + count - 1 of one producer. Sequences begin at 1. They lie together in
/// the batch, in this order, and the sections in the order of the batch.
struct batch_section {
    std::uint32_t producer;
    std::uint64_t first;
    std::size_t count;
};

/// What identifies a batch. In each retry id, sections and contents are those of the first attempt, so that
/// a sink that has committed and then thrown can know a batch again, or its events by producer and sequence.
struct batch_info {
    std::uint64_t id;  ///< 1, 2, 3, …
    unsigned attempt;  ///< 1, 2, 3, …
    std::span<batch_section const> sections;
};

/// Functions that a batcher calls. All are optional. dead_letter, on_committed and on_error are called by
/// the flusher thread (dead_letter also by the thread that closes), on_drop by the thread that pushes,
/// size_of by both. What the first three throw is kept as the last error; what the others throw in push
/// goes to the caller of push.
template <class T>
struct batch_hooks {
    /// Takes a batch that cannot be delivered: retries used up, or abandoned by close (the error is that of
    /// its last attempt, if there was one).
    std::function<void(std::span<T>, batch_info const&, std::exception_ptr)> dead_letter = {};
    /// Takes an event that is lost for want of room, with the answer that the push at work gets: full,
    /// timed_out, dropped or would_deadlock for its own event, ok for an older one that had to make room.
    std::function<void(T&, push_result)> on_drop = {};
    /// All events of `producer` up to `sequence` have left; those that were delivered are committed.
    std::function<void(std::uint32_t producer, std::uint64_t sequence)> on_committed = {};
    /// An attempt has failed.
    std::function<void(std::exception_ptr, batch_info const&)> on_error = {};
    /// The size of an event in bytes, for max_bytes.
    std::function<std::size_t(T const&)> size_of = {};
};

/// How a flush ended.
enum class flush_result {
    ok,              ///< all that was accepted before the call has been delivered, or dropped as the oldest
    dead_lettered,   ///< the same, but since the call some batch went to the dead letters
    timed_out,       ///< not within the limit; the events are still on their way
    stopped,         ///< the sink failed for good
    closed,          ///< closed: close() has said what became of the events
    would_deadlock,  ///< the caller is the sink or a hook
    forked,          ///< this process is a child that has no flusher thread
};

/// What became of all events that were ever accepted. The same for each caller of close.
struct close_report {
    std::uint64_t delivered = 0;
    std::uint64_t dead = 0;  ///< given to dead_letter when the retries were used up
    std::uint64_t abandoned =
        0;  ///< left at the deadline: given to dead_letter, but for those that the sink still has
    bool closed = false;  ///< false: refused, because the caller is the sink, a hook, or a forked child
};

/// A snapshot. It always balances: offered = accepted + rejected + dropped_newest, and
/// accepted = delivered + dropped_oldest + dead + abandoned + buffered.
struct batch_stats {
    std::uint64_t offered = 0;
    std::uint64_t accepted = 0;
    std::uint64_t rejected = 0;  ///< full, timed_out, closed, stopped, would_deadlock, too_large
    std::uint64_t dropped_newest = 0;
    std::uint64_t dropped_oldest = 0;
    std::uint64_t delivered = 0;
    std::uint64_t dead = 0;
    std::uint64_t abandoned = 0;
    std::uint64_t buffered = 0;   ///< waiting, or in the sink: the depth
    std::uint64_t max_depth = 0;  ///< the most that was seen to wait, by the flusher or a full producer
    std::uint64_t batches = 0;    ///< delivered ones
    std::uint64_t retries = 0;    ///< calls of the sink after the first of each batch
    double fill = 0;              ///< mean events of a delivered batch, as a share of max_batch
    std::uint64_t blocked = 0;    ///< pushes that had to wait
    std::chrono::nanoseconds blocked_time{0};
    std::chrono::nanoseconds flush_p50{0};  ///< how long calls of the sink took, within 12 %
    std::chrono::nanoseconds flush_p99{0};
    std::chrono::nanoseconds oldest_age{0};  ///< an upper bound for the age of the oldest that waits; 0: none
    std::string last_error;                  ///< what() of the last exception of sink or hook; empty: none
};

/// How a batcher tells the time and waits: by std::chrono::steady_clock. A test may put in a type with the
/// same three names whose time stands still until the test moves it.
struct batch_clock {
    using time_point = std::chrono::steady_clock::time_point;
    [[nodiscard]] static time_point now() noexcept { return std::chrono::steady_clock::now(); }
    /// Returns when the condition is notified or the time has come; may return early.
    static void wait_until(std::condition_variable& condition, std::unique_lock<std::mutex>& lock,
                           time_point until) {
        condition.wait_until(lock, until);
    }
};

}  // namespace cairn
