// SPDX-License-Identifier: MIT
// The payment gateway: take a payment, write it down, say so. Thousands a second, each exactly once.
//
// A client pays and gets no answer. Has it paid? It cannot know, and asks again. A service that takes both
// has taken too much; one that answered before it wrote, and died, has promised what it does not know. So
// there are two rules: answer when it is durable, and know each payment by a key that the client chose. The
// first costs a write to the disk for each answer, some hundred microseconds in which nothing else is
// written. The way out is what all chapters before lead to: while one batch is being written, the next one
// gathers.
//
//   payment_gateway                    this chapter
//   payment_gateway figures            the same, longer, and the goals are claims: 20,000/s, 30 times
//   payment_gateway serve [--port 8080] [--data payments] [--shards 2]      for curl and a browser
//   payment_gateway load [--port 8080] [--connections 64] [--in-flight 1] [--seconds 5]    drives that
//
// All but `serve` draw charts if --page file.html says where. With CAIRN_PG_DSN, `serve` writes to
// PostgreSQL.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <iostream>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <cairn/batcher.hpp>

#include "../files/temporary_folder.hpp"
#include "audit.hpp"
#include "commands.hpp"
#include "load.hpp"
#include "process.hpp"
#include "report.hpp"
#include "sqlite_store.hpp"

