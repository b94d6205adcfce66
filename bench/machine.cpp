// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/utsname.h>
#endif

#if !defined(CAIRN_BENCH_COMPILER_FLAGS)
#define CAIRN_BENCH_COMPILER_FLAGS "unknown"
#endif
#if !defined(CAIRN_BENCH_BUILD_TYPE)
#define CAIRN_BENCH_BUILD_TYPE "unknown"
#endif

namespace cairn::bench {
namespace {

[[nodiscard]] std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    std::string line;
    while (std::getline(file, line)) {
        std::size_t const colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "unknown";
}

[[nodiscard]] std::string os_name() {
#if defined(__unix__) || defined(__APPLE__)
    utsname system{};
    if (uname(&system) == 0) return std::string(system.sysname) + " " + system.release + " " + system.machine;
#endif
    return "unknown";
}

}  // namespace

nlohmann::json machine() {
    auto const& info = benchmark::CPUInfo::Get();
    nlohmann::json result = {{"cpu", cpu_name()},
                             {"cores", std::thread::hardware_concurrency()},
                             {"mhz", std::round(info.cycles_per_second / 1e6)},
                             {"l1d_kib", 0},
                             {"l2_kib", 0},
                             {"l3_kib", 0},
                             {"os", os_name()}};
    for (auto const& cache : info.caches) {
        if (cache.type == "Instruction") continue;
        std::string const level = cache.level == 1 ? "l1d_kib" : cache.level == 2 ? "l2_kib" : "l3_kib";
        result[level] = cache.size / 1024;
    }
    return result;
}

nlohmann::json build() {
#if defined(__clang__)
    std::string const compiler = "clang++ " __clang_version__;
#elif defined(__GNUC__)
    std::string const compiler = "g++ " __VERSION__;
#else
    std::string const compiler = "unknown";
#endif
    return {{"compiler", compiler}, {"flags", CAIRN_BENCH_COMPILER_FLAGS}, {"type", CAIRN_BENCH_BUILD_TYPE}};
}

std::string now() {
    std::time_t const time = std::time(nullptr);
    std::tm parts{};
#if defined(_WIN32)
    gmtime_s(&parts, &time);
#else
    gmtime_r(&time, &parts);
#endif
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

}  // namespace cairn::bench
