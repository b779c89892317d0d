// Hierarchical all-to-all.  First every rank hands its node neighbour at place l all that is for place l of any node;
// then ranks at one place of their nodes exchange, rail by rail: fewer and larger messages cross the fabric.
//   t = (p-1) node(S/p) + (N-1) fabric(S/N)
// Source: DeepSpeed-MoE (Rajbhandari et al. 2022), section 5.
#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class HierarchicalAllToAll final : public Algorithm {
 public:
  std::string_view name() const override { return "hierarchical_all_to_all"; }
  std::string_view card() const override { return "sorted inside nodes first, then rail by rail between them"; }
  std::vector<Kind> kinds() const override { return {Kind::all_to_all}; }
  std::string refusal(Kind, const Layout& layout) const override {
    if (layout.nodes() < 2 || layout.most_on_node() < 2) {
      return "it needs several nodes with several ranks each";
    }
    return layout.even() ? "" : "it needs as many ranks on every node";
  }

  Shape shape(const Request& r) const override {
    const int n = r.layout->ranks();
    return {r.layout->most_on_node() - 1 + r.layout->nodes() - 1, std::int64_t{n} * n, n};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const int p = r.layout->most_on_node(), nodes = r.layout->nodes(), n = r.layout->ranks();
    for (int rank = 0; rank < n; ++rank) {
      const int node = rank / p, j = rank % p;
      if (index < p - 1) {
        const int place = (j + index + 1) % p;
        out.push_back({rank, node * p + place, std::int64_t{rank} * n + place, nodes, p, false});
      } else {
        const int other = (node + index - (p - 1) + 1) % nodes;
        out.push_back({rank, other * p + j, std::int64_t{node} * p * n + other * p + j, p, n, false});
      }
    }
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const int p = r.layout->most_on_node(), nodes = r.layout->nodes();
    return (p - 1) * f.node_seconds(bytes / p) + (nodes - 1) * f.fabric_seconds(bytes / nodes);
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_hierarchical_all_to_all() {
  return std::make_unique<HierarchicalAllToAll>();
}

}  // namespace foretrain::sim::collective
