// SPDX-License-Identifier: MIT
// The trading system. An exchange says a million times a second what happened to one order. Somebody has to
// know, all the time, what the best price of each stock is. How?
//
// This program reads a feed in NASDAQ's own format, keeps the books of all its stocks, and shows them. It
// begins with the smallest books that work, then spreads the work over threads: the feed is parsed by one,
// each stock belongs to one worker, and a ring says to which. Then it asks how long a message takes from the
// moment when it was due to the moment when it is in its book, breaks the feed on purpose, and lets someone
// watch who is slow. Read in this order: itch.hpp, order_book.hpp, order_index.hpp, pipeline.hpp, ticker.hpp.
//
//     trading_system                       the chapter, on a day that it makes
//     trading_system --file day.itch       the chapter, on a day of your own (unpacked, with its lengths)
//     trading_system --make day.itch --messages 20000000
//     trading_system --serve 8080          the day again and again, on a page that is alive
//
// Times are reported; asserted is what is in the books.
#include <cairn/event_loop.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "checksum.hpp"
#include "feed_generator.hpp"
#include "index_race.hpp"
#include "itch.hpp"
#include "latency.hpp"
#include "mapped_file.hpp"
#include "naive_books.hpp"
#include "order_book.hpp"
#include "pipeline.hpp"
#ifdef CAIRN_EXAMPLES_HAVE_BEAST
#include "browser.hpp"
#include "page.hpp"
#endif

