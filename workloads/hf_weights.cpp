#include "workloads/hf_weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace foretrain::workloads {

namespace {

using Rows = std::vector<std::int64_t>;

Rows range(std::int64_t first, std::int64_t count) {
  Rows rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

// Theirs has pairs (2i, 2i + 1) of columns that turn together; ours turns i and i + half.
void from_pairs(Rows& rows, std::int64_t first, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t at = first + i % 2 * (count / 2) + i / 2;
    rows[static_cast<std::size_t>(first + i)] = at;
  }
}

class Mapper {
 public:
  explicit Mapper(const Model& m) : m_(m) {}

  WeightMaps maps() {
    out_.model_type = hf_model_type(m_);
    out_.prefix = prefix();
    if (type() == "bert") {
      bert();
      return std::move(out_);
    }
    if (type() == "t5") {
      t5();
      return std::move(out_);
    }
    const bool gpt2 = type() == "gpt2", neox = type() == "gpt_neox";
    const char* const table = gpt2 ? "wte" : neox ? "embed_in" : "embed_tokens";
    matrix(fmt::format("{}{}.weight", out_.prefix, table), "embedding.table", range(0, m_.vocab), m_.hidden);
    if (m_.positions == Positions::learned) {
      matrix(out_.prefix + "wpe.weight", "embedding.positions", range(0, m_.max_positions), m_.hidden);
    }
    for (std::int64_t i = 0; i < m_.layers; ++i) {
      theirs_ = fmt::format("{}{}.{}.", out_.prefix, gpt2 ? "h" : "layers", i);
      ours_ = fmt::format("layers.{}.", i);
      gpt2 ? gpt2_layer() : neox ? neox_layer() : llama_layer(i);
    }
    theirs_ = out_.prefix;
    ours_ = "head.";
    norm(gpt2 ? "ln_f" : neox ? "final_layer_norm" : "norm", "norm");
    head(neox ? "embed_out.weight" : "lm_head.weight");
    return std::move(out_);
  }

 private:
  const std::string& type() const { return out_.model_type; }
  std::string prefix() const {
    return type() == "gpt2"       ? "transformer."
           : type() == "gpt_neox" ? "gpt_neox."
           : type() == "bert"     ? "bert."
           : type() == "t5"       ? ""
                                  : "model.";
  }

  WeightMap& matrix(const std::string& theirs, const std::string& ours, Rows rows, std::int64_t cols) {
    const std::int64_t count = std::ssize(rows);
    out_.maps.push_back({theirs, {count, cols}, ours, std::move(rows), cols});
    return out_.maps.back();
  }
  WeightMap& vector(const std::string& theirs, const std::string& ours, Rows rows) {
    const std::int64_t count = std::ssize(rows);
    out_.maps.push_back({theirs, {count}, ours, std::move(rows)});
    return out_.maps.back();
  }
  void norm(const std::string& theirs, const std::string& ours) {
    vector(theirs_ + theirs + ".weight", ours_ + ours + ".gain", range(0, m_.hidden));
    if (m_.norm == Norm::layernorm) {
      vector(theirs_ + theirs + ".bias", ours_ + ours + ".bias", range(0, m_.hidden));
    }
  }
  // A product's matrix, of so many of our rows, and its bias.
  void linear(const std::string& theirs, const std::string& ours, const Rows& rows, std::int64_t cols, bool bias) {
    WeightMap& w = matrix(theirs_ + theirs + ".weight", ours_ + ours + ".weight", rows, cols);
    if (type() == "gpt2") {
      std::swap(w.shape[0], w.shape[1]);
      w.transposed = true;
    }
    if (bias) {
      vector(theirs_ + theirs + ".bias", ours_ + ours + ".bias", rows);
    }
  }

  void head(const std::string& theirs) {
    if (m_.tied_embeddings) {
      out_.tied_head = theirs;
    } else {
      matrix(theirs, "head.weight", range(0, m_.vocab), m_.hidden);
    }
  }

  void bert() {
    theirs_ = out_.prefix + "embeddings.";
    ours_ = "embedding.";
    matrix(theirs_ + "word_embeddings.weight", "embedding.table", range(0, m_.vocab), m_.hidden);
    matrix(theirs_ + "position_embeddings.weight", "embedding.positions", range(0, m_.max_positions), m_.hidden);
    matrix(theirs_ + "token_type_embeddings.weight", "embedding.types", range(0, m_.token_types), m_.hidden);
    norm("LayerNorm", "norm");
    for (std::int64_t i = 0; i < m_.layers; ++i) {
      theirs_ = fmt::format("{}encoder.layer.{}.", out_.prefix, i);
      ours_ = fmt::format("layers.{}.", i);
      bert_layer();
    }
    if (m_.is_classifier()) {
      classifier();
      return;
    }
    theirs_ = "cls.predictions.";
    ours_ = "head.";
    vector(theirs_ + "bias", "head.bias", range(0, m_.vocab));
    linear("transform.dense", "dense", range(0, m_.hidden), m_.hidden, true);
    norm("transform.LayerNorm", "norm");
    head("cls.predictions.decoder.weight");
  }

