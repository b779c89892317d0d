// Ring.  reduce_scatter: n-1 rounds in which everybody passes on the sum it has just grown; all_gather: n-1 rounds in
// which everybody passes on the block it has just got; all_reduce: one, then the other.
// Over several even nodes p rings run at once, each with a p-th of the buffer: ring k enters a node at rank k, so that
// every rank's port to the fabric carries exactly one ring. Every second node is walked backwards: a ring leaves a node
// beside the port where it enters the next (NCCL's crossNic), except once round an odd number of nodes.
//   t = s max( node: latency + x c / rate, fabric: latency + c / rate ),  s = n-1, all_reduce 2(n-1),
//   c = S / (n rings), x = rings - 1 over several nodes, else 1 (a ring of one rank per node has no node hops)
// Source: Patarasuk and Yuan 2009; NVIDIA/nccl src/graph/rings.cc.
#include <algorithm>

#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {
namespace {

class Ring final : public Algorithm {
 public:
  std::string_view name() const override { return "ring"; }
  std::string_view card() const override { return "everybody passes chunks to the next; least bytes, 2(n-1) rounds"; }
  std::vector<Kind> kinds() const override { return {Kind::all_reduce, Kind::reduce_scatter, Kind::all_gather}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }

  Shape shape(const Request& r) const override {
    const int n = r.layout->ranks();
    return {(n - 1) * (r.kind == Kind::all_reduce ? 2 : 1), std::int64_t{n} * rings(*r.layout), 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const Layout& layout = *r.layout;
    const int n = layout.ranks(), rings = this->rings(layout);
    const bool scatter = r.kind != Kind::all_gather && index < n - 1;
    const int round = r.kind == Kind::all_reduce && !scatter ? index - (n - 1) : index;
    for (int k = 0; k < rings; ++k) {
      for (int q = 0; q < n; ++q) {
        const int block = scatter ? (q + 2 * n - round - 1) % n : (q + n - round) % n;
        const std::int64_t chunk = std::int64_t{at(layout, k, block)} * rings + k;
        out.push_back({at(layout, k, q), at(layout, k, (q + 1) % n), chunk, 1, 1, scatter});
      }
    }
  }

  int same_round(const Request&, int) const override { return 0; }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const Layout& layout = *r.layout;
    const int rings = this->rings(layout);
    const Shape s = shape(r);
    const double chunk = chunk_bytes(s, bytes);
    const double inside = layout.most_on_node() > 1 ? f.node_seconds(chunk * (rings > 1 ? rings - 1 : 1)) : 0;
    const double outside = layout.nodes() > 1 ? f.fabric_seconds(chunk) : 0;
    return s.steps * std::max(inside, outside);
  }

 private:
  static int rings(const Layout& layout) { return layout.nodes() > 1 && layout.even() ? layout.most_on_node() : 1; }
  // The rank at place q of ring k.
  static int at(const Layout& layout, int k, int q) {
    if (rings(layout) == 1) {
      return q;
    }
    const int p = layout.most_on_node(), node = q / p, j = q % p;
    return node * p + (node % 2 == 0 ? k + j : k + p - 1 - j) % p;
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_ring() {
  return std::make_unique<Ring>();
}

}  // namespace foretrain::sim::collective
