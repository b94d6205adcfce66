// SPDX-License-Identifier: MIT
// Shards in SQLite: one file for each, in one folder.
#pragma once

#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "../sinks/sqlite_sink.hpp"
#include "payment.hpp"
#include "store.hpp"

namespace gateway {

/// What both sides ask a file.
class sqlite_table {
  public:
    /// @param patience  for others' locks.
    sqlite_table(std::string const& path, catalog& names, std::chrono::milliseconds patience)
        : names_(names),
          connection_(path, patience),
          find_(connection_, rows + "WHERE position = ? AND id = ?"),
          range_(connection_, rows + "WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?"),
          count_(connection_, "SELECT count(*) FROM payments") {}

    [[nodiscard]] std::optional<payment> find(payment const& key) {
        find_.bind(1, std::tuple(as_signed(key.position), key.id.view()));
        std::optional<payment> found;
        find_.each([&](sqlite3_stmt* row) { found = read(row); });
        return found;
    }
    [[nodiscard]] std::vector<payment> range(std::uint64_t first, std::uint64_t last, std::size_t most) {
        range_.bind(1, std::tuple(as_signed(first), as_signed(last), most));
        std::vector<payment> found;
        range_.each([&](sqlite3_stmt* row) { found.push_back(read(row)); });
        return found;
    }
    [[nodiscard]] std::uint64_t count() {
        std::uint64_t n = 0;
        count_.each([&](sqlite3_stmt* row) { n = static_cast<std::uint64_t>(sqlite3_column_int64(row, 0)); });
        return n;
    }
    [[nodiscard]] sinks::sqlite_connection& connection() noexcept { return connection_; }

  private:
    inline static std::string const rows =
        "SELECT position, id, merchant, currency, amount, received FROM payments ";

    [[nodiscard]] payment read(sqlite3_stmt* row) {
        auto const text = [row](int i) {
            return std::string_view(reinterpret_cast<char const*>(sqlite3_column_text(row, i)),
                                    static_cast<std::size_t>(sqlite3_column_bytes(row, i)));
        };
        payment p;
        p.position = as_position(sqlite3_column_int64(row, 0));
        p.id = payment_id(text(1));
        p.merchant = names_.known(text(2));
        p.currency = names_.currency_of(text(3));
        p.minor = sqlite3_column_int64(row, 4);
        p.received = sqlite3_column_int64(row, 5);
        return p;
    }

    catalog& names_;
    sinks::sqlite_connection connection_;
    sinks::sqlite_statement find_, range_, count_;
};

class sqlite_writer final : public writer {
  public:
    sqlite_writer(std::string const& path, catalog& names, sinks::synchronous sync)
        : sink_(path, payment_columns::table("payments"), payment_columns{&names},
                {.sync = sync, .duplicates = sinks::on_duplicate::ignore}),
          table_(path, names, std::chrono::seconds(10)),
          erase_(table_.connection(), "DELETE FROM payments WHERE position = ? AND id = ?") {
        table_.connection().run("PRAGMA synchronous = FULL");
    }
    std::size_t insert(std::span<payment const> rows) override {
        sink_(rows);
        return sink_.inserted();
    }
    std::size_t erase(std::span<payment const> rows) override {
        auto& connection = table_.connection();
        std::size_t erased = 0;
        connection.run("BEGIN IMMEDIATE");
        try {
            for (payment const& row : rows) {
                erase_.bind(1, std::tuple(as_signed(row.position), row.id.view()));
                erase_.run();
                erased += static_cast<std::size_t>(sqlite3_changes(connection.handle()));
            }
            connection.run("COMMIT");
            return erased;
        } catch (...) {
            if (sqlite3_get_autocommit(connection.handle()) == 0)
                sqlite3_exec(connection.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
            throw;
        }
    }
    [[nodiscard]] std::optional<payment> find(payment const& key) override { return table_.find(key); }

  private:
    sinks::sqlite_sink<payment, payment_columns> sink_;
    sqlite_table table_;
    sinks::sqlite_statement erase_;
};

class sqlite_backend final : public backend {
  public:
    explicit sqlite_backend(std::filesystem::path folder, sinks::synchronous sync = sinks::synchronous::full)
        : folder_(std::move(folder)), sync_(sync) {
        std::filesystem::create_directories(folder_);
    }
    [[nodiscard]] std::vector<std::string> shards() override {
        std::vector<std::string> names;
        for (auto const& file : std::filesystem::directory_iterator(folder_))
            if (file.path().extension() == ".db") names.push_back(file.path().stem().string());
        std::sort(names.begin(), names.end());
        return names;
    }
    [[nodiscard]] std::unique_ptr<writer> open_writer(std::string const& shard, catalog& names) override {
        return std::make_unique<sqlite_writer>(path(shard), names, sync_);
    }
    [[nodiscard]] std::unique_ptr<reader> open_reader(std::string const& shard, catalog& names) override {
        // A loop must not wait long: then it is an error, and this client may ask again.
        return std::make_unique<table_reader<sqlite_table>>(path(shard), names,
                                                            std::chrono::milliseconds(50));
    }

  private:
    [[nodiscard]] std::string path(std::string const& shard) const {
        return (folder_ / (shard + ".db")).string();
    }
    std::filesystem::path folder_;
    sinks::synchronous sync_;
};

}  // namespace gateway
