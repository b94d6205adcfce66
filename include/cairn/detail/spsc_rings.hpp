// SPDX-License-Identifier: MIT
// The ring under spsc_queue in its two layouts, and the memory-order argument.
//
// A layout says where items lie and which counter tells the consumer of them; the ring does the rest, alike
// for both. All counts are 32-bit and wrap; only their differences mean anything. A ring holds no pointer:
// the blocks are handed in at each call, so a ring can stand in memory that two processes map at different
// addresses.
//
//   what is written       by        with      read by, with            what the reader may do then
//   -------------------   -------   -------   ----------------------   -----------------------------------
//   published (a count)   tell()    release   look() acquire           read the items that were constructed
//   retired_              retire()  release   ask_free() acquire       write the slots that were left
//
// Nothing else is shared. Who may call what: producer functions one thread, consumer functions one thread,
// at a time; size() anyone.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

namespace cairn::detail {

/// Two lines: today's CPUs fetch lines in pairs, so neighbours of one pair disturb each other too.
inline constexpr std::size_t apart = 128;
inline constexpr std::size_t line = 64;

/// Asks for the line at p, to write to it.
inline void claim(void const* p) noexcept {
#if defined(__x86_64__)
    // GCC makes a plain read of __builtin_prefetch(p, 1) where it is not told that the CPU has prefetchw.
    // All 64-bit ones have; to the oldest it does nothing.
    asm volatile("prefetchw %0" : : "m"(*static_cast<char const*>(p)));
#else
    __builtin_prefetch(p, 1);
#endif
}

/// What a ring is built from. The tests put in atomics that play out every interleaving, counters that start
/// shortly before they wrap, and orders that are too weak. Orders are constants, for GCC takes one that it
/// does not know as seq_cst: a locked store for each block.
/// @tparam Sleeps  whether a side may sleep: what is published, and who sleeps, are then two flags which each
///                 side sets before it reads the other's (Dekker). Only seq_cst orders a store before a load.
template <bool Sleeps>
struct spsc_traits {
    static constexpr std::memory_order tell = Sleeps ? std::memory_order_seq_cst : std::memory_order_release;
    static constexpr std::memory_order retire = tell;
    static constexpr std::memory_order look = Sleeps ? std::memory_order_seq_cst : std::memory_order_acquire;
    static constexpr std::memory_order ask = look;

    template <class U>
    using atomic = std::atomic<U>;
    static constexpr std::uint32_t start = 0;

    /// How many items share a block with their count. One line where that leaves little room empty: the
    /// line that is polled then brings the item. Two lines for 17 to 41 bytes, or a block held one item.
    static constexpr std::size_t per_block(std::size_t size, std::size_t align) {
        std::size_t const bytes = size > 16 && size <= 41 ? 2 * line : line;
        return (bytes - std::max(align, sizeof(std::uint32_t))) / size;
    }
};

/// When the consumer is told of a batch that spans several blocks. Part by part, it starts at once. With the
/// first part last it sees none until all are there, and does not take the lines that are being written
/// away: with blocks of two lines that made batches 2 times faster, with one line no faster.
enum class telling { part_by_part, first_part_last, at_the_end };

/// For small items: blocks of a cache line or two, each a count and the items that it counts.
///
///     block   ┌ published ┬ item ┬ item ┬ … ┐      published = how many items were ever written to this
///             └───────────┴──────┴──────┴───┘      block, all laps together
///
/// Invariant: with N the capacity and K the items per block there are ceil(N / K) + 1 blocks, so when the
/// producer enters a block again, the consumer has left it, and `published` counts one lap only.
template <class T, class Traits>
struct line_layout {
    using count = std::uint32_t;
    using value_type = T;
    using traits = Traits;
    static constexpr count per_block = static_cast<count>(Traits::per_block(sizeof(T), alignof(T)));

    struct alignas(per_block * sizeof(T) + std::max(alignof(T), sizeof(count)) > line ? apart : line) block {
        typename Traits::template atomic<count> published{Traits::start};
        alignas(T) std::byte slots[per_block * sizeof(T)];
    };
    static constexpr telling batch_told =
        sizeof(block) > line ? telling::first_part_last : telling::part_by_part;
    static constexpr std::size_t block_count(std::size_t capacity) {
        return (capacity + per_block - 1) / per_block + 1;
    }

