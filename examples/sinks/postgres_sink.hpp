// SPDX-License-Identifier: MIT
// A sink that writes each batch to PostgreSQL, by one COPY in one transaction.
//
// What one row costs is the way to the server and back, and the disk's confirmation of its transaction. An
// INSERT for each row within one transaction saves the second only; COPY saves both: the rows go as one
// stream of binary values, without a statement for each.
//
// If anything fails, the server rolls back and postgres_error is thrown: then nothing of the batch is there,
// and it can be given again. If the connection breaks while the commit is under way, it may be there
// nonetheless. Rows with a key and on_duplicate::ignore make that harmless: the batch is copied into a
// temporary table and inserted from there, where its key is new. After a broken connection, the next call
// makes a new one.
//
// Thread safety: one call at a time, as cairn's buffers do it. Movable, so that a buffer can own it.
//
//   sinks::postgres_sink<payment, decltype(values)> sink("host=db dbname=shop", payments, values);
//   sink(std::span(batch));  // durable when it returns
#pragma once

#include <libpq-fe.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "table.hpp"

namespace sinks {

/// what() is the server's message, or the library's if there is no connection.
struct postgres_error : std::runtime_error {
    postgres_error(std::string const& what, std::string const& sql_state)
        : std::runtime_error(what), state(sql_state) {}
    std::string state;  ///< five characters, such as 23505 for a key that is there; empty if no server spoke
};

/// A connection. Throws where the server or the library reports an error.
class postgres_connection {
  public:
    explicit postgres_connection(std::string const& dsn) : handle_(PQconnectdb(dsn.c_str())) {
        if (!handle_) throw std::bad_alloc();
        if (!alive()) throw postgres_error(error("connect"), "");
        PQsetNoticeProcessor(
            handle_.get(), [](void*, char const*) {}, nullptr);  // "the table exists, skipping" is no news
    }
    [[nodiscard]] bool alive() const noexcept { return PQstatus(handle_.get()) == CONNECTION_OK; }

    /// Rolls back. @returns whether it did.
    bool rolled_back() noexcept {
        return PQresultStatus(result(PQexec(handle_.get(), "ROLLBACK")).get()) == PGRES_COMMAND_OK;
    }
    /// Runs a statement that returns no rows. @returns what the server says that it did, such as "INSERT 0
    /// 5".
    std::string run(std::string const& sql) {
        result const done(PQexec(handle_.get(), sql.c_str()));
        expect(done, PGRES_COMMAND_OK, sql);
        return PQcmdStatus(done.get());
    }
    /// The first value of the first row; empty if there is none.
    std::string value(std::string const& sql) {
        result const done(PQexec(handle_.get(), sql.c_str()));
        expect(done, PGRES_TUPLES_OK, sql);
        return PQntuples(done.get()) == 0 ? "" : PQgetvalue(done.get(), 0, 0);
    }
    /// Sends `data` as the rows of a COPY … FROM STDIN.
    void copy(std::string const& sql, std::string_view data) {
        expect(result(PQexec(handle_.get(), sql.c_str())), PGRES_COPY_IN, sql);
        // The library takes the size as an int.
        constexpr std::size_t most = 1U << 20U;
        for (; !data.empty(); data.remove_prefix(std::min(most, data.size())))
            if (PQputCopyData(handle_.get(), data.data(), static_cast<int>(std::min(most, data.size()))) != 1)
                throw postgres_error(error(sql), "");
        if (PQputCopyEnd(handle_.get(), nullptr) != 1) throw postgres_error(error(sql), "");
        result const done(PQgetResult(handle_.get()));
        while (result(PQgetResult(handle_.get()))) {  // nothing, but the connection is free only then
        }
        expect(done, PGRES_COMMAND_OK, sql);
    }

  private:
    struct finisher {
        void operator()(PGconn* handle) const noexcept { PQfinish(handle); }
    };
    struct clearer {
        void operator()(PGresult* handle) const noexcept { PQclear(handle); }
    };
    using result = std::unique_ptr<PGresult, clearer>;

    void expect(result const& got, ExecStatusType wanted, std::string const& sql) const {
        if (got && PQresultStatus(got.get()) == wanted) return;
        char const* const state = got ? PQresultErrorField(got.get(), PG_DIAG_SQLSTATE) : nullptr;
        throw postgres_error(error(sql), state == nullptr ? "" : state);
    }
    [[nodiscard]] std::string error(std::string const& doing) const {
        std::string message = PQerrorMessage(handle_.get());
        while (!message.empty() && message.back() == '\n') message.pop_back();
        return "postgres: " + message + ", in " + doing.substr(0, 80);
    }

