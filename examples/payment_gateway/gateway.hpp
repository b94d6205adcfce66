// SPDX-License-Identifier: MIT
// The payment gateway: an HTTP service that answers a payment when it is durable, and takes each one once.
//
//     client ─▶ http ─▶ parse, check, intern ─▶ in flight? ─▶ ring: which shard? ─▶ batcher ─▶ SQLite
//        ▲                                         │ wait for the same answer                     │
//        └────────────────── 201 ◀─────────────────┴───────────── one post for each batch ◀───────┘
//
//   POST /payments             a payment; Idempotency-Key names it           201; 4xx with an error; 503
//   GET  /payments/{id}        what was accepted under this key              200, 404
//   GET  /stats, /metrics      for people, for Prometheus
//   GET  /shards               who has how much, and what is being moved
//   GET  /shards/plan?add=x    what would move if x were added; nothing happens
//   POST /shards               {"name":"x"}: adds it, tells the plan, and moves in the background
//
// A client that gets no answer cannot know whether it has paid. So it asks again with the same key, and that
// must be harmless at any time: while the first is in flight (both get its answer), when it is long
// committed, after a restart (the table's key tells), and with another body (422, and nothing happens).
//
// One thread runs all of this but the writing: no lock, and no two requests at once.
#pragma once

#include <cairn/event_loop.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../http/http_server.hpp"
#include "histogram.hpp"
#include "metrics.hpp"
#include "mover.hpp"
#include "payment.hpp"
#include "problem.hpp"
#include "shard.hpp"
#include "store.hpp"

namespace gateway {

struct options {
    std::size_t shards = 1;  ///< at least; those that are there already are all used
    std::size_t most_merchants = 100'000;
    cairn::batch_options batches{.max_batch = 512,
                                 .linger = std::chrono::nanoseconds(0),  // as soon as the disk is free
                                 .capacity = 8'192,
                                 .on_full = cairn::overflow_policy::fail,
                                 .close_timeout = cairn::forever};
    http::limits http{.body = 16 * 1024};
};

/// Precondition of its destructor: the loop does not run, or stop() has called then().
class service {
  public:
    service(cairn::event_loop& loop, std::unique_ptr<backend> store, options const& how = {})
        : options_(how),
          loop_(loop),
          store_(std::move(store)),
          names_(how.most_merchants),
          mover_(loop),
          server_(
              loop, [this](http::request const& what, http::responder to) { handle(what, std::move(to)); },
              how.http) {
        server_.on_refused = [this](unsigned status, std::string_view reason) {
            ++answers_[status];
            return json(status, error_body("http", reason));
        };
        std::set<std::string> names;
        for (std::string const& name : store_->shards()) names.insert(name);
        for (std::size_t i = 1; names.size() < how.shards; ++i) names.insert("shard-" + std::to_string(i));
        for (std::string const& name : names) {
            start(name, shard_table(*store_, name, names_));
            ring_.add(name);
        }
        mover_.start(foreign(ring_, shards_));
    }
    service(service const&) = delete;
    service& operator=(service const&) = delete;

    template <class... Where>
    cairn::endpoint listen(Where&&... at) {
        return server_.listen(std::forward<Where>(at)...);
    }
    /// Accepts no more, answers what has begun, writes what is left, and calls then().
    template <class Rep, class Period>
    void stop(std::chrono::duration<Rep, Period> limit, std::function<void()> then) {
        server_.stop(limit, [this, then = std::move(then)] {
            for (auto const& one : shards_) one->close();
            mover_.stop();
            then();
        });
    }

  private:
    // ---- Requests. ----

    void handle(http::request const& what, http::responder to) {
        try {
            route(what, to);
        } catch (problem const& p) {
            refuse(to, p);
        } catch (std::exception const& error) {
            fail(to, error);  // a table that cannot be read: this client's trouble, not all others'
        }
    }
    void route(http::request const& what, http::responder& to) {
        static constexpr std::string_view one_payment = "/payments/";
        std::string_view const path = what.path();
        bool const get = what.method() == "GET" || what.method() == "HEAD";
        bool const post = what.method() == "POST";
        if (path == "/payments") {
            if (!post) return not_allowed(to, "POST");
            pay(what, to);
        } else if (path == "/shards") {
            if (!get && !post) return not_allowed(to, "GET, POST");
            post ? add_shard(what, to) : reply(to, json(200, text(shards())));
        } else if (path.starts_with(one_payment) || path == "/stats" || path == "/metrics" ||
                   path == "/shards/plan") {
            if (!get) return not_allowed(to, "GET");
            if (path == "/stats") return reply(to, json(200, text(stats(), 2)));
            if (path == "/metrics") return reply(to, {.body = metrics(), .type = metrics_page::content_type});
            if (path == "/shards/plan") return reply(to, json(200, text(plan_to_add(query_name(what)))));
            look_up(decoded(path.substr(one_payment.size())), to);
        } else {
            throw problem(404, "not_found", "there is /payments, /payments/{id}, /stats, /metrics, /shards");
        }
    }

