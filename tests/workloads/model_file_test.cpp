#include "workloads/model_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace foretrain::workloads {
namespace {

using test::message_of;

Model read(const std::string& model, std::int64_t seq_len = 16) {
  const JsonDocument document = JsonDocument::from_text("{\"model\": " + model + "}", "job.json");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  Model m = read_model(reader, "model", seq_len);
  mistakes.throw_if_any();
  return m;
}

TEST(ModelFile, DefaultsOfAPlainModel) {
  const Model m = read(R"({"layers": 2, "hidden": 64, "heads": 4, "vocab": 256})");
  EXPECT_EQ(m.name, "inline");
  EXPECT_EQ(m.kv_heads, 4);
  EXPECT_EQ(m.head_dim, 16);
  EXPECT_EQ(m.ffn_hidden, 256);
  EXPECT_EQ(m.activation, Activation::gelu);
  EXPECT_EQ(m.norm, Norm::layernorm);
  EXPECT_EQ(m.positions, Positions::learned);
  EXPECT_EQ(m.max_positions, 16);  // the job's seq_len
  EXPECT_TRUE(m.tied_embeddings && m.attention_bias && m.output_bias && m.mlp_bias);
}

TEST(ModelFile, DefaultsFollowTheNorm) {
  const Model m = read(R"({"layers": 2, "hidden": 64, "heads": 4, "vocab": 256, "norm": "rmsnorm",
                           "activation": "swiglu", "ffn_hidden": 128})");
  EXPECT_EQ(m.positions, Positions::rotary);
  EXPECT_EQ(m.max_positions, 0);
  EXPECT_FALSE(m.tied_embeddings || m.attention_bias || m.output_bias || m.mlp_bias);
}

TEST(ModelFile, DefaultsOfAnEncoderAreThoseOfBert) {
  const Model m = read(R"({"architecture": "encoder", "layers": 2, "hidden": 64, "heads": 4, "vocab": 256})");
  EXPECT_TRUE(m.is_encoder() && m.norms_behind() && m.embedding_norm && m.tied_embeddings);
  EXPECT_EQ(m.head, Head::masked_lm);
  EXPECT_EQ(m.activation, Activation::gelu_erf);
  EXPECT_EQ(m.norm_eps, 1e-12);
  EXPECT_EQ(m.token_types, 2);
  EXPECT_EQ(m.mask_token, 255);  // the last id
}

TEST(ModelFile, DefaultsOfAnEncoderAndDecoder) {
  const std::string shape = R"("architecture": "encoder_decoder", "layers": 6, "hidden": 64, "heads": 4, "vocab": 256)";
  const Model plain = read("{" + shape + "}"), t5 = read("{" + shape + R"(, "norm": "rmsnorm"})");
  EXPECT_EQ(plain.encoder_layers, 3);
  EXPECT_TRUE(plain.tied_embeddings && t5.tied_embeddings && plain.scaled_scores && !t5.scaled_scores);
  EXPECT_EQ(plain.positions, Positions::learned);
  EXPECT_EQ(t5.positions, Positions::relative);
  EXPECT_EQ(t5.relative_buckets, 32);
  EXPECT_EQ(message_of([&] {
              read("{" + shape + R"(, "encoder_layers": 6, "qk_norm": true, "positions": "relative",
"relative_buckets": 20, "relative_distance": 10, "start_token": 256})");
            }),
            "job.json:1: /model: 20 relative_buckets up to a relative_distance of 10; expected an even number of 8 at "
            "least, and a distance of more than its half\n"
            "job.json:1: /model: encoder_layers 6 of 6 layers leave none to the decoder\n"
            "job.json:1: /model: start_token 256 is no id of a vocabulary of 256\n"
            "job.json:1: /model: qk_norm is not built with an encoder_decoder");
  EXPECT_EQ(
      message_of([&] { read(R"({"layers": 2, "hidden": 64, "heads": 4, "vocab": 256, "positions": "relative"})"); }),
      "job.json:1: /model: relative positions and scores without scale are built for an encoder_decoder");
}

