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
        if (::fstat(file, &about) == 0 && about.st_size > 0) {
            void* const at =
                ::mmap(nullptr, static_cast<std::size_t>(about.st_size), PROT_READ, MAP_PRIVATE, file, 0);
            if (at != MAP_FAILED)
                bytes_ = {static_cast<std::byte const*>(at), static_cast<std::size_t>(about.st_size)};
        }
        bool const good = bytes_.data() != nullptr || (about.st_size == 0 && S_ISREG(about.st_mode));
        std::error_code const error(errno, std::system_category());
        (void)::close(file);  // the mapping keeps it
        if (!good)
            throw std::system_error(
                S_ISREG(about.st_mode) ? error : std::make_error_code(std::errc::is_a_directory), path);
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
