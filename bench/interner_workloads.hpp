// SPDX-License-Identifier: MIT
// What is done with an interner, the same for all: the strings, and the texts that are asked for.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "harness.hpp"
#include "interner_peers.hpp"

namespace cairn::bench::interners {

/// Texts to ask for: fresh copies, one after the other, as a parser finds them in what it has just read.
/// A window is more than twice as long as there are strings (to a million), so one untimed window brings most
/// of what an interner has into the caches, whatever the contestant before it left there.
class queries {
  public:
    queries(std::vector<std::string> const& texts, bool zipf, std::uint64_t seed)
        : window_(std::clamp(std::bit_ceil(2 * texts.size()), std::size_t{1} << 16, std::size_t{1} << 20)),
          windows_(texts.size() > 500'000 ? 2 : 4) {
        std::mt19937_64 random(seed);
        std::vector<std::uint32_t> rank(texts.size());  // which strings are frequent has no order
        for (std::size_t i = 0; i < rank.size(); ++i) rank[i] = static_cast<std::uint32_t>(i);
        std::shuffle(rank.begin(), rank.end(), random);
        std::vector<double> sums;
        if (zipf) {
            double sum = 0;
            for (std::size_t i = 1; i <= texts.size(); ++i) sums.push_back(sum += 1 / static_cast<double>(i));
        }
        which_.resize(window_ * windows_);
        std::size_t bytes = 0;
        for (std::uint32_t& one : which_) {
            std::size_t draw = random() % texts.size();
            if (zipf) {
                double const at = std::uniform_real_distribution<double>(0, sums.back())(random);
                auto const found = std::upper_bound(sums.begin(), sums.end(), at) - sums.begin();
                draw = std::min(static_cast<std::size_t>(found), texts.size() - 1);
            }
            one = rank[draw];
            bytes += texts[one].size();
        }
        bytes_.reserve(bytes);
        for (std::uint32_t const one : which_) {
            bytes_.append(texts[one]);
            texts_.emplace_back(bytes_.data() + bytes_.size() - texts[one].size(), texts[one].size());
        }
    }
    queries(queries const&) = delete;
    queries& operator=(queries const&) = delete;

    [[nodiscard]] std::size_t window() const noexcept { return window_; }
    [[nodiscard]] std::size_t size() const noexcept { return texts_.size(); }
    [[nodiscard]] std::string_view const* texts(std::size_t window) const noexcept {
        return texts_.data() + window % windows_ * window_;
    }
    /// Which strings they are.
    [[nodiscard]] std::uint32_t const* which(std::size_t window) const noexcept {
        return which_.data() + window % windows_ * window_;
    }

  private:
    std::size_t window_, windows_;
    std::vector<std::uint32_t> which_;
    std::string bytes_;
    std::vector<std::string_view> texts_;
};

/// Different strings, in random order, and queries for them.
struct data_set {
    std::string title;
    std::vector<std::string> texts;
    queries uniform{texts, false, 11};
    queries zipf{texts, true, 12};
};

enum class strings { words, tickers, urls, unique };

[[nodiscard]] inline std::unique_ptr<data_set> make_data_set(context const& ctx, strings kind) {
    std::mt19937_64 random(static_cast<std::uint64_t>(kind) + 1);
    auto const letters = [&random](std::size_t n, char first, std::uint64_t of) {
        std::string text(n, ' ');
        for (char& c : text) c = static_cast<char>(first + static_cast<char>(random() % of));
        return text;
    };
    std::unordered_set<std::string> all;
    std::string title;
    auto const fill = [&](std::size_t n, auto make) {
        while (all.size() < n) all.insert(make());
    };
    switch (kind) {
        case strings::words:
            title = "words";
            all.insert(ctx.keys.begin(), ctx.keys.end());
            break;
        case strings::tickers:  // most have 3 or 4 letters
            title = "tickers";
            fill(8'000, [&] {
                return letters(std::min(1 + random() % 2 + random() % 4, std::uint64_t{5}), 'A', 26);
            });
            break;
        case strings::urls:
            title = "URLs";
            fill(100'000, [&] {
                return "https://www.example-" + std::to_string(random() % 500) + ".com/" +
                       letters(6, 'a', 26) + "/article/" + letters(8, 'a', 26) +
                       "?id=" + std::to_string(random() % 1'000'000);
            });
            break;
        case strings::unique:
            title = "1 M unique";
            fill(1'000'000, [&] { return "session-" + letters(10, 'a', 26); });
            break;
    }
    std::vector<std::string> texts;
    texts.reserve(all.size());
    while (!all.empty()) texts.push_back(std::move(all.extract(all.begin()).value()));
    std::sort(texts.begin(), texts.end());
    std::shuffle(texts.begin(), texts.end(), random);
    auto const longest = std::max_element(texts.begin(), texts.end(),
                                          [](auto const& a, auto const& b) { return a.size() < b.size(); });
    if (longest->empty()) throw std::runtime_error("there is no string to intern");
    return std::unique_ptr<data_set>(new data_set{std::move(title), std::move(texts)});
}

