// SPDX-License-Identifier: MIT
// The part of a task's frame that is not the user's: what it returns, and who waits for that.
#pragma once

#include <atomic>
#include <concepts>
#include <coroutine>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>

#include "assert.hpp"

namespace cairn::detail {

struct task_promise_base;

/// Who waits for a task's end. It is called from the task's last suspension, so it may destroy the task; what
/// it returns is resumed.
struct task_waiter {
    using function = std::coroutine_handle<>(task_waiter&, task_promise_base& ended) noexcept;
    function* const call;
    explicit task_waiter(function* what) noexcept : call(what) {}
};

/// What cairn does with a task's frame; it is private to others.
struct task_access {
    template <class Task, class Frame>
    [[nodiscard]] static Task made(Frame frame) noexcept {
        return Task(frame);
    }
    /// Runs the task until it waits. True if it is done by then, and the waiter is not called.
    template <class Task>
    [[nodiscard]] static bool start(Task& work, task_waiter& waiter) {
        CAIRN_ASSERT(work && "an empty task is awaited");
        return start(work.frame_, waiter);
    }
    template <class Promise>
    [[nodiscard]] static bool start(std::coroutine_handle<Promise> frame, task_waiter& waiter) {
        std::atomic<void*>& state = frame.promise().state;
        frame.resume();
        // It may run on another thread by now, if it went there, and end there. Whoever comes second sees the
        // other: acquire for what the task has left, release for the waiter; both pair with last.
        void* seen = state.load(std::memory_order_acquire);
        return seen != nullptr || !state.compare_exchange_strong(seen, &waiter, std::memory_order_acq_rel,
                                                                 std::memory_order_acquire);
    }
    /// Gives the task's frame away.
    template <class Task>
    [[nodiscard]] static auto release(Task& work) noexcept {
        return std::exchange(work.frame_, nullptr);
    }
    /// What a task that is done has returned or thrown.
    template <class Task>
    static typename Task::value_type take(Task& work) {
        return work.frame_.promise().take();
    }
};

struct task_promise_base {
    // Null until it waits for the first time or ends. Then its waiter; or its own address, if it ended first.
    std::atomic<void*> state = nullptr;

    struct last {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> frame) const noexcept {
            std::atomic<void*>& state = frame.promise().state;
            void* waiter = state.load(std::memory_order_acquire);  // as below: pairs with start()
            if (waiter == nullptr && state.compare_exchange_strong(waiter, &state, std::memory_order_acq_rel,
                                                                   std::memory_order_acquire))
                return std::noop_coroutine();  // start() sees that it is done; the frame may be gone
            auto& it = *static_cast<task_waiter*>(waiter);
            return it.call(it, frame.promise());
        }
        void await_resume() const noexcept {}
    };
    [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
    [[nodiscard]] last final_suspend() const noexcept { return {}; }
};

template <class T>
struct task_promise : task_promise_base {
    using stored = std::conditional_t<std::is_reference_v<T>, std::add_pointer_t<T>, T>;
    std::variant<std::monostate, stored, std::exception_ptr> result;

    [[nodiscard]] auto get_return_object() noexcept;
    void unhandled_exception() noexcept { result.template emplace<2>(std::current_exception()); }
    template <class U = T>
        requires std::convertible_to<U, T>
    void return_value(U&& value) {
        if constexpr (std::is_reference_v<T>)
            result.template emplace<1>(std::addressof(value));
        else
            result.template emplace<1>(std::forward<U>(value));
    }
    T take() {
        if (auto* const error = std::get_if<2>(&result)) std::rethrow_exception(std::move(*error));
        if constexpr (std::is_reference_v<T>)
            return static_cast<T>(*std::get<1>(result));
        else
            return std::move(std::get<1>(result));
    }
};

template <>
struct task_promise<void> : task_promise_base {
    std::exception_ptr error;
    task_promise* next = nullptr;     // of those in its scope, if it is in one
    task_promise** before = nullptr;  // what points to this one

    [[nodiscard]] auto get_return_object() noexcept;
    void unhandled_exception() noexcept { error = std::current_exception(); }
    void return_void() const noexcept {}
    void take() {
        if (error) std::rethrow_exception(std::exchange(error, nullptr));
    }
};

}  // namespace cairn::detail