    void pay(http::request const& what, http::responder& to) {
        require_json(what);
        payment asked = parse_payment(what.body(), key_of(what), names_);
        asked.position = ring_.placement().position(asked.id.view());
        if (auto const other = in_flight_.find(asked.id.view()); other != in_flight_.end()) {
            if (!same_request(other->second->what, asked)) throw key_reused();
            other->second->waiters.push_back(std::move(to));
            return;
        }
        if (mover_.busy())
            if (auto const before = mover_.find(asked)) return answer_again(to, asked, *before);
        asked.received = std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
        pending* const accepted = owner_of(asked.position).accept(asked);
        if (accepted == nullptr) throw problem(503, "overloaded", "too many payments wait for the disk");
        accepted->waiters.push_back(std::move(to));
        in_flight_.emplace(accepted->what.id.view(), accepted);
    }
    /// A payment is settled.
    void settle(pending& one, outcome const& result) {
        in_flight_.erase(one.what.id.view());
        if (result.durable) latencies_.add(std::chrono::duration<double>(loop_.now() - one.began).count());
        bool again = false;
        for (http::responder& to : one.waiters) {
            if (!result.durable)
                refuse(to,
                       problem(503, "not_stored", "it could not be written: ask again with the same key"));
            else if (result.before != nullptr)
                answer_again(to, one.what, *result.before);
            else
                reply(to, accepted(one.what, again));
            again = true;
        }
    }
    /// The key is in a table already.
    void answer_again(http::responder& to, payment const& asked, payment const& before) {
        if (!same_request(asked, before)) return refuse(to, key_reused());
        reply(to, accepted(before, true));
    }
    [[nodiscard]] http::response accepted(payment const& what, bool again) {
        http::response made = json(201, payment_body(what, names_));
        if (again) {
            ++again_;
            made.headers.emplace_back("Idempotent-Replayed", "true");
        }
        return made;
    }
    void look_up(std::string_view id, http::responder& to) {
        payment key;
        if (!payment_id::is_valid(id)) throw problem(404, "not_found", "no payment has such a key");
        key.id = payment_id(id);
        key.position = ring_.placement().position(id);
        auto found = owner_of(key.position).table().find(key);
        if (!found && mover_.busy()) found = mover_.find(key);
        if (!found)
            throw problem(404, "not_found", "no payment has this key; one in flight is not there yet");
        reply(to, json(200, payment_body(*found, names_)));
    }

    // ---- Shards. ----

    void start(std::string const& name, shard_table table) {
        auto const made = std::make_shared<shard>(loop_, name, std::move(table));
        made->start(options_.batches, [this](pending& one, outcome const& result) { settle(one, result); });
        shards_.push_back(made);
    }
    [[nodiscard]] shard& owner_of(std::uint64_t position) { return *shards_[ring_.owner_of(position)]; }

