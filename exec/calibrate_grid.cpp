#include "exec/calibrate_grid.h"

#include <algorithm>
#include <array>
#include <functional>

#include "exec/calibrate_probes.h"

namespace foretrain::exec {

namespace {

using plan::AttentionStep;
using plan::Direction;

constexpr std::int64_t kLeastHead = 32;
constexpr std::int64_t kOneKeptOf = 100;  // of the values that top_k codes
constexpr std::int32_t kParts = 2;        // that are decoded and summed

Dtype wide(Dtype d) {
  return d == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
}

void add_matmuls(std::int64_t m, std::int64_t n, std::int64_t k, Dtype dtype, std::vector<Probe>& probes) {
  plan::Matmul forward;
  forward.m = m;
  forward.n = n;
  forward.k = k;
  forward.in = forward.out = dtype;
  forward.trans_b = true;
  probes.push_back({forward, {{dtype, m * k}, {dtype, k * n}, {dtype, m * n}}, {0, 1}, {2}});
  plan::Matmul input_gradient = forward;
  input_gradient.trans_b = false;
  probes.push_back({input_gradient, {{dtype, m * k}, {dtype, k * n}, {dtype, m * n}}, {0, 1}, {2}});
  plan::Matmul weight_gradient = input_gradient;
  weight_gradient.trans_a = weight_gradient.accumulate = true;
  weight_gradient.out = wide(dtype);
  probes.push_back({weight_gradient, {{dtype, m * k}, {dtype, k * n}, {wide(dtype), m * n}}, {0, 1, 2}, {2}});
}

// Tensors in the order of plan/ops.h.
Probe attention_probe(const plan::Attention& a) {
  const std::int64_t tokens = a.batch * a.seq;
  const ProbeTensor qkv{a.dtype, tokens * (a.heads + 2 * a.kv_heads) * a.head_dim};
  const ProbeTensor o{a.dtype, tokens * a.heads * a.head_dim};
  const ProbeTensor lse{wide(a.dtype), tokens * a.heads};
  const ProbeTensor scores{a.dtype, tokens * a.heads * a.seq};
  switch (a.step) {
    case AttentionStep::flash_forward: return {a, {qkv, o, lse}, {0}, {1, 2}};
    case AttentionStep::flash_backward: return {a, {o, qkv, o, lse, qkv}, {0, 1, 2, 3}, {4}};
    case AttentionStep::scores: return {a, {qkv, scores}, {0}, {1}};
    case AttentionStep::scale_mask:
    case AttentionStep::softmax:
    case AttentionStep::scale_mask_softmax:
    case AttentionStep::scale_backward: return {a, {scores}, {0}, {0}};
    case AttentionStep::context: return {a, {scores, qkv, o}, {0, 1}, {2}};
    case AttentionStep::context_backward: return {a, {o, scores, qkv, scores, qkv}, {0, 1, 2}, {3, 4}};
    case AttentionStep::softmax_backward:
    case AttentionStep::softmax_scale_backward: return {a, {scores, scores}, {0, 1}, {1}};
    case AttentionStep::scores_backward: return {a, {scores, qkv, qkv}, {0, 1}, {2}};
  }
  return {};
}

// A family of probes: `rows` of something.
using Maker = std::function<Probe(std::int64_t rows)>;

Probe of_about(Bytes bytes, const Maker& make) {
  const std::int64_t one = touched(make(1024).work).value / 1024;
  return make(std::max<std::int64_t>(1, bytes.value / std::max<std::int64_t>(one, 1)));
}

Maker norm(workloads::Norm kind, Direction direction, Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    plan::Norm op;
    op.kind = kind;
    op.direction = direction;
    op.rows = rows;
    op.cols = width;
    op.dtype = t;
    const ProbeTensor x{t, rows * width}, gain{t, width}, stats{wide(t), 2 * rows}, sums{wide(t), width};
    const bool has_bias = kind == workloads::Norm::layernorm;
    switch (direction) {
      case Direction::forward:
        return has_bias ? Probe{op, {x, gain, gain, x, stats}, {0, 1, 2}, {3, 4}}
                        : Probe{op, {x, gain, x, stats}, {0, 1}, {2, 3}};
      case Direction::backward_input: return {op, {x, x, gain, stats, x}, {0, 1, 2, 3, 4}, {4}};
      case Direction::backward_weight:
        return has_bias ? Probe{op, {x, x, stats, sums, sums}, {0, 1, 2, 3, 4}, {3, 4}}
                        : Probe{op, {x, x, stats, sums}, {0, 1, 2, 3}, {3}};
    }
    return {};
  };
}

Maker activation(workloads::Activation kind, Direction direction, Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    plan::Activation op;
    op.kind = kind;
    op.direction = direction;
    op.rows = rows;
    op.cols = 4 * width;
    op.dtype = t;
    const ProbeTensor y{t, rows * op.cols}, x{t, rows * op.cols * (workloads::is_gated(kind) ? 2 : 1)};
    return direction == Direction::forward ? Probe{op, {x, y}, {0}, {1}} : Probe{op, {y, x, x}, {0, 1}, {2}};
  };
}

