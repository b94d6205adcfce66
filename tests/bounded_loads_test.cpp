// SPDX-License-Identifier: MIT
#include <cairn/bounded_loads.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using ring = cairn::hash_ring<std::string>;
using balancer = cairn::bounded_loads<ring>;

static_assert(noexcept(std::declval<balancer&>().assign(1)));
static_assert(noexcept(std::declval<balancer const&>().candidate(1)));

// With every way to search the circle.
static_assert(std::is_constructible_v<cairn::bounded_loads<cairn::hash_ring<int, cairn::binary>>,
                                      cairn::hash_ring<int, cairn::binary>, double>);

__extension__ using wide = unsigned __int128;

/// ceil((1 + epsilon) * keys * weight / weights), at most `keys`, as one writes it down if one has the bits.
std::size_t capacity_by_definition(double epsilon, std::size_t keys, std::int64_t weight,
                                   std::int64_t weights) {
    wide const factor = (wide{1} << 20) + static_cast<wide>(std::llround(epsilon * 1048576.0));
    wide const unit = static_cast<wide>(weights) << 20;
    wide const exact = (factor * keys * static_cast<wide>(weight) + unit - 1) / unit;
    return static_cast<std::size_t>(std::min(exact, wide{keys}));
}

std::int64_t weights_of(ring const& nodes) {
    std::int64_t sum = 0;
    for (ring::member const& member : nodes.members()) sum += member.weight;
    return sum;
}

/// The first node with room clockwise from `key`, read off the definition.
std::size_t owner_by_definition(balancer const& loads, double epsilon, std::uint64_t key) {
    std::size_t found = loads.ring().size();
    loads.ring().walk(key, [&](std::size_t node) {
        found = node;
        return loads.load(node) < capacity_by_definition(epsilon, loads.total() + 1,
                                                         loads.ring().members()[node].weight,
                                                         weights_of(loads.ring()));
    });
    return found;
}

ring equal_nodes(int nodes, std::size_t points) {
    std::vector<ring::member> members;
    for (int i = 0; i < nodes; ++i) members.push_back({"node-" + std::to_string(i), 1});
    return ring(std::move(members), cairn::virtual_nodes<>{points});
}

ring weighted_nodes(std::mt19937_64& random) {
    std::vector<ring::member> members;
    for (std::size_t i = 0, nodes = 1 + random() % 12; i < nodes; ++i)
        members.push_back({"node-" + std::to_string(i), 1 + static_cast<std::int64_t>(random() % 9)});
    return ring(std::move(members), cairn::virtual_nodes<>{1 + random() % 20});
}

constexpr std::array<double, 5> epsilons{0.000001, 0.01, 0.1, 0.5, 3.0};

template <class Exception, class Call>
std::string message_of(Call call) {
    try {
        call();
    } catch (Exception const& error) {
        return error.what();
    }
    return "nothing was thrown";
}

TEST(BoundedLoads, WhileKeysAreOnlyPlacedEveryLoadIsWithinTheBoundAtEveryMoment) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        double const epsilon = epsilons[seed % epsilons.size()];
        balancer loads(weighted_nodes(random), epsilon);
        std::int64_t const weights = weights_of(loads.ring());
        for (std::size_t keys = 1; keys <= 400; ++keys) {
            static_cast<void>(loads.assign(random()));
            ASSERT_EQ(loads.total(), keys);
            std::size_t sum = 0;
            for (std::size_t node = 0; node < loads.ring().size(); ++node) {
                sum += loads.load(node);
                ASSERT_LE(loads.load(node),
                          capacity_by_definition(epsilon, keys, loads.ring().members()[node].weight, weights))
                    << "seed " << seed << " node " << node << " keys " << keys;
            }
            ASSERT_EQ(sum, keys) << "seed " << seed;
        }
    }
}

