// SPDX-License-Identifier: MIT
// From the bytes of the feed to the books, over threads that share nothing but queues.
//
//     feed thread: parse ─▶ route ─┬─ spsc_queue ─▶ worker: books ─▶ ticker ─┐
//                                  └─ spsc_queue ─▶ worker: books ─▶ ticker ─┴─▶ who watches, when it asks
//
// All messages of a stock go to one worker, in the order of the feed: so each book is right, and no book has
// a lock. Which worker is asked of a ring, once for each stock, by its name. With another worker, the ring
// moves only the stocks that it takes; and a name finds its worker in any process, on any day, although the
// locates are new each morning.
//
// Thread safety: one thread at a time; but stop(), the names of the router, and the watcher's
// side of a ticker may be used by another one while a run is under way.
#pragma once

#include <cairn/concurrent_string_interner.hpp>
#include <cairn/hash.hpp>
#include <cairn/hash_ring.hpp>
#include <cairn/spsc_queue.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "book_message.hpp"
#include "itch.hpp"
#include "latency.hpp"
#include "order_book.hpp"
#include "ticker.hpp"

namespace trading {

/// Which worker keeps the book of a stock. For the feed thread.
class stock_router {
  public:
    /// @throws std::invalid_argument for no workers.
    explicit stock_router(std::size_t workers) {
        if (workers == 0) throw std::invalid_argument("stock_router: 0 workers");
        for (std::size_t i = 0; i < workers; ++i) ring_.add("worker-" + std::to_string(i));
    }

    struct route {
        cairn::symbol stock;  ///< none: the feed has not named this locate yet
        std::uint16_t worker = 0;
    };
    /// What a locate stands for. O(1), one load.
    [[nodiscard]] route find(std::uint16_t locate) const noexcept { return routes_[locate]; }
    /// This locate stands for this stock, unless it stands for one already: a book must not change its worker
    /// in the middle of a day. Asks the interner and the ring, once for each locate.
    route learn(std::uint16_t locate, itch::stock_name const& name) {
        route& known = routes_[locate];
        if (!known.stock.has_value()) {
            std::string_view const letters = itch::trim(name);
            known = {names_.intern(letters), static_cast<std::uint16_t>(ring_.find_index(letters))};
        }
        return known;
    }
    /// Forgets what the locates stand for: the next day has others.
    void clear() noexcept { std::ranges::fill(routes_, route{}); }
    /// The name of a stock. Any thread.
    [[nodiscard]] std::string_view name(cairn::symbol stock) const noexcept { return names_.view(stock); }
    [[nodiscard]] cairn::hash_ring<> const& ring() const noexcept { return ring_; }
    [[nodiscard]] std::size_t stocks() const noexcept { return names_.size(); }

  private:
    cairn::hash_ring<> ring_;
    cairn::concurrent_string_interner names_;  // read by who watches while the feed still names stocks
    std::vector<route> routes_ = std::vector<route>(65'536);
};

/// Books, and the thread that keeps them while the feed runs.
class worker {
  public:
    worker(std::size_t queue, std::size_t orders) : capacity_(queue) { books_.reserve(orders); }
    worker(worker const&) = delete;
    worker& operator=(worker const&) = delete;
    ~worker() { stop(); }

    /// Starts the thread. @param timed  how many messages there will be at most, if they are timed, else 0.
    void start(std::size_t timed) {
        samples_.assign(timed, {});  // written once, so that no page is new when it is timed
        samples_.clear();
        core_.clear(timed / 10);
        failure_ = nullptr;
        queue_.emplace(capacity_);
        thread_ = std::thread(timed == 0 ? &worker::work<false> : &worker::work<true>, this);
    }
    /// Waits while the queue is full. False if the thread has failed.
    bool push(book_message const& m) { return queue_->push(m); }
    /// Waits until all that was pushed is in the books, or the thread has failed, and ends it.
    void stop() noexcept {
        if (!thread_.joinable()) return;
        queue_->close();
        thread_.join();
    }
    /// @throws what the thread failed of, if it did.
    void check() const {
        if (failure_ != nullptr) std::rethrow_exception(failure_);
    }

