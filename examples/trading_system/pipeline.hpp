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
// Thread safety: run() and all that looks at the books: one thread at a time, and the books only while run()
// does not run. A ticker's watcher may be another thread.
#pragma once

#include <cairn/concurrent_string_interner.hpp>
#include <cairn/hash.hpp>
#include <cairn/hash_ring.hpp>
#include <cairn/spsc_queue.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
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

[[nodiscard]] inline std::int64_t now() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

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
    /// The name of a stock. Any thread.
    [[nodiscard]] std::string_view name(cairn::symbol stock) const noexcept { return names_.view(stock); }
    [[nodiscard]] cairn::hash_ring<> const& ring() const noexcept { return ring_; }
    [[nodiscard]] std::size_t stocks() const noexcept { return names_.size(); }

  private:
    cairn::hash_ring<> ring_;
    cairn::concurrent_string_interner names_;  // read by who watches while the feed still names stocks
    std::vector<route> routes_ = std::vector<route>(65'536);
};

/// A thread and its books.
class worker {
  public:
    worker(std::size_t queue, std::size_t orders) : queue_(queue) {
        books_.reserve(orders);
        thread_ = std::thread([this] { work(); });
    }
    worker(worker const&) = delete;
    worker& operator=(worker const&) = delete;
    ~worker() {
        queue_.close();
        thread_.join();
    }

    /// For the feed thread. Waits while the queue is full; false if the worker has failed.
    bool push(book_message const& m) { return queue_.push(m); }
    /// Waits until all that was pushed is in the books. @throws what the worker failed of.
    void wait_for(std::uint64_t pushed) const {
        cairn::spin_then_yield policy;
        // acquire: pairs with the release in work(). Then the books, too, are as the worker left them.
        while (applied_.load(std::memory_order_acquire) < pushed) {
            if (failed_.load(std::memory_order_acquire)) std::rethrow_exception(failure_);
            (void)policy.wait();
        }
    }

    /// While nothing is under way.
    [[nodiscard]] order_books& books() noexcept { return books_; }
    [[nodiscard]] order_books const& books() const noexcept { return books_; }
    [[nodiscard]] histogram& times() noexcept { return times_; }

    /// For who watches.
    [[nodiscard]] ticker& tops() noexcept { return tops_; }

  private:
    void work() noexcept {
        try {
            cairn::spin_then_yield policy;
            while (true) {
                bool const last_look = queue_.is_closed();
                std::size_t const n = queue_.try_pop_n(batch_);
                tops_.publish_if_wanted(books_);
                if (n != 0) {
                    apply(std::span(batch_).first(n));
                    policy = {};
                } else if (last_look) {
                    return;
                } else {
                    (void)policy.wait();
                }
            }
        } catch (...) {
            failure_ = std::current_exception();
            failed_.store(true, std::memory_order_release);  // pairs with wait_for
            queue_.close();
        }
    }
    void apply(std::span<book_message const> batch) {
        // A miss of the cache costs as much as all else: so the misses of a batch are had side by side.
        for (book_message const& m : batch) books_.prefetch_place(m);
        for (book_message const& m : batch) books_.prefetch_order(m);
        for (book_message const& m : batch) {
            if (books_.apply(m) == outcome::applied) tops_.mark(m.locate);
            if (m.due != 0) times_.add(now() - m.due);
        }
        done_ += batch.size();
        applied_.store(done_, std::memory_order_release);  // pairs with wait_for
    }

    cairn::spsc_queue<book_message> queue_;
    std::array<book_message, 64> batch_;
    order_books books_;
    histogram times_;
    ticker tops_;
    std::uint64_t done_ = 0;
    alignas(128) std::atomic<std::uint64_t> applied_{0};
    std::atomic<bool> failed_{false};
    std::exception_ptr failure_;
    std::thread thread_;
};

struct pipeline_options {
    std::size_t workers = 1;
    std::size_t queue = 4'096;      ///< messages between the feed and a worker
    std::size_t orders = 500'000;  ///< that each worker has room for at once; more allocate
};

/// What came of one run.
struct run_result {
    std::uint64_t frames = 0;    ///< read
    std::uint64_t skipped = 0;   ///< of types that no book needs
    std::uint64_t routed = 0;    ///< to a worker
    std::uint64_t unrouted = 0;  ///< of a locate that the feed had not named
    std::uint64_t bytes = 0;
    std::int64_t nanoseconds = 0;            ///< from the first frame to the last one in its book
    std::int64_t latest = 0;                 ///< by so much, at most, the feed thread took a frame up late
    std::optional<itch::feed_error> error{};  ///< where the feed was wrong; what came before is in the books

    [[nodiscard]] double per_second() const noexcept {
        return static_cast<double>(frames) * 1e9 / static_cast<double>(std::max<std::int64_t>(nanoseconds, 1));
    }
};

class pipeline {
  public:
    explicit pipeline(pipeline_options const& options) : router_(options.workers) {
        for (std::size_t i = 0; i < options.workers; ++i) {
            workers_.push_back(std::make_unique<worker>(options.queue, options.orders));
            pushed_.push_back(0);
        }
    }

    /// Reads the feed to its end, or to the first wrong frame, and returns when the books have it all.
    /// @param rate  frames a second, each timed from when it was due; 0: as fast as it goes, untimed.
    /// @throws std::bad_alloc of a worker; the books then lack what came after.
    run_result run(std::span<std::byte const> feed, double rate = 0) {
        run_result result;
        itch::feed_reader reader(feed);
        auto const visit = [&](auto const& m) { take(m, result); };
        std::int64_t const begin = now();
        if (rate == 0) {
            while (reader.next(visit)) {
            }
        } else {
            read_in_time(reader, visit, begin, 1e9 / rate, result);
        }
        for (std::size_t i = 0; i < workers_.size(); ++i) workers_[i]->wait_for(pushed_[i]);
        result.nanoseconds = now() - begin;
        result.frames = reader.frames();
        result.skipped = reader.skipped();
        result.bytes = reader.offset();
        result.error = reader.error();
        due_ = 0;
        return result;
    }

    /// The end of the day: empty books, which keep their memory.
    void clear() noexcept {
        for (auto const& one : workers_) one->books().clear();
    }

    [[nodiscard]] stock_router const& router() const noexcept { return router_; }
    [[nodiscard]] std::span<std::unique_ptr<worker> const> workers() const noexcept { return workers_; }

  private:
    /// Frame i is due at begin + i * interval, and is timed from then, however late it is taken up.
    template <class Visit>
    void read_in_time(itch::feed_reader& reader, Visit visit, std::int64_t begin, double interval,
                      run_result& result) {
        do {
            due_ = begin + static_cast<std::int64_t>(static_cast<double>(reader.frames()) * interval);
            std::int64_t at = now();
            while (at < due_) at = now();
            result.latest = std::max(result.latest, at - due_);
        } while (reader.next(visit));
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
        pushed_[to.worker] += workers_[to.worker]->push(out);
        ++result.routed;
    }

    stock_router router_;
    std::vector<std::unique_ptr<worker>> workers_;
    std::vector<std::uint64_t> pushed_;
    std::int64_t due_ = 0;
};

}  // namespace trading
