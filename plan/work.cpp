#include "plan/work.h"

#include <algorithm>
#include <map>
#include <variant>
#include <vector>

#include "plan/runtime_extent.h"

namespace foretrain::plan {
namespace {

Bytes size(Dtype d, std::int64_t elements) {
  return Bytes{size_bytes(d, elements)};
}

// Statistics, gradients and losses are kept in fp32, or in fp64 where everything is.
Dtype wide(Dtype d) {
  return d == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
}

double product(std::int64_t a, std::int64_t b, std::int64_t c = 1, std::int64_t d = 1, std::int64_t e = 1) {
  return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c) * static_cast<double>(d) *
         static_cast<double>(e);
}

std::int64_t elements(const std::vector<Operand>& operands) {
  std::int64_t sum = 0;
  for (const Operand& o : operands) {
    sum += o.elements;
  }
  return sum;
}

// Arithmetic per element of the vector kernels, counted on the reference loops of kernels/. They are bound by memory on
// every device we know, so that these only keep reports honest.
constexpr double kNormForward = 8, kNormBackward = 11, kNormWeight = 4;
constexpr double kSoftmax = 5, kSoftmaxBackward = 4;
constexpr double kAdam = 12;

// One case per op kind. Bytes: each operand once, in its own dtype.
struct Worker {
  const Op& op;
  OpWork w;

  void operator()(const Join&) {}

  // 2 m n k; reads A, B, [bias], [C]; writes C.
  void operator()(const Matmul& x) {
    w.flops = 2 * product(x.m, x.n, x.k);
    w.is_matmul = true;
    w.read = size(x.in, x.m * x.k + x.k * x.n + (x.bias ? x.n : 0));
    if (x.accumulate) {
      w.read += size(x.out, x.m * x.n);
    }
    w.written = size(x.out, x.m * x.n);
  }

  // Each product over the full square is 2 b h s s d, d the width of a key's head or of a value's: one of either in a
  // forward, and in a flash backward three and two (the scores are computed again). Flash touches its operands only,
  // and computes of a window what it shows; the unfused steps read and write the b h s s scores.
  void operator()(const Attention& x) {
    const bool flash = x.step == AttentionStep::flash_forward || x.step == AttentionStep::flash_backward;
    const double shown = flash ? workloads::visible_share(x.window, x.seq) : 1;
    const double with_keys = 2 * product(x.batch, x.heads, x.seq, x.seq, x.head_dim) * shown;
    const double with_values = 2 * product(x.batch, x.heads, x.seq, x.seq, x.v_dim()) * shown;
    const std::int64_t tokens = x.batch * x.seq;
    const std::int64_t score_count = tokens * x.heads * x.seq;
    const Bytes square = size(x.dtype, score_count);
    const Bytes q = size(x.dtype, tokens * x.heads * x.head_dim);     // also dq
    const Bytes o = size(x.dtype, tokens * x.heads * x.v_dim());      // also do
    const Bytes k = size(x.dtype, tokens * x.kv_heads * x.head_dim);  // also dk
    const Bytes v = size(x.dtype, tokens * x.kv_heads * x.v_dim());   // also dv
    const Bytes qkv = q + k + v;
    const Bytes lse = size(wide(x.dtype), tokens * x.heads);
    const auto products = [&](double keys, double values) {
      w.flops = keys * with_keys + values * with_values;
      w.is_matmul = true;
    };
    const auto pointwise = [&](double per_score) { w.flops = per_score * static_cast<double>(score_count); };
    switch (x.step) {
      case AttentionStep::flash_forward:
        products(1, 1);
        w.read = qkv;
        w.written = o + lse;
        break;
      case AttentionStep::flash_backward:
        products(3, 2);
        w.read = o + qkv + o + lse;
        w.written = qkv;
        break;
      case AttentionStep::scores:
        products(1, 0);
        w.read = q + k;
        w.written = square;
        break;
      case AttentionStep::context:
        products(0, 1);
        w.read = square + v;
        w.written = o;
        break;
      case AttentionStep::context_backward:
        products(0, 2);
        w.read = o + square + v;
        w.written = square + v;
        break;
      case AttentionStep::scores_backward:
        products(2, 0);
        w.read = square + q + k;
        w.written = q + k;
        break;
      case AttentionStep::scale_mask:
      case AttentionStep::scale_backward:
        pointwise(1);
        w.read = w.written = square;
        break;
      case AttentionStep::softmax:
        pointwise(kSoftmax);
        w.read = w.written = square;
        break;
      case AttentionStep::scale_mask_softmax:
        pointwise(kSoftmax + 1);
        w.read = w.written = square;
        break;
      case AttentionStep::softmax_backward:
        pointwise(kSoftmaxBackward);
        w.read = square + square;
        w.written = square;
        break;
      case AttentionStep::softmax_scale_backward:
        pointwise(kSoftmaxBackward + 1);
        w.read = square + square;
        w.written = square;
        break;
    }
  }