TEST(ModelFile, WhatAnEncoderCannotBe) {
  const std::string shape = R"("architecture": "encoder", "layers": 2, "hidden": 64, "heads": 4, "vocab": 256)";
  EXPECT_EQ(message_of([&] { read("{" + shape + R"(, "attention_window": 4, "mask_token": 256})"); }),
            "job.json:1: /model: attention_window and ssm look at what came before; an encoder sees all tokens of a "
            "sequence\n"
            "job.json:1: /model: mask_token 256 is no id of a vocabulary of 256");
  EXPECT_EQ(message_of([&] { read("{" + shape + R"(, "norm_position": "pre", "head": "masked_lm"})"); }),
            "job.json:1: /model: a head \"masked_lm\" with norm_position \"pre\" is not built yet; expected plain with "
            "pre, or masked_lm with post");
  EXPECT_EQ(message_of([&] { read("{" + shape + R"(, "parallel_residual": true, "activation": "relu"})"); }),
            "job.json:1: /model: norms behind (norm_position post) are not built with parallel_residual, mla, ssm or "
            "moe");
  EXPECT_EQ(message_of([&] { read("{" + shape + R"(, "ffn_hidden": 64, "activation": "geglu"})"); }),
            "job.json:1: /model: the masked_lm head has the layers' activation, and geglu is gated; expected gelu_erf, "
            "gelu or relu");
}

TEST(ModelFile, Classifier) {
  const std::string shape = R"("layers": 2, "hidden": 64, "heads": 4, "vocab": 256, "head": "classifier")";
  const Model m = read(R"({"architecture": "encoder", )" + shape + "}");
  EXPECT_TRUE(m.is_classifier() && m.is_encoder() && !m.tied_embeddings);
  EXPECT_EQ(m.classes, 2);
  EXPECT_EQ(message_of([&] { read(R"({"norm_position": "post", "tied_embeddings": true, )" + shape + "}"); }),
            "job.json:1: /model: the head classifier is of an encoder, whose first token sees all others\n"
            "job.json:1: /model: tied_embeddings: a classifier has no product with the vocabulary; expected false");
  EXPECT_EQ(message_of([&] { read(R"({"architecture": "encoder", "classes": 1, )" + shape + "}"); }),
            "job.json:1: /model/classes: 1 is not allowed; expected an integer from 2 to 10000000");
}

TEST(ModelFile, ObjectFormRoundTrips) {
  for (const char* text :
       {R"({"layers": 2, "hidden": 64, "heads": 4, "vocab": 256})",
        R"({"name": "x", "layers": 1, "hidden": 6, "heads": 1, "head_dim": 4, "vocab": 7, "norm": "rmsnorm",
                               "activation": "geglu", "ffn_hidden": 1, "norm_eps": 1e-6, "rotary_base": 5e5,
                               "attention_bias": true, "output_bias": false, "attention_window": 99})",
        R"({"layers": 2, "hidden": 64, "heads": 4, "vocab": 256, "norm": "rmsnorm", "activation": "swiglu",
            "ffn_hidden": 9, "mla": {"q_rank": 7, "kv_rank": 8, "nope_dim": 8, "rope_dim": 4, "v_dim": 6}})",
        R"({"layers": 2, "hidden": 64, "heads": 4, "vocab": 256, "norm_position": "post", "embedding_norm": true,
            "token_types": 3})",
        "\"llama3.1-405b\"", "\"gpt2-124m\"", "\"bert-large\""}) {
    const nlohmann::json first = to_json(read(text));
    EXPECT_EQ(to_json(read(first.dump())), first) << text;
  }
}

TEST(ModelFile, WhatIsNotBuiltIsRefusedByName) {
  const std::string shape = R"("layers": 2, "hidden": 64, "heads": 4, "vocab": 256)";
  EXPECT_EQ(
      message_of([&] { read("{" + shape + R"(, "moe": {"experts": 8, "top_k": 9, "ffn_hidden": 8, "groups": 3}})"); }),
      "job.json:1: /model/moe: top_k 9 of 8 experts\n"
      "job.json:1: /model/moe: 3 of 3 groups of 8 experts; groups must divide experts");
  EXPECT_EQ(message_of([&] {
              read("{" + shape + R"(, "mlp_bias": true,
                                                    "moe": {"experts": 8, "top_k": 2, "ffn_hidden": 8}})");
            }),
            "job.json:1: /model: mlp_bias with moe is not built yet; expected mlp_bias false");
  EXPECT_EQ(message_of([&] { read("{" + shape + R"(, "positions": "alibi"})"); }),
            "job.json:1: /model/positions: \"alibi\" is not built yet; built: learned, rotary, none, relative");
}