    std::unique_ptr<PGconn, finisher> handle_;
};

/// Rows in the form that COPY … (FORMAT binary) takes: for each, the number of values, then each value's size
/// and bytes, all in network order. As a buffer that is used again.
class copy_stream {
  public:
    void begin() {
        data_.clear();
        data_ += std::string_view("PGCOPY\n\377\r\n\0", 11);
        put(std::int32_t{0});  // no options
        put(std::int32_t{0});  // no more of a head
    }
    template <class... Value>
    void add(std::tuple<Value...> const& values) {
        put(static_cast<std::int16_t>(sizeof...(Value)));
        std::apply([this](Value const&... value) { (put_value(value), ...); }, values);
    }
    void end() { put(std::int16_t{-1}); }
    [[nodiscard]] std::string_view data() const noexcept { return data_; }

  private:
    template <class Value>
    void put_value(Value const& value) {
        if constexpr (type_of<Value>() == column_type::integer) {
            put(std::int32_t{8});
            put(static_cast<std::int64_t>(value));
        } else if constexpr (type_of<Value>() == column_type::real) {
            put(std::int32_t{8});
            put(std::bit_cast<std::int64_t>(static_cast<double>(value)));
        } else if constexpr (type_of<Value>() == column_type::text) {
            std::string_view const view = value;
            put_size(view.size());
            data_ += view;
        } else {
            std::span<std::byte const> const view = value;
            put_size(view.size());
            data_.append(reinterpret_cast<char const*>(view.data()), view.size());
        }
    }
    void put_size(std::size_t size) {
        if (size > std::numeric_limits<std::int32_t>::max())
            throw std::length_error("postgres: a value of " + std::to_string(size) + " bytes");
        put(static_cast<std::int32_t>(size));
    }
    template <class Integer>
    void put(Integer number) {
        auto const bits = static_cast<std::make_unsigned_t<Integer>>(number);
        char bytes[sizeof(Integer)];
        for (std::size_t i = 0; i < sizeof(Integer); ++i)
            bytes[i] = static_cast<char>(bits >> (8 * (sizeof(Integer) - 1 - i)));
        data_.append(bytes, sizeof(Integer));
    }
    std::string data_;
};

/// @tparam Row     an event.
/// @tparam Values  callable with Row const&; returns its columns as a std::tuple, see table.hpp.
template <class Row, class Values>
class postgres_sink {
  public:
    /// Connects, and makes the table if it is not there. @param dsn  as libpq takes it: "host=… dbname=…" or
    /// a URL. @throws postgres_error, and std::invalid_argument if the table and the tuple do not fit.
    postgres_sink(std::string dsn, table to, Values values, on_duplicate duplicates = on_duplicate::fail)
        : dsn_(std::move(dsn)), table_(std::move(to)), values_(std::move(values)), duplicates_(duplicates) {
        connect();
    }

    /// Inserts all rows, or throws and has inserted none, unless the connection broke at the commit.
    void operator()(std::span<Row const> rows) {
        inserted_ = 0;
        if (rows.empty()) return;
        stream_.begin();
        for (Row const& row : rows) stream_.add(values_(row));
        stream_.end();
        if (!connection_ || !connection_->alive()) connect();
        if (duplicates_ == on_duplicate::fail) {
            connection_->copy(copy_, stream_.data());  // a transaction of its own
            inserted_ = rows.size();
            return;
        }
        connection_->run("BEGIN");
        try {
            connection_->copy(copy_, stream_.data());
            std::string const done = connection_->run(insert_);  // "INSERT 0 5"
            connection_->run("COMMIT");
            inserted_ = std::stoul(done.substr(done.rfind(' ') + 1));
        } catch (...) {
            // A broken connection has rolled back; one that cannot is given up, which does it too.
            if (!connection_->rolled_back()) connection_.reset();
            throw;
        }
    }

    /// How many rows of the last call are new: less than all of them only with on_duplicate::ignore.
    [[nodiscard]] std::size_t inserted() const noexcept { return inserted_; }

  private:
    void connect() {
        connection_.reset();
        auto fresh = std::make_unique<postgres_connection>(dsn_);
        auto const name_of = [](column_type type) {
            constexpr char const* names[] = {"bigint", "double precision", "text", "bytea"};
            return std::string(names[static_cast<std::size_t>(type)]);
        };
        fresh->run(create_table(table_, types_of<Row, Values>(), name_of));
        std::string const columns = " (" + column_list(table_, table_.columns.size()) + ")";
        std::string to = sql_name(table_.name);
        if (duplicates_ == on_duplicate::ignore) {
            fresh->run("CREATE TEMPORARY TABLE cairn_batch (LIKE " + to + ") ON COMMIT DELETE ROWS");
            insert_ = "INSERT INTO " + to + columns + " SELECT " +
                      column_list(table_, table_.columns.size()) + " FROM cairn_batch ON CONFLICT DO NOTHING";
            to = "cairn_batch";
        }
        copy_ = "COPY " + to + columns + " FROM STDIN (FORMAT binary)";
        connection_ = std::move(fresh);
    }

    std::string dsn_;
    table table_;
    Values values_;
    on_duplicate duplicates_;
    std::string copy_;
    std::string insert_;
    copy_stream stream_;
    std::size_t inserted_ = 0;
    std::unique_ptr<postgres_connection> connection_;
};

}  // namespace sinks
