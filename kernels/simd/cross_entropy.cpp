#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

// A vocabulary is long: partial sums of this many elements are added up in fp64, or fp32 would lose digits.
constexpr int64_t kSumBlock = 1024;

template <class T>
Wide<T> row_maximum(const T* x, int64_t n) {
  using W = Wide<T>;
  constexpr int64_t lanes = kLanes<T>;
  const W lowest = -static_cast<W>(__builtin_inf());
  Vec<W> m0 = broadcast(lowest), m1 = m0, m2 = m0, m3 = m0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    m0 = max(load(x + i), m0);
    m1 = max(load(x + i + lanes), m1);
    m2 = max(load(x + i + 2 * lanes), m2);
    m3 = max(load(x + i + 3 * lanes), m3);
  }
  for (; i + lanes <= n; i += lanes) {
    m0 = max(load(x + i), m0);
  }
  if (i < n) {
    m0 = max(load_partial(x + i, n - i, lowest), m0);
  }
  return horizontal_max(max(max(m0, m1), max(m2, m3)));
}

template <class T>
void row_stats(const CrossEntropyShape& s, const T* logits, const std::int32_t* targets, Wide<T>* stats) {
  using W = Wide<T>;
  const W lowest = -static_cast<W>(__builtin_inf());
  for (int64_t r = 0; r < s.rows; ++r) {
    const T* x = logits + r * s.cols;
    const W maximum = row_maximum(x, s.valid);
    double sum = 0.0;
    for (int64_t start = 0; start < s.valid; start += kSumBlock) {
      const int64_t n = s.valid - start < kSumBlock ? s.valid - start : kSumBlock;
      sum += static_cast<double>(sum_vectors<W>(
          n, [&](int64_t i, auto access) { return access.only(exp(access.load(x + start + i) - maximum)); }));
    }
    const int64_t target = targets[r] - s.vocab_start;
    stats[3 * r] = maximum;
    stats[3 * r + 1] = static_cast<W>(sum);
    stats[3 * r + 2] = targets[r] < 0 ? -lowest : target >= 0 && target < s.valid ? widen(x[target]) : lowest;
  }
}

template <class W>
void combine(int64_t rows, int64_t parts, const W* stats, double scale, double* loss, bool accumulate, W* out) {
  double total = 0.0;
  for (int64_t r = 0; r < rows; ++r) {
    W maximum = -static_cast<W>(__builtin_inf());
    W target = maximum;
    for (int64_t p = 0; p < parts; ++p) {
      const W* part = stats + 3 * (p * rows + r);
      maximum = part[0] > maximum ? part[0] : maximum;
      target = part[2] > target ? part[2] : target;
    }
    double sum = 0.0;
    for (int64_t p = 0; p < parts; ++p) {
      const W* part = stats + 3 * (p * rows + r);
      sum += static_cast<double>(part[1]) * ::exp(static_cast<double>(part[0]) - static_cast<double>(maximum));
    }
    const double log_sum = ::log(sum);
    out[2 * r] = maximum;
    out[2 * r + 1] = static_cast<W>(log_sum);
    // No target counts for nothing, but a logit that is no number shows.
    total += target == static_cast<W>(__builtin_inf())
                 ? 0.0 * log_sum
                 : log_sum + (static_cast<double>(maximum) - static_cast<double>(target));
  }
  *loss = total * scale + (accumulate ? *loss : 0.0);
}

template <class T>
void backward(const CrossEntropyShape& s, const T* logits, const std::int32_t* targets, const Wide<T>* stats,
              double scale, T* gradient) {
  using W = Wide<T>;
  const W factor = static_cast<W>(scale);
  for (int64_t r = 0; r < s.rows; ++r) {
    const T* x = logits + r * s.cols;
    T* dx = gradient + r * s.cols;
    if (targets[r] < 0) {
      for_vectors<W>(s.cols, [&](int64_t i, auto access) { access.store(dx + i, Vec<W>{}); });
      continue;
    }
    const W maximum = stats[2 * r];
    const W log_sum = stats[2 * r + 1];
    const int64_t target = targets[r] - s.vocab_start;
    const bool here = target >= 0 && target < s.valid;
    const Vec<W> at_target = exp(broadcast(here ? (widen(x[here ? target : 0]) - maximum) - log_sum : W{0}));
    for_vectors<W>(s.valid, [&](int64_t i, auto access) {
      access.store(dx + i, exp((access.load(x + i) - maximum) - log_sum) * factor);
    });
    for_vectors<W>(s.cols - s.valid, [&](int64_t i, auto access) { access.store(dx + s.valid + i, Vec<W>{}); });
    if (here) {
      store_partial(dx + target, (at_target - 1) * factor, 1);
    }
  }
}

}  // namespace

void cross_entropy_stats(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t* targets, Tensor stats) {
  with_type(logits.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    row_stats<T>(s, as<T>(logits), targets, as<Wide<T>>(stats));
  });
}

void cross_entropy_combine(int64_t rows, int64_t parts, ConstTensor stats, double scale, double* loss, bool accumulate,
                           Tensor row_stats) {
  if (stats.dtype == Dtype::fp64) {
    combine(rows, parts, as<double>(stats), scale, loss, accumulate, as<double>(row_stats));
  } else {
    combine(rows, parts, as<float>(stats), scale, loss, accumulate, as<float>(row_stats));
  }
}

void cross_entropy_backward(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t* targets,
                            ConstTensor row_stats, double scale, Tensor gradient, const double* factor) {
  const double all = factor != nullptr ? scale * *factor : scale;
  with_type(logits.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    backward<T>(s, as<T>(logits), targets, as<Wide<T>>(row_stats), all, as<T>(gradient));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