  // The kernels of mamba_ssm's ssd_combined.py: convolution (reads and writes x, B, C); states of each chunk (reads x
  // and B, writes them); their passing on (reads and writes them); C B^T in the chunks; the scan (reads both, x, C and
  // z, writes y); the gated norm (reads y and z, writes y). Per token and head 2 chunk·head_dim for the scan within a
  // chunk and 4 head_dim·state to and from states, per group 2 chunk·state. The backward computes all again and then
  // twice as much, on as many operands.
  void operator()(const StateSpace& x) {
    const std::int64_t tokens = x.batch * x.seq, inner = x.heads * x.head_dim, bc = x.groups * x.state;
    const std::int64_t chunks = (x.seq + x.chunk - 1) / x.chunk * x.batch;
    const Bytes states = size(wide(x.dtype), chunks * x.heads * x.head_dim * x.state);
    const Bytes products = size(wide(x.dtype), tokens * x.groups * x.chunk);
    const std::int64_t times = x.direction == Direction::forward ? 1 : 3;
    const Bytes read = size(x.dtype, tokens * (6 * inner + 5 * bc + x.heads)) + states + states + products;
    const Bytes written = size(x.dtype, tokens * (3 * inner + 2 * bc)) + states + states + products;
    w.flops = static_cast<double>(times) * (2 * product(tokens, x.heads, x.chunk, x.head_dim) +
                                            4 * product(tokens, inner, x.state) + 2 * product(tokens, x.chunk, bc));
    w.read = Bytes{times * read.value};
    w.written = Bytes{times * written.value};
  }

  void operator()(const AttentionSinks& x) {
    const Bytes o = size(x.dtype, x.batch * x.seq * x.heads * x.v_dim);
    const Bytes lse = size(wide(x.dtype), x.batch * x.seq * x.heads);
    const double values = product(x.batch * x.seq, x.heads, x.v_dim);
    if (x.direction == Direction::forward) {
      w.flops = values;
      w.read = w.written = o + lse;
    } else {
      w.flops = 2 * values;
      w.read = o + o + lse;
      w.written = size(wide(x.dtype), x.heads);
    }
  }

  void operator()(const Norm& x) {
    const Bytes matrix = size(x.dtype, x.rows * x.cols);
    const Bytes stats = size(wide(x.dtype), 2 * x.rows);
    const std::int64_t vectors = x.kind == workloads::Norm::layernorm ? 2 : 1;  // gain, and bias where there is one
    switch (x.direction) {
      case Direction::forward:
        w.flops = kNormForward * product(x.rows, x.cols);
        w.read = matrix + size(x.dtype, vectors * x.cols);
        w.written = matrix + stats;
        break;
      case Direction::backward_input:
        w.flops = kNormBackward * product(x.rows, x.cols);
        w.read = matrix + matrix + matrix + size(x.dtype, x.cols) + stats;
        w.written = matrix;
        break;
      case Direction::backward_weight:
        w.flops = kNormWeight * product(x.rows, x.cols);
        w.written = size(wide(x.dtype), vectors * x.cols);
        w.read = matrix + matrix + stats + w.written;
        break;
    }
  }