TEST(BoundedLoads, AKeyGoesToTheFirstNodeWithRoomWhateverWasPlacedAndReleased) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        double const epsilon = epsilons[seed % epsilons.size()];
        balancer loads(weighted_nodes(random), epsilon);
        std::int64_t const weights = weights_of(loads.ring());
        std::vector<std::size_t> placed;  // the node of each key
        for (int step = 0; step < 1000; ++step) {
            if (!placed.empty() && random() % 5 < 2) {
                std::swap(placed[random() % placed.size()], placed.back());
                loads.release(placed.back());
                placed.pop_back();
            } else {
                std::uint64_t const key = random();
                std::size_t const expected = owner_by_definition(loads, epsilon, key);
                ASSERT_EQ(loads.candidate(key), expected) << "seed " << seed << " step " << step;
                placed.push_back(loads.assign(key));
                ASSERT_EQ(placed.back(), expected) << "seed " << seed << " step " << step;
                // The bound, for the one load that has grown. Others may be above it after releases.
                ASSERT_LE(loads.load(expected),
                          capacity_by_definition(epsilon, loads.total(),
                                                 loads.ring().members()[expected].weight, weights))
                    << "seed " << seed << " step " << step;
            }
            ASSERT_EQ(loads.total(), placed.size());
        }
        for (std::size_t node = 0; node < loads.ring().size(); ++node)
            ASSERT_EQ(loads.load(node), static_cast<std::size_t>(std::ranges::count(placed, node)));
    }
}

TEST(BoundedLoads, CapacityIsTheFormula) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        double const epsilon = epsilons[seed % epsilons.size()];
        balancer loads(weighted_nodes(random), epsilon);
        for (int i = 0; i < 200; ++i) {
            for (std::size_t node = 0; node < loads.ring().size(); ++node)
                ASSERT_EQ(loads.capacity(node), capacity_by_definition(epsilon, loads.total() + 1,
                                                                       loads.ring().members()[node].weight,
                                                                       weights_of(loads.ring())))
                    << "seed " << seed;
            static_cast<void>(loads.assign(i));
        }
    }
}

TEST(BoundedLoads, WeightsBeyond32BitsAreExact) {
    // Placements of one point a node whatever its weight: so weights may be as large as they like.
    struct one_point : cairn::virtual_nodes<> {
        one_point() = default;
        [[nodiscard]] std::size_t points(std::int64_t) const { return 1; }
    };
    using big_ring = cairn::hash_ring<int, cairn::indexed, one_point>;
    using members = std::vector<big_ring::member>;
    constexpr std::int64_t big = (std::int64_t{1} << 42) + 12345;
    constexpr double epsilon = 0.25;
    cairn::bounded_loads loads(big_ring(members{{0, big}, {1, 2 * big}, {2, 1}}), epsilon);
    for (int key = 0; key < 3000; ++key) static_cast<void>(loads.assign(key));
    for (std::size_t node = 0; node < 3; ++node) {
        std::int64_t const weight = loads.ring().members()[node].weight;
        EXPECT_EQ(loads.capacity(node), capacity_by_definition(epsilon, 3001, weight, 3 * big + 1));
        EXPECT_LE(loads.load(node), capacity_by_definition(epsilon, 3000, weight, 3 * big + 1));
    }
    EXPECT_THROW(cairn::bounded_loads(big_ring(members{{0, std::int64_t{1} << 44}}), epsilon),
                 std::invalid_argument);
    EXPECT_THROW(cairn::bounded_loads(
                     big_ring(members{{0, std::int64_t{1} << 43}, {1, std::int64_t{1} << 43}}), epsilon),
                 std::invalid_argument);
    EXPECT_NO_THROW(cairn::bounded_loads(big_ring(members{{0, std::int64_t{1} << 43}}), epsilon));
}

TEST(BoundedLoads, AGreatEpsilonIsThePlainRing) {
    for (double const epsilon : {100.0, 1e6, 1e12, 1e18, std::numeric_limits<double>::max()}) {
        balancer loads(equal_nodes(100, 100), epsilon);
        for (int key = 0; key < 5000; ++key)
            ASSERT_EQ(loads.assign(key), loads.ring().find_index(key)) << epsilon;
    }
}

