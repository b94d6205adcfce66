// SPDX-License-Identifier: MIT
// The best prices of a worker's books, for someone who looks now and then: a page, a log, a screen.
//
// A busy stock changes 100,000 times a second; a person sees ten of them. Were each change sent, a slow page
// would fill the queue, and a full queue would stop the books. So the watcher asks, and is told the latest
// state of what has changed since it asked last: however slow it is, it costs no more, and it never sees old
// prices one after the other ("conflation").
//
//     watcher   ask() ──────────────┐                                  ┌──▶ take(f): the newest of each stock
//     worker    mark mark mark … publish_if_wanted(): what is marked ──┘    mark mark …
//
//   operation           costs
//   -----------------   ---------------------------------------------------------------------------
//   mark                a byte that is looked at, once for each message
//   publish_if_wanted   a load; if asked, some 10 ns for each stock that has changed, and one call of `told`
//
// What does not fit the queue stays marked, for the next time. Thread safety: ask() and take() are the
// watcher's, mark() and publish_if_wanted() the worker's; watch() before there is anything to mark.
#pragma once

#include <cairn/spsc_queue.hpp>
#include <cairn/symbol.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
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
    /// post to a loop. Precondition: no message is under way.
    void watch(std::function<void()> told) {
        told_ = std::move(told);
        marked_.assign(65'536, 0);
        list_.reserve(65'536);
        watched_ = true;
    }

    // ---- For the watcher. ----

    /// Wants to know. An answer that is not fetched yet is enough.
    void ask() noexcept { wanted_.store(true, std::memory_order_release); }  // pairs with publish_if_wanted
    /// Calls f(top_update const&) for each stock that has changed, of what has been published.
    template <class F>
    void take(F f) {
        while (auto const update = updates_.try_pop()) f(*update);
    }

    // ---- For the worker. ----

    void mark(std::uint16_t locate) {
        if (!watched_ || marked_[locate] != 0) return;
        marked_[locate] = 1;
        list_.push_back(locate);
    }
    void publish_if_wanted(order_books const& books) {
        // acquire: pairs with ask(), so that what the watcher took before is free room in the queue.
        if (!wanted_.load(std::memory_order_relaxed) || !wanted_.exchange(false, std::memory_order_acquire))
            return;
        while (!list_.empty()) {
            order_book const& book = *books.find(list_.back());
            if (!updates_.try_push({book.stock, list_.back(), static_cast<std::uint32_t>(book.orders),
                                    book.messages, book.top()}))
                break;
            marked_[list_.back()] = 0;
            list_.pop_back();
        }
        told_();
    }

  private:
    cairn::spsc_queue<top_update> updates_{4'096};
    std::atomic<bool> wanted_{false};
    std::function<void()> told_;
    bool watched_ = false;
    std::vector<std::uint8_t> marked_;  // by locate: whether it is in list_
    std::vector<std::uint16_t> list_;
};

}  // namespace trading
