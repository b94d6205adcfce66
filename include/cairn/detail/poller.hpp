// SPDX-License-Identifier: MIT
// An epoll set and the handlers of its descriptors, such that no event ever reaches the wrong one.
//
// epoll answers with 64 bits of one's own for each event. A pointer there is a trap: by the time the event is
// looked at, a handler before it in the batch may have destroyed what it points to, or closed the descriptor
// and let another one have its number, even its memory. So the bits are the number of a slot and the slot's
// generation, which changes when a watch ends. An event whose generation is not the slot's is dropped.
// Slots are a cache line, in chunks that never move, so a handler may add others while it runs.
#pragma once

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <limits>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "../socket.hpp"
#include "assert.hpp"
#include "closure.hpp"
#include "fork_mark.hpp"

namespace cairn::detail {

class poller {
  public:
    /// A watch: slot and generation. A default one is none.
    struct tag {
        std::uint32_t slot = 0;
        std::uint32_t generation = 0;
    };

    /// `wake_fd` interrupts a wait, and has no handler. @throws std::system_error
    explicit poller(int wake_fd) : epoll_(::epoll_create1(EPOLL_CLOEXEC)), batch_(128) {
        throw_if(epoll_ ? std::error_code{} : last_error(), "epoll_create1");
        grow();
        free_ = 1;  // slot 0 is that of the descriptor that wakes: in the set, but silent
        at(0).fd = wake_fd;
        at(0).interest = EPOLLIN | EPOLLET;
        at(0).armed = in_set;
        throw_if(control(EPOLL_CTL_ADD, at(0), {}), "epoll_ctl");
    }
    poller(poller const&) = delete;
    poller& operator=(poller const&) = delete;
    ~poller() { clear(); }

    /// Watches fd. On an error nothing has changed, and what is returned is none. @throws std::bad_alloc and
    /// what the handler's constructor throws.
    template <class F>
    tag add(int fd, std::uint32_t interest, F&& handler, std::error_code& error) {
        error.clear();
        if (fd < 0) {
            error.assign(EBADF, std::system_category());
            return {};
        }
        if (owners_.size() <= static_cast<std::size_t>(fd)) owners_.resize(static_cast<std::size_t>(fd) + 1);
        if (free_ == 0) grow();
        tag const watch{free_, at(free_).generation + 1};
        slot& it = at(watch.slot);
        free_ = it.interest;  // taken now: the handler's constructor may watch others
        it.armed = 0;
        struct undo {
            poller* self;
            std::uint32_t slot;
            ~undo() {
                if (self != nullptr) self->give_back(slot);
            }
        } guard{this, watch.slot};
        it.handler.emplace(std::forward<F>(handler));
        it.fd = fd;
        it.interest = interest;
        if (error = control(EPOLL_CTL_ADD, it, watch); error) return {};
        guard.self = nullptr;
        it.generation = watch.generation;
        it.armed = interest | always;
        owners_[static_cast<std::size_t>(fd)] = watch.slot;
        ++size_;
        return watch;
    }

    // Precondition of the next four: contains(watch).

    /// New interest, from now on, for events of this batch too. No system call if it is what it was, but for
    /// edges, where it asks epoll to look again.
    void modify(tag watch, std::uint32_t interest, std::error_code& error) noexcept {
        slot& it = at(watch.slot);
        error.clear();
        std::uint32_t const before = std::exchange(it.interest, interest);
        if (it.armed == 0) return;
        if (before == interest && it.armed != in_set && (interest & EPOLLET) == 0) return;
        error = owns(watch) ? control(EPOLL_CTL_MOD, it, watch) : bad_descriptor();
        if (error)
            it.interest = before;
        else
            it.armed = interest | always;
    }
    void enable(tag watch, std::error_code& error) noexcept {
        slot& it = at(watch.slot);
        error.clear();
        if (it.armed != 0 && it.armed != in_set) return;
        error = control(it.armed == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, it, watch);
        if (error) return;
        it.armed = it.interest | always;
        owners_[static_cast<std::size_t>(it.fd)] = watch.slot;
    }
    /// Out of the set it goes: with an empty mask it would be told of EPOLLHUP and EPOLLERR for ever.
    void disable(tag watch) noexcept {
        slot& it = at(watch.slot);
        if (std::exchange(it.armed, 0) == 0) return;
        // If it was closed before, the number may be another one's by now.
        if (owns(watch)) static_cast<void>(control(EPOLL_CTL_DEL, it, watch));
    }
    /// The handler is destroyed at once; or, if it is the one that runs, when it returns.
    void remove(tag watch) noexcept {
        disable(watch);
        ++at(watch.slot).generation;
        --size_;
        if (watch.slot != running_) give_back(watch.slot);
    }

