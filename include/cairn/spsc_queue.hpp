// SPDX-License-Identifier: MIT
// A bounded queue between one producer thread and one consumer thread: no locks, and few lines that travel.
//
// What such a queue costs is not instructions. It is cache lines: a line that one core wrote and another
// one reads must travel, some 50 ns within a socket and several hundred between two. A lecture's queue:
//
//     push: while (head - tail == n) {}  slots[head % n] = x;  head = head + 1;      // both std::atomic
//     pop:  while (head == tail) {}      x = slots[tail % n];  tail = tail + 1;
//
// is right, and slow. head and tail share a line, so each operation takes it from the other core. Each
// asks for the other's counter although the last answer would mostly do. The stores are seq_cst, a full
// fence on most machines. And % is a division. All known fast queues mend these four. What stays is that
// a message which finds the consumer waiting moves two lines: the counter that is polled, then the slot.
//
//     counters and slots    ┌ head ┐ ─▶  then  ┌ slot ┬ slot ┬ … ┐ ─▶       two trips, one after the other
//     blocks, as here       ┌ count ┬ item ┬ item ┬ … ┐ ─▶                  one: the count brings the item
//
// So for items of 4 to 60 bytes the ring is made of blocks of a line or two, and each block starts with the
// count of its own items. A consumer that lags behind finds whole blocks full and reads one count for all of
// their items. For others the ring is an array and one counter, alone on its line. In both, each side has
// private copies to compute on, and the count is stored right after the item: were the producer's own notes
// written in between, the consumer would often take the line in the gap (one way, 8 bytes: 2 to 3 times
// slower). Both layouts are in detail/spsc_rings.hpp with their memory orders, pair by pair; none is stronger
// than acquire or release, unless the policy lets threads sleep.
//
//   operation             costs                                      writes to a line that the other polls
//   -------------------   ----------------------------------------   -------------------------------------
//   push, pop             O(1), 4 to 100 ns as the lines travel      push: one.  pop: none while not full
//   push_n, pop_n, spans  O(n), one store for each run of slots      one for each run
//   wait: spin            no system call, ever                       none
//   wait: spin_then_yield no system call unless it waits for µs      none
//   wait: spin_then_sleep a seq_cst store and a load at each         one if the other side sleeps
//                         operation (x86: a locked one), to learn
//                         whether the other side sleeps
//
// All N slots can be used, N = 1 too; N need not be a power of two. Memory: the items; in blocks 3 to 52 %
// more (8 bytes: 14 %, 32 bytes: 33 %, 42 bytes: 52 %); and some 800 bytes. Batches of 64 (push_n, reserve)
// are mostly 1.2 to 5 times faster than single items, most at capacities that hold many batches.
//
// When not to use it: more than one thread on a side (use a queue for many, or one of these per pair);
// unbounded bursts; messages of kilobytes (send a pointer). Two threads on one core: use spin_then_sleep.
// Model-checked (tests/spsc_model_test.cpp): every interleaving of short sequences of pushes, pops, batches
// and the end, with every stale value that release/acquire lets a load return. Not checked so: sleeping.
// Sources: Lamport (1983); Giacomoni, Moseley, Vachharajani, "FastForward" (2008): no shared counters;
// Lee, Bu, Chandranmenon, "MCRingBuffer" (2010): cached counters, batches.
// Thread safety: one thread may push and one may pop at a time; close(), size() and empty() are anyone's.
// To hand a side over, let the old thread's last call happen before the new one's first.
//
//   cairn::spsc_queue<int> queue(1'000);
//   std::thread producer([&queue] {
//       for (int i = 0; i < 10'000; ++i) queue.push(i);  // waits while it is full
//       queue.close();
//   });
//   long sum = 0;
//   while (auto item = queue.pop()) sum += *item;        // waits while it is empty; nothing at the end
//   producer.join();
//   std::cout << sum << '\n';
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "detail/assert.hpp"
#include "detail/spsc_rings.hpp"
#include "detail/spsc_storage.hpp"

