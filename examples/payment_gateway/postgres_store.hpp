// SPDX-License-Identifier: MIT
// Shards in PostgreSQL: one table for each, in one database. Each writer commits in a transaction of its own.
// Durable is what the server calls so: with its synchronous_commit = on, which is the default.
//
// The reader runs on the loop, so each of its questions stops the service for the way to the server and back:
// good enough beside the database, not across a network.
#pragma once

#include <libpq-fe.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../sinks/postgres_sink.hpp"
#include "payment.hpp"
#include "store.hpp"

namespace gateway {

/// What both sides ask a table. A key has no character that SQL would see: payment_id takes none. After a
/// broken connection, which throws, the next question makes a new one.
class postgres_table {
  public:
    postgres_table(std::string const& dsn, std::string const& name, catalog& names)
        : names_(names), dsn_(dsn), name_(sinks::sql_name(name)), connection_(dsn) {}

    [[nodiscard]] std::optional<payment> find(payment const& key) {
        auto const found = rows("WHERE (position, id) = " + tuple(key));
        return found.empty() ? std::nullopt : std::optional(found.front());
    }
    [[nodiscard]] std::vector<payment> range(std::uint64_t first, std::uint64_t last, std::size_t most) {
        return rows("WHERE position BETWEEN " + std::to_string(as_signed(first)) + " AND " +
                    std::to_string(as_signed(last)) + " ORDER BY position LIMIT " + std::to_string(most));
    }
    [[nodiscard]] std::uint64_t count() {
        return std::stoull(connection().value("SELECT count(*) FROM " + name_));
    }
    std::size_t erase(std::span<payment const> keys) {
        std::string sql = "DELETE FROM " + name_ + " WHERE (position, id) IN (";
        for (payment const& key : keys) sql += (&key == keys.data() ? "" : ", ") + tuple(key);
        std::string const done = connection().run(sql + ")");  // "DELETE 5"
        return std::stoul(done.substr(done.rfind(' ') + 1));
    }

  private:
    [[nodiscard]] static std::string tuple(payment const& key) {
        return "(" + std::to_string(as_signed(key.position)) + ", '" + std::string(key.id.view()) + "')";
    }
    [[nodiscard]] std::vector<payment> rows(std::string const& where) {
        std::string const found = connection().value(
            "SELECT coalesce(json_agg(r), '[]') FROM (SELECT * FROM " + name_ + " " + where + ") r");
        std::vector<payment> made;
        for (auto const& row : nlohmann::json::parse(found)) {
            payment& p = made.emplace_back();
            p.position = as_position(row.at("position").get<std::int64_t>());
            p.id = payment_id(row.at("id").get_ref<std::string const&>());
            p.merchant = names_.known(row.at("merchant").get_ref<std::string const&>());
            p.currency = names_.currency_of(row.at("currency").get_ref<std::string const&>());
            p.minor = row.at("amount").get<std::int64_t>();
            p.received = row.at("received").get<std::int64_t>();
        }
        return made;
    }

    [[nodiscard]] sinks::postgres_connection& connection() {
        if (!connection_.alive()) connection_ = sinks::postgres_connection(dsn_);
        return connection_;
    }

    catalog& names_;
    std::string dsn_, name_;
    sinks::postgres_connection connection_;
};

class postgres_writer final : public writer {
  public:
    postgres_writer(std::string const& dsn, std::string const& name, catalog& names)
        : sink_(dsn, payment_columns::table(name), payment_columns{&names}, sinks::on_duplicate::ignore),
          table_(dsn, name, names) {}
    std::size_t insert(std::span<payment const> rows) override {
        sink_(rows);
        return sink_.inserted();
    }
    std::size_t erase(std::span<payment const> rows) override { return table_.erase(rows); }
    [[nodiscard]] std::optional<payment> find(payment const& key) override { return table_.find(key); }

  private:
    sinks::postgres_sink<payment, payment_columns> sink_;
    postgres_table table_;
};

class postgres_backend final : public backend {
  public:
    /// @param prefix  of the tables' names.
    explicit postgres_backend(std::string dsn, std::string prefix = "payments:")
        : dsn_(std::move(dsn)), prefix_(std::move(prefix)) {}
    [[nodiscard]] std::vector<std::string> shards() override {
        sinks::postgres_connection connection(dsn_);
        std::string const found = connection.value(
            "SELECT coalesce(json_agg(tablename ORDER BY tablename), '[]') FROM pg_tables "
            "WHERE schemaname = current_schema() AND starts_with(tablename, '" +
            prefix_ + "')");
        std::vector<std::string> names;
        for (auto const& name : nlohmann::json::parse(found))
            names.push_back(name.get_ref<std::string const&>().substr(prefix_.size()));
        return names;
    }
    [[nodiscard]] std::unique_ptr<writer> open_writer(std::string const& shard, catalog& names) override {
        return std::make_unique<postgres_writer>(dsn_, prefix_ + shard, names);
    }
    [[nodiscard]] std::unique_ptr<reader> open_reader(std::string const& shard, catalog& names) override {
        return std::make_unique<table_reader<postgres_table>>(dsn_, prefix_ + shard, names);
    }

  private:
    std::string dsn_, prefix_;
};

}  // namespace gateway