namespace {

using namespace trading;
using feed_bytes = std::span<std::byte const>;

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

struct options {
    std::string file{}, make{}, picture{};
    feed_options feed{};
    std::size_t workers = 2;
    std::optional<double> rate{};
    std::optional<std::uint16_t> serve{};
};

std::uint64_t number(std::string_view name, std::string const& text, std::uint64_t most) {
    std::size_t used = 0;
    std::uint64_t value = 0;
    bool const digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
    if (digits && text.size() < 19) value = std::stoull(text, &used);
    if (used == 0 || value > most)
        throw std::invalid_argument(std::string(name) + " takes a number up to " + std::to_string(most) +
                                    ", not '" + text + "'");
    return value;
}

options parse(std::span<char* const> words) {
    options made;
    for (std::size_t i = 1; i < words.size(); ++i) {
        std::string_view const name = words[i];
        if (name == "--short") {  // for slow machines
            made.feed.messages = 100'000;
            made.feed.live_orders = 10'000;
            continue;
        }
        if (i + 1 == words.size()) throw std::invalid_argument("what is '" + std::string(name) + "'?");
        std::string const value = words[++i];
        if (name == "--file")
            made.file = value;
        else if (name == "--make")
            made.make = value;
        else if (name == "--picture")
            made.picture = value;
        else if (name == "--messages")
            made.feed.messages = number(name, value, 1'000'000'000);
        else if (name == "--orders")
            made.feed.live_orders = static_cast<std::uint32_t>(number(name, value, 100'000'000));
        else if (name == "--stocks")
            made.feed.stocks = static_cast<std::uint16_t>(number(name, value, 60'000));
        else if (name == "--seed")
            made.feed.seed = number(name, value, 1'000'000'000'000);
        else if (name == "--workers")
            made.workers = std::max<std::size_t>(number(name, value, 64), 1);
        else if (name == "--rate")
            made.rate = static_cast<double>(std::max<std::uint64_t>(number(name, value, 100'000'000), 1));
        else if (name == "--serve")
            made.serve = static_cast<std::uint16_t>(number(name, value, 65'535));
        else
            throw std::invalid_argument("what is '" + std::string(name) + "'?");
    }
    return made;
}

double seconds(std::int64_t since) { return static_cast<double>(now() - since) / 1e9; }
double millions(std::uint64_t n, double in_seconds) { return static_cast<double>(n) / in_seconds / 1e6; }

/// The first frames of a feed, at most n.
feed_bytes first(feed_bytes feed, std::uint64_t n) {
    itch::feed_reader reader(feed);
    while (reader.frames() < n && reader.next([](auto const&) {})) {
    }
    return feed.first(reader.offset());
}

// ---- 1. ----

std::map<char, std::uint64_t> kinds_of(feed_bytes feed) {
    std::map<char, std::uint64_t> kinds;
    itch::feed_reader reader(feed);
    while (reader.next([&kinds](auto const& m) { ++kinds[m.type]; })) {
    }
    if (reader.skipped() != 0) kinds['?'] = reader.skipped();
    return kinds;
}

/// A file of one's own, whole: as fast as it goes, and what was in it that could not be.
void read_whole(feed_bytes day, std::size_t workers) {
    pipeline books({.workers = workers});
    run_result const result = books.run(day);
    std::cout << "\n  the whole file: " << result.frames << " frames, " << result.per_second() / 1e6
              << " million/s, " << result.skipped << " of other types, " << result.unrouted
              << " of stocks that were never named\n";
    for (std::size_t i = 0; i < outcomes; ++i) {
        std::uint64_t count = 0;
        for (auto const& one : books.workers()) count += one->books().count(static_cast<outcome>(i));
        std::cout << "  " << std::left << std::setw(16) << name_of(static_cast<outcome>(i)) << std::right
                  << std::setw(12) << count << '\n';
    }
    if (result.error) std::cout << "  ends early, at " << result.error->what << '\n';
}

// ---- 2. Books on one thread. ----

template <class Books>
double keep(Books& books, feed_bytes feed) {
    itch::feed_reader reader(feed);
    std::int64_t const begin = now();
    while (reader.next([&books](auto const& m) {
        if constexpr (requires { translate(m); }) (void)books.apply(translate(m));
    })) {
    }
    return millions(reader.frames(), seconds(begin));
}

// ---- 5. ----

void print_times(char const* what, histogram const& times) {
    std::cout << "  " << std::left << std::setw(24) << what << std::right << std::setw(9) << times.size();
    for (double const share : percentiles) std::cout << std::setw(10) << in_words(times.at(share));
    std::cout << '\n';
}

// ---- 7. ----

struct watched {
    std::uint64_t asked = 0, updates = 0, routed = 0;
    bool right = true;
};
/// Someone looks every 20 ms, on a loop of its own, while the feed comes as fast as it goes.
watched watch(feed_bytes feed, std::size_t workers) {
    cairn::event_loop loop;
    pipeline books({.workers = workers});
    watched result;
    std::unordered_map<std::uint16_t, top> seen;
    auto const take = [&](worker& from) {
        from.tops().take([&](top_update const& update) {
            ++result.updates;
            seen[update.locate] = update.best;
        });
    };
    for (auto const& one : books.workers())
        one->tops().watch([&loop, &take, from = one.get()] { loop.post([&take, from] { take(*from); }); });
    auto const look = loop.call_every(std::chrono::milliseconds(20), [&] {
        ++result.asked;
        for (auto const& one : books.workers()) one->tops().ask();
    });
    std::exception_ptr failed;
    std::thread reader([&] {
        try {
            result.routed = books.run(feed).routed;
        } catch (...) {
            failed = std::current_exception();
        }
        loop.post([&loop] { loop.stop(); });  // behind all that the workers have posted
    });
    loop.run();
    reader.join();
    if (failed != nullptr) std::rethrow_exception(failed);
    for (auto const& one : books.workers())
        for (std::size_t i = 0; i < one->books().books().size(); ++i)
            if (order_book const* const book = one->books().books()[i].get())
                result.right = result.right && seen[static_cast<std::uint16_t>(i)] == book->top();
    return result;
}

#ifdef CAIRN_EXAMPLES_HAVE_BEAST
struct shown {
    std::size_t books = 0, times = 0;  // events of each kind that the first browser has read
    std::uint64_t sum = 0;
};
/// Two browsers while the feed comes in time: one reads, one never does.
shown show(feed_bytes feed, double rate) {
    cairn::event_loop loop;
    pipeline books({.workers = 1});
    page live(loop, books);
    browser reader(loop, live, true), silent(loop, live, false);
    latencies times;
    std::exception_ptr failed;
    std::thread feeder([&] {
        try {
            (void)books.run_in_time(feed, rate, times);
        } catch (...) {
            failed = std::current_exception();
        }
        loop.post([&] {
            live.show(times, 1);
            live.stop([&loop] { loop.stop(); });
        });
    });
    loop.run();
    feeder.join();
    if (failed != nullptr) std::rethrow_exception(failed);
    return {reader.events("event: books"), reader.events("event: times"), checksum(books)};
}
#endif

// ---- All of it. ----

void chapter(feed_bytes day, options const& asked) {
    std::cout << std::fixed << std::setprecision(2);
    feed_bytes const feed =
        first(day, std::max<std::uint64_t>(asked.feed.messages, 1) + asked.feed.stocks + 6);

    if (feed.size() <= 2) {  // a frame has 3 bytes or more
        itch::feed_reader nothing(day);
        (void)nothing.next([](auto const&) {});
        throw std::runtime_error("no frame can be read: " +
                                 (nothing.error() ? nothing.error()->what : "there is none"));
    }
    double const rate_asked = asked.rate.value_or(1'000'000);

    // ---- What an exchange says. ----
    std::cout << "1. The feed: " << static_cast<double>(feed.size()) / 1e6 << " MB\n\n ";
    std::uint64_t frames = 0;
    for (auto const& [kind, count] : kinds_of(feed)) {
        std::cout << ' ' << kind << ' ' << count;
        frames += count;
    }
    std::cout << '\n';
    if (!asked.file.empty()) read_whole(day, asked.workers);
    std::cout << '\n';
    // No message says what a book looks like. Most of them say that something is not there any more.

    // ---- The smallest books that work. ----
    naive_books naive;
    order_books books;
    double const naive_rate = keep(naive, feed);
    double const rate = keep(books, feed);
    std::uint64_t const sum = checksum(books);
    std::cout << "2. Books on one thread, " << books.orders() << " orders wait at the end\n\n"
              << "  books                             million messages/s\n"
              << "  a map of prices, lists of orders  " << std::setw(18) << naive_rate << '\n'
              << "  pools, rows of prices, an index   " << std::setw(18) << rate << "\n\n";
    // Both are right. The first one follows three pointers to an order, and asks the allocator for each.

    // ---- Where is order 4,711? ----
    std::vector<call> const calls = calls_of(feed);
    std::vector<index_result> indexes{best_of_three<map_index>(calls), best_of_three<flat_index>(calls)};
    try {
        indexes.push_back(best_of_three<array_index>(calls));
    } catch (std::length_error const& error) {
        std::cout << "   (" << error.what() << ")\n";
    }
    std::cout << "3. From an order's number to the order, " << calls.size() << " calls\n\n"
              << "  index                  ns a call\n";
    for (index_result const& one : indexes)
        std::cout << "  " << std::left << std::setw(20) << one.what << std::right << std::setw(12)
                  << one.nanoseconds << '\n';
    std::cout << '\n';
    // The array wins as long as the exchange counts from 1. It keeps a place for each order of the day, and
    // one wrong number in the feed asks it for all memory there is. So it is not used.

    // ---- Over threads. ----
    std::cout << "4. Parse, route, book: one thread for the feed, and workers; three runs each\n\n"
              << "  workers   million messages/s             stocks of each worker\n";
    bool same = true, all_routed = true;
    for (std::size_t workers = 1; workers <= asked.workers; ++workers) {
        pipeline over_threads({.workers = workers});
        std::cout << std::setw(9) << workers;
        for (int run = 0; run < 3; ++run) {
            over_threads.clear();
            run_result const result = over_threads.run(feed);
            same = same && checksum(over_threads) == sum;
            all_routed = all_routed && result.unrouted == 0;
            std::cout << std::setw(8) << result.per_second() / 1e6;
        }
        std::cout << "   ";
        for (auto const& one : over_threads.workers())
            std::cout << std::setw(8) << std::ranges::count_if(one->books().books(), [](auto const& book) {
                return book != nullptr;
            });
        std::cout << '\n';
    }
    std::cout << '\n';
    // One worker is enough until its core is full. Two share the stocks, but not evenly the messages: the
    // busiest stock of all is on one of them, and no ring can cut it in two.

    // ---- How long does it take? ----
    auto const times = std::make_unique<latencies>();
    pipeline timed({.workers = 1});
    run_result const in_time = timed.run_in_time(feed, rate_asked, *times);
    same = same && checksum(timed) == sum;
    std::cout << "5. From when a message is due until it is in its book, at " << rate_asked / 1e6
              << " million/s (got " << in_time.per_second() / 1e6 << ")\n\n"
              << "                             count       p50       p90       p99     p99.9       max\n";
    print_times("all messages", times->all);
    print_times("with the cores at hand", times->undisturbed);
    if (times->undisturbed.size() == 0) std::cout << "  (other programs had the cores all the time)\n";
    std::string const picture = asked.picture.empty()
                                    ? (std::filesystem::temp_directory_path() / "trading_system.svg").string()
                                    : asked.picture;
    std::ofstream drawn(picture);
    draw(drawn, "From tick to book",
         std::vector<curve>{{"all messages", &times->all}, {"with the cores at hand", &times->undisturbed}});
    drawn.close();
    std::cout << "\n  picture: " << picture << "\n\n";
    // Both threads look at the clock while they have nothing else to do. If two looks are 5 us apart, the
    // core was taken meanwhile: by another program, the system, the hypervisor. The second row leaves out the
    // messages that met such a moment, and those that waited behind them. What is left is the program's own.

    // ---- A feed that breaks. ----
    std::vector<std::byte> broken(feed.begin(), feed.end());
    std::size_t const where = first(feed, frames / 2).size();
    broken[where] = std::byte{0x7F};
    order_books before;
    keep(before, feed.first(where));
    pipeline survivor({.workers = asked.workers});
    run_result const stopped = survivor.run(broken);
    std::uint64_t const kept = checksum(survivor);
    survivor.clear();
    bool const again = !survivor.run(feed).error && checksum(survivor) == sum;
    std::cout << "6. One byte is wrong, in the middle\n\n  "
              << (stopped.error ? stopped.error->what : "nothing was noticed") << '\n'
              << "  " << stopped.frames << " of " << frames << " frames are in the books\n\n";
    // A wrong length makes all that follows noise, and a book of noise is worse than none. The books keep
    // what was right, say where it ends, and wait for the next feed.

    // ---- Someone watches. ----
    watched const seen = watch(feed, asked.workers);
    std::cout << "7. Someone asks every 20 ms, while the feed comes as fast as it goes\n\n"
              << "  " << seen.routed << " messages, asked " << seen.asked << " times, " << seen.updates
              << " prices shown\n";
#ifdef CAIRN_EXAMPLES_HAVE_BEAST
    shown const page_shown = show(feed, rate_asked);
    std::cout << "  and a page with two browsers, of which one never reads: the other one got "
              << page_shown.books << " pictures of the books\n";
#endif

    std::cout << "\nClaims\n";
    check(checksum(naive) == sum, "maps and pools agree on each order of each queue");
    check(std::ranges::all_of(indexes, [&](auto const& one) { return one.found == indexes[0].found; }),
          "the indexes found the same orders");
    check(same,
          "the same feed gives the same books: twice, on one worker or more, in time or as fast as it goes");
    check(all_routed || !asked.file.empty(), "no message of a stock that was never named");
    check(times->all.size() == in_time.routed, "each message was timed, once");
    check(static_cast<double>(in_time.nanoseconds) >=
              1e9 * static_cast<double>(in_time.frames - 1) / rate_asked,
          "no message was taken up before it was due");
    check(stopped.error && stopped.error->offset == where && stopped.frames == frames / 2,
          "the wrong frame was found, at its byte");
    check(kept == checksum(before), "and the books are those of all that came before it");
    check(again, "the next feed is not disturbed");
    check(seen.right, "the last prices that were shown are those of the books");
    check(seen.updates <= seen.routed, "a watcher costs no more than there are messages");
#ifdef CAIRN_EXAMPLES_HAVE_BEAST
    check(page_shown.books != 0 && page_shown.times == 1,
          "a browser gets the books, and the times at the end");
    check(page_shown.sum == sum, "one that never reads disturbs nobody");
#endif
    check(std::filesystem::exists(picture), "the picture was written");
    std::cout
        << "\nOne writer for each book, and nothing shared but queues: so there is no lock, and a price of\n"
           "one machine that adds up. What it cannot do is split one stock over two cores.\n";
    // Exercises:
    // 1. Let the router ask the ring for each message, by name. What does it cost, and what would you gain?
    // 2. Give the queue 16 places instead of 4,096. Which of the numbers above change, and which do not?
    // 3. The feed thread dies with a whole day in the books. What must be written down, and how often, so
    // that
    //    a new process has them within a second?
}

}  // namespace

int main(int argc, char** argv) {
    options asked;
    try {
        asked = parse({argv, static_cast<std::size_t>(argc)});
    } catch (std::invalid_argument const& error) {
        std::cerr
            << "trading_system: " << error.what()
            << "\nusage: trading_system [--file F | --make F] [--messages N] [--orders N] [--stocks N] "
               "[--seed N]\n"
               "                      [--workers N] [--rate N] [--picture F] [--serve PORT] [--short]\n";
        return 2;
    }
    try {
        if (!asked.make.empty()) {
            std::cout << write_feed(asked.make, asked.feed) << " bytes in " << asked.make << '\n';
            return 0;
        }
        std::vector<std::byte> made;
        std::optional<mapped_file> file;
        if (asked.file.empty())
            made = make_feed(asked.feed);
        else
            file.emplace(asked.file);
        if (file && file->bytes().size() > 1 && file->bytes()[0] == std::byte{0x1F} &&
            file->bytes()[1] == std::byte{0x8B})
            throw std::runtime_error(asked.file + " is compressed: unpack it first");
        feed_bytes const day = file ? file->bytes() : feed_bytes(made);
        if (asked.serve) {
#ifdef CAIRN_EXAMPLES_HAVE_BEAST
            return serve(day, *asked.serve, asked.workers, asked.rate.value_or(100'000));
#else
            throw std::runtime_error("the page needs Boost.Beast, which was not there when this was built");
#endif
        }
        chapter(day, asked);
    } catch (std::exception const& error) {
        std::cerr << "trading_system: " << error.what() << '\n';
        return 1;
    }
    return failures == 0 ? 0 : 1;
}