namespace cairn {

/// Capacity of a queue that is told its size when it is made.
inline constexpr std::size_t dynamic_capacity = 0;

/// Waits by asking again: the lowest latency, and a core of one's own. Makes no system call.
struct spin {
    static constexpr bool sleeps = false;
    /// Called after each vain look. Returns true when it is time to sleep.
    bool wait() noexcept {
        detail::relax();
        return false;
    }
};

/// Asks some thousand times, then lets other threads run between two looks. The default: as fast as spin
/// where both sides are busy, and it goes on where there are fewer cores than threads.
struct spin_then_yield {
    static constexpr bool sleeps = false;
    bool wait() noexcept {
        if (++looks_ < 1'000)
            detail::relax();
        else
            std::this_thread::yield();
        return false;
    }

  private:
    int looks_ = 0;
};

/// Asks some thousand times, then sleeps (std::atomic::wait) until the other side wakes it. For queues that
/// are idle for long. Both sides pay for it at each operation, see the table above. Not between processes:
/// the standard library's wait is for threads of one process.
struct spin_then_sleep {
    static constexpr bool sleeps = true;
    bool wait() noexcept {
        detail::relax();
        return ++looks_ >= 1'000;
    }

  private:
    int looks_ = 0;
};

/// Lays items out by their size: in blocks where that is faster, else in an array. The default.
struct layout_by_size {};

/// Lays items out in an array, whatever their size: not a byte more than they need, and a span may be as
/// long as the capacity. For 4 to 60 bytes single items travel up to 2 times slower, batches as fast.
struct compact_layout {};

/// @tparam T          what is sent: destructible, not const. It is moved out by pop.
/// @tparam Capacity   how many items fit, or dynamic_capacity: then the constructor says. A fixed queue
///                    allocates nothing, holds no pointer, and may stand in shared memory if T is trivially
///                    copyable.
/// @tparam Allocator  for dynamic_capacity.
/// @tparam Wait       how push and pop wait: spin, spin_then_yield, spin_then_sleep.
/// @tparam Layout     how the items lie in memory: layout_by_size, compact_layout.
template <class T, std::size_t Capacity = dynamic_capacity, class Allocator = std::allocator<T>,
          class Wait = spin_then_yield, class Layout = layout_by_size>
class spsc_queue {
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && std::is_nothrow_destructible_v<T>);
    static_assert(Capacity <= std::numeric_limits<std::int32_t>::max());

    using traits = detail::spsc_traits<Wait::sleeps>;
    // Below 4 bytes it is a stream, where long spans count more.
    static constexpr bool in_blocks = std::is_same_v<Layout, layout_by_size> && sizeof(T) >= 4 &&
                                      sizeof(T) <= 60 && alignof(T) <= 32 &&
                                      traits::per_block(sizeof(T), alignof(T)) != 0;
    using ring = detail::spsc_ring<
        std::conditional_t<in_blocks, detail::line_layout<T, traits>, detail::array_layout<T, traits>>>;
    using storage = detail::spsc_storage<ring, Capacity, Allocator>;

  public:
    using value_type = T;
    using allocator_type = Allocator;

    spsc_queue() noexcept  // a queue of fixed capacity: allocates nothing
        requires(Capacity != dynamic_capacity)
    = default;

    /// A queue for `capacity` items. @throws std::invalid_argument if it is 0 or above 2^31 - 1, and what
    /// the allocator throws.
    explicit spsc_queue(std::size_t capacity, Allocator const& allocator = Allocator())
        requires(Capacity == dynamic_capacity)
        : storage_(checked(capacity), allocator) {}

    spsc_queue(spsc_queue const&) = delete;
    spsc_queue& operator=(spsc_queue const&) = delete;

    /// Destroys what was not popped. Precondition: both threads have done with it.
    ~spsc_queue() {
        if constexpr (!std::is_trivially_destructible_v<T>)
            while (ready() != 0) release_one();
    }

    // ---- For the producer. ----

    /// Pushes T(args...) if there is room and the queue is open. If not, args are untouched and it returns
    /// false. Strong guarantee: if the constructor throws, the slot stays free. O(1).
    template <class... Args>
        requires std::constructible_from<T, Args...>
    [[nodiscard]] bool try_emplace(Args&&... args) {
        producer_is_this_thread();
        if (is_closed() || free() == 0) return false;
        std::construct_at(ring_.slot(storage_.blocks()), std::forward<Args>(args)...);
        publish(1);
        return true;
    }
    [[nodiscard]] bool try_push(T const& item) { return try_emplace(item); }
    [[nodiscard]] bool try_push(T&& item) { return try_emplace(std::move(item)); }

