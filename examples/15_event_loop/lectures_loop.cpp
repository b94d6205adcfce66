// SPDX-License-Identifier: MIT
// Two scenes, each on the lecture's loop and on cairn's. Built with the address sanitizer and run by chapter
// 15, which shows what it says. Each handler is one that anybody would write.
#include "lectures_loop.hpp"

#include <cairn/event_loop.hpp>
#include <cairn/socket.hpp>

#include <unistd.h>

#include <array>
#include <cstddef>
#include <iostream>
#include <string>
#include <string_view>
#include <tuple>

namespace {

void say(int fd, std::string_view text) { (void)!::write(fd, text.data(), text.size()); }

// ---- 1. A client says goodbye. Its handler removes itself, and then writes a line to the log. ----

void goodbye_on_the_lectures_loop() {
    lecture::event_loop loop;
    auto [client, server] = cairn::socket_pair();
    loop.add(server.get(),
             [&loop, name = std::string("a client whose name is longer than a small string")](int fd) {
                 loop.remove(fd);  // destroys this function, and name with it
                 std::cout << "goodbye, " << name << std::endl;
             });
    say(client.get(), "bye");
    loop.run_once();
}
void goodbye_on_cairns_loop() {
    cairn::event_loop loop;
    auto [client, server] = cairn::socket_pair();
    cairn::registration watch;
    watch = loop.watch(
        server.get(), cairn::readiness::in,
        [&watch, name = std::string("a client whose name is longer than a small string")](cairn::readiness) {
            watch.reset();  // this function is destroyed when it returns
            std::cout << "goodbye, " << name << std::endl;
        });
    say(client.get(), "bye");
    loop.run_once();
}

// ---- 2. Two clients have sent something. The handler of the first closes the second, whose time is up, and
// takes in a third one. The system gives it the number that has just become free. The loop has an event for
// that number still in its hands. ----

/// What a handler does that is called because there is something to read.
void read_greeting(int fd) {
    std::array<char, 64> text;
    auto const n = static_cast<std::size_t>(::read(fd, text.data(), text.size() - 1));
    text[n] = '\0';  // "readable", so n is no error. And if it is?
    std::cout << "the third client says: " << text.data() << std::endl;
}

struct scene {
    cairn::unique_fd first, second, third, first_client, second_client, third_client;
    scene() {
        std::tie(first_client, first) = cairn::socket_pair();
        std::tie(second_client, second) = cairn::socket_pair();
        say(first_client.get(), "hi");
        say(second_client.get(), "hi");
    }
    /// Closes the second, and opens the third in its place.
    void change() {
        int const number = second.get();
        second.reset();
        std::tie(third, third_client) = cairn::socket_pair();
        std::cout << (third.get() == number ? "the third client has the number of the second one"
                                            : "the numbers differ: no scene")
                  << std::endl;
    }
};

void reuse_on_the_lectures_loop() {
    lecture::event_loop loop;
    scene s;
    loop.add(s.first.get(), [&](int) {
        loop.remove(s.second.get());
        s.change();
        loop.add(s.third.get(), read_greeting);
    });
    loop.add(s.second.get(), [](int) { std::cout << "the second client is called" << std::endl; });
    loop.run_once();
}
void reuse_on_cairns_loop() {
    cairn::event_loop loop;
    scene s;
    cairn::registration second, third;
    auto const first = loop.watch(s.first.get(), cairn::readiness::in, [&](cairn::readiness) {
        if (!s.second) return;
        second.reset();
        s.change();
        third = loop.watch(s.third.get(), cairn::readiness::in,
                           [&](cairn::readiness) { read_greeting(s.third.get()); });
    });
    second = loop.watch(s.second.get(), cairn::readiness::in,
                        [](cairn::readiness) { std::cout << "the second client is called" << std::endl; });
    loop.run_once();
    std::cout << "nobody was called for the event of the second one" << std::endl;
    say(s.third_client.get(), "good morning");
    loop.run_once();
}

}  // namespace

int main(int count, char** arguments) {
    std::string_view const scene = count == 2 ? arguments[1] : "";
    if (scene == "goodbye-lecture") goodbye_on_the_lectures_loop();
    if (scene == "goodbye-cairn") goodbye_on_cairns_loop();
    if (scene == "reuse-lecture") reuse_on_the_lectures_loop();
    if (scene == "reuse-cairn") reuse_on_cairns_loop();
    return scene.empty() ? 2 : 0;
}
