// What an op does: kind, full shapes, dtypes. No duration anywhere: time belongs to the machines.
//
// Operands are listed in Op::reads and Op::writes in the order given beside each kind; [x] is optional. A tensor that
// is updated in place stands in both lists, in `reads` after the pure inputs. Row-major throughout.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/rotary_frequencies.h"
#include "plan/exchange_ops.h"
#include "plan/mesh.h"
#include "plan/moe_ops.h"
#include "plan/sequence_ops.h"
#include "workloads/workload.h"

namespace foretrain::plan {

enum class Phase : std::uint8_t {
  load,
  forward,
  recompute,
  backward_input,
  backward_weight,
  grad_reduce,
  optimizer,
  param_gather,
  checkpoint
};
std::string_view name(Phase p);

// Joins streams: no work, a place where the compute stream waits for or signals others.
struct Join {
  friend bool operator==(const Join&, const Join&) = default;
};

// What a product's kernel does before it writes C[m,n], of whose type X is.
//   gelu:          C = gelu(X), X the product; both are written. Of the tanh's form (workloads::Activation::gelu)
//   gelu_backward: C = the product times gelu's slope at X, which is read
enum class Epilogue : std::uint8_t { none, gelu, gelu_backward };
std::string_view name(Epilogue e);

// C[m,n] = op(A) op(B) [+ bias[n]] [+ C]. reads {A, B, [bias], [C if accumulate], [X]}, writes {C, [X]}.
// Stored A is [m,k] ([k,m] if trans_a), B is [k,n] ([n,k] if trans_b). With an epilogue there is no `accumulate`.
struct Matmul {
  std::int64_t m = 0, n = 0, k = 0;
  bool trans_a = false, trans_b = false, bias = false, accumulate = false;
  Dtype in = Dtype::fp32, out = Dtype::fp32;
  Epilogue epilogue = Epilogue::none;
  friend bool operator==(const Matmul&, const Matmul&) = default;
};

// With key_seq attention of q to another sequence's keys and values: flash_forward reads {q, kv, [bias]}, writes {o,
// lse}; flash_backward reads {do, q, kv, o, lse, [bias, dbias]}, writes {dq, dkv, [dbias]}; q [batch*seq,
// heads*head_dim], kv [batch*key_seq, kv_heads*(head_dim + value_dim)]. With `biased` a logit by distance is added to
// the scores, bias [heads, seq + keys - 1] as RelativeBias writes it, and dbias is added to: flash_forward reads {qkv,
// bias}, flash_backward {do, qkv, o, lse, bias, dbias}, writes {dqkv, dbias}. With `padded` a sequence's queries see
// its first lengths[batch] i32 keys: flash_forward reads {qkv, lengths}, flash_backward {do, qkv, o, lse, lengths}.
// Flash steps alone have these three. Packed qkv [batch*seq, (heads + kv_heads) * head_dim + kv_heads * value_dim]; o
// [batch*seq, heads*value_dim]; scores and probabilities [batch, heads, seq, seq] in dtype; lse [batch, heads, seq] in
// fp32 (fp64 for fp64).
enum class AttentionStep : std::uint8_t {
  flash_forward,           // reads {qkv}, writes {o, lse}
  flash_backward,          // reads {do, qkv, o, lse}, writes {dqkv}
  scores,                  // reads {qkv}, writes {s}
  scale_mask,              // reads {s}, writes {s}
  softmax,                 // reads {s}, writes {s}
  scale_mask_softmax,      // reads {s}, writes {s}
  context,                 // reads {p, qkv}, writes {o}
  context_backward,        // reads {do, p, qkv}, writes {dp, dqkv (v part)}
  softmax_backward,        // reads {p, dp}, writes {dp}
  scale_backward,          // reads {dp}, writes {dp}
  softmax_scale_backward,  // reads {p, dp}, writes {dp}: both of the above in one pass
  scores_backward,         // reads {ds, qkv}, writes {dqkv (q and k parts)}
};
std::string_view name(AttentionStep s);
struct Attention {
  AttentionStep step{};
  workloads::AttentionKind kind{};
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, head_dim = 0;
  bool causal = true;
  Dtype dtype = Dtype::fp32;
  std::int64_t value_dim = 0;  // columns of a value head; 0: head_dim
  std::int64_t window = 0;     // with causal: keys that a query sees, its own among them; 0: all before it
  std::int64_t document = 0;   // with causal: tokens of a document, of which a query sees its own; 0: one document
  std::int64_t key_seq = 0;    // keys of the other sequence; 0: its own, of qkv
  bool biased = false;
  bool scaled = true;  // scores are, by 1/sqrt(head_dim)
  bool padded = false;

