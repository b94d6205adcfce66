// SPDX-License-Identifier: MIT
// Everything that can stand between producers and a slow sink, with one face: cairn's batchers, the three
// buffers of the lecture, and queues with a thread behind them that gathers what comes out.
//
// The face is a class template Buffer<Event, Sink> with
//     Buffer(Sink, buffer_settings)
//     void push(std::size_t producer, Event&&)     waits while there is no room
//     void flush()                                 all that was pushed before is on its way to the sink
// and its destructor delivers all. What has a thread that looks around while nothing comes has rest() too.
#pragma once

#include <cairn/batch_buffer.hpp>
#include <cairn/batcher.hpp>
#include <cairn/shared_batcher.hpp>
#include <cairn/spsc_queue.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#if defined(CAIRN_BENCH_HAVE_BOOST)
#include <boost/lockfree/spsc_queue.hpp>
#endif
#if defined(CAIRN_BENCH_HAVE_CONCURRENTQUEUE)
#include <concurrentqueue/blockingconcurrentqueue.h>
#endif
#if defined(CAIRN_BENCH_HAVE_SPDLOG)
#define SPDLOG_NOEXCEPT noexcept  // or spdlog/common.h, which needs fmt
#include <spdlog/details/mpmc_blocking_q.h>
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
#include <tbb/concurrent_queue.h>
#endif

namespace cairn::bench {

struct buffer_settings {
    std::size_t batch = 1'000;
    std::size_t capacity = 8'000;  // in all: producers that have lanes share it
    std::size_t producers = 1;
    std::chrono::nanoseconds linger{0};
};

// ---- cairn's, and the lecture's. ----

template <class Event, class Sink>
class by_batcher {
  public:
    static constexpr auto name = "cairn";
    by_batcher(Sink sink, buffer_settings const& settings) : batcher_(std::move(sink), options(settings)) {
        for (std::size_t i = 0; i < settings.producers; ++i) lanes_.push_back(batcher_.make_producer());
    }
    void push(std::size_t producer, Event&& event) {
        if (lanes_[producer].push(std::move(event)) != push_result::ok)
            throw std::runtime_error("cairn::batcher refused an event");
    }
    void flush() {
        if (batcher_.flush() != flush_result::ok) throw std::runtime_error("cairn::batcher did not flush");
    }
    /// Pushes that had to wait.
    [[nodiscard]] std::uint64_t blocked() const { return batcher_.stats().blocked; }
    [[nodiscard]] static batch_options options(buffer_settings const& settings) {
        batch_options chosen;
        chosen.max_batch = settings.batch;
        chosen.capacity = settings.capacity / settings.producers;
        chosen.linger = settings.linger;
        return chosen;
    }

  private:
    batcher<Event, Sink> batcher_;
    std::vector<typename batcher<Event, Sink>::producer> lanes_;
};

template <class Event, class Sink>
class by_shared_batcher {
  public:
    static constexpr auto name = "cairn shared";
    by_shared_batcher(Sink sink, buffer_settings const& settings)
        : batcher_(std::move(sink), options(settings)) {}
    void push(std::size_t, Event&& event) {
        if (batcher_.push(std::move(event)) != push_result::ok)
            throw std::runtime_error("cairn::shared_batcher refused an event");
    }
    void flush() {
        if (batcher_.flush() != flush_result::ok)
            throw std::runtime_error("cairn::shared_batcher did not flush");
    }

  private:
    [[nodiscard]] static batch_options options(buffer_settings settings) {
        settings.producers = 1;
        return by_batcher<Event, Sink>::options(settings);
    }
    shared_batcher<Event, Sink> batcher_;
};

/// One of batch_buffer.hpp. They have no linger, and their capacity is one or two batches.
template <class Event, class Buffer>
class by_buffer {
  public:
    template <class Sink>
    by_buffer(Sink sink, buffer_settings const& settings) : buffer_(std::move(sink), settings.batch) {}
    void push(std::size_t, Event&& event) {
        if (!buffer_.push(std::move(event))) throw std::runtime_error("a buffer refused an event");
    }
    void flush() { buffer_.flush(); }

