// Choosing experts and moving rows are a few operations per element: plain loops. What counts are the products, which
// are those of matmul.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "kernels/arguments.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace foretrain::kernels {

namespace {

using std::int32_t;
using std::int64_t;

const std::byte* at(ConstTensor t, int64_t element) {
  return static_cast<const std::byte*>(t.data) + size_bytes(t.dtype, element);
}
Tensor advanced(Tensor t, int64_t element) {
  return {static_cast<std::byte*>(t.data) + size_bytes(t.dtype, element), t.dtype};
}
ConstTensor advanced(ConstTensor t, int64_t element) {
  return {at(t, element), t.dtype};
}

// Calls f with a value of the element's type.
template <class F>
void with_element(const char* op, Dtype d, F f) {
  switch (d) {
    case Dtype::fp64: f(double{}); break;
    case Dtype::fp32: f(float{}); break;
    case Dtype::bf16: f(Bf16{}); break;
    case Dtype::fp16: f(Fp16{}); break;
    default: CHECK(false, "{}: element type {}; fp64, fp32, bf16 and fp16 exist", op, name(d));
  }
}

template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

// The type of statistics and weights.
template <class F>
void with_wide(Dtype d, F f) {
  if (d == Dtype::fp64) {
    f(double{});
  } else {
    f(float{});
  }
}

template <class W>
void scores_of(const GateShape& s, const W* logits, W* scores) {
  if (s.router == Router::sigmoid) {
    for (int64_t e = 0; e < s.experts; ++e) {
      scores[e] = W{1} / (W{1} + std::exp(-logits[e]));
    }
    return;
  }
  const W greatest = *std::max_element(logits, logits + s.experts);
  W sum = 0;
  for (int64_t e = 0; e < s.experts; ++e) {
    scores[e] = std::exp(logits[e] - greatest);
    sum += scores[e];
  }
  for (int64_t e = 0; e < s.experts; ++e) {
    scores[e] /= sum;
  }
}

// The n greatest of the candidates, greatest first.
template <class Value>
void best(std::vector<int32_t>& candidates, int64_t n, const Value& value) {
  std::partial_sort(candidates.begin(), candidates.begin() + n, candidates.end(), [&](int32_t a, int32_t b) {
    const auto va = value(a), vb = value(b);
    return va != vb ? va > vb : a < b;
  });
  candidates.resize(static_cast<std::size_t>(n));
}

template <class W>
std::vector<int32_t> eligible(const GateShape& s, const W* scores) {
  std::vector<int32_t> experts(static_cast<std::size_t>(s.experts));
  std::iota(experts.begin(), experts.end(), 0);
  if (s.top_groups == s.groups) {
    return experts;
  }
  const int64_t width = s.experts / s.groups;
  std::vector<int32_t> groups(static_cast<std::size_t>(s.groups));
  std::iota(groups.begin(), groups.end(), 0);
  best(groups, s.top_groups, [&](int32_t g) {
    W first = scores[g * width], second = -1;
    for (int64_t e = 1; e < width; ++e) {
      const W x = scores[g * width + e];
      second = x > first ? first : std::max(second, x);
      first = std::max(first, x);
    }
    return s.group_best == 1 ? first : first + std::max(second, W{0});
  });
  std::erase_if(experts, [&](int32_t e) {
    return std::find(groups.begin(), groups.end(), static_cast<int32_t>(e / width)) == groups.end();
  });
  return experts;
}

}  // namespace

void gate_forward(const GateShape& s, ConstTensor logits, Tensor scores, Tensor weights, int32_t* chosen) {
  arguments::gate_forward(s, logits, scores, weights, chosen);
  with_wide(logits.dtype, [&]<class W>(W) {
    for (int64_t t = 0; t < s.tokens; ++t) {
      W* const score = static_cast<W*>(scores.data) + t * s.experts;
      W* const weight = static_cast<W*>(weights.data) + t * s.top_k;
      scores_of(s, static_cast<const W*>(logits.data) + t * s.experts, score);
      std::vector<int32_t> experts = eligible(s, score);
      best(experts, s.top_k, [&](int32_t e) { return score[e]; });
      W sum = 0;
      for (const int32_t e : experts) {
        sum += score[e];
      }
      const W factor = static_cast<W>(s.scale) / (s.normalize ? sum : W{1});
      for (int64_t k = 0; k < s.top_k; ++k) {
        chosen[t * s.top_k + k] = experts[static_cast<std::size_t>(k)];
        weight[k] = score[experts[static_cast<std::size_t>(k)]] * factor;
      }
    }
  });
}

