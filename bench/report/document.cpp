// SPDX-License-Identifier: MIT
#include "document.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "text.hpp"

namespace cairn::report::document {
namespace {

std::string join(std::vector<std::string> const& parts, std::string_view separator) {
    std::string result;
    for (std::string const& part : parts) {
        if (part.empty()) continue;
        if (!result.empty()) result += separator;
        result += part;
    }
    return result;
}

// "32 KiB", "1 MiB", "1.25 MiB".
std::string kibibytes(double kib) {
    return kib < 1024 ? text::quantity(kib) + " KiB" : text::quantity(kib / 1024) + " MiB";
}

// "2026-11-23T22:00:00Z" as "2026-11-23 22:00 UTC"; anything else as it stands.
std::string readable(std::string date) {
    if (date.size() != 20 || date[10] != 'T' || date[19] != 'Z') return date;
    return date.substr(0, 10) + " " + date.substr(11, 5) + " UTC";
}

std::string counted(json const& document, std::string_view key) {
    json const& object = member(document, key);
    auto const count = number(object, "count");
    std::string const source = string(object, "source");
    if (!count) return {};
    std::string noun(key);
    if (*count == 1) noun.pop_back();  // "keys", "nodes"
    if (source.empty()) return text::quantity(*count) + " " + noun;
    if (source == "generated") return text::quantity(*count) + " generated " + noun;
    return text::quantity(*count) + " " + noun + " from " + source;
}

std::string machine_sentence(json const& machine) {
    std::vector<std::string> parts;
    if (auto const cores = number(machine, "cores")) {
        std::string part = text::quantity(*cores) + (*cores == 1 ? " core" : " cores");
        if (auto const mhz = number(machine, "mhz"); mhz && *mhz > 0)
            part += " at " + text::quantity(*mhz) + " MHz";
        parts.push_back(part);
    }
    constexpr std::pair<std::string_view, std::string_view> caches[] = {
        {"l1d_kib", "L1d"}, {"l2_kib", "L2"}, {"l3_kib", "L3"}};
    for (auto const& [key, name] : caches) {
        auto const kib = number(machine, key);
        if (kib && *kib > 0) parts.push_back(kibibytes(*kib) + " " + std::string(name));
    }
    parts.push_back(string(machine, "os"));
    std::string const cpu = string(machine, "cpu"), rest = join(parts, ", ");
    return cpu.empty() ? rest : rest.empty() ? cpu : cpu + ": " + rest;
}

}  // namespace

json const& member(json const& object, std::string_view key) {
    static json const null;
    if (!object.is_object()) return null;
    auto const found = object.find(key);
    return found == object.end() ? null : *found;
}

json::array_t const& items(json const& object, std::string_view key) {
    static json::array_t const none;
    json const& value = member(object, key);
    return value.is_array() ? value.get_ref<json::array_t const&>() : none;
}

std::string string(json const& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number()) return text::quantity(value.get<double>());
    return {};
}

std::string string(json const& object, std::string_view key) { return string(member(object, key)); }

std::optional<double> number(json const& object, std::string_view key) {
    json const& value = member(object, key);
    if (!value.is_number()) return std::nullopt;
    double const result = value.get<double>();
    return std::isfinite(result) ? std::optional(result) : std::nullopt;
}

bool flag(json const& object, std::string_view key) {
    json const& value = member(object, key);
    return value.is_boolean() && value.get<bool>();
}

std::vector<std::string> strings(json const& object, std::string_view key) {
    std::vector<std::string> result;
    for (json const& item : items(object, key))
        if (std::string text = string(item); !text.empty()) result.push_back(std::move(text));
    return result;
}

bool said(std::vector<std::string> const& sentences, std::string_view words) {
    return std::ranges::any_of(sentences,
                               [words](std::string const& s) { return s.find(words) != std::string::npos; });
}

std::vector<std::string> crossovers(json const& question) {
    std::vector<std::string> result;
    for (json const& chart : items(question, "charts"))
        for (json const& crossover : items(chart, "crossovers"))
            if (std::string text = string(crossover, "text"); !text.empty())
                result.push_back(std::move(text));
    return result;
}