  // Everything once; the shared columns are written to every head, and come back as one sum.
  void operator()(const LatentHeads& x) {
    const std::int64_t tokens = x.batch * x.seq;
    const std::int64_t q = x.heads * (x.nope_dim + x.rope_dim), kv = x.heads * (x.nope_dim + x.v_dim);
    const Bytes apart = size(x.dtype, tokens * (q + kv + x.rope_dim));
    const Bytes packed = size(x.dtype, tokens * (2 * q + x.heads * x.v_dim));
    w.flops = 3 * product(tokens, x.heads + 1, x.rope_dim);
    const bool forward = x.direction == Direction::forward;
    w.read = forward ? apart : packed;
    w.written = forward ? packed : apart;
  }

  void operator()(const SplitColumns& x) { w.read = w.written = size(x.dtype, x.rows * (x.left + x.right)); }

  // q and k are read and written with a copy; the backward's weight half reads them again.
  void operator()(const HeadNorm& x) {
    const double values = product(x.rows, x.heads + x.kv_heads, x.head_dim);
    const Bytes heads = size(x.dtype, x.rows * (x.heads + x.kv_heads) * x.head_dim);
    const Bytes gains = size(x.dtype, 2 * x.head_dim);
    switch (x.direction) {
      case Direction::forward:
        w.flops = kNormForward * values;
        w.read = heads + gains;
        w.written = heads + heads;
        break;
      case Direction::backward_input:
        w.flops = kNormBackward * values;
        w.read = heads + heads + gains;
        w.written = heads;
        break;
      case Direction::backward_weight:
        w.flops = kNormWeight * values;
        w.written = size(wide(x.dtype), 2 * x.head_dim);
        w.read = heads + heads + w.written;
        break;
    }
  }

  void operator()(const Activation& x) {
    const Bytes y = size(x.dtype, x.rows * x.cols);
    const Bytes input = workloads::is_gated(x.kind) ? y + y : y;
    // tanh and exp count as one; a gate is one more product, and its backward three.
    const double forward = x.kind == workloads::Activation::relu             ? 1
                           : x.kind == workloads::Activation::swiglu         ? 5
                           : x.kind == workloads::Activation::swiglu_clamped ? 8
                                                                             : 9;
    if (x.direction == Direction::forward) {
      w.flops = forward * product(x.rows, x.cols);
      w.read = input;
      w.written = y;
    } else {
      w.flops = 2 * forward * product(x.rows, x.cols);
      w.read = y + input;
      w.written = input;
    }
  }

  void operator()(const ResidualAdd& x) {
    w.flops = (x.bias ? 2 : 1) * product(x.rows, x.cols);
    w.read = size(x.dtype, 2 * x.rows * x.cols + (x.bias ? x.cols : 0));
    w.written = size(x.dtype, x.rows * x.cols);
  }

  void operator()(const BiasGradient& x) {
    w.flops = product(x.rows, x.cols);
    w.read = size(x.dtype, x.rows * x.cols) + size(wide(x.dtype), x.cols);
    w.written = size(wide(x.dtype), x.cols);
  }

  // q and k parts only: v is not touched. Sines and cosines are computed or come from cache.
  void operator()(const Rotary& x) {
    const std::int64_t rotated = x.batch * x.seq * (x.heads + x.kv_heads) * x.rotary_dim;
    w.flops = 3 * static_cast<double>(rotated);
    w.read = w.written = size(x.dtype, rotated);
  }

  // Rows looked up, not the whole table.
  void operator()(const Embedding& x) {
    const std::int64_t values = x.tokens * x.hidden;
    w.read = size(Dtype::i32, x.tokens) + size(x.dtype, values);
    w.written = size(x.dtype, values);
    if (x.direction != Direction::forward) {
      w.flops = static_cast<double>(values);
      w.read += size(wide(x.dtype), values);
      w.written = size(wide(x.dtype), values);
    }
  }

