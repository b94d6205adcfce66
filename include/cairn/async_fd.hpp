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
//   constructor           epoll_ctl, some 1 µs                      64 bytes, and a slot of 64 in the loop
//   read_some, write_all  its system calls; + 3 ns if it waits      56 bytes in the frame of who awaits
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
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

#include "detail/assert.hpp"
#include "event_loop.hpp"
#include "socket.hpp"
#include "task.hpp"

namespace cairn {

/// Owns a descriptor that is non-blocking, and watches it from its birth to its end, when it is closed. At
/// most one coroutine waits to read and one to write. A coroutine that is destroyed while it waits has waited
/// no longer. Not movable. Precondition of its end: nobody waits.
class async_fd {
  public:
    /// @throws std::system_error: EPERM, a regular file; EBADF, EEXIST. The descriptor is closed then.
    async_fd(event_loop& loop, unique_fd fd)
        : fd_(std::move(fd)), watch_(loop.watch(fd_.get(), all, [this](readiness now) { told(now); })) {}
    async_fd(async_fd const&) = delete;
    async_fd& operator=(async_fd const&) = delete;
    ~async_fd() {
        CAIRN_ASSERT(reader_ == nullptr && writer_ == nullptr && "an async_fd ends while somebody waits");
        if (gone_ != nullptr) *gone_ = true;
    }

    [[nodiscard]] int get() const noexcept { return fd_.get(); }
    /// Ends the watch and gives the descriptor away. Precondition: nobody waits.
    [[nodiscard]] unique_fd release() noexcept {
        watch_.reset();
        return std::move(fd_);
    }

    // ---- Without waiting. ----

    /// As receive() and send(), but without a system call if it would be in vain.
    [[nodiscard]] std::size_t try_read(std::span<std::byte> into, std::error_code& error) noexcept {
        if (!has(try_, for_in)) return would_block(error);
        std::size_t const n = receive(fd_.get(), into, error);
        if (error == std::errc::resource_unavailable_try_again || (n < into.size() && n != 0 && !ended()))
            clear(readiness::in);
        return n;
    }
    [[nodiscard]] std::size_t try_write(std::span<std::byte const> from, std::error_code& error) noexcept {
        if (!has(try_, for_out)) return would_block(error);
        std::size_t const n = send(fd_.get(), from, error);
        if (error == std::errc::resource_unavailable_try_again || (n < from.size() && !error))
            clear(readiness::out);
        return n;
    }
    /// To be called after a system call of one's own has said EAGAIN: it is not ready for `what`, which is
    /// in, out, or both.
    void clear(readiness what) noexcept {
        try_ &= ~what;
        ready_ &= ~(what & (readiness::in | readiness::out));
    }
    /// Who waits goes on with std::errc::operation_canceled, or of readable() and writable() with none,
    /// before this returns. This object may be gone then.
    void cancel() noexcept { tell(readiness::none, true); }

    // ---- With co_await. Those without an error_code throw std::system_error instead. ----

    /// Until there is something to read, an end or an error: what of it epoll has told of.
    [[nodiscard]] auto readable() noexcept { return wait_operation(*this, reader_, for_in); }
    /// Until there is room to write, or an error.
    [[nodiscard]] auto writable() noexcept { return wait_operation(*this, writer_, for_out); }

    /// What is there, or what comes first: at most into.size() bytes. 0 is the end.
    [[nodiscard]] auto read_some(std::span<std::byte> into) noexcept {
        return read_operation(*this, into, nullptr);
    }
    [[nodiscard]] auto read_some(std::span<std::byte> into, std::error_code& error) noexcept {
        return read_operation(*this, into, &error);
    }
    /// All of it, as the peer makes room. Returns how much was written: less than all only on an error.
    auto write_all(std::span<std::byte const> from) noexcept { return write_operation(*this, from, nullptr); }
    [[nodiscard]] auto write_all(std::span<std::byte const> from, std::error_code& error) noexcept {
        return write_operation(*this, from, &error);
    }
    /// The next connection to a listening socket. Without descriptors left it does not wait, but says EMFILE.
    [[nodiscard]] auto accept() noexcept { return accept_operation(*this, nullptr); }
    [[nodiscard]] auto accept(std::error_code& error) noexcept { return accept_operation(*this, &error); }

  private:
    static constexpr readiness ends = readiness::rdhup | readiness::hup | readiness::err;
    static constexpr readiness for_in = readiness::in | ends;
    static constexpr readiness for_out = readiness::out | readiness::hup | readiness::err;
    static constexpr readiness all = readiness::in | readiness::out | readiness::rdhup | readiness::edge;
    static constexpr std::uint8_t in_a_row = 16;

    /// Part of a frame that waits. attempt() tries again: true if it is over.
    struct operation {
        async_fd& on;
        operation*& place;  // on's reader or writer
        std::coroutine_handle<> parent;
        int error = 0;

        operation(async_fd& fd, operation*& at) noexcept : on(fd), place(at) {}
        operation(operation const&) = delete;
        operation& operator=(operation const&) = delete;
        [[nodiscard]] virtual bool attempt() noexcept = 0;
        [[nodiscard]] bool await_ready() noexcept { return attempt(); }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            CAIRN_ASSERT(place == nullptr && "two wait for one direction of an async_fd");
            parent = waiting;
            place = this;
        }