    [[nodiscard]] bool contains(tag watch) const noexcept {
        return watch.slot != 0 && at(watch.slot).generation == watch.generation;
    }
    [[nodiscard]] int fd(tag watch) const noexcept { return at(watch.slot).fd; }
    /// The watch of a descriptor that is watched.
    [[nodiscard]] tag of(int fd) const noexcept {
        std::uint32_t const number = owners_[static_cast<std::size_t>(fd)];
        return {number, at(number).generation};
    }
    /// The handler, which is an F. It does not move.
    template <class F>
    [[nodiscard]] F* handler(tag watch) noexcept {
        return at(watch.slot).handler.template target<F>();
    }
    [[nodiscard]] bool enabled(tag watch) const noexcept {
        return at(watch.slot).armed != 0 && at(watch.slot).armed != in_set;
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    [[nodiscard]] bool in_child() const noexcept { return mark_.in_child(); }

    /// Whether events of a batch are still to be dispatched.
    [[nodiscard]] bool has_batch() const noexcept { return next_ != ready_; }

    /// Waits for a batch: until there is one, or the time is over, or something interrupts. `limit` is 0, or
    /// a time from now; the largest is for ever. Precondition: !has_batch(). @throws std::system_error
    void wait(std::chrono::nanoseconds limit) {
        if (rebuild_) [[unlikely]]
            rebuild();
        if (ready_ == batch_.size() && ready_ < 4096) [[unlikely]]
            grow_batch();
        next_ = ready_ = 0;
        ++batches_;
        int const n = call_epoll(limit);
        if (n >= 0)
            ready_ = static_cast<std::uint32_t>(n);
        else if (errno != EINTR)
            throw std::system_error(last_error(), "epoll_wait");
    }

    /// Calls the handlers of the batch until done() says so; returns how many. If one throws, the events
    /// behind it stay in the batch.
    template <class Done>
    std::size_t dispatch(Done done) {
        struct running {
            poller& self;
            slot& it;
            tag watch;
            ~running() {  // the handler has returned, or has thrown
                self.running_ = 0;
                if (it.generation != watch.generation) [[unlikely]]
                    self.give_back(watch.slot);
            }
        };
        std::size_t calls = 0;
        epoll_event const* const batch = batch_.data();
        for (std::uint32_t i = next_, end = ready_; i != end && !done(); ++i) {
            next_ = i + 1;
            std::uint32_t const events = batch[i].events;
            std::uint64_t const data = batch[i].data.u64;
            tag const watch{static_cast<std::uint32_t>(data), static_cast<std::uint32_t>(data >> 32)};
            slot& it = at(watch.slot);
            std::uint32_t const seen = events & it.armed;
            if (it.generation != watch.generation || seen == 0) [[unlikely]] {
                drop(watch);
                continue;
            }
            if ((it.interest & EPOLLONESHOT) != 0) it.armed = in_set;  // as epoll has done
            running const scope{*this, it, watch};
            running_ = watch.slot;
            ++calls;
            it.handler(seen);
        }
        return calls;
    }

    /// Ends all watches and the set. In a forked child too: it closes no more than its own copy.
    void clear() noexcept {
        epoll_.reset();
        for (std::uint32_t number = 1; number < chunks_.size() * chunk; ++number)
            if (at(number).generation % 2 == 1) remove({number, at(number).generation});
        ready_ = next_ = 0;
    }

  private:
    static constexpr std::uint32_t always = EPOLLERR | EPOLLHUP;
    static constexpr std::uint32_t in_set = 1U << 20;  // no event of epoll's
    static constexpr std::uint32_t chunk = 256;

    // Invariants: a slot's generation is odd while its watch is there. armed: 0 if it is not in the set;
    // in_set if it is, but epoll reports nothing, as after a one-shot; else the events that may reach the
    // handler.
    struct alignas(64) slot {
        closure<32, std::uint32_t> handler;
        int fd = -1;
        std::uint32_t generation = 0;
        std::uint32_t armed = 0;
        std::uint32_t interest = 0;  // of a free slot: the next free one
    };
    static_assert(sizeof(slot) == 64);

    [[nodiscard]] slot& at(std::uint32_t number) noexcept {
        return (*chunks_[number / chunk])[number % chunk];
    }
    [[nodiscard]] slot const& at(std::uint32_t number) const noexcept {
        return (*chunks_[number / chunk])[number % chunk];
    }
    [[nodiscard]] bool owns(tag watch) const noexcept {
        return owners_[static_cast<std::size_t>(at(watch.slot).fd)] == watch.slot;
    }
    [[nodiscard]] static std::error_code bad_descriptor() noexcept { return {EBADF, std::system_category()}; }
    [[nodiscard]] std::error_code control(int operation, slot const& it, tag watch) noexcept {
        return control(epoll_.get(), operation, it, watch);
    }
    [[nodiscard]] std::error_code control(int epoll, int operation, slot const& it, tag watch) noexcept {
        if (epoll < 0) return bad_descriptor();
        if (mark_.in_child()) return {ESTALE, std::system_category()};
        epoll_event event{};
        event.events = it.interest;
        event.data.u64 = std::uint64_t{watch.generation} << 32 | watch.slot;
        return ::epoll_ctl(epoll, operation, it.fd, &event) == 0 ? std::error_code{} : last_error();
    }
    [[gnu::noinline]] void give_back(std::uint32_t number) noexcept {
        slot& it = at(number);
        it.handler.reset();
        it.interest = std::exchange(free_, number);
    }
    [[gnu::noinline]] void grow() {
        auto const n = static_cast<std::uint32_t>(chunks_.size()) * chunk;
        chunks_.push_back(std::make_unique<std::array<slot, chunk>>());
        for (std::uint32_t number = n + chunk; number-- != n;)
            at(number).interest = std::exchange(free_, number);
    }
    [[gnu::noinline]] void grow_batch() noexcept {
        try {
            std::vector<epoll_event>(2 * batch_.size()).swap(batch_);
        } catch (std::bad_alloc const&) {  // then more batches it is
        }
    }

    int call_epoll(std::chrono::nanoseconds limit) noexcept {
        auto const n = static_cast<int>(batch_.size());
        if (limit == limit.zero()) return ::epoll_wait(epoll_.get(), batch_.data(), n, 0);
        if (limit == limit.max()) return ::epoll_wait(epoll_.get(), batch_.data(), n, -1);
        limit = std::min<std::chrono::nanoseconds>(limit, std::chrono::hours(24));
        auto const seconds = std::chrono::floor<std::chrono::seconds>(limit);
#if defined(SYS_epoll_pwait2)
        if (has_pwait2_) {
            struct {
                std::int64_t seconds, nanoseconds;
            } const time{seconds.count(), (limit - seconds).count()};
            long const got = ::syscall(SYS_epoll_pwait2, epoll_.get(), batch_.data(), n, &time, nullptr, 0);
            if (got >= 0 || errno != ENOSYS) return static_cast<int>(got);
            has_pwait2_ = false;
        }
#endif
        auto const rounded_up = std::chrono::ceil<std::chrono::milliseconds>(limit);
        return ::epoll_wait(epoll_.get(), batch_.data(), n, static_cast<int>(rounded_up.count()));
    }

    /// An event for a watch that is not there, or not in the set. Mostly it ended within this batch. But
    /// epoll watches not a descriptor but what it stands for: if that was closed before its watch ended,
    /// while a duplicate or a child keeps it open, nothing can take it out of the set, and a wait would
    /// return at once for ever. Such a one is reported again in a later batch: then the set is made anew.
    [[gnu::noinline]] void drop(tag watch) noexcept {
        if (watch.slot == 0 || (contains(watch) && at(watch.slot).armed != 0)) return;
        if (suspect_batch_ == batches_) return;
        rebuild_ = rebuild_ || (suspect_.slot == watch.slot && suspect_.generation == watch.generation);
        suspect_ = watch;
        suspect_batch_ = batches_;
    }
    [[gnu::noinline]] void rebuild() noexcept {
        unique_fd made(::epoll_create1(EPOLL_CLOEXEC));
        if (!made) return;  // next time, perhaps
        for (std::uint32_t number = 0; number != chunks_.size() * chunk; ++number) {
            slot& it = at(number);
            if (it.armed == 0) continue;
            tag const watch{number, it.generation};
            if ((number != 0 && !owns(watch)) || control(made.get(), EPOLL_CTL_ADD, it, watch)) it.armed = 0;
        }
        epoll_ = std::move(made);
        rebuild_ = false;
        suspect_ = {};
    }

    fork_mark mark_;
    unique_fd epoll_;
    std::vector<std::unique_ptr<std::array<slot, chunk>>> chunks_;
    std::vector<std::uint32_t> owners_;  // by descriptor: the slot that watches it
    std::uint32_t free_ = 0;
    std::uint32_t running_ = 0;
    std::size_t size_ = 0;
    std::vector<epoll_event> batch_;
    std::uint32_t next_ = 0;  // of the batch: those before it are done
    std::uint32_t ready_ = 0;
    bool has_pwait2_ = true;
    bool rebuild_ = false;
    std::uint64_t batches_ = 0;
    std::uint64_t suspect_batch_ = 0;
    tag suspect_;
};

}  // namespace cairn::detail
