// SPDX-License-Identifier: MIT
// What an event loop stores of a handler: the object itself, if it fits, and a function that knows its type.
// std::function would do, but it asks for copies and takes no larger object without an allocation than two
// words; here 32 bytes fit, and what is larger costs one allocation when it is stored, none when it runs.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace cairn::detail {

/// Whether an F is stored in place, in `bytes` bytes.
template <class F, std::size_t Bytes>
inline constexpr bool fits_in = sizeof(F) <= Bytes && alignof(F) <= alignof(void*);

/// A handler that stays where it was made, and is called any number of times.
template <std::size_t Bytes, class... Args>
class closure {
  public:
    closure() noexcept = default;
    closure(closure const&) = delete;
    closure& operator=(closure const&) = delete;
    ~closure() { reset(); }

    /// Stores a handler. Precondition: there is none. If its constructor throws, there is none still.
    template <class F>
    void emplace(F&& f) {
        using stored = std::decay_t<F>;
        if constexpr (fits_in<stored, Bytes>) {
            ::new (static_cast<void*>(bytes_)) stored(std::forward<F>(f));
            call_ = [](void* at, Args... args) { (*static_cast<stored*>(at))(args...); };
            if constexpr (!std::is_trivially_destructible_v<stored>)
                destroy_ = [](void* at) noexcept { std::destroy_at(static_cast<stored*>(at)); };
        } else {
            ::new (static_cast<void*>(bytes_)) stored*(new stored(std::forward<F>(f)));
            call_ = [](void* at, Args... args) { (**static_cast<stored**>(at))(args...); };
            destroy_ = [](void* at) noexcept { delete *static_cast<stored**>(at); };
        }
    }
    void operator()(Args... args) { call_(bytes_, args...); }
    /// The handler. Precondition: it is an F, and fits in place.
    template <class F>
    [[nodiscard]] F* target() noexcept {
        static_assert(fits_in<F, Bytes>);
        return std::launder(reinterpret_cast<F*>(bytes_));
    }
    /// Destroys the handler, if there is one. It may call back: then there is none already.
    void reset() noexcept {
        if (auto* const destroy = std::exchange(destroy_, nullptr)) destroy(bytes_);
    }

  private:
    void (*call_)(void*, Args...) = nullptr;
    void (*destroy_)(void*) noexcept = nullptr;
    alignas(void*) std::byte bytes_[Bytes];
};

/// A handler that is moved about and called once: 32 bytes, two to a cache line.
class task {
  public:
    static constexpr std::size_t bytes = 24;

    template <class F>
        requires(!std::is_same_v<std::decay_t<F>, task>)
    explicit task(F&& f) {
        using stored = std::decay_t<F>;
        // A move must not throw: a queue that grows could not keep what it holds.
        if constexpr (fits_in<stored, bytes> && std::is_nothrow_move_constructible_v<stored>) {
            ::new (static_cast<void*>(bytes_)) stored(std::forward<F>(f));
            manage_ = &in_place<stored>;
        } else {
            ::new (static_cast<void*>(bytes_)) stored*(new stored(std::forward<F>(f)));
            manage_ = &elsewhere<stored>;
        }
    }
    task(task&& from) noexcept : manage_(std::exchange(from.manage_, nullptr)) {
        if (manage_ != nullptr) manage_(what::move, from.bytes_, bytes_);
    }
    task& operator=(task&&) = delete;
    ~task() {
        if (manage_ != nullptr) manage_(what::destroy, bytes_, nullptr);
    }

    /// Calls the handler and destroys it, also if it throws.
    void run() { std::exchange(manage_, nullptr)(what::run, bytes_, nullptr); }

  private:
    enum class what { run, destroy, move };

    template <class Stored>
    static void in_place(what todo, void* at, void* to) {
        auto* const stored = static_cast<Stored*>(at);
        struct at_end {
            Stored* it;
            ~at_end() { std::destroy_at(it); }
        } const end{stored};
        if (todo == what::run)
            (*stored)();
        else if (todo == what::move)
            ::new (to) Stored(std::move(*stored));
    }
    template <class Stored>
    static void elsewhere(what todo, void* at, void* to) {
        auto* const stored = *static_cast<Stored**>(at);
        if (todo == what::move) {
            ::new (to) Stored*(stored);
            return;
        }
        std::unique_ptr<Stored> const owner(stored);
        if (todo == what::run) (*stored)();
    }

    void (*manage_)(what, void*, void*);
    alignas(void*) std::byte bytes_[bytes];
};
static_assert(sizeof(task) == 32);

}  // namespace cairn::detail
