// SPDX-License-Identifier: MIT
// A socket, or anything that epoll watches, whose reads and writes a coroutine awaits.
//
// The plain way to await a descriptor is to register it, wait, and take it out again: two system calls, some
// 1,900 ns, for each wait. Here it is registered once, for both directions and edge-triggered, so that epoll
// tells of changes only, and what it told is kept. Then an operation
//
//     try the system call ──▶ it went well: go on, without a look at the loop
//            │ EAGAIN
//            ▼
//     wait for the next event of this direction, try again there, and resume the coroutine if that went well
//
// A read that got less than it asked for has emptied the socket, so the next one does not try in vain: it
// waits at once. That is two system calls for a request and its answer, as of a loop written by hand.
//
// An edge-triggered descriptor that is always ready would never wait, and no other one would have its turn.
// So after 16 calls that went well in a row the operation asks epoll to report the descriptor again, behind
// the others, and waits for that.
//
//   operation             costs                                     memory
//   -------------------   ---------------------------------------   ------------------------------------
//   constructor           epoll_ctl, some 1 µs                      24 bytes, and a slot of 64 in the loop
//   read_some, write_all  its system calls; + 5 ns if it waits      40, 48 bytes in the frame of who awaits
//   cancel                O(1)
//
// When not to use it: regular files, which are always ready and yet block. Datagrams: await readable(), and
// call recvmsg until EAGAIN; read_some takes a short one for a sign that no other one is there.
// Source: the readiness that tokio's and mio's users know, with the short-read rule of epoll(7), question 9.
// Thread safety: for the loop's thread, or for any one while the loop does not run.
//
//   cairn::event_loop loop;
//   auto [mine, yours] = cairn::socket_pair();
//   cairn::async_fd left(loop, std::move(mine)), right(loop, std::move(yours));
//   auto talk = [](cairn::async_fd& from, cairn::async_fd& to) -> cairn::task<std::size_t> {
//       co_await from.write_all(std::as_bytes(std::span("hello", 5)));
//       std::array<std::byte, 64> text;
//       co_return co_await to.read_some(text);
//   };
//   std::cout << cairn::run(loop, talk(left, right)) << " bytes\n";
#pragma once

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

#include "detail/descriptor_state.hpp"
#include "event_loop.hpp"
#include "socket.hpp"
#include "task.hpp"

namespace cairn {

/// Owns a descriptor that is non-blocking, and watches it from its birth to its end, when it is closed. At
/// most one coroutine waits to read and one to write. A coroutine that is destroyed while it waits has waited
/// no longer. Move-only, also while somebody waits; who still waits at its end is never resumed, as is who
/// waits when the loop ends. An operation on one that is empty, or whose loop is gone, fails with
/// std::errc::operation_canceled.
class async_fd {
  public:
    async_fd() noexcept = default;
    /// @throws std::system_error: EPERM, a regular file; EBADF, EEXIST; std::bad_alloc. The descriptor is
    /// closed then.
    async_fd(event_loop& loop, unique_fd fd) : fd_(std::move(fd)) {
        loop.core_->check_thread();
        std::error_code error;
        auto& poll = loop.core_->poll;
        auto const made =
            poll.add(fd_.get(), static_cast<std::uint32_t>(state::all), state(poll, fd_.get()), error);
        detail::throw_if(error, "epoll_ctl");
        watch_ = registration(loop.core_, made);
    }
    async_fd(async_fd&&) noexcept = default;
    async_fd& operator=(async_fd&& from) noexcept {
        if (this != &from) {
            reset();
            fd_ = std::move(from.fd_);
            watch_ = std::move(from.watch_);
        }
        return *this;
    }
    ~async_fd() { reset(); }

    /// Ends the watch and closes the descriptor.
    void reset() noexcept { release().reset(); }
    /// Ends the watch and gives the descriptor away.
    [[nodiscard]] unique_fd release() noexcept {
        if (state* const it = known()) it->forget();
        watch_.reset();
        return std::move(fd_);
    }
    [[nodiscard]] int get() const noexcept { return fd_.get(); }

    // ---- Without waiting. ----

