// SPDX-License-Identifier: MIT
#include <cairn/shared_ring.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using ring = cairn::hash_ring<std::string>;
using shared = cairn::shared_ring<ring>;

static_assert(!std::is_copy_constructible_v<shared> && !std::is_move_constructible_v<shared>);
static_assert(!std::is_copy_constructible_v<shared::reader> && !std::is_move_constructible_v<shared::reader>);
static_assert(!std::is_copy_assignable_v<shared::reader> && !std::is_move_assignable_v<shared::reader>);
static_assert(noexcept(std::declval<shared::reader&>().get()));

/// Something to share that knows how many of it there are, and which threads destroy it.
class witness {
  public:
    explicit witness(int number = 0) : value(number) { ++alive; }
    witness(witness const& other) : value(other.value) {
        if (fail_copies) throw std::bad_alloc();
        ++alive;
    }
    witness(witness&& other) noexcept : value(other.value) { ++alive; }
    witness& operator=(witness const&) = delete;
    ~witness() {
        --alive;
        std::lock_guard const lock(mutex);
        destroyers.insert(std::this_thread::get_id());
    }

    int value;
    static inline std::atomic<int> alive{0};
    static inline std::atomic<bool> fail_copies{false};
    static inline std::mutex mutex;
    static inline std::set<std::thread::id> destroyers;
};

TEST(SharedRing, ReadersSeeTheInitialRing) {
    shared const one(ring{"a", "b", "c"});
    shared::reader reader{one};
    ring const plain{"a", "b", "c"};
    for (int key = 0; key < 1000; ++key) ASSERT_EQ(reader.find(key), plain.find(key));
    EXPECT_EQ(one.version(), 0u);
    EXPECT_EQ(reader.version(), 0u);
}

TEST(SharedRing, AnEmptyOneIsTheDefault) {
    cairn::shared_ring<> one;
    auto reader = one.make_reader();
    EXPECT_TRUE(reader.get().empty());
    EXPECT_EQ(reader.try_find("key"), nullptr);
    std::array<std::string const*, 2> out{};
    EXPECT_EQ(reader.find_n("key", out), 0u);
}

TEST(SharedRing, ReadersOlderAndYoungerThanAnUpdateSeeItAtTheirNextCall) {
    shared one(ring{"a"});
    auto older = one.make_reader();
    EXPECT_EQ(older.find("key"), "a");
    one.update([](ring& next) {
        next.add("b");
        next.remove("a");
    });
    auto younger = one.make_reader();
    EXPECT_EQ(younger.find("key"), "b");
    EXPECT_EQ(older.version(), 0u);  // it has not called since
    EXPECT_EQ(older.find("key"), "b");
    EXPECT_EQ(*older.try_find("key"), "b");
    EXPECT_EQ(older.version(), 1u);
    EXPECT_EQ(younger.version(), 1u);
}

TEST(SharedRing, FindNForwardsToTheRing) {
    shared one(ring{"a", "b", "c"});
    auto reader = one.make_reader();
    for (int key = 0; key < 100; ++key) {
        std::array<std::string const*, 2> expected{}, found{};
        ASSERT_EQ(reader.find_n(key, found), 2u);
        one.snapshot()->find_n(key, expected);
        ASSERT_EQ(found, expected);
    }
}

TEST(SharedRing, AnExceptionFromTheChangePublishesNothing) {
    shared one(ring{"a", "b"});
    auto reader = one.make_reader();
    ring const* const before = &reader.get();
    EXPECT_THROW(one.update([](ring& next) {
        next.add("c");
        next.add("a");  // a duplicate
    }),
                 std::invalid_argument);
    EXPECT_THROW(one.update([](ring&) { throw 7; }), int);
    EXPECT_EQ(one.version(), 0u);
    EXPECT_EQ(&reader.get(), before);
    EXPECT_EQ(one.snapshot().get(), before);
    EXPECT_EQ(one.retired(), 0u);
    EXPECT_FALSE(reader.get().contains("c"));
    one.update([](ring& next) { next.add("c"); });  // and no lock was left behind
    EXPECT_TRUE(reader.get().contains("c"));
}

