// SPDX-License-Identifier: MIT
// Run by bench/with_postgres, which brings a server. Without one, all tests are skipped.
#include <cairn/batch_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sinks/postgres_sink.hpp"

namespace {

struct event {
    std::uint32_t producer;
    std::uint64_t sequence;
    std::string body;
};
constexpr auto event_values = [](event const& e) {
    return std::tuple(e.producer, e.sequence, std::string_view(e.body));
};
using event_sink = sinks::postgres_sink<event, std::remove_const_t<decltype(event_values)>>;

std::vector<event> some(std::uint32_t producer, std::uint64_t first, std::size_t count) {
    std::vector<event> made;
    for (std::uint64_t i = first; i < first + count; ++i)
        made.push_back({producer, i, "event " + std::to_string(i)});
    return made;
}

class PostgresSink : public testing::Test {
  protected:
    void SetUp() override {
        if (char const* const dsn = std::getenv("CAIRN_PG_DSN"))
            dsn_ = dsn;
        else
            GTEST_SKIP() << "no server: CAIRN_PG_DSN is not set, see bench/with_postgres";
        other_ = std::make_unique<sinks::postgres_connection>(dsn_);
        other_->run("DROP TABLE IF EXISTS " + sinks::sql_name(table));
    }
    void TearDown() override {
        if (other_) other_->run("DROP TABLE IF EXISTS " + sinks::sql_name(table));
    }
    event_sink sink(std::size_t key, sinks::on_duplicate duplicates = sinks::on_duplicate::fail) {
        return {dsn_,
                {.name = table, .columns = {"producer", "sequence", "body"}, .key = key},
                event_values,
                duplicates};
    }
    std::string value(std::string const& sql) { return other_->value(sql); }
    std::string count() { return value("SELECT count(*) FROM " + sinks::sql_name(table)); }
    /// Whether the table holds the events 0 … n-1 of producer 1, once each.
    testing::AssertionResult holds(std::size_t n) {
        auto const found = value(
            "SELECT count(*) || ' ' || count(DISTINCT sequence) || ' ' || coalesce(min(sequence), 0) || ' ' "
            "|| "
            "coalesce(max(sequence), -1) || ' ' || count(*) FILTER (WHERE producer = 1 AND body = 'event ' "
            "|| "
            "sequence) FROM " +
            sinks::sql_name(table));
        auto const all = std::to_string(n);
        auto const expected = all + " " + all + " 0 " + (n == 0 ? "-1" : std::to_string(n - 1)) + " " + all;
        if (found == expected) return testing::AssertionSuccess();
        return testing::AssertionFailure() << found << " instead of " << expected;
    }