    /// As receive() and send(), but without a system call if it would be in vain.
    [[nodiscard]] std::size_t try_read(std::span<std::byte> into, std::error_code& error) noexcept {
        if (state* const it = known()) return it->read(into, error);
        return gone(error);
    }
    [[nodiscard]] std::size_t try_write(std::span<std::byte const> from, std::error_code& error) noexcept {
        if (state* const it = known()) return it->write(from, error);
        return gone(error);
    }
    /// To be called after a system call of one's own has said EAGAIN: it is not ready for `what`, which is
    /// in, out, or both.
    void clear(readiness what) noexcept {
        if (state* const it = known()) it->clear(what);
    }
    /// Who waits goes on with std::errc::operation_canceled, or of readable() and writable() with none,
    /// before this returns. This object may be gone then.
    void cancel() {
        detail::core_ref const core = watch_.core_;
        auto const watch = watch_.watch_;
        for (auto const direction : {state::kind::read, state::kind::write})
            if (core && core->open && core->poll.contains(watch))
                core->poll.handler<state>(watch)->cancel(direction);
    }

    // ---- With co_await. Those without an error_code throw std::system_error instead. ----

    /// Until there is something to read, an end or an error: what of it epoll has told of.
    [[nodiscard]] auto readable() noexcept { return state::wait_operation(known(), state::kind::wait_in); }
    /// Until there is room to write, or an error.
    [[nodiscard]] auto writable() noexcept { return state::wait_operation(known(), state::kind::wait_out); }

    // What is read into, and written, is anything that a span of bytes is made of. It is taken by reference,
    // for g++ would keep a copy of a span in the caller's frame.

    /// What is there, or what comes first: at most as much as fits. 0 is the end. It is written to right
    /// before the coroutine goes on, so those that do not wait while they need it may share it.
    template <class To>
        requires std::constructible_from<std::span<std::byte>, To&>
    [[nodiscard]] auto read_some(To&& into) noexcept {
        return read_operation<detail::by_exception>{{known(), std::span<std::byte>(into)}, {}};
    }
    template <class To>
        requires std::constructible_from<std::span<std::byte>, To&>
    [[nodiscard]] auto read_some(To&& into, std::error_code& error) noexcept {
        return read_operation<detail::by_code>{{known(), std::span<std::byte>(into)}, {error}};
    }
    /// All of it, as the peer makes room.
    template <class From>
        requires std::constructible_from<std::span<std::byte const>, From const&>
    [[nodiscard]] auto write_all(From const& from) noexcept {
        return write_operation<detail::by_exception>{{known(), std::span<std::byte const>(from)}, {}};
    }
    /// The same. Returns how much was written: less than all only on an error.
    template <class From>
        requires std::constructible_from<std::span<std::byte const>, From const&>
    [[nodiscard]] auto write_all(From const& from, std::error_code& error) noexcept {
        std::span<std::byte const> const bytes(from);
        return counted_write{{{known(), bytes}, {error}}, bytes.size()};
    }
    /// The next connection to a listening socket. Without descriptors left it does not wait, but says EMFILE:
    /// so pause, or close something, before the next call.
    [[nodiscard]] auto accept() noexcept { return accept_operation<detail::by_exception>{{known()}, {}}; }
    [[nodiscard]] auto accept(std::error_code& error) noexcept {
        return accept_operation<detail::by_code>{{known()}, {error}};
    }

  private:
    using state = detail::descriptor_state;

    template <class Report>
    struct read_operation final : state::read_operation {
        [[no_unique_address]] Report report;
        std::size_t await_resume() const {
            report(this->error, "recv");
            return this->size;
        }
    };
    template <class Report>
    struct write_operation : state::write_operation {
        [[no_unique_address]] Report report;
        void await_resume() const { report(this->error, "send"); }
    };
    struct counted_write final : write_operation<detail::by_code> {
        std::size_t all;
        std::size_t await_resume() const {
            report(error, "send");
            return all - left;
        }
    };
    template <class Report>
    struct accept_operation final : state::accept_operation {
        [[no_unique_address]] Report report;
        [[nodiscard]] unique_fd await_resume() {
            report(this->error, "accept4");
            return std::move(this->made);
        }
    };

    [[nodiscard]] state* known() const noexcept {
        return watch_ ? watch_.core_->poll.handler<state>(watch_.watch_) : nullptr;
    }
    [[nodiscard]] static std::size_t gone(std::error_code& error) noexcept {
        error.assign(ECANCELED, std::system_category());
        return 0;
    }

    unique_fd fd_;
    registration watch_;
};

/// co_await connect(loop, to): a socket that is connected. @throws std::system_error
[[nodiscard]] inline task<unique_fd> connect(event_loop& loop, endpoint to) {
    async_fd socket(loop, connect(to));
    (void)co_await socket.writable();
    detail::throw_if(pending_error(socket.get()), "connect");
    co_return socket.release();
}

}  // namespace cairn
