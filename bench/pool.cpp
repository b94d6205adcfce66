// SPDX-License-Identifier: MIT
// What does it cost to make and end objects, and does a pool beat the allocators?
#include <cairn/concurrent_object_pool.hpp>
#include <cairn/object_pool.hpp>
#include <cairn/pool_resource.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(CAIRN_BENCH_HAVE_BOOST)
#include <boost/pool/object_pool.hpp>
#include <boost/pool/pool.hpp>
#include <boost/pool/pool_alloc.hpp>
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
#include <tbb/scalable_allocator.h>
#endif

#include "allocator_worker.hpp"
#include "partner.hpp"
#include "pool_workloads.hpp"
#include "questions.hpp"

namespace cairn::bench {
namespace {

// ---- The pools. All give memory for an object, and write no more than they need to. ----

template <class T>
class ours {
  public:
    [[nodiscard]] T* get() { return pool_.allocate(); }
    void put(T* object) { pool_.deallocate(object); }

  private:
    object_pool<T> pool_;
};
template <class T>
class ours_shared {
  public:
    [[nodiscard]] T* get() { return pool_.allocate(); }
    void put(T* object) { pool_.deallocate(object); }

  private:
    concurrent_object_pool<T> pool_;
};
/// A memory resource: the standard's, or ours.
template <class T, class Resource>
class resource {
  public:
    [[nodiscard]] T* get() { return static_cast<T*>(base().allocate(sizeof(T), alignof(T))); }
    void put(T* object) { base().deallocate(object, sizeof(T), alignof(T)); }

  private:
    /// As containers see it: the dynamic type is not known.
    [[nodiscard]] std::pmr::memory_resource& base() noexcept { return *resource_; }
    std::unique_ptr<std::pmr::memory_resource> resource_ = std::make_unique<Resource>();
};
/// What is written when one pool must serve two threads: a lock around it.
template <class T>
class with_mutex {
  public:
    [[nodiscard]] T* get() {
        std::lock_guard const lock(mutex_);
        return pool_.allocate();
    }
    void put(T* object) {
        std::lock_guard const lock(mutex_);
        pool_.deallocate(object);
    }

  private:
    std::mutex mutex_;
    object_pool<T> pool_;
};
#if defined(CAIRN_BENCH_HAVE_BOOST)
template <class T>
class boost_pool {
  public:
    [[nodiscard]] T* get() { return static_cast<T*>(pool_.malloc()); }
    void put(T* object) { pool_.free(object); }

  private:
    boost::pool<> pool_{sizeof(T)};
};
/// Its free() keeps the free list in order of addresses, and looks for the place.
template <class T>
class boost_object_pool {
  public:
    [[nodiscard]] T* get() { return pool_.malloc(); }
    void put(T* object) { pool_.free(object); }
    void put_all() {}  // its destructor does, and one by one would take minutes

  private:
    boost::object_pool<T> pool_;
};
template <class T, class Mutex>
class boost_fast_allocator {
    using allocator = boost::fast_pool_allocator<T, boost::default_user_allocator_new_delete, Mutex>;

