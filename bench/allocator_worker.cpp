// SPDX-License-Identifier: MIT
#include "allocator_worker.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#endif

namespace cairn::bench {

namespace {

enum verb : std::uint32_t { prove, begin, run, end };

struct command {
    std::uint32_t verb;
    std::uint32_t task;    // of begin
    std::uint64_t value;   // of begin: bytes an object; of run: the window
    char symbol[32] = "";  // of prove
};

/// malloc and free as a program calls them.
template <class T>
class allocator {
  public:
    [[nodiscard]] T* get() {
        void* const memory = std::malloc(sizeof(T));
        if (memory == nullptr) throw std::bad_alloc();
        return static_cast<T*>(memory);
    }
    void put(T* object) noexcept { std::free(object); }
};

template <std::size_t Size>
[[nodiscard]] std::unique_ptr<workload> of_size(pool_task task, partner& other) {
    using object = payload<Size>;
    return task < pool_task::own_some ? single_workload<allocator<object>, object>(task, other)
                                      : shared_workload<allocator<object>, object>(task, other);
}
[[nodiscard]] std::unique_ptr<workload> of_size(pool_task task, std::size_t bytes, partner& other) {
    switch (bytes) {
        case 16:
            return of_size<16>(task, other);
        case 64:
            return of_size<64>(task, other);
        case 256:
            return of_size<256>(task, other);
        default:
            throw std::logic_error("no such size");
    }
}

}  // namespace

#if defined(__linux__)

namespace {

/// Whole records only; false at the end, or if the other side is gone.
template <class Record>
[[nodiscard]] bool receive(int from, Record& record) {
    auto* const bytes = reinterpret_cast<char*>(&record);
    for (std::size_t have = 0; have != sizeof record;) {
        ssize_t const n = ::read(from, bytes + have, sizeof record - have);
        if (n == 0 || (n < 0 && errno != EINTR)) return false;
        if (n > 0) have += static_cast<std::size_t>(n);
    }
    return true;
}
template <class Record>
[[nodiscard]] bool send(int to, Record const& record) {
    ssize_t n;
    do n = ::write(to, &record, sizeof record);  // shorter than PIPE_BUF: whole or not at all
    while (n < 0 && errno == EINTR);
    return n == static_cast<ssize_t>(sizeof record);
}

}  // namespace

int serve_allocations() {
    allocator_worker::answer result;
    pin_to_one_core();
    partner other;
    std::unique_ptr<workload> work;
    command next;
    while (receive(STDIN_FILENO, next)) {
        result = {0, 1};
        try {
            switch (next.verb) {
                case prove:
                    result.right = next.symbol[0] == '\0' || dlsym(RTLD_DEFAULT, next.symbol) != nullptr;
                    break;
                case begin:
                    work = of_size(static_cast<pool_task>(next.task), next.value, other);
                    break;
                case run: {
                    auto const from = std::chrono::steady_clock::now();
                    work->run(next.value);
                    result.seconds =
                        std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
                    break;
                }
                default:
                    work.reset();
                    break;
            }
        } catch (std::exception const&) {
            result.right = 0;
        }
        if (!send(STDOUT_FILENO, result)) break;
    }
    return 0;
}

allocator_worker::allocator_worker(std::string name, std::string const& preload, std::string const& proof)
    : name_(std::move(name)) {
    (void)std::signal(SIGPIPE, SIG_IGN);  // a worker that is gone is an error to report
    std::array<int, 2> there{}, back{};
    if (pipe2(there.data(), O_CLOEXEC) != 0) return;
    if (pipe2(back.data(), O_CLOEXEC) != 0) {
        (void)close(there[0]);
        (void)close(there[1]);
        return;
    }
    to_ = there[1];
    from_ = back[0];

    std::vector<std::string> variables;
    for (char** one = environ; *one != nullptr; ++one)
        if (std::string_view(*one).substr(0, 11) != "LD_PRELOAD=") variables.emplace_back(*one);
    if (!preload.empty()) variables.push_back("LD_PRELOAD=" + preload);
    std::vector<char*> environment;
    for (std::string& one : variables) environment.push_back(one.data());
    environment.push_back(nullptr);
    std::string self = "cairn-compare", option = allocator_worker_option;
    char* arguments[] = {self.data(), option.data(), nullptr};

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, there[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, back[1], STDOUT_FILENO);
    // The loader complains there of a library that is not installed; prove says so better.
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t child = -1;
    if (posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments, environment.data()) == 0)
        process_ = child;
    posix_spawn_file_actions_destroy(&actions);
    (void)close(there[0]);
    (void)close(back[1]);
    if (process_ == -1) return;

    command question{prove, 0, 0};
    proof.copy(question.symbol, sizeof question.symbol - 1);
    answer given;
    usable_ = send(to_, question) && receive(from_, given) && given.right == 1;
}

allocator_worker::~allocator_worker() {
    if (to_ != -1) (void)close(to_);  // its standard input ends, and so does it
    if (from_ != -1) (void)close(from_);
    if (process_ != -1) (void)waitpid(process_, nullptr, 0);
}

allocator_worker::answer allocator_worker::ask(std::uint32_t verb, std::uint32_t task, std::uint64_t value) {
    answer given;
    if (!send(to_, command{verb, task, value}) || !receive(from_, given))
        throw std::runtime_error(name_ + ": its process has ended");
    if (given.right != 1) throw std::runtime_error(name_ + ": its process had an error");
    return given;
}

#else  // no preloading: the tables do without

int serve_allocations() { return 1; }
allocator_worker::allocator_worker(std::string name, std::string const&, std::string const&)
    : name_(std::move(name)) {}
allocator_worker::~allocator_worker() = default;
allocator_worker::answer allocator_worker::ask(std::uint32_t, std::uint32_t, std::uint64_t) {
    throw std::logic_error("no worker");
}

#endif

contestant allocator_worker::contest(pool_task task, std::size_t payload_bytes) {
    (void)ask(begin, static_cast<std::uint32_t>(task), payload_bytes);
    std::shared_ptr<allocator_worker> const until_end(this, [](allocator_worker* worker) noexcept {
        try {
            (void)worker->ask(end, 0, 0);
        } catch (std::exception const&) {  // it has ended already
        }
    });
    auto const taken = std::make_shared<double>(0);
    return {name_,
            objects_a_run,
            [until_end, taken](std::size_t window) {
                *taken = until_end->ask(run, 0, window).seconds;
                return std::uint64_t{window};
            },
            {},
            [taken] { return *taken; }};
}

}  // namespace cairn::bench
