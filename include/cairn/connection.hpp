// SPDX-License-Identifier: MIT
// A connected socket with buffers that stay small, whatever its peer does.
//
// Reading from a socket in a loop's handler is easy. Writing is where servers break: send() takes only what
// the system has room for. Who drops the rest loses data; who waits stops the loop for all; who keeps the
// rest in a buffer is at the mercy of a peer that sends requests and never reads the answers: 27 MB of
// pipelined requests made three well-known loops hold 13 to 35 MB. The answer is backpressure: while much
// waits to be written, nothing is read, so the peer's own send() stops, at the other end of the wire.
//
//     peer ─▶ receive buffer ─▶ on_data ─▶ write() ─▶ output ─▶ send buffer ─▶ peer
//                   ▲                                   │
//                   └──── nobody reads while there is ──┘ more than limits.output
//
// What on_data() writes is collected on the stack and sent once when it returns, so 16 pipelined requests
// cost one send(). Only what the system does not take is kept. An idle connection has no buffers.
//
//   operation                  costs                                     memory
//   ------------------------   ---------------------------------------   -------------------------------
//   an event with data         recv, on_data, send; no epoll_ctl         32 KiB of stack meanwhile
//   write                      a copy; send if not within a call         what the system does not take
//   output begins, ends to     one epoll_ctl each
//   wait, or reads to pause
//   expires_after, again       O(1)                                      a timer, 96 bytes, at first use
//   idle                       nothing                                   80 bytes, the handler, and a watch
//
// The ways in which a connection ends:
//
//   the peer ends its side     on_end(); without it, finish()
//   finish()                   what waits is written, then the end; then the peer's end is awaited, so that
//                              no reset of ours destroys what is still on its way to it
//   close(), an error, a       at once; what waits is dropped
//   deadline
//
// and then on_close() is called, once, always from the loop, never from within a call of one's own.
//
// When not to use it: TLS, datagrams. For code that waits in the middle of its work: async_fd.
// Thread safety: for the loop's thread, or for any one while the loop does not run.
//
//   struct echo {
//       cairn::event_loop& loop;
//       std::size_t on_data(cairn::connection<echo>& peer, std::span<std::byte const> data) {
//           peer.write(data);
//           return data.size();
//       }
//       void on_close(cairn::connection<echo>&, std::error_code) { loop.stop(); }
//   };
//   cairn::event_loop loop;
//   auto [server, client] = cairn::socket_pair();
//   cairn::connection<echo> peer(loop, std::move(server), {}, echo{loop});
//   client.reset();
//   loop.run();
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "detail/assert.hpp"
#include "event_loop.hpp"
#include "socket.hpp"

namespace cairn {

/// What a connection may hold. In bytes.
struct connection_limits {
    std::uint32_t output = 64 * 1024;  ///< with so much to be written, nothing is read until half of it
    std::uint32_t input = 64 * 1024;   ///< that on_data() has not taken: so much, or more, is an error,
                                       ///< std::errc::message_size; at least 1
    /// For the peer, after finish(), to take more, or to end its side.
    std::chrono::duration<std::uint32_t, std::milli> linger{5'000};
};

/// @tparam Handler  is a member. Its functions are called from the loop; each may destroy the connection, if
///                  it then touches nothing of it. What they throw comes out of run(), and is the end of
///                  the connection: on_close(std::errc::state_not_recoverable) follows.
///   std::size_t on_data(connection&, std::span<std::byte const> data)
///       All that was not taken yet. Returns how much it takes; the rest comes again, with more behind it. It
///       should stop when congested(): then it is called again when there is room, without more.
///   void on_close(connection&, std::error_code why)   The last call. No error: both sides have ended.
///   void on_end(connection&)                          Optional: the peer writes no more.
///   void on_timeout(connection&)                      Optional: else close(std::errc::timed_out).
///   void on_drained(connection&)                      Optional: all output that had to wait is written.
template <class Handler>
class connection {
  public:
    /// @throws std::system_error, as event_loop::watch(), std::bad_alloc, and what the handler throws; the
    /// descriptor is closed then.
    template <class... Args>
        requires std::constructible_from<Handler, Args...>
    connection(event_loop& loop, unique_fd fd, connection_limits const& limits, Args&&... handler)
        : loop_(loop),
          limits_(limits),
          fd_(std::move(fd)),
          handler_(std::forward<Args>(handler)...),
          watch_(loop.watch(fd_.get(), readiness::in, [this](readiness now) { ready(now); })) {}
    connection(connection const&) = delete;
    connection& operator=(connection const&) = delete;
    /// Closes the socket; on_close() is not called. What waits is dropped.
    ~connection() {
        if (turn_ != nullptr) turn_->gone = true;
    }