    // ---- While the thread does not run. ----

    /// The end of the day. Who watches is told of each book that it is empty now.
    void clear() noexcept {
        books_.clear();
        for (std::size_t i = 0; i < books_.books().size(); ++i)
            if (books_.books()[i] != nullptr) tops_.mark(static_cast<std::uint16_t>(i));
    }
    [[nodiscard]] order_books const& books() const noexcept { return books_; }
    /// When timed messages were due and when they were in their book, in order; and when the core was taken.
    [[nodiscard]] std::span<span_of_time const> samples() const noexcept { return samples_; }
    [[nodiscard]] std::span<span_of_time const> core_taken() const noexcept { return core_.taken(); }

    /// For who watches.
    [[nodiscard]] ticker& tops() noexcept { return tops_; }

  private:
    template <bool Timed>
    void work() noexcept {
        try {
            cairn::spin_then_yield policy;
            tops_.become_worker();
            core_.work_until(now());
            while (true) {
                bool const last_look = queue_->is_closed();  // before the queue is found empty
                std::size_t const n = queue_->try_pop_n(batch_);
                if constexpr (Timed) core_.look(now());
                if (n != 0) {
                    apply<Timed>(std::span(batch_).first(n));
                    policy = {};
                } else if (last_look) {
                    break;
                } else {
                    (void)policy.wait();
                }
                if (tops_.is_wanted()) {
                    tops_.publish(books_);
                    core_.work_until(now());
                }
            }
            tops_.publish(books_);
        } catch (...) {
            failure_ = std::current_exception();
            queue_->close();
        }
    }
    template <bool Timed>
    void apply(std::span<book_message const> batch) {
        // A miss of the cache costs as much as all else: so the misses of a batch are had side by side.
        for (book_message const& m : batch) books_.prefetch_place(m);
        for (book_message const& m : batch) books_.prefetch_order(m);
        for (book_message const& m : batch) {
            if (books_.apply(m) == outcome::applied) tops_.mark(m.locate);
            if constexpr (Timed) {
                std::int64_t const done = now();
                samples_.push_back({m.due, done});
                core_.work_until(done);
            }
        }
    }

    std::size_t capacity_;
    std::optional<cairn::spsc_queue<book_message>> queue_;  // of this run
    std::array<book_message, 64> batch_;
    order_books books_;
    ticker tops_;
    std::vector<span_of_time> samples_;
    core_watch core_;
    std::exception_ptr failure_;
    std::thread thread_;
};

struct pipeline_options {
    std::size_t workers = 1;
    std::size_t queue = 4'096;     ///< messages between the feed and a worker
    std::size_t orders = 500'000;  ///< that each worker has room for at once; more allocate
};

/// What came of one run.
struct run_result {
    std::uint64_t frames = 0;      ///< read
    std::uint64_t skipped = 0;     ///< of types that no book needs
    std::uint64_t routed = 0;      ///< to a worker
    std::uint64_t unrouted = 0;    ///< of a locate that the feed had not named
    std::uint64_t offset = 0;      ///< where the next frame begins, in bytes from the start of the feed
    std::int64_t nanoseconds = 0;  ///< from the first frame to the last one in its book
    std::optional<itch::feed_error> error{};  ///< where the feed was wrong; what came before is in the books

    [[nodiscard]] double per_second() const noexcept {
        return static_cast<double>(frames) * 1e9 /
               static_cast<double>(std::max<std::int64_t>(nanoseconds, 1));
    }
};

/// A part of a feed: so many frames from that byte, where one begins.
struct stretch {
    std::uint64_t from = 0;
    std::uint64_t frames = ~std::uint64_t{0};
};

class pipeline {
  public:
    explicit pipeline(pipeline_options const& options) : router_(options.workers) {
        for (std::size_t i = 0; i < options.workers; ++i)
            workers_.push_back(std::make_unique<worker>(options.queue, options.orders));
    }