      protected:
        ~operation() {
            if (place == this) place = nullptr;
        }
        /// Whether a call may be made now. If there were many in a row: not before the other descriptors had
        /// their turn.
        [[nodiscard]] bool may(readiness what) const noexcept {
            if (!has(on.try_, what)) return false;
            if (++on.calls_ <= in_a_row) return true;
            on.calls_ = 0;
            std::error_code failed;
            on.watch_.modify(all, failed);
            return static_cast<bool>(failed);
        }
        [[nodiscard]] bool finish(std::error_code const& e) noexcept {
            if (e == std::errc::resource_unavailable_try_again) return false;
            error = e.value();
            return true;
        }
        void report(std::error_code* to, char const* call) const {
            std::error_code const e(error, std::system_category());
            if (to != nullptr)
                *to = e;
            else
                detail::throw_if(e, call);
        }
    };
    struct wait_operation final : operation {
        readiness what;
        wait_operation(async_fd& fd, operation*& at, readiness of) noexcept : operation(fd, at), what(of) {}
        [[nodiscard]] bool attempt() noexcept override { return has(on.ready_, what) && may(what); }
        [[nodiscard]] readiness await_resume() const noexcept {
            return error != 0 ? readiness::none : on.ready_ & what;
        }
    };
    struct read_operation final : operation {
        std::span<std::byte> into;
        std::error_code* to;
        std::size_t n = 0;
        read_operation(async_fd& fd, std::span<std::byte> data, std::error_code* e) noexcept
            : operation(fd, fd.reader_), into(data), to(e) {}
        [[nodiscard]] bool attempt() noexcept override {
            std::error_code e;
            if (!may(for_in)) return false;
            n = on.try_read(into, e);
            return finish(e);
        }
        std::size_t await_resume() const {
            report(to, "recv");
            return n;
        }
    };
    struct write_operation final : operation {
        std::span<std::byte const> from;
        std::error_code* to;
        std::size_t n = 0;
        write_operation(async_fd& fd, std::span<std::byte const> data, std::error_code* e) noexcept
            : operation(fd, fd.writer_), from(data), to(e) {}
        [[nodiscard]] bool attempt() noexcept override {
            std::error_code e;
            while (n != from.size()) {
                if (!may(for_out)) return false;
                n += on.try_write(from.subspan(n), e);
                if (e) return finish(e);
            }
            return true;
        }
        std::size_t await_resume() const {
            report(to, "send");
            return n;
        }
    };
    struct accept_operation final : operation {
        std::error_code* to;
        unique_fd made;
        accept_operation(async_fd& fd, std::error_code* e) noexcept : operation(fd, fd.reader_), to(e) {}
        [[nodiscard]] bool attempt() noexcept override {
            std::error_code e;
            if (!may(for_in)) return false;
            made = cairn::accept(on.get(), e);
            if (e == std::errc::resource_unavailable_try_again) on.clear(readiness::in);
            return finish(e);
        }
        [[nodiscard]] unique_fd await_resume() {
            report(to, "accept4");
            return std::move(made);
        }
    };

    [[nodiscard]] static std::size_t would_block(std::error_code& error) noexcept {
        error.assign(EAGAIN, std::system_category());
        return 0;
    }
    /// Whether there is an end or an error behind what can be read: then epoll tells no more, and a short
    /// read is not the last one.
    [[nodiscard]] bool ended() const noexcept { return has(ready_, ends); }

    void told(readiness now) noexcept {
        ready_ |= now;
        try_ |= now;
        calls_ = 0;
        tell(now, false);
    }
    /// Whoever goes on may destroy this object.
    void tell(readiness now, bool cancelled) noexcept {
        bool gone = false;
        bool* const outer = std::exchange(gone_, &gone);
        if (reader_ != nullptr && (cancelled || has(now, for_in))) go_on(reader_, cancelled);
        if (!gone && writer_ != nullptr && (cancelled || has(now, for_out))) go_on(writer_, cancelled);
        if (!gone)
            gone_ = outer;
        else if (outer != nullptr)
            *outer = true;
    }
    static void go_on(operation*& place, bool cancelled) noexcept {
        operation& it = *place;
        if (cancelled)
            it.error = ECANCELED;
        else if (!it.attempt())
            return;
        place = nullptr;
        it.parent.resume();
    }

    unique_fd fd_;
    registration watch_;
    operation* reader_ = nullptr;
    operation* writer_ = nullptr;
    bool* gone_ = nullptr;
    readiness ready_ = readiness::none;               // what epoll has told, and no call has denied
    readiness try_ = readiness::in | readiness::out;  // what is worth a call: at first, all
    std::uint8_t calls_ = 0;                          // that went well in a row
};

/// co_await connect(loop, to): a socket that is connected. @throws std::system_error
[[nodiscard]] inline task<unique_fd> connect(event_loop& loop, endpoint to) {
    async_fd socket(loop, connect(to));
    (void)co_await socket.writable();
    detail::throw_if(pending_error(socket.get()), "connect");
    co_return socket.release();
}

}  // namespace cairn
