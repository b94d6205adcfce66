// SPDX-License-Identifier: MIT
// Any sequence of calls on a queue of timers, against a std::multimap. Each three bytes are one call, which
// timer and when; some timers also add, rearm or cancel others as they fire.
#include <cairn/timer_queue.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

class game {
  public:
    void play(std::uint8_t const* data, std::size_t n) {
        for (std::size_t i = 0; i + 2 < n; i += 3) {
            unsigned const which = data[i + 1];
            std::int64_t const when = now_ + data[i + 2] - 32;
            switch (data[i] % 8) {
                case 0:
                case 1:
                    add(when, data[i] / 8U);
                    break;
                case 2:
                case 3:
                    rearm(which, when);
                    break;
                case 4:
                    cancel(which);
                    break;
                case 5:  // many at once: the heap has levels
                    for (unsigned k = 0; k < which % 64; ++k) add(when + k * 7 % 13, data[i] / 8U);
                    break;
                default:
                    now_ += data[i + 2] / 4;
                    fire();
            }
            check();
            if (all_.size() > 400) break;
        }
    }

  private:
    using queue = cairn::timer_queue<std::size_t>;
    using order = std::multimap<std::int64_t, std::size_t>;
    struct one {
        queue::id id;
        order::iterator place;  // order_.end() if it is gone
        unsigned habit;         // what it does when it fires
    };

    static queue::time_point at(std::int64_t when) { return queue::time_point(queue::duration(when)); }

    /// Within a round nothing is set for an earlier time than that of the round.
    [[nodiscard]] std::int64_t real(std::int64_t when) const { return firing_ ? std::max(when, now_) : when; }

    void add(std::int64_t when, unsigned habit) {
        auto const id = timers_.add(at(when), all_.size());
        all_.push_back({id, order_.emplace(real(when), all_.size()), habit});
    }
    void rearm(unsigned which, std::int64_t when) {
        if (all_.empty()) return;
        one& it = all_[which % all_.size()];
        bool const there = it.place != order_.end();
        require(timers_.rearm(it.id, at(when)) == there);
        if (!there) return;
        std::size_t const number = it.place->second;
        order_.erase(it.place);
        it.place = order_.emplace(real(when), number);
    }
    void cancel(unsigned which) {
        if (all_.empty()) return;
        one& it = all_[which % all_.size()];
        require(timers_.cancel(it.id) == (it.place != order_.end()));
        if (it.place != order_.end()) order_.erase(it.place);
        it.place = order_.end();
    }
    void fire() {
        // What is due when the round begins, in order. Calls may take some of it away, and add nothing to it.
        std::vector<std::pair<std::size_t, order::iterator>> due;
        for (auto it = order_.begin(); it != order_.end() && it->first <= now_; ++it)
            due.emplace_back(it->second, it);
        std::size_t next = 0;
        firing_ = true;
        timers_.fire(at(now_), [&](queue::id id, std::size_t& number) {
            // Those that were cancelled or set anew meanwhile have another place, or none.
            while (next < due.size() && moved_.contains(due[next].first)) ++next;
            require(next < due.size() && due[next].first == number && all_[number].id == id);
            ++next;
            moved_.insert(number);
            unsigned const habit = all_[number].habit;
            std::size_t const other = (number * 7 + 1) % all_.size();
            if (habit % 4 == 1) rearm(static_cast<unsigned>(number), now_ + habit - 8);
            if (habit % 4 == 2) change(other, [&] { cancel(static_cast<unsigned>(other)); });
            if (habit % 4 == 3) change(other, [&] { rearm(static_cast<unsigned>(other), now_ + habit - 8); });
            if (habit > 24 && all_.size() < 500) add(now_ - 1, 0);
            // It is gone after its call unless it was set again in it.
            if (habit % 4 != 1 && !rearmed_self(number, other, habit)) {
                if (all_[number].place != order_.end()) order_.erase(all_[number].place);
                all_[number].place = order_.end();
            }
        });
        firing_ = false;
        while (next < due.size() && moved_.contains(due[next].first)) ++next;
        require(next == due.size());
        moved_.clear();
    }
    template <class Change>
    void change(std::size_t other, Change change) {
        change();
        moved_.insert(other);
    }
    [[nodiscard]] bool rearmed_self(std::size_t number, std::size_t other, unsigned habit) const {
        return other == number && habit % 4 == 3;
    }
    void check() {
        require(timers_.size() == order_.size() && timers_.empty() == order_.empty());
        require(timers_.next().has_value() == !order_.empty());
        if (!order_.empty()) require(*timers_.next() <= at(order_.begin()->first));
        for (std::size_t i = 0; i < all_.size(); i += all_.size() / 16 + 1) {
            bool const there = all_[i].place != order_.end();
            require(timers_.contains(all_[i].id) == there);
            if (there)
                require(*timers_.find(all_[i].id) == i &&
                        timers_.deadline(all_[i].id) == at(all_[i].place->first));
        }
    }

    queue timers_;
    order order_;
    std::vector<one> all_;
    std::set<std::size_t> moved_;  // in this round
    std::int64_t now_ = 0;
    bool firing_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t n) {
    game().play(data, n);
    return 0;
}
