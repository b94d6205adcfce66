// SPDX-License-Identifier: MIT
// Chapter 7. An object pool. Objects that are used again: what does it save, what does it break, when not?
//
// A server makes an object for each request, and ends it a moment later. To get memory and to give it back
// costs time, so a lecture says: keep the objects that came back, and hand them out again. This program
// builds that pool, hands one user's data to another with it, and then asks what there was to save: the
// memory, the sharing between threads, or the making of the object? For each of them there is another pool.
// Correctness is asserted, time is only reported.
#include <cairn/concurrent_object_pool.hpp>
#include <cairn/object_pool.hpp>
#include <cairn/pool_resource.hpp>
#include <cairn/recycling_pool.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "memory/counting_allocator.hpp"

namespace {

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

// ---- The smallest pool that works: the lecture's. ----

/// A mutex and a stack of pointers. In Go the collector keeps the objects alive; here the pool owns them all,
/// so a pointer into it is good until the pool's end, whatever its users do.
template <class T>
class lecture_pool {
  public:
    T* get() {
        std::lock_guard const lock(mutex_);
        if (free_.empty()) return all_.emplace_back(std::make_unique<T>()).get();
        T* const object = free_.back();
        free_.pop_back();
        return object;
    }
    void put(T* object) {
        object->reset();
        std::lock_guard const lock(mutex_);
        free_.push_back(object);
    }

  private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<T>> all_;
    std::vector<T*> free_;
};

int requests_made = 0;

struct request {
    int number = ++requests_made;  // never changes: so we can tell which object we hold
    std::string user;
    bool admin = false;  // came a year after reset() was written

