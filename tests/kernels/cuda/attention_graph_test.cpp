// What cuDNN is told of packed qkv, by hand.
#include "kernels/cuda/attention_graph.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace foretrain::kernels::cuda {
namespace {

using Id = GraphTensorId;

// 2 sequences of 5 tokens, 4 heads of 16 columns over 2 of keys with 8 of values: a token has (4 + 2) 16 + 2 · 8 = 112
// elements, a sequence 560; its output 4 · 8 = 32, a sequence's 160.
const AttentionShape kShape = {.batch = 2, .seq = 5, .heads = 4, .kv_heads = 2, .head_dim = 16, .value_dim = 8};

std::map<Id, GraphTensor> tensors_of(const AttentionGraph& graph) {
  std::map<Id, GraphTensor> tensors;
  for (const GraphTensor& t : graph.tensors) {
    EXPECT_TRUE(tensors.emplace(t.id, t).second);
  }
  return tensors;
}

TEST(AttentionGraph, PackedTensors) {
  const auto tensors = tensors_of(attention_graph(kShape).value());
  const auto expect = [&](Id id, GraphType type, std::array<std::int64_t, 4> dims,
                          std::array<std::int64_t, 4> strides) {
    EXPECT_EQ(tensors.at(id), (GraphTensor{id, type, dims, strides})) << static_cast<int>(id);
  };
  expect(Id::q, GraphType::bf16, {2, 4, 5, 16}, {560, 16, 112, 1});
  expect(Id::k, GraphType::bf16, {2, 2, 16, 5}, {560, 16, 1, 112});
  expect(Id::v, GraphType::bf16, {2, 2, 5, 8}, {560, 8, 112, 1});
  expect(Id::o, GraphType::bf16, {2, 4, 5, 8}, {160, 8, 32, 1});
  expect(Id::lse, GraphType::fp32, {2, 4, 5, 1}, {20, 5, 1, 1});
  expect(Id::scale, GraphType::fp32, {1, 1, 1, 1}, {1, 1, 1, 1});
  expect(Id::scores, GraphType::fp32, {2, 4, 5, 5}, {100, 25, 5, 1});
  expect(Id::visible, GraphType::boolean, {2, 4, 5, 5}, {100, 25, 5, 1});
  expect(Id::weights, GraphType::bf16, {2, 4, 5, 5}, {100, 25, 5, 1});
  EXPECT_FALSE(tensors.at(Id::lse).is_virtual());
  EXPECT_TRUE(tensors.at(Id::scores).is_virtual());
  EXPECT_TRUE(tensors.at(Id::minus_infinity).is_host_value());
}

// Every tensor is there once, is written at most once and, where it has no memory, before it is read.
TEST(AttentionGraph, OperationsAreInOrder) {
  for (const bool causal : {true, false}) {
    AttentionShape s = kShape;
    s.causal = causal;
    const AttentionGraph graph = attention_graph(s).value();
    const auto tensors = tensors_of(graph);
    std::set<Id> written;
    for (const GraphOp& op : graph.ops) {
      for (const std::optional<Id> read : {std::optional(op.x), op.b, op.t}) {
        EXPECT_TRUE(!read || !tensors.at(*read).is_virtual() || written.count(*read) == 1);
      }
      EXPECT_TRUE(written.insert(op.y).second);
    }
    for (const auto& [id, t] : tensors) {
      EXPECT_EQ(written.count(id) == 1, t.is_virtual() || id == Id::o || id == Id::lse);
    }
    EXPECT_EQ(tensors.count(Id::minus_infinity), causal ? 1U : 0U);
    EXPECT_EQ(graph.ops.size(), causal ? 14U : 10U);
  }
}

// One key/value head at a time, of one sequence: its two query heads; a row is still 112 elements from the next.
TEST(AttentionGraph, PortionOfABackward) {
  const auto tensors = tensors_of(attention_backward_graph(kShape, {1, 1}));
  const auto expect = [&](Id id, GraphType type, std::array<std::int64_t, 4> dims,
                          std::array<std::int64_t, 4> strides) {
    EXPECT_EQ(tensors.at(id), (GraphTensor{id, type, dims, strides})) << static_cast<int>(id);
  };
  expect(Id::dq, GraphType::bf16, {1, 2, 5, 16}, {560, 16, 112, 1});
  expect(Id::dk, GraphType::bf16, {1, 1, 5, 16}, {560, 16, 112, 1});
  expect(Id::v, GraphType::bf16, {1, 1, 8, 5}, {560, 8, 1, 112});
  expect(Id::d_o, GraphType::bf16, {1, 2, 5, 8}, {160, 8, 32, 1});
  expect(Id::lse, GraphType::fp32, {1, 2, 5, 1}, {20, 5, 1, 1});
  expect(Id::dots, GraphType::fp32, {1, 2, 5, 1}, {10, 5, 1, 1});
  expect(Id::dq_sums, GraphType::fp32, {1, 2, 5, 16}, {160, 80, 16, 1});
  expect(Id::weights_transposed, GraphType::bf16, {1, 2, 5, 5}, {50, 25, 1, 5});
  EXPECT_FALSE(tensors.at(Id::dq_sums).is_virtual());
  EXPECT_TRUE(tensors.at(Id::one).is_host_value());
  EXPECT_TRUE(tensors.at(Id::dk_of_heads).is_virtual());
}

TEST(AttentionGraph, OperationsOfABackwardAreInOrder) {
  for (const bool causal : {true, false}) {
    for (const std::int64_t kv_heads : {2, 4}) {
      AttentionShape s = kShape;
      s.causal = causal;
      s.kv_heads = kv_heads;
      const AttentionGraph graph = attention_backward_graph(s, {2, kv_heads});
      const auto tensors = tensors_of(graph);
      const std::set<Id> results = {Id::dq, Id::dk, Id::dv, Id::dots, Id::dq_sums};
      std::set<Id> written;
      for (const GraphOp& op : graph.ops) {
        for (const std::optional<Id> read : {std::optional(op.x), op.b, op.t}) {
          EXPECT_TRUE(!read || !tensors.at(*read).is_virtual() || written.count(*read) == 1);
        }
        EXPECT_TRUE(written.insert(op.y).second);
      }
      for (const auto& [id, t] : tensors) {
        EXPECT_EQ(written.count(id) == 1, t.is_virtual() || results.count(id) == 1) << static_cast<int>(id);
      }
      EXPECT_EQ(graph.ops.size(), 18U + (causal ? 4 : 0) + (kv_heads == 2 ? 2 : 0));
    }
  }
}

// 20 rows of 4 heads in a sequence; half of them are whole pieces of 4, a key/value head's 10 are none.
TEST(AttentionGraph, PortionsDivideABatch) {
  const auto portions = [](std::int64_t batch, std::int64_t seq, std::int64_t heads, std::int64_t kv_heads) {
    std::vector<std::pair<std::int64_t, std::int64_t>> all;
    for (const AttentionPortion& p :
         attention_portions({.batch = batch, .seq = seq, .heads = heads, .kv_heads = kv_heads, .head_dim = 16})) {
      all.emplace_back(p.sequences, p.kv_heads);
    }
    return all;
  };
  using Portions = std::vector<std::pair<std::int64_t, std::int64_t>>;
  EXPECT_EQ(portions(6, 5, 4, 2), (Portions{{6, 2}, {3, 2}, {2, 2}, {1, 2}}));
  EXPECT_EQ(portions(1, 8, 6, 6), (Portions{{1, 6}, {1, 3}, {1, 2}, {1, 1}}));
  EXPECT_EQ(portions(4, 5, 1, 1), (Portions{{4, 1}}));
}

TEST(AttentionGraph, WhatIsNotAsked) {
  const auto with = [](auto change) {
    AttentionShape s = kShape;
    change(s);
    return attention_graph(s).has_value();
  };
  EXPECT_FALSE(with([](AttentionShape& s) { s.window = 3; }));
  EXPECT_FALSE(with([](AttentionShape& s) { s.document = 3; }));
  EXPECT_FALSE(with([](AttentionShape& s) { s.head_dim = 12; }));
  EXPECT_FALSE(with([](AttentionShape& s) { s.value_dim = 4; }));
  EXPECT_FALSE(with([](AttentionShape& s) { s.seq = 0; }));
}

}  // namespace
}  // namespace foretrain::kernels::cuda
