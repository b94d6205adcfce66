// SPDX-License-Identifier: MIT
// Order books with price-time priority: for each stock, who would buy and who would sell, in what order.
//
// A side of a book is a row of prices, the best at its end, and for each price a queue of orders, the oldest
// first. Most messages are about a price near the best, so the row is searched from there.
//
//     bids   ┌ 9.97 ┬ 9.98 ┬ 10.00 ┐  ◀ best         asks   ┌ 10.09 ┬ 10.05 ┬ 10.01 ┐  ◀ best
//            └──│───┴──│───┴───│───┘                        └───│───┴───│───┴───│───┘
//            level   level   level: 700 shares in 3 orders ─▶ order ⇄ order ⇄ order: 200 shares
//
//   message            costs                                             memory
//   ----------------   -----------------------------------------------   ------------------------------
//   add                O(distance to the best price), O(log prices)      an order of 40 bytes, and 16 in the
//                      when it is far; shifts the prices that are        index twice over; a level of 40 if
//                      better if its own is new                          the price is new
//   execute, cancel    O(1): the index finds the order, it knows its     none; the last shares give the order
//   delete             level                                             back, the last order the level
//   replace            a delete and an add
//
// Orders and levels come from object_pool: once the pools, the index and the rows are as large as a day
// needs, nothing is allocated any more.
//
// Bad input: a message about an order that is not there, one that is there already, or more shares than it
// has, changes nothing, and is counted by its kind. So a feed that begins in the middle of a day gives books
// of what is known. Thread safety: none; one thread at a time.
#pragma once

#include <cairn/hash.hpp>
#include <cairn/object_pool.hpp>
#include <cairn/symbol.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "book_message.hpp"
#include "order_index.hpp"

namespace trading {

struct level;

/// One order in the queue of its price.
struct order {
    std::uint64_t id = 0;
    order* before = nullptr;
    order* after = nullptr;
    level* at = nullptr;
    std::uint32_t shares = 0;
    std::uint16_t locate = 0;
};
static_assert(sizeof(order) == 40);

/// A price and its queue.
struct level {
    order* first = nullptr;
    order* last = nullptr;
    std::uint64_t shares = 0;
    std::uint32_t orders = 0;
    std::uint32_t price = 0;
    side of = side::bid;

    void push_back(order& one) noexcept {
        one.at = this;
        one.before = last;
        (last != nullptr ? last->after : first) = &one;
        last = &one;
        shares += one.shares;
        ++orders;
    }
    void erase(order& one) noexcept {
        (one.before != nullptr ? one.before->after : first) = one.after;
        (one.after != nullptr ? one.after->before : last) = one.before;
        shares -= one.shares;
        --orders;
    }
};

/// The prices of one side.
class ladder {
  public:
    /// The best one, or null.
    [[nodiscard]] level const* best() const noexcept { return rungs_.empty() ? nullptr : rungs_.back().at; }
    /// The i-th best. Precondition: i < size().
    [[nodiscard]] level const& operator[](std::size_t i) const noexcept {
        return *rungs_[rungs_.size() - 1 - i].at;
    }
    [[nodiscard]] std::size_t size() const noexcept { return rungs_.size(); }

    /// The level of this price; if there is none, make() is called for one.
    template <class Make>
    level& at(side of, std::uint32_t price, Make make) {
        std::uint32_t const key = rank(of, price);
        std::size_t const place = find(key);
        if (place != rungs_.size() && rungs_[place].key == key) return *rungs_[place].at;
        if (rungs_.size() == rungs_.capacity()) rungs_.reserve(2 * rungs_.size() + 16);
        level* const made = make();
        rungs_.insert(rungs_.begin() + static_cast<std::ptrdiff_t>(place), {key, made});
        return *made;
    }
    void erase(level const& empty) noexcept {
        rungs_.erase(rungs_.begin() + static_cast<std::ptrdiff_t>(find(rank(empty.of, empty.price))));
    }

  private:
    struct rung {
        std::uint32_t key;
        level* at;
    };
    static constexpr std::size_t near = 16;

