// SPDX-License-Identifier: MIT
// The trading system. An exchange says a million times a second what happened to one order. Somebody has to
// know, all the time, what the best price of each stock is. How?
//
// This program reads a feed in NASDAQ's own format, keeps the books of all its stocks, and shows them. It
// begins with the smallest books that work and breaks the feed on purpose. Then it measures what the books
// cost, makes that cheaper, and spreads the work over threads: the feed is parsed by one, each stock belongs
// to one worker, and a ring says to which. It asks how long a message takes from the moment when it was due
// to the moment when it is in its book, and lets someone watch who is slow. Read in this order: itch.hpp,
// naive_books.hpp, order_book.hpp, order_index.hpp, pipeline.hpp, ticker.hpp.
//
//     trading_system                       the chapter, on a day that it makes
//     trading_system --file day.itch       the chapter, on a day of your own (unpacked, with its lengths)
//     trading_system --make day.itch --messages 20000000
//     trading_system --serve 8080          the day again and again, on a page that is alive; with --file too
//
// Times are reported; asserted is what is in the books.
#include <cairn/event_loop.hpp>

#include <algorithm>
#include <array>
#include <charconv>
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
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "checksum.hpp"
#include "feed_generator.hpp"
#include "index_race.hpp"
#include "itch.hpp"
#include "latency.hpp"
#include "mapped_file.hpp"
#include "naive_books.hpp"
#include "order_book.hpp"
#include "picture.hpp"
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

constexpr std::string_view usage =
    "usage: trading_system [--file F | --make F] [--messages N] [--orders N] [--stocks N] [--seed N]\n"
    "                      [--workers N] [--rate N] [--picture F] [--serve PORT] [--short]\n"
    "  --file F      a day in ITCH 5.0, each message behind its length, unpacked; else one is made\n"
    "  --make F      writes such a day, and ends\n"
    "  --messages N  of the day that is made (300000); of a file, how many the chapter looks at\n"
    "  --orders N    that wait in its books at once (100000)\n"
    "  --stocks N    of it (1000)          --seed N   another day (1)\n"
    "  --workers N   threads with books    --rate N   messages a second, where they come in time\n"
    "  --picture F   where the picture goes\n"
    "  --serve PORT  a page that shows the books while they change; 0: any port\n"
    "  --short       a tenth of the messages and orders\n";

struct options {
    std::string file{}, make{}, picture{};
    feed_options feed{};
    std::optional<std::size_t> workers{};
    std::optional<double> rate{};
    std::optional<std::uint16_t> serve{};
    bool help = false;
};

std::uint64_t number(std::string_view name, std::string const& text, std::uint64_t least,
                     std::uint64_t most) {
    std::uint64_t value = 0;
    char const* const end = text.data() + text.size();
    auto const [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || stop != end || value < least || value > most)
        throw std::invalid_argument(std::string(name) + " takes a number from " + std::to_string(least) +
                                    " to " + std::to_string(most) + ", not '" + text + "'");
    return value;
}

