// SPDX-License-Identifier: MIT
// Chapter 14. The blocking server. A server reads a line from a client and answers it. What does the next
// client do while this one is thinking?
//
// The smallest server is a loop: accept, read, answer, close. read() returns when something has come. If
// nothing comes, it does not return, and nobody behind it is served: one client that connects and says
// nothing has stopped the server, without any trick. This program lets one do it, and counts.
//
// Then it tries the two remedies that everyone thinks of first: give up on the client after a while, and a
// thread for each client. Both have a price. What a thread costs, for a client that says nothing, is measured
// beside what the same client costs in an event loop, which is chapter 15.
//
// Time is reported; asserted is who was served, and what is never early.
#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}
double microseconds_since(clock_type::time_point begin) {
    return std::chrono::duration<double, std::micro>(clock_type::now() - begin).count();
}
/// Of this process: "VmRSS:" in KB, "Threads:".
std::size_t status(std::string const& what) {
    std::ifstream file("/proc/self/status");
    std::string word;
    std::size_t n = 0;
    while (file >> word)
        if (word == what && file >> n) return n;
    return 0;
}

// ---- What a server does for a client. The calls block, so the code is what it says. ----

/// Reads up to the end of a line. False if the client has gone, or has said nothing for too long.
bool read_line(int client) {
    char c = 0;
    while (::recv(client, &c, 1, 0) == 1)
        if (c == '\n') return true;
    return false;
}
void serve(int client) {
    while (read_line(client))
        if (::send(client, "hello\n", 6, MSG_NOSIGNAL) != 6) return;
}
/// A listening socket whose calls block, as those of the lecture do.
cairn::unique_fd blocking_listener() {
    cairn::unique_fd made = cairn::listen(cairn::endpoint::loopback(0));
    ::fcntl(made.get(), F_SETFL, 0);
    return made;
}
cairn::unique_fd blocking_accept(cairn::unique_fd const& listener) {
    return cairn::unique_fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

// ---- 1. One after the other. ----

class one_by_one {
  public:
    explicit one_by_one(std::chrono::microseconds patience = 0us)
        : patience_(patience), listener_(blocking_listener()), thread_([this] { run(); }) {}
    /// shutdown() wakes the accept() that waits: it fails from then on.
    ~one_by_one() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
    }
    [[nodiscard]] cairn::endpoint address() const { return cairn::endpoint::of(listener_.get()); }

  private:
    void run() {
        while (cairn::unique_fd const client = blocking_accept(listener_)) {
            timeval const most{0, patience_.count()};  // 0: for ever
            ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
            serve(client.get());
        }
    }
    std::chrono::microseconds patience_;
    cairn::unique_fd listener_;
    std::thread thread_;
};

// ---- 2. A thread for each. ----

class thread_each {
  public:
    thread_each() : listener_(blocking_listener()), thread_([this] { run(); }) {}
    ~thread_each() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
        // The clients of this program have gone by now, so their threads end.
        for (std::thread& one : all_) one.join();
    }
    [[nodiscard]] cairn::endpoint address() const { return cairn::endpoint::of(listener_.get()); }
    [[nodiscard]] std::size_t threads() const { return started_; }

  private:
    void run() {
        while (cairn::unique_fd client = blocking_accept(listener_)) {
            all_.emplace_back([fd = std::move(client)] { serve(fd.get()); });
            ++started_;
        }
    }
    cairn::unique_fd listener_;
    std::vector<std::thread> all_;
    std::atomic<std::size_t> started_ = 0;
    std::thread thread_;
};

// ---- 3. A loop, as in the next chapters: what a silent client costs there. ----

class loop_server {
  public:
    loop_server() : listener_(cairn::listen(cairn::endpoint::loopback(0))), thread_([this] { loop_.run(); }) {
        loop_.post([this] {
            watch_ =
                loop_.watch(listener_.get(), cairn::readiness::in, [this](cairn::readiness) { accept(); });
        });
    }
    ~loop_server() {
        loop_.stop();
        thread_.join();
    }
    [[nodiscard]] cairn::endpoint address() const { return cairn::endpoint::of(listener_.get()); }
    [[nodiscard]] std::size_t clients() const { return count_; }

