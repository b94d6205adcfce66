// SPDX-License-Identifier: MIT
// Clients of the gateway: connections on one event loop, each asks again when it is answered (a closed loop).
//
// Payments are numbers: number 17 has always the same key, merchant, currency and amount. So who remembers
// which numbers were acknowledged can check all of it later, and can ask again for those that got no answer.
//
// A closed loop is as fast as the service: it says what the service can do, and what an answer takes then. It
// does not say what happens when more is asked than that.
#pragma once

#include <cairn/connection.hpp>
#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "histogram.hpp"
#include "money.hpp"

namespace gateway {

/// What number n is.
struct sample_payment {
    std::uint64_t n;
    static constexpr std::uint64_t merchants = 500;

    [[nodiscard]] std::string key() const { return "p-" + std::to_string(n); }
    [[nodiscard]] std::string merchant() const { return "shop-" + std::to_string(n * 7 % merchants); }
    [[nodiscard]] std::int64_t minor() const { return static_cast<std::int64_t>(n % 99'999 + 1); }
    [[nodiscard]] char const* currency() const { return n % 3 == 0 ? "USD" : "EUR"; }
    [[nodiscard]] std::string body() const {
        std::string text =
            R"({"merchant":")" + merchant() + R"(","currency":")" + currency() + R"(","amount":")";
        append_amount(text, minor(), 2);
        return text += "\"}";
    }
    void append_request(std::string& to) const {
        std::string const text = body();
        to +=
            "POST /payments HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nIdempotency-Key: ";
        to += key();
        to += "\r\nContent-Length: ";
        to += std::to_string(text.size());
        to += "\r\n\r\n";
        to += text;
    }
};

/// An answer at the beginning of what was received.
struct answer_head {
    unsigned status = 0;
    std::string_view head, body;
    [[nodiscard]] static std::optional<answer_head> read(std::string_view data) {
        static constexpr std::string_view length = "Content-Length: ";
        std::size_t const end = data.find("\r\n\r\n");
        if (end == data.npos) return {};
        answer_head made;
        made.head = data.substr(0, end + 4);
        std::size_t const field = made.head.find(length);
        std::size_t size = 0;
        if (field != data.npos) std::from_chars(data.data() + field + length.size(), data.data() + end, size);
        if (data.size() - made.head.size() < size) return {};
        made.body = data.substr(made.head.size(), size);
        std::from_chars(data.data() + 9, data.data() + 12, made.status);
        return made;
    }
    [[nodiscard]] std::size_t size() const noexcept { return head.size() + body.size(); }
};

struct load_options {
    std::size_t connections = 64;
    std::size_t pipeline = 1;             ///< requests of a connection that wait for their answers
    std::uint64_t first = 0;              ///< the number of the first payment; then the next ones
    std::vector<std::uint64_t> before{};  ///< numbers that are asked for before these
};

class load {
  public:
    static constexpr auto slot = std::chrono::milliseconds(20);

    load(cairn::event_loop& loop, cairn::endpoint const& to, load_options how)
        : how_(std::move(how)), next_(how_.first), began_(cairn::event_loop::clock::now()) {
        for (std::size_t i = 0; i < how_.connections; ++i)
            callers_.push_back(
                std::make_unique<connection>(loop, cairn::connect(to), cairn::connection_limits{}, *this));
        open_ = callers_.size();
        for (auto const& one : callers_) one->handler().ask(*one);
    }
    /// Asks for nothing new. on_end() follows when all is answered.
    void stop() {
        stopping_ = true;
        ended_at_ = cairn::event_loop::clock::now();
        tell_end();
    }
    /// Closes the connections. Else a service that stops waits for them as long as it has patience. As
    /// give_up(), not from a handler of the loop.
    void hang_up() { callers_.clear(); }
    /// The service is gone: what waits for an answer gets none.
    void give_up() {
        if (!stopping_) stop();
        for (auto const& one : callers_) one->handler().forget();
        on_end = {};
        hang_up();
    }
    /// Called once: stopped and all answered, or no connection left.
    std::function<void()> on_end;

    /// The numbers that were answered with a 201, and those that were asked for and got no answer.
    [[nodiscard]] std::vector<std::uint64_t> const& acknowledged() const noexcept { return acknowledged_; }
    [[nodiscard]] std::vector<std::uint64_t> const& unanswered() const noexcept { return unanswered_; }
    /// The first number that was never asked for.
    [[nodiscard]] std::uint64_t next() const noexcept { return next_; }
    /// Of the numbers that were to be asked for before, how many were.
    [[nodiscard]] std::size_t asked_before() const noexcept { return again_; }
    [[nodiscard]] std::uint64_t before(std::size_t i) const { return how_.before[i]; }
    /// Answers that were no 201, by status, and those that said that they were given before.
    [[nodiscard]] std::map<unsigned, std::uint64_t> const& refused() const noexcept { return refused_; }
    [[nodiscard]] std::uint64_t replayed() const noexcept { return replayed_; }
    /// Seconds from request to answer.
    [[nodiscard]] histogram const& latencies() const noexcept { return latencies_; }
    /// Acknowledged in each slot of time.
    [[nodiscard]] std::vector<std::uint64_t> const& timeline() const noexcept { return timeline_; }
    /// Until stop(), or until no connection was left, in seconds.
    [[nodiscard]] double seconds() const { return std::chrono::duration<double>(ended_at_ - began_).count(); }

