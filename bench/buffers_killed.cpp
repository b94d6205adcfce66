// SPDX-License-Identifier: MIT
// What is lost when the process is killed while events are on their way into a database?
#if defined(CAIRN_BENCH_HAVE_SQLITE)
#include <cairn/batcher.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include "buffer_runs.hpp"
#include "buffers.hpp"
#include "buffers_sqlite.hpp"

namespace cairn::bench {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;  // the same in both processes

constexpr std::size_t producers = 2, capacity = 8'000;
constexpr double events_a_ms = 100;

/// What the child writes down in memory that outlives it.
struct diary {
    std::array<std::atomic<std::uint64_t>, producers> accepted{}, confirmed{};
    std::atomic<bool> started{false};
    std::atomic<clock::rep> flush_began{0}, longest_flush{0};  // 0: none is under way
};
class shared_diary {
  public:
    shared_diary() {
        void* const memory =
            mmap(nullptr, sizeof(diary), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::runtime_error("no memory for two processes");
        diary_ = new (memory) diary;
    }
    shared_diary(shared_diary const&) = delete;
    shared_diary& operator=(shared_diary const&) = delete;
    ~shared_diary() { (void)munmap(diary_, sizeof(diary)); }
    [[nodiscard]] diary& operator*() const noexcept { return *diary_; }

  private:
    diary* diary_;
};

[[nodiscard]] clock::rep now() { return clock::now().time_since_epoch().count(); }

/// The child: pushes at a pace until it is killed.
[[noreturn]] void push_for_ever(diary& book, std::string const& path) {
    (void)alarm(60);  // it does not outlive a run that goes wrong
    auto to = sqlite<event<64>>(path, sinks::synchronous::normal);
    auto const insert = [&](std::span<event<64>> rows) {
        clock::rep const begin = now();
        book.flush_began = begin;
        to(rows);
        book.longest_flush = std::max(book.longest_flush.load(), now() - begin);
        book.flush_began = 0;
    };
    batch_options options;
    options.capacity = capacity;
    batch_hooks<event<64>> const hooks{.on_committed = [&book](std::uint32_t id, std::uint64_t sequence) {
        book.confirmed[id - 1] = sequence;
    }};
    batcher<event<64>, decltype(insert)> buffer(insert, options, hooks);
    std::vector<std::thread> threads;
    for (std::size_t p = 0; p < producers; ++p)
        threads.emplace_back([&book, p, lane = buffer.make_producer()]() mutable {
            auto due = clock::now();
            book.started = true;
            for (std::uint64_t i = 0;;) {
                std::this_thread::sleep_until(due += 1ms);
                for (double n = 0; n < events_a_ms / producers; ++n) {
                    if (lane.push(events<event<64>>::make(number_of(p, i))) != push_result::ok) _exit(1);
                    book.accepted[p] = ++i;
                }
            }
        });
    for (auto& one : threads) one.join();
    _exit(1);
}

struct outcome {
    std::uint64_t lost = 0, allowed = 0;
    bool in_order = true, all_confirmed = true;
};
[[nodiscard]] outcome kill_one(std::string const& path, std::chrono::microseconds life) {
    shared_diary const shared;
    diary& book = *shared;
    pid_t const child = fork();
    if (child == -1) throw std::runtime_error("no process");
    if (child == 0) {
        try {
            push_for_ever(book, path);
        } catch (std::exception const&) {
            _exit(1);
        }
    }
    while (!book.started) std::this_thread::sleep_for(100us);
    std::this_thread::sleep_for(life);
    (void)kill(child, SIGKILL);
    clock::rep const killed = now();
    int status = 0;
    (void)waitpid(child, &status, 0);
    if (!WIFSIGNALED(status)) throw std::runtime_error("the process that was to be killed ended by itself");

    outcome seen;
    std::array<std::uint64_t, producers> rows{};
    sinks::sqlite_connection connection(path, 5s);
    sqlite3_stmt* all = nullptr;
    if (sqlite3_prepare_v2(connection.handle(), "SELECT number FROM events ORDER BY rowid", -1, &all,
                           nullptr) != SQLITE_OK)
        connection.fail("read");
    while (sqlite3_step(all) == SQLITE_ROW) {
        auto const number = static_cast<std::uint64_t>(sqlite3_column_int64(all, 0));
        auto const p = static_cast<std::size_t>(number >> 48);
        seen.in_order &= p < producers && number == number_of(p, rows[p % producers]++);
    }
    (void)sqlite3_finalize(all);
    for (std::size_t p = 0; p < producers; ++p) {
        seen.all_confirmed &= rows[p] >= book.confirmed[p];
        std::uint64_t const accepted = book.accepted[p];
        seen.lost += accepted - std::min(accepted, rows[p]);
    }
    // rate x (linger + 2 flushes), and the millisecond at a time in which these producers push.
    clock::rep const began = book.flush_began;
    double const flush_ms =
        1e-6 * static_cast<double>(std::max(book.longest_flush.load(), began == 0 ? 0 : killed - began));
    seen.allowed = static_cast<std::uint64_t>(
        std::min(double{producers * capacity}, events_a_ms * (5 + 1 + 2 * flush_ms)));
    return seen;
}

}  // namespace

void buffers_killed(context& ctx, answer& result) {
    folder where;
    std::size_t const kills = ctx.quick ? 10 : 100;
    std::mt19937 random(1);
    std::vector<double> lost;
    std::size_t broken = 0, unconfirmed = 0, more = 0;
    for (std::size_t i = 0; i < kills; ++i) {
        progress("buffers: kill -9, " + std::to_string(i + 1));
        outcome const one = kill_one(where.file(), 10ms + std::chrono::microseconds(random() % 80'000));
        lost.push_back(static_cast<double>(one.lost));
        broken += !one.in_order;
        unconfirmed += !one.all_confirmed;
        more += one.lost > one.allowed;
    }
    std::string const of = " of " + std::to_string(kills) + " kills";
    result.figures.push_back(
        {"kill -9 at a random moment, 2 producers, 100,000/s into SQLite: rows with a gap, or "
         "a confirmed one missing",
         "0" + of, std::to_string(broken) + " and " + std::to_string(unconfirmed) + of,
         broken + unconfirmed == 0});
    result.figures.push_back({"… events lost: more than min(capacity, rate x (linger + 2 flushes))", "0" + of,
                              std::to_string(more) + of + "; lost median " + count(summarise(lost).median) +
                                  ", most " + count(*std::max_element(lost.begin(), lost.end())),
                              more == 0});
}

}  // namespace cairn::bench
#endif
