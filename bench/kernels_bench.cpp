// Single-threaded speed of every kernel on shapes of GPT-2 124M (hidden 768, 12 heads, vocabulary 50,304 padded) and of
// small models. Products report FLOP/s, the rest bytes/s of what the op must read and write.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace foretrain::kernels {
namespace {

using benchmark::State;
using std::int64_t;

// Values in [-1, 1), never zeros: data-dependent power and denormals would show.
class Buffer {
 public:
  Buffer(Dtype dtype, int64_t n) : dtype_(dtype), data_(static_cast<std::size_t>(size_bytes(dtype, n))) {
    init_uniform({.rows = 1, .cols = n, .global_cols = n, .seed = 7}, -1.0, 1.0, tensor());
  }
  Tensor tensor() { return {data_.data(), dtype_}; }
  int64_t bytes() const { return static_cast<int64_t>(data_.size()); }

 private:
  Dtype dtype_;
  std::vector<char> data_;
};

void report_flops(State& state, double flops) {
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}
void report_bytes(State& state, int64_t bytes) {
  state.SetBytesProcessed(state.iterations() * bytes);
}

const Dtype kTypes[] = {Dtype::fp32, Dtype::bf16, Dtype::fp16, Dtype::fp64};

// ---- products ----

struct Layer {
  const char* name;
  int64_t rows, in, out;
};
const Layer kLayers[] = {{"qkv", 1024, 768, 2304},     {"fc", 1024, 768, 3072},     {"fcproj", 1024, 3072, 768},
                         {"head", 256, 768, 50304},    {"fc_small", 64, 768, 3072}, {"fc384", 1024, 384, 1536},
                         {"square", 1024, 1024, 1024}, {"fc_4x64", 256, 768, 3072}, {"fc384_12x64", 768, 384, 1536}};

enum class Pass { forward, backward_input, backward_weight };
const Pass kPasses[] = {Pass::forward, Pass::backward_input, Pass::backward_weight};
const char* name(Pass p) {
  return p == Pass::forward ? "forward" : p == Pass::backward_input ? "backward_input" : "backward_weight";
}

MatmulShape shape_of(const Layer& l, Pass pass) {
  switch (pass) {
    case Pass::forward: return MatmulShape::linear(l.rows, l.in, l.out);
    case Pass::backward_input: return MatmulShape::linear_backward_input(l.rows, l.in, l.out);
    default: return MatmulShape::linear_backward_weight(l.rows, l.in, l.out);
  }
}

void linear(State& state, Layer layer, Pass pass, Dtype dtype) {
  const MatmulShape s = shape_of(layer, pass);
  Buffer a(dtype, s.m * s.k), b(dtype, s.n * s.k);
  Buffer c(pass == Pass::backward_weight ? wide(dtype) : dtype, s.m * s.n);
  for (auto _ : state) {
    matmul(s, a.tensor(), b.tensor(), {}, c.tensor(), pass == Pass::backward_weight);
  }
  report_flops(state, 2.0 * static_cast<double>(s.m * s.n * s.k));
}

// ---- attention: FLOP counted on the visible half ----

AttentionShape attention_of(int64_t seq) {
  return {.batch = 1, .seq = seq, .heads = 12, .kv_heads = 12, .head_dim = 64};
}
double products(const AttentionShape& s, double count) {
  const auto pairs =
      static_cast<double>(s.batch * s.heads) * static_cast<double>(s.seq) * static_cast<double>(s.seq + 1) / 2;
  return count * 2.0 * pairs * static_cast<double>(s.head_dim);
}

void flash_forward(State& state, int64_t seq, Dtype dtype) {
  const AttentionShape s = attention_of(seq);
  Buffer qkv(dtype, s.tokens() * s.qkv_cols()), o(dtype, s.tokens() * s.out_cols()), lse(wide(dtype), s.heads * s.seq);
  for (auto _ : state) {
    attention_forward(s, qkv.tensor(), o.tensor(), lse.tensor());
  }
  report_flops(state, products(s, 2));
}

void flash_backward(State& state, int64_t seq, Dtype dtype) {
  const AttentionShape s = attention_of(seq);
  Buffer qkv(dtype, s.tokens() * s.qkv_cols()), o(dtype, s.tokens() * s.out_cols()), lse(wide(dtype), s.heads * s.seq),
      d_o(dtype, s.tokens() * s.out_cols()), dqkv(dtype, s.tokens() * s.qkv_cols());
  attention_forward(s, qkv.tensor(), o.tensor(), lse.tensor());
  for (auto _ : state) {
    attention_backward(s, qkv.tensor(), o.tensor(), lse.tensor(), d_o.tensor(), dqkv.tensor());
  }
  report_flops(state, products(s, 5));
}

void unfused_softmax(State& state, int64_t seq, Dtype dtype) {
  const AttentionShape s = attention_of(seq);
  Buffer scores(dtype, s.score_elements()), p(dtype, s.score_elements());
  for (auto _ : state) {
    attention_scale_mask_softmax(s, scores.tensor(), p.tensor());
  }
  report_bytes(state, scores.bytes() + p.bytes());
}

void rotary(State& state, int64_t seq, Dtype dtype) {
  const AttentionShape s = attention_of(seq);
  Buffer qkv(dtype, s.tokens() * s.qkv_cols());
  for (auto _ : state) {
    rotary_forward(s, s.head_dim, 10000.0, 0, qkv.tensor());
  }
  report_bytes(state, 2 * qkv.bytes() * 2 / 3);
}

// ---- memory-bound ops ----

constexpr int64_t kRows = 4096;
constexpr int64_t kHidden = 768;

void layernorm_forward(State& state, NormKind kind, Dtype dtype) {
  const NormShape s = {.kind = kind, .rows = kRows, .cols = kHidden};
  Buffer x(dtype, kRows * kHidden), y(dtype, kRows * kHidden), gain(dtype, kHidden), bias(dtype, kHidden),
      mean(wide(dtype), kRows), rstd(wide(dtype), kRows);
  for (auto _ : state) {
    norm_forward(s, x.tensor(), gain.tensor(), kind == NormKind::layernorm ? bias.tensor() : Tensor{}, y.tensor(),
                 mean.tensor(), rstd.tensor());
  }
  report_bytes(state, x.bytes() + y.bytes());
}

void layernorm_backward_input(State& state, NormKind kind, Dtype dtype) {
  const NormShape s = {.kind = kind, .rows = kRows, .cols = kHidden};
  Buffer x(dtype, kRows * kHidden), dy(dtype, kRows * kHidden), dx(dtype, kRows * kHidden), gain(dtype, kHidden),
      mean(wide(dtype), kRows), rstd(wide(dtype), kRows);
  for (auto _ : state) {
    norm_backward_input(s, x.tensor(), gain.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), {}, dx.tensor());
  }
  report_bytes(state, x.bytes() + dy.bytes() + dx.bytes());
}