TEST(SharedRing, AFailingCopyPublishesNothing) {
    cairn::shared_ring one(witness{1});
    witness::fail_copies = true;
    bool called = false;
    EXPECT_THROW(one.update([&](witness&) { called = true; }), std::bad_alloc);
    witness::fail_copies = false;
    EXPECT_FALSE(called);
    EXPECT_EQ(one.version(), 0u);
    EXPECT_EQ(one.snapshot()->value, 1);
}

TEST(SharedRing, AReplacedRingWithoutReadersIsFreedByTheUpdateItself) {
    {
        cairn::shared_ring one(witness{0});
        for (int i = 1; i <= 10; ++i) {
            one.update([i](witness& next) { next.value = i; });
            ASSERT_EQ(one.retired(), 0u);
            ASSERT_EQ(witness::alive, 1);
        }
    }
    EXPECT_EQ(witness::alive, 0);
}

TEST(SharedRing, AnIdleReaderKeepsExactlyOneOldRing) {
    cairn::shared_ring one(witness{0});
    auto idle = one.make_reader();
    for (int i = 1; i <= 10; ++i) {
        one.update([i](witness& next) { next.value = i; });
        ASSERT_EQ(one.retired(), 1u);
        ASSERT_EQ(witness::alive, 2);
    }
    EXPECT_EQ(one.collect(), 0u);  // still in use
    EXPECT_EQ(idle.get().value, 10);
    EXPECT_EQ(witness::alive, 2);  // the reader has let it go, but does not free it
    EXPECT_EQ(one.collect(), 1u);
    EXPECT_EQ(witness::alive, 1);
    EXPECT_EQ(one.retired(), 0u);
}

TEST(SharedRing, ReadersThatStoppedAtDifferentVersionsKeepOneRingEach) {
    cairn::shared_ring one(witness{0});
    std::vector<std::unique_ptr<cairn::shared_ring<witness>::reader>> idle;
    for (std::size_t i = 1; i <= 5; ++i) {
        idle.push_back(std::make_unique<cairn::shared_ring<witness>::reader>(one));
        one.update([](witness& next) { ++next.value; });
        ASSERT_EQ(one.retired(), i);
    }
    idle.erase(idle.begin() + 1);
    idle.erase(idle.begin() + 2);
    EXPECT_EQ(one.collect(), 2u);
    EXPECT_EQ(one.retired(), 3u);
    idle.clear();
    EXPECT_EQ(one.collect(), 3u);
    EXPECT_EQ(witness::alive, 1);
}

TEST(SharedRing, AReleasedReaderKeepsNothingAndComesBackToTheNewestRing) {
    cairn::shared_ring one(witness{0});
    auto reader = one.make_reader();
    reader.release();
    EXPECT_EQ(reader.version(), reader.no_version);
    one.update([](witness& next) { next.value = 1; });
    EXPECT_EQ(one.retired(), 0u);
    EXPECT_EQ(witness::alive, 1);
    EXPECT_EQ(reader.get().value, 1);
    EXPECT_EQ(reader.version(), 1u);
    reader.release();
    reader.release();  // a second time is nothing
    EXPECT_EQ(reader.refresh().value, 1);
    EXPECT_EQ(reader.version(), 1u);
}

TEST(SharedRing, ASnapshotOutlivesUpdatesAndTheSharedRing) {
    std::shared_ptr<ring const> kept;
    {
        shared one(ring{"a"});
        kept = one.snapshot();
        one.update([](ring& next) { next.add("b"); });
        EXPECT_EQ(one.retired(), 1u);
    }
    EXPECT_EQ(kept->size(), 1u);
    EXPECT_EQ(kept->find("key"), "a");
}

TEST(SharedRing, AReferenceStaysValidUntilTheReadersNextCall) {
    shared one(ring{"a"});
    auto reader = one.make_reader();
    std::string const& found = reader.find("key");
    for (int i = 0; i < 20; ++i) one.update([i](ring& next) { next.add("n" + std::to_string(i)); });
    one.collect();
    EXPECT_EQ(found, "a");  // AddressSanitizer would see a freed ring
}