    /// Where one side is.
    struct place {
        count in = 0, slot = 0;     // which block, which slot of it
        count lap = Traits::start;  // items ever written to this block before this lap

        [[nodiscard]] count run(count /*capacity*/) const noexcept { return per_block - slot; }
        [[nodiscard]] T* item(block* blocks) const noexcept {
            return reinterpret_cast<T*>(blocks[in].slots + slot * sizeof(T));
        }
        void move(count n, count capacity) noexcept {
            if ((slot += n) != per_block) return;
            slot = 0;
            if (++in != line_layout::block_count(capacity)) return;
            in = 0;
            lap += per_block;
        }
    };
    /// Calls for the block after the next one. A consumer that finds a block full lags behind, so that one
    /// is likely full too, and its line is under way while this one is read.
    static void call_ahead(block* blocks, place const& at, count capacity) noexcept {
        if (sizeof(block) == line && at.in + 2 < block_count(capacity))
            __builtin_prefetch(blocks + at.in + 2);
    }
    /// Blocks are left alone: to call for the next one made strings 1.2 times slower, and others no faster.
    static void claim_ahead(block* /*blocks*/, place const& /*next*/, count /*capacity*/) noexcept {}
    static void tell(block* blocks, place const& at, count /*before*/, count n) noexcept {
        // release: pairs with the acquire in look(): who sees the count sees the items.
        blocks[at.in].published.store(at.lap + at.slot + n, Traits::tell);
    }
    [[nodiscard]] static count look(block* blocks, place const& at, count /*before*/) noexcept {
        // acquire: pairs with the release in tell().
        return blocks[at.in].published.load(Traits::look) - (at.lap + at.slot);
    }
};

/// For all other items: an array, and one counter for all. A message that finds the consumer waiting moves
/// two kinds of lines, the counter's and the item's. The counter has its line to itself, so that polling it
/// does not take the line that the producer computes on.
template <class T, class Traits>
struct array_layout {
    using count = std::uint32_t;
    using value_type = T;
    using traits = Traits;
    static constexpr count per_block = 1;
    static constexpr telling batch_told = telling::at_the_end;

    // Items of whole lines start at a line: an allocator's 16 bytes of alignment would let each straddle one
    // line more (64 bytes one way: 1.1 to 1.5 times slower).
    struct alignas(sizeof(T) % line == 0 ? std::max(line, alignof(T)) : alignof(T)) block {
        std::byte slot[sizeof(T)];
    };
    static constexpr std::size_t block_count(std::size_t capacity) { return capacity; }

    struct place {
        count slot = 0;

        [[nodiscard]] count run(count capacity) const noexcept { return capacity - slot; }
        [[nodiscard]] T* item(block* blocks) const noexcept {
            return reinterpret_cast<T*>(blocks[slot].slot);
        }
        void move(count n, count capacity) noexcept {
            if ((slot += n) == capacity) slot = 0;
        }
    };
    /// Calls for the lines of a slot that is soon to be written: several are then under way at once, while a
    /// store waits for its line alone (64 to 256 bytes: one way 1.0 to 1.4, round trip 1.1 times faster).
    static void claim_ahead(block* blocks, place const& next, count capacity) noexcept {
        if (next.slot + 2 >= capacity) return;
        std::byte const* const slot = blocks[next.slot + 2].slot;
        for (std::size_t at = 0; at < std::min(sizeof(T), 4 * line); at += line) claim(slot + at);
    }
    void tell(block* /*blocks*/, place const& /*at*/, count before, count n) noexcept {
        // release: pairs with the acquire in look(): who sees the count sees the items.
        published_.store(before + n, Traits::tell);
    }
    [[nodiscard]] count look(block* /*blocks*/, place const& /*at*/, count before) const noexcept {
        // acquire: pairs with the release in tell().
        return published_.load(Traits::look) - before;
    }

  private:
    alignas(apart) typename Traits::template atomic<count> published_{Traits::start};
};

/// The ring. Each side works on a place and counts of its own, and asks for the other's only when these say
/// full or empty.
template <class Layout>
class spsc_ring : Layout {
    using T = typename Layout::value_type;
    using count = std::uint32_t;
    using place = typename Layout::place;
    using traits = typename Layout::traits;
    using atomic = typename traits::template atomic<count>;
    static constexpr count start = traits::start;

  public:
    using Layout::block_count, Layout::per_block;
    using typename Layout::block;

