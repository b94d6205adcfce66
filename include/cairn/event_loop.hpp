// SPDX-License-Identifier: MIT
// An event loop: readiness of descriptors, timers, and work that other threads post, all on one thread.
//
// A server that reads from one client at a time waits for the slowest. A thread for each client waits too,
// and costs a stack. A loop asks the kernel which of all its descriptors are ready, calls their handlers one
// after the other, then what was posted and what is due, and asks again. No two handlers run at once, so they
// need no locks among themselves; and none may block, for all others would wait.
//
//     run ─▶ epoll_wait ─▶ handlers of what is ready ─▶ posted work ─▶ timers that are due ─▶ again
//
// A lecture's loop keeps a map from descriptor to function, and has two bugs. A handler that removes itself
// destroys the function that runs. And an event that was fetched for a descriptor, which an earlier handler
// of the same batch has closed, reaches whoever got that number meanwhile. Here a watch is a slot with a
// generation, and epoll is told both: an event for an older generation is dropped, and a closure that runs is
// destroyed only when it returns. That costs some 5 ns an event, beside the kernel's 100.
//
//   operation                     costs                                                     system calls
//   ---------------------------   -------------------------------------------------------   ------------
//   dispatch of an event          4 to 6 ns beyond epoll_wait                               none
//   watch, modify, reset          O(1)                                                      one
//   post                          O(1), 14 to 40 ns in a burst                              one if it sleeps
//   call_at, cancel               O(log timers); among 10,000, 11 to 20 ns,                  none
//                                 and 20 to 32 ns (in order, at random)
//   timer::rearm, to later        O(1), 4 ns                                                none
//   an idle watch                 101 bytes; closures of up to 32 bytes allocate nothing    none
//
// A handler may remove, close or register anything, itself included. What it throws comes out of run(), and
// the rest of the batch is delivered by the next run(). Timers are never early; equal deadlines keep their
// order. They are late by what the system needs, 85 to 106 us here, of which 50 are the slack that Linux
// gives each thread to wake seldom: prctl(PR_SET_TIMERSLACK, 1) in the loop's thread leaves 31 to 52.
//
// When not to use it: for work that computes (a pool of threads); for files (epoll does not watch them); for
// one connection (read and write). Not in a forked child: make a new loop there.
// Sources: Schmidt, "Reactor" (1995); Libenzi, epoll (2002); libev's generation counters for the second bug.
// Thread safety: post(), dispatch(), stop() and running_in_this_thread() are anyone's; all else is the loop's
// thread's, or anyone's while it does not run. Checked in debug builds.
//
//   cairn::event_loop loop;
//   auto ends = cairn::socket_pair();
//   auto const watch = loop.watch(ends.first.get(), cairn::readiness::in, [&loop](cairn::readiness) {
//       std::cout << "readable\n";
//       loop.stop();
//   });
//   auto const timer = loop.call_after(std::chrono::milliseconds(1), [&ends] { ends.second.reset(); });
//   std::thread other([&loop] { loop.post([] { std::cout << "posted\n"; }); });
//   loop.run();  // until stop(): the closed end makes the other one readable
//   other.join();
#pragma once

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

#include "detail/assert.hpp"
#include "detail/closure.hpp"
#include "detail/loop_core.hpp"
#include "socket.hpp"
#include "timer_queue.hpp"

