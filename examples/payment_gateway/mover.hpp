// SPDX-License-Identifier: MIT
// Moves payments to the shards that own them, exactly once, while payments go on.
//
// When a shard is added, the ring says which arcs change their owner. From that moment new payments go to the
// new owner, and the old ones follow, a few hundred at a time:
//
//     read some rows at `from` ─▶ insert them at `to` ─▶ durable? ─▶ delete them at `from` ─▶ again
//
// The order is the whole trick: a row is in two tables for a moment, and never in none. Copying is an INSERT
// that ignores what is there, deleting is by key, so any step may be done twice. If the process is killed in
// between, the next one finds rows where the ring does not want them (foreign()), and goes on.
//
// And a key that comes again meanwhile? Its row may still be at `from`. So for positions in arcs that are not
// yet moved, `from` is asked first. It cannot get new rows: what was on its way when the ring changed is
// waited for before the first row is moved.
#pragma once

#include <cairn/event_loop.hpp>
#include <cairn/hash_ring.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "shard.hpp"

namespace gateway {

using ring = cairn::hash_ring<std::string>;
using shard_list = std::vector<std::shared_ptr<shard>>;

/// Positions from `first` to `last`, both included.
struct arc {
    std::shared_ptr<shard> from, to;
    std::uint64_t first, last;
};

/// Arcs with rows at shards that do not own them: what a move has left when it was interrupted.
[[nodiscard]] inline std::vector<arc> foreign(ring const& of, shard_list const& shards) {
    std::vector<arc> found;
    auto const look = [&](std::size_t owner, std::uint64_t first, std::uint64_t last) {
        for (auto const& one : shards)
            if (one != shards[owner] && one->stored() != 0 && !one->table().range(first, last, 1).empty())
                found.push_back({one, shards[owner], first, last});
    };
    std::uint64_t first = 0;
    for (std::size_t i = 0; i < of.points(); first = of.positions()[i++] + 1)
        look(of.owners()[i], first, of.positions()[i]);
    if (first != 0) look(of.owners()[0], first, std::numeric_limits<std::uint64_t>::max());
    return found;
}

class mover {
  public:
    explicit mover(cairn::event_loop& loop) : loop_(loop) {}

    /// Begins. Precondition: !busy().
    void start(std::vector<arc> arcs) {
        arcs_ = std::move(arcs);
        std::sort(arcs_.begin(), arcs_.end(), [](arc const& a, arc const& b) { return a.first < b.first; });
        next_ = 0;
        moved_ = 0;
        std::set<std::shared_ptr<shard>> donors;
        for (arc const& one : arcs_) donors.insert(one.from);
        auto const left = std::make_shared<std::size_t>(donors.size());
        for (auto const& donor : donors)
            donor->when_settled(0, [this, left](bool) {
                if (--*left == 0) step();
            });
    }
    /// Moves no more. What is left is found by the next one.
    void stop() noexcept {
        again_.cancel();
        next_ = arcs_.size();
    }
    [[nodiscard]] bool busy() const noexcept { return next_ != arcs_.size(); }
    /// The row with this key, if it is still where it must not stay.
    [[nodiscard]] std::optional<payment> find(payment const& key) const {
        auto const begin = arcs_.begin() + static_cast<std::ptrdiff_t>(next_);
        auto at =
            std::upper_bound(begin, arcs_.end(), key.position,
                             [](std::uint64_t position, arc const& one) { return position < one.first; });
        // Mostly one arc. More if moves were interrupted twice: then it may be at any of several shards.
        while (at != begin && (--at)->last >= key.position)
            if (auto found = at->from->table().find(key)) return found;
        return {};
    }
    [[nodiscard]] std::size_t arcs() const noexcept { return arcs_.size(); }
    [[nodiscard]] std::size_t arcs_done() const noexcept { return next_; }
    [[nodiscard]] std::uint64_t moved() const noexcept { return moved_; }
    /// Why a table could not be read, the last time that one could not.
    [[nodiscard]] std::string const& last_error() const noexcept { return last_error_; }

  private:
    static constexpr std::size_t at_once = 256;

    void step() {
        // An empty arc costs a look. A few of them, then the others have their turn.
        for (int looks = 0; looks != 8; ++looks) {
            if (next_ == arcs_.size()) return;
            arc const& one = arcs_[next_];
            try {
                rows_ = one.from->table().range(one.first, one.last, at_once);
            } catch (std::exception const& error) {
                last_error_ = error.what();
                return later(std::chrono::milliseconds(100));
            }
            if (!rows_.empty()) return copy(one);
            ++next_;
        }
        later(std::chrono::milliseconds(0));
    }
    void copy(arc const& one) {
        send(*one.to, action::insert, [this, &one] {
            send(*one.from, action::erase, [this] {
                moved_ += rows_.size();
                step();
            });
        });
    }
    /// Has rows_ inserted or erased, and then goes on with done(). If that fails, from the beginning, later.
    void send(shard& to, action what, std::function<void()> done) {
        std::uint64_t const first = to.sequence() + 1;
        for (payment& row : rows_) {
            row.what = what;
            if (!to.push(row)) return later(std::chrono::milliseconds(10));
        }
        to.when_settled(first, [this, done = std::move(done)](bool ok) {
            ok ? done() : later(std::chrono::milliseconds(10));
        });
    }
    void later(std::chrono::milliseconds delay) {
        again_ = loop_.call_after(delay, [this] { step(); });
    }

    cairn::event_loop& loop_;
    std::vector<arc> arcs_;  // by position; those before next_ are done
    std::size_t next_ = 0;
    std::vector<payment> rows_;  // on their way
    std::uint64_t moved_ = 0;
    std::string last_error_;
    cairn::timer again_;
};

}  // namespace gateway