void gate_backward(const GateShape& s, ConstTensor scores, const int32_t* chosen, ConstTensor dweights, double balance,
                   const int32_t* counts, int64_t parts, Tensor dlogits) {
  arguments::gate_backward(s, scores, chosen, dweights, balance, counts, parts, dlogits);
  with_wide(scores.dtype, [&]<class W>(W) {
    const auto n = static_cast<std::size_t>(s.experts);
    std::vector<W> share(n, 0), d(n);  // balancing: gradient of each p_e, the same for all tokens
    if (balance != 0) {
      double all = 0;
      for (int64_t i = 0; i < parts * s.experts; ++i) {
        share[static_cast<std::size_t>(i % s.experts)] += static_cast<W>(counts[i]);
        all += counts[i];
      }
      const double tokens = static_cast<double>(parts * s.tokens);
      for (W& x : share) {
        x = all > 0 ? static_cast<W>(balance * static_cast<double>(s.experts) * static_cast<double>(x) / (all * tokens))
                    : W{0};
      }
    }
    for (int64_t t = 0; t < s.tokens; ++t) {
      const W* const score = static_cast<const W*>(scores.data) + t * s.experts;
      const W* const dweight = static_cast<const W*>(dweights.data) + t * s.top_k;
      const int32_t* const mine = chosen + t * s.top_k;
      W* const out = static_cast<W*>(dlogits.data) + t * s.experts;
      W sum = 0, mean = 0;
      for (int64_t e = 0; e < s.experts; ++e) {
        sum += s.router == Router::sigmoid ? score[e] : W{0};
        mean += score[e] * share[static_cast<std::size_t>(e)];
      }
      for (std::size_t e = 0; e < n; ++e) {  // of p = s / sum for a sigmoid, p = s for a softmax
        d[e] = s.router == Router::sigmoid ? (share[e] - mean / sum) / sum : share[e];
      }
      W chosen_sum = 0, inner = 0;
      for (int64_t k = 0; k < s.top_k; ++k) {
        chosen_sum += score[mine[k]];
        inner += dweight[k] * score[mine[k]];
      }
      for (int64_t k = 0; k < s.top_k; ++k) {
        d[static_cast<std::size_t>(mine[k])] +=
            static_cast<W>(s.scale) * (s.normalize ? (dweight[k] - inner / chosen_sum) / chosen_sum : dweight[k]);
      }
      W along = 0;
      for (int64_t e = 0; s.router == Router::softmax && e < s.experts; ++e) {
        along += d[static_cast<std::size_t>(e)] * score[e];
      }
      for (int64_t e = 0; e < s.experts; ++e) {
        const W x = d[static_cast<std::size_t>(e)];
        out[e] = score[e] * (s.router == Router::softmax ? x - along : x * (W{1} - score[e]));
      }
    }
  });
}

void route_count(int64_t rows, int64_t experts, int64_t capacity, const int32_t* chosen, int32_t* place,
                 int32_t* counts) {
  std::fill_n(counts, experts, 0);
  for (int64_t i = 0; i < rows; ++i) {
    int32_t& count = counts[chosen[i]];
    place[i] = capacity > 0 && count >= capacity ? -1 : count++;  // within its expert
  }
  std::vector<int32_t> begin(static_cast<std::size_t>(experts), 0);
  std::partial_sum(counts, counts + experts - 1, begin.begin() + 1);
  for (int64_t i = 0; i < rows; ++i) {
    place[i] += place[i] < 0 ? 0 : begin[static_cast<std::size_t>(chosen[i])];
  }
}

void route_arrange(int64_t rows, int64_t experts, int64_t members, const int32_t* counts, const int32_t* arrived,
                   int32_t* place, int32_t* offsets, int32_t* to, int32_t* from) {
  const int64_t local = experts / members;
  for (int64_t m = 0; m < members; ++m) {
    to[m] = std::accumulate(counts + m * local, counts + (m + 1) * local, 0);
    from[m] = std::accumulate(arrived + m * local, arrived + (m + 1) * local, 0);
  }
  // Where the rows of each member begin within each expert.
  std::vector<int32_t> begin(static_cast<std::size_t>(experts));
  int32_t next = 0;
  for (int64_t e = 0; e < local; ++e) {
    offsets[e] = next;
    for (int64_t m = 0; m < members; ++m) {
      begin[static_cast<std::size_t>(m * local + e)] = next;
      next += arrived[m * local + e];
    }
  }
  offsets[local] = next;
  CHECK(next <= rows, "{} rows arrive where {} were planned for", next, rows);
  int64_t i = 0;
  for (int64_t chunk = 0; chunk < experts; ++chunk) {
    for (int32_t k = 0; k < arrived[chunk]; ++k) {
      place[i++] = begin[static_cast<std::size_t>(chunk)] + k;
    }
  }
  std::fill(place + i, place + rows, -1);
}

void receive_rows(std::span<const ReceivedRows> members, int64_t index, int64_t row_bytes, void* y) {
  check_sizes("receive_rows", {index, row_bytes});
  auto* out = static_cast<std::byte*>(y);
  for (const ReceivedRows& member : members) {
    const int64_t before = std::accumulate(member.to, member.to + index, int64_t{0});
    const int64_t bytes = member.to[index] * row_bytes;
    if (bytes > 0) {
      std::memcpy(out, static_cast<const std::byte*>(member.rows) + before * row_bytes,
                  static_cast<std::size_t>(bytes));
    }
    out += bytes;
  }
}