void layernorm_backward_weight(State& state, NormKind kind, Dtype dtype) {
  const NormShape s = {.kind = kind, .rows = kRows, .cols = kHidden};
  Buffer x(dtype, kRows * kHidden), dy(dtype, kRows * kHidden), dgain(wide(dtype), kHidden),
      dbias(wide(dtype), kHidden), mean(wide(dtype), kRows), rstd(wide(dtype), kRows);
  for (auto _ : state) {
    norm_backward_weight(s, x.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), dgain.tensor(),
                         kind == NormKind::layernorm ? dbias.tensor() : Tensor{}, true);
  }
  report_bytes(state, x.bytes() + dy.bytes());
}

void activation(State& state, Activation kind, bool forward, Dtype dtype) {
  const int64_t cols = 4 * kHidden;
  const int64_t width = is_gated(kind) ? 2 * cols : cols;
  const int64_t rows = 1024;
  Buffer x(dtype, rows * width), y(dtype, rows * cols), dx(dtype, rows * width);
  for (auto _ : state) {
    if (forward) {
      activation_forward(kind, rows, cols, x.tensor(), y.tensor());
    } else {
      activation_backward(kind, rows, cols, x.tensor(), y.tensor(), dx.tensor());
    }
  }
  report_bytes(state, x.bytes() + y.bytes() + (forward ? 0 : dx.bytes()));
}

