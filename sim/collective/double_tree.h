// Two binary trees over the same vertices, so that almost every inner vertex of one is a leaf of the other: each
// carries half of the bytes and no port carries much more than its share. The first is NCCL's in-order tree with root
// 0; the second is its mirror image (even number of vertices) or is shifted by one (odd). Used by tree.cpp,
// in_switch_tree.cpp. Source: Sanders, Speck and Traeff 2009; NVIDIA/nccl src/graph/trees.cc.
#pragma once

#include <array>
#include <vector>

#include "sim/collective/algorithm.h"

namespace foretrain::sim::collective {

class DoubleTree {
 public:
  explicit DoubleTree(int vertices);
  int parent(int tree, int vertex) const;  // -1: the root
  int depth() const { return depth_; }  // of the deeper one; levels up: 0 .. depth-1, levels down: depth .. 2 depth-1
  struct Edge {
    int from = 0, to = 0, tree = 0;
  };
  // Edges that work on a level; upward on the first `depth` levels. May be empty.
  std::vector<Edge> level(int index) const;
  // Most pieces that a vertex receives, or sends, when levels low..high work at once; one piece per edge.
  int busiest(int low, int high) const;

 private:
  struct Vertex {
    int parent = -1, depth = 0, children = 0;
  };
  int depth_ = 0;
  std::array<std::vector<Vertex>, 2> trees_;
};

}  // namespace foretrain::sim::collective
