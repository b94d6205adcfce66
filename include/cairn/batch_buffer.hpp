// SPDX-License-Identifier: MIT
// Three buffers before a slow sink: one that stops the world, one that swaps, one that copies.
//
// A row in a transaction of its own costs a database 16 to 260 µs; one of a thousand rows in a transaction
// 0.4 to 3 µs. So events are gathered and written a batch at a time. Who waits while a batch is written?
//
//     single   push ─▶ [■■■■■■■■] ─▶ sink                  the push that fills it writes it; all wait
//     double   push ─▶ [■■■     ] ⇄ [■■■■■■■■] ─▶ sink      swapped when full, written by another thread
//     copy     push ─▶ [■■■     ] ─▶ [■■■■■■■■] ─▶ sink      copied when full, the copy is written
//
// All three hold n items in each of their buffers and lose none. They differ in what a push costs:
//
//   the push …                    single          double                 copy
//   ---------------------------   -------------   --------------------   --------------------------
//   that finds room               a lock          a lock                 a lock
//   that fills the buffer         the whole       a swap, and waking a   n copies under the lock, and
//                                 flush           thread that sleeps     waking a thread that sleeps
//     64 bytes, n = 1,000 *       0.3 to 0.5 ms   6 to 14 µs             9 to 22 µs
//     64 bytes, n = 10,000        3.4 to 5.1 ms   39 to 58 µs            100 µs
//   while the sink stalls for T   T               T - the time in which n more arrive, for both
//   memory                        n items         2 n items              2 n items
//
//   * p99.9 and p99.99 of push: that one push in n. 100,000 a second into SQLite, one and two producers on
//     two cores, medians of 5 runs.
//
// The swap is nanoseconds; the price is the system call that wakes the flusher. And the last row but one
// holds for any number N of buffers: the longest pause is T - (N - 1) x n / rate, so two are seldom enough
// for a sink that stalls. The copy takes the memory of two buffers too, and pays for each item once more: it
// is for those whose items change after they were pushed.
//
// A sink is called with a span of all items of a batch, never empty, one call at a time. It may move from
// them, unless it throws afterwards. If it throws, the batch stays as it is and first in line, and the next
// push, flush or close throws that exception: once, and without having done anything. Then the batch is
// tried again. So nobody is told twice, nothing is lost, and order is kept. A sink that commits and then
// throws gets the batch again: write by a key, if that must not happen.
//
// When not to use it: in a program that is to go fast. cairn::batcher has a lane for each producer, makes no
// system call in push, waits a while for small batches, retries, and limits how long anybody waits. These
// here teach what it is made of, and are what it is measured against.
// Sources: Gray and Reuter, "Transaction Processing" (1992), group commit.
// Thread safety: all calls but the destructor, from any threads. Not from the sink: that would deadlock.
//
//   std::vector<int> rows;  // stands for a table
//   auto const insert = [&rows](std::span<int> batch) {
//       rows.insert(rows.end(), batch.begin(), batch.end());
//   };
//   cairn::double_buffer<int, decltype(insert)> buffer(insert, 100);
//   for (int i = 0; i < 1'050; ++i)
//       if (!buffer.push(i)) return 1;  // false: it is closed
//   buffer.close();
//   std::cout << rows.size() << " rows in " << buffer.stats().batches << " batches\n";  // 1050 in 11
#pragma once

#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace cairn {

/// What a buffer has done so far. accepted - delivered are still in it.
struct buffer_stats {
    std::uint64_t accepted = 0;   ///< items that push took
    std::uint64_t delivered = 0;  ///< items that the sink took
    std::uint64_t batches = 0;    ///< calls of the sink that returned
};

/// What the three have in common, so that one can stand for another.
template <class Buffer, class T>
concept batch_buffer = requires(Buffer& buffer, Buffer const& seen, T&& item) {
    { buffer.push(std::move(item)) } -> std::same_as<bool>;
    buffer.flush();
    buffer.close();
    { seen.stats() } -> std::same_as<buffer_stats>;
};

/// One buffer. The push that fills it calls the sink, under the lock: so all producers stop meanwhile.
/// @tparam T     movable.
/// @tparam Sink  callable with std::span<T>; may throw, see above.
template <class T, class Sink>
    requires std::invocable<Sink&, std::span<T>>
class single_buffer {
  public:
    using value_type = T;

    /// A buffer that calls the sink for `batch` items at a time. Memory: all of it now, batch x sizeof(T).
    /// @throws std::invalid_argument if batch is 0, and what the allocator throws.
    explicit single_buffer(Sink sink, std::size_t batch) : batch_(batch), sink_(std::move(sink)) {
        if (batch == 0) throw std::invalid_argument("cairn::single_buffer: a batch of 0 items");
        items_.reserve(batch);
    }
    single_buffer(single_buffer const&) = delete;
    single_buffer& operator=(single_buffer const&) = delete;