    /// Pushes T(args...), after a wait if the queue is full. Returns false, args untouched, if the queue is
    /// or becomes closed. A producer that had to wait goes on when half is free, or soon after: so it
    /// takes the consumer's line once for many items. Exceptions as try_emplace.
    template <class... Args>
        requires std::constructible_from<T, Args...>
    [[gnu::always_inline]] bool emplace(Args&&... args) {
        producer_is_this_thread();
        if (is_closed()) return false;
        if (free() == 0) [[unlikely]]
            if (!wait_for_room()) return false;
        std::construct_at(ring_.slot(storage_.blocks()), std::forward<Args>(args)...);
        publish(1);
        return true;
    }
    // emplace and pop are always inlined: a call in the way of the poll costs a round trip 20 %.
    bool push(T const& item) { return emplace(item); }
    bool push(T&& item) { return emplace(std::move(item)); }

    /// Pushes the first of n items from `first`, as many as there is room for; returns how many. None if the
    /// queue is closed. If a constructor throws, those before it are pushed and the rest is untouched. O(n).
    template <std::input_iterator Iterator>
    [[nodiscard]] std::size_t try_push_n(Iterator first, std::size_t n) {
        producer_is_this_thread();
        if (is_closed()) return 0;
        auto const room = static_cast<std::uint32_t>(std::min<std::size_t>(n, free_for(n)));
        if (room == 0) return 0;
        waking consumer{*this, consumer_sleeps_};
        ring_.fill(storage_.blocks(), capacity_32(), room,
                   [&first](T* slots, std::uint32_t k, std::uint32_t& done) {
                       first = detail::copy_in<usual_run>(first, k, slots, done);
                   });
        return room;
    }
    [[nodiscard]] std::size_t try_push_n(std::span<T const> items) {
        return try_push_n(items.begin(), items.size());
    }

    /// Pushes all of `items`, waiting as push does. Returns how many were pushed: all, or fewer if the queue
    /// was closed meanwhile. Exceptions as try_push_n.
    std::size_t push_n(std::span<T const> items) {
        std::size_t pushed = 0;
        for (;;) {
            pushed += try_push_n(items.subspan(pushed));
            if (pushed == items.size() || is_closed() || !wait_for_room()) return pushed;
        }
    }

    /// Up to n free slots that follow each other in memory, none if the queue is full or closed. They hold
    /// no objects: construct the first k in place, then commit(k). The same again until commit. In blocks a
    /// span has at most max_span() slots: ask again. O(1).
    [[nodiscard]] std::span<T> reserve(std::size_t n) noexcept {
        producer_is_this_thread();
        if (is_closed()) return {};
        std::uint32_t const run = ring_.run(capacity_32());
        std::uint32_t const room = free_for(std::min<std::size_t>(run, n));
        return {ring_.slot(storage_.blocks()), std::min<std::size_t>({room, run, n})};
    }
    /// Pushes the first n items of the reserved span. Precondition: they are constructed.
    void commit(std::size_t n) noexcept {
        CAIRN_ASSERT(n <= free() && n <= ring_.run(capacity_32()));
        if (n != 0) publish(static_cast<std::uint32_t>(n));
    }

    // ---- For the consumer. ----

    /// The oldest item, or nullptr if there is none. It stays where it is until pop_front(). O(1).
    [[nodiscard]] T* front() noexcept {
        consumer_is_this_thread();
        return ready() == 0 ? nullptr : ring_.front(storage_.blocks());
    }
    /// Destroys the item that front() returned and frees its slot. Precondition: front() was not null.
    void pop_front() noexcept {
        CAIRN_ASSERT(ready() != 0);
        release_one();
        wake(producer_sleeps_);
    }

    /// The oldest item, moved out, or nothing if there is none. If the move throws, the item stays.
    [[nodiscard]] std::optional<T> try_pop() {
        consumer_is_this_thread();
        std::optional<T> item;
        if (ready() != 0) take([&](T&& from) { item.emplace(std::move(from)); });
        return item;
    }
    /// The same by assignment; false if there is none.
    [[nodiscard]] bool try_pop(T& item) {
        consumer_is_this_thread();
        if (ready() == 0) return false;
        take([&](T&& from) { item = std::move(from); });
        return true;
    }

    /// The oldest item, after a wait if there is none. Nothing once the queue is closed and drained.
    [[gnu::always_inline]] std::optional<T> pop() {
        consumer_is_this_thread();
        std::optional<T> item;
        if (ready() != 0 || wait_for_items()) take([&](T&& from) { item.emplace(std::move(from)); });
        return item;
    }
    /// The same by assignment; false once the queue is closed and drained.
    [[gnu::always_inline]] bool pop(T& item) {
        consumer_is_this_thread();
        if (ready() == 0)
            if (!wait_for_items()) return false;
        take([&](T&& from) { item = std::move(from); });
        return true;
    }