  std::int64_t keys() const { return key_seq != 0 ? key_seq : seq; }
  std::int64_t v_dim() const { return value_dim != 0 ? value_dim : head_dim; }
  friend bool operator==(const Attention&, const Attention&) = default;
};

// A logit per head beside those of the keys, with no value (gpt-oss); behind flash attention, whose backward takes what
// it leaves. forward: reads {sinks, o, lse}, writes {o, lse}. backward_weight: reads {do, o, lse, sinks, dsinks},
// writes {dsinks}, +=. sinks are of `heads` heads of each member of head_group; the rank's are those at its index
// there.
struct AttentionSinks {
  Direction direction{};
  std::int64_t batch = 0, seq = 0, heads = 0, v_dim = 0;
  GroupId head_group = kNoGroup;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const AttentionSinks&, const AttentionSinks&) = default;
};

// What of a Mamba-2 mixer (workloads/ssm.h) stands between its projections: convolution, scan, gate and norm, as one
// op. x [tokens, in_cols], y [tokens, heads*head_dim], vectors: all parameters but the projections'. Forecast only.
// forward: reads {x, vectors}, writes {y}. backward_input: reads {dy, x, vectors, dvectors}, writes {dx, dvectors}.
struct StateSpace {
  Direction direction{};
  std::int64_t batch = 0, seq = 0, heads = 0, head_dim = 0, state = 0, groups = 0, conv = 0, chunk = 0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const StateSpace&, const StateSpace&) = default;
};

// Latent attention: packs q [tokens, heads*(nope+rope)], kv [tokens, heads*(nope+v)] and k_rope [tokens, rope], which
// all heads share, as qkv of kv_heads = heads, rope columns rotated. forward: reads {q, kv, k_rope}, writes {qkv}.
// backward_input: reads {dqkv}, writes {dq, dkv, dk_rope}.
struct LatentHeads {
  Direction direction{};
  std::int64_t batch = 0, seq = 0, heads = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;
  RotaryFrequencies frequencies;
  Dtype dtype = Dtype::fp32;
  GroupId seq_group = kNoGroup;  // whose ranks hold shares of the sequences; seq is of a share
  friend bool operator==(const LatentHeads&, const LatentHeads&) = default;
};

// forward: reads {x [rows, left + right]}, writes {[rows, left], [rows, right]}; backward_input the other way.
struct SplitColumns {
  Direction direction{};
  std::int64_t rows = 0, left = 0, right = 0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const SplitColumns&, const SplitColumns&) = default;
};

// Flash attention of this rank's share of every sequence (seq tokens, plan/sequence_share.h) over the keys and
// values of another's in `group`: of the rank `distance` before it, round the group. kv is [batch*seq,
// 2*kv_heads*head_dim].
//   pack:            reads {qkv}, writes {kv}: keys and values of qkv, which go round
//   attend:          reads {qkv, kv}, writes {o, lse}: over these keys alone
//   merge:           reads {o[n,…], lse[n,…]}, writes {o, lse}: of all n ranks' keys
//   attend_backward: reads {do, qkv, kv, o, lse, [dqkv]}, writes {dqkv (q part), dkv}; += into dqkv where it is read
//   unpack:          reads {dkv}, writes {dqkv (k and v parts)}
//   attend_all:      reads {qkv, kv}, writes {o, lse}: kv of all shares, in the order of positions
//   attend_all_backward: reads {do, qkv, kv, o, lse}, writes {dqkv (q part), dkv}: as attend_all has them
// Without `causal` all queries attend to all keys. With it every step of a ring attends to as many pairs of tokens: of
// its own share the half below the diagonal, of an earlier rank's all queries to the first half of the keys, of a later
// one's the second half of the queries to all keys.
enum class RingStep : std::uint8_t { pack, attend, merge, attend_backward, unpack, attend_all, attend_all_backward };
std::string_view name(RingStep s);
struct RingAttention {
  RingStep step{};
  workloads::AttentionKind kind{};
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, head_dim = 0;
  GroupId group = kNoGroup;
  std::int32_t parts = 1;     // ranks of the group
  std::int32_t distance = 0;  // attend, attend_backward
  bool accumulate = false;    // attend_backward
  Dtype dtype = Dtype::fp32;
  std::int64_t window = 0;    // attend_all, attend_all_backward: as Attention's
  std::int64_t v_dim = 0;     // of a value head
  std::int64_t document = 0;  // as window
  bool causal = true;
  friend bool operator==(const RingAttention&, const RingAttention&) = default;
};

