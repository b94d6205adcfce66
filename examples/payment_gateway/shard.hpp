// SPDX-License-Identifier: MIT
// A shard: a table, the thread that writes to it, and those who wait for that.
//
//     loop's thread    accept(payment) ─▶ lane ─┐                          ┌─▶ settled(): answer all of them
//     flusher's thread                          └─▶ one transaction ─▶ post┘
//
// A payment is answered when it is durable, so not by who pushes it. The flusher commits what has come
// together while it wrote the last batch, and posts one number to the loop: "all up to 4711 is on the disk".
// Those who wait stand in a queue in the order of these numbers, so whom to answer is no search. One post and
// one wake-up for each batch, not for each payment.
//
// Thread safety: for the loop's thread; the sink and its hooks run on the flusher's.
#pragma once

#include <cairn/batcher.hpp>
#include <cairn/event_loop.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../http/http_server.hpp"
#include "histogram.hpp"
#include "payment.hpp"
#include "store.hpp"

namespace gateway {

/// A payment that is not durable yet, and who waits for it.
struct pending {
    payment what;
    std::uint64_t sequence = 0;
    cairn::event_loop::time_point began;
    std::vector<http::responder> waiters;
};

/// What became of it.
struct outcome {
    bool durable = false;
    payment const* before = nullptr;  ///< the row that had its key already
};

class shard : public std::enable_shared_from_this<shard> {
    /// What the flusher's thread works with. It outlives the shard if a write hangs.
    struct desk {
        std::unique_ptr<writer> table;
        // Of the batch at work:
        std::vector<std::pair<std::uint64_t, payment>> before;  // rows that had a key already, by sequence
        std::int64_t more = 0;                                  // rows that there are more now
    };
    struct sink {
        std::shared_ptr<desk> at;
        void operator()(std::span<payment> rows, cairn::batch_info const& info) const {
            write(*at, rows, info);
        }
    };
    using batcher = cairn::batcher<payment, sink>;

  public:
    shard(cairn::event_loop& loop, std::string name, shard_table table)
        : loop_(loop),
          name_(std::move(name)),
          desk_(std::make_shared<desk>(desk{std::move(table.to), {}, 0})),
          reader_(std::move(table.from)),
          stored_(table.rows),
          batch_sizes_(histogram({1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024})) {}

    /// Once, before all else. The hooks know the shard by a weak pointer: a post may come after its end.
    void start(cairn::batch_options const& options, std::function<void(pending&, outcome)> answer) {
        answer_ = std::move(answer);
        cairn::batch_hooks<payment> hooks;
        hooks.on_committed = [&loop = loop_, at = desk_, self = weak_from_this()](std::uint32_t,
                                                                                  std::uint64_t to) {
            loop.post([self, to, more = at->more, before = std::exchange(at->before, {})] {
                auto const s = self.lock();
                if (!s) return;
                s->stored_ += static_cast<std::uint64_t>(more);
                s->settled(to, true, before);
            });
        };
        hooks.dead_letter = [&loop = loop_, self = weak_from_this()](
                                std::span<payment>, cairn::batch_info const& info, std::exception_ptr) {
            std::uint64_t const to = info.sections.back().first + info.sections.back().count - 1;
            loop.post([self, to] {
                if (auto const s = self.lock()) s->settled(to, false, {});
            });
        };
        batcher_ = std::make_unique<batcher>(sink{desk_}, options, hooks);
        lane_.emplace(batcher_->make_producer());
    }

    /// Takes a payment, and calls answer() when it is durable, or cannot be. Null if there is no room.
    [[nodiscard]] pending* accept(payment const& what) {
        if (lane_->try_push(what) != cairn::push_result::ok) return nullptr;
        return &pending_.emplace_back(pending{what, lane_->sequence(), loop_.now(), {}});
    }
    /// For rows that nobody waits for. False if there is no room.
    [[nodiscard]] bool push(payment const& what) { return lane_->try_push(what) == cairn::push_result::ok; }
    /// Calls f(ok) when all that was pushed until now is settled; ok: and all of it from `first` on is
    /// durable.
    void when_settled(std::uint64_t first, std::function<void(bool)> f) {
        waiting_.push_back({first, lane_->sequence(), std::move(f)});
        call_waiting();
    }
    /// The number of the last row that was pushed.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return lane_->sequence(); }
    /// Writes what is left, and ends the flusher.
    void close() { batcher_->close(); }