    // ---- The producer's. ----

    /// How many slots are free, as far as is known without asking; asks only if it knows of none.
    [[nodiscard]] count free(count capacity) noexcept {
        count const known = capacity - (producer_.pushed - producer_.retired);
        return known != 0 ? known : ask_free(capacity);
    }
    [[nodiscard]] count ask_free(count capacity) noexcept {
        // acquire: pairs with the release in retire(): the consumer has done with those slots.
        producer_.retired = retired_.load(traits::ask);
        return capacity - (producer_.pushed - producer_.retired);
    }
    /// How many slots follow each other in memory, the next one first.
    [[nodiscard]] count run(count capacity) const noexcept { return producer_.at.run(capacity); }
    [[nodiscard]] T* slot(block* blocks) const noexcept { return producer_.at.item(blocks); }

    /// Hands n items, constructed from slot() on, to the consumer. n is not more than run(). The count
    /// follows the item at once: were the producer's own notes written between the two, the consumer would
    /// often take the line in between (8 bytes one way: 2 to 3 times slower).
    void publish(block* blocks, count capacity, count n) noexcept {
        this->tell(blocks, producer_.at, producer_.pushed, n);
        producer_.at.move(n, capacity);
        note(n);
        this->claim_ahead(blocks, producer_.at, capacity);
    }

    // fill and drain are always inlined, so that the caller's iterator stays in a register, and go block by
    // block by numbers that the compiler knows: batches of 4 to 16 bytes 1.1 to 1.4 times faster.

    /// Constructs and hands over n items, of which there is room for all: construct(slots, k, done) makes k,
    /// and counts in `done`. If it throws, those before are handed over.
    template <class Construct>
    [[gnu::always_inline]] void fill(block* blocks, count capacity, count n, Construct construct) {
        filling all{*this, blocks, producer_.at, producer_.at, producer_.pushed};
        while (n != 0) {
            auto const some = [&](count k) __attribute__((always_inline)) {
                typename filling::part one{all, capacity};
                construct(all.at.item(blocks), k, one.done);
                n -= k;
            };
            if (per_block > 1 && all.at.slot == 0 && n >= per_block)
                some(per_block);
            else
                some(std::min(n, all.at.run(capacity)));
        }
    }

    // ---- The consumer's. ----

    /// How many items can be read; looks for more only if it knows of none.
    [[nodiscard]] count ready(block* blocks) noexcept {
        if (consumer_.ready == 0) consumer_.ready = this->look(blocks, consumer_.at, consumer_.retired);
        return consumer_.ready;
    }
    /// How many of n ready items follow each other in memory.
    [[nodiscard]] count row(count n, count capacity) const noexcept {
        return std::min(n, consumer_.at.run(capacity));
    }
    [[nodiscard]] T* front(block* blocks) const noexcept { return std::launder(consumer_.at.item(blocks)); }

    /// Gives the slots of n destroyed items back. n is not more than row() said. Each pop does so: a full
    /// queue has room as soon as one item is gone, and the line is the consumer's own until the producer,
    /// full, asks for it.
    void retire(count capacity, count n) noexcept {
        consumer_.ready -= n;
        consumer_.at.move(n, capacity);
        // release: pairs with the acquire in ask_free().
        retired_.store(consumer_.retired += n, traits::retire);
    }

    /// Shows up to n items where they are, run by run: visit(items, k). Returns how many.
    template <class Visit>
    [[gnu::always_inline]] count visit(block* blocks, count capacity, count n, Visit visit) {
        place at = consumer_.at;
        // Where less is known of than is asked for, one look more makes one run of what lies together.
        count ready = consumer_.ready < n ? consumer_.ready = this->look(blocks, at, consumer_.retired)
                                          : consumer_.ready;
        count seen = 0;
        while (seen != n) {
            if (ready == 0) ready = this->look(blocks, at, consumer_.retired + seen);
            if (ready == 0) break;
            count const k = std::min({n - seen, ready, at.run(capacity)});
            visit(std::launder(at.item(blocks)), k);
            at.move(k, capacity);
            ready -= k;
            seen += k;
        }
        return seen;
    }
    /// Destroys n items that visit() has shown, and gives their slots back by one store.
    void retire_n(block* blocks, count capacity, count n) noexcept {
        place at = consumer_.at;
        for (count left = n; left != 0;) {
            count const k = std::min(left, at.run(capacity));
            std::destroy_n(std::launder(at.item(blocks)), k);
            at.move(k, capacity);
            left -= k;
        }
        consumer_.at = at;
        // In blocks, what is known is known of one block: past its end nothing is.
        consumer_.ready -= std::min(n, consumer_.ready);
        // release: as in retire().
        retired_.store(consumer_.retired += n, traits::retire);
    }

