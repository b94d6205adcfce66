// SPDX-License-Identifier: MIT
// How fast do events get through a buffer, if the sink costs nothing?
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "buffer_peers.hpp"
#include "buffer_runs.hpp"
#include "buffers.hpp"
#include "partner.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
constexpr auto our_name = "cairn";

/// A buffer, its producers, and its sink. It lives from round to round, for moodycamel's queue is three times
/// slower until it has the memory that it needs. But while others are measured it is quiet: a thread that
/// looks around, or spins, would take its part of their two cores.
template <template <class, class> class Buffer, class Event>
class flat_out {
    using buffer = Buffer<Event, counting_sink>;
    static constexpr bool can_rest = requires(buffer& b) { b.rest(true); };

  public:
    flat_out(partner& other, buffer_settings const& settings) : other_(other), settings_(settings) {}

    static constexpr std::size_t events_a_run = 200'000;
    void run() {
        auto const push = [this](std::size_t producer, std::size_t n) {
            for (std::size_t i = 0; i < n; ++i)
                sources_[producer].next([&](Event&& e) { buffer_->push(producer, std::move(e)); });
        };
        if (settings_.producers == 1)
            push(0, events_a_run);
        else
            other_.together([&] { push(1, events_a_run / 2); }, [&] { push(0, events_a_run / 2); });
        all_sent_ += events_a_run;
        buffer_->flush();
        // acquire: pairs with the release in receiver::take().
        until([this] { return to_.got.load(std::memory_order_acquire) == all_sent_; });
        if (to_.wrong != 0) throw std::runtime_error("events were lost, doubled or out of order");
    }
    void begin() {
        if (!buffer_)
            buffer_ = std::make_unique<buffer>(counting_sink{&to_}, settings_);
        else if constexpr (can_rest)
            buffer_->rest(false);
    }
    void end() {
        if constexpr (can_rest)
            buffer_->rest(true);
        else
            buffer_.reset();
    }

  private:
    partner& other_;
    buffer_settings settings_;
    receiver to_;
    std::array<event_source<Event>, 2> sources_{event_source<Event>(0), event_source<Event>(1)};
    std::uint64_t all_sent_ = 0;
    std::unique_ptr<buffer> buffer_;
};

/// Who is at work, and how to make that one quiet.
struct turn {
    void const* whose = nullptr;
    std::function<void()> end;
};

template <template <class, class> class Buffer, class Event>
void join(std::vector<contestant>& contestants, partner& other, buffer_settings const& settings,
          std::shared_ptr<turn> const& now) {
    auto const made = std::make_shared<flat_out<Buffer, Event>>(other, settings);
    contestants.push_back({Buffer<Event, counting_sink>::name, made->events_a_run,
                           [made](std::size_t window) {
                               made->run();
                               return std::uint64_t{window};
                           },
                           [made, now] {
                               if (now->whose == made.get()) return;
                               if (now->whose != nullptr) now->end();
                               *now = {made.get(), [made = made.get()] { made->end(); }};
                               made->begin();
                           }});
}

template <class Event>
[[nodiscard]] std::vector<contestant> contest(partner& other, std::size_t producers) {
    // A run is a multiple of a batch, so nobody has to linger for the last one.
    buffer_settings const settings{.batch = 1'000, .capacity = 4'000, .producers = producers, .linger = 5ms};
    auto const now = std::make_shared<turn>();
    std::vector<contestant> all;
    join<by_batcher, Event>(all, other, settings, now);
    join<by_shared_batcher, Event>(all, other, settings, now);
    join<by_deque, Event>(all, other, settings, now);
#if defined(CAIRN_BENCH_HAVE_CONCURRENTQUEUE)
    join<by_moodycamel, Event>(all, other, settings, now);
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
    join<by_tbb, Event>(all, other, settings, now);
#endif
#if defined(CAIRN_BENCH_HAVE_SPDLOG)
    join<by_spdlog, Event>(all, other, settings, now);
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST)
    if (producers == 1) join<by_boost, Event>(all, other, settings, now);
#endif
    join<by_single, Event>(all, other, settings, now);
    join<by_double, Event>(all, other, settings, now);
    join<by_copy_buffer, Event>(all, other, settings, now);
    return all;
}

struct flat_cell {
    std::string name;
    double bytes;
    std::size_t producers;
    cell_result result;
};

