#include "sim/collective/double_tree.h"

#include <algorithm>

namespace foretrain::sim::collective {
namespace {

// In-order binary tree: odd vertices are leaves, a vertex whose lowest set bit is b hangs below one with 2b.
int in_order_parent(int vertex, int vertices) {
  if (vertex == 0) {
    return -1;
  }
  const int bit = vertex & -vertex;
  const int up = (vertex ^ bit) | (bit << 1);
  return up < vertices ? up : vertex ^ bit;
}

}  // namespace

DoubleTree::DoubleTree(int vertices) {
  const auto second = [vertices](int v) { return vertices % 2 == 0 ? vertices - 1 - v : (v + 1) % vertices; };
  for (std::vector<Vertex>& tree : trees_) {
    tree.resize(static_cast<std::size_t>(vertices));
  }
  for (int v = 0; v < vertices; ++v) {
    const int up = in_order_parent(v, vertices);
    int depth = 0;
    for (int u = up; u >= 0; u = in_order_parent(u, vertices)) {
      ++depth;
    }
    depth_ = std::max(depth_, depth);
    Vertex& a = trees_[0][static_cast<std::size_t>(v)];
    Vertex& b = trees_[1][static_cast<std::size_t>(second(v))];
    a.depth = b.depth = depth;
    if (up >= 0) {
      a.parent = up;
      b.parent = second(up);
      ++trees_[0][static_cast<std::size_t>(up)].children;
      ++trees_[1][static_cast<std::size_t>(second(up))].children;
    }
  }
}

int DoubleTree::parent(int tree, int vertex) const {
  return trees_[static_cast<std::size_t>(tree)][static_cast<std::size_t>(vertex)].parent;
}

std::vector<DoubleTree::Edge> DoubleTree::level(int index) const {
  const bool up = index < depth_;
  const int depth = up ? depth_ - index : index - depth_ + 1;  // of the child
  std::vector<Edge> edges;
  for (int t = 0; t < 2; ++t) {
    const std::vector<Vertex>& tree = trees_[static_cast<std::size_t>(t)];
    for (int v = 0; v < static_cast<int>(tree.size()); ++v) {
      const Vertex& vertex = tree[static_cast<std::size_t>(v)];
      if (vertex.parent >= 0 && vertex.depth == depth) {
        edges.push_back(up ? Edge{v, vertex.parent, t} : Edge{vertex.parent, v, t});
      }
    }
  }
  return edges;
}

int DoubleTree::busiest(int low, int high) const {
  const auto works = [low, high](int level) { return low <= level && level <= high ? 1 : 0; };
  int most = 0;
  for (std::size_t v = 0; v < trees_[0].size(); ++v) {
    int in = 0, out = 0;
    for (const std::vector<Vertex>& tree : trees_) {
      const Vertex& x = tree[v];
      const int to_parent = x.parent >= 0 ? works(depth_ - x.depth) : 0;
      const int from_parent = x.parent >= 0 ? works(depth_ + x.depth - 1) : 0;
      in += x.children * works(depth_ - x.depth - 1) + from_parent;
      out += x.children * works(depth_ + x.depth) + to_parent;
    }
    most = std::max({most, in, out});
  }
  return most;
}

}  // namespace foretrain::sim::collective
