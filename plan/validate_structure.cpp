#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <set>
#include <variant>

#include "plan/validate_internal.h"

namespace foretrain::plan {
namespace {

bool intersect(const RankSet& a, const RankSet& b) {
  return std::none_of(a.fixed.begin(), a.fixed.end(), [&](const auto& x) {
    return std::any_of(b.fixed.begin(), b.fixed.end(),
                       [&](const auto& y) { return x.first == y.first && x.second != y.second; });
  });
}

void check_group_spans(const Mesh& mesh, const Group& group, Findings& findings) {
  std::array<bool, kAxes> seen{};
  for (const AxisSpan& span : group.spans) {
    const int size = mesh.size(span.axis);
    bool& known = seen[static_cast<std::size_t>(span.axis)];
    const bool ascends = std::is_sorted(span.only.begin(), span.only.end(), std::less_equal<>()) &&
                         (span.only.empty() || (span.only.front() >= 0 && span.only.back() < size));
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

struct Channel {
  std::int64_t puts = 0, takes = 0;  // of all ranks
  std::set<std::int64_t> elements;   // of a message
};

// Within a step as many messages are taken from a channel as are put, all of one size.
void check_channels(const PlanGraph& graph, Findings& findings) {
  std::map<std::int32_t, Channel> channels;
  for (std::size_t r = 0; r < graph.roles.size(); ++r) {
    const Role& role = graph.roles[r];
    const std::int64_t ranks = count(graph.mesh, role.ranks);
    for (ProgramCursor c(role, static_cast<int>(r), role.program.body, first_body_instance(role.program)); c;
         c.next()) {
      if (const auto* put = std::get_if<Put>(&c.op().work)) {
        channels[put->channel].puts += ranks;
        channels[put->channel].elements.insert(put->elements);
      } else if (const auto* take = std::get_if<Take>(&c.op().work)) {
        channels[take->channel].takes += ranks;
        channels[take->channel].elements.insert(take->elements);
      }
    }
  }
  for (const auto& [channel, c] : channels) {
    if (c.puts != c.takes) {
      findings.add(fmt::format("channel {}: {} puts and {} takes in a step", channel, c.puts, c.takes));
    }
    if (c.elements.size() > 1) {
      findings.add(fmt::format("channel {}: messages of {} elements", channel, fmt::join(c.elements, " and of ")));
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
    for (const auto& [axis, value] : role.ranks.fixed) {
      if (value < 0 || value >= graph.mesh.size(axis) || is_fixed[static_cast<std::size_t>(axis)]) {
        findings.add(fmt::format("{}: at {} {} of {}", role.name, name(axis), value, graph.mesh.size(axis)));
      }
      is_fixed[static_cast<std::size_t>(axis)] = true;
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (intersect(role.ranks, graph.roles[j].ranks)) {
        findings.add(fmt::format("{} and {} share ranks", graph.roles[j].name, role.name));
      }
    }
    ranks += count(graph.mesh, role.ranks);
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
