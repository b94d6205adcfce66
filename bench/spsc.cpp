// SPDX-License-Identifier: MIT
// How fast do messages go from one thread to another, and which queue carries them best?
#include <cairn/spsc_queue.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(CAIRN_BENCH_HAVE_BOOST)
#include <boost/lockfree/spsc_queue.hpp>
#endif
#if defined(CAIRN_BENCH_HAVE_MOODYCAMEL)
#include <readerwriterqueue/readerwriterqueue.h>
#endif

#include "partner.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

/// A message of `Size` bytes, all words the same number.
template <std::size_t Size>
struct bytes {
    std::array<std::uint32_t, Size / 4> words;
};

/// How messages are made, and read again: the number of each must come out as it went in.
template <class T>
class messages {
  public:
    [[nodiscard]] T make(std::uint32_t number) const {
        T message;
        message.words.fill(number);
        return message;
    }
    [[nodiscard]] static std::uint64_t read(T const& message) {
        return std::uint64_t{message.words.front()} + message.words.back();
    }
    [[nodiscard]] static std::uint64_t expected(std::uint32_t number) { return 2 * std::uint64_t{number}; }
    [[nodiscard]] static bool whole(T const& message, std::uint32_t number) {
        return std::all_of(message.words.begin(), message.words.end(),
                           [number](std::uint32_t word) { return word == number; });
    }
};
/// Strings of 4 bytes: short enough to be stored without the heap, or that is what would be measured.
template <>
class messages<std::string> {
  public:
    messages() {
        for (std::size_t i = 0; i < 256; ++i) made_.push_back("abc" + std::string(1, static_cast<char>(i)));
    }
    [[nodiscard]] std::string const& make(std::uint32_t number) const { return made_[number % 256]; }
    [[nodiscard]] static std::uint64_t read(std::string const& message) {
        return static_cast<unsigned char>(message.back());
    }
    [[nodiscard]] static std::uint64_t expected(std::uint32_t number) { return number % 256; }
    [[nodiscard]] static bool whole(std::string const& message, std::uint32_t number) {
        return message.size() == 4 && message.starts_with("abc") && read(message) == expected(number);
    }

  private:
    std::vector<std::string> made_;
};

// ---- The queues, each with a push and a pop that wait. All wait alike: a pause, then a yield. ----

template <class T>
class ours {
  public:
    static constexpr auto name = "cairn";
    explicit ours(std::size_t capacity) : queue_(capacity) {}
    void push(T const& item) { queue_.push(item); }
    void pop(T& item) { queue_.pop(item); }
    void push_n(std::span<T const> items) { queue_.push_n(items); }
    std::size_t pop_n(std::span<T> items) { return queue_.pop_n(items); }

  private:
    spsc_queue<T> queue_;
};

/// The lecture's: right, and slow. Counters on one line, seq_cst, %.
template <class T>
class naive {
  public:
    static constexpr auto name = "naive";
    explicit naive(std::size_t capacity) : slots_(capacity) {}
    void push(T const& item) {
        until([this] { return head_ - tail_ != slots_.size(); });
        slots_[head_ % slots_.size()] = item;
        head_ = head_ + 1;
    }
    void pop(T& item) {
        until([this] { return head_ != tail_; });
        item = std::move(slots_[tail_ % slots_.size()]);
        tail_ = tail_ + 1;
    }

  private:
    std::vector<T> slots_;
    std::atomic<std::size_t> head_{0}, tail_{0};
};

#if defined(CAIRN_BENCH_HAVE_BOOST)
template <class T>
class boost_queue {
  public:
    static constexpr auto name = "boost::lockfree";
    explicit boost_queue(std::size_t capacity) : queue_(capacity) {}
    void push(T const& item) {
        until([&] { return queue_.push(item); });
    }
    void pop(T& item) {
        until([&] { return queue_.pop(item); });
    }
    void push_n(std::span<T const> items) {
        until([&] {
            items = items.subspan(queue_.push(items.data(), items.size()));
            return items.empty();
        });
    }
    std::size_t pop_n(std::span<T> items) {
        std::size_t popped = 0;
        until([&] { return (popped = queue_.pop(items.data(), items.size())) != 0; });
        return popped;
    }

