// SPDX-License-Identifier: MIT
// Chapter 6. A ring buffer between two threads. Why is the lecture's queue slow, and what does each step buy?
//
// The lecture's queue has two counters and an array. It is right. This program measures it, changes one
// thing at a time, and ends with cairn::spsc_queue. Two numbers for each step: nanoseconds a message one
// way, and nanoseconds for a round trip over two queues. Correctness is asserted, time is only reported.
#include <cairn/spsc_queue.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t capacity = 1'000;

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

/// All steps wait in the same way.
template <class Try>
void until(Try attempt) {
    cairn::spin_then_yield policy;
    while (!attempt()) (void)policy.wait();
}

// Step 0: the lecture's. head_ and tail_ are neighbours on one cache line; = on an atomic is seq_cst.
template <std::size_t Alignment>
class counting {
  public:
    void push(std::uint64_t item) {
        until([this] { return head_ - tail_ != capacity; });
        slots_[head_ % slots_.size()] = item;
        head_ = head_ + 1;
    }
    std::uint64_t pop() {
        until([this] { return head_ != tail_; });
        std::uint64_t const item = slots_[tail_ % slots_.size()];
        tail_ = tail_ + 1;
        return item;
    }

  private:
    std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(capacity);
    alignas(Alignment) std::atomic<std::size_t> head_{0};
    alignas(Alignment) std::atomic<std::size_t> tail_{0};
};
struct lecture : counting<alignof(std::atomic<std::size_t>)> {
    static constexpr auto what = "the lecture's queue";
};

// Step 1: each counter on lines of its own, so that a push no longer takes the line that pop writes.
struct apart : counting<128> {
    static constexpr auto what = "counters on lines of their own";
};

// Step 2: release and acquire are enough. A seq_cst store waits until the whole machine has seen it.
class released {
  public:
    static constexpr auto what = "release and acquire for seq_cst";
    void push(std::uint64_t item) {
        std::size_t const head = head_.load(std::memory_order_relaxed);
        until([&] { return head - tail_.load(std::memory_order_acquire) != capacity; });
        slots_[head % slots_.size()] = item;
        head_.store(head + 1, std::memory_order_release);
    }
    std::uint64_t pop() {
        std::size_t const tail = tail_.load(std::memory_order_relaxed);
        until([&] { return head_.load(std::memory_order_acquire) != tail; });
        std::uint64_t const item = slots_[tail % slots_.size()];
        tail_.store(tail + 1, std::memory_order_release);
        return item;
    }

  private:
    std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(capacity);
    alignas(128) std::atomic<std::size_t> head_{0};
    alignas(128) std::atomic<std::size_t> tail_{0};
};

// Step 3: remember the other side's counter, and ask again only when the memory says full or empty. The
// index counts along, so that no division is left.
class remembering {
  public:
    static constexpr auto what = "remember the other's counter, no %";
    void push(std::uint64_t item) {
        std::size_t const head = head_.load(std::memory_order_relaxed);
        if (head - known_tail_ == capacity)
            until([&] { return head - (known_tail_ = tail_.load(std::memory_order_acquire)) != capacity; });
        slots_[in_] = item;
        if (++in_ == capacity) in_ = 0;
        head_.store(head + 1, std::memory_order_release);
    }
    std::uint64_t pop() {
        std::size_t const tail = tail_.load(std::memory_order_relaxed);
        if (known_head_ == tail)
            until([&] { return (known_head_ = head_.load(std::memory_order_acquire)) != tail; });
        std::uint64_t const item = slots_[out_];
        if (++out_ == capacity) out_ = 0;
        tail_.store(tail + 1, std::memory_order_release);
        return item;
    }

  private:
    std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(capacity);
    alignas(128) std::atomic<std::size_t> head_{0};
    alignas(128) std::size_t known_tail_ = 0;
    std::size_t in_ = 0;
    alignas(128) std::atomic<std::size_t> tail_{0};
    alignas(128) std::size_t known_head_ = 0;
    std::size_t out_ = 0;
};

// Step 4: the count in the line of the items that it counts, written right after the item: with other stores
// in between, the consumer would take the line in the gap.
class in_blocks {
  public:
    static constexpr auto what = "cairn: the count beside the items";
    void push(std::uint64_t item) { queue_.push(item); }
    std::uint64_t pop() { return *queue_.pop(); }

  private:
    cairn::spsc_queue<std::uint64_t> queue_{capacity};
};

// Step 5: 64 messages a call.
class batched {
  public:
    void push_n(std::span<std::uint64_t const> items) { queue_.push_n(items); }
    std::size_t pop_n(std::span<std::uint64_t> items) { return queue_.pop_n(items); }

  private:
    cairn::spsc_queue<std::uint64_t> queue_{capacity};
};

struct timing {
    double one_way, round_trip;
};

using clock_type = std::chrono::steady_clock;

double nanoseconds(clock_type::time_point since, std::size_t n) {
    return std::chrono::duration<double, std::nano>(clock_type::now() - since).count() /
           static_cast<double>(n);
}

bool arrived_in_order = true;

