// SPDX-License-Identifier: MIT
// The gateway over loopback: what it takes, what it refuses, when it answers, and what is in its tables then.
#include "payment_gateway/gateway.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <regex>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "payment_gateway/audit.hpp"
#include "payment_gateway/load.hpp"
#include "payment_gateway/process.hpp"
#include "payment_gateway/report.hpp"
#include "payment_gateway/sqlite_store.hpp"
#include "support/http_answers.hpp"
#include "support/programs.hpp"
#include "support/scratch.hpp"

namespace {

using namespace std::chrono_literals;
using gateway::payment;
using gateway::problem;

// ---- A disk that a test can stop, or break. ----

struct disk {
    std::mutex mutex;
    std::condition_variable changed;
    std::set<std::string> stopped;   // shards whose writes wait
    std::set<std::string> unopened;  // shards whose files take long to open
    bool broken = false;
    int writes = 0;  // that have begun
    std::atomic<bool> unreadable = false;

    void stop(std::string const& shard) {
        std::lock_guard const lock(mutex);
        stopped.insert(shard);
    }
    void go_on() {
        {
            std::lock_guard const lock(mutex);
            stopped.clear();
            unopened.clear();
        }
        changed.notify_all();
    }
    void open_slowly(std::string const& shard) {
        std::lock_guard const lock(mutex);
        unopened.insert(shard);
    }
    void open(std::string const& shard) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return !unopened.contains(shard); });
        if (broken) throw std::runtime_error("the disk is broken");
    }
    void set_broken(bool is) {
        std::lock_guard const lock(mutex);
        broken = is;
    }
    void wait_for_writes(int n) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return writes >= n; });
    }
    void write(std::string const& shard) {
        std::unique_lock lock(mutex);
        ++writes;
        changed.notify_all();
        changed.wait(lock, [&] { return !stopped.contains(shard); });
        if (broken) throw std::runtime_error("the disk is broken");
    }
};

class watched_writer final : public gateway::writer {
  public:
    watched_writer(std::unique_ptr<gateway::writer> to, std::string shard, disk& on)
        : to_(std::move(to)), shard_(std::move(shard)), disk_(on) {}
    std::size_t insert(std::span<payment const> rows) override {
        disk_.write(shard_);
        return to_->insert(rows);
    }
    std::size_t erase(std::span<payment const> rows) override {
        disk_.write(shard_);
        return to_->erase(rows);
    }
    std::optional<payment> find(payment const& key) override { return to_->find(key); }

  private:
    std::unique_ptr<gateway::writer> to_;
    std::string shard_;
    disk& disk_;
};

class watched_reader final : public gateway::reader {
  public:
    watched_reader(std::unique_ptr<gateway::reader> of, disk& on) : of_(std::move(of)), disk_(on) {}
    std::optional<payment> find(payment const& key) override { return table().find(key); }
    std::vector<payment> range(std::uint64_t first, std::uint64_t last, std::size_t most) override {
        return table().range(first, last, most);
    }
    std::uint64_t count() override { return table().count(); }

  private:
    gateway::reader& table() const {
        if (disk_.unreadable) throw std::runtime_error("the disk cannot be read");
        return *of_;
    }
    std::unique_ptr<gateway::reader> of_;
    disk& disk_;
};

class watched_files final : public gateway::backend {
  public:
    watched_files(std::string const& folder, disk& on) : files_(folder), disk_(on) {}
    std::vector<std::string> shards() override { return files_.shards(); }
    std::unique_ptr<gateway::writer> open_writer(std::string const& shard, gateway::catalog& names) override {
        disk_.open(shard);
        return std::make_unique<watched_writer>(files_.open_writer(shard, names), shard, disk_);
    }
    std::unique_ptr<gateway::reader> open_reader(std::string const& shard, gateway::catalog& names) override {
        return std::make_unique<watched_reader>(files_.open_reader(shard, names), disk_);
    }

  private:
    gateway::sqlite_backend files_;
    disk& disk_;
};

// ---- A gateway on a thread of its own, and what asks it. ----

class running {
  public:
    explicit running(std::string const& folder, gateway::options how = {}) : folder_(folder) {
        how.http.linger = 100ms;  // clients of a test may sit there and not read
        here_ = std::make_unique<gateway::service>(loop_, std::make_unique<watched_files>(folder, on), how);
        at_ = here_->listen(cairn::endpoint::loopback(0));
        thread_ = std::thread([this] { loop_.run(); });
    }
    ~running() { stop(); }
    void stop() {
        if (!thread_.joinable()) return;
        on.go_on();
        begin_to_stop();
        thread_.join();
    }
    void begin_to_stop() {
        loop_.post([this] { here_->stop(60s, [this] { loop_.stop(); }); });
    }
    [[nodiscard]] cairn::endpoint const& at() const { return at_; }
    [[nodiscard]] gateway::audit audit() {
        stop();
        here_.reset();
        gateway::sqlite_backend files(folder_);
        return gateway::audit::of(files);
    }
    [[nodiscard]] nlohmann::json json(std::string const& path) const {
        return nlohmann::json::parse(gateway::get(at_, path));
    }
    /// Until nothing is moved any more.
    void wait_for_moves() const {
        while (json("/shards")["moving"]) std::this_thread::sleep_for(1ms);
    }
    disk on;

  private:
    std::string folder_;
    cairn::event_loop loop_;
    std::unique_ptr<gateway::service> here_;
    cairn::endpoint at_ = cairn::endpoint::loopback(0);
    std::thread thread_;
};