  private:
    Buffer buffer_;
};
template <class Event, class Sink>
struct by_single : by_buffer<Event, single_buffer<Event, Sink>> {
    static constexpr auto name = "single";
    using by_buffer<Event, single_buffer<Event, Sink>>::by_buffer;
};
template <class Event, class Sink>
struct by_double : by_buffer<Event, double_buffer<Event, Sink>> {
    static constexpr auto name = "double";
    using by_buffer<Event, double_buffer<Event, Sink>>::by_buffer;
};
template <class Event, class Sink>
struct by_copy_buffer : by_buffer<Event, copy_buffer<Event, Sink>> {
    static constexpr auto name = "copy";
    using by_buffer<Event, copy_buffer<Event, Sink>>::by_buffer;
};

// ---- Queues, and a thread that gathers. ----

/// Looks for a while, then sleeps 50 µs between two looks: for queues that cannot wait for a limited time.
class patience {
  public:
    void wait() {
        if (++looks_ < 100)
            detail::relax();
        else
            std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    void reset() noexcept { looks_ = 0; }

  private:
    int looks_ = 0;
};

/// @tparam Queue  Queue(capacity, producers); push(producer, Event&&); std::size_t pop(Event*, n): up to n
///                events, after a short wait if there are none.
template <class Event, class Sink, class Queue>
class by_queue {
  public:
    by_queue(Sink sink, buffer_settings const& settings)
        : settings_(settings),
          sink_(std::move(sink)),
          queue_(settings.capacity, settings.producers),
          thread_([this] { gather(); }) {}
    by_queue(by_queue const&) = delete;
    by_queue& operator=(by_queue const&) = delete;
    ~by_queue() {
        // release: pairs with the acquire in gather(): all that was pushed is seen.
        ended_.store(true, std::memory_order_release);
        rest(false);
        thread_.join();
    }
    void push(std::size_t producer, Event&& event) { queue_.push(producer, std::move(event)); }
    void flush() {}  // it goes by itself
    /// Lets the thread sleep until the next rest(false), so that it does not disturb others' runs. Nothing
    /// may be pushed meanwhile.
    void rest(bool rests) {
        // release: pairs with the acquire in gather(), though nothing comes with it.
        resting_.store(rests, std::memory_order_release);
        if (!rests) resting_.notify_one();
    }

  private:
    void gather() {
        using clock = std::chrono::steady_clock;
        std::vector<Event> batch(settings_.batch);
        std::size_t have = 0;
        clock::time_point first{};
        for (;;) {
            bool const last = ended_.load(std::memory_order_acquire);
            std::size_t const got = queue_.pop(batch.data() + have, batch.size() - have);
            bool const lingers = settings_.linger.count() != 0;
            if (lingers && have == 0 && got != 0) first = clock::now();
            have += got;
            if (have == batch.size() ||
                (have != 0 && (last || !lingers || clock::now() - first >= settings_.linger))) {
                sink_(std::span<Event>(batch).first(have));
                have = 0;
            }
            if (last && got == 0 && have == 0) return;
            if (have == 0) resting_.wait(true, std::memory_order_acquire);
        }
    }

    buffer_settings const settings_;
    Sink sink_;
    Queue queue_;
    std::atomic<bool> ended_{false}, resting_{false};
    std::thread thread_;
};

/// What is written first: a deque, a mutex, and two condition variables.
template <class Event>
class deque_queue {
  public:
    deque_queue(std::size_t capacity, std::size_t) : capacity_(capacity) {}
    void push(std::size_t, Event&& event) {
        {
            std::unique_lock lock(mutex_);
            room_.wait(lock, [this] { return events_.size() < capacity_; });
            events_.push_back(std::move(event));
        }
        some_.notify_one();
    }
    [[nodiscard]] std::size_t pop(Event* to, std::size_t n) {
        std::unique_lock lock(mutex_);
        some_.wait_for(lock, std::chrono::milliseconds(1), [this] { return !events_.empty(); });
        std::size_t const got = std::min(n, events_.size());
        std::move(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(got), to);
        events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(got));
        lock.unlock();
        if (got != 0) room_.notify_all();
        return got;
    }

