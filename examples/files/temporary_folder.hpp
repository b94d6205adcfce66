// SPDX-License-Identifier: MIT
// A folder that goes with all that is in it.
#pragma once

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

namespace files {

/// Its path is short: a Unix socket's may have 107 bytes.
class temporary_folder {
  public:
    temporary_folder() : path_((std::filesystem::temp_directory_path() / "cairn-XXXXXX").string()) {
        if (::mkdtemp(path_.data()) == nullptr)
            throw std::system_error(errno, std::generic_category(), "mkdtemp " + path_);
    }
    ~temporary_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    temporary_folder(temporary_folder const&) = delete;
    temporary_folder& operator=(temporary_folder const&) = delete;

    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    /// A path in it.
    [[nodiscard]] std::string operator/(std::string const& name) const { return path_ + '/' + name; }
    /// A path in it that has not been given before.
    [[nodiscard]] std::string next() { return *this / std::to_string(++given_); }

  private:
    std::string path_;
    int given_ = 0;
};

}  // namespace files