// Rows around the all_to_all between shares of sequences with all heads and whole sequences with a share of the heads
// (Jacobs et al. 2023, "DeepSpeed Ulysses"). Columns are q + k + v wide on a share, and all three divide by `parts`.
//   split_heads:    reads {x[batch*seq, q+k+v]}, writes {blocks[parts, batch*seq, (q+k+v)/parts]}
//   join_sequence:  reads {blocks}, writes {y[batch*parts*seq, (q+k+v)/parts]}: in the order of positions
//   split_sequence, join_heads: the same ways back
enum class ReshardStep : std::uint8_t { split_heads, join_sequence, split_sequence, join_heads };
std::string_view name(ReshardStep s);
struct Reshard {
  ReshardStep step{};
  std::int64_t batch = 0, seq = 0;  // seq: of a share
  std::int64_t q = 0, k = 0, v = 0;
  std::int32_t parts = 1;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Reshard&, const Reshard&) = default;
};

// forward: reads {x, gain, [bias]}, writes {y, stats[rows,2]}.  backward_input: reads {dy, x, gain, stats, [base]},
// writes {dx}, dx = [base +] …; base may be dx.  backward_weight: reads {dy, x, stats, dgain, [dbias]}, writes {dgain,
// [dbias]}, +=. bias exists for layernorm only. stats: mean, 1/std (rmsnorm: 0, 1/rms) in fp32 (fp64 for fp64).
struct Norm {
  Direction direction{};
  workloads::Norm kind{};
  std::int64_t rows = 0, cols = 0;
  double eps = 1e-5;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Norm&, const Norm&) = default;
};

// Rmsnorm of each head of q and k of packed qkv, in place; raw [rows, (heads + kv_heads) * head_dim] keeps what they
// were. forward: reads {q_gain, k_gain, qkv}, writes {qkv, raw}.  backward_weight: reads {dqkv, raw, dq_gain, dk_gain},
// writes {dq_gain, dk_gain}, +=.  backward_input, after it: reads {raw, q_gain, k_gain, dqkv}, writes {dqkv}.
struct HeadNorm {
  Direction direction{};
  std::int64_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  double eps = 1e-6;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const HeadNorm&, const HeadNorm&) = default;
};

// forward: reads {x}, writes {y}.  backward_input: reads {dy, x}, writes {dx}. y is [rows, cols]; x is [rows, cols],
// or [rows, 2 cols] = gate | up per row when gated.
struct Activation {
  Direction direction{};
  workloads::Activation kind{};
  std::int64_t rows = 0, cols = 0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Activation&, const Activation&) = default;
};

// y = a + b [+ bias]. reads {a, b, [bias[cols]]}, writes {y}.
struct ResidualAdd {
  std::int64_t rows = 0, cols = 0;
  bool bias = false;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const ResidualAdd&, const ResidualAdd&) = default;
};

// db[cols] += column sums of dy. reads {dy, db}, writes {db}.
struct BiasGradient {
  std::int64_t rows = 0, cols = 0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const BiasGradient&, const BiasGradient&) = default;
};

// Rotates the first rotary_dim columns of each head of q and k of packed qkv in place (half-split); backward rotates
// back. reads {qkv}, writes {qkv}. A sequence's seq tokens here are this rank's share of it in `seq_group`
// (plan/sequence_share.h), all of it for kNoGroup.
struct Rotary {
  Direction direction{};
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, head_dim = 0, rotary_dim = 0;
  RotaryFrequencies frequencies;
  Dtype dtype = Dtype::fp32;
  GroupId seq_group = kNoGroup;
  friend bool operator==(const Rotary&, const Rotary&) = default;
};

// forward: reads {ids, table}, writes {x}: rows of this shard, zero for ids of other shards.
// backward_weight: reads {ids, dx, dtable}, writes {dtable}, += in token order.
// Shard = index in `vocab_group`, `rows` table rows each.
struct Embedding {
  Direction direction{};
  std::int64_t tokens = 0, hidden = 0, rows = 0;
  GroupId vocab_group = kNoGroup;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Embedding&, const Embedding&) = default;
};

