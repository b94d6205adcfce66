// SPDX-License-Identifier: MIT
// The two rings of slots under spsc_queue, and the memory-order argument of each.
//
// Both give the producer `free`, `slot`, `advance`, `tell` and the consumer `ready`, `front`, `retire`. All
// counts are 32-bit and wrap; only their differences mean anything. A ring holds no pointer: the slots are
// handed in at each call, so a ring can stand in memory that two processes map at different addresses.
//
// Who may call what: producer functions one thread, consumer functions one thread, at a time. `size` any.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace cairn::detail {

/// Two lines: today's CPUs fetch lines in pairs, so neighbours of one pair disturb each other too.
inline constexpr std::size_t apart = 128;
inline constexpr std::size_t line = 64;

/// What a ring is built from. The tests put in atomics that play out every interleaving, and counters that
/// start shortly before they wrap.
struct spsc_traits {
    template <class U>
    using atomic = std::atomic<U>;
    static constexpr std::uint32_t start = 0;

    /// How many items share a line with their count. Longer blocks make batches faster (two lines: 1.3
    /// times), but then the polled line is not the item's: a round trip between distant cores took 1.3 times
    /// as long.
    static constexpr std::size_t per_block(std::size_t size, std::size_t align) {
        return (line - std::max(align, sizeof(std::uint32_t))) / size;
    }
};

/// What the producer of either ring knows about room.
template <class Traits>
struct producer_counts {
    std::uint32_t pushed = Traits::start;   // items ever
    std::uint32_t retired = Traits::start;  // as far as the producer knows

    [[nodiscard]] std::uint32_t free(std::uint32_t capacity) const noexcept {
        return capacity - (pushed - retired);
    }
    template <class Atomic>
    [[nodiscard]] std::uint32_t ask_free(std::uint32_t capacity, Atomic const& consumers,
                                         std::memory_order acquire) noexcept {
        // acquire: pairs with the release in retire(): the consumer has done with those slots.
        retired = consumers.load(acquire);
        return free(capacity);
    }
};

/// For small items: blocks of one cache line, each a count and the items that it counts. The line that the
/// consumer polls is the line that brings the item.
///
///     block   ┌ published ┬ item ┬ item ┬ … ┐      published = how many items were ever written to this
///             └───────────┴──────┴──────┴───┘      block, all laps together
///
/// Invariants. With N the capacity and K the items per block there are ceil(N / K) + 1 blocks: so when the
/// producer enters a block again, the consumer has left it, and `published` counts one lap only.
/// Position p of the sequence lives in block p / K mod blocks, slot p mod K.
template <class T, class Traits>
class line_ring {
    using count = std::uint32_t;
    template <class U>
    using atomic = typename Traits::template atomic<U>;

  public:
    static constexpr count per_block = static_cast<count>(Traits::per_block(sizeof(T), alignof(T)));

    struct alignas(line) block {
        atomic<count> published{Traits::start};
        alignas(T) std::byte slots[per_block * sizeof(T)];
    };
    static constexpr std::size_t blocks(std::size_t capacity) {
        return (capacity + per_block - 1) / per_block + 1;
    }

    // ---- The producer's. ----

    /// How many slots are free, as far as is known without asking; asks only if it knows of none.
    [[nodiscard]] count free(count capacity, std::memory_order acquire) noexcept {
        count const known = producer_.free(capacity);
        return known != 0 ? known : ask_free(capacity, acquire);
    }
    [[nodiscard]] count ask_free(count capacity, std::memory_order acquire) noexcept {
        return producer_.ask_free(capacity, retired_, acquire);
    }
    /// How many slots follow each other in memory, the next one first.
    [[nodiscard]] count run(count /*capacity*/) const noexcept { return per_block - producer_.slot; }
    [[nodiscard]] T* slot(block* blocks) const noexcept {
        return at(blocks[producer_.block], producer_.slot);
    }

    /// What the consumer has yet to be told of: a block, and its count.
    struct news {
        count block;
        count published;
    };
    /// Moves on by n constructed items, of which nobody is told yet. n is not more than run().
    [[nodiscard]] news advance(count capacity, count n) noexcept {
        producer_.slot += n;
        // For size() only. Before the store in tell(), so that no one sees an item gone that was not counted.
        pushed_.store(producer_.pushed += n, std::memory_order_relaxed);
        news const made{producer_.block, producer_.lap + producer_.slot};
        if (producer_.slot == per_block) {
            producer_.slot = 0;
            if (++producer_.block == line_ring::blocks(capacity)) {
                producer_.block = 0;
                producer_.lap += per_block;
            }
        }
        return made;
    }
    /// Hands what was constructed to the consumer. Of a batch the first block comes last: until then the
    /// consumer sees none of it, and does not take away the lines that are being written.
    static constexpr bool first_block_last = true;
    void tell(block* blocks, news const& made, std::memory_order release) noexcept {
        // release: pairs with the acquire in ready(): who sees the count sees the items.
        blocks[made.block].published.store(made.published, release);
    }

    // ---- The consumer's. ----

