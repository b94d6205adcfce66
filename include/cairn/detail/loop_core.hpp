// SPDX-License-Identifier: MIT
// What an event loop and its handles share. It outlives the loop while there are handles, so that a handle
// finds out that the loop is gone; but all that it held is gone with the loop.
#pragma once

#include <sys/eventfd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

#include "../socket.hpp"
#include "../timer_queue.hpp"
#include "assert.hpp"
#include "closure.hpp"
#include "poller.hpp"
#include "post_queue.hpp"

namespace cairn::detail {

/// A duration of any kind as one of the clock's, rounded up; the longest one if it does not fit.
template <class Rep, class Period>
[[nodiscard]] constexpr std::chrono::steady_clock::duration saturate(
    std::chrono::duration<Rep, Period> d) noexcept {
    using clocks = std::chrono::steady_clock::duration;
    using exact = std::chrono::duration<long double, clocks::period>;
    if (!(exact(d) < exact(clocks::max()))) return clocks::max();  // NaN too: never is never early
    if (!(exact(d) > exact(clocks::min()))) return clocks::min();
    return std::chrono::ceil<clocks>(d);
}
/// So long from now. What is past is now.
template <class Rep, class Period>
[[nodiscard]] std::chrono::steady_clock::time_point after(std::chrono::duration<Rep, Period> delay) noexcept {
    using time_point = std::chrono::steady_clock::time_point;
    auto const now = std::chrono::steady_clock::now();
    auto const longer = saturate(delay);
    if (longer <= longer.zero()) return now;
    return longer < time_point::max() - now ? now + longer : time_point::max();
}

struct loop_core {
    using clock = std::chrono::steady_clock;
    using time_point = clock::time_point;
    using duration = clock::duration;

    struct timed {
        duration period;  // 0: once
        closure<32> handler;
        template <class F>
        timed(duration each, F&& f) : period(each) {
            handler.emplace(std::forward<F>(f));
        }
    };
    using timer_id = timer_queue<timed>::id;

    unique_fd wake_fd;
    poller poll;
    timer_queue<timed> timers;
    post_queue posts;
    bool open = true;
    std::size_t references = 0;
    std::atomic<bool> stop_requested{false};
    std::atomic<std::thread::id> thread{};  // that runs it
    mutable std::optional<time_point> time;

    loop_core() : wake_fd(make_wake_fd()), poll(wake_fd.get()) {}

    void close() noexcept {
        CAIRN_ASSERT(thread.load(std::memory_order_relaxed) == std::thread::id{} && "the loop ends in run()");
        poll.clear();
        timers.clear();
        posts.clear();
        open = false;
        wake_fd.reset();
    }

    void wake() noexcept {
        if (poll.in_child()) return;
        // Edge-triggered: each write is an event, and nobody needs to read. 2^64 of them do not happen.
        std::uint64_t const one = 1;
        [[maybe_unused]] auto const written = ::write(wake_fd.get(), &one, sizeof one);
    }
    void request_stop() noexcept {
        stop_requested.store(true, std::memory_order_release);  // pairs with stopped()
        if (posts.interrupt()) wake();
    }
    [[nodiscard]] bool stopped() const noexcept {
        return stop_requested.load(std::memory_order_acquire);  // pairs with request_stop()
    }
    /// A run that ends has done what was asked. One that ends by an exception has not.
    void take_stop() noexcept {
        if (stopped()) stop_requested.store(false, std::memory_order_relaxed);
    }
    [[nodiscard]] bool is_this_thread() const noexcept {
        // relaxed: whoever is not the thread reads some other value, and its own it has written itself.
        return thread.load(std::memory_order_relaxed) == std::this_thread::get_id();
    }
    void check_thread() const noexcept {
        CAIRN_ASSERT((thread.load(std::memory_order_relaxed) == std::thread::id{} || is_this_thread()) &&
                     "the loop runs in another thread: post() it");
    }
    [[nodiscard]] time_point now() const noexcept {
        if (!is_this_thread()) return clock::now();
        if (!time) time = clock::now();
        return *time;
    }

    /// While it lives, this thread runs the loop.
    struct run_scope {
        loop_core& core;
        explicit run_scope(loop_core& it) : core(it) {
            if (core.poll.in_child()) throw std::logic_error("event_loop: it is that of the parent process");
            std::thread::id nobody;
            if (!core.thread.compare_exchange_strong(nobody, std::this_thread::get_id()))
                throw std::logic_error("event_loop: it runs already");
        }
        ~run_scope() {
            core.time.reset();
            core.thread.store(std::thread::id{});
        }
        run_scope(run_scope const&) = delete;
    };

    /// Waits if there is nothing to do, not beyond `until`; then descriptors, posted work, timers, each as
    /// far as it was ready by then. Returns how many handlers ran.
    std::size_t turn(time_point until) {
        auto const done = [this] { return stopped(); };
        if (!poll.has_batch()) {
            poll.wait(patience(until));
            time.reset();
        }
        std::size_t ran = poll.dispatch(done);
        if (!stopped()) ran += posts.run(done);
        if (!stopped()) ran += fire();
        return ran;
    }

  private:
    [[nodiscard]] static int make_wake_fd() {
        int const fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        throw_if(fd < 0 ? last_error() : std::error_code{}, "eventfd");
        return fd;
    }
    /// How long a wait may take.
    [[nodiscard]] duration patience(time_point until) noexcept {
        if (until == time_point::min() || !posts.fall_asleep()) return duration::zero();
        if (auto const next = timers.next()) until = std::min(until, *next);
        if (until == time_point::max()) return duration::max();
        auto const now = clock::now();
        return until > now ? until - now : duration::zero();
    }
    /// The first beat after this turn's time.
    [[nodiscard]] time_point next_beat(time_point last, duration period) const noexcept {
        if (period > time_point::max() - last) return time_point::max();
        time_point const next = last + period;
        return next > *time ? next : next + (*time - next) / period * period + period;
    }
    std::size_t fire() {
        if (timers.empty()) return 0;
        time = clock::now();
        return timers.fire(*time, [this](timer_id id, timed& t) {
            if (t.period != duration::zero()) timers.rearm(id, next_beat(*timers.deadline(id), t.period));
            t.handler();
            return !stopped();
        });
    }
};

/// A handle's share in the core. Not atomic: handles are for the loop's thread.
class core_ref {
  public:
    core_ref() noexcept = default;
    core_ref(core_ref const& from) noexcept : core_(from.core_) {
        if (core_ != nullptr) ++core_->references;
    }
    core_ref(core_ref&& from) noexcept : core_(std::exchange(from.core_, nullptr)) {}
    core_ref& operator=(core_ref from) noexcept {
        std::swap(core_, from.core_);
        return *this;
    }
    ~core_ref() { reset(); }
    [[nodiscard]] static core_ref make() {
        core_ref made;
        made.core_ = new loop_core;
        made.core_->references = 1;
        return made;
    }
    void reset() noexcept {
        if (loop_core* const core = std::exchange(core_, nullptr))
            if (--core->references == 0) delete core;
    }
    [[nodiscard]] loop_core* operator->() const noexcept { return core_; }
    [[nodiscard]] loop_core& operator*() const noexcept { return *core_; }
    [[nodiscard]] explicit operator bool() const noexcept { return core_ != nullptr; }

  private:
    loop_core* core_ = nullptr;
};

}  // namespace cairn::detail
