// SPDX-License-Identifier: MIT
// A small model checker for two threads over release/acquire atomics, in the manner of CDSChecker (Norris,
// Demsky 2013) and of the promise-free view machine (Kang et al. 2017).
//
// The code under test is the real code, with `model::atomic` in the place of std::atomic. Each thread runs
// as a fiber. An execution is one sequence of choices; the explorer runs the scenario again for every other
// sequence, depth first, until none is left. There are two kinds of choice, both made at a load:
//
//   - whether the other thread runs first. Nothing is lost by never switching before a store: a store that
//     nobody has read yet is the same as one that has not happened;
//   - which of the stores to this location is read. Any that is not older than what the thread has seen:
//     its own accesses, and what came to it through the acquire loads that read a release store.
//
// So a load may read a stale value wherever the C++ model lets it, also where x86 never would. Data that is
// not atomic (model::value) carries vector clocks: an access that does not happen after the last write of
// the other thread is a data race, whatever the schedule, and ends the exploration with its choices printed.
//
// Not modelled: read-modify-write, fences, seq_cst beyond release/acquire, loads that read from the future
// (relaxed load buffering), more than two threads, more than one writer of a location.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace support::model {

inline constexpr std::size_t threads = 2;
using clock = std::array<std::uint32_t, threads>;  // what a thread has seen of each thread's steps

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class explorer;
inline explorer* current = nullptr;  // the exploration that the fibers run in

class explorer {
  public:
    /// Runs both threads in all ways, `fresh` before each and `done` after each. Returns how many ways.
    /// @throws failure, with the choices that led there.
    std::size_t all(std::function<void()> fresh, std::array<std::function<void()>, threads> bodies,
                    std::function<void()> done, std::size_t most) {
        std::size_t executions = 0;
        choices_.clear();
        do {
            if (++executions > most) throw failure("more than " + std::to_string(most) + " executions");
            run(fresh, bodies, done);
        } while (next());
        return executions;
    }

    // ---- What model::atomic and model::value call. ----

    [[nodiscard]] std::size_t thread() const noexcept { return running_; }
    [[nodiscard]] bool outside() const noexcept { return running_ == threads; }
    [[nodiscard]] clock& seen() noexcept { return seen_[running_]; }
    void step() noexcept { ++seen_[running_][running_]; }

    /// Before a load: the other thread may run first, if it has not just handed over without a step.
    void may_switch() {
        std::size_t const other = 1 - running_;
        if (!finished_[other] && !handed_over_ && choose(2) == 1) {
            handed_over_ = true;
            std::size_t const me = running_;
            running_ = other;
            swapcontext(&fibers_[me].context, &fibers_[other].context);
        }
        handed_over_ = false;
    }
    /// One of n, every one in some execution.
    [[nodiscard]] std::size_t choose(std::size_t n) {
        if (n == 1) return 0;
        if (at_ == choices_.size()) choices_.push_back({0, n});
        return choices_[at_++].taken;
    }
    /// Gives up this execution of this thread: it waits for what will not come in this run.
    void fail(std::string const& why) {
        if (error_.empty()) error_ = why;
    }

    /// The last accesses to what is not atomic. By address: the race is over the memory, which outlives the
    /// values in it.
    struct accesses {
        clock written{};
        clock read{};
    };
    std::map<void const*, accesses> data;

  private:
    struct choice {
        std::size_t taken, of;
    };
    struct fiber {
        ucontext_t context{};
        std::unique_ptr<char[]> stack = std::make_unique<char[]>(stack_size);
    };
    static constexpr std::size_t stack_size = 64 * 1024;

    static void enter() {
        explorer& self = *current;
        std::size_t const me = self.running_;
        (*self.bodies_)[me]();
        self.finished_[me] = true;
        std::size_t const other = 1 - me;
        self.handed_over_ = false;
        if (self.finished_[other]) {
            self.running_ = threads;
            setcontext(&self.home_);
        }
        self.running_ = other;
        setcontext(&self.fibers_[other].context);
    }

