// SPDX-License-Identifier: MIT
// Any bytes, in any pieces, sent to the HTTP server of the chapters. It must answer what can be read as
// answers, and the same whether the bytes come at once or one after the other; it must end when its client
// does; and all of it within a bounded number of turns. Bytes above 127 stand for parts of HTTP, so that a
// random string gets beyond the first line.
#include "http/http_server.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/http_answers.hpp"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

constexpr std::array<std::string_view, 32> parts{"GET / HTTP/1.1\r\nHost: x\r\n",
                                                 "POST /later HTTP/1.1\r\nHost: x\r\n",
                                                 "GET /pieces HTTP/1.0\r\n",
                                                 "HEAD /pieces HTTP/1.1\r\nhost:x\r\n",
                                                 "GET ",
                                                 "POST ",
                                                 " HTTP/1.1\r\n",
                                                 " HTTP/1.0\r\n",
                                                 "Host: x\r\n",
                                                 "\r\n",
                                                 "\r\n\r\n",
                                                 "Content-Length: ",
                                                 "Content-Length: 3\r\n\r\nabc",
                                                 "Transfer-Encoding: chunked\r\n\r\n",
                                                 "Transfer-Encoding: ",
                                                 "3\r\nabc\r\n",
                                                 "1;a=b\r\nx\r\n",
                                                 "0\r\n\r\n",
                                                 "0\r\nTrailer: x\r\n\r\n",
                                                 "Expect: 100-continue\r\n",
                                                 "Connection: close\r\n",
                                                 "Connection: keep-alive\r\n",
                                                 "/later ",
                                                 "/pieces ",
                                                 "/nothing ",
                                                 "a: ",
                                                 "a: 0123456789012345678901234567890123456789\r\n",
                                                 " ",
                                                 ": ",
                                                 "chunked",
                                                 "\n",
                                                 "HTTP/2.0\r\n"};

std::string expand(std::uint8_t const* data, std::size_t n) {
    std::string wire;
    for (std::size_t i = 0; i < n; ++i) {
        if (data[i] == 255 && i + 1 < n)
            wire += static_cast<char>(data[++i]);
        else if (data[i] > 127)
            wire += parts[data[i] % parts.size()];
        else
            wire += static_cast<char>(data[i]);
    }
    return wire;
}

class world {
  public:
    world()
        : server_(
              loop_, [this](http::request const& what, http::responder to) { handle(what, std::move(to)); },
              small()) {}

    /// What the server says to these bytes: of each answer the status and the body.
    std::vector<std::string> play(std::string_view wire, std::size_t piece) {
        auto [client, theirs] = cairn::socket_pair();
        server_.adopt(std::move(theirs));
        std::string got;
        bool over = false;
        heads_.clear();
        auto const receive = [&] {
            std::array<std::byte, 65'536> data;
            std::error_code error;
            std::size_t const n = cairn::receive(client.get(), data, error);
            got.append(reinterpret_cast<char const*>(data.data()), n);
            over = over || (n == 0 && error != std::errc::resource_unavailable_try_again);
            return n;
        };
        std::error_code error;
        while (!wire.empty() && !over) {
            std::size_t const n =
                cairn::send(client.get(), std::as_bytes(std::span(wire.substr(0, piece))), error);
            wire.remove_prefix(n);
            turn();
            receive();
        }
        int turns = 0;
        for (int quiet = 0; quiet < 2;) {
            require(++turns < 10'000);
            quiet = turn() == 0 && receive() == 0 ? quiet + 1 : 0;
        }
        cairn::shutdown_write(client.get(), error);
        turns = 0;
        while (!over) {
            require(++turns < 10'000);
            turn();
            receive();
        }
        client.reset();
        while (server_.connections() != 0) {
            require(++turns < 20'000);
            turn();
        }
        require(loop_.watching() == 0 && loop_.timers() == 0);
        return read(got);
    }

  private:
    static http::limits small() {
        http::limits made;
        made.header = 300;
        made.body = 64;
        made.pipelined = 3;
        made.output = 256;
        return made;
    }
    /// Those that tell of an error come last, and are called so: which one it is depends on where the bytes
    /// were cut, for a parser that has seen half a header may not have looked at it yet.
    [[nodiscard]] std::vector<std::string> read(std::string_view got) const {
        std::vector<std::string> all;
        while (!got.empty()) {
            bool const handled = all.size() < heads_.size();
            auto one = support::read_answer(got, handled && heads_[all.size()]);
            if (!one && !handled) one = support::read_answer(got, true);  // to a HEAD that is wrong
            require(one.has_value());
            got.remove_prefix(one->size);
            if (one->status == 100) continue;
            require(handled || (got.empty() && one->status >= 400 && one->field("Connection") == "close"));
            all.push_back(handled              ? std::to_string(one->status) + ' ' + one->body
                          : one->status == 431 ? "too long"
                                               : "wrong");
        }
        return all;
    }
    void handle(http::request const& what, http::responder to) {
        heads_.push_back(what.method() == "HEAD");
        require(what.body().size() <= 64 && what.headers() < 300);
        if (what.path() == "/later") {
            later_.push_back(std::move(to));
        } else if (what.path() == "/pieces") {
            auto out = to.begin({.body = "a"});
            out.write("bc");
            pieces_.push_back(std::move(out));
        } else if (what.path() != "/nothing") {
            to.send({.body = std::string(what.method()) + ' ' + what.body()});
        }
    }
    /// A turn of the loop; then what waits is answered, the last first.
    std::size_t turn() {
        std::size_t const ran = loop_.poll() + later_.size() + pieces_.size();
        for (auto open = std::exchange(later_, {}); !open.empty(); open.pop_back())
            open.back().send({.body = "later"});
        for (auto open = std::exchange(pieces_, {}); !open.empty(); open.pop_back()) open.back().end();
        return ran;
    }

    cairn::event_loop loop_;
    http::server server_;
    std::vector<http::responder> later_;
    std::vector<http::stream> pieces_;
    std::vector<bool> heads_;  // of the requests of this client
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t n) {
    static world all;
    std::size_t const piece = n == 0 ? 1 : 1 + data[0] % 40;
    std::string const wire = expand(data, n);
    auto const whole = all.play(wire, wire.size());
    auto const pieces = all.play(wire, piece);
    // The parser limits what it must keep, which depends on the cuts.
    auto const long_one = [](auto const& said) { return !said.empty() && said.back() == "too long"; };
    require(pieces == whole || long_one(pieces) || long_one(whole));
    return 0;
}
