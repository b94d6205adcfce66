// SPDX-License-Identifier: MIT
// Chapter 6. A ring buffer between two threads. Why is the lecture's queue slow, and what does each step buy?
//
// The queue of chapter 5 takes a lock twice for each message. If only one thread pushes and only one pops, no
// lock is needed: an array, and two counters, each of which only one thread writes. That is the lecture's
// queue. First this program breaks its two rules, to see what they are for. Then it measures the queue,
// changes one thing at a time, and ends with cairn::spsc_queue. Two numbers for each step: nanoseconds a
// message one way, and nanoseconds for a round trip over two queues. Correctness is asserted, time is only
// reported.
#include <cairn/spsc_queue.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <limits>
#include <memory>
#include <span>
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

// ---- Broken on purpose. ----

/// The queue without its threads: a push has two steps, and `between` is called between them. On a real
/// machine another thread gets there now and then; here it gets there each time.
struct two_steps {
    std::array<std::uint64_t, 4> slots{};
    std::size_t head = 0;
    std::size_t tail = 0;

    template <class Between>
    void push(std::uint64_t item, Between between) {  // the item, then the counter
        std::size_t const place = head;
        slots[place % slots.size()] = item;
        between();
        head = place + 1;
    }
    template <class Between>
    void push_counter_first(std::uint64_t item, Between between) {
        std::size_t const place = head;
        head = place + 1;
        between();
        slots[place % slots.size()] = item;
    }
    /// 0: the queue is empty.
    std::uint64_t pop() { return head == tail ? 0 : slots[tail++ % slots.size()]; }
};

void break_its_rules() {
    std::cout << "1. Broken on purpose: messages 7 and 8, and the other thread comes between two steps\n";
    std::uint64_t seen = 0;
    two_steps right;
    right.push(7, [&] { seen = right.pop(); });
    std::uint64_t const then = right.pop();
    std::cout << "  item, then counter:   pop finds " << seen << ", that is nothing, and later " << then
              << '\n';
    check(seen == 0 && then == 7,
          "a pop between the steps finds an empty queue, and a later one the message");

    two_steps hasty;
    for (std::uint64_t old : {1U, 2U, 3U, 4U}) {  // the ring has been round once
        hasty.push(old, [] {});
        (void)hasty.pop();
    }
    hasty.push_counter_first(7, [&] { seen = hasty.pop(); });
    std::cout << "  counter, then item:   pop finds " << seen << ", a message of the round before\n";
    check(seen == 1, "if the counter moves first, an old message is taken for the new one");

    two_steps shared;
    shared.push(7, [&] { shared.push(8, [] {}); });
    std::uint64_t const first = shared.pop();
    std::uint64_t const second = shared.pop();
    std::cout << "  two threads push:     pop finds " << first << ", and then " << second << '\n';
    check(first == 8 && second == 0, "two producers take the same place: a message is lost, without a word");
}

// ---- The steps. ----

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

// Step 1: each counter on lines of its own. A push still reads pop's counter, but pop no longer loses the
// line of its own counter each time that push writes.
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
constexpr std::size_t batch = 64;
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

bool arrived_in_order = true;
constexpr std::uint64_t last = std::numeric_limits<std::uint64_t>::max();  // no more comes after this one

/// A measurement ends after so many messages, or so much time: if other programs have the cores, a round trip
/// takes a hundred microseconds instead of a fifth of one.
class effort {
  public:
    explicit effort(std::uint64_t most) : most_(most) {}
    /// Whether message number `i` is still to be sent. Looks at the clock at every 64th.
    [[nodiscard]] bool left(std::uint64_t i) const {
        return i < most_ && (i % 64 != 0 || clock_type::now() - begin_ < std::chrono::milliseconds(20));
    }
    [[nodiscard]] double nanoseconds_each(std::uint64_t done) const {
        return std::chrono::duration<double, std::nano>(clock_type::now() - begin_).count() /
               static_cast<double>(done);
    }

  private:
    std::uint64_t most_;
    clock_type::time_point begin_ = clock_type::now();
};

