// SPDX-License-Identifier: MIT
// The flusher of a batcher: one thread that looks into the lanes by its own clock, and hands on what is due.
//
// It is never woken by a push. It looks every half linger (1 ms at most, 50 µs when linger is 0)
// and sends a batch when there are enough events, or bytes, or the oldest has waited for linger, or a lane is
// full, or somebody flushes or closes. No time is stored with an event: the flusher knows when it last saw
// all lanes empty, and nothing is older than that.
//
// A flush is a ticket. The flusher, not the caller, notes for each lane how many events had been accepted,
// and the flush ends when so many have left. One flush is at work at a time, those that come meanwhile share
// the next one; so none waits for more than two, however many producers go on.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "../batch_options.hpp"
#include "batch_former.hpp"
#include "batch_lanes.hpp"
#include "batch_times.hpp"

namespace cairn::detail {

template <class T, class Sink, class Clock>
class batch_flusher {
    using lane = batch_lane<T>;
    using time_point = typename Clock::time_point;
    using mutex_lock = std::unique_lock<std::mutex>;
    using part = typename batch_former<T, Clock>::part;

  public:
    batch_flusher(Sink sink, batch_options options, batch_hooks<T> hooks)
        : lanes(std::move(options), std::move(hooks)),
          sink_(std::move(sink)),
          former_(lanes),
          random_(lanes.options.seed) {}
    batch_flusher(batch_flusher const&) = delete;
    batch_flusher& operator=(batch_flusher const&) = delete;

    /// Starts the thread, which keeps `self` alive as long as it runs: a sink that never returns is left
    /// behind, and what it works on must stay. In a forked child the count never falls, so all of this,
    /// the mutex that some other thread held included, is left alone.
    static void start(std::shared_ptr<batch_flusher> const& self) {
        self->thread_ = std::thread([self] { self->run(); });
    }
    /// At the end of the batcher: closes, and ends thread and sink.
    void end() noexcept {
        if (lanes.is_forked()) return;
        close(lanes.options.close_timeout);
        {
            mutex_lock const lock(lanes.mutex);
            if (left_behind_ && in_user_code_) return thread_.detach();
        }
        thread_.join();
        sink_.reset();
    }

    flush_result flush(std::chrono::nanoseconds limit) {
        if (lanes.is_forked()) return flush_result::forked;
        if (lanes.is_flusher()) return flush_result::would_deadlock;
        mutex_lock lock(lanes.mutex);
        time_point const deadline = later(Clock::now(), limit);
        std::uint64_t const mine = ++flushes_wanted_;
        std::uint64_t const dead = dead_;
        lanes.call_flusher();
        for (;;) {
            if (flushes_done_ >= mine) return dead_ == dead ? flush_result::ok : flush_result::dead_lettered;
            if (finished_) return flush_result::closed;
            if (lanes.refusal.load(std::memory_order_relaxed) == push_result::stopped)
                return flush_result::stopped;
            if (!wait(lanes.done, lock, deadline)) return flush_result::timed_out;
        }
    }

    close_report close(std::chrono::nanoseconds limit) {
        if (lanes.is_forked() || lanes.is_flusher()) return {};
        mutex_lock lock(lanes.mutex);
        time_point const deadline = later(Clock::now(), limit);
        if (!closing_) {
            closing_ = true;
            lanes.refuse(push_result::closed);
        }
        lanes.call_flusher();
        while (!finished_)
            if (!wait(lanes.done, lock, deadline)) {
                abandoning_ = true;
                lanes.call_flusher();
                backing_off_.notify_all();
                if (in_user_code_ && !left_behind_) take_over(lock);
                // Else the flusher is on its way: it calls the sink no more.
                while (!finished_) lanes.done.wait(lock);
            }
        return report();
    }