    /// Queues a copy of `data` to be written: after the handler's call within which this is, else at once, as
    /// far as the system takes it. After finish() or close() it does nothing. Takes any amount: see
    /// congested(). @throws std::bad_alloc; then some of it may have been written, so close().
    void write(std::span<std::byte const> data) {
        if (is(closed | finishing) || data.empty()) return;
        if (turn_ != nullptr && waiting() == 0) {
            std::size_t const n = std::min(data.size(), sizeof turn_->out - turn_->used);
            std::memcpy(turn_->out + turn_->used, data.data(), n);
            turn_->used += n;
            data = data.subspan(n);
            if (data.empty()) return;
            flush_turn();
        }
        if (waiting() == 0) data = data.subspan(send_some(data));
        if (!is(closed)) keep(data);
        if (turn_ == nullptr) settle_outside();
    }
    /// What waits to be written, in bytes.
    [[nodiscard]] std::size_t pending() const noexcept {
        return waiting() + (turn_ != nullptr ? turn_->used : 0);
    }
    /// Whether so much waits that nothing is read: no more should be written.
    [[nodiscard]] bool congested() const noexcept { return is(full) || pending() >= limits_.output; }

    /// No more is written but what waits, and nothing that still comes is handed to on_data(). on_close()
    /// follows when the peer has ended its side too, or has let limits.linger pass.
    void finish() {
        if (is(closed | finishing)) return;
        flags_ |= finishing;
        forget_input();
        expires_after(limits_.linger);
        if (turn_ == nullptr) settle_outside();
    }
    /// The end, at once. on_close(why) follows from the loop. Precondition: `why` is an errno, of the generic
    /// or the system category. @throws std::bad_alloc, if not within a call of the handler.
    void close(std::error_code why = {}) {
        if (is(closed)) return;
        CAIRN_ASSERT(
            (why.category() == std::generic_category() || why.category() == std::system_category()) &&
            "close() takes an errno");
        flags_ |= closed;
        why_ = why.value();
        watch_.reset();
        if (turn_ == nullptr) settle_outside();
    }
    void close(std::errc why) { close(std::make_error_code(why)); }

    /// on_data() is not called, and nothing is read, until resume().
    void pause() {
        flags_ |= paused;
        if (turn_ == nullptr) settle_outside();
    }
    void resume() {
        if (!is(paused)) return;
        unset(paused);
        if (has_input()) flags_ |= offer_again;
        if (turn_ == nullptr) settle_outside();
    }

    /// on_timeout() is called so long after this turn, unless this is called again before: O(1) if that is
    /// not earlier than what was set. finish() sets it anew. @throws std::bad_alloc
    template <class Rep, class Period>
    void expires_after(std::chrono::duration<Rep, Period> delay) {
        if (is(closed)) return;
        auto const longer = detail::saturate(delay);
        auto const now = loop_.now();
        auto const latest = event_loop::time_point::max();
        arm(longer < latest - now ? now + longer : latest);
    }
    void never_expires() noexcept {
        if (!is(closed)) timer_.cancel();
    }