  void classifier() {
    const std::size_t before = out_.maps.size();
    theirs_ = out_.prefix + "pooler.";
    ours_ = "head.";
    linear("dense", "dense", range(0, m_.hidden), m_.hidden, true);
    theirs_ = ours_ = "";
    linear("classifier", "head", range(0, m_.classes), m_.hidden, true);
    std::for_each(out_.maps.begin() + static_cast<std::ptrdiff_t>(before), out_.maps.end(),
                  [](WeightMap& map) { map.may_lack = true; });
  }

  void bert_layer() {
    const std::int64_t q = m_.q_size();
    for (const auto& [name, first] :
         {std::pair{"query", std::int64_t{0}}, std::pair{"key", q}, std::pair{"value", 2 * q}}) {
      linear(std::string("attention.self.") + name, "attention.qkv", range(first, q), m_.hidden, m_.attention_bias);
    }
    linear("attention.output.dense", "attention.out", range(0, m_.hidden), m_.context_size(), m_.output_bias);
    norm("attention.output.LayerNorm", "norm1");
    linear("intermediate.dense", "mlp.up", range(0, m_.ffn_hidden), m_.hidden, m_.mlp_bias);
    linear("output.dense", "mlp.down", range(0, m_.hidden), m_.ffn_hidden, m_.mlp_bias);
    norm("output.LayerNorm", "norm2");
  }

  // A tied table's product reads the last norm's output divided by the root of hidden, in the library's code.
  void t5() {
    matrix("shared.weight", "embedding.table", range(0, m_.vocab), m_.hidden);
    for (const std::string side : {"encoder", "decoder"}) {
      const bool decodes = side == "decoder";
      for (std::int64_t i = 0; i < (decodes ? m_.decoder_layers() : m_.encoder_layers); ++i) {
        ours_ = fmt::format("layers.{}.", decodes ? m_.encoder_layers + i : i);
        const std::string block = fmt::format("{}.block.{}.layer.", side, i);
        theirs_ = block + "0.";
        t5_attention("SelfAttention.", "attention.qkv", 0, "attention.qkv", m_.q_size(), "attention.out");
        if (i == 0) {
          WeightMap& w = matrix(theirs_ + "SelfAttention.relative_attention_bias.weight",
                                fmt::format("embedding.{}_bias", side), range(0, m_.heads), m_.relative_buckets);
          std::swap(w.shape[0], w.shape[1]);
          w.transposed = true;
        }
        norm("layer_norm", "norm1");
        if (decodes) {
          theirs_ = block + "1.";
          t5_attention("EncDecAttention.", "cross.q", 0, "cross.kv", 0, "cross.out");
          norm("layer_norm", "cross.norm");
        }
        theirs_ = block + (decodes ? "2." : "1.");
        if (is_gated(m_.activation)) {
          gated_mlp("DenseReluDense.", "mlp", m_.ffn_hidden, false, 0, {"wi_0", "wi_1", "wo"});
        } else {
          linear("DenseReluDense.wi", "mlp.up", range(0, m_.ffn_hidden), m_.hidden, false);
          linear("DenseReluDense.wo", "mlp.down", range(0, m_.hidden), m_.ffn_hidden, false);
        }
        norm("layer_norm", "norm2");
      }
      theirs_ = side + ".";
      ours_ = decodes ? "head." : "embedding.";
      norm("final_layer_norm", decodes ? "norm" : "encoder_norm");
    }
    out_.maps.back().scale = m_.tied_embeddings ? 1 / std::sqrt(static_cast<double>(m_.hidden)) : 1.0;
    head("lm_head.weight");
  }

  void t5_attention(const std::string& theirs, const std::string& q, std::int64_t first_q, const std::string& kv,
                    std::int64_t first_kv, const std::string& out) {
    linear(theirs + "q", q, range(first_q, m_.q_size()), m_.hidden, false);
    linear(theirs + "k", kv, range(first_kv, m_.kv_size()), m_.hidden, false);
    linear(theirs + "v", kv, range(first_kv + m_.kv_size(), m_.kv_size()), m_.hidden, false);
    linear(theirs + "o", out, range(0, m_.hidden), m_.context_size(), false);
  }

