// Hierarchical.  N nodes of p ranks: a ring inside every node, then p rings between the nodes, each among the ranks at
// one place of their nodes with a p-th of the buffer (rail by rail), for all_gather the other way round; all_reduce
// scatters inside, all-reduces between, gathers inside.
//   t = f ( (p-1) node(S/p) + (N-1) fabric(S/n) ),  f = 2 for all_reduce, else 1
// Source: Mikami et al. 2018 (2D torus), Cho et al. 2019 (BlueConnect).
#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class Hierarchical final : public Algorithm {
 public:
  std::string_view name() const override { return "hierarchical"; }
  std::string_view card() const override { return "rings inside nodes, then rail by rail between them"; }
  std::vector<Kind> kinds() const override { return {Kind::all_reduce, Kind::reduce_scatter, Kind::all_gather}; }
  std::string refusal(Kind, const Layout& layout) const override {
    if (layout.nodes() < 2 || layout.most_on_node() < 2) {
      return "it needs several nodes with several ranks each";
    }
    return layout.even() ? "" : "it needs as many ranks on every node";
  }

  Shape shape(const Request& r) const override {
    const int p = r.layout->most_on_node(), nodes = r.layout->nodes();
    return {(p - 1 + nodes - 1) * (r.kind == Kind::all_reduce ? 2 : 1), r.layout->ranks(), 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const int p = r.layout->most_on_node(), nodes = r.layout->nodes(), half = p - 1 + nodes - 1;
    const bool gather = r.kind == Kind::all_gather || index >= half;
    const int round = r.kind == Kind::all_reduce && gather ? index - half : index;
    if (gather) {
      round < nodes - 1 ? between(*r.layout, round, true, out) : inside(*r.layout, round - (nodes - 1), true, out);
    } else {
      round < p - 1 ? inside(*r.layout, round, false, out) : between(*r.layout, round - (p - 1), false, out);
    }
  }

  int same_round(const Request& r, int index) const override {
    const int p = r.layout->most_on_node(), nodes = r.layout->nodes(), half = p - 1 + nodes - 1;
    if (r.kind == Kind::all_gather) {
      return index < nodes - 1 ? 0 : nodes - 1;
    }
    return index < p - 1 || index >= half + nodes - 1 ? 0 : p - 1;
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const int p = r.layout->most_on_node(), nodes = r.layout->nodes();
    const double once = (p - 1) * f.node_seconds(bytes / p) + (nodes - 1) * f.fabric_seconds(bytes / r.layout->ranks());
    return r.kind == Kind::all_reduce ? 2 * once : once;
  }

 private:
  // Rings of place j in every node over the blocks of place l: chunks l, l + p, ... of all nodes.
  static void inside(const Layout& layout, int round, bool gather, std::vector<Transfer>& out) {
    const int p = layout.most_on_node(), nodes = layout.nodes();
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      const int j = rank % p, block = (j + 2 * p - round - (gather ? 0 : 1)) % p;
      out.push_back({rank, rank - j + (j + 1) % p, block, nodes, p, !gather});
    }
  }
  static void between(const Layout& layout, int round, bool gather, std::vector<Transfer>& out) {
    const int p = layout.most_on_node(), nodes = layout.nodes();
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      const int j = rank % p, node = rank / p, block = (node + 2 * nodes - round - (gather ? 0 : 1)) % nodes;
      out.push_back({rank, (node + 1) % nodes * p + j, std::int64_t{block} * p + j, 1, 1, !gather});
    }
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_hierarchical() {
  return std::make_unique<Hierarchical>();
}

}  // namespace foretrain::sim::collective
