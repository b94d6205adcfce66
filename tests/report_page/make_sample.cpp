// SPDX-License-Identifier: MIT
// Makes a results document as cairn-compare would, without measuring: for tests of the page and to look at
// it.
//
//   report_make_sample [--hostile] [--from FILE.json] [--html FILE] [--json FILE] [--terminal [WIDTH]]
//
// The figures follow the shape of real measurements, so that the page is judged on real shapes; they are
// no measurement, and the document says so. --hostile makes names and values that a page could choke on.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "report.hpp"

namespace {

using json = nlohmann::json;
using curve = std::vector<std::pair<double, double>>;  // (x, y), ascending in x

struct strategy {
    std::string name, role;
    curve anchors;  // measured points; between them the logarithms are interpolated
};

double at(curve const& anchors, double x) {
    for (std::size_t i = 1; i < anchors.size(); ++i) {
        auto const [x0, y0] = anchors[i - 1];
        auto const [x1, y1] = anchors[i];
        if (x > x1) continue;
        double const part = std::log(x / x0) / std::log(x1 / x0);
        return y0 * std::pow(y1 / y0, part);
    }
    return anchors.back().second;
}

std::string three_digits(double value) {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer,
                  value < 1     ? "%.3f"
                  : value < 10  ? "%.2f"
                  : value < 100 ? "%.1f"
                                : "%.0f",
                  value);
    return buffer;
}

struct pair_of {
    json chart, table;
};

// A chart and its table over the given sizes. `noise` is the relative spread of the rounds.
pair_of measure(std::string const& id, std::string const& title, std::string const& x_label,
                std::string const& y_label, bool log_y, std::vector<strategy> const& strategies,
                std::vector<double> const& sizes, double noise, std::mt19937_64& random) {
    std::uniform_real_distribution<double> wobble(-noise, noise);
    json chart = {{"id", id},
                  {"title", title},
                  {"x", {{"label", x_label}, {"scale", "log"}}},
                  {"y", {{"label", y_label}, {"scale", log_y ? "log" : "linear"}}},
                  {"series", json::array()},
                  {"crossovers", json::array()},
                  {"why", json::array()}};
    json table = {
        {"id", id}, {"title", title}, {"unit", y_label}, {"columns", {x_label}}, {"rows", json::array()}};
    std::vector<std::vector<double>> values;
    for (strategy const& s : strategies) {
        table["columns"].push_back(s.name);
        json points = json::array();
        auto& row = values.emplace_back();
        for (double const x : sizes) {
            bool const known = x <= s.anchors.back().first;
            double const y = at(s.anchors, x) * (1 + wobble(random) / 2);
            row.push_back(known ? y : std::numeric_limits<double>::quiet_NaN());
            if (known)
                points.push_back({{"x", x}, {"y", y}, {"lo", y * (1 - noise)}, {"hi", y * (1 + 2 * noise)}});
        }
        chart["series"].push_back({{"name", s.name}, {"role", s.role}, {"points", points}});
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        std::size_t best = 0;
        for (std::size_t s = 0; s < strategies.size(); ++s)
            if (!(values[s][i] >= values[best][i]) && !std::isnan(values[s][i])) best = s;
        json row = {{{"text", std::to_string(static_cast<long>(sizes[i]))}}};
        for (std::size_t s = 0; s < strategies.size(); ++s) {
            if (std::isnan(values[s][i])) {
                row.push_back({{"text", "-"}});
                continue;
            }
            json cell = {{"text", three_digits(values[s][i])},
                         {"spread", three_digits(values[s][i] * (1 - noise)) + " to " +
                                        three_digits(values[s][i] * (1 + 2 * noise))}};
            if (s == best) cell["winner"] = true;
            row.push_back(cell);
        }
        table["rows"].push_back(row);
    }
    return {chart, table};
}

