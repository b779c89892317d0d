#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <variant>

#include "plan/validate_internal.h"

namespace foretrain::plan {
namespace {

bool intersect(const Mesh& mesh, const RankSet& a, const RankSet& b) {
  return std::all_of(mesh.order.begin(), mesh.order.end(), [&](Axis axis) {
    const AxisRange x = along(mesh, a, axis), y = along(mesh, b, axis);
    return x.first < y.first + y.count && y.first < x.first + x.count;
  });
}

// Of which there is one at each coordinate.
bool is_beside(const Mesh& mesh, const RankSet& set) {
  return along(mesh, set, Axis::dp).first >= mesh.size(Axis::dp);
}

void check_group_spans(const Mesh& mesh, const Group& group, Findings& findings) {
  std::array<bool, kAxes> seen{};
  for (const AxisSpan& span : group.spans) {
    const int size = mesh.size(span.axis);
    bool& known = seen[static_cast<std::size_t>(span.axis)];
    const bool ascends = std::is_sorted(span.only.begin(), span.only.end(), std::less_equal<>()) &&
                         (span.only.empty() || (span.only.front() >= 0 && span.only.back() < mesh.end(span.axis)));
    if (known || span.block < 0 || (span.block > 0 && size % span.block != 0) || !ascends) {
      findings.add(
          fmt::format("group {}: its span of {} names the axis again, or blocks or coordinates that {} ranks do "
                      "not have",
                      group.name, name(span.axis), size));
    }
    known = true;
  }
  if (findings.empty() && !group.weights.empty() && static_cast<int>(group.weights.size()) != group_size(mesh, group)) {
    findings.add(
        fmt::format("group {} has {} weights and {} ranks", group.name, group.weights.size(), group_size(mesh, group)));
  }
}

struct Traffic {
  std::array<std::int64_t, 4> ops{};  // by ChannelStep, of all ranks
  std::array<std::int64_t, 4> elements{-1, -1, -1, -1};
};

// Within a step as many messages are taken from a channel as are put, and as many parameters fetched, all of one size;
// and after every take the server releases whom it may.
void check_channels(const PlanGraph& graph, Findings& findings) {
  std::map<std::int32_t, Traffic> channels;
  for (std::size_t r = 0; r < graph.roles.size(); ++r) {
    const Role& role = graph.roles[r];
    const std::int64_t ranks = count(graph.mesh, role.ranks);
    for (ProgramCursor c(role, static_cast<int>(r), role.program.body, first_body_instance(role.program)); c;
         c.next()) {
      if (const auto* op = std::get_if<Channel>(&c.op().work)) {
        const auto step = static_cast<std::size_t>(op->step);
        Traffic& channel = channels[op->tag];
        channel.ops[step] += ranks;
        if (channel.elements[step] >= 0 && channel.elements[step] != op->elements) {
          findings.add(fmt::format("channel {}: {} of {} and of {} elements",
                                   graph.tags[static_cast<std::size_t>(op->tag)], name(op->step),
                                   channel.elements[step], op->elements));
        }
        channel.elements[step] = op->elements;
      }
    }
  }
  for (const auto& [tag, c] : channels) {
    const std::string& name = graph.tags[static_cast<std::size_t>(tag)];
    const auto& [puts, takes, releases, fetches] = c.ops;
    if (puts != takes || takes != releases || releases != fetches) {
      findings.add(fmt::format("channel {}: {} puts, {} takes, {} releases and {} fetches in a step", name, puts, takes,
                               releases, fetches));
    } else if (c.elements[0] != c.elements[1] || c.elements[2] != c.elements[3]) {
      findings.add(fmt::format("channel {}: puts of {} elements and takes of {}, releases of {} and fetches of {}",
                               name, c.elements[0], c.elements[1], c.elements[2], c.elements[3]));
    }
  }
}

}  // namespace

void check_structure(const PlanGraph& graph, Findings& findings) {
  std::int64_t ranks = 0;
  for (const Group& group : graph.groups) {
    check_group_spans(graph.mesh, group, findings);
  }
  for (std::size_t i = 0; i < graph.roles.size(); ++i) {
    const Role& role = graph.roles[i];
    std::array<bool, kAxes> is_fixed{};
    for (const auto& [axis, first, count] : role.ranks.fixed) {
      const int size = graph.mesh.end(axis);
      if (first < 0 || first >= size || count < 1 || count > size - first || is_fixed[static_cast<std::size_t>(axis)]) {
        findings.add(fmt::format("{}: at {} {} of {}", role.name, name(axis),
                                 count == 1 ? std::to_string(first) : fmt::format("{} and {} more", first, count - 1),
                                 size));
      }
      is_fixed[static_cast<std::size_t>(axis)] = true;
    }
    for (const Axis axis : findings.empty() ? graph.mesh.order : decltype(graph.mesh.order){}) {
      const AxisRange at = along(graph.mesh, role.ranks, axis);
      if (is_beside(graph.mesh, role.ranks) ? axis != Axis::dp && (at.first > 0 || at.count > 1)
                                            : at.first + at.count > graph.mesh.size(axis)) {
        findings.add(fmt::format("{}: ranks of the mesh and beside it", role.name));
      }
    }
    for (std::size_t j = 0; j < i && findings.empty(); ++j) {
      if (intersect(graph.mesh, role.ranks, graph.roles[j].ranks)) {
        findings.add(fmt::format("{} and {} share ranks", graph.roles[j].name, role.name));
      }
    }
    ranks += count(graph.mesh, role.ranks);
  }
  if (graph.servers < 0 || graph.loader_ranks < 0 || graph.servers + graph.loader_ranks != graph.mesh.beside) {
    findings.add(fmt::format("{} servers and {} loaders of {} ranks beside the mesh", graph.servers, graph.loader_ranks,
                             graph.mesh.beside));
  }
  if (ranks != graph.mesh.ranks()) {
    findings.add(fmt::format("the roles have {} ranks, the mesh {}", ranks, graph.mesh.ranks()));
  }
  if (findings.empty()) {
    for (const Role& role : graph.roles) {
      check_role(graph, role, findings);
    }
  }
  if (findings.empty()) {
    check_channels(graph, findings);
  }
}

}  // namespace foretrain::plan