options parse(std::span<char* const> words) {
    options made;
    for (std::size_t i = 1; i < words.size(); ++i) {
        std::string_view const name = words[i];
        auto const value = [&]() -> std::string {
            if (i + 1 == words.size()) throw std::invalid_argument(std::string(name) + " takes a value");
            return words[++i];
        };
        auto const from_to = [&](std::uint64_t least, std::uint64_t most) {
            return number(name, value(), least, most);
        };
        if (name == "--help" || name == "-h") {
            made.help = true;
        } else if (name == "--short") {  // for slow machines and sanitizers
            made.feed.messages = 100'000;
            made.feed.live_orders = 10'000;
        } else if (name == "--file") {
            made.file = value();
        } else if (name == "--make") {
            made.make = value();
        } else if (name == "--picture") {
            made.picture = value();
        } else if (name == "--messages") {
            made.feed.messages = from_to(1, 1'000'000'000);
        } else if (name == "--orders") {
            made.feed.live_orders = static_cast<std::uint32_t>(from_to(0, 100'000'000));
        } else if (name == "--stocks") {
            made.feed.stocks = static_cast<std::uint16_t>(from_to(1, 60'000));
        } else if (name == "--seed") {
            made.feed.seed = from_to(0, ~std::uint64_t{0});
        } else if (name == "--workers") {
            made.workers = from_to(1, 64);
        } else if (name == "--rate") {
            made.rate = static_cast<double>(from_to(1, 100'000'000));
        } else if (name == "--serve") {
            made.serve = static_cast<std::uint16_t>(from_to(0, 65'535));
        } else {
            throw std::invalid_argument("there is no '" + std::string(name) + "'");
        }
    }
    return made;
}

/// The first frames of a feed, at most n.
feed_bytes first(feed_bytes feed, std::uint64_t n) {
    itch::feed_reader reader(feed);
    while (reader.frames() < n && reader.next([](auto const&) {})) {
    }
    return feed.first(static_cast<std::size_t>(reader.offset()));
}
/// Does what the messages say, up to the end or the first frame that is wrong.
template <class Books>
void apply_all(Books& books, itch::feed_reader& reader) {
    while (reader.next([&books](auto const& m) {
        if constexpr (requires { translate(m); }) (void)books.apply(translate(m));
    })) {
    }
}

// ---- 1. What an exchange says. ----

void print_kinds(feed_bytes feed) {
    std::map<char, std::uint64_t> kinds;
    itch::feed_reader reader(feed);
    while (reader.next([&kinds](auto const& m) { ++kinds[m.type]; })) {
    }
    constexpr std::array<std::pair<char, char const*>, 11> names{{{'S', "the day begins, or ends"},
                                                                  {'R', "a stock has this number today"},
                                                                  {'A', "a new order"},
                                                                  {'F', "a new order, and whose"},
                                                                  {'E', "an order traded"},
                                                                  {'C', "an order traded, at a price"},
                                                                  {'X', "part of an order was cancelled"},
                                                                  {'D', "an order was deleted"},
                                                                  {'U', "an order was replaced"},
                                                                  {'P', "a trade with a hidden order"},
                                                                  {'Q', "an auction"}}};
    for (auto const& [letter, name] : names)
        std::cout << "  " << letter << std::setw(10) << kinds[letter] << "   " << name << '\n';
    std::cout << "  other" << std::setw(6) << reader.skipped() << "   no book needs them\n";
}

/// A file of one's own, whole: as fast as it goes, and what was in it that could not be.
std::optional<itch::feed_error> read_whole(feed_bytes day, std::size_t workers) {
    pipeline books({.workers = workers});
    run_result const result = books.run(day);
    std::cout << "\n  the whole file: " << result.frames << " frames, " << result.per_second() / 1e6
              << " million/s, checksum of the books " << std::hex << checksum(books) << std::dec << '\n';
    auto const print = [](std::string_view what, std::uint64_t count) {
        std::cout << "  " << std::left << std::setw(24) << what << std::right << std::setw(12) << count
                  << '\n';
    };
    for (std::size_t i = 0; i < outcomes; ++i) {
        std::uint64_t count = 0;
        for (auto const& one : books.workers()) count += one->books().count(static_cast<outcome>(i));
        print(name_of(static_cast<outcome>(i)), count);
    }
    print("of an unnamed stock", result.unrouted);
    print("of types for no book", result.skipped);
    if (result.error) std::cout << "  It ends early, at " << result.error->what << '\n';
    return result.error;
}

// ---- 2. Books on one thread. ----

/// Returns million messages a second.
template <class Books>
double keep(Books& books, feed_bytes feed) {
    itch::feed_reader reader(feed);
    std::int64_t const begin = now();
    apply_all(books, reader);
    return static_cast<double>(reader.frames()) * 1e3 / static_cast<double>(now() - begin);
}

// ---- 3. A feed that breaks. ----

/// What a reader does that does not give up: whatever is wrong, it goes on behind it, as far as the length
/// says that it is.
void keep_regardless(order_books& books, feed_bytes feed) {
    for (std::size_t from = 0; from < feed.size();) {
        itch::feed_reader reader(feed, from);
        apply_all(books, reader);
        from = static_cast<std::size_t>(reader.offset());
        if (reader.error()) from += 2 + (feed.size() - from < 2 ? 0 : itch::detail::load<2>(&feed[from]));
    }
}
/// Stocks for which somebody would pay at least what somebody else would take. An exchange lets these two
/// trade, so while it is open there is no such stock.
std::size_t crossed(order_books const& books) {
    return static_cast<std::size_t>(std::ranges::count_if(books.books(), [](auto const& book) {
        if (book == nullptr) return false;
        top const best = book->top();
        return best.bid.shares != 0 && best.ask.shares != 0 && best.bid.price >= best.ask.price;
    }));
}

// ---- 6. How long does it take? ----

void print_times(std::string const& what, histogram const& times) {
    std::cout << "  " << std::left << std::setw(24) << what << std::right << std::setw(9) << times.size();
    for (double const share : percentiles)
        std::cout << std::setw(10) << (times.size() == 0 ? "-" : in_words(times.at(share)));
    std::cout << '\n';
}

// ---- 7. Someone watches. ----

struct watched {
    std::uint64_t asked = 0, updates = 0, routed = 0, stocks = 0;
    bool right = true;  // what was shown last
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
    result.stocks = seen.size();
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
            live.show(times);
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

/// Says what is wrong with the day, if anything; the chapter is about what came before. Precondition: there
/// is a frame.
std::optional<itch::feed_error> chapter(feed_bytes day, options const& asked) {
    std::cout << std::fixed << std::setprecision(2);
    feed_bytes const feed = first(day, asked.feed.messages + asked.feed.stocks + 6);
    std::size_t const most_workers = asked.workers.value_or(2);
    double const rate_asked = asked.rate.value_or(1'000'000);
    bool const made_here = asked.file.empty();

    std::cout
        << "An exchange tells what happens to each order, a million times a second. It never tells the best\n"
           "price of a stock: who wants to know it must keep all orders of all stocks, in their order.\n\n";

    // ---- 1. ----
    std::cout << "1. The feed: " << static_cast<double>(feed.size()) / 1e6 << " MB\n\n";
    print_kinds(feed);
    std::optional<itch::feed_error> wrong;
    if (!made_here) wrong = read_whole(day, most_workers);
    std::cout << '\n';
    // No message says what a book looks like. Half of them say that an order is there, the others that one is
    // not there any more, or less of it.

    // ---- 2. ----
    naive_books naive;
    double const naive_rate = keep(naive, feed);
    std::uint64_t const naive_sum = checksum(naive);
    order_books books;
    double const rate = keep(books, feed);
    std::uint64_t const sum = checksum(books);
    std::cout << "2. The smallest books that work, and the same with less to do, on one thread\n\n"
              << "  books                             million messages/s       checksum at the end\n"
              << std::hex << "  a map of prices, lists of orders  " << std::setw(18) << naive_rate
              << std::setw(26) << naive_sum << '\n'
              << "  pools, rows of prices, an index   " << std::setw(18) << rate << std::setw(26) << sum
              << std::dec << "\n\n  " << books.orders() << " orders wait at the end\n\n";
    // Both are right. The first one follows three pointers to an order, and asks the allocator for each.

    // ---- 3. ----
    // Now break it. One byte is wrong: the length of a frame in the middle.
    std::vector<std::byte> broken(feed.begin(), feed.end());
    itch::feed_reader all(feed);
    while (all.next([](auto const&) {})) {
    }
    std::uint64_t const good = all.frames() / 2;
    std::size_t const where = first(feed, good).size();
    broken[where] = std::byte{0x7F};
    order_books before;
    keep(before, feed.first(where));
    order_books regardless;
    keep_regardless(regardless, broken);
    pipeline survivor({.workers = most_workers});
    run_result const stopped = survivor.run(broken);
    std::uint64_t const kept = checksum(survivor);
    survivor.clear();
    bool const again = !survivor.run(feed).error && checksum(survivor) == sum;
    std::cout << "3. One byte is wrong, in the middle\n\n"
              << "  who goes on behind it   " << regardless.count(outcome::unknown_order)
              << " messages are about orders that nobody has seen, and\n                          "
              << crossed(regardless) << " stocks have a bid that is not below the ask; in truth "
              << crossed(books) << '\n'
              << "  who stops there         " << stopped.frames << " frames are in the books, and he says\n"
              << "                          " << (stopped.error ? stopped.error->what : "nothing") << "\n\n";
    // A wrong length makes all that follows noise, and a wrong book is worse than none. So the reader keeps
    // what was right, says where it ends, and waits for the next feed.

    // ---- 4. ----
    std::vector<call> const calls = calls_of(feed);
    std::vector<index_result> indexes{best_of_three<map_index>(calls), best_of_three<flat_index>(calls)};
    std::uint64_t const largest = largest_number(calls);
    if (largest <= array_index::most) indexes.push_back(best_of_three<array_index>(calls));
    std::cout << "4. Where is order 4,711? " << calls.size() << " calls of an index\n\n"
              << "  index                  ns a call\n";
    for (index_result const& one : indexes)
        std::cout << "  " << std::left << std::setw(20) << one.what << std::right << std::setw(12)
                  << one.nanoseconds << '\n';
    if (largest > array_index::most)
        std::cout << "  an array by number: no, there is an order " << largest << '\n';
    std::cout << '\n';
    // Most of a message's time is the search for its order. The array wins as long as the exchange counts
    // from 1. But it keeps a place for each order of the day, and one wrong number in the feed asks it for
    // all memory there is. So it is not used.

    // ---- 5. ----
    std::cout << "5. Over threads: one for the feed, and workers with the books; three runs each\n\n"
              << "  workers   million messages/s             stocks of each worker\n";
    bool same = true, all_routed = true;
    for (std::size_t workers = 1; workers <= most_workers; ++workers) {
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

    // ---- 6. ----
    auto const times = std::make_unique<latencies>();
    pipeline timed({.workers = 1});
    run_result const in_time = timed.run_in_time(feed, rate_asked, *times);
    same = same && checksum(timed) == sum;
    std::cout << "6. From when a message is due until it is in its book, at " << rate_asked / 1e6
              << " million/s (got " << in_time.per_second() / 1e6 << ")\n\n"
              << "                             count       p50       p90       p99     p99.9       max\n";
    for (curve const& one : curves(*times)) print_times(one.name, *one.times);
    if (times->undisturbed.size() == 0) std::cout << "  (other programs had the cores all the time)\n";
    std::string const picture = asked.picture.empty()
                                    ? (std::filesystem::temp_directory_path() / "trading_system.svg").string()
                                    : asked.picture;
    std::ostringstream title;
    title << grouped(in_time.routed) << " messages, " << grouped(static_cast<std::uint64_t>(rate_asked))
          << " a second, 1 worker";
    std::ofstream drawn(picture);
    draw(drawn, "From tick to book", title.str(), curves(*times));
    drawn.close();
    std::cout << "\n  picture: " << picture << "\n\n";
    // Both threads look at the clock while they have nothing else to do. If two looks are 5 us apart, the
    // core was taken meanwhile: by another program, the system, the hypervisor. The second row leaves out the
    // messages that met such a moment, and those that waited behind them. What is left is the program's own.

    // ---- 7. ----
    watched const seen = watch(feed, most_workers);
    std::cout << "7. Someone asks every 20 ms, while the feed comes as fast as it goes\n\n"
              << "  " << seen.routed << " messages, asked " << seen.asked << " times, " << seen.updates
              << " prices shown\n";
#ifdef CAIRN_EXAMPLES_HAVE_BEAST
    shown const page_shown = show(feed, rate_asked);
    std::cout << "  and a page with two browsers, of which one never reads: the other one was sent the books "
              << page_shown.books << " times\n";
#endif

    std::cout << "\nClaims\n";
    check(naive_sum == sum, "maps and pools agree on each order of each queue");
    check(stopped.error && stopped.error->offset == where && stopped.frames == good,
          "the wrong frame was found, at its byte");
    check(kept == checksum(before), "the books of who stops are those of all that came before it");
    check(again, "the next feed is not disturbed");
    if (made_here) {
        check(checksum(regardless) != sum, "the books of who goes on are wrong");
        check(crossed(books) == 0, "no book of the whole feed is crossed");
        check(all_routed, "no message of a stock that was never named");
    }
    check(std::ranges::all_of(indexes, [&](auto const& one) { return one.found == indexes[0].found; }),
          "the indexes found the same orders");
    check(same,
          "the same feed gives the same books: twice, on one worker or more, in time or as fast as it goes");
    check(times->all.size() == in_time.routed, "each message was timed, once");
    check(static_cast<double>(in_time.nanoseconds) >=
              1e9 * static_cast<double>(in_time.frames - 1) / rate_asked,
          "no message was taken up before it was due");
    check(drawn.good(), "the picture was written");
    check(seen.right, "the last prices that were shown are those of the books");
    check(seen.updates <= (seen.asked + 1) * seen.stocks,
          "a watcher is told of a stock once for each time that it asks, and at the end");
#ifdef CAIRN_EXAMPLES_HAVE_BEAST
    check(page_shown.books != 0 && page_shown.times == 1,
          "a browser gets the books, and the times at the end");
    check(page_shown.sum == sum, "one that never reads disturbs nobody");
#endif
    std::cout
        << "\nThe trade-off: one writer for each book, and nothing shared but queues. So there is no lock, "
           "and\n"
           "the same feed gives the same books on any number of threads. But the busiest stock has one "
           "core,\n"
           "whatever you buy; and a thread that waits by looking at its queue keeps a core busy all day.\n";
    // Exercises:
    // 1. Let the router ask the ring for each message, by name. What does it cost, and what would you gain?
    // 2. Give the queue 16 places instead of 4,096. Which of the numbers above change, and which do not?
    // 3. The feed thread dies with a whole day in the books. What must be written down, and how often, so
    // that
    //    a new process has them within a second?
    return wrong;
}

/// @throws std::runtime_error for a feed that is none.
void expect_a_feed(feed_bytes day) {
    if (day.size() > 1 && day[0] == std::byte{0x1F} && day[1] == std::byte{0x8B})
        throw std::runtime_error("it is compressed (gzip): unpack it first");
    itch::feed_reader reader(day);
    if (reader.next([](auto const&) {})) return;
    throw std::runtime_error("no frame can be read: " +
                             (reader.error() ? reader.error()->what : "there is none"));
}

#ifdef CAIRN_EXAMPLES_HAVE_BEAST
/// How many threads keep the books of the page. The feed has one and the page has one: with fewer cores they
/// take them from each other.
std::size_t workers_of_a_page() { return std::thread::hardware_concurrency() < 4 ? 1 : 2; }
#endif

int run(options const& asked) {
    if (!asked.make.empty()) {
        std::cout << write_feed(asked.make, asked.feed) << " bytes in " << asked.make << '\n';
        return 0;
    }
    std::optional<mapped_file> file;
    std::vector<std::byte> made;
    if (asked.file.empty())
        made = make_feed(asked.feed);
    else
        file.emplace(asked.file);
    feed_bytes const day = file ? file->bytes() : feed_bytes(made);
    std::string const name = file ? asked.file + ": " : "";
    try {
        expect_a_feed(day);
    } catch (std::runtime_error const& error) {
        throw std::runtime_error(name + error.what());
    }
    if (asked.serve) {
#ifdef CAIRN_EXAMPLES_HAVE_BEAST
        serve(day, *asked.serve, asked.workers.value_or(workers_of_a_page()), asked.rate.value_or(100'000));
        return 0;
#else
        throw std::runtime_error("the page needs Boost.Beast, which was not there when this was built");
#endif
    }
    if (auto const wrong = chapter(day, asked))
        throw std::runtime_error(name + "ends early, at " + wrong->what);
    return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    options asked;
    try {
        asked = parse({argv, static_cast<std::size_t>(argc)});
    } catch (std::invalid_argument const& error) {
        std::cerr << "trading_system: " << error.what() << '\n' << usage;
        return 2;
    }
    if (asked.help) {
        std::cout << usage;
        return 0;
    }
    try {
        return run(asked);
    } catch (std::exception const& error) {
        std::cout.flush();
        std::cerr << "trading_system: " << error.what() << '\n';
        return 1;
    }
}