// Learned positions. forward: reads {x, table}, writes {x}; x[t] += table[position]. backward_weight: reads {dx,
// dtable}, writes {dtable}. Row t of this rank is token `index in row_group * rows + t`; that modulo seq is its place
// in the share of its sequence that the rank has in `seq_group`. With seq 1 the table is one vector that all rows get:
// a bias.
struct PositionAdd {
  Direction direction{};
  std::int64_t rows = 0, hidden = 0, seq = 0;
  GroupId row_group = kNoGroup;
  Dtype dtype = Dtype::fp32;
  GroupId seq_group = kNoGroup;
  friend bool operator==(const PositionAdd&, const PositionAdd&) = default;
};

// Cross entropy over a vocabulary sharded along `vocab_group` (cols columns each; the published vocabulary is `vocab`,
// columns beyond it are padding and take no part). A target below 0 is none: its row's loss and gradient are 0.
//   stats:    reads {logits[rows,cols], targets[rows]}, writes {triple[rows,3]} = max, sum exp(x - max), target logit
//   combine:  reads {triples[shards,rows,3], loss}, writes {row_stats[rows,2], loss}: loss += scale * sum of rows
//   backward: reads {row_stats, targets, logits, [loss scale]}, writes {dlogits}: (softmax - onehot) * scale; dlogits
//             may be logits
// triples, row_stats fp32 (fp64 for fp64); loss is one fp64.
enum class CrossEntropyStep : std::uint8_t { stats, combine, backward };
std::string_view name(CrossEntropyStep s);
struct CrossEntropy {
  CrossEntropyStep step{};
  std::int64_t rows = 0, cols = 0, vocab = 0;
  GroupId vocab_group = kNoGroup;
  double scale = 1.0;
  Dtype dtype = Dtype::fp32;
  bool scaled = false;  // backward: times the loss scale, too
  friend bool operator==(const CrossEntropy&, const CrossEntropy&) = default;
};

// The loss of a model of features (workloads/dense.h), but cross_entropy, which is CrossEntropy's.
//   forward:        reads {y[rows,cols], targets, loss}, writes {loss}: loss += scale * sum. loss is one fp64
//   backward_input: reads {y, targets, [loss scale]}, writes {dy}, which may be y; times scale
struct OutputLoss {
  Direction direction{};
  workloads::Loss kind{};
  std::int64_t rows = 0, cols = 0;
  double scale = 1.0;
  Dtype dtype = Dtype::fp32;
  bool scaled = false;
  friend bool operator==(const OutputLoss&, const OutputLoss&) = default;
};

// A bucket: whole layers of a parameter family as one flat range of `elements`, cut in `shards` equal parts; this rank
// owns part `index in shard_group` (everything when shards == 1 or kNoGroup).
struct Bucket {
  std::int64_t elements = 0;       // of the whole bucket, padding included
  std::int16_t family = 0;         // index in Role::parameter_families
  std::int32_t layers = 1;         // how many consecutive layers
  GroupId shard_group = kNoGroup;  // kNoGroup: not sharded (ZeRO-0)
  std::int32_t shards = 1;
  friend bool operator==(const Bucket&, const Bucket&) = default;
};

// Sum of squares of each tensor of the bucket into norms[global tensor]; pieces cut at `piece_shards` boundaries are
// summed in order, so that sharded and unsharded optimizers agree bit for bit. Replicated tensors count on the first
// rank of their group only. reads {gradient bucket or own shard}, writes {norms}.
struct SquaredNorm {
  Bucket bucket;
  std::int32_t piece_shards = 1;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const SquaredNorm&, const SquaredNorm&) = default;
};

// norm = sqrt(norms summed in order); coefficient = min(1, clip / (norm + 1e-6)), 1 if clip == 0.
// reads {norms[tensors], [loss scale]}, writes {coefficient[2]} = coefficient, norm (fp64). Of scaled gradients the
// norm is of what they would be without, and the coefficient makes them so.
struct ClipCoefficient {
  std::int64_t tensors = 0;
  double clip = 1.0;
  bool scaled = false;
  friend bool operator==(const ClipCoefficient&, const ClipCoefficient&) = default;
};

// Loss scaling (workloads::LossScaling). state is fp64[5]: the scale; steps since it last changed; 1 or 0 as the step's
// gradients are numbers or not, which guards the update; steps skipped in a row; in all.
//   begin:  reads {state}, writes {state}: the first scale, where there is none yet
//   update: reads {coefficient[2], state}, writes {state}: by the step's norm
enum class LossScaleStep : std::uint8_t { begin, update };
std::string_view name(LossScaleStep s);
struct LossScale {
  LossScaleStep step{};
  workloads::LossScaling scaling;
  friend bool operator==(const LossScale&, const LossScale&) = default;
};

