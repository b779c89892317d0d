#include "plan/graph.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace foretrain::plan {

std::string_view name(StreamKind k) {
  switch (k) {
    case StreamKind::compute: return "compute";
    case StreamKind::collective: return "collective";
    case StreamKind::point_to_point: return "point_to_point";
    case StreamKind::copy: return "copy";
    case StreamKind::host: return "host";
  }
  return "?";
}

std::string_view name(BufferKind k) {
  switch (k) {
    case BufferKind::parameter: return "parameter";
    case BufferKind::gradient: return "gradient";
    case BufferKind::optimizer_state: return "optimizer_state";
    case BufferKind::activation: return "activation";
    case BufferKind::communication: return "communication";
    case BufferKind::workspace: return "workspace";
    case BufferKind::input: return "input";
    case BufferKind::host: return "host";
  }
  return "?";
}

std::string_view name(Lifetime l) {
  switch (l) {
    case Lifetime::persistent: return "persistent";
    case Lifetime::slot: return "slot";
    case Lifetime::hold: return "hold";
    case Lifetime::ring: return "ring";
    case Lifetime::segment: return "segment";
    case Lifetime::block: return "block";
  }
  return "?";
}

std::string_view name(Replicas r) {
  switch (r) {
    case Replicas::once: return "once";
    case Replicas::per_slot: return "per_slot";
    case Replicas::per_ring: return "per_ring";
    case Replicas::per_layer: return "per_layer";
  }
  return "?";
}

std::string_view name(Init i) {
  switch (i) {
    case Init::normal: return "normal";
    case Init::zeros: return "zeros";
    case Init::ones: return "ones";
  }
  return "?";
}

AxisRange along(const Mesh& mesh, const RankSet& set, Axis axis) {
  const auto given =
      std::find_if(set.fixed.begin(), set.fixed.end(), [&](const AxisRange& f) { return f.axis == axis; });
  return given == set.fixed.end() ? AxisRange{axis, 0, mesh.size(axis)} : *given;
}

bool contains(const Mesh& mesh, const RankSet& set, Rank r) {
  const Coordinates c = mesh.coordinates(r);
  const auto holds = [&](const AxisRange& f) {
    const int at = c[static_cast<std::size_t>(f.axis)] - f.first;
    return at >= 0 && at < f.count;
  };
  return std::all_of(set.fixed.begin(), set.fixed.end(), holds) && holds(along(mesh, set, Axis::dp));
}

Rank first_rank(const Mesh& mesh, const RankSet& set) {
  Coordinates c{};
  for (const AxisRange& f : set.fixed) {
    CHECK(f.first >= 0 && f.count >= 1 && f.first + f.count <= mesh.end(f.axis), "{} coordinates from {} of {} ranks",
          f.count, f.first, mesh.end(f.axis));
    c[static_cast<std::size_t>(f.axis)] = f.first;
  }
  return mesh.rank(c);
}

std::int64_t count(const Mesh& mesh, const RankSet& set) {
  std::array<int, kAxes> extent = mesh.extent;
  for (const AxisRange& f : set.fixed) {
    extent[static_cast<std::size_t>(f.axis)] = f.count;
  }
  std::int64_t n = 1;
  for (const int e : extent) {
    n *= e;
  }
  return n;
}

std::int32_t period(const PlanGraph& graph) {
  std::int32_t longest = 1;
  for (const Role& role : graph.roles) {
    for (const Instance& instance : role.program.body) {
      longest = std::max(longest, instance.every);
    }
  }
  return longest;
}

std::int64_t PlanGraph::all_microbatches() const {
  return microbatches_of.empty() ? std::int64_t{microbatches} * data_ranks()
                                 : std::accumulate(microbatches_of.begin(), microbatches_of.end(), std::int64_t{0});
}

// Microbatch by microbatch from rank to rank, so that the one-rank job takes them in the same order; where ranks have
// different numbers of them, rank by rank.
std::int64_t PlanGraph::microbatches_before(int data_rank, std::int32_t microbatch) const {
  if (microbatches_of.empty()) {
    return std::int64_t{microbatch} * data_ranks() + data_rank;
  }
  const auto own = microbatches_of.begin() + data_rank;
  return std::accumulate(microbatches_of.begin(), own, std::int64_t{0}) + microbatch - (microbatches - *own);
}

std::int32_t first_microbatch(const Role& role) {
  std::int32_t first = std::numeric_limits<std::int32_t>::max();
  for (const Instance& instance : role.program.evaluation) {
    first = instance.microbatch >= 0 ? std::min(first, instance.microbatch) : first;
  }
  return first;
}

int role_of(const PlanGraph& graph, Rank r) {
  for (std::size_t i = 0; i < graph.roles.size(); ++i) {
    if (contains(graph.mesh, graph.roles[i].ranks, r)) {
      return static_cast<int>(i);
    }
  }
  CHECK(false, "rank {} has no role", r);
  return -1;
}

std::int32_t copies_before(const Role& role, std::int32_t layer_list, std::int32_t layer) {
  if (layer_list < 0) {
    return layer;
  }
  const std::vector<std::int32_t>& list = role.layer_lists[static_cast<std::size_t>(layer_list)];
  return static_cast<std::int32_t>(std::lower_bound(list.begin(), list.end(), layer) - list.begin());
}

std::int32_t layer_of_copy(const Role& role, std::int32_t layer_list, std::int32_t copy) {
  return layer_list < 0 ? copy
                        : role.layer_lists[static_cast<std::size_t>(layer_list)].at(static_cast<std::size_t>(copy));
}

std::int32_t layer_copy(const Role& role, const Buffer& buffer, std::int32_t layer, std::int32_t first_layer,
                        std::int32_t delta) {
  if (buffer.layer_list >= std::ssize(role.layer_lists)) {
    return -1;
  }
  const std::int32_t origin =
      buffer.lifetime == Lifetime::persistent ? 0 : copies_before(role, buffer.layer_list, first_layer);
  const std::int32_t copy = copies_before(role, buffer.layer_list, layer) - origin + delta;
  return buffer.wraps ? copy % buffer.layers : copy;
}

}  // namespace foretrain::plan