    void reset() { user.clear(); }
};

void break_the_lectures_pool() {
    {
        lecture_pool<request> pool;
        request* const alice = pool.get();
        alice->user = "alice";
        alice->admin = true;
        pool.put(alice);
        request* const bob = pool.get();
        std::cout << "  a field that reset() forgot: the next user, \"" << bob->user
                  << "\", is admin: " << (bob->admin ? "yes" : "no") << '\n';
        check(bob->user.empty() && bob->admin, "what reset() forgets, the next user inherits");
    }
    {
        lecture_pool<request> pool;
        request* const alice = pool.get();
        pool.put(alice);
        pool.put(alice);  // an error path that cleans up, and the caller who does too
        request* const bob = pool.get();
        request* const carol = pool.get();
        bob->user = "bob";
        carol->user = "carol";
        std::cout << "  returned twice: bob has request " << bob->number << " and carol has request "
                  << carol->number << "; bob's says \"" << bob->user << "\"\n";
        check(bob->number == carol->number, "an object that came back twice goes out to two owners");
    }
    {
        lecture_pool<request> pool;
        request* const alice = pool.get();
        pool.put(alice);
        request* const bob = pool.get();
        bob->user = "bob";
        alice->user = "alice";  // a callback that came late, and still has the pointer
        std::cout << "  used after its return: bob's request says \"" << bob->user << "\"\n";
        check(bob->user == "alice", "who keeps a pointer writes into the next user's object");
    }
}

/// The same three mistakes, and what is left of them with handles and constructors.
void try_to_break_cairns_pool() {
    using pool_type = cairn::object_pool<request>;
    static_assert(!std::is_copy_constructible_v<pool_type::handle>, "an object has one owner");
    pool_type pool;
    auto alice = pool.make();
    alice->admin = true;
    int const first = alice->number;
    request const* const place = alice.get();
    alice.reset();
    alice.reset();  // nothing left to return
    auto const bob = pool.make();
    auto const carol = pool.make();
    check(bob.get() == place && bob->number != first && !bob->admin,
          "the memory is used again, the object is not: a constructor forgets no field");
    check(bob.get() != carol.get() && bob->number != carol->number,
          "a handle that is reset twice returns its object once");
    check(alice == nullptr, "a handle that has returned its object no longer points to it");
    std::cout
        << "  A raw pointer that was kept still reaches the slot. AddressSanitizer reports it while the "
           "slot is free.\n";
}

#if !defined(NDEBUG) || defined(CAIRN_HARDENED)
constexpr bool hardened = true;
#else
constexpr bool hardened = false;
#endif

/// What a child process wrote to stderr, and whether it was aborted.
struct last_words {
    std::string text;
    bool aborted = false;
};

template <class Deed>
last_words in_a_child(Deed deed) {
    std::array<int, 2> ends{};
    std::cout.flush();  // or the child would print it again
    if (pipe(ends.data()) != 0) return {"no pipe", false};
    pid_t const child = fork();
    if (child == -1) return {"no child", false};
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        deed();
        _exit(0);
    }
    close(ends[1]);
    last_words said;
    std::array<char, 512> piece;
    for (ssize_t n; (n = read(ends[0], piece.data(), piece.size())) > 0;)
        said.text.append(piece.data(), static_cast<std::size_t>(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    said.aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    return said;
}

/// construct() and destroy() are for those who manage lifetimes themselves, and so the mistake is possible
/// again. A hardened build pays a word for each slot, and notices.
void return_twice_by_hand() {
    if (!hardened) {
        std::cout << "  This build does not look for it. A debug build does, and one with "
                     "-DCAIRN_HARDENED.\n";
        return;
    }
    last_words const said = in_a_child([] {
        cairn::object_pool<int> pool;
        int* const number = pool.construct(42);
        pool.destroy(number);
        pool.destroy(number);
    });
    std::size_t const from = std::min(said.text.find("cairn:"), said.text.size());
    std::cout << "  a child process did it, and died saying:\n    "
              << said.text.substr(from, said.text.find('\n', from) - from) << '\n';
    check(said.aborted && said.text.find("released twice") != std::string::npos,
          "a hardened build stops at the second return, and says why");
}

// ---- Time. All contestants have one face: get() and put(). ----

template <class T>
struct by_new {
    T* get() { return new T; }
    void put(T* object) { delete object; }
};
template <class Pool>
struct by_pool {
    Pool pool{};
    auto* get() { return pool.construct(); }
    void put(typename Pool::value_type* object) { pool.destroy(object); }
};
template <class T>
struct by_recycling {
    cairn::recycling_pool<T> pool{};
    T* get() { return pool.acquire().release(); }
    void put(T* object) { pool.release(object); }
};

/// 64 bytes that cost nothing to make.
struct message {
    std::uint64_t number = 0;
    std::array<std::byte, 56> rest;
    message() noexcept {}
    void reset() { number = 0; }
};

/// Buffers that grow while a request is read. What costs is not the object.
struct parsed {
    std::string body;
    std::vector<std::uint32_t> ends;
    void reset() {
        body.clear();
        ends.clear();
    }
};

bool all_were_right = true;
thread_local void* volatile seen;  // a compiler may leave out a new and its delete, unless someone looks

template <class Work>
double nanoseconds_each(std::size_t n, Work work) {
    auto const begin = std::chrono::steady_clock::now();
    work();
    std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - begin;
    return took.count() / static_cast<double>(n);
}

std::uint64_t volatile sink;  // what is not used is not computed

/// One object, out and back, and `Steps` steps of work on it that each wait for the one before.
template <class Contestant, std::size_t Steps = 0>
double one_at_a_time() {
    constexpr std::size_t n = Steps < 1'000 ? 20'000 : 1'000;
    Contestant from;
    std::uint64_t sum = 0;
    double const took = nanoseconds_each(n, [&] {
        for (std::uint64_t i = 0; i < n; ++i) {
            auto* const object = from.get();
            seen = object;
            std::uint64_t number = i;
            for (std::size_t step = 0; step < Steps; ++step) number ^= number << 13 | 1;
            object->number = number;
            sum += object->number;
            from.put(object);
        }
    });
    sink = sum;
    all_were_right = all_were_right && (Steps != 0 || sum == n * (n - 1) / 2);
    return took;
}

/// `Count` objects out, then back in random order.
template <std::size_t Count, class Contestant>
double out_and_back(Contestant& from) {
    constexpr std::size_t n = 50'000;
    std::vector<std::size_t> order(Count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), std::mt19937_64{Count});
    std::vector<message*> out(Count);
    bool right = true;
    double const took = nanoseconds_each(n, [&] {
        for (std::size_t round = 0; round < n / Count; ++round) {
            for (std::size_t i = 0; i < Count; ++i) (out[i] = from.get())->number = i;
            for (std::size_t const i : order) {
                right = right && out[i]->number == i;
                from.put(out[i]);
            }
        }
    });
    static std::mutex mutex;
    std::lock_guard const lock(mutex);
    all_were_right = all_were_right && right;
    return took;
}
template <class Contestant>
double a_thousand_out() {
    Contestant from;
    return out_and_back<1'000>(from);
}

/// Two threads, each with its own objects: they share the pool and nothing else. The mean of the two.
template <class Contestant>
double on_two_threads() {
    Contestant from;
    std::atomic<int> not_here{2};
    auto const one = [&] {
        --not_here;
        while (not_here != 0) std::this_thread::yield();
        return out_and_back<50>(from);
    };
    double theirs = 0;
    std::thread other([&] { theirs = one(); });
    double const mine = one();
    other.join();
    return (mine + theirs) / 2;
}

/// A request of 4 KiB is read in 64 pieces.
template <class Contestant>
double reading_a_request() {
    constexpr std::size_t n = 200;
    Contestant from;
    std::string const piece(64, 'x');
    bool right = true;
    double const took = nanoseconds_each(n, [&] {
        for (std::size_t i = 0; i < n; ++i) {
            auto* const object = from.get();
            seen = object;
            for (int pieces = 0; pieces < 64; ++pieces) {
                object->body += piece;
                object->ends.push_back(static_cast<std::uint32_t>(object->body.size()));
            }
            right = right && object->body.size() == 4'096 && object->ends.size() == 64;
            from.put(object);
        }
    });
    all_were_right = all_were_right && right;
    return took;
}

/// A pool of its own for `Count` objects, made and ended together: nothing is used again.
template <class Contestant, std::size_t Count>
double used_once() {
    constexpr std::size_t n = 16'384;
    std::array<message*, Count> out{};
    return nanoseconds_each(n, [&] {
        for (std::size_t round = 0; round < n / Count; ++round) {
            Contestant from;
            for (message*& object : out) seen = object = from.get();
            for (message* const object : out) from.put(object);
        }
    });
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// Contestants by workloads, run by turns: a slow moment of the machine hits all.
class table {
  public:
    using measure = double (*)();  // null: this one cannot do that
    table(std::string const& head, std::vector<std::string> columns)
        : head_(head), columns_(std::move(columns)) {}
    void add(std::string const& what, std::vector<measure> const& run) {
        rows_.push_back({what, run, std::vector<std::vector<double>>(run.size())});
    }
    void measure_and_print() {
        for (int round = 0; round < 9; ++round)
            for (std::size_t column = 0; column < columns_.size(); ++column)
                for (row& one : rows_)
                    if (one.run[column] != nullptr) one.took[column].push_back(one.run[column]());
        std::cout << "  " << std::left << std::setw(32) << head_ << std::right;
        for (auto const& column : columns_) std::cout << std::setw(18) << column;
        for (row const& one : rows_) {
            std::cout << "\n  " << std::left << std::setw(32) << one.what << std::right;
            for (auto const& took : one.took)
                if (took.empty())
                    std::cout << std::setw(18) << "-";
                else
                    std::cout << std::setw(18) << median(took);
        }
        std::cout << '\n';
    }
    /// How many times faster row b was than row a: of the same round, for the machine may be fast in one and
    /// slow in the next.
    double gain(std::size_t a, std::size_t b, std::size_t column) const {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < rows_[a].took[column].size(); ++i)
            ratios.push_back(rows_[a].took[column][i] / rows_[b].took[column][i]);
        return median(ratios);
    }

  private:
    struct row {
        std::string what;
        std::vector<measure> run;
        std::vector<std::vector<double>> took;
    };
    std::string head_;
    std::vector<std::string> columns_;
    std::vector<row> rows_;
};

// ---- Memory. ----

using memory::bytes_held, memory::counting_allocator;

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

/// The same for a memory resource.
class counting_resource final : public std::pmr::memory_resource {
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        bytes_held += bytes;
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        bytes_held -= bytes;
        std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }
};