// One step over the bucket or own shard. reads {gradient, coefficient, [master], [m], [v], param}, writes
// {param, [master], [m], [v]}. master iff precision has one (without, a narrower param is rounded by chance, of the
// run's seed, the step and the place in the whole tensor); m and v as the optimizer has moments. Of lamb the gradient
// is the update, and in place of the coefficient stand norms[2, tensors] of all weights and updates.
struct OptimizerStep {
  Bucket bucket;
  workloads::Optimizer optimizer;
  workloads::Precision precision;
  friend bool operator==(const OptimizerStep&, const OptimizerStep&) = default;
};

// LAMB's moments, and in place of the gradient the update that they give. reads {coefficient, weight, gradient, m, v},
// writes {gradient, m, v}; weight is the master where there is one.
struct LambUpdate {
  Bucket bucket;
  workloads::Optimizer optimizer;
  workloads::Precision precision;
  friend bool operator==(const LambUpdate&, const LambUpdate&) = default;
};

struct Fill {  // zero. writes {x}
  std::int64_t elements = 0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Fill&, const Fill&) = default;
};

struct Accumulate {  // dst += src. reads {src, dst}, writes {dst}; src is as wide as dst or narrower
  std::int64_t elements = 0;
  Dtype from = Dtype::fp32, dtype = Dtype::fp32;  // of src, of dst
  friend bool operator==(const Accumulate&, const Accumulate&) = default;
};

enum class CollectiveKind : std::uint8_t {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  all_to_all,
  gather,
  distribute
};
std::string_view name(CollectiveKind k);
// A root and each of the others by itself: what a server does.
constexpr bool is_star(CollectiveKind k) {
  return k == CollectiveKind::gather || k == CollectiveKind::distribute;
}
enum class Reduction : std::uint8_t { sum, max };
std::string_view name(Reduction r);

// `elements` is the total buffer (what every rank holds in the end for all_gather, at the start for reduce_scatter).
// all_reduce: reads {x}, writes {x}. broadcast: reads {x}, writes {x}, which on `root` stays as it is. all_gather:
// reads {shard}, writes {full}; reduce_scatter: reads {full}, writes {shard}; the shard may lie inside the full buffer
// at its own place. Sums are taken in rank order. all_to_all: equal blocks; with `row` it takes counts: reads
// {x, to[members] i32, from[members] i32}, writes {y}, rows of so many elements one after the other by member;
// `elements` is then what a member sends in all where nothing is dropped. gather: `root` writes {parts}, of all others
// in their order, `elements` in all; each of them reads {its part}. distribute: `root` reads {x}; all others write {x}.
struct Collective {
  CollectiveKind kind{};
  GroupId group = kNoGroup;
  std::int64_t elements = 0;
  Dtype dtype = Dtype::fp32;
  Reduction reduction = Reduction::sum;
  std::int32_t tag = -1;   // match key, index in PlanGraph::tags
  std::int32_t root = -1;  // of broadcast, gather, distribute: its index in the group
  std::int64_t row = 0;
  friend bool operator==(const Collective&, const Collective&) = default;
};

// One message to or from the rank that differs only in its coordinate along `axis`, or that a rank beside the mesh
// names by its number (Mesh::peer).
struct Message {
  bool send = true;
  Axis axis = Axis::pp;
  std::int32_t peer = 0;  // the other rank's coordinate, or how many further on round the axis
  std::int64_t elements = 0;
  Dtype dtype = Dtype::fp32;
  std::int32_t tag = -1;
  // What peer is; so that ranks all along a ring are one role. The op also has the message's like at the other end: to
  // +1 is sent what comes from -1.
  bool relative = false;
  friend bool operator==(const Message&, const Message&) = default;
};

// A batch of sends and receives, done when all are. reads {sent buffers in order}, writes {received buffers in order}.
struct Exchange {
  std::vector<Message> messages;
  friend bool operator==(const Exchange&, const Exchange&) = default;
};

enum class CopyKind : std::uint8_t { device_to_device, device_to_host, host_to_device };
std::string_view name(CopyKind k);
struct Copy {  // reads {src}, writes {dst}
  CopyKind kind{};
  std::int64_t bytes = 0;
  friend bool operator==(const Copy&, const Copy&) = default;
};