    /// Reads the feed to its end, or to the first wrong frame, as fast as it goes, and returns when the books
    /// have it all. @throws std::bad_alloc of a worker, std::system_error if there is no thread.
    run_result run(std::span<std::byte const> feed) {
        itch::feed_reader reader(feed);
        return run(reader, 0, [&](auto visit, std::int64_t) {
            while (!stopped() && reader.next(visit)) {
            }
        });
    }
    /// The same with so many frames a second. Frame i is due at begin + i / rate, and is timed from then,
    /// however late it is taken up: whoever starts the clock when he gets to it measures his own excuse.
    /// Takes 16 bytes for each frame and worker: run a feed that is too long for that stretch by stretch,
    /// each with a schedule of its own.
    run_result run_in_time(std::span<std::byte const> feed, double rate, latencies& times,
                           stretch part = {}) {
        itch::feed_reader reader(feed, static_cast<std::size_t>(part.from));
        auto const at_most = static_cast<std::size_t>(
            std::min(part.frames, (feed.size() - part.from) / (2 + itch::order_deleted::size)));
        core_watch core;
        core.clear(at_most / 10);
        run_result const result = run(reader, at_most, [&](auto visit, std::int64_t begin) {
            while (reader.frames() < part.frames) {
                due_ = begin + static_cast<std::int64_t>(static_cast<double>(reader.frames()) * 1e9 / rate);
                std::int64_t at = now();
                for (core.work_until(at); at < due_ && !stopped(); core.look(at)) at = now();
                if (stopped() || !reader.next(visit)) break;
            }
        });
        for (auto const& one : workers_) sort_out(one->samples(), core.taken(), one->core_taken(), times);
        return result;
    }

    /// Any thread: the run that is under way, and those to come, end after the frame at hand. relaxed: the
    /// flag says nothing of other memory.
    void stop() noexcept { stop_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] bool stopped() const noexcept { return stop_.load(std::memory_order_relaxed); }

    /// The end of the day: books without orders, which keep their memory.
    void clear() noexcept {
        for (auto const& one : workers_) one->clear();
        router_.clear();
    }

    [[nodiscard]] stock_router const& router() const noexcept { return router_; }
    [[nodiscard]] std::span<std::unique_ptr<worker> const> workers() const noexcept { return workers_; }

  private:
    /// Stops the workers at its end, also if that is an exception.
    struct all_stopped {
        std::vector<std::unique_ptr<worker>>& workers;
        ~all_stopped() {
            for (auto const& one : workers) one->stop();
        }
    };

    template <class Read>
    run_result run(itch::feed_reader const& reader, std::size_t timed, Read read) {
        run_result result;
        std::int64_t begin = 0;
        {
            all_stopped const at_the_end{workers_};
            for (auto const& one : workers_) one->start(timed);
            begin = now();
            read([&](auto const& m) { take(m, result); }, begin);
        }
        result.nanoseconds = now() - begin;
        result.frames = reader.frames();
        result.skipped = reader.skipped();
        result.offset = reader.offset();
        result.error = reader.error();
        for (auto const& one : workers_) one->check();
        return result;
    }

    void take(itch::system_event const&, run_result&) noexcept {}
    void take(itch::stock_directory const& m, run_result&) { router_.learn(m.head.locate, m.stock); }
    template <class Message>
    void take(Message const& m, run_result& result) {
        stock_router::route to = router_.find(m.head.locate);
        if (!to.stock.has_value()) [[unlikely]] {
            if constexpr (requires { m.stock; }) {
                to = router_.learn(m.head.locate, m.stock);
            } else {
                ++result.unrouted;
                return;
            }
        }
        book_message out = translate(m);
        out.stock = to.stock;
        out.due = due_;
        result.routed += workers_[to.worker]->push(out);
    }

    stock_router router_;
    std::vector<std::unique_ptr<worker>> workers_;
    std::atomic<bool> stop_{false};
    std::int64_t due_ = 0;
};

}  // namespace trading
