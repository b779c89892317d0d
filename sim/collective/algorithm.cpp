#include "sim/collective/algorithm.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace foretrain::sim::collective {
namespace {

constexpr std::array<std::string_view, 8> kKindNames{"all_reduce", "reduce_scatter", "all_gather", "broadcast",
                                                     "all_to_all", "reduce",         "gather",     "scatter"};

}  // namespace

std::string_view name(Kind kind) {
  return kKindNames[static_cast<std::size_t>(kind)];
}

Kind from_plan(plan::CollectiveKind kind) {
  switch (kind) {
    case plan::CollectiveKind::all_reduce: return Kind::all_reduce;
    case plan::CollectiveKind::reduce_scatter: return Kind::reduce_scatter;
    case plan::CollectiveKind::all_gather: return Kind::all_gather;
    case plan::CollectiveKind::broadcast: return Kind::broadcast;
    case plan::CollectiveKind::gather: return Kind::gather;
    case plan::CollectiveKind::distribute: return Kind::scatter;
    case plan::CollectiveKind::all_to_all: break;
  }
  return Kind::all_to_all;
}

Kind kind_from_name(const std::string& word) {
  const auto found = std::find(kKindNames.begin(), kKindNames.end(), word);
  if (found != kKindNames.end()) {
    return static_cast<Kind>(found - kKindNames.begin());
  }
  const std::vector<std::string> known(kKindNames.begin(), kKindNames.end());
  const std::string near = nearest_word(word, known);
  throw InputError(fmt::format("unknown collective \"{}\"; {}known: {}", word,
                               near.empty() ? "" : fmt::format("did you mean \"{}\"? ", near), fmt::join(known, ", ")));
}

Layout::Layout(std::vector<int> ranks_on_node) : first_{0} {
  CHECK(!ranks_on_node.empty(), "a layout without nodes");
  for (std::size_t v = 0; v < ranks_on_node.size(); ++v) {
    CHECK(ranks_on_node[v] >= 1, "{} ranks on node {}", ranks_on_node[v], v);
    node_of_.insert(node_of_.end(), static_cast<std::size_t>(ranks_on_node[v]), static_cast<int>(v));
    first_.push_back(static_cast<int>(node_of_.size()));
    most_ = std::max(most_, ranks_on_node[v]);
    even_ = even_ && ranks_on_node[v] == ranks_on_node[0];
  }
}

Layout Layout::packed(int ranks, int per_node) {
  CHECK(ranks >= 1 && per_node >= 1, "{} ranks, {} per node", ranks, per_node);
  std::vector<int> on_node(static_cast<std::size_t>(ranks / per_node), per_node);
  if (ranks % per_node != 0) {
    on_node.push_back(ranks % per_node);
  }
  return Layout(std::move(on_node));
}

int Algorithm::same_round(const Request&, int index) const {
  return index;
}

const std::vector<std::unique_ptr<Algorithm>>& algorithms() {
  static const std::vector<std::unique_ptr<Algorithm>> all = [] {
    std::vector<std::unique_ptr<Algorithm>> a;
    a.push_back(make_ring());
    a.push_back(make_double_tree());
    a.push_back(make_halving_doubling());
    a.push_back(make_hierarchical());
    a.push_back(make_bruck());
    a.push_back(make_in_switch());
    a.push_back(make_in_switch_tree());
    a.push_back(make_direct());
    a.push_back(make_pairwise());
    a.push_back(make_hierarchical_all_to_all());
    a.push_back(make_chain());
    a.push_back(make_binomial());
    a.push_back(make_server());
    return a;
  }();
  return all;
}

const Algorithm* find_algorithm(std::string_view name) {
  for (const auto& a : algorithms()) {
    if (a->name() == name) {
      return a.get();
    }
  }
  return nullptr;
}

std::string refusal(const Algorithm& algorithm, Kind kind, const Layout& layout) {
  const std::vector<Kind> kinds = algorithm.kinds();
  if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
    return fmt::format("it does no {}", name(kind));
  }
  if (layout.ranks() < 2) {
    return "one rank has nobody to talk to";
  }
  return algorithm.refusal(kind, layout);
}

bool applies(const Algorithm& algorithm, Kind kind, const Layout& layout) {
  return refusal(algorithm, kind, layout).empty();
}

double chunk_bytes(const Shape& shape, double bytes) {
  return bytes * shape.buffers / static_cast<double>(shape.chunks);
}

double step_seconds(const Layout& layout, const std::vector<Transfer>& transfers, double chunk, const Fabric& fabric) {
  // Chunks by port: of every rank to its node in and out, to the fabric in and out. A switch has no port of its own.
  const auto ranks = static_cast<std::size_t>(layout.ranks());
  std::vector<std::int64_t> node_in(ranks), node_out(ranks), fabric_in(ranks), fabric_out(ranks);
  bool inside = false, outside = false;
  for (const Transfer& t : transfers) {
    const bool same = layout.endpoint_node(t.from) == layout.endpoint_node(t.to);
    (same ? inside : outside) = true;
    if (t.from < layout.ranks()) {
      (same ? node_out : fabric_out)[static_cast<std::size_t>(t.from)] += t.count;
    }
    if (t.to < layout.ranks()) {
      (same ? node_in : fabric_in)[static_cast<std::size_t>(t.to)] += t.count;
    }
  }
  const auto most = [chunk](const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
    return chunk *
           static_cast<double>(std::max(*std::max_element(a.begin(), a.end()), *std::max_element(b.begin(), b.end())));
  };
  return std::max(inside ? fabric.node_seconds(most(node_in, node_out)) : 0,
                  outside ? fabric.fabric_seconds(most(fabric_in, fabric_out)) : 0);
}

double steps_seconds(const Algorithm& algorithm, const Request& request, double bytes, const Fabric& fabric) {
  const Shape shape = algorithm.shape(request);
  std::vector<Transfer> transfers;
  double sum = 0;
  for (int i = 0; i < shape.steps; ++i) {
    transfers.clear();
    algorithm.step(request, i, transfers);
    sum += step_seconds(*request.layout, transfers, chunk_bytes(shape, bytes), fabric);
  }
  return sum;
}

}  // namespace foretrain::sim::collective
