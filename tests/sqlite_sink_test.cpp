// SPDX-License-Identifier: MIT
#include <cairn/batch_buffer.hpp>

#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sinks/sqlite_sink.hpp"
#include "support/scratch.hpp"

namespace {

struct event {
    std::uint32_t producer;
    std::uint64_t sequence;
    std::string body;
    double amount = 0;
    bool operator==(event const&) const = default;
};
constexpr auto event_values = [](event const& e) {
    return std::tuple(e.producer, e.sequence, std::string_view(e.body), e.amount);
};
using event_sink = sinks::sqlite_sink<event, std::remove_const_t<decltype(event_values)>>;

sinks::table events(std::size_t key) {
    return {.name = "events", .columns = {"producer", "sequence", "body", "amount"}, .key = key};
}
std::vector<event> some(std::uint32_t producer, std::uint64_t first, std::size_t count) {
    std::vector<event> made;
    for (std::uint64_t i = first; i < first + count; ++i)
        made.push_back({producer, i, "event " + std::to_string(i), static_cast<double>(i) / 8});
    return made;
}

/// What another connection reads.
class reader {
  public:
    explicit reader(std::string const& path) : connection_(path, std::chrono::seconds(5)) {}
    /// The events in the order of their insertion.
    std::vector<event> all() {
        std::vector<event> found;
        query("SELECT producer, sequence, body, amount FROM events ORDER BY rowid", [&](sqlite3_stmt* row) {
            auto const* const text = reinterpret_cast<char const*>(sqlite3_column_text(row, 2));
            found.push_back({static_cast<std::uint32_t>(sqlite3_column_int64(row, 0)),
                             static_cast<std::uint64_t>(sqlite3_column_int64(row, 1)),
                             std::string(text, static_cast<std::size_t>(sqlite3_column_bytes(row, 2))),
                             sqlite3_column_double(row, 3)});
        });
        return found;
    }
    std::string value(std::string const& sql) {
        std::string found;
        query(sql,
              [&](sqlite3_stmt* row) { found = reinterpret_cast<char const*>(sqlite3_column_text(row, 0)); });
        return found;
    }
    void run(std::string const& sql) { connection_.run(sql); }

