#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

typedef float HalfFloatVec __attribute__((vector_size(FORETRAIN_VECTOR_BYTES / 2)));
typedef std::uint16_t QuarterUintVec __attribute__((vector_size(FORETRAIN_VECTOR_BYTES / 4)));
typedef std::uint32_t HalfUint32Vec __attribute__((vector_size(FORETRAIN_VECTOR_BYTES / 2)));

FORETRAIN_INLINE Vec<double> load_double(const double* p) {
  return load(p);
}
FORETRAIN_INLINE Vec<double> load_double(const float* p) {
  HalfFloatVec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return __builtin_convertvector(v, Vec<double>);
}
FORETRAIN_INLINE Vec<double> load_double(const Bf16* p) {
  QuarterUintVec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return __builtin_convertvector(bits_as<HalfFloatVec>(__builtin_convertvector(v, HalfUint32Vec) << 16), Vec<double>);
}

FORETRAIN_INLINE Vec<double> load_double(const Fp16* p) {
  HalfFloatVec v;
  if constexpr (FORETRAIN_VECTOR_BYTES == 64) {
    v = bits_as<HalfFloatVec>(_mm256_maskz_cvtph_ps(0xff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  } else if constexpr (FORETRAIN_VECTOR_BYTES == 32) {
    v = bits_as<HalfFloatVec>(_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  } else {
    for (int i = 0; i < kLanes<double>; ++i) {
      v[i] = widen(p[i]);
    }
  }
  return __builtin_convertvector(v, Vec<double>);
}

template <class T>
double squares(const T* x, int64_t n) {
  constexpr int64_t lanes = kLanes<double>;
  Vec<double> sum[8] = {};
  int64_t i = 0;
  for (; i + 8 * lanes <= n; i += 8 * lanes) {
    for (int v = 0; v < 8; ++v) {
      const Vec<double> d = load_double(x + i + v * lanes);
      sum[v] += d * d;
    }
  }
  double rest = 0.0;
  for (; i < n; ++i) {
    const auto d = static_cast<double>(widen(x[i]));
    rest += d * d;
  }
  const Vec<double> low = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  const Vec<double> high = (sum[4] + sum[5]) + (sum[6] + sum[7]);
  return horizontal_sum(low + high) + rest;
}

// The step's numbers in the arithmetic of the parameter.
template <class W>
struct Numbers {
  W lr, beta1, beta2, one_minus_beta1, one_minus_beta2, epsilon, decay, step_size, inverse_root2, factor;
};

template <class W>
Numbers<W> numbers(const OptimizerStep& s, const double* coefficient) {
  const auto t = static_cast<double>(s.step);
  return {
      .lr = static_cast<W>(s.learning_rate),
      .beta1 = static_cast<W>(s.beta1),
      .beta2 = static_cast<W>(s.beta2),
      .one_minus_beta1 = static_cast<W>(1.0 - s.beta1),
      .one_minus_beta2 = static_cast<W>(1.0 - s.beta2),
      .epsilon = static_cast<W>(s.epsilon),
      .decay = static_cast<W>(s.weight_decay),
      .step_size = static_cast<W>(s.learning_rate / (1.0 - ::pow(s.beta1, t))),
      .inverse_root2 = static_cast<W>(1.0 / ::sqrt(1.0 - ::pow(s.beta2, t))),
      .factor = coefficient != nullptr ? static_cast<W>(*coefficient) : W{1},
  };
}

template <OptimizerKind kind, bool has_copy, class G, class W, class C>
void run(const OptimizerStep& s, int64_t n, const G* gradient, const double* coefficient, W* parameter, W* m, W* v,
         C* copy) {
  const Numbers<W> k = numbers<W>(s, coefficient);
  const W lr_decay = static_cast<W>(s.learning_rate * s.weight_decay);
  for_vectors<W>(n, [&](int64_t i, auto access) {
    Vec<W> p = access.load(parameter + i);
    Vec<W> g = access.load(gradient + i) * k.factor;
    if constexpr (kind == OptimizerKind::adamw) {
      p -= lr_decay * p;
    } else {
      g += k.decay * p;
    }
    if constexpr (kind == OptimizerKind::sgd) {
      p -= k.lr * g;
    } else if constexpr (kind == OptimizerKind::momentum) {
      const Vec<W> moment = k.beta1 * access.load(m + i) + g;
      access.store(m + i, moment);
      p -= k.lr * moment;
    } else if constexpr (kind == OptimizerKind::rmsprop) {
      const Vec<W> square = k.beta2 * access.load(m + i) + k.one_minus_beta2 * g * g;
      access.store(m + i, square);
      p -= k.lr * g / (sqrt(square) + k.epsilon);
    } else {
      const Vec<W> first = k.beta1 * access.load(m + i) + k.one_minus_beta1 * g;
      const Vec<W> second = k.beta2 * access.load(v + i) + k.one_minus_beta2 * g * g;
      access.store(m + i, first);
      access.store(v + i, second);
      p -= k.step_size * first / (sqrt(second) * k.inverse_root2 + k.epsilon);
    }
    access.store(parameter + i, p);
    if constexpr (has_copy) {
      access.store(copy + i, p);
    }
  });
}

template <OptimizerKind kind>
void run_typed(const OptimizerStep& s, int64_t n, ConstTensor gradient, const double* coefficient, Tensor parameter,
               Tensor m, Tensor v, Tensor copy) {
  if (parameter.dtype == Dtype::fp64) {
    run<kind, false>(s, n, as<double>(gradient), coefficient, as<double>(parameter), as<double>(m), as<double>(v),
                     static_cast<Bf16*>(nullptr));
    return;
  }
  const auto with_gradient = [&](auto g) {
    using G = typename decltype(g)::type;
    const auto with_copy = [&](auto has_copy, auto* to) {
      run<kind, has_copy.value>(s, n, as<G>(gradient), coefficient, as<float>(parameter), as<float>(m), as<float>(v),
                                to);
    };
    if (!copy) {
      with_copy(std::false_type{}, static_cast<Bf16*>(nullptr));
    } else if (copy.dtype == Dtype::fp16) {
      with_copy(std::true_type{}, as<Fp16>(copy));
    } else {
      with_copy(std::true_type{}, as<Bf16>(copy));
    }
  };
  if (gradient.dtype == Dtype::bf16) {
    with_gradient(Type<Bf16>{});
  } else {
    with_gradient(Type<float>{});
  }
}

template <class W>
void lamb_updates(const OptimizerStep& s, int64_t n, W* gradient, const double* coefficient, const W* parameter, W* m,
                  W* v) {
  const Numbers<W> k = numbers<W>(s, coefficient);
  const W correction = static_cast<W>(1.0 / (1.0 - ::pow(s.beta1, static_cast<double>(s.step))));
  for_vectors<W>(n, [&](int64_t i, auto access) {
    const Vec<W> g = access.load(gradient + i) * k.factor;
    const Vec<W> first = k.beta1 * access.load(m + i) + k.one_minus_beta1 * g;
    const Vec<W> second = k.beta2 * access.load(v + i) + k.one_minus_beta2 * g * g;
    access.store(m + i, first);
    access.store(v + i, second);
    access.store(gradient + i, correction * first / (sqrt(second) * k.inverse_root2 + k.epsilon) +
                                   k.decay * access.load(parameter + i));
  });
}

template <bool has_copy, class W, class C>
void subtract(int64_t n, W factor, const W* update, W* parameter, C* copy) {
  for_vectors<W>(n, [&](int64_t i, auto access) {
    const Vec<W> p = access.load(parameter + i) - factor * access.load(update + i);
    access.store(parameter + i, p);
    if constexpr (has_copy) {
      access.store(copy + i, p);
    }
  });
}

}  // namespace

void lamb_update(const OptimizerStep& s, int64_t n, Tensor gradient, const double* coefficient, ConstTensor parameter,
                 Tensor m, Tensor v) {
  const auto run = [&](auto t) {
    using W = typename decltype(t)::type;
    lamb_updates(s, n, as<W>(gradient), coefficient, as<W>(parameter), as<W>(m), as<W>(v));
  };
  parameter.dtype == Dtype::fp64 ? run(Type<double>{}) : run(Type<float>{});
}

void lamb_step(int64_t n, double learning_rate, ConstTensor update, const double* weights, const double* updates,
               Tensor parameter, Tensor copy) {
  const bool adapts = weights != nullptr && *weights > 0 && *updates > 0;
  const double factor = learning_rate * (adapts ? ::sqrt(*weights / *updates) : 1.0);
  if (parameter.dtype == Dtype::fp64) {
    subtract<false>(n, factor, as<double>(update), as<double>(parameter), static_cast<Bf16*>(nullptr));
    return;
  }
  const auto narrow = static_cast<float>(factor);
  if (!copy) {
    subtract<false>(n, narrow, as<float>(update), as<float>(parameter), static_cast<Bf16*>(nullptr));
  } else if (copy.dtype == Dtype::fp16) {
    subtract<true>(n, narrow, as<float>(update), as<float>(parameter), as<Fp16>(copy));
  } else {
    subtract<true>(n, narrow, as<float>(update), as<float>(parameter), as<Bf16>(copy));
  }
}

void squared_norm(ConstTensor x, int64_t n, double* sum, bool accumulate) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    *sum = squares(as<T>(x), n) + (accumulate ? *sum : 0.0);
  });
}

void optimizer_step(const OptimizerStep& s, int64_t n, ConstTensor gradient, const double* coefficient,
                    Tensor parameter, Tensor m, Tensor v, Tensor copy) {
  const auto run_kind = [&]<OptimizerKind kind>() {
    run_typed<kind>(s, n, gradient, coefficient, parameter, m, v, copy);
  };
  switch (s.kind) {
    case OptimizerKind::sgd: run_kind.template operator()<OptimizerKind::sgd>(); break;
    case OptimizerKind::momentum: run_kind.template operator()<OptimizerKind::momentum>(); break;
    case OptimizerKind::adam: run_kind.template operator()<OptimizerKind::adam>(); break;
    case OptimizerKind::adamw: run_kind.template operator()<OptimizerKind::adamw>(); break;
    case OptimizerKind::rmsprop: run_kind.template operator()<OptimizerKind::rmsprop>(); break;
    case OptimizerKind::lamb: break;  // refused before
  }
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
