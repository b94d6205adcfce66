// SPDX-License-Identifier: MIT
// A file as memory: a day of 10 GB is read as it is needed, and no buffer is filled or copied.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cairn/socket.hpp>

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <system_error>

namespace trading {

/// Who shortens the file meanwhile ends the process (SIGBUS): a day that is being written is not for this.
class mapped_file {
  public:
    /// @throws std::system_error with the name, if it cannot be read, or is no file (a folder, a pipe).
    explicit mapped_file(std::string const& path) {
        cairn::unique_fd const file(
            ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // NONBLOCK: pipes
        struct stat about{};
        if (file.get() == -1 || ::fstat(file.get(), &about) != 0)
            throw std::system_error(errno, std::system_category(), path);
        if (!S_ISREG(about.st_mode))
            throw std::system_error(std::make_error_code(std::errc::not_supported),
                                    path + " is no regular file");
        if (about.st_size == 0) return;  // there is no mapping of nothing
        auto const size = static_cast<std::size_t>(about.st_size);
        void* const at =
            ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);  // outlives the descriptor
        if (at == MAP_FAILED) throw std::system_error(errno, std::system_category(), path);
        bytes_ = {static_cast<std::byte const*>(at), size};
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