// A reader that had to wait for the change would never let the latch open, and the test would hang.
TEST(SharedRing, AReaderGoesOnWhileAChangeRuns) {
    constexpr std::ptrdiff_t lookups = 1000;
    shared one(ring{"a", "b"});
    std::latch changing(1), looked_up(lookups);
    std::thread reading([&] {
        auto reader = one.make_reader();
        changing.wait();
        for (std::ptrdiff_t i = 0; i < lookups; ++i) {
            EXPECT_NE(reader.find(i), "c");
            EXPECT_EQ(one.make_reader().version(), 0u);  // nor does a new reader wait,
            EXPECT_EQ(one.snapshot()->size(), 2u);       // nor a snapshot
            looked_up.count_down();
        }
    });
    one.update([&](ring& next) {
        next.add("c");
        changing.count_down();
        looked_up.wait();
    });
    reading.join();
    EXPECT_EQ(one.version(), 1u);
    EXPECT_EQ(one.snapshot()->size(), 3u);
}

// What is checked, at every lookup: the answer is the one that the ring of the reader's version gives. The
// writer writes it down before it publishes, in plain memory: that the readers may read it there without a
// race is itself what publishing must bring about, and ThreadSanitizer checks it.
TEST(SharedRing, EveryLookupUnderChurnAnswersFromOnePublishedVersion) {
    constexpr std::size_t updates = 300, keys = 64, reader_count = 3;
    constexpr std::uint64_t seed = 20260102;
    struct written_down {
        std::uint64_t fingerprint = 0;
        std::array<std::string, keys> owners;
    };
    std::vector<written_down> published(updates + 1);
    auto const write_down = [&](std::size_t version, ring const& next) {
        published[version].fingerprint = next.fingerprint();
        for (std::size_t key = 0; key < keys; ++key) published[version].owners[key] = next.find(key);
    };
    ring initial{cairn::virtual_nodes<>{20}};
    for (int i = 0; i < 5; ++i) initial.add("n" + std::to_string(i));
    write_down(0, initial);
    shared one(std::move(initial));

    struct report {
        std::size_t lookups = 0, wrong_owner = 0, wrong_ring = 0, went_back = 0, versions = 0;
        std::uint64_t last = 0;
    };
    std::array<report, reader_count> reports;
    std::atomic<bool> done{false};
    std::atomic<std::size_t> rounds{0};
    auto const read = [&](report& mine) {
        auto reader = one.make_reader();
        mine.last = reader.version();
        for (bool more = true; more;) {
            more = !done.load();
            if (!more) reader.refresh();  // the last round must see the last update
            for (std::size_t key = 0; key < keys; ++key) {
                std::string const& owner = reader.find(key);
                std::uint64_t const version = reader.version();
                mine.wrong_owner += owner != published[version].owners[key];
                mine.went_back += version < mine.last;
                if (version != mine.last) {
                    ++mine.versions;
                    ring const& whole = reader.get();
                    mine.wrong_ring += whole.fingerprint() != published[reader.version()].fingerprint;
                }
                mine.last = version;
                ++mine.lookups;
                if (mine.lookups % 1000 == 0) reader.release();
            }
            ++rounds;
        }
    };
    std::vector<std::thread> threads;
    for (report& mine : reports) threads.emplace_back(read, std::ref(mine));
    threads.emplace_back([&] {  // somebody who takes the short lock all the time
        while (!done.load()) {
            std::shared_ptr<ring const> const now = one.snapshot();
            EXPECT_FALSE(now->empty());
        }
    });

    std::mt19937_64 random{seed};
    std::size_t waiting = 0;
    for (std::size_t i = 1; i <= updates; ++i) {
        one.update([&](ring& next) {
            bool const remove = next.size() == 12 || (next.size() > 2 && random() % 2 == 0);
            if (remove)
                next.remove(std::string(next.node(random() % next.size())));
            else
                next.add("n" + std::to_string(4 + i), 1 + static_cast<std::int64_t>(random() % 3));
            write_down(i, next);
        });
        waiting = std::max(waiting, one.retired());
        std::size_t const before = rounds.load();
        while (i % 4 == 0 && rounds.load() == before)
            std::this_thread::yield();  // let readers come in between
    }
    done = true;
    for (std::thread& thread : threads) thread.join();

    for (report const& mine : reports) {
        EXPECT_GT(mine.lookups, 0u);
        EXPECT_EQ(mine.wrong_owner, 0u) << "seed " << seed;
        EXPECT_EQ(mine.wrong_ring, 0u) << "seed " << seed;
        EXPECT_EQ(mine.went_back, 0u) << "seed " << seed;
        EXPECT_EQ(mine.last, updates);
        EXPECT_GT(mine.versions, 0u);
    }
    EXPECT_LE(waiting, reader_count + 1);  // one for each reader, one for the snapshot
    EXPECT_EQ(one.version(), updates);
    one.collect();
    EXPECT_EQ(one.retired(), 0u);
}