TEST(BoundedLoads, OneNodeTakesAll) {
    balancer loads(ring{"only"}, 1e-9);
    for (int key = 0; key < 1000; ++key) ASSERT_EQ(loads.assign(key), 0u);
    EXPECT_EQ(loads.load(0), 1000u);
    EXPECT_EQ(loads.capacity(0), 1001u);
}

// The published setting: 100 nodes of 100 points, 10,000 keys.
struct figures {
    double fullest;        // over the mean
    double looked_at;      // nodes for each key
    double moved_on_loss;  // share of the keys, when one node leaves and all keys are placed again in order
};
figures measure(double epsilon) {
    constexpr int nodes = 100, keys = 10'000;
    balancer before(equal_nodes(nodes, 100), epsilon);
    std::vector<std::size_t> owners;
    std::size_t looked_at = 0;
    for (int key = 0; key < keys; ++key) {
        owners.push_back(before.assign(key));
        before.ring().walk(key, [&](std::size_t node) {
            ++looked_at;
            return node == owners.back();
        });
    }
    std::size_t fullest = 0;
    for (std::size_t node = 0; node < nodes; ++node) fullest = std::max(fullest, before.load(node));
    std::size_t moved = 0;
    constexpr std::size_t losses = 20;
    for (std::size_t gone = 0; gone < losses; ++gone) {
        ring rest = before.ring();
        rest.remove(std::string(before.ring().node(gone)));
        balancer after(std::move(rest), epsilon);
        for (std::size_t key = 0; key < keys; ++key) {
            std::string const& owner = after.ring().node(after.assign(static_cast<int>(key)));
            moved += owner != before.ring().node(owners[key]);
        }
    }
    return {static_cast<double>(fullest) / (keys / nodes), static_cast<double>(looked_at) / keys,
            static_cast<double>(moved) / (keys * losses)};
}

TEST(BoundedLoads, OfAHundredNodesNoneIsAboveTheBoundAndFewKeysMove) {
    figures const unbounded = measure(1000);
    EXPECT_GT(unbounded.fullest, 1.25);
    EXPECT_EQ(unbounded.looked_at, 1.0);
    EXPECT_NEAR(unbounded.moved_on_loss, 0.01, 0.002);  // the shares of the nodes that were taken
    figures const quarter = measure(0.25);
    EXPECT_LE(quarter.fullest, 1.25);
    EXPECT_LT(quarter.looked_at, 1.07);
    EXPECT_LT(quarter.moved_on_loss, 0.045);
    figures const tenth = measure(0.1);
    EXPECT_LE(tenth.fullest, 1.10);
    EXPECT_LT(tenth.looked_at, 1.20);
    EXPECT_LT(tenth.moved_on_loss, 0.11);
    EXPECT_GT(tenth.looked_at, quarter.looked_at);
    for (auto const& [name, what] : {std::pair{"1000", unbounded}, {"0.25", quarter}, {"0.1", tenth}})
        RecordProperty(std::string("epsilon ") + name, std::to_string(what.fullest) + " " +
                                                           std::to_string(what.looked_at) + " " +
                                                           std::to_string(what.moved_on_loss));
}

TEST(BoundedLoads, ReplaceKeepsTheLoadsOfNodesThatStayAndCountsTheKeysOfThoseThatLeft) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        balancer loads(weighted_nodes(random), 0.1);
        for (int i = 0; i < 300; ++i) static_cast<void>(loads.assign(random()));
        for (int round = 0; round < 5; ++round) {
            balancer const before = loads;
            std::vector<ring::member> members;
            for (int i = 0; i < 14; ++i)
                if (random() % 2 == 0)
                    members.push_back(
                        {"node-" + std::to_string(i), 1 + static_cast<std::int64_t>(random() % 9)});
            if (members.empty()) members.push_back({"node-0", 1});
            std::ranges::shuffle(members, random);
            ring const next(std::move(members), cairn::virtual_nodes<>{3});

            std::size_t left = before.total();
            std::size_t const returned = loads.replace(next);
            ASSERT_EQ(loads.ring().fingerprint(), next.fingerprint());
            for (std::size_t node = 0; node < next.size(); ++node) {
                std::optional<std::size_t> const old = before.index_of(next.node(node));
                ASSERT_EQ(loads.load(node), old ? before.load(*old) : 0) << "seed " << seed;
                left -= loads.load(node);
            }
            ASSERT_EQ(returned, left) << "seed " << seed;
            ASSERT_EQ(loads.total(), before.total() - left) << "seed " << seed;
            for (std::size_t i = 0; i < returned; ++i) {  // the caller places them again
                std::uint64_t const key = random();
                std::size_t const expected = owner_by_definition(loads, 0.1, key);
                ASSERT_EQ(loads.assign(key), expected) << "seed " << seed;
            }
        }
    }
}