namespace {

using namespace std::chrono_literals;
using gateway::rounded;

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

/// A port that listens as long as this process lives, whoever serves it.
struct port {
    cairn::unique_fd listener = cairn::listen(cairn::endpoint::loopback(0));
    cairn::endpoint at = cairn::endpoint::of(listener.get());
};

unsigned status_of(std::string const& answer) { return gateway::answer_head::read(answer)->status; }

/// POST /payments. Without a key if that is empty.
std::string pay(cairn::endpoint const& to, std::string const& key, std::string const& body) {
    return gateway::ask(
        to, gateway::post("/payments", key.empty() ? "" : "Idempotency-Key: " + key + "\r\n", body));
}
std::string const bread = R"({"merchant":"bakery","currency":"EUR","amount":"12.30"})";

/// How long the disk takes to confirm 12 KiB, in microseconds: the median.
double disk_takes(std::string const& path) {
    cairn::unique_fd const file(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    std::string const page(12 * 1024, 'x');
    std::vector<double> times;
    for (int i = 0; i < 64; ++i) {
        auto const begin = std::chrono::steady_clock::now();
        if (::pwrite(file.get(), page.data(), page.size(), 0) < 0 || ::fdatasync(file.get()) != 0) return 0;
        times.push_back(
            std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

// ---- 1. The smallest thing that works. ----

/// Reads a payment, hands it to a batcher, which writes it within some milliseconds, and says yes.
void smallest_service(cairn::unique_fd listener, std::string const& folder) {
    using gateway::payment, gateway::payment_columns;
    cairn::event_loop loop;
    gateway::catalog names;
    gateway::ring::placement_type const circle{};
    sinks::table table = payment_columns::table("payments");
    table.key = 0;  // it writes what it is told, as often as it is told
    cairn::batcher<payment, sinks::sqlite_sink<payment, payment_columns>> batcher(
        {folder + "/all.db", table, payment_columns{&names}});
    auto lane = batcher.make_producer();
    http::server server(loop, [&](http::request const& what, http::responder to) {
        payment taken = gateway::parse_payment(what.body(), what.header("Idempotency-Key"), names);
        taken.position = circle.position(taken.id.view());  // the table's first column: see section 5
        (void)lane.push(taken);
        to.send({.status = 201, .body = gateway::payment_body(taken, names), .type = "application/json"});
    });
    server.listen(std::move(listener));
    loop.run();
}

/// What is in a folder's tables, now that nobody writes there.
gateway::audit audit_of(std::string const& folder) {
    gateway::sqlite_backend files(folder);
    return gateway::audit::of(files);
}

void smallest_thing(files::temporary_folder& folders) {
    std::cout << "1. The smallest thing that works: say yes, and write it soon\n\n";
    std::uint64_t acknowledged = 0, rows = 0, lost = 0, twice = 0;
    // Killed just after a commit it loses nothing: then once more.
    for (int round = 0; round < 10 && lost == 0; ++round) {
        port const here;
        std::string const folder = folders.next();
        std::filesystem::create_directory(folder);
        auto server = gateway::in_child(
            here.listener.get(), [&](cairn::unique_fd own) { smallest_service(std::move(own), folder); });
        // A client whose answer got lost on its way asks again.
        bool const both = status_of(pay(here.at, "order-17", bread)) == 201 &&
                          status_of(pay(here.at, "order-17", bread)) == 201;
        cairn::event_loop loop;
        gateway::load load(loop, here.at, {});
        load.on_end = [&] { loop.stop(); };
        auto const end = loop.call_after(100ms, [&] {
            (void)server.end(SIGKILL);
            loop.stop();
        });
        loop.run();
        load.give_up();
        auto const audit = audit_of(folder);
        acknowledged = load.acknowledged().size() + (both ? 2 : 0);
        rows = audit.rows;
        lost = audit.missing(load.acknowledged());
        twice = audit.twice;
    }
    std::cout << "    one payment, asked for again because its answer got lost: there " << twice + 1
              << " times\n    then 64 clients, and kill -9 after 0.1 s: " << acknowledged << " acknowledged, "
              << rows << " written, " << lost << " lost\n\n";
    check(twice == 1, "a client that asks again has paid twice");
    check(lost > 0, "payments that were acknowledged are gone");
}

// ---- 2. One payment, by its key, and answered when it is written. ----

void one_payment(std::string const& folder) {
    port const here;
    auto server = gateway::in_child(here.listener.get(), gateway::files_in(folder));
    auto const show = [](char const* what, std::string const& answer) {
        std::cout << "  " << std::left << std::setw(18) << what << status_of(answer) << ' '
                  << gateway::body_of(answer);
    };
    auto const ask = [&](std::string const& key, std::string const& body) { return pay(here.at, key, body); };
    std::cout << "\n2. A key for each payment, and yes when it is written\n\n";
    std::string const first = ask("order-17", bread);
    std::string const again = ask("order-17", R"({"amount":1230,"merchant":"bakery","currency":"EUR"})");
    std::string const other = ask("order-17", R"({"merchant":"bakery","currency":"EUR","amount":"12.31"})");
    show("the first time", first);
    show("the same again", again);
    show("another amount", other);
    show("no key", ask("", bread));
    show("half a cent", ask("order-18", R"({"merchant":"bakery","currency":"EUR","amount":"0.005"})"));
    show("half a yen", ask("order-18", R"({"merchant":"bakery","currency":"JPY","amount":"0.5"})"));
    show("a double", ask("order-18", R"({"merchant":"bakery","currency":"EUR","amount":0.1})"));
    show("no currency", ask("order-18", R"({"merchant":"bakery","currency":"EURO","amount":"1"})"));
    show("no JSON", ask("order-18", "{merchant: bakery}"));
    std::string const looked_up = gateway::get(here.at, "/payments/order-17");
    int const ended = server.end(SIGTERM);
    std::string const body = gateway::body_of(first);
    std::cout << '\n';
    check(status_of(first) == 201 && gateway::body_of(again) == body && looked_up == body,
          "a payment that comes twice is answered as the first time");
    check(status_of(other) == 422, "and with another amount it is refused");
    auto restarted = gateway::in_child(here.listener.get(), gateway::files_in(folder));
    check(gateway::body_of(ask("order-17", bread)) == body,
          "after a restart it is still answered as the first time");
    check(ended == 0 && restarted.end(SIGTERM) == 0, "SIGTERM ends it in order");
    check(audit_of(folder).rows == 1, "and in the table it stands once");
}

// ---- 3. One transaction for each, or for all that wait. ----

struct setting {
    char const* what;
    std::size_t batch;
    std::size_t pipeline;
    sinks::synchronous sync;
};
struct result {
    double rate = 0, p50 = 0, p99 = 0, batch = 0;
    bool exact = false;
};

result drive(setting const& how, std::string const& folder, std::chrono::milliseconds time,
             gateway::report_page* page) {
    port const here;
    gateway::options options;
    options.batches.max_batch = how.batch;
    auto server = gateway::in_child(here.listener.get(), gateway::files_in(folder, how.sync), options);
    cairn::event_loop loop;
    gateway::load load(loop, here.at, {.pipeline = how.pipeline});
    load.on_end = [&] { loop.stop(); };
    auto const end = loop.call_after(time, [&] { load.stop(); });
    loop.run();
    auto const shard = nlohmann::json::parse(gateway::get(here.at, "/stats"))["shards"][0];
    load.hang_up();
    bool const ended = server.end(SIGTERM) == 0;
    result made;
    made.rate = static_cast<double>(load.acknowledged().size()) / load.seconds();
    made.p50 = load.latencies().quantile(0.5) * 1e3;
    made.p99 = load.latencies().quantile(0.99) * 1e3;
    made.batch = shard["mean_batch"];
    auto const audit = audit_of(folder);
    made.exact = ended && load.refused().empty() && audit.rows == load.acknowledged().size() &&
                 audit.twice == 0 && audit.wrong == 0 && audit.missing(load.acknowledged()) == 0;
    if (page != nullptr) gateway::add_load(*page, load, shard["batch_bounds"], shard["batch_counts"]);
    return made;
}

void many_payments(files::temporary_folder& folders, bool figures, gateway::report_page& page) {
    double const disk = disk_takes(folders.next());
    std::cout << "\n3. 64 clients, each asks again when it is answered; the disk confirms 12 KiB in "
              << rounded(disk) << " us\n\n"
              << "    transactions                           payments/s   p50 ms   p99 ms   payments in one  "
                 " times\n";
    using sinks::synchronous;
    setting const settings[] = {{"one for each, FULL", 1, 1, synchronous::full},
                                {"all that wait, FULL", 512, 1, synchronous::full},
                                {"the same, 16 in flight for each client", 512, 16, synchronous::full},
                                {"all that wait, NORMAL", 512, 1, synchronous::normal}};
    std::vector<result> results;
    std::vector<std::vector<std::string>> table{
        {"transactions", "payments/s", "p50 ms", "p99 ms", "payments in one"}};
    for (setting const& one : settings) {
        results.push_back(
            drive(one, folders.next(), figures ? 3'000ms : 400ms, results.size() == 1 ? &page : nullptr));
        result const& r = results.back();
        std::cout << "    " << std::left << std::setw(39) << one.what << std::right << std::setw(10)
                  << rounded(r.rate) << std::setw(9) << rounded(r.p50, 2) << std::setw(9) << rounded(r.p99, 2)
                  << std::setw(18) << rounded(r.batch, 1) << std::setw(8)
                  << rounded(r.rate / results[0].rate, 1) << '\n';
        table.push_back(
            {one.what, rounded(r.rate), rounded(r.p50, 2), rounded(r.p99, 2), rounded(r.batch, 1)});
    }
    page.table(table);
    // The law: a disk that confirms a batch in t takes n / t payments a second, where n is what has gathered
    // in t. With 64 clients that wait for their answers n is at most 64, and rather half of that: one half is
    // on the disk while the other is answered and asks again. So 64 waiting clients get 12 to 16 times as
    // much on a disk of 140 to 170 us, and 15 to 21 on one of 4 ms. On the quick one the processors are short
    // already: NORMAL, which waits for no disk, is a third faster, no more. For each payment there are two
    // messages through the kernel, and a page of the index for the log. With more in flight n grows, and one
    // send() carries many answers.
    //
    // NORMAL does not wait for the disk. kill -9 harms it no more than FULL, because the system has the
    // bytes. But when the power fails, the last payments are gone, and they were acknowledged: not for money.
    std::cout << '\n';
    check(std::all_of(results.begin(), results.end(), [](result const& one) { return one.exact; }),
          "each acknowledged payment is in the table, once, and no other");
    check(results[0].batch == 1 && results[1].batch > 2 && results[2].batch > results[1].batch,
          "what waits together is written together, and more of it the more is in flight");
    if (!figures) return;
    check(results[1].rate >= 20'000, "64 clients: at least 20,000 durable payments a second");
    check(results[2].rate >= 30 * results[0].rate,
          "with 16 in flight for each, at least 30 times as many as with a transaction for each");
}

// ---- 4. kill -9. ----

void kill_it(std::string const& folder, int times) {
    port const here;
    gateway::options options;
    options.shards = 2;
    std::random_device seed;
    std::mt19937 random(seed());
    std::vector<std::uint64_t> acknowledged, unanswered;
    std::uint64_t next = 0, asked_again = 0, were_there = 0;
    for (int i = 0; i <= times; ++i) {
        auto server = gateway::in_child(here.listener.get(), gateway::files_in(folder), options);
        cairn::event_loop loop;
        std::size_t const open = unanswered.size();
        asked_again += open;
        gateway::load load(loop, here.at, {.first = next, .before = std::exchange(unanswered, {})});
        load.on_end = [&] { loop.stop(); };
        bool const last = i == times;
        // Counted from its start, which takes some 20 ms: some die before the first answer.
        auto const life = std::chrono::microseconds(last ? 300'000 : 10'000 + random() % 100'000);
        auto const end = loop.call_after(life, [&] {
            if (last) return load.stop();
            (void)server.end(SIGKILL);
            loop.stop();
        });
        loop.run();
        load.give_up();
        acknowledged.insert(acknowledged.end(), load.acknowledged().begin(), load.acknowledged().end());
        unanswered = load.unanswered();
        for (std::size_t k = load.asked_before(); k < open; ++k) unanswered.push_back(load.before(k));
        were_there += load.replayed();
        next = load.next();
        if (last)
            check(server.end(SIGTERM) == 0 && unanswered.empty(),
                  "what got no answer got one when asked again");
    }
    auto const audit = audit_of(folder);
    std::cout << "    killed                      " << times << " times\n    acknowledged                "
              << acknowledged.size() << "\n    got no answer, asked again  " << asked_again
              << "\n    of those, there already     " << were_there << "\n    rows                        "
              << audit.rows << "\n\n";
    check(audit.missing(acknowledged) == 0, "0 acknowledged payments lost");
    check(audit.twice == 0 && audit.rows == next, "0 duplicated: each number is there once");
    check(audit.wrong == 0 && audit.misplaced == 0, "each as it was asked for, in the shard that owns it");
}

// ---- 5. One shard more. ----

void one_more_shard(std::string const& folder) {
    port const here;
    gateway::options options;
    options.shards = 3;
    auto const shards = [&] { return nlohmann::json::parse(gateway::get(here.at, "/shards")); };
    nlohmann::json before, plan, after;
    std::uint64_t moved = 0, at_once = 0;
    std::vector<std::uint64_t> acknowledged, unanswered;
    std::uint64_t next = 0;
    bool refused = false;
    auto const remember = [&](gateway::load const& load) {
        acknowledged.insert(acknowledged.end(), load.acknowledged().begin(), load.acknowledged().end());
        refused = refused || !load.refused().empty();
        next = load.next();
    };
    {  // Killed in the middle of the move, or right behind it if that is over too soon.
        auto server = gateway::in_child(here.listener.get(), gateway::files_in(folder), options);
        cairn::event_loop loop;
        gateway::load load(loop, here.at, {});
        load.on_end = [&] { loop.stop(); };
        auto const ask = loop.call_after(300ms, [&] {
            before = shards();
            plan = nlohmann::json::parse(gateway::get(here.at, "/shards/plan?add=shard-4"));
            (void)gateway::ask(here.at, gateway::post("/shards", "", R"({"name":"shard-4"})"));
        });
        auto const look = loop.call_every(2ms, [&] {
            if (plan.is_null()) return;
            moved = shards()["moved"];
            if (moved == 0) return;
            (void)server.end(SIGKILL);
            loop.stop();
        });
        loop.run();
        load.give_up();
        remember(load);
        unanswered = load.unanswered();
    }
    auto server = gateway::in_child(here.listener.get(), gateway::files_in(folder), options);
    cairn::event_loop loop;
    std::size_t const open = unanswered.size();
    gateway::load load(loop, here.at, {.first = next, .before = std::move(unanswered)});
    load.on_end = [&] { loop.stop(); };
    bool signalled = false;
    auto const look = loop.call_every(20ms, [&] {
        if (signalled) return;
        after = shards();
        if (after["moving"] || load.asked_before() != open || load.acknowledged().size() < 1'000) return;
        signalled = true;
        at_once = load.acknowledged().size();
        server.signal(SIGTERM);  // under full load
    });
    loop.run();
    int const ended = server.wait();
    remember(load);
    std::cout << "    The plan: " << plan["arcs"].size() << " arcs, "
              << rounded(100 * plan["share"].get<double>(), 1) << " % of the circle, some "
              << plan["payments"] << " payments.\n    Moved:    " << moved
              << ", then kill -9; after the restart " << after["moved"] << ", while " << at_once
              << " others were taken.\n\n    shard       before    after\n";
    for (std::size_t i = 0; i < after["shards"].size(); ++i)
        std::cout << "    " << std::left << std::setw(9) << after["shards"][i]["name"].get<std::string>()
                  << std::right << std::setw(9)
                  << (i < before["shards"].size() ? before["shards"][i]["payments"].dump() : "-")
                  << std::setw(9) << after["shards"][i]["payments"].dump() << '\n';
    std::cout << '\n';
    auto const audit = audit_of(folder);
    bool only_to_it = true;
    for (auto const& arc : plan["arcs"]) only_to_it = only_to_it && arc["to"] == "shard-4";
    check(only_to_it && moved > 0, "only the new shard gets payments that were there");
    check(audit.twice == 0 && audit.misplaced == 0, "each payment is in the one shard that owns it");
    check(at_once > 0 && !refused, "and payments went on meanwhile");
    check(ended == 0 && audit.missing(acknowledged) == 0 && audit.wrong == 0,
          "killed while it moved, ended under full load: none that was acknowledged is missing");
}

int chapter(bool figures, gateway::given const& said) {
    files::temporary_folder folders;
    gateway::report_page page("Payment gateway");
    page.paragraph(gateway::machine());
    page.paragraph(
        "Charts of 64 connections, one payment in flight on each, one shard in SQLite, synchronous = FULL: "
        "an answer says that its payment is on the disk. The table has other ways to commit beside it.");
    smallest_thing(folders);
    one_payment(folders.next());
    many_payments(folders, figures, page);
    int const times = figures ? 20 : 8;
    std::cout << "\n4. kill -9, at random moments under load\n\n";
    kill_it(folders.next(), times);
    std::cout << "\n5. A fourth shard, kill -9 while payments move to it, and then SIGTERM, under load\n\n";
    one_more_shard(folders.next());
    gateway::write_page(said, std::move(page));
    std::cout
        << "\nAn answer that means something costs the wait for the disk, and batching does not take it "
           "away: it\n"
           "shares it. Each client waits some milliseconds instead of some hundred microseconds, and the\n"
           "service takes ten times as many. Where one client at a time comes, nothing is shared, and "
           "nothing\n"
           "is won.\n";
    // Exercises:
    // 1. Set batches.linger to 1 ms. The batches grow. Why does the throughput not, with 64 clients?
    // 2. Let the gateway answer when accept() has returned. What does section 4 say then?
    // 3. In mover.hpp, erase before the copy is durable. Which line of section 5 can tell, and how often?
    return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
    std::vector<std::string> const arguments(argv + 1, argv + argc);
    std::string const command = arguments.empty() || arguments[0].starts_with("--") ? "" : arguments[0];
    auto const rest = std::span(arguments).subspan(command.empty() ? 0 : 1);
    if (command.empty() || command == "figures")
        return chapter(!command.empty(), gateway::options_of(rest, {"--page"}));
    if (command == "serve")
        return gateway::run_service(gateway::options_of(rest, {"--port", "--data", "--shards"}));
    if (command == "load")
        return gateway::run_load(
            gateway::options_of(rest, {"--port", "--connections", "--in-flight", "--seconds", "--page"}));
    throw std::invalid_argument("no command " + command);
} catch (std::invalid_argument const& error) {
    std::cerr << error.what()
              << "\nusage: payment_gateway [figures] [--page file.html]\n"
                 "       payment_gateway serve [--port n] [--data folder] [--shards n]\n"
                 "       payment_gateway load [--port n] [--connections n] [--in-flight n] [--seconds n] "
                 "[--page file.html]\n";
    return 2;
} catch (std::exception const& error) {
    std::cerr << error.what() << '\n';
    return 2;
}
