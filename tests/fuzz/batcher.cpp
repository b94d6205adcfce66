// SPDX-License-Identifier: MIT
// Any sequence of calls on a batcher, against a std::deque for each producer: what leaves it, into the sink,
// to the dead letters or by a drop, is what came in, in order, each once. The first bytes are the options;
// then each two are a call. The flusher runs beside, as it likes.
#include <cairn/batcher.hpp>
#include <cairn/shared_batcher.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using cairn::flush_result, cairn::overflow_policy, cairn::push_result;

void require(bool holds) {
    if (!holds) std::abort();
}

/// An event says whose it is, and the how-manieth that was offered.
struct plain {
    std::uint32_t from, number;
    [[nodiscard]] static plain make(std::uint32_t from, std::uint32_t number) { return {from, number}; }
    [[nodiscard]] std::pair<std::uint32_t, std::uint32_t> names() const { return {from, number}; }
};
/// The same with memory of its own, so that a slot that is ended twice, or never, is found.
struct text {
    std::string value;
    [[nodiscard]] static text make(std::uint32_t from, std::uint32_t number) {
        return {std::to_string(from) + " and a tail that is too long to be stored in place " +
                std::to_string(number)};
    }
    [[nodiscard]] std::pair<std::uint32_t, std::uint32_t> names() const {
        require(value.find(" and a tail ") != std::string::npos);  // else it was moved from
        return {static_cast<std::uint32_t>(std::stoul(value)),
                static_cast<std::uint32_t>(std::stoul(value.substr(value.rfind(' '))))};
    }
};

/// What was accepted and has not left. The flusher and the player use it.
class model {
  public:
    void comes(std::uint32_t from, std::uint32_t number) {
        std::lock_guard const lock(mutex_);
        inside_[from].push_back(number);
    }
    void is_refused(std::uint32_t from, std::uint32_t number) {
        std::lock_guard const lock(mutex_);
        require(!inside_[from].empty() && inside_[from].back() == number);
        inside_[from].pop_back();
    }
    /// Producers drop their oldest while a batch is formed: then the hook tells of it later.
    void leaves(std::uint32_t from, std::uint32_t number, bool some_were_dropped) {
        std::lock_guard const lock(mutex_);
        auto& all = inside_[from];
        while (some_were_dropped && !all.empty() && all.front() != number) {
            skipped_.emplace(from, all.front());
            all.pop_front();
        }
        require(!all.empty() && all.front() == number);
        all.pop_front();
    }
    void is_dropped(std::uint32_t from, std::uint32_t number) {
        std::lock_guard const lock(mutex_);
        if (skipped_.erase({from, number}) != 0) return;
        auto& all = inside_[from];
        auto const at = std::find(all.begin(), all.end(), number);
        require(at != all.end());
        all.erase(at);
    }
    [[nodiscard]] std::size_t size() const {
        std::lock_guard const lock(mutex_);
        std::size_t n = skipped_.size();
        for (auto const& [from, all] : inside_) n += all.size();
        return n;
    }

  private:
    mutable std::mutex mutex_;
    std::map<std::uint32_t, std::deque<std::uint32_t>> inside_;
    std::set<std::pair<std::uint32_t, std::uint32_t>> skipped_;
};

template <class Event, bool Shared>
class game {
    using sink = std::function<void(std::span<Event>, cairn::batch_info const&)>;
    using batcher =
        std::conditional_t<Shared, cairn::shared_batcher<Event, sink>, cairn::batcher<Event, sink>>;

  public:
    explicit game(std::uint8_t const* options)
        : options_(chosen(options)),
          failures_(options[4]),
          batcher_([this](std::span<Event> batch, cairn::batch_info const& info) { take(batch, info); },
                   options_, hooks()) {}

