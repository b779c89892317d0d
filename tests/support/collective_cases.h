// Layouts of few ranks, and every algorithm of collectives on them.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "sim/collective/algorithm.h"

namespace foretrain::test {

inline std::string text(const sim::collective::Layout& layout) {
  std::string out;
  for (int v = 0; v < layout.nodes(); ++v) {
    out += (v > 0 ? "+" : "") + std::to_string(layout.on_node(v));
  }
  return out;
}

// Of n ranks: one node, so many on each node, an uneven one.
inline std::vector<sim::collective::Layout> layouts(int n, std::initializer_list<int> per_nodes) {
  using sim::collective::Layout;
  std::vector<Layout> all{Layout::packed(n, n)};
  for (const int per_node : per_nodes) {
    if (per_node < n) {
      all.push_back(Layout::packed(n, per_node));
    }
  }
  if (n > 3) {
    all.push_back(Layout({1, n - 3, 2}));
  }
  return all;
}

// visit(algorithm, request) for every algorithm, each of its kinds, in so many pieces where it pipelines; until one
// fails.
template <class Visit>
void for_each_algorithm(const sim::collective::Layout& layout, std::initializer_list<int> all_pieces,
                        const Visit& visit) {
  for (const auto& algorithm : sim::collective::algorithms()) {
    for (const sim::collective::Kind kind : algorithm->kinds()) {
      for (const int pieces : all_pieces) {
        const sim::collective::Request request{kind, &layout, pieces};
        if (!sim::collective::applies(*algorithm, kind, layout) ||
            (pieces > 1 && algorithm->shape(request).steps == algorithm->shape({kind, &layout, 1}).steps)) {
          continue;
        }
        SCOPED_TRACE(std::string(algorithm->name()) + " " + std::string(sim::collective::name(kind)) + " " +
                     text(layout) + " pieces " + std::to_string(pieces));
        visit(*algorithm, request);
        if (testing::Test::HasFailure()) {
          return;
        }
      }
    }
  }
}

}  // namespace foretrain::test
