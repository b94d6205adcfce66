// SPDX-License-Identifier: MIT
// The ledger of the chapters on buffers: payments in a table of SQLite, or in a file where that is missing.
//
// Both are durable when a call returns, whatever the number of rows in it: the table by a transaction, the
// file by fdatasync. With key::id a payment that is there already stays, once.
//
// Thread safety: one call at a time. Movable, so that a buffer can own it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#ifdef CAIRN_EXAMPLES_HAVE_SQLITE
#include "sqlite_sink.hpp"
#endif

namespace sinks {

/// 64 bytes.
struct payment {
    std::uint64_t id = 0;  ///< 1, 2, 3, …
    std::uint64_t cents = 0;
    std::array<std::byte, 48> rest{};
};

enum class key { none, id };

/// What is in a ledger, read anew.
struct ledger_contents {
    std::uint64_t rows = 0;
    std::uint64_t different = 0;  ///< ids
    std::uint64_t last = 0;       ///< the highest id
};

/// Appends. Its key is for ids that never fall: what is not above the last one is there already.
class file_ledger {
  public:
    static constexpr auto what = "a file, fdatasync";

    explicit file_ledger(std::string const& path, key k = key::none)
        : key_(k), file_(std::fopen(path.c_str(), "ab")) {
        if (!file_) throw std::system_error(errno, std::generic_category(), path);
        (void)std::setvbuf(file_.get(), nullptr, _IONBF, 0);  // one write for each call
        auto const before = read(path);
        size_ = before.rows * sizeof(payment);
        last_ = before.last;
    }
    /// Writes all rows, or throws and has written none.
    void operator()(std::span<payment const> rows) {
        if (key_ == key::id)
            while (!rows.empty() && rows.front().id <= last_) rows = rows.subspan(1);
        if (rows.empty()) return;
        if (std::fwrite(rows.data(), sizeof(payment), rows.size(), file_.get()) != rows.size() ||
            fdatasync(fileno(file_.get())) != 0) {
            int const error = errno;
            std::clearerr(file_.get());
            if (ftruncate(fileno(file_.get()), static_cast<off_t>(size_)) != 0) std::terminate();
            throw std::system_error(error, std::generic_category(), "ledger");
        }
        size_ += rows.size_bytes();
        last_ = rows.back().id;
    }
    [[nodiscard]] static ledger_contents read(std::string const& path) {
        std::unique_ptr<std::FILE, closer> const file(std::fopen(path.c_str(), "rb"));
        std::vector<std::uint64_t> ids;
        payment row;
        while (file && std::fread(&row, sizeof row, 1, file.get()) == 1) ids.push_back(row.id);
        ledger_contents contents{.rows = ids.size()};
        std::sort(ids.begin(), ids.end());
        if (!ids.empty()) contents.last = ids.back();
        contents.different = static_cast<std::uint64_t>(std::unique(ids.begin(), ids.end()) - ids.begin());
        return contents;
    }

  private:
    struct closer {
        void operator()(std::FILE* file) const noexcept { (void)std::fclose(file); }
    };
    key key_;
    std::unique_ptr<std::FILE, closer> file_;
    std::uint64_t size_ = 0;
    std::uint64_t last_ = 0;
};

#ifdef CAIRN_EXAMPLES_HAVE_SQLITE

struct payment_columns {
    auto operator()(payment const& p) const {
        return std::tuple(p.id, p.cents, std::span<std::byte const>(p.rest));
    }
};

/// A table with PRIMARY KEY (id) and INSERT OR IGNORE, or with neither.
class sqlite_ledger {
  public:
    static constexpr auto what = "SQLite, a transaction";

    explicit sqlite_ledger(std::string const& path, key k = key::none)
        : sink_(path, {.name = "payments", .columns = {"id", "cents", "rest"}, .key = k == key::id ? 1U : 0U},
                {}, {.duplicates = k == key::id ? on_duplicate::ignore : on_duplicate::fail}) {}
    /// Inserts all rows, or throws and has inserted none.
    void operator()(std::span<payment const> rows) { sink_(rows); }
    [[nodiscard]] static ledger_contents read(std::string const& path) {
        sqlite_connection const connection(path, std::chrono::seconds(10));
        sqlite3_stmt* made = nullptr;
        if (sqlite3_prepare_v2(connection.handle(),
                               "SELECT count(*), count(DISTINCT id), ifnull(max(id), 0) FROM payments", -1,
                               &made, nullptr) != SQLITE_OK)
            connection.fail("read");
        std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> const query(made, sqlite3_finalize);
        if (sqlite3_step(made) != SQLITE_ROW) connection.fail("read");
        auto const column = [made](int i) {
            return static_cast<std::uint64_t>(sqlite3_column_int64(made, i));
        };
        return {.rows = column(0), .different = column(1), .last = column(2)};
    }

  private:
    sqlite_sink<payment, payment_columns> sink_;
};
using ledger = sqlite_ledger;

#else

using ledger = file_ledger;

#endif

}  // namespace sinks
