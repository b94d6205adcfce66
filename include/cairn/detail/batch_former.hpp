// SPDX-License-Identifier: MIT
// How the flusher of a batcher sees the lanes, and makes one batch of them.
//
// Two ways to hold a batch. Usually its events stay in their slots until the sink has returned. Those of one
// lane are given to the sink where they lie, so such a batch ends where the ring does: a call more for each
// lap at most, and none where max_batch divides capacity and batches are full. Those of several lanes are
// moved into one array, and their slots stay taken, empty. With drop_oldest, producers take from their lanes
// meanwhile: so events are moved out, and slots are free at once. Either way the lanes say how many events
// have left them, and that is what sequences are made of.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <type_traits>
#include <vector>

#include "../batch_options.hpp"
#include "batch_lanes.hpp"

namespace cairn::detail {

template <class T, class Clock>
class batch_former {
    using lane = batch_lane<T>;
    static constexpr bool may_gather = std::is_nothrow_move_constructible_v<T>;

  public:
    struct part {
        lane* from;
        std::size_t n;
        std::size_t bytes = 0;
    };

    explicit batch_former(batch_lanes<T, Clock>& from) : lanes_(from) {
        if constexpr (may_gather) gathered_ = std::allocator<T>().allocate(lanes_.options.max_batch);
    }
    ~batch_former() {
        if constexpr (may_gather) {
            if (is_gathered()) std::destroy(batch_.begin(), batch_.end());
            std::allocator<T>().deallocate(gathered_, lanes_.options.max_batch);
        }
    }
    batch_former(batch_former const&) = delete;
    batch_former& operator=(batch_former const&) = delete;

    [[nodiscard]] std::span<lane* const> all() const noexcept { return all_; }
    [[nodiscard]] std::size_t seen() const noexcept { return seen_; }  // events, at the last look
    [[nodiscard]] bool is_full() const noexcept { return full_; }
    [[nodiscard]] bool is_enough() const noexcept {
        return full_ || enough_ || seen_ >= lanes_.options.max_batch;
    }
    [[nodiscard]] bool drops_oldest() const noexcept {
        return lanes_.options.on_full == overflow_policy::drop_oldest;
    }

    /// The batch that was formed last: whence, what, whose.
    [[nodiscard]] std::span<part const> parts() const noexcept { return parts_; }
    [[nodiscard]] std::span<T> batch() const noexcept { return batch_; }
    [[nodiscard]] std::span<batch_section const> sections() const noexcept { return sections_; }

    /// Learns of new lanes. Call with the mutex. Here memory is allocated, nowhere else.
    void adopt() {
        while (all_.size() != lanes_.all.size()) {
            all_.push_back(lanes_.all[all_.size()].get());
            parts_.reserve(all_.capacity());
            sections_.reserve(all_.capacity());
        }
    }
    /// Counts what is in the lanes, and finds those that may have a new producer. Call with the mutex.
    void look() {
        seen_ = 0;
        full_ = enough_ = false;
        std::uint64_t bytes = 0;
        for (lane* const l : all_) {
            bytes += look(*l);
            seen_ += l->out.seen;
            full_ |= l->out.seen == lanes_.options.capacity;
            // acquire: pairs with the release at the end of a push.
            if (l->returned && !l->unused && l->out.seen == 0 &&
                !l->in.inside.load(std::memory_order_acquire))
                l->unused = l->out.taken == l->in.accepted.get();
        }
        enough_ = lanes_.options.max_bytes != 0 && bytes >= lanes_.options.max_bytes;
    }
    /// How many events are in the lanes now.
    [[nodiscard]] std::size_t count() {
        std::size_t n = 0;
        for (lane* const l : all_) {
            look(*l);
            n += l->out.seen;
        }
        return n;
    }
    /// Looks into one lane. Returns the bytes in it.
    std::uint64_t look(lane& l) {
        auto const lock = lock_oldest(l);
        l.events.become_consumer();
        l.out.seen = l.events.peek_n(std::numeric_limits<std::size_t>::max(), [](std::span<T>) {});
        // A push counts its bytes after it has published: for a moment more may have left than came in.
        std::uint64_t const in = l.in.bytes.get();
        return in > l.out.bytes ? in - l.out.bytes : 0;
    }
    [[nodiscard]] std::uint64_t taken(lane& l) {
        auto const lock = lock_oldest(l);
        return l.out.taken;
    }