  private:
    boost::lockfree::spsc_queue<T> queue_;
};
#endif
#if defined(CAIRN_BENCH_HAVE_MOODYCAMEL)
template <class T>
class moodycamel_queue {
  public:
    static constexpr auto name = "moodycamel";
    /// It rounds up: asked for 64 and 1,024 it takes 127 and 2,044 messages, twice what the others may hold.
    /// Asked for one fewer it takes 63 and 1,023.
    explicit moodycamel_queue(std::size_t capacity) : queue_(capacity - 1) {}
    void push(T const& item) {
        until([&] { return queue_.try_enqueue(item); });
    }
    void pop(T& item) {
        until([&] { return queue_.try_dequeue(item); });
    }

  private:
    moodycamel::ReaderWriterQueue<T> queue_;
};
#endif

// ---- What is measured. ----

constexpr std::uint32_t messages_a_run = 12'800;
constexpr std::uint32_t trips_a_run = 800;
constexpr std::size_t batch = 64;

[[nodiscard]] std::uint64_t expected_sum(std::uint32_t n, std::uint64_t (*expected)(std::uint32_t)) {
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < n; ++i) sum += expected(i);
    return sum;
}

/// Receives n messages one by one and sums them up.
template <class T, class Queue>
[[nodiscard]] std::uint64_t sum_of(Queue& queue, std::uint32_t n) {
    std::uint64_t sum = 0;
    T message{};
    for (std::uint32_t i = 0; i < n; ++i) {
        queue.pop(message);
        sum += messages<T>::read(message);
    }
    return sum;
}

/// One way: the partner receives what `send` sends on the main thread; `receive` returns the sum.
template <class Queue, class Receive, class Send>
[[nodiscard]] contestant transfer(partner& other, std::size_t capacity, std::string name,
                                  std::uint64_t expected, Receive receive, Send send) {
    return {name, messages_a_run,
            [&other, name, expected, receive, send, queue = std::make_shared<Queue>(capacity)](std::size_t) {
                std::uint64_t sum = 0;
                other.together([&] { sum = receive(*queue); }, [&] { send(*queue); });
                require_equal(expected, sum, name, "one way");
                return sum;
            }};
}

/// Message by message, each made when it is sent.
template <class Queue, class T>
[[nodiscard]] contestant throughput(partner& other, std::size_t capacity) {
    return transfer<Queue>(
        other, capacity, Queue::name, expected_sum(messages_a_run, messages<T>::expected),
        [](Queue& queue) { return sum_of<T>(queue, messages_a_run); },
        [source = messages<T>{}](Queue& queue) {
            for (std::uint32_t i = 0; i < messages_a_run; ++i) queue.push(source.make(i));
        });
}

/// There and back: the partner returns each message on a second queue.
template <class Queue, class T>
[[nodiscard]] contestant round_trip(partner& other, std::size_t capacity) {
    return {Queue::name, trips_a_run,
            [&other, there = std::make_shared<Queue>(capacity), back = std::make_shared<Queue>(capacity),
             source = messages<T>{}](std::size_t) {
                std::uint64_t sum = 0;
                other.together(
                    [&] {
                        T message{};
                        for (std::uint32_t i = 0; i < trips_a_run; ++i) {
                            there->pop(message);
                            back->push(message);
                        }
                    },
                    [&] {
                        T message{};
                        for (std::uint32_t i = 0; i < trips_a_run; ++i) {
                            there->push(source.make(i));
                            back->pop(message);
                            sum += messages<T>::read(message);
                        }
                    });
                require_equal(expected_sum(trips_a_run, messages<T>::expected), sum, Queue::name,
                              "round trip");
                return sum;
            }};
}

/// What is sent in batches is made before, as a program that has a batch has it. Few enough to stay in the
/// cache: the queue is measured, not the memory behind it.
constexpr std::uint32_t made_messages = 640;
static_assert(messages_a_run % made_messages == 0 && made_messages % batch == 0);

template <class T>
[[nodiscard]] std::shared_ptr<std::vector<T> const> made_before() {
    std::vector<T> made;
    messages<T> const source;
    for (std::uint32_t i = 0; i < made_messages; ++i) made.push_back(source.make(i));
    return std::make_shared<std::vector<T> const>(std::move(made));
}
[[nodiscard]] std::uint64_t expected_of_made(std::uint64_t (*expected)(std::uint32_t)) {
    return messages_a_run / made_messages * expected_sum(made_messages, expected);
}