  private:
    struct caller;
    using connection = cairn::connection<caller>;
    struct sent {
        std::uint64_t n;
        cairn::event_loop::time_point at;
    };
    struct caller {
        load& of;
        std::deque<sent> waiting{};
        bool leaving = false;  // the service has said that it reads no more here

        explicit caller(load& to) : of(to) {}
        void ask(connection& c) {
            std::string text;
            auto const now = cairn::event_loop::clock::now();
            while (!of.stopping_ && !leaving && waiting.size() < of.how_.pipeline) {
                std::uint64_t const n = of.take();
                sample_payment{n}.append_request(text);
                waiting.push_back({n, now});
            }
            c.write(std::as_bytes(std::span(text)));
        }
        std::size_t on_data(connection& c, std::span<std::byte const> bytes) {
            std::string_view const data(reinterpret_cast<char const*>(bytes.data()), bytes.size());
            std::size_t taken = 0;
            while (auto const one = answer_head::read(data.substr(taken))) {
                taken += one->size();
                if (waiting.empty()) {
                    c.close(std::errc::protocol_error);
                    return taken;
                }
                leaving = leaving || one->head.find("Connection: close") != std::string_view::npos;
                of.answered(waiting.front(), *one);
                waiting.pop_front();
            }
            ask(c);
            of.tell_end();
            return taken;
        }
        void forget() {
            for (sent const& one : waiting) of.unanswered_.push_back(one.n);
            waiting.clear();
        }
        void on_close(connection&, std::error_code) {
            forget();
            --of.open_;
            of.tell_end();
        }
    };

    [[nodiscard]] std::uint64_t take() {
        if (again_ < how_.before.size()) return how_.before[again_++];
        return next_++;
    }
    void answered(sent const& one, answer_head const& what) {
        auto const now = cairn::event_loop::clock::now();
        if (what.status != 201) {
            ++refused_[what.status];
            return;
        }
        if (what.head.find("Idempotent-Replayed") != std::string_view::npos) ++replayed_;
        acknowledged_.push_back(one.n);
        latencies_.add(std::chrono::duration<double>(now - one.at).count());
        auto const at = static_cast<std::size_t>((now - began_) / slot);
        if (timeline_.size() <= at) timeline_.resize(at + 1);
        ++timeline_[at];
    }
    void tell_end() {
        if (open_ == 0) {
            if (!stopping_) ended_at_ = cairn::event_loop::clock::now();
        } else {
            if (!stopping_) return;
            for (auto const& one : callers_)
                if (!one->handler().waiting.empty()) return;
        }
        if (auto const end = std::exchange(on_end, {})) end();
    }

    load_options how_;
    std::size_t again_ = 0;  // of how_.before
    std::uint64_t next_;
    std::size_t open_ = 0;
    bool stopping_ = false;
    std::vector<std::uint64_t> acknowledged_, unanswered_, timeline_;
    std::map<unsigned, std::uint64_t> refused_;
    std::uint64_t replayed_ = 0;
    histogram latencies_ = histogram::growing(20e-6, 1.05, 260);  // to 6 s, within 5 %
    cairn::event_loop::time_point began_, ended_at_{};
    std::vector<std::unique_ptr<connection>> callers_;
};

/// Asks once, and waits for the answer: for a look by hand. Waits for a minute, because a disk that others
/// write to may stand still for seconds. @throws std::system_error if there is no whole answer; it says why.
[[nodiscard]] inline std::string ask(cairn::endpoint const& to, std::string const& request) {
    cairn::event_loop loop;
    struct asker {
        cairn::event_loop& loop;
        std::string& answer;
        std::error_code& end;
        std::size_t on_data(cairn::connection<asker>& c, std::span<std::byte const> data) {
            answer.append(reinterpret_cast<char const*>(data.data()), data.size());
            if (answer_head::read(answer)) c.close();
            return data.size();
        }
        void on_close(cairn::connection<asker>&, std::error_code why) {
            end = why;
            loop.stop();
        }
    };
    std::string answer;
    std::error_code end;
    cairn::connection<asker> c(loop, cairn::connect(to), {}, asker{loop, answer, end});
    c.expires_after(std::chrono::minutes(1));
    c.write(std::as_bytes(std::span(request)));
    loop.run();
    if (answer_head::read(answer)) return answer;
    throw std::system_error(end ? end : std::make_error_code(std::errc::connection_aborted),
                            "no answer to " + request.substr(0, request.find('\r')));
}
[[nodiscard]] inline std::string body_of(std::string const& answer) {
    return std::string(answer_head::read(answer)->body);
}
[[nodiscard]] inline std::string get(cairn::endpoint const& to, std::string const& path) {
    return body_of(ask(to, "GET " + path + " HTTP/1.1\r\nHost: gateway\r\n\r\n"));
}
[[nodiscard]] inline std::string post(std::string const& path, std::string const& fields,
                                      std::string const& body) {
    return "POST " + path + " HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n" + fields +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace gateway
