// SPDX-License-Identifier: MIT
// What the tests of all batchers share: two ways in with one face, events, sinks and a gate.
#pragma once

#include <cairn/batcher.hpp>
#include <cairn/shared_batcher.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace support {

using namespace std::chrono_literals;

template <class T>
using sink_of = std::function<void(std::span<T>, cairn::batch_info const&)>;

/// A lane for each caller of enter().
struct lanes {
    static constexpr bool shared = false;
    template <class T, class Clock = cairn::batch_clock>
    using of = cairn::batcher<T, sink_of<T>, Clock>;
    static auto enter(auto& batcher) { return batcher.make_producer(); }
};
/// The same buffer for all.
struct one_buffer {
    static constexpr bool shared = true;
    template <class T, class Clock = cairn::batch_clock>
    using of = cairn::shared_batcher<T, sink_of<T>, Clock>;
    template <class Batcher>
    struct way_in {
        Batcher* to;
        std::uint64_t last = 0;
        using T = typename Batcher::value_type;
        auto push(T event) { return to->push(std::move(event), &last); }
        auto try_push(T const& event) { return to->try_push(event); }
        auto try_push(T&& event) { return to->try_push(std::move(event)); }
        auto push_for(T const& event, std::chrono::nanoseconds limit) { return to->push_for(event, limit); }
        auto push_n(std::span<T const> events) { return to->push_n(events); }
        template <class... Args>
        auto emplace(Args&&... args) {
            return to->emplace(std::forward<Args>(args)...);
        }
        [[nodiscard]] std::uint64_t sequence() const { return last; }
    };
    template <class Batcher>
    static auto enter(Batcher& batcher) {
        return way_in<Batcher>{&batcher};
    }
};

struct event {
    std::uint32_t from = 0;
    std::uint32_t number = 0;
    friend bool operator==(event, event) = default;
};
/// Looks as a slot that a sink must not see again.
inline constexpr event gone{0xDEAD, 0xDEAD};

/// Holds up threads until it is opened.
class gate {
  public:
    void pass() {
        std::unique_lock lock(mutex_);
        ++arrived_;
        changed_.notify_all();
        changed_.wait(lock, [this] { return open_; });
    }
    void wait_for_arrivals(int n = 1) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return arrived_ >= n; });
    }
    void open() {
        std::lock_guard const lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int arrived_ = 0;
    bool open_ = false;
};

/// Waits for something that must come.
template <class Condition>
void wait_until(Condition condition) {
    while (!condition()) std::this_thread::sleep_for(100us);
}

/// A table that a sink fills: it knows whether each producer's rows are in order and without gap.
class table {
  public:
    void insert(std::span<event const> rows) {
        std::lock_guard const lock(mutex_);
        for (event const row : rows) {
            auto& last = last_[row.from];
            if (row.number <= last) ++repeated_;
            if (row.number > last + 1) ++skipped_;
            last = std::max(last, row.number);
            ++rows_;
        }
    }
    [[nodiscard]] std::size_t rows() const { return read(rows_); }
    [[nodiscard]] std::size_t repeated() const { return read(repeated_); }
    [[nodiscard]] std::size_t skipped() const { return read(skipped_); }
    [[nodiscard]] std::uint32_t last(std::uint32_t from) const {
        std::lock_guard const lock(mutex_);
        auto const at = last_.find(from);
        return at == last_.end() ? 0 : at->second;
    }

  private:
    [[nodiscard]] std::size_t read(std::size_t const& n) const {
        std::lock_guard const lock(mutex_);
        return n;
    }
    mutable std::mutex mutex_;
    std::map<std::uint32_t, std::uint32_t> last_;
    std::size_t rows_ = 0, repeated_ = 0, skipped_ = 0;
};

/// Whether the sums agree that every snapshot promises.
[[nodiscard]] inline bool balances(cairn::batch_stats const& s) {
    return s.offered == s.accepted + s.rejected + s.dropped_newest &&
           s.accepted == s.delivered + s.dropped_oldest + s.dead + s.abandoned + s.buffered;
}

[[nodiscard]] inline std::string what(std::exception_ptr const& error) {
    try {
        if (error) std::rethrow_exception(error);
    } catch (std::exception const& e) {
        return e.what();
    }
    return "none";
}

/// Runs work(i) in n threads at once.
template <class Work>
void in_threads(std::uint32_t n, Work work) {
    std::vector<std::thread> threads;
    for (std::uint32_t i = 0; i != n; ++i) threads.emplace_back([&work, i] { work(i); });
    for (std::thread& one : threads) one.join();
}

}  // namespace support
