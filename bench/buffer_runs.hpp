// SPDX-License-Identifier: MIT
// How buffers before a slow sink are measured: events that can be told apart, a sink that counts and checks
// them, producers with a pace, histograms, and runs in processes of their own.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <ctime>

#include "buffer_peers.hpp"
#include "harness.hpp"

namespace cairn::bench {

// ---- Events. ----

/// An event of `Size` bytes. Its number says which producer's it is, and the how-manieth of that one.
template <std::size_t Size>
struct event {
    std::uint64_t number = 0;
    std::array<std::byte, Size - sizeof(std::uint64_t)> rest{};
};

template <class Event>
struct events {
    [[nodiscard]] static Event make(std::uint64_t number) {
        Event made;
        made.number = number;
        return made;
    }
    static void renew(Event& e, std::uint64_t number) noexcept { e.number = number; }
    [[nodiscard]] static std::uint64_t number(Event const& e) noexcept { return e.number; }
    [[nodiscard]] static std::span<std::byte const> body(Event const& e) noexcept { return e.rest; }
};
/// 48 characters, so it owns memory; the number is the first eight.
template <>
struct events<std::string> {
    [[nodiscard]] static std::string make(std::uint64_t number) {
        std::string made(48, '.');
        std::memcpy(made.data(), &number, sizeof number);
        return made;
    }
    static void renew(std::string& e, std::uint64_t number) { e = make(number); }
    [[nodiscard]] static std::uint64_t number(std::string const& e) noexcept {
        std::uint64_t number = 0;
        if (e.size() == 48) std::memcpy(&number, e.data(), sizeof number);
        return number;
    }
    [[nodiscard]] static std::span<std::byte const> body(std::string const& e) noexcept {
        return std::as_bytes(std::span(e));
    }
};
[[nodiscard]] constexpr std::uint64_t number_of(std::size_t producer, std::uint64_t sequence) noexcept {
    return std::uint64_t{producer} << 48 | sequence;
}

/// Events with rising numbers, made some time before they are pushed: a copy of what was stored a few
/// nanoseconds ago waits for those stores, 5 ns of each event that no buffer is to blame for.
template <class Event>
class event_source {
  public:
    explicit event_source(std::size_t producer) : producer_(producer) {
        for (std::size_t i = 0; i < ahead; ++i) ready_[i] = events<Event>::make(number_of(producer, i));
    }
    /// Hands the next one to `push`.
    template <class Push>
    void next(Push push) {
        Event& one = ready_[sent_ % ahead];
        push(std::move(one));
        events<Event>::renew(one, number_of(producer_, sent_++ + ahead));
    }

  private:
    static constexpr std::size_t ahead = 16;
    std::size_t producer_;
    std::uint64_t sent_ = 0;
    alignas(128) std::array<Event, ahead> ready_;
};

/// Counts what arrives, and what is not the next of its producer.
struct receiver {
    std::array<std::uint64_t, 4> next{};
    std::uint64_t wrong = 0, batches = 0;
    alignas(128) std::atomic<std::uint64_t> got{0};

