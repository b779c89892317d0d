#include "exec/parameters.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>

#include "base/error.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
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
    if (size_bytes(out.dtype, 1) != 2) {
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

// Calls fn(number, name, parameter) for the graph's tensors, for one that several roles hold as often.
template <class Fn>
void for_each_tensor(const plan::PlanGraph& graph, const Fn& fn) {
  for (const plan::Role& role : graph.roles) {
    for (const plan::ParameterFamily& family : role.parameter_families) {
      for (std::int32_t copy = 0; copy < std::max(1, family.layers); ++copy) {
        const std::int32_t layer = family.layers == 0 ? 0 : plan::layer_of_copy(role, family.layer_list, copy);
        for (const plan::Parameter& p : family.parameters) {
          fn(static_cast<std::size_t>(plan::global_tensor(role, p, layer)), plan::global_name(role, p, layer), p);
        }
      }
    }
  }
}

// Some of a whole tensor.
struct Part {
  std::int32_t tensor = 0;  // its number
  Dtype dtype{};
  TensorRun run;

  std::int64_t bytes() const { return size_bytes(dtype, run.elements); }
};
static_assert(std::is_trivially_copyable_v<Part>, "it travels as its bytes");

// Calls fn(part, its elements) for what the ranks answer for.
template <class Fn>
void for_each_owned_part(const std::vector<RankMemory>& ranks, Quantity quantity, const Fn& fn) {
  for (const RankMemory& memory : ranks) {
    for_each_counted_piece(
        memory, Replicas::first, [&](const OpCall& call, const plan::Piece& piece, std::int64_t first) {
          const kernels::Tensor from = advanced(quantity == Quantity::gradient ? call.reads[0] : call.writes[0], first);
          const Part part{plan::global_tensor(*call.rank->role, *piece.parameter, piece.layer), from.dtype,
                          run_of(piece)};
          read_on_host(memory, from, piece.elements,
                       [&](kernels::ConstTensor elements) { fn(part, static_cast<const std::byte*>(elements.data)); });
        });
  }
}

}  // namespace

void initialise_parameters(const RankMemory& memory, std::uint64_t seed) {
  Initialiser initialiser(seed);
  for_each_stored_range(memory, [&](Stored stored, const TensorRange& range, kernels::Tensor out) {
    if (is_weight(stored)) {
      write_on_host(memory, out, range.elements, [&](kernels::Tensor values) { initialiser.write(range, values); });
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
  for_each_tensor(graph, [&](std::size_t number, const std::string& name, const plan::Parameter&) {
    const auto found = by_name.find(name);
    by_number[number] = found == by_name.end() ? nullptr : found->second;
  });
  std::vector<double> wide;
  for (const RankMemory& memory : ranks) {
    for_each_stored_range(memory, [&](Stored stored, const TensorRange& range, kernels::Tensor out) {
      const FullTensor* const tensor = by_number[static_cast<std::size_t>(range.tensor)];
      if (!is_weight(stored) || tensor == nullptr) {
        return;
      }
      const std::vector<double>& values = tensor->values;
      wide.resize(static_cast<std::size_t>(range.elements));
      for (std::int64_t i = 0; i < range.elements; ++i) {
        wide[static_cast<std::size_t>(i)] =
            values.at(static_cast<std::size_t>(plan::global_index(range.parameter, range.slice, range.begin + i)));
      }
      write_on_host(memory, out, range.elements, [&](kernels::Tensor narrow) {
        kernels::cast({wide.data(), Dtype::fp64}, narrow, range.elements);
      });
    });
  }
}

double element(const kernels::ConstTensor& t, std::int64_t i) {
  switch (t.dtype) {
    case Dtype::fp64: return static_cast<const double*>(t.data)[i];
    case Dtype::fp32: return static_cast<double>(static_cast<const float*>(t.data)[i]);
    case Dtype::bf16: return static_cast<double>(static_cast<float>(static_cast<const kernels::Bf16*>(t.data)[i]));
    case Dtype::fp16: return static_cast<double>(static_cast<float>(static_cast<const kernels::Fp16*>(t.data)[i]));
    default: CHECK(false, "a parameter of type {}", name(t.dtype));
  }
  return 0.0;
}

std::string owned_parts(const std::vector<RankMemory>& ranks, Quantity quantity) {
  std::string bytes;
  for_each_owned_part(ranks, quantity, [&](const Part& part, const std::byte* elements) {
    bytes.append(reinterpret_cast<const char*>(&part), sizeof part);
    bytes.append(reinterpret_cast<const char*>(elements), static_cast<std::size_t>(part.bytes()));
    bytes.resize((bytes.size() + alignof(Part) - 1) / alignof(Part) * alignof(Part));
  });
  return bytes;
}

std::vector<FullTensor> gather(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks, Quantity quantity,
                               const std::vector<std::string>& of_others) {
  std::vector<FullTensor> all(static_cast<std::size_t>(graph.tensors));
  std::vector<std::int64_t> cols(all.size());
  for_each_tensor(graph, [&](std::size_t number, const std::string& name, const plan::Parameter& p) {
    all[number] = {name, std::vector<double>(static_cast<std::size_t>(p.global_rows * p.global_cols), 0.0)};
    cols[number] = p.global_cols;
  });
  const auto put = [&](const Part& part, const std::byte* elements) {
    const auto tensor = static_cast<std::size_t>(part.tensor);
    const TensorRun& run = part.run;
    for (std::int64_t i = 0; i < run.elements; ++i) {
      const std::int64_t place = run.skip + i;
      const std::int64_t index = (run.row + place / run.width) * cols[tensor] + run.col + place % run.width;
      all[tensor].values.at(static_cast<std::size_t>(index)) = element({elements, part.dtype}, i);
    }
  };
  for_each_owned_part(ranks, quantity, put);
  for (const std::string& bytes : of_others) {
    for (std::size_t at = 0; at < bytes.size();) {
      Part part;
      std::memcpy(static_cast<void*>(&part), bytes.data() + at, sizeof part);
      put(part, reinterpret_cast<const std::byte*>(bytes.data() + at + sizeof part));
      at += sizeof part + static_cast<std::size_t>(part.bytes());
      at = (at + alignof(Part) - 1) / alignof(Part) * alignof(Part);
    }
  }
  std::erase_if(all, [](const FullTensor& t) { return t.name.empty(); });
  return all;
}

}  // namespace foretrain::exec
