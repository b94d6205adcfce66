// SPDX-License-Identifier: MIT
// The HTTP server of the chapters against peers over TCP that read nothing, send much, trickle, reset, half
// close or vanish. The server is another process: what it holds, and what it has open, is looked at from
// here.
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/http_answers.hpp"
#include "support/http_child.hpp"
#include "support/sanitizers.hpp"

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;
using support::http_child;

constexpr std::size_t mb = 1'000'000;

/// A client that never waits, with what it has received and not looked at yet.
struct peer {
    cairn::unique_fd fd;
    std::string got;
    bool over = false;

    explicit peer(cairn::endpoint const& to, int buffer = 0)
        : fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        // Before connect(): the window that is offered to the server stays small.
        if (buffer != 0) ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        if (::connect(fd.get(), to.data(), to.size()) != 0)
            throw std::system_error(errno, std::generic_category(), "connect");
        ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    }
    std::size_t send(std::string_view text) {
        std::error_code error;
        std::size_t const n = cairn::send(fd.get(), std::as_bytes(std::span(text)), error);
        if (error && error != std::errc::resource_unavailable_try_again) over = true;
        return n;
    }
    void read() {
        static std::array<std::byte, 262'144> data;
        std::error_code error;
        std::size_t const n = cairn::receive(fd.get(), data, error);
        got.append(reinterpret_cast<char const*>(data.data()), n);
        over = over || (n == 0 && error != std::errc::resource_unavailable_try_again);
    }
    /// Waits until it can read or write, at most so long. False if neither came.
    [[nodiscard]] bool wait(short events, std::chrono::milliseconds at_most) const {
        pollfd one{fd.get(), events, 0};
        return ::poll(&one, 1, static_cast<int>(at_most.count())) > 0;
    }
    /// The next answer, or nothing if the connection ends before.
    std::optional<support::http_answer> answer() {
        for (;;) {
            if (auto found = support::read_answer(got); found && !found->until_close) {
                got.erase(0, found->size);
                return found;
            }
            if (over) return {};
            if (!wait(POLLIN, 10s)) throw std::runtime_error("no answer came");
            read();
        }
    }
    std::optional<support::http_answer> ask(std::string_view request) {
        EXPECT_EQ(send(request), request.size());
        return answer();
    }
    void reset() {
        linger const at_once{1, 0};
        ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        fd.reset();
    }
};

std::string get(std::string_view target, std::string_view more = "") {
    return "GET " + std::string(target) + " HTTP/1.1\r\nHost: test\r\n" + std::string(more) + "\r\n";
}
void expect_memory_below(http_child const& server, std::size_t before, std::size_t growth) {
    // A sanitizer keeps what was freed, so its numbers say nothing.
    if (!support::sanitized) {
        EXPECT_LT(server.most_memory(), before + growth);
    }
}

