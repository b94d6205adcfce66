// SPDX-License-Identifier: MIT
#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace {

using namespace std::chrono_literals;
using cairn::endpoint;
using cairn::readiness;
using cairn::unique_fd;

[[nodiscard]] bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
[[nodiscard]] unique_fd some_fd() { return unique_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

/// Waits until fd is ready for `what`.
void wait_for(int fd, short what) {
    pollfd one{fd, what, 0};
    ASSERT_EQ(::poll(&one, 1, 10'000), 1);
}
[[nodiscard]] std::string receive_all(int fd) {
    std::string text;
    std::array<std::byte, 4096> some;
    for (;;) {
        std::error_code error;
        std::size_t const n = cairn::receive(fd, some, error);
        if (error || n == 0) return text;
        text.append(reinterpret_cast<char const*>(some.data()), n);
    }
}
std::size_t send_text(int fd, std::string_view text, std::error_code& error) {
    return cairn::send(fd, std::as_bytes(std::span(text)), error);
}

TEST(UniqueFd, ClosesWhatItOwnsOnce) {
    int number = -1;
    {
        unique_fd const fd = some_fd();
        ASSERT_TRUE(fd);
        number = fd.get();
    }
    EXPECT_FALSE(is_open(number));
    unique_fd first = some_fd();
    number = first.get();
    unique_fd second = std::move(first);
    EXPECT_FALSE(first);
    EXPECT_EQ(second.get(), number);
    unique_fd third = some_fd();
    int const replaced = third.get();
    third = std::move(second);
    EXPECT_FALSE(is_open(replaced));
    EXPECT_EQ(third.get(), number);
    int const given_away = third.release();
    third.reset();
    EXPECT_TRUE(is_open(given_away));
    third.reset(given_away);
    third.reset();
    EXPECT_FALSE(is_open(given_away));
}

TEST(UniqueFd, KeepsWhatItOwnsWhenItIsMovedToItself) {
    unique_fd fd = some_fd();
    unique_fd& same = fd;
    fd = std::move(same);
    EXPECT_TRUE(fd && is_open(fd.get()));
}

TEST(UniqueFd, LeavesErrnoAsItIs) {
    unique_fd fd(1'000'000'000);  // close() fails
    errno = EINTR;
    fd.reset();
    EXPECT_EQ(errno, EINTR);
}

TEST(Endpoint, ReadsAndWritesAddresses) {
    EXPECT_EQ(endpoint::ip("192.0.2.7", 80).to_string(), "192.0.2.7:80");
    EXPECT_EQ(endpoint::ip("2001:DB8:0::1", 443).to_string(), "[2001:db8::1]:443");
    EXPECT_EQ(endpoint::loopback(1).to_string(), "127.0.0.1:1");
    EXPECT_EQ(endpoint::loopback_v6(65'535).to_string(), "[::1]:65535");
    EXPECT_EQ(endpoint::any(0).to_string(), "0.0.0.0:0");
    EXPECT_EQ(endpoint::any_v6(0).to_string(), "[::]:0");
    EXPECT_EQ(endpoint::ip("fe80::1%lo", 9).to_string(), "[fe80::1%1]:9");
    EXPECT_EQ(endpoint::local("/run/some.sock").to_string(), "/run/some.sock");
    EXPECT_EQ(endpoint::local(std::string_view("\0name", 5)).to_string(), "@name");
    EXPECT_EQ(endpoint().to_string(), "");
    EXPECT_EQ(endpoint().family(), AF_UNSPEC);
    EXPECT_EQ(endpoint::loopback(80).port(), 80);
    EXPECT_EQ(endpoint::loopback_v6(81).port(), 81);
    EXPECT_EQ(endpoint::local("x").port(), 0);
    EXPECT_EQ(endpoint::local(std::string(107, 'x')).to_string(), std::string(107, 'x'));
    EXPECT_EQ(endpoint::loopback(80), endpoint::ip("127.0.0.1", 80));
    EXPECT_NE(endpoint::loopback(80), endpoint::loopback(81));
    EXPECT_NE(endpoint::loopback(80), endpoint::loopback_v6(80));
    EXPECT_NE(endpoint::local("a"), endpoint::local("b"));
}

TEST(Endpoint, RefusesWhatIsNoAddressAndNamesIt) {
    for (std::string_view const text : {"", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1",
                                        "::1::", "1.2.3.4 ", "fe80::1%", "fe80::1%no-such-zone", "[::1]"}) {
        try {
            static_cast<void>(endpoint::ip(text, 1));
            ADD_FAILURE() << text;
        } catch (std::invalid_argument const& thrown) {
            EXPECT_NE(std::string_view(thrown.what()).find(text), std::string_view::npos);
        }
    }
    EXPECT_THROW(static_cast<void>(endpoint::ip(std::string_view("127.0.0.1\0", 10), 1)),
                 std::invalid_argument);
    EXPECT_THROW(static_cast<void>(endpoint::ip(std::string_view("::1\0", 4), 1)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(endpoint::local("")), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(endpoint::local(std::string(108, 'x'))), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(endpoint::local(std::string_view("a\0b", 3))), std::invalid_argument);
}

/// Each kind of address, connected through.
void talk(endpoint const& at) {
    unique_fd const listener = cairn::listen(at);
    endpoint const where = endpoint::of(listener.get());
    EXPECT_EQ(where.family(), at.family());
    std::error_code error;
    EXPECT_FALSE(cairn::accept(listener.get()));
    EXPECT_FALSE(cairn::accept(listener.get(), error));
    EXPECT_EQ(error, std::errc::resource_unavailable_try_again);
    unique_fd const client = cairn::connect(where);
    wait_for(listener.get(), POLLIN);
    unique_fd const server = cairn::accept(listener.get());
    ASSERT_TRUE(server);
    wait_for(client.get(), POLLOUT);
    EXPECT_FALSE(cairn::pending_error(client.get()));
    EXPECT_EQ(endpoint::of_peer(client.get()), where);
    EXPECT_EQ(endpoint::of_peer(server.get()), endpoint::of(client.get()));
    for (int const fd : {listener.get(), client.get(), server.get()}) {
        EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    }
    if (at.family() != AF_UNIX)
        for (int const fd : {client.get(), server.get()}) {
            int no_delay = 0;
            socklen_t size = sizeof no_delay;
            EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size), 0);
            EXPECT_NE(no_delay, 0);
        }
    EXPECT_EQ(send_text(client.get(), "hello", error), 5U);
    wait_for(server.get(), POLLIN);
    EXPECT_EQ(receive_all(server.get()), "hello");
    std::array<std::byte, 1> one;
    EXPECT_EQ(cairn::receive(server.get(), one, error), 0U);
    EXPECT_EQ(error, std::errc::resource_unavailable_try_again);
    // The request ends; the answer still gets through.
    cairn::shutdown_write(client.get(), error);
    EXPECT_FALSE(error);
    wait_for(server.get(), POLLIN);
    EXPECT_EQ(cairn::receive(server.get(), one, error), 0U);
    EXPECT_FALSE(error);
    EXPECT_EQ(send_text(server.get(), "bye", error), 3U);
    wait_for(client.get(), POLLIN);
    EXPECT_EQ(receive_all(client.get()), "bye");
}

TEST(Socket, TalksOverIPv4) { talk(endpoint::loopback(0)); }
TEST(Socket, TalksOverIPv6) {
    std::error_code error;
    if (!cairn::listen(endpoint::loopback_v6(0), {}, error)) GTEST_SKIP() << "no IPv6: " << error.message();
    talk(endpoint::loopback_v6(0));
}
TEST(Socket, TalksOverAPathAndANameWithoutAFile) {
    std::string const path = testing::TempDir() + "cairn-socket-" + std::to_string(::getpid());
    talk(endpoint::local(path));
    EXPECT_TRUE(std::filesystem::remove(path));
    talk(endpoint::local('\0' + path));
}

TEST(Socket, TakesIPv4AtAnIPv6AddressUnlessToldNotTo) {
    std::error_code error;
    unique_fd both = cairn::listen(endpoint::any_v6(0), {}, error);
    if (!both) GTEST_SKIP() << "no IPv6: " << error.message();
    std::uint16_t const port = endpoint::of(both.get()).port();
    unique_fd client = cairn::connect(endpoint::loopback(port));
    wait_for(client.get(), POLLOUT);
    EXPECT_FALSE(cairn::pending_error(client.get()));
    both.reset();
    unique_fd const only = cairn::listen(endpoint::any_v6(0), {.v6_only = true});
    client = cairn::connect(endpoint::loopback(endpoint::of(only.get()).port()), error);
    if (client) {
        wait_for(client.get(), POLLOUT);
        error = cairn::pending_error(client.get());
    }
    EXPECT_EQ(error, std::errc::connection_refused);
}

TEST(Socket, LetsSeveralListenAtOneAddressIfTheySaySo) {
    unique_fd const first = cairn::listen(endpoint::loopback(0), {.reuse_port = true});
    endpoint const where = endpoint::of(first.get());
    EXPECT_TRUE(cairn::listen(where, {.reuse_port = true}));
    std::error_code error;
    EXPECT_FALSE(cairn::listen(where, {}, error));
    EXPECT_EQ(error, std::errc::address_in_use);
}

TEST(Socket, NamesTheCallThatFailed) {
    auto const message_of = [](auto&& f) -> std::string {
        try {
            f();
        } catch (std::system_error const& thrown) {
            return thrown.what();
        }
        return "nothing thrown";
    };
    auto const starts = [](std::string const& text, char const* with) { return text.rfind(with, 0) == 0; };
    unique_fd const first = cairn::listen(endpoint::loopback(0));
    endpoint const taken = endpoint::of(first.get());
    EXPECT_TRUE(starts(message_of([&] { static_cast<void>(cairn::listen(taken)); }), "bind: "));
    EXPECT_TRUE(starts(message_of([] { static_cast<void>(cairn::listen(endpoint())); }), "socket: "));
    EXPECT_TRUE(starts(message_of([] { static_cast<void>(cairn::connect(endpoint::local("/no/such"))); }),
                       "connect: "));
    EXPECT_TRUE(starts(message_of([] { static_cast<void>(cairn::accept(-1)); }), "accept4: "));
    EXPECT_TRUE(starts(message_of([] { static_cast<void>(endpoint::of(-1)); }), "getsockname: "));
    EXPECT_TRUE(starts(message_of([] { static_cast<void>(endpoint::of_peer(-1)); }), "getpeername: "));
    std::error_code error;
    EXPECT_FALSE(cairn::connect(endpoint::local("/no/such"), error));
    EXPECT_EQ(error, std::errc::no_such_file_or_directory);
    EXPECT_EQ(cairn::pending_error(-1), std::errc::bad_file_descriptor);
    cairn::shutdown_write(-1, error);
    EXPECT_EQ(error, std::errc::bad_file_descriptor);
}

TEST(Socket, ReportsTheEndOfAConnectThatNobodyTakes) {
    unique_fd listener = cairn::listen(endpoint::loopback(0));
    endpoint const where = endpoint::of(listener.get());
    listener.reset();
    std::error_code error;
    cairn::event_loop loop;
    unique_fd const client = cairn::connect(where, error);
    if (client) {
        auto const watch = loop.watch(client.get(), readiness::out, [&](readiness) {
            error = cairn::pending_error(client.get());
            loop.stop();
        });
        loop.run();
    }
    EXPECT_EQ(error, std::errc::connection_refused);
}

TEST(Socket, ReportsAPeerThatIsGoneWithoutASignal) {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;  // SIGPIPE would end the test
    struct sigaction before{};
    ASSERT_EQ(::sigaction(SIGPIPE, &action, &before), 0);
    auto [here, there] = cairn::socket_pair();
    there.reset();
    std::error_code error;
    EXPECT_EQ(send_text(here.get(), "x", error), 0U);
    EXPECT_EQ(error, std::errc::broken_pipe);
    ::sigaction(SIGPIPE, &before, nullptr);
}

TEST(Socket, SendsWhatThereIsRoomForAndTheRestWhenThereIsMore) {
    cairn::event_loop loop;
    auto const [here, there] = cairn::socket_pair();
    std::string const text(3'000'000, 't');
    std::size_t sent = 0, received = 0;
    int writes = 0;
    auto const writing = loop.watch(here.get(), readiness::out, [&](readiness) {
        std::error_code error;
        std::size_t const n = send_text(here.get(), std::string_view(text).substr(sent), error);
        EXPECT_FALSE(error);
        sent += n;
        ++writes;
        if (sent == text.size()) cairn::shutdown_write(here.get(), error);
        if (sent == text.size()) loop.stop();
    });
    auto const reading = loop.watch(there.get(), readiness::in, [&](readiness) {
        std::array<std::byte, 10'000> some;
        std::error_code error;
        received += cairn::receive(there.get(), some, error);
        EXPECT_FALSE(error);
    });
    loop.run();
    std::error_code error;
    EXPECT_EQ(received + receive_all(there.get()).size(), text.size());
    EXPECT_GT(writes, 1);
    // Without a reader it is full some day, and says so.
    while (send_text(there.get(), text, error) != 0) {
    }
    EXPECT_EQ(error, std::errc::resource_unavailable_try_again);
}

/// Takes all descriptors that the process may have, but for some.
class descriptor_famine {
  public:
    explicit descriptor_famine(std::size_t left) {
        EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
        rlimit fewer = before_;
        fewer.rlim_cur = 200;
        EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &fewer), 0);
        while (unique_fd fd = some_fd()) taken_.push_back(std::move(fd));
        EXPECT_EQ(errno, EMFILE);
        while (left-- != 0) taken_.pop_back();
    }
    void end() { taken_.clear(); }
    ~descriptor_famine() { ::setrlimit(RLIMIT_NOFILE, &before_); }
    descriptor_famine(descriptor_famine const&) = delete;

  private:
    rlimit before_{};
    std::vector<unique_fd> taken_;
};

TEST(Acceptor, ShedsWhatWaitsWhenNoDescriptorIsLeftAndDoesNotSpin) {
    cairn::event_loop loop;
    cairn::acceptor acceptor(cairn::listen(endpoint::loopback(0)));
    endpoint const where = endpoint::of(acceptor.fd());
    std::vector<unique_fd> accepted;
    int events = 0;
    std::error_code last;
    auto const watch = loop.watch(acceptor.fd(), readiness::in, [&](readiness) {
        ++events;
        while (unique_fd fd = acceptor.accept(last)) accepted.push_back(std::move(fd));
    });
    descriptor_famine famine(8);
    std::vector<unique_fd> clients;
    for (int i = 0; i < 8; ++i) clients.push_back(cairn::connect(where));
    while (events == 0) static_cast<void>(loop.run_once(1s));
    EXPECT_EQ(last.value(), EMFILE);
    EXPECT_EQ(accepted.size(), 0U);
    while (acceptor.shed_count() != 8) static_cast<void>(loop.run_once(1s));
    // Nobody waits any more: the loop is not told again and again.
    EXPECT_EQ(loop.run_once(2ms), 0U);
    for (auto const& client : clients) {
        wait_for(client.get(), POLLIN);
        std::error_code error;
        std::array<std::byte, 1> one;
        EXPECT_EQ(cairn::receive(client.get(), one, error), 0U);  // its end, or a reset
    }
    // With descriptors again it accepts again, and has its reserve.
    clients.clear();
    famine.end();
    clients.push_back(cairn::connect(where));
    while (accepted.empty()) static_cast<void>(loop.run_once(1s));
    EXPECT_EQ(accepted.size(), 1U);
    EXPECT_EQ(acceptor.shed_count(), 8U);
}

TEST(Acceptor, TriesAgainWhenItsReserveCouldNotBeTaken) {
    cairn::acceptor acceptor(cairn::listen(endpoint::loopback(0)));
    endpoint const where = endpoint::of(acceptor.fd());
    descriptor_famine famine(1);
    unique_fd client = cairn::connect(where);
    wait_for(acceptor.fd(), POLLIN);
    for (int i = 0; i < 3; ++i) {
        std::error_code error;
        EXPECT_FALSE(acceptor.accept(error));
        EXPECT_EQ(error.value(), EMFILE);
    }
    EXPECT_EQ(acceptor.shed_count(), 1U);
    client.reset();
    client = cairn::connect(where);
    wait_for(acceptor.fd(), POLLIN);
    std::error_code error;
    EXPECT_FALSE(acceptor.accept(error));
    EXPECT_FALSE(acceptor.accept(error));
    EXPECT_EQ(acceptor.shed_count(), 2U);
}

TEST(Acceptor, RefusesASocketThatDoesNotListen) {
    auto [here, there] = cairn::socket_pair();
    cairn::acceptor acceptor(std::move(here));
    std::error_code error;
    EXPECT_FALSE(acceptor.accept(error));
    EXPECT_EQ(error, std::errc::invalid_argument);
}

}  // namespace
