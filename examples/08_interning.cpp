// SPDX-License-Identifier: MIT
// Chapter 8. Interning. Each string is stored once, and a number stands for it: which strings is that for?
//
// A million log lines name the same few hundred hosts. As strings they are a million copies, and each
// question about them compares characters. So a lecture says: keep each different string once, and hand out
// a number for it. This program builds that interner, breaks it to see what its second look is for, weighs
// what it saves against what each call costs, and ends with the strings that should never go in. Correctness
// and bytes are asserted, time is only reported.
#include <cairn/concurrent_string_interner.hpp>
#include <cairn/string_interner.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iomanip>
#include <iostream>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory/counting_allocator.hpp"

namespace {

int failures = 0;

void check(bool holds, std::string const& claim) {
    std::cout << (holds ? "  holds: " : "  WRONG: ") << claim << '\n';
    failures += !holds;
}

// ---- The smallest interner that works: the lecture's. ----

struct nothing {
    void operator()() const {}
};

/// A map from strings to numbers under a read-write lock. Readers go in together, a writer alone. A read lock
/// cannot become a write lock, so between the two there is a gap: `in_the_gap` is called there.
template <bool SecondLook>
class lecture_interner {
  public:
    template <class Gap = nothing>
    std::size_t intern(std::string const& text, Gap in_the_gap = {}) {
        {
            std::shared_lock const reading(mutex_);
            if (auto const found = numbers_.find(text); found != numbers_.end()) return found->second;
        }
        in_the_gap();
        std::lock_guard const writing(mutex_);
        if constexpr (SecondLook)
            if (auto const found = numbers_.find(text); found != numbers_.end()) return found->second;
        strings_.push_back(text);
        return numbers_[text] = strings_.size() - 1;
    }
    std::size_t size() const { return strings_.size(); }

  private:
    std::shared_mutex mutex_;
    std::unordered_map<std::string, std::size_t> numbers_;
    std::deque<std::string> strings_;
};

/// Two threads intern the same new string, and the other one goes through the whole of it while the first is
/// in the gap. On a real machine that happens now and then; here it happens each time.
template <bool SecondLook>
bool both_get_one_number() {
    lecture_interner<SecondLook> names;
    std::size_t theirs = 0;
    std::size_t const mine = names.intern("host-7", [&] {
        std::thread other([&] { theirs = names.intern("host-7"); });
        other.join();
    });
    std::cout << "  " << (SecondLook ? "with the second look:    " : "without the second look: ")
              << "one thread has number " << mine << ", the other " << theirs << "; \"host-7\" is stored "
              << names.size() << (names.size() == 1 ? " time\n" : " times\n");
    return mine == theirs && names.size() == 1;
}

/// cairn's, without a gap to wait in: two threads run over the same new names.
void race_for_new_names() {
    constexpr std::size_t n = 5'000;
    cairn::concurrent_string_interner names;
    auto const intern_all = [&names] {
        std::vector<cairn::symbol> symbols;
        for (std::size_t i = 0; i < n; ++i) symbols.push_back(names.intern("host-" + std::to_string(i)));
        return symbols;
    };
    std::vector<cairn::symbol> theirs;
    std::thread other([&] { theirs = intern_all(); });
    std::vector<cairn::symbol> const mine = intern_all();
    other.join();
    check(mine == theirs && names.size() == n,
          "two threads that race through cairn::concurrent_string_interner get the same symbols");
}

// ---- Memory. ----

using memory::bytes_held, memory::counting_allocator;
using counted_string = std::basic_string<char, std::char_traits<char>, counting_allocator<char>>;
template <class T>
using counted_vector = std::vector<T, counting_allocator<T>>;

double kib(std::size_t bytes) { return static_cast<double>(bytes) / 1024.0; }
double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

std::vector<std::string> numbered(std::string const& before, std::size_t n, std::string const& after = "") {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < n; ++i) all.push_back(before + std::to_string(i) + after);
    return all;
}

