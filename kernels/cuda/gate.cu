// A warp for each token.
#include <cmath>
#include <limits>

#include "kernels/arguments.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

using std::int32_t;

namespace {

// Greatest first, of equal ones the first; what is no number last (scores are not negative).
template <class W>
struct Ranked {
  W value;
  int32_t index;

  __device__ bool before(const Ranked& other) const {
    return value > other.value || (value == other.value && index < other.index);
  }
};
template <class W>
__device__ Ranked<W> ranked(W value, int64_t index) {
  return {value == value ? value : W{-1}, static_cast<int32_t>(index)};
}

// Of the n candidates value(i) that come after `last`, the first.
template <class W, class Value>
__device__ Ranked<W> next_best(int64_t n, Ranked<W> last, Value value) {
  Ranked<W> best{W{-3}, 0};
  for (int64_t i = lane(); i < n; i += kWarp) {
    const Ranked<W> x = value(i);
    if (last.before(x) && x.before(best)) {
      best = x;
    }
  }
  for (unsigned mask = kWarp / 2; mask > 0; mask /= 2) {
    const Ranked<W> x{shuffle_xor(best.value, mask), shuffle_xor(best.index, mask)};
    if (x.before(best)) {
      best = x;
    }
  }
  return best;
}

template <class W>
__device__ constexpr Ranked<W> before_all() {
  return {std::numeric_limits<W>::infinity(), -1};
}

template <class W>
__device__ void put_scores(const GateShape& s, const W* logits, W* scores) {
  if (s.router == Router::sigmoid) {
    for (int64_t e = lane(); e < s.experts; e += kWarp) {
      scores[e] = W{1} / (W{1} + std::exp(-logits[e]));
    }
    return;
  }
  W greatest = logits[0];
  for (int64_t e = lane(); e < s.experts; e += kWarp) {
    greatest = Greatest{}(greatest, logits[e]);
  }
  greatest = over_warp(Greatest{}, greatest);
  W sum = 0;
  for (int64_t e = lane(); e < s.experts; e += kWarp) {
    scores[e] = std::exp(logits[e] - greatest);
    sum += scores[e];
  }
  sum = over_warp(Sum{}, sum);
  for (int64_t e = lane(); e < s.experts; e += kWarp) {
    scores[e] /= sum;
  }
}

// A block of experts by its group_best best scores.
template <class W>
__device__ Ranked<W> group_at(const GateShape& s, const W* scores, int64_t g) {
  const int64_t width = s.experts / s.groups;
  W first = scores[g * width], second = 0;
  for (int64_t e = 1; e < width; ++e) {
    const W x = scores[g * width + e];
    const W lower = x > first ? first : x;
    second = lower > second ? lower : second;
    first = x > first ? x : first;
  }
  return ranked(s.group_best == 1 ? first : first + second, g);
}

template <class W>
__global__ void __launch_bounds__(kThreads)
    forward(GateShape s, const W* logits, W* scores, W* weights, int32_t* chosen) {
  const int64_t token = int64_t{blockIdx.x} * kWarps + warp();
  if (token >= s.tokens) {
    return;
  }
  W* const score = scores + token * s.experts;
  put_scores(s, logits + token * s.experts, score);
  __syncwarp();  // the lanes read each other's scores from here on
  const int64_t width = s.experts / s.groups;
  const bool all_groups = s.top_groups == s.groups;
  Ranked<W> last_group = before_all<W>();
  for (int64_t i = 0; !all_groups && i < s.top_groups; ++i) {
    last_group = next_best(s.groups, last_group, [&](int64_t g) { return group_at(s, score, g); });
  }
  const auto candidate = [&](int64_t e) {
    const bool eligible = all_groups || !last_group.before(group_at(s, score, e / width));
    return eligible ? ranked(score[e], e) : Ranked<W>{W{-2}, static_cast<int32_t>(e)};
  };
  Ranked<W> last = before_all<W>();
  W sum = 0;
  for (int64_t k = 0; k < s.top_k; ++k) {
    last = next_best(s.experts, last, candidate);
    sum += score[last.index];
    if (lane() == 0) {
      chosen[token * s.top_k + k] = last.index;
    }
  }
  __syncwarp();
  const W factor = static_cast<W>(s.scale) / (s.normalize ? sum : W{1});
  for (int64_t k = lane(); k < s.top_k; k += kWarp) {
    weights[token * s.top_k + k] = score[chosen[token * s.top_k + k]] * factor;
  }
}

// share[e]: the balancing loss's gradient of each p_e, the same for all tokens.
template <class W>
__global__ void __launch_bounds__(kThreads)
    balance_shares(GateShape s, double balance, const int32_t* counts, int64_t parts, W* share) {
  double all = 0;
  for (int64_t i = threadIdx.x; i < parts * s.experts; i += kThreads) {
    all += counts[i];
  }
  all = over_block(Sum{}, all);
  const auto tokens = static_cast<double>(parts * s.tokens);
  for (int64_t e = threadIdx.x; e < s.experts; e += kThreads) {
    double own = 0;
    for (int64_t p = 0; p < parts; ++p) {
      own += counts[p * s.experts + e];
    }
    share[e] = all > 0 ? static_cast<W>(balance * static_cast<double>(s.experts) * own / (all * tokens)) : W{0};
  }
}

// share is null without balancing.
template <class W>
__global__ void __launch_bounds__(kThreads)
    backward(GateShape s, const W* scores, const int32_t* chosen, const W* dweights, const W* share, W* dlogits) {
  const int64_t token = int64_t{blockIdx.x} * kWarps + warp();
  if (token >= s.tokens) {
    return;
  }
  const bool sigmoid = s.router == Router::sigmoid;
  const W* const score = scores + token * s.experts;
  const W* const dweight = dweights + token * s.top_k;
  const int32_t* const mine = chosen + token * s.top_k;
  const auto share_of = [=](int64_t e) { return share == nullptr ? W{0} : share[e]; };
  W sum = 0, mean = 0;
  for (int64_t e = lane(); e < s.experts; e += kWarp) {
    sum += score[e];
    mean += score[e] * share_of(e);
  }
  sum = over_warp(Sum{}, sum);
  mean = over_warp(Sum{}, mean);
  W chosen_sum = 0, inner = 0;
  for (int64_t k = 0; k < s.top_k; ++k) {
    chosen_sum += score[mine[k]];
    inner += dweight[k] * score[mine[k]];
  }
  // Of the loss by score e; p = s / sum for a sigmoid, p = s for a softmax.
  const auto slope = [=](int64_t e) {
    W d = sigmoid ? (share_of(e) - mean / sum) / sum : share_of(e);
    for (int64_t k = 0; k < s.top_k; ++k) {
      if (mine[k] == e) {
        d += static_cast<W>(s.scale) * (s.normalize ? (dweight[k] - inner / chosen_sum) / chosen_sum : dweight[k]);
      }
    }
    return d;
  };
  W along = 0;
  for (int64_t e = lane(); !sigmoid && e < s.experts; e += kWarp) {
    along += slope(e) * score[e];
  }
  along = over_warp(Sum{}, along);
  for (int64_t e = lane(); e < s.experts; e += kWarp) {
    const W d = slope(e);
    dlogits[token * s.experts + e] = score[e] * (sigmoid ? d * (W{1} - score[e]) : d - along);
  }
}

template <class F>
void with_wide(Dtype d, F f) {
  d == Dtype::fp64 ? f(double{}) : f(float{});
}

}  // namespace