  private:
    struct one {
        cairn::unique_fd fd;
        cairn::registration watch;
    };
    void accept() {
        while (cairn::unique_fd fd = cairn::accept(listener_.get())) {
            int const number = fd.get();
            auto watch = loop_.watch(number, cairn::readiness::in, [number](cairn::readiness) {
                std::array<std::byte, 512> data;
                std::error_code error;
                std::size_t const n = cairn::receive(number, data, error);
                // A line is one packet here: chapter 17 does it properly.
                if (n != 0) (void)cairn::send(number, std::as_bytes(std::span("hello\n", 6)), error);
            });
            all_.push_back({std::move(fd), std::move(watch)});
            ++count_;
        }
    }
    cairn::event_loop loop_;
    cairn::unique_fd listener_;
    cairn::registration watch_;
    std::vector<one> all_;  // to the end: this server is for a measurement
    std::atomic<std::size_t> count_ = 0;
    std::thread thread_;
};

// ---- Clients. ----

class client {
  public:
    explicit client(cairn::endpoint const& to) : fd_(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (!fd_ || ::connect(fd_.get(), to.data(), to.size()) != 0)
            throw std::system_error(errno, std::system_category(), "connect");
    }
    void ask() const { (void)::send(fd_.get(), "hi\n", 3, MSG_NOSIGNAL); }
    /// Whether the answer is there within so long a time.
    [[nodiscard]] bool answered(std::chrono::milliseconds within) const {
        pollfd one{fd_.get(), POLLIN, 0};
        std::array<char, 6> text;
        return ::poll(&one, 1, static_cast<int>(within.count())) == 1 &&
               ::recv(fd_.get(), text.data(), text.size(), MSG_WAITALL) == 6;
    }

  private:
    cairn::unique_fd fd_;
};

/// The median time of an answer for a client that is served, in µs.
double typical(client const& of) {
    std::vector<double> took;
    for (int i = 0; i < 500; ++i) {
        auto const begin = clock_type::now();
        of.ask();
        if (!of.answered(5s)) return -1;
        took.push_back(microseconds_since(begin));
    }
    std::nth_element(took.begin(), took.begin() + 250, took.end());
    return took[250];
}

/// What so many silent clients cost a server: KB of memory and threads, for each of them.
struct price {
    double kilobytes, threads;
};
template <class Server, class Ready>
price of_silent_clients(Server& server, Ready ready, std::size_t count) {
    std::vector<std::unique_ptr<client>> silent;
    silent.reserve(count);
    std::size_t const memory = status("VmRSS:"), threads = status("Threads:");  // before
    for (std::size_t i = 0; i < count; ++i) {
        silent.push_back(std::make_unique<client>(server.address()));
        if (i % 100 == 99)
            while (ready() < i + 1) std::this_thread::yield();
    }
    auto const each = [&](std::string const& what, std::size_t before) {
        return static_cast<double>(std::max(status(what), before) - before) / static_cast<double>(count);
    };
    price const made{each("VmRSS:", memory), each("Threads:", threads)};
    // Among all the silent ones, one that speaks is served.
    client const speaks(server.address());
    speaks.ask();
    check(speaks.answered(5s), "one that speaks is served beside " + std::to_string(count) + " that do not");
    return made;
}

}  // namespace