/// A million records with a field that has 500 values: the field as a std::string, and as a symbol. The bytes
/// are those that were asked for; what malloc adds to each is not counted.
void a_million_records(char const* what, std::vector<std::string> const& values) {
    constexpr std::size_t records = 1'000'000;
    auto const value = [&](std::size_t record) -> std::string const& {
        return values[record * 7'919 % values.size()];
    };
    double as_strings = 0;
    bool same = true;
    cairn::string_interner interner;
    std::vector<cairn::symbol> symbols(records);
    {
        counted_vector<counted_string> strings;
        strings.reserve(records);
        for (std::size_t i = 0; i < records; ++i) {
            strings.emplace_back(value(i));
            symbols[i] = interner.intern(value(i));
        }
        as_strings = mib(bytes_held);
        for (std::size_t i = 0; i < records; ++i)
            same = same && interner.view(symbols[i]) == std::string_view(strings[i]);
    }
    double const as_symbols = mib(records * sizeof(cairn::symbol) + interner.memory());
    std::cout << "  " << std::left << std::setw(36) << what << std::right << std::setw(10) << as_strings
              << " MiB" << std::setw(10) << as_symbols << " MiB" << std::setw(10) << as_strings / as_symbols
              << " x\n";
    check(same && interner.size() == values.size(),
          "every record says the same, and each value is stored once");
    check(as_symbols * 5 < as_strings, "symbols take less than a fifth");
}

// ---- Time. ----

template <class Work>
double nanoseconds_each(std::size_t n, Work work) {
    auto const begin = std::chrono::steady_clock::now();
    work();
    std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - begin;
    return took.count() / static_cast<double>(n);
}
double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}
constexpr int rounds = 9;

/// Contestants by workloads, run by turns: a slow moment of the machine hits all.
class table {
  public:
    explicit table(std::vector<std::string> columns) : columns_(std::move(columns)) {}
    void took(std::size_t row, std::size_t column, double nanoseconds) {
        took_.resize(std::max(took_.size(), row + 1), std::vector<std::vector<double>>(columns_.size()));
        took_[row][column].push_back(nanoseconds);
    }
    void print(std::vector<std::string> const& rows) const {
        std::cout << std::string(36, ' ');
        for (auto const& column : columns_) std::cout << std::setw(16) << column;
        for (std::size_t row = 0; row < rows.size(); ++row) {
            std::cout << "\n  " << std::left << std::setw(34) << rows[row] << std::right;
            for (auto const& values : took_[row])
                if (values.empty())
                    std::cout << std::setw(16) << "-";
                else
                    std::cout << std::setw(16) << median(values);
        }
        std::cout << '\n';
    }
    double of(std::size_t row, std::size_t column) const { return median(took_[row][column]); }
    /// How many times faster row b was than row a: of the same round, for the machine may be fast in one and
    /// slow in the next.
    double gain(std::size_t a, std::size_t b, std::size_t column) const {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < took_[a][column].size(); ++i)
            ratios.push_back(took_[a][column][i] / took_[b][column][i]);
        return median(ratios);
    }

  private:
    std::vector<std::string> columns_;
    std::vector<std::vector<std::vector<double>>> took_;
};

/// How many records name the same host as the one before? Of 100,000, with hosts of one length that differ at
/// the end, as hosts do. Returns the ns that a comparison of symbols saves.
double compare_columns() {
    constexpr std::size_t records = 100'000;
    std::vector<std::string> hosts;
    for (std::size_t i = 0; i < 10; ++i) hosts.push_back("frontend.eu-west.example-" + std::to_string(i));
    std::mt19937_64 random{6};
    cairn::string_interner interner;
    std::vector<std::string> strings;
    std::vector<cairn::symbol> symbols;
    for (std::size_t i = 0; i < records; ++i) {
        strings.push_back(hosts[random() % hosts.size()]);
        symbols.push_back(interner.intern(strings.back()));
    }
    auto const repeats = [](auto const& column) {
        std::size_t n = 0;
        for (std::size_t i = 1; i < column.size(); ++i) n += column[i] == column[i - 1];
        return n;
    };
    std::size_t by_strings = 0;
    std::size_t by_symbols = 0;
    table times({"a comparison"});
    for (int round = 0; round < rounds; ++round) {
        times.took(0, 0, nanoseconds_each(records, [&] { by_strings = repeats(strings); }));
        times.took(1, 0, nanoseconds_each(records, [&] { by_symbols = repeats(symbols); }));
    }
    times.print({"std::string == std::string", "symbol == symbol"});
    std::cout << std::setprecision(2) << "  In this run symbols were " << times.gain(0, 1, 0)
              << " x as fast. That is what the entrance fee buys.\n"
              << std::setprecision(1);
    check(by_strings == by_symbols, "symbols are equal exactly where strings are");
    return times.of(0, 0) - times.of(1, 0);
}