void permute_forward(int64_t rows, int64_t copies, int64_t cols, ConstTensor x, const int32_t* place, Tensor y) {
  arguments::permute_forward(rows, copies, cols, x, place, y);
  const auto bytes = static_cast<std::size_t>(size_bytes(x.dtype, cols));
  for (int64_t i = 0; i < rows * copies; ++i) {
    if (place[i] >= 0) {
      std::memcpy(advanced(y, place[i] * cols).data, at(x, i / copies * cols), bytes);
    }
  }
}

void permute_backward(int64_t rows, int64_t copies, int64_t cols, ConstTensor y, const int32_t* place, Tensor x) {
  arguments::permute_backward(rows, copies, cols, y, place, x);
  std::vector<ConstTensor> sources;
  for (int64_t i = 0; i < rows; ++i) {
    sources.clear();
    for (int64_t c = 0; c < copies; ++c) {
      if (place[i * copies + c] >= 0) {
        sources.push_back(advanced(y, place[i * copies + c] * cols));
      }
    }
    if (sources.empty()) {
      fill(advanced(x, i * cols), cols, 0.0);
    } else if (sources.size() == 1) {
      std::memcpy(advanced(x, i * cols).data, sources[0].data, static_cast<std::size_t>(size_bytes(x.dtype, cols)));
    } else {
      sum_in_order(sources, advanced(x, i * cols), {}, cols);
    }
  }
}

void grouped_forward(const GroupedShape& s, const int32_t* offsets, ConstTensor x, ConstTensor w, Tensor y) {
  arguments::grouped_forward(s, offsets, x, w, y);
  for (int64_t e = 0; e < s.experts; ++e) {
    matmul(MatmulShape::linear(offsets[e + 1] - offsets[e], s.in, s.out), advanced(x, offsets[e] * s.in),
           advanced(w, e * s.out * s.in), {}, advanced(y, offsets[e] * s.out), false);
  }
}

void grouped_backward_input(const GroupedShape& s, const int32_t* offsets, ConstTensor dy, ConstTensor w, Tensor dx) {
  arguments::grouped_backward_input(s, offsets, dy, w, dx);
  for (int64_t e = 0; e < s.experts; ++e) {
    matmul(MatmulShape::linear_backward_input(offsets[e + 1] - offsets[e], s.in, s.out),
           advanced(dy, offsets[e] * s.out), advanced(w, e * s.out * s.in), {}, advanced(dx, offsets[e] * s.in), false);
  }
}

void grouped_backward_weight(const GroupedShape& s, const int32_t* offsets, ConstTensor dy, ConstTensor x, Tensor dw) {
  arguments::grouped_backward_weight(s, offsets, dy, x, dw);
  for (int64_t e = 0; e < s.experts; ++e) {
    matmul(MatmulShape::linear_backward_weight(offsets[e + 1] - offsets[e], s.in, s.out),
           advanced(dy, offsets[e] * s.out), advanced(x, offsets[e] * s.in), {}, advanced(dw, e * s.out * s.in), true);
  }
}

void expert_activation_forward(Activation kind, int64_t rows, int64_t cols, ConstTensor x, ConstTensor weights,
                               Tensor y) {
  arguments::expert_activation_forward(kind, rows, cols, x, weights, y);
  activation_forward(kind, rows, cols, x, y);
  with_element("expert_activation_forward", y.dtype, [&]<class T>(T) {
    using W = Wide<T>;
    for (int64_t i = 0; i < rows * cols; ++i) {
      T& out = static_cast<T*>(y.data)[i];
      out = static_cast<T>(static_cast<W>(out) * static_cast<const W*>(weights.data)[i / cols]);
    }
  });
}

// Row by row: act(x) is needed for the weights' gradients, and kept nowhere.
void expert_activation_backward(Activation kind, int64_t rows, int64_t cols, ConstTensor x, ConstTensor weights,
                                ConstTensor dy, Tensor dx, Tensor dweights) {
  arguments::expert_activation_backward(kind, rows, cols, x, weights, dy, dx, dweights);
  const int64_t width = is_gated(kind) ? 2 * cols : cols;
  std::vector<double> space(static_cast<std::size_t>(cols));  // of any element type
  const Tensor row{space.data(), dy.dtype};
  with_element("expert_activation_backward", dy.dtype, [&]<class T>(T) {
    using W = Wide<T>;
    for (int64_t r = 0; r < rows; ++r) {
      const T* const d = static_cast<const T*>(dy.data) + r * cols;
      T* const values = static_cast<T*>(row.data);
      activation_forward(kind, 1, cols, advanced(x, r * width), row);
      W sum = 0;
      for (int64_t c = 0; c < cols; ++c) {
        sum += static_cast<W>(d[c]) * static_cast<W>(values[c]);
        values[c] = static_cast<T>(static_cast<W>(d[c]) * static_cast<const W*>(weights.data)[r]);
      }
      static_cast<W*>(dweights.data)[r] = sum;
      activation_backward(kind, 1, cols, advanced(x, r * width), row, advanced(dx, r * width));
    }
  });
}

}  // namespace foretrain::kernels