    [[nodiscard]] batch_stats stats() {
        batch_stats s;
        if (lanes.is_forked()) return s;
        std::uint64_t blocked_ns = 0;
        std::exception_ptr error;
        {
            mutex_lock const lock(lanes.mutex);
            std::uint64_t const most =
                lanes.options.capacity + (former_.drops_oldest() ? lanes.options.max_batch : 0);
            for (auto const& l : lanes.all) {
                std::uint64_t const delivered = l->out.delivered.get(), dead = l->out.dead.get();
                std::uint64_t const abandoned = l->out.abandoned.get(), dropped = l->out.dropped_oldest.get();
                std::uint64_t const settled = delivered + dead + abandoned + dropped;
                s.delivered += delivered;
                s.dead += dead;
                s.abandoned += abandoned;
                s.dropped_oldest += dropped;
                // Nobody stops while this is read. An event may leave before its push has counted it, and
                // many may come in and leave between two reads: what cannot have been is put right.
                s.accepted += std::clamp(l->in.accepted.get(), settled, settled + most);
                s.rejected += l->in.rejected.get();
                s.dropped_newest += l->in.dropped_newest.get();
                s.blocked += l->in.blocked.get();
                blocked_ns += l->in.blocked_ns.get();
            }
            error = last_error_;
        }
        s.buffered = s.accepted - s.delivered - s.dead - s.abandoned - s.dropped_oldest;
        s.offered = s.accepted + s.rejected + s.dropped_newest;
        s.max_depth = std::max<std::uint64_t>(max_depth_.get(), s.buffered);
        s.batches = batches_.get();
        s.retries = retries_.get();
        if (s.batches != 0)
            s.fill = static_cast<double>(s.delivered) /
                     (static_cast<double>(s.batches) * static_cast<double>(lanes.options.max_batch));
        s.blocked_time = std::chrono::nanoseconds(static_cast<std::int64_t>(blocked_ns));
        s.flush_p50 = times_.quantile(0.5);
        s.flush_p99 = times_.quantile(0.99);
        if (s.buffered != 0) s.oldest_age = Clock::now() - since_.load(std::memory_order_relaxed);
        s.last_error = what(error);
        return s;
    }

    batch_lanes<T, Clock> lanes;

  private:
    // ---- The loop. ----

    void run() {
        mutex_lock lock(lanes.mutex);
        lanes.flusher.store(std::this_thread::get_id(), std::memory_order_relaxed);
        for (;;) {
            lanes.called = false;
            former_.adopt();
            time_point const now = Clock::now();
            look(now);
            settle_flushes();
            if (is_due(now)) {
                if (std::exchange(quick_, false) && is_crumb()) {
                    lock.unlock();
                    (void)poll();
                    lock.lock();
                    continue;
                }
                lock.unlock();
                hot_ = former_.is_enough();
                bool const all_taken = former_.form();
                lock.lock();
                if (!deliver(lock)) return;
                if (all_taken) since_.store(now, std::memory_order_relaxed);
                continue;
            }
            if (closing_ && drained()) break;
            sleep(lock, now);
        }
        finish();
    }

    void look(time_point now) {
        former_.look();
        max_depth_.at_least(former_.seen());
        if (former_.seen() == 0) since_.store(now, std::memory_order_relaxed);
    }
    [[nodiscard]] bool is_due(time_point now) const {
        if (former_.seen() == 0) return false;
        return former_.is_enough() || flushing_ != 0 || closing_ ||
               now - since_.load(std::memory_order_relaxed) >= lanes.options.linger;
    }
    /// Without linger, a sink that takes a microsecond would be called for the ten events that came in it,
    /// and each look for them takes lines that a producer writes: three times slower than with batches. So
    /// one that was quick is called again when there are many, or some 20 µs later.
    [[nodiscard]] bool is_crumb() const {
        return lanes.options.linger == std::chrono::nanoseconds(0) && !former_.is_enough() &&
               flushing_ == 0 && !closing_;
    }
    void settle_flushes() {
        if (flushing_ == 0 && flushes_done_ != flushes_wanted_) {
            flushing_ = flushes_wanted_;
            // The mutex that the flusher and the caller of flush share makes each push that happened
            // before the call visible here.
            for (lane* const l : former_.all()) l->out.target = l->in.accepted.get();
        }
        if (flushing_ == 0) return;
        for (lane* const l : former_.all())
            if (former_.taken(*l) < l->out.target) return;
        flushes_done_ = std::exchange(flushing_, 0);
        lanes.done.notify_all();
        if (flushes_done_ != flushes_wanted_) lanes.called = true;
    }
    /// No push is at work, and then nothing is left: see the head of batch_lanes.hpp.
    [[nodiscard]] bool drained() {
        // Not waited for when the deadline has passed: T's constructor may take for ever.
        for (lane* const l : former_.all())
            if (!abandoning_ && l->in.inside.load(std::memory_order_seq_cst)) return false;
        return former_.count() == 0;
    }
    void sleep(mutex_lock& lock, time_point now) {
        if (lanes.called) return;
        quick_ = false;
        if (std::exchange(hot_, false)) {
            lock.unlock();
            bool const more = poll();
            lock.lock();
            if (more || lanes.called) return;
        }
        time_point until = later(now, tick());
        if (former_.seen() != 0)
            until = std::min(until, later(since_.load(std::memory_order_relaxed), lanes.options.linger));
        lanes.asleep = true;
        Clock::wait_until(lanes.awake, lock, until);
        lanes.asleep = false;
    }
    /// After a full batch the next is often near: looks again for some 20 µs before it sleeps for a tick. Not
    /// more often than each µs, for a look takes the line that a producer writes.
    [[nodiscard]] bool poll() {
        std::size_t const enough = std::min(lanes.options.max_batch, lanes.options.capacity / 2 + 1);
        for (int looks = 0; looks != 30; ++looks) {
            for (int i = 0; i != 30; ++i) relax();
            if (looks >= 4) std::this_thread::yield();
            if (former_.count() >= enough) return true;
        }
        return false;
    }
    [[nodiscard]] std::chrono::nanoseconds tick() const noexcept {
        using namespace std::chrono_literals;
        auto const linger = lanes.options.linger;
        return linger == 0ns ? 50us : std::clamp<std::chrono::nanoseconds>(linger / 2, 1us, 1ms);
    }
    void finish() {
        finished_ = true;
        // Nothing blocks from now on, and a new thread may get the old one's number.
        lanes.flusher.store(std::thread::id(), std::memory_order_relaxed);
        lanes.done.notify_all();
    }

