// SPDX-License-Identifier: MIT
// Is anything lost, doubled or out of order, when the sink fails, or the process is killed?
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

#include <cairn/batcher.hpp>

#include "buffer_runs.hpp"
#include "buffers.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;

/// Fails in 30 % of its calls: before it has taken the batch, or after, so that the batch comes again.
struct failing_sink {
    std::vector<std::vector<bool>>* taken;  // by producer and number: the key of an idempotent table
    std::uint64_t* doubled;
    std::uint64_t* out_of_order;
    std::vector<std::uint64_t>* last;
    std::uint64_t random = 88'172'645'463'325'252U;

    void operator()(std::span<event<16>> batch) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        auto const chance = random % 100;
        if (chance < 15) throw std::runtime_error("before the commit");
        bool const again = contains(batch.front());
        for (auto const& e : batch) {
            auto const producer = static_cast<std::size_t>(e.number >> 48);
            std::uint64_t const i = e.number & ((std::uint64_t{1} << 48) - 1);
            if (contains(e)) {
                *doubled += !again;  // a batch that comes again comes whole
                continue;
            }
            (*taken)[producer][i] = true;
            *out_of_order += i != (*last)[producer]++;
        }
        if (chance < 30) throw std::runtime_error("after the commit");
    }
    [[nodiscard]] bool contains(event<16> const& e) const {
        return (*taken)[static_cast<std::size_t>(e.number >> 48)][e.number & ((std::uint64_t{1} << 48) - 1)];
    }
};
struct failing_result {
    std::uint64_t sent, lost, doubled, out_of_order, retries;
};
[[nodiscard]] failing_result run_failing(context const& ctx) {
    progress("buffers: a sink that fails");
    constexpr std::size_t producers = 4;
    std::uint64_t const each = ctx.quick ? 50'000 : 2'500'000;
    std::vector<std::vector<bool>> taken(producers, std::vector<bool>(each));
    std::vector<std::uint64_t> last(producers);
    failing_result result{producers * each, 0, 0, 0, 0};
    {
        batch_options options;
        options.retry.attempts = 1'000'000;  // never a dead letter
        options.retry.first = 10us;
        options.retry.longest = 100us;
        options.linger = 0ns;
        batcher<event<16>, failing_sink> buffer(
            failing_sink{&taken, &result.doubled, &result.out_of_order, &last}, options);
        std::vector<std::thread> threads;
        for (std::size_t p = 0; p < producers; ++p)
            threads.emplace_back([&, p, lane = buffer.make_producer()]() mutable {
                for (std::uint64_t i = 0; i < each; ++i)
                    if (lane.push(events<event<16>>::make(number_of(p, i))) != push_result::ok)
                        std::terminate();
            });
        for (auto& one : threads) one.join();
        (void)buffer.close();
        result.retries = buffer.stats().retries;
    }
    for (auto const& one : taken)
        result.lost += static_cast<std::uint64_t>(std::count(one.begin(), one.end(), false));
    return result;
}

}  // namespace

void buffers_failing(context& ctx, answer& result) {
    failing_result const failing = run_failing(ctx);
    ctx.checked += failing.sent;
    result.figures.push_back({"a sink that fails in 30 % of calls, 4 producers: lost, doubled, out of order",
                              "0 of " + count(static_cast<double>(failing.sent)),
                              count(static_cast<double>(failing.lost)) + ", " +
                                  count(static_cast<double>(failing.doubled)) + ", " +
                                  count(static_cast<double>(failing.out_of_order)) + " after " +
                                  count(static_cast<double>(failing.retries)) + " retries",
                              failing.lost + failing.doubled + failing.out_of_order == 0});
}

}  // namespace cairn::bench
