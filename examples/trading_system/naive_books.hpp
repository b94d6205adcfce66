// SPDX-License-Identifier: MIT
// The smallest books that work: a map of prices, and a list of orders for each. Right by looking at it.
//
// Two uses: the chapter begins with it, and the tests ask it what order_books should have said. So it shares
// no line with order_books, and is not made faster.
#pragma once

#include <cstdint>
#include <iterator>
#include <list>
#include <map>
#include <unordered_map>
#include <utility>

#include "book_message.hpp"
#include "order_book.hpp"

namespace trading {

class naive_books {
  public:
    struct entry {
        std::uint64_t id;
        std::uint32_t shares;
    };
    struct book {
        std::map<std::uint32_t, std::list<entry>> bids, asks;
        std::uint64_t traded = 0;
        std::uint64_t messages = 0;
        std::map<std::uint32_t, std::list<entry>>& of(side which) { return which == side::bid ? bids : asks; }
    };

    outcome apply(book_message const& m) {
        if (m.what == action::trade) {
            count(m);
            return outcome::applied;
        }
        bool const is_there = orders_[m.locate].contains(m.order);
        if (m.what == action::add) {
            if (m.shares == 0) return outcome::no_shares;
            if (is_there) return outcome::duplicate_order;
            add(m.locate, m.order, m.of, m.price, m.shares);
            count(m);
            return outcome::applied;
        }
        if (!is_there) return outcome::unknown_order;
        if (m.what != action::remove && m.shares == 0) return outcome::no_shares;
        place const at = orders_[m.locate].at(m.order);
        std::uint32_t const has = at.in_queue->shares;
        if (m.what == action::replace) {
            if (m.new_order != m.order && orders_[m.locate].contains(m.new_order))
                return outcome::duplicate_order;
            reduce(m.locate, m.order, has);
            add(m.locate, m.new_order, at.of, m.price, m.shares);
            count(m);
            return outcome::applied;
        }
        std::uint32_t const shares = m.what == action::remove ? has : m.shares;
        if (shares > has) return outcome::too_many_shares;
        reduce(m.locate, m.order, shares);
        count(m);
        return outcome::applied;
    }

    [[nodiscard]] std::map<std::uint16_t, book> const& books() const noexcept { return books_; }

  private:
    struct place {
        side of;
        std::uint32_t price;
        std::list<entry>::iterator in_queue;
    };

    void add(std::uint16_t locate, std::uint64_t id, side of, std::uint32_t price, std::uint32_t shares) {
        std::list<entry>& queue = books_[locate].of(of)[price];
        queue.push_back({id, shares});
        orders_[locate].insert_or_assign(id, place{of, price, std::prev(queue.end())});
    }
    void reduce(std::uint16_t locate, std::uint64_t id, std::uint32_t shares) {
        place const at = orders_[locate].at(id);
        at.in_queue->shares -= shares;
        if (at.in_queue->shares != 0) return;
        auto& prices = books_[locate].of(at.of);
        prices[at.price].erase(at.in_queue);
        if (prices[at.price].empty()) prices.erase(at.price);
        orders_[locate].erase(id);
    }
    void count(book_message const& m) {
        books_[m.locate].traded += m.volume;
        ++books_[m.locate].messages;
    }

    std::map<std::uint16_t, book> books_;
    std::unordered_map<std::uint16_t, std::unordered_map<std::uint64_t, place>> orders_;
};

}  // namespace trading
