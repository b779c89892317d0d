#include "exec/shares.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/kernels.h"
#include "plan/all_reduce_part.h"

namespace foretrain::exec {

namespace {

const std::byte* at(const void* base, std::int64_t bytes) {
  return static_cast<const std::byte*>(base) + bytes;
}
std::byte* at(void* base, std::int64_t bytes) {
  return static_cast<std::byte*>(base) + bytes;
}

template <class T>
void max_in_order(const std::vector<kernels::ConstTensor>& sources, void* out, std::int64_t n) {
  T* const result = static_cast<T*>(out);
  for (std::int64_t i = 0; i < n; ++i) {
    T best = static_cast<const T*>(sources[0].data)[i];
    for (const kernels::ConstTensor& source : sources) {
      const T candidate = static_cast<const T*>(source.data)[i];
      if constexpr (sizeof(T) == 2) {
        best = static_cast<float>(best) < static_cast<float>(candidate) ? candidate : best;
      } else {
        best = std::max(best, candidate);
      }
    }
    result[i] = best;
  }
}

// Elements [begin, end) of all inputs, reduced into the first destination and copied to the others; destinations are
// addresses of element `begin`.
void reduce_range(const kernels::Launchers& launch, const SharedOperation& o, std::int64_t begin, std::int64_t end,
                  void* destination, const std::vector<kernels::Tensor>& copies) {
  std::vector<kernels::ConstTensor> sources;
  for (const void* const in : o.in) {
    sources.push_back({at(in, size_bytes(o.dtype, begin)), o.dtype});
  }
  reduce_in_order(launch, o.reduction, sources, {destination, o.dtype}, copies, end - begin);
}

void all_reduce_share(const kernels::Launchers& launch, const SharedOperation& o, int index) {
  const std::int64_t width = size_bytes(o.dtype, 1);
  const auto [begin, end] = plan::all_reduce_part(o.elements, o.dtype, index, static_cast<int>(o.in.size()));
  std::vector<kernels::Tensor> others;
  for (std::size_t m = 0; m < o.out.size(); ++m) {
    if (static_cast<int>(m) != index) {
      others.push_back({at(o.out[m], begin * width), o.dtype});
    }
  }
  reduce_range(launch, o, begin, end, at(o.out[static_cast<std::size_t>(index)], begin * width), others);
}

// Bytes of one member's block.
std::int64_t block_bytes(const SharedOperation& o) {
  const auto members = static_cast<std::int64_t>(o.in.size());
  CHECK(o.elements % members == 0, "{} of {} elements over {} members", plan::name(o.kind), o.elements, members);
  return size_bytes(o.dtype, o.elements / members);
}

void counted_share(const kernels::Launchers& launch, const SharedOperation& o, std::size_t self) {
  std::vector<kernels::ReceivedRows> members;
  for (std::size_t m = 0; m < o.in.size(); ++m) {
    members.push_back({o.in[m], o.to[m]});
  }
  launch.receive_rows(members, static_cast<std::int64_t>(self), size_bytes(o.dtype, o.row), o.out[self]);
}

}  // namespace

void reduce_in_order(const kernels::Launchers& launch, plan::Reduction reduction,
                     const std::vector<kernels::ConstTensor>& sources, kernels::Tensor out,
                     const std::vector<kernels::Tensor>& copies, std::int64_t n) {
  if (reduction == plan::Reduction::sum) {
    launch.sum_in_order(sources, out, copies, n);
    return;
  }
  switch (out.dtype) {
    case Dtype::fp64: max_in_order<double>(sources, out.data, n); break;
    case Dtype::fp32: max_in_order<float>(sources, out.data, n); break;
    case Dtype::bf16: max_in_order<kernels::Bf16>(sources, out.data, n); break;
    case Dtype::fp16: max_in_order<kernels::Fp16>(sources, out.data, n); break;
    default: CHECK(false, "a maximum over {}", name(out.dtype));
  }
  for (const kernels::Tensor& copy : copies) {
    launch.copy(out.data, copy.data, size_bytes(out.dtype, n));
  }
}

void do_share(const kernels::Launchers& launch, const SharedOperation& o, int index) {
  const auto self = static_cast<std::size_t>(index);
  if (o.is_message) {
    if (index == 1) {
      launch.copy(o.in[0], o.out[1], size_bytes(o.dtype, o.elements));
    }
    return;
  }
  switch (o.kind) {
    case plan::CollectiveKind::all_reduce: all_reduce_share(launch, o, index); break;
    case plan::CollectiveKind::reduce_scatter: {
      const std::int64_t block = block_bytes(o) / size_bytes(o.dtype, 1);
      reduce_range(launch, o, index * block, (index + 1) * block, o.out[self], {});
      break;
    }
    case plan::CollectiveKind::all_gather: {
      const std::int64_t block = block_bytes(o);
      for (std::size_t m = 0; m < o.in.size(); ++m) {
        launch.copy(o.in[m], at(o.out[self], static_cast<std::int64_t>(m) * block), block);
      }
      break;
    }
    case plan::CollectiveKind::broadcast:
      launch.copy(o.in.at(static_cast<std::size_t>(o.root)), o.out[self], size_bytes(o.dtype, o.elements));
      break;
    case plan::CollectiveKind::gather:
      if (index != o.root) {
        const std::int64_t part = size_bytes(o.dtype, o.elements / (std::ssize(o.in) - 1));
        launch.copy(o.in[self], at(o.out.at(static_cast<std::size_t>(o.root)), part_of(index, o.root) * part), part);
      }
      break;
    case plan::CollectiveKind::distribute:
      if (index != o.root) {
        launch.copy(o.in.at(static_cast<std::size_t>(o.root)), o.out[self], size_bytes(o.dtype, o.elements));
      }
      break;
    case plan::CollectiveKind::all_to_all: {
      if (o.row > 0) {
        counted_share(launch, o, self);
        break;
      }
      const std::int64_t block = block_bytes(o);
      for (std::size_t m = 0; m < o.in.size(); ++m) {
        launch.copy(at(o.in[m], index * block), at(o.out[self], static_cast<std::int64_t>(m) * block), block);
      }
      break;
    }
  }
}

}  // namespace foretrain::exec
