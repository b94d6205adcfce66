// SPDX-License-Identifier: MIT
#include <cairn/connection.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/count_allocations.hpp"
#include "support/sanitizers.hpp"

namespace {

using namespace std::chrono_literals;
using cairn::connection;
using cairn::connection_limits;
using cairn::event_loop;
using cairn::unique_fd;

std::span<std::byte const> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string_view text(std::span<std::byte const> data) {
    return {reinterpret_cast<char const*>(data.data()), data.size()};
}

/// A connected pair over loopback TCP: what real peers do, resets too. Small buffers on request.
struct tcp_pair {
    unique_fd server, client;
    explicit tcp_pair(int buffer = 0) {
        unique_fd const listener = cairn::listen(cairn::endpoint::loopback(0));
        if (buffer != 0) {
            ::setsockopt(listener.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
            ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        }
        client = cairn::connect(cairn::endpoint::of(listener.get()));
        if (buffer != 0) ::setsockopt(client.get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        while (!(server = cairn::accept(listener.get()))) {
        }
    }
    /// The next close() of the client is a reset.
    void reset_client() {
        linger const at_once{1, 0};
        EXPECT_EQ(::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
        client.reset();
    }
};

std::size_t send_some(unique_fd const& to, std::string_view what) {
    std::error_code error;
    return cairn::send(to.get(), bytes(what), error);
}
/// What is there; at the end or after an error, nothing, and `over` is set.
std::string receive_some(unique_fd const& from, bool* over = nullptr) {
    std::array<std::byte, 65'536> data;
    std::error_code error;
    std::size_t const n = cairn::receive(from.get(), data, error);
    if (over != nullptr) *over = n == 0 && error != std::errc::resource_unavailable_try_again;
    return std::string(text(std::span(data).first(n)));
}
/// Runs the loop until something holds; fails the test after a long time.
void run_until(event_loop& loop, std::function<bool()> const& holds) {
    auto const late = event_loop::clock::now() + 20s;
    while (!holds()) {
        loop.run_once(1ms);
        ASSERT_LT(event_loop::clock::now(), late) << "it never came";
    }
}

/// A handler whose calls the test decides on.
struct scripted {
    using conn = connection<scripted>;
    struct calls {
        std::function<std::size_t(conn&, std::span<std::byte const>)> data =
            [](conn&, std::span<std::byte const> d) { return d.size(); };
        std::function<void(conn&)> end = [](conn& c) { c.finish(); };
        std::function<void(conn&)> timeout = [](conn& c) { c.close(std::errc::timed_out); };
        std::function<void(conn&)> drained = [](conn&) {};
        std::function<void(conn&)> close = [](conn&) {};
        std::optional<std::error_code> closed;
        int closes = 0, ends = 0, timeouts = 0, drains = 0;
    };
    calls& on;

    std::size_t on_data(conn& c, std::span<std::byte const> d) { return on.data(c, d); }
    void on_end(conn& c) {
        ++on.ends;
        on.end(c);
    }
    void on_timeout(conn& c) {
        ++on.timeouts;
        on.timeout(c);
    }
    void on_drained(conn& c) {
        ++on.drains;
        on.drained(c);
    }
    void on_close(conn& c, std::error_code why) {
        ++on.closes;
        on.closed = why;
        on.close(c);
    }
};

struct Connection : testing::Test {
    event_loop loop;
    scripted::calls on;
    tcp_pair pair;
    std::unique_ptr<scripted::conn> made;

    scripted::conn& make(connection_limits const& limits = {}) {
        made = std::make_unique<scripted::conn>(loop, std::move(pair.server), limits, scripted{on});
        return *made;
    }
    void until_closed() {
        run_until(loop, [&] { return on.closed.has_value(); });
    }
    void echo() {
        on.data = [](scripted::conn& c, std::span<std::byte const> d) {
            c.write(d);
            return d.size();
        };
    }
};

TEST_F(Connection, EchoesAndEndsWhenThePeerDoes) {
    echo();
    make();
    send_some(pair.client, "hello");
    std::string got;
    run_until(loop, [&] { return (got += receive_some(pair.client)) == "hello"; });
    pair.client.reset();
    until_closed();
    EXPECT_FALSE(*on.closed);
    EXPECT_EQ(on.ends, 1);
    EXPECT_EQ(on.closes, 1);
    EXPECT_EQ(loop.watching(), 0U);
    EXPECT_EQ(loop.timers(), 0U);
}

TEST_F(Connection, OffersWhatWasNotTakenAgainWithMoreBehindIt) {
    std::vector<std::string> offered;
    on.data = [&](scripted::conn&, std::span<std::byte const> d) {
        offered.emplace_back(text(d));
        return d.size() >= 6 ? std::size_t{5} : 0;  // words of five
    };
    make();
    for (char const c : std::string_view("onetwothree")) {
        send_some(pair.client, std::string_view(&c, 1));
        std::size_t const before = offered.size();
        run_until(loop, [&] { return offered.size() != before; });
    }
    EXPECT_EQ(offered.front(), "o");
    EXPECT_EQ(offered[5], "onetwo");
    EXPECT_EQ(offered[6], "ot");
    EXPECT_EQ(offered.back(), "othree");
    EXPECT_EQ(offered.size(), 11U);
}

TEST_F(Connection, SendsWhatOneCallWritesAtOnceAndInOrder) {
    on.data = [](scripted::conn& c, std::span<std::byte const> d) {
        for (int i = 0; i < 1'000; ++i) c.write(bytes(std::to_string(i) + ' '));
        EXPECT_EQ(c.pending(), 3'890U);
        return d.size();
    };
    make();
    send_some(pair.client, "x");
    std::string expected;
    for (int i = 0; i < 1'000; ++i) expected += std::to_string(i) + ' ';
    std::string got;
    run_until(loop, [&] { return (got += receive_some(pair.client)).size() >= expected.size(); });
    EXPECT_EQ(got, expected);
    EXPECT_EQ(made->pending(), 0U);
}

TEST_F(Connection, AllocatesNothingToAnswerAPeerThatReads) {
    echo();
    make();
    std::string got;
    send_some(pair.client, "warm up");
    run_until(loop, [&] { return !(got += receive_some(pair.client)).empty(); });
    std::array<std::byte, 64> data;
    std::size_t const before = support::allocations;
    for (int i = 0; i < 100; ++i) {
        std::error_code error;
        ASSERT_EQ(cairn::send(pair.client.get(), bytes("request"), error), 7U);
        while (cairn::receive(pair.client.get(), data, error) == 0) loop.run_once(1ms);
    }
    EXPECT_EQ(support::allocations - before, 0U);
}

TEST_F(Connection, WritesFromOutsideOfItsCalls) {
    auto& c = make();
    c.write(bytes("at once"));
    std::string got;
    run_until(loop, [&] { return (got += receive_some(pair.client)) == "at once"; });
    std::string const much(5'000'000, 'x');
    c.write(bytes(much));
    EXPECT_GT(c.pending(), 0U);
    EXPECT_TRUE(c.congested());
    c.write(bytes("end"));
    got.clear();
    run_until(loop, [&] { return (got += receive_some(pair.client)).size() == much.size() + 3; });
    EXPECT_TRUE(got == much + "end");
    EXPECT_EQ(c.pending(), 0U);
    EXPECT_EQ(on.drains, 1);
}

// Behaviour 36. The peer sends without end and never reads. What it sends is not read beyond the limit, so
// its own send() stops; and when it reads at last, nothing is missing.
TEST_F(Connection, ReadsNoMoreWhileMuchIsToBeWritten) {
    pair = tcp_pair(65'536);
    connection_limits limits;
    limits.output = 32 * 1'024;
    std::size_t taken = 0, most_pending = 0;
    on.data = [&](scripted::conn& c, std::span<std::byte const> d) {
        std::size_t n = 0;
        while (n != d.size() && !c.congested()) {  // an answer of 50 bytes for each byte
            c.write(bytes(std::string(50, static_cast<char>('a' + taken % 26))));
            ++taken;
            ++n;
            most_pending = std::max(most_pending, c.pending());
        }
        return n;
    };
    auto& c = make(limits);
    std::string const requests(200'000, 'r');
    std::size_t sent = 0;
    for (int i = 0; i < 200; ++i) {
        sent += send_some(pair.client, std::string_view(requests).substr(sent));
        loop.run_once(0ms);
    }
    EXPECT_TRUE(c.congested());
    EXPECT_LT(taken, 100'000U);
    std::size_t const stands_still = taken;
    for (int i = 0; i < 50; ++i) loop.run_once(0ms);
    EXPECT_EQ(taken, stands_still);
    EXPECT_EQ(loop.poll(), 0U) << "and the loop does not spin";

    std::size_t got = 0;
    bool right = true;
    run_until(loop, [&] {
        if (sent != requests.size()) sent += send_some(pair.client, std::string_view(requests).substr(sent));
        for (char const character : receive_some(pair.client))
            right = right && character == static_cast<char>('a' + got++ / 50 % 26);
        return got == requests.size() * 50;
    });
    EXPECT_TRUE(right);
    EXPECT_EQ(taken, requests.size());
    EXPECT_LE(most_pending, limits.output + 50);
    run_until(loop, [&] { return made->pending() == 0; });
}

TEST_F(Connection, RefusesToKeepMoreInputThanItsLimit) {
    connection_limits limits;
    limits.input = 1'000;
    std::size_t most = 0;
    on.data = [&](scripted::conn&, std::span<std::byte const> d) {
        most = std::max(most, d.size());
        return std::size_t{0};
    };
    make(limits);
    send_some(pair.client, std::string(5'000, 'x'));
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::message_size);
    EXPECT_EQ(most, 1'000U);
}

// Behaviour 37.
TEST_F(Connection, AnswersAPeerThatHasEndedItsSide) {
    on.end = [](scripted::conn& c) {
        EXPECT_TRUE(c.at_end());
        c.write(bytes("a late answer"));
        c.finish();
    };
    make();
    send_some(pair.client, "request");
    std::error_code error;
    cairn::shutdown_write(pair.client.get(), error);
    until_closed();
    EXPECT_FALSE(*on.closed);
    std::string got;
    bool over = false;
    while (!over) got += receive_some(pair.client, &over);
    EXPECT_EQ(got, "a late answer");
}

TEST_F(Connection, FinishesGracefullySoThatUnreadRequestsDoNotDestroyTheAnswer) {
    pair = tcp_pair(16'384);
    std::string const answer(300'000, 'a');
    on.data = [&](scripted::conn& c, std::span<std::byte const>) {
        c.write(bytes(answer));
        c.finish();
        c.write(bytes("never"));
        return std::size_t{0};
    };
    make();
    send_some(pair.client, "first");
    loop.run_once(1ms);
    // More of them come while the answer is on its way. Were they left unread, closing would be a reset.
    std::string got;
    bool over = false;
    run_until(loop, [&] {
        send_some(pair.client, "and another one, which nobody will read");
        got += receive_some(pair.client, &over);
        return over;
    });
    EXPECT_TRUE(got == answer);
    EXPECT_FALSE(on.closed) << "it still waits for the end of the peer";
    pair.client.reset();
    until_closed();
    EXPECT_EQ(on.closes, 1);
}

TEST_F(Connection, DoesNotWaitForEverForThePeerToEnd) {
    connection_limits limits;
    limits.linger = decltype(limits.linger)(5);
    auto& c = make(limits);
    c.write(bytes("bye"));
    c.finish();
    until_closed();
    EXPECT_FALSE(*on.closed) << "all was written";
    EXPECT_EQ(on.timeouts, 0);
    EXPECT_EQ(receive_some(pair.client), "bye");
}

TEST_F(Connection, GivesUpAPeerThatTakesNothingAfterFinish) {
    pair = tcp_pair(8'192);
    connection_limits limits;
    limits.linger = decltype(limits.linger)(20);
    auto& c = make(limits);
    c.write(bytes(std::string(10'000'000, 'x')));
    c.finish();
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::timed_out);
}

TEST_F(Connection, SeesAResetWhileItReads) {
    make();
    loop.run_once(0ms);
    pair.reset_client();
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::connection_reset);
    EXPECT_EQ(on.ends, 0);
}

TEST_F(Connection, SeesAResetWhileItWaitsToWriteAndDoesNotSpin) {
    pair = tcp_pair(8'192);
    auto& c = make();
    c.write(bytes(std::string(10'000'000, 'x')));
    loop.run_once(0ms);
    EXPECT_TRUE(c.congested());
    pair.reset_client();
    until_closed();
    EXPECT_TRUE(*on.closed == std::errc::connection_reset || *on.closed == std::errc::broken_pipe);
    EXPECT_EQ(loop.poll(), 0U);
}

TEST_F(Connection, TellsOfAnErrorWithinACallAfterIt) {
    bool within = false;
    on.data = [&](scripted::conn& c, std::span<std::byte const> d) {
        within = true;
        c.close(std::errc::protocol_error);
        c.close(std::errc::io_error);
        EXPECT_TRUE(c.closing());
        c.write(d);
        within = false;
        return d.size();
    };
    on.close = [&](scripted::conn& c) {
        EXPECT_FALSE(within);
        EXPECT_EQ(c.fd(), -1);
    };
    make();
    send_some(pair.client, "x");
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::protocol_error) << "the first reason counts";
    EXPECT_EQ(on.closes, 1);
    loop.poll();
    EXPECT_EQ(on.closes, 1);
}

TEST_F(Connection, TellsOfACloseFromOutsideFromTheLoop) {
    auto& c = make();
    c.close(std::errc::owner_dead);
    EXPECT_EQ(on.closes, 0);
    loop.poll();
    EXPECT_EQ(on.closes, 1);
    EXPECT_EQ(*on.closed, std::errc::owner_dead);
}

TEST_F(Connection, MayBeDestroyedInAnyOfItsCalls) {
    auto const destroy = [&](scripted::conn&) { made.reset(); };
    on.close = destroy;
    on.data = [&](scripted::conn& c, std::span<std::byte const> d) {
        c.write(d);
        made.reset();
        return d.size();
    };
    make();
    send_some(pair.client, "x");
    run_until(loop, [&] { return made == nullptr; });

    pair = tcp_pair();
    on.end = destroy;
    make();
    pair.client.reset();
    run_until(loop, [&] { return made == nullptr; });

    pair = tcp_pair();
    on.timeout = destroy;
    make().expires_after(0s);
    run_until(loop, [&] { return made == nullptr; });

    pair = tcp_pair();
    make().close();
    run_until(loop, [&] { return made == nullptr; });

    pair = tcp_pair(65'536);
    on.drained = destroy;
    make().write(bytes(std::string(2'000'000, 'x')));
    run_until(loop, [&] {
        receive_some(pair.client);
        return made == nullptr;
    });
    EXPECT_EQ(on.closes, 1) << "by close() only";
    EXPECT_EQ(loop.watching(), 0U);
    EXPECT_EQ(loop.timers(), 0U);
}

TEST_F(Connection, EndsWhenItsHandlerThrows) {
    on.data = [](scripted::conn& c, std::span<std::byte const>) -> std::size_t {
        c.write(bytes("half an answer"));
        throw std::runtime_error("in on_data");
    };
    make();
    send_some(pair.client, "x");
    EXPECT_THROW(run_until(loop, [] { return false; }), std::runtime_error);
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::state_not_recoverable);
    EXPECT_EQ(on.closes, 1);
}

TEST_F(Connection, ThrowsWhenThereIsNoMemoryForWhatWaitsAndCanBeClosedThen) {
    pair = tcp_pair(65'536);
    std::string const much(5'000'000, 'x');
    auto& outside = make();
    {
        support::fail_after const none(0);
        EXPECT_THROW(outside.write(bytes(much)), std::bad_alloc);
    }
    outside.close(std::errc::not_enough_memory);
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::not_enough_memory);

    pair = tcp_pair(65'536);
    on.closed.reset();
    on.data = [&](scripted::conn& c, std::span<std::byte const> d) {
        support::fail_after const none(0);
        c.write(bytes(much));
        return d.size();
    };
    make();
    send_some(pair.client, "x");
    EXPECT_THROW(run_until(loop, [] { return false; }), std::bad_alloc);
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::state_not_recoverable);
}

TEST_F(Connection, ExpiresUnlessItIsRefreshed) {
    auto& c = make();
    c.expires_after(30ms);
    for (int i = 0; i < 10; ++i) {
        auto const later = loop.call_after(5ms, [&] { c.expires_after(30ms); });
        loop.run_once();
        while (later) loop.run_once();
    }
    EXPECT_EQ(on.timeouts, 0);
    EXPECT_EQ(loop.timers(), 1U);
    until_closed();
    EXPECT_EQ(*on.closed, std::errc::timed_out);
    EXPECT_EQ(on.timeouts, 1);
}

TEST_F(Connection, MayBeGivenMoreTimeByItsTimeoutOrNoneAtAll) {
    on.timeout = [&](scripted::conn& c) {
        if (on.timeouts < 3) c.expires_after(1ms);
    };
    auto& c = make();
    c.expires_after(1ms);
    run_until(loop, [&] { return on.timeouts == 3; });
    EXPECT_EQ(loop.timers(), 0U);
    c.expires_after(1ms);
    c.never_expires();
    EXPECT_EQ(loop.timers(), 0U);
    send_some(pair.client, "still there");
    pair.client.reset();
    until_closed();
    EXPECT_FALSE(*on.closed);
}

TEST_F(Connection, ReadsNothingWhilePausedNotEvenAReset) {
    std::string got;
    on.data = [&](scripted::conn& c, std::span<std::byte const> d) {
        got += text(d.first(1));
        if (got == "ab") c.pause();
        return std::size_t{1};
    };
    auto& c = make();
    for (char const* const part : {"a", "bc", "de"}) {
        send_some(pair.client, part);
        for (int i = 0; i < 3; ++i) loop.run_once(1ms);
    }
    EXPECT_EQ(got, "ab");
    EXPECT_EQ(loop.poll(), 0U);
    c.resume();
    run_until(loop, [&] { return got.size() >= 3; });
    EXPECT_EQ(got.substr(0, 3), "abc");
    c.pause();
    pair.reset_client();
    for (int i = 0; i < 3; ++i) loop.run_once(1ms);
    EXPECT_EQ(loop.poll(), 0U) << "it does not spin";
    EXPECT_FALSE(on.closed);
    c.resume();
    until_closed();
}

TEST_F(Connection, TricklesInByteByByte) {
    std::string got;
    on.data = [&](scripted::conn& c, std::span<std::byte const> d) {
        auto const all = text(d);
        auto const end = all.rfind('\n');
        if (end == all.npos) return std::size_t{0};
        got += all.substr(0, end + 1);
        c.write(d.first(end + 1));
        return end + 1;
    };
    make();
    std::string const lines = "one\ntwo\nthree\nfour\n";
    for (char const c : lines) {
        send_some(pair.client, std::string_view(&c, 1));
        loop.run_once(1ms);
    }
    run_until(loop, [&] { return got == lines; });
    EXPECT_EQ(made->pending(), 0U);
}

TEST_F(Connection, KeepsNothingForAnIdlePeer) {
    static_assert(sizeof(connection<void*>) <= 88 || sizeof(void*) != 8);
    pair = tcp_pair(65'536);
    auto& c = make();
    c.write(bytes(std::string(1'000'000, 'x')));
    std::size_t got = 0;
    run_until(loop, [&] { return (got += receive_some(pair.client).size()) == 1'000'000; });
    run_until(loop, [&] { return c.pending() == 0; });
    loop.poll();
    EXPECT_EQ(on.drains, 1);
}

// Any peer: it sends, reads, trickles, ends one side or both, or resets, in any order. The answers are a
// prefix of the right ones, all of them if it was patient; on_close() comes once; nothing is left.
class AnyPeer : public testing::TestWithParam<std::uint32_t> {};

TEST_P(AnyPeer, GetsTheRightAnswersInOrderAndIsGoneAfterwards) {
    std::uint32_t const seed = GetParam();
    std::mt19937 random(seed);
    event_loop loop;
    for (int round = 0; round < 20; ++round) {
        tcp_pair pair(random() % 2 == 0 ? 65'536 : 0);  // less of it stalls TCP itself
        scripted::calls on;
        connection_limits limits;
        limits.output = 1'000 + static_cast<std::uint32_t>(random() % 60'000);
        limits.input = 1'000 + static_cast<std::uint32_t>(random() % 60'000);
        bool const patient = random() % 2 == 0;
        limits.linger = decltype(limits.linger)(patient ? 60'000 : 10);
        std::size_t const factor = 1 + random() % 50;
        std::size_t answered = 0;
        on.data = [&](scripted::conn& c, std::span<std::byte const> d) {
            std::size_t n = 0;
            for (; n != d.size() && !c.congested(); ++n, ++answered)
                c.write(bytes(std::string(factor, static_cast<char>('a' + answered % 26))));
            if (random() % 16 == 0) {
                c.pause();
                loop.post([&c] { c.resume(); });
            }
            return n;
        };
        auto made = std::make_unique<scripted::conn>(loop, std::move(pair.server), limits, scripted{on});
        std::size_t const requests = random() % 30'000;
        std::size_t sent = 0, got = 0;
        bool over = false, ended = false;
        auto const late = event_loop::clock::now() + 20s;
        while (!over) {
            ASSERT_LT(event_loop::clock::now(), late) << "seed " << seed << " round " << round;
            switch (random() % 8) {
                case 0:
                case 1:
                case 2:
                    if (!ended && sent != requests)
                        sent += send_some(pair.client,
                                          std::string(std::min(requests - sent, random() % 5'000), 'r'));
                    break;
                case 3:
                case 4:
                    for (char const c : receive_some(pair.client, &over))
                        ASSERT_EQ(c, static_cast<char>('a' + got++ / factor % 26)) << "seed " << seed;
                    break;
                case 5:
                    if (!ended && (sent == requests || (!patient && random() % 20 == 0))) {
                        std::error_code error;
                        cairn::shutdown_write(pair.client.get(), error);
                        ended = true;
                    }
                    break;
                case 6:
                    if (!patient && random() % 40 == 0) {
                        pair.reset_client();
                        over = true;
                    }
                    break;
                default:
                    loop.run_once(0ms);
            }
        }
        pair.client.reset();
        run_until(loop, [&] { return on.closed.has_value(); });
        loop.poll();  // the last resume() that was posted
        if (patient) {
            EXPECT_EQ(got, requests * factor)
                << "seed " << seed << " round " << round << " " << on.closed->message();
        }
        EXPECT_EQ(on.closes, 1);
        EXPECT_EQ(loop.watching(), 0U);
        EXPECT_EQ(loop.timers(), 0U);
    }
}
INSTANTIATE_TEST_SUITE_P(Seeds, AnyPeer, testing::Range(1U, support::sanitized ? 9U : 33U));

}  // namespace
