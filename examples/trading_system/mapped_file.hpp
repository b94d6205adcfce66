// SPDX-License-Identifier: MIT
// A file as memory: a day of 10 GB is read as it is needed, and no buffer is filled or copied.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <system_error>

namespace trading {

class mapped_file {
  public:
    /// @throws std::system_error with the name, if it cannot be read.
    explicit mapped_file(std::string const& path) {
        int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file == -1) throw std::system_error(errno, std::system_category(), path);
        struct stat about{};
        bool good = ::fstat(file, &about) == 0;
        if (good && S_ISDIR(about.st_mode)) {
            errno = EISDIR;
            good = false;
        }
        if (good && about.st_size > 0) {
            auto const size = static_cast<std::size_t>(about.st_size);
            void* const at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
            good = at != MAP_FAILED;
            if (good) bytes_ = {static_cast<std::byte const*>(at), size};
        }
        std::error_code const error(errno, std::system_category());
        (void)::close(file);  // the mapping keeps it
        if (!good) throw std::system_error(error, path);
    }
    mapped_file(mapped_file const&) = delete;
    mapped_file& operator=(mapped_file const&) = delete;
    ~mapped_file() {
        if (bytes_.data() != nullptr) (void)::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    }
    [[nodiscard]] std::span<std::byte const> bytes() const noexcept { return bytes_; }

  private:
    std::span<std::byte const> bytes_;
};

}  // namespace trading