    /// Forms a batch from what was seen. Each begins with the lane after the one that the last began with: so
    /// each lane is served in turn, however full another one is. It may be empty if producers have dropped
    /// all. Returns whether it took everything that was seen.
    bool form() {
        parts_.clear();
        sections_.clear();
        batch_ = {};
        std::size_t room = lanes_.options.max_batch, bytes = 0;
        std::size_t const first = next_;
        bool more = true;
        for (std::size_t i = 0; i != all_.size() && room != 0 && more; ++i) {
            std::size_t const at = (first + i) % all_.size();
            lane& l = *all_[at];
            if (l.out.seen == 0) continue;
            auto const lock = lock_oldest(l);
            l.events.become_consumer();
            if (drops_oldest()) l.out.seen = std::min(l.out.seen, l.events.size());
            std::size_t const before = bytes;
            std::size_t const n = fit(l, room, bytes);
            more = n == l.out.seen;  // else there is no room, or no byte left
            if (n == 0) continue;
            if (parts_.empty()) next_ = at + 1;
            parts_.push_back({&l, n, bytes - before});
            sections_.push_back({l.in.id, l.out.taken - l.in.base + 1, n});
            room -= n;
            if (drops_oldest()) move_out(parts_.back());
        }
        if (!drops_oldest() && !parts_.empty()) batch_ = in_place_or_gathered();
        return batch_.size() >= seen_;
    }
    /// Ends the events of the batch and frees their slots.
    void release() {
        if constexpr (may_gather)
            if (is_gathered()) std::destroy(batch_.begin(), batch_.end());
        batch_ = {};
        if (!drops_oldest())
            for (part const& p : parts_) leave(p);
        parts_.clear();
    }

  private:
    [[nodiscard]] std::unique_lock<std::mutex> lock_oldest(lane& l) const {
        return drops_oldest() ? std::unique_lock(l.oldest) : std::unique_lock<std::mutex>();
    }
    [[nodiscard]] bool is_gathered() const noexcept { return !batch_.empty() && batch_.data() == gathered_; }

    /// How many of the lane's events still fit; `bytes` counts along.
    [[nodiscard]] std::size_t fit(lane& l, std::size_t room, std::size_t& bytes) {
        std::size_t const most = std::min(l.out.seen, room);
        if (lanes_.options.max_bytes == 0) return most;
        std::size_t n = 0;
        bool over = false;
        l.events.peek_n(most, [&](std::span<T> events) {
            for (T const& event : events) {
                std::size_t const size = size_of(event);
                over |= bytes + size > lanes_.options.max_bytes && bytes != 0;
                if (over) return;
                bytes += size;
                ++n;
            }
        });
        return n;
    }
    [[nodiscard]] std::size_t size_of(T const& event) const noexcept {
        try {
            return lanes_.hooks.size_of(event);
        } catch (...) {
            return lanes_.options.max_bytes;  // it did not throw in push; now it is a batch of its own
        }
    }
    [[nodiscard]] std::span<T> in_place_or_gathered() {
        if constexpr (may_gather)
            if (parts_.size() > 1) {
                T* to = gathered_;
                for (part const& p : parts_)
                    p.from->events.peek_n(p.n, [&to](std::span<T> events) { to = move_to(events, to); });
                return {gathered_, to};
            }
        // One lane, or a move that may throw, which would leave a batch in two places: the first run.
        part& first = parts_.front();
        std::span<T> const run = first.from->events.peek(first.n);
        if (run.size() == first.n && parts_.size() == 1) return run;
        first.n = sections_.front().count = run.size();
        first.bytes = 0;
        if (lanes_.options.max_bytes != 0)
            for (T const& event : run) first.bytes += size_of(event);
        parts_.resize(1);
        sections_.resize(1);
        return run;
    }
    static T* move_to(std::span<T> events, T* to) noexcept {
        if constexpr (std::is_trivially_copyable_v<T>) {
            copy_bytes<0>(to, events.data(), static_cast<std::uint32_t>(events.size()));
            return to + events.size();
        } else {
            return std::uninitialized_move(events.begin(), events.end(), to);
        }
    }
    /// Moves a part behind those that are in the batch. Call with the lane's mutex.
    void move_out(part const& p) {
        if constexpr (may_gather) {
            T* to = gathered_ + batch_.size();
            p.from->events.peek_n(p.n, [&to](std::span<T> events) { to = move_to(events, to); });
            batch_ = {gathered_, to};
            leave(p);
        }
    }
    static void leave(part const& p) noexcept {
        p.from->events.release(p.n);
        p.from->out.taken += p.n;
        p.from->out.bytes += p.bytes;
    }

    batch_lanes<T, Clock>& lanes_;
    std::vector<lane*> all_;
    std::vector<part> parts_;
    std::vector<batch_section> sections_;
    std::span<T> batch_;
    T* gathered_ = nullptr;  // max_batch slots
    std::size_t next_ = 0, seen_ = 0;
    bool full_ = false, enough_ = false;
};

}  // namespace cairn::detail
