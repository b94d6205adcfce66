// SPDX-License-Identifier: MIT
// The HTTP server of the chapters, over socket pairs and on one thread: the test plays the client between the
// turns of the loop.
#include "http/http_server.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/http_answers.hpp"

namespace {

using namespace std::chrono_literals;
using cairn::event_loop;
using std::chrono::milliseconds;
using support::http_answer;

/// A client that never waits.
struct peer {
    cairn::unique_fd fd;
    std::string got;
    bool over = false;

    std::size_t send(std::string_view text) const {
        std::error_code error;
        return cairn::send(fd.get(), std::as_bytes(std::span(text)), error);
    }
    void read() {
        std::array<std::byte, 65'536> data;
        std::error_code error;
        std::size_t const n = cairn::receive(fd.get(), data, error);
        got.append(reinterpret_cast<char const*>(data.data()), n);
        over = over || (n == 0 && error != std::errc::resource_unavailable_try_again);
    }
    void end() const {
        std::error_code error;
        cairn::shutdown_write(fd.get(), error);
    }
};

std::string get(std::string_view target, std::string_view more = "") {
    return "GET " + std::string(target) + " HTTP/1.1\r\nHost: test\r\n" + std::string(more) + "\r\n";
}

struct HttpServer : testing::Test {
    event_loop loop;
    http::limits limits;
    std::function<void(http::request const&, http::responder)> handler = [](http::request const& what,
                                                                            http::responder to) {
        to.send({.body = std::string(what.method()) + ' ' + std::string(what.target()) + ' ' + what.body()});
    };
    std::unique_ptr<http::server> server;

