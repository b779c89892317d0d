// A model as its shape says it, before any sharding: what is to be trained, not how.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/rotary_frequencies.h"
#include "workloads/dense.h"
#include "workloads/moe.h"
#include "workloads/ssm.h"

namespace foretrain::workloads {

// gelu: the tanh form (GPT-2); gelu_erf: the exact one (Pythia). swiglu_clamped (gpt-oss): gate up to 7 and up within
// +-7, (up + 1) gate sigmoid(1.702 gate). tanh is a classifier's.
enum class Activation : std::uint8_t { gelu, relu, swiglu, geglu, gelu_erf, swiglu_clamped, sigmoid, tanh };
enum class Norm : std::uint8_t { layernorm, rmsnorm };
// relative (T5): logits by the distance between two tokens, from a table of buckets that all layers of a side share.
enum class Positions : std::uint8_t { learned, rotary, none, relative };
// decoder: a token sees itself and those before it, and is to tell the next. encoder: it sees all, and some tokens,
// which are masked, are to be told. encoder_decoder: an encoder reads a sequence, and a decoder, whose layers attend to
// what the encoder makes of it too, is to tell another. linear, mlp: no transformers, but models of features (dense.h).
enum class Architecture : std::uint8_t { decoder, encoder, linear, mlp, encoder_decoder };
// Of a half of a layer: before it, on what it reads (pre), or behind it, on the sum of what it reads and adds (post).
enum class NormPosition : std::uint8_t { pre, post };
// plain: the last norm of a model with norms before, then the product with the vocabulary. masked_lm (BERT): a product
// of hidden x hidden, the activation and a norm, then that product with a bias. classifier (BERT, fine-tuned): of a
// sequence's first token a product of hidden x hidden, tanh, and a product with the classes; sequences are padded, and
// attention sees each one's own tokens alone.
enum class Head : std::uint8_t { plain, masked_lm, classifier };

std::string_view name(Activation a);
std::string_view name(Norm n);
std::string_view name(Positions p);
std::string_view name(Architecture a);
std::string_view name(NormPosition p);
std::string_view name(Head h);
constexpr bool is_gated(Activation a) {
  return a == Activation::swiglu || a == Activation::geglu || a == Activation::swiglu_clamped;
}

// Multi-head latent attention (DeepSeek-V2): q, k and v come from latents of so many columns; a head has nope_dim
// columns that are not rotated beside rope_dim that are, the latter of k shared by all heads, and values of v_dim.
struct Mla {
  std::int64_t q_rank = 0;   // 0: q comes straight from the layer's input
  std::int64_t kv_rank = 0;  // 0: the model has none of all this
  std::int64_t nope_dim = 0, rope_dim = 0, v_dim = 0;
};

// A transformer. Layer:
//   x += proj(attention(qkv(norm1(x))));  x += down(act(up(norm2(x))));  after the last layer: head.
// With parallel_residual (GPT-NeoX, GPT-J): x += proj(attention(qkv(norm1(x)))) + down(act(up(norm2(x)))).
// With norms behind (BERT): x = norm1(x + proj(attention(qkv(x))));  x = norm2(x + down(act(up(x)))).
// Of an encoder and decoder the first encoder_layers are the encoder's, with a norm behind the last of them; the
// decoder's have x += out(attention(q(norm(x)), kv(encoded))) between the two halves. Both sides embed by one table.
struct Model {
  std::string name;
  Architecture architecture = Architecture::decoder;
  std::int64_t layers = 0;          // of an encoder and decoder those of both
  std::int64_t encoder_layers = 0;  // of these the encoder's; 0 in other models
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;  // default hidden / heads
  std::int64_t ffn_hidden = 0;
  std::int64_t vocab = 0;          // as published, before padding
  std::int64_t max_positions = 0;  // rows of a learned position table; 0 otherwise
  Activation activation = Activation::gelu;
  Norm norm = Norm::layernorm;
  NormPosition norm_position = NormPosition::pre;
  bool embedding_norm = false;  // on the sum of the embeddings
  double norm_eps = 1e-5;
  Positions positions = Positions::learned;
  RotaryFrequencies rotary;
  std::int64_t relative_buckets = 32, relative_distance = 128;  // of relative positions, and from where on one bucket
  bool scaled_scores = true;                                    // by 1/sqrt(head_dim); T5's are not
  std::int64_t start_token = 0;    // of an encoder and decoder: what the decoder reads before the first token it tells
  std::int64_t rotary_dim = 0;     // the first columns of a head that are rotated; default head_dim
  bool parallel_residual = false;  // both halves read x
  bool shared_norm = false;        // one norm for both (needs parallel_residual)
  bool qk_norm = false;            // rmsnorm of each head of q and k before the rotation (Qwen3)
  std::int64_t token_types = 0;    // rows of a table of kinds of tokens (BERT's segments); all tokens are of the first
  Head head = Head::plain;
  std::int64_t classes = 0;     // that a classifier tells
  std::int64_t mask_token = 0;  // of an encoder: the id that stands where a masked token stood
  bool tied_embeddings = true;
  bool attention_bias = true;  // on qkv (and on the output projection when output_bias)
  bool output_bias = true;     // on the attention's output projection (qwen2: qkv has one, the output none)
  bool mlp_bias = true;
  std::int64_t attention_window = 0;      // keys a query sees (sliding window), its own among them; 0: all before it
  std::int64_t full_attention_every = 0;  // of so many layers the last sees all (gpt-oss 2, Gemma 3 6); 0: none does
  std::int64_t full_attention_first = 0;  // so many first layers see all (Qwen2)
  bool attention_sinks = false;           // a learned logit per head in the softmax's denominator (gpt-oss)