/// What a pool has asked for when it holds its first object.
std::size_t bytes_of_a_new_pool() {
    cairn::object_pool<message, counting_allocator<message>> pool;
    auto const first = pool.make();
    return bytes_held;
}

/// A busy morning of one type, and then a busy evening of another.
void peaks() {
    struct morning : message {};
    struct evening : message {};
    static constexpr std::size_t most = 50'000;
    constexpr std::size_t in_use = most * sizeof(message);
    auto const peak = [](auto get, auto put) {
        std::vector<decltype(get())> out(most);
        for (auto& object : out) object = get();
        for (auto const object : out) put(object);
    };
    std::cout << "  50,000 objects of one type, all back, then 50,000 of another: never more in use than "
              << mib(in_use) << " MiB\n";
    {
        cairn::object_pool<morning, counting_allocator<morning>> mornings;
        cairn::object_pool<evening, counting_allocator<evening>> evenings;
        peak([&] { return mornings.construct(); }, [&](morning* m) { mornings.destroy(m); });
        std::size_t const after_one = bytes_held;
        peak([&] { return evenings.construct(); }, [&](evening* e) { evenings.destroy(e); });
        std::size_t const after_two = bytes_held;
        bool const all_back = mornings.size() == 0 && evenings.size() == 0;
        mornings.shrink();
        evenings.shrink();
        std::cout << "  two pools hold " << mib(after_one) << " MiB after the first peak, " << mib(after_two)
                  << " MiB after the second, and " << bytes_held << " bytes after shrink()\n";
        check(all_back && after_one >= in_use && after_two >= 2 * in_use,
              "with no object out, two pools hold the sum of their peaks");
        check(bytes_held * 20 < after_two,
              "shrink(), if someone calls it, gives back all but the arrays of free slots");
    }
    check(bytes_held == 0, "at its end a pool gives back every byte");
    {
        counting_resource counted;
        cairn::pool_resource shared(&counted);
        std::pmr::polymorphic_allocator<> from(&shared);
        peak([&] { return from.new_object<morning>(); }, [&](morning* m) { from.delete_object(m); });
        std::size_t const after_one = bytes_held;
        peak([&] { return from.new_object<evening>(); }, [&](evening* e) { from.delete_object(e); });
        std::cout << "  one pool_resource for both holds " << mib(after_one)
                  << " MiB after the first peak, and " << mib(bytes_held) << " MiB after the second\n";
        if (hardened)
            std::cout << "  (This build writes a guard beside each of its blocks, which makes them twice as "
                         "large.)\n";
        check(bytes_held == after_one,
              "two types that share their memory, as with malloc, hold one peak, not two");
    }
}

