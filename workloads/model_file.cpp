#include "workloads/model_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "workloads/dense_file.h"
#include "workloads/hf_config.h"
#include "workloads/moe_file.h"

namespace foretrain::workloads {

namespace {

// Sizes beyond any model; they keep products of three of them inside a double's and most inside an int64's range.
constexpr std::int64_t kMaxLayers = 10'000;
constexpr std::int64_t kMaxWidth = 10'000'000;
constexpr std::int64_t kMaxVocab = 100'000'000;
constexpr std::int64_t kMaxPositions = 10'000'000;
constexpr double kMaxParameters = 1e17;

// Stands in for a model that could not be read, so that the other mistakes of the job are found too.
Model placeholder() {
  Model m;
  m.layers = m.heads = m.kv_heads = 1;
  m.hidden = m.head_dim = m.ffn_hidden = m.vocab = 64;
  m.positions = Positions::none;
  return m;
}

Activation activation_of(const std::string& word) {
  return word == "relu"             ? Activation::relu
         : word == "swiglu"         ? Activation::swiglu
         : word == "geglu"          ? Activation::geglu
         : word == "gelu_erf"       ? Activation::gelu_erf
         : word == "swiglu_clamped" ? Activation::swiglu_clamped
                                    : Activation::gelu;
}

Mla read_mla(ObjectReader& reader) {
  Mla a;
  ObjectReader object = reader.object("mla", /*required=*/false);
  if (!object.present()) {
    return a;
  }
  a.q_rank = object.integer("q_rank", 0, 0, kMaxWidth);
  a.kv_rank = object.integer("kv_rank", std::nullopt, 1, kMaxWidth);
  a.nope_dim = object.integer("nope_dim", std::nullopt, 1, kMaxWidth);
  a.rope_dim = object.integer("rope_dim", std::nullopt, 2, kMaxWidth);
  a.v_dim = object.integer("v_dim", std::nullopt, 1, kMaxWidth);
  object.finish();
  return a;
}

RotaryFrequencies read_rotary(ObjectReader& reader) {
  RotaryFrequencies f(reader.number("rotary_base", 10000.0, 1, 1e12));
  ObjectReader object = reader.object("rotary_scaling", /*required=*/false);
  if (!object.present()) {
    return f;
  }
  f.factor = object.number("factor", std::nullopt, 1, 1e6);
  f.low = object.number("low", f.low, 0, 1e6);
  f.high = object.number("high", f.high, 0, 1e6);
  f.original_positions = object.number("original_positions", std::nullopt, 1, 1e12);
  if (f.high <= f.low) {
    object.mistake("high", fmt::format("{} turns are no more than low, {}", f.high, f.low));
  }
  object.finish();
  return f;
}

Ssm read_ssm(ObjectReader& reader, std::int64_t layers) {
  Ssm s;
  ObjectReader object = reader.object("ssm", /*required=*/false);
  if (!object.present()) {
    return s;
  }
  s.heads = object.integer("heads", std::nullopt, 1, kMaxWidth);
  s.head_dim = object.integer("head_dim", s.head_dim, 1, kMaxWidth);
  s.state = object.integer("state", s.state, 1, kMaxWidth);
  s.groups = object.integer("groups", s.groups, 1, kMaxWidth);
  s.conv = object.integer("conv", s.conv, 1, kMaxWidth);
  s.chunk = object.integer("chunk", s.chunk, 1, kMaxWidth);
  s.attention_layers = object.integers("attention_layers", 0);
  if (s.heads % s.groups != 0) {
    object.mistake("groups", fmt::format("{} do not divide {} heads", s.groups, s.heads));
  }
  for (std::size_t i = 0; i < s.attention_layers.size(); ++i) {
    if (s.attention_layers[i] >= layers || (i > 0 && s.attention_layers[i] <= s.attention_layers[i - 1])) {
      object.mistake("attention_layers",
                     fmt::format("{} is not allowed; expected rising numbers below {}", s.attention_layers[i], layers));
      break;
    }
  }
  object.finish();
  return s;
}

// What latent attention leaves no choice in.
void check_mla(const Model& m, ObjectReader& reader) {
  const Mla& a = m.mla;
  if (m.head_dim != a.nope_dim + a.rope_dim || m.kv_heads != m.heads) {
    reader.mistake("mla", fmt::format("head_dim {} and kv_heads {}; with mla they are nope_dim + rope_dim = {} and "
                                      "heads {}",
                                      m.head_dim, m.kv_heads, a.nope_dim + a.rope_dim, m.heads));
  }
  if (a.rope_dim % 2 != 0) {
    reader.mistake("mla", fmt::format("rotary positions need an even rope_dim, not {}", a.rope_dim));
  }
  if (m.positions != Positions::rotary) {
    reader.mistake("mla", fmt::format("needs rotary positions, not {}", name(m.positions)));
  }
  if (m.attention_bias || m.output_bias || m.qk_norm || m.parallel_residual || m.attention_sinks) {
    reader.mistake("mla",
                   "attention_bias, output_bias, qk_norm, parallel_residual and attention_sinks are not built with it; "
                   "expected false");
  }
}

// What is not built of norms, heads and encoders.
void check_ends(const Model& m, ObjectReader& reader) {
  if (m.norms_behind() && (m.parallel_residual || m.has_mla() || m.ssm.heads > 0 || m.moe.experts > 0)) {
    reader.mistake("", "norms behind (norm_position post) are not built with parallel_residual, mla, ssm or moe");
  }
  if (m.norms_behind() != (m.head != Head::plain)) {
    reader.mistake("",
                   fmt::format("a head \"{}\" with norm_position \"{}\" is not built yet; expected plain with pre, or "
                               "masked_lm with post",
                               name(m.head), name(m.norm_position)));
  }
  if (m.is_classifier() && !m.is_encoder()) {
    reader.mistake("", "the head classifier is of an encoder, whose first token sees all others");
  }
  if (m.is_classifier() && m.tied_embeddings) {
    reader.mistake("", "tied_embeddings: a classifier has no product with the vocabulary; expected false");
  }
  if (m.head == Head::masked_lm && is_gated(m.activation)) {
    reader.mistake("", fmt::format("the masked_lm head has the layers' activation, and {} is gated; expected gelu_erf, "
                                   "gelu or relu",
                                   name(m.activation)));
  }
  if (!m.is_encoder()) {
    return;
  }
  if (m.attention_window != 0 || m.ssm.heads > 0) {
    reader.mistake("", "attention_window and ssm look at what came before; an encoder sees all tokens of a sequence");
  }
  if (m.mask_token >= m.vocab) {
    reader.mistake("", fmt::format("mask_token {} is no id of a vocabulary of {}", m.mask_token, m.vocab));
  }
}

// What is not built with an encoder and a decoder, and what nothing else has.
void check_sides(const Model& m, ObjectReader& reader) {
  if (m.positions == Positions::relative &&
      (m.relative_buckets < 8 || m.relative_buckets % 2 != 0 || m.relative_distance <= m.relative_buckets / 2)) {
    reader.mistake("", fmt::format("{} relative_buckets up to a relative_distance of {}; expected an even number of 8 "
                                   "at least, and a distance of more than its half",
                                   m.relative_buckets, m.relative_distance));
  }
  if (!m.is_encoder_decoder()) {
    if (m.positions == Positions::relative || !m.scaled_scores) {
      reader.mistake("", "relative positions and scores without scale are built for an encoder_decoder");
    }
    return;
  }
  if (m.encoder_layers >= m.layers) {
    reader.mistake("",
                   fmt::format("encoder_layers {} of {} layers leave none to the decoder", m.encoder_layers, m.layers));
  }
  if (m.start_token >= m.vocab) {
    reader.mistake("", fmt::format("start_token {} is no id of a vocabulary of {}", m.start_token, m.vocab));
  }
  const std::pair<const char*, bool> others[] = {{"norm_position post", m.norms_behind()},
                                                 {"head masked_lm", m.head == Head::masked_lm},
                                                 {"embedding_norm", m.embedding_norm},
                                                 {"token_types", m.token_types > 0},
                                                 {"parallel_residual", m.parallel_residual},
                                                 {"qk_norm", m.qk_norm},
                                                 {"attention_window", m.attention_window > 0},
                                                 {"attention_sinks", m.attention_sinks},
                                                 {"mla", m.has_mla()},
                                                 {"ssm", m.ssm.heads > 0},
                                                 {"moe", m.moe.experts > 0},
                                                 {"rotary positions", m.positions == Positions::rotary}};
  for (const auto& [what, has] : others) {
    if (has) {
      reader.mistake("", fmt::format("{} is not built with an encoder_decoder", what));
    }
  }
}

// Where an encoder is another by default: BERT's.
void read_ends(ObjectReader& reader, Model& m) {
  const bool encoder = m.is_encoder();
  const bool post = reader.word("norm_position", encoder ? "post" : "pre", {"pre", "post"}) == "post";
  m.norm_position = post ? NormPosition::post : NormPosition::pre;
  m.embedding_norm = reader.boolean("embedding_norm", encoder);
  m.token_types = reader.integer("token_types", encoder ? 2 : 0, 0, kMaxWidth);
  const std::string head = reader.word("head", post ? "masked_lm" : "plain", {"plain", "masked_lm", "classifier"});
  m.head = head == "plain" ? Head::plain : head == "masked_lm" ? Head::masked_lm : Head::classifier;
  if (m.is_classifier()) {
    m.classes = reader.integer("classes", 2, 2, kMaxWidth);
  }
  if (encoder) {
    m.mask_token = reader.integer("mask_token", std::max<std::int64_t>(1, m.vocab) - 1, 0, kMaxVocab);
  }
}

Model read_object(ObjectReader& reader, const std::string& fallback_name, std::int64_t seq_len) {
  Model m;
  reader.integer("version", 1, 1, 1);
  m.name = reader.text("name", fallback_name);
  reader.text("description", "");
  reader.text("source", "");
  const std::string architecture =
      reader.word("architecture", "decoder", {"decoder", "encoder", "encoder_decoder", "linear", "mlp"});
  if (architecture == "linear" || architecture == "mlp") {
    read_dense(reader, architecture == "mlp", m);
    reader.finish();
    return m;
  }
  const bool encoder = architecture == "encoder", both = architecture == "encoder_decoder";
  m.architecture = encoder ? Architecture::encoder : both ? Architecture::encoder_decoder : Architecture::decoder;
  m.layers = reader.integer("layers", std::nullopt, 1, kMaxLayers);
  if (both) {
    m.encoder_layers = reader.integer("encoder_layers", m.layers / 2, 1, kMaxLayers);
    m.start_token = reader.integer("start_token", 0, 0, kMaxVocab);
  }
  m.hidden = reader.integer("hidden", std::nullopt, 1, kMaxWidth);
  m.heads = reader.integer("heads", std::nullopt, 1, kMaxWidth);
  m.kv_heads = reader.integer("kv_heads", m.heads, 1, kMaxWidth);
  m.mla = read_mla(reader);
  if (!m.has_mla() && !reader.has("head_dim") && m.hidden % m.heads != 0) {
    reader.mistake("heads", fmt::format("{} heads do not divide hidden {}; set head_dim", m.heads, m.hidden));
  }
  const std::int64_t own_dim = m.has_mla() ? m.mla.nope_dim + m.mla.rope_dim : m.hidden / m.heads;
  m.head_dim = reader.integer("head_dim", std::max<std::int64_t>(1, own_dim), 1, kMaxWidth);
  m.activation = activation_of(reader.word("activation", encoder ? "gelu_erf" : "gelu",
                                           {"gelu", "relu", "swiglu", "geglu", "gelu_erf", "swiglu_clamped"}));
  m.moe = read_moe(reader, "moe", m.layers);
  // Four times hidden is the convention of plain MLPs; gated ones have none. Without a dense layer nobody reads it.
  const auto ffn_default = m.dense_layers() == 0    ? std::optional(m.moe.ffn_hidden)
                           : is_gated(m.activation) ? std::nullopt
                                                    : std::optional(4 * m.hidden);
  m.ffn_hidden = reader.integer("ffn_hidden", ffn_default, 1, 4 * kMaxWidth);
  m.vocab = reader.integer("vocab", std::nullopt, 1, kMaxVocab);
  const bool layernorm = reader.word("norm", "layernorm", {"layernorm", "rmsnorm"}) == "layernorm";
  m.norm = layernorm ? Norm::layernorm : Norm::rmsnorm;
  m.norm_eps = reader.number("norm_eps", encoder ? 1e-12 : 1e-5, 1e-12, 1);
  read_ends(reader, m);
  const std::string positions = reader.word("positions",
                                            layernorm ? "learned"
                                            : both    ? "relative"
                                                      : "rotary",
                                            {"learned", "rotary", "none", "relative"}, {"alibi"});
  m.positions = positions == "learned"    ? Positions::learned
                : positions == "rotary"   ? Positions::rotary
                : positions == "relative" ? Positions::relative
                                          : Positions::none;
  m.relative_buckets = reader.integer("relative_buckets", m.relative_buckets, 4, kMaxPositions);
  m.relative_distance = reader.integer("relative_distance", m.relative_distance, 2, kMaxPositions);
  m.scaled_scores = reader.boolean("scaled_scores", m.positions != Positions::relative);
  m.max_positions = reader.integer("max_positions", m.positions == Positions::learned ? seq_len : 0, 0, kMaxPositions);
  m.rotary = read_rotary(reader);
  m.rotary_dim = reader.integer("rotary_dim", m.head_dim, 1, kMaxWidth);
  m.parallel_residual = reader.boolean("parallel_residual", false);
  m.shared_norm = reader.boolean("shared_norm", false);
  m.qk_norm = reader.boolean("qk_norm", false);
  m.tied_embeddings = reader.boolean("tied_embeddings", (layernorm || both) && !m.is_classifier());
  m.attention_bias = reader.boolean("attention_bias", layernorm);
  m.output_bias = reader.boolean("output_bias", m.attention_bias);
  m.mlp_bias = reader.boolean("mlp_bias", layernorm && m.moe.experts == 0);
  m.attention_window = reader.integer("attention_window", 0, 0);
  m.ssm = read_ssm(reader, m.layers);
  m.full_attention_every = reader.integer("full_attention_every", 0, 0, kMaxLayers);
  m.full_attention_first = reader.integer("full_attention_first", 0, 0, kMaxLayers);
  m.attention_sinks = reader.boolean("attention_sinks", false);
  check_model(m, reader);
  reader.finish();
  return m;
}

Model read_document(const JsonDocument& document, Mistakes& mistakes, std::int64_t seq_len) {
  if (is_hf_config(document)) {
    return import_hf_config(document, mistakes);
  }
  ObjectReader reader(document, mistakes);
  return reader.present() ? read_object(reader, document.origin(), seq_len) : placeholder();
}

}  // namespace

void check_model(const Model& m, ObjectReader& reader) {
  if (m.heads % m.kv_heads != 0) {
    reader.mistake("", fmt::format("{} kv_heads do not divide {} heads", m.kv_heads, m.heads));
  }
  if (m.positions == Positions::rotary && m.rotary_dim % 2 != 0) {
    reader.mistake("", fmt::format("rotary positions need an even {}, not {}",
                                   m.rotary_dim == m.head_dim ? "head_dim" : "rotary_dim", m.rotary_dim));
  }
  if (m.rotary_dim > m.head_dim) {
    reader.mistake("", fmt::format("rotary_dim {} is more than head_dim {}", m.rotary_dim, m.head_dim));
  }
  if (m.has_mla()) {
    check_mla(m, reader);
  }
  if (m.attention_window == 0 && (m.full_attention_every != 0 || m.full_attention_first != 0)) {
    reader.mistake("",
                   "full_attention_every and full_attention_first say which layers have no attention_window; "
                   "without one they are 0");
  }
  if (m.ssm.heads > 0 && (m.has_mla() || m.parallel_residual)) {
    reader.mistake("ssm", "mla and parallel_residual are not built with it");
  }
  check_ends(m, reader);
  check_sides(m, reader);
  if (m.shared_norm && !m.parallel_residual) {
    reader.mistake("", "shared_norm needs parallel_residual: else the halves of a layer read different inputs");
  }
  if (m.moe.experts > 0 && m.mlp_bias) {
    reader.mistake("", "mlp_bias with moe is not built yet; expected mlp_bias false");
  }
  if (m.positions == Positions::learned && m.max_positions < 1) {
    reader.mistake("", "learned positions need max_positions >= 1");
  }
  const double h = static_cast<double>(m.hidden);
  const double q = static_cast<double>(m.heads) * static_cast<double>(m.head_dim);
  const double kv = static_cast<double>(m.kv_heads) * static_cast<double>(m.head_dim);
  const double parameters = static_cast<double>(m.layers) * h *
                                (2 * q + 2 * kv + 3 * static_cast<double>(m.ffn_hidden) +
                                 3 * static_cast<double>(m.moe.experts) * static_cast<double>(m.moe.ffn_hidden) +
                                 3 * static_cast<double>(m.moe.shared_width())) +
                            h * (2 * static_cast<double>(m.vocab) + static_cast<double>(m.max_positions) +
                                 static_cast<double>(m.token_types));
  if (parameters > kMaxParameters) {
    reader.mistake(
        "", fmt::format("a model of about {:.1g} parameters; expected at most {:.0g}", parameters, kMaxParameters));
  }
}

Model read_model(ObjectReader& reader, const std::string& key, std::int64_t seq_len) {
  const nlohmann::json* value = reader.raw(key);
  if (value == nullptr || !value->is_string()) {
    ObjectReader object = reader.object(key);  // records what is wrong with anything but an object
    return object.present() ? read_object(object, "inline", seq_len) : placeholder();
  }
  const auto word = value->get<std::string>();
  try {
    const std::string path =
        is_catalogue_name(word) ? catalogue_path(kModelFolder, "model", word) : reader.file_path(key, word);
    const JsonDocument document = JsonDocument::from_file(path);
    return read_document(document, reader.mistakes(), seq_len);
  } catch (const InputError& e) {
    reader.mistake(key, e.what());
    return placeholder();
  }
}

Model load_model(const std::string& path) {
  const JsonDocument document = JsonDocument::from_file(path);
  Mistakes mistakes;
  Model model = read_document(document, mistakes, 0);
  mistakes.throw_if_any();
  return model;
}

nlohmann::json to_json(const Model& m) {
  if (m.is_dense()) {
    return dense_to_json(m);
  }
  nlohmann::json json{{"name", m.name},
                      {"architecture", name(m.architecture)},
                      {"layers", m.layers},
                      {"hidden", m.hidden},
                      {"heads", m.heads},
                      {"kv_heads", m.kv_heads},
                      {"head_dim", m.head_dim},
                      {"ffn_hidden", m.ffn_hidden},
                      {"vocab", m.vocab},
                      {"activation", name(m.activation)},
                      {"norm", name(m.norm)},
                      {"norm_position", name(m.norm_position)},
                      {"embedding_norm", m.embedding_norm},
                      {"norm_eps", m.norm_eps},
                      {"positions", name(m.positions)},
                      {"max_positions", m.max_positions},
                      {"rotary_base", m.rotary.base},
                      {"rotary_dim", m.rotary_dim},
                      {"parallel_residual", m.parallel_residual},
                      {"shared_norm", m.shared_norm},
                      {"qk_norm", m.qk_norm},
                      {"token_types", m.token_types},
                      {"head", name(m.head)},
                      {"tied_embeddings", m.tied_embeddings},
                      {"attention_bias", m.attention_bias},
                      {"output_bias", m.output_bias},
                      {"mlp_bias", m.mlp_bias},
                      {"attention_window", m.attention_window},
                      {"full_attention_every", m.full_attention_every},
                      {"full_attention_first", m.full_attention_first},
                      {"attention_sinks", m.attention_sinks}};
  if (m.is_encoder()) {
    json["mask_token"] = m.mask_token;
  }
  if (m.is_classifier()) {
    json["classes"] = m.classes;
  }
  if (m.is_encoder_decoder()) {
    json["encoder_layers"] = m.encoder_layers;
    json["start_token"] = m.start_token;
    json["relative_buckets"] = m.relative_buckets;
    json["relative_distance"] = m.relative_distance;
    json["scaled_scores"] = m.scaled_scores;
  }
  if (m.rotary.are_scaled()) {
    json["rotary_scaling"] = {{"factor", m.rotary.factor},
                              {"low", m.rotary.low},
                              {"high", m.rotary.high},
                              {"original_positions", m.rotary.original_positions}};
  }
  if (m.has_mla()) {
    json["mla"] = {{"q_rank", m.mla.q_rank},
                   {"kv_rank", m.mla.kv_rank},
                   {"nope_dim", m.mla.nope_dim},
                   {"rope_dim", m.mla.rope_dim},
                   {"v_dim", m.mla.v_dim}};
  }
  if (m.ssm.heads > 0) {
    json["ssm"] = {{"heads", m.ssm.heads},
                   {"head_dim", m.ssm.head_dim},
                   {"state", m.ssm.state},
                   {"groups", m.ssm.groups},
                   {"conv", m.ssm.conv},
                   {"chunk", m.ssm.chunk},
                   {"attention_layers", m.ssm.attention_layers}};
  }
  if (m.moe.experts > 0) {
    json["moe"] = to_json(m.moe);
  }
  return json;
}

}  // namespace foretrain::workloads