role_map roles_of(json const& question) {
    role_map result;
    for (json const& chart : items(question, "charts")) {
        for (json const& series : items(chart, "series")) {
            std::string const role = string(series, "role");
            if (role == "peer" || role == "baseline") result.emplace(string(series, "name"), role);
        }
    }
    return result;
}

std::string_view role(role_map const& roles, std::string_view name) {
    auto const found = roles.find(name);
    return found == roles.end() ? std::string_view{} : std::string_view(found->second);
}

table read_table(json const& object) {
    table result{string(object, "id"), string(object, "title"), string(object, "unit"), {}, {}};
    for (json const& column : items(object, "columns")) result.columns.push_back(string(column));
    std::size_t longest = result.columns.size();
    for (json const& row : items(object, "rows")) {
        auto& cells = result.rows.emplace_back();
        if (!row.is_array()) continue;
        for (json const& item : row)
            cells.push_back({string(item, "text"), string(item, "spread"), flag(item, "winner")});
        longest = std::max(longest, cells.size());
    }
    result.columns.resize(longest);
    for (auto& row : result.rows) {
        row.resize(longest);
        for (cell& c : row) {
            if (c.text.empty()) c.text = "-";
            if (longest <= 2) c.winner = false;
        }
    }
    return result;
}

table tabulate(json const& chart) {
    json const& y = member(chart, "y");
    table result{string(chart, "id"), string(chart, "title"), string(y, "label"), {}, {}};
    result.columns.push_back(string(member(chart, "x"), "label"));
    auto const& series = items(chart, "series");
    std::map<double, std::vector<cell>> rows;
    for (std::size_t i = 0; i < series.size(); ++i) {
        result.columns.push_back(string(series[i], "name"));
        for (json const& point : items(series[i], "points")) {
            auto const at = number(point, "x"), value = number(point, "y");
            if (!at || !value) continue;
            auto& row = rows[*at];
            row.resize(series.size() + 1, cell{"-", "", false});
            auto const lo = number(point, "lo"), hi = number(point, "hi");
            row[i + 1].text = text::number(*value);
            if (lo && hi && *lo < *hi) row[i + 1].spread = text::number(*lo) + "–" + text::number(*hi);
        }
    }
    for (auto& [at, row] : rows) {
        row[0].text = text::quantity(at);
        result.rows.push_back(std::move(row));
    }
    return result;
}

bool numeric(table const& of, std::size_t column) {
    return std::ranges::all_of(of.rows, [column](auto const& row) {
        std::string const& text = row[column].text;
        std::size_t const first = text.find_first_not_of("<>~=+-. ");
        return first == std::string::npos || std::isdigit(static_cast<unsigned char>(text[first]));
    });
}

std::vector<std::string> summary(json const& document) {
    std::vector<std::string> result;
    auto const add = [&](std::string const& sentence) {
        if (!sentence.empty()) result.push_back(sentence + ".");
    };
    std::string const date = readable(string(document, "date")), version = string(document, "cairn");
    std::string const machine = machine_sentence(member(document, "machine"));
    std::string measured = version.empty() ? "Measured" : "cairn " + version + ", measured";
    if (!date.empty()) measured += " " + date;
    if (!machine.empty()) measured += " on " + machine;
    if (!version.empty() || !date.empty() || !machine.empty()) add(measured);

    json const& build = member(document, "build");
    std::string const flags = string(build, "flags"), type = string(build, "type");
    if (std::string compiled = string(build, "compiler"); !compiled.empty()) {
        compiled = "Compiled by " + compiled;
        if (!flags.empty()) compiled += " with " + flags;
        if (!type.empty()) compiled += " (" + type + ")";
        add(compiled);
    }
    std::string population = join({counted(document, "keys"), counted(document, "nodes")}, "; ");
    add(population);
    if (auto const rounds = number(document, "rounds"); rounds && *rounds > 1)
        add("Each figure is the median of " + text::quantity(*rounds) +
            " rounds; a spread beside it is that of the rounds");
    if (flag(document, "quick")) add("This was a quick run, noisier than a full one: not for quoting");
    for (std::string const& note : strings(document, "notes")) result.push_back(note);
    return result;
}

}  // namespace cairn::report::document