Maker cross_entropy(plan::CrossEntropyStep step, Dtype t, std::int64_t vocabulary) {
  return [=](std::int64_t rows) -> Probe {
    plan::CrossEntropy op;
    op.step = step;
    op.rows = rows;
    op.cols = op.vocab = vocabulary;
    op.dtype = t;
    const ProbeTensor logits{t, rows * op.cols}, targets{Dtype::i32, rows}, triples{wide(t), 3 * rows},
        row_stats{wide(t), 2 * rows}, loss{Dtype::fp64, 1};
    switch (step) {
      case plan::CrossEntropyStep::stats: return {op, {logits, targets, triples}, {0, 1}, {2}};
      case plan::CrossEntropyStep::combine: return {op, {triples, row_stats, loss}, {0, 2}, {1, 2}};
      case plan::CrossEntropyStep::backward: return {op, {row_stats, targets, logits}, {0, 1, 2}, {2}};
    }
    return {};
  };
}

Maker embedding(Direction direction, Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    plan::Embedding op;
    op.direction = direction;
    op.tokens = rows;
    op.hidden = width;
    op.rows = kProbeVocabulary;
    op.dtype = t;
    const ProbeTensor token_ids{Dtype::i32, rows}, x{t, rows * width};
    return direction == Direction::forward ? Probe{op, {token_ids, {t, op.rows * width}, x}, {0, 1}, {2}}
                                           : Probe{op, {token_ids, x, {wide(t), op.rows * width}}, {0, 1, 2}, {2}};
  };
}

Maker position_add(Direction direction, Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    plan::PositionAdd op;
    op.direction = direction;
    op.rows = rows;
    op.hidden = width;
    op.seq = 128;
    op.dtype = t;
    const ProbeTensor x{t, rows * width};
    return direction == Direction::forward ? Probe{op, {x, {t, op.seq * width}}, {0, 1}, {0}}
                                           : Probe{op, {x, {wide(t), op.seq * width}}, {0, 1}, {1}};
  };
}

Maker rotary(Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    plan::Rotary op;
    op.direction = Direction::forward;
    op.batch = 1;
    op.seq = rows;
    op.heads = op.kv_heads = 4;
    op.head_dim = op.rotary_dim = width / 4;
    op.dtype = t;
    return {op, {{t, rows * 3 * width}}, {0}, {0}};
  };
}

Maker residual_add(bool bias, Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    const ProbeTensor x{t, rows * width};
    const plan::ResidualAdd op{rows, width, bias, t};
    return bias ? Probe{op, {x, x, {t, width}, x}, {0, 1, 2}, {3}} : Probe{op, {x, x, x}, {0, 1}, {2}};
  };
}

Maker bias_gradient(Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    return {plan::BiasGradient{rows, width, t}, {{t, rows * width}, {wide(t), width}}, {0, 1}, {1}};
  };
}

// Elements, not rows: width of them each.
Maker fill(Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe { return {plan::Fill{rows * width, t}, {{t, rows * width}}, {}, {0}}; };
}

Maker accumulate(Dtype t, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    return {plan::Accumulate{rows * width, t, t}, {{t, rows * width}, {t, rows * width}}, {0, 1}, {1}};
  };
}

Maker copy(plan::CopyKind kind, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    ProbeTensor from{Dtype::fp32, rows * width}, to = from;
    from.on_host = kind == plan::CopyKind::host_to_device;
    to.on_host = kind == plan::CopyKind::device_to_host;
    return {plan::Copy{kind, rows * width * 4}, {from, to}, {0}, {1}};
  };
}

Maker squared_norm(ProbeProgram& program, Dtype t, std::int64_t width) {
  return [&program, t, width](std::int64_t rows) -> Probe {
    plan::SquaredNorm op;
    op.bucket.elements = rows * width;
    op.bucket.family = program.family(op.bucket.elements);
    op.dtype = t;
    return {op, {{t, op.bucket.elements}, {Dtype::fp64, 1}}, {0}, {1}};
  };
}