  void gpt2_layer() {
    norm("ln_1", "norm1");
    linear("attn.c_attn", "attention.qkv", range(0, qkv()), m_.hidden, m_.attention_bias);
    linear("attn.c_proj", "attention.out", range(0, m_.hidden), m_.context_size(), m_.output_bias);
    norm("ln_2", "norm2");
    linear("mlp.c_fc", "mlp.up", range(0, m_.ffn_hidden), m_.hidden, m_.mlp_bias);
    linear("mlp.c_proj", "mlp.down", range(0, m_.hidden), m_.ffn_hidden, m_.mlp_bias);
  }

  void neox_layer() {
    norm("input_layernorm", "norm1");
    norm("post_attention_layernorm", "norm2");
    Rows by_head;
    for (std::int64_t head = 0; head < m_.heads; ++head) {
      for (std::int64_t part = 0; part < 3; ++part) {
        const Rows rows = range(part * m_.q_size() + head * m_.head_dim, m_.head_dim);
        by_head.insert(by_head.end(), rows.begin(), rows.end());
      }
    }
    linear("attention.query_key_value", "attention.qkv", by_head, m_.hidden, m_.attention_bias);
    linear("attention.dense", "attention.out", range(0, m_.hidden), m_.context_size(), m_.output_bias);
    linear("mlp.dense_h_to_4h", "mlp.up", range(0, m_.ffn_hidden), m_.hidden, m_.mlp_bias);
    linear("mlp.dense_4h_to_h", "mlp.down", range(0, m_.hidden), m_.ffn_hidden, m_.mlp_bias);
  }

  void llama_layer(std::int64_t layer) {
    norm("input_layernorm", "norm1");
    m_.has_mla() ? latent_attention() : attention();
    norm("post_attention_layernorm", "norm2");
    if (!m_.has_experts(layer)) {
      gated_mlp("mlp.", "mlp", m_.ffn_hidden, m_.mlp_bias);
    } else if (type() == "gpt_oss") {
      stacked_experts();
    } else {
      experts();
    }
  }

  void attention() {
    const std::int64_t q = m_.q_size(), kv = m_.kv_size();
    linear("self_attn.q_proj", "attention.qkv", range(0, q), m_.hidden, m_.attention_bias);
    linear("self_attn.k_proj", "attention.qkv", range(q, kv), m_.hidden, m_.attention_bias);
    linear("self_attn.v_proj", "attention.qkv", range(q + kv, kv), m_.hidden, m_.attention_bias);
    linear("self_attn.o_proj", "attention.out", range(0, m_.hidden), m_.context_size(), m_.output_bias);
    if (m_.qk_norm) {
      for (const std::string which : {"q_norm", "k_norm"}) {
        vector(theirs_ + "self_attn." + which + ".weight", ours_ + "attention." + which + ".gain",
               range(0, m_.head_dim));
      }
    }
    if (m_.attention_sinks) {
      vector(theirs_ + "self_attn.sinks", ours_ + "attention.sinks", range(0, m_.heads));
    }
  }

  void latent_attention() {
    const Mla& a = m_.mla;
    Rows q = range(0, m_.q_size()), kv_down = range(0, a.kv_rank + a.rope_dim);
    for (std::int64_t head = 0; head < m_.heads; ++head) {
      from_pairs(q, head * m_.head_dim + a.nope_dim, a.rope_dim);
    }
    from_pairs(kv_down, a.kv_rank, a.rope_dim);
    if (a.q_rank > 0) {
      linear("self_attn.q_a_proj", "attention.q_down", range(0, a.q_rank), m_.hidden, false);
      vector(theirs_ + "self_attn.q_a_layernorm.weight", ours_ + "attention.q_norm.gain", range(0, a.q_rank));
      linear("self_attn.q_b_proj", "attention.q_up", q, a.q_rank, false);
    } else {
      linear("self_attn.q_proj", "attention.q", q, m_.hidden, false);
    }
    linear("self_attn.kv_a_proj_with_mqa", "attention.kv_down", kv_down, m_.hidden, false);
    vector(theirs_ + "self_attn.kv_a_layernorm.weight", ours_ + "attention.kv_norm.gain", range(0, a.kv_rank));
    linear("self_attn.kv_b_proj", "attention.kv_up", range(0, m_.heads * (a.nope_dim + a.v_dim)), a.kv_rank, false);
    linear("self_attn.o_proj", "attention.out", range(0, m_.hidden), m_.context_size(), false);
  }

