// SPDX-License-Identifier: MIT
// What does it cost to find a string's symbol, and what does an interner add to its strings?
//
// Hits: each string is there, and a fresh copy of it is asked for. Uniform: each string as often as any
// other, so the caches are worth least. Zipf: the n-th most frequent comes 1/n as often as the first, as in
// texts.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "interner_peers.hpp"
#include "interner_workloads.hpp"
#include "partner.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

using namespace interners;

constexpr auto& our_name = ours::name;
constexpr auto& our_shared_name = ours_shared::name;
constexpr auto two_threads = ", 2 threads";
constexpr auto many_at_once = ", intern_n";

/// Visits the type of each contestant. `Set` sets apart what is one for the whole program.
template <int Set, class Visit>
void each_kind(Visit visit) {
    visit(std::type_identity<ours>{});
    visit(std::type_identity<ours_shared>{});
    visit(std::type_identity<lecture>{});
#if defined(CAIRN_BENCH_HAVE_BOOST)
    visit(std::type_identity<flyweight<Set>>{});
    visit(std::type_identity<plain_flyweight<Set>>{});
#endif
    visit(std::type_identity<std_map>{});
#if defined(CAIRN_BENCH_HAVE_BOOST_FLAT)
    visit(std::type_identity<boost_map>{});
#endif
#if defined(CAIRN_BENCH_HAVE_ABSL)
    visit(std::type_identity<absl_map>{});
#endif
#if defined(CAIRN_BENCH_HAVE_LLVM)
    visit(std::type_identity<llvm_map>{});
    visit(std::type_identity<llvm_saver>{});
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
    visit(std::type_identity<tbb_hash_map>{});
    visit(std::type_identity<tbb_unordered>{});
#endif
}

/// Whether threads may share it.
[[nodiscard]] bool is_shared(std::string_view name) {
    return name == our_shared_name || name == lecture::name || name == "flyweight" || name.starts_with("tbb");
}

/// What was measured on a data set. Not all is measured on each.
struct cells {
    std::string title;
    std::optional<cell_result> uniform, zipf, batch, views, threads, build;
};

/// The hits of two threads at once: each thread has queries of its own.
template <class Interner>
[[nodiscard]] contestant both_hit(std::shared_ptr<filled<Interner>> all, queries const& asked,
                                  partner& other) {
    return {std::string(Interner::name) + two_threads, 2 * asked.window(),
            [all, &asked, &other](std::size_t window) {
                std::uint64_t here = 0, there = 0;
                other.together([&] { there = all->hits(asked, window + 1); },
                               [&] { here = all->hits(asked, window); });
                return here + there;
            }};
}

template <int Set>
[[nodiscard]] cells measure_set(context& ctx, data_set const& set, partner& other) {
    // Runs that visit all strings last longer than others, so fewer rounds must do.
    bool const large = set.texts.size() > 500'000;
    context some = ctx;
    some.rounds = large ? std::clamp(ctx.rounds / 6, std::size_t{3}, std::size_t{5})
                        : std::min(ctx.rounds, std::size_t{15});
    auto const at = [&](std::string const& what) { progress("interner: " + set.title + ", " + what); };
    cells result{set.title, {}, {}, {}, {}, {}, {}};
    {
        std::vector<contestant> uniform, zipf, batch, views, threads;
        at("filling");
        each_kind<Set>([&]<class Interner>(std::type_identity<Interner>) {
            auto const all = std::make_shared<filled<Interner>>(ctx, set);
            std::string const name = Interner::name;
            std::size_t const window = set.uniform.window();
            auto const hits = [all](queries const& asked) {
                return [all, &asked](std::size_t w) { return all->hits(asked, w); };
            };
            uniform.push_back({name, window, hits(set.uniform)});
            zipf.push_back({name, window, hits(set.zipf)});
            views.push_back(
                {name, window, [all, &set](std::size_t w) { return all->views(set.uniform, w); }});
            if constexpr (requires(Interner i) { i.base(); }) {
                batch.push_back({name, window, hits(set.uniform)});
                batch.push_back({name + many_at_once, window,
                                 [all, &set](std::size_t w) { return all->batch_hits(set.uniform, w); }});
            }
            if (is_shared(name) && partner::possible()) {
                threads.push_back({name, window, hits(set.uniform)});
                threads.push_back(both_hit(all, set.uniform, other));
            }
        });
        for (contestant const& one : views)
            require_equal(views.front().run(0), one.run(0), one.name, set.title + ", symbol to string");
        for (std::size_t i = 0; i < batch.size(); i += 2)
            require_equal(batch[i].run(0), batch[i + 1].run(0), batch[i + 1].name, set.title);
        at("uniform hits");
        result.uniform = measure(some, uniform);
        at("Zipf hits");
        result.zipf = measure(some, zipf);
        at("intern_n");
        result.batch = measure(some, batch);
        if (set.title == "words" || large) {
            at("symbol to string");
            result.views = measure(some, views);
        }
        if (set.title == "words" && !threads.empty()) {
            at("two threads");
            result.threads = measure(some, threads);
        }
    }
    if (large) return result;
    at("building");
    std::vector<contestant> build;
    each_kind<Set + 100>([&]<class Interner>(std::type_identity<Interner>) {
        if (std::string_view(Interner::name) == "flyweight, bare") return;  // it cannot forget
        auto const now = std::make_shared<std::optional<Interner>>();
        build.push_back({Interner::name, set.texts.size(),
                         [now, &set](std::size_t) {
                             std::uint64_t sum = 0;
                             for (std::string const& text : set.texts) sum += value((*now)->intern(text));
                             return sum;
                         },
                         [now] { now->emplace(); }});
    });
    result.build = measure(some, build);
    return result;
}