support::http_answer read(std::string const& wire) {
    auto const answer = support::read_answer(wire);
    return answer ? *answer : support::http_answer();
}
std::string const bread = R"({"merchant":"bakery","currency":"EUR","amount":"12.30"})";
std::string request(std::string const& key, std::string const& body) {
    return gateway::post("/payments", "Idempotency-Key: " + key + "\r\n", body);
}
support::http_answer pay(cairn::endpoint const& to, std::string const& key, std::string const& body = bread) {
    return read(gateway::ask(to, request(key, body)));
}
std::string code_of(support::http_answer const& answer) {
    auto const body = nlohmann::json::parse(answer.body, nullptr, false);
    if (!body.is_object() || !body.contains("error")) return "";
    EXPECT_FALSE(body["error"]["message"].get<std::string>().empty());
    EXPECT_EQ(answer.field("Content-Type"), "application/json");
    return body["error"]["code"];
}

/// Asks now and reads the answer later.
class caller {
  public:
    explicit caller(cairn::endpoint const& to) : connection_(to.port()) {}
    void ask(std::string const& what) { connection_.send(what); }
    support::http_answer answer() {
        std::string wire;
        std::size_t body = 0;
        for (std::string line = connection_.line();; line = connection_.line()) {
            wire += line + "\r\n";
            if (line.empty()) break;
            if (line.starts_with("Content-Length: ")) body = std::stoul(line.substr(16));
        }
        return read(wire + connection_.bytes(body));
    }

  private:
    support::connection connection_;
};

// ---- Money and payments. ----

TEST(Money, IsReadToTheMinorUnitOfItsCurrency) {
    using gateway::parse_amount;
    EXPECT_EQ(parse_amount("12.34", 2), 1234);
    EXPECT_EQ(parse_amount("12.3", 2), 1230);
    EXPECT_EQ(parse_amount("12", 2), 1200);
    EXPECT_EQ(parse_amount("0.01", 2), 1);
    EXPECT_EQ(parse_amount("12", 0), 12);
    EXPECT_EQ(parse_amount("1.500", 3), 1500);
    EXPECT_EQ(parse_amount("10000000000000.00", 2), gateway::largest_amount);
}
TEST(Money, IsRefusedUnlessItIsExactPositiveAndFits) {
    for (char const* const text : {"",
                                   "0",
                                   "0.00",
                                   "-1",
                                   "-0.01",
                                   "+1",
                                   "1.",
                                   ".5",
                                   "1.2.3",
                                   "1e3",
                                   "1,5",
                                   " 1",
                                   "1 ",
                                   "01",
                                   "00.1",
                                   "0x10",
                                   "NaN",
                                   "inf",
                                   "1.234",
                                   "10000000000000.01",
                                   "99999999999999999999999999",
                                   "12\xc2\xa0"})
        EXPECT_THROW((void)gateway::parse_amount(text, 2), problem) << text;
    EXPECT_THROW((void)gateway::parse_amount("1.0", 0), problem);
}
TEST(Money, ThatIsWrittenReadsBackAsTheSame) {
    std::mt19937_64 random(7);
    for (int i = 0; i < 20'000; ++i) {
        auto const decimals = static_cast<unsigned>(random() % 5);
        auto const minor =
            static_cast<std::int64_t>(random() >> (14 + random() % 50)) % gateway::largest_amount + 1;
        std::string text;
        gateway::append_amount(text, minor, decimals);
        ASSERT_EQ(gateway::parse_amount(text, decimals), minor) << text;
    }
}

TEST(Payment, IsTheSameWhetherItsAmountIsAStringOrMinorUnits) {
    gateway::catalog names;
    auto const a = gateway::parse_payment(bread, "k", names);
    auto const b = gateway::parse_payment(R"({"amount":1230,"currency":"EUR","merchant":"bakery","id":"k"})",
                                          "\"k\"", names);
    EXPECT_TRUE(gateway::same_request(a, b));
    EXPECT_EQ(a.id, b.id);
}
TEST(Payment, ThatIsRefusedLeavesNoNameBehind) {
    gateway::catalog names;
    std::size_t const before = names.size();
    for (char const* const body : {R"({"merchant":"x","currency":"EURO","amount":"1"})",
                                   R"({"merchant":"x","currency":"EUR","amount":"-1"})",
                                   R"({"merchant":"x","currency":"EUR","amount":1.5})"})
        EXPECT_THROW((void)gateway::parse_payment(body, "k", names), problem);
    EXPECT_EQ(names.size(), before);
}
TEST(Payment, AnswersWithANameThatNeedsEscapes) {
    gateway::catalog names;
    auto const made = gateway::parse_payment(
        R"({"merchant":"\"J\\u00f6rg\" \u00e4\\","currency":"JPY","amount":"5"})", "k", names);
    auto const body = nlohmann::json::parse(gateway::payment_body(made, names));
    EXPECT_EQ(body["merchant"], "\"J\\u00f6rg\" \xc3\xa4\\");
    EXPECT_EQ(body["amount"], "5");
}

// ---- What is wrong. ----