  // gate_proj, up_proj and down_proj; of an expert, its rows among all.
  void gated_mlp(const std::string& theirs, const std::string& ours, std::int64_t width, bool bias,
                 std::int64_t expert = 0,
                 const std::vector<std::string>& names = {"gate_proj", "up_proj", "down_proj"}) {
    linear(theirs + names[0], ours + ".up", range(expert * 2 * width, width), m_.hidden, bias);
    linear(theirs + names[1], ours + ".up", range((expert * 2 + 1) * width, width), m_.hidden, bias);
    linear(theirs + names[2], ours + ".down", range(expert * m_.hidden, m_.hidden), width, bias);
  }

  void experts() {
    const Moe& moe = m_.moe;
    const bool mixtral = type() == "mixtral", deepseek = m_.has_mla();
    const std::string place = mixtral ? "block_sparse_moe." : "mlp.";
    linear(place + "gate", "moe.router", range(0, moe.experts), m_.hidden, false);
    if (moe.expert_bias) {
      vector(theirs_ + place + "gate.e_score_correction_bias", "", range(0, moe.experts));
    }
    for (std::int64_t e = 0; e < moe.experts; ++e) {
      const std::vector<std::string> names = mixtral ? std::vector<std::string>{"w1", "w3", "w2"}
                                                     : std::vector<std::string>{"gate_proj", "up_proj", "down_proj"};
      gated_mlp(fmt::format("{}experts.{}.", place, e), "experts", moe.ffn_hidden, false, e, names);
    }
    if (moe.shared_width() > 0) {
      gated_mlp(place + (deepseek ? "shared_experts." : "shared_expert."), "moe.shared", moe.shared_width(), false);
    }
    if (moe.shared_gate) {
      linear(place + "shared_expert_gate", "moe.shared_gate", range(0, 1), m_.hidden, false);
    }
  }

  void stacked_experts() {
    const std::int64_t experts = m_.moe.experts, f = m_.moe.ffn_hidden;
    linear("mlp.router", "moe.router", range(0, experts), m_.hidden, m_.moe.bias);
    Rows in_turn;
    for (std::int64_t e = 0; e < experts; ++e) {
      for (std::int64_t i = 0; i < 2 * f; ++i) {
        in_turn.push_back((e * 2 + i % 2) * f + i / 2);
      }
    }
    const auto stack = [&](WeightMap& w, std::vector<std::int64_t> shape) {
      w.shape = std::move(shape);
      w.blocks = experts;
      w.transposed = true;
    };
    stack(matrix(theirs_ + "mlp.experts.gate_up_proj", ours_ + "experts.up.weight", in_turn, m_.hidden),
          {experts, m_.hidden, 2 * f});
    vector(theirs_ + "mlp.experts.gate_up_proj_bias", ours_ + "experts.up.bias", in_turn).shape = {experts, 2 * f};
    stack(matrix(theirs_ + "mlp.experts.down_proj", ours_ + "experts.down.weight", range(0, experts * m_.hidden), f),
          {experts, f, m_.hidden});
    matrix(theirs_ + "mlp.experts.down_proj_bias", ours_ + "experts.down.bias", range(0, experts), m_.hidden);
  }

  std::int64_t qkv() const { return m_.q_size() + 2 * m_.kv_size(); }

  const Model& m_;
  std::string theirs_, ours_;  // what the names of this layer begin with
  WeightMaps out_;
};

}  // namespace

WeightMaps weight_maps(const Model& model) {
  return Mapper(model).maps();
}

std::string old_name(const std::string& theirs) {
  for (const auto& [now, before] :
       {std::pair{"LayerNorm.weight", "LayerNorm.gamma"}, std::pair{"LayerNorm.bias", "LayerNorm.beta"}}) {
    if (theirs.ends_with(now)) {
      return theirs.substr(0, theirs.size() - std::string_view(now).size()) + before;
    }
  }
  return theirs;
}

bool is_no_weight(std::string_view theirs, const Model& model) {
  if (model.is_encoder_decoder()) {  // the shared table again; a bias that early versions had and never used
    return theirs.ends_with(".embed_tokens.weight") ||
           theirs.ends_with(".EncDecAttention.relative_attention_bias.weight");
  }
  if (model.is_encoder()) {
    if (model.is_classifier()) {
      return theirs.ends_with("embeddings.position_ids") || theirs.starts_with("cls.");
    }
    return theirs.ends_with("embeddings.position_ids") || theirs.ends_with("pooler.dense.weight") ||
           theirs.ends_with("pooler.dense.bias") || theirs.starts_with("cls.seq_relationship.") ||
           theirs == "cls.predictions.decoder.bias";  // the same as cls.predictions.bias
  }
  for (const char* end :
       {".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"}) {
    if (theirs.ends_with(end)) {
      return true;
    }
  }
  return model.has_mla() && theirs.starts_with(fmt::format("model.layers.{}.", model.layers));
}

}  // namespace foretrain::workloads