  void operator()(const PositionAdd& x) {
    const std::int64_t table = std::min(x.rows, x.seq) * x.hidden;
    w.flops = product(x.rows, x.hidden);
    if (x.direction == Direction::forward) {
      w.read = size(x.dtype, x.rows * x.hidden + table);
      w.written = size(x.dtype, x.rows * x.hidden);
    } else {
      w.written = size(wide(x.dtype), table);
      w.read = size(x.dtype, x.rows * x.hidden) + w.written;
    }
  }

  void operator()(const CrossEntropy& x) {
    const Bytes logits = size(x.dtype, x.rows * x.cols);
    const Bytes targets = size(Dtype::i32, x.rows);
    const Dtype stats = wide(x.dtype);
    switch (x.step) {
      case CrossEntropyStep::stats:
        w.flops = 4 * product(x.rows, x.cols);
        w.read = logits + targets;
        w.written = size(stats, 3 * x.rows);
        break;
      case CrossEntropyStep::combine: {
        const std::int64_t shards = x.cols > 0 ? (x.vocab + x.cols - 1) / x.cols : 1;
        w.flops = 4 * product(x.rows, shards);
        w.read = size(stats, 3 * x.rows * shards) + size(Dtype::fp64, 1);
        w.written = size(stats, 2 * x.rows) + size(Dtype::fp64, 1);
        break;
      }
      case CrossEntropyStep::backward:
        w.flops = 4 * product(x.rows, x.cols);
        w.read = logits + targets + size(stats, 2 * x.rows);
        w.written = logits;
        break;
    }
  }

  // The norms themselves (8 bytes a tensor) vanish beside the gradients.
  void operator()(const SquaredNorm& x) {
    const std::int64_t own = own_elements(x.bucket);
    w.flops = 2 * static_cast<double>(own);
    w.read = size(x.dtype, own);
  }

  void operator()(const ClipCoefficient& x) {
    w.flops = static_cast<double>(x.tensors);
    w.read = size(Dtype::fp64, x.tensors);
    w.written = size(Dtype::fp64, 2);
  }

  // Reads the gradient, the moments and the master weight (the parameter itself only where there is no master); writes
  // the moments, the master and the parameter.
  void operator()(const OptimizerStep& x) {
    const std::int64_t own = own_elements(x.bucket);
    const int moments = x.optimizer.kind == workloads::OptimizerKind::sgd        ? 0
                        : x.optimizer.kind == workloads::OptimizerKind::momentum ? 1
                                                                                 : 2;
    w.flops = (moments == 2 ? kAdam : 2 + 2 * moments) * static_cast<double>(own);
    const Bytes state = size(x.precision.state, own * (moments + (x.precision.has_master() ? 1 : 0)));
    const Bytes parameter = size(x.precision.parameter, own);
    w.read = size(x.precision.gradient, own) + state;
    if (!x.precision.has_master()) {
      w.read += parameter;
    }
    w.written = state + parameter;
  }

  void operator()(const Fill& x) { w.written = size(x.dtype, x.elements); }

  void operator()(const Accumulate& x) {
    w.flops = static_cast<double>(x.elements);
    w.read = size(x.from, x.elements) + size(x.dtype, x.elements);
    w.written = size(x.dtype, x.elements);
  }

  // Shards are as large as their operands say: the group's size is the mesh's affair.
  void operator()(const Collective& x) {
    w.sent = size(x.dtype, x.elements);
    w.read = x.row > 0 ? w.sent : size(x.dtype, elements(op.reads));
    w.written = x.row > 0 ? w.sent : size(x.dtype, elements(op.writes));
  }

  void operator()(const Exchange& x) {
    for (const Message& m : x.messages) {
      if (m.send) {
        w.sent += size(m.dtype, m.elements);
        w.read += size(m.dtype, m.elements);
      } else {
        w.written += size(m.dtype, m.elements);
      }
    }
  }

