// SPDX-License-Identifier: MIT
// The rows of a golden file: what a real program answered. Lines that begin with # and the names of the
// columns are left out; a key never has a comma.
#pragma once

#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace support {

using row = std::vector<std::string>;

/// @throws std::runtime_error if there is no such file.
inline std::vector<row> golden(std::string const& name) {
    std::ifstream file(CAIRN_GOLDEN_DIR "/" + name);
    if (!file) throw std::runtime_error("no " CAIRN_GOLDEN_DIR "/" + name);
    std::vector<row> rows;
    bool names = true;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with('#')) continue;
        if (std::exchange(names, false)) continue;
        row fields(1);
        for (char const letter : line)
            if (letter == ',')
                fields.emplace_back();
            else
                fields.back() += letter;
        rows.push_back(std::move(fields));
    }
    return rows;
}

}  // namespace support