// Behaviour 36, for the whole server. 27 MB of requests, and not an answer taken until nothing moves any
// more.
TEST(HttpPeers, APeerThatPipelines27MegabytesAndDoesNotReadCostsLittleAndGetsAll) {
    http_child server;
    peer warm(server.address());
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(warm.ask(get("/")));
    std::size_t const before = server.memory();

    std::size_t const count = 27'000;
    std::string const padding = "X-Padding: " + std::string(970, 'p') + "\r\n";
    std::size_t made = 0, sent = 0;
    std::string waiting;
    peer one(server.address(), 64 * 1024);
    auto const send_some = [&] {
        while (!one.over) {
            if (waiting.empty()) {
                if (made == count) return;
                for (int i = 0; i < 100 && made != count; ++i, ++made)
                    waiting += get("/large?500&" + std::to_string(made), padding);
            }
            std::size_t const n = one.send(waiting);
            sent += n;
            waiting.erase(0, n);
            if (!waiting.empty()) return;
        }
    };
    do send_some();
    while ((made != count || !waiting.empty()) && one.wait(POLLOUT, 300ms));
    EXPECT_TRUE(made != count || !waiting.empty()) << "the server has stopped to read";
    ASSERT_TRUE(warm.ask(get("/"))) << "it serves the others";
    expect_memory_below(server, before, 4 * mb);

    std::size_t answered = 0;
    while (answered != count && !one.over) {
        send_some();
        if (!one.wait(static_cast<short>(POLLIN | (waiting.empty() ? 0 : POLLOUT)), 10s)) break;
        one.read();
        std::string_view rest = one.got;
        while (auto const found = support::read_answer(rest)) {
            ASSERT_EQ(found->status, 200U);
            ASSERT_EQ(found->body.size(), 500U);
            rest.remove_prefix(found->size);
            ++answered;
        }
        one.got.erase(0, one.got.size() - rest.size());
    }
    EXPECT_EQ(answered, count);
    EXPECT_GE(sent, count * 1'000);
    expect_memory_below(server, before, 4 * mb);
    one.fd.reset();
    warm.fd.reset();
    EXPECT_EQ(server.stop(), 0);
}

TEST(HttpPeers, PeersThatSendMuchAreRefusedAndCostLittle) {
    http_child server;
    peer warm(server.address());
    ASSERT_TRUE(warm.ask(get("/")));
    std::size_t const before = server.memory();
    std::size_t const much = (std::getenv("CAIRN_SOAK_SECONDS") != nullptr ? 1'000 : 32) * mb;
    std::string const block(256 * 1024, 'x');
    std::string const chunk = "40000\r\n" + block + "\r\n";
    struct {
        std::string begin;
        std::string const& then;
        unsigned status;
    } const all[] = {
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", block, 413},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, 413},
        {"GET /", block, 431},
        {"", block, 431},
    };
    for (auto const& kind : all) {
        peer one(server.address());
        one.send(kind.begin);
        // Whether anybody wants them or not; the answer is there meanwhile.
        for (std::size_t sent = 0; sent < much && !one.over;) {
            std::size_t const n = one.send(std::string_view(kind.then).substr(sent % kind.then.size()));
            sent += n;
            if (n == 0 && !one.wait(POLLOUT, 10s)) break;
        }
        one.over = false;
        auto const said = one.answer();
        ASSERT_TRUE(said) << kind.begin;
        EXPECT_EQ(said->status, kind.status) << kind.begin;
    }
    expect_memory_below(server, before, 8 * mb);  // two bodies of 1 MB, as their vectors grow
    warm.fd.reset();
    EXPECT_EQ(server.stop(), 0);
}

TEST(HttpPeers, PeersThatTrickleDoNotHoldUpTheOthers) {
    http::limits limits;
    limits.header_time = 300ms;
    http_child server(limits);
    std::vector<std::unique_ptr<peer>> slow;
    for (int i = 0; i < 200; ++i) slow.push_back(std::make_unique<peer>(server.address()));
    peer quick(server.address());
    std::string const request = get("/", "X-Slow: " + std::string(200, 'x'));
    for (std::size_t i = 0; i < 100; ++i) {
        for (auto const& one : slow) one->send(std::string_view(request).substr(i, 1));
        for (int k = 0; k < 5; ++k) ASSERT_EQ(quick.ask(get("/quick"))->body, "/quick");
    }
    // None of them has sent a whole header: each is told, and let go.
    for (auto const& one : slow) {
        auto const said = one->answer();
        ASSERT_TRUE(said);
        EXPECT_EQ(said->status, 408U);
    }
    slow.clear();
    quick.fd.reset();
    EXPECT_EQ(server.stop(), 0);
}

TEST(HttpPeers, PeersThatVanishAreLetGo) {
    http::limits limits;
    limits.idle = limits.header_time = limits.body_time = limits.write_time = limits.linger = 50ms;
    http_child server(limits);
    peer probe(server.address());
    ASSERT_TRUE(probe.ask(get("/")));
    std::size_t const before = server.descriptors();
    // As the server sees it: connections of which nothing comes any more, not even an end.
    std::vector<std::unique_ptr<peer>> gone;
    for (char const* const last :
         {"", "GET / HT", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
          "GET /large?20000000 HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"}) {
        gone.push_back(std::make_unique<peer>(server.address(), 16 * 1024));
        gone.back()->send(last);
    }
    auto const late = clock_type::now() + 20s;
    while (server.descriptors() >= before && clock_type::now() < late) ::usleep(5'000);
    EXPECT_LT(server.descriptors(), before) << "the probe too";
    EXPECT_EQ(server.stop(), 0);
}

// Connections come and go in all the ways that there are. What the server holds afterwards is what it held
// before. CAIRN_SOAK_SECONDS=60 makes it a real one.
TEST(HttpPeers, HoldsNothingAfterManyConnections) {
    char const* const wish = std::getenv("CAIRN_SOAK_SECONDS");
    auto const time = std::chrono::seconds(wish != nullptr ? std::atoi(wish) : 3);
    http::limits limits;
    limits.linger = 200ms;
    http_child server(limits);
    std::mt19937 random(1);
    std::size_t connections = 0, answers = 0;

    auto const one_client = [&] {
        ++connections;
        peer one(server.address());
        switch (random() % 10) {
            case 0:
                one.send("GET / HT");
                return one.reset();
            case 1:
                one.send(get("/large?300000") + get("/large?300000"));
                return one.reset();
            case 2:
                one.send(get("/large?200000"));
                return one.fd.reset();  // unread answers: a reset too
            case 3: {
                one.send("nonsense\r\n\r\n");
                auto const said = one.answer();
                if (!said || said->status != 400) throw std::runtime_error("nonsense was not refused");
                return;
            }
            case 4: {
                one.send(get("/half"));
                std::error_code error;
                cairn::shutdown_write(one.fd.get(), error);
                if (!one.answer() || one.answer()) throw std::runtime_error("a half-closed client was lost");
                ++answers;
                return;
            }
            case 5: {
                std::string all;
                for (int i = 0; i < 40; ++i) all += get("/" + std::to_string(i));
                one.send(all);
                for (int i = 0; i < 40; ++i)
                    if (one.answer().value().body != "/" + std::to_string(i))
                        throw std::runtime_error("an answer is not the right one");
                answers += 40;
                return;
            }
            case 6:
                if (one.ask(get("/pieces?50")).value().body.size() != 490)
                    throw std::runtime_error("pieces are missing");
                ++answers;
                return;
            case 7:
                return;
            default:
                for (int i = 0; i < 10; ++i) {
                    std::string const body(random() % 2'000, 'b');
                    auto const said = one.ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                                              std::to_string(body.size()) + "\r\n\r\n" + body);
                    if (said.value().body != body) throw std::runtime_error("a body has changed");
                    ++answers;
                }
        }
    };
    std::size_t const idle = [&] {
        peer probe(server.address());
        EXPECT_TRUE(probe.ask(get("/")));
        return server.descriptors() - 1;
    }();
    auto const settle = [&] {
        auto const late = clock_type::now() + 10s;
        while (server.descriptors() > idle && clock_type::now() < late) ::usleep(10'000);
        return server.descriptors();
    };
    auto const begin = clock_type::now();
    while (clock_type::now() < begin + time / 3) one_client();
    EXPECT_EQ(settle(), idle);
    std::size_t const memory = server.memory();
    std::size_t const first = connections;
    while (clock_type::now() < begin + time) one_client();
    EXPECT_EQ(settle(), idle);
    if (!support::sanitized) {
        EXPECT_LE(server.memory(), memory + 1 * mb);
    }
    std::cout << connections << " connections, " << answers << " answers; memory after a third of the time "
              << memory / 1'000 << " KB, at the end " << server.memory() / 1'000 << " KB\n";
    EXPECT_GT(connections, first);
    EXPECT_EQ(server.stop(), 0);
}

}  // namespace
