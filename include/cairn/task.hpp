// SPDX-License-Identifier: MIT
// Coroutines on an event loop: code that waits, written as if it blocked.
//
// A handler that is called when something is ready must keep what it knows between two calls in an object,
// and its control flow in a state variable. A coroutine lets the compiler do both: at each co_await it
// stores its variables in its frame and returns; whoever resumes it goes on behind the co_await.
//
//     callbacks:   on_readable ─▶ state = header ─▶ return … on_readable ─▶ state = body ─▶ return … on_timer
//     coroutine:   co_await read ────────────────▶ co_await read ────────▶ co_await sleep_for(…)
//
// A task is lazy: f() makes its frame, and `co_await f()` runs it. Who awaits it owns it, so there is always
// exactly one owner, and destroying a task that waits is how it is cancelled: its variables are destroyed
// from the inside out, with them its timers and waits, and those of the tasks that it awaits itself. So there
// are no cancellation tokens, and nothing can be resumed after its end. A root of such a tree is owned by
//
//     run(loop, task)      the caller, who gets what the task returns; it runs the loop meanwhile
//     scope                tasks that are waited for together, or cancelled together
//     spawn(loop, task)    the loop: until the task is done, or the loop's end
//
//   operation                    costs (g++ 12 -O2)                       allocates
//   --------------------------   --------------------------------------   -------------------------------
//   co_await a task              22 ns; 33 if it waits once in between    its frame
//   scope::spawn                 30 ns                                    its frame, and nothing else
//   spawn                        55 ns                                    a node, and a timer's slot
//   with_timeout                 75 ns more if it waits: a timer          mostly nothing
//   sleep_for, sleep_until       a timer: O(log n), mostly O(1)           mostly nothing
//   schedule                     a post, some 40 ns                       a word for its cancellation
//
// A task that is awaited is started by a plain call, not by symmetric transfer, and if it is done when that
// returns, the awaiting one just goes on. For g++ makes a transfer a jump only at -O2, and without it a loop
// that awaits a million tasks which are ready would overflow the stack. The price: tasks nested n deep need n
// stack frames to start, as functions do. Their ends are transfers.
//
// When not to use it: where a frame for each connection (some 200 bytes) is too much, a handler and 64 bytes
// do. Mind what a coroutine refers to: parameters by reference and the captures of a lambda must outlive it.
// g++ 12: no temporaries that own something within a co_await's braces, and no co_await within ?: or &&.
// Sources: Lewis Baker, "Understanding symmetric transfer" (2020); N. J. Smith, "Notes on structured
// concurrency" (2018).
// Thread safety: for the loop's thread, or for any one while the loop does not run. schedule() is for any
// thread: a task may go to another loop's and come back. Who awaits it goes on in the thread where it ends.
//
//   cairn::event_loop loop;
//   auto add = [](cairn::event_loop& on, int a, int b) -> cairn::task<int> {
//       co_await cairn::sleep_for(on, std::chrono::milliseconds(1));
//       co_return a + b;
//   };
//   std::cout << cairn::run(loop, add(loop, 40, 2)) << '\n';
#pragma once

#include <chrono>
#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "detail/assert.hpp"
#include "detail/loop_core.hpp"
#include "detail/task_promise.hpp"
#include "event_loop.hpp"

namespace cairn {

/// A piece of work that returns a T, a T& or nothing, and may wait: the return type of a coroutine. It begins
/// when it is awaited. What it throws comes out of the co_await. Move-only; its end destroys the coroutine
/// wherever it waits. Precondition of the end: it does not run just now.
template <class T = void>
class [[nodiscard]] task {
  public:
    using value_type = T;
    using promise_type = detail::task_promise<T>;

    task() noexcept = default;
    task(task&& from) noexcept : frame_(std::exchange(from.frame_, nullptr)) {}
    task& operator=(task&& from) noexcept {
        if (this != &from) {
            reset();
            frame_ = std::exchange(from.frame_, nullptr);
        }
        return *this;
    }
    ~task() { reset(); }

    /// Cancels it. There is none from then on.
    void reset() noexcept {
        if (auto const frame = std::exchange(frame_, nullptr)) frame.destroy();
    }
    /// Whether there is a coroutine.
    [[nodiscard]] explicit operator bool() const noexcept { return frame_ != nullptr; }

    /// Runs it and waits for its end: for what it returns, or throws. Precondition: there is one, and nobody
    /// has awaited it before.
    [[nodiscard]] auto operator co_await() && noexcept { return awaiter(std::move(*this)); }

  private:
    friend promise_type;
    friend struct detail::task_access;
    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    class awaiter : detail::task_waiter {
      public:
        explicit awaiter(task work) noexcept : task_waiter(&resume), work_(std::move(work)) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> parent) {
            parent_ = parent;
            return !detail::task_access::start(work_, *this);
        }
        T await_resume() { return detail::task_access::take(work_); }

      private:
        static std::coroutine_handle<> resume(task_waiter& self, detail::task_promise_base&) noexcept {
            return static_cast<awaiter&>(self).parent_;
        }
        task work_;
        std::coroutine_handle<> parent_;
    };

