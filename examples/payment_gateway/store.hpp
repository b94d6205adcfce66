// SPDX-License-Identifier: MIT
// Where a shard keeps its payments: a table whose primary key is (position on the circle, id).
//
// The position leads, so that the rows lie in the order of the circle: an arc of it is a range of the key,
// and moving an arc to another shard reads and deletes a range. The id is what makes a payment exactly once:
// a row whose key is there already is ignored.
//
// Each shard has two: a writer for its flusher's thread, and a reader for the loop's. A reader of SQLite's
// log (WAL) waits for no writer. It does wait for the disk, if the page is not in memory: a loop that must
// not even do that asks a thread for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../sinks/table.hpp"
#include "payment.hpp"

namespace gateway {

/// For the flusher's thread. What throws has changed nothing, or may be done again.
class writer {
  public:
    virtual ~writer() = default;
    /// Those that are not there yet, in one transaction, durable on return. Returns how many that were.
    virtual std::size_t insert(std::span<payment const> rows) = 0;
    /// Deletes them, durable on return. Returns how many there were.
    virtual std::size_t erase(std::span<payment const> rows) = 0;
    /// The row with the key of this one.
    [[nodiscard]] virtual std::optional<payment> find(payment const& key) = 0;
};

/// For the loop's thread.
class reader {
  public:
    virtual ~reader() = default;
    [[nodiscard]] virtual std::optional<payment> find(payment const& key) = 0;
    /// The first `most` rows whose position is from `first` to `last`, both included.
    [[nodiscard]] virtual std::vector<payment> range(std::uint64_t first, std::uint64_t last,
                                                     std::size_t most) = 0;
    [[nodiscard]] virtual std::uint64_t count() = 0;
};

/// The reader of a database whose table has these three functions. It makes the table in place: statements
/// may point into it.
template <class Table>
class table_reader final : public reader {
  public:
    template <class... Args>
    explicit table_reader(Args&&... table) : table_(std::forward<Args>(table)...) {}
    [[nodiscard]] std::optional<payment> find(payment const& key) override { return table_.find(key); }
    [[nodiscard]] std::vector<payment> range(std::uint64_t first, std::uint64_t last,
                                             std::size_t most) override {
        return table_.range(first, last, most);
    }
    [[nodiscard]] std::uint64_t count() override { return table_.count(); }

  private:
    Table table_;
};

/// A database, or a folder of them.
class backend {
  public:
    virtual ~backend() = default;
    /// The shards that are there.
    [[nodiscard]] virtual std::vector<std::string> shards() = 0;
    /// Opens one, and makes it if it is not there. The writer first: it makes the table. For any thread.
    [[nodiscard]] virtual std::unique_ptr<writer> open_writer(std::string const& shard, catalog& names) = 0;
    [[nodiscard]] virtual std::unique_ptr<reader> open_reader(std::string const& shard, catalog& names) = 0;
};

/// A shard's table, opened from both sides. That takes long where a new file is synced, several times.
struct shard_table {
    std::unique_ptr<writer> to;
    std::unique_ptr<reader> from;
    std::uint64_t rows;

    shard_table(backend& in, std::string const& shard, catalog& names)
        : to(in.open_writer(shard, names)), from(in.open_reader(shard, names)), rows(from->count()) {}
};

/// Databases have no unsigned integers. This keeps the order: 0 becomes the least one.
[[nodiscard]] constexpr std::int64_t as_signed(std::uint64_t position) noexcept {
    return static_cast<std::int64_t>(position ^ std::uint64_t{1} << 63);
}
[[nodiscard]] constexpr std::uint64_t as_position(std::int64_t column) noexcept {
    return static_cast<std::uint64_t>(column) ^ std::uint64_t{1} << 63;
}

/// How a payment becomes a row.
struct payment_columns {
    catalog const* names;
    [[nodiscard]] auto operator()(payment const& p) const {
        return std::tuple(as_signed(p.position), p.id.view(), names->name(p.merchant),
                          names->name(p.currency), p.minor, p.received);
    }
    [[nodiscard]] static sinks::table table(std::string const& name) {
        return {.name = name,
                .columns = {"position", "id", "merchant", "currency", "amount", "received"},
                .key = 2};
    }
};

}  // namespace gateway