TEST(ModelFile, BadSizes) {
  EXPECT_EQ(message_of([] { read(R"({"layers": 0, "hidden": 64, "heads": 5, "vocab": 256})"); }),
            "job.json:1: /model/layers: 0 is not allowed; expected an integer from 1 to 10000\n"
            "job.json:1: /model/heads: 5 heads do not divide hidden 64; set head_dim");
  EXPECT_EQ(message_of([] { read(R"({"layers": 1, "hidden": 64, "heads": 4, "kv_heads": 3, "vocab": 256})"); }),
            "job.json:1: /model: 3 kv_heads do not divide 4 heads");
  EXPECT_EQ(message_of([] { read(R"({"layers": 1, "hidden": 6, "heads": 2, "vocab": 9, "positions": "rotary"})"); }),
            "job.json:1: /model: rotary positions need an even head_dim, not 3");
  EXPECT_EQ(
      message_of([] {
        read(R"({"layers": 1, "hidden": 8, "heads": 2, "vocab": 9, "positions": "rotary", "rotary_dim": 5,
                       "shared_norm": true})");
      }),
      "job.json:1: /model: rotary positions need an even rotary_dim, not 5\n"
      "job.json:1: /model: rotary_dim 5 is more than head_dim 4\n"
      "job.json:1: /model: shared_norm needs parallel_residual: else the halves of a layer read different inputs");
  EXPECT_EQ(
      message_of([] {
        read(R"({"layers": 1, "hidden": 64, "heads": 4, "vocab": 9, "head_dim": 16,
                       "mla": {"kv_rank": 8, "nope_dim": 8, "rope_dim": 3, "v_dim": 8}})");
      }),
      "job.json:2: /model/mla: head_dim 16 and kv_heads 4; with mla they are nope_dim + rope_dim = 11 and heads 4\n"
      "job.json:2: /model/mla: rotary positions need an even rope_dim, not 3\n"
      "job.json:2: /model/mla: needs rotary positions, not learned\n"
      "job.json:2: /model/mla: attention_bias, output_bias, qk_norm, parallel_residual and attention_sinks are not "
      "built with it; "
      "expected false");
  EXPECT_EQ(
      message_of([] { read(R"({"layers": 1, "hidden": 64, "heads": 4, "vocab": 256, "activation": "swiglu"})"); }),
      "job.json:1: /model/ffn_hidden: missing, and has no default");
  EXPECT_EQ(message_of([] {
              read(R"({"layers": 10000, "hidden": 10000000, "heads": 1, "ffn_hidden": 40000000, "vocab": 1})");
            }),
            "job.json:1: /model: a model of about 2e+19 parameters; expected at most 1e+17");
}

TEST(ModelFile, NamesAndPathsThatLeadNowhere) {
  const std::string message = message_of([] { read("\"gpt2-125m\""); });
  EXPECT_TRUE(
      message.starts_with("job.json:1: /model: unknown model \"gpt2-125m\"; did you mean \"gpt2-124m\"? known: "))
      << message;
  EXPECT_TRUE(message_of([] { read("\"no/config.json\""); }).ends_with("/no/config.json: no such file"));
  EXPECT_TRUE(message_of([] { read("\"/\""); }).ends_with("/: a directory; expected a JSON file"));
  EXPECT_EQ(message_of([] { read("7"); }), "job.json:1: /model: 7 is not allowed; expected an object");
}

TEST(ModelFile, PathsAreRelativeToTheFileThatNamesThem) {
  const test::TemporaryFolder folder;
  folder.write("config.json", R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 4})");
  folder.write("own.json", R"({"layers": 3, "hidden": 8, "heads": 2, "vocab": 4, "max_positions": 5})");
  const JsonDocument document =
      JsonDocument::from_text(R"({"a": "config.json", "b": "./own.json"})", folder.path("job.json"));
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  EXPECT_EQ(read_model(reader, "a", 16).max_positions, 1024);
  EXPECT_EQ(read_model(reader, "b", 16).layers, 3);
  EXPECT_TRUE(mistakes.empty());
}

}  // namespace
}  // namespace foretrain::workloads
