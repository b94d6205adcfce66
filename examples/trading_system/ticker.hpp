// SPDX-License-Identifier: MIT
// The best prices of a worker's books, for someone who looks now and then: a page, a log, a screen.
//
// A busy stock changes 100,000 times a second; a person sees ten of them. Were each change sent, a slow page
// would fill the queue, and a full queue would stop the books. So the watcher asks, and is told the latest
// state of what has changed since it asked last: however slow it is, it costs no more, and it never sees old
// prices one after the other ("conflation").
//
//     watcher   ask() ──────┐                                   ┌──▶ take(f): the newest of each stock
//     worker    mark mark … └▶ is_wanted(), so publish() ───────┘    mark mark …
//
//   operation   costs
//   ---------   ------------------------------------------------------------------------
//   mark        a byte that is looked at, once for each message
//   is_wanted   a load of a line that only a question takes away
//   publish     some 20 ns for each stock that has changed, and one call of `told`
//
// Thread safety: ask() and take() are the watcher's, mark(), is_wanted() and publish() the worker's, or,
// while no worker runs, of whoever runs them; watch() is called before there is anything to mark.
#pragma once

#include <cairn/spsc_queue.hpp>
#include <cairn/symbol.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "order_book.hpp"

namespace trading {

/// The state of one book.
struct top_update {
    cairn::symbol stock;
    std::uint16_t locate = 0;
    std::uint32_t orders = 0;
    std::uint64_t messages = 0;
    top best;
};

class ticker {
  public:
    /// From now on marks count, and `told` is called on the worker's thread when an answer is there: it may
    /// post to a loop. @throws std::bad_alloc
    void watch(std::function<void()> told) {
        told_ = std::move(told);
        marked_.assign(stocks, 0);
        list_.reserve(stocks);
        updates_.emplace(stocks);
    }

    // ---- For the watcher. ----

    /// Wants to know.
    void ask() noexcept { wanted_.store(true, std::memory_order_release); }  // pairs with is_wanted
    /// Calls f(top_update const&) for each stock that had changed, of what has been published.
    template <class F>
    void take(F f) {
        while (auto const update = updates_->try_pop()) f(*update);
    }

    // ---- For the worker. ----

    /// This thread is the worker from now on: each run has one of its own.
    void become_worker() noexcept {
        if (updates_) updates_->become_producer();
    }
    void mark(std::uint16_t locate) noexcept {
        if (!updates_ || marked_[locate] != 0) return;
        marked_[locate] = 1;
        list_.push_back(locate);
    }
    /// Whether ask() was called since this said yes last. acquire: pairs with ask(), so that what the watcher
    /// took before it asked is free room.
    [[nodiscard]] bool is_wanted() noexcept {
        return wanted_.load(std::memory_order_relaxed) && wanted_.exchange(false, std::memory_order_acquire);
    }
    /// Publishes what is marked. What finds no room, because the watcher does not take, stays marked.
    void publish(order_books const& books) {
        if (!updates_) return;
        while (!list_.empty()) {
            std::uint16_t const locate = list_.back();
            order_book const& book = *books.find(locate);
            if (!updates_->try_push(
                    {book.stock, locate, static_cast<std::uint32_t>(book.orders), book.messages, book.top()}))
                break;
            marked_[locate] = 0;
            list_.pop_back();
        }
        told_();
    }

  private:
    static constexpr std::size_t stocks = 65'536;  // that there can be

    std::atomic<bool> wanted_{false};
    std::function<void()> told_;
    std::optional<cairn::spsc_queue<top_update>> updates_;  // none: nobody watches
    std::vector<std::uint8_t> marked_;                      // by locate: whether it is in list_
    std::vector<std::uint16_t> list_;
};

}  // namespace trading