void residual(State& state, Dtype dtype) {
  Buffer a(dtype, kRows * kHidden), b(dtype, kRows * kHidden), y(dtype, kRows * kHidden);
  for (auto _ : state) {
    residual_add(kRows, kHidden, a.tensor(), b.tensor(), {}, y.tensor());
  }
  report_bytes(state, 3 * a.bytes());
}

void bias(State& state, Dtype dtype) {
  Buffer dy(dtype, kRows * kHidden), db(wide(dtype), kHidden);
  for (auto _ : state) {
    bias_gradient(kRows, kHidden, dy.tensor(), db.tensor(), true);
  }
  report_bytes(state, dy.bytes());
}

void cast_down(State& state, Dtype dtype) {
  const int64_t n = kRows * kHidden;
  Buffer src(Dtype::fp32, n), dst(dtype, n);
  for (auto _ : state) {
    cast(src.tensor(), dst.tensor(), n);
  }
  report_bytes(state, src.bytes() + dst.bytes());
}

void copy(State& state, Dtype dtype) {
  const int64_t n = kRows * kHidden;
  Buffer src(dtype, n), dst(dtype, n);
  for (auto _ : state) {
    std::memcpy(dst.tensor().data, src.tensor().data, static_cast<std::size_t>(src.bytes()));
  }
  report_bytes(state, src.bytes() + dst.bytes());
}

void sum(State& state, int count, Dtype dtype) {
  const int64_t n = kRows * kHidden / 4;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<ConstTensor> sources;
  for (int i = 0; i < count; ++i) {
    buffers.push_back(std::make_unique<Buffer>(dtype, n));
    sources.push_back(buffers.back()->tensor());
  }
  Buffer dst(dtype, n);
  for (auto _ : state) {
    sum_in_order(sources, dst.tensor(), {}, n);
  }
  report_bytes(state, (count + 1) * dst.bytes());
}

void embed(State& state, bool forward, Dtype dtype) {
  const int64_t vocab = 50304;
  const EmbeddingShape s = {.tokens = kRows, .seq = 1024, .cols = kHidden, .vocab_rows = vocab};
  std::vector<std::int32_t> ids(static_cast<std::size_t>(kRows));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>(i * 7919 % static_cast<std::size_t>(vocab));
  }
  const Dtype table = forward ? dtype : wide(dtype);
  Buffer wte(table, vocab * kHidden), wpe(table, 1024 * kHidden), out(dtype, kRows * kHidden);
  for (auto _ : state) {
    if (forward) {
      embedding_forward(s, ids.data(), wte.tensor(), wpe.tensor(), out.tensor());
    } else {
      embedding_backward(s, ids.data(), out.tensor(), wte.tensor(), wpe.tensor());
    }
  }
  report_bytes(state, out.bytes() + (forward ? 2 : 4) * size_bytes(table, kRows * kHidden));
}

void cross_entropy(State& state, bool forward, Dtype dtype) {
  const CrossEntropyShape s = {.rows = 256, .cols = 50304, .valid = 50257};
  Buffer logits(dtype, s.rows * s.cols), stats(wide(dtype), 3 * s.rows), row_stats(wide(dtype), 2 * s.rows);
  const std::vector<std::int32_t> targets(static_cast<std::size_t>(s.rows), 17);
  for (auto _ : state) {
    if (forward) {
      cross_entropy_stats(s, logits.tensor(), targets.data(), stats.tensor());
    } else {
      cross_entropy_backward(s, logits.tensor(), targets.data(), row_stats.tensor(), 1.0, logits.tensor());
    }
  }
  report_bytes(state, (forward ? 1 : 2) * logits.bytes());
}

void adamw(State& state, Dtype dtype) {
  const int64_t n = 8'000'000;
  Buffer p(wide(dtype), n), m(wide(dtype), n), v(wide(dtype), n), g(wide(dtype), n), narrow(dtype, n);
  fill(v.tensor(), n, 0.5);
  const bool has_copy = size_bytes(dtype, 1) == 2;
  const double coefficient = 0.5;
  for (auto _ : state) {
    optimizer_step({.learning_rate = 1e-4, .weight_decay = 0.1, .step = 10}, n, g.tensor(), &coefficient, p.tensor(),
                   m.tensor(), v.tensor(), has_copy ? narrow.tensor() : Tensor{});
  }
  report_bytes(state, 7 * p.bytes() + (has_copy ? narrow.bytes() : 0));
}