    // ---- One batch. ----

    /// Hands the batch to the sink, again and again if need be, then to the dead letters. False if the
    /// closer has taken over meanwhile: then nothing may be touched any more.
    [[nodiscard]] bool deliver(mutex_lock& lock) {
        if (former_.parts().empty()) return true;
        batch_info info{++batches_formed_, 0, former_.sections()};
        std::exception_ptr error;
        time_point const start = Clock::now();
        bool delivered = false;
        while (!delivered && !abandoning_) {
            ++info.attempt;
            if (info.attempt > 1) retries_.add(1);
            error = nullptr;
            if (!outside(lock, [&] { error = call_sink(info); })) return false;
            delivered = !error;
            if (delivered) break;
            last_error_ = error;
            if (lanes.hooks.on_error)
                if (!outside(lock, [&] { lanes.hooks.on_error(error, info); })) return false;
            if (!back_off(lock, info.attempt, start)) break;
        }
        bool const abandoned = !delivered && (abandoning_ || !stop_or_go_on(lock));
        if (!delivered && lanes.hooks.dead_letter)
            if (!outside(lock, [&] { lanes.hooks.dead_letter(former_.batch(), info, error); })) return false;
        // Counted before the slots are free, so that what is buffered is never more than fits.
        for (part const& p : former_.parts()) {
            auto& count = delivered   ? p.from->out.delivered
                          : abandoned ? p.from->out.abandoned
                                      : p.from->out.dead;
            count.add(p.n);
        }
        if (delivered) batches_.add(1);
        if (!delivered && !abandoned) dead_ += former_.batch().size();
        lock.unlock();
        max_depth_.at_least(former_.count());
        former_.release();
        lock.lock();
        if (lanes.waiting != 0) lanes.room.notify_all();
        if (delivered && lanes.hooks.on_committed)
            return outside(lock, [&] {
                for (batch_section const& s : former_.sections())
                    lanes.hooks.on_committed(s.producer, s.first + s.count - 1);
            });
        return true;
    }
    /// Runs code of the user without the mutex, and keeps what it throws.
    template <class Code>
    [[nodiscard]] bool outside(mutex_lock& lock, Code code) {
        in_user_code_ = true;
        lock.unlock();
        std::exception_ptr error;
        try {
            code();
        } catch (...) {
            error = std::current_exception();
        }
        lock.lock();
        in_user_code_ = false;
        if (left_behind_) return false;
        if (error) last_error_ = error;
        return true;
    }
    [[nodiscard]] std::exception_ptr call_sink(batch_info const& info) {
        time_point const start = Clock::now();
        std::exception_ptr error;
        try {
            if constexpr (std::is_invocable_v<Sink&, std::span<T>, batch_info const&>)
                (*sink_)(former_.batch(), info);
            else
                (*sink_)(former_.batch());
        } catch (...) {
            error = std::current_exception();
        }
        auto const took = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
        times_.add(took);
        quick_ = took < std::chrono::microseconds(20);
        return error;
    }
    /// Waits before the next attempt. False if there is none.
    [[nodiscard]] bool back_off(mutex_lock& lock, unsigned attempt, time_point start) {
        retry_policy const& retry = lanes.options.retry;
        if (attempt >= retry.attempts || abandoning_) return false;
        // splitmix64
        std::uint64_t r = random_ += 0x9E37'79B9'7F4A'7C15;
        r = (r ^ r >> 30) * 0xBF58'476D'1CE4'E5B9;
        r = (r ^ r >> 27) * 0x94D0'49BB'1331'11EB;
        double const share = static_cast<double>((r ^ r >> 31) >> 11) * 0x1p-53;
        double const doubled = static_cast<double>(retry.first.count()) * std::exp2(attempt - 1);
        double const pause = std::min(doubled, static_cast<double>(retry.longest.count())) *
                             (1 - retry.jitter + 2 * retry.jitter * share);
        time_point const now = Clock::now();
        time_point const until = later(now, std::chrono::nanoseconds(static_cast<std::int64_t>(pause)));
        if (until > later(start, retry.deadline)) return false;
        while (!abandoning_ && Clock::now() < until) Clock::wait_until(backing_off_, lock, until);
        return true;
    }
    /// The retries are used up. True: to the dead letters, and on. Else all is stopped: waits until somebody
    /// closes, and abandons.
    [[nodiscard]] bool stop_or_go_on(mutex_lock& lock) {
        if (lanes.options.on_failure == failure_action::dead_letter) return true;
        if (!closing_) lanes.refuse(push_result::stopped);
        lanes.done.notify_all();
        while (!closing_) {
            lanes.called = false;
            lanes.asleep = true;
            lanes.awake.wait(lock);
            lanes.asleep = false;
        }
        abandoning_ = true;
        return false;
    }