template <class Queue>
double one_way() {
    auto const queue = std::make_unique<Queue>();
    effort const work(200'000);
    std::uint64_t received = 0;
    std::thread consumer([&] {
        for (std::uint64_t item; (item = queue->pop()) != last; ++received)
            arrived_in_order = item == received && arrived_in_order;
    });
    std::uint64_t sent = 0;
    for (; work.left(sent); ++sent) queue->push(sent);
    queue->push(last);
    consumer.join();
    arrived_in_order = arrived_in_order && received == sent;
    return work.nanoseconds_each(sent);
}

template <class Queue>
double round_trip() {
    auto const there = std::make_unique<Queue>();
    auto const back = std::make_unique<Queue>();
    std::thread echo([&] {
        for (std::uint64_t item; (item = there->pop()) != last;) back->push(item);
    });
    there->push(0);
    arrived_in_order = back->pop() == 0 && arrived_in_order;  // the thread is there
    effort const work(5'000);
    std::uint64_t trips = 0;
    for (; work.left(trips); ++trips) {
        there->push(trips);
        arrived_in_order = back->pop() == trips && arrived_in_order;
    }
    double const took = work.nanoseconds_each(trips);
    there->push(last);
    echo.join();
    return took;
}

template <class Queue>
timing measure() {
    return {one_way<Queue>(), round_trip<Queue>()};
}

double measure_batches() {
    batched queue;
    effort const work(200'000);
    std::uint64_t received = 0;
    std::thread consumer([&] {
        std::vector<std::uint64_t> items(batch);
        for (bool more = true; more;) {
            std::size_t const n = queue.pop_n(items);
            more = items[n - 1] != last;
            for (std::size_t i = 0; i < (more ? n : n - 1); ++i)
                arrived_in_order = items[i] == received++ && arrived_in_order;
        }
    });
    std::vector<std::uint64_t> items;
    std::uint64_t sent = 0;
    while (work.left(sent)) {
        items.clear();
        do items.push_back(sent++);
        while (items.size() < batch && work.left(sent));
        queue.push_n(items);
    }
    queue.push_n(std::span(&last, 1));
    consumer.join();
    arrived_in_order = arrived_in_order && received == sent;
    return work.nanoseconds_each(sent);
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

}  // namespace

int main() {
    break_its_rules();
    std::cout << '\n';
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
    constexpr int rounds = 7;
    for (int round = 0; round < rounds; ++round) {  // by turns: a slow moment of the machine hits all
        for (step& one : steps) {
            timing const took = one.run();
            one.one_way.push_back(took.one_way);
            one.round_trip.push_back(took.round_trip);
        }
        batches.push_back(measure_batches());
    }

    std::cout << "2. A queue of " << capacity << " numbers between two threads, ns (median of " << rounds
              << " rounds)\n\n"
              << "  step                                   a message   a round trip\n"
              << std::fixed << std::setprecision(1);
    for (std::size_t i = 0; i < steps.size(); ++i)
        std::cout << "  " << i << " " << std::left << std::setw(36) << steps[i].what << std::right
                  << std::setw(10) << median(steps[i].one_way) << std::setw(15) << median(steps[i].round_trip)
                  << '\n';
    std::cout << "  5 " << std::left << std::setw(36)
              << "cairn: " + std::to_string(batch) + " messages a call" << std::right << std::setw(10)
              << median(batches) << std::setw(15) << "-" << "\n\n";

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
    check(fit == capacity, "a queue takes exactly as many messages as its capacity");
    full.close();
    std::size_t drained = 0;
    while (full.pop()) ++drained;
    check(drained == capacity && !full.push(1), "after close() what is left comes out, and nothing goes in");

    std::cout
        << "\nThe trade-off: the queue is fast because it has one producer, one consumer and a fixed size. "
           "It\n"
           "takes no lock and never grows, so the faster side has to wait for the slower one. In a batch of\n"
        << batch
        << " the first message waits for the last. And what goes into a queue must be made, and ended: that\n"
           "is chapter 7.\n";
    // Exercises (answers: README.md):
    // 1. Make capacity 1. What does a message cost now? Predict it from the other column of the table.
    // 2. Let both threads share one core (taskset -c 0 on Linux). Which column suffers, and by how much?
    // 3. Take the 64 of step 5 down to 8, then up to 1,024. Where does the gain end, and why there?
    return failures == 0 ? 0 : 1;
}