    /// Delivers what is left, as close does. If the sink throws here and no caller has heard of that batch's
    /// failure before, the program ends (std::terminate): a destructor cannot report a loss, and must not
    /// hide it. If one has, what is left is dropped. Precondition: no other call is running.
    ~single_buffer() {
        deliver();
        if (error_ && !heard_) std::rethrow_exception(error_);
    }

    /// Adds an item; one call in `batch` is as long as the sink takes. Returns false if the buffer is closed.
    /// @throws what the sink threw before, and what T's move throws; the item was not taken then.
    [[nodiscard]] bool push(T item) {
        std::lock_guard const lock(mutex_);
        if (closed_) return false;
        tell();
        if (items_.size() == batch_) {  // the sink refused it before
            deliver();
            tell();
        }
        items_.push_back(std::move(item));
        ++stats_.accepted;
        // This item is taken. So what the sink throws now is for the next caller.
        if (items_.size() == batch_) deliver();
        return true;
    }

    /// Returns when all items that were accepted before the call are delivered.
    /// @throws what the sink throws, or threw before; the items are still there then.
    void flush() {
        std::lock_guard const lock(mutex_);
        tell();
        deliver();
        tell();
    }

    /// Refuses items from now on, and delivers what is there. May be called again.
    /// @throws as flush; the buffer is closed nonetheless, and another call tries again.
    void close() {
        std::lock_guard const lock(mutex_);
        closed_ = true;
        tell();
        deliver();
        tell();
    }

    /// Waits for a flush that runs. O(1).
    [[nodiscard]] buffer_stats stats() const {
        std::lock_guard const lock(mutex_);
        return stats_;
    }

  private:
    void deliver() noexcept {
        error_ = nullptr;
        if (items_.empty()) return;
        try {
            sink_(std::span<T>(items_));
        } catch (...) {
            error_ = std::current_exception();
            return;
        }
        stats_.delivered += items_.size();
        ++stats_.batches;
        heard_ = false;
        items_.clear();
    }
    void tell() {
        if (!error_) return;
        heard_ = true;
        std::rethrow_exception(std::exchange(error_, nullptr));
    }

    std::size_t const batch_;
    mutable std::mutex mutex_;  // guards all below
    Sink sink_;
    std::vector<T> items_;      // never more than batch_, so it never grows
    std::exception_ptr error_;  // what the sink threw, until a caller has heard of it
    bool heard_ = false;        // a caller has heard that items_ failed
    bool closed_ = false;
    buffer_stats stats_;
};

/// How a full buffer becomes the one that is flushed: the two change places. O(1), whatever T is.
struct by_swap {
    template <class T>
    static void hand_over(std::vector<T>& full, std::vector<T>& empty) noexcept {
        full.swap(empty);
    }
};

/// How a full buffer becomes the one that is flushed: each item is copied. O(n); needs copyable items.
struct by_copy {
    template <std::copyable T>
    static void hand_over(std::vector<T>& full, std::vector<T>& empty) {
        empty.assign(full.begin(), full.end());  // into memory that is used again: a fresh one costs more
        full.clear();
    }
};

/// Two buffers and a thread. Producers fill one while the thread gives the other to the sink. A push waits
/// only while both are full.
/// @tparam T         movable; for by_copy also copyable.
/// @tparam Sink      callable with std::span<T>; may throw, see above. It is called on the buffer's thread.
/// @tparam HandOver  by_swap or by_copy.
template <class T, class Sink, class HandOver>
    requires std::invocable<Sink&, std::span<T>>
class two_buffers {
  public:
    using value_type = T;

    /// A buffer that calls the sink for at most `batch` items at a time. Memory: all of it now, 2 x batch x
    /// sizeof(T). @throws std::invalid_argument if batch is 0, std::system_error if there is no thread to
    /// be had, and what the allocator throws.
    explicit two_buffers(Sink sink, std::size_t batch) : batch_(batch), sink_(std::move(sink)) {
        if (batch == 0) throw std::invalid_argument("cairn::two_buffers: a batch of 0 items");
        filling_.reserve(batch);
        flushing_.reserve(batch);
        flusher_ = std::thread([this] { run(); });
    }
    two_buffers(two_buffers const&) = delete;
    two_buffers& operator=(two_buffers const&) = delete;

    /// Delivers what is left, as close does, and ends the thread. If the sink throws here and no caller has
    /// heard of that batch's failure before, the program ends (std::terminate): a destructor cannot report a
    /// loss, and must not hide it. If one has, what is left is dropped. Precondition: no other call is
    /// running.
    ~two_buffers() {
        {
            std::unique_lock lock(mutex_);
            error_ = nullptr;  // so it is tried once more
            drain(lock);
            if (error_ && !heard_) std::rethrow_exception(error_);
            ended_ = true;
        }
        work_.notify_one();
        flusher_.join();
    }