// ---- Memory. ----

/// Bytes beyond the strings', a string: the mean while words come one by one, from the thousandth to the
/// last. A table that has just grown is half empty, so one size alone would say little.
struct overhead {
    std::string name;
    double allocated;  // what malloc has given, its own headers included
    double stated;     // memory(), where there is one, else 0
};
[[nodiscard]] double allocated_bytes() {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    struct mallinfo2 const info = mallinfo2();
    return static_cast<double>(info.uordblks + info.hblkhd);
#else
    return 0;
#endif
}
template <class Interner>
[[nodiscard]] overhead overhead_of(std::vector<std::string> const& texts) {
    constexpr std::size_t step = 500;
    double const before = allocated_bytes();
    auto const names = std::make_unique<Interner>();
    double bytes = 0, allocated = 0, stated = 0, samples = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        (void)names->intern(texts[i]);
        bytes += static_cast<double>(texts[i].size());
        if ((i + 1) % step != 0 || i + 1 < 1'000) continue;
        double const n = static_cast<double>(i + 1);
        allocated += (allocated_bytes() - before - bytes) / n;
        if constexpr (requires { names->base().memory(); })
            stated += (static_cast<double>(names->base().memory()) - bytes) / n;
        ++samples;
    }
    return {Interner::name, allocated / std::max(samples, 1.0), stated / std::max(samples, 1.0)};
}
[[nodiscard]] std::vector<overhead> overheads(std::vector<std::string> const& texts) {
    std::vector<overhead> all;
    each_kind<200>([&]<class Interner>(std::type_identity<Interner>) {
        // A user is no part of an interner, but a flyweight's string lives no longer than its users.
        if (std::string_view(Interner::name) != "flyweight") all.push_back(overhead_of<Interner>(texts));
    });
    return all;
}

// ---- What was promised. ----

using measured = std::vector<std::pair<double, std::string>>;  // a ratio, and of which cell

[[nodiscard]] figure at_least(std::string what, measured const& found, double promised) {
    std::vector<double> values;
    for (auto const& one : found) values.push_back(one.first);
    auto const worst = *std::min_element(found.begin(), found.end());
    double const mean = geometric_mean(values);
    bool const many = found.size() > 1;
    return {std::move(what), "at least " + number(promised) + " x" + (many ? " (geometric mean)" : ""),
            number(mean) + " x" +
                (many ? "; " + number(worst.first) + " x in the worst cell (" + worst.second + ")" : ""),
            mean >= promised};
}
[[nodiscard]] figure at_most(std::string what, double got, double promised, std::string const& unit) {
    return {std::move(what), "at most " + number(promised) + unit, number(got) + unit, got <= promised};
}