/// 64 messages a call.
template <class Queue, class T>
[[nodiscard]] contestant batches(partner& other, std::size_t capacity, std::string name) {
    return transfer<Queue>(
        other, capacity, std::move(name), expected_of_made(messages<T>::expected),
        [room = std::make_shared<std::array<T, batch>>()](Queue& queue) {
            std::uint64_t sum = 0;
            for (std::uint32_t left = messages_a_run; left != 0;) {
                std::size_t const n = queue.pop_n(std::span(*room).first(std::min<std::size_t>(left, batch)));
                for (std::size_t i = 0; i < n; ++i) sum += messages<T>::read((*room)[i]);
                left -= static_cast<std::uint32_t>(n);
            }
            return sum;
        },
        [source = made_before<T>()](Queue& queue) {
            for (std::uint32_t i = 0; i < messages_a_run; i += batch)
                queue.push_n(std::span<T const>(*source).subspan(i % made_messages, batch));
        });
}

/// The same messages one by one, from the same memory: what a batch is compared with.
template <class Queue, class T>
[[nodiscard]] contestant singles(partner& other, std::size_t capacity, std::string name) {
    return transfer<Queue>(
        other, capacity, std::move(name), expected_of_made(messages<T>::expected),
        [](Queue& queue) { return sum_of<T>(queue, messages_a_run); },
        [source = made_before<T>()](Queue& queue) {
            for (std::uint32_t i = 0; i < messages_a_run; i += made_messages)
                for (T const& message : *source) queue.push(message);
        });
}

// ---- The tables. ----

constexpr std::array<std::size_t, 3> capacities{64, 1'024, 65'536};

struct ratio_row {
    std::string cell;
    bool small;  // a payload of at most 64 bytes
    cell_result result;
};

[[nodiscard]] std::vector<std::string> peers_of(cell_result const& result) {
    std::vector<std::string> peers = result.names();
    std::erase(peers, std::string(ours<int>::name));
    return peers;
}

/// Against the peer that is fastest in this cell; the lecture's queue is no peer.
[[nodiscard]] double against_the_best(cell_result const& result) {
    double best = 0;
    for (auto const& peer : peers_of(result)) {
        if (peer == naive<int>::name) continue;
        double const ratio = result.ratio(peer, ours<int>::name).median;
        best = best == 0 ? ratio : std::min(best, ratio);
    }
    return best;
}

[[nodiscard]] nlohmann::json ratio_table(std::string const& id, std::string const& title,
                                         std::vector<ratio_row> const& rows) {
    auto const spread = [](summary const& s) {
        return number(s.median) + " (" + number(s.low) + " to " + number(s.high) + ")";
    };
    nlohmann::json columns = {"message, capacity", "cairn, ns"};
    for (auto const& peer : peers_of(rows.front().result)) columns.push_back("cairn vs " + peer + ", x");
    nlohmann::json cells = nlohmann::json::array();
    for (auto const& row : rows) {
        nlohmann::json line = {{{"text", row.cell}},
                               {{"text", number(row.result.of(ours<int>::name).median)}}};
        for (auto const& peer : peers_of(row.result))
            line.push_back({{"text", spread(row.result.ratio(peer, ours<int>::name))}});
        cells.push_back(line);
    }
    return {{"id", id}, {"title", title}, {"unit", ""}, {"columns", columns}, {"rows", cells}};
}

void add_to(grid& chart, double x, cell_result const& result) {
    for (auto const& name : result.names()) chart.add(x, name, result.of(name));
}

void declare_columns(grid& chart) {
    chart.column("cairn", "ours");
    chart.column("naive", "baseline");
    chart.column("boost::lockfree", "peer");
    chart.column("moodycamel", "peer");
}

struct measured {
    std::vector<ratio_row> one_way, there_and_back, in_batches;
    grid one_way_chart{"spsc-throughput", "One way, capacity 1,024", "ns per message", "bytes a message"};
    grid trip_chart{"spsc-round-trip", "There and back, capacity 1,024", "ns per round trip",
                    "bytes a message"};
    summary batch_gain;  // 8 bytes, capacity 1,024
};