  Dense dense;  // of linear and mlp; of the above they have layers, hidden and activation, and vocab is outputs

  Mla mla;  // with it kv_heads is heads, head_dim nope_dim + rope_dim

  bool is_encoder() const { return architecture == Architecture::encoder; }
  bool is_classifier() const { return head == Head::classifier; }
  bool is_dense() const { return dense.inputs > 0; }
  std::string_view counted_in() const { return is_dense() ? "samples" : "tokens"; }  // what a batch holds
  // Layers that are alike: an MLP's first one reads features, and stands where an embedding would.
  std::int64_t repeated_layers() const { return is_dense() && layers > 0 ? layers - 1 : layers; }
  bool is_encoder_decoder() const { return architecture == Architecture::encoder_decoder; }
  bool has_cross_attention(std::int64_t layer) const { return is_encoder_decoder() && layer >= encoder_layers; }
  std::int64_t decoder_layers() const { return is_encoder_decoder() ? layers - encoder_layers : 0; }
  bool norms_behind() const { return norm_position == NormPosition::post; }
  bool has_mla() const { return mla.kv_rank > 0; }
  // Keys that a query of this layer sees of `seq_len`; 0: all before it, be there a window or not.
  std::int64_t window(std::int64_t layer, std::int64_t seq_len) const {
    const bool full =
        layer < full_attention_first || (full_attention_every > 0 && (layer + 1) % full_attention_every == 0);
    return full || attention_window >= seq_len ? 0 : attention_window;
  }
  std::int64_t v_dim() const { return has_mla() ? mla.v_dim : head_dim; }
  std::int64_t context_size() const { return heads * v_dim(); }  // of all heads' outputs
  Ssm ssm;                                                       // in place of attention
  std::int64_t ssm_layers() const {
    return ssm.heads > 0 ? layers - static_cast<std::int64_t>(ssm.attention_layers.size()) : 0;
  }
  Moe moe;  // in place of the MLP, in some layers or all

  bool has_experts(std::int64_t layer) const {
    return moe.experts > 0 && layer >= moe.first_dense_layers && (layer + 1) % moe.every == 0;
  }
  std::int64_t moe_layers() const {
    return moe.experts > 0 ? layers / moe.every - moe.first_dense_layers / moe.every : 0;
  }
  std::int64_t dense_layers() const { return layers - moe_layers(); }
  std::int64_t q_size() const { return heads * head_dim; }
  std::int64_t kv_size() const { return kv_heads * head_dim; }
};

// Parameters of one layer with an MLP, of one with experts, both with attention, and of the whole model (unpadded
// vocabulary; tied weights once). Exact. BERT's pooler and sentence head, which masked tokens do not train, are none of
// the model's: it is what the transformers library calls BertForMaskedLM, or with a classifier
// BertForSequenceClassification.
std::int64_t layer_parameters(const Model& m);
std::int64_t moe_layer_parameters(const Model& m);
std::int64_t cross_attention_parameters(const Model& m);  // what a decoder's layer has beside an encoder's
std::int64_t total_parameters(const Model& m);
// Those that one token passes: top_k experts of each layer, all else whole.
std::int64_t active_parameters(const Model& m);

// Of the pairs of tokens that a causal mask shows, those that a window shows, too: 1 - (1 - w/s)^2, 1 for window 0.
double visible_share(std::int64_t window, std::int64_t seq_len);
// The same where sequences are documents of so many tokens (the last one what is left; 0: one document), of which a
// query sees its own.
double visible_share(std::int64_t window, std::int64_t document, std::int64_t seq_len);

// Model FLOPs of one training step, forward and backward, as Megatron counts them (matmuls only, attention not halved,
// no recompute; Korthikanti et al. 2022, eq. 9 generalised to grouped queries and gated MLPs), padded vocabulary not
// counted: the published one is; of experts those that a token passes, and the router. `causal_halved` counts the
// attention products of a decoder at half; a state-space layer's scan counts 7 per token, column and state, as there.
// Layers with a window count what a causal mask shows of the window (visible_share). Of linear and mlp the products of
// forward and backward; features have no gradient. An encoder reads seq_len tokens, and the decoder with it tells
// `target_len`.
double model_flops(const Model& m, std::int64_t sequences, std::int64_t seq_len, bool causal_halved = false,
                   std::int64_t target_len = 0);

}  // namespace foretrain::workloads