void figures_of(std::vector<cells> const& sets, std::vector<overhead> const& memory,
                std::vector<figure>& figures) {
    auto const all_hits = [&](std::string const& slow, std::string const& fast) {
        measured found;
        for (cells const& set : sets) {
            if (!set.uniform->has(slow)) continue;
            found.emplace_back(set.uniform->ratio(slow, fast).median, set.title + ", uniform");
            found.emplace_back(set.zipf->ratio(slow, fast).median, set.title + ", Zipf");
        }
        return found;
    };
    cells const& words = sets.front();
    for (auto const& [peer, called] : {std::pair{"flyweight", "boost::flyweight as it comes"},
                                       std::pair{lecture::name, "the lecture's form"}})
        if (words.uniform->has(peer))
            figures.push_back(at_least("interner hit, words, vs " + std::string(called),
                                       {{words.uniform->ratio(peer, our_name).median, "words"}}, 10));
    if (auto const found = all_hits("absl", our_name); !found.empty())
        figures.push_back(at_least("interner hit vs absl::flat_hash_map and arena", found, 1.5));
    if (auto const found = all_hits("boost flat_map", our_name); !found.empty())
        figures.push_back(at_least("interner hit vs boost::unordered_flat_map and arena", found, 1.2));
    {
        auto found = all_hits(our_shared_name, our_name);
        std::vector<double> values;
        for (auto const& one : found) values.push_back(one.first);
        auto const worst = *std::max_element(found.begin(), found.end());
        double const mean = geometric_mean(values);
        figures.push_back({"concurrent interner hit vs the single-threaded one", "at most 1.10 x its time",
                           number(mean) + " x (geometric mean); " + number(worst.first) +
                               " x in the worst cell (" + worst.second + ")",
                           mean <= 1.1});
    }
    if (words.threads)
        figures.push_back(at_least(
            "concurrent interner, hits of 2 threads vs 1, words",
            {{words.threads->ratio(our_shared_name, std::string(our_shared_name) + two_threads).median, ""}},
            1.8));
    for (overhead const& one : memory) {
        if (one.name == our_name)
            figures.push_back(at_most("interner, memory beyond the string, words", one.stated, 12, " bytes"));
        if (one.name == our_shared_name)
            figures.push_back(
                at_most("concurrent interner, memory beyond the string, words", one.stated, 32, " bytes"));
    }
    figures.push_back(
        at_most("interner, symbol to string, words", words.views->of(our_name).median, 8, " ns"));
    figures.push_back(at_most("concurrent interner, symbol to string, words",
                              words.views->of(our_shared_name).median, 8, " ns"));
}

// ---- Tables. ----

[[nodiscard]] nlohmann::json cell_of(summary const& s, std::string const& unit = "") {
    return {{"text", number(s.median) + unit}, {"spread", number(s.low) + " to " + number(s.high)}};
}

/// A row for each contestant, a column for each data set that has this part: cairn in ns, the others in
/// multiples of cairn's time.
[[nodiscard]] nlohmann::json ratio_table(std::string id, std::string title, std::vector<cells> const& sets,
                                         std::optional<cell_result> cells::* part) {
    nlohmann::json columns = {"interner"}, rows = nlohmann::json::array();
    std::vector<std::string> names;
    for (cells const& set : sets)
        if (set.*part) {
            columns.push_back(set.title);
            names = (set.*part)->names();
        }
    for (std::string const& name : names) {
        nlohmann::json row = {{{"text", name}}};
        for (cells const& set : sets) {
            if (!(set.*part)) continue;
            row.push_back(name == our_name ? cell_of((set.*part)->of(name), " ns")
                                           : cell_of((set.*part)->ratio(name, our_name), " x"));
        }
        rows.push_back(row);
    }
    return {{"id", std::move(id)},
            {"title", std::move(title)},
            {"unit", ""},
            {"columns", columns},
            {"rows", rows}};
}

