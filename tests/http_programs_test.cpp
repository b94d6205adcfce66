// SPDX-License-Identifier: MIT
// The HTTP server of the chapters and the programs that people use: curl, ab, wrk, and nginx in front of it.
// Each is left out, with a message, where it is not installed.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "support/http_answers.hpp"
#include "support/http_child.hpp"
#include "support/programs.hpp"

namespace {

using support::http_child;

/// What a command prints, both ways. It must end well.
std::string run(std::string const& command) {
    std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) throw std::runtime_error("popen");
    std::string said;
    char some[4'096];
    while (std::size_t const n = std::fread(some, 1, sizeof some, pipe)) said.append(some, n);
    int const status = ::pclose(pipe);
    EXPECT_EQ(status, 0) << command << "\n" << said;
    return said;
}
std::string url(http_child const& of, std::string const& target) {
    return "'http://127.0.0.1:" + std::to_string(of.address().port()) + target + "'";
}
/// The number behind `label`, or -1.
double number_after(std::string const& label, std::string const& text) {
    std::size_t const at = text.find(label);
    return at == text.npos ? -1 : std::strtod(text.c_str() + at + label.size(), nullptr);
}

TEST(HttpPrograms, ServesCurl) {
    std::string const curl = support::find_program("curl");
    if (curl.empty()) GTEST_SKIP() << "curl is not installed";
    http_child server;
    std::string const quiet = curl + " -sS --noproxy '*' --max-time 10 ";
    EXPECT_EQ(run(quiet + url(server, "/a?b=c")), "/a?b=c");
    EXPECT_EQ(run(quiet + "--http1.0 " + url(server, "/old")), "/old");
    // The second transfer opens no connection.
    EXPECT_EQ(run(quiet + "-o /dev/null -o /dev/null -w '%{num_connects} ' " + url(server, "/1") + " " +
                  url(server, "/2")),
              "1 0 ");
    EXPECT_NE(run(quiet + "-I " + url(server, "/large?1000")).find("Content-Length: 1000\r\n"),
              std::string::npos);
    support::temporary_folder const folder;
    std::string const body(900'000, 'b');
    std::string const file = folder.write("body", body);
    // It waits a minute for the permission to send, so this would not end in time without it.
    EXPECT_EQ(run(quiet + "--expect100-timeout 60 -H 'Expect: 100-continue' --data-binary @" + file + " " +
                  url(server, "/echo")),
              body);
    EXPECT_EQ(
        run(quiet + "-H 'Transfer-Encoding: chunked' --data-binary @" + file + " " + url(server, "/echo")),
        body);
    folder.write("body", std::string(1'100'000, 'b'));
    EXPECT_EQ(
        run(quiet + "-o /dev/null -w '%{http_code}' --data-binary @" + file + " " + url(server, "/echo")),
        "413");
    std::string const events = run(quiet + "-N " + url(server, "/pieces?1000"));
    EXPECT_TRUE(events.starts_with("data: 0\n\ndata: 1\n\n"));
    EXPECT_TRUE(events.ends_with("data: 999\n\n"));
    EXPECT_EQ(run(quiet + url(server, "/large?5000000")).size(), 5'000'000U);
    EXPECT_EQ(server.stop(), 0);
}

TEST(HttpPrograms, ServesApacheBench) {
    std::string const ab = support::find_program("ab");
    if (ab.empty()) GTEST_SKIP() << "ab is not installed (apache2-utils)";
    http_child server;
    // HTTP/1.0, kept alive, and then a connection for each.
    for (std::string const keep : {"-k ", ""}) {
        std::string const said = run(ab + " -q -n 2000 -c 20 " + keep + url(server, "/hello"));
        EXPECT_EQ(number_after("Complete requests:", said), 2'000) << said;
        EXPECT_EQ(number_after("Failed requests:", said), 0) << said;
        EXPECT_EQ(said.find("Non-2xx"), std::string::npos) << said;
        if (!keep.empty()) {
            EXPECT_EQ(number_after("Keep-Alive requests:", said), 2'000) << said;
        }
    }
    EXPECT_EQ(server.stop(), 0);
}

TEST(HttpPrograms, ServesWrk) {
    std::string const wrk = support::find_program("wrk");
    if (wrk.empty()) GTEST_SKIP() << "wrk is not installed";
    http_child server;
    std::string const said = run(wrk + " -t 1 -c 64 -d 1s " + url(server, "/hello"));
    EXPECT_EQ(said.find("Socket errors"), std::string::npos) << said;
    EXPECT_EQ(said.find("Non-2xx"), std::string::npos) << said;
    EXPECT_GT(number_after("Requests/sec:", said), 0) << said;
    EXPECT_EQ(server.stop(), 0);
}

TEST(HttpPrograms, ServesBehindNginx) {
    std::string const nginx = support::find_program("nginx");
    if (nginx.empty()) GTEST_SKIP() << "nginx is not installed";
    http_child server;
    support::temporary_folder const folder;
    std::uint16_t const port = support::free_ports(1).front();
    std::string const here = folder.path();
    std::string temporary;
    for (char const* const what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
        temporary += std::string(what) + "_temp_path " + here + "/" + what + ";\n";
    std::string const config = folder.write(
        "nginx.conf",
        "daemon off;\nmaster_process off;\npid " + here + "/pid;\nerror_log " + here +
            "/error.log;\nevents { worker_connections 64; }\nhttp {\naccess_log off;\n" + temporary +
            "upstream behind { server 127.0.0.1:" + std::to_string(server.address().port()) +
            "; keepalive 4; }\nserver {\nlisten 127.0.0.1:" + std::to_string(port) +
            ";\nclient_max_body_size 8m;\nlocation / {\nproxy_pass http://behind;\nproxy_http_version 1.1;\n"
            "proxy_set_header Connection \"\";\nproxy_request_buffering off;\nproxy_buffering "
            "off;\n}\n}\n}\n");
    support::program const proxy({nginx, "-c", config, "-p", here, "-e", here + "/error.log"}, folder);
    proxy.wait_for(port);

    support::connection to(port);
    auto const answer = [&](std::string const& request) {
        to.send(request);
        std::string got;
        for (;;) {
            if (auto const found = support::read_answer(got)) return *found;
            std::string const line = to.line();
            got += line + "\r\n";
            if (!line.empty()) continue;
            // The rest by its length.
            if (auto const length = number_after("Content-Length:", got); length > 0)
                got += to.bytes(static_cast<std::size_t>(length));
        }
    };
    for (int i = 0; i < 100; ++i) {
        std::string const target = "/" + std::to_string(i);
        ASSERT_EQ(answer("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n").body, target);
    }
    std::string const body(200'000, 'b');
    EXPECT_EQ(answer("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + body).body, body);
    // Passed on in chunks as it comes.
    EXPECT_EQ(answer("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" + body +
                     "\r\n0\r\n\r\n")
                  .body,
              body);
    if (std::string const curl = support::find_program("curl"); !curl.empty()) {
        std::string const events =
            run(curl + " -sSN --noproxy '*' --max-time 10 http://127.0.0.1:" + std::to_string(port) +
                "/pieces?100");
        EXPECT_TRUE(events.ends_with("data: 99\n\n"));
    }
    // Nginx keeps connections open: they are idle, and end with the server.
    EXPECT_EQ(server.stop(), 0);
}

}  // namespace
