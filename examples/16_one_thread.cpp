// SPDX-License-Identifier: MIT
// Chapter 16. One thread. "JavaScript is single-threaded", and yet it waits for timers, sockets and the work
// of others, all at once. In which order does it all run, and what does one thread spare you?
//
// A loop calls one handler after the other, and each runs to its end. So the order is not luck: it is a rule,
// and a rule can be predicted. cairn's is one line:
//
//     a turn = the descriptors that are ready, then what was posted, then the timers that are due
//
// Before you run a scene below, write down what it prints. Node's rule is another one (its turn begins with
// the timers, and promises come before all), but the reason is the same: a thread, a queue of each kind, and
// a fixed order. The program predicts, runs and compares. Then it shows two things that one thread does not
// spare you, a race between handlers that wait and a handler that computes, and mends both.
//
// Time is reported; asserted is who ran, and in which order.
#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <iomanip>
#include <iostream>
#include <span>
#include <string>
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
double milliseconds(clock_type::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// ---- A scene: three ways to have something called later, and a list of what was called. ----

class scene {
  public:
    /// Calls f when a socket is readable, which it is made at once.
    template <class F>
    void when_readable(std::string name, F f) {
        auto [reader, writer] = cairn::socket_pair();
        std::error_code error;
        (void)cairn::send(writer.get(), std::as_bytes(std::span("x", 1)), error);
        int const fd = reader.get();
        sockets_.push_back(std::move(reader));
        sockets_.push_back(std::move(writer));
        watches_.push_back(loop.watch(fd, cairn::readiness::in | cairn::readiness::one_shot,
                                      [this, name = std::move(name), f](cairn::readiness) {
                                          say(name);
                                          f();
                                      }));
    }
    template <class F>
    void post(std::string name, F f) {
        loop.post([this, name = std::move(name), f] {
            say(name);
            f();
        });
    }
    /// Calls f after no time at all: setTimeout(f, 0).
    template <class F>
    void after_zero(std::string name, F f) {
        loop.call_after(0s,
                        [this, name = std::move(name), f] {
                            say(name);
                            f();
                        })
            .detach();
    }
    void say(std::string name) { order.push_back(std::move(name)); }

    cairn::event_loop loop;
    std::vector<std::string> order;

  private:
    std::vector<cairn::unique_fd> sockets_;  // end after their watches
    std::vector<cairn::registration> watches_;
};

auto const nothing = [] {};

void compare(std::vector<std::string> const& predicted, std::vector<std::string> const& got,
             std::string const& claim) {
    std::cout << "    predicted              what ran\n";
    for (std::size_t i = 0; i < std::max(predicted.size(), got.size()); ++i)
        std::cout << "    " << std::left << std::setw(23) << (i < predicted.size() ? predicted[i] : "-")
                  << (i < got.size() ? got[i] : "-") << std::right << '\n';
    check(predicted == got, claim);
}

void one_of_each() {
    std::cout
        << "1. A timer of no time, then a post, then a socket that is readable, then a line of main()\n";
    scene s;
    s.after_zero("timer", nothing);
    s.post("posted", nothing);
    s.when_readable("socket", nothing);
    s.say("main");
    s.loop.poll();
    // Nothing runs while main() does, for there is only the one thread. Then one turn, by the rule: the order
    // in which they were asked for has no say.
    compare({"main", "socket", "posted", "timer"}, s.order, "a turn is sockets, posted work, timers");
}

void each_asks_for_each() {
    std::cout << "\n2. The same, and each of the three asks for one of each again\n";
    scene s;
    auto const ask = [&s](std::string const& who) {
        return [&s, who] {
            s.when_readable(who + " > socket", nothing);
            s.post(who + " > posted", nothing);
            s.after_zero(who + " > timer", nothing);
        };
    };
    s.after_zero("timer", ask("timer"));
    s.post("posted", ask("posted"));
    s.when_readable("socket", ask("socket"));
    s.loop.poll();
    s.say("--- second turn");
    s.loop.poll();
    // A kind that comes later in the turn is reached in this turn: the socket's post, the post's timer. The
    // same kind again, or an earlier one, waits for the next turn: a turn does what was there when it came to
    // it, and no more. That is why a handler that posts itself again cannot starve the sockets. In Node,
    // process.nextTick() can: it is called again and again until none is left.
    // epoll promises no order among sockets, so those of the second turn are sorted before we compare.
    auto const second = std::find(s.order.begin(), s.order.end(), "--- second turn");
    if (s.order.end() - second > 3) std::sort(second + 1, second + 4);
    compare({"socket", "posted", "socket > posted", "timer", "socket > timer", "posted > timer",
             "--- second turn", "posted > socket", "socket > socket", "timer > socket", "posted > posted",
             "timer > posted", "timer > timer"},
            s.order, "what is asked for runs in this turn if its kind is still to come, else in the next");
}

void deadlines() {
    std::cout << "\n3. Timers of 2, 1 and 1 ms, all late, for main() has slept; the first cancels the last\n";
    scene s;
    cairn::timer two = s.loop.call_after(2ms, [&] { s.say("2 ms: cancelled, so never"); });
    auto const due = clock_type::now() + 1ms;
    cairn::timer const one = s.loop.call_at(due, [&] {
        s.say("1 ms, set first");
        two.cancel();
    });
    cairn::timer const other = s.loop.call_at(due, [&] { s.say("1 ms, set second"); });
    std::this_thread::sleep_for(5ms);
    s.loop.poll();
    compare({"1 ms, set first", "1 ms, set second"}, s.order,
            "timers run by deadline, equal ones as they were set, and none after it was cancelled");
}

// ---- What one thread does not spare you. ----

/// Two clients want 80 of the 100. Each is asked about at the bank, which answers a moment later.
template <class Withdraw>
int balance_after(Withdraw withdraw) {
    cairn::event_loop loop;
    int balance = 100;
    int finished = 0;
    auto const finish = [&] {
        if (++finished == 2) loop.stop();
    };
    auto const ask_the_bank = [&](auto then) {
        loop.call_after(1ms,
                        [then, finish] {
                            then();
                            finish();
                        })
            .detach();
    };
    for (int client = 0; client < 2; ++client)
        loop.post([&] {
            if (!withdraw(balance, ask_the_bank)) finish();  // refused
        });
    loop.run();
    return balance;
}

void race() {
    std::cout << "\n4. A race, on one thread: two clients want 80 of 100, and the bank is asked in between\n";
    // No two handlers ran at once, and no lock was missing. But what a handler has seen is old as soon as it
    // returns: "look, wait, change" is three turns, and the other client had its turn in between.
    int const broken = balance_after([](int& balance, auto const& ask_then) {
        if (balance < 80) return false;
        ask_then([&balance] { balance -= 80; });
        return true;
    });
    // Look and change belong in one handler. What the wait brings is then undone if need be.
    int const mended = balance_after([](int& balance, auto const& ask_then) {
        if (balance < 80) return false;
        balance -= 80;
        ask_then([] { /* if the bank refuses: balance += 80 */ });
        return true;
    });
    std::cout << "    look, wait, change: " << broken << "      look and change, then wait: " << mended
              << '\n';
    check(broken == -60, "looked at before the wait, and changed behind it, both took 80");
    check(mended == 20, "looked at and changed in one handler, one took 80 and the other was refused");
}

// ---- A handler that computes. ----

constexpr int numbers = 300'000;
constexpr int slices = 60;

int primes(int from, int to) {
    int found = 0;
    for (int n = std::max(from, 2); n < to; ++n) {
        bool prime = true;
        for (int d = 2; d * d <= n && prime; ++d) prime = n % d != 0;
        found += prime;
    }
    return found;
}

struct outcome {
    int primes = 0;
    int beats = 0;  // of a timer, while it computed
    clock_type::duration took{}, worst{};
};

/// Counts primes in some way, while a timer beats each millisecond. `count` calls done() on the loop's
/// thread.
template <class Count>
outcome compute(Count count) {
    cairn::event_loop loop;
    outcome result;
    auto due = clock_type::now() + 1ms;
    bool counting = false;
    cairn::timer beat;
    beat = loop.call_at(due, [&] {
        auto const now = clock_type::now();
        result.worst = std::max(result.worst, now - due);
        result.beats += counting;
        due = now + 1ms;
        beat.rearm(due);
    });
    auto const begin = clock_type::now();
    auto const done = [&](int found) {
        counting = false;
        result.primes = found;
        result.took = clock_type::now() - begin;
        // One beat more: it shows how long the loop was away.
        loop.call_after(2ms, [&loop] { loop.stop(); }).detach();
    };
    loop.post([&] {
        counting = true;
        count(loop, done);
    });
    loop.run();
    return result;
}

struct sliced {
    int next = 0, found = 0;

    template <class Done>
    void step(cairn::event_loop& loop, Done const& done) {
        found += primes(next * (numbers / slices), (next + 1) * (numbers / slices));
        if (++next == slices) return done(found);
        loop.post([this, &loop, &done] { step(loop, done); });
    }
};

void long_handler() {
    std::cout << "\n5. A handler that counts the primes below " << numbers
              << ", and a timer that beats each ms\n";
    outcome const at_once = compute([](cairn::event_loop&, auto const& done) { done(primes(0, numbers)); });

    // In slices: each posts the next one, so all others have a turn in between.
    sliced work;
    outcome const in_slices =
        compute([&](cairn::event_loop& loop, auto const& done) { work.step(loop, done); });

    // On another thread: it shares nothing with the loop, and posts what it has found. It must be over before
    // the loop is, so the loop waits for it, when it has nothing left to do but to end.
    std::thread other;
    outcome const elsewhere = compute([&](cairn::event_loop& loop, auto const& done) {
        other = std::thread([&] {
            loop.post([&, found = primes(0, numbers)] {
                other.join();
                done(found);
            });
        });
    });

    std::cout << "                   took     latest beat   beats meanwhile\n" << std::fixed;
    std::array<std::pair<char const*, outcome const*>, 3> const rows{
        {{"at once", &at_once}, {"in slices", &in_slices}, {"elsewhere", &elsewhere}}};
    for (auto const& [name, of] : rows)
        std::cout << "    " << std::left << std::setw(10) << name << std::right << std::setprecision(1)
                  << std::setw(9) << milliseconds(of->took) << " ms" << std::setw(13)
                  << milliseconds(of->worst) << " ms" << std::setw(15) << of->beats << '\n';
    // A beat is late by a slice at most: 60 slices cost a turn each, some hundred nanoseconds, so they are
    // nearly free. But whoever cuts must know where, and each slice must be short. Another thread needs no
    // cuts, if there is a core for it; its price is that it may touch nothing of the loop's.
    check(at_once.primes == in_slices.primes && at_once.primes == elsewhere.primes && at_once.primes > 0,
          "all three ways found the same " + std::to_string(at_once.primes));
    check(at_once.beats == 0, "while a handler computes, no timer beats and no client is served");
    check(in_slices.beats > 0, "between slices, timers beat");
}

void no_starving() {
    std::cout << "\n6. A post that posts itself again, for ever; the tenth makes a socket readable\n";
    scene s;
    int posts = 0;
    struct again {
        scene& s;
        int& posts;
        void operator()() const {
            if (++posts == 10) s.when_readable("socket", [&loop = s.loop] { loop.stop(); });
            s.loop.post(again{s, posts});
        }
    };
    s.loop.post(again{s, posts});
    s.loop.run();
    std::cout << "    the socket was served after post " << posts << '\n';
    check(posts == 10, "a turn does what was posted before it, and no more: the socket's turn came next");
}

}  // namespace

int main() {
    one_of_each();
    each_asks_for_each();
    deadlines();
    race();
    long_handler();
    no_starving();
    std::cout
        << "\nThe trade-off: one thread spares you locks, for no two handlers run at once. You still have "
           "to\n"
           "know where a handler ends, and to keep each of them short. A server that does so for all of its\n"
           "clients is chapter 17. Code that waits in its middle, and so is several handlers, is chapter "
           "18.\n";
    // Exercises (answers: README.md):
    // 1. Scene 2, third turn: let "timer > timer" ask for one of each. Write down what the third and the
    //    fourth turn print, then let the program check it.
    // 2. Run scene 1 in Node (setTimeout 0, setImmediate, a socket, a promise). Which rule explains the
    //    difference, and where in a turn are promises?
    // 3. Make the slices of scene 5 a thousand, then two. Which column changes, and which hardly?
    return failures == 0 ? 0 : 1;
}