    void run(std::function<void()> const& fresh, std::array<std::function<void()>, threads>& bodies,
             std::function<void()> const& done) {
        current = this;
        bodies_ = &bodies;
        at_ = 0;
        error_.clear();
        finished_ = {};
        handed_over_ = false;
        running_ = threads;
        seen_ = {};
        data.clear();
        fresh();
        for (std::size_t i = 0; i < threads; ++i) {
            getcontext(&fibers_[i].context);
            fibers_[i].context.uc_stack.ss_sp = fibers_[i].stack.get();
            fibers_[i].context.uc_stack.ss_size = stack_size;
            fibers_[i].context.uc_link = &home_;
            makecontext(&fibers_[i].context, &explorer::enter, 0);
        }
        running_ = choose(2);
        swapcontext(&home_, &fibers_[running_].context);
        running_ = threads;
        done();
        if (!error_.empty()) {
            std::string path;
            for (std::size_t i = 0; i < at_; ++i) path += std::to_string(choices_[i].taken);
            throw failure(error_ + ", by the choices " + path);
        }
    }
    /// The next sequence of choices, depth first.
    bool next() {
        choices_.resize(at_);
        while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().of) choices_.pop_back();
        if (choices_.empty()) return false;
        ++choices_.back().taken;
        return true;
    }

    std::vector<choice> choices_;
    std::size_t at_ = 0;
    std::string error_;
    std::array<bool, threads> finished_{};
    bool handed_over_ = false;
    std::size_t running_ = threads;
    std::array<clock, threads> seen_{};
    std::array<fiber, threads> fibers_;
    ucontext_t home_{};
    std::array<std::function<void()>, threads>* bodies_ = nullptr;
};

/// In the place of std::atomic: remembers all stores, in order, with what their threads had seen.
template <class T>
class atomic {
  public:
    atomic() : atomic(T{}) {}
    explicit(false) atomic(T value) : stores_{{value, {}, {}}} {}
    atomic(atomic const&) = delete;
    atomic& operator=(atomic const&) = delete;

    void store(T value, std::memory_order order = std::memory_order_seq_cst) noexcept {
        if (current == nullptr || current->outside()) {
            stores_.push_back({value, {}, {}});
            return;
        }
        current->step();
        bool const release = order != std::memory_order_relaxed;
        clock own{};
        own[current->thread()] = current->seen()[current->thread()];
        stores_.push_back({value, own, release ? current->seen() : clock{}});
    }
    [[nodiscard]] T load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
        if (current == nullptr || current->outside()) return stores_.back().value;
        current->may_switch();
        // Not older than what this thread has read here, nor than the newest store that it knows of.
        clock const& seen = current->seen();
        std::size_t oldest = read_[current->thread()];
        for (std::size_t i = stores_.size(); i-- > oldest;) {
            bool known = true;
            for (std::size_t t = 0; t < threads; ++t) known = known && stores_[i].made[t] <= seen[t];
            if (known) {
                oldest = i;
                break;
            }
        }
        std::size_t const chosen = stores_.size() - 1 - current->choose(stores_.size() - oldest);
        read_[current->thread()] = chosen;
        if (order != std::memory_order_relaxed)
            for (std::size_t t = 0; t < threads; ++t)
                current->seen()[t] = std::max(current->seen()[t], stores_[chosen].released[t]);
        return stores_[chosen].value;
    }

  private:
    struct message {
        T value;
        clock made;      // the step of the store
        clock released;  // what an acquire load gets to know
    };
    std::vector<message> stores_;
    mutable std::array<std::size_t, threads> read_{};
};

/// An integer that is not atomic. Every access is checked against those of the other thread.
class value {
  public:
    value() { write(); }
    explicit(false) value(int number) : number_(number) { write(); }
    value(value const& other) : number_(other.read()) { write(); }
    value(value&& other) noexcept : number_(other.read()) {
        other.write();
        write();
    }
    value& operator=(value const& other) {
        number_ = other.read();
        write();
        return *this;
    }
    value& operator=(value&& other) noexcept {
        number_ = other.read();
        other.write();
        write();
        return *this;
    }
    ~value() { write(); }
    [[nodiscard]] int get() const { return read(); }

  private:
    [[nodiscard]] int read() const {
        touch(false);
        return number_;
    }
    void write() const { touch(true); }
    void touch(bool write) const {
        if (current == nullptr || current->outside()) {
            if (current != nullptr)
                current->data.erase(this);  // set-up and tear-down: both threads are ordered with them
            return;
        }
        current->step();
        std::size_t const me = current->thread();
        std::size_t const other = 1 - me;
        explorer::accesses& past = current->data[this];
        if (past.written[other] > current->seen()[other] ||
            (write && past.read[other] > current->seen()[other]))
            current->fail("a data race");
        (write ? past.written : past.read)[me] = current->seen()[me];
    }
    int number_ = 0;
};

}  // namespace support::model