    void play(std::uint8_t const* data, std::size_t n) {
        for (std::size_t i = 0; i + 1 < n; i += 2) call(data[i], data[i + 1]);
        auto const report = batcher_.close();
        auto const stats = batcher_.stats();
        require(report.closed && report.abandoned == 0);
        require(report.delivered == stats.delivered && report.dead == stats.dead && stats.buffered == 0);
        require(stats.accepted == accepted_ && stats.offered == offered_);
        require(stats.delivered == delivered_ && stats.dead == dead_ && stats.dropped_oldest == dropped_);
        require(inside_.size() == 0);
    }

  private:
    [[nodiscard]] static cairn::batch_options chosen(std::uint8_t const* data) {
        cairn::batch_options o;
        o.max_batch = 1 + data[0] % 20;
        o.capacity = 1 + data[1] % 50;
        o.on_full = static_cast<overflow_policy>(data[2] % 4);
        o.linger = data[2] / 4 % 3 == 0 ? 0ns : data[2] / 4 % 3 == 1 ? 100us : 1h;
        o.max_bytes = data[3] % 3 == 0 ? 1 + data[3] : 0;
        o.max_block = 1ms;
        o.retry = {.attempts = 2, .first = 0ns, .longest = 0ns};
        return o;
    }
    [[nodiscard]] cairn::batch_hooks<Event> hooks() {
        cairn::batch_hooks<Event> h;
        h.dead_letter = [this](std::span<Event> batch, cairn::batch_info const& info, std::exception_ptr) {
            if (info.id != twice_) leave(batch);
            dead_ += batch.size();
        };
        h.on_drop = [this](Event& event, push_result why) {
            if (why != push_result::ok) return;  // the player knows of that one
            ++dropped_;
            inside_.is_dropped(event.names().first, event.names().second);
        };
        h.on_committed = [this](std::uint32_t producer, std::uint64_t sequence) {
            require(committed_[producer] < sequence);
            committed_[producer] = sequence;
        };
        if (options_.max_bytes != 0) h.size_of = [](Event const& e) { return 1 + e.names().second % 16; };
        return h;
    }

    /// The sink. It may fail before it has taken the batch, or after: then the same comes again.
    void take(std::span<Event> batch, cairn::batch_info const& info) {
        require(!batch.empty() && batch.size() <= options_.max_batch);
        std::size_t in_sections = 0;
        for (auto const& section : info.sections) in_sections += section.count;
        require(in_sections == batch.size());
        failures_ = static_cast<std::uint8_t>(failures_ * 5 + 1);
        if (failures_ % 8 == 1) throw std::runtime_error("before");
        if (info.id != twice_) leave(batch);
        if (failures_ % 8 == 2) {
            twice_ = info.id;
            throw std::runtime_error("after");
        }
        delivered_ += batch.size();
    }
    void leave(std::span<Event> batch) {
        bool const drops = options_.on_full == overflow_policy::drop_oldest;
        for (Event const& event : batch) inside_.leaves(event.names().first, event.names().second, drops);
    }