// Where `small` stops being faster than `large`, by steps of one percent in x.
void add_crossover(json& chart, std::vector<strategy> const& strategies, std::string const& small,
                   std::string const& large) {
    auto const named = [&](std::string const& name) {
        return *std::find_if(strategies.begin(), strategies.end(),
                             [&](strategy const& s) { return s.name == name; });
    };
    strategy const a = named(small), b = named(large);
    double last = 0;
    double const end = std::min(a.anchors.back().first, b.anchors.back().first);
    for (double x = 1; x < end; x *= 1.01)
        if (at(a.anchors, x) <= at(b.anchors, x)) last = x;
    if (last == 0 || last * 1.01 >= end) return;
    std::string const text =
        large + " overtakes " + small + " at about " + std::to_string(std::lround(last)) + " points";
    chart["crossovers"].push_back({{"x", last}, {"y", at(a.anchors, last)}, {"text", text}});
}

std::vector<strategy> lookup_strategies(bool latency, double scale) {
    std::vector<strategy> result = {
        {"linear",
         "baseline",
         {{1, 1.9}, {2, 3.1}, {4, 6}, {8, 8.4}, {16, 9.1}, {64, 16.8}, {256, 42}, {1024, 156}, {4096, 578}}},
        {"linear_simd",
         "ours",
         {{1, 1.9}, {8, 1.95}, {32, 2.8}, {64, 4.5}, {128, 8.9}, {256, 18.7}, {1024, 60}, {4096, 238}}},
        {"standard",
         "baseline",
         {{1, 2.1},
          {2, 3.9},
          {8, 10.1},
          {64, 20.2},
          {256, 31},
          {4096, 47.8},
          {16384, 62.9},
          {65536, 81.7},
          {262144, 106}}},
        {"binary",
         "ours",
         {{1, 0.8},
          {4, 1.5},
          {16, 2.8},
          {64, 4.2},
          {1024, 7.9},
          {4096, 9.8},
          {16384, 16.5},
          {65536, 28.4},
          {262144, 55}}},
        {"eytzinger",
         "ours",
         {{1, 2.4},
          {4, 5.2},
          {64, 5.7},
          {256, 7.7},
          {1024, 11.8},
          {16384, 16.2},
          {65536, 20.2},
          {262144, 45.7}}},
        {"stree",
         "ours",
         {{1, 1.36},
          {16, 1.36},
          {32, 3.4},
          {256, 3.4},
          {1024, 5.4},
          {4096, 5.4},
          {16384, 8.6},
          {65536, 11.9},
          {262144, 21.9}}},
        {"tree",
         "baseline",
         {{1, 2.5}, {8, 8.9}, {64, 17.7}, {1024, 40.4}, {16384, 92.4}, {65536, 200}, {262144, 765}}},
        {"indexed",
         "ours",
         {{1, 1.22}, {1024, 1.32}, {4096, 1.57}, {16384, 1.87}, {65536, 3.26}, {262144, 19.9}}},
        {"indexed_line",
         "ours",
         {{1, 0.84}, {256, 1.08}, {1024, 1.41}, {4096, 1.57}, {16384, 9.05}, {65536, 11.5}, {262144, 14.7}}},
        {"adaptive",
         "ours",
         {{1, 0.9}, {8, 1.3}, {1024, 1.36}, {4096, 1.6}, {16384, 1.95}, {65536, 3.4}, {262144, 20.5}}},
        {"linear_aos",
         "baseline",
         {{1, 2.0}, {2, 3.2}, {8, 8.7}, {64, 17.7}, {256, 44.3}, {1024, 168}, {4096, 716}}},
        {"absl::btree_map",
         "peer",
         {{1, 4.2}, {8, 9.8}, {64, 17.9}, {1024, 30.5}, {16384, 43}, {65536, 57.5}, {262144, 72}}},
    };
    for (strategy& s : result) {
        bool const search = s.name == "indexed" || s.name == "indexed_line" || s.name == "adaptive";
        for (auto& [x, y] : s.anchors) {
            if (latency)
                y = search               ? y * (s.name == "indexed_line" ? 2.6 : 5.6)
                    : s.name == "binary" ? y * 2.9
                                         : y * 1.15 + 0.6;
            y *= scale;
        }
    }
    return result;
}