/// All three measures of one type of message.
template <class T>
void measure_type(context const& ctx, partner& other, std::string const& name, measured& into) {
    for (std::size_t const capacity : capacities) {
        if (ctx.quick && capacity != 1'024) continue;
        std::string const cell = name + ", " + count(static_cast<double>(capacity));
        progress("spsc: " + cell);
        std::vector<contestant> one_way{throughput<ours<T>, T>(other, capacity),
                                        throughput<naive<T>, T>(other, capacity)};
        std::vector<contestant> trips{round_trip<ours<T>, T>(other, capacity),
                                      round_trip<naive<T>, T>(other, capacity)};
        std::vector<contestant> in_batches{batches<ours<T>, T>(other, capacity, "cairn"),
                                           singles<ours<T>, T>(other, capacity, "cairn, one by one")};
#if defined(CAIRN_BENCH_HAVE_BOOST)
        one_way.push_back(throughput<boost_queue<T>, T>(other, capacity));
        trips.push_back(round_trip<boost_queue<T>, T>(other, capacity));
        in_batches.push_back(batches<boost_queue<T>, T>(other, capacity, "boost::lockfree"));
#endif
#if defined(CAIRN_BENCH_HAVE_MOODYCAMEL)
        one_way.push_back(throughput<moodycamel_queue<T>, T>(other, capacity));
        trips.push_back(round_trip<moodycamel_queue<T>, T>(other, capacity));
#endif
        bool const small = sizeof(T) <= 64;
        into.one_way.push_back({cell, small, measure(ctx, one_way)});
        into.there_and_back.push_back({cell, small, measure(ctx, trips)});
        into.in_batches.push_back({cell, small, measure(ctx, in_batches)});
        if (capacity != 1'024) continue;
        if (sizeof(T) == 8)
            into.batch_gain = into.in_batches.back().result.ratio("cairn, one by one", "cairn");
        if constexpr (!std::is_same_v<T, std::string>) {
            add_to(into.one_way_chart, sizeof(T), into.one_way.back().result);
            add_to(into.trip_chart, sizeof(T), into.there_and_back.back().result);
        }
    }
}

/// Sends n messages, single and in batches by turns, and counts those that are not what was due.
template <class T>
[[nodiscard]] std::uint64_t wrong_of(partner& other, std::uint32_t n, std::string const& name) {
    progress("spsc: " + count(n) + " messages of " + name + ", each checked");
    spsc_queue<T> queue(1'000);
    messages<T> const source;
    std::uint64_t wrong = 0;
    std::uint32_t received = 0;
    other.together(
        [&] {
            T message{};
            std::array<T, 50> room;
            for (;;) {
                for (int i = 0; i < 100; ++i) {
                    if (!queue.pop(message)) return;
                    wrong += !messages<T>::whole(message, received++);
                }
                std::size_t const got = queue.try_pop_n(std::span(room));
                for (std::size_t i = 0; i < got; ++i) wrong += !messages<T>::whole(room[i], received++);
            }
        },
        [&] {
            std::vector<T> some(50);
            for (std::uint32_t i = 0; i < n;) {
                for (int k = 0; k < 100 && i < n; ++k) queue.push(source.make(i++));
                std::uint32_t const most = std::min<std::uint32_t>(50, n - i);
                for (std::uint32_t k = 0; k < most; ++k) some[k] = source.make(i + k);
                queue.push_n(std::span(some).first(most));
                i += most;
            }
            queue.close();
        });
    return wrong + (n - received);
}

void figures_of(measured const& all, std::uint64_t wrong, std::uint32_t sent, std::vector<figure>& figures) {
    auto const worst = [](std::vector<std::pair<double, std::string>> const& cells) {
        return *std::min_element(cells.begin(), cells.end());
    };
    std::vector<std::pair<double, std::string>> trips, ways;
    std::vector<double> gains, over_naive;
    for (auto const& row : all.there_and_back)
        if (row.small && against_the_best(row.result) != 0)
            trips.emplace_back(against_the_best(row.result), row.cell);
    for (auto const& row : all.one_way) {
        over_naive.push_back(row.result.ratio("naive", "cairn").median);
        if (double const gain = against_the_best(row.result); gain != 0) {
            ways.emplace_back(gain, row.cell);
            gains.push_back(gain);
        }
    }
    auto const cell = [](std::pair<double, std::string> const& found) {
        return number(found.first) + " x in the worst cell (" + found.second + ")";
    };
    if (!trips.empty()) {
        figures.push_back({"spsc round trip to 64 bytes, vs best peer", "at least 1.3 x less in every cell",
                           cell(worst(trips)), worst(trips).first >= 1.3});
        figures.push_back({"spsc one way vs best peer", "at least 1.0 x in every cell", cell(worst(ways)),
                           worst(ways).first >= 1.0});
        figures.push_back({"spsc one way vs best peer, geometric mean", "at least 1.3 x",
                           number(geometric_mean(gains)) + " x", geometric_mean(gains) >= 1.3});
    }
    figures.push_back({"spsc batches of 64, 8 bytes, vs single", "at least 3.00 x",
                       number(all.batch_gain.median) + " x (" + number(all.batch_gain.low) + " to " +
                           number(all.batch_gain.high) + ")",
                       all.batch_gain.median >= 3});
    figures.push_back({"spsc one way vs lecture's, geometric mean", "at least 4.00 x",
                       number(geometric_mean(over_naive)) + " x", geometric_mean(over_naive) >= 4});
    figures.push_back({"spsc lost, doubled, reordered or torn", "0 of " + count(sent) + " of each type",
                       count(static_cast<double>(wrong)), wrong == 0});
}

}  // namespace

answer question_spsc(context& ctx) {
    answer result;
    result.question = {{"id", "spsc"},
                       {"title", "How fast do messages go from one thread to another?"},
                       {"intro", nlohmann::json::array()},
                       {"tables", nlohmann::json::array()},
                       {"charts", nlohmann::json::array()},
                       {"sentences", nlohmann::json::array()}};
    if (!partner::possible()) {
        result.question["intro"].push_back("This machine has one core; two threads would take turns on it.");
        return result;
    }
    partner other;
    measured all;
    declare_columns(all.one_way_chart);
    declare_columns(all.trip_chart);
    measure_type<bytes<4>>(ctx, other, "4 bytes", all);
    measure_type<bytes<8>>(ctx, other, "8 bytes", all);
    measure_type<bytes<16>>(ctx, other, "16 bytes", all);
    measure_type<bytes<32>>(ctx, other, "32 bytes", all);
    measure_type<bytes<64>>(ctx, other, "64 bytes", all);
    measure_type<bytes<128>>(ctx, other, "128 bytes", all);
    measure_type<bytes<256>>(ctx, other, "256 bytes", all);
    measure_type<std::string>(ctx, other, "std::string", all);

    std::uint32_t const sent = ctx.quick ? 200'000 : 100'000'000;
    std::uint64_t const wrong =
        wrong_of<bytes<4>>(other, sent, "4 bytes") + wrong_of<bytes<8>>(other, sent, "8 bytes") +
        wrong_of<bytes<16>>(other, sent, "16 bytes") + wrong_of<bytes<32>>(other, sent, "32 bytes") +
        wrong_of<bytes<64>>(other, sent, "64 bytes") + wrong_of<bytes<128>>(other, sent, "128 bytes") +
        wrong_of<bytes<256>>(other, sent, "256 bytes") + wrong_of<std::string>(other, sent, "std::string");
    ctx.checked += 8 * std::uint64_t{sent};
    figures_of(all, wrong, sent, result.figures);

    auto& question = result.question;
    question["intro"] = {
        "One producer, one consumer, each on a core of its own. One way: how long until the next message "
        "follows. There and back: two queues, one message under way. Batches: 64 messages a call.",
        "Ratios above 1 say how many times faster cairn was: the median over the rounds, and its quartiles. "
        "All queues wait in the same way."};
    question["tables"] = {ratio_table("spsc-one-way", "One way, message by message", all.one_way),
                          ratio_table("spsc-there-and-back", "There and back", all.there_and_back),
                          ratio_table("spsc-batches", "One way, batches of 64", all.in_batches)};
    question["charts"] = {
        all.one_way_chart.chart(
            {"Up to 60 bytes a message and its count share a line or two, and a consumer that lags behind "
             "reads one count for several messages; above that the copies of the message count as well.",
             "The lecture's queue moves the line of its two counters at every operation of either side."}),
        all.trip_chart.chart(
            {"Here every message finds the other side waiting. A queue with counters moves the counter's "
             "line, "
             "then the message's; up to 60 bytes cairn's count travels with the message.",
             "The floor is the way of one line there and one back: some 100 ns on neighbouring cores, and "
             "up to a microsecond between distant ones."})};
    return result;
}

}  // namespace cairn::bench