    /// Takes and destroys up to n items: take(items, k, done) moves k out, and counts in `done`. If it
    /// throws, that item and those behind it stay. Returns how many.
    template <class Take>
    [[gnu::always_inline]] count drain(block* blocks, count capacity, count n, Take take) {
        draining all{*this, consumer_.at, consumer_.ready, consumer_.retired, consumer_.retired};
        count const before = all.retired;
        while (all.retired - before != n) {
            if (all.ready == 0) all.ready = this->look(blocks, all.at, all.retired);
            if (all.ready == 0) break;
            count const left = n - (all.retired - before);
            auto const some = [&](count k) __attribute__((always_inline)) {
                T* const items = std::launder(all.at.item(blocks));
                typename draining::part one{all, capacity, items};
                take(items, k, one.done);
            };
            if constexpr (per_block > 1) {
                // Where the next block lies does not depend, here, on the count of this one that is still on
                // its way: so several lines travel at once.
                if (all.ready == per_block && all.at.slot == 0 && left >= per_block) {
                    Layout::call_ahead(blocks, all.at, capacity);
                    some(per_block);
                    continue;
                }
            }
            some(std::min({left, all.ready, all.at.run(capacity)}));
        }
        return all.retired - before;
    }

    // ---- Anyone's. ----

    [[nodiscard]] count size() const noexcept {
        // acquire: pairs with the release in retire(), for an onlooker who has seen items come out.
        count const retired = retired_.load(std::memory_order_acquire);
        // The producer counts after it has told, so for a moment the consumer may be ahead of its count.
        count const n = producer_.counted.load(std::memory_order_relaxed) - retired;
        return n > std::numeric_limits<std::int32_t>::max() ? 0 : n;
    }

  private:
    // A batch works on local copies: a store to a slot might alias a member, a local it cannot.
    struct filling {
        spsc_ring& ring;
        block* blocks;
        place at, first_at;
        count before, first = 0, done = 0;

        struct part {
            filling& all;
            count capacity;
            count done = 0;
            ~part() { all.add(done, capacity); }
        };
        void add(count n, count capacity) noexcept {
            if (n == 0) return;
            if (Layout::batch_told == telling::first_part_last && done == 0)
                first = n;
            else if constexpr (Layout::batch_told != telling::at_the_end)
                ring.tell(blocks, at, before + done, n);
            done += n;
            at.move(n, capacity);
        }
        ~filling() {
            if (done == 0) return;
            if constexpr (Layout::batch_told != telling::part_by_part)
                ring.tell(blocks, first_at, before, Layout::batch_told == telling::at_the_end ? done : first);
            ring.producer_.at = at;
            ring.note(done);
        }
    };
    struct draining {
        spsc_ring& ring;
        place at;
        count ready, retired, told;
        // release: as in retire().
        void tell() noexcept { ring.retired_.store(told = retired, traits::retire); }

        struct part {
            draining& all;
            count capacity;
            T* items;
            count done = 0;
            ~part() {
                std::destroy_n(items, done);
                all.ready -= done;
                all.at.move(done, capacity);
                // A producer that waits polls retired_: written for each block it made batches 1.3 times
                // slower. So it is told at the end, or when much is free.
                all.retired += done;
                if (all.retired - all.told > capacity / 2) all.tell();
            }
        };
        ~draining() {
            if (retired != told) tell();
            ring.consumer_.at = at;
            ring.consumer_.ready = ready;
            ring.consumer_.retired = retired;
        }
    };

    void note(count n) noexcept { producer_.counted.store(producer_.pushed += n, std::memory_order_relaxed); }

    struct alignas(apart) producer {
        count pushed = start;   // items ever
        count retired = start;  // as far as the producer knows
        place at{};
        atomic counted{start};  // pushed, for size()
    } producer_;
    struct alignas(apart) consumer {
        count retired = start;
        count ready = 0;  // items known to be there
        place at{};
    } consumer_;
    alignas(apart) atomic retired_{start};
};

}  // namespace cairn::detail
