// SPDX-License-Identifier: MIT
// What a loop knows of a descriptor that coroutines await: what epoll has told of it, and who waits.
//
// It is the descriptor's handler, so it lives in the slot of its watch, on the cache line that a dispatch has
// just read; and it does not move, so those who wait may point to it.
#pragma once

#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

#include "../event_loop.hpp"
#include "../socket.hpp"
#include "assert.hpp"
#include "poller.hpp"

namespace cairn::detail {

/// Invariant: an operation that waits is in its direction's place, and points back.
class descriptor_state {
  public:
    enum class kind : std::uint8_t { read, accept, wait_in, write, wait_out };

    /// Part of a frame that waits.
    struct operation {
        descriptor_state* of;  // none: it is gone, and nobody will go on
        std::coroutine_handle<> waiting = nullptr;
        int error = 0;
        kind const what;

        operation(descriptor_state* on, kind k) noexcept : of(on), what(k) {
            if (of == nullptr) error = ECANCELED;
        }
        operation(operation const&) = delete;
        operation& operator=(operation const&) = delete;
        ~operation() {
            if (waiting && of != nullptr) of->place(what) = nullptr;
        }
        void await_suspend(std::coroutine_handle<> frame) noexcept {
            CAIRN_ASSERT(of->place(what) == nullptr && "two wait for one direction of an async_fd");
            waiting = frame;
            of->place(what) = this;
        }
        /// Whether it is over.
        [[nodiscard]] bool ended(std::error_code const& e) noexcept {
            if (e.value() == EAGAIN) return false;
            error = e.value();
            return true;
        }
    };
    // Each has an attempt(): true if it is over. await_ready() is the first one.
    struct wait_operation : operation {
        using operation::operation;
        [[nodiscard]] readiness bits() const noexcept { return what == kind::wait_in ? for_in : for_out; }
        [[nodiscard]] bool attempt() noexcept {
            return error != 0 || (has(of->ready(), bits()) && of->may(bits()));
        }
        [[nodiscard]] bool await_ready() noexcept { return attempt(); }
        [[nodiscard]] readiness await_resume() const noexcept {
            return error != 0 ? readiness::none : of->ready() & bits();
        }
    };
    struct read_operation : operation {
        std::byte* data;
        std::size_t size;  // first how much at most, then how much
        read_operation(descriptor_state* on, std::span<std::byte> into) noexcept
            : operation(on, kind::read), data(into.data()), size(into.size()) {}
        [[nodiscard]] bool attempt() noexcept {
            std::error_code e;
            if (error == 0) {
                if (!of->may(for_in)) return false;
                std::size_t const n = of->read({data, size}, e);
                if (!ended(e)) return false;
                size = n;
            } else {
                size = 0;
            }
            return true;
        }
        [[nodiscard]] bool await_ready() noexcept { return attempt(); }
    };
    struct write_operation : operation {
        std::byte const* data;
        std::size_t left;
        write_operation(descriptor_state* on, std::span<std::byte const> from) noexcept
            : operation(on, kind::write), data(from.data()), left(from.size()) {}
        [[nodiscard]] bool attempt() noexcept {
            std::error_code e;
            while (error == 0 && left != 0) {
                if (!of->may(for_out)) return false;
                std::size_t const n = of->write({data, left}, e);
                data += n;
                left -= n;
                if (e && !ended(e)) return false;
            }
            return true;
        }
        [[nodiscard]] bool await_ready() noexcept { return attempt(); }
    };
    struct accept_operation : operation {
        unique_fd made;
        accept_operation(descriptor_state* on) noexcept : operation(on, kind::accept) {}
        [[nodiscard]] bool attempt() noexcept {
            std::error_code e;
            if (error != 0) return true;
            if (!of->may(for_in)) return false;
            made = cairn::accept(of->fd_, e);
            if (e.value() == EAGAIN) of->clear(readiness::in);
            return ended(e);
        }
        [[nodiscard]] bool await_ready() noexcept { return attempt(); }
    };

    descriptor_state(poller& in, int fd) noexcept : poll_(in), fd_(fd) {}
    descriptor_state(descriptor_state const& from) noexcept = default;  // into the slot, before anyone waits
    ~descriptor_state() { forget(); }

    /// Who waits is not resumed any more.
    void forget() noexcept {
        for (operation** const place : {&reader_, &writer_})
            if (operation* const it = std::exchange(*place, nullptr)) it->of = nullptr;
    }

