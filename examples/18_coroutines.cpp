// SPDX-License-Identifier: MIT
// Chapter 18. Coroutines. A shop on a socket: a client says its name, then what it pays, line by line, and
// each payment asks the bank, which takes a while. Written as handlers, the shop falls to pieces. Can it be
// written from top to bottom, and what does that cost?
//
// A handler must return to let others run. So whatever a session is in the middle of must be kept in an
// object: which line it waits for, what came of it so far, what is still to be sent, and a timer for the
// time-out. A coroutine is a function that may return in its middle, and go on there: at each co_await the
// compiler puts its variables into a frame on the heap. The session is then a function again.
//
// This program has the shop twice: compare `handlers` with `session` below before you go on. It checks that
// both say the same to all clients, however the lines arrive. Then it shows what coroutines do not spare you
// (chapter 16's race), what a scope gives you (everything ends when you say so), and what a request costs.
//
// Time is reported; asserted is what was answered, what was left behind, and what was allocated.
#include <cairn/async_fd.hpp>
#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>
#include <cairn/task.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <iomanip>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

// Every allocation of this program is counted.
namespace {
std::size_t allocations = 0, allocated = 0;
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    ++allocations;
    allocated += bytes;
    if (void* const memory = std::malloc(bytes)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;
using cairn::async_fd;
using cairn::event_loop;
using cairn::task;
using cairn::unique_fd;

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}
auto bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// ---- What both shops share. ----

constexpr auto patience = 600ms;  // how long a client may take for a line
constexpr auto bank_takes = 1ms;
constexpr std::size_t longest_line = 80;

struct account {
    int balance;
};
std::optional<int> amount_in(std::string_view line) {
    int cents = 0;
    auto const [end, error] = std::from_chars(line.data(), line.data() + line.size(), cents);
    if (error != std::errc{} || end != line.data() + line.size() || cents < 0) return std::nullopt;
    return cents;
}
/// The first line of what has come, without its end; nothing if it is not there yet.
std::optional<std::string> take_line(std::string& from) {
    std::size_t const end = from.find('\n');
    if (end == std::string::npos) return std::nullopt;
    std::string line = from.substr(0, end);
    from.erase(0, end + 1);
    return line;
}

// ---- The shop as handlers. ----

constexpr int handlers_begin = __LINE__;

class handlers {
  public:
    handlers(event_loop& loop, unique_fd fd, account& from, std::function<void()> over)
        : loop_(loop), fd_(std::move(fd)), account_(from), over_(std::move(over)) {
        watch_ = loop_.watch(fd_.get(), cairn::readiness::in, [this](cairn::readiness now) { ready(now); });
        expect_line();
    }

  private:
    enum class waits_for { name, amount, bank, room_to_end };

    void expect_line() {
        deadline_ = loop_.call_after(patience, [this] { end_with("too slow\n"); });
    }
    void ready(cairn::readiness now) {
        if (cairn::has(now, ~cairn::readiness::in) && !flush()) return end();
        if (state_ == waits_for::room_to_end) {
            if (output_.empty()) end();
            return;
        }
        if (!cairn::has(now, cairn::readiness::in)) return;
        std::array<std::byte, 256> data;
        std::error_code error;
        std::size_t const n = cairn::receive(fd_.get(), data, error);
        if (error == std::errc::resource_unavailable_try_again) return;
        if (n == 0) return end();
        input_.append(reinterpret_cast<char const*>(data.data()), n);
        use_input();
    }
    // Called again when the bank has answered, for more lines may have come meanwhile.
    void use_input() {
        while (state_ == waits_for::name || state_ == waits_for::amount) {
            auto const line = take_line(input_);
            if (!line) {
                if (input_.size() > longest_line) end_with("too long\n");
                return;
            }
            if (state_ == waits_for::name) {
                state_ = waits_for::amount;
                say("hello " + *line + "\n");
                expect_line();
            } else if (*line == "quit") {
                return end_with("bye\n");
            } else {
                pay(*line);
            }
        }
    }
    void pay(std::string const& line) {
        auto const cents = amount_in(line);
        if (!cents || *cents > account_.balance) {
            say("refused\n");
            return expect_line();
        }
        account_.balance -= *cents;
        state_ = waits_for::bank;
        deadline_ = loop_.call_after(bank_takes, [this, line] {
            state_ = waits_for::amount;
            say("paid " + line + "\n");
            expect_line();  // replaces the timer whose handler runs: that one is destroyed when it returns
            use_input();
        });
    }
    void say(std::string const& text) {
        output_ += text;
        (void)flush();
    }
    // What the system does not take waits, and the loop tells when there is room.
    bool flush() {
        std::error_code error;
        output_.erase(0, cairn::send(fd_.get(), bytes(output_), error));
        if (error && error != std::errc::resource_unavailable_try_again) return false;
        watch_.modify(output_.empty() ? cairn::readiness::in : cairn::readiness::in | cairn::readiness::out);
        return true;
    }
    void end_with(std::string const& text) {
        deadline_.cancel();
        say(text);
        state_ = waits_for::room_to_end;
        if (output_.empty()) end();
    }
    // Not within a handler of this object: over_ destroys it.
    void end() {
        deadline_.cancel();
        watch_.reset();
        loop_.post(over_);
    }

