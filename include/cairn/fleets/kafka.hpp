// SPDX-License-Identifier: MIT
// Which partition Kafka's own producers give a record that has a key: the default partitioner.
//
// MurmurHash2 of the serialized key, the sign bit taken off, modulo the number of the topic's partitions. A
// consumer that knows the key knows the partition, and a producer with cairn puts it where Java's would.
//
// Quirks that are kept:
//   - The hash has 32 bits, and its sign is masked, not negated: 31 bits count. The first partitions get more
//     than the others, by a part of partitions / 2^31 at most.
//   - What is hashed is what the serializer wrote. Give `find` those bytes: a StringSerializer's text is in
//     UTF-8, a LongSerializer's number is 8 bytes, the highest first.
//
// When not to use it: records without a key (they go where the batch goes); librdkafka with its own default
// (consistent_random: CRC-32; set partitioner=murmur2 there); topics that will get more partitions: nearly
// every key moves, as with any modulo. Source: Apache Kafka, org.apache.kafka.common.utils.Utils.murmur2,
// verified by the values of its unit test. Cost: 8 ns for 15 bytes, hash and division.
// Thread safety: as a container: const members may run concurrently, others need exclusion.
//
//   cairn::fleets::kafka_partitioner const topic(12);
//   std::size_t const partition = topic.find("user:42");
//   std::cout << partition << '\n';
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../detail/murmur.hpp"
#include "../detail/routing.hpp"

namespace cairn::fleets {

/// A router over the partitions 0 … n - 1.
class kafka_partitioner {
  public:
    using node_type = std::size_t;
    static constexpr std::size_t max_partitions = 0x7fff'ffff;

    /// @throws std::invalid_argument unless 1 <= partitions <= max_partitions.
    explicit kafka_partitioner(std::size_t partitions) : partitions_(checked(partitions)) {}
    /// @throws as the constructor; nothing has changed then.
    void resize(std::size_t partitions) { partitions_ = checked(partitions); }

    /// The hash of a serialized key, before it is made positive.
    [[nodiscard]] static constexpr std::uint32_t hash(std::string_view key) noexcept {
        return detail::murmur2(key, 0x9747b28c);
    }
    [[nodiscard]] constexpr std::size_t find(std::string_view key) const noexcept {
        return (hash(key) & 0x7fff'ffff) % partitions_;
    }
    [[nodiscard]] constexpr std::size_t find_index(std::string_view key) const noexcept { return find(key); }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return partitions_; }
    [[nodiscard]] constexpr std::size_t node(std::size_t index) const noexcept { return index; }

  private:
    static std::uint32_t checked(std::size_t partitions) {
        if (partitions < 1 || partitions > max_partitions)
            detail::refuse("fleets::kafka_partitioner", "the number of partitions must be from 1 to " +
                                                            std::to_string(max_partitions) + ", not " +
                                                            std::to_string(partitions));
        return static_cast<std::uint32_t>(partitions);
    }

    std::uint32_t partitions_;
};

}  // namespace cairn::fleets