    /// The loop tells. Whoever goes on may end the watch; the slot stays until this returns.
    void operator()(std::uint32_t events) noexcept(false) {
        auto const now = static_cast<readiness>(events);
        ready_ |= static_cast<std::uint16_t>(events);
        calls_ = 0;
        if (reader_ != nullptr && has(now, for_in)) try_again(*reader_);
        if (writer_ != nullptr && has(now, for_out)) try_again(*writer_);
    }
    /// Ends the wait of a direction, if somebody waits.
    void cancel(kind direction) {
        if (operation* const it = place(direction)) {
            it->error = ECANCELED;
            (void)attempt(*it);  // leaves what has been done so far
            go_on(*it);
        }
    }

    [[nodiscard]] readiness ready() const noexcept { return static_cast<readiness>(ready_); }
    void clear(readiness what) noexcept {
        what &= readiness::in | readiness::out;
        ready_ &= static_cast<std::uint16_t>(~static_cast<std::uint32_t>(what));
        hope_ &= static_cast<std::uint8_t>(~static_cast<std::uint32_t>(what));
    }
    [[nodiscard]] std::size_t read(std::span<std::byte> into, std::error_code& error) noexcept {
        if (!worth(for_in)) return would_block(error);
        std::size_t const n = receive(fd_, into, error);
        // After an end or an error epoll tells no more, and a short read is not the last one.
        if (error.value() == EAGAIN || (n < into.size() && n != 0 && !has(ready(), ends)))
            clear(readiness::in);
        return n;
    }
    [[nodiscard]] std::size_t write(std::span<std::byte const> from, std::error_code& error) noexcept {
        if (!worth(for_out)) return would_block(error);
        std::size_t const n = send(fd_, from, error);
        if (error.value() == EAGAIN || (n < from.size() && !error)) clear(readiness::out);
        return n;
    }

    static constexpr readiness all = readiness::in | readiness::out | readiness::rdhup | readiness::edge;

  private:
    static constexpr readiness ends = readiness::rdhup | readiness::hup | readiness::err;
    static constexpr readiness for_in = readiness::in | ends;
    static constexpr readiness for_out = readiness::out | readiness::hup | readiness::err;
    static constexpr std::uint8_t in_a_row = 16;

    [[nodiscard]] operation*& place(kind k) noexcept { return k < kind::write ? reader_ : writer_; }
    /// Whether a system call may succeed.
    [[nodiscard]] bool worth(readiness what) const noexcept {
        return has(static_cast<readiness>(ready_ | hope_), what);
    }
    /// Whether a call is to be made now. If there were many in a row: not before the other descriptors had
    /// their turn.
    [[nodiscard]] bool may(readiness what) noexcept {
        if (!worth(what)) return false;
        if (++calls_ <= in_a_row) return true;
        calls_ = 0;
        std::error_code failed;
        poll_.modify(poll_.of(fd_), static_cast<std::uint32_t>(all), failed);
        return static_cast<bool>(failed);
    }
    [[nodiscard]] static std::size_t would_block(std::error_code& error) noexcept {
        error.assign(EAGAIN, std::system_category());
        return 0;
    }
    [[nodiscard]] static bool attempt(operation& it) noexcept {
        switch (it.what) {
            case kind::read:
                return static_cast<read_operation&>(it).attempt();
            case kind::accept:
                return static_cast<accept_operation&>(it).attempt();
            case kind::write:
                return static_cast<write_operation&>(it).attempt();
            default:
                return static_cast<wait_operation&>(it).attempt();
        }
    }
    void try_again(operation& it) {
        if (attempt(it)) go_on(it);
    }
    void go_on(operation& it) {
        place(it.what) = nullptr;
        std::exchange(it.waiting, nullptr).resume();
    }

    operation* reader_ = nullptr;
    operation* writer_ = nullptr;
    poller& poll_;
    int fd_;
    std::uint16_t ready_ = 0;  // what epoll has told, and no call has denied
    std::uint8_t hope_ = static_cast<std::uint8_t>(readiness::in | readiness::out);  // the same, not told yet
    std::uint8_t calls_ = 0;  // in a row that went well
};

/// What an operation's error becomes.
struct by_exception {
    void operator()(int error, char const* call) const { throw_if({error, std::system_category()}, call); }
};
struct by_code {
    std::error_code& to;
    void operator()(int error, char const*) const noexcept { to.assign(error, std::system_category()); }
};

}  // namespace cairn::detail
