// SPDX-License-Identifier: MIT
// A sink that writes each batch to SQLite, in one transaction.
//
// What one row costs is its transaction: with synchronous = FULL the disk must confirm it, and without that
// there are still two system calls and a page for 64 bytes. So a batch is one transaction. What is left is
// the statement: one INSERT of 50 rows is twice as fast as 50 of one row. And every so often SQLite copies
// its log (the WAL) back into the database file, inside the commit that made it too long: 15 to 30 ms. Here a
// thread and a connection of its own do that, and the batches go on meanwhile.
//
// If anything fails, the transaction is rolled back and sqlite_error is thrown: then nothing of the batch is
// there, and it can be given again. Only a commit may fail in doubt (the disk, not SQLite, says no). Rows
// with a key and on_duplicate::ignore make that harmless: what is there already stays, once.
//
// Thread safety: one call at a time, as cairn's buffers do it. Movable, so that a buffer can own it.
//
//   sinks::sqlite_sink<payment, decltype(values)> sink("payments.db", payments, values);
//   sink(std::span(batch));  // durable when it returns
#pragma once

#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>

#include "table.hpp"

namespace sinks {

struct sqlite_error : std::runtime_error {
    sqlite_error(std::string const& what, int result) : std::runtime_error(what), code(result) {}
    int code;  ///< SQLite's extended result code
};

/// When a commit returns: after the disk has confirmed it (full), or when the system has it (normal). Both
/// survive the end of the process; normal may lose the last batches when the power fails, and only those.
enum class synchronous { normal, full };

struct sqlite_options {
    synchronous sync = synchronous::full;
    on_duplicate duplicates = on_duplicate::fail;
    std::chrono::milliseconds busy = std::chrono::seconds(10);  ///< how long to wait for others' locks
    std::size_t rows_per_statement = 50;
    /// From so many pages in the log on, they are copied into the database file, beside the batches.
    int checkpoint_pages = 1'000;
    /// From so many on (16,000: 64 MB), a batch copies the rest itself. Then the log begins anew, so this and
    /// a batch bound it. (Unless somebody reads for long: what a reader may still need stays.)
    int longest_log_pages = 16'000;
};

/// A connection. Throws where SQLite returns an error.
class sqlite_connection {
  public:
    explicit sqlite_connection(std::string const& path, std::chrono::milliseconds busy) {
        sqlite3* opened = nullptr;
        // NOMUTEX: one thread at a time uses it, and a lock for each value that is bound costs more than it.
        int const flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
        int const code = sqlite3_open_v2(path.c_str(), &opened, flags, nullptr);
        handle_.reset(opened);  // there is one even if that failed
        if (code != SQLITE_OK) fail("open " + path);
        sqlite3_extended_result_codes(handle(), 1);
        sqlite3_busy_timeout(handle(), static_cast<int>(busy.count()));
    }
    void run(std::string const& sql) {
        if (sqlite3_exec(handle(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail(sql);
    }
    [[noreturn]] void fail(std::string const& what) const {
        throw sqlite_error("sqlite: " + what + ": " + sqlite3_errmsg(handle()),
                           sqlite3_extended_errcode(handle()));
    }
    [[nodiscard]] sqlite3* handle() const noexcept { return handle_.get(); }

  private:
    struct closer {
        void operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }
    };
    std::unique_ptr<sqlite3, closer> handle_;
};

/// A prepared statement.
class sqlite_statement {
  public:
    sqlite_statement(sqlite_connection const& connection, std::string const& sql) : connection_(&connection) {
        sqlite3_stmt* made = nullptr;
        if (sqlite3_prepare_v3(connection.handle(), sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &made,
                               nullptr) != SQLITE_OK)
            connection.fail(sql);
        handle_.reset(made);
    }
    /// Sets the parameters from `first` on to the values of a tuple. They must stay until run() returns.
    template <class... Value>
    void bind(int first, std::tuple<Value...> const& values) {
        std::apply([&](Value const&... value) { (bind_one(first++, value), ...); }, values);
    }
    /// Runs it to its end. Ready for another run even if this one throws.
    void run() {
        each([](sqlite3_stmt*) {});
    }
    /// The same, and calls visit(sqlite3_stmt*) for each row.
    template <class Visit>
    void each(Visit visit) {
        resetter const again{handle_.get()};
        int code = SQLITE_OK;
        while ((code = sqlite3_step(handle_.get())) == SQLITE_ROW) visit(handle_.get());
        // reset() would replace the message by the same one, or by none.
        if (code != SQLITE_DONE)
            throw sqlite_error("sqlite: " + std::string(sqlite3_errmsg(connection_->handle())) + ", in " +
                                   std::string(text(), 0, 80),
                               sqlite3_extended_errcode(connection_->handle()));
    }

  private:
    template <class Value>
    void bind_one(int at, Value const& value) {
        int code = SQLITE_OK;
        if constexpr (type_of<Value>() == column_type::integer) {
            code = sqlite3_bind_int64(handle_.get(), at, static_cast<sqlite3_int64>(value));
        } else if constexpr (type_of<Value>() == column_type::real) {
            code = sqlite3_bind_double(handle_.get(), at, static_cast<double>(value));
        } else if constexpr (type_of<Value>() == column_type::text) {
            std::string_view const view = value;
            // A view of nothing may have a null pointer, which would be NULL.
            code = sqlite3_bind_text64(handle_.get(), at, view.empty() ? "" : view.data(), view.size(),
                                       SQLITE_STATIC, SQLITE_UTF8);
        } else {
            std::span<std::byte const> const view = value;
            code = view.empty()
                       ? sqlite3_bind_zeroblob(handle_.get(), at, 0)
                       : sqlite3_bind_blob64(handle_.get(), at, view.data(), view.size(), SQLITE_STATIC);
        }
        if (code != SQLITE_OK) connection_->fail("bind value " + std::to_string(at));
    }
    [[nodiscard]] char const* text() const { return sqlite3_sql(handle_.get()); }

    struct finalizer {
        void operator()(sqlite3_stmt* handle) const noexcept { sqlite3_finalize(handle); }
    };
    struct resetter {
        sqlite3_stmt* handle;
        ~resetter() { sqlite3_reset(handle); }
    };
    sqlite_connection const* connection_;
    std::unique_ptr<sqlite3_stmt, finalizer> handle_;
};

/// Keeps a database's log short, on a thread and a connection of its own.
class sqlite_checkpointer {
  public:
    struct counts {
        std::uint64_t beside = 0;  ///< checkpoints that went on beside the batches
        std::uint64_t within = 0;  ///< checkpoints within a batch, because the log was too long
        /// The log grows then, until the next one. SQLite gives up at once if a commit is just about to write
        /// the log's header (SQLITE_BUSY), so a few among many do.
        std::uint64_t failed = 0;
        int longest_log = 0;  ///< pages
    };

    /// From now on, the commits of `writer` do not checkpoint, unless the log gets too long.
    sqlite_checkpointer(sqlite_connection& writer, std::string const& path, sqlite_options const& options)
        : options_(options), connection_(path, options.busy), writer_(writer.handle()) {
        connection_.run("PRAGMA synchronous = NORMAL");  // the log must be on the disk before it is copied
        // SQLite calls the hook after each commit, with the length of the log. Its own hook was the
        // checkpoint.
        auto const hook = [](void* self, sqlite3*, char const*, int pages) {
            static_cast<sqlite_checkpointer*>(self)->log_has(pages);
            return SQLITE_OK;  // the commit is done, whatever else went wrong
        };
        sqlite3_wal_hook(writer_, hook, this);
        thread_ = std::thread([this] { run(); });
    }
    sqlite_checkpointer(sqlite_checkpointer const&) = delete;
    sqlite_checkpointer& operator=(sqlite_checkpointer const&) = delete;
    ~sqlite_checkpointer() {
        sqlite3_wal_hook(writer_, nullptr, nullptr);
        {
            std::lock_guard const lock(mutex_);
            ended_ = true;
        }
        wake_.notify_one();
        thread_.join();
    }
    [[nodiscard]] counts so_far() const {
        std::lock_guard const lock(mutex_);
        return counts_;
    }

  private:
    void log_has(int pages) {
        std::unique_lock lock(mutex_);
        log_pages_ = pages;
        counts_.longest_log = std::max(counts_.longest_log, pages);
        // While batches come in without a break, the thread's copy never reaches the end of the log, so that
        // it could begin anew. Here nobody adds to it, and little is left to copy.
        if (pages >= options_.longest_log_pages) {
            idle_.wait(lock, [this] { return !busy_; });
            lock.unlock();
            bool const copied = checkpoint(writer_);
            lock.lock();
            ++(copied ? counts_.within : counts_.failed);
        }
        if (!work()) return;
        lock.unlock();
        wake_.notify_one();
    }
    [[nodiscard]] bool work() {
        if (log_pages_ < copied_pages_) copied_pages_ = 0;  // it has begun anew
        return log_pages_ - copied_pages_ >= options_.checkpoint_pages &&
               log_pages_ < options_.longest_log_pages;
    }
    void run() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return ended_ || work(); });
            if (ended_) return;
            copied_pages_ = log_pages_;
            busy_ = true;
            lock.unlock();
            bool const copied = checkpoint(connection_.handle());
            lock.lock();
            busy_ = false;
            idle_.notify_one();
            ++(copied ? counts_.beside : counts_.failed);
        }
    }
    /// Copies what it can without waiting for anybody, or anybody waiting for it.
    static bool checkpoint(sqlite3* handle) noexcept {
        return sqlite3_wal_checkpoint_v2(handle, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr) ==
               SQLITE_OK;
    }

    sqlite_options const options_;
    sqlite_connection connection_;
    sqlite3* writer_;
    mutable std::mutex mutex_;      // guards all below
    std::condition_variable wake_;  // the thread waits here
    std::condition_variable idle_;  // a batch waits here
    int log_pages_ = 0;
    int copied_pages_ = 0;  // the log's length when it was last copied by the thread
    bool busy_ = false;     // the thread copies
    bool ended_ = false;
    counts counts_;
    std::thread thread_;
};

