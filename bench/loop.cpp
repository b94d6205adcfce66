// SPDX-License-Identifier: MIT
// What does an event loop add to what the kernel takes, and how do the known loops compare?
#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "loop_backpressure.hpp"
#include "loop_load.hpp"
#include "loop_operations.hpp"
#include "partner.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

constexpr auto our_name = "cairn";

[[nodiscard]] nlohmann::json served_table(std::vector<served_cell> const& cells) {
    nlohmann::json columns = {"load", "raw epoll, µs"}, rows = nlohmann::json::array();
    auto const& widest = *std::max_element(cells.begin(), cells.end(), [](auto const& a, auto const& b) {
        return a.servers.size() < b.servers.size();
    });
    for (auto const& name : widest.servers)
        if (name != "raw epoll") columns.push_back(name + ", x");
    for (auto const& cell : cells) {
        nlohmann::json row = {{{"text", cell.name}}, {{"text", number(summarise(cell.cpu[0]).median / 1e3)}}};
        for (auto const& name : widest.servers) {
            if (name == "raw epoll") continue;
            if (!cell.has(name)) {
                row.push_back({{"text", "-"}});
                continue;
            }
            summary const ratio = cell.ratio(name, "raw epoll");
            row.push_back({{"text", number(ratio.median)},
                           {"spread", number(ratio.low) + " to " + number(ratio.high)}});
        }
        rows.push_back(row);
    }
    return {{"id", "loop-cpu"},
            {"title", "Processor time of the server for a request, as a multiple of raw epoll's"},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}
[[nodiscard]] nlohmann::json rate_table(std::vector<served_cell> const& cells) {
    nlohmann::json columns = {"load"}, rows = nlohmann::json::array();
    auto const& widest = *std::max_element(cells.begin(), cells.end(), [](auto const& a, auto const& b) {
        return a.servers.size() < b.servers.size();
    });
    for (auto const& name : widest.servers) columns.push_back(name);
    for (auto const& cell : cells) {
        nlohmann::json row = {{{"text", cell.name}}};
        for (auto const& name : widest.servers)
            row.push_back(
                {{"text", cell.has(name) ? number(summarise(cell.rate[cell.at(name)]).median) : "-"}});
        rows.push_back(row);
    }
    return {{"id", "loop-rate"},
            {"title", "Requests a second: bound by the loader and the host, for orientation"},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}

[[nodiscard]] nlohmann::json timer_table(timer_cells const& cells, cell_result const& dispatch,
                                         cell_result const& posted) {
    nlohmann::json rows = nlohmann::json::array();
    std::vector<std::string> names = cells.add.names();
    nlohmann::json columns = {"operation"};
    for (auto const& name : names) columns.push_back(name);
    auto const row = [&](std::string const& what, cell_result const& from) {
        nlohmann::json line = {{{"text", what}}};
        for (auto const& name : names) {
            if (!from.has(name)) {
                line.push_back({{"text", "-"}});
                continue;
            }
            summary const s = from.of(name);
            line.push_back(
                {{"text", number(s.median) + " ns"}, {"spread", number(s.low) + " to " + number(s.high)}});
        }
        rows.push_back(line);
    };
    row("an event of 1,024 ready ones, the kernel's part included", dispatch);
    row("post from another thread, in a burst", posted);
    row("a timer among 10,000: add", cells.add);
    row("refresh, to a later time", cells.refresh);
    row("cancel", cells.cancel);
    return {{"id", "loop-operations"},
            {"title", "What an operation costs"},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}

void served_figures(std::vector<served_cell> const& cells, std::vector<figure>& figures) {
    auto const at_most = [&](std::string what, std::string const& server, std::string const& to, double most,
                             auto counts) {
        std::pair<summary, std::string> worst{{}, ""};
        for (served_cell const& cell : cells) {
            if (!counts(cell.name) || !cell.has(server) || !cell.has(to)) continue;
            summary const ratio = cell.ratio(server, to);
            if (worst.second.empty() || ratio.median > worst.first.median) worst = {ratio, cell.name};
        }
        if (worst.second.empty()) return;
        figures.push_back({std::move(what), "at most " + number(most) + " x",
                           number(worst.first.median) + " x (" + number(worst.first.low) + " to " +
                               number(worst.first.high) + ") in the worst row (" + worst.second + ")",
                           worst.first.median <= most});
    };
    auto const all = [](std::string const&) { return true; };
    auto const many = [](std::string const& name) { return name.find("512") != std::string::npos; };
    auto const few = [](std::string const& name) { return name.find("512") == std::string::npos; };
    at_most("loop: the resolution, raw epoll vs itself", "raw again", "raw epoll", 1.01, all);
    at_most("loop: processor time a request vs raw epoll", our_name, "raw epoll", 1.02, all);
    at_most("… coroutines, to 256 connections", "cairn coroutines", "raw epoll", 1.05, few);
    at_most("… coroutines, 512 connections", "cairn coroutines", "raw epoll", 1.08, many);
    // No server here can do less than raw epoll, so its own ratio is the limit of each of these.
    auto const against = [&](std::string what, std::string const& server, std::string const& to,
                             double most) {
        std::vector<double> ratios, limits;
        for (served_cell const& cell : cells) {
            if (!cell.has(server) || !cell.has(to)) continue;
            ratios.push_back(cell.ratio(server, to).median);
            limits.push_back(cell.ratio("raw epoll", to).median);
        }
        if (ratios.empty()) return;
        double const mean = geometric_mean(ratios);
        figures.push_back({std::move(what), "at most " + number(most) + " x (geometric mean)",
                           number(mean) + " x; " + number(*std::max_element(ratios.begin(), ratios.end())) +
                               " x in the worst row; raw epoll itself " + number(geometric_mean(limits)) +
                               " x",
                           mean <= most});
    };
    against("… vs libuv", our_name, "libuv", 0.88);
    against("… vs asio", our_name, "asio", 0.97);
    against("… coroutines vs asio's coroutines", "cairn coroutines", "asio coroutines", 0.93);
}

}  // namespace

answer question_loop(context& ctx) {
    answer result;
    auto& question = result.question;
    question = {{"id", "loop"},
                {"title", "What does an event loop cost?"},
                {"tables", nlohmann::json::array()},
                {"charts", nlohmann::json::array()},
                {"sentences", nlohmann::json::array()}};
    question["intro"] = {
        "Servers are processes on one core, the loader is on another, all on the loopback. All servers are "
        "up at "
        "once; in each round each one is loaded for a short slice, in an order drawn anew. What counts is "
        "the "
        "server's processor time for a request, as a multiple of raw epoll's in the same round; \"raw "
        "again\" is "
        "the same program once more, and shows what differences mean nothing.",
        "All servers read once, look for the end of the request and answer: so loops are compared, not "
        "parsers. "
        "nginx parses and logs nothing; it is here for orientation."};
    std::vector<served_cell> cells;
    if (partner::possible()) {
        for (protocol const p : {protocol::http, protocol::echo})
            for (std::size_t const connections : {std::size_t{64}, std::size_t{256}, std::size_t{512}}) {
                if (ctx.quick && (p == protocol::echo || connections != 64)) continue;
                if (p == protocol::echo && connections == 256) continue;
                cells.push_back(serve(ctx, p, connections));
            }
        question["tables"].push_back(served_table(cells));
        question["tables"].push_back(rate_table(cells));
        served_figures(cells, result.figures);
        for (server_kind const& kind : server_kinds()) {
            if (kind.role != "ours") continue;
            progress("loop: system calls");
            if (double const calls = system_calls(kind); calls != 0)
                result.figures.push_back({"loop: system calls for a request, 64 connections, " + kind.name,
                                          "at most 2.05", number(calls), calls <= 2.05});
        }
        measure_backpressure(result);
    } else {
        question["intro"].push_back("This machine has one core: no servers were loaded.");
    }
    cell_result const dispatch = measure_dispatch(ctx);
    cell_result const posted = measure_post(ctx);
    timer_cells const timing = measure_timers(ctx);
    lateness const late = measure_lateness(ctx, 1), usually = measure_lateness(ctx, usual_slack);
    question["tables"].push_back(timer_table(timing, dispatch, posted));

    summary const own = dispatch.of(dispatch_alone);
    result.figures.push_back(
        {"loop: dispatch of an event of 1,024 ready ones, without epoll_wait", "at most 5.00 ns",
         number(own.median) + " ns (" + number(own.low) + " to " + number(own.high) + ")", own.median <= 5});
    auto const at_most = [&](std::string what, cell_result const& cell, double most) {
        summary const s = cell.of(our_name);
        result.figures.push_back({std::move(what), "at most " + number(most) + " ns",
                                  number(s.median) + " ns (" + number(s.low) + " to " + number(s.high) + ")",
                                  s.median <= most});
    };
    at_most("loop: post in a burst from another thread", posted, 40);
    at_most("loop: refresh of a timer among 10,000", timing.refresh, 20);
    at_most("loop: add", timing.add, 45);
    at_most("loop: cancel", timing.cancel, 25);
    result.figures.push_back({"loop: lateness of a deadline of 100 µs, median; early ones",
                              "at most 100 µs with PR_SET_TIMERSLACK 1; 0",
                              number(late.median) + " µs (p99 " + number(late.p99) +
                                  "), with the usual slack of 50 µs " + number(usually.median) + " µs; " +
                                  count(static_cast<double>(late.early + usually.early)) + " of " +
                                  count(static_cast<double>(late.fired + usually.fired)),
                              late.median <= 100 && late.early + usually.early == 0});
    auto const memory = [&](std::string what, double bytes, double most) {
        result.figures.push_back(
            {std::move(what), "at most " + number(most) + " bytes", number(bytes) + " bytes", bytes <= most});
    };
    memory("loop: memory of an idle connection, callback", memory_of_a_watch(), 160);
    memory("… coroutine", memory_of_a_coroutine(), 320);
    return result;
}

}  // namespace cairn::bench
