// SPDX-License-Identifier: MIT
// The gateway's shards in PostgreSQL: what it promises of SQLite's files holds there too.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "payment_gateway/audit.hpp"
#include "payment_gateway/gateway.hpp"
#include "payment_gateway/load.hpp"
#include "payment_gateway/postgres_store.hpp"

namespace {

using namespace std::chrono_literals;

/// Where the server is that bench/with_postgres has started for this test.
std::string dsn() {
    char const* const found = std::getenv("CAIRN_PG_DSN");
    if (found == nullptr)
        throw std::runtime_error("CAIRN_PG_DSN is not set: run this by bench/with_postgres");
    return found;
}

/// A gateway on a thread of its own. Each test has its own prefix, so its own tables.
class running {
  public:
    explicit running(std::string prefix, std::size_t shards = 1)
        : prefix_(std::move(prefix)),
          here_(std::make_unique<gateway::service>(
              loop_, std::make_unique<gateway::postgres_backend>(dsn(), prefix_),
              gateway::options{.shards = shards})),
          at(here_->listen(cairn::endpoint::loopback(0))),
          thread_([this] { loop_.run(); }) {}
    ~running() { stop(); }
    void stop() {
        if (!thread_.joinable()) return;
        loop_.post([this] { here_->stop(5s, [this] { loop_.stop(); }); });
        thread_.join();
    }
    [[nodiscard]] gateway::audit audit() {
        stop();
        here_.reset();
        gateway::postgres_backend tables(dsn(), prefix_);
        return gateway::audit::of(tables);
    }

  private:
    std::string prefix_;
    cairn::event_loop loop_;
    std::unique_ptr<gateway::service> here_;

  public:
    cairn::endpoint const at;

  private:
    std::thread thread_;
};

unsigned status_of(std::string const& answer) { return gateway::answer_head::read(answer)->status; }
std::string pay(cairn::endpoint const& to, std::string const& key, char const* amount = "12.30") {
    return gateway::ask(to,
                        gateway::post("/payments", "Idempotency-Key: " + key + "\r\n",
                                      R"({"merchant":"J\u00f6rg's \"bakery\"","currency":"EUR","amount":")" +
                                          std::string(amount) + "\"}"));
}

TEST(PaymentGatewayInPostgres, AnswersAPaymentThatComesAgainAsTheFirstTimeAlsoAfterARestart) {
    std::string body;
    {
        running here("again:");
        std::string const first = pay(here.at, "k:1");
        EXPECT_EQ(status_of(first), 201U);
        body = gateway::body_of(first);
        EXPECT_EQ(gateway::body_of(pay(here.at, "k:1")), body);
        EXPECT_EQ(status_of(pay(here.at, "k:1", "12.31")), 422U);
        EXPECT_EQ(gateway::get(here.at, "/payments/k:1"), body);
        EXPECT_EQ(status_of(pay(here.at, "k:2", "0.001")), 422U);
    }
    running here("again:");
    EXPECT_EQ(gateway::body_of(pay(here.at, "k:1")), body);
    EXPECT_EQ(status_of(pay(here.at, "k:1", "12.31")), 422U);
    EXPECT_EQ(here.audit().rows, 1U);
}

TEST(PaymentGatewayInPostgres, MovesToANewShardOnceUnderLoad) {
    running here("move:", 2);
    cairn::event_loop loop;
    gateway::load load(loop, here.at, {.connections = 16});
    load.on_end = [&] { loop.stop(); };
    bool added = false;
    auto const look = loop.call_every(20ms, [&] {
        if (!added && load.acknowledged().size() >= 500) {
            added = true;
            EXPECT_EQ(status_of(gateway::ask(here.at, gateway::post("/shards", "", R"({"name":"new"})"))),
                      202U);
        } else if (added && !nlohmann::json::parse(gateway::get(here.at, "/shards"))["moving"]) {
            load.stop();
        }
    });
    loop.run();
    EXPECT_TRUE(load.refused().empty());
    EXPECT_GT(nlohmann::json::parse(gateway::get(here.at, "/shards"))["moved"], 0);
    auto const audit = here.audit();
    EXPECT_EQ(audit.rows, load.acknowledged().size());
    EXPECT_EQ(audit.missing(load.acknowledged()) + audit.twice + audit.wrong + audit.misplaced, 0U);
    EXPECT_EQ(audit.by_shard.size(), 3U);
}

TEST(PaymentGatewayInPostgres, ConnectsAnewWhenTheServerHasCutItsConnections) {
    running here("cut:");
    std::string const body = gateway::body_of(pay(here.at, "k"));
    sinks::postgres_connection other(dsn());
    (void)other.value(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
    // The first question finds out; a write is tried again by itself.
    EXPECT_EQ(status_of(gateway::ask(here.at, "GET /payments/k HTTP/1.1\r\nHost: x\r\n\r\n")), 500U);
    EXPECT_EQ(gateway::get(here.at, "/payments/k"), body);
    EXPECT_EQ(status_of(pay(here.at, "other")), 201U);
    EXPECT_EQ(gateway::body_of(pay(here.at, "k")), body);  // asks its table what was there
    EXPECT_EQ(status_of(pay(here.at, "k", "1")), 422U);
    EXPECT_EQ(here.audit().rows, 2U);
}

}  // namespace