  private:
    std::size_t const capacity_;
    std::mutex mutex_;
    std::condition_variable some_, room_;
    std::deque<Event> events_;
};
template <class Event, class Sink>
struct by_deque : by_queue<Event, Sink, deque_queue<Event>> {
    static constexpr auto name = "deque + cv";
    using by_queue<Event, Sink, deque_queue<Event>>::by_queue;
};

#if defined(CAIRN_BENCH_HAVE_CONCURRENTQUEUE)
/// With a token for each producer and for the consumer, and in bulk: its fastest way. It has no bound.
template <class Event>
class moodycamel_many {
  public:
    moodycamel_many(std::size_t capacity, std::size_t producers)
        : queue_(capacity, producers, 0), consumer_(queue_) {
        for (std::size_t i = 0; i < producers; ++i) producers_.emplace_back(queue_);
    }
    void push(std::size_t producer, Event&& event) {
        if (!queue_.enqueue(producers_[producer], std::move(event))) throw std::bad_alloc();
    }
    [[nodiscard]] std::size_t pop(Event* to, std::size_t n) {
        return queue_.wait_dequeue_bulk_timed(consumer_, to, n, std::chrono::milliseconds(1));
    }

  private:
    moodycamel::BlockingConcurrentQueue<Event> queue_;
    moodycamel::ConsumerToken consumer_;
    std::deque<moodycamel::ProducerToken> producers_;
};
template <class Event, class Sink>
struct by_moodycamel : by_queue<Event, Sink, moodycamel_many<Event>> {
    static constexpr auto name = "moodycamel";
    using by_queue<Event, Sink, moodycamel_many<Event>>::by_queue;
};
#endif

#if defined(CAIRN_BENCH_HAVE_TBB)
template <class Event>
class tbb_queue {
  public:
    tbb_queue(std::size_t capacity, std::size_t) {
        queue_.set_capacity(static_cast<std::ptrdiff_t>(capacity));
    }
    void push(std::size_t, Event&& event) { queue_.push(std::move(event)); }
    [[nodiscard]] std::size_t pop(Event* to, std::size_t n) {
        std::size_t got = 0;
        while (got < n && queue_.try_pop(to[got])) ++got;
        if (got == 0)
            patience_.wait();
        else
            patience_.reset();
        return got;
    }

  private:
    tbb::concurrent_bounded_queue<Event> queue_;
    patience patience_;
};
template <class Event, class Sink>
struct by_tbb : by_queue<Event, Sink, tbb_queue<Event>> {
    static constexpr auto name = "tbb bounded";
    using by_queue<Event, Sink, tbb_queue<Event>>::by_queue;
};
#endif

#if defined(CAIRN_BENCH_HAVE_SPDLOG)
template <class Event>
class spdlog_queue {
  public:
    spdlog_queue(std::size_t capacity, std::size_t) : queue_(capacity) {}
    void push(std::size_t, Event&& event) { queue_.enqueue(std::move(event)); }
    [[nodiscard]] std::size_t pop(Event* to, std::size_t n) {
        std::size_t got = 0;
        while (got < n && queue_.dequeue_for(to[got], std::chrono::milliseconds(got == 0 ? 1 : 0))) ++got;
        return got;
    }

  private:
    spdlog::details::mpmc_blocking_queue<Event> queue_;
};
template <class Event, class Sink>
struct by_spdlog : by_queue<Event, Sink, spdlog_queue<Event>> {
    static constexpr auto name = "spdlog's queue";
    using by_queue<Event, Sink, spdlog_queue<Event>>::by_queue;
};
#endif

#if defined(CAIRN_BENCH_HAVE_BOOST)
/// For one producer.
template <class Event>
class boost_spsc {
  public:
    boost_spsc(std::size_t capacity, std::size_t) : queue_(capacity) {}
    void push(std::size_t, Event&& event) {
        spin_then_yield policy;
        while (!queue_.push(std::move(event))) (void)policy.wait();  // it copies
    }
    [[nodiscard]] std::size_t pop(Event* to, std::size_t n) {
        std::size_t const got = queue_.pop(to, n);
        if (got == 0)
            patience_.wait();
        else
            patience_.reset();
        return got;
    }

  private:
    boost::lockfree::spsc_queue<Event> queue_;
    patience patience_;
};
template <class Event, class Sink>
struct by_boost : by_queue<Event, Sink, boost_spsc<Event>> {
    static constexpr auto name = "boost spsc";
    using by_queue<Event, Sink, boost_spsc<Event>>::by_queue;
};
#endif

}  // namespace cairn::bench
