#include "workloads/model.h"

#include <array>

namespace foretrain::workloads {

std::string_view name(Activation a) {
  constexpr std::array<std::string_view, 8> kNames{"gelu",     "relu",           "swiglu",  "geglu",
                                                   "gelu_erf", "swiglu_clamped", "sigmoid", "tanh"};
  return kNames[static_cast<std::size_t>(a)];
}

std::string_view name(Norm n) {
  return n == Norm::layernorm ? "layernorm" : "rmsnorm";
}

std::string_view name(Positions p) {
  constexpr std::array<std::string_view, 4> kNames{"learned", "rotary", "none", "relative"};
  return kNames[static_cast<std::size_t>(p)];
}

std::string_view name(Architecture a) {
  constexpr std::array<std::string_view, 5> kNames{"decoder", "encoder", "linear", "mlp", "encoder_decoder"};
  return kNames[static_cast<std::size_t>(a)];
}

std::string_view name(NormPosition p) {
  return p == NormPosition::pre ? "pre" : "post";
}

std::string_view name(Head h) {
  constexpr std::array<std::string_view, 3> kNames{"plain", "masked_lm", "classifier"};
  return kNames[static_cast<std::size_t>(h)];
}

std::string_view name(Loss l) {
  constexpr std::array<std::string_view, 3> kNames{"squared_error", "binary_cross_entropy", "cross_entropy"};
  return kNames[static_cast<std::size_t>(l)];
}

namespace {

// A scale, and for layernorm a shift.
std::int64_t norm_parameters(const Model& m) {
  return (m.norm == Norm::layernorm ? 2 : 1) * m.hidden;
}

// From the layer's input to q, k and v; norms of the latents not counted.
std::int64_t latent_projections(const Model& m) {
  const Mla& a = m.mla;
  const std::int64_t q = a.q_rank > 0 ? (m.hidden + m.q_size()) * a.q_rank : m.hidden * m.q_size();
  return q + m.hidden * (a.kv_rank + a.rope_dim) + a.kv_rank * m.heads * (a.nope_dim + a.v_dim);
}

// Of an MLP without biases.
std::int64_t mlp_matrices(const Model& m, std::int64_t ffn_hidden) {
  return (is_gated(m.activation) ? 3 : 2) * m.hidden * ffn_hidden;
}

std::int64_t attention_parameters(const Model& m) {
  const std::int64_t qkv_size = m.q_size() + 2 * m.kv_size();
  return (m.has_mla() ? latent_projections(m) : m.hidden * qkv_size) + (m.attention_bias ? qkv_size : 0) +
         m.context_size() * m.hidden + (m.output_bias ? m.hidden : 0) + (m.qk_norm ? 2 * m.head_dim : 0) +
         (m.attention_sinks ? m.heads : 0) + (m.has_mla() ? m.mla.q_rank + m.mla.kv_rank : 0);
}

std::int64_t ssm_parameters(const Model& m) {
  return m.hidden * (m.ssm.in_cols() + m.ssm.inner()) + m.ssm.vectors();
}

// Attention and norms: what layers with an MLP and with experts have.
std::int64_t common_parameters(const Model& m) {
  return (m.shared_norm ? 1 : 2) * norm_parameters(m) + attention_parameters(m);
}

// Biases of one expert.
std::int64_t expert_biases(const Model& m) {
  return m.moe.bias ? (is_gated(m.activation) ? 2 : 1) * m.moe.ffn_hidden + m.hidden : 0;
}

// Experts that a layer holds, or that a token passes.
std::int64_t with_experts(const Model& m, std::int64_t experts) {
  const std::int64_t router = m.moe.experts * (m.hidden + (m.moe.expert_bias ? 1 : 0) + (m.moe.bias ? 1 : 0)) +
                              (m.moe.shared_gate ? m.hidden : 0);
  return common_parameters(m) + router + experts * (mlp_matrices(m, m.moe.ffn_hidden) + expert_biases(m)) +
         mlp_matrices(m, m.moe.shared_width());
}

// Its one norm among them; the product with the vocabulary where it is not the embedding's table.
std::int64_t head_parameters(const Model& m) {
  if (m.is_classifier()) {
    return (m.hidden + 1) * (m.hidden + m.classes);
  }
  const std::int64_t transform = m.head == Head::masked_lm ? (m.hidden + 1) * m.hidden + m.vocab : 0;
  return norm_parameters(m) + transform + (m.tied_embeddings ? 0 : m.vocab * m.hidden);
}

std::int64_t embedding_parameters(const Model& m) {
  const std::int64_t sides = m.is_encoder_decoder() ? 2 : 1;
  const std::int64_t positions = m.positions == Positions::learned ? sides * m.max_positions : 0;
  const std::int64_t relative = m.positions == Positions::relative ? sides * m.heads * m.relative_buckets : 0;
  return (m.vocab + positions + m.token_types) * m.hidden + relative +
         (m.embedding_norm || m.is_encoder_decoder() ? norm_parameters(m) : 0);
}

// Columns of what the output's product reads.
std::int64_t last_width(const Model& m) {
  return m.layers > 0 ? m.hidden : m.dense.inputs;
}

std::int64_t dense_parameters(const Model& m) {
  const std::int64_t first = m.layers > 0 ? (m.dense.inputs + 1) * m.hidden : 0;
  return first + m.repeated_layers() * (m.hidden + 1) * m.hidden + (last_width(m) + 1) * m.dense.outputs;
}

// A product of n in all has 2 n FLOPs, forward, for its weight's gradient and for its input's, where that has one.
double dense_flops(const Model& m, double samples) {
  const auto product = [](std::int64_t a, std::int64_t b) { return static_cast<double>(a) * static_cast<double>(b); };
  const double first = m.layers > 0 ? product(m.dense.inputs, m.hidden) : product(m.dense.inputs, m.dense.outputs);
  const double behind = m.layers > 0 ? static_cast<double>(m.repeated_layers()) * product(m.hidden, m.hidden) +
                                           product(m.hidden, m.dense.outputs)
                                     : 0;
  return samples * (4 * first + 6 * behind);
}

std::int64_t parameters(const Model& m, std::int64_t experts) {
  if (m.is_dense()) {
    return dense_parameters(m);
  }
  return embedding_parameters(m) + m.dense_layers() * layer_parameters(m) + m.moe_layers() * with_experts(m, experts) +
         m.ssm_layers() * (ssm_parameters(m) - attention_parameters(m)) +
         m.decoder_layers() * cross_attention_parameters(m) + head_parameters(m);
}

}  // namespace

std::int64_t layer_parameters(const Model& m) {
  const std::int64_t up_size = (is_gated(m.activation) ? 2 : 1) * m.ffn_hidden;
  return common_parameters(m) + mlp_matrices(m, m.ffn_hidden) + (m.mlp_bias ? up_size + m.hidden : 0);
}

std::int64_t moe_layer_parameters(const Model& m) {
  return with_experts(m, m.moe.experts);
}

std::int64_t cross_attention_parameters(const Model& m) {
  return norm_parameters(m) + attention_parameters(m);
}

std::int64_t total_parameters(const Model& m) {
  return parameters(m, m.moe.experts);
}

std::int64_t active_parameters(const Model& m) {
  return parameters(m, m.moe.top_k);
}

double visible_share(std::int64_t window, std::int64_t seq_len) {
  if (window <= 0 || window >= seq_len) {
    return 1;
  }
  const double hidden = 1 - static_cast<double>(window) / static_cast<double>(seq_len);
  return 1 - hidden * hidden;
}

double visible_share(std::int64_t window, std::int64_t document, std::int64_t seq_len) {
  if (document <= 0 || document >= seq_len) {
    return visible_share(window, seq_len);
  }
  const auto of = [&](std::int64_t tokens) {
    const double part = static_cast<double>(tokens) / static_cast<double>(seq_len);
    return part * part * visible_share(window, tokens);
  };
  const std::int64_t rest = seq_len % document;
  return static_cast<double>(seq_len / document) * of(document) + (rest > 0 ? of(rest) : 0.0);
}

namespace {

double encoder_decoder_flops(const Model& m, std::int64_t sequences, std::int64_t seq_len, std::int64_t target_len,
                             bool causal_halved) {
  const double s = static_cast<double>(seq_len), t = static_cast<double>(target_len);
  const double h = static_cast<double>(m.hidden), q = static_cast<double>(m.q_size());
  const double kv = static_cast<double>(m.kv_size());
  const double layer = 2 * h * (2 * q + 2 * kv) + 2 * static_cast<double>(mlp_matrices(m, m.ffn_hidden));  // of a token
  const double encoder = s * layer + 4 * s * s * q;
  const double decoder = t * layer + 4 * t * t * q * (causal_halved ? 0.5 : 1.0);
  const double cross = 2 * h * (2 * t * q + 2 * s * kv) + 4 * t * s * q;
  const double forward = static_cast<double>(m.encoder_layers) * encoder +
                         static_cast<double>(m.decoder_layers()) * (decoder + cross) +
                         2 * t * h * static_cast<double>(m.vocab);
  return 3 * forward * static_cast<double>(sequences);
}

}  // namespace

// Per sequence of s tokens, forward, two FLOPs per multiply-add:
//   qkv 2·s·h·(q + 2·kv)   scores and context 2 · 2·s·s·q   projection 2·s·q·h   MLP 2·s·h·f·(2, gated 3)   logits
//   2·s·h·V, of a masked-LM head 2·s·h·h before it, of a classifier 2·h·(h + classes) instead; with experts instead of
//   the MLP 2·s·h·(f·(top_k·f_e + f_shared) + experts), f 2 or 3 as there; with latent attention the matrices of its
//   projections instead of h·(q + 2·kv), and values of their width. Of an encoder and decoder a decoder's layer counts
//   t tokens for s, and beside it q and projection 2·t·h·q each, kv 2·s·h·2·kv, scores and context 2 · 2·t·s·q; logits
//   are of t
// Backward is twice that. With q = kv = h and f = 4h the sum is 72·B·s·l·h²·(1 + s/6h + V/12lh), eq. 9 of Korthikanti
// et al. (arXiv:2205.05198).
double model_flops(const Model& m, std::int64_t sequences, std::int64_t seq_len, bool causal_halved,
                   std::int64_t target_len) {
  if (m.is_dense()) {
    return dense_flops(m, static_cast<double>(sequences));
  }
  if (m.is_encoder_decoder()) {
    return encoder_decoder_flops(m, sequences, seq_len, target_len, causal_halved);
  }
  const double s = static_cast<double>(seq_len);
  const double h = static_cast<double>(m.hidden);
  const double q = static_cast<double>(m.q_size());
  const double kv = static_cast<double>(m.kv_size());
  const double matrices = is_gated(m.activation) ? 3 : 2;
  const double o = static_cast<double>(m.context_size());
  const double qkv = m.has_mla() ? static_cast<double>(latent_projections(m)) : h * (q + 2 * kv);
  const double matmuls = 2 * s * qkv + 2 * s * o * h;
  const double mlp = 2 * s * h * static_cast<double>(m.ffn_hidden) * matrices;
  const double passed = static_cast<double>(m.moe.top_k * m.moe.ffn_hidden + m.moe.shared_width());
  const double experts = 2 * s * h * (passed * matrices + static_cast<double>(m.moe.experts));
  double squares = 0;  // of scores, over the layers
  for (std::int64_t layer = 0; layer < m.layers; ++layer) {
    squares += m.ssm.has_layer(layer) ? 0 : visible_share(m.window(layer, seq_len), seq_len);
  }
  const double attention = 2 * s * s * (q + o) * (causal_halved && !m.is_encoder() ? 0.5 : 1.0) * squares;
  const double logits = m.is_classifier()
                            ? 2 * h * (h + static_cast<double>(m.classes))
                            : 2 * s * h * (static_cast<double>(m.vocab) + (m.head == Head::masked_lm ? h : 0));
  const double ssm = 2 * s * h * static_cast<double>(m.ssm.in_cols() + m.ssm.inner()) +
                     7 * s * static_cast<double>(m.ssm.inner() * m.ssm.state);
  const double forward = static_cast<double>(m.layers - m.ssm_layers()) * matmuls + attention +
                         static_cast<double>(m.ssm_layers()) * ssm + static_cast<double>(m.dense_layers()) * mlp +
                         static_cast<double>(m.moe_layers()) * experts + logits;
  return 3 * forward * static_cast<double>(sequences);
}

}  // namespace foretrain::workloads