    template <class Event>
    void take(std::span<Event> batch) noexcept {
        for (Event const& e : batch) {
            std::uint64_t const number = events<Event>::number(e);
            std::uint64_t& due = next[number >> 48 & 3];
            wrong += (number & ((std::uint64_t{1} << 48) - 1)) != due;
            ++due;
        }
        ++batches;
        // release: pairs with the acquire of who waits for it.
        got.store(got.load(std::memory_order_relaxed) + batch.size(), std::memory_order_release);
    }
};
/// A sink that costs nothing but the look at each event.
struct counting_sink {
    receiver* to;
    template <class Event>
    void operator()(std::span<Event> batch) const noexcept {
        to->take(batch);
    }
};

// ---- Times. ----

/// Nanoseconds in buckets of 3 % each. Trivially copyable, so that a process can send it to another.
class histogram {
  public:
    void add(std::int64_t ns) noexcept {
        auto const value = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0));
        ++buckets_[bucket(value)];
        ++count_;
        most_ = std::max(most_, value);
    }
    void add(histogram const& other) noexcept {
        for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
        count_ += other.count_;
        most_ = std::max(most_, other.most_);
    }
    /// In ns: what 1 - part of them reach or exceed. (The flush is one push of a batch of 1,000, so p99.9.)
    [[nodiscard]] double at(double part) const noexcept {
        auto const below = static_cast<std::uint64_t>(part * static_cast<double>(count_));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets_.size(); ++i) {
            seen += buckets_[i];
            if (seen > below) return std::min(upper(i), static_cast<double>(most_));
        }
        return static_cast<double>(most_);
    }
    [[nodiscard]] double most() const noexcept { return static_cast<double>(most_); }

  private:
    static constexpr unsigned fine = 5;  // 32 buckets for each doubling
    [[nodiscard]] static std::size_t bucket(std::uint64_t value) noexcept {
        if (value < 1U << fine) return static_cast<std::size_t>(value);
        auto const shift = static_cast<unsigned>(std::bit_width(value)) - fine - 1;
        return std::min<std::size_t>((std::size_t{shift} << fine) + (value >> shift), 32 * 40 - 1);
    }
    [[nodiscard]] static double upper(std::size_t i) noexcept {
        if (i < 1U << fine) return static_cast<double>(i);
        std::size_t const shift = (i >> fine) - 1;
        return static_cast<double>(((i & ((1U << fine) - 1)) + (1U << fine) + 1) << shift) - 1;
    }
    std::array<std::uint32_t, 32 * 40> buckets_{};
    std::uint64_t count_ = 0, most_ = 0;
};