  // Only the device's side counts.
  void operator()(const Copy& x) {
    if (x.kind != CopyKind::host_to_device) {
      w.read = Bytes{x.bytes};
    }
    if (x.kind != CopyKind::device_to_host) {
      w.written = Bytes{x.bytes};
    }
  }

  // A checkpoint's bytes depend on its buffers' dtypes: the copies before it carry them.
  void operator()(const Host& x) {
    if (x.task != HostTask::write_checkpoint) {
      w.written = size(Dtype::i32, x.sequences * x.seq);
    }
  }

  void operator()(const Put& x) { w.sent = w.read = size(x.dtype, x.elements); }
  void operator()(const Take& x) { w.written = size(x.dtype, x.elements); }

  // Of every step of a ring half of the share's square is visible. Against another's keys either half of the queries or
  // half of the keys take part, on ranks that go on together: in the mean three quarters. Over all keys at once a share
  // has its part of the whole sequence's pairs, its late piece nearly all keys.
  void operator()(const RingAttention& x) {
    const std::int64_t tokens = x.batch * x.seq;
    const Bytes q = size(x.dtype, tokens * x.heads * x.head_dim),
                kv = size(x.dtype, 2 * tokens * x.kv_heads * x.head_dim);
    const Bytes lse = size(wide(x.dtype), tokens * x.heads);
    const auto seen = [&x](Bytes all) { return Bytes{x.distance == 0 ? all.value : all.value * 3 / 4}; };
    const Bytes all_kv{kv.value * x.parts};
    const double matmul = 2 * product(x.batch, x.heads, x.seq, x.seq, x.head_dim);
    switch (x.step) {
      case RingStep::pack:
      case RingStep::unpack: w.read = w.written = kv; break;
      case RingStep::attend:
        w.flops = 2 * matmul;
        w.is_matmul = true;
        w.read = seen(q + kv);
        w.written = seen(q + lse);
        break;
      case RingStep::merge:
        w.flops = 3 * product(tokens, x.heads, x.head_dim, x.parts);
        for (std::int32_t p = 0; p < x.parts; ++p) {
          w.read += q + lse;
        }
        w.written = q + lse;
        break;
      case RingStep::attend_backward:
        w.flops = 5 * matmul;
        w.is_matmul = true;
        w.read = seen(q + q + q + kv + lse);
        w.written = seen(q) + kv;
        if (x.accumulate) {
          w.read += seen(q);
        }
        break;
      case RingStep::attend_all:
        w.flops = 2 * matmul * x.parts * workloads::visible_share(x.window, x.seq * x.parts);
        w.is_matmul = true;
        w.read = q + all_kv;
        w.written = q + lse;
        break;
      case RingStep::attend_all_backward:
        w.flops = 5 * matmul * x.parts * workloads::visible_share(x.window, x.seq * x.parts);
        w.is_matmul = true;
        w.read = q + q + q + all_kv + lse;
        w.written = q + all_kv;
        break;
    }
  }

  void operator()(const Reshard& x) { w.read = w.written = size(x.dtype, x.batch * x.seq * (x.q + 2 * x.kv)); }

  // tanh and exp count as one; a score takes a softmax or a sigmoid, and a comparison per choice.
  void operator()(const Gate& x) {
    const Bytes square = size(x.dtype, x.tokens * x.experts);
    const Bytes chosen = size(Dtype::i32, x.tokens * x.top_k);
    const Bytes weights = size(x.dtype, x.tokens * x.top_k);
    if (x.direction == Direction::forward) {
      w.flops = (kSoftmax + static_cast<double>(x.top_k)) * product(x.tokens, x.experts);
      w.read = square;
      w.written = square + weights + chosen;
    } else {
      w.flops = kSoftmaxBackward * product(x.tokens, x.experts);
      w.read = square + weights + chosen;
      w.written = square;
    }
  }

  void operator()(const Route& x) {
    const Bytes tables = size(Dtype::i32, x.rows);
    if (x.step == RouteStep::count) {
      w.read = tables;
    } else {
      w.read = size(Dtype::i32, 2 * x.experts);
    }
    w.written = tables + size(Dtype::i32, x.experts);
  }

