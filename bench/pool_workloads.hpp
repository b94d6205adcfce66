// SPDX-License-Identifier: MIT
// What is done with a pool or an allocator, the same for all: each is a class with `T* get()` and
// `void put(T*)`. Every object is written at its first and last word, and read before it ends.
#pragma once

#include <cairn/spsc_queue.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "partner.hpp"

namespace cairn::bench {

enum class pool_task : std::uint32_t {
    hot,
    random_back,
    churn_small,
    churn_large,
    own_some,
    own_many,
    cross
};

/// Objects that are made and ended in one run of any workload.
constexpr std::size_t objects_a_run = 50'000;
constexpr std::size_t churn_small_live = 10'000;
constexpr std::size_t churn_large_live = 1'000'000;

template <std::size_t Size>
struct payload {
    std::array<std::uint64_t, Size / 8> words;
};

/// A workload on a pool of its own. Throws std::runtime_error where an object was not what was written.
class workload {
  public:
    workload() = default;
    workload(workload const&) = delete;
    workload& operator=(workload const&) = delete;
    virtual ~workload() = default;
    /// Makes and ends objects_a_run objects. Different windows take them in different orders.
    virtual void run(std::size_t window) = 0;
};

namespace workloads {

template <class T>
inline void write(T* object, std::uint64_t number) {
    object->words.front() = number;
    object->words.back() = number;
}
template <class T>
[[nodiscard]] inline std::uint64_t read(T const* object) {
    return object->words.front() + object->words.back();
}
inline void require(bool right) {
    if (!right) throw std::runtime_error("an object was not what had been written to it");
}

/// One object, out and back, again and again.
template <class Pool, class T>
class hot final : public workload {
  public:
    explicit hot(partner&) {}
    void run(std::size_t) override {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < objects_a_run; ++i) {
            T* object = pool_.get();
            write(object, i);
            benchmark::DoNotOptimize(object);  // an allocator may be called, or left out, by the compiler
            sum += read(object);
            pool_.put(object);
        }
        require(sum == objects_a_run * (objects_a_run - 1));
    }

  private:
    Pool pool_;
};

/// `Count` objects out, then back in random order. On lines of its own: two threads that each have one are to
/// share the pool, and nothing else.
template <class T, std::size_t Count>
class alignas(128) out_and_back {
  public:
    explicit out_and_back(std::uint64_t seed) {
        std::mt19937_64 random(seed);
        for (auto& order : orders_) {
            std::iota(order.begin(), order.end(), 0);
            std::shuffle(order.begin(), order.end(), random);
        }
    }
    template <class Pool>
    [[nodiscard]] bool run(Pool& pool, std::size_t window) {
        std::uint64_t sum = 0;
        for (std::size_t round = 0; round < objects_a_run / Count; ++round) {
            for (std::size_t i = 0; i < Count; ++i) write(out_[i] = pool.get(), i);
            for (std::uint32_t const i : orders_[(window + round) % orders_.size()]) {
                sum += read(out_[i]);
                pool.put(out_[i]);
            }
        }
        return sum == objects_a_run / Count * Count * (Count - 1);
    }

  private:
    static_assert(objects_a_run % Count == 0);
    std::array<std::array<std::uint32_t, Count>, 8> orders_{};
    std::array<T*, Count> out_{};
};

template <class Pool, class T>
class random_back final : public workload {
  public:
    explicit random_back(partner&) {}
    void run(std::size_t window) override { require(mine_.run(pool_, window)); }

  private:
    Pool pool_;
    out_and_back<T, 1'000> mine_{1};
};

/// Two threads, each with objects of its own from one pool.
template <class Pool, class T, std::size_t Count>
class own final : public workload {
  public:
    explicit own(partner& other) : other_(other) {}
    void run(std::size_t window) override {
        bool here = false, there = false;
        other_.together([&] { there = theirs_->run(pool_, window); },
                        [&] { here = mine_->run(pool_, window); });
        require(here && there);
    }