[[nodiscard]] inline double thread_cpu() noexcept {
    timespec now{};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
/// The peak of the memory that this process had in use since forget_peak(), in bytes. 0 where nobody says.
[[nodiscard]] inline double peak_memory() {
    double kilobytes = 0;
    if (std::FILE* const status = std::fopen("/proc/self/status", "r")) {
        char line[256];
        while (std::fgets(line, sizeof line, status) != nullptr)
            if (std::sscanf(line, "VmHWM: %lf", &kilobytes) == 1) break;
        (void)std::fclose(status);
    }
    return 1024 * kilobytes;
}
inline void forget_peak() {
    if (std::FILE* const file = std::fopen("/proc/self/clear_refs", "w")) {
        (void)std::fputs("5", file);
        (void)std::fclose(file);
    }
}

// ---- Runs at a pace. ----

struct pace {
    double events_a_second = 100'000;
    double seconds = 0.5;
};

/// What a run at a pace has measured.
struct paced_result {
    histogram service;       // of push: from its call to its return
    histogram response;      // from when the event was due to the return of its push; one producer only
    double seconds = 0;      // from the first event until all were in the sink
    double sink_cpu = 0;     // seconds of processor time that the sink used, and
    double flusher_cpu = 0;  // all that its thread used from the first call to the last, where it has one
    double peak = 0;         // bytes
    std::uint64_t events = 0, batches = 0, wrong = 0;
    std::uint64_t blocked = 0;  // pushes that had to wait, where the buffer counts them
};

/// A sink around another one, which takes the times and checks the events.
template <class Inner>
struct observed_sink {
    Inner* inner;
    receiver* to;
    paced_result* result;
    double* first;

    template <class Event>
    void operator()(std::span<Event> batch) const {
        double const begin = thread_cpu();
        if (*first < 0) *first = begin;
        (*inner)(batch);
        to->take(batch);
        double const end = thread_cpu();
        result->sink_cpu += end - begin;
        result->flusher_cpu = end - *first;
    }
};

/// One producer spins until each event is due; two wake up once a millisecond and push what is due by then,
/// for with a flusher they are three threads on two cores.
template <template <class, class> class Buffer, class Event, class Inner>
[[nodiscard]] paced_result run_paced(Inner& inner, buffer_settings const& settings, pace const& at) {
    using clock = std::chrono::steady_clock;
    auto result = std::make_unique<paced_result>();
    receiver to;
    double first = -1;
    forget_peak();
    double const before = peak_memory();
    auto const per_producer =
        static_cast<std::uint64_t>(at.events_a_second * at.seconds) / settings.producers;
    clock::time_point const start = clock::now() + std::chrono::milliseconds(2);
    {
        using sink = observed_sink<Inner>;
        Buffer<Event, sink> buffer(sink{&inner, &to, result.get(), &first}, settings);
        auto const push = [&buffer](std::size_t producer, std::uint64_t i, histogram& service) {
            Event made = events<Event>::make(number_of(producer, i));
            auto const begin = clock::now();
            buffer.push(producer, std::move(made));
            auto const end = clock::now();
            service.add((end - begin).count());
            return end;
        };
        if (settings.producers == 1) {
            double const period = 1e9 / at.events_a_second;
            for (std::uint64_t i = 0; i < per_producer; ++i) {
                auto const due =
                    start + std::chrono::nanoseconds(std::llround(period * static_cast<double>(i)));
                while (clock::now() < due) detail::relax();
                result->response.add((push(0, i, result->service) - due).count());
            }
        } else {
            std::vector<histogram> services(settings.producers);
            std::vector<std::thread> threads;
            auto const at_once = static_cast<std::uint64_t>(at.events_a_second / 1'000) / settings.producers;
            for (std::size_t producer = 0; producer < settings.producers; ++producer)
                threads.emplace_back([&, producer] {
                    for (std::uint64_t i = 0; i < per_producer;) {
                        std::this_thread::sleep_until(start + std::chrono::milliseconds(i / at_once));
                        for (std::uint64_t n = 0; n < at_once && i < per_producer; ++n, ++i)
                            (void)push(producer, i, services[producer]);
                    }
                });
            for (auto& one : threads) one.join();
            for (auto const& one : services) result->service.add(one);
        }
        buffer.flush();
        // acquire: pairs with the release in receiver::take().
        while (to.got.load(std::memory_order_acquire) != per_producer * settings.producers)
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        result->seconds = std::chrono::duration<double>(clock::now() - start).count();
        if constexpr (requires { buffer.blocked(); }) result->blocked = buffer.blocked();
    }
    result->peak = peak_memory() - before;
    result->events = to.got.load(std::memory_order_relaxed);
    result->batches = to.batches;
    result->wrong = to.wrong;
    return *result;
}

/// Runs `work` in a process of its own, which has no other thread, and returns what it returns.
template <class Work>
[[nodiscard]] auto in_process(Work work) {
    using result = std::invoke_result_t<Work>;
    static_assert(std::is_trivially_copyable_v<result>);
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    pid_t const child = fork();
    if (child == -1) throw std::runtime_error("no process");
    if (child == 0) {
        int status = 1;
        try {
            result const made = work();
            auto const* bytes = reinterpret_cast<char const*>(&made);
            std::size_t sent = 0;
            while (sent < sizeof made) {
                ssize_t const n = write(ends[1], bytes + sent, sizeof made - sent);
                if (n <= 0) break;
                sent += static_cast<std::size_t>(n);
            }
            status = sent == sizeof made ? 0 : 1;
        } catch (std::exception const& error) {
            std::fprintf(stderr, "%s\n", error.what());
        }
        _exit(status);
    }
    (void)close(ends[1]);
    auto made = std::make_unique<result>();
    auto* const bytes = reinterpret_cast<char*>(made.get());
    std::size_t have = 0;
    while (have < sizeof(result)) {
        ssize_t const n = read(ends[0], bytes + have, sizeof(result) - have);
        if (n <= 0) break;
        have += static_cast<std::size_t>(n);
    }
    (void)close(ends[0]);
    int status = 0;
    (void)waitpid(child, &status, 0);
    if (have != sizeof(result) || status != 0) throw std::runtime_error("a run in its own process failed");
    return *made;
}

}  // namespace cairn::bench