    // ---- The end. ----

    /// The sink, or a hook, has not returned by the deadline. Its thread is left behind with the batch that
    /// it has; the closer is the consumer of the rest.
    void take_over(mutex_lock& lock) {
        left_behind_ = true;
        lanes.flusher.store(std::this_thread::get_id(), std::memory_order_relaxed);
        former_.adopt();
        for (lane* const l : former_.all()) {
            std::size_t held = 0;
            for (part const& p : former_.parts())
                if (p.from == l) held = p.n;
            l->out.abandoned.add(held);
            std::size_t const skip = former_.drops_oldest() ? 0 : held;
            std::uint64_t sequence = l->out.taken - l->in.base + 1;
            l->events.become_consumer();
            std::size_t passed = 0;
            lock.unlock();
            l->events.peek_n(std::numeric_limits<std::size_t>::max(), [&](std::span<T> run) {
                std::size_t const behind = std::min(run.size(), skip - std::min(skip, passed));
                passed += run.size();
                sequence += behind;
                abandon(*l, run.subspan(behind), sequence);
                sequence += run.size() - behind;
            });
            lock.lock();
        }
        finish();
    }
    void abandon(lane& l, std::span<T> events, std::uint64_t sequence) {
        for (std::size_t n = 0; !events.empty(); events = events.subspan(n), sequence += n) {
            n = std::min(events.size(), lanes.options.max_batch);
            batch_section const section{l.in.id, sequence, n};
            try {
                if (lanes.hooks.dead_letter)
                    lanes.hooks.dead_letter(events.first(n), {++batches_formed_, 0, {&section, 1}}, nullptr);
            } catch (...) {
                mutex_lock const lock(lanes.mutex);
                last_error_ = std::current_exception();
            }
            l.out.abandoned.add(n);
        }
    }
    [[nodiscard]] close_report report() const noexcept {
        close_report r;
        for (auto const& l : lanes.all) {
            r.delivered += l->out.delivered.get();
            r.dead += l->out.dead.get();
            r.abandoned += l->out.abandoned.get();
        }
        r.closed = true;
        return r;
    }

    /// False, at once, if the deadline has passed.
    static bool wait(std::condition_variable& condition, mutex_lock& lock, time_point deadline) {
        if (deadline == time_point::max())
            condition.wait(lock);
        else if (Clock::now() < deadline)
            Clock::wait_until(condition, lock, deadline);
        else
            return false;
        return true;
    }
    [[nodiscard]] static std::string what(std::exception_ptr const& error) {
        if (!error) return {};
        try {
            std::rethrow_exception(error);
        } catch (std::exception const& e) {
            return e.what();
        } catch (...) {
            return "not a std::exception";
        }
    }

    std::optional<Sink> sink_;
    std::thread thread_;

    // The flusher's own; the closer's once it has taken over.
    batch_former<T, Clock> former_;
    bool hot_ = false;    // the last batch was full
    bool quick_ = false;  // the last call of the sink was, and the flusher has not slept since
    std::uint64_t batches_formed_ = 0, flushing_ = 0, random_;

    // Guarded by lanes.mutex.
    std::condition_variable backing_off_;
    bool closing_ = false, abandoning_ = false, finished_ = false;
    bool in_user_code_ = false, left_behind_ = false;
    std::uint64_t flushes_wanted_ = 0, flushes_done_ = 0, dead_ = 0;
    std::exception_ptr last_error_;

    // Written by the flusher, read by stats().
    tally max_depth_, batches_, retries_;
    batch_times times_;
    std::atomic<time_point> since_{Clock::now()};
};

}  // namespace cairn::detail
