// OpenBLAS on the products that kernels_bench measures, in fp32: compare openblas/M/N/K with matmul of that layer.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <vector>

namespace {

using benchmark::State;

// C[m,n] (+)= op(A) op(B) with the three layouts of a linear layer: forward (B transposed), backward input, and
// backward weight (A transposed, added to C).
void linear(State& state, CBLAS_TRANSPOSE transpose_a, CBLAS_TRANSPOSE transpose_b, float beta) {
  const auto m = static_cast<blasint>(state.range(0));
  const auto n = static_cast<blasint>(state.range(1));
  const auto k = static_cast<blasint>(state.range(2));
  const auto values = [](std::int64_t size) { return std::vector<float>(static_cast<std::size_t>(size), 0.37f); };
  const std::vector<float> a = values(state.range(0) * state.range(2));
  const std::vector<float> b = values(state.range(1) * state.range(2));
  std::vector<float> c = values(state.range(0) * state.range(1));
  for (auto _ : state) {
    cblas_sgemm(CblasRowMajor, transpose_a, transpose_b, m, n, k, 1.0f, a.data(), transpose_a == CblasTrans ? m : k,
                b.data(), transpose_b == CblasTrans ? k : n, beta, c.data(), n);
  }
  const double flops = 2.0 * static_cast<double>(state.range(0) * state.range(1) * state.range(2));
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK_CAPTURE(linear, openblas_forward, CblasNoTrans, CblasTrans, 0.0f)
    ->Args({1024, 2304, 768})
    ->Args({256, 50304, 768})
    ->Args({64, 3072, 768})
    ->Args({1024, 1024, 1024})
    ->Args({256, 3072, 768})
    ->Args({768, 1536, 384});
BENCHMARK_CAPTURE(linear, openblas_backward_input, CblasNoTrans, CblasNoTrans, 0.0f)
    ->Args({1024, 768, 2304})
    ->Args({256, 768, 50304})
    ->Args({64, 768, 3072})
    ->Args({1024, 1024, 1024})
    ->Args({256, 768, 3072})
    ->Args({768, 384, 1536});
BENCHMARK_CAPTURE(linear, openblas_backward_weight, CblasTrans, CblasNoTrans, 1.0f)
    ->Args({2304, 768, 1024})
    ->Args({50304, 768, 256})
    ->Args({3072, 768, 64})
    ->Args({1024, 1024, 1024})
    ->Args({3072, 768, 256})
    ->Args({1536, 384, 768});

}  // namespace