    [[nodiscard]] Handler& handler() noexcept { return handler_; }
    [[nodiscard]] event_loop& loop() const noexcept { return loop_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// Whether the peer has ended its side.
    [[nodiscard]] bool at_end() const noexcept { return is(ended); }
    /// Whether finish() or close() was called, or an error has ended it.
    [[nodiscard]] bool closing() const noexcept { return is(finishing | closed); }

  private:
    static constexpr std::size_t chunk = 16 * 1024;

    enum flag : std::uint8_t {
        ended = 1,      // the peer has
        finishing = 2,  // finish() was called
        shut = 4,       // and all is written
        closed = 8,     // on_close() is to be called
        told = 16,      // it was
        paused = 32,
        full = 64,         // congested, until half is written
        offer_again = 128  // on_data() has left something because it was congested or paused
    };
    [[nodiscard]] bool is(unsigned flags) const noexcept { return (flags_ & flags) != 0; }
    void unset(unsigned flags) noexcept { flags_ = static_cast<std::uint8_t>(flags_ & ~flags); }

    /// A call from the loop. It lives on the stack, so that what it collects costs no memory afterwards.
    struct turn {
        connection& self;
        bool gone = false;
        std::size_t used = 0;
        std::byte out[chunk];

        explicit turn(connection& of) noexcept : self(of) { self.turn_ = this; }
        turn(turn const&) = delete;
        ~turn() {
            if (!gone) self.turn_ = nullptr;
        }
    };
    struct buffers {
        std::vector<std::byte> input;
        std::vector<std::byte> output;
        std::size_t written = 0;  // of output
    };

    [[nodiscard]] std::size_t waiting() const noexcept {
        return buffers_ ? buffers_->output.size() - buffers_->written : 0;
    }
    [[nodiscard]] bool has_input() const noexcept { return buffers_ && !buffers_->input.empty(); }
    [[nodiscard]] buffers& make_buffers() {
        if (!buffers_) buffers_ = std::make_unique<buffers>();
        return *buffers_;
    }
    void free_buffers() noexcept {
        if (buffers_ && buffers_->input.empty() && waiting() == 0) buffers_.reset();
    }
    void forget_input() noexcept {
        unset(offer_again);
        if (buffers_) buffers_->input.clear();
    }

    // ---- From the loop. ----

    template <class F>
    void within_turn(F what) {
        turn here(*this);
        try {
            what(here);
            if (!here.gone) settle();
        } catch (...) {
            if (here.gone) throw;
            here.used = 0;
            close(std::errc::state_not_recoverable);
            arm(event_loop::time_point::min());
            throw;
        }
    }
    void ready(readiness now) {
        within_turn([&](turn& here) {
            if (waiting() != 0 && has(now, readiness::out | readiness::err | readiness::hup)) write_waiting();
            if (here.gone) return;
            if (is(offer_again) && may_offer()) {
                unset(offer_again);
                std::vector<std::byte> const data = std::exchange(buffers_->input, {});
                offer(here, data);
            } else if (has(now, readiness::in | readiness::err | readiness::hup) && may_read()) {
                read(here);
            }
        });
    }
    void expired() {
        within_turn([&](turn&) {
            if (is(closed)) return;
            if (is(finishing))
                close(pending() == 0 ? std::error_code{} : std::make_error_code(std::errc::timed_out));
            else if constexpr (requires { handler_.on_timeout(*this); })
                handler_.on_timeout(*this);
            else
                close(std::errc::timed_out);
        });
    }

    [[nodiscard]] bool may_offer() const noexcept { return !is(closed | finishing | paused) && !congested(); }
    [[nodiscard]] bool may_read() const noexcept {
        return !is(ended | closed) && (is(finishing) || (!is(paused | full | offer_again)));
    }
    void read(turn& here) {
        std::byte data[chunk];
        std::size_t const kept = has_input() ? buffers_->input.size() : 0;
        std::error_code error;
        std::size_t const n =
            receive(fd_.get(), std::span(data).first(std::min(chunk, limits_.input - kept)), error);
        if (error == std::errc::resource_unavailable_try_again) return;
        if (error) return close(error);
        if (n == 0) {
            flags_ |= ended;
            if (is(finishing)) return;
            if constexpr (requires { handler_.on_end(*this); })
                handler_.on_end(*this);
            else
                finish();
            return;
        }
        if (is(finishing)) return;  // nobody wants it, but a reset for it might destroy what we have sent
        if (kept == 0) return offer(here, std::span(data).first(n));
        std::vector<std::byte> all = std::exchange(buffers_->input, {});
        all.insert(all.end(), data, data + n);
        offer(here, all);
    }
    void offer(turn& here, std::span<std::byte const> data) {
        std::size_t const taken = handler_.on_data(*this, data);
        if (here.gone || is(closed | finishing)) return;
        CAIRN_ASSERT(taken <= data.size() && "on_data() took more than there was");
        data = data.subspan(taken);
        if (data.empty()) return;
        if (congested() || is(paused))
            flags_ |= offer_again;
        else if (data.size() >= limits_.input)
            return close(std::errc::message_size);
        make_buffers().input.assign(data.begin(), data.end());
    }
    void write_waiting() {
        buffers& b = *buffers_;
        std::size_t const n = send_some(std::span<std::byte const>(b.output).subspan(b.written));
        if (is(closed)) return;
        b.written += n;
        if (n != 0 && is(finishing)) expires_after(limits_.linger);
        if (waiting() <= limits_.output / 2) unset(full);
        if (waiting() != 0) return;
        b.output.clear();
        b.written = 0;
        if constexpr (requires { handler_.on_drained(*this); })
            if (!is(finishing)) handler_.on_drained(*this);
    }

    /// After the handler: send what it wrote, see what to wait for next, and whether this was the end.
    void settle() {
        if (turn_->used != 0) flush_turn();
        end_output();
        free_buffers();
        if (!is(closed)) return wait_for_what_is_wanted();
        if (is(told)) return;
        flags_ |= told;
        timer_.cancel();
        fd_.reset();
        handler_.on_close(*this, std::error_code(why_, std::generic_category()));
    }
    /// The same for a call that does not come from the loop: an end is told from there.
    void settle_outside() {
        end_output();
        if (!is(closed))
            wait_for_what_is_wanted();
        else if (!is(told))
            arm(event_loop::time_point::min());
    }
    void end_output() {
        if (!is(finishing) || is(closed) || waiting() != 0) return;
        std::error_code error;
        if (!is(shut | ended)) shutdown_write(fd_.get(), error);
        flags_ |= shut;
        if (is(ended) || error) close();
    }
    void wait_for_what_is_wanted() {
        readiness wanted = readiness::none;
        if (may_read()) wanted |= readiness::in;
        if (waiting() != 0 || (is(offer_again) && !is(paused))) wanted |= readiness::out;
        if (is(full)) wanted &= ~readiness::in;  // after finish() too
        auto const before = static_cast<readiness>(wanted_);
        if (wanted == before) return;
        std::error_code error;
        // With nothing wanted a reset would still be told, again and again.
        if (wanted == readiness::none) {
            watch_.disable();
        } else {
            watch_.modify(wanted, error);
            if (!error && before == readiness::none) watch_.enable(error);
        }
        wanted_ = static_cast<std::uint8_t>(wanted);
        if (error) close(error);
    }

    // ---- Output. ----

    void flush_turn() {
        std::span<std::byte const> const data(turn_->out, std::exchange(turn_->used, 0));
        std::size_t const n = send_some(data);
        if (!is(closed)) keep(data.subspan(n));
    }
    /// What the system takes now: if that is not all, it has no more room. An error is the end.
    [[nodiscard]] std::size_t send_some(std::span<std::byte const> data) {
        if (is(closed)) return 0;
        std::error_code error;
        std::size_t const n = send(fd_.get(), data, error);
        if (error && error != std::errc::resource_unavailable_try_again) close(error);
        return n;
    }
    void keep(std::span<std::byte const> data) {
        if (data.empty()) return;
        buffers& b = make_buffers();
        if (b.written > b.output.size() / 2) {
            b.output.erase(b.output.begin(), b.output.begin() + static_cast<std::ptrdiff_t>(b.written));
            b.written = 0;
        }
        b.output.insert(b.output.end(), data.begin(), data.end());
        if (waiting() >= limits_.output) flags_ |= full;
    }

    // ---- Time. ----

    void arm(event_loop::time_point when) {
        if (!timer_.rearm(when)) timer_ = loop_.call_at(when, [this] { expired(); });
    }

    event_loop& loop_;
    connection_limits limits_;
    unique_fd fd_;
    std::int32_t why_ = 0;
    std::uint8_t flags_ = 0;
    std::uint8_t wanted_ = static_cast<std::uint8_t>(readiness::in);
    turn* turn_ = nullptr;
    std::unique_ptr<buffers> buffers_;
    Handler handler_;
    registration watch_;
    timer timer_;
};

}  // namespace cairn