    /// Moves up to n items to `out`; returns how many. If an assignment throws, that item and those behind it
    /// stay. O(n).
    template <class Iterator>
        requires std::output_iterator<Iterator, T&&>
    [[nodiscard]] std::size_t try_pop_n(Iterator out, std::size_t n) {
        consumer_is_this_thread();
        waking producer{*this, producer_sleeps_};
        return ring_.drain(storage_.blocks(), capacity_32(),
                           static_cast<std::uint32_t>(std::min<std::size_t>(n, capacity())),
                           [&out](T* items, std::uint32_t k, std::uint32_t& done) {
                               out = detail::copy_out<usual_run>(items, k, out, done);
                           });
    }
    [[nodiscard]] std::size_t try_pop_n(std::span<T> out) { return try_pop_n(out.begin(), out.size()); }

    /// Waits for one item, then moves up to out.size() out. 0 at the end, or if `out` is empty.
    std::size_t pop_n(std::span<T> out) {
        consumer_is_this_thread();
        if (out.empty() || (ready() == 0 && !wait_for_items())) return 0;
        return try_pop_n(out);
    }

    /// Up to n of the oldest items that follow each other in memory, none if the queue is empty. They stay
    /// until release(). In blocks a span has at most max_span() items: ask again. O(1).
    [[nodiscard]] std::span<T> peek(std::size_t n = std::numeric_limits<std::size_t>::max()) noexcept {
        consumer_is_this_thread();
        std::uint32_t const known = ready();
        if (known == 0) return {};
        return {ring_.front(storage_.blocks()), std::min<std::size_t>(ring_.row(known, capacity_32()), n)};
    }
    /// Shows the oldest items, up to n: visit(span) for each run of them that lies together, in order. They
    /// stay until release(), so a batch can be worked on again when work on it fails. Returns how many it
    /// has shown: all that are there, or n. If visit throws, nothing has changed. O(runs).
    template <std::invocable<std::span<T>> Visit>
    std::size_t peek_n(std::size_t n, Visit&& visit) {
        consumer_is_this_thread();
        auto const most = static_cast<std::uint32_t>(std::min<std::size_t>(n, capacity()));
        return ring_.visit(storage_.blocks(), capacity_32(), most,
                           [&visit](T* items, std::uint32_t k) { visit(std::span<T>(items, k)); });
    }
    /// Destroys the oldest n items, which peek or peek_n has shown, and frees their slots, all at once. O(n).
    void release(std::size_t n) noexcept {
        CAIRN_ASSERT(n <= peek_n(n, [](std::span<T>) {}));
        if (n == 0) return;
        ring_.retire_n(storage_.blocks(), capacity_32(), static_cast<std::uint32_t>(n));
        wake(producer_sleeps_);
    }

    // ---- For both, and for onlookers. ----

    /// For a hand-over: the calling thread pushes, or pops, from now on. Matters to the check that debug
    /// builds make; without it, the first thread that pushes is the producer, the first that pops the
    /// consumer.
    void become_producer() noexcept { producer_.become(); }
    void become_consumer() noexcept { consumer_.become(); }

    /// No item comes in any more. A waiting push reports it at once; pop gives what is left, then the end.
    /// Anyone may call it, also twice. A push that runs at the same time may still get in: the consumer then
    /// sees it, or the destructor does.
    void close() noexcept {
        // seq_cst if the policy sleeps (see wake), else release: pairs with the acquire in is_closed(), so
        // that who sees the end also sees every item that was pushed before it.
        closed_.store(true, traits::tell);
        wake(producer_sleeps_);
        wake(consumer_sleeps_);
    }
    [[nodiscard]] bool is_closed() const noexcept { return closed_.load(traits::look); }

    /// How many items are in it: exact when neither side is at work, else what it was a moment ago.
    [[nodiscard]] std::size_t size() const noexcept {
        return std::min<std::size_t>(ring_.size(), capacity());
    }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    /// How many items fit: exactly what was asked for.
    [[nodiscard]] std::size_t capacity() const noexcept { return storage_.capacity(); }
    /// The longest span that reserve and peek can return.
    [[nodiscard]] std::size_t max_span() const noexcept {
        if constexpr (in_blocks)
            return std::min<std::size_t>(ring::per_block, capacity());
        else
            return capacity();
    }

