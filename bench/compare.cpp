// SPDX-License-Identifier: MIT
// cairn-compare: which strategy wins on this machine, with these keys, and why.
#include <cairn/version.hpp>

#include <benchmark/benchmark.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/ioctl.h>
#include <unistd.h>
#endif

#include "allocator_worker.hpp"
#include "input.hpp"
#include "machine.hpp"
#include "questions.hpp"
#include "report/report.hpp"

namespace {

using namespace cairn::bench;

struct question {
    char const* name;
    char const* asks;
    answer (*ask)(context&);
};

constexpr question questions[] = {
    {"lookup", "which lookup strategy wins on a sorted circle, at what size", question_lookup},
    {"routing", "what it costs to find the node of a key, hash included", question_routing},
    {"movement", "how many keys move when a node comes or goes", question_movement},
    {"balance", "how evenly the keys are spread", question_balance},
    {"build", "what building and changing a ring costs", question_build},
    {"spsc", "which queue between two threads is fastest, by message and capacity", question_spsc},
    {"pool", "whether a pool beats the allocators, by workload and object", question_pool},
    {"interner", "what it costs to find a string's symbol, and to keep strings once", question_interner},
#if defined(CAIRN_BENCH_ON_LINUX)
    {"buffers", "what should stand before a slow sink, by batch, event and pace", question_buffers},
    {"loop", "what an event loop costs, and how the known ones compare", question_loop},
#endif
};

struct options {
    std::vector<std::string> asked;
    std::string keys, nodes, json, html;
    bool quick = false;
    std::size_t rounds = 0;
};

[[nodiscard]] nlohmann::json figures_of(std::vector<figure> const& figures) {
    nlohmann::json rows = nlohmann::json::array();
    std::size_t kept = 0;
    for (figure const& f : figures) {
        rows.push_back({{{"text", f.what}},
                        {{"text", f.promised}},
                        {{"text", f.measured}},
                        {{"text", f.kept ? "yes" : "no"}}});
        kept += f.kept;
    }
    return {
        {"id", "figures"},
        {"title", "What cairn promises, and what this run measured"},
        {"intro",
         {"Each line is a promise of the library and the figure of this run: a median of ratios taken round "
          "by "
          "round, with its quartiles. A machine whose cores are shared can miss one that it keeps at "
          "night."}},
        {"tables",
         {{{"id", "figures"},
           {"title", "Promises"},
           {"unit", ""},
           {"columns", {"figure", "promised", "measured", "kept"}},
           {"rows", rows}}}},
        {"charts", nlohmann::json::array()},
        {"sentences",
         {std::to_string(kept) + " of " + std::to_string(figures.size()) + " promises kept in this run."}}};
}

void write_file(std::string const& path, std::string const& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    if (!file) throw std::runtime_error(path + ": cannot be written");
    std::cout << "written: " << path << "\n";
}

[[nodiscard]] int terminal_width() {
#if defined(__unix__) || defined(__APPLE__)
    winsize size{};
    if (isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
        return size.ws_col;
#endif
    return 120;
}

[[nodiscard]] bool terminal_colour() {
#if defined(__unix__) || defined(__APPLE__)
    return isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
#else
    return false;
#endif
}

void run(options const& chosen) {
    context ctx;
    lines const keys = chosen.keys.empty() ? default_keys() : read_lines(chosen.keys);
    lines const nodes = chosen.nodes.empty() ? default_nodes(100) : read_lines(chosen.nodes);
    refuse_duplicates(nodes);
    ctx.keys = keys.items;
    ctx.nodes = nodes.items;
    ctx.user_nodes = !chosen.nodes.empty();
    ctx.quick = chosen.quick;
    ctx.rounds = chosen.rounds != 0 ? chosen.rounds : chosen.quick ? 5 : 31;
    ctx.milliseconds = chosen.quick ? 0.5 : 2.0;

    pin_to_one_core();
    nlohmann::json document = {
        {"cairn", std::to_string(CAIRN_VERSION_MAJOR) + "." + std::to_string(CAIRN_VERSION_MINOR) + "." +
                      std::to_string(CAIRN_VERSION_PATCH)},
        {"date", now()},
        {"machine", machine()},
        {"build", build()},
        {"keys", {{"source", keys.source}, {"count", keys.items.size()}}},
        {"nodes", {{"source", nodes.source}, {"count", nodes.items.size()}}},
        {"rounds", ctx.rounds},
        {"quick", ctx.quick},
        {"notes", nlohmann::json::array()},
        {"questions", nlohmann::json::array()}};
    std::vector<figure> figures;
    for (question const& q : questions) {
        bool const wanted = chosen.asked.empty() ||
                            std::find(chosen.asked.begin(), chosen.asked.end(), q.name) != chosen.asked.end();
        if (!wanted) continue;
        answer given = q.ask(ctx);
        document["questions"].push_back(std::move(given.question));
        std::move(given.figures.begin(), given.figures.end(), std::back_inserter(figures));
    }
    progress("");
    if (!figures.empty()) document["questions"].push_back(figures_of(figures));
    document["notes"].push_back(count(static_cast<double>(ctx.checked)) +
                                " answers were compared with their reference before anything was timed.");
    document["notes"].push_back("All contestants of a row ran in turn in each round, on fresh queries.");

    cairn::report::write_terminal(std::cout, document, terminal_colour(), terminal_width());
    if (!chosen.json.empty())
        write_file(chosen.json,
                   document.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    if (!chosen.html.empty()) write_file(chosen.html, cairn::report::html_page(document));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::string_view(argv[1]) == allocator_worker_option) return serve_allocations();
    options chosen;
    CLI::App app{
        "cairn-compare measures cairn's strategies against each other and against what is installed."};
    std::string asks = "questions (all, if none is named):";
    std::vector<std::string> names;
    for (question const& q : questions) {
        names.emplace_back(q.name);
        asks += std::string("\n  ") + q.name + ": " + q.asks;
    }
    app.footer(asks);
    app.add_option("question", chosen.asked, "what to measure")->check(CLI::IsMember(names));
    app.add_option("--keys", chosen.keys, "a file of your keys, one a line");
    app.add_option("--nodes", chosen.nodes, "a file of your nodes, one a line");
    app.add_option("--json", chosen.json, "write the results as JSON to this file");
    app.add_option("--html", chosen.html, "write the page to this file");
    app.add_option("--rounds", chosen.rounds, "rounds a table (31; 5 with --quick)")
        ->check(CLI::Range(3, 1'001));
    app.add_flag("--quick", chosen.quick, "fewer sizes and rounds: a look, not a measurement");
    CLI11_PARSE(app, argc, argv);

    int no_arguments = 1;
    char* arguments[] = {argv[0], nullptr};
    benchmark::Initialize(&no_arguments, arguments);
    try {
        run(chosen);
    } catch (std::exception const& error) {
        std::cerr << "cairn-compare: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
