// SPDX-License-Identifier: MIT
// Chapter 9. Stop the world. A thread makes 100,000 payments a second; each must reach a database. Who waits?
//
// A database is slow by the call and quick by the row: a call ends when the disk has confirmed it, and the
// disk does not care whether that was for one row or for a thousand. So rows are gathered, and a thousand
// are written at once. The smallest thing that does it is a vector and an if, and nearly every push is some
// nanoseconds. But the push that fills the vector writes it, and for that long the program stands still: no
// order, no tick, no heartbeat. A mean does not show it, so this program prints all pushes as a histogram.
// Then it moves the flush elsewhere, in three ways, and prints what each of them leaves in push.
//
// Time is reported; asserted is who called the database, how often, and that every payment is there.
#include <cairn/batch_buffer.hpp>
#include <cairn/batcher.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "files/temporary_folder.hpp"
#include "sinks/ledger.hpp"

namespace {

using sinks::payment;
using clock_type = std::chrono::steady_clock;

constexpr std::size_t batch = 1'000;
constexpr std::uint64_t payments = 20'000;              // in a run
constexpr auto period = std::chrono::microseconds(10);  // 100,000 a second
constexpr int rounds = 2;
static_assert(payments % batch == 0, "close() would write a rest, and its call would count as a push's");

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

std::int64_t nanoseconds_since(clock_type::time_point begin) {
    return std::chrono::nanoseconds(clock_type::now() - begin).count();
}

/// 20 ns, 1.5 µs, 0.5 ms: three digits at most, and the unit.
std::string readable(double ns) {
    std::array<char const*, 4> const units{" ns", " µs", " ms", " s "};
    std::size_t unit = 0;
    for (; ns >= 999.5 && unit + 1 < units.size(); ++unit) ns /= 1'000;
    std::ostringstream text;
    text << std::fixed << std::setprecision(unit == 0 || ns >= 99.95 ? 0 : 1) << ns << units[unit];
    return text.str();
}
/// Right-aligned. µ is one character, and two bytes.
std::string column(std::string const& text, std::size_t width) {
    std::size_t const characters = text.size() - (text.find("µ") != std::string::npos);
    return std::string(width - std::min(width, characters), ' ') + text;
}

// ---- What a run sees. ----

/// What the ledger was given, and by whom. Written by one call of it after the other.
struct observed {
    std::uint64_t next = 1;  // id
    std::uint64_t batches = 0, out_of_order = 0;
    std::uint64_t by_the_producer = 0;  // calls on the thread that pushes
    std::thread::id producer = std::this_thread::get_id();
    std::int64_t shortest_call = std::numeric_limits<std::int64_t>::max();
};

/// The ledger, watched.
struct watched {
    sinks::ledger* to;
    observed* seen;

    void operator()(std::span<payment const> rows) const {
        auto const begin = clock_type::now();
        (*to)(rows);
        seen->shortest_call = std::min(seen->shortest_call, nanoseconds_since(begin));
        for (payment const& row : rows) seen->out_of_order += row.id != seen->next++;
        ++seen->batches;
        seen->by_the_producer += std::this_thread::get_id() == seen->producer;
    }
};

// ---- The smallest thing that works, and three remedies, with one face. ----

struct by_hand {
    static constexpr auto what = "by hand";
    static constexpr auto holds = batch;
    watched sink;
    std::vector<payment> rows{};

    bool push(payment const& p) {
        rows.push_back(p);
        if (rows.size() == batch) close();
        return true;
    }
    void close() {
        if (!rows.empty()) sink(rows);
        rows.clear();
    }
};

// The same with a lock, so that several threads can push, and with an answer to "what if the sink throws?".
struct single : cairn::single_buffer<payment, watched> {
    static constexpr auto what = "single";
    static constexpr auto holds = batch;
    explicit single(watched sink) : single_buffer(sink, batch) {}
};

// Two buffers. The push that fills one swaps them and wakes a thread, which writes.
struct swapped : cairn::double_buffer<payment, watched> {
    static constexpr auto what = "double";
    static constexpr auto holds = 2 * batch;
    explicit swapped(watched sink) : two_buffers(sink, batch) {}
};

// One buffer, and a copy of it that is written.
struct copied : cairn::copy_buffer<payment, watched> {
    static constexpr auto what = "copy";
    static constexpr auto holds = 2 * batch;
    explicit copied(watched sink) : two_buffers(sink, batch) {}
};

// A ring for each thread that pushes. Nobody is woken: the thread that writes looks by its own clock.
struct lane {
    static constexpr auto what = "batcher";
    static constexpr std::size_t holds = 8 * batch;
    cairn::batcher<payment, watched> batcher;
    cairn::batcher<payment, watched>::producer producer = batcher.make_producer();

