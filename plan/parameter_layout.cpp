#include "plan/parameter_layout.h"

#include <cmath>

namespace foretrain::plan {

Parameter& Layout::add(const std::string& name, std::int64_t rows, std::int64_t cols, std::int64_t global_rows,
                       std::int64_t global_cols, std::vector<std::vector<Slice>> slices) {
  Parameter p;
  p.name = name;
  p.offset = round_up(family.elements, kAlign);
  p.rows = rows;
  p.cols = cols;
  p.global_rows = global_rows;
  p.global_cols = global_cols;
  p.slices = std::move(slices);
  family.elements = p.offset + rows * cols;
  family.parameters.push_back(std::move(p));
  return family.parameters.back();
}

Parameter& Layout::add_vector(const std::string& name, std::int64_t rows, std::int64_t global_rows,
                              std::vector<std::vector<Slice>> slices, Init init) {
  Parameter& p = add(name, rows, 1, global_rows, 1, std::move(slices));
  p.init = init;
  p.decay = false;
  return p;
}

void Layout::add_mlp(const RoleContext& c, const std::string& name, std::int64_t ffn_hidden, bool bias) {
  const int gates = workloads::is_gated(c.model.activation) ? 2 : 1;
  const std::int64_t local = ffn_hidden / c.tp, hidden = c.n.hidden;
  add(name + ".up.weight", gates * local, hidden, gates * ffn_hidden, hidden, row_sharded(c.tp, local, gates));
  if (bias) {
    add_vector(name + ".up.bias", gates * local, gates * ffn_hidden, row_sharded(c.tp, local, gates), Init::zeros);
  }
  add(name + ".down.weight", hidden, local, hidden, ffn_hidden, column_sharded(c.tp, hidden, local)).init_std =
      residual_deviation(c.model);
}

std::vector<std::vector<Slice>> replicated(int tp, std::int64_t rows) {
  std::vector<std::vector<Slice>> s;
  for (int t = 0; t < tp; ++t) {
    s.push_back({{0, 0, rows, 0, t}});
  }
  return s;
}

std::vector<std::vector<Slice>> row_sharded(int tp, std::int64_t local_rows, int parts) {
  std::vector<std::vector<Slice>> s;
  for (int t = 0; t < tp; ++t) {
    std::vector<Slice> mine;
    for (int part = 0; part < parts; ++part) {
      mine.push_back({part * local_rows, part * local_rows * tp + t * local_rows, local_rows, 0, 0});
    }
    s.push_back(std::move(mine));
  }
  return s;
}

std::vector<std::vector<Slice>> column_sharded(int tp, std::int64_t rows, std::int64_t local_cols) {
  std::vector<std::vector<Slice>> s;
  for (int t = 0; t < tp; ++t) {
    s.push_back({{0, 0, rows, t * local_cols, 0}});
  }
  return s;
}

double residual_deviation(const workloads::Model& m) {
  return 0.02 / std::sqrt(2.0 * static_cast<double>(m.layers));
}

}  // namespace foretrain::plan
