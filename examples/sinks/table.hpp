// SPDX-License-Identifier: MIT
// How an event becomes a row: a table with named columns, and a function that gives an event's values as a
// tuple. The types of the columns follow from the tuple, for SQLite as for PostgreSQL.
//
//   struct payment { std::uint64_t id; double amount; std::string merchant; };
//   sinks::table const payments{.name = "payments", .columns = {"id", "amount", "merchant"}, .key = 1};
//   auto const values = [](payment const& p) { return std::tuple(p.id, p.amount,
//   std::string_view(p.merchant)); };
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

namespace sinks {

struct table {
    std::string name;
    std::vector<std::string> columns;
    std::size_t key = 0;  ///< so many of the first columns are the primary key; 0: there is none
};

/// What a row does whose key is there already: the batch fails, or the old one stays and that is all.
enum class on_duplicate { fail, ignore };

enum class column_type { integer, real, text, bytes };

/// What a value of a tuple is in a database. Views are only looked at during the call of the sink. Integers
/// have 64 bits and a sign there: unsigned ones above that come back negative.
template <class Value>
consteval column_type type_of() {
    if constexpr (std::integral<Value>)
        return column_type::integer;
    else if constexpr (std::floating_point<Value>)
        return column_type::real;
    else if constexpr (std::convertible_to<Value const&, std::string_view>)
        return column_type::text;
    else {
        static_assert(std::convertible_to<Value const&, std::span<std::byte const>>,
                      "a column is an integer, a floating-point number, a string_view or a span of bytes");
        return column_type::bytes;
    }
}

/// The types of the tuple that Values makes of a Row.
template <class Row, class Values>
std::vector<column_type> types_of() {
    return []<class... Value>(std::type_identity<std::tuple<Value...>>) {
        return std::vector<column_type>{type_of<Value>()...};
    }(std::type_identity<std::invoke_result_t<Values const&, Row const&>>{});
}

/// A name as SQL takes it, whatever is in it.
inline std::string sql_name(std::string_view name) {
    std::string sql = "\"";
    for (char const c : name) {
        if (c == '"') sql += '"';
        sql += c;
    }
    return sql += '"';
}

/// "a", "b", "c": the first n columns.
inline std::string column_list(table const& to, std::size_t n) {
    std::string sql;
    for (std::size_t i = 0; i < n; ++i) (sql += i == 0 ? "" : ", ") += sql_name(to.columns[i]);
    return sql;
}

/// CREATE TABLE. @param name_of  the database's name of a type.
/// @throws std::invalid_argument if the table and the tuple do not fit.
template <class NameOf>
std::string create_table(table const& to, std::vector<column_type> const& types, NameOf name_of) {
    if (to.columns.size() != types.size() || to.key > types.size())
        throw std::invalid_argument("table " + to.name + " has " + std::to_string(to.columns.size()) +
                                    " columns, " + std::to_string(to.key) +
                                    " of them its key, and a row has " + std::to_string(types.size()) +
                                    " values");
    std::string sql = "CREATE TABLE IF NOT EXISTS " + sql_name(to.name) + " (";
    for (std::size_t i = 0; i < types.size(); ++i)
        (sql += i == 0 ? "" : ", ") += sql_name(to.columns[i]) + " " + name_of(types[i]) + " NOT NULL";
    if (to.key != 0) sql += ", PRIMARY KEY (" + column_list(to, to.key) + ")";
    return sql += ")";
}

}  // namespace sinks