namespace cairn {

/// What a descriptor is watched for, and what has happened to it: a set of bits. err and hup are always
/// reported. edge and one_shot are not events but ways to be told of them.
enum class readiness : std::uint32_t {
    none = 0,
    in = EPOLLIN,            ///< there is something to read, or the end, or a connection to accept
    out = EPOLLOUT,          ///< there is room to write, or the connect() is over
    pri = EPOLLPRI,          ///< urgent data
    rdhup = EPOLLRDHUP,      ///< the peer writes no more; what it wrote may still be read
    err = EPOLLERR,          ///< an error waits, or nobody reads at the other end of a pipe
    hup = EPOLLHUP,          ///< both directions are over; what came before may still be read
    edge = EPOLLET,          ///< told once when it becomes so, not again and again while it is
    one_shot = EPOLLONESHOT  ///< told once, then silent until enable() or modify()
};
[[nodiscard]] constexpr readiness operator|(readiness a, readiness b) noexcept {
    return static_cast<readiness>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
[[nodiscard]] constexpr readiness operator&(readiness a, readiness b) noexcept {
    return static_cast<readiness>(static_cast<std::uint32_t>(a) & static_cast<std::uint32_t>(b));
}
[[nodiscard]] constexpr readiness operator~(readiness a) noexcept {
    return static_cast<readiness>(~static_cast<std::uint32_t>(a));
}
constexpr readiness& operator|=(readiness& a, readiness b) noexcept { return a = a | b; }
constexpr readiness& operator&=(readiness& a, readiness b) noexcept { return a = a & b; }
/// Whether any bit of `of` is set in `in`.
[[nodiscard]] constexpr bool has(readiness in, readiness of) noexcept { return (in & of) != readiness::none; }

/// A watched descriptor. Its end is the end of the watch. Move-only. It does not own the descriptor: end the
/// watch first, then close. For the loop's thread; what outlives the loop does nothing.
class registration {
  public:
    registration() noexcept = default;
    registration(registration&& from) noexcept
        : core_(std::move(from.core_)), watch_(std::exchange(from.watch_, {})) {}
    registration& operator=(registration&& from) noexcept {
        if (this != &from) {
            reset();
            core_ = std::move(from.core_);
            watch_ = std::exchange(from.watch_, {});
        }
        return *this;
    }
    ~registration() { reset(); }

    /// Watches for `interest` from now on, and again if it was a one-shot that has been told. While disabled,
    /// it only says what enable() will watch for. No system call if nothing changes. @throws
    /// std::system_error; nothing has changed then.
    void modify(readiness interest) {
        std::error_code error;
        modify(interest, error);
        detail::throw_if(error, "epoll_ctl");
    }
    void modify(readiness interest, std::error_code& error) noexcept {
        if (check(error)) core_->poll.modify(watch_, static_cast<std::uint32_t>(interest), error);
    }
    /// Nothing is told from now on, not even what has happened already. Watches nothing, not err and hup
    /// either.
    void disable() noexcept {
        if (*this) core_->poll.disable(watch_);
    }
    /// Watches again. @throws std::system_error; it is still disabled then.
    void enable() {
        std::error_code error;
        enable(error);
        detail::throw_if(error, "epoll_ctl");
    }
    void enable(std::error_code& error) noexcept {
        if (check(error)) core_->poll.enable(watch_, error);
    }
    /// Ends the watch. The handler is not called again, not even for what has happened already, and is
    /// destroyed: at once, or, if it is the one that runs, when it returns.
    void reset() noexcept {
        if (*this) {
            core_->check_thread();
            core_->poll.remove(std::exchange(watch_, {}));
        }
        core_.reset();
    }

    /// Whether it watches something: not after reset(), nor after the loop's end.
    [[nodiscard]] explicit operator bool() const noexcept {
        return core_ && core_->open && core_->poll.contains(watch_);
    }
    /// The descriptor, or -1.
    [[nodiscard]] int fd() const noexcept { return *this ? core_->poll.fd(watch_) : -1; }

  private:
    friend class event_loop;
    friend class async_fd;
    registration(detail::core_ref core, detail::poller::tag watch) noexcept
        : core_(std::move(core)), watch_(watch) {}
    [[nodiscard]] bool check(std::error_code& error) const noexcept {
        if (*this) {
            core_->check_thread();
            return true;
        }
        error.assign(EBADF, std::system_category());
        return false;
    }

    detail::core_ref core_;
    detail::poller::tag watch_;
};

/// A timer that waits. Its end cancels it. Move-only. For the loop's thread; what outlives the loop does
/// nothing.
class timer {
  public:
    timer() noexcept = default;
    timer(timer&& from) noexcept : core_(std::move(from.core_)), id_(std::exchange(from.id_, {})) {}
    timer& operator=(timer&& from) noexcept {
        if (this != &from) {
            cancel();
            core_ = std::move(from.core_);
            id_ = std::exchange(from.id_, {});
        }
        return *this;
    }
    ~timer() { cancel(); }

    /// The handler is not called again, not even if it was due this turn, and is destroyed: at once, or, if
    /// it is the one that runs, when it returns. False if there was no timer any more.
    bool cancel() noexcept {
        if (!core_) return false;
        core_->check_thread();
        bool const was = *this && core_->timers.cancel(id_);
        core_.reset();
        return was;
    }
    /// A new deadline; one that calls again and again goes on from there. O(1) if it is not earlier than the
    /// one before. In its own handler it brings a timer back. False if it has fired or there is none.
    bool rearm(std::chrono::steady_clock::time_point when) noexcept {
        if (!*this) return false;
        core_->check_thread();
        return core_->timers.rearm(id_, when);
    }
    /// The same, so long after this call. Reads the clock, some 30 ns: rearm(loop.now() + delay) does not.
    template <class Rep, class Period>
    bool rearm_after(std::chrono::duration<Rep, Period> delay) noexcept {
        return *this && rearm(detail::after(delay));
    }
    /// Lets it go: it fires without a handle, and nothing can cancel it.
    void detach() noexcept {
        id_ = {};
        core_.reset();
    }
    /// Whether it waits, or runs just now.
    [[nodiscard]] explicit operator bool() const noexcept {
        return core_ && core_->open && core_->timers.contains(id_);
    }

  private:
    friend class event_loop;
    timer(detail::core_ref core, detail::loop_core::timer_id id) noexcept : core_(std::move(core)), id_(id) {}

    detail::core_ref core_;
    detail::loop_core::timer_id id_;
};

class event_loop {
  public:
    using clock = std::chrono::steady_clock;
    using time_point = clock::time_point;
    using duration = clock::duration;

    /// @throws std::system_error, std::bad_alloc
    event_loop() : core_(detail::core_ref::make()) {}
    event_loop(event_loop const&) = delete;
    event_loop& operator=(event_loop const&) = delete;
    /// Destroys all handlers and posted work, without calling them. Precondition: it does not run, and no
    /// other thread posts or stops it.
    ~event_loop() { core_->close(); }

    // ---- For any thread. ----

    /// Runs f() on the loop's thread, later: never from within post(). The order of one thread's posts is
    /// kept. Wakes the loop if it sleeps. O(1), some 40 ns, and a system call if it sleeps.
    /// @throws std::bad_alloc and what F's constructor throws; nothing is posted then.
    template <class F>
        requires std::invocable<std::decay_t<F>&>
    void post(F&& f) {
        if (core_->posts.push(std::forward<F>(f))) core_->wake();
    }
    /// Runs f() at once if this is the loop's thread, within run(); else posts it.
    template <class F>
        requires std::invocable<std::decay_t<F>&>
    void dispatch(F&& f) {
        if (running_in_this_thread())
            f();
        else
            post(std::forward<F>(f));
    }
    /// Ends run() or run_once() after the handler that runs just now, or the next one before it begins. What
    /// has not run by then is kept for the next time.
    void stop() noexcept { core_->request_stop(); }
    /// Whether this thread is within run(), run_once() or poll().
    [[nodiscard]] bool running_in_this_thread() const noexcept { return core_->is_this_thread(); }

    // ---- For the loop's thread, or while it does not run. ----

    /// Calls handler(readiness) while fd is ready for what is asked.
    /// @throws std::system_error: EEXIST, it is watched already; EPERM, a regular file, which epoll does not
    /// watch; EBADF. Nothing has changed then.
    template <class F>
        requires std::invocable<std::decay_t<F>&, readiness>
    [[nodiscard]] registration watch(int fd, readiness interest, F&& handler) {
        std::error_code error;
        registration made = watch(fd, interest, std::forward<F>(handler), error);
        detail::throw_if(error, "epoll_ctl");
        return made;
    }
    /// The same; on an error, what is returned is empty.
    template <class F>
        requires std::invocable<std::decay_t<F>&, readiness>
    [[nodiscard]] registration watch(int fd, readiness interest, F&& handler, std::error_code& error) {
        core_->check_thread();
        auto const made = core_->poll.add(
            fd, static_cast<std::uint32_t>(interest),
            [call = std::forward<F>(handler)](std::uint32_t events) mutable {
                call(static_cast<readiness>(events));
            },
            error);
        return error ? registration() : registration(core_, made);
    }

    /// Calls handler() once, not before `when`; of equal deadlines in the order in which they were set.
    /// @throws std::bad_alloc and what F's constructor throws; nothing has changed then.
    template <class F>
        requires std::invocable<std::decay_t<F>&>
    [[nodiscard]] timer call_at(time_point when, F&& handler) {
        return add_timer(when, duration::zero(), std::forward<F>(handler));
    }
    /// The same, so long after this call. Any unit; what is longer than the clock can count is for ever.
    template <class Rep, class Period, class F>
        requires std::invocable<std::decay_t<F>&>
    [[nodiscard]] timer call_after(std::chrono::duration<Rep, Period> delay, F&& handler) {
        return add_timer(detail::after(delay), duration::zero(), std::forward<F>(handler));
    }
    /// Again and again, first after one period. Its beats do not drift; those that are missed are left out.
    /// @throws std::invalid_argument if the period is not positive, and as call_at.
    template <class Rep, class Period, class F>
        requires std::invocable<std::decay_t<F>&>
    [[nodiscard]] timer call_every(std::chrono::duration<Rep, Period> period, F&& handler) {
        duration const each = detail::saturate(period);
        if (each <= duration::zero())
            throw std::invalid_argument("call_every: a period that is not positive");
        return add_timer(detail::after(each), each, std::forward<F>(handler));
    }

    /// Runs handlers on this thread until stop(). What a handler throws comes out here; call run() again, and
    /// nothing else was lost. @throws std::logic_error if the loop runs already, std::system_error
    void run() {
        detail::loop_core::run_scope const scope(*core_);
        while (!core_->stopped()) core_->turn(time_point::max());
        core_->take_stop();
    }
    /// One turn: waits until there is something to do, at most so long, and does it. Returns how many
    /// handlers ran: 0 after a stop() or when the time is over. As run().
    std::size_t run_once() { return run_until(time_point::max()); }
    template <class Rep, class Period>
    std::size_t run_once(std::chrono::duration<Rep, Period> at_most) {
        return run_until(detail::after(at_most));
    }
    /// Does what can be done without waiting, and returns how many handlers ran. As run(), but stop() is left
    /// to the next run().
    std::size_t poll() {
        detail::loop_core::run_scope const scope(*core_);
        return core_->turn(time_point::min());
    }

    /// The time of this turn: read once, when first asked for. In a turn that takes long it is old. Outside
    /// of run() it is the time.
    [[nodiscard]] time_point now() const noexcept { return core_->now(); }

    /// How many descriptors are watched, and how many timers wait.
    [[nodiscard]] std::size_t watching() const noexcept { return core_->poll.size(); }
    [[nodiscard]] std::size_t timers() const noexcept { return core_->timers.size(); }

  private:
    friend class async_fd;
    template <class F>
    timer add_timer(time_point when, duration period, F&& handler) {
        core_->check_thread();
        return {core_, core_->timers.add(when, period, std::forward<F>(handler))};
    }
    std::size_t run_until(time_point until) {
        detail::loop_core::run_scope const scope(*core_);
        std::size_t ran = 0;
        while (ran == 0 && !core_->stopped()) {
            ran = core_->turn(until);
            if (until != time_point::max() && clock::now() >= until) break;
        }
        core_->take_stop();
        return ran;
    }

    detail::core_ref core_;
};

}  // namespace cairn