Maker optimizer(ProbeProgram& program, workloads::OptimizerKind kind, const workloads::Precision& precision,
                std::int64_t width) {
  return [&program, kind, precision, width](std::int64_t rows) -> Probe {
    plan::OptimizerStep op;
    op.bucket.elements = rows * width;
    op.bucket.family = program.family(op.bucket.elements);
    op.optimizer.kind = kind;
    op.optimizer.weight_decay = 0.1;
    op.precision = precision;
    const std::int64_t n = op.bucket.elements;
    const int moments = workloads::moments(kind);
    Probe probe{op, {{precision.gradient, n}, {Dtype::fp64, 2}, {precision.parameter, n}}, {0, 1}, {2}};
    for (int i = 0; i < moments + (precision.has_master() ? 1 : 0); ++i) {
      probe.tensors.push_back({precision.state, n});
      probe.reads.push_back(3 + i);
      probe.writes.push_back(3 + i);
    }
    probe.reads.push_back(2);
    return probe;
  };
}

Maker lamb_update(ProbeProgram& program, const workloads::Precision& precision, std::int64_t width) {
  return [&program, precision, width](std::int64_t rows) -> Probe {
    plan::LambUpdate op;
    const std::int64_t n = op.bucket.elements = rows * width;
    op.bucket.family = program.family(n);
    op.optimizer.kind = workloads::OptimizerKind::lamb;
    op.optimizer.weight_decay = 0.1;
    op.precision = precision;
    const ProbeTensor weight{precision.has_master() ? precision.state : precision.parameter, n},
        moment{precision.state, n};
    return {op, {{Dtype::fp64, 2}, weight, {precision.gradient, n}, moment, moment}, {0, 1, 2, 3, 4}, {2, 3, 4}};
  };
}

// What stands in for a code: the pools have no bytes.
ProbeTensor code_tensor(const Code& code, std::int64_t parts) {
  return {Dtype::bf16, parts * code.bytes() / 2};
}

Maker encode(Coding kind, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    const std::int64_t n = rows * width;
    const Code code{kind, n, kind == Coding::top_k ? n / kOneKeptOf : 0, Dtype::fp32};
    const ProbeTensor x{Dtype::fp32, n};
    return {plan::Encode{code, Dtype::fp32}, {x, x, code_tensor(code, 1)}, {0, 1}, {2, 1}};
  };
}

// Of top_k it would be from codes that no probe has: places in them are any.
Maker decode_int8(std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    const Code code{Coding::int8, rows * width, 0, Dtype::fp32};
    return {
        plan::Decode{code, kParts, Dtype::fp32}, {code_tensor(code, kParts), {Dtype::fp32, code.elements}}, {0}, {1}};
  };
}

Maker cast(Dtype from, Dtype to, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    return {plan::Cast{rows * width, from, to}, {{from, rows * width}, {to, rows * width}}, {0}, {1}};
  };
}

Maker outer_step(plan::OuterKind kind, std::int64_t width) {
  return [=](std::int64_t rows) -> Probe {
    plan::OuterStep op;
    op.elements = rows * width;
    op.replicas = 2;
    op.outer.kind = kind;
    const ProbeTensor x{Dtype::fp32, op.elements};
    switch (kind) {
      case plan::OuterKind::average: return {op, {x}, {0}, {0}};
      case plan::OuterKind::sgd: return {op, {x, x}, {0, 1}, {0, 1}};
      case plan::OuterKind::nesterov: return {op, {x, x, x}, {0, 1, 2}, {0, 1, 2}};
    }
    return {};
  };
}

// What replicas do to what they exchange.
std::vector<Maker> exchange_makers(std::int64_t width) {
  std::vector<Maker> all{encode(Coding::int8, width), encode(Coding::top_k, width), decode_int8(width),
                         cast(Dtype::fp32, Dtype::bf16, width), cast(Dtype::bf16, Dtype::fp32, width)};
  for (const auto kind : {plan::OuterKind::average, plan::OuterKind::sgd, plan::OuterKind::nesterov}) {
    all.push_back(outer_step(kind, width));
  }
  return all;
}

// A number of each of so many samples: what it takes to find them.
Probe labels(std::int64_t samples) {
  plan::Host op{plan::HostTask::load_labels, samples, 1};
  op.cols = 1;
  op.dtype = Dtype::fp64;
  return {op, {{op.dtype, samples}}, {}, {0}};
}