    std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
auto task_promise<T>::get_return_object() noexcept {
    return task_access::made<cairn::task<T>>(std::coroutine_handle<task_promise>::from_promise(*this));
}
inline auto task_promise<void>::get_return_object() noexcept {
    return task_access::made<cairn::task<>>(std::coroutine_handle<task_promise>::from_promise(*this));
}

/// A task that the loop owns: a timer that is never due holds it, and dies with the loop.
struct spawned : task_waiter {
    event_loop& loop;
    cairn::task<> work;
    timer owner;

    spawned(event_loop& on, cairn::task<> todo) noexcept
        : task_waiter(&done), loop(on), work(std::move(todo)) {}
    void finish() {
        try {
            task_access::take(work);
        } catch (...) {
            loop.post([error = std::current_exception()] { std::rethrow_exception(error); });
        }
        timer const last = std::move(owner);  // its end is that of *this
    }
    static std::coroutine_handle<> done(task_waiter& self, task_promise_base&) noexcept {
        static_cast<spawned&>(self).finish();
        return std::noop_coroutine();
    }
};

}  // namespace detail

/// Starts a task that nobody waits for; it runs at once, until it first waits. The loop owns it. What it
/// throws comes out of run(). For other threads: loop.post([&] { spawn(loop, f()); }).
/// @throws std::bad_alloc; the task is destroyed then.
inline void spawn(event_loop& loop, task<> work) {
    auto made = std::make_unique<detail::spawned>(loop, std::move(work));
    detail::spawned& it = *made;
    it.owner = loop.call_at(event_loop::time_point::max(), [owned = std::move(made)] {});
    if (detail::task_access::start(it.work, it)) it.finish();
}

/// Tasks that belong together. The scope waits for all of them, and its end cancels those that are not done.
/// They may be in the scope of a function: then none outlives it. Precondition of its end and of cancel():
/// not called by one of its tasks.
class scope : detail::task_waiter {
  public:
    scope() noexcept : task_waiter(&ended) {}
    scope(scope const&) = delete;
    scope& operator=(scope const&) = delete;
    ~scope() {
        CAIRN_ASSERT(!joiner_ && "a scope ends while a task waits in its join()");
        cancel();
    }

    /// Starts a task; it runs at once, until it first waits. Its frame is freed when it is done. The first
    /// exception of a task is kept for join(); later ones are dropped. The others go on. Allocates nothing.
    /// Precondition: there is a task.
    void spawn(task<> work) noexcept {
        CAIRN_ASSERT(work && "an empty task is spawned");
        auto const frame = detail::task_access::release(work);
        child& it = frame.promise();
        it.next = std::exchange(first_, &it);
        it.before = &first_;
        if (it.next != nullptr) it.next->before = &it.next;
        ++size_;
        if (detail::task_access::start(frame, *this)) finish(it);
    }

    /// How many tasks are not done.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

    /// Destroys all tasks that are not done. Who waits in join() goes on before it returns.
    void cancel() noexcept {
        while (first_ != nullptr) destroy(*first_);
        if (auto const joiner = std::exchange(joiner_, nullptr)) joiner.resume();
    }

    /// co_await scope.join(): until no task is left. Throws the first exception of the tasks since the last
    /// join(). Precondition: one task at a time waits so.
    [[nodiscard]] auto join() noexcept { return join_awaiter(*this); }

  private:
    using child = detail::task_promise<void>;

    static std::coroutine_handle<> ended(task_waiter& self, detail::task_promise_base& task) noexcept {
        auto& in = static_cast<scope&>(self);
        in.finish(static_cast<child&>(task));
        if (in.first_ == nullptr && in.joiner_) return std::exchange(in.joiner_, nullptr);
        return std::noop_coroutine();
    }
    void finish(child& it) noexcept {
        if (it.error && !error_) error_ = std::move(it.error);
        destroy(it);
    }
    void destroy(child& it) noexcept {
        *it.before = it.next;
        if (it.next != nullptr) it.next->before = it.before;
        --size_;
        std::coroutine_handle<child>::from_promise(it).destroy();
    }

    class join_awaiter {
      public:
        explicit join_awaiter(scope& of) noexcept : of_(of) {}
        join_awaiter(join_awaiter const&) = delete;
        join_awaiter& operator=(join_awaiter const&) = delete;
        ~join_awaiter() {
            if (waits_) of_.joiner_ = nullptr;
        }
        [[nodiscard]] bool await_ready() const noexcept { return of_.empty(); }
        void await_suspend(std::coroutine_handle<> parent) noexcept {
            CAIRN_ASSERT(!of_.joiner_ && "two tasks wait in join()");
            of_.joiner_ = parent;
            waits_ = true;
        }
        void await_resume() {
            waits_ = false;
            if (auto const error = std::exchange(of_.error_, nullptr)) std::rethrow_exception(error);
        }

      private:
        scope& of_;
        bool waits_ = false;
    };

    child* first_ = nullptr;  // each points to the next one, and to what points to it
    std::size_t size_ = 0;
    std::coroutine_handle<> joiner_;
    std::exception_ptr error_;
};