int main() {
    std::cout << std::fixed << std::setprecision(1);

    // ---- 1. ----
    std::cout << "1. One client after the other\n";
    {
        one_by_one server;
        double alone = 0;
        {
            client const only(server.address());
            alone = typical(only);
        }
        std::cout << "  Alone, a client has its answer after " << alone << " us (the median of 500).\n";
        auto silent = std::make_unique<client>(server.address());
        std::array const others{client(server.address()), client(server.address()), client(server.address())};
        for (client const& one : others) one.ask();
        int served = 0;
        for (client const& one : others) served += one.answered(100ms);
        std::cout << "  Now one is there that says nothing. Of three others, within 300 ms " << served
                  << " had an answer.\n";
        check(alone > 0, "a client that is alone is served");
        check(served == 0, "one client that says nothing stops the server for all");
        // connect() and send() have succeeded for all three: the system has accepted them, and waits with the
        // server. To them it looks like a slow server, and to the operator like an idle one: no load at all.
        silent.reset();
        check(others[0].answered(5s), "when it has left, the next one is served");
        check(!others[1].answered(50ms), "and that one holds up those behind it, only by being there");
    }

    // ---- 2. ----
    // "Then give up on it after a while." It helps, and the bill goes to everyone who waits.
    std::cout << "\n2. With a limit of 20 ms for the silence\n";
    {
        one_by_one server(20ms);
        std::vector<std::unique_ptr<client>> silent;
        auto const begin = clock_type::now();  // the server's patience with the first one begins no earlier
        for (int i = 0; i < 10; ++i) silent.push_back(std::make_unique<client>(server.address()));
        client const one(server.address());
        one.ask();
        bool const served = one.answered(5s);
        double const waited = microseconds_since(begin) / 1'000;
        std::cout << "  Behind 10 silent ones a client has its answer after " << waited << " ms.\n";
        check(served, "the client behind 10 silent ones is served at last");
        // Linux rounds such a limit to ticks of its clock, of up to 10 ms, and may be one tick early in all.
        check(waited >= 9 * 20, "it has waited for the silence of each of them");
        // And no limit is right: for a client on a slow line 20 ms are too short, for the queue they are too
        // long. One who sends a byte every 15 ms is never silent, and holds the server for ever.
    }

    // ---- 3. ----
    std::cout << "\n3. A thread for each client\n";
    constexpr std::size_t count = 400;  // two descriptors each; many systems allow a process 1,024
    price thread{}, loop{};
    // The loop first: it must not live on memory that the threads have given back.
    {
        loop_server server;
        loop = of_silent_clients(server, [&] { return server.clients(); }, count);
    }
    {
        thread_each server;
        thread = of_silent_clients(server, [&] { return server.threads(); }, count);
        client const one(server.address());
        std::cout << "  An answer takes " << typical(one)
                  << " us: who waits for one client waits for that one only.\n";
    }
    std::cout << "\n  for each of " << count << " silent clients       a thread       in a loop\n"
              << "  KB of memory, of this process     " << std::setw(10) << thread.kilobytes << std::setw(16)
              << loop.kilobytes << '\n'
              << "  threads                           " << std::setw(10) << thread.threads << std::setw(16)
              << loop.threads << "\n\n";
    check(thread.threads > 0.99, "a silent client has a thread that does nothing");
    check(loop.threads < 0.01, "in a loop it has none");
    check(thread.kilobytes > 2 * loop.kilobytes, "the thread is most of what such a client costs");
    // What to see there:
    // - The process pays for the part of the stack that was touched. 8 MB of addresses are set aside for
    //   each, and the kernel has a stack of 16 KB for it, which this table does not see.
    // - The price is per client, whether it speaks or not. Ten thousand clients of whom ten speak need ten
    //   thousand threads here; a loop looks only at the ten.
    // - What two threads share needs locks. In a loop no two handlers run at once.
    //
    // When is a thread for each right? When the clients are few and trusted, when the work blocks anyway
    // (files, a database driver without a way to wait for it), or when it computes: then threads are wanted.

    std::cout
        << "\nA thread for each client is the simplest code that serves all, and its price is per client,\n"
           "whether it speaks or not. One thread can look after all of them, if it never waits for one.\n"
           "That is chapter 15.\n";
    // Exercises (answers: README.md):
    // 1. Let one client send a byte every 15 ms in section 2. How long is the next one held up?
    // 2. Connect 5,000 silent clients in section 3. Which limit is reached first, and where is it set?
    // 3. Count the answers in a variable that all threads share. What must you add, and what does it cost?
    //    And in a loop?
    return failures == 0 ? 0 : 1;
}
