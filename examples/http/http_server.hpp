// SPDX-License-Identifier: MIT
// A small HTTP/1.1 server on an event loop: one thread, any number of clients, answers now or later.
//
//     bytes ─▶ connection ─▶ parser ─▶ handler(request, responder)
//                  ▲                             │ send(), at once, later, or in pieces
//                  └──── answers in the order of their requests ◀──┘
//
// Here is the server and how it reads requests, keeps the time and writes answers; what a handler holds, and
// the queue in which answers wait for their turn, is http_session.hpp; the grammar is http_message.hpp.
//
// What a client can cost is bounded, whatever it sends, or does not read: header, body, requests in flight,
// output (connection.hpp stops reading), connections, and time: a header that trickles in, a body, an idle
// connection, and output that nobody takes each have a deadline. One timer for each client, set anew in O(1).
//
//   limit passed                     what happens
//   ------------------------------   -------------------------------------------------------------
//   header, body                     431, 413, and the end
//   pipelined                        it is not read from, until an answer has left
//   connections                      nobody is accepted, until one has left; the system keeps them waiting
//   header_time, body_time           408, and the end
//   idle, write_time                 the end; one who does not take its last answers has both, in this order
//
// Not here: TLS, HTTP/2, bodies of requests in pieces. nginx in front has them.
// Thread safety: for the loop's thread. From another one: loop.post().
//
//   cairn::event_loop loop;
//   http::server server(loop, [](http::request const& what, http::responder to) {
//       to.send({.body = "hello, " + std::string(what.path())});
//   });
//   server.listen(cairn::endpoint::loopback(8080));
//   loop.run();
#pragma once

#include <cairn/connection.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "http_message.hpp"
#include "http_session.hpp"

namespace http {

/// The server. Precondition of its destructor: not within a handler. Clients that are left are cut off.
class server {
  public:
    using handler = std::function<void(request const&, responder)>;

    /// Calls handle() for each request. What it throws is given to on_error(), if that is set, and the client
    /// gets a 500; else it comes out of the loop's run(), and the client is cut off.
    server(cairn::event_loop& loop, handler handle, limits const& bounds = {})
        : loop_(loop), handle_(std::move(handle)), limits_(bounds) {}
    server(server const&) = delete;
    server& operator=(server const&) = delete;
    ~server() {
        clients_.swap(leaving_);  // nobody is to be found any more while they go
        leaving_.clear();
    }

    /// Accepts clients from now on, once. Returns where, for a port that the system chose.
    /// @throws std::system_error
    cairn::endpoint listen(cairn::endpoint const& at, cairn::listen_options const& options = {}) {
        return listen(cairn::listen(at, options));
    }
    /// The same for a socket that listens already.
    cairn::endpoint listen(cairn::unique_fd listener) {
        acceptor_.emplace(std::move(listener));
        watch_ = loop_.watch(acceptor_->fd(), cairn::readiness::in, [this](cairn::readiness) { accept(); });
        return address_ = cairn::endpoint::of(acceptor_->fd());
    }
    /// Serves one that is connected already; after stop(), closes it.
    void adopt(cairn::unique_fd fd) {
        if (stopping_) return;
        cairn::connection_limits bounds;
        bounds.output = limits_.output;
        bounds.linger = std::chrono::duration_cast<decltype(bounds.linger)>(limits_.linger);
        bounds.input = 2 * limits_.header + 32 * 1024;  // session::on_data() looks before
        auto made = std::make_shared<client>(loop_, std::move(fd), bounds, *this);
        made->handler().position = clients_.size();
        clients_.push_back(made);
        ++accepted_;
        made->handler().accepted(made);
    }
    /// Accepts no more, lets what has begun be answered, and calls then() from the loop when all have gone,
    /// which is after `limit` at the latest. Once.
    template <class Rep, class Period>
    void stop(std::chrono::duration<Rep, Period> limit, std::function<void()> then = {}) {
        if (std::exchange(stopping_, true)) return;
        watch_.reset();
        retry_.cancel();
        acceptor_.reset();
        stopped_ = std::move(then);
        for (auto const& one : clients_) one->handler().stop(*one);
        late_ = loop_.call_after(limit, [this] {
            for (auto const& one : clients_) one->close(std::errc::timed_out);
        });
        if (clients_.empty()) tell_stopped();
    }
    std::function<void(std::exception_ptr)> on_error;
    /// What a client is told whose request cannot be read: a status, and its words. Else it is those words.
    std::function<response(unsigned, std::string_view)> on_refused;

