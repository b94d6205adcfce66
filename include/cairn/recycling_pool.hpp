// SPDX-License-Identifier: MIT
// A pool of objects that stay alive: what one user has done with is cleaned and handed to the next.
//
// An object pool saves the allocation of the object. Where an object owns buffers, that is the small part: a
// parser's strings and vectors are allocated anew each time. Here objects are not ended when they come back.
// A string that was cleared keeps its capacity, so after a while nothing is allocated any more. That is what
// Go's sync.Pool is for, and where the lecture's example goes wrong: it hands an object on as the last user
// left it, so one request can read another one's data. Here it is reset first, before it goes out.
//
//     release ─▶ kept? ─▶ yes: [ o o o o ]  this thread's, or the depot's ─▶ acquire: reset(o) ─▶ you
//                     └─▶ no: it ends
//
// What is kept: the last objects that came back. Each thread keeps at most 2 x 8, all threads together
// `most` more. An object comes in only if Keep says so (default: always): say no to one whose buffers have
// grown too large, or one large request will hold its memory for good.
//
// What reset does, unless you say: object.reset() if there is one; object.clear(), as containers have; else
// assignment from a T{} that is made once. Assignment keeps the capacity of strings and vectors in it,
// since the standard containers copy into what they have.
//
//   operation   costs
//   ---------   -------------------------------------------------------------------------------------------
//   acquire     O(1), 2 to 4 ns and the reset; if none is kept: an allocation and the constructor
//   release     O(1), 2 to 4 ns; if enough are kept: the destructor and a deallocation
//
// When not to use it: for objects that own nothing (object_pool gives packed memory and real constructors);
// for things that must be closed at once, files or locks. Source: Go's sync.Pool (2013); the threads' share
// is as in concurrent_object_pool: Bonwick, Adams (2001).
// Thread safety: any threads at once; an object may be released in another thread than it was acquired in.
// Constructor and destructor as concurrent_object_pool.
//
//   cairn::recycling_pool<std::string> pool;
//   std::string const* before;
//   {
//       auto text = pool.acquire();
//       text->assign(1'000, 'x');
//       before = text.get();
//   }
//   auto text = pool.acquire();  // the same string: empty, its 1,000 bytes still there
//   std::cout << (text.get() == before) << text->empty() << (text->capacity() >= 1'000) << '\n';
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "detail/assert.hpp"
#include "detail/magazines.hpp"
#include "detail/slot_guard.hpp"

namespace cairn {

/// Makes an object as good as new, keeping its buffers where it can: reset(), or clear(), or assignment.
struct reset_object {
    template <class T>
    void operator()(T& object) const {
        if constexpr (requires { object.reset(); }) {
            object.reset();
        } else if constexpr (requires { object.clear(); }) {
            object.clear();
        } else if constexpr (std::is_copy_assignable_v<T>) {
            static T const blank{};
            object = blank;
        } else {
            object = T{};
        }
    }
};

/// Keeps every object that comes back.
struct keep_all {
    template <class T>
    bool operator()(T const&) const noexcept {
        return true;
    }
};

/// @tparam T      default-constructible.
/// @tparam Reset  called with T& before an object goes out again. If it throws, the object ends, and the
///                exception reaches acquire's caller.
/// @tparam Keep   called with T const& when one comes back: whether it may stay. It must not throw.
template <std::default_initializable T, std::invocable<T&> Reset = reset_object,
          std::predicate<T const&> Keep = keep_all>
class recycling_pool {
    static_assert(std::is_nothrow_destructible_v<T>);

  public:
    using value_type = T;

    /// What a handle does at its end: pool.release(object).
    class releaser {
      public:
        releaser() noexcept = default;
        explicit releaser(recycling_pool& pool) noexcept : pool_(&pool) {}
        void operator()(T* object) const noexcept { pool_->release(object); }

      private:
        recycling_pool* pool_ = nullptr;
    };
    using handle = std::unique_ptr<T, releaser>;

    /// Each thread keeps up to two of these.
    static constexpr std::uint32_t magazine_size = 8;

    /// @param most  how many objects all threads together keep, besides what each one does.
    explicit recycling_pool(std::size_t most = 1'024, Reset reset = Reset(), Keep keep = Keep())
        : reset_(std::move(reset)), keep_(std::move(keep)), cache_(magazine_size, most, end_object) {}
    recycling_pool(recycling_pool const&) = delete;
    recycling_pool& operator=(recycling_pool const&) = delete;
    /// Ends all objects that are kept. Precondition: none is out.
    ~recycling_pool() {
        cache_.shared().end(end_object);
        life_.end();
    }

    /// An object as good as new: one that was used before and has been reset, or a T{}. Its end releases it.
    /// @throws what Reset, T's constructor and its allocation throw; the pool is unharmed.
    [[nodiscard]] handle acquire() {
        life_.check();
        void* kept = cache_.take_at_once();
        if (kept == nullptr) kept = cache_.take();
        if (kept != nullptr) {
            std::unique_ptr<T> object(static_cast<T*>(kept));
            reset_(*object);
            return handle(object.release(), releaser(*this));
        }
        return handle(new T{}, releaser(*this));
    }
    /// Takes back an object that left its handle by release().
    void release(T* object) noexcept {
        life_.check();
        if (!keep_(std::as_const(*object)) || !(cache_.give_at_once(object) || cache_.give(object)))
            delete object;
    }

    /// Ends the objects that the depot keeps. What threads keep for themselves stays.
    void shrink() noexcept { cache_.shared().drain(end_object); }
    /// How many objects are kept: exact when no thread is at work. O(magazines).
    [[nodiscard]] std::size_t kept() const noexcept { return cache_.shared().size(); }

  private:
    static void end_object(void* object) noexcept { delete static_cast<T*>(object); }

    [[no_unique_address]] Reset reset_;
    [[no_unique_address]] Keep keep_;
    detail::magazine_cache cache_;
    [[no_unique_address]] detail::life<> life_;
};

}  // namespace cairn
