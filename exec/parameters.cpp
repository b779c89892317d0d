#include "exec/parameters.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "base/error.h"
#include "kernels/bf16.h"
#include "kernels/kernels.h"

namespace foretrain::exec {

namespace {

// Initial values of a tensor as any range of any rank asks for them.
class Initialiser {
 public:
  explicit Initialiser(std::uint64_t seed) : seed_(seed) {}

  void write(const TensorRange& range, kernels::Tensor out) {
    const plan::Parameter& p = range.parameter;
    const std::int64_t begin = range.begin, n = range.elements;
    if (p.init != plan::Init::normal) {
      kernels::fill(out, n, p.init == plan::Init::ones ? 1.0 : 0.0);
      return;
    }
    // The range's first and last row may be cut; what lies between is a dense piece.
    for (std::int64_t done = 0; done < n;) {
      const std::int64_t column = (begin + done) % p.cols;
      kernels::InitShape shape;
      shape.rows = column == 0 ? std::max<std::int64_t>(1, (n - done) / p.cols) : 1;
      shape.cols = std::min(p.cols - column, n - done);
      shape.rows = std::min(shape.rows, std::max<std::int64_t>(1, kPieceElements / shape.cols));
      shape.row_offset = (begin + done) / p.cols - range.slice.local_row + range.slice.global_row;
      shape.col_offset = range.slice.global_col + column;
      shape.global_cols = p.global_cols;
      shape.seed = seed_;
      shape.tensor = static_cast<std::uint64_t>(range.tensor);
      normal(shape, p.init_std, advanced(out, done));
      done += shape.rows * shape.cols;
    }
  }

 private:
  static constexpr std::int64_t kPieceElements = 1 << 16;

  // 16-bit parameters are the rounded fp32 values that their master weights start from.
  void normal(const kernels::InitShape& shape, double deviation, kernels::Tensor out) {
    if (out.dtype != Dtype::bf16) {
      kernels::init_normal(shape, deviation, out);
      return;
    }
    const std::int64_t n = shape.rows * shape.cols;
    wide_.resize(static_cast<std::size_t>(n));
    kernels::init_normal(shape, deviation, {wide_.data(), Dtype::fp32});
    kernels::cast({wide_.data(), Dtype::fp32}, out, n);
  }

  std::uint64_t seed_;
  std::vector<float> wide_;
};

// What initial values and values from outside are written to.
bool is_weight(Stored stored) {
  return stored == Stored::parameter || stored == Stored::master;
}

}  // namespace

void initialise_parameters(const RankContext& rank, std::byte* arena, std::uint64_t seed) {
  Initialiser initialiser(seed);
  for_each_stored_range(rank, arena, [&](Stored stored, const TensorRange& range, kernels::Tensor out) {
    if (is_weight(stored)) {
      initialiser.write(range, out);
    }
  });
}

void scatter(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks,
             const std::vector<FullTensor>& tensors) {
  // By tensor number: their names are unique.
  std::map<std::string, const FullTensor*> by_name;
  for (const FullTensor& tensor : tensors) {
    by_name[tensor.name] = &tensor;
  }
  std::vector<const FullTensor*> by_number(static_cast<std::size_t>(graph.tensors), nullptr);
  for (const plan::Role& role : graph.roles) {
    for (const plan::ParameterFamily& family : role.parameter_families) {
      for (std::int32_t copy = 0; copy < std::max(1, family.layers); ++copy) {
        const std::int32_t layer = family.layers == 0 ? 0 : plan::layer_of_copy(role, family.layer_list, copy);
        for (const plan::Parameter& p : family.parameters) {
          const auto found = by_name.find(plan::global_name(role, p, layer));
          CHECK(found != by_name.end(), "no values for {}", plan::global_name(role, p, layer));
          by_number[static_cast<std::size_t>(plan::global_tensor(role, p, layer))] = found->second;
        }
      }
    }
  }
  std::vector<double> wide;
  for (const RankMemory& memory : ranks) {
    for_each_stored_range(
        *memory.rank, memory.arena, [&](Stored stored, const TensorRange& range, kernels::Tensor out) {
          if (!is_weight(stored)) {
            return;
          }
          const std::vector<double>& values = by_number[static_cast<std::size_t>(range.tensor)]->values;
          wide.resize(static_cast<std::size_t>(range.elements));
          for (std::int64_t i = 0; i < range.elements; ++i) {
            wide[static_cast<std::size_t>(i)] =
                values.at(static_cast<std::size_t>(plan::global_index(range.parameter, range.slice, range.begin + i)));
          }
          kernels::cast({wide.data(), Dtype::fp64}, out, range.elements);
        });
  }
}

double element(const kernels::ConstTensor& t, std::int64_t i) {
  switch (t.dtype) {
    case Dtype::fp64: return static_cast<const double*>(t.data)[i];
    case Dtype::fp32: return static_cast<double>(static_cast<const float*>(t.data)[i]);
    case Dtype::bf16: return static_cast<double>(static_cast<float>(static_cast<const kernels::Bf16*>(t.data)[i]));
    default: CHECK(false, "a parameter of type {}", name(t.dtype));
  }
  return 0.0;
}

std::vector<FullTensor> gather(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks, Quantity quantity) {
  std::vector<FullTensor> all(static_cast<std::size_t>(graph.tensors));
  for (const RankMemory& memory : ranks) {
    for_each_counted_piece(memory, [&](const OpCall& call, const plan::Piece& piece, std::int64_t first) {
      const plan::Role& role = *call.rank->role;
      const plan::Parameter& p = *piece.parameter;
      FullTensor& full = all[static_cast<std::size_t>(plan::global_tensor(role, p, piece.layer))];
      if (full.name.empty()) {
        full.name = plan::global_name(role, p, piece.layer);
        full.values.assign(static_cast<std::size_t>(p.global_rows * p.global_cols), 0.0);
      }
      const kernels::Tensor& source = quantity == Quantity::gradient ? call.reads[0] : call.writes[0];
      for (std::int64_t i = 0; i < piece.elements; ++i) {
        full.values[static_cast<std::size_t>(plan::global_index(p, *piece.slice, piece.local_begin + i))] =
            element(source, first + i);
      }
    });
  }
  std::erase_if(all, [](const FullTensor& t) { return t.name.empty(); });
  return all;
}

}  // namespace foretrain::exec