    [[nodiscard]] cairn::endpoint const& address() const noexcept { return address_; }
    [[nodiscard]] cairn::event_loop& loop() const noexcept { return loop_; }
    [[nodiscard]] bool stopping() const noexcept { return stopping_; }
    /// Clients now, clients ever, requests ever, and clients that were closed for want of descriptors.
    [[nodiscard]] std::size_t connections() const noexcept { return clients_.size(); }
    [[nodiscard]] std::uint64_t accepted() const noexcept { return accepted_; }
    [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }
    [[nodiscard]] std::size_t shed() const noexcept { return acceptor_ ? acceptor_->shed_count() : 0; }

  private:
    friend class session;

    void accept() {
        for (int i = 0; i < 64; ++i) {  // then the others have their turn
            if (clients_.size() >= limits_.connections) return watch_.disable();
            std::error_code error;
            cairn::unique_fd fd = acceptor_->accept(error);
            try {
                if (fd) adopt(std::move(fd));
            } catch (std::system_error const& e) {
                error = e.code();
            }
            if (error == std::errc::resource_unavailable_try_again) return;
            if (!error) continue;
            // Out of descriptors, or of memory. It stays ready, so look away for a while.
            watch_.disable();
            retry_ = loop_.call_after(std::chrono::milliseconds(20), [this] { watch_.enable(); });
            return;
        }
    }
    void remove(client& c) {
        std::size_t const at = c.handler().position;
        if (at >= clients_.size() || clients_[at].get() != &c) return;
        clients_.back()->handler().position = at;
        std::shared_ptr<client> const gone = std::exchange(clients_[at], std::move(clients_.back()));
        clients_.pop_back();
        if (clients_.size() + 1 == limits_.connections && !retry_ && watch_) watch_.enable();
        if (stopping_ && clients_.empty()) tell_stopped();
    }
    void tell_stopped() {
        late_.cancel();
        if (stopped_) loop_.post(std::exchange(stopped_, {}));
    }
    [[nodiscard]] std::string const& date() {
        if (std::time_t const now = std::time(nullptr); now != second_) date_ = http_date(second_ = now);
        return date_;
    }