    explicit lane(watched sink) : batcher(sink, {.max_batch = batch, .capacity = holds}) {}
    bool push(payment const& p) { return producer.push(p) == cairn::push_result::ok; }
    void close() { batcher.close(); }
};

// ---- Measuring. ----

struct series {
    char const* what;
    std::size_t holds;
    std::vector<std::int64_t> pushes{};  // of all rounds, in ns
    std::uint64_t batches = 0, by_the_producer = 0;
    bool kept_all = true;       // in order, once
    bool held_by_calls = true;  // as many pushes as calls took as long as the shortest call, or longer

    /// What one push in `n` reaches.
    [[nodiscard]] std::int64_t one_in(std::size_t n) const {
        return pushes[pushes.size() - pushes.size() / n];
    }
};

/// One round: a payment is pushed when it is due, or as soon as the push before has returned.
template <class Buffer>
void run(series& to, files::temporary_folder& directory) {
    std::string const path = directory.next();
    sinks::ledger ledger(path);
    observed seen;
    std::vector<std::int64_t> took;
    took.reserve(payments);
    bool accepted = true;
    {
        Buffer buffer{watched{&ledger, &seen}};
        auto due = clock_type::now() + std::chrono::milliseconds(1);
        for (std::uint64_t id = 1; id <= payments; ++id, due += period) {
            payment const p{.id = id, .cents = id % 10'000};
            while (clock_type::now() < due) {
            }
            auto const begin = clock_type::now();
            accepted = buffer.push(p) && accepted;
            took.push_back(nanoseconds_since(begin));
        }
        buffer.close();
    }
    auto const there = sinks::ledger::read(path);
    to.kept_all = to.kept_all && accepted && seen.out_of_order == 0 && there.rows == payments &&
                  there.different == payments;
    to.batches += seen.batches;
    to.by_the_producer += seen.by_the_producer;
    auto const as_long = static_cast<std::uint64_t>(
        std::count_if(took.begin(), took.end(), [&](auto ns) { return ns >= seen.shortest_call; }));
    to.held_by_calls = to.held_by_calls && as_long >= seen.by_the_producer;
    to.pushes.insert(to.pushes.end(), took.begin(), took.end());
}

/// How many rows a second reach the disk if each call brings n.
template <class Ledger>
double rows_a_second(std::size_t n, files::temporary_folder& directory) {
    Ledger ledger(directory.next());
    std::vector<payment> rows(n);
    std::uint64_t id = 0;
    auto const begin = clock_type::now();
    do {
        for (payment& row : rows) row.id = ++id;
        ledger(rows);
    } while (clock_type::now() - begin < std::chrono::milliseconds(60));
    return 1e9 * static_cast<double>(id) / static_cast<double>(nanoseconds_since(begin));
}

// ---- The histogram. Each line covers four times the time of the line before. ----

constexpr std::size_t lines = 11;
std::size_t line_of(std::int64_t ns) {
    auto const power = static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(ns)));
    return std::min((std::max<std::size_t>(power, 5) - 5) / 2, lines - 1);
}
std::string label(std::size_t line) {
    return line + 1 == lines ? "more" : "< " + readable(static_cast<double>(std::uint64_t{64} << (2 * line)));
}
std::array<std::uint64_t, lines> histogram(series const& of) {
    std::array<std::uint64_t, lines> counts{};
    for (std::int64_t const ns : of.pushes) ++counts[line_of(ns)];
    return counts;
}
/// # is one push, ## two or three: one more for each doubling.
std::string bar(std::uint64_t count) {
    return std::string(static_cast<std::size_t>(std::bit_width(count)), '#');
}

}  // namespace