  private:
    // A batch copies this many items at a time by a size that the compiler knows.
    static constexpr std::size_t usual_run = in_blocks ? ring::per_block : 0;

    struct waking {  // wakes the other side at the end of a batch, also if it ends by an exception
        spsc_queue& queue;
        std::atomic<std::uint32_t>& asleep;
        ~waking() { queue.wake(asleep); }
    };

    [[nodiscard]] static std::size_t checked(std::size_t capacity) {
        if (capacity == 0 || capacity > std::numeric_limits<std::int32_t>::max())
            throw std::invalid_argument("spsc_queue: a capacity of " + std::to_string(capacity) +
                                        " is not between 1 and 2147483647");
        return capacity;
    }
    [[nodiscard]] std::uint32_t capacity_32() const noexcept {
        return static_cast<std::uint32_t>(storage_.capacity());
    }

    [[nodiscard]] std::uint32_t free() noexcept { return ring_.free(capacity_32()); }
    /// The free slots; asks again if those known of are fewer than n.
    [[nodiscard]] std::uint32_t free_for(std::size_t n) noexcept {
        std::uint32_t const known = free();
        return known < n ? ring_.ask_free(capacity_32()) : known;
    }
    [[nodiscard]] std::uint32_t ready() noexcept { return ring_.ready(storage_.blocks()); }
    void publish(std::uint32_t n) noexcept {
        ring_.publish(storage_.blocks(), capacity_32(), n);
        wake(consumer_sleeps_);
    }
    void release_one() noexcept {
        std::destroy_at(ring_.front(storage_.blocks()));
        ring_.retire(capacity_32(), 1);
    }
    template <class Move>
    void take(Move move) {
        move(std::move(*ring_.front(storage_.blocks())));
        release_one();
        wake(producer_sleeps_);
    }

    /// Waits until an item is ready. False if the queue is closed and drained.
    [[nodiscard, gnu::noinline]] bool wait_for_items() noexcept {
        Wait policy;
        for (;;) {
            // The caller has just looked: another look now would only take the line from the producer.
            if (policy.wait()) sleep(consumer_sleeps_, [this] { return ready() != 0; });
            // The end is read before the items: items that came before the end are then seen.
            bool const last_look = is_closed();
            if (ready() != 0) return true;
            if (last_look) return false;
        }
    }

    [[nodiscard, gnu::noinline]] bool wait_for_room() noexcept {
        std::uint32_t const plenty = capacity_32() / 2 + 1;
        Wait policy;
        for (int looks = 0;; ++looks) {
            if (is_closed()) return false;
            std::uint32_t const room = ring_.ask_free(capacity_32());
            if (room >= plenty || (room != 0 && looks > 64)) return true;
            if (policy.wait()) {
                if (room != 0) return true;
                sleep(producer_sleeps_, [this] { return ring_.ask_free(capacity_32()) != 0; });
            }
        }
    }

    /// Sleeps until the other side wakes it, unless there is no reason to. seq_cst: pairs with wake(). Either
    /// this thread sees what was published, or the other one sees that this one sleeps.
    template <class Awake>
    void sleep(std::atomic<std::uint32_t>& asleep, Awake awake) noexcept {
        asleep.store(1, std::memory_order_seq_cst);
        if (awake() || closed_.load(std::memory_order_seq_cst))
            asleep.store(0, std::memory_order_relaxed);
        else
            asleep.wait(1, std::memory_order_relaxed);  // what it waited for is read, with acquire, by awake
    }
    void wake(std::atomic<std::uint32_t>& asleep) noexcept {
        if constexpr (Wait::sleeps)
            if (asleep.load(std::memory_order_seq_cst) != 0) [[unlikely]] {
                asleep.store(0, std::memory_order_relaxed);
                asleep.notify_one();
            }
    }

    void producer_is_this_thread() noexcept { CAIRN_ASSERT(producer_.is_this_thread()); }
    void consumer_is_this_thread() noexcept { CAIRN_ASSERT(consumer_.is_this_thread()); }

    storage storage_;  // where the slots are: written once, read by both
    std::atomic<bool> closed_{false};
    ring ring_;
    alignas(detail::apart) std::atomic<std::uint32_t> producer_sleeps_{0};
    std::atomic<std::uint32_t> consumer_sleeps_{0};
    [[no_unique_address]] detail::one_thread<0> producer_;  // checked in debug builds, else nothing
    [[no_unique_address]] detail::one_thread<1> consumer_;
};

}  // namespace cairn