  public:
    boost_fast_allocator() = default;
    boost_fast_allocator(boost_fast_allocator const&) = delete;
    boost_fast_allocator& operator=(boost_fast_allocator const&) = delete;
    ~boost_fast_allocator() {  // it is one for the whole program
        boost::singleton_pool<boost::fast_pool_allocator_tag, sizeof(T),
                              boost::default_user_allocator_new_delete, Mutex>::purge_memory();
    }
    [[nodiscard]] T* get() { return allocator::allocate(); }
    void put(T* object) { allocator::deallocate(object); }
    void put_all() {}
};
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
template <class T>
class tbb_scalable {
  public:
    [[nodiscard]] T* get() {
        void* const memory = scalable_malloc(sizeof(T));
        if (memory == nullptr) throw std::bad_alloc();
        return static_cast<T*>(memory);
    }
    void put(T* object) { scalable_free(object); }
};
#endif

// ---- What is measured. ----

struct job {
    pool_task task;
    char const* id;
    char const* title;
    bool shared;  // by two threads
};
constexpr std::array<job, 7> jobs{{
    {pool_task::hot, "pool-hot", "One object, out and back", false},
    {pool_task::random_back, "pool-random", "1,000 objects out, then back in random order", false},
    {pool_task::churn_small, "pool-churn-10k", "10,000 objects live; 1,000 end, 1,000 come", false},
    {pool_task::churn_large, "pool-churn-1m", "1,000,000 objects live; 1,000 end, 1,000 come", false},
    {pool_task::own_some, "pool-own-100", "Two threads, each 100 objects out and back", true},
    {pool_task::own_many, "pool-own-1000", "Two threads, each 1,000 objects out and back", true},
    {pool_task::cross, "pool-cross", "One thread makes, another ends", true},
}};

struct cell {
    job const* of;
    std::size_t bytes;
    cell_result result;
};

constexpr auto our_name = "cairn";
constexpr auto floor_name = "no pool";
constexpr auto scattered_floor_name = "no pool, scattered";
constexpr std::array mallocs{"glibc", "tcmalloc", "jemalloc", "mimalloc"};

template <class Make>
void join(std::vector<contestant>& contestants, std::string name, Make make) {
    std::shared_ptr<workload> const work = make();
    contestants.push_back({std::move(name), objects_a_run, [work](std::size_t window) {
                               work->run(window);
                               return std::uint64_t{window};
                           }});
}

template <class T>
[[nodiscard]] std::vector<contestant> contest(job const& of, partner& other,
                                              std::vector<std::unique_ptr<allocator_worker>> const& workers) {
    std::vector<contestant> all;
    auto const single = [&]<class Pool>(std::type_identity<Pool>, char const* name) {
        join(all, name, [&] { return single_workload<Pool, T>(of.task, other); });
    };
    auto const shared = [&]<class Pool>(std::type_identity<Pool>, char const* name) {
        join(all, name, [&] { return shared_workload<Pool, T>(of.task, other); });
    };
    if (of.shared) {
        shared(std::type_identity<ours_shared<T>>{}, our_name);
        shared(std::type_identity<with_mutex<T>>{}, "mutex");
        shared(std::type_identity<resource<T, std::pmr::synchronized_pool_resource>>{}, "std::pmr");
#if defined(CAIRN_BENCH_HAVE_BOOST)
        shared(std::type_identity<boost_fast_allocator<T, boost::details::pool::default_mutex>>{},
               "boost fast");
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
        shared(std::type_identity<tbb_scalable<T>>{}, "tbb");
#endif
        if (of.task == pool_task::cross) {
            shared(std::type_identity<workloads::preallocated<T, 1>>{}, floor_name);
            shared(std::type_identity<workloads::preallocated<T, 37>>{}, scattered_floor_name);
        }
    } else {
        single(std::type_identity<ours<T>>{}, our_name);
        single(std::type_identity<resource<T, pool_resource>>{}, "cairn pmr");
        single(std::type_identity<resource<T, std::pmr::unsynchronized_pool_resource>>{}, "std::pmr");
#if defined(CAIRN_BENCH_HAVE_BOOST)
        single(std::type_identity<boost_pool<T>>{}, "boost::pool");
        single(std::type_identity<boost_fast_allocator<T, boost::details::pool::null_mutex>>{}, "boost fast");
        // 1,000 of a million in order of addresses: each free() walks through a hundred thousands.
        if (of.task != pool_task::churn_large)
            single(std::type_identity<boost_object_pool<T>>{}, "boost::object_pool");
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
        single(std::type_identity<tbb_scalable<T>>{}, "tbb");
#endif
    }
    for (auto const& worker : workers) all.push_back(worker->contest(of.task, sizeof(T)));
    return all;
}

[[nodiscard]] bool is_floor(std::string const& name) { return name.starts_with(floor_name); }
[[nodiscard]] bool is_peer(std::string const& name) {
    return !name.starts_with(our_name) && !is_floor(name) && name != "mutex";
}
[[nodiscard]] bool is_malloc(std::string const& name) {
    return std::find(mallocs.begin(), mallocs.end(), name) != mallocs.end();
}

/// Against the fastest of those that `counts` says; 0 if there is none.
template <class Counts>
[[nodiscard]] std::pair<double, std::string> against_best(cell const& at, Counts counts) {
    std::pair<double, std::string> best{0, ""};
    for (auto const& name : at.result.names()) {
        if (!counts(name)) continue;
        double const ratio = at.result.ratio(name, our_name).median;
        if (best.first == 0 || ratio < best.first) best = {ratio, name};
    }
    return best;
}

/// Bytes that slabs take from the allocator, for an object of T: no header, but slack at the end.
struct counted {
    static inline std::size_t bytes = 0;
};
template <class T>
struct counting_allocator {
    using value_type = T;
    counting_allocator() = default;
    template <class U>
    counting_allocator(counting_allocator<U> const&) noexcept {}
    [[nodiscard]] T* allocate(std::size_t n) {
        counted::bytes += n * sizeof(T);
        return std::allocator<T>().allocate(n);
    }
    void deallocate(T* p, std::size_t n) noexcept { std::allocator<T>().deallocate(p, n); }
    friend bool operator==(counting_allocator const&, counting_allocator const&) noexcept { return true; }
};
struct memory_use {
    double header;  // bytes an object beyond its size, from one object to the next in a slab
    double slack;   // bytes a slot that is in none of them: records of slabs, and the pool's own
};
template <class T>
[[nodiscard]] memory_use memory_of() {
    counted::bytes = 0;
    object_pool<T, counting_allocator<T>> pool;
    std::vector<T*> out;
    while (out.size() < 1'000'000) out.push_back(pool.allocate());
    while (pool.size() != pool.capacity()) out.push_back(pool.allocate());
    double const slots = static_cast<double>(pool.capacity());
    memory_use const used{
        static_cast<double>(reinterpret_cast<std::byte*>(out[1]) - reinterpret_cast<std::byte*>(out[0])) -
            sizeof(T),
        static_cast<double>(counted::bytes) / slots - sizeof(T)};
    for (T* const object : out) pool.deallocate(object);
    return used;
}

[[nodiscard]] std::string name_of(cell const& at) {
    return std::string(at.of->id).substr(5) + ", " + std::to_string(at.bytes) + " bytes";
}

void figures_of(std::vector<cell> const& cells, std::vector<figure>& figures) {
    auto const at_least = [&](std::string what, std::vector<std::pair<double, std::string>> found,
                              double promised, bool mean) {
        if (found.empty()) return;
        std::vector<double> values;
        for (auto const& one : found) values.push_back(one.first);
        auto const worst = *std::min_element(found.begin(), found.end());
        double const kept = mean ? geometric_mean(values) : worst.first;
        figures.push_back(
            {std::move(what),
             "at least " + number(promised) + " x" + (mean ? " (geometric mean)" : " in every cell"),
             (mean ? number(kept) + " x; " : "") + number(worst.first) + " x in the worst cell (" +
                 worst.second + ")",
             kept >= promised});
    };
    std::vector<std::pair<double, std::string>> hot, others, pools, general, ordered, mimalloc, lock, sent,
        floor;
    for (cell const& at : cells) {
        auto const add = [&](auto& to, auto counts) {
            auto const [ratio, who] = against_best(at, counts);
            if (ratio != 0) to.emplace_back(ratio, name_of(at) + ", " + who);
        };
        auto const named = [](std::string name) {
            return [name](std::string const& other) { return other == name; };
        };
        if (!at.of->shared) {
            add(at.of->task == pool_task::hot ? hot : others, is_peer);
            add(pools, named("boost::pool"));
            add(general, is_malloc);
            if (at.of->task == pool_task::random_back) add(ordered, named("boost::object_pool"));
        } else if (at.of->task == pool_task::own_some) {
            add(mimalloc, named("mimalloc"));
            add(lock, named("mutex"));
        } else if (at.of->task == pool_task::cross) {
            add(sent, is_malloc);
            add(floor, is_floor);
        }
    }
    at_least("object_pool hot, vs best peer (a tie is the floor)", hot, 0.95, false);
    at_least("object_pool, other cells of one thread, vs best peer", others, 1.0, false);
    at_least("object_pool vs boost::pool", pools, 1.2, true);
    at_least("object_pool vs best malloc", general, 3, true);
    at_least("object_pool vs boost::object_pool, back at random", ordered, 30, false);
    at_least("concurrent pool, own 100 on two threads, vs mimalloc", mimalloc, 2, true);
    at_least("concurrent pool, own 100 on two threads, vs a mutex", lock, 50, true);
    at_least("concurrent pool, one makes, one ends, vs best malloc", sent, 1.5, true);
    if (!floor.empty()) {
        std::vector<double> values;
        for (auto const& one : floor) values.push_back(1 / one.first);
        double const mean = geometric_mean(values);
        figures.push_back(
            {"concurrent pool, one makes, one ends, vs the faster without a pool", "at most 1.20 x its time",
             number(mean) + " x (geometric mean); " +
                 number(*std::max_element(values.begin(), values.end())) + " x in the worst cell",
             mean <= 1.2});
    }
    auto const small = memory_of<payload<16>>(), large = memory_of<payload<256>>();
    figures.push_back({"object_pool, memory beyond the object, T of 16 and 256 bytes",
                       detail::checked ? "one word (a checked build)" : "0 bytes an object",
                       number(small.header) + " and " + number(large.header) +
                           " bytes; slack of full slabs " + number(small.slack) + " and " +
                           number(large.slack) + " bytes an object",
                       small.header == 0 && large.header == 0});
}

[[nodiscard]] nlohmann::json ratio_table(job const& of, std::vector<cell> const& cells) {
    std::vector<cell const*> mine;
    for (cell const& at : cells)
        if (at.of == &of) mine.push_back(&at);
    nlohmann::json columns = {"object", "cairn, ns"}, rows = nlohmann::json::array();
    for (auto const& name : mine.front()->result.names())
        if (name != our_name) columns.push_back(name + ", x");
    for (cell const* const at : mine) {
        nlohmann::json row = {{{"text", std::to_string(at->bytes) + " bytes"}},
                              {{"text", number(at->result.of(our_name).median)}}};
        for (auto const& name : at->result.names()) {
            if (name == our_name) continue;
            summary const ratio = at->result.ratio(name, our_name);
            row.push_back({{"text", number(ratio.median)},
                           {"spread", number(ratio.low) + " to " + number(ratio.high)}});
        }
        rows.push_back(row);
    }
    return {{"id", of.id}, {"title", of.title}, {"unit", ""}, {"columns", columns}, {"rows", rows}};
}

[[nodiscard]] grid chart_of(job const& of, std::vector<cell> const& cells) {
    grid chart(of.id, of.title, "ns per object", "bytes an object");
    bool declared = false;
    for (cell const& at : cells) {
        if (at.of != &of) continue;
        for (auto const& name : at.result.names()) {
            if (!declared)
                chart.column(name, name.starts_with(our_name) ? "ours" : is_peer(name) ? "peer" : "baseline");
        }
        declared = true;
        for (auto const& name : at.result.names())
            chart.add(static_cast<double>(at.bytes), name, at.result.of(name));
    }
    return chart;
}

}  // namespace

answer question_pool(context& ctx) {
    answer result;
    partner other;
    std::vector<std::unique_ptr<allocator_worker>> workers;
    std::string missing;
    struct library {
        char const *name, *file, *proof;
    };
    for (library const& one :
         {library{mallocs[0], "", ""}, library{mallocs[1], "libtcmalloc_minimal.so.4", "tc_version"},
          library{mallocs[2], "libjemalloc.so.2", "mallctl"},
          library{mallocs[3], "libmimalloc.so.2", "mi_version"}}) {
        auto worker = std::make_unique<allocator_worker>(one.name, one.file, one.proof);
        if (worker->usable())
            workers.push_back(std::move(worker));
        else
            missing += std::string(missing.empty() ? "" : ", ") + one.name;
    }

    std::vector<cell> cells;
    for (job const& of : jobs) {
        if (of.shared && !partner::possible()) continue;
        if (ctx.quick && of.task == pool_task::churn_large) continue;
        auto const measure_size = [&]<class T>(std::type_identity<T>) {
            progress("pool: " + std::string(of.title) + ", " + std::to_string(sizeof(T)) + " bytes");
            cells.push_back({&of, sizeof(T), measure(ctx, contest<T>(of, other, workers))});
        };
        measure_size(std::type_identity<payload<16>>{});
        measure_size(std::type_identity<payload<64>>{});
        measure_size(std::type_identity<payload<256>>{});
    }
    ctx.checked += cells.size() * objects_a_run;
    figures_of(cells, result.figures);

    auto& question = result.question;
    question = {{"id", "pool"},
                {"title", "What does it cost to make and end objects?"},
                {"tables", nlohmann::json::array()},
                {"charts", nlohmann::json::array()},
                {"sentences", nlohmann::json::array()}};
    question["intro"] = {
        "Time for one object: memory is taken, its first and last words are written and read, and the memory "
        "goes back. Ratios above 1 say how many times faster cairn was: the median over the rounds, and its "
        "quartiles.",
        "cairn is object_pool where there is one thread, concurrent_object_pool where there are two. Each "
        "malloc runs in a process of its own, in turn with the others."};
    if (!missing.empty()) question["intro"].push_back("Not installed here: " + missing + ".");
    for (job const& of : jobs) {
        if (std::none_of(cells.begin(), cells.end(), [&of](cell const& at) { return at.of == &of; }))
            continue;
        question["tables"].push_back(ratio_table(of, cells));
        std::vector<std::string> why;
        switch (of.task) {
            case pool_task::hot:
                why = {
                    "The slot that went back is the one that comes out. A store and a load of a pointer "
                    "are all that is left; an allocator must first find the size class and the thread."};
                break;
            case pool_task::churn_large:
                why = {
                    "The objects are not in the cache: what is measured is mostly the memory. A pool that "
                    "finds the next free slot by reading a free slot waits for memory once more."};
                break;
            case pool_task::cross:
                why = {
                    "The free slots go back by the depot, 64 at a time. \"no pool\" is the way of a pointer "
                    "and an object through the queue, with nothing made or ended."};
                break;
            default:
                break;
        }
        question["charts"].push_back(chart_of(of, cells).chart(why));
    }
    return result;
}

}  // namespace cairn::bench