TEST(SharedRing, NoReaderEverDestroysARing) {
    std::set<std::thread::id> readers;
    {
        cairn::shared_ring one(witness{0});
        std::atomic<bool> done{false};
        std::atomic<int> seen{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i)
            threads.emplace_back([&] {
                auto reader = one.make_reader();
                for (int last = 0; !done.load();) {
                    int const value = reader.get().value;
                    EXPECT_GE(value, last);
                    if (value != last) ++seen;
                    last = value;
                }
            });
        for (std::thread const& thread : threads) readers.insert(thread.get_id());
        {
            std::lock_guard const lock(witness::mutex);
            witness::destroyers.clear();
        }
        for (int i = 1; i <= 300; ++i) {
            int const before = seen.load();
            one.update([i](witness& next) { next.value = i; });
            while (seen.load() == before) std::this_thread::yield();  // at least one reader moves on
        }
        done = true;
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(witness::alive, 1 + static_cast<int>(one.retired()));
    }
    EXPECT_EQ(witness::alive, 0);
    EXPECT_TRUE(witness::destroyers.contains(std::this_thread::get_id()));
    for (std::thread::id const reader : readers) EXPECT_FALSE(witness::destroyers.contains(reader));
}

TEST(SharedRing, WritersTakeTurnsAndNoChangeIsLost) {
    shared one;
    std::vector<std::thread> writers;
    for (int writer = 0; writer < 3; ++writer)
        writers.emplace_back([&one, writer] {
            for (int i = 0; i < 30; ++i)
                one.update([&](ring& next) { next.add(std::to_string(writer) + ":" + std::to_string(i)); });
        });
    for (std::thread& writer : writers) writer.join();
    EXPECT_EQ(one.version(), 90u);
    ring expected;
    for (int writer = 0; writer < 3; ++writer)
        for (int i = 0; i < 30; ++i) expected.add(std::to_string(writer) + ":" + std::to_string(i));
    EXPECT_EQ(one.snapshot()->fingerprint(), expected.fingerprint());
}

// The write before the update and the read after version() are in plain memory: a race if version() did
// not order them.
TEST(SharedRing, WhoReadsAVersionSeesWhatHappenedBeforeIt) {
    cairn::shared_ring one(witness{0});
    int note = 0;
    std::thread writer([&] {
        note = 42;
        one.update([](witness& next) { next.value = 1; });
    });
    auto reader = one.make_reader();
    while (one.version() == 0) std::this_thread::yield();
    EXPECT_EQ(note, 42);
    EXPECT_EQ(reader.refresh().value, 1);
    writer.join();
}

#if !defined(NDEBUG) || defined(CAIRN_HARDENED)
TEST(SharedRingDeathTest, AReaderMustNotOutliveTheSharedRing) {
    EXPECT_DEATH(
        {
            auto one = std::make_unique<cairn::shared_ring<int>>(7);
            auto reader = one->make_reader();
            one.reset();
        },
        "broken contract");
}
#endif

}  // namespace