    event_loop& loop_;
    unique_fd fd_;
    account& account_;
    std::function<void()> over_;
    cairn::registration watch_;
    cairn::timer deadline_;
    waits_for state_ = waits_for::name;
    std::string input_, output_;
};

constexpr int handlers_end = __LINE__;

// ---- The shop as a coroutine. ----

constexpr int session_begin = __LINE__;

task<std::optional<std::string>> read_line(async_fd& peer, std::string& input) {
    std::array<std::byte, 256> data;
    for (;;) {
        if (auto line = take_line(input)) co_return line;
        if (input.size() > longest_line) throw std::length_error("too long\n");
        std::size_t const n = co_await peer.read_some(data);
        if (n == 0) co_return std::nullopt;
        input.append(reinterpret_cast<char const*>(data.data()), n);
    }
}
/// What is said last.
task<std::string> serve(event_loop& loop, async_fd& peer, account& from) {
    std::string input, answer;
    for (bool named = false;; named = true) {
        auto const line = co_await cairn::with_timeout(loop, patience, read_line(peer, input));
        if (!line) co_return "too slow\n";
        if (!*line) co_return "";
        if (**line == "quit" && named) co_return "bye\n";
        if (auto const cents = named ? amount_in(**line) : std::nullopt; !named) {
            answer = "hello " + **line + "\n";
        } else if (!cents || *cents > from.balance) {
            answer = "refused\n";
        } else {
            from.balance -= *cents;
            co_await cairn::sleep_for(loop, bank_takes);
            answer = "paid " + **line + "\n";
        }
        co_await peer.write_all(bytes(answer));
    }
}
task<> session(event_loop& loop, async_fd peer, account& from) {
    std::string last;
    try {
        last = co_await serve(loop, peer, from);
    } catch (std::length_error const& error) {
        last = error.what();
    }
    co_await peer.write_all(bytes(last));
}

constexpr int session_end = __LINE__;

// ---- Clients. ----

struct client {
    char const* what;
    std::vector<std::string> pieces;
    std::chrono::milliseconds pause;
    bool leaves = false;  // in the middle, without a word
    std::string expected;
};

std::vector<client> all_clients() {
    std::string const talk = "Ada\n30\n60\n20\nmuch\n10\nquit\n";
    std::string const answers = "hello Ada\npaid 30\npaid 60\nrefused\nrefused\npaid 10\nbye\n";
    client letters{"letter by letter", {}, 0ms, false, answers};
    for (char const c : talk) letters.pieces.emplace_back(1, c);
    return {{"all at once", {talk}, 0ms, false, answers},
            letters,
            {"falls asleep", {"Ada\n", "30\n", "6"}, 1ms, false, "hello Ada\npaid 30\ntoo slow\n"},
            {"says nothing", {}, 0ms, false, "too slow\n"},
            {"never ends a line", {std::string(100, 'x')}, 0ms, false, "too long\n"},
            {"leaves", {"Ada\n", "30\n"}, 5ms, true, "hello Ada\npaid 30\n"}};
}

/// A client is a coroutine too. Returns all that it was told.
task<std::string> talk(event_loop& loop, unique_fd fd, client const& as) {
    async_fd peer(loop, std::move(fd));
    std::error_code error;
    for (std::string const& piece : as.pieces) {
        (void)co_await peer.write_all(bytes(piece), error);
        co_await cairn::sleep_for(loop, as.pause);
    }
    if (as.leaves) cairn::shutdown_write(peer.get(), error);
    std::string heard;
    std::array<std::byte, 256> data;
    while (std::size_t const n = co_await peer.read_some(data, error))
        heard.append(reinterpret_cast<char const*>(data.data()), n);
    co_return heard;
}

/// The same client at both shops, at the same time: so nobody's patience is waited for twice.
task<> talk_to_both(event_loop& loop, std::array<unique_fd, 2> shops, client const& as,
                    std::array<std::string, 2>& heard) {
    auto const one = [](task<std::string> of, std::string& to) -> task<> { to = co_await std::move(of); };
    cairn::scope both;
    for (std::size_t i = 0; i < 2; ++i) both.spawn(one(talk(loop, std::move(shops[i]), as), heard[i]));
    co_await both.join();
}

void same_answers() {
    std::cout << "1. The shop twice\n"
              << "    as handlers:   " << handlers_end - handlers_begin - 2 << " lines, and a state to keep\n"
              << "    as coroutines: " << session_end - session_begin - 2 << " lines\n";
    bool right = true, equal = true, clean = true;
    for (client const& as : all_clients()) {
        event_loop loop;
        account first{100}, second{100};
        auto [a, b] = cairn::socket_pair();
        std::unique_ptr<handlers> one;
        one = std::make_unique<handlers>(loop, std::move(a), first, [&one] { one.reset(); });
        auto [c, d] = cairn::socket_pair();
        cairn::scope sessions;
        sessions.spawn(session(loop, async_fd(loop, std::move(c)), second));
        std::array<std::string, 2> heard;
        cairn::run(loop, talk_to_both(loop, {std::move(b), std::move(d)}, as, heard));
        auto const& [by_handlers, by_coroutine] = heard;
        while (one || !sessions.empty()) loop.run_once(10ms);
        right = right && by_coroutine == as.expected;
        equal = equal && by_handlers == by_coroutine && first.balance == second.balance;
        clean = clean && loop.watching() == 0 && loop.timers() == 0;
        auto const lines = std::count(by_coroutine.begin(), by_coroutine.end(), '\n');
        std::cout << "    " << std::left << std::setw(18) << as.what << std::right << " was told " << lines
                  << (lines == 1 ? " line " : " lines")
                  << (by_handlers == by_coroutine ? " by both" : " by one, and others by the other") << '\n';
    }
    check(right, "each client was told what it should be");
    check(equal, "handlers and coroutines say the same, however the lines arrive");
    check(clean, "and leave no watch and no timer behind");
}

// ---- What coroutines do not spare you. ----

task<> pay_wrongly(event_loop& loop, account& from, int cents) {
    if (from.balance < cents) co_return;
    co_await cairn::sleep_for(loop, bank_takes);
    from.balance -= cents;  // what was seen above the co_await is old
}
task<> pay(event_loop& loop, account& from, int cents) {
    if (from.balance < cents) co_return;
    from.balance -= cents;
    co_await cairn::sleep_for(loop, bank_takes);
}

void race() {
    std::cout << "\n2. Chapter 16's race. Two pay 80 of 100: look, co_await, change\n";
    // It looks like one piece of code, and is two handlers. Every co_await is a place where others run: read
    // it as "and now anything may happen". Nothing else in the line shows it.
    std::array<int, 2> left{};
    for (bool const wrongly : {true, false}) {
        event_loop loop;
        account shared{100};
        auto const both = [](event_loop& on, account& from, bool wrong) -> task<> {
            cairn::scope clients;
            for (int i = 0; i < 2; ++i) clients.spawn(wrong ? pay_wrongly(on, from, 80) : pay(on, from, 80));
            co_await clients.join();
        };
        cairn::run(loop, both(loop, shared, wrongly));
        left[wrongly ? 0 : 1] = shared.balance;
    }
    std::cout << "    look, co_await, change: " << left[0] << "     look, change, co_await: " << left[1]
              << '\n';
    check(left[0] == -60, "a co_await between look and change lets the other one in between");
    check(left[1] == 20, "without one between them, it does not");
}

// ---- What a scope gives you. ----

void cancellation() {
    std::cout << "\n3. A hundred sessions, each somewhere else, and the server wants to stop\n";
    event_loop loop;
    account shared{1'000'000};
    std::vector<unique_fd> clients;
    cairn::scope sessions;
    for (int i = 0; i < 100; ++i) {
        auto [a, b] = cairn::socket_pair();
        std::string_view const said = i % 4 == 0 ? "" : i % 4 == 1 ? "Ad" : i % 4 == 2 ? "Ada\n" : "Ada\n5\n";
        std::error_code error;
        (void)cairn::send(b.get(), bytes(said), error);
        clients.push_back(std::move(b));
        sessions.spawn(session(loop, async_fd(loop, std::move(a)), shared));
    }
    loop.poll();
    std::size_t const under_way = sessions.size(), timers = loop.timers(), watches = loop.watching();
    // A session waits for a line or for the bank, three functions deep, under a time-out. To cancel it is to
    // destroy its frame: with its variables go the timer, the watch and the socket, from the inside out. No
    // state had to be asked for, and no handler can be called for one that is gone.
    sessions.cancel();
    std::cout << "    before: " << under_way << " sessions, " << timers << " timers, " << watches
              << " watches;  after cancel(): " << sessions.size() << ", " << loop.timers() << ", "
              << loop.watching() << '\n';
    std::size_t told = 0;
    for (unique_fd const& one : clients) {
        std::array<std::byte, 256> data;
        std::error_code error;
        while (cairn::receive(one.get(), data, error) != 0) {
        }
        told += !error;
    }
    check(under_way == 100 && timers == 100 && watches == 100, "each had a watch, and a timer that waited");
    check(sessions.empty() && loop.timers() == 0 && loop.watching() == 0, "one call has ended them all");
    check(told == 100, "and each client has seen its connection end");
}

// ---- What it costs. ----

class echo_handler {
  public:
    echo_handler(event_loop& loop, unique_fd fd, std::span<std::byte> shared)
        : fd_(std::move(fd)), watch_(loop.watch(fd_.get(), cairn::readiness::in, [this, shared](auto) {
              std::error_code error;
              std::size_t const n = cairn::receive(fd_.get(), shared, error);
              (void)cairn::send(fd_.get(), shared.first(n), error);
          })) {}