    [[nodiscard]] std::string const& name() const noexcept { return name_; }
    [[nodiscard]] reader& table() noexcept { return *reader_; }
    /// How many rows it has; may be wrong by a batch that was committed without saying so.
    [[nodiscard]] std::uint64_t stored() const noexcept { return stored_; }
    [[nodiscard]] histogram const& batch_sizes() const noexcept { return batch_sizes_; }
    [[nodiscard]] cairn::batch_stats stats() const { return batcher_->stats(); }

  private:
    /// Called when all up to `to` is settled.
    struct barrier {
        std::uint64_t first, to;
        std::function<void(bool)> call;
    };

    // ---- On the flusher's thread. ----

    static void write(desk& at, std::span<payment> rows, cairn::batch_info const& info) {
        at.before.clear();  // a second attempt finds what the first has left
        at.more = 0;
        std::uint64_t sequence = info.sections.front().first;
        while (!rows.empty()) {
            std::size_t n = 1;
            while (n != rows.size() && rows[n].what == rows[0].what) ++n;
            if (rows[0].what == action::erase) {
                at.more -= static_cast<std::int64_t>(at.table->erase(rows.first(n)));
            } else {
                std::size_t const fresh = at.table->insert(rows.first(n));
                at.more += static_cast<std::int64_t>(fresh);
                if (fresh != n) find_before(at, rows.first(n), sequence);
            }
            rows = rows.subspan(n);
            sequence += n;
        }
    }
    /// Some keys were there already: whose? Only then is it asked, so that new payments do not pay for it.
    static void find_before(desk& at, std::span<payment const> rows, std::uint64_t sequence) {
        for (payment const& row : rows) {
            if (auto const found = at.table->find(row);
                found && (found->received != row.received || !same_request(*found, row)))
                at.before.emplace_back(sequence, *found);
            ++sequence;
        }
    }

    // ---- On the loop's. ----

    void settled(std::uint64_t to, bool durable,
                 std::vector<std::pair<std::uint64_t, payment>> const& before) {
        if (durable)
            batch_sizes_.add(static_cast<double>(to - settled_));
        else
            failed_ = to;
        settled_ = to;
        // The last ones first: of several answers to one client, only the first may leave, and then it takes
        // the others along, in one send().
        std::size_t n = 0;
        while (n != pending_.size() && pending_[n].sequence <= to) ++n;
        for (std::size_t i = n; i-- != 0;) {
            auto const was_there = std::lower_bound(
                before.begin(), before.end(), pending_[i].sequence,
                [](auto const& row, std::uint64_t sequence) { return row.first < sequence; });
            bool const is = was_there != before.end() && was_there->first == pending_[i].sequence;
            answer_(pending_[i], {durable, is ? &was_there->second : nullptr});
        }
        pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(n));
        call_waiting();
    }
    void call_waiting() {
        while (!waiting_.empty() && waiting_.front().to <= settled_) {
            barrier const one = std::move(waiting_.front());
            waiting_.pop_front();
            one.call(failed_ < one.first);
        }
    }

    cairn::event_loop& loop_;
    std::string name_;
    std::shared_ptr<desk> desk_;
    std::unique_ptr<reader> reader_;
    std::function<void(pending&, outcome)> answer_;
    std::deque<pending> pending_;  // in the order of their sequences
    std::deque<barrier> waiting_;  // the same
    std::uint64_t settled_ = 0;    // all up to here is durable, or has failed
    std::uint64_t failed_ = 0;     // the last that has failed
    std::uint64_t stored_;
    histogram batch_sizes_;
    std::unique_ptr<batcher> batcher_;
    std::optional<batcher::producer> lane_;
};

}  // namespace gateway