    [[nodiscard]] ring with(std::string const& name) const {
        if (!payment_id::is_valid(name) || name[0] == '.' || name.size() > 40)
            throw problem(422, "invalid_name", "a shard's name has 1 to 40 letters, digits or . _ : -");
        if (ring_.contains(name)) throw problem(409, "known_shard", "there is a shard of this name");
        ring after = ring_;
        after.add(name);
        return after;
    }
    [[nodiscard]] nlohmann::json plan_to_add(std::string const& name) const {
        return as_json(cairn::moved(ring_, with(name)));
    }
    using plan = cairn::rebalancing<std::string, std::uint64_t>;
    [[nodiscard]] nlohmann::json as_json(plan const& of) const {
        auto arcs = nlohmann::json::array();
        for (auto const& one : of.arcs)
            arcs.push_back({{"from", one.from},
                            {"to", one.to},
                            {"first", hex(one.first)},
                            {"last", hex(one.last)},
                            {"share", one.share()}});
        return {{"share", of.share},
                {"payments", static_cast<std::uint64_t>(of.share * static_cast<double>(stored()))},
                {"arcs", std::move(arcs)}};
    }
    /// Its file is opened by another thread: a new one is synced several times, and where the disk is busy
    /// that takes seconds, in which the loop would serve nobody.
    void add_shard(http::request const& what, http::responder& to) {
        require_json(what);
        auto const body = nlohmann::json::parse(what.body(), nullptr, false);
        if (!body.is_object() || !body.contains("name") || !body["name"].is_string())
            throw problem(400, "malformed_json", R"(the body must be {"name":"…"})");
        if (mover_.busy() || opening_) throw problem(409, "moving", "a shard is being added already");
        std::string const name = body["name"];
        (void)with(name);  // throws if it cannot be added
        opener_ = std::jthread([this, name, to = std::move(to)]() mutable {
            std::optional<shard_table> table;
            std::exception_ptr error;
            try {
                table.emplace(*store_, name, names_);
            } catch (...) {
                error = std::current_exception();
            }
            loop_.post([this, name, to = std::move(to), table = std::move(table), error]() mutable {
                opening_ = false;
                try {
                    if (error) std::rethrow_exception(error);
                    switch_over(name, std::move(*table), to);
                } catch (std::exception const& e) {
                    fail(to, e);
                }
            });
        });
        opening_ = true;  // its post comes in a later turn
    }
    /// From here on new payments go to the new owners. What is there already follows in the background.
    void switch_over(std::string const& name, shard_table table, http::responder& to) {
        ring after = with(name);
        plan const arcs = cairn::moved(ring_, after);
        auto const told = as_json(arcs);
        start(name, std::move(table));
        ring_ = std::move(after);
        std::vector<arc> moves;
        for (auto const& one : arcs.arcs)
            moves.push_back({find_shard(one.from), find_shard(one.to), one.first, one.last});
        mover_.start(std::move(moves));
        reply(to, json(202, text(told)));
    }
    [[nodiscard]] std::shared_ptr<shard> find_shard(std::string const& name) const {
        for (auto const& one : shards_)
            if (one->name() == name) return one;
        throw std::logic_error("no shard " + name);
    }
    [[nodiscard]] nlohmann::json shards() const {
        auto list = nlohmann::json::array();
        auto const shares = ring_.shares();
        for (std::size_t i = 0; i < shards_.size(); ++i)
            list.push_back(
                {{"name", shards_[i]->name()}, {"payments", shards_[i]->stored()}, {"share", shares[i]}});
        return {{"shards", std::move(list)}, {"moving", mover_.busy()},
                {"arcs", mover_.arcs()},     {"arcs_done", mover_.arcs_done()},
                {"moved", mover_.moved()},   {"last_error", mover_.last_error()}};
    }
    [[nodiscard]] std::uint64_t stored() const {
        std::uint64_t n = 0;
        for (auto const& one : shards_) n += one->stored();
        return n;
    }

    // ---- Numbers. ----

    [[nodiscard]] nlohmann::json stats() const {
        nlohmann::json made = shards();
        for (std::size_t i = 0; i < shards_.size(); ++i) {
            auto const s = shards_[i]->stats();
            auto& one = made["shards"][i];
            one["batches"] = s.batches;
            one["mean_batch"] = shards_[i]->batch_sizes().mean();
            one["batch_bounds"] = shards_[i]->batch_sizes().bounds();
            one["batch_counts"] = shards_[i]->batch_sizes().counts();
            one["waiting"] = s.buffered;
            one["retries"] = s.retries;
            one["write_us_p50"] = std::chrono::duration<double, std::micro>(s.flush_p50).count();
            one["write_us_p99"] = std::chrono::duration<double, std::micro>(s.flush_p99).count();
            one["last_error"] = s.last_error;
        }
        made["payments"] = stored();
        made["in_flight"] = in_flight_.size();
        made["replayed"] = again_;
        made["names"] = names_.size();
        made["connections"] = server_.connections();
        made["requests"] = server_.requests();
        made["last_error"] = last_error_;
        made["durable_ms_p50"] = latencies_.quantile(0.5) * 1e3;
        made["durable_ms_p99"] = latencies_.quantile(0.99) * 1e3;
        for (auto const& [status, n] : answers_) made["answers"][std::to_string(status)] = n;
        return made;
    }
    [[nodiscard]] std::string metrics() const {
        metrics_page page;
        page.begin("gateway_answers_total", "counter", "Answers by status.");
        for (auto const& [status, n] : answers_) page.sample(n, "status", std::to_string(status));
        page.begin("gateway_replayed_total", "counter",
                   "Payments that were asked for again and answered as before.");
        page.sample(again_);
        page.begin("gateway_durable_seconds", "histogram",
                   "From a payment's acceptance until it is durable.");
        page.sample(latencies_);
        page.begin("gateway_batch_payments", "histogram",
                   "Rows in one batch: payments, and rows on their way to another shard.");
        for (auto const& one : shards_) page.sample(one->batch_sizes(), "shard", one->name());
        page.begin("gateway_shard_payments", "gauge", "Payments in a shard's table.");
        for (auto const& one : shards_) page.sample(one->stored(), "shard", one->name());
        page.begin("gateway_shard_waiting", "gauge", "Payments that wait for a shard's disk.");
        for (auto const& one : shards_) page.sample(one->stats().buffered, "shard", one->name());
        page.begin("gateway_write_retries_total", "counter", "Transactions that were tried again.");
        for (auto const& one : shards_) page.sample(one->stats().retries, "shard", one->name());
        page.begin("gateway_in_flight", "gauge", "Payments that are not answered yet.");
        page.sample(in_flight_.size());
        page.begin("gateway_connections", "gauge", "Clients that are connected.");
        page.sample(server_.connections());
        page.begin("gateway_interned_names", "gauge", "Merchants and currencies in memory.");
        page.sample(names_.size());
        page.begin("gateway_moved_payments", "gauge", "Payments that the latest move of arcs has moved.");
        page.sample(mover_.moved());
        return std::move(page).text();
    }