/// One huge request, then small ones for ever.
void one_large_request() {
    constexpr std::size_t large = 10'000'000;
    bool clean = true;
    auto const capacity_after = [&clean](auto& pool) {
        pool.acquire()->append(large, 'x');
        auto const next = pool.acquire();
        clean = clean && next->empty();
        return next->capacity();
    };
    auto const small = [](std::string const& text) { return text.capacity() <= 65'536; };
    cairn::recycling_pool<std::string> all;
    cairn::recycling_pool<std::string, cairn::reset_object, decltype(small)> choosy(1'024, {}, small);
    std::size_t const kept = capacity_after(all);
    std::size_t const refused = capacity_after(choosy);
    std::cout << "  A string of 10 MB is returned. The next user's string is empty, and holds " << kept
              << " bytes,\n  or, if the pool keeps no string above 64 KiB, " << refused << " bytes.\n";
    check(clean, "the next user finds an empty string");
    check(kept >= large, "a pool that keeps all objects keeps the largest buffer that there ever was");
    check(refused < 65'536, "a rule for what is kept bounds it");
}

}  // namespace

int main() {
    using lecture = lecture_pool<message>;
    using single = by_pool<cairn::object_pool<message>>;
    using concurrent = by_pool<cairn::concurrent_object_pool<message>>;
    std::cout << std::fixed << std::setprecision(1);
    if (hardened)
        std::cout << "This build checks contracts: cairn's pools pay for that in the times below.\n\n";

    std::cout << "1. The lecture's pool, used wrongly\n";
    break_the_lectures_pool();

    std::cout << "\n2. The same mistakes with cairn::object_pool\n";
    try_to_break_cairns_pool();

    std::cout << "\n3. Returned twice, by hand\n";
    return_twice_by_hand();

    // ---- What is there to save? ----
    std::cout << "\n4. Messages of 64 bytes: ns for one out and back (median of 9 rounds)\n";
    if (std::thread::hardware_concurrency() < 2)
        std::cout << "  One core only: the threads take turns, and the last column says little.\n";
    table cheap("", {"one at a time", "1,000 out", "on two threads"});
    cheap.add("new and delete", {one_at_a_time<by_new<message>>, a_thousand_out<by_new<message>>,
                                 on_two_threads<by_new<message>>});
    cheap.add("the lecture's, with its mutex",
              {one_at_a_time<lecture>, a_thousand_out<lecture>, on_two_threads<lecture>});
    cheap.add("cairn::object_pool", {one_at_a_time<single>, a_thousand_out<single>, nullptr});
    cheap.add("cairn::concurrent_object_pool",
              {one_at_a_time<concurrent>, a_thousand_out<concurrent>, on_two_threads<concurrent>});
    cheap.measure_and_print();
    std::cout << std::setprecision(2) << "  In this run, one at a time: object_pool was "
              << cheap.gain(0, 2, 0) << " x as fast as new and delete, the lecture's " << cheap.gain(0, 1, 0)
              << " x.\n  On two threads: the lecture's was " << cheap.gain(0, 1, 2)
              << " x as fast as new and delete, concurrent_object_pool " << cheap.gain(0, 3, 2) << " x.\n";
    if (cheap.gain(0, 1, 2) < 1)
        std::cout << "  With a lock around it, the pool that was to be faster than malloc is slower: the two "
                     "threads wait\n  for each other. malloc gives each thread a store of its own; so must a "
                     "pool.\n";
    std::cout << std::setprecision(1);

    std::cout << "\n5. Objects that own buffers: ns to read a request of 4 KiB in 64 pieces\n";
    table costly("", {"a request"});
    costly.add("new and delete", {reading_a_request<by_new<parsed>>});
    costly.add("cairn::object_pool", {reading_a_request<by_pool<cairn::object_pool<parsed>>>});
    costly.add("the lecture's, with its mutex", {reading_a_request<lecture_pool<parsed>>});
    costly.add("cairn::recycling_pool", {reading_a_request<by_recycling<parsed>>});
    costly.measure_and_print();
    std::cout << std::setprecision(2) << "  In this run object_pool was " << costly.gain(0, 1, 0)
              << " x as fast as new and delete, and recycling_pool " << costly.gain(0, 3, 0)
              << " x.\n"
                 "  Where the buffers cost, the object's own memory is the smaller part: keep the object "
                 "whole.\n"
              << std::setprecision(1);

    // ---- When not to pool. ----
    std::cout << "\n6. When not: objects that do something. ns for one out and back, with work on it\n";
    table working("steps of work", {"0", "30", "300", "3,000"});
    working.add("new and delete",
                {one_at_a_time<by_new<message>>, one_at_a_time<by_new<message>, 30>,
                 one_at_a_time<by_new<message>, 300>, one_at_a_time<by_new<message>, 3'000>});
    working.add("cairn::object_pool", {one_at_a_time<single>, one_at_a_time<single, 30>,
                                       one_at_a_time<single, 300>, one_at_a_time<single, 3'000>});
    working.measure_and_print();
    std::cout << std::setprecision(2) << "  object_pool, times as fast:     ";
    for (std::size_t column = 0; column < 4; ++column)
        std::cout << std::setw(18) << working.gain(0, 1, column);
    std::cout << std::setprecision(1)
              << "\n  The pool saves the same few nanoseconds each time. Beside a microsecond they are "
                 "nothing.\n";

    std::cout
        << "\n7. When not: a pool that ends with its objects. ns for one, in a new pool for each group\n";
    table once("objects in the group", {"2", "16", "128", "1,024"});
    once.add("new and delete", {used_once<by_new<message>, 2>, used_once<by_new<message>, 16>,
                                used_once<by_new<message>, 128>, used_once<by_new<message>, 1'024>});
    once.add("cairn::object_pool",
             {used_once<single, 2>, used_once<single, 16>, used_once<single, 128>, used_once<single, 1'024>});
    once.measure_and_print();
    std::cout << std::setprecision(2) << "  object_pool, times as fast:     ";
    for (std::size_t column = 0; column < 4; ++column) std::cout << std::setw(18) << once.gain(0, 1, column);
    std::cout << std::setprecision(1) << "\n  A pool begins with a slab and its lists, "
              << bytes_of_a_new_pool() << " bytes. A few objects do not earn that back.\n";

    std::cout << "\n8. When not: memory that others need\n";
    peaks();
    one_large_request();

    std::cout << "\nClaims\n";
    check(all_were_right, "every object of every contestant held what its owner wrote");
    std::cout
        << "\nThe trade-off: a pool saves the time of an allocation, and costs memory that it does not give "
           "back,\n"
           "and the question who still holds a pointer. One thread: object_pool. Several:\n"
           "concurrent_object_pool, never a lock around a stack. Objects with buffers: recycling_pool, with "
           "a\n"
           "rule for what it keeps. Else: new. First measure how much of your time allocation is:\n"
           "cairn-compare pool has the other allocators. Strings, too, are made again and again, and often\n"
           "the same ones: chapter 8.\n";
    // Exercises (answers: README.md):
    // 1. Reset in lecture_pool::get() instead of put(). Which of the three mistakes of part 1 become less
    //    bad? (recycling_pool resets on the way out.)
    // 2. Write admin = false into request::reset(). How would a test find the next field that is forgotten?
    // 3. Build with -fsanitize=address, keep the raw pointer of an object_pool handle, return the object, and
    //    write through the pointer. Who notices? And with lecture_pool?
    return failures == 0 ? 0 : 1;
}
