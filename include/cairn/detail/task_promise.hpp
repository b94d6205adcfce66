// SPDX-License-Identifier: MIT
// The part of a task's frame that is not the user's: what it returns, and who waits for that.
#pragma once

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

/// A task that this thread has started, by a call that has not returned yet. Of those there may be several,
/// each started by the one before. If a task ends within that call, who called it sees that and goes on. If
/// not, who waits for it is resumed, on the thread where it ends: it may have gone to another one meanwhile,
/// and even have ended there before the call returned.
class task_start {
  public:
    explicit task_start(task_promise_base const& task) noexcept : task_(task), outer_(innermost_) {
        innermost_ = this;
    }
    task_start(task_start const&) = delete;
    task_start& operator=(task_start const&) = delete;
    ~task_start() { innermost_ = outer_; }
    [[nodiscard]] bool ended() const noexcept { return ended_; }
    /// Whether the task ends within the call that has started it.
    [[nodiscard]] static bool ends(task_promise_base const& task) noexcept {
        if (innermost_ == nullptr || &innermost_->task_ != &task) return false;
        return innermost_->ended_ = true;
    }

  private:
    inline static constinit thread_local task_start* innermost_ = nullptr;
    task_promise_base const& task_;
    task_start* outer_;
    bool ended_ = false;
};

struct task_promise_base {
    task_waiter* waiter = nullptr;

    struct last {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> frame) const noexcept {
            if (task_start::ends(frame.promise())) return std::noop_coroutine();
            task_waiter& it = *frame.promise().waiter;
            return it.call(it, frame.promise());
        }
        void await_resume() const noexcept {}
    };
    [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
    [[nodiscard]] last final_suspend() const noexcept { return {}; }
};

/// What cairn does with a task's frame; it is private to others.
struct task_access {
    template <class Task, class Frame>
    [[nodiscard]] static Task made(Frame frame) noexcept {
        return Task(frame);
    }
    /// Runs the task until it waits. True if it is done by then, and the waiter is not called. Else it may
    /// have been, so neither the task nor the waiter may be there any more.
    template <class Task>
    [[nodiscard]] static bool start(Task& work, task_waiter& waiter) {
        CAIRN_ASSERT(work && "an empty task is awaited");
        return start(work.frame_, waiter);
    }
    template <class Promise>
    [[nodiscard]] static bool start(std::coroutine_handle<Promise> frame, task_waiter& waiter) {
        frame.promise().waiter = &waiter;
        task_start const now(frame.promise());
        frame.resume();
        return now.ended();
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
