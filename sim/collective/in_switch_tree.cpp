// In the switches, then trees (NVLSTree).  Every node's switch adds up; rank l of a node takes the l-th part of the sum
// to two binary trees over the ranks l of all nodes; the result returns to the switch, which hands it out. K pieces.
//   L = 4 + 2 depth levels, rounds i = 0 .. L+K-2, in which levels i-K < l <= i work;
//   t = sum over rounds of max( node(a_i c), fabric(b_i c) ),  c = S / (2 p K);  a_i of a round with the first level,
//   or the last, 2p, plus 2 with the level beside the other
// Source: NVIDIA/nccl src/transport/nvls.cc, 2.18 release notes.
#include <algorithm>

#include "sim/collective/double_tree.h"

namespace foretrain::sim::collective {
namespace {

class InSwitchTree final : public Algorithm {
 public:
  std::string_view name() const override { return "in_switch_tree"; }
  std::string_view card() const override { return "summed in every node's switch, trees between nodes (NVLSTree)"; }
  std::vector<Kind> kinds() const override { return {Kind::all_reduce}; }
  std::string refusal(Kind, const Layout& layout) const override {
    if (layout.nodes() < 2 || layout.most_on_node() < 2) {
      return "it needs several nodes with several ranks each";
    }
    return layout.even() ? "" : "it needs as many ranks on every node";
  }

  Shape shape(const Request& r) const override {
    return {levels(*r.layout) + r.pieces - 1, std::int64_t{2} * r.layout->most_on_node() * r.pieces, 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const Layout& layout = *r.layout;
    const int p = layout.most_on_node(), all = levels(layout);
    const DoubleTree trees(layout.nodes());
    for (int level = std::max(0, index - r.pieces + 1); level <= std::min(index, all - 1); ++level) {
      const int piece = index - level;
      if (level >= 2 && level < all - 2) {
        for (const DoubleTree::Edge& e : trees.level(level - 2)) {
          for (int l = 0; l < p; ++l) {
            const std::int64_t chunk = (std::int64_t{l} * 2 + e.tree) * r.pieces + piece;
            out.push_back({e.from * p + l, e.to * p + l, chunk, 1, 1, level - 2 < trees.depth()});
          }
        }
        continue;
      }
      for (int rank = 0; rank < layout.ranks(); ++rank) {
        const int hub = layout.switch_of(layout.node(rank));
        // The parts of all ranks, one transfer each: whatever passes a port in a round has one size.
        const auto part = [&](int l) { return std::int64_t{l} * 2 * r.pieces + piece; };
        if (level == 1) {
          out.push_back({hub, rank, part(rank % p), 2, r.pieces, false});
        } else if (level == all - 2) {
          out.push_back({rank, hub, part(rank % p), 2, r.pieces, false});
        }
        for (int l = 0; l < p && (level == 0 || level == all - 1); ++l) {
          out.push_back(level == 0 ? Transfer{rank, hub, part(l), 2, r.pieces, true}
                                   : Transfer{hub, rank, part(l), 2, r.pieces, false});
        }
      }
    }
  }

  int same_round(const Request& r, int index) const override {
    const int full = levels(*r.layout) - 1;  // from here on every level has a piece
    return index > full && index < r.pieces ? full : index;
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const Layout& layout = *r.layout;
    const int p = layout.most_on_node(), all = levels(layout);
    const DoubleTree trees(layout.nodes());
    const double chunk = chunk_bytes(shape(r), bytes);
    double sum = 0;
    for (int i = 0; i < all + r.pieces - 1; ++i) {
      const int low = std::max(0, i - r.pieces + 1), high = std::min(i, all - 1);
      const auto works = [low, high](int level) { return low <= level && level <= high ? 1 : 0; };
      const int inside = std::max(2 * p * works(0) + 2 * works(all - 2), 2 * works(1) + 2 * p * works(all - 1));
      const int outside = trees.busiest(low - 2, high - 2);
      sum += std::max(inside > 0 ? f.node_seconds(inside * chunk) : 0,
                      outside > 0 ? f.fabric_seconds(outside * chunk) : 0);
    }
    return sum;
  }

 private:
  static int levels(const Layout& layout) { return 4 + 2 * DoubleTree(layout.nodes()).depth(); }
};

}  // namespace

std::unique_ptr<Algorithm> make_in_switch_tree() {
  return std::make_unique<InSwitchTree>();
}

}  // namespace foretrain::sim::collective
