// SPDX-License-Identifier: MIT
// Lenient access to the results document: what is absent or of another type is empty, never an exception.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace cairn::report::document {

using json = nlohmann::json;

/// The member `key`, or null if `object` is no object or has no such member.
[[nodiscard]] json const& member(json const& object, std::string_view key);

/// The elements of the array `key`; empty if there is none.
[[nodiscard]] json::array_t const& items(json const& object, std::string_view key);

/// The string `key` as it stands (not cleaned); a number is written out; empty if there is neither.
[[nodiscard]] std::string string(json const& object, std::string_view key);

/// The value itself as a string, by the same rule.
[[nodiscard]] std::string string(json const& value);

/// The finite number `key`.
[[nodiscard]] std::optional<double> number(json const& object, std::string_view key);

[[nodiscard]] bool flag(json const& object, std::string_view key);

/// The strings of the array `key`, without the empty ones.
[[nodiscard]] std::vector<std::string> strings(json const& object, std::string_view key);

/// True if one of the sentences contains the words, as "latency, 32 bit: a overtakes b." contains
/// "a overtakes b". Nobody wants to read a thing twice.
[[nodiscard]] bool said(std::vector<std::string> const& sentences, std::string_view words);

/// The texts of the crossovers of all charts of a question.
[[nodiscard]] std::vector<std::string> crossovers(json const& question);

/// What the series of a question's charts say of a name: "peer" or "baseline"; others are left out.
using role_map = std::map<std::string, std::string, std::less<>>;
[[nodiscard]] role_map roles_of(json const& question);

/// The mark of a name in a table: "peer", "baseline" or nothing.
[[nodiscard]] std::string_view role(role_map const& roles, std::string_view name);

struct cell {
    std::string text;    // "-" if absent or empty
    std::string spread;  // empty if absent
    bool winner = false;
};

struct table {
    std::string id, title, unit;
    std::vector<std::string> columns;
    std::vector<std::vector<cell>> rows;  // each as long as `columns`
};

/// The table as a full rectangle: rows and header are padded to the longest of them. Where there is one
/// contestant only, there is no winner.
[[nodiscard]] table read_table(json const& object);

/// The values of a chart as a table: a row for each x in ascending order, a column for each series.
[[nodiscard]] table tabulate(json const& chart);

/// True if each cell of the column, but for "-", begins like a number; such a column is aligned right.
[[nodiscard]] bool numeric(table const& of, std::size_t column);

/// Machine, build, keys, nodes, rounds and date as a few sentences (not cleaned).
[[nodiscard]] std::vector<std::string> summary(json const& document);

}  // namespace cairn::report::document