// Which tokens of a sequence are to be told, where it is not the next one of each (BERT, Devlin et al. 2019, section
// 3.1): `count` of them, chosen by step and sequence alone; of these four in five are replaced by `token`, one in ten
// by any id below `vocab`. The targets of the others are -1.
struct Masking {
  std::int64_t count = 0;  // 0: none; targets are the next tokens
  std::int64_t token = 0, vocab = 0;
  friend bool operator==(const Masking&, const Masking&) = default;
};

// Of data whose sequences have `length` tokens, those of one side of a model from `first` on. Those that are told
// (first > 0) a decoder reads one later, behind the id `start`.
struct SequencePart {
  std::int64_t length = 0;  // 0: all are one side's
  std::int64_t first = 0, start = 0;
  friend bool operator==(const SequencePart&, const SequencePart&) = default;
};

// load_inputs / load_targets: writes {ids[sequences*seq]} of this instance's microbatch, seq being this rank's share in
// `seq_group` of each sequence, or the tokens of its part. write_checkpoint: reads {...}. load_features / load_labels:
// writes {x[sequences, cols]} in dtype, of samples; i32 labels are classes. load_lengths: the same of sequences, i32.
enum class HostTask : std::uint8_t {
  load_inputs,
  load_targets,
  write_checkpoint,
  load_features,
  load_labels,
  load_lengths
};
std::string_view name(HostTask t);
struct Host {
  HostTask task{};
  std::int64_t sequences = 0, seq = 0;
  GroupId seq_group = kNoGroup;
  Masking masking;
  std::int64_t cols = 0;  // of features and labels
  Dtype dtype = Dtype::i32;
  SequencePart part;
  // What is read of storage for it; of several loads of the same sequences the first one's. A rank's reads are taken in
  // program order, on so many threads, and begin up to `prefetch` of them ahead, perhaps of later steps.
  std::int64_t bytes = 0, loaders = 1, prefetch = 0;
  std::int64_t for_rank = -1;  // whose it is; -1: the rank's own
  friend bool operator==(const Host&, const Host&) = default;
};

// What a server and workers that do not wait for each other exchange (plan/channel.h). The server is the group's
// `root`, `elements` are those of all x, or y.
//   put:     of a worker; reads {x…}; ends when the server has taken it
//   take:    of the server; reads {turns}, writes {x…, turn}; takes what was put first, of whomever; `in_turn`: of
//            whose turn it is. turns: by worker, how many of its updates are made; turn: the same behind this one, and
//            then 1, or 0 where there is nothing to update by
//   release: of the server; reads {y…}; to the workers whose last message was taken and who are at most `staleness`
//            steps ahead of the slowest (-1: any number); perhaps to none
//   fetch:   of a worker; writes {y…}; waits until it is released
enum class ChannelStep : std::uint8_t { put, take, release, fetch };
std::string_view name(ChannelStep s);
constexpr bool is_of_server(ChannelStep s) {
  return s == ChannelStep::take || s == ChannelStep::release;
}
struct Channel {
  ChannelStep step{};
  GroupId group = kNoGroup;
  std::int32_t root = -1;
  std::int64_t elements = 0;
  Dtype dtype = Dtype::fp32;
  std::int32_t tag = -1;
  std::int64_t staleness = -1;
  bool in_turn = false;
  friend bool operator==(const Channel&, const Channel&) = default;
};

using Work =
    std::variant<Join, Matmul, Attention, Norm, Activation, ResidualAdd, BiasGradient, Rotary, Embedding, PositionAdd,
                 CrossEntropy, SquaredNorm, ClipCoefficient, OptimizerStep, Fill, Accumulate, SumParts, Collective,
                 Exchange, Copy, Host, Channel, HeadNorm, LatentHeads, SplitColumns, RingAttention, Reshard, Gate,
                 Route, Permute, GroupedMatmul, ExpertActivation, AttentionSinks, StateSpace, ExpertBias, OutputLoss,
                 LambUpdate, LossScale, RelativeBias, Cast, Encode, Decode, OuterStep, FirstTokens>;

// The attention of which the op costs so large a share, in so many kernels, where it is one: of a ring's step the
// causal one of a share over itself, of attend_all that of the whole sequences.
struct AttentionCost {
  Attention whole;
  double share = 1;
  int kernels = 1;
};
std::optional<AttentionCost> attention_of(const Work& w);

// "matmul", "attention.flash_forward", "all_reduce", "send", "recv", … : the op kind that reports group by.
std::string kind_name(const Work& w);

}  // namespace foretrain::plan