[[nodiscard]] nlohmann::json batch_table(std::vector<cells> const& sets) {
    nlohmann::json rows = nlohmann::json::array();
    for (cells const& set : sets)
        for (char const* const name : {our_name, our_shared_name})
            rows.push_back({{{"text", set.title + ", " + name}},
                            cell_of(set.batch->of(name)),
                            cell_of(set.batch->of(std::string(name) + many_at_once)),
                            cell_of(set.batch->ratio(name, std::string(name) + many_at_once))});
    return {{"id", "interner-batch"},
            {"title", "Many at once: uniform hits one by one, and by intern_n"},
            {"unit", ""},
            {"columns", {"strings, interner", "one by one, ns", "intern_n, ns", "intern_n, times faster"}},
            {"rows", rows}};
}

[[nodiscard]] nlohmann::json thread_table(cell_result const& result) {
    nlohmann::json rows = nlohmann::json::array();
    for (std::string const& name : result.names())
        if (!name.ends_with(two_threads))
            rows.push_back({{{"text", name}},
                            cell_of(result.of(name)),
                            cell_of(result.of(name + two_threads)),
                            cell_of(result.ratio(name, name + two_threads))});
    return {{"id", "interner-threads"},
            {"title", "Two threads, each with hits of its own on one interner, words, uniform"},
            {"unit", ""},
            {"columns", {"interner", "1 thread, ns", "2 threads, ns", "throughput of 2 over 1"}},
            {"rows", rows}};
}

[[nodiscard]] nlohmann::json memory_table(std::vector<overhead> const& all) {
    nlohmann::json rows = nlohmann::json::array();
    for (overhead const& one : all)
        rows.push_back({{{"text", one.name}},
                        {{"text", one.allocated == 0 ? "-" : number(one.allocated)}},
                        {{"text", one.stated == 0 ? "-" : number(one.stated)}}});
    return {{"id", "interner-memory"},
            {"title", "Memory beyond the strings' own bytes, a string, words"},
            {"unit", "bytes"},
            {"columns", {"interner", "from malloc", "by memory()"}},
            {"rows", rows}};
}

}  // namespace

answer question_interner(context& ctx) {
    answer result;
    partner other;
    std::vector<cells> sets;
    std::vector<overhead> memory;
    {
        auto const words = make_data_set(ctx, strings::words);
        progress("interner: memory");
        memory = overheads(words->texts);
        sets.push_back(measure_set<1>(ctx, *words, other));
    }
    sets.push_back(measure_set<2>(ctx, *make_data_set(ctx, strings::tickers), other));
    sets.push_back(measure_set<3>(ctx, *make_data_set(ctx, strings::urls), other));
    if (!ctx.quick) sets.push_back(measure_set<4>(ctx, *make_data_set(ctx, strings::unique), other));
    figures_of(sets, memory, result.figures);

    auto& question = result.question;
    question = {{"id", "interner"},
                {"title", "What does it cost to find a string's symbol?"},
                {"tables", nlohmann::json::array()},
                {"charts", nlohmann::json::array()},
                {"sentences", nlohmann::json::array()}};
    question["intro"] = {
        "Time for one string: a fresh copy of it goes in, its handle comes out. The line of cairn has "
        "nanoseconds; each other line says how many times as long it took: the median of the ratios over the "
        "rounds, and their quartiles.",
        "The lecture's form is a read-write lock around std::unordered_map. flyweight is boost's, bare "
        "without "
        "lock and count. std map, boost flat_map and absl are maps from std::string_view to a number, over "
        "an "
        "arena, with a vector back. All have the hash that they come with.",
        "What malloc has given counts untouched pages: cairn concurrent has a directory of 512 KiB, of which "
        "only the first bytes are touched, and memory() counts those."};
    auto& tables = question["tables"];
    tables.push_back(
        ratio_table("interner-uniform", "Hits, each string as often as any other", sets, &cells::uniform));
    tables.push_back(
        ratio_table("interner-zipf", "Hits, few strings often (Zipf, s = 1)", sets, &cells::zipf));
    tables.push_back(batch_table(sets));
    if (sets.front().threads) tables.push_back(thread_table(*sets.front().threads));
    tables.push_back(
        ratio_table("interner-build", "All strings are new: from nothing to all", sets, &cells::build));
    tables.push_back(ratio_table("interner-views", "From handles, in random order, to their strings", sets,
                                 &cells::views));
    tables.push_back(memory_table(memory));
    return result;
}

}  // namespace cairn::bench