json sample() {
    std::mt19937_64 random(1);
    std::vector<double> sizes;
    for (double x = 1; x <= 262144; x *= 2) sizes.push_back(x);
    json document = {{"cairn", "0.1.0"},
                     {"date", "2026-11-23T22:00:00Z"},
                     {"machine",
                      {{"cpu", "AMD EPYC"},
                       {"cores", 2},
                       {"mhz", 2450},
                       {"l1d_kib", 32},
                       {"l2_kib", 512},
                       {"l3_kib", 32768},
                       {"os", "Linux 6.1"}}},
                     {"build", {{"compiler", "g++ 12.2.0"}, {"flags", "-O2 -DNDEBUG"}, {"type", "Release"}}},
                     {"keys", {{"source", "words.txt"}, {"count", 104334}}},
                     {"nodes", {{"source", "generated"}, {"count", 100}}},
                     {"rounds", 9},
                     {"quick", false},
                     {"notes", {"The figures of this page are a sample, not a measurement."}},
                     {"questions", json::array()}};

    json lookup = {
        {"id", "lookup"},
        {"title", "Which lookup wins on a sorted circle?"},
        {"intro",
         {"A ring of n points is a sorted array. A lookup finds the first point at or after a hash.",
          "Throughput lets the processor overlap lookups; latency makes each wait for the one before."}},
        {"sentences",
         {"linear is slower than binary at every size.",
          "indexed takes the same time from 4 to 1,024 points: 1.3 ns.",
          "At 16,384 points indexed is 34 times as fast as standard and 49 times as fast as tree."}},
        {"tables", json::array()},
        {"charts", json::array()}};
    for (int const bits : {32, 64}) {
        for (bool const latency : {false, true}) {
            std::string const kind = latency ? "Latency" : "Throughput";
            auto const strategies = lookup_strategies(latency, bits == 32 ? 1 : 1.18);
            auto made =
                measure("lookup-" + std::string(latency ? "latency-" : "throughput-") + std::to_string(bits),
                        kind + ", " + std::to_string(bits) + "-bit positions", "points on the circle",
                        "ns per lookup", true, strategies, sizes, 0.03, random);
            std::vector<std::pair<std::string, std::string>> const rivals = {
                {"linear", "standard"},     {"linear", "binary"},  {"linear_simd", "binary"},
                {"linear_simd", "indexed"}, {"binary", "indexed"}, {"indexed", "indexed_line"}};
            for (auto const& [small, large] : rivals) add_crossover(made.chart, strategies, small, large);
            made.chart["why"] = {
                "linear grows with n. Its one misprediction a lookup costs as much as 60 compares.",
                "standard mispredicts every second level of the search: 5 ns each, so it grows with log n "
                "but starts high.",
                "indexed reads one bucket and compares four points whatever n is. It bends at 65,536 points, "
                "where the "
                "table leaves the L2 cache."};
            lookup["charts"].push_back(made.chart);
            lookup["tables"].push_back(made.table);
        }
    }

    std::vector<strategy> const routers = {
        {"ring, indexed", "ours", {{10, 2.5}, {100, 3.4}, {1000, 6.1}}},
        {"modulo", "ours", {{10, 2.3}, {100, 2.4}, {1000, 2.4}}},
        {"slots", "ours", {{10, 1.2}, {100, 1.2}, {1000, 1.3}}},
        {"jump", "ours", {{10, 23.6}, {100, 37}, {1000, 48}}},
        {"rendezvous", "ours", {{10, 12}, {100, 106}, {1000, 1050}}},
        {"maglev 65537", "ours", {{10, 1.25}, {100, 1.28}, {1000, 1.34}}},
        {"anchor", "ours", {{10, 3.9}, {100, 3.1}, {1000, 3.7}}},
        {"directory", "baseline", {{10, 17}, {100, 17}, {1000, 18}}},
        {"libmemcached ketama", "peer", {{10, 55}, {100, 79}, {1000, 121}}},
    };
    json routing = {
        {"id", "routing"},
        {"title", "What does routing a key cost?"},
        {"intro", {"Each router maps the same 64-bit keys to 10, 100 and 1,000 nodes, hash included."}},
        {"sentences",
         {"maglev and slots are flat: one load from a table.", "rendezvous hashes once per node."}},
        {"tables", json::array()},
        {"charts", json::array()}};
    auto made = measure("routing-ns", "Time to route an integer key", "nodes", "ns per key", true, routers,
                        {10, 100, 1000}, 0.05, random);
    made.chart["why"] = {
        "rendezvous asks all nodes, so it grows with n. jump takes ln n steps, and each waits for the last."};
    routing["charts"].push_back(made.chart);
    routing["tables"].push_back(made.table);

    json movement = {{"id", "movement"},
                     {"title", "How many keys move when a node is added?"},
                     {"intro", {"100 nodes, then 101. The least that can move is 1/101, 0.99 %."}},
                     {"sentences", {"modulo moves 99 % of the keys. The ring moves what it must."}},
                     {"charts", json::array()},
                     {"tables",
                      {{{"id", "movement-table"},
                        {"title", "Share of keys that move"},
                        {"unit", "percent of keys"},
                        {"columns", {"router", "add one", "remove one", "to a wrong node", "remark"}},
                        {"rows", json::array()}}}}};
    struct moved {
        char const *name, *add, *remove, *wrong, *remark;
    };
    for (moved const& m : {moved{"ring, indexed", "0.98", "0.99", "0", "arbitrary removal"},
                           moved{"modulo", "99.0", "99.0", "98.0", "nearly all move"},
                           moved{"jump", "0.97", "67.0", "66.0", "only the last can be removed"},
                           moved{"rendezvous", "0.98", "1.00", "0", "arbitrary removal"},
                           moved{"maglev 65537", "1.67", "1.58", "0.7", "a few extra"},
                           moved{"directory", "-", "-", "-", "the operator decides"},
                           moved{"libmemcached ketama", "-", "0.84", "0", "no 101st host"}}) {
        bool const best = std::string(m.add) == "0.97";
        json add = {{"text", m.add}};
        if (best) add["winner"] = true;
        movement["tables"][0]["rows"].push_back(
            {{{"text", m.name}}, add, {{"text", m.remove}}, {{"text", m.wrong}}, {{"text", m.remark}}});
    }

    json balance = {
        {"id", "balance"},
        {"title", "How even is the load?"},
        {"intro", {"The fullest of 100 equal nodes against the mean, by points per node."}},
        {"sentences",
         {"160 points a node keep the fullest within 22 % of the mean, 1,000 points within 8 %."}},
        {"tables", json::array()},
        {"charts", json::array()}};
    std::vector<strategy> const balances = {
        {"ring, exact share",
         "ours",
         {{1, 5.17}, {4, 2.9}, {16, 1.8}, {40, 1.5}, {160, 1.22}, {1000, 1.083}, {4000, 1.04}}},
        {"ring, bounded loads 1.25", "ours", {{1, 1.25}, {160, 1.22}, {1000, 1.083}, {4000, 1.04}}},
        {"jump", "baseline", {{1, 1.02}, {4000, 1.02}}}};
    made = measure("balance", "The fullest node", "points per node", "max/mean", false, balances,
                   {1, 2, 4, 8, 16, 40, 80, 160, 500, 1000, 4000}, 0.01, random);
    made.chart["why"] = {
        "A node's share is the sum of its arcs. The spread of a sum of v arcs falls with the root of v."};
    balance["charts"].push_back(made.chart);
    balance["tables"].push_back(made.table);

    json build = {{"id", "build"},
                  {"title", "What does it cost to build a ring?"},
                  {"intro", {"Points of 100 nodes, from names to a searchable ring."}},
                  {"sentences", {"Sorting by bucket is 8 times as fast as std::sort, with the same result."}},
                  {"tables", json::array()},
                  {"charts", json::array()}};
    made =
        measure("build-us", "Time to build", "points on the circle", "µs", true,
                {{"bucket sort + index", "ours", {{128, 0.9}, {1024, 5.1}, {16384, 95}, {262144, 2900}}},
                 {"std::sort + index", "baseline", {{128, 2.9}, {1024, 34}, {16384, 720}, {262144, 14800}}},
                 {"std::map", "baseline", {{128, 8}, {1024, 88}, {16384, 2418}, {262144, 98000}}},
                 {"libmemcached ketama", "peer", {{128, 17}, {1024, 140}, {16384, 2240}}}},
                {128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144}, 0.06, random);
    made.chart["why"] = {
        "Positions are uniform, so one pass by their top bits sorts all but the inside of the buckets."};
    build["charts"].push_back(made.chart);
    build["tables"].push_back(made.table);

    document["questions"] = {lookup, routing, movement, balance, build};
    return document;
}