int main() {
    files::temporary_folder directory;
    std::cout << std::fixed;

    // ---- Why batches at all. ----
    std::cout << "1. Rows a second that are on the disk when the call returns\n     rows a call"
              << std::setw(22) << sinks::file_ledger::what
              << (std::is_same_v<sinks::ledger, sinks::file_ledger> ? "" : "    SQLite, a transaction")
              << '\n';
    double first = 0;
    double last = 0;
    for (std::size_t const n : {1U, 10U, 100U, 1'000U}) {
        last = rows_a_second<sinks::file_ledger>(n, directory);
        std::cout << std::setw(16) << n << std::setprecision(0) << std::setw(22) << last;
        if constexpr (!std::is_same_v<sinks::ledger, sinks::file_ledger>) {
            last = rows_a_second<sinks::ledger>(n, directory);
            std::cout << std::setw(25) << last;
        }
        std::cout << '\n';
        if (n == 1) first = last;
    }
    std::cout << "  A call for each payment: " << first << " of the 100,000 that come each second.\n"
              << "  A thousand in a call: " << last / first << " times as many.\n";

    // ---- The pause, and the remedies. By turns: a slow moment of the machine hits all. ----
    std::array<series, 5> all{{{by_hand::what, by_hand::holds},
                               {single::what, single::holds},
                               {swapped::what, swapped::holds},
                               {copied::what, copied::holds},
                               {lane::what, lane::holds}}};
    for (int round = 0; round < rounds; ++round) {
        run<by_hand>(all[0], directory);
        run<single>(all[1], directory);
        run<swapped>(all[2], directory);
        run<copied>(all[3], directory);
        run<lane>(all[4], directory);
    }
    for (series& one : all) std::sort(one.pushes.begin(), one.pushes.end());

    std::cout << "\n2. A vector and an if: " << all[0].pushes.size() << " pushes, 100,000 a second, into "
              << sinks::ledger::what << " of " << batch << "\n   (one more # for each doubling)\n";
    auto const pause = histogram(all[0]);
    for (std::size_t line = 0; line < lines; ++line)
        std::cout << column(label(line), 12) << " | " << std::left << std::setw(19) << bar(pause[line])
                  << std::right << std::setw(7) << pause[line] << '\n';
    std::cout << "  Two programs in one: the pushes that store 64 bytes, and " << all[0].batches
              << " that wait for the disk.\n  The median is "
              << readable(static_cast<double>(all[0].one_in(2))) << ". One push in a thousand takes "
              << readable(static_cast<double>(all[0].one_in(batch))) << " or more.\n";

    std::cout
        << "\n3. The same payments into a buffer with a lock, and into three where somebody else writes\n"
        << std::string(14, ' ');
    std::array<std::array<std::uint64_t, lines>, 4> counts{};
    for (std::size_t i = 0; i < counts.size(); ++i) {
        counts[i] = histogram(all[i + 1]);
        std::cout << ' ' << std::left << std::setw(19) << all[i + 1].what;
    }
    std::cout << std::right << '\n';
    for (std::size_t line = 0; line < lines; ++line) {
        std::cout << column(label(line), 12) << " |";
        for (auto const& count : counts)
            std::cout << ' ' << std::left << std::setw(18) << bar(count[line]) << std::right;
        std::cout << '\n';
    }

    std::cout << "\n  buffer     half of   1 in 100   1 in 1,000   1 in 10,000    longest   holds   calls of "
                 "the sink\n";
    for (series const& one : all) {
        auto const time = [](std::int64_t ns, std::size_t width) {
            return column(readable(static_cast<double>(ns)), width);
        };
        std::cout << "  " << std::left << std::setw(8) << one.what << std::right << time(one.one_in(2), 10)
                  << time(one.one_in(100), 11) << time(one.one_in(1'000), 13) << time(one.one_in(10'000), 14)
                  << time(one.pushes.back(), 11) << std::setw(8) << one.holds << std::setw(8) << one.batches
                  << (one.by_the_producer != 0 ? ", by push" : ", beside it") << '\n';
    }
    // What to see there:
    // - single is by hand and a lock. The pause is the sink's, so no code in the buffer makes it shorter.
    // - double and copy have moved the flush, and 1 in 1,000 is still special: it wakes a thread, which is a
    //   system call. On some machines the woken thread takes the core of the one that woke it, and then the
    //   pause is the whole flush again.
    // - copy also copies a thousand payments in that push; make them larger, and it is the first to suffer.
    // - batcher has no special push. What is left at the right end is the machine: interrupts, and other
    //   programs. Its price is a thread that looks every half millisecond, and up to 5 ms until a payment
    //   leaves, more calls of the sink for that, and more room.

    std::cout << "\nClaims\n";
    for (series const& one : all)
        check(one.kept_all,
              std::string(one.what) + ": each of the payments is in the ledger, once, in order");
    for (std::size_t i : {0U, 1U}) {
        std::string const what = all[i].what;
        check(all[i].batches == rounds * payments / batch && all[i].by_the_producer == all[i].batches,
              what + ": one push in " + std::to_string(batch) + " is a call of the sink");
        check(all[i].held_by_calls,
              what + ": as many pushes took at least as long as the shortest call of the sink");
    }
    for (std::size_t i : {2U, 3U, 4U})
        check(all[i].by_the_producer == 0, std::string(all[i].what) + ": no push has called the sink");

    std::cout
        << "\nThe trade-off: one buffer costs nothing and stops the world; a second one, or a thread that\n"
           "looks after lanes, costs memory, a thread and some milliseconds until a payment leaves, and the\n"
           "world goes on. As long as there is room beside the batch that is being written: how much room\n"
           "must there be? That is chapter 10.\n";
    // Exercises (answers: README.md):
    // 1. Make a payment 1,024 bytes (payment::rest in sinks/ledger.hpp). Which of the five get slower, and
    //    which push of each?
    // 2. Make a batch 10,000. Compare "1 in 1,000" and "1 in 10,000" with what you expected.
    // 3. Let two threads push. What does single cost the thread that did not fill the buffer?
    return failures == 0 ? 0 : 1;
}
