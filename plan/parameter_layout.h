// Tools to lay out the tensors of a family of parameters, and to say which rows or columns a tp rank holds. Used by
// build_parameters.cpp and build_experts.cpp only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan/build_context.h"

namespace foretrain::plan {

inline constexpr std::int64_t kAlign = 16;  // elements between the beginnings of two tensors: a multiple of this

inline constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) {
  return (n + to - 1) / to * to;
}

struct Layout {
  ParameterFamily family;

  // A tensor of local shape rows x cols; `slices` by index in the family's slice_group.
  Parameter& add(const std::string& name, std::int64_t rows, std::int64_t cols, std::int64_t global_rows,
                 std::int64_t global_cols, std::vector<std::vector<Slice>> slices);
  Parameter& add_vector(const std::string& name, std::int64_t rows, std::int64_t global_rows,
                        std::vector<std::vector<Slice>> slices, Init init);
  // "<name>.up" and "<name>.down": an MLP of so many columns in all, cut over tp.
  void add_mlp(const RoleContext& c, const std::string& name, std::int64_t ffn_hidden, bool bias);
};

// Every tp rank holds all rows; the first one counts.
std::vector<std::vector<Slice>> replicated(int tp, std::int64_t rows);
// Rows cut in tp equal parts; `parts` tensors stacked (gate and up).
std::vector<std::vector<Slice>> row_sharded(int tp, std::int64_t local_rows, int parts);
std::vector<std::vector<Slice>> column_sharded(int tp, std::int64_t rows, std::int64_t local_cols);

// GPT-2's scaling of residual projections.
double residual_deviation(const workloads::Model& m);

// build_experts.cpp: of kMlp, kMoe and kExperts, in this order, in models with experts.
std::vector<Layout> expert_layouts(const RoleContext& c);

}  // namespace foretrain::plan