  private:
    template <class Visit>
    void query(std::string const& sql, Visit visit) {
        sqlite3_stmt* statement = nullptr;
        if (sqlite3_prepare_v2(connection_.handle(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
            connection_.fail(sql);
        while (sqlite3_step(statement) == SQLITE_ROW) visit(statement);
        if (sqlite3_finalize(statement) != SQLITE_OK) connection_.fail(sql);
    }
    sinks::sqlite_connection connection_;
};

/// The message of the sqlite_error that a call throws; empty if it throws none.
template <class Call>
std::string message_of(Call call) {
    try {
        call();
    } catch (sinks::sqlite_error const& error) {
        return error.what();
    }
    return "";
}

TEST(SqliteSink, WritesAllRowsInOrderWhateverTheirNumber) {
    for (std::size_t const together : {1U, 3U, 50U, 100'000U}) {
        support::scratch_folder const folder;
        event_sink sink(folder.file("db"), events(0), event_values, {.rows_per_statement = together});
        std::vector<event> expected;
        for (std::size_t const count : {0U, 1U, 2U, 49U, 50U, 51U, 100U, 999U}) {
            auto const rows = some(1, expected.size(), count);
            expected.insert(expected.end(), rows.begin(), rows.end());
            sink(rows);
            EXPECT_EQ(reader(folder.file("db")).all(), expected);
        }
    }
}

TEST(SqliteSink, KeepsTheValuesOfAllTypes) {
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
    support::scratch_folder const folder;
    using namespace std::string_literals;
    {
        sinks::sqlite_sink<all, decltype(values)> sink(folder.file("db"),
                                                       {.name = "a \"strange\" name; DROP TABLE x",
                                                        .columns = {"a", "b", "a space", "d", "e", "select"}},
                                                       values);
        std::vector<all> const rows{
            {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(), true, 0.5F,
             "it's \0 \"quoted\""s, std::vector<std::byte>{std::byte{0}, std::byte{255}}},
            {0, 0, false, 0, "", {}}};
        sink(rows);
    }
    reader found(folder.file("db"));
    std::string const from = " FROM \"a \"\"strange\"\" name; DROP TABLE x\" WHERE rowid = ";
    EXPECT_EQ(found.value("SELECT a || ' ' || b || ' ' || \"a space\" || ' ' || d" + from + "1"),
              "-9223372036854775808 9223372036854775807 1 0.5");
    EXPECT_EQ(found.value("SELECT hex(e) || ' ' || hex(\"select\")" + from + "1"),
              "697427732000202271756F74656422 00FF");
    EXPECT_EQ(
        found.value("SELECT typeof(e) || length(e) || typeof(\"select\") || length(\"select\")" + from + "2"),
        "text0blob0");
}

TEST(SqliteSink, RefusesATableThatDoesNotFitTheRows) {
    support::scratch_folder const folder;
    auto too_few = events(0);
    too_few.columns.pop_back();
    EXPECT_THROW(event_sink(folder.file("db"), too_few, event_values), std::invalid_argument);
    EXPECT_THROW(event_sink(folder.file("db"), events(5), event_values), std::invalid_argument);
}

TEST(SqliteSink, SaysWhatSqliteSays) {
    support::scratch_folder const folder;
    EXPECT_NE(message_of([&] {
                  event_sink(folder.file("no/such/folder"), events(0), event_values);
              }).find("unable to open database file"),
              std::string::npos);
    reader(folder.file("db")).run("CREATE TABLE events (producer INTEGER)");
    EXPECT_NE(
        message_of([&] { event_sink(folder.file("db"), events(0), event_values); }).find("no column named"),
        std::string::npos);
}

TEST(SqliteSink, ARowThatFailsLeavesNothingOfItsBatch) {
    for (std::size_t const bad : {0U, 1U, 49U, 50U, 60U, 119U}) {
        SCOPED_TRACE("row " + std::to_string(bad));
        support::scratch_folder const folder;
        event_sink sink(folder.file("db"), events(2), event_values);
        auto const before = some(1, 0, 3);
        sink(before);
        auto rows = some(1, 100, 120);
        rows[bad].sequence = 1;
        auto const message = message_of([&] { sink(rows); });
        EXPECT_NE(message.find("UNIQUE constraint failed: events.producer, events.sequence"),
                  std::string::npos)
            << message;
        EXPECT_EQ(reader(folder.file("db")).all(), before);
        rows[bad].sequence = 100 + bad;
        sink(rows);  // as if nothing had happened
        EXPECT_EQ(reader(folder.file("db")).all().size(), 123U);
    }
}

TEST(SqliteSink, ABatchThatIsGivenTwiceIsThereOnceIfDuplicatesAreIgnored) {
    support::scratch_folder const folder;
    event_sink sink(folder.file("db"), events(2), event_values, {.duplicates = sinks::on_duplicate::ignore});
    auto const rows = some(1, 0, 120);
    sink(std::span(rows).first(70));  // "committed, then threw"
    EXPECT_EQ(sink.inserted(), 70U);
    sink(rows);
    EXPECT_EQ(sink.inserted(), 50U);
    sink({});
    EXPECT_EQ(sink.inserted(), 0U);
    EXPECT_EQ(reader(folder.file("db")).all(), rows);
}

TEST(SqliteSink, WaitsForALockAndThenGivesUp) {
    support::scratch_folder const folder;
    event_sink sink(folder.file("db"), events(0), event_values, {.busy = std::chrono::milliseconds(20)});
    reader other(folder.file("db"));
    other.run("BEGIN IMMEDIATE");
    auto const rows = some(1, 0, 10);
    EXPECT_NE(message_of([&] { sink(rows); }).find("database is locked"), std::string::npos);
    other.run("ROLLBACK");
    sink(rows);
    EXPECT_EQ(other.all(), rows);
}

TEST(SqliteSink, AFullDiskIsAnErrorAndTheBatchCanBeGivenAgain) {
    support::scratch_folder const folder;
    event_sink sink(folder.file("db"), events(0), event_values);
    auto const before = some(1, 0, 10);
    sink(before);
    // No file may grow beyond 64 KiB: that stands for the full disk.
    rlimit old{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
    auto* const old_handler = ::signal(SIGXFSZ, SIG_IGN);
    rlimit const small{.rlim_cur = 65'536, .rlim_max = old.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    auto const rows = some(1, 10, 20'000);
    std::string const message = message_of([&] { sink(rows); });
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
    ::signal(SIGXFSZ, old_handler);
    EXPECT_NE(message, "");
    EXPECT_EQ(reader(folder.file("db")).all(), before);
    sink(rows);
    EXPECT_EQ(reader(folder.file("db")).all().size(), 20'010U);
}

TEST(SqliteSink, KeepsTheLogWithinItsBounds) {
    support::scratch_folder const folder;
    sinks::sqlite_options const options{
        .sync = sinks::synchronous::normal, .checkpoint_pages = 20, .longest_log_pages = 100};
    event_sink sink(folder.file("db"), events(0), event_values, options);
    std::vector<event> const rows = some(1, 0, 500);  // some 4 pages
    for (int i = 0; i < 1'000; ++i) sink(rows);
    auto const counts = sink.checkpoints();
    EXPECT_GT(counts.beside + counts.within, 0U);
    EXPECT_LE(counts.failed, (counts.beside + counts.within) / 10);
    EXPECT_GE(counts.longest_log, options.checkpoint_pages);
    EXPECT_LE(counts.longest_log, options.longest_log_pages + 20);
    EXPECT_EQ(reader(folder.file("db")).value("SELECT count(*) FROM events"), "500000");
    EXPECT_EQ(reader(folder.file("db")).value("PRAGMA integrity_check"), "ok");
}

TEST(SqliteSink, CanBeMovedWhileItsThreadRuns) {
    support::scratch_folder const folder;
    std::optional<event_sink> first(std::in_place, folder.file("db"), events(0), event_values);
    auto const rows = some(1, 0, 200);
    (*first)(std::span(rows).first(100));
    event_sink second = std::move(*first);
    first.reset();
    second(std::span(rows).subspan(100));
    EXPECT_EQ(reader(folder.file("db")).all(), rows);
}

TEST(SqliteSink, BehindABufferItLosesAndRepeatsNothingWhateverFails) {
    for (unsigned seed = 0; seed < 5; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        support::scratch_folder const folder;
        std::mt19937 random{seed};
        event_sink to(folder.file("db"), events(2), event_values,
                      {.sync = sinks::synchronous::normal, .duplicates = sinks::on_duplicate::ignore});
        int thrown = 0;
        auto const insert = [&](std::span<event> rows) {
            auto const dice = random() % 10;
            if (dice == 0) ++thrown, throw std::runtime_error("before the transaction");
            if (dice == 1) to(rows.first(rows.size() / 2));  // somebody else had begun
            to(rows);
            if (dice == 2) ++thrown, throw std::runtime_error("after the commit");
        };
        cairn::double_buffer<event, decltype(insert)> buffer(insert, 100);
        auto const all = some(1, 0, 5'000);
        for (auto const& one : all) {
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
        EXPECT_EQ(reader(folder.file("db")).all(), all);
    }
}

}  // namespace