    /// How many items can be read; looks for more only if it knows of none.
    [[nodiscard]] count ready(block* blocks, count /*capacity*/, std::memory_order acquire) noexcept {
        if (consumer_.ready == 0)
            // acquire: pairs with the release in tell().
            consumer_.ready =
                blocks[consumer_.block].published.load(acquire) - (consumer_.lap + consumer_.slot);
        return consumer_.ready;
    }
    /// How many of n ready items follow each other in memory.
    [[nodiscard]] static count row(count n, count /*capacity*/) noexcept { return n; }
    [[nodiscard]] T* front(block* blocks) const noexcept {
        return std::launder(at(blocks[consumer_.block], consumer_.slot));
    }
    /// Gives the slots of n destroyed items back. n is not more than ready() said.
    void retire(count capacity, count n, std::memory_order release) noexcept {
        consumer_.ready -= n;
        consumer_.slot += n;
        if (consumer_.slot == per_block) {
            consumer_.slot = 0;
            if (++consumer_.block == line_ring::blocks(capacity)) {
                consumer_.block = 0;
                consumer_.lap += per_block;
            }
        }
        // release: pairs with the acquire in ask_free(). Each pop publishes, so a full queue has room as
        // soon as one item is gone; the line is the consumer's own until the producer, full, asks for it.
        retired_.store(consumer_.retired += n, release);
    }

    [[nodiscard]] count size() const noexcept {
        // In this order the difference is never negative: what was retired had been pushed. acquire: pairs
        // with the release in retire(), so that the push of an item that was retired is counted.
        count const retired = retired_.load(std::memory_order_acquire);
        return pushed_.load(std::memory_order_relaxed) - retired;
    }

  private:
    [[nodiscard]] static T* at(block& block, count slot) noexcept {
        return reinterpret_cast<T*>(block.slots + slot * sizeof(T));
    }

    struct alignas(apart) producer : producer_counts<Traits> {
        count block = 0, slot = 0;  // where the next item goes
        count lap = Traits::start;  // items ever written to this block before this lap
    } producer_;
    alignas(apart) atomic<count> pushed_{Traits::start};
    struct alignas(apart) consumer {
        count retired = Traits::start;
        count ready = 0;  // items known to stand in a row at the front
        count block = 0, slot = 0;
        count lap = Traits::start;
    } consumer_;
    alignas(apart) atomic<count> retired_{Traits::start};
};

/// For all other items: an array, and two counters. A message that finds the consumer waiting moves two
/// kinds of lines, the counter's and the item's. What keeps it fast: each side works on copies of its own
/// counter and asks for the other's only when its copy says full or empty, and a published counter has its
/// line to itself, so that polling it does not take the line that the producer computes on.
///
/// Invariant: `published` and `retired` never differ by more than the capacity; the slots between them hold
/// items.
template <class T, class Traits>
class array_ring {
    using count = std::uint32_t;
    template <class U>
    using atomic = typename Traits::template atomic<U>;

  public:
    static constexpr count per_block = 1;
    struct block {
        alignas(T) std::byte slot[sizeof(T)];
    };
    static constexpr std::size_t blocks(std::size_t capacity) { return capacity; }

    [[nodiscard]] count free(count capacity, std::memory_order acquire) noexcept {
        count const known = producer_.free(capacity);
        return known != 0 ? known : ask_free(capacity, acquire);
    }
    [[nodiscard]] count ask_free(count capacity, std::memory_order acquire) noexcept {
        return producer_.ask_free(capacity, retired_, acquire);
    }
    [[nodiscard]] count run(count capacity) const noexcept { return capacity - producer_.at; }
    [[nodiscard]] T* slot(block* blocks) const noexcept {
        return reinterpret_cast<T*>(blocks[producer_.at].slot);
    }
    using news = count;
    [[nodiscard]] news advance(count capacity, count n) noexcept {
        if ((producer_.at += n) == capacity) producer_.at = 0;
        return producer_.pushed += n;
    }
    static constexpr bool first_block_last = false;  // the last news says it all
    void tell(block* /*blocks*/, news made, std::memory_order release) noexcept {
        // release: pairs with the acquire in ready(): who sees the count sees the items.
        published_.store(made, release);
    }

    [[nodiscard]] count ready(block* /*blocks*/, count /*capacity*/, std::memory_order acquire) noexcept {
        if (consumer_.published == consumer_.retired)
            // acquire: pairs with the release in tell().
            consumer_.published = published_.load(acquire);
        return consumer_.published - consumer_.retired;
    }
    [[nodiscard]] count row(count n, count capacity) const noexcept {
        return std::min(n, capacity - consumer_.at);
    }
    [[nodiscard]] T* front(block* blocks) const noexcept {
        return std::launder(reinterpret_cast<T*>(blocks[consumer_.at].slot));
    }
    void retire(count capacity, count n, std::memory_order release) noexcept {
        if ((consumer_.at += n) == capacity) consumer_.at = 0;
        // release: pairs with the acquire in ask_free().
        retired_.store(consumer_.retired += n, release);
    }

    [[nodiscard]] count size() const noexcept {
        // acquire: as in line_ring::size().
        count const retired = retired_.load(std::memory_order_acquire);
        return published_.load(std::memory_order_relaxed) - retired;
    }

  private:
    struct alignas(apart) producer : producer_counts<Traits> {
        count at = 0;
    } producer_;
    alignas(apart) atomic<count> published_{Traits::start};
    struct alignas(apart) consumer {
        count published = Traits::start;  // as far as the consumer knows
        count retired = Traits::start;
        count at = 0;
    } consumer_;
    alignas(apart) atomic<count> retired_{Traits::start};
};

}  // namespace cairn::detail