  private:
    Pool pool_;
    partner& other_;
    std::unique_ptr<out_and_back<T, Count>> mine_ = std::make_unique<out_and_back<T, Count>>(1);
    std::unique_ptr<out_and_back<T, Count>> theirs_ = std::make_unique<out_and_back<T, Count>>(2);
};

/// `Live` objects; again and again 1,000 of them, anywhere, end, and then 1,000 new ones come.
template <class Pool, class T, std::size_t Live>
class churn final : public workload {
  public:
    explicit churn(partner&) : live_(Live), choices_(std::max<std::size_t>(Live / at_once, 64)) {
        for (std::size_t i = 0; i < Live; ++i) live_[i] = pool_.get();
        std::shuffle(live_.begin(), live_.end(), std::mt19937_64(3));  // as after a long life
        for (std::size_t i = 0; i < Live; ++i) write(live_[i], i);
        // One of each 1,000th part, so none twice; the parts in random order.
        std::mt19937_64 random(4);
        std::array<std::uint32_t, at_once> order{};
        std::iota(order.begin(), order.end(), 0);
        for (auto& choice : choices_) {
            std::shuffle(order.begin(), order.end(), random);
            for (std::size_t i = 0; i < at_once; ++i)
                choice[i] = static_cast<std::uint32_t>(order[i] * part + random() % part);
        }
    }
    ~churn() override {
        if constexpr (requires { pool_.put_all(); })
            pool_.put_all();
        else
            for (T* const object : live_) pool_.put(object);
    }
    void run(std::size_t window) override {
        std::uint64_t sum = 0, expected = 0;
        for (std::size_t round = 0; round < objects_a_run / at_once; ++round) {
            auto const& chosen = choices_[(window * (objects_a_run / at_once) + round) % choices_.size()];
            for (std::uint32_t const k : chosen) {
                sum += read(live_[k]);
                expected += 2 * std::uint64_t{k};
                pool_.put(live_[k]);
            }
            for (std::uint32_t const k : chosen) write(live_[k] = pool_.get(), k);
        }
        require(sum == expected);
    }

  private:
    static constexpr std::size_t at_once = 1'000, part = Live / at_once;
    static_assert(Live % at_once == 0 && objects_a_run % at_once == 0);
    Pool pool_;
    std::vector<T*> live_;
    std::vector<std::array<std::uint32_t, at_once>> choices_;  // enough to reach every object
};

/// One thread makes objects, and sends them to the other, which ends them.
template <class Pool, class T>
class cross final : public workload {
  public:
    explicit cross(partner& other) : other_(other) {}
    void run(std::size_t) override {
        std::uint64_t sum = 0;
        other_.together(
            [&] {
                T* object = nullptr;
                for (std::size_t i = 0; i < objects_a_run; ++i) {
                    queue_.pop(object);
                    sum += read(object);
                    pool_.put(object);
                }
            },
            [&] {
                for (std::size_t i = 0; i < objects_a_run; ++i) {
                    T* const object = pool_.get();
                    write(object, i);
                    queue_.push(object);
                }
            });
        require(sum == objects_a_run * (objects_a_run - 1));
    }

  private:
    Pool pool_;
    spsc_queue<T*> queue_{1'024};
    partner& other_;
};

/// No pool at all, for cross: objects that exist already, and are used again when their turn comes. `Stride`
/// is odd: 1 is the order of their addresses. There, where an object fills a line, the core that reads has
/// lines fetched ahead which the other one is about to write; scattered is up to 3 times faster.
template <class T, std::size_t Stride>
class preallocated {
  public:
    [[nodiscard]] T* get() { return &(*objects_)[(next_++ * Stride) % count]; }
    void put(T*) noexcept {}

  private:
    static constexpr std::size_t count = 2'048;          // more than are in the queue, and in both hands
    struct alignas(64) lines : std::array<T, count> {};  // like a pool's slabs: no two objects share one
    std::unique_ptr<lines> objects_ = std::make_unique<lines>();
    std::size_t next_ = 0;
};

}  // namespace workloads

/// A workload for one thread at a time on a pool of type Pool.
template <class Pool, class T>
[[nodiscard]] std::unique_ptr<workload> single_workload(pool_task task, partner& other) {
    using namespace workloads;
    switch (task) {
        case pool_task::hot:
            return std::make_unique<hot<Pool, T>>(other);
        case pool_task::random_back:
            return std::make_unique<random_back<Pool, T>>(other);
        case pool_task::churn_small:
            return std::make_unique<churn<Pool, T, churn_small_live>>(other);
        case pool_task::churn_large:
            return std::make_unique<churn<Pool, T, churn_large_live>>(other);
        default:
            throw std::logic_error("a workload for two threads");
    }
}
/// A workload for two threads on a pool that both may use.
template <class Pool, class T>
[[nodiscard]] std::unique_ptr<workload> shared_workload(pool_task task, partner& other) {
    using namespace workloads;
    switch (task) {
        case pool_task::own_some:
            return std::make_unique<own<Pool, T, 100>>(other);
        case pool_task::own_many:
            return std::make_unique<own<Pool, T, 1'000>>(other);
        case pool_task::cross:
            return std::make_unique<cross<Pool, T>>(other);
        default:
            throw std::logic_error("a workload for one thread");
    }
}

}  // namespace cairn::bench