/// What a thread does: interns each text. Returns a sum, for the numbers to be used.
template <class Interner>
std::uint64_t intern_all(Interner& interner, std::vector<std::string> const& texts) {
    std::uint64_t sum = 0;
    for (std::string const& text : texts)
        if constexpr (requires { interner.intern(text).value(); })
            sum += interner.intern(text).value();
        else
            sum += interner.intern(text);
    return sum;
}

/// ns for each text, by one thread or by two at once: the mean of the two.
template <class Interner>
double time_hits(Interner& interner, std::vector<std::string> const& texts, int threads) {
    std::atomic<int> not_here{threads};
    std::atomic<std::uint64_t> sum{0};
    auto const one = [&] {
        --not_here;
        while (not_here != 0) std::this_thread::yield();
        return nanoseconds_each(texts.size(), [&] { sum += intern_all(interner, texts); });
    };
    if (threads == 1) return one();
    double theirs = 0;
    std::thread other([&] { theirs = one(); });
    double const mine = one();
    other.join();
    return (mine + theirs) / 2;
}

/// The entrance fee: texts that are there already, as nearly all are.
void the_entrance_fee(double saved) {
    auto const known = numbered("/api/v2/customers/", 5'000, "/orders");
    std::mt19937_64 random{5};
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < 20'000; ++i) texts.push_back(known[random() % known.size()]);

    lecture_interner<true> lecture;
    cairn::string_interner single;
    cairn::concurrent_string_interner concurrent;
    (void)intern_all(lecture, known);
    (void)intern_all(single, known);
    (void)intern_all(concurrent, known);
    table times({"one thread", "two threads"});
    for (int round = 0; round < rounds; ++round) {
        times.took(0, 0, time_hits(lecture, texts, 1));
        times.took(1, 0, time_hits(single, texts, 1));
        times.took(2, 0, time_hits(concurrent, texts, 1));
        times.took(0, 1, time_hits(lecture, texts, 2));
        times.took(2, 1, time_hits(concurrent, texts, 2));
    }
    times.print(
        {"the lecture's, with its RWMutex", "cairn::string_interner", "cairn::concurrent_string_interner"});
    std::cout << std::setprecision(2) << "  In this run: string_interner was " << times.gain(0, 1, 0)
              << " x as fast as the lecture's on one thread,\n  concurrent_string_interner "
              << times.gain(0, 2, 0) << " x on one and " << times.gain(0, 2, 1)
              << " x on two.\n"
                 "  A read lock is a counter that every reader writes: the readers that were to go in "
                 "together queue\n  for its cache line. cairn's readers write nothing.\n"
              << std::setprecision(1);
    if (saved > 0)
        std::cout << "  A comparison saves " << saved
                  << " ns (part 3), so a string has paid for its entrance after " << times.of(1, 0) / saved
                  << " comparisons.\n";
    check(
        lecture.size() == known.size() && single.size() == known.size() && concurrent.size() == known.size(),
        "a hit stores nothing");
}

// ---- When not to intern. ----

/// Request numbers: each is seen once, and asked one question.
void seen_once() {
    constexpr std::size_t n = 10'000;
    std::string lines;  // as they come from the network
    std::vector<std::string_view> numbers;
    for (std::size_t i = 0; i < n; ++i) lines += "request-" + std::to_string(1'000'000'000'000 + i) + '\n';
    for (std::size_t at = 0; at < lines.size(); at = lines.find('\n', at) + 1)
        numbers.push_back(std::string_view(lines).substr(at, lines.find('\n', at) - at));

    std::vector<std::size_t> odd(3);
    std::size_t held = 0;
    auto const is_odd = [](std::string_view number) { return (number.back() - '0') % 2 != 0; };
    table times({"a string"});
    for (int round = 0; round < rounds; ++round) {
        odd.assign(3, 0);
        times.took(0, 0, nanoseconds_each(n, [&] {
                       for (std::string_view const number : numbers) odd[0] += is_odd(number);
                   }));
        times.took(1, 0, nanoseconds_each(n, [&] {
                       for (std::string_view const number : numbers) odd[1] += is_odd(std::string(number));
                   }));
        cairn::string_interner interner;
        times.took(2, 0, nanoseconds_each(n, [&] {
                       for (std::string_view const number : numbers)
                           odd[2] += is_odd(interner.view(interner.intern(number)));
                   }));
        held = interner.memory();
    }
    times.print({"look at it where it lies", "copy it to a std::string", "intern it"});
    std::cout << std::setprecision(2) << "  In this run interning took " << times.gain(2, 1, 0)
              << " times as long as a std::string that is made and thrown away,\n  and it still holds "
              << std::setprecision(1) << kib(held) << " KiB when the requests are gone.\n";
    check(odd[0] == n / 2 && odd[1] == n / 2 && odd[2] == n / 2, "all three gave the same answer");
    check(held > lines.size(), "strings that are seen once are all kept, and more");
}

/// Sessions come and go; only the last generation is alive.
void to_be_forgotten() {
    constexpr std::size_t alive = 2'000;
    using counted_set = std::set<counted_string, std::less<>, counting_allocator<counted_string>>;
    counted_set sessions;
    cairn::string_interner forever;
    cairn::string_interner generation;
    std::vector<std::size_t> kept, set_bytes, generation_bytes;
    std::cout << "  generations    strings alive    held by a std::set    by an interner    by one that is "
                 "cleared\n";
    for (std::size_t day = 1; day <= 20; ++day) {
        sessions.clear();
        generation.clear();
        for (std::size_t i = 0; i < alive; ++i) {
            std::string const session = "session-" + std::to_string(1'000'000'000 + day * alive + i);
            sessions.emplace(session);
            forever.intern(session);
            generation.intern(session);
        }
        set_bytes.push_back(bytes_held);
        kept.push_back(forever.memory());
        generation_bytes.push_back(generation.memory());
        if (day == 1 || day == 5 || day == 20)
            std::cout << std::setw(13) << day << std::setw(17) << sessions.size() << std::setw(18)
                      << kib(bytes_held) << " KiB" << std::setw(14) << kib(kept.back()) << " KiB"
                      << std::setw(19) << kib(generation_bytes.back()) << " KiB\n";
    }
    check(forever.size() == 20 * alive && std::is_sorted(kept.begin(), kept.end()) &&
              kept.back() > 10 * kept.front(),
          "an interner's memory never shrinks, though 19 of 20 strings are dead");
    check(set_bytes.back() == set_bytes.front() && generation_bytes.back() < 2 * generation_bytes.front(),
          "what can forget stays as it was: a set, or an interner for each generation, cleared whole");
}

/// Takes in strings from outside, up to a length and a number of them. What is beyond has no symbol, and has
/// to be treated as all other unknown names are.
class guarded_interner {
  public:
    guarded_interner(std::size_t most, std::size_t longest) : most_(most), longest_(longest) {}
    std::optional<cairn::symbol> intern(std::string_view text) {
        if (auto const known = names_.find(text)) return known;
        if (text.size() > longest_ || names_.size() == most_) return std::nullopt;
        return names_.intern(text);
    }
    std::size_t size() const { return names_.size(); }
    std::size_t memory() const { return names_.memory(); }

  private:
    cairn::string_interner names_;
    std::size_t most_, longest_;
};

/// A stranger sends a header that nobody has heard of with each request. (Strings that all have one hash
/// would be another attack; against that, each interner's hash has a random seed.)
void an_attacker() {
    constexpr std::size_t requests = 100'000;
    cairn::string_interner all;
    cairn::string_interner known_only;
    guarded_interner guarded(1'000, 64);
    for (char const* const header : {"accept", "content-type", "host", "user-agent"}) {
        all.intern(header);
        known_only.intern(header);
        (void)guarded.intern(header);
    }
    std::size_t const before = known_only.memory();
    std::size_t found = 0;
    for (std::size_t i = 0; i < requests; ++i) {
        std::string const header = "x-" + std::to_string(i) + "-and-some-padding-to-make-it-long";
        all.intern(header);
        found += known_only.contains(header);
        (void)guarded.intern(header);
    }
    std::cout << "  after " << requests << " made-up headers:\n"
              << "    intern() whatever comes           " << std::setw(8) << all.size() << " strings"
              << std::setw(8) << kib(all.memory()) << " KiB, and growing to 4 GiB\n"
              << "    a limit on number and length      " << std::setw(8) << guarded.size() << " strings"
              << std::setw(8) << kib(guarded.memory()) << " KiB\n"
              << "    find() only what we put in        " << std::setw(8) << known_only.size() << " strings"
              << std::setw(8) << kib(known_only.memory()) << " KiB\n";
    check(all.size() == requests + 4, "who interns what strangers send keeps it for ever");
    check(guarded.size() == 1'000 && guarded.memory() < 256 * 1'024 && guarded.intern("host").has_value(),
          "a limit bounds it, and what was known before stays known");
    check(found == 0 && known_only.size() == 4 && known_only.memory() == before, "find() takes no memory");
}

}  // namespace

int main() {
    std::cout << std::fixed << std::setprecision(1);

    std::cout << "1. The lecture's interner: why it looks twice\n";
    check(!both_get_one_number<false>(), "without the second look, one string can have two numbers");
    check(both_get_one_number<true>(), "with it, a string has one");
    race_for_new_names();

    std::cout << "\n2. What it saves: a million records whose field has 500 values\n"
              << std::string(38, ' ') << "as std::string    as symbols\n";
    a_million_records("codes of 3 digits or less", numbered("", 500));
    a_million_records("paths of 26 to 28 characters", numbered("/api/v2/customers/", 500, "/orders"));

    std::cout << "\n3. What it saves: ns for a comparison of two hosts (median of 9 rounds)\n";
    double const saved = compare_columns();

    std::cout << "\n4. What it costs: ns to intern a path of 26 to 29 characters that is there already\n";
    if (std::thread::hardware_concurrency() < 2)
        std::cout << "  One core only: the threads take turns, and the last column says little.\n";
    the_entrance_fee(saved);

    std::cout << "\n5. When not: strings that are seen once\n";
    seen_once();

    std::cout << "\n6. When not: strings that must be forgotten\n";
    to_be_forgotten();

    std::cout << "\n7. When not: strings that strangers choose\n";
    an_attacker();

    std::cout
        << "\nThe trade-off: an interner costs a hash and a lookup at the entrance, and memory that is "
           "never\n"
           "given back. It buys references of "
        << sizeof(cairn::symbol)
        << " bytes, and comparisons of one instruction. It pays where the same\n"
           "strings come again and are kept or compared, where there are not too many, and where you choose\n"
           "them. One thread: string_interner; several: concurrent_string_interner. cairn-compare interner "
           "has\n"
           "the others. So far all has stayed in memory. What leaves it must wait for a disk: chapter 9.\n";
    // Exercises (answers: README.md):
    // 1. In lecture_interner, replace the last two lines of intern() by numbers_.try_emplace(...). Is the
    //    second look gone, or has it moved? What is left in strings_?
    // 2. Write symbols to a file and read them in another run, after interning in another order. What breaks,
    //    and what should the file hold instead?
    // 3. Sort a million records by host: by string, by symbol, and by symbol in the order of the alphabet.
    return failures == 0 ? 0 : 1;
}