    /// Larger is better, on both sides.
    [[nodiscard]] static std::uint32_t rank(side of, std::uint32_t price) noexcept {
        return of == side::bid ? price : ~price;
    }
    /// The place of the first rung that is not less: one by one near the best, by halves behind.
    [[nodiscard]] std::size_t find(std::uint32_t key) const noexcept {
        std::size_t i = rungs_.size();
        std::size_t const far = i > near ? i - near : 0;
        while (i > far && rungs_[i - 1].key >= key) --i;
        if (i > far || i == 0) return i;
        auto const begin = rungs_.begin();
        auto const found = std::lower_bound(begin, begin + static_cast<std::ptrdiff_t>(far), key,
                                            [](rung const& r, std::uint32_t k) { return r.key < k; });
        return static_cast<std::size_t>(found - begin);
    }

    std::vector<rung> rungs_;  // by key, ascending: the best is at the end, where it is cheap to insert
};

/// Price and shares of a best level; 0 and 0 if there is none.
struct quote {
    std::uint32_t price = 0;
    std::uint64_t shares = 0;
    friend bool operator==(quote const&, quote const&) = default;
};
/// The best of both sides.
struct top {
    quote bid, ask;
    std::uint64_t traded = 0;  ///< shares, today
    friend bool operator==(top const&, top const&) = default;
};

struct order_book {
    cairn::symbol stock;
    std::array<ladder, 2> sides;
    std::size_t orders = 0;      ///< that wait
    std::uint64_t traded = 0;    ///< shares
    std::uint64_t messages = 0;  ///< that were applied

    [[nodiscard]] ladder& operator[](side of) noexcept { return sides[static_cast<std::size_t>(of)]; }
    [[nodiscard]] ladder const& operator[](side of) const noexcept {
        return sides[static_cast<std::size_t>(of)];
    }
    [[nodiscard]] trading::top top() const noexcept { return {quoted(side::bid), quoted(side::ask), traded}; }
    void count(book_message const& m) noexcept {
        traded += m.volume;
        ++messages;
    }

  private:
    [[nodiscard]] quote quoted(side of) const noexcept {
        level const* const best = (*this)[of].best();
        return best == nullptr ? quote{} : quote{best->price, best->shares};
    }
};

/// What became of a message.
enum class outcome : std::uint8_t {
    applied,
    unknown_order,    ///< that it is about
    duplicate_order,  ///< its order is there already
    too_many_shares,  ///< more than the order has
    no_shares         ///< it is about none
};
inline constexpr std::size_t outcomes = 5;
[[nodiscard]] constexpr std::string_view name_of(outcome one) noexcept {
    constexpr std::array<std::string_view, outcomes> names{"applied", "unknown order", "duplicate order",
                                                           "too many shares", "no shares"};
    return names[static_cast<std::size_t>(one)];
}

/// The books of many stocks, by locate.
class order_books {
  public:
    order_books() = default;
    order_books(order_books const&) = delete;
    order_books& operator=(order_books const&) = delete;
    ~order_books() { clear(); }

    /// Does what the message says, or nothing. @throws std::bad_alloc; nothing has changed then.
    outcome apply(book_message const& m) {
        outcome const result = dispatch(m);
        ++counts_[static_cast<std::size_t>(result)];
        return result;
    }
    /// Two steps that ask the memory for what apply() will read: the place in the index, and, once that is
    /// there, the order. For batches: each step for all messages, then apply() for all.
    void prefetch_place(book_message const& m) const noexcept { index_.prefetch(m.order); }
    void prefetch_order(book_message const& m) const noexcept { __builtin_prefetch(index_.guess(m.order)); }

    /// Makes room for so many orders: until then only new levels, stocks and longer rows allocate.
    /// @throws std::bad_alloc
    void reserve(std::size_t orders) {
        orders_.reserve(orders);
        index_.reserve(orders);
    }