    cairn::event_loop& loop_;
    handler handle_;
    limits limits_;
    std::optional<cairn::acceptor> acceptor_;
    cairn::endpoint address_;
    cairn::registration watch_;
    cairn::timer retry_, late_;
    std::vector<std::shared_ptr<client>> clients_, leaving_;
    std::function<void()> stopped_;
    std::string scratch_;  // what is about to be written
    std::string date_;
    std::time_t second_ = -1;
    std::uint64_t accepted_ = 0, requests_ = 0;
    bool stopping_ = false;
};

// ---- A client's requests. ----

inline std::size_t session::on_data(client& c, std::span<std::byte const> bytes) {
    std::string_view const data(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    std::size_t taken = 0;
    while (taken != data.size() && !c.congested()) {
        if (!parser_) {
            if (last_) return data.size();
            if (slots_.size() >= server_.limits_.pipelined) {
                paused_ = true;
                c.pause();
                break;
            }
            // Empty lines before a request: RFC 9112, 2.2.
            taken = std::min(data.find_first_not_of("\r\n", taken), data.size());
            if (taken == data.size()) break;
            parser_.emplace(server_.limits_.header, server_.limits_.body);
        }
        bool const had_header = parser_->is_header_done();
        unsigned status = 0;
        bool more = false;
        taken += parser_->take(data.substr(taken), status, more);
        if (status == 0 && !had_header && parser_->is_header_done()) {
            status = parser_->check();
            continue_ = status == 0 && parser_->expects_continue();
            if (continue_ && slots_.empty()) advance(c);
        }
        if (status != 0) {
            fail(c, status);
            return data.size();
        }
        if (parser_->is_done())
            received();
        else if (more)
            break;
    }
    settle(c);
    return taken;
}

/// A request is complete.
inline void session::received() {
    request const what = std::move(parser_->message());
    slot one;
    one.how.http_1_0 = what.http_1_0();
    one.how.head = what.method() == "HEAD";
    if (!parser_->keep_alive() || server_.stopping_) last_ = true;
    parser_.reset();
    phase_ = phase::none;
    continue_ = false;
    slots_.push_back(std::move(one));
    ++server_.requests_;
    responder to(self_, first_ + slots_.size() - 1);
    try {
        server_.handle_(what, std::move(to));
    } catch (...) {
        if (!server_.on_error) throw;
        server_.on_error(std::current_exception());
    }
}

/// Answers with an error, and then ends: where the next request begins, nobody knows.
inline void session::fail(client& c, unsigned status) {
    slots_.emplace_back();
    slots_.back().how.head = parser_ && parser_->message().method() == "HEAD";
    parser_.reset();
    continue_ = false;
    last_ = true;
    auto const words = boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status));
    std::string_view const reason(words.data(), words.size());
    answer(c, first_ + slots_.size() - 1,
           server_.on_refused ? server_.on_refused(status, reason)
                              : response{.status = status, .body = std::string(reason) + '\n'});
    settle(c);
}

inline void session::on_end(client& c) {
    // One who ends its side after its requests waits for the answers; but one who reads events has no reason
    // to end it, other than that it has gone.
    if (!slots_.empty() && slots_.front().streaming) return c.close(std::errc::connection_reset);
    if (parser_) return fail(c, 400);
    last_ = true;
    if (slots_.empty()) c.finish();
}
inline void session::stop(client& c) {
    last_ = true;
    if (slots_.empty() && !parser_) c.finish();
}
inline void session::on_drained(client& c) {
    if (phase_ == phase::idle) {
        phase_ = phase::none;
        settle(c);
    }
    if (slots_.empty() || !slots_.front().on_drained) return;
    auto const call = slots_.front().on_drained;  // it may end the answer, and with it itself
    call();
}
inline void session::on_close(client& c, std::error_code) {
    std::vector<std::function<void()>> calls;
    for (slot& one : slots_)
        if (!one.done && one.on_gone) calls.push_back(std::move(one.on_gone));
    server_.remove(c);  // this is gone now
    for (auto const& call : calls) call();
}

// ---- Time. ----

/// After anything has happened: which deadline counts now.
inline void session::settle(client& c) {
    if (c.closing()) return;
    phase const now = parser_ ? (parser_->is_header_done() ? phase::body : phase::header)
                              : (slots_.empty() ? phase::idle : phase::busy);
    if (now == phase_) return;  // a header's time does not begin anew with each byte
    phase_ = now;
    auto const& l = server_.limits_;
    c.expires_after(now == phase::idle     ? l.idle
                    : now == phase::header ? l.header_time
                    : now == phase::body   ? l.body_time
                                           : l.write_time);
}
inline void session::on_timeout(client& c) {
    if (!c.congested() && (phase_ == phase::header || phase_ == phase::body)) return fail(c, 408);
    if (c.pending() == 0) {
        if (phase_ != phase::idle) return c.expires_after(server_.limits_.write_time);
        last_ = true;
        return c.finish();
    }
    std::uint64_t const taken = queued_ - c.pending();
    if (std::exchange(seen_, taken) == taken) return c.close(std::errc::timed_out);
    c.expires_after(server_.limits_.write_time);
}

// ---- Answers. ----

