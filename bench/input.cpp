// SPDX-License-Identifier: MIT
#include "input.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

namespace cairn::bench {

lines parse_lines(std::string_view text, std::string source) {
    lines result{std::move(source), {}};
    std::size_t number = 0;
    while (!text.empty()) {
        ++number;
        std::size_t const end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        auto const where = [&] { return result.source + ", line " + std::to_string(number); };
        if (line.size() > max_line)
            throw std::runtime_error(where() + ": " + std::to_string(line.size()) +
                                     " bytes; a key or node may have 1 MiB at most");
        if (line.find('\0') != std::string_view::npos)
            throw std::runtime_error(where() + ": a NUL byte; this is no text file");
        if (!line.empty()) result.items.emplace_back(line);
    }
    if (result.items.empty()) throw std::runtime_error(result.source + ": there is no key or node in it");
    return result;
}

lines read_lines(std::string const& path) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) throw std::runtime_error(path + ": is a directory");
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read: " + std::strerror(errno));
    std::string const text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (file.bad()) throw std::runtime_error(path + ": cannot be read to its end: " + std::strerror(errno));
    return parse_lines(text, path);
}

lines default_keys() {
    for (char const* const words : {"/usr/share/dict/words", "/usr/share/dict/american-english"})
        if (std::filesystem::exists(words)) return read_lines(words);
    lines packages{"names of installed packages", {}};
    std::error_code error;
    for (auto const& entry : std::filesystem::directory_iterator("/var/lib/dpkg/info", error))
        if (entry.path().extension() == ".list") packages.items.push_back(entry.path().stem().string());
    std::sort(packages.items.begin(), packages.items.end());
    if (packages.items.size() >= 1'000) return packages;
    lines generated{"generated", {}};
    for (std::size_t i = 0; i < 100'000; ++i) generated.items.push_back("user:" + std::to_string(i));
    return generated;
}

lines default_nodes(std::size_t count) {
    lines nodes{"generated", {}};
    for (std::size_t i = 0; i < count; ++i) nodes.items.push_back("node-" + std::to_string(i));
    return nodes;
}

void refuse_duplicates(lines const& nodes) {
    auto sorted = nodes.items;
    std::sort(sorted.begin(), sorted.end());
    auto const twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end())
        throw std::runtime_error(nodes.source + ": the node \"" + twice->substr(0, 80) +
                                 "\" stands there twice");
}

}  // namespace cairn::bench
