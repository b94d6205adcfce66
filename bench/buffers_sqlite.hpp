// SPDX-License-Identifier: MIT
// SQLite behind the buffers of this comparison: files that are gone at the end, and a sink for its events.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>

#include "buffer_runs.hpp"
#include "sinks/sqlite_sink.hpp"

namespace cairn::bench {

/// A folder for databases, gone at the end.
class folder {
  public:
    folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "cairn-compare-XXXXXX").string();
        if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no folder for databases");
        path_ = pattern;
    }
    folder(folder const&) = delete;
    folder& operator=(folder const&) = delete;
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    /// A name that no file has yet.
    [[nodiscard]] std::string file() { return (path_ / ("db" + std::to_string(++files_))).string(); }

  private:
    std::filesystem::path path_;
    int files_ = 0;
};

template <class Event>
struct row_of {
    [[nodiscard]] std::tuple<std::int64_t, std::span<std::byte const>> operator()(Event const& e) const {
        return {static_cast<std::int64_t>(events<Event>::number(e)), events<Event>::body(e)};
    }
};
[[nodiscard]] inline sinks::table event_table() {
    return {.name = "events", .columns = {"number", "body"}, .key = 0};
}
template <class Event>
[[nodiscard]] sinks::sqlite_sink<Event, row_of<Event>> sqlite(std::string const& path,
                                                              sinks::synchronous sync) {
    sinks::sqlite_options options;
    options.sync = sync;
    return {path, event_table(), row_of<Event>{}, options};
}

}  // namespace cairn::bench