    static constexpr char const* table = "cairn test \"events\"";
    std::string dsn_;
    std::unique_ptr<sinks::postgres_connection> other_;
};

/// The error that a call throws.
template <class Call>
sinks::postgres_error error_of(Call call) {
    try {
        call();
    } catch (sinks::postgres_error const& error) {
        return error;
    }
    return {"none", "none"};
}

TEST_F(PostgresSink, WritesAllRowsWhateverTheirNumber) {
    for (auto const duplicates : {sinks::on_duplicate::fail, sinks::on_duplicate::ignore}) {
        auto to = sink(0, duplicates);
        other_->run("DELETE FROM " + sinks::sql_name(table));
        std::size_t n = 0;
        for (std::size_t const more : {0U, 1U, 2U, 100U, 999U, 50'000U}) {
            to(some(1, n, more));
            n += more;
            EXPECT_TRUE(holds(n));
        }
    }
}

TEST_F(PostgresSink, KeepsTheValuesOfAllTypes) {
    struct all {
        std::int64_t least, most;
        bool truth;
        float real;
        std::string text;
        std::vector<std::byte> bytes;
    };
    auto const values = [](all const& a) {
        return std::tuple(a.least, a.most, a.truth, a.real, std::string_view(a.text),
                          std::span<std::byte const>(a.bytes));
    };
    sinks::postgres_sink<all, std::remove_const_t<decltype(values)>> to(
        dsn_, {.name = table, .columns = {"a", "b", "a space", "d", "e", "select"}}, values);
    std::vector<all> const rows{{std::numeric_limits<std::int64_t>::min(),
                                 std::numeric_limits<std::int64_t>::max(),
                                 true,
                                 -0.5F,
                                 "it's\t\\N \"quoted\"\n",
                                 {std::byte{0}, std::byte{255}}},
                                {0, 0, false, 0, "", {}}};
    to(rows);
    std::string const from = " FROM " + sinks::sql_name(table) + " WHERE \"a space\" = ";
    EXPECT_EQ(value("SELECT a || ' ' || b || ' ' || d" + from + "1"),
              "-9223372036854775808 9223372036854775807 -0.5");
    EXPECT_EQ(value("SELECT e" + from + "1"), "it's\t\\N \"quoted\"\n");
    EXPECT_EQ(value("SELECT encode(\"select\", 'hex')" + from + "1"), "00ff");
    EXPECT_EQ(value("SELECT length(e) || ' ' || length(\"select\")" + from + "0"), "0 0");
}

TEST_F(PostgresSink, RefusesATableThatDoesNotFitTheRows) {
    EXPECT_THROW(event_sink(dsn_, {.name = table, .columns = {"one"}}, event_values), std::invalid_argument);
}

TEST_F(PostgresSink, SaysWhatTheLibrarySaysIfThereIsNoServer) {
    auto const error = error_of([] {
        event_sink("host=/nowhere dbname=none", {.name = table, .columns = {"a", "b", "c"}}, event_values);
    });
    EXPECT_NE(std::string(error.what()).find("/nowhere"), std::string::npos) << error.what();
    EXPECT_EQ(error.state, "");
}

TEST_F(PostgresSink, ARowThatFailsLeavesNothingOfItsBatch) {
    auto to = sink(2);
    to(some(1, 0, 3));
    for (std::size_t const bad : {0U, 1U, 119U}) {
        auto rows = some(1, 3, 120);
        rows[bad].sequence = 1;
        auto const error = error_of([&] { to(rows); });
        EXPECT_EQ(error.state, "23505");  // unique_violation
        EXPECT_NE(std::string(error.what()).find("duplicate key"), std::string::npos) << error.what();
        EXPECT_TRUE(holds(3));
    }
    // A byte that no text may hold is found while the rows come in.
    auto rows = some(1, 3, 120);
    rows[60].body = std::string("a\0b", 3);
    EXPECT_EQ(error_of([&] { to(rows); }).state, "22021");
    EXPECT_TRUE(holds(3));
    to(some(1, 3, 120));  // as if nothing had happened
    EXPECT_TRUE(holds(123));
}

TEST_F(PostgresSink, ABatchThatIsGivenTwiceIsThereOnceIfDuplicatesAreIgnored) {
    auto to = sink(2, sinks::on_duplicate::ignore);
    auto const rows = some(1, 0, 120);
    to(std::span(rows).first(70));  // "committed, then threw"
    EXPECT_EQ(to.inserted(), 70U);
    to(rows);
    EXPECT_EQ(to.inserted(), 50U);
    to(rows);
    EXPECT_EQ(to.inserted(), 0U);
    EXPECT_TRUE(holds(120));
    auto bad = some(1, 120, 10);
    bad[5].body = std::string("a\0b", 3);
    EXPECT_EQ(error_of([&] { to(bad); }).state, "22021");
    to(some(1, 120, 10));
    EXPECT_TRUE(holds(130));
}

TEST_F(PostgresSink, ConnectsAgainAfterTheConnectionBroke) {
    for (auto const duplicates : {sinks::on_duplicate::fail, sinks::on_duplicate::ignore}) {
        auto to = sink(2, duplicates);
        other_->run("DELETE FROM " + sinks::sql_name(table));
        to(some(1, 0, 10));
        EXPECT_NE(
            value("SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = "
                  "current_database() AND pid <> pg_backend_pid()"),
            "0");
        EXPECT_NE(error_of([&] { to(some(1, 10, 10)); }).state, "none");
        EXPECT_TRUE(holds(10));
        to(some(1, 10, 10));
        EXPECT_TRUE(holds(20));
    }
}

TEST_F(PostgresSink, BehindABufferItLosesAndRepeatsNothingWhateverFails) {
    for (unsigned seed = 0; seed < 3; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937 random{seed};
        auto to = sink(2, sinks::on_duplicate::ignore);
        other_->run("DELETE FROM " + sinks::sql_name(table));
        int thrown = 0;
        auto const insert = [&](std::span<event> rows) {
            auto const dice = random() % 10;
            if (dice == 0) ++thrown, throw std::runtime_error("before the transaction");
            to(rows);
            if (dice == 1) ++thrown, throw std::runtime_error("after the commit");
        };
        cairn::double_buffer<event, decltype(insert)> buffer(insert, 100);
        for (auto const& one : some(1, 0, 5'000)) {
            for (bool pushed = false; !pushed;) {
                try {
                    pushed = buffer.push(one);
                } catch (std::runtime_error const&) {
                }
            }
        }
        for (bool closed = false; !closed;) {
            try {
                buffer.close();
                closed = true;
            } catch (std::runtime_error const&) {
            }
        }
        EXPECT_GT(thrown, 0);
        EXPECT_TRUE(holds(5'000));
    }
}

}  // namespace