  void operator()(const Permute& x) {
    const Bytes one = size(x.dtype, x.rows * x.cols), all = size(x.dtype, x.rows * x.copies * x.cols);
    const Bytes table = size(Dtype::i32, x.rows * x.copies);
    if (x.direction == Direction::forward) {
      w.read = one + table;
      w.written = all;
    } else {
      w.flops = x.copies > 1 ? product(x.rows, x.copies, x.cols) : 0;
      w.read = all + table;
      w.written = one;
    }
  }

  void operator()(const GroupedMatmul& x) {
    w.flops = 2 * product(x.rows, x.out_features, x.in_features);
    w.is_matmul = true;
    const std::int64_t in = x.rows * x.in_features, out = x.rows * x.out_features;
    const std::int64_t weights = x.experts * x.out_features * x.in_features;
    switch (x.direction) {
      case Direction::forward:
        w.read = size(x.in, in + weights);
        w.written = size(x.out, out);
        break;
      case Direction::backward_input:
        w.read = size(x.in, out + weights);
        w.written = size(x.out, in);
        break;
      case Direction::backward_weight:
        w.read = size(x.in, in + out) + size(x.out, weights);
        w.written = size(x.out, weights);
        break;
    }
  }

  void operator()(const ExpertBias& x) {
    const Bytes rows = size(x.dtype, x.rows * x.cols),
                biases = size(wide(x.dtype), std::max<std::int64_t>(1, x.experts) * x.cols);
    const Bytes weights = x.weighted ? size(wide(x.dtype), x.rows) : Bytes{};
    w.flops = product(x.rows, x.cols, x.weighted ? 2 : 1);
    w.read = rows + biases + weights;
    w.written = x.direction == Direction::forward ? rows : x.direction == Direction::backward_input ? weights : biases;
  }

  void operator()(const ExpertActivation& x) {
    (*this)(Activation{x.direction, x.kind, x.rows, x.cols, x.dtype});
    const Bytes weights = size(wide(x.dtype), x.rows);
    w.flops += product(x.rows, x.cols, x.direction == Direction::forward ? 1 : 3);
    w.read += weights;
    if (x.direction != Direction::forward) {
      w.written += weights;
    }
  }

  static std::int64_t own_elements(const Bucket& b) { return b.elements / std::max(b.shards, 1); }
};

// An op whose extent is known only at run time does the mean's work over all ranks.
Op on_average(const PlanGraph& graph, const Op& op) {
  return at_extent(op,
                   static_cast<std::int64_t>(graph.runtime_extents[static_cast<std::size_t>(op.runtime_extent)].mean));
}

double matmul_flops(const PlanGraph& graph, const Role& role, const Segment& segment) {
  double sum = 0;
  for (const BlockCall& call : segment.calls) {
    double block = 0;
    for (const Op& op : role.blocks[static_cast<std::size_t>(call.block)].ops) {
      const OpWork w = op.runtime_extent < 0 ? work(op) : work(on_average(graph, op));
      block += w.is_matmul ? w.flops : 0;
    }
    sum += block * call.count;
  }
  return sum;
}

}  // namespace

OpWork work(const Op& op) {
  Worker worker{op, {}};
  std::visit(worker, op.work);
  return worker.w;
}

double matmul_flops_per_step(const PlanGraph& graph) {
  double sum = 0;
  for (const Role& role : graph.roles) {
    std::map<SegmentId, double> by_segment;
    double of_rank = 0;
    for (const Instance& instance : role.program.body) {
      const auto [it, is_new] = by_segment.try_emplace(instance.segment, 0.0);
      if (is_new) {
        it->second = matmul_flops(graph, role, role.segments[static_cast<std::size_t>(instance.segment)]);
      }
      of_rank += it->second;
    }
    sum += of_rank * static_cast<double>(count(graph.mesh, role.ranks));
  }
  return sum;
}

}  // namespace foretrain::plan