TEST(BoundedLoads, IndexOfFindsANodeWhereItIsNow) {
    balancer loads(ring{"a", "b", "c"}, 0.5);
    std::string const owner = loads.ring().node(loads.assign("job"));
    EXPECT_EQ(loads.replace(ring{"z", "c", "b", "a"}), 0u);
    std::optional<std::size_t> const place = loads.index_of(owner);
    ASSERT_TRUE(place.has_value());
    EXPECT_EQ(loads.ring().node(*place), owner);
    EXPECT_EQ(loads.load(*place), 1u);
    loads.release(*place);
    EXPECT_EQ(loads.total(), 0u);
    EXPECT_EQ(loads.index_of("unknown"), std::nullopt);
}

TEST(BoundedLoads, EpsilonIsRoundedToAMultipleOfTwoToTheMinusTwentyButNotToZero) {
    constexpr double unit = 1.0 / 1048576;
    EXPECT_EQ(balancer(ring{"a"}, 0.5).epsilon(), 0.5);
    EXPECT_EQ(balancer(ring{"a"}, 7.4 * unit).epsilon(), 7 * unit);
    EXPECT_EQ(balancer(ring{"a"}, 7.6 * unit).epsilon(), 8 * unit);
    EXPECT_EQ(balancer(ring{"a"}, 1e-300).epsilon(), unit);
    EXPECT_EQ(balancer(ring{"a"}, std::numeric_limits<double>::denorm_min()).epsilon(), unit);
}

TEST(BoundedLoads, ABadEpsilonOrRingIsRefusedByNameAndChangesNothing) {
    for (double const bad : {0.0, -0.0, -0.1, std::nan(""), std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()})
        EXPECT_THROW(balancer(ring{"a"}, bad), std::invalid_argument) << bad;
    EXPECT_THROW(balancer(ring{}, 0.1), std::invalid_argument);
    EXPECT_EQ(message_of<std::invalid_argument>([] { balancer(ring{"a"}, -1e-9); }),
              "cairn::bounded_loads: epsilon must be positive and finite, not -1e-09");

    balancer loads(ring{"a", "b"}, 0.1);
    std::size_t const place = loads.assign("key");
    EXPECT_THROW(loads.replace(ring{}), std::invalid_argument);
    EXPECT_EQ(loads.ring().size(), 2u);
    EXPECT_EQ(loads.load(place), 1u);
    EXPECT_EQ(loads.total(), 1u);
}

TEST(BoundedLoads, ReleasingWhatIsNotThereIsRefusedByNameAndChangesNothing) {
    balancer loads(ring{"a", "b"}, 0.1);
    std::size_t const place = loads.assign("key");
    EXPECT_EQ(message_of<std::out_of_range>([&] { loads.release(2); }),
              "cairn::bounded_loads: there are 2 nodes, none at place 2");
    EXPECT_THROW(static_cast<void>(loads.load(2)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(loads.capacity(2)), std::out_of_range);
    EXPECT_EQ(message_of<std::invalid_argument>([&] { loads.release(1 - place); }),
              "cairn::bounded_loads: node " + std::to_string(1 - place) + " holds no key to release");
    EXPECT_EQ(loads.total(), 1u);
    loads.release(place);
    EXPECT_THROW(loads.release(place), std::invalid_argument);
    EXPECT_EQ(loads.total(), 0u);
}

}  // namespace
