// SPDX-License-Identifier: MIT
// The loop as a lecture draws it on the board: a map from descriptor to function. It has two bugs.
#pragma once

#include <sys/epoll.h>
#include <unistd.h>

#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lecture {

class event_loop {
  public:
    event_loop() : poll_(::epoll_create1(EPOLL_CLOEXEC)) {}
    event_loop(event_loop const&) = delete;
    event_loop& operator=(event_loop const&) = delete;
    ~event_loop() { ::close(poll_); }

    void add(int fd, std::function<void(int)> handler) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = fd;
        ::epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event);
        handlers_[fd] = std::move(handler);
    }
    void remove(int fd) {
        ::epoll_ctl(poll_, EPOLL_CTL_DEL, fd, nullptr);
        handlers_.erase(fd);
    }
    /// Waits until something is ready, and calls its handlers.
    void run_once() {
        events_.resize(1'024);
        int const n = ::epoll_wait(poll_, events_.data(), static_cast<int>(events_.size()), -1);
        for (int i = 0; i < n; ++i) {
            int const fd = events_[static_cast<std::size_t>(i)].data.fd;
            auto const found = handlers_.find(fd);
            if (found != handlers_.end()) found->second(fd);
        }
    }

  private:
    int poll_;
    std::unordered_map<int, std::function<void(int)>> handlers_;
    std::vector<epoll_event> events_;
};

}  // namespace lecture