// Every place for text holds something that must come out as text, and the values are at their worst.
json hostile() {
    double const nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();
    std::string const evil =
        "</script><script>throw 1</script><!--<img src=x onerror=throw(2)>'\"&\x1b[31m\xff {{body}}";
    json series = json::array();
    for (int i = 0; i < 40; ++i)
        series.push_back({{"name", "strategy " + std::to_string(i)},
                          {"role", i % 3 == 0   ? "ours"
                                   : i % 3 == 1 ? "peer"
                                                : "baseline"},
                          {"points", {{{"x", 1}, {"y", 1 + i}}, {{"x", 10}, {"y", 2.5 + i}}}}});
    json many = {
        {"id", evil}, {"title", evil}, {"x", {{"label", evil}, {"scale", "log"}}}, {"series", series}};
    json odd = {{"id", evil},
                {"title", "odd values"},
                {"x", {{"label", "x"}, {"scale", "log"}}},
                {"y", {{"label", "y"}, {"scale", "log"}}},
                {"series",
                 {{{"name", evil}, {"points", {{{"x", 5}, {"y", 7}, {"lo", nan}, {"hi", inf}}}}},
                  {{"name", std::string(300, 'W')},
                   {"role", 7},
                   {"points", {{{"x", 1e-9}, {"y", 1e12}}, {{"x", 1e9}, {"y", 1e-12}}}}},
                  {{"name", "nothing finite"}, {"points", {{{"x", 1}, {"y", nan}}, {{"x", inf}, {"y", 1}}}}},
                  {{"name", "not on a log scale"}, {"points", {{{"x", 0}, {"y", 1}}, {{"x", 1}, {"y", -1}}}}},
                  {{"name", "no points"}, {"points", json::array()}}}},
                {"crossovers", {{{"x", nan}}, {{"x", 5}, {"y", 7}, {"text", evil}}, {{"text", "no x"}}}},
                {"why", {evil}}};
    json flat = {{"id", "flat"},
                 {"title", "all equal"},
                 {"series",
                  {{{"name", "a"}, {"points", {{{"x", 3}, {"y", 0}}}}},
                   {{"name", "b"}, {"points", {{{"x", 3}, {"y", 0}}}}}}}};
    json table = {
        {"id", "t"},
        {"title", evil},
        {"unit", evil},
        {"columns", {evil}},
        {"rows",
         {{{{"text", evil}, {"spread", evil}, {"winner", true}}, {{"text", evil}}}, json::array(), nullptr}}};
    json question = {{"id", evil},
                     {"title", evil},
                     {"intro", {evil}},
                     {"sentences", {evil}},
                     {"charts", {many, odd, flat, {{"id", "empty"}}, 7}},
                     {"tables", {table, {{"id", "none"}}}}};
    return {{"cairn", evil},
            {"date", evil},
            {"machine", {{"cpu", evil}, {"cores", nan}}},
            {"build", evil},
            {"keys", {{"source", evil}, {"count", 1}}},
            {"notes", {evil}},
            {"questions", {question, question, 3}}};
}

void save(std::string const& path, std::string const& content) {
    std::ofstream file(path, std::ios::binary);
    file << content;
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace

int main(int count, char** arguments) try {
    json document = sample();
    for (int i = 1; i < count; ++i) {
        std::string const option = arguments[i];
        bool const has_value = i + 1 < count && arguments[i + 1][0] != '-';
        std::string const value = has_value ? arguments[i + 1] : "";
        if (option == "--hostile") {
            document = hostile();
            continue;
        }
        if (option == "--from" && has_value) {
            std::ifstream file(value);
            if (!file) throw std::runtime_error("cannot read " + value);
            document = json::parse(file);
        } else if (option == "--html" && has_value) {
            save(value, cairn::report::html_page(document));
        } else if (option == "--json" && has_value) {
            save(value, document.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
        } else if (option == "--terminal") {
            cairn::report::write_terminal(std::cout, document, false,
                                          has_value ? std::atoi(value.c_str()) : 100);
        } else {
            throw std::runtime_error("unknown option or no value: " + option);
        }
        if (has_value) ++i;
    }
} catch (std::exception const& error) {
    std::cerr << "report_make_sample: " << error.what() << '\n';
    return 1;
}