    /// One call of the player.
    void call(std::uint8_t what, std::uint8_t much) {
        std::uint32_t const who = what / 16 % 3;
        switch (what % 16) {
            case 0:
                require(batcher_.flush() != flush_result::timed_out);
                break;
            case 1: {
                flush_result const r = batcher_.flush_for(much * 1us);
                require(r != flush_result::would_deadlock && r != flush_result::forked);
                break;
            }
            case 2:
                if (much < 16) (void)batcher_.close();
                closed_ |= much < 16;
                break;
            case 3: {
                auto const s = batcher_.stats();
                require(s.offered == s.accepted + s.rejected + s.dropped_newest);
                require(s.accepted == s.delivered + s.dropped_oldest + s.dead + s.abandoned + s.buffered);
                break;
            }
            case 4:
                if constexpr (!Shared)
                    if (lanes_[who]) lanes_[who].reset();  // what it has pushed comes all the same
                break;
            case 5:
            case 6: {
                std::vector<Event> events;
                std::uint32_t const from = enter(who);
                std::size_t const n = much % 64;
                // Which of them are dropped cannot be told, and one that is too large ends them.
                if (options_.on_full == overflow_policy::drop_newest || options_.max_bytes != 0) break;
                for (std::size_t i = 0; i < n; ++i) {
                    events.push_back(Event::make(from, ++numbers_[from]));
                    inside_.comes(from, numbers_[from]);
                }
                std::size_t const came = through(who).push_n(std::span<Event const>(events));
                require(came <= n && (came == 0 || !closed_));
                for (std::size_t i = n; i != came; --i)
                    inside_.is_refused(from, numbers_[from] - static_cast<std::uint32_t>(n - i));
                accepted_ += came;
                offered_ += came + (came != n);
                break;
            }
            default:
                for (unsigned i = 0; i < much % 8U; ++i) push(who, what % 16);
        }
    }
    void push(std::uint32_t who, unsigned how) {
        std::uint32_t const from = enter(who);
        std::uint32_t const number = ++numbers_[from];
        Event event = Event::make(from, number);
        inside_.comes(from, number);
        push_result r = push_result::ok;
        bool tries = true;
        if (how == 7) {
            r = through(who).try_push(std::move(event));
        } else if (how == 8) {
            r = through(who).push_for(event, 10us);
        } else if (how == 9) {
            r = through(who).try_push(event);
        } else {
            tries = false;
            r = how == 10 ? through(who).emplace(std::move(event)) : through(who).push(event);
        }
        ++offered_;
        accepted_ += r == push_result::ok;
        if (r != push_result::ok) inside_.is_refused(from, number);
        bool const large = options_.max_bytes != 0 && 1 + number % 16 > options_.max_bytes;
        // The size is looked at first, then whether it is closed; only then comes the policy.
        if (large || r == push_result::too_large)
            require(large && r == push_result::too_large);
        else if (closed_ || r == push_result::closed)
            require(closed_ && r == push_result::closed);
        else if (how == 8)
            require(r == push_result::ok || r == push_result::timed_out);
        else if (tries || options_.on_full == overflow_policy::fail)
            require(r == push_result::ok || r == push_result::full);
        else if (options_.on_full == overflow_policy::drop_oldest)
            require(r == push_result::ok);
        else if (options_.on_full == overflow_policy::drop_newest)
            require(r == push_result::ok || r == push_result::dropped);
        else
            require(r == push_result::ok || r == push_result::timed_out);
    }

    /// A way in, and whose events it carries.
    [[nodiscard]] std::uint32_t enter(std::uint32_t who) {
        if constexpr (Shared) {
            return 1;
        } else {
            if (!lanes_[who]) lanes_[who].emplace(batcher_.make_producer());
            return lanes_[who]->id();
        }
    }
    [[nodiscard]] auto& through(std::uint32_t who) {
        if constexpr (Shared)
            return batcher_;
        else
            return *lanes_[who];
    }

    cairn::batch_options const options_;
    model inside_;
    std::map<std::uint32_t, std::uint32_t> numbers_;  // how many each producer has offered
    std::uint64_t offered_ = 0, accepted_ = 0, dropped_ = 0;
    bool closed_ = false;

    // The flusher's, and the player's after close().
    std::uint8_t failures_;
    std::uint64_t twice_ = 0;  // the batch that was taken before its call failed
    std::uint64_t delivered_ = 0, dead_ = 0;
    std::map<std::uint32_t, std::uint64_t> committed_;

    batcher batcher_;
    struct nothing {};
    template <class B>
    struct lane_of {
        using type = nothing;
    };
    template <class B>
        requires requires { typename B::producer; }
    struct lane_of<B> {
        using type = typename B::producer;
    };
    std::optional<typename lane_of<batcher>::type> lanes_[3];
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t n) {
    if (n < 6) return 0;
    std::size_t const calls = std::min<std::size_t>(n - 6, 120);
    switch (data[5] % 4) {
        case 0:
            game<plain, false>(data).play(data + 6, calls);
            break;
        case 1:
            game<text, false>(data).play(data + 6, calls);
            break;
        case 2:
            game<plain, true>(data).play(data + 6, calls);
            break;
        default:
            game<text, true>(data).play(data + 6, calls);
    }
    return 0;
}
