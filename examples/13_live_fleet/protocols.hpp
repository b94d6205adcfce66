// SPDX-License-Identifier: MIT
// As much of two protocols as a cache needs: get and set of memcached, and commands of Redis.
//
// Blocking, with a limit to each wait. Whatever goes wrong with the network is a std::system_error: the
// server is refused, gone or too slow, and which of them makes no difference to a cache.
#pragma once

#include <cairn/socket.hpp>

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace live {

/// A connection that is read by lines and by counts. Both protocols end their lines with "\r\n".
class connection {
  public:
    explicit connection(cairn::endpoint const& to) : fd_(cairn::connect(to)) {
        wait_for(POLLOUT);
        if (auto const error = cairn::pending_error(fd_.get())) throw std::system_error(error, "connect");
    }
    void write(std::string_view text) {
        while (!text.empty()) {
            std::error_code error;
            text.remove_prefix(cairn::send(fd_.get(), std::as_bytes(std::span(text)), error));
            wait_or_throw(error, POLLOUT, "send");
        }
    }
    /// Up to the next end of line, without it.
    [[nodiscard]] std::string line() {
        std::size_t end = 0;
        while ((end = read_.find("\r\n")) == read_.npos) read_more();
        std::string found = read_.substr(0, end);
        read_.erase(0, end + 2);
        return found;
    }
    /// So many bytes, and the end of line behind them.
    [[nodiscard]] std::string bytes(std::size_t count) {
        while (read_.size() < count + 2) read_more();
        std::string found = read_.substr(0, count);
        read_.erase(0, count + 2);
        return found;
    }

  private:
    static constexpr int patience = 5'000;  // ms

    void wait_for(short what) const {
        pollfd one{fd_.get(), what, 0};
        int ready = 0;
        while ((ready = ::poll(&one, 1, patience)) < 0 && errno == EINTR) {
        }
        if (ready == 0) throw std::system_error(std::make_error_code(std::errc::timed_out), "poll");
        if (ready < 0) throw std::system_error(errno, std::system_category(), "poll");
    }
    void wait_or_throw(std::error_code error, short what, char const* call) const {
        if (error == std::errc::resource_unavailable_try_again)
            wait_for(what);
        else if (error)
            throw std::system_error(error, call);
    }
    void read_more() {
        std::array<std::byte, 4'096> some;
        std::error_code error;
        std::size_t const n = cairn::receive(fd_.get(), some, error);
        if (n == 0 && !error)
            throw std::system_error(std::make_error_code(std::errc::connection_reset), "recv");
        wait_or_throw(error, POLLIN, "recv");
        read_.append(reinterpret_cast<char const*>(some.data()), n);
    }

    cairn::unique_fd fd_;
    std::string read_;
};

/// A server's word for a length. @throws std::runtime_error if it is none.
[[nodiscard]] inline std::size_t length_in(std::string_view text) {
    std::size_t length = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    if (error != std::errc{} || end != text.data() + text.size() || length > 1'000'000)
        throw std::runtime_error("not a length: " + std::string(text));
    return length;
}

/// Connects when it is needed, and anew after an error.
class client {
  public:
    explicit client(cairn::endpoint to) : to_(to) {}

  protected:
    template <class Talk>
    auto with_connection(Talk talk) {
        try {
            if (!open_) open_.emplace(to_);
            return talk(*open_);
        } catch (...) {
            open_.reset();  // half an answer may be left in it
            throw;
        }
    }

  private:
    cairn::endpoint to_;
    std::optional<connection> open_;
};

/// memcached, the text protocol. Many keys a round trip: the way takes longer than the work.
class memcached_client : client {
  public:
    using client::client;

    /// "get a b" is answered by a line "VALUE a 0 5" and five bytes for each key that is there, in the order
    /// of the question, then "END".
    [[nodiscard]] std::vector<std::optional<std::string>> get(std::span<std::string const> names) {
        return with_connection([&](connection& server) {
            std::vector<std::optional<std::string>> values(names.size());
            for (std::size_t first = 0; first < names.size(); first += many) {
                std::size_t const last = std::min(first + many, names.size());
                std::string request = "get";
                for (std::size_t i = first; i < last; ++i) request.append(" ").append(names[i]);
                server.write(request += "\r\n");
                std::size_t next = first;
                for (std::string head; (head = server.line()) != "END"; ++next) {
                    while (next < last && !head.starts_with("VALUE " + names[next] + ' ')) ++next;
                    if (next == last) throw std::runtime_error("memcached: " + head);
                    values[next] = server.bytes(length_in(head.substr(head.rfind(' ') + 1)));
                }
            }
            return values;
        });
    }
    /// The same value for all of them.
    void set(std::span<std::string const> names, std::string const& value) {
        std::string const rest = " 0 0 " + std::to_string(value.size()) + "\r\n" + value + "\r\n";
        for (std::size_t first = 0; first < names.size(); first += many) {
            std::size_t const last = std::min(first + many, names.size());
            std::string request;
            for (std::size_t i = first; i < last; ++i) request.append("set ").append(names[i]).append(rest);
            expect("STORED", last - first, request);
        }
    }
    /// Forgets all.
    void flush_all() { expect("OK", 1, "flush_all\r\n"); }

  private:
    // Without a limit both sides could wait until the other one reads.
    static constexpr std::size_t many = 50;

    void expect(std::string_view good, std::size_t times, std::string const& request) {
        with_connection([&](connection& server) {
            server.write(request);
            for (std::size_t i = 0; i < times; ++i)
                if (std::string const answer = server.line(); answer != good)
                    throw std::runtime_error("memcached: " + answer);
        });
    }
};

/// Redis. A command goes out as an array of strings, each with its length; no byte has to be escaped.
class redis_client : client {
  public:
    struct reply {
        char kind;                        ///< + a word, - an error, : a number, $ a string
        std::optional<std::string> text;  ///< none: Redis has nothing under that name
    };
    using client::client;

    reply command(std::initializer_list<std::string_view> words) {
        return with_connection([&](connection& server) {
            std::string request = "*" + std::to_string(words.size()) + "\r\n";
            for (std::string_view const word : words)
                request.append("$" + std::to_string(word.size()) + "\r\n").append(word).append("\r\n");
            server.write(request);
            std::string const head = server.line();
            if (head.empty()) throw std::runtime_error("redis: an empty line");
            if (head == "$-1") return reply{'$', {}};
            std::string const rest = head.substr(1);
            return reply{head[0], head[0] == '$' ? server.bytes(length_in(rest)) : rest};
        });
    }
    /// For commands that must not fail. @throws std::runtime_error with Redis's own words.
    std::string must(std::initializer_list<std::string_view> words) {
        reply const answer = command(words);
        if (answer.kind == '-' || !answer.text)
            throw std::runtime_error("redis: " + answer.text.value_or("nothing"));
        return *answer.text;
    }
};

}  // namespace live
