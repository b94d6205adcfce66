// SPDX-License-Identifier: MIT
// The interners that are compared, all with one face: `intern(text)` gives a handle, the same for equal
// strings, and `view(handle)` the string. Each peer has its own hash, and stores its strings as its users do.
#pragma once

#include <cairn/concurrent_string_interner.hpp>
#include <cairn/string_interner.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#if defined(CAIRN_BENCH_HAVE_ABSL)
#include <absl/container/flat_hash_map.h>
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST)
#include <boost/flyweight.hpp>
#include <boost/flyweight/no_locking.hpp>
#include <boost/flyweight/no_tracking.hpp>
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST_FLAT)
#include <boost/unordered/unordered_flat_map.hpp>
#endif
#if defined(CAIRN_BENCH_HAVE_LLVM)
#include <llvm/ADT/StringMap.h>
#include <llvm/Support/Allocator.h>
#include <llvm/Support/StringSaver.h>
#endif
#if defined(CAIRN_BENCH_HAVE_TBB)
#include <tbb/concurrent_hash_map.h>
#include <tbb/concurrent_unordered_map.h>
#endif

namespace cairn::bench::interners {

class ours {
  public:
    static constexpr auto name = "cairn";
    using handle = symbol;
    [[nodiscard]] symbol intern(std::string_view text) { return names_.intern(text); }
    [[nodiscard]] std::string_view view(symbol s) const { return names_.view(s); }
    [[nodiscard]] string_interner& base() noexcept { return names_; }

  private:
    string_interner names_{7};  // the seed decides on collisions: the same in all runs
};
class ours_shared {
  public:
    static constexpr auto name = "cairn concurrent";
    using handle = symbol;
    [[nodiscard]] symbol intern(std::string_view text) { return names_.intern(text); }
    [[nodiscard]] std::string_view view(symbol s) const { return names_.view(s); }
    [[nodiscard]] concurrent_string_interner& base() noexcept { return names_; }

  private:
    concurrent_string_interner names_{7};
};

/// std::string_view and std::string alike. Not noexcept, so that the map keeps the hash beside each string,
/// as it does with std::hash<std::string>.
struct text_hash {
    using is_transparent = void;
    [[nodiscard]] std::size_t operator()(std::string_view text) const {
        return std::hash<std::string_view>()(text);
    }
};

/// What is written first: a map from the string to itself behind a read-write lock, looked at twice. As in
/// Go, no string is made to look one up.
class lecture {
  public:
    static constexpr auto name = "lecture";
    using handle = std::string const*;
    [[nodiscard]] handle intern(std::string_view text) {
        {
            std::shared_lock const lock(mutex_);
            if (auto const found = map_.find(text); found != map_.end()) return &found->first;
        }
        std::lock_guard const lock(mutex_);
        auto const id = static_cast<std::uint32_t>(map_.size());
        return &map_.try_emplace(std::string(text), id).first->first;  // which is the second look
    }
    [[nodiscard]] static std::string_view view(handle h) { return *h; }

  private:
    std::shared_mutex mutex_;
    std::unordered_map<std::string, std::uint32_t, text_hash, std::equal_to<>> map_;
};

/// Characters, one string after the other, for maps of std::string_view.
class text_arena {
  public:
    [[nodiscard]] std::string_view keep(std::string_view text) {
        if (text.size() > left_) {
            left_ = std::max(text.size(), block);
            blocks_.push_back(std::make_unique_for_overwrite<char[]>(left_));
            at_ = blocks_.back().get();
        }
        if (!text.empty()) std::memcpy(at_, text.data(), text.size());
        std::string_view const kept{at_, text.size()};
        at_ += text.size();
        left_ -= text.size();
        return kept;
    }

  private:
    static constexpr std::size_t block = std::size_t{1} << 16;
    std::vector<std::unique_ptr<char[]>> blocks_;
    char* at_ = nullptr;
    std::size_t left_ = 0;
};
/// The interner that is made of a map: from views into an arena to numbers, and a vector back.
template <class Map>
class map_and_arena {
  public:
    using handle = std::uint32_t;
    [[nodiscard]] handle intern(std::string_view text) {
        if (auto const found = map_.find(text); found != map_.end()) return found->second;
        auto const id = static_cast<std::uint32_t>(views_.size());
        views_.push_back(arena_.keep(text));
        map_.emplace(views_.back(), id);
        return id;
    }
    [[nodiscard]] std::string_view view(handle id) const { return views_[id]; }

  private:
    Map map_;
    std::vector<std::string_view> views_;
    text_arena arena_;
};
struct std_map : map_and_arena<std::unordered_map<std::string_view, std::uint32_t>> {
    static constexpr auto name = "std map";
};
#if defined(CAIRN_BENCH_HAVE_ABSL)
struct absl_map : map_and_arena<absl::flat_hash_map<std::string_view, std::uint32_t>> {
    static constexpr auto name = "absl";
};
#endif
#if defined(CAIRN_BENCH_HAVE_BOOST_FLAT)
struct boost_map : map_and_arena<boost::unordered_flat_map<std::string_view, std::uint32_t>> {
    static constexpr auto name = "boost flat_map";
};
#endif

#if defined(CAIRN_BENCH_HAVE_BOOST)
/// Its strings are one set for the whole program, so each data set has a type of its own. `Policies`: none,
/// or no lock and no count of users.
template <class... Policies>
class flyweights {
  public:
    using flyweight = boost::flyweight<std::string, Policies...>;
    using handle = std::string const*;
    [[nodiscard]] handle intern(std::string_view text) {
        flyweight const made{text.data(), text.size()};
        handle const h = &made.get();
        if constexpr (counted) {  // the string must live on: one user is kept
            if (made_ != nullptr) made_->push_back(made);
        }
        return h;
    }
    [[nodiscard]] static std::string_view view(handle h) { return *h; }
    /// From now on all strings are there.
    void all_are_in() { made_ = nullptr; }

