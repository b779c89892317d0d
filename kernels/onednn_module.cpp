// Products through oneDNN, on the calling thread.
//
// oneDNN's matmul takes plain row-major matrices with any leading dimension, transposed ones as strides, adds a bias,
// and adds to what stands in c by a sum post-operation. Primitives are kept per thread: creating one costs more than a
// small product.
#include "kernels/onednn_module.h"

#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "kernels/kernels.h"

// Of the OpenMP that oneDNN was built with, and that is loaded with it: naming another one here could load a second.
extern "C" void omp_set_num_threads(int);

namespace foretrain::kernels {

namespace {

using dnnl::memory;

memory::data_type type(Dtype d) {
  return d == Dtype::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// All that a primitive depends on.
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, bool, bool, std::int64_t, std::int64_t, std::int64_t,
                       Dtype, Dtype, Dtype, Dtype, bool, bool>;

struct Primitive {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul run;
};

// One thread's view of the library.
struct Session {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Key, std::optional<Primitive>> primitives;
  std::size_t workspace_bytes = 0;
  std::unique_ptr<char[]> workspace;

  Session() { omp_set_num_threads(1); }  // of this thread only

  void* workspace_of(std::size_t bytes) {
    if (bytes > workspace_bytes) {
      workspace = std::make_unique<char[]>(bytes);
      workspace_bytes = bytes;
    }
    return workspace.get();
  }
};

Session& session() {
  thread_local Session value;
  return value;
}

memory::desc matrix(std::int64_t rows, std::int64_t cols, std::int64_t ld, bool transposed, Dtype d) {
  return {{rows, cols}, type(d), transposed ? memory::dims{1, ld} : memory::dims{ld, 1}};
}

// nullptr when the library has no such product.
const Primitive* primitive(Session& s, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias,
                           Tensor c, bool accumulate) {
  const std::int64_t lda = shape.lda != 0 ? shape.lda : (shape.transpose_a ? shape.m : shape.k);
  const std::int64_t ldb = shape.ldb != 0 ? shape.ldb : (shape.transpose_b ? shape.k : shape.n);
  const std::int64_t ldc = shape.ldc != 0 ? shape.ldc : shape.n;
  const Key key = {shape.m, shape.n, shape.k, shape.transpose_a, shape.transpose_b,           lda,        ldb,
                   ldc,     a.dtype, b.dtype, c.dtype,           bias ? bias.dtype : c.dtype, bool(bias), accumulate};
  const auto found = s.primitives.find(key);
  if (found != s.primitives.end()) {
    return found->second ? &*found->second : nullptr;
  }
  std::optional<Primitive>& created = s.primitives[key];
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (accumulate) {
    dnnl::post_ops after;
    after.append_sum(1.0f);
    attributes.set_post_ops(after);
  }
  const memory::desc desc_a = matrix(shape.m, shape.k, lda, shape.transpose_a, a.dtype);
  const memory::desc desc_b = matrix(shape.k, shape.n, ldb, shape.transpose_b, b.dtype);
  const memory::desc desc_c = matrix(shape.m, shape.n, ldc, false, c.dtype);
  const auto description =
      bias ? dnnl::matmul::desc(desc_a, desc_b, matrix(1, shape.n, shape.n, false, bias.dtype), desc_c)
           : dnnl::matmul::desc(desc_a, desc_b, desc_c);
  constexpr bool kAllowEmpty = true;
  const dnnl::matmul::primitive_desc chosen(description, attributes, s.engine, kAllowEmpty);
  if (chosen) {
    created.emplace(Primitive{chosen, dnnl::matmul(chosen)});
  }
  return created ? &*created : nullptr;
}

void* offset(const void* data, Dtype d, std::int64_t elements) {
  return const_cast<char*>(static_cast<const char*>(data)) + size_bytes(d, elements);  // oneDNN reads through void*
}

}  // namespace

extern "C" bool foretrain_onednn_matmul(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias,
                                        Tensor c, bool accumulate) {
  Session& s = session();
  const Primitive* found = primitive(s, shape, a, b, bias, c, accumulate);
  if (found == nullptr) {
    return false;
  }
  const Primitive& p = *found;
  const memory::desc workspace = p.description.scratchpad_desc();
  for (std::int64_t i = 0; i < shape.batch; ++i) {
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, {p.description.src_desc(), s.engine, offset(a.data, a.dtype, i * shape.stride_a)}},
        {DNNL_ARG_WEIGHTS, {p.description.weights_desc(), s.engine, offset(b.data, b.dtype, i * shape.stride_b)}},
        {DNNL_ARG_DST, {p.description.dst_desc(), s.engine, offset(c.data, c.dtype, i * shape.stride_c)}},
        {DNNL_ARG_SCRATCHPAD, {workspace, s.engine, s.workspace_of(workspace.get_size())}}};
    if (bias) {
      arguments.insert({DNNL_ARG_BIAS, {p.description.bias_desc(), s.engine, offset(bias.data, bias.dtype, 0)}});
    }
    p.run.execute(s.stream, arguments);
  }
  s.stream.wait();
  return true;
}

}  // namespace foretrain::kernels