namespace detail {

class sleep_awaiter {
  public:
    sleep_awaiter(event_loop& loop, event_loop::time_point until) noexcept : loop_(loop), until_(until) {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) {
        timer_ = loop_.call_at(until_, [waiting] { waiting.resume(); });
    }
    void await_resume() const noexcept {}

  private:
    event_loop& loop_;
    event_loop::time_point until_;
    timer timer_;
};

/// The posted work cannot be taken back, and its owner may be gone before it runs. So they share a word.
class schedule_awaiter {
  public:
    explicit schedule_awaiter(event_loop& loop) noexcept : loop_(loop) {}
    schedule_awaiter(schedule_awaiter const&) = delete;
    schedule_awaiter& operator=(schedule_awaiter const&) = delete;
    ~schedule_awaiter() {
        if (waiting_) *waiting_ = nullptr;
    }
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) {
        auto word = std::make_shared<std::coroutine_handle<>>(waiting);
        waiting_ = word;
        // From here on the loop's thread may resume it, and this object be gone.
        loop_.post([todo = std::move(word)] {
            if (*todo) todo->resume();
        });
    }
    void await_resume() noexcept { waiting_.reset(); }

  private:
    event_loop& loop_;
    std::shared_ptr<std::coroutine_handle<>> waiting_;
};

template <class T>
class timeout_awaiter : task_waiter {
  public:
    using result = std::conditional_t<std::is_void_v<T>, bool, std::optional<T>>;

    timeout_awaiter(event_loop& loop, event_loop::time_point until, cairn::task<T> work) noexcept
        : task_waiter(&done), loop_(loop), until_(until), work_(std::move(work)) {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> parent) {
        parent_ = parent;
        if (task_access::start(work_, *this)) return false;
        timer_ = loop_.call_at(until_, [this] {
            work_.reset();
            parent_.resume();
        });
        return true;
    }
    result await_resume() {
        timer_.cancel();
        if (!work_) return result{};
        if constexpr (std::is_void_v<T>) {
            task_access::take(work_);
            return true;
        } else {
            return result(task_access::take(work_));
        }
    }

  private:
    static std::coroutine_handle<> done(task_waiter& self, task_promise_base&) noexcept {
        return static_cast<timeout_awaiter&>(self).parent_;
    }
    event_loop& loop_;
    event_loop::time_point until_;
    cairn::task<T> work_;
    timer timer_;
    std::coroutine_handle<> parent_;
};

}  // namespace detail

/// co_await sleep_until(loop, when): goes on not before `when`, and not in this turn of the loop if `when` is
/// past. @throws std::bad_alloc
[[nodiscard]] inline auto sleep_until(event_loop& loop, event_loop::time_point when) noexcept {
    return detail::sleep_awaiter(loop, when);
}
/// The same, so long after this call. Any unit.
template <class Rep, class Period>
[[nodiscard]] auto sleep_for(event_loop& loop, std::chrono::duration<Rep, Period> delay) noexcept {
    return detail::sleep_awaiter(loop, detail::after(delay));
}

/// co_await schedule(loop): goes on in the loop's thread, behind all that was posted before. Any thread. A
/// task on its way to another thread must not be destroyed before it has arrived there, and one that is in a
/// scope, in a spawn() or under a time-out must be back before it ends.
/// @throws std::bad_alloc
[[nodiscard]] inline auto schedule(event_loop& loop) noexcept { return detail::schedule_awaiter(loop); }

/// co_await with_timeout(loop, delay, f()): what f() returns, as an optional; or nothing when the time is
/// over, and f() is cancelled then. Of a task<void>: whether it was done in time. What f() throws comes out.
/// Precondition: f() does not leave the loop's thread. @throws std::bad_alloc
template <class Rep, class Period, class T>
    requires(!std::is_reference_v<T>)
[[nodiscard]] auto with_timeout(event_loop& loop, std::chrono::duration<Rep, Period> delay,
                                task<T> work) noexcept {
    return detail::timeout_awaiter<T>(loop, detail::after(delay), std::move(work));
}

/// Runs the loop until the task is done, and returns what it returns. What it throws, and what a handler of
/// the loop throws, comes out; in the latter case the task is cancelled.
/// @throws std::logic_error if the loop was stopped before; the task is cancelled then. As event_loop::run().
template <class T>
T run(event_loop& loop, task<T> work) {
    struct stopper : detail::task_waiter {
        event_loop& loop;
        bool is_done = false;
        explicit stopper(event_loop& on) noexcept : task_waiter(&done), loop(on) {}
        static std::coroutine_handle<> done(detail::task_waiter& self, detail::task_promise_base&) noexcept {
            static_cast<stopper&>(self).is_done = true;
            static_cast<stopper&>(self).loop.stop();
            return std::noop_coroutine();
        }
    } waiter(loop);
    if (!detail::task_access::start(work, waiter)) {
        loop.run();
        if (!waiter.is_done) throw std::logic_error("run: the loop was stopped before the task was done");
    }
    return detail::task_access::take(work);
}

}  // namespace cairn