    /// The book of a stock, or null if there was no message that gives it one.
    [[nodiscard]] order_book const* find(std::uint16_t locate) const noexcept {
        return locate < books_.size() ? books_[locate].get() : nullptr;
    }
    [[nodiscard]] order const* find_order(std::uint64_t id, std::uint16_t locate) const noexcept {
        return index_.find(id, locate);
    }
    /// By locate; null where there is none.
    [[nodiscard]] std::span<std::unique_ptr<order_book> const> books() const noexcept { return books_; }
    [[nodiscard]] std::size_t orders() const noexcept { return index_.size(); }
    /// How many messages came to this end.
    [[nodiscard]] std::uint64_t count(outcome one) const noexcept {
        return counts_[static_cast<std::size_t>(one)];
    }

    /// The end of the day: books without orders, nothing counted. The memory stays, for the next day.
    void clear() noexcept {
        for (auto const& book : books_) {
            if (book == nullptr) continue;
            for (ladder& prices : book->sides)
                while (level const* const best = prices.best()) remove(*book, *best->first);
            book->traded = book->messages = 0;
        }
        counts_ = {};
    }

  private:
    outcome dispatch(book_message const& m) {
        if (m.what == action::add) return add(m);
        if (m.what == action::trade) {
            open(m).count(m);
            return outcome::applied;
        }
        order* const one = index_.find(m.order, m.locate);
        if (one == nullptr) return outcome::unknown_order;
        order_book& book = *books_[m.locate];
        if (m.what == action::remove) {
            remove(book, *one);
            book.count(m);
            return outcome::applied;
        }
        if (m.shares == 0) return outcome::no_shares;
        if (m.what == action::replace) return replace(book, *one, m);
        if (m.shares > one->shares) return outcome::too_many_shares;
        reduce(book, *one, m.shares);
        book.count(m);
        return outcome::applied;
    }

    outcome add(book_message const& m) {
        if (m.shares == 0) return outcome::no_shares;
        if (index_.find(m.order, m.locate) != nullptr) return outcome::duplicate_order;
        order_book& book = open(m);
        index_.make_room();
        index_.insert(&enqueue(book, m.order, m.of, m));
        book.count(m);
        return outcome::applied;
    }
    outcome replace(order_book& book, order& old, book_message const& m) {
        if (m.new_order != m.order && index_.find(m.new_order, m.locate) != nullptr)
            return outcome::duplicate_order;
        // The new one first: if there is no memory for it, the old one is still there.
        order& made = enqueue(book, m.new_order, old.at->of, m);
        remove(book, old);
        index_.insert(&made);
        book.count(m);
        return outcome::applied;
    }
    /// A new order at the end of the queue of its price.
    order& enqueue(order_book& book, std::uint64_t id, side of, book_message const& m) {
        auto made = orders_.make(id, nullptr, nullptr, nullptr, m.shares, m.locate);
        book[of]
            .at(of, m.price, [&] { return levels_.construct(nullptr, nullptr, 0U, 0U, m.price, of); })
            .push_back(*made);
        ++book.orders;
        return *made.release();
    }
    void reduce(order_book& book, order& one, std::uint32_t shares) noexcept {
        if (shares == one.shares) return remove(book, one);
        one.shares -= shares;
        one.at->shares -= shares;
    }
    void remove(order_book& book, order& one) noexcept {
        level& at = *one.at;
        at.erase(one);
        if (at.orders == 0) {
            book[at.of].erase(at);
            levels_.destroy(&at);
        }
        index_.erase(&one);
        --book.orders;
        orders_.destroy(&one);
    }
    [[nodiscard]] order_book& open(book_message const& m) {
        if (m.locate >= books_.size()) books_.resize(m.locate + std::size_t{1});
        auto& book = books_[m.locate];
        if (book == nullptr) book = std::make_unique<order_book>();
        book->stock = m.stock;
        return *book;
    }

    cairn::object_pool<order> orders_;
    cairn::object_pool<level> levels_;
    order_index<order> index_;
    std::vector<std::unique_ptr<order_book>> books_;
    std::array<std::uint64_t, outcomes> counts_{};
};

}  // namespace trading
