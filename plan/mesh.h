// Ranks as points of a mesh with named axes, and process groups as slices of it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace foretrain::plan {

using Rank = std::int64_t;

enum class Axis : std::uint8_t { pp, dp, cp, tp };
inline constexpr int kAxes = 4;
std::string_view name(Axis a);

// Coordinates of a rank, indexed by Axis.
using Coordinates = std::array<int, kAxes>;

// Requires: every axis once in `order`, extents >= 1.
struct Mesh {
  std::array<Axis, kAxes> order{Axis::pp, Axis::dp, Axis::cp, Axis::tp};  // slowest first
  std::array<int, kAxes> extent{1, 1, 1, 1};                              // indexed by Axis
  // Ranks of their own (servers, loaders) behind all others: each has a coordinate along dp past the extent, where
  // nothing lies along the other axes. They are in the ranges and groups that name that coordinate, and in no others.
  int beside = 0;

  int size(Axis a) const { return extent[static_cast<std::size_t>(a)]; }
  int end(Axis a) const { return size(a) + (a == Axis::dp ? beside : 0); }  // of coordinates
  Rank ranks() const { return within() + beside; }
  Rank within() const;  // ranks without those beside
  Coordinates coordinates(Rank r) const;
  Rank rank(const Coordinates& c) const;
  // Ranks between two neighbours along an axis.
  Rank stride(Axis a) const;
  // The rank that differs from r only along an axis: at `coordinate` there, or, `relative`, that many further on, where
  // the axis is a ring. From a rank beside, which has no such neighbours, the rank of that number.
  Rank peer(Rank r, Axis a, int coordinate, bool relative) const;
};

// "pp,dp,cp,tp" -> order, slowest first. Throws InputError naming the allowed axes.
std::array<Axis, kAxes> parse_rank_order(const std::string& text);

// Which coordinates along one axis belong together: all of them, or blocks of `block` neighbours; of these every
// `stride`-th; or just those of `only`. Blocks of n, and all in strides of n, cross each other in one rank.
struct AxisSpan {
  Axis axis{};
  int block = 0;
  std::vector<int> only;
  int stride = 1;
};

// All ranks that differ only along the spans' axes (within a block, or among `only`). A rank's index in its group
// counts in mesh order, the last axis of Mesh::order fastest. Weights (uneven batches) are per index; empty means
// equal.
struct Group {
  std::string name;
  std::vector<AxisSpan> spans;
  std::vector<double> weights;
};

// Index into the plan graph's groups.
using GroupId = std::int16_t;
inline constexpr GroupId kNoGroup = -1;

int group_size(const Mesh& mesh, const Group& group);
bool contains(const Mesh& mesh, const Group& group, Rank r);
// REQUIRES: contains(mesh, group, r).
int index_in_group(const Mesh& mesh, const Group& group, Rank r);
std::vector<Rank> members(const Mesh& mesh, const Group& group, Rank r);

}  // namespace foretrain::plan