    // ---- Answers. ----

    /// What an error says may be no UTF-8.
    [[nodiscard]] static std::string text(nlohmann::json const& of, int indent = -1) {
        return of.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
    }
    [[nodiscard]] static http::response json(unsigned status, std::string body) {
        return {.status = status, .body = std::move(body), .type = "application/json"};
    }
    void reply(http::responder& to, http::response const& what) {
        ++answers_[what.status];
        std::move(to).send(what);
    }
    void refuse(http::responder& to, problem const& p) {
        http::response made = json(p.status(), error_body(p.code(), p.what()));
        if (p.status() == 503) made.headers.emplace_back("Retry-After", "1");
        reply(to, made);
    }
    /// Why stays in /stats: it is for those who run this, not for a client.
    void fail(http::responder& to, std::exception const& error) {
        last_error_ = error.what();
        refuse(to, problem(500, "internal", "this could not be done: ask again"));
    }
    void not_allowed(http::responder& to, char const* methods) {
        http::response made = json(405, error_body("method_not_allowed", std::string("allowed: ") + methods));
        made.headers.emplace_back("Allow", methods);
        reply(to, made);
    }
    [[nodiscard]] static problem key_reused() { return {422, "key_reused", "another payment has this key"}; }
    static void require_json(http::request const& what) {
        std::string_view type = what.header("Content-Type");
        type = type.substr(0, type.find_first_of("; \t"));
        if (!http::same_name(type, "application/json"))
            throw problem(415, "unsupported_media_type", "Content-Type must be application/json");
    }
    /// The Idempotency-Key, or nothing. Of two, this server could read one, and a proxy in front the other.
    [[nodiscard]] static std::string_view key_of(http::request const& what) {
        std::string_view found;
        for (std::size_t i = 0, n = 0; i != what.headers(); ++i) {
            auto const [name, value] = what.header(i);
            if (!http::same_name(name, "Idempotency-Key")) continue;
            if (++n > 1) throw problem(400, "two_keys", "Idempotency-Key is there twice");
            found = value;
        }
        return found;
    }
    /// "a%3Ab" is "a:b": some clients write a colon so. What is no escape stays as it is.
    [[nodiscard]] static std::string decoded(std::string_view path) {
        std::string made;
        for (std::size_t i = 0; i != path.size(); ++i) {
            unsigned char byte = 0;
            char const* const digits = path.data() + i + 1;
            if (path[i] == '%' && path.size() - i > 2 &&
                std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
                made += static_cast<char>(byte);
                i += 2;
            } else {
                made += path[i];
            }
        }
        return made;
    }
    [[nodiscard]] static std::string query_name(http::request const& what) {
        std::string_view const query = what.query();
        if (!query.starts_with("add=")) throw problem(400, "missing_name", "ask for /shards/plan?add=name");
        return decoded(query.substr(4));
    }
    [[nodiscard]] static std::string hex(std::uint64_t number) {
        char digits[16];
        auto const end = std::to_chars(digits, digits + sizeof digits, number, 16).ptr;
        std::string const text(digits, end);
        return std::string(16 - text.size(), '0') + text;
    }

    options options_;
    cairn::event_loop& loop_;
    std::unique_ptr<backend> store_;
    catalog names_;
    ring ring_;
    shard_list shards_;  // parallel to the ring's members
    mover mover_;
    std::unordered_map<std::string_view, pending*> in_flight_;  // by id; each key lies in its payment
    histogram latencies_{
        {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}};
    std::map<unsigned, std::uint64_t> answers_;
    std::uint64_t again_ = 0;
    std::string last_error_;
    bool opening_ = false;
    http::server server_;
    std::jthread opener_;  // of a new shard; last, because it uses the others
};

}  // namespace gateway