/// @tparam Row     an event.
/// @tparam Values  callable with Row const&; returns its columns as a std::tuple, see table.hpp.
template <class Row, class Values>
class sqlite_sink {
  public:
    /// Opens the database, and makes it and the table if they are not there. @throws sqlite_error, and
    /// std::invalid_argument if the table and the tuple do not fit.
    sqlite_sink(std::string const& path, table const& to, Values values, sqlite_options const& options = {})
        : state_(std::make_unique<state>(path, to, std::move(values), options)) {}

    /// Inserts all rows, or throws and has inserted none. An empty span is nothing to do.
    void operator()(std::span<Row const> rows) {
        state& s = *state_;
        s.inserted = 0;
        if (rows.empty()) return;
        int const before = sqlite3_total_changes(s.connection.handle());
        s.begin.run();
        try {
            std::size_t const together = s.rows_per_statement;
            for (; rows.size() >= together; rows = rows.subspan(together)) {
                int at = 1;
                for (Row const& row : rows.first(together)) {
                    s.insert_many.bind(at, s.values(row));
                    at += static_cast<int>(columns);
                }
                s.insert_many.run();
            }
            for (Row const& row : rows) {
                s.insert_one.bind(1, s.values(row));
                s.insert_one.run();
            }
            s.commit.run();
            // Of two counters that may wrap, the difference does not.
            s.inserted = static_cast<unsigned>(sqlite3_total_changes(s.connection.handle())) -
                         static_cast<unsigned>(before);
        } catch (...) {
            // Some errors have rolled it back already.
            if (sqlite3_get_autocommit(s.connection.handle()) == 0)
                sqlite3_exec(s.connection.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
            throw;
        }
    }

    /// How many rows of the last call are new: less than all of them only with on_duplicate::ignore.
    [[nodiscard]] std::size_t inserted() const noexcept { return state_->inserted; }
    [[nodiscard]] sqlite_checkpointer::counts checkpoints() const { return state_->checkpointer.so_far(); }

  private:
    static constexpr std::size_t columns = std::tuple_size_v<std::invoke_result_t<Values const&, Row const&>>;
    static_assert(columns != 0);

    static std::string insert(table const& to, sqlite_options const& options, std::size_t rows) {
        std::string row = "(";
        for (std::size_t i = 0; i < columns; ++i) row += i == 0 ? "?" : ", ?";
        row += ")";
        std::string sql =
            options.duplicates == on_duplicate::ignore ? "INSERT OR IGNORE INTO " : "INSERT INTO ";
        (sql += sql_name(to.name)) += " (" + column_list(to, to.columns.size()) + ") VALUES " + row;
        for (std::size_t i = 1; i < rows; ++i) (sql += ", ") += row;
        return sql;
    }
    static sqlite_connection prepared(std::string const& path, table const& to,
                                      sqlite_options const& options) {
        sqlite_connection connection(path, options.busy);
        connection.run("PRAGMA journal_mode = WAL");
        connection.run(options.sync == synchronous::full ? "PRAGMA synchronous = FULL"
                                                         : "PRAGMA synchronous = NORMAL");
        connection.run(create_table(to, types_of<Row, Values>(), [](column_type type) {
            constexpr char const* names[] = {"INTEGER", "REAL", "TEXT", "BLOB"};
            return std::string(names[static_cast<std::size_t>(type)]);
        }));
        return connection;
    }

    /// On the heap: statements and the checkpointer point to the connection.
    struct state {
        state(std::string const& path, table const& to, Values how, sqlite_options const& options)
            : values(std::move(how)),
              connection(prepared(path, to, options)),
              // SQLite numbers a statement's values, up to a limit.
              rows_per_statement(
                  std::clamp<std::size_t>(options.rows_per_statement, 1,
                                          static_cast<std::size_t>(sqlite3_limit(
                                              connection.handle(), SQLITE_LIMIT_VARIABLE_NUMBER, -1)) /
                                              columns)),
              begin(connection, "BEGIN IMMEDIATE"),
              insert_many(connection, insert(to, options, rows_per_statement)),
              insert_one(connection, insert(to, options, 1)),
              commit(connection, "COMMIT"),
              checkpointer(connection, path, options) {}

        Values values;
        sqlite_connection connection;
        std::size_t rows_per_statement;
        sqlite_statement begin;
        sqlite_statement insert_many;
        sqlite_statement insert_one;
        sqlite_statement commit;
        sqlite_checkpointer checkpointer;
        std::size_t inserted = 0;
    };
    std::unique_ptr<state> state_;
};

}  // namespace sinks