    /// Adds an item, after a wait if both buffers are full. One call in `batch` hands the batch over and
    /// wakes the flusher. Returns false if the buffer is, or becomes, closed.
    /// @throws what the sink or (by_copy) T's copy threw before, and what T's move throws; the item was not
    /// taken then.
    [[nodiscard]] bool push(T item) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || error_ || filling_.size() < batch_; });
        if (closed_) return false;
        tell();
        filling_.push_back(std::move(item));
        ++stats_.accepted;
        if (filling_.size() < batch_ || busy_) return true;
        hand_over();
        lock.unlock();  // or the flusher would wake, and wait for it
        work_.notify_one();
        return true;
    }

    /// Returns when all items that were accepted before the call are delivered, whatever comes in meanwhile.
    /// @throws what the sink throws, or threw before; the items are still there then.
    void flush() {
        std::unique_lock lock(mutex_);
        std::uint64_t const ticket = stats_.accepted;
        flush_to_ = ticket;
        work_.notify_one();
        changed_.wait(lock, [&] { return error_ || stats_.delivered >= ticket; });
        if (stats_.delivered < ticket) tell();
    }

    /// Refuses items from now on, those of pushes that wait too, and delivers what is there. May be called
    /// again. @throws as flush; the buffer is closed nonetheless, and another call tries again.
    void close() {
        std::unique_lock lock(mutex_);
        drain(lock);
        tell();
    }

    /// Does not wait for the sink. O(1).
    [[nodiscard]] buffer_stats stats() const {
        std::lock_guard const lock(mutex_);
        return stats_;
    }

  private:
    // filling_ belongs to whoever holds the mutex. So does flushing_, but while busy_ to the flusher alone.
    // Items go in at the end of filling_, and all of it moves on at once: so order is kept.

    void run() noexcept {
        std::unique_lock lock(mutex_);
        for (;;) {
            work_.wait(lock, [this] { return ended_ || (!error_ && (busy_ || due() || finished())); });
            if (ended_ || finished()) return;
            if (!busy_) {
                hand_over();
                if (!busy_) continue;  // a copy threw
            }
            lock.unlock();
            std::exception_ptr error;
            std::size_t const size = flushing_.size();
            try {
                sink_(std::span<T>(flushing_));
                flushing_.clear();
            } catch (...) {
                error = std::current_exception();
            }
            lock.lock();
            if (error) {
                error_ = error;  // nothing more until a caller has heard of it
            } else {
                stats_.delivered += size;
                ++stats_.batches;
                busy_ = heard_ = false;
            }
            changed_.notify_all();
        }
    }

    /// Whether a batch should go although nobody has handed it over. Holds only if filling_ has items.
    [[nodiscard]] bool due() const {
        return !filling_.empty() && (closed_ || filling_.size() == batch_ || stats_.delivered < flush_to_);
    }
    [[nodiscard]] bool finished() const { return closed_ && stats_.delivered == stats_.accepted; }

    void hand_over() noexcept {
        try {
            HandOver::hand_over(filling_, flushing_);
            busy_ = true;
        } catch (...) {
            flushing_.clear();
            error_ = std::current_exception();
        }
        changed_.notify_all();
    }
    void drain(std::unique_lock<std::mutex>& lock) {
        closed_ = true;
        work_.notify_one();
        changed_.notify_all();
        changed_.wait(lock, [this] { return error_ || finished(); });
    }
    void tell() {
        if (!error_) return;
        heard_ = true;
        work_.notify_one();  // it may be tried again
        std::rethrow_exception(std::exchange(error_, nullptr));
    }

    std::size_t const batch_;
    Sink sink_;                        // the flusher's
    mutable std::mutex mutex_;         // guards all below
    std::condition_variable work_;     // the flusher waits here
    std::condition_variable changed_;  // callers wait here: for room, for a delivery, for an error
    std::vector<T> filling_;           // never more than batch_, so it never grows
    std::vector<T> flushing_;
    bool busy_ = false;           // flushing_ holds a batch
    std::uint64_t flush_to_ = 0;  // so many items are not to wait for a full batch
    std::exception_ptr error_;    // what the sink threw, until a caller has heard of it
    bool heard_ = false;          // a caller has heard that the first batch in line failed
    bool closed_ = false;
    bool ended_ = false;
    buffer_stats stats_;
    std::thread flusher_;  // last: it uses all others
};

/// Two buffers that are swapped. What push pays for a batch is O(1), and waking the flusher.
template <class T, class Sink>
using double_buffer = two_buffers<T, Sink, by_swap>;

/// Two buffers, the second a copy of the first. What push pays for a batch is O(batch), and waking the
/// flusher.
template <class T, class Sink>
using copy_buffer = two_buffers<T, Sink, by_copy>;

}  // namespace cairn