void norm(State& state, Dtype dtype) {
  const int64_t n = 8'000'000;
  Buffer x(dtype, n);
  double out = 0.0;
  for (auto _ : state) {
    squared_norm(x.tensor(), n, &out, false);
  }
  report_bytes(state, x.bytes());
}

void init(State& state, Dtype dtype) {
  const int64_t n = 1'000'000;
  Buffer x(dtype, n);
  for (auto _ : state) {
    init_normal({.rows = 1, .cols = n, .global_cols = n}, 0.02, x.tensor());
  }
  report_bytes(state, x.bytes());
}

template <class F>
void add_benchmark(const std::string& what, Dtype dtype, F f) {
  benchmark::RegisterBenchmark((what + "/" + std::string(foretrain::name(dtype))).c_str(), f)
      ->Unit(benchmark::kMicrosecond);
}

void register_all() {
  for (const Dtype d : kTypes) {
    for (const Layer& layer : kLayers) {
      for (const Pass pass : kPasses) {
        const std::string what = std::string(layer.name) + "/" + name(pass);
        add_benchmark("matmul/" + what, d, [=](State& s) { linear(s, layer, pass, d); });
      }
    }
    for (const int64_t seq : {64, 256, 1024}) {
      const std::string n = std::to_string(seq);
      add_benchmark("attention_forward/" + n, d, [=](State& s) { flash_forward(s, seq, d); });
      add_benchmark("attention_backward/" + n, d, [=](State& s) { flash_backward(s, seq, d); });
    }
    add_benchmark("scale_mask_softmax/512", d, [=](State& s) { unfused_softmax(s, 512, d); });
    add_benchmark("rotary/1024", d, [=](State& s) { rotary(s, 1024, d); });
    for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
      const std::string n = kind == NormKind::layernorm ? "layernorm" : "rmsnorm";
      add_benchmark(n + "_forward", d, [=](State& s) { layernorm_forward(s, kind, d); });
      add_benchmark(n + "_backward_input", d, [=](State& s) { layernorm_backward_input(s, kind, d); });
      add_benchmark(n + "_backward_weight", d, [=](State& s) { layernorm_backward_weight(s, kind, d); });
    }
    for (const bool forward : {true, false}) {
      const std::string n = forward ? "_forward" : "_backward";
      add_benchmark("gelu" + n, d, [=](State& s) { activation(s, Activation::gelu, forward, d); });
      add_benchmark("swiglu" + n, d, [=](State& s) { activation(s, Activation::swiglu, forward, d); });
      add_benchmark("embedding" + n, d, [=](State& s) { embed(s, forward, d); });
      add_benchmark("cross_entropy" + n, d, [=](State& s) { cross_entropy(s, forward, d); });
    }
    add_benchmark("residual_add", d, [=](State& s) { residual(s, d); });
    add_benchmark("bias_gradient", d, [=](State& s) { bias(s, d); });
    add_benchmark("cast_from_fp32", d, [=](State& s) { cast_down(s, d); });
    add_benchmark("memcpy", d, [=](State& s) { copy(s, d); });
    add_benchmark("sum_in_order/2", d, [=](State& s) { sum(s, 2, d); });
    add_benchmark("sum_in_order/8", d, [=](State& s) { sum(s, 8, d); });
    add_benchmark("adamw", d, [=](State& s) { adamw(s, d); });
    add_benchmark("squared_norm", d, [=](State& s) { norm(s, d); });
    add_benchmark("init_normal", d, [=](State& s) { init(s, d); });
  }
}

}  // namespace
}  // namespace foretrain::kernels

int main(int argc, char** argv) {
  benchmark::AddCustomContext("instruction set",
                              std::string(foretrain::kernels::name(foretrain::kernels::instruction_set())));
  benchmark::AddCustomContext("bf16 products", std::string(foretrain::kernels::bf16_matmul_backend()));
  foretrain::kernels::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