inline void session::answer(client& c, std::uint64_t number, response const& what) {
    slot* const to = find(number);
    if (to == nullptr || to->streaming || to->done) return;
    to->how.close = last_ && to == &slots_.back() && !parser_;
    std::string& text = server_.scratch_;
    text.clear();
    append_head(text, what, to->how, server_.date());
    bool const bare = to->how.head || what.status == 204 || what.status == 304;
    if (!bare) text += what.body;
    to->done = true;
    if (to == slots_.data() && (slots_.size() == 1 || !slots_[1].done))
        write(c, *to, text);
    else
        to->waiting += text;  // leaves with those around it
    if (text.capacity() > 64 * 1024) std::string().swap(text);
    advance(c);
}
inline bool session::begin(client& c, std::uint64_t number, response const& head) {
    slot* const to = find(number);
    if (to == nullptr || to->streaming || to->done) return false;
    framing how = to->how;
    how.chunked = true;
    how.close = how.http_1_0 || (last_ && to == &slots_.back() && !parser_);
    std::string& text = server_.scratch_;
    text.clear();
    append_head(text, head, how, server_.date());
    if (how.http_1_0) {  // its end is the connection's: what follows is not served
        slots_.erase(slots_.begin() + (to - slots_.data()) + 1, slots_.end());
        parser_.reset();
        last_ = true;
    }
    to->how = how;
    to->streaming = true;
    write(c, *to, text);
    return piece(c, number, head.body);
}
inline bool session::piece(client& c, std::uint64_t number, std::string_view text) {
    slot* const to = find(number);
    if (to == nullptr || !to->streaming || to->done || c.closing()) return false;
    if (to->how.head) return true;
    if (to->how.http_1_0) {
        write(c, *to, text);
    } else {
        server_.scratch_.clear();
        append_chunk(server_.scratch_, text);
        write(c, *to, server_.scratch_);
    }
    return !c.closing();
}
inline void session::end(client& c, std::uint64_t number, bool complete) {
    slot* const to = find(number);
    if (to == nullptr || !to->streaming || to->done) return;
    to->done = true;
    to->cut = !complete;
    if (complete && !to->how.http_1_0 && !to->how.head) write(c, *to, "0\r\n\r\n");
    advance(c);
}
inline bool session::congested(client const& c, std::uint64_t number) noexcept {
    slot const* const of = find(number);
    if (of == nullptr) return false;
    return of == slots_.data() ? c.congested() : of->waiting.size() >= server_.limits_.output;
}
inline void session::write(client& c, slot& to, std::string_view text) {
    if (&to != slots_.data()) {
        to.waiting += text;
        return;
    }
    queued_ += text.size();
    c.write(std::as_bytes(std::span(text)));
}
/// Whose turn it is now. What is ready together is written together: one send().
inline void session::advance(client& c) {
    std::string text;
    auto const flush = [&] {
        queued_ += text.size();
        c.write(std::as_bytes(std::span(text)));
    };
    while (!slots_.empty() && slots_.front().done) {
        text += slots_.front().waiting;
        if (slots_.front().cut) {
            flush();
            return c.close(std::errc::operation_canceled);
        }
        slots_.erase(slots_.begin());
        ++first_;
        if (slots_.empty() || slots_.front().done) continue;
        text += std::exchange(slots_.front().waiting, {});
        if (slots_.front().on_drained)
            server_.loop_.post([of = self_, number = first_] {
                auto const self = of.lock();
                slot* const one = self ? self->handler().find(number) : nullptr;
                if (one == nullptr || self->closing() || self->congested() || !one->on_drained) return;
                auto const call = one->on_drained;
                call();
            });
    }
    flush();
    if (slots_.empty()) {
        if (last_ && !parser_) return c.finish();
        if (std::exchange(continue_, false)) {
            static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
            queued_ += go_on.size();
            c.write(std::as_bytes(std::span(go_on)));
        }
        settle(c);
    }
    if (paused_ && slots_.size() < server_.limits_.pipelined) {
        paused_ = false;
        c.resume();
    }
}

}  // namespace http
