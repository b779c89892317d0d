// Double binary tree over the nodes, chains inside them.  A chain sums up a node's ranks into its head, two trees sum
// up the heads, and the result goes back down both; the buffer flows through in K pieces. With as many ranks on every
// node there are p channels, each with another head, so that every port to the fabric takes part; else there is one.
// On one node only the chains are left.
//   L = 2 (p-1 + depth) levels, rounds i = 0 .. L+K-2, in which levels i-K < l <= i work;
//   t = sum over rounds of max( node(a_i c), fabric(b_i c) ),  c = S / (2 channels K),
//   a_i, b_i chunks on the busiest port inside a node, to the fabric
// Source: Sanders, Speck and Traeff 2009; NVIDIA/nccl src/graph/trees.cc, connect.cc.
#include <algorithm>

#include "sim/collective/double_tree.h"

namespace foretrain::sim::collective {
namespace {

class Tree final : public Algorithm {
 public:
  std::string_view name() const override { return "tree"; }
  std::string_view card() const override {
    return "two binary trees over the nodes, chains inside; 2 log2 N fabric hops";
  }
  std::vector<Kind> kinds() const override { return {Kind::all_reduce}; }
  std::string refusal(Kind, const Layout&) const override { return ""; }

  Shape shape(const Request& r) const override {
    const Levels l(*r.layout, DoubleTree(r.layout->nodes()).depth());
    return {l.all + r.pieces - 1, std::int64_t{2} * channels(*r.layout) * r.pieces, 1};
  }

  void step(const Request& r, int index, std::vector<Transfer>& out) const override {
    const Layout& layout = *r.layout;
    const DoubleTree trees(layout.nodes());
    const Levels levels(layout, trees.depth());
    for (int level = std::max(0, index - r.pieces + 1); level <= std::min(index, levels.all - 1); ++level) {
      const int piece = index - level;
      if (level < levels.chain || level >= levels.down_chain) {
        chain_level(r, levels, level, piece, out);
        continue;
      }
      const int tree_level = level - levels.chain;
      for (const DoubleTree::Edge& e : trees.level(tree_level)) {
        for (int k = 0; k < channels(layout); ++k) {
          out.push_back({layout.first(e.from) + k, layout.first(e.to) + k, chunk(r, k, e.tree, piece), 1, 1,
                         tree_level < trees.depth()});
        }
      }
    }
  }

  int same_round(const Request& r, int index) const override {
    const int full = shape(r).steps - r.pieces;  // from here on every level has a piece
    return index > full && index < r.pieces ? full : index;
  }

  double seconds(const Request& r, double bytes, const Fabric& f) const override {
    const Layout& layout = *r.layout;
    const DoubleTree trees(layout.nodes());
    const Levels levels(layout, trees.depth());
    const double chunk = chunk_bytes(shape(r), bytes);
    double sum = 0;
    for (int i = 0; i < levels.all + r.pieces - 1; ++i) {
      const int low = std::max(0, i - r.pieces + 1), high = std::min(i, levels.all - 1);
      const int inside = chain_busiest(layout, levels, low, high);
      const int outside = trees.busiest(low - levels.chain, high - levels.chain);
      sum += std::max(inside > 0 ? f.node_seconds(inside * chunk) : 0,
                      outside > 0 ? f.fabric_seconds(outside * chunk) : 0);
    }
    return sum;
  }

 private:
  // Levels: chain up, trees up, trees down, chain down.
  struct Levels {
    int chain, down_chain, all;
    Levels(const Layout& layout, int depth)
        : chain(layout.most_on_node() - 1), down_chain(chain + 2 * depth), all(2 * (chain + depth)) {}
  };
  static int channels(const Layout& layout) { return layout.nodes() > 1 && layout.even() ? layout.most_on_node() : 1; }
  static std::int64_t chunk(const Request& r, int channel, int tree, int piece) {
    return (std::int64_t{channel} * 2 + tree) * r.pieces + piece;
  }

  // The rank at distance d from its head hands on to d-1 (up) on chain level chain-d, and from d-1 comes the result on
  // level down_chain + d-1.
  static void chain_level(const Request& r, const Levels& levels, int level, int piece, std::vector<Transfer>& out) {
    const Layout& layout = *r.layout;
    const bool up = level < levels.chain;
    const int distance = up ? levels.chain - level : level - levels.down_chain + 1;
    for (int v = 0; v < layout.nodes(); ++v) {
      const int p = layout.on_node(v);
      for (int k = 0; k < channels(layout) && distance < p; ++k) {
        const int far = layout.first(v) + (k + distance) % p, near = layout.first(v) + (k + distance - 1) % p;
        out.push_back({up ? far : near, up ? near : far, chunk(r, k, 0, piece), 2, r.pieces, up});
      }
    }
  }
  // Chunks that the busiest rank sends, or receives, inside its node: two (one per tree) for each hop that works. With
  // a channel per rank everybody stands at every distance once.
  static int chain_busiest(const Layout& layout, const Levels& levels, int low, int high) {
    const auto works = [low, high](int level) { return low <= level && level <= high ? 1 : 0; };
    int most = 0, all = 0;
    for (int d = 0; d <= levels.chain; ++d) {
      const int up_out = d > 0 ? works(levels.chain - d) : 0, down_in = d > 0 ? works(levels.down_chain + d - 1) : 0;
      const int up_in = d < levels.chain ? works(levels.chain - d - 1) : 0;
      const int down_out = d < levels.chain ? works(levels.down_chain + d) : 0;
      most = std::max({most, up_out + down_out, up_in + down_in});
      all += up_out + down_out;
    }
    return 2 * (channels(layout) > 1 ? all : most);
  }
};

}  // namespace

std::unique_ptr<Algorithm> make_double_tree() {
  return std::make_unique<Tree>();
}

}  // namespace foretrain::sim::collective