TEST(PaymentGateway, TellsWhatIsWrongWithEachRequestAndServesTheOthers) {
    support::scratch_folder const folder;
    running here(folder.file("data"));
    std::string const good = "POST /payments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    auto const with = [](std::string const& body) { return request("k", body); };
    auto const plain = [](std::string const& method, std::string const& path) {
        return method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
    };
    struct row {
        std::string request;
        unsigned status;
        char const* code;
    };
    row const table[] = {
        {with("{"), 400, "malformed_json"},
        {with(""), 400, "malformed_json"},
        {with("[]"), 400, "malformed_json"},
        {with("7"), 400, "malformed_json"},
        {with("null"), 400, "malformed_json"},
        {with(bread + "x"), 400, "malformed_json"},
        {with("{\"merchant\":\"\xff\"}"), 400, "malformed_json"},
        {with("{}"), 400, "missing_field"},
        {with(R"({"currency":"EUR","amount":"1"})"), 400, "missing_field"},
        {with(R"({"merchant":"m","amount":"1"})"), 400, "missing_field"},
        {with(R"({"merchant":"m","currency":"EUR"})"), 400, "missing_field"},
        {with(R"({"merchant":7,"currency":"EUR","amount":"1"})"), 400, "wrong_type"},
        {with(R"({"merchant":"m","currency":null,"amount":"1"})"), 400, "wrong_type"},
        {with(R"({"merchant":"m","currency":"EUR","amount":true})"), 400, "wrong_type"},
        {with(R"({"merchant":{"merchant":"m"},"currency":"EUR","amount":"1"})"), 400, "wrong_type"},
        {with(R"({"merchant":["m"],"currency":"EUR","amount":"1"})"), 400, "wrong_type"},
        {with(R"({"merchant":"m","currency":"EUR","amount":"1","note":"n"})"), 400, "unknown_field"},
        {with(R"({"merchant":"m","merchant":"n","currency":"EUR","amount":"1"})"), 400, "field_twice"},
        {with(R"({"merchant":"m","currency":"EUR","amount":"-1"})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"EUR","amount":-1})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"EUR","amount":0})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"EUR","amount":"0.00"})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"EUR","amount":"1.001"})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"JPY","amount":"1.0"})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"EUR","amount":1.5})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"EUR","amount":1e3})"), 422, "invalid_amount"},
        {with(R"({"merchant":"m","currency":"EUR","amount":1e400})"), 422, "invalid_amount"},
        {with(R"({"merchant":1e400,"currency":"EUR","amount":"1"})"), 400, "wrong_type"},
        {with(R"({"merchant":"m","currency":"EUR","amount":"1","\u0061mount":"2"})"), 400, "field_twice"},
        {with(R"({"merchant":"\ud800","currency":"EUR","amount":"1"})"), 400, "malformed_json"},
        {with(R"({"merchant":"a\u0000b","currency":"EUR","amount":"1"})"), 422, "invalid_merchant"},
        {with(std::string(16'000, '[')), 400, "malformed_json"},
        {with(R"({"merchant":)" + std::string(16'000, '{')), 400, "wrong_type"},
        {with(R"({"merchant":"m","currency":"EUR","amount":1000000000000001})"), 422, "amount_too_large"},
        {with(R"({"merchant":"m","currency":"EUR","amount":99999999999999999999999})"), 422,
         "amount_too_large"},
        {with(R"({"merchant":"m","currency":"EUR","amount":"99999999999999999999999"})"), 422,
         "amount_too_large"},
        {with(R"({"merchant":"m","currency":"XXX","amount":"1"})"), 422, "unknown_currency"},
        {with(R"({"merchant":"m","currency":"eur","amount":"1"})"), 422, "unknown_currency"},
        {with(R"({"merchant":"","currency":"EUR","amount":"1"})"), 422, "invalid_merchant"},
        {with(R"({"merchant":"a\nb","currency":"EUR","amount":"1"})"), 422, "invalid_merchant"},
        {with(R"({"merchant":")" + std::string(65, 'm') + R"(","currency":"EUR","amount":"1"})"), 422,
         "invalid_merchant"},
        {with(R"({"id":"other","merchant":"m","currency":"EUR","amount":"1"})"), 400, "two_keys"},
        {gateway::post("/payments", "", bread), 400, "missing_key"},
        {request("k\r\nIdempotency-Key: l", bread), 400, "two_keys"},
        {request("a b", bread), 400, "invalid_key"},
        {request("..", bread), 400, "invalid_key"},
        {request(std::string(64, 'k'), bread), 400, "invalid_key"},
        {good + "Idempotency-Key: k\r\nContent-Length: 99999999\r\n\r\n", 413, "http"},
        {good + "Transfer-Encoding: chunked\r\n\r\n4001\r\n" + std::string(0x4001, ' '), 413, "http"},
        {"POST /payments HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415,
         "unsupported_media_type"},
        {"POST /payments HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 415, "unsupported_media_type"},
        {plain("GET", "/payments"), 405, "method_not_allowed"},
        {plain("DELETE", "/payments/k"), 405, "method_not_allowed"},
        {plain("PUT", "/shards"), 405, "method_not_allowed"},
        {plain("GET", "/payments/k"), 404, "not_found"},
        {plain("GET", "/payments/"), 404, "not_found"},
        {plain("GET", "/payments/%"), 404, "not_found"},
        {plain("GET", "/payments/%00"), 404, "not_found"},
        {plain("GET", "/payments/%2e%2e%2fetc%2fpasswd"), 404, "not_found"},
        {plain("GET", "/payments/../../etc/passwd"), 404, "not_found"},
        {plain("GET", "/"), 404, "not_found"},
        {plain("GET", "/shards/plan"), 400, "missing_name"},
        {plain("GET", "/shards/plan?add=../x"), 422, "invalid_name"},
        {plain("GET", "/shards/plan?add=shard-1"), 409, "known_shard"},
        {gateway::post("/shards", "", "{}"), 400, "malformed_json"},
        {gateway::post("/shards", "", "nonsense"), 400, "malformed_json"},
        {gateway::post("/shards", "", R"({"name":".."})"), 422, "invalid_name"},
        {"nonsense\r\n\r\n", 400, "http"},
    };
    caller other(here.at());
    int served = 0;
    for (row const& one : table) {
        auto const answer = read(gateway::ask(here.at(), one.request));
        EXPECT_EQ(answer.status, one.status) << one.request << answer.body;
        EXPECT_EQ(code_of(answer), one.code) << one.request;
        other.ask(request("good-" + std::to_string(served++), bread));
        EXPECT_EQ(other.answer().status, 201U);
    }
    auto const audit = here.audit();
    EXPECT_EQ(audit.rows, static_cast<std::uint64_t>(served));
}

TEST(PaymentGateway, TakesNoNewMerchantsWhenThereAreManyButGoesOnForThoseItKnows) {
    support::scratch_folder const folder;
    running const here(folder.file("data"), {.most_merchants = 2});
    auto const body = [](std::string const& name) {
        return R"({"merchant":")" + name + R"(","currency":"EUR","amount":"1"})";
    };
    EXPECT_EQ(pay(here.at(), "1", body("a")).status, 201U);
    EXPECT_EQ(pay(here.at(), "2", body("b")).status, 201U);
    auto const third = pay(here.at(), "3", body("c"));
    EXPECT_EQ(third.status, 503U);
    EXPECT_EQ(code_of(third), "too_many_merchants");
    EXPECT_EQ(pay(here.at(), "4", body("a")).status, 201U);
}

// ---- Once, and when it is durable. ----

TEST(PaymentGateway, AnswersNotBeforeThePaymentIsDurable) {
    support::scratch_folder const folder;
    running here(folder.file("data"));
    here.on.stop("shard-1");
    caller client(here.at());
    client.ask(request("k", bread));
    here.on.wait_for_writes(1);
    EXPECT_EQ(here.json("/stats")["in_flight"], 1);
    EXPECT_FALSE(here.json("/stats").contains("answers") && here.json("/stats")["answers"].contains("201"));
    EXPECT_EQ(read(gateway::ask(here.at(), "GET /payments/k HTTP/1.1\r\nHost: x\r\n\r\n")).status, 404U);
    here.on.go_on();
    auto const answer = client.answer();
    EXPECT_EQ(answer.status, 201U);
    EXPECT_EQ(gateway::get(here.at(), "/payments/k"), answer.body);
}

TEST(PaymentGateway, AnswersAPaymentThatComesAgainInFlightAfterItAndAfterARestartAsTheFirstTime) {
    support::scratch_folder const folder;
    std::string first;
    std::string const dearer = R"({"merchant":"bakery","currency":"EUR","amount":"12.31"})";
    {
        running here(folder.file("data"));
        here.on.stop("shard-1");
        caller a(here.at()), b(here.at());
        a.ask(request("k", bread));
        here.on.wait_for_writes(1);
        b.ask(request("k", R"({"id":"k","amount":1230,"merchant":"bakery","currency":"EUR"})"));
        auto const refused = pay(here.at(), "k", dearer);  // answered at once
        EXPECT_EQ(refused.status, 422U);
        EXPECT_EQ(code_of(refused), "key_reused");
        here.on.go_on();
        auto const one = a.answer(), two = b.answer();
        EXPECT_EQ(one.status, 201U);
        EXPECT_EQ(two.status, 201U);
        EXPECT_EQ(one.body, two.body);
        EXPECT_EQ(one.field("Idempotent-Replayed"), "");
        EXPECT_EQ(two.field("Idempotent-Replayed"), "true");
        first = one.body;
        EXPECT_EQ(pay(here.at(), "k").body, first);
        EXPECT_EQ(code_of(pay(here.at(), "k", dearer)), "key_reused");
    }
    running here(folder.file("data"));
    auto const again = pay(here.at(), "k");
    EXPECT_EQ(again.status, 201U);
    EXPECT_EQ(again.body, first);
    EXPECT_EQ(again.field("Idempotent-Replayed"), "true");
    EXPECT_EQ(code_of(pay(here.at(), "k", dearer)), "key_reused");
    EXPECT_EQ(here.audit().rows, 1U);
}

TEST(PaymentGateway, TellsTheClientWhenTheDiskFailsAndTakesThePaymentWhenItIsWellAgain) {
    support::scratch_folder const folder;
    gateway::options how;
    how.batches.retry = {.attempts = 2, .first = 1ms};
    running here(folder.file("data"), how);
    here.on.set_broken(true);
    auto const failed = pay(here.at(), "k");
    EXPECT_EQ(failed.status, 503U);
    EXPECT_EQ(code_of(failed), "not_stored");
    EXPECT_EQ(failed.field("Retry-After"), "1");
    here.on.set_broken(false);
    EXPECT_EQ(pay(here.at(), "k").status, 201U);
    EXPECT_EQ(here.audit().rows, 1U);
}

TEST(PaymentGateway, ATableThatCannotBeReadIsToldAndAMoveGoesOnWhenItCan) {
    support::scratch_folder const folder;
    running here(folder.file("data"), {.shards = 2});
    for (int i = 0; i < 20; ++i) (void)pay(here.at(), "k" + std::to_string(i));
    here.on.unreadable = true;
    auto const answer = read(gateway::ask(here.at(), "GET /payments/k1 HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_EQ(answer.status, 500U);
    EXPECT_EQ(code_of(answer), "internal");
    EXPECT_EQ(pay(here.at(), "new").status, 201U);  // who only writes is not disturbed
    here.on.unreadable = false;
    EXPECT_FALSE(gateway::get(here.at(), "/payments/k1").empty());
    EXPECT_EQ(read(gateway::ask(here.at(), gateway::post("/shards", "", R"({"name":"shard-3"})"))).status,
              202U);
    here.on.unreadable = true;
    std::this_thread::sleep_for(5ms);
    here.on.unreadable = false;
    here.wait_for_moves();
    auto const audit = here.audit();
    EXPECT_EQ(audit.rows, 21U);
    EXPECT_EQ(audit.misplaced + audit.twice, 0U);
}

TEST(PaymentGateway, RefusesWhatItHasNoRoomForAndForgetsNothingThatItTook) {
    support::scratch_folder const folder;
    gateway::options how;
    how.batches.max_batch = 2;
    how.batches.capacity = 4;
    running here(folder.file("data"), how);
    here.on.stop("shard-1");
    std::vector<std::unique_ptr<caller>> clients;
    for (int i = 0; i < 4; ++i) {
        clients.push_back(std::make_unique<caller>(here.at()));
        clients.back()->ask(request("k" + std::to_string(i), bread));
    }
    while (here.json("/stats")["in_flight"] != 4) std::this_thread::sleep_for(1ms);
    auto const refused = pay(here.at(), "k4");
    EXPECT_EQ(refused.status, 503U);
    EXPECT_EQ(code_of(refused), "overloaded");
    here.on.go_on();
    for (auto const& one : clients) EXPECT_EQ(one->answer().status, 201U);
    EXPECT_EQ(here.audit().rows, 4U);
}

TEST(PaymentGateway, AClientThatHangsUpHarmsNobodyAndItsPaymentIsKept) {
    support::scratch_folder const folder;
    running here(folder.file("data"));
    here.on.stop("shard-1");
    caller stays(here.at());
    {
        caller leaves(here.at());
        leaves.ask(request("gone", bread));
        here.on.wait_for_writes(1);
        stays.ask(request("here", bread));
    }
    while (here.json("/stats")["in_flight"] != 2) std::this_thread::sleep_for(1ms);
    here.on.go_on();
    EXPECT_EQ(stays.answer().status, 201U);
    EXPECT_EQ(pay(here.at(), "gone").field("Idempotent-Replayed"), "true");
}

TEST(PaymentGateway, FindsAPaymentByItsKeyHoweverThePathIsEscaped) {
    support::scratch_folder const folder;
    running const here(folder.file("data"));
    std::string const body = pay(here.at(), "a:1").body;
    EXPECT_EQ(gateway::get(here.at(), "/payments/a:1"), body);
    EXPECT_EQ(gateway::get(here.at(), "/payments/a%3A1"), body);
    EXPECT_EQ(gateway::get(here.at(), "/payments/%61%3a%31"), body);
}

// ---- Load. ----

/// Some clients on this thread for so long, or until `until` holds.
std::unique_ptr<gateway::load> drive(cairn::event_loop& loop, cairn::endpoint const& to,
                                     std::chrono::milliseconds time,
                                     gateway::load_options const& how = {.connections = 16, .pipeline = 2}) {
    auto made = std::make_unique<gateway::load>(loop, to, how);
    made->on_end = [&loop] { loop.stop(); };
    auto const end = loop.call_after(time, [&] { made->stop(); });
    loop.run();
    return made;
}

TEST(PaymentGateway, HasEachAcknowledgedPaymentOnceInTheShardThatOwnsIt) {
    support::scratch_folder const folder;
    running here(folder.file("data"), {.shards = 3});
    cairn::event_loop loop;
    auto const load = drive(loop, here.at(), 200ms);
    EXPECT_TRUE(load->refused().empty());
    EXPECT_TRUE(load->unanswered().empty());
    auto const stats = here.json("/stats");
    EXPECT_EQ(stats["payments"], load->acknowledged().size());
    auto const audit = here.audit();
    EXPECT_EQ(audit.by_shard.size(), 3U);
    EXPECT_EQ(audit.rows, load->acknowledged().size());
    EXPECT_EQ(audit.missing(load->acknowledged()) + audit.twice + audit.wrong + audit.misplaced, 0U);
}

TEST(PaymentGateway, StoppedUnderLoadItAnswersWhatHasBegunAndLosesNothing) {
    support::scratch_folder const folder;
    running here(folder.file("data"), {.shards = 2});
    cairn::event_loop loop;
    gateway::load load(loop, here.at(), {.connections = 16, .pipeline = 2});
    load.on_end = [&] { loop.stop(); };
    std::thread stopper([&] {
        std::this_thread::sleep_for(100ms);
        here.stop();
    });
    loop.run();
    stopper.join();
    EXPECT_FALSE(load.acknowledged().empty());
    EXPECT_TRUE(load.refused().empty());
    auto const audit = here.audit();
    EXPECT_EQ(audit.missing(load.acknowledged()) + audit.twice + audit.wrong, 0U);
    EXPECT_LE(audit.rows, load.acknowledged().size() + load.unanswered().size());
}

TEST(PaymentGateway, StoppedItAnswersAllThatIsInFlight) {
    support::scratch_folder const folder;
    running here(folder.file("data"));
    here.on.stop("shard-1");
    caller idle(here.at());
    std::vector<std::unique_ptr<caller>> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(std::make_unique<caller>(here.at()));
        clients.back()->ask(request("k" + std::to_string(i), bread));
    }
    while (here.json("/stats")["in_flight"] != 8) std::this_thread::sleep_for(1ms);
    here.begin_to_stop();
    EXPECT_THROW((void)idle.answer(), std::runtime_error);  // hung up: it has asked nothing
    here.on.go_on();
    for (auto const& one : clients) {
        auto const answer = one->answer();
        EXPECT_EQ(answer.status, 201U);
        EXPECT_EQ(answer.field("Connection"), "close");
    }
    clients.clear();
    EXPECT_EQ(here.audit().rows, 8U);
}

TEST(PaymentGateway, KilledAtRandomMomentsItLosesNoAcknowledgedPaymentAndDoublesNone) {
    support::scratch_folder const folder;
    cairn::unique_fd const listener = cairn::listen(cairn::endpoint::loopback(0));
    auto const at = cairn::endpoint::of(listener.get());
    auto const store = [&] { return std::make_unique<gateway::sqlite_backend>(folder.file("data")); };
    std::random_device device;
    auto const seed = device();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    std::vector<std::uint64_t> acknowledged, open;
    std::uint64_t next = 0;
    for (int round = 0; round < 4; ++round) {
        bool const last = round == 3;  // not killed, so that all is answered in the end
        auto server = gateway::in_child(listener.get(), store, {.shards = 2});
        EXPECT_FALSE(gateway::get(at, "/stats").empty());  // it is up
        cairn::event_loop loop;
        std::vector<std::uint64_t> const before = std::exchange(open, {});
        gateway::load load(loop, at, {.connections = 16, .first = next, .before = before});
        load.on_end = [&] { loop.stop(); };
        auto const end = loop.call_every(std::chrono::microseconds(10'000 + random() % 60'000), [&] {
            if (last) {
                if (load.asked_before() == before.size()) load.stop();
                return;
            }
            EXPECT_EQ(server.end(SIGKILL), 128 + SIGKILL);
            loop.stop();
        });
        loop.run();
        load.give_up();
        acknowledged.insert(acknowledged.end(), load.acknowledged().begin(), load.acknowledged().end());
        open = load.unanswered();
        open.insert(open.end(), before.begin() + static_cast<std::ptrdiff_t>(load.asked_before()),
                    before.end());
        next = load.next();
    }
    EXPECT_TRUE(open.empty());
    EXPECT_FALSE(acknowledged.empty());
    gateway::sqlite_backend files(folder.file("data"));
    auto const audit = gateway::audit::of(files);
    EXPECT_EQ(audit.missing(acknowledged) + audit.twice + audit.wrong + audit.misplaced, 0U);
    EXPECT_EQ(audit.rows, next);  // what got no answer was asked for again
}

// ---- Shards. ----

/// Which shard has which key.
std::map<std::string, std::string> places(std::string const& folder) {
    std::map<std::string, std::string> found;
    gateway::catalog names;
    gateway::sqlite_backend files(folder);
    for (std::string const& shard : files.shards())
        for (payment const& row : files.open_reader(shard, names)->range(0, ~std::uint64_t{0}, 1'000'000))
            found[std::string(row.id.view())] += shard + ' ';
    return found;
}

TEST(PaymentGateway, AddingAShardUnderLoadMovesOnlyWhatThePlanSaysAndEachOnce) {
    support::scratch_folder const folder;
    running here(folder.file("data"), {.shards = 3});
    cairn::event_loop loop;
    auto const first = drive(loop, here.at(), 150ms);
    auto const before = places(folder.file("data"));
    auto const plan = here.json("/shards/plan?add=shard-4");
    EXPECT_EQ(here.json("/shards")["shards"].size(), 3U);  // a plan changes nothing

    gateway::load load(loop, here.at(), {.connections = 16, .first = first->next()});
    load.on_end = [&] { loop.stop(); };
    auto const told = nlohmann::json::parse(
        read(gateway::ask(here.at(), gateway::post("/shards", "", R"({"name":"shard-4"})"))).body);
    EXPECT_EQ(told["arcs"], plan["arcs"]);
    auto const look = loop.call_every(5ms, [&] {
        if (!here.json("/shards")["moving"]) load.stop();
    });
    loop.run();
    EXPECT_TRUE(load.refused().empty());
    auto const moved = here.json("/shards")["moved"].get<std::uint64_t>();
    auto const audit = here.audit();
    EXPECT_EQ(audit.missing(first->acknowledged()) + audit.missing(load.acknowledged()), 0U);
    EXPECT_EQ(audit.twice + audit.wrong + audit.misplaced, 0U);
    std::uint64_t changed = 0;
    for (auto const& [key, shard] : places(folder.file("data"))) {
        auto const was = before.find(key);
        if (was == before.end() || was->second == shard) continue;
        EXPECT_EQ(shard, "shard-4 ") << key;
        ++changed;
    }
    // What was in flight when the shard was added went to its old owner first.
    EXPECT_GE(moved, changed);
    EXPECT_LE(moved, changed + 16);
    auto const in_arcs = [&](std::uint64_t position) {
        for (auto const& arc : plan["arcs"])
            if (position >= std::stoull(arc["first"].get<std::string>(), nullptr, 16) &&
                position <= std::stoull(arc["last"].get<std::string>(), nullptr, 16))
                return true;
        return false;
    };
    cairn::virtual_nodes<> const placement;
    std::uint64_t planned = 0;
    for (auto const& [key, shard] : before) planned += in_arcs(placement.position(std::string_view(key)));
    EXPECT_EQ(changed, planned);
}

TEST(PaymentGateway, KnowsAKeyWhoseRowIsStillOnItsWayToAnotherShard) {
    support::scratch_folder const folder;
    running here(folder.file("data"), {.shards = 2});
    constexpr int count = 60;
    std::vector<std::string> first;
    for (int i = 0; i < count; ++i) first.push_back(pay(here.at(), "k" + std::to_string(i)).body);
    here.on.stop("new");
    EXPECT_EQ(read(gateway::ask(here.at(), gateway::post("/shards", "", R"({"name":"new"})"))).status, 202U);
    EXPECT_EQ(code_of(read(gateway::ask(here.at(), gateway::post("/shards", "", R"({"name":"newer"})")))),
              "moving");
    cairn::hash_ring<std::string> const after{"shard-1", "shard-2", "new"};
    int moving = 0;
    for (int i = 0; i < count; ++i) {
        std::string const key = "k" + std::to_string(i);
        if (after.find(std::string_view(key)) != "new") continue;
        ++moving;
        EXPECT_EQ(gateway::get(here.at(), "/payments/" + key), first[static_cast<std::size_t>(i)]);
        EXPECT_EQ(pay(here.at(), key).body, first[static_cast<std::size_t>(i)]);
        EXPECT_EQ(code_of(pay(here.at(), key, R"({"merchant":"m","currency":"EUR","amount":"1"})")),
                  "key_reused");
    }
    EXPECT_GT(moving, 0);
    here.on.go_on();
    here.wait_for_moves();
    for (int i = 0; i < count; ++i)
        EXPECT_EQ(pay(here.at(), "k" + std::to_string(i)).body, first[static_cast<std::size_t>(i)]);
    EXPECT_EQ(here.json("/shards")["moved"], moving);
    auto const audit = here.audit();
    EXPECT_EQ(audit.rows, static_cast<std::uint64_t>(count));
    EXPECT_EQ(audit.misplaced, 0U);
}

TEST(PaymentGateway, ServesOthersWhileTheFileOfANewShardIsOpened) {
    support::scratch_folder const folder;
    running here(folder.file("data"));
    here.on.open_slowly("new");
    caller adds(here.at());
    adds.ask(gateway::post("/shards", "", R"({"name":"new"})"));
    while (code_of(read(gateway::ask(here.at(), gateway::post("/shards", "", R"({"name":"newer"})")))) !=
           "moving")
        std::this_thread::sleep_for(1ms);
    EXPECT_EQ(pay(here.at(), "k").status, 201U);
    EXPECT_EQ(here.json("/shards")["shards"].size(), 1U);
    here.on.go_on();
    EXPECT_EQ(adds.answer().status, 202U);
    EXPECT_EQ(here.json("/shards")["shards"].size(), 2U);
    here.wait_for_moves();
    EXPECT_EQ(here.audit().misplaced, 0U);
}

TEST(PaymentGateway, ANewShardThatCannotBeOpenedChangesNothing) {
    support::scratch_folder const folder;
    running here(folder.file("data"));
    here.on.set_broken(true);
    auto const answer = read(gateway::ask(here.at(), gateway::post("/shards", "", R"({"name":"new"})")));
    EXPECT_EQ(answer.status, 500U);
    EXPECT_EQ(code_of(answer), "internal");
    EXPECT_EQ(here.json("/stats")["last_error"], "the disk is broken");  // who runs it wants to know
    here.on.set_broken(false);
    EXPECT_EQ(here.json("/shards")["shards"].size(), 1U);
    EXPECT_EQ(pay(here.at(), "k").status, 201U);
    EXPECT_EQ(read(gateway::ask(here.at(), gateway::post("/shards", "", R"({"name":"new"})"))).status, 202U);
}

TEST(PaymentGateway, KilledAtRandomMomentsOfAMoveItHasEachPaymentOnce) {
    support::scratch_folder const folder;
    cairn::unique_fd const listener = cairn::listen(cairn::endpoint::loopback(0));
    auto const at = cairn::endpoint::of(listener.get());
    auto const store = [&] { return std::make_unique<gateway::sqlite_backend>(folder.file("data")); };
    auto const seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    constexpr std::uint64_t rows = 3'000;
    {
        gateway::catalog names;
        cairn::virtual_nodes<> const circle;
        std::vector<payment> all;
        for (std::uint64_t n = 0; n < rows; ++n) {
            gateway::sample_payment const one{n};
            all.push_back(gateway::parse_payment(one.body(), one.key(), names));
            all.back().position = circle.position(all.back().id.view());
        }
        EXPECT_EQ(store()->open_writer("shard-1", names)->insert(all), rows);
    }
    int killed = 0;
    for (bool moving = true; moving && killed < 50; ++killed) {
        auto server = gateway::in_child(listener.get(), store, {.shards = 1});
        (void)gateway::ask(at, gateway::post("/shards", "", R"({"name":"shard-2"})"));  // known, later
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 5'000));
        moving = nlohmann::json::parse(gateway::get(at, "/shards"))["moving"];
        EXPECT_EQ(server.end(SIGKILL), 128 + SIGKILL);
    }
    {
        auto server = gateway::in_child(listener.get(), store);
        while (nlohmann::json::parse(gateway::get(at, "/shards"))["moving"]) std::this_thread::sleep_for(1ms);
        EXPECT_EQ(server.end(SIGTERM), 0);
    }
    gateway::sqlite_backend files(folder.file("data"));
    auto const audit = gateway::audit::of(files);
    EXPECT_EQ(audit.rows, rows);
    EXPECT_EQ(audit.twice + audit.wrong + audit.misplaced, 0U);
    ASSERT_EQ(audit.by_shard.size(), 2U);
    EXPECT_GT(audit.by_shard[1], 0U);
}

TEST(PaymentGateway, GoesOnWithAMoveThatWasInterrupted) {
    support::scratch_folder const folder;
    std::uint64_t rows = 0;
    {
        running here(folder.file("data"), {.shards = 2});
        cairn::event_loop loop;
        rows = drive(loop, here.at(), 100ms)->acknowledged().size();
    }
    {  // As it was killed: some rows are in both shards, some in the new one only, most in the old one only.
        gateway::sqlite_backend files(folder.file("data"));
        gateway::catalog names;
        auto const to = files.open_writer("shard-3", names);
        auto const from = files.open_writer("shard-1", names);
        cairn::hash_ring<std::string> const after{"shard-1", "shard-2", "shard-3"};
        std::vector<payment> some;
        for (payment const& row : files.open_reader("shard-1", names)->range(0, ~std::uint64_t{0}, 1'000'000))
            if (after.find(row.id.view()) == "shard-3" && some.size() < 20) some.push_back(row);
        ASSERT_GE(some.size(), 4U);
        EXPECT_EQ(to->insert(some), some.size());
        EXPECT_EQ(from->erase(std::span(some).first(some.size() / 2)), some.size() / 2);
    }
    running here(folder.file("data"), {.shards = 2});
    here.wait_for_moves();
    auto const audit = here.audit();
    EXPECT_EQ(audit.rows, rows);
    EXPECT_EQ(audit.twice + audit.misplaced + audit.wrong, 0U);
}

// ---- Numbers. ----

TEST(PaymentGateway, ItsMetricsAreInPrometheusFormat) {
    support::scratch_folder const folder;
    running const here(folder.file("data"), {.shards = 2});
    for (int i = 0; i < 20; ++i) (void)pay(here.at(), "k" + std::to_string(i));
    (void)pay(here.at(), "k0");
    auto const answer = read(gateway::ask(here.at(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_EQ(answer.field("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    std::regex const comment(R"(# (HELP [a-z_]+ .+|TYPE [a-z_]+ (counter|gauge|histogram)))");
    std::regex const sample(R"re(([a-z_]+)(\{[a-z]+="[^"\\]+"(,[a-z]+="[^"\\]+")*\})? ([0-9.e+-]+))re");
    std::istringstream lines(answer.body);
    std::map<std::string, double> values;
    std::set<std::string> typed;
    std::map<std::string, double> below;  // the last bucket of each series
    for (std::string line; std::getline(lines, line);) {
        std::smatch parts;
        if (line.starts_with('#')) {
            EXPECT_TRUE(std::regex_match(line, comment)) << line;
            if (line.starts_with("# TYPE ")) {
                EXPECT_TRUE(typed.insert(line.substr(7, line.rfind(' ') - 7)).second) << line;
            }
            continue;
        }
        ASSERT_TRUE(std::regex_match(line, parts, sample)) << line;
        std::string const name = parts[1];
        double const value = std::stod(parts[4]);
        if (name.ends_with("_bucket")) {
            double& last = below[line.substr(0, line.find("le="))];
            EXPECT_GE(value, last) << line;
            last = value;
        }
        EXPECT_TRUE(values.emplace(line.substr(0, line.rfind(' ')), value).second) << "twice: " << line;
        std::string base = name;
        for (char const* const end : {"_bucket", "_sum", "_count"})
            if (base.ends_with(end) && !typed.contains(base))
                base.resize(base.size() - std::string_view(end).size());
        EXPECT_TRUE(typed.contains(base)) << line;
    }
    // A histogram's last bucket has all, and beside the buckets stand their sum and their number.
    int histograms = 0;
    for (auto const& [series, value] : values) {
        std::size_t const bucket = series.find("_bucket{"), bound = series.find("le=\"+Inf\"");
        if (bucket == series.npos || bound == series.npos) continue;
        ++histograms;
        std::string labels = series.substr(bucket + 8, bound - bucket - 8);  // "", or with a comma behind
        if (!labels.empty()) labels = '{' + labels.substr(0, labels.size() - 1) + '}';
        std::string const name = series.substr(0, bucket);
        EXPECT_TRUE(values.contains(name + "_sum" + labels)) << series;
        EXPECT_EQ(values.at(name + "_count" + labels), value) << series;
    }
    EXPECT_EQ(histograms, 3);
    EXPECT_EQ(values["gateway_answers_total{status=\"201\"}"], 21);
    EXPECT_EQ(values["gateway_replayed_total"], 1);
    EXPECT_EQ(values["gateway_durable_seconds_count"], 21);
    EXPECT_EQ(values["gateway_durable_seconds_bucket{le=\"+Inf\"}"], 21);
    EXPECT_EQ(values["gateway_shard_payments{shard=\"shard-1\"}"] +
                  values["gateway_shard_payments{shard=\"shard-2\"}"],
              20);
}

TEST(PaymentGateway, ItsReportHasTheThreeChartsOfARun) {
    support::scratch_folder const folder;
    running const here(folder.file("data"));
    cairn::event_loop loop;
    auto const load = drive(loop, here.at(), 60ms);
    auto const shard = here.json("/stats")["shards"][0];
    gateway::report_page page("a <run>");
    gateway::add_load(page, *load, shard["batch_bounds"], shard["batch_counts"]);
    std::string const text = std::move(page).text();
    EXPECT_NE(text.find("99 % within"), text.npos);
    for (char const* const title : {"Throughput", "Latency", "Batches"})
        EXPECT_NE(text.find("<h2>" + std::string(title) + "</h2>\n<svg"), text.npos) << title;
    EXPECT_EQ(text.find("<run>"), text.npos);
    EXPECT_EQ(text.find("nan"), text.npos);
    EXPECT_EQ(text.find("inf\""), text.npos);
}

}  // namespace
