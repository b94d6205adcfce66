// SPDX-License-Identifier: MIT
// What a handler of the HTTP server holds, and what the server keeps of each client.
//
// A client may send requests without waiting for the answers: these must leave in that order, whoever is
// ready first. So each request has a slot in its session's queue; an answer writes if its slot is the first,
// else waits there. A responder, and the stream that it may begin, know the slot by its number and the client
// only by a weak pointer: that the client has left harms nobody.
//
// What a session does with its requests needs the server's limits, handler and buffers. So those functions
// are declared here, and defined behind the server, in http_server.hpp.
#pragma once

#include <cairn/connection.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
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

namespace http {

class server;
class session;
class stream;
using client = cairn::connection<session>;

/// What one client may cost, and all together.
struct limits {
    std::uint32_t header = 16 * 1024;        ///< bytes of the request line and the fields
    std::uint64_t body = 1024 * 1024;        ///< bytes of a request's body
    std::size_t pipelined = 16;              ///< requests of a client that wait for their answers
    std::uint32_t output = 64 * 1024;        ///< bytes to be written to a client before it is not read from
    std::size_t connections = 10'000;        ///< clients at once
    std::chrono::milliseconds idle{60'000};  ///< between requests
    std::chrono::milliseconds header_time{10'000};  ///< from a header's first byte to its last
    std::chrono::milliseconds body_time{60'000};    ///< the same for a body
    std::chrono::milliseconds write_time{30'000};   ///< in which a client must take something, if there is
    std::chrono::milliseconds linger{5'000};        ///< for a client to end its side, when all is over
};

/// A request's place in the queue of its client. Move-only; harmless when the client, or the server, is gone.
class place {
  public:
    place(std::weak_ptr<client> of, std::uint64_t number) noexcept
        : client_(std::move(of)), number_(number) {}
    place(place&&) noexcept = default;
    place& operator=(place&&) noexcept = default;

    /// Whether an answer would reach nobody.
    [[nodiscard]] bool gone() const noexcept;
    /// Calls f() from the loop when the client has gone before the answer was complete. Never calls it if it
    /// has gone already, or if the server is destroyed.
    void on_gone(std::function<void()> f) const;

  protected:
    std::weak_ptr<client> client_;
    std::uint64_t number_;
};

/// Answers one request, now or in any later turn of the loop.
class responder : public place {
  public:
    using place::place;
    responder(responder&&) noexcept = default;
    responder& operator=(responder&& from) noexcept {
        responder const before(std::move(*this));
        place::operator=(std::move(from));
        return *this;
    }
    /// A request that nobody has answered is answered with a 500.
    ~responder();

    /// The answer. @throws std::invalid_argument for a response that cannot be sent; nothing was sent then.
    void send(response const& what) &&;
    void send(response const& what) & { std::move(*this).send(what); }
    /// The answer's head; its body follows in pieces. What is in `head.body` is the first one.
    [[nodiscard]] stream begin(response const& head) &&;
    [[nodiscard]] stream begin(response const& head) &;
};

/// An answer that is sent in pieces: events, or more than should be in memory at once.
class stream : public place {
  public:
    using place::place;
    stream(stream&&) noexcept = default;
    stream& operator=(stream&& from) noexcept {
        stream const before(std::move(*this));
        place::operator=(std::move(from));
        return *this;
    }
    /// Not ended: the connection is cut, so that the client sees that something is missing.
    ~stream();

    /// False if the client has gone. Takes any amount; but see congested().
    bool write(std::string_view piece);
    /// Whether the client does not keep up: write no more until on_drained(), or leave pieces out.
    [[nodiscard]] bool congested() const noexcept;
    /// Calls f() from the loop each time when all that had to wait is written.
    void on_drained(std::function<void()> f);
    /// The answer is complete.
    void end();
};

/// A client's requests and answers.
class session {
  public:
    explicit session(server& of) noexcept : server_(of) {}

    // ---- From the connection. ----
    std::size_t on_data(client& c, std::span<std::byte const> data);
    void on_end(client& c);
    void on_timeout(client& c);
    void on_drained(client& c);
    void on_close(client& c, std::error_code why);

    // ---- From the server. ----
    void accepted(std::shared_ptr<client> const& self) {
        self_ = self;
        settle(*self);
    }
    /// Ends after the request that has begun, if any.
    void stop(client& c);
    std::size_t position = 0;  // in the server's list

    // ---- From responders. Each does nothing if that request was answered already. ----
    void answer(client& c, std::uint64_t number, response const& what);
    bool begin(client& c, std::uint64_t number, response const& head);
    bool piece(client& c, std::uint64_t number, std::string_view text);
    void end(client& c, std::uint64_t number, bool complete);
    struct slot {
        framing how{};
        bool streaming = false, done = false, cut = false;
        std::string waiting{};  // what was written before it became the first
        std::function<void()> on_gone{}, on_drained{};
    };
    [[nodiscard]] slot* find(std::uint64_t number) noexcept {
        return number < first_ || number - first_ >= slots_.size()
                   ? nullptr
                   : &slots_[static_cast<std::size_t>(number - first_)];
    }
    [[nodiscard]] bool congested(client const& c, std::uint64_t number) noexcept;

  private:
    enum class phase : std::uint8_t { none, idle, header, body, busy };

    void received();
    void fail(client& c, unsigned status);
    void write(client& c, slot& to, std::string_view text);
    void advance(client& c);
    void settle(client& c);

    server& server_;
    std::weak_ptr<client> self_;
    std::optional<request_parser> parser_;  // of a request that has begun
    std::vector<slot> slots_;
    std::uint64_t first_ = 0;              // number of slots_.front()
    std::uint64_t queued_ = 0, seen_ = 0;  // bytes written ever; of them taken when the timer looked last
    phase phase_ = phase::none;
    bool last_ = false;      // no request after the one that has begun
    bool paused_ = false;    // as many in flight as may be
    bool continue_ = false;  // 100 Continue is to be sent when it is its turn
};

// ---- What a handler holds. ----

inline bool place::gone() const noexcept {
    auto const c = client_.lock();
    return !c || c->closing() || c->handler().find(number_) == nullptr;
}
inline void place::on_gone(std::function<void()> f) const {
    auto const c = client_.lock();
    if (session::slot* const of = c ? c->handler().find(number_) : nullptr) of->on_gone = std::move(f);
}
inline responder::~responder() {
    if (auto const c = client_.lock())
        c->handler().answer(*c, number_, {.status = 500, .body = "Internal Server Error\n"});
}
inline void responder::send(response const& what) && {
    if (auto const c = client_.lock()) c->handler().answer(*c, number_, what);
    client_.reset();
}
inline stream responder::begin(response const& head) && {
    auto const c = client_.lock();
    bool const begun = c && c->handler().begin(*c, number_, head);
    return {begun ? std::exchange(client_, {}) : std::weak_ptr<client>(), number_};
}
inline stream responder::begin(response const& head) & { return std::move(*this).begin(head); }

inline stream::~stream() {
    if (auto const c = client_.lock()) c->handler().end(*c, number_, false);
}
inline bool stream::write(std::string_view text) {
    auto const c = client_.lock();
    return c && c->handler().piece(*c, number_, text);
}
inline bool stream::congested() const noexcept {
    auto const c = client_.lock();
    return c && c->handler().congested(*c, number_);
}
inline void stream::on_drained(std::function<void()> f) {
    auto const c = client_.lock();
    if (session::slot* const of = c ? c->handler().find(number_) : nullptr) of->on_drained = std::move(f);
}
inline void stream::end() {
    if (auto const c = client_.lock()) c->handler().end(*c, number_, true);
    client_.reset();
}

}  // namespace http
