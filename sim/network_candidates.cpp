// What network models share about the ways to do a collective: closed forms, overrides and how they are written.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "sim/network.h"
#include "topologies/nccl_constants.h"

namespace foretrain::sim {

std::vector<CollectiveOverride> parse_collective_overrides(const std::string& text) {
  std::vector<CollectiveOverride> result;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos) {
      throw InputError(fmt::format("\"{}\" is not allowed; expected KIND=ALGORITHM, as all_reduce=ring", item));
    }
    CollectiveOverride o;
    o.kind = collective::kind_from_name(item.substr(0, equals));
    const std::string word = item.substr(equals + 1);
    const std::size_t colon = word.find(':');
    o.algorithm = word.substr(0, colon);
    o.protocol = colon == std::string::npos ? "" : word.substr(colon + 1);
    std::vector<std::string> known;
    for (const auto& a : collective::algorithms()) {
      const std::vector<collective::Kind> kinds = a->kinds();
      if (std::find(kinds.begin(), kinds.end(), o.kind) != kinds.end()) {
        known.emplace_back(a->name());
      }
    }
    if (std::find(known.begin(), known.end(), o.algorithm) == known.end()) {
      const std::string near = nearest_word(o.algorithm, known);
      throw InputError(
          fmt::format("unknown algorithm \"{}\" of {}; {}expected one of: {}", o.algorithm, collective::name(o.kind),
                      near.empty() ? "" : fmt::format("did you mean \"{}\"? ", near), fmt::join(known, ", ")));
    }
    const auto& protocols = topologies::kProtocolNames;
    if (colon != std::string::npos && std::find(protocols.begin(), protocols.end(), o.protocol) == protocols.end()) {
      throw InputError(fmt::format("unknown protocol \"{}\" in \"{}\"; expected one of: {}", o.protocol, item,
                                   fmt::join(protocols, ", ")));
    }
    if (std::any_of(result.begin(), result.end(),
                    [&](const CollectiveOverride& other) { return other.kind == o.kind; })) {
      throw InputError(fmt::format("{} is said twice in \"{}\"; expected one algorithm for each kind",
                                   collective::name(o.kind), text));
    }
    result.push_back(std::move(o));
  }
  return result;
}

// The closed forms of sim/collective on this system's links, in as many pieces as are best; and why some cannot be.
void closed_form_candidates(collective::Kind kind, double size, const GroupPlacement& group,
                            const collective::Fabric& fabric, bool switch_reduces,
                            std::vector<CollectiveCandidate>& out) {
  using collective::Kind;
  const collective::Layout layout = collective::Layout::packed(group.ranks, group.per_node);
  const bool sent_directly = kind == Kind::all_to_all || kind == Kind::gather || kind == Kind::scatter;
  for (const auto& a : collective::algorithms()) {
    const std::vector<Kind> kinds = a->kinds();
    const auto listed = [&](const CollectiveCandidate& c) { return c.algorithm == a->name(); };
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end() || std::any_of(out.begin(), out.end(), listed)) {
      continue;
    }
    CollectiveCandidate c;
    c.algorithm = a->name();
    c.disabled = collective::refusal(*a, kind, layout);
    if (c.disabled.empty() && c.algorithm.rfind("in_switch", 0) == 0) {
      c.disabled = switch_reduces ? "with four ranks or fewer on a node, or for this kind, a ring is as fast"
                                  : "no figure of the system says that its switches reduce";
    }
    if (c.disabled.empty()) {
      c.seconds = INFINITY;
      constexpr int kMostPieces = 256;
      for (int pieces = 1; pieces <= kMostPieces; pieces *= 2) {
        c.seconds = std::min(c.seconds, a->seconds({kind, &layout, pieces}, size, fabric));
      }
      c.seconds += extra_seconds(kind, a->name(), group.extra, group.nodes);
      c.algbw = c.seconds > 0 ? size / c.seconds : 0;
      c.chosen = sent_directly && (c.algorithm == "direct" || c.algorithm == "server");
    }
    out.push_back(std::move(c));
  }
}

void take_override(const CollectiveOverride& wanted, const GroupPlacement& group,
                   std::vector<CollectiveCandidate>& all) {
  CollectiveCandidate* best = nullptr;
  std::vector<std::string> allowed;
  std::string why = wanted.protocol.empty() ? "" : "it has no such protocol here";
  for (CollectiveCandidate& c : all) {
    c.chosen = false;
    const bool named = c.algorithm == wanted.algorithm;
    if (!c.disabled.empty()) {
      why = named ? c.disabled : why;
      continue;
    }
    const std::string word = c.protocol.empty() ? c.algorithm : c.algorithm + ":" + c.protocol;
    allowed.push_back(word);
    if (named && (wanted.protocol.empty() || wanted.protocol == c.protocol) &&
        (best == nullptr || c.seconds < best->seconds)) {
      best = &c;
    }
  }
  if (best == nullptr) {
    throw InputError(fmt::format("{}={}{}{} does not apply to {} ranks on {} nodes: {}; those that do: {}",
                                 collective::name(wanted.kind), wanted.algorithm, wanted.protocol.empty() ? "" : ":",
                                 wanted.protocol, group.ranks, group.nodes, why, fmt::join(allowed, ", ")));
  }
  best->chosen = true;
}

}  // namespace foretrain::sim