/// An interner that has all strings of a data set. Throws where it is not what it should be.
template <class Interner>
class filled {
  public:
    using handle = typename Interner::handle;

    filled(context& ctx, data_set const& set) {
        for (std::string const& text : set.texts) handles_.push_back(interner_.intern(text));
        if constexpr (requires { interner_.all_are_in(); }) interner_.all_are_in();
        std::unordered_set<std::uint64_t> different;
        for (std::size_t i = 0; i < set.texts.size(); ++i) {
            require(different.insert(value(handles_[i])).second, set);
            require(interner_.view(handles_[i]) == set.texts[i], set);
        }
        for (queries const* const asked : {&set.uniform, &set.zipf})
            for (std::size_t i = 0; i < asked->window(); ++i)
                require(value(interner_.intern(asked->texts(0)[i])) == value(handles_[asked->which(0)[i]]),
                        set);
        ctx.checked += 2 * set.texts.size() + set.uniform.window() + set.zipf.window();
        for (std::size_t i = 0; i < set.uniform.size(); ++i)
            shuffled_.push_back(handles_[set.uniform.which(0)[i]]);
    }

    [[nodiscard]] std::uint64_t hits(queries const& asked, std::size_t window) {
        std::uint64_t sum = 0;
        std::string_view const* const texts = asked.texts(window);
        for (std::size_t i = 0; i < asked.window(); ++i) sum += value(interner_.intern(texts[i]));
        return sum;
    }
    /// By intern_n, a thousand at once.
    [[nodiscard]] std::uint64_t batch_hits(queries const& asked, std::size_t window)
        requires requires(Interner i) { i.base(); }
    {
        constexpr std::size_t at_once = 1'024;
        std::uint64_t sum = 0;
        symbols_.resize(at_once);
        for (std::size_t i = 0; i < asked.window(); i += at_once) {
            interner_.base().intern_n({asked.texts(window) + i, at_once}, symbols_);
            for (symbol const s : symbols_) sum += value(s);
        }
        return sum;
    }
    /// From handles in random order to their strings, whose ends are read.
    [[nodiscard]] std::uint64_t views(queries const& asked, std::size_t window) const {
        std::uint64_t sum = 0;
        handle const* const handles = shuffled_.data() + (asked.which(window) - asked.which(0));
        for (std::size_t i = 0; i < asked.window(); ++i) {
            std::string_view const text = interner_.view(handles[i]);
            sum += text.size() + static_cast<unsigned char>(text.front()) +
                   static_cast<unsigned char>(text.back());
        }
        return sum;
    }

  private:
    static void require(bool right, data_set const& set) {
        require_equal(1, right, Interner::name, set.title);
    }
    Interner interner_;
    std::vector<handle> handles_;   // of the strings, in their order
    std::vector<handle> shuffled_;  // of the uniform queries
    std::vector<symbol> symbols_;
};

}  // namespace cairn::bench::interners
