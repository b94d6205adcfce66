// SPDX-License-Identifier: MIT
// What the program does besides the chapter: serve, and drive one that serves. And the options of both.
#pragma once

#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "load.hpp"
#include "process.hpp"
#include "report.hpp"
#include "sqlite_store.hpp"
#ifdef CAIRN_EXAMPLES_HAVE_POSTGRES
#include "postgres_store.hpp"
#endif

namespace gateway {

/// Opens shards in a folder's files, when it is called.
[[nodiscard]] inline std::function<std::unique_ptr<backend>()> files_in(
    std::string folder, sinks::synchronous sync = sinks::synchronous::full) {
    return [folder = std::move(folder), sync] { return std::make_unique<sqlite_backend>(folder, sync); };
}

/// What was given: names and values.
using given = std::map<std::string, std::string>;

/// --name value, and so on. @throws std::invalid_argument
[[nodiscard]] inline given options_of(std::span<std::string const> arguments,
                                      std::set<std::string> const& known) {
    given made;
    for (std::size_t i = 0; i < arguments.size(); i += 2) {
        if (!known.contains(arguments[i])) throw std::invalid_argument("no option " + arguments[i]);
        if (i + 1 == arguments.size()) throw std::invalid_argument(arguments[i] + " needs a value");
        made[arguments[i]] = arguments[i + 1];
    }
    return made;
}
/// @throws std::invalid_argument unless it is a number from `least` to `most`.
[[nodiscard]] inline std::uint64_t number_of(given const& said, std::string const& name,
                                             std::uint64_t otherwise, std::uint64_t least,
                                             std::uint64_t most) {
    auto const found = said.find(name);
    if (found == said.end()) return otherwise;
    std::string const& text = found->second;
    std::uint64_t number = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < least || number > most)
        throw std::invalid_argument(name + " must be from " + std::to_string(least) + " to " +
                                    std::to_string(most) + ", and is " + text);
    return number;
}

inline void write_page(given const& said, report_page&& page) {
    auto const file = said.find("--page");
    if (file == said.end()) return;
    std::ofstream out(file->second);
    out << std::move(page).text();
    if (!out.flush()) throw std::runtime_error("cannot write " + file->second);
    std::cout << "\nCharts: " << file->second << '\n';
}

/// The batches of all shards, by their sizes.
[[nodiscard]] inline std::vector<std::uint64_t> batch_counts(nlohmann::json const& stats) {
    std::vector<std::uint64_t> all;
    for (auto const& shard : stats["shards"]) {
        std::vector<std::uint64_t> const counts = shard["batch_counts"];
        all.resize(counts.size());
        for (std::size_t i = 0; i < counts.size(); ++i) all[i] += counts[i];
    }
    return all;
}

/// The load generator, on a gateway that serves already.
[[nodiscard]] inline int run_load(given const& said) {
    auto const at =
        cairn::endpoint::loopback(static_cast<std::uint16_t>(number_of(said, "--port", 8080, 1, 65'535)));
    load_options how;
    how.connections = number_of(said, "--connections", 64, 1, 10'000);
    how.pipeline = number_of(said, "--in-flight", 1, 1, 16);
    // Numbers that no run before has asked for.
    how.first = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                               std::chrono::system_clock::now().time_since_epoch())
                                               .count());
    std::chrono::seconds const time(number_of(said, "--seconds", 5, 1, 3'600));
    auto const before = batch_counts(nlohmann::json::parse(get(at, "/stats")));
    cairn::event_loop loop;
    load clients(loop, at, how);
    clients.on_end = [&] { loop.stop(); };
    auto const end = loop.call_after(time, [&] { clients.stop(); });
    loop.run();
    std::uint64_t refused = 0;
    for (auto const& [status, n] : clients.refused()) refused += n;
    std::string const line = rounded(static_cast<double>(clients.acknowledged().size()) / clients.seconds()) +
                             " durable payments/s, half answered within " +
                             rounded(clients.latencies().quantile(0.5) * 1e3, 2) + " ms, 99 % within " +
                             rounded(clients.latencies().quantile(0.99) * 1e3, 2) + " ms; " +
                             std::to_string(refused) + " refused, " +
                             std::to_string(clients.unanswered().size()) + " not answered";
    std::cout << line << '\n';
    if (!clients.unanswered().empty()) return 1;  // the service has gone, and its batches with it
    auto const stats = nlohmann::json::parse(get(at, "/stats"));
    auto counts = batch_counts(stats);
    for (std::size_t i = 0; i < before.size(); ++i) counts[i] -= before[i];
    report_page page("Payment gateway");
    page.paragraph(machine());
    page.paragraph(std::to_string(how.connections) + " connections with " + std::to_string(how.pipeline) +
                   " in flight on each, " + std::to_string(stats["shards"].size()) + " shards: " + line +
                   ".");
    add_load(page, clients, stats["shards"][0]["batch_bounds"], counts);
    write_page(said, std::move(page));
    return refused == 0 ? 0 : 1;
}

/// Until SIGTERM or Ctrl-C.
[[nodiscard]] inline int run_service(given const& said) {
    auto const number = static_cast<std::uint16_t>(number_of(said, "--port", 8080, 0, 65'535));
    auto const folder = said.find("--data");
    std::string data = folder == said.end() ? "payments" : folder->second;
    options how;
    how.shards = number_of(said, "--shards", 2, 1, 64);
    auto store = files_in(data);
    char const* const dsn = std::getenv("CAIRN_PG_DSN");
    if (dsn != nullptr) {
#ifdef CAIRN_EXAMPLES_HAVE_POSTGRES
        data = "PostgreSQL";
        store = [dsn = std::string(dsn)] { return std::make_unique<postgres_backend>(dsn); };
#else
        throw std::runtime_error("CAIRN_PG_DSN is set, but this was built without libpq");
#endif
    }
    cairn::unique_fd listener = cairn::listen(cairn::endpoint::loopback(number));
    std::string const where = cairn::endpoint::of(listener.get()).to_string();
    serve(std::move(listener), store, how, [&] {
        std::cout << "http://" << where << ", payments in " << data << ". For example:\n  curl -i " << where
                  << "/payments -H 'Content-Type: application/json' -H 'Idempotency-Key: order-17' \\\n"
                  << R"(       -d '{"merchant":"bakery","currency":"EUR","amount":"12.30"}')" << "\n  curl "
                  << where << "/payments/order-17\n  curl " << where << "/stats" << std::endl;
    });
    std::cout << "all is written\n";
    return 0;
}

}  // namespace gateway