std::vector<Maker> makers(const CalibrateScale& scale, ProbeProgram& program, Dtype t) {
  using workloads::Activation;
  using workloads::OptimizerKind;
  const std::int64_t width = scale.width;
  std::vector<Maker> all;
  for (const auto kind : {workloads::Norm::layernorm, workloads::Norm::rmsnorm}) {
    for (const Direction d : {Direction::forward, Direction::backward_input, Direction::backward_weight}) {
      all.push_back(norm(kind, d, t, width));
    }
  }
  for (const Activation kind : {Activation::gelu, Activation::relu, Activation::swiglu, Activation::geglu}) {
    all.push_back(activation(kind, Direction::forward, t, width));
    all.push_back(activation(kind, Direction::backward_input, t, width));
  }
  for (const auto step :
       {plan::CrossEntropyStep::stats, plan::CrossEntropyStep::combine, plan::CrossEntropyStep::backward}) {
    all.push_back(cross_entropy(step, t, scale.vocabulary));
  }
  for (const Direction d : {Direction::forward, Direction::backward_weight}) {
    all.push_back(embedding(d, t, width));
    all.push_back(position_add(d, t, width));
  }
  all.push_back(rotary(t, width));
  all.push_back(residual_add(false, t, width));
  all.push_back(residual_add(true, t, width));
  all.push_back(bias_gradient(t, width));
  all.push_back(fill(t, width));
  all.push_back(accumulate(t, width));
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::rmsprop,
                                   OptimizerKind::adam, OptimizerKind::adamw, OptimizerKind::lamb}) {
    all.push_back(optimizer(program, kind, workloads::precision_of(std::string(name(t))), width));
  }
  all.push_back(lamb_update(program, workloads::precision_of(std::string(name(t))), width));
  if (size_bytes(t, 1) != 2) {
    all.push_back(squared_norm(program, t, width));
  }
  return all;
}

}  // namespace

std::vector<Probe> matmul_grid(const CalibrateScale& scale) {
  std::vector<Probe> probes;
  for (const MatmulRange& range : scale.matmul) {
    for (std::int64_t m = range.smallest; m <= range.largest; m *= range.step) {
      for (std::int64_t n = range.smallest; n <= range.largest; n *= range.step) {
        for (std::int64_t k = range.smallest; k <= range.largest; k *= range.step) {
          const std::int64_t most_elements = scale.ops_pool.value / size_bytes(wide(range.dtype), 1);
          if (m * n * k <= range.most_products && std::max({m * k, k * n, m * n}) <= most_elements) {
            add_matmuls(m, n, k, range.dtype, probes);
          }
        }
      }
    }
  }
  return probes;
}

std::vector<Probe> attention_grid(const CalibrateScale& scale) {
  std::vector<Probe> probes;
  for (const AttentionRange& range : scale.attention) {
    for (std::int64_t seq = range.shortest; seq <= range.longest; seq *= range.step) {
      for (std::int64_t head_dim = kLeastHead; head_dim <= range.largest_head; head_dim *= range.step) {
        for (int s = 0; s <= static_cast<int>(AttentionStep::scores_backward); ++s) {
          plan::Attention a;
          a.step = static_cast<AttentionStep>(s);
          a.kind = s < 2 ? workloads::AttentionKind::flash : workloads::AttentionKind::unfused;
          a.batch = std::max<std::int64_t>(1, scale.least_tokens / seq);
          a.seq = seq;
          a.heads = a.kv_heads = std::clamp<std::int64_t>(scale.most_scores / (seq * seq), 1, scale.heads);
          a.head_dim = head_dim;
          a.dtype = range.dtype;
          probes.push_back(attention_probe(a));
        }
      }
    }
  }
  return probes;
}

std::vector<Probe> memory_grid(const CalibrateScale& scale, ProbeProgram& program) {
  std::vector<Probe> probes;
  std::vector<Maker> all{copy(plan::CopyKind::device_to_device, scale.width)};
  if (scale.has_launches) {
    all.push_back(copy(plan::CopyKind::host_to_device, scale.width));
    all.push_back(copy(plan::CopyKind::device_to_host, scale.width));
  }
  for (const Dtype dtype : scale.memory) {
    const std::vector<Maker> of_type = makers(scale, program, dtype);
    all.insert(all.end(), of_type.begin(), of_type.end());
  }
  const std::vector<Maker> of_exchanges = exchange_makers(scale.width);
  all.insert(all.end(), of_exchanges.begin(), of_exchanges.end());
  for (const Maker& make : all) {
    for (std::int64_t bytes = scale.smallest_memory; bytes <= scale.largest_memory; bytes *= 8) {
      probes.push_back(of_about(Bytes{bytes}, make));
    }
  }
  // The host loads what a GPU trains on beside it.
  for (std::int64_t samples = 1; !scale.has_launches && samples <= kProbeSamples; samples *= 8) {
    probes.push_back(labels(samples));
  }
  plan::ClipCoefficient clip;
  clip.tensors = 64;
  probes.push_back({clip, {{Dtype::fp64, clip.tensors}, {Dtype::fp64, 2}}, {0}, {1}});
  return probes;
}

}  // namespace foretrain::exec