template <class Queue>
timing measure() {
    constexpr std::uint64_t messages = 200'000;
    constexpr std::uint64_t trips = 5'000;
    timing result{};
    {
        auto const queue = std::make_unique<Queue>();
        auto const begin = clock_type::now();
        std::thread consumer([&] {
            for (std::uint64_t i = 0; i < messages; ++i)
                arrived_in_order = queue->pop() == i && arrived_in_order;
        });
        for (std::uint64_t i = 0; i < messages; ++i) queue->push(i);
        consumer.join();
        result.one_way = nanoseconds(begin, messages);
    }
    {
        auto const there = std::make_unique<Queue>();
        auto const back = std::make_unique<Queue>();
        std::thread echo([&] {
            for (std::uint64_t i = 0; i < trips; ++i) back->push(there->pop());
        });
        auto const begin = clock_type::now();
        for (std::uint64_t i = 0; i < trips; ++i) {
            there->push(i);
            arrived_in_order = back->pop() == i && arrived_in_order;
        }
        result.round_trip = nanoseconds(begin, trips);
        echo.join();
    }
    return result;
}

double measure_batches() {
    constexpr std::uint64_t messages = 200'000;
    batched queue;
    auto const begin = clock_type::now();
    std::thread consumer([&] {
        std::vector<std::uint64_t> items(64);
        for (std::uint64_t next = 0; next < messages;) {
            std::size_t const n = queue.pop_n(items);
            for (std::size_t i = 0; i < n; ++i) arrived_in_order = items[i] == next++ && arrived_in_order;
        }
    });
    std::vector<std::uint64_t> items(64);
    for (std::uint64_t i = 0; i < messages;) {
        std::size_t n = 0;
        while (n < items.size() && i < messages) items[n++] = i++;
        queue.push_n(std::span(items).first(n));
    }
    consumer.join();
    return nanoseconds(begin, messages);
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

}  // namespace

int main() {
    if (std::thread::hardware_concurrency() < 2)
        std::cout << "One core only: the threads take turns, and these times say little.\n\n";

    struct step {
        char const* what;
        timing (*run)();
        std::vector<double> one_way{}, round_trip{};
    };
    std::vector<step> steps{{lecture::what, measure<lecture>},
                            {apart::what, measure<apart>},
                            {released::what, measure<released>},
                            {remembering::what, measure<remembering>},
                            {in_blocks::what, measure<in_blocks>}};
    std::vector<double> batches;
    for (int round = 0; round < 9; ++round) {  // by turns: a slow moment of the machine hits all
        for (step& one : steps) {
            timing const took = one.run();
            one.one_way.push_back(took.one_way);
            one.round_trip.push_back(took.round_trip);
        }
        batches.push_back(measure_batches());
    }

    std::cout << "A queue of " << capacity << " numbers between two threads, ns (median of 9 rounds)\n\n"
              << "  step                                   a message   a round trip\n"
              << std::fixed << std::setprecision(1);
    for (std::size_t i = 0; i < steps.size(); ++i)
        std::cout << "  " << i << " " << std::left << std::setw(36) << steps[i].what << std::right
                  << std::setw(10) << median(steps[i].one_way) << std::setw(15) << median(steps[i].round_trip)
                  << '\n';
    std::cout << "  5 " << std::left << std::setw(36) << "cairn: 64 messages a call" << std::right
              << std::setw(10) << median(batches) << std::setw(15) << "-" << "\n\n";

    // Ratios of the same round, for the machine may be fast in one and slow in the next.
    auto const gain = [](std::vector<double> const& slow, std::vector<double> const& fast) {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < slow.size(); ++i) ratios.push_back(slow[i] / fast[i]);
        return median(ratios);
    };
    std::cout << std::setprecision(2) << "On this machine, in this run:\n";
    for (std::size_t i = 1; i < steps.size(); ++i)
        std::cout << "  step " << i << " made a message " << gain(steps[i - 1].one_way, steps[i].one_way)
                  << " x and a round trip " << gain(steps[i - 1].round_trip, steps[i].round_trip)
                  << " x as fast as the step before\n";
    std::cout << "  batches made a message " << gain(steps.back().one_way, batches) << " x as fast again\n"
              << "  from the first to the last step: " << gain(steps.front().one_way, batches) << " x\n\n";

    std::cout << "Claims\n";
    check(arrived_in_order, "every message of every queue arrived once and in order");
    cairn::spsc_queue<std::uint64_t> full(capacity);
    std::size_t fit = 0;
    while (full.try_push(fit)) ++fit;
    check(fit == capacity, "a queue of capacity 1,000 takes exactly 1,000 messages");
    full.close();
    std::size_t drained = 0;
    while (full.pop()) ++drained;
    check(drained == capacity && !full.push(1), "after close() what is left comes out, and nothing goes in");

    std::cout
        << "\nThe trade-off: the queue is fast because it has one producer, one consumer and a fixed size. "
           "It\n"
           "takes no lock and never grows, so whoever is slower makes the other one wait. A batch of 64 "
           "costs\n"
           "the first of its messages the wait for the last. What goes into a queue must be made and ended,\n"
           "too: that is chapter 7.\n";
    // Exercises (answers: README.md):
    // 1. Make capacity 1. What does a message cost now? Predict it from the other column of the table.
    // 2. Let both threads share one core (taskset -c 0 on Linux). Which column suffers, and by how much?
    // 3. Take the 64 of step 5 down to 8, then up to 1,024. Where does the gain end, and why there?
    return failures == 0 ? 0 : 1;
}