  private:
    unique_fd fd_;
    cairn::registration watch_;
};
task<> echo(async_fd peer, std::span<std::byte> shared) {
    while (std::size_t const n = co_await peer.read_some(shared)) co_await peer.write_all(shared.first(n));
}

struct cost {
    double ns = 1e9;                   // a request, at best
    std::size_t bytes = 0;             // a session, of the heap
    std::size_t per_10k_requests = 0;  // allocations
};
constexpr std::size_t sessions = 64;

/// Starts 64 sessions, sends a line to each, lets the loop answer, again and again. Timed is the loop alone.
template <class Start>
cost measure(Start start) {
    event_loop loop;
    std::vector<unique_fd> clients, servers;
    for (std::size_t i = 0; i < sessions; ++i) {
        auto [a, b] = cairn::socket_pair();
        servers.push_back(std::move(a));
        clients.push_back(std::move(b));
    }
    cost result;
    std::size_t const before = allocated;
    for (unique_fd& fd : servers) start(loop, std::move(fd));
    result.bytes = (allocated - before) / sessions;
    std::array<std::byte, 256> data;
    std::error_code error;
    std::size_t first_allocation = 0;
    for (int round = 0; round < 200; ++round) {
        if (round == 10) first_allocation = allocations;  // by now the loop has what it needs
        for (unique_fd const& one : clients) (void)cairn::send(one.get(), bytes("a line\n"), error);
        auto const begin = clock_type::now();
        loop.poll();
        auto const took = std::chrono::duration<double, std::nano>(clock_type::now() - begin).count();
        result.ns = std::min(result.ns, took / sessions);
        for (unique_fd const& one : clients)
            if (cairn::receive(one.get(), data, error) != 7) throw std::runtime_error("no echo");
    }
    result.per_10k_requests = allocations - first_allocation;
    return result;
}

/// Returns the bytes of a session.
std::size_t costs() {
    std::cout << "\n4. What a line costs, in an echo server of " << sessions << " sessions\n";
    static std::array<std::byte, 256> shared;
    cost by_handler, by_coroutine;
    for (int round = 0; round < 5; ++round) {
        std::vector<std::unique_ptr<echo_handler>> all;
        all.reserve(sessions);
        cost const one = measure([&](event_loop& loop, unique_fd fd) {
            all.push_back(std::make_unique<echo_handler>(loop, std::move(fd), shared));
        });
        all.clear();
        cairn::scope tasks;
        cost const other = measure([&](event_loop& loop, unique_fd fd) {
            tasks.spawn(echo(async_fd(loop, std::move(fd)), shared));
        });
        for (auto const& [to, from] : {std::pair{&by_handler, &one}, std::pair{&by_coroutine, &other}})
            *to = {std::min(to->ns, from->ns), from->bytes, from->per_10k_requests};
    }
    std::cout << "                    handler   coroutine\n"
              << std::fixed << std::setprecision(0) << "    ns a line     " << std::setw(13) << by_handler.ns
              << std::setw(12) << by_coroutine.ns << "     at best, most of it in recv and send\n"
              << "    bytes a session " << std::setw(11) << by_handler.bytes << std::setw(12)
              << by_coroutine.bytes << "     beside its slot in the loop\n"
              << "    allocations   " << std::setw(13) << by_handler.per_10k_requests << std::setw(12)
              << by_coroutine.per_10k_requests << "     in " << 190 * sessions << " lines\n";
    // The frame is the price: it holds all that the function could need at any of its co_awaits, and the
    // compiler is not thrifty. It is paid once for a session. A call of a task in the middle, as of read_line
    // above, is one more frame each time: some 20 ns, where the bank takes a million.
    check(by_handler.per_10k_requests == 0 && by_coroutine.per_10k_requests == 0,
          "neither allocates anything for a line");
    check(by_coroutine.bytes > by_handler.bytes, "a frame is larger than what the handler keeps by hand");
    return by_coroutine.bytes;
}

}  // namespace

int main() {
    same_answers();
    race();
    cancellation();
    auto const bytes_a_session = static_cast<double>(costs());
    std::cout
        << "\nThe trade-off: a coroutine costs memory for each session and next to no time, and it gives "
           "the\n"
           "function back. Such sessions take "
        << std::setprecision(1) << bytes_a_session * 10'000 / 1e6
        << " MB for ten thousand of them. For ten million, write handlers.\n"
           "Two programs put the chapters together: trading_system, where a microsecond counts, and\n"
           "payment_gateway, where nothing may be lost.\n";
    // Exercises (answers: README.md):
    // 1. Let the bank refuse each third payment, a while after it was asked. How many lines change in
    //    `handlers`, and how many in `serve`?
    // 2. Give a whole session at most 100 ms, whatever it does. One line in `session` is enough: which?
    // 3. Let read_line read byte for byte instead of keeping what came too early. Which row of scene 4 would
    //    tell you that this was a mistake, if scene 4 used read_line?
    return failures == 0 ? 0 : 1;
}