  private:
    static constexpr bool counted = sizeof...(Policies) == 1;  // a tag alone
    std::vector<flyweight> kept_;
    std::vector<flyweight>* made_ = &kept_;
};
template <int DataSet>
struct data_set_tag {};
template <int DataSet>
struct flyweight : flyweights<boost::flyweights::tag<data_set_tag<DataSet>>> {
    static constexpr auto name = "flyweight";
};
template <int DataSet>
struct plain_flyweight : flyweights<boost::flyweights::tag<data_set_tag<DataSet>>,
                                    boost::flyweights::no_locking, boost::flyweights::no_tracking> {
    static constexpr auto name = "flyweight, bare";
};
#endif

#if defined(CAIRN_BENCH_HAVE_LLVM)
class llvm_map {
  public:
    static constexpr auto name = "llvm StringMap";
    using handle = llvm::StringMapEntry<std::uint32_t> const*;
    [[nodiscard]] handle intern(std::string_view text) {
        return &*map_.try_emplace({text.data(), text.size()}, map_.size()).first;
    }
    [[nodiscard]] static std::string_view view(handle h) { return {h->getKeyData(), h->getKeyLength()}; }

  private:
    llvm::StringMap<std::uint32_t, llvm::BumpPtrAllocator> map_;
};
class llvm_saver {
  public:
    static constexpr auto name = "llvm saver";
    using handle = llvm::StringRef;
    [[nodiscard]] handle intern(std::string_view text) {
        return saver_.save(llvm::StringRef(text.data(), text.size()));
    }
    [[nodiscard]] static std::string_view view(handle h) { return {h.data(), h.size()}; }

  private:
    llvm::BumpPtrAllocator memory_;
    llvm::UniqueStringSaver saver_{memory_};
};
#endif

#if defined(CAIRN_BENCH_HAVE_TBB)
/// The system's malloc, whose bytes can be counted; its own would hide them.
template <class T>
struct system_allocator {
    using value_type = T;
    system_allocator() = default;
    template <class U>
    system_allocator(system_allocator<U> const&) noexcept {}
    // Not inlined: g++ 12 would warn of what the container does with nodes that are smaller than others.
    [[nodiscard, gnu::noinline]] T* allocate(std::size_t n) { return std::allocator<T>().allocate(n); }
    void deallocate(T* p, std::size_t n) noexcept { std::allocator<T>().deallocate(p, n); }
    friend bool operator==(system_allocator const&, system_allocator const&) noexcept { return true; }
};
struct tbb_hash {
    [[nodiscard]] static std::size_t hash(std::string const& text) { return std::hash<std::string>()(text); }
    [[nodiscard]] static bool equal(std::string const& a, std::string const& b) { return a == b; }
};
class tbb_hash_map {
  public:
    static constexpr auto name = "tbb hash_map";
    using handle = std::string const*;
    [[nodiscard]] handle intern(std::string_view view) {
        std::string const text(view);
        map::const_accessor found;
        if (!map_.find(found, text)) map_.insert(found, text);
        return &found->first;
    }
    [[nodiscard]] static std::string_view view(handle h) { return *h; }

  private:
    using map = tbb::concurrent_hash_map<std::string, std::uint32_t, tbb_hash,
                                         system_allocator<std::pair<std::string const, std::uint32_t>>>;
    map map_;
};
class tbb_unordered {
  public:
    static constexpr auto name = "tbb unordered";
    using handle = std::string const*;
    [[nodiscard]] handle intern(std::string_view view) {
        std::string text(view);
        if (auto const found = map_.find(text); found != map_.end()) return &found->first;
        return &map_.emplace(std::move(text), 0).first->first;
    }
    [[nodiscard]] static std::string_view view(handle h) { return *h; }

  private:
    tbb::concurrent_unordered_map<std::string, std::uint32_t, std::hash<std::string>, std::equal_to<>,
                                  system_allocator<std::pair<std::string const, std::uint32_t>>>
        map_;
};
#endif

/// A number that is the same for equal handles, and another one for others.
[[nodiscard]] inline std::uint64_t value(symbol s) noexcept { return s.value(); }
[[nodiscard]] inline std::uint64_t value(std::uint32_t id) noexcept { return id; }
[[nodiscard]] inline std::uint64_t value(void const* p) noexcept {
    return reinterpret_cast<std::uintptr_t>(p);
}
#if defined(CAIRN_BENCH_HAVE_LLVM)
[[nodiscard]] inline std::uint64_t value(llvm::StringRef text) noexcept { return value(text.data()); }
#endif

}  // namespace cairn::bench::interners