void gate_forward(const Stream& stream, const GateShape& s, ConstTensor logits, Tensor scores, Tensor weights,
                  int32_t* chosen) {
  arguments::gate_forward(s, logits, scores, weights, chosen);
  with_wide(logits.dtype, [&]<class W>(W) {
    launch(forward<W>, {blocks_of(s.tokens, kWarps)}, {kThreads}, stream, s, as<W>(logits), as<W>(scores),
           as<W>(weights), chosen);
  });
}

void gate_backward(const Stream& stream, const GateShape& s, ConstTensor scores, const int32_t* chosen,
                   ConstTensor dweights, double balance, const int32_t* counts, int64_t parts, Tensor dlogits) {
  arguments::gate_backward(s, scores, chosen, dweights, balance, counts, parts, dlogits);
  check_workspace("gate_backward", static_cast<std::size_t>(s.experts) * sizeof(double));
  with_wide(scores.dtype, [&]<class W>(W) {
    W* const share = balance != 0 ? static_cast<W*>(stream.workspace) : nullptr;
    if (share != nullptr) {
      launch(balance_shares<W>, {1}, {kThreads}, stream, s, balance, counts, parts, share);
    }
    launch(backward<W>, {blocks_of(s.tokens, kWarps)}, {kThreads}, stream, s, as<W>(scores), chosen, as<W>(dweights),
           share, as<W>(dlogits));
  });
}

}  // namespace foretrain::kernels::cuda