[[nodiscard]] std::vector<flat_cell> measure_flat_out(context const& ctx) {
    std::vector<flat_cell> cells;
    partner other;
    context at = ctx;
    at.rounds = std::min<std::size_t>(ctx.rounds, 11);  // some peers take 60 ms a run
    auto const measure_event = [&]<class Event>(std::type_identity<Event>, std::string const& name) {
        for (std::size_t const producers : {std::size_t{1}, std::size_t{2}}) {
            progress("buffers: flat out, " + name + ", producers: " + std::to_string(producers));
            cells.push_back({name, std::is_same_v<Event, std::string> ? 0.0 : double{sizeof(Event)},
                             producers, measure(at, contest<Event>(other, producers))});
        }
    };
    if (!ctx.quick) measure_event(std::type_identity<event<16>>{}, "16 bytes");
    measure_event(std::type_identity<event<64>>{}, "64 bytes");
    if (!ctx.quick) {
        measure_event(std::type_identity<event<256>>{}, "256 bytes");
        measure_event(std::type_identity<event<1'024>>{}, "1,024 bytes");
        measure_event(std::type_identity<std::string>{}, "std::string, 48");
    }
    return cells;
}

[[nodiscard]] nlohmann::json flat_table(std::vector<flat_cell> const& cells, std::size_t producers) {
    nlohmann::json columns = {"event", "cairn, ns"}, rows = nlohmann::json::array();
    for (flat_cell const& at : cells) {
        if (at.producers != producers) continue;
        nlohmann::json row = {{{"text", at.name}}, {{"text", number(at.result.of(our_name).median)}}};
        for (auto const& name : at.result.names()) {
            if (name == our_name) continue;
            if (rows.empty()) columns.push_back(name + ", x");
            summary const ratio = at.result.ratio(name, our_name);
            row.push_back({{"text", number(ratio.median)},
                           {"spread", number(ratio.low) + " to " + number(ratio.high)}});
        }
        rows.push_back(row);
    }
    return {{"id", "buffers-flat-out-" + std::to_string(producers)},
            {"title", "Flat out, a sink that only counts, producers: " + std::to_string(producers)},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}

[[nodiscard]] nlohmann::json flat_chart(std::vector<flat_cell> const& cells) {
    grid chart("buffers-flat-out", "Flat out, one producer, a sink that only counts", "ns per event",
               "bytes an event");
    for (flat_cell const& at : cells) {
        if (at.producers != 1 || at.bytes == 0) continue;
        if (&at == &cells.front())
            for (auto const& name : at.result.names())
                chart.column(name, name.starts_with(our_name)                               ? "ours"
                                   : name == "single" || name == "double" || name == "copy" ? "baseline"
                                                                                            : "peer");
        for (auto const& name : at.result.names()) chart.add(at.bytes, name, at.result.of(name));
    }
    return chart.chart(
        {"Each event crosses from the producer's core to the flusher's, but for \"single\", whose "
         "sink runs in the producer. A lane moves a line and a count; a shared queue also moves "
         "its lock or its counters at each event."});
}

void flat_figures(std::vector<flat_cell> const& cells, std::vector<figure>& figures) {
    struct promise {
        std::size_t producers;
        char const* peer;
        double times;
    };
    for (promise const& one :
         {promise{2, "moodycamel", 2}, promise{2, "deque + cv", 5}, promise{2, "tbb bounded", 8},
          promise{2, "spdlog's queue", 20}, promise{1, "moodycamel", 2.5}, promise{1, "deque + cv", 3},
          promise{1, "tbb bounded", 4}})
        for (flat_cell const& at : cells) {
            if (at.producers != one.producers || at.bytes != 64 || !at.result.has(one.peer)) continue;
            summary const ratio = at.result.ratio(one.peer, our_name);
            figures.push_back(
                {"batcher flat out, 64 bytes, producers: " + std::to_string(one.producers) + ", vs " +
                     one.peer,
                 "at least " + number(one.times) + " x",
                 number(ratio.median) + " x (" + number(ratio.low) + " to " + number(ratio.high) + ")",
                 ratio.median >= one.times});
        }
}

}  // namespace

void buffers_flat_out(context& ctx, answer& result) {
    auto const cells = measure_flat_out(ctx);
    result.question["tables"].push_back(flat_table(cells, 1));
    result.question["tables"].push_back(flat_table(cells, 2));
    result.question["charts"].push_back(flat_chart(cells));
    flat_figures(cells, result.figures);
}

}  // namespace cairn::bench