    http::server& start() {
        server = std::make_unique<http::server>(
            loop, [this](http::request const& what, http::responder to) { handler(what, std::move(to)); },
            limits);
        return *server;
    }
    peer connect() {
        if (!server) start();
        auto [ours, theirs] = cairn::socket_pair();
        server->adopt(std::move(theirs));
        return {std::move(ours), {}, false};
    }
    void run_until(std::function<bool()> const& holds) {
        auto const late = event_loop::clock::now() + 20s;
        while (!holds()) {
            loop.run_once(1ms);
            if (event_loop::clock::now() > late) throw std::runtime_error("it never came");
        }
    }
    void turns(int n = 5) {
        for (int i = 0; i < n; ++i) loop.poll();
    }
    http_answer answer(peer& from, bool head = false) {
        std::optional<http_answer> found;
        run_until([&] {
            from.read();
            found = support::read_answer(from.got, head);
            return found && (!found->until_close || from.over);
        });
        from.got.erase(0, found->size);
        return *found;
    }
    http_answer ask(peer& to, std::string_view request) {
        EXPECT_EQ(to.send(request), request.size());
        return answer(to);
    }
    void until_over(peer& of) {
        run_until([&] {
            of.read();
            return of.over;
        });
    }
};

TEST_F(HttpServer, AnswersRequestsOnOneConnection) {
    peer one = connect();
    auto const first = ask(one, get("/a?b=c", "X-Thing:  some value \r\n"));
    EXPECT_EQ(first.status, 200U);
    EXPECT_EQ(first.body, "GET /a?b=c ");
    EXPECT_EQ(first.field("Content-Type"), "text/plain; charset=utf-8");
    EXPECT_EQ(first.field("Date").size(), 29U);
    EXPECT_EQ(ask(one, "POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").body,
              "POST /b hello");
    EXPECT_EQ(ask(one, "\r\n\r\n" + get("/c")).body, "GET /c ") << "empty lines between requests";
    EXPECT_EQ(server->requests(), 3U);
    EXPECT_EQ(server->connections(), 1U);
    one.end();
    until_over(one);
    one.fd.reset();
    run_until([&] { return server->connections() == 0; });
}

TEST_F(HttpServer, ShowsTheHandlerAllOfARequest) {
    std::optional<http::request> seen;
    handler = [&](http::request const& what, http::responder to) {
        seen = what;
        to.send({.status = 204});
    };
    peer one = connect();
    auto const said = ask(one, get("/a/b?x=1?y", "X-Thing:  some value \r\nx-thing: other\r\nEmpty:\r\n"));
    EXPECT_EQ(said.status, 204U);
    EXPECT_EQ(said.field("Content-Length"), "");
    EXPECT_EQ(seen->path(), "/a/b");
    EXPECT_EQ(seen->query(), "x=1?y");
    EXPECT_EQ(seen->header("X-THING"), "some value");
    EXPECT_EQ(seen->header("empty"), "");
    EXPECT_EQ(seen->header("absent"), "");
    EXPECT_EQ(seen->headers(), 4U);
    EXPECT_EQ(seen->header(2).second, "other");
    ask(one, "GET http://elsewhere:80/c?d HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(seen->path(), "/c");
    ask(one, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(seen->path(), "*");
}

TEST_F(HttpServer, EndsTheConnectionWhenTheClientWishesIt) {
    for (auto const* const request :
         {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"}) {
        peer one = connect();
        auto const said = ask(one, std::string(request) + get("/never"));
        EXPECT_EQ(said.field("Connection"), "close");
        until_over(one);
        EXPECT_EQ(one.got, "");
    }
    peer old = connect();
    for (int i = 0; i < 2; ++i)
        EXPECT_EQ(ask(old, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").field("Connection"),
                  "keep-alive");
}

TEST_F(HttpServer, AnswersInTheOrderOfTheRequestsWhicheverIsReadyFirst) {
    std::vector<http::responder> open;
    handler = [&](http::request const&, http::responder to) { open.push_back(std::move(to)); };
    peer one = connect();
    one.send(get("/0") + get("/1") + get("/2") + get("/3", "Connection: close\r\n"));
    turns();
    ASSERT_EQ(open.size(), 4U);
    for (std::size_t const i : {2U, 3U, 0U, 1U}) {
        open[i].send({.body = std::to_string(i)});
        one.read();
        EXPECT_EQ(one.got.empty(), i >= 2);
    }
    for (int i = 0; i < 4; ++i) {
        auto const said = answer(one);
        EXPECT_EQ(said.body, std::to_string(i));
        EXPECT_EQ(said.field("Connection"), i == 3 ? "close" : "");
    }
    until_over(one);
    open[0].send({.body = "twice"});
    EXPECT_TRUE(open[0].gone());
    turns();
    EXPECT_EQ(one.got, "");
}

TEST_F(HttpServer, HasNoMoreRequestsInFlightThanItsLimit) {
    limits.pipelined = 3;
    std::deque<http::responder> open;
    std::size_t most = 0, total = 0;
    handler = [&](http::request const&, http::responder to) {
        open.push_back(std::move(to));
        most = std::max(most, open.size());
        ++total;
    };
    peer one = connect();
    std::string all;
    for (int i = 0; i < 100; ++i) all += get("/");
    one.send(all);
    one.end();
    int answered = 0;
    while (answered != 100) {
        run_until([&] { return !open.empty(); });
        turns();
        EXPECT_LE(open.size(), 3U);
        open.front().send({.body = std::to_string(answered)});
        open.pop_front();
        EXPECT_EQ(answer(one).body, std::to_string(answered++));
    }
    EXPECT_EQ(total, 100U);
    EXPECT_EQ(most, 3U);
    until_over(one);
}

TEST_F(HttpServer, HandlesNoMoreRequestsThanItHasRoomToAnswer) {
    limits.output = 1'000;
    handler = [](http::request const&, http::responder to) { to.send({.body = std::string(500, 'x')}); };
    peer one = connect();
    std::string all;
    for (int i = 0; i < 100; ++i) all += get("/");
    one.send(all);
    loop.poll();
    EXPECT_GT(server->requests(), 0U);
    EXPECT_LT(server->requests(), 5U) << "though all of them have been read";
    for (int i = 0; i < 100; ++i) EXPECT_EQ(answer(one).body.size(), 500U);
}

TEST_F(HttpServer, ReadsChunkedBodiesAndDropsTrailers) {
    std::size_t fields = 0;
    handler = [&](http::request const& what, http::responder to) {
        fields = what.headers();
        EXPECT_EQ(what.header("X-Checked-By"), "");
        to.send({.body = what.body()});
    };
    peer one = connect();
    auto const said =
        ask(one,
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5;name=value\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nX-Checked-By: nobody\r\n\r\n");
    EXPECT_EQ(said.body, "hello 0123456789");
    EXPECT_EQ(fields, 2U);
    EXPECT_EQ(ask(one, get("/")).status, 200U);
}

TEST_F(HttpServer, SendsAnAnswerInPieces) {
    std::optional<http::stream> open;
    handler = [&](http::request const&, http::responder to) {
        open.emplace(to.begin({.body = "one, ", .type = "text/event-stream"}));
    };
    peer one = connect();
    one.send(get("/"));
    run_until([&] { return open.has_value(); });
    run_until([&] {
        one.read();
        return one.got.ends_with("\r\n\r\n5\r\none, \r\n");
    });
    EXPECT_TRUE(open->write("two, "));
    EXPECT_TRUE(open->write(""));
    EXPECT_TRUE(open->write(std::string(300, '3')));
    open->end();
    EXPECT_FALSE(open->write("never"));
    auto const said = answer(one);
    EXPECT_EQ(said.body, "one, two, " + std::string(300, '3'));
    EXPECT_EQ(said.field("Content-Type"), "text/event-stream");
    EXPECT_EQ(said.field("Transfer-Encoding"), "chunked");

    // HTTP/1.0 knows no chunks: the end of the connection is the end. What was pipelined behind it is lost.
    one.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get("/never"));
    open.reset();
    run_until([&] { return open.has_value(); });
    open->write("two");
    open->end();
    auto const old = answer(one);
    EXPECT_TRUE(old.until_close);
    EXPECT_EQ(old.body, "one, two");
    EXPECT_EQ(one.got, "");
}

TEST_F(HttpServer, KeepsThePiecesOfALaterAnswerUntilItsTurn) {
    std::vector<http::responder> open;
    handler = [&](http::request const&, http::responder to) { open.push_back(std::move(to)); };
    limits.output = 1'000;
    peer one = connect();
    one.send(get("/1") + get("/2"));
    run_until([&] { return open.size() == 2; });
    http::stream second = open[1].begin({.body = "a"});
    EXPECT_FALSE(second.congested());
    second.write(std::string(1'000, 'b'));
    EXPECT_TRUE(second.congested());
    int drained = 0;
    second.on_drained([&] {
        ++drained;
        second.end();
    });
    turns();
    EXPECT_EQ(drained, 0);
    open[0].send({.body = "first"});
    EXPECT_EQ(answer(one).body, "first");
    EXPECT_EQ(answer(one).body, "a" + std::string(1'000, 'b'));
    EXPECT_EQ(drained, 1);
}

TEST_F(HttpServer, TellsAStreamThatItsClientDoesNotKeepUpAndWhenItDoesAgain) {
    std::optional<http::stream> open;
    handler = [&](http::request const&, http::responder to) { open.emplace(to.begin({})); };
    peer one = connect();
    one.send(get("/"));
    run_until([&] { return open.has_value(); });
    std::size_t written = 0;
    std::string const piece(10'000, 'x');
    auto const fill = [&] {
        while (!open->congested() && written < 5'000'000 && open->write(piece)) written += piece.size();
        if (written == 5'000'000) open->end();
    };
    fill();
    EXPECT_TRUE(open->congested());
    EXPECT_LT(written, 1'000'000U);
    open->on_drained(fill);
    turns();
    EXPECT_EQ(answer(one).body.size(), 5'000'000U);
}

TEST_F(HttpServer, CutsAnAnswerThatIsNotEnded) {
    std::optional<http::stream> open;
    handler = [&](http::request const&, http::responder to) { open.emplace(to.begin({.body = "half"})); };
    peer one = connect();
    one.send(get("/") + get("/never"));
    run_until([&] { return open.has_value(); });
    open.reset();
    until_over(one);
    EXPECT_FALSE(support::read_answer(one.got)) << one.got;
}

TEST_F(HttpServer, AsksForABodyThatWaitsForPermission) {
    std::vector<http::responder> open;
    handler = [&](http::request const& what, http::responder to) {
        if (what.path() == "/slow")
            open.push_back(std::move(to));
        else
            to.send({.body = what.body()});
    };
    std::string const post =
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n";
    peer one = connect();
    EXPECT_EQ(ask(one, post).status, 100U);
    EXPECT_EQ(ask(one, "hello").body, "hello");
    // Behind another request, in its turn.
    one.send(get("/slow") + post);
    run_until([&] { return !open.empty(); });
    turns();
    one.read();
    EXPECT_EQ(one.got, "");
    open[0].send({.body = "slow"});
    EXPECT_EQ(answer(one).body, "slow");
    EXPECT_EQ(answer(one).status, 100U);
    EXPECT_EQ(ask(one, "again").body, "again");
    // Not if the body is there before its turn comes.
    one.send(get("/slow") + post + "third");
    run_until([&] { return open.size() == 2; });
    turns();
    open[1].send({.body = "slow"});
    EXPECT_EQ(answer(one).body, "slow");
    EXPECT_EQ(answer(one).body, "third");
    turns();
    one.read();
    EXPECT_EQ(one.got, "");
    // Too much is refused before it is sent.
    limits.body = 4;
    start();
    one = connect();
    EXPECT_EQ(ask(one, post).status, 413U);
    until_over(one);
}

TEST_F(HttpServer, AnswersHeadWithoutABody) {
    handler = [](http::request const& what, http::responder to) {
        if (what.path() == "/stream") {
            auto out = std::move(to).begin({.body = "abc"});
            out.write("def");
            out.end();
        } else {
            to.send({.body = "abc"});
        }
    };
    peer one = connect();
    for (std::string const target : {"/", "/stream"}) {
        one.send("HEAD " + target + " HTTP/1.1\r\nHost: x\r\n\r\n");
        auto const said = answer(one, true);
        EXPECT_EQ(said.field("Content-Length"), target == "/" ? "3" : "");
        EXPECT_EQ(ask(one, get("/")).body, "abc") << "nothing stands between";
    }
}

// ---- What is wrong. ----

struct wrong {
    unsigned status;
    std::string request;
};
TEST_F(HttpServer, RefusesWhatIsWrongAndEnds) {
    limits.header = 1'000;
    limits.body = 10;
    std::string const h = "Host: x\r\n";
    std::string const post = "POST / HTTP/1.1\r\n" + h;
    std::string const end = "\r\n";
    std::vector<wrong> const all = {
        {400, "nonsense\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n\r\n"},                       // no Host
        {400, "GET / HTTP/1.1\r\n" + h + h + end},             // two
        {400, "GET / HTTP/1.1\r\n" + h + "a b: c\r\n" + end},  // no name has a blank
        {400, "GET / HTTP/1.1\r\n" + h + "a : c\r\n" + end},
        {400, "GET / HTTP/1.1\r\n" + h + "a: b\rc\r\n" + end},
        {400, "GET  / HTTP/1.1\r\n" + h + end},
        {400, "GET / HTTX/1.1\r\n" + h + end},
        {400, "GET / HTTP/1.1 \r\n" + h + end},
        {400, std::string("GET /\0 HTTP/1.1\r\n", 17) + h + end},
        {400, post + "Content-Length: x\r\n" + end},
        {400, post + "Content-Length: -1\r\n" + end},
        {400, post + "Content-Length: 99999999999999999999999\r\n" + end},
        {400, post + "Content-Length: 1\r\nContent-Length: 2\r\n" + end},
        {400, post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + end},
        {400, post + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n" + end},
        {400, post + "Transfer-Encoding: chunked\r\n" + end + "x\r\n"},
        {400, post + "Transfer-Encoding: chunked\r\n" + end + "1\r\nabc"},
        {400, post + "Transfer-Encoding: chunked\r\n" + end + "-1\r\n"},
        {400, post + "Transfer-Encoding: chunked\r\n" + end + "fffffffffffffffffff\r\n"},
        {400, post + "Transfer-Encoding: chunked\r\n" + end + "1;" + std::string(2'000, 'x')},
        {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + end},
        {413, post + "Content-Length: 11\r\n" + end},
        {413, post + "Transfer-Encoding: chunked\r\n" + end + "6\r\n123456\r\n6\r\n123456\r\n"},
        {417, post + "Content-Length: 1\r\nExpect: nothing\r\n" + end},
        {431, "GET /" + std::string(1'000, 'x') + " HTTP/1.1\r\n" + h + end},
        {431, "GET / HTTP/1.1\r\n" + h + "a: " + std::string(1'000, 'x') + end + end},
        {431, "GET /" + std::string(5'000, 'x')},
        {501, "FETCH / HTTP/1.1\r\n" + h + end},
        {501, "CONNECT x:1 HTTP/1.1\r\n" + h + end},
        {501, post + "Transfer-Encoding: gzip\r\n" + end},
        {501, post + "Transfer-Encoding: gzip, chunked\r\n" + end},
        {501, post + "Transfer-Encoding:\r\n" + end},
        {501, post + "Transfer-Encoding: chunked, gzip\r\n" + end},
        {505, "GET / HTTP/2.0\r\n" + h + end},
        {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
        {505, "GET / HTTP/0.9\r\n" + h + end},
    };
    handler = [](http::request const& what, http::responder to) {
        EXPECT_EQ(what.path(), "/right");
        to.send({});
    };
    for (wrong const& one : all) {
        peer by = connect();
        by.send(get("/right") + one.request + get("/right"));
        EXPECT_EQ(answer(by).status, 200U);
        auto const said = answer(by);
        EXPECT_EQ(said.status, one.status) << one.request.substr(0, 200);
        EXPECT_EQ(said.field("Connection"), "close");
        until_over(by);
        EXPECT_EQ(by.got, "") << "what follows is not served";
    }
}

TEST_F(HttpServer, CountsAHeaderThatComesLineByLine) {
    limits.header = 2'000;
    peer one = connect();
    one.send("GET / HTTP/1.1\r\nHost: x\r\n");
    std::size_t sent = 0;
    run_until([&] {
        sent += one.send("a: 12345678\r\n");
        one.read();
        return !one.got.empty();
    });
    EXPECT_EQ(answer(one).status, 431U);
    EXPECT_LT(sent, 10'000U);
}

TEST_F(HttpServer, RefusesAnErrorInItsTurn) {
    std::vector<http::responder> open;
    handler = [&](http::request const&, http::responder to) { open.push_back(std::move(to)); };
    peer one = connect();
    one.send(get("/") + "wrong\r\n\r\n");
    run_until([&] { return !open.empty(); });
    turns();
    one.read();
    EXPECT_EQ(one.got, "");
    open[0].send({.body = "right"});
    EXPECT_EQ(answer(one).body, "right");
    EXPECT_EQ(answer(one).status, 400U);
    until_over(one);
}

// The same bytes, however they arrive.
TEST_F(HttpServer, AnswersTheSameWhereverTheBytesAreCut) {
    std::string const all = get("/a") + "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz" +
                            "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                            "2;e=1\r\nab\r\n3\r\ncde\r\n0\r\nT: x\r\n\r\n" +
                            "\r\n" + get("/d", "Connection: close\r\n");
    std::vector<std::string> const expected = {"GET /a ", "POST /b xyz", "POST /c abcde", "GET /d "};
    for (std::size_t cut = 0; cut <= all.size(); ++cut) {
        peer one = connect();
        if (cut == all.size()) {  // byte by byte
            for (char const c : all) {
                one.send(std::string_view(&c, 1));
                loop.poll();
            }
        } else {
            one.send(std::string_view(all).substr(0, cut));
            loop.poll();
            one.send(std::string_view(all).substr(cut));
        }
        for (auto const& body : expected) ASSERT_EQ(answer(one).body, body) << "cut at " << cut;
        until_over(one);
    }
}

TEST_F(HttpServer, RefusesToSendWhatCouldBeReadAsTwoAnswers) {
    std::vector<http::response> const bad = {{.status = 99},
                                             {.status = 600},
                                             {.type = "a\r\nSet-Cookie: b"},
                                             {.headers = {{"a", "b\nc"}}},
                                             {.headers = {{"a b", "c"}}},
                                             {.headers = {{"", "c"}}}};
    handler = [&](http::request const& what, http::responder to) {
        auto const& one = bad[static_cast<std::size_t>(what.path()[1] - '0')];
        EXPECT_THROW(to.send(one), std::invalid_argument);
        EXPECT_THROW((void)to.begin(one), std::invalid_argument);
        to.send({.body = "another one"});
    };
    peer one = connect();
    for (std::size_t i = 0; i < bad.size(); ++i)
        EXPECT_EQ(ask(one, get("/" + std::to_string(i))).body, "another one");
}

// ---- Time. Behaviour 41. ----

TEST_F(HttpServer, GivesUpAHeaderThatTricklesIn) {
    limits.header_time = 30ms;
    peer one = connect();
    one.send("GET / HTTP/1.1\r\nSlow: ");
    std::size_t sent = 0;
    auto const trickle = loop.call_every(1ms, [&] { sent += one.send("x"); });
    EXPECT_EQ(answer(one).status, 408U);
    EXPECT_GT(sent, 1U);
    until_over(one);
}

TEST_F(HttpServer, GivesUpABodyThatDoesNotCome) {
    limits.body_time = 10ms;
    peer one = connect();
    EXPECT_EQ(ask(one, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab").status, 408U);
    until_over(one);
}

TEST_F(HttpServer, EndsIdleConnectionsWithoutAWord) {
    limits.idle = 20ms;
    peer quiet = connect();
    peer one = connect();
    EXPECT_EQ(ask(one, get("/")).status, 200U);
    until_over(one);
    until_over(quiet);
    EXPECT_EQ(one.got + quiet.got, "");
}

TEST_F(HttpServer, CountsEmptyLinesAsIdle) {
    limits.idle = 30ms;
    peer one = connect();
    std::size_t sent = 0;
    auto const trickle = loop.call_every(1ms, [&] { sent += one.send("\r\n"); });
    until_over(one);
    EXPECT_GT(sent, 2U);
}

TEST_F(HttpServer, LetsAHandlerTakeItsTime) {
    limits.idle = limits.header_time = limits.body_time = limits.write_time = 5ms;
    std::optional<http::responder> open;
    handler = [&](http::request const&, http::responder to) { open.emplace(std::move(to)); };
    peer one = connect();
    one.send(get("/"));
    run_until([&] { return open.has_value(); });
    bool late = false;
    auto const timer = loop.call_after(50ms, [&] { late = true; });
    run_until([&] { return late; });
    EXPECT_FALSE(open->gone());
    open->send({.body = "at last"});
    EXPECT_EQ(answer(one).body, "at last");
}

TEST_F(HttpServer, GivesUpAClientThatTakesNothing) {
    limits.write_time = 30ms;
    bool gone = false;
    std::optional<http::stream> open;
    handler = [&](http::request const&, http::responder to) {
        to.on_gone([&] { gone = true; });
        open.emplace(to.begin({.body = std::string(5'000'000, 'x')}));
    };
    peer one = connect();
    one.send(get("/"));
    run_until([&] { return gone; });
    EXPECT_TRUE(open->gone());
    EXPECT_FALSE(open->write("x"));
    EXPECT_EQ(server->connections(), 0U);
}

TEST_F(HttpServer, IsPatientWithAClientThatTakesALittleNowAndThen) {
    limits.write_time = 10ms;
    handler = [](http::request const&, http::responder to) {
        to.send({.body = std::string(2'000'000, 'x')});
    };
    peer one = connect();
    one.send(get("/"));
    std::size_t const whole = answer(one).size;  // a run that takes as long as it takes
    EXPECT_GT(whole, 2'000'000U);
}

// ---- Clients that leave, and handlers that do not answer. ----

TEST_F(HttpServer, IsNotHarmedByAnswersToClientsThatHaveGone) {
    std::vector<http::responder> open;
    int told = 0;
    handler = [&](http::request const&, http::responder to) {
        to.on_gone([&] { ++told; });
        open.push_back(std::move(to));
    };
    peer one = connect();
    one.send(get("/1") + get("/2"));
    run_until([&] { return open.size() == 2; });
    EXPECT_FALSE(open[0].gone());
    open[1].send({.body = "it has waited for the first"});
    // A peer that has closed is found out when something is written to it.
    one.fd.reset();
    turns();
    open[0].send({});
    run_until([&] { return server->connections() == 0; });
    EXPECT_EQ(told, 0) << "both were answered";
    EXPECT_TRUE(open[0].gone());
    open[0].send({});

    one = connect();
    one.send(get("/3"));
    run_until([&] { return open.size() == 3; });
    server.reset();
    EXPECT_TRUE(open[2].gone());
    open[2].send({});
    open[2].on_gone([] {});
    auto stream = open[2].begin({});
    EXPECT_FALSE(stream.write("x"));
    EXPECT_FALSE(stream.congested());
    stream.end();
    EXPECT_EQ(told, 0);
}

TEST_F(HttpServer, TellsAStreamThatItsReaderHasLeft) {
    int gone = 0;
    std::optional<http::stream> open;
    handler = [&](http::request const&, http::responder to) {
        to.on_gone([&] {
            ++gone;
            open.reset();
        });
        open.emplace(to.begin({.body = "event", .type = "text/event-stream"}));
    };
    peer one = connect();
    one.send(get("/"));
    run_until([&] { return open.has_value(); });
    one.fd.reset();
    run_until([&] { return gone == 1; });
    EXPECT_EQ(server->connections(), 0U);
}

TEST_F(HttpServer, AnswersOneWhoHasEndedItsSide) {
    std::vector<http::responder> open;
    handler = [&](http::request const&, http::responder to) { open.push_back(std::move(to)); };
    peer one = connect();
    one.send(get("/"));
    one.end();
    run_until([&] { return !open.empty(); });
    turns();
    open[0].send({.body = "still"});
    EXPECT_EQ(answer(one).body, "still");
    until_over(one);
    peer half = connect();
    half.send("GET / HT");
    half.end();
    EXPECT_EQ(answer(half).status, 400U);
    until_over(half);
}

TEST_F(HttpServer, AnswersForAHandlerThatDoesNot) {
    handler = [](http::request const&, http::responder) {};
    peer one = connect();
    EXPECT_EQ(ask(one, get("/")).status, 500U);
    EXPECT_EQ(ask(one, get("/")).status, 500U) << "the connection goes on";
}

TEST_F(HttpServer, SurvivesAHandlerThatThrows) {
    handler = [](http::request const&, http::responder) { throw std::runtime_error("in the handler"); };
    std::string what;
    start().on_error = [&](std::exception_ptr const& error) {
        try {
            std::rethrow_exception(error);
        } catch (std::exception const& e) {
            what = e.what();
        }
    };
    peer one = connect();
    EXPECT_EQ(ask(one, get("/")).status, 500U);
    EXPECT_EQ(what, "in the handler");
    server->on_error = {};
    one.send(get("/"));
    EXPECT_THROW(run_until([] { return false; }), std::runtime_error);
    try {
        until_over(one);
    } catch (std::runtime_error const& e) {
        FAIL() << e.what();
    }
    EXPECT_EQ(server->connections(), 0U);
}

// ---- The end. ----

TEST_F(HttpServer, StopsWhenWhatHasBegunIsAnswered) {
    std::vector<http::responder> open;
    handler = [&](http::request const&, http::responder to) { open.push_back(std::move(to)); };
    start();
    server->listen(cairn::endpoint::loopback(0));
    auto const at = server->address();
    peer idle = connect(), busy = connect(), half = connect();
    busy.send(get("/"));
    half.send("GET /half HT");
    run_until([&] { return open.size() == 1; });
    turns();
    bool stopped = false;
    server->stop(10s, [&] { stopped = true; });
    EXPECT_TRUE(server->stopping());
    std::error_code refused;
    cairn::unique_fd const late = cairn::connect(at, refused);
    EXPECT_TRUE(refused || cairn::pending_error(late.get())) << "nobody listens any more";
    until_over(idle);
    half.send("TP/1.1\r\nHost: x\r\n\r\n" + get("/never"));
    run_until([&] { return open.size() == 2; });
    EXPECT_FALSE(stopped);
    open[0].send({.body = "1"});
    open[1].send({.body = "2"});
    for (peer* const one : {&busy, &half}) {
        EXPECT_EQ(answer(*one).field("Connection"), "close");
        until_over(*one);
        one->fd.reset();
    }
    idle.fd.reset();
    run_until([&] { return stopped; });
    EXPECT_EQ(open.size(), 2U);
    EXPECT_EQ(server->connections(), 0U);
    EXPECT_EQ(loop.watching(), 0U);
    EXPECT_EQ(loop.timers(), 0U);
}

TEST_F(HttpServer, DoesNotWaitLongerThanItsLimitToStop) {
    std::vector<http::responder> open;
    handler = [&](http::request const&, http::responder to) { open.push_back(std::move(to)); };
    peer one = connect();
    one.send(get("/"));
    run_until([&] { return open.size() == 1; });
    bool stopped = false;
    server->stop(10ms, [&] {
        stopped = true;
        server.reset();  // here it may
    });
    run_until([&] { return stopped; });
    until_over(one);
    EXPECT_EQ(one.got, "");
    start();
    server->stop(1s, [&] { stopped = false; });
    run_until([&] { return !stopped; });
}

// ---- Clients over TCP. ----

peer dial(cairn::endpoint const& to) {
    peer made{cairn::connect(to), {}, false};
    return made;
}

TEST_F(HttpServer, LetsClientsWaitWhenItHasAsManyAsItMay) {
    limits.connections = 2;
    auto const at = start().listen(cairn::endpoint::loopback(0));
    std::vector<peer> all;
    for (int i = 0; i < 5; ++i) {
        all.push_back(dial(at));
        turns();
    }
    EXPECT_EQ(server->connections(), 2U);
    EXPECT_EQ(loop.poll(), 0U) << "it does not spin";
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(ask(all.front(), get("/")).status, 200U);
        EXPECT_LE(server->connections(), 2U);
        all.erase(all.begin());
    }
    run_until([&] { return server->connections() == 0; });
    EXPECT_EQ(server->accepted(), 5U);
}

TEST_F(HttpServer, ShedsClientsWithoutDescriptorsAndDoesNotSpin) {
    auto const at = start().listen(cairn::endpoint::loopback(0));
    peer first = dial(at);
    EXPECT_EQ(ask(first, get("/")).status, 200U);
    std::vector<peer> all;
    for (int i = 0; i < 4; ++i) all.push_back(dial(at));
    int const highest = ::fcntl(0, F_DUPFD_CLOEXEC, 0);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    rlimit const few{static_cast<rlim_t>(highest), before.rlim_max};
    ::close(highest);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
    run_until([&] { return server->shed() == 4; });
    for (peer& one : all) until_over(one);
    std::size_t ran = 0;
    for (int i = 0; i < 100; ++i) ran += loop.poll();
    EXPECT_LE(ran, 2U) << "it does not spin";
    EXPECT_EQ(ask(first, get("/")).status, 200U) << "who is there is served";
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    peer later = dial(at);
    EXPECT_EQ(ask(later, get("/")).status, 200U);
}

TEST_F(HttpServer, SurvivesPeersThatReset) {
    auto const at = start().listen(cairn::endpoint::loopback(0));
    handler = [](http::request const&, http::responder to) {
        to.send({.body = std::string(1'000'000, 'x')});
    };
    for (int i = 0; i < 50; ++i) {
        peer one = dial(at);
        run_until([&] { return server->accepted() == static_cast<std::size_t>(i) + 1; });
        if (i % 3 != 0) one.send(get("/"));
        if (i % 3 == 2) turns();
        linger const at_once{1, 0};
        ::setsockopt(one.fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    run_until([&] { return server->connections() == 0; });
    EXPECT_EQ(loop.timers(), 0U);
    EXPECT_EQ(loop.watching(), 1U);
}

}  // namespace
