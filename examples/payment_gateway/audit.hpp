// SPDX-License-Identifier: MIT
// What is in the tables, read anew, when no gateway runs: the judge of all claims.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "load.hpp"
#include "mover.hpp"
#include "payment.hpp"
#include "store.hpp"

namespace gateway {

struct audit {
    std::uint64_t rows = 0;
    std::uint64_t twice = 0;      ///< rows whose key is in another shard too
    std::uint64_t misplaced = 0;  ///< rows in a shard that does not own their position
    std::uint64_t wrong = 0;      ///< rows that are not what the payment of that number is
    std::vector<std::uint64_t> by_shard;

    /// How many of these numbers are in no table.
    [[nodiscard]] std::uint64_t missing(std::vector<std::uint64_t> const& numbers) const {
        std::uint64_t n = 0;
        for (std::uint64_t const one : numbers) n += !seen_.contains(sample_payment{one}.key());
        return n;
    }
    [[nodiscard]] static audit of(backend& in) {
        audit made;
        catalog names(std::numeric_limits<std::size_t>::max());
        ring shards;
        for (std::string const& name : in.shards()) shards.add(name);
        for (std::string const& name : in.shards()) {
            (void)in.open_writer(name, names);  // a shard that was killed at birth has no table yet
            auto const table = in.open_reader(name, names);
            std::uint64_t const before = made.rows;
            for (std::uint64_t first = 0;;) {
                auto const rows = table->range(first, std::numeric_limits<std::uint64_t>::max(), 4096);
                for (payment const& row : rows) {
                    made.misplaced += shards.node(shards.owner_of(row.position)) != name;
                    made.look(row, names);
                }
                if (rows.empty() || rows.back().position == std::numeric_limits<std::uint64_t>::max()) break;
                first = rows.back().position + 1;  // 64 bits of a hash: no two ids share one here
            }
            made.by_shard.push_back(made.rows - before);
        }
        return made;
    }

  private:
    void look(payment const& row, catalog const& names) {
        ++rows;
        twice += ++seen_[std::string(row.id.view())] > 1;
        if (!row.id.view().starts_with("p-")) return;
        sample_payment const should{std::stoull(std::string(row.id.view().substr(2)))};
        wrong += names.name(row.merchant) != should.merchant() ||
                 names.name(row.currency) != should.currency() || row.minor != should.minor();
    }
    std::unordered_map<std::string, unsigned> seen_;
};

}  // namespace gateway
