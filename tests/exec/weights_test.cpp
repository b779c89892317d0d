#include "exec/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "plan/build.h"
#include "tests/exec/support.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"
#include "workloads/hf_weights.h"

namespace foretrain::exec {
namespace {

using test::message_of;
using test::TemporaryFolder;
using Words = std::vector<std::string>;

// A job of each family, by what makes it one.
const std::vector<std::pair<const char*, Words>>& families() {
  static const std::vector<std::pair<const char*, Words>> all{
      {testing::kTinyGpt, {}},
      {testing::kTinyBert, {}},
      {testing::kTinyClassifier, {}},
      {testing::kTinyBert, {"workload.model.tied_embeddings=false", "workload.model.token_types=1"}},
      {testing::kTinyGpt, {"workload.model.positions=rotary", "workload.model.parallel_residual=true"}},
      {testing::kTinyLlama, {}},
      {testing::kTinyLlama, {"workload.model.attention_window=4"}},
      {testing::kTinyLlama, {"workload.model.attention_bias=true", "workload.model.output_bias=false"}},
      {testing::kTinyLlama, {"workload.model.qk_norm=true", "workload.model.tied_embeddings=true"}},
      {testing::kTinyMoe, {R"(workload.model.moe={"experts":8,"top_k":2,"ffn_hidden":24})"}},
      {testing::kTinyMoe,
       {R"(workload.model.moe={"experts":8,"top_k":2,"ffn_hidden":24,"shared_experts":1,"shared_gate":true})",
        "workload.model.attention_bias=true", "workload.model.output_bias=false"}},
      {testing::kTinyMoe,
       {R"(workload.model.moe={"experts":8,"top_k":2,"ffn_hidden":24,"first_dense_layers":1})",
        "workload.model.qk_norm=true"}},
      {testing::kTinyMoe,
       {R"(workload.model.mla={"q_rank":8,"kv_rank":12,"nope_dim":8,"rope_dim":4,"v_dim":8})",
        "workload.model.kv_heads=4"}},
      {testing::kTinyMoe,
       {R"(workload.model.mla={"q_rank":0,"kv_rank":12,"nope_dim":8,"rope_dim":4,"v_dim":8})",
        "workload.model.kv_heads=4",
        R"(workload.model.moe={"experts":8,"top_k":2,"ffn_hidden":24,"shared_experts":1,"router":"sigmoid"})"}}};
  return all;
}

// Every element another value, of few bits: exact in all types.
std::vector<FullTensor> counted(std::vector<FullTensor> tensors, std::int64_t vocab, std::int64_t hidden) {
  double next = 0;
  for (FullTensor& tensor : tensors) {
    const bool padded = tensor.name == "embedding.table" ||
                        (tensor.name == "head.weight" && std::ssize(tensor.values) >= vocab * hidden);
    const std::int64_t words = tensor.name == "head.bias" && std::ssize(tensor.values) >= vocab ? vocab
                               : padded                                                         ? vocab * hidden
                                        : std::ssize(tensor.values);
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      const bool is_padding = static_cast<std::int64_t>(i) >= words;
      tensor.values[i] = is_padding ? 0 : 0.25 * std::fmod(next++, 251.0) - 8;
    }
  }
  return tensors;
}

void expect_equal(const std::vector<FullTensor>& a, const std::vector<FullTensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  std::map<std::string, const FullTensor*> by_name;
  for (const FullTensor& tensor : b) {
    by_name[tensor.name] = &tensor;
  }
  for (const FullTensor& tensor : a) {
    ASSERT_TRUE(by_name.contains(tensor.name)) << tensor.name;
    EXPECT_EQ(tensor.values, by_name[tensor.name]->values) << tensor.name;
  }
}

struct Saved {
  plan::Job job;
  plan::PlanGraph graph;
  std::vector<FullTensor> tensors;

  explicit Saved(const char* text, const Words& words = {})
      : job(testing::tiny_job(text, words)), graph(plan::build(job)) {
    const testing::GrammarData data(job.workload.model.vocab);
    Executor executor(graph, data, 1);
    tensors = counted(executor.parameters(), job.workload.model.vocab, job.workload.model.hidden);
  }
  void save(const std::string& folder, Dtype dtype = Dtype::fp64, std::int64_t shard = kShardBytes) const {
    save_model(folder, job.workload.model, 16, dtype, tensors, shard);
  }
  std::vector<FullTensor> read(const std::string& path) const {
    return read_weights(graph, job.workload.model, workloads::Safetensors(path));
  }
  std::string refusal(const std::string& path) const {
    return message_of([&] { read(path); });
  }
};

TEST(Weights, OfEachFamilyComeBack) {
  const TemporaryFolder folder;
  int i = 0;
  for (const auto& [text, words] : families()) {
    const Saved model(text, words);
    const std::string path = folder.path(std::to_string(i++));
    model.save(path);
    SCOPED_TRACE(workloads::hf_model_type(model.job.workload.model));
    expect_equal(model.read(path), model.tensors);
    expect_equal(model.read(path + "/model.safetensors"), model.tensors);
  }
}

// BERT as it was published: norms with gamma and beta, the tied table twice, a pooler and a head for sentences.
TEST(Weights, OfTheFirstBerts) {
  const TemporaryFolder folder;
  const Saved model(testing::kTinyBert);
  model.save(folder.path("now"));
  const workloads::Safetensors saved(folder.path("now"));
  std::vector<workloads::TensorToStore> tensors;
  for (const workloads::StoredTensor& t : saved.tensors()) {
    const std::string bytes(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size());
    std::string name = t.name;
    for (const auto& [now, before] :
         {std::pair{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}) {
      if (name.ends_with(now)) {
        name.replace(name.size() - std::string(now).size(), std::string::npos, before);
      }
    }
    tensors.push_back({name, t.shape, [bytes] { return bytes; }});
    if (t.name == "bert.embeddings.word_embeddings.weight") {
      tensors.push_back({"cls.predictions.decoder.weight", t.shape, [bytes] { return bytes; }});
    }
  }
  for (const char* const other : {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "cls.seq_relationship.weight",
                                  "cls.seq_relationship.bias", "bert.embeddings.position_ids"}) {
    tensors.push_back({other, {1}, [] { return std::string(8, '\0'); }});
  }
  workloads::write_safetensors(folder.path("f.safetensors"), Dtype::fp64, tensors);
  expect_equal(model.read(folder.path("f.safetensors")), model.tensors);
}

// A classifier begins from a model that masked tokens trained: all but its head, which stays as it was drawn.
TEST(Weights, OfAClassifierFromAMaskedModel) {
  const TemporaryFolder folder;
  const Saved masked(testing::kTinyBert), classifier(testing::kTinyClassifier);
  masked.save(folder.path("masked"));
  std::vector<FullTensor> expected;
  for (const FullTensor& t : masked.tensors) {
    if (!t.name.starts_with("head.")) {
      expected.push_back(t);
    }
  }
  expect_equal(classifier.read(folder.path("masked")), expected);
}

TEST(Weights, OfEachTypeAndInSeveralFiles) {
  const TemporaryFolder folder;
  const Saved model(testing::kTinyGpt);
  for (const Dtype dtype : {Dtype::fp64, Dtype::fp32, Dtype::fp16, Dtype::bf16}) {
    for (const std::int64_t shard : {kShardBytes, std::int64_t{20000}}) {
      const std::string path = folder.path(fmt::format("{}-{}", name(dtype), shard));
      model.save(path, dtype, shard);
      EXPECT_EQ(std::filesystem::exists(path + "/model.safetensors"), shard == kShardBytes);
      expect_equal(model.read(path), model.tensors);
    }
  }
}

// Files of the model without its head have no prefix; other tools store the tied head and masks as well.
TEST(Weights, NamesAsOthersHaveThem) {
  const TemporaryFolder folder;
  const Saved model(testing::kTinyGpt);
  model.save(folder.path("plain"));
  const workloads::Safetensors saved(folder.path("plain"));
  std::vector<workloads::TensorToStore> tensors;
  for (const workloads::StoredTensor& t : saved.tensors()) {
    const std::string bytes(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size());
    tensors.push_back({t.name.substr(std::string("transformer.").size()), t.shape, [bytes] { return bytes; }});
    if (t.name == "transformer.wte.weight") {
      tensors.push_back({"lm_head.weight", t.shape, [bytes] { return bytes; }});
    }
  }
  tensors.push_back({"h.0.attn.bias", {1}, [] { return std::string(8, '\0'); }});
  workloads::write_safetensors(folder.path("f.safetensors"), Dtype::fp64, tensors);
  expect_equal(model.read(folder.path("f.safetensors")), model.tensors);
  for (auto& tensor : tensors) {
    if (tensor.name == "lm_head.weight") {
      tensor.bytes = [] { return std::string(61 * 48 * 8, 'x'); };
    }
  }
  workloads::write_safetensors(folder.path("f.safetensors"), Dtype::fp64, tensors);
  EXPECT_EQ(model.refusal(folder.path("f.safetensors")),
            "weights: " + folder.path("f.safetensors") +
                ": tensor \"lm_head.weight\": differs from \"wte.weight\"; the "
                "job's model ties them (tied_embeddings)");
}

TEST(Weights, NameWhatIsMissingAndWhatIsTooMuch) {
  const TemporaryFolder folder;
  const Saved model(testing::kTinyGpt), deeper(testing::kTinyGpt, {"workload.model.layers=5"});
  model.save(folder.path("m"));
  deeper.save(folder.path("d"));
  const std::string m = folder.path("m/model.safetensors"), d = folder.path("d/model.safetensors");
  std::filesystem::remove(folder.path("m/config.json"));
  std::filesystem::remove(folder.path("d/config.json"));
  EXPECT_EQ(
      deeper.refusal(m),
      "weights: " + m +
          ": are not those of the job's model, a gpt2 of 5 layers: it lacks "
          "\"transformer.h.4.ln_1.weight\", \"transformer.h.4.ln_1.bias\", \"transformer.h.4.attn.c_attn.weight\", "
          "\"transformer.h.4.attn.c_attn.bias\", \"transformer.h.4.attn.c_proj.weight\" and 7 more");
  EXPECT_NE(model.refusal(d).find(": it has \"transformer.h.4.attn.c_attn.bias\", "), std::string::npos);
  const Saved wider(testing::kTinyGpt, {"workload.model.ffn_hidden=96"});
  EXPECT_EQ(wider.refusal(m), "weights: " + m +
                                  ": tensor \"transformer.h.0.mlp.c_fc.weight\": shape [48, 80]; the "
                                  "job's model needs [48, 96]");
}

TEST(Weights, TheConfigMustBeTheJobsModel) {
  const TemporaryFolder folder;
  const Saved model(testing::kTinyLlama), other(testing::kTinyLlama, {"workload.model.rotary_base=500000"});
  model.save(folder.path("m"));
  EXPECT_EQ(other.refusal(folder.path("m")), "weights: " + folder.path("m/config.json") +
                                                 ": is not the job's model: rotary_base is 10000.0 there and "
                                                 "500000.0 here; \"model\" may name this file");
  nlohmann::json config = workloads::hf_config(model.job.workload.model, 16, Dtype::fp32);
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 8.0}};
  write_file(folder.path("m/config.json"), config.dump());
  EXPECT_EQ(model.refusal(folder.path("m")),
            "weights: " + folder.path("m/config.json") +
                ": /rope_scaling: rotary positions of type \"yarn\" are not "
                "built yet; with them these weights would compute something else; expected \"default\" or \"llama3\"");
}

// Saved and read again with the scaling; a job without it is another model.
TEST(Weights, OfScaledRotaryPositions) {
  const TemporaryFolder folder;
  const Saved plain(testing::kTinyLlama),
      scaled(testing::kTinyLlama, {R"(workload.model.rotary_scaling={"factor": 8, "original_positions": 16})"});
  scaled.save(folder.path("m"));
  EXPECT_EQ(scaled.refusal(folder.path("m")), "no error");
  EXPECT_NE(plain.refusal(folder.path("m")).find("is not the job's model: rotary_scaling is "), std::string::npos);
}

TEST(Weights, SaysBeforeARunWhatCannotBeSaved) {
  const TemporaryFolder folder;
  const Saved model(testing::kTinyGpt);
  model.save(folder.path("m"));
  const workloads::Model& m = model.job.workload.model;
  EXPECT_EQ(message_of([&] { check_can_save(folder.path("new"), m); }), "no error");
  EXPECT_EQ(message_of([&] { check_can_save(folder.path("m"), m); }),
            "save: " + folder.path("m") + ": holds weights already (model.safetensors); name another folder");
  folder.write("file", "");
  EXPECT_EQ(message_of([&] { check_can_save(folder.path("file"), m); }),
            "save: " + folder.path("file") + ": is no folder; expected one that exists or can be made");
}

// What was trained, saved and read again by ranks that share it differently gives the same logits, bit for bit.
TEST(Weights, GiveTheSameLogits) {
  const TemporaryFolder folder;
  for (const char* text : {testing::kTinyGpt, testing::kTinyLlama}) {
    const plan::Job job = testing::tiny_job(text, {"precision=fp32", "padded_vocab=256"});
    const plan::PlanGraph graph = plan::build(job);
    const testing::GrammarData data(job.workload.model.vocab);
    RunOptions options;
    Executor trained(graph, data, 1), loaded(graph, data, 2);
    options.steps = 2;
    trained.run(options);
    const std::string path = folder.path(text == testing::kTinyGpt ? "gpt" : "llama");
    save_model(path, job.workload.model, 16, Dtype::fp32, trained.parameters());
    loaded.set_parameters(read_weights(graph, job.workload.model, workloads::Safetensors(path)));
    EXPECT_NE(trained.logits(data, 0, options).at(0), 0.0);
    std::vector<double> ours = trained.logits(data, 15, options), theirs = loaded.logits(data, 15, options);
    ours.resize(61);  // of the padding nobody asks
    theirs.resize(61);
    EXPECT_EQ(ours, theirs);
    const plan::PlanGraph shared =
        plan::build(testing::tiny_job(text, {"precision=fp32", "padded_vocab=256", "tp=2", "pp=2"}));
    Executor sharing(shared, data, 3);
    sharing.set_parameters(read_weights(shared, job.workload.model, workloads::Safetensors(path)));
    expect_equal(sharing.parameters(), loaded.parameters());
  }
}

TEST(WeightValues, AreRoundedToNearestEven) {
  const auto through = [](double x, Dtype dtype) {
    std::vector<double> values;
    const std::string bytes = encode({x}, dtype);
    decode(std::as_bytes(std::span(bytes)), dtype, values);
    return values.at(0);
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  // binary16: 11 bits; 65504 is the largest, 2^-24 the least.
  EXPECT_EQ(through(2049, Dtype::fp16), 2048);  // between 2048 and 2050: the even one
  EXPECT_EQ(through(2051, Dtype::fp16), 2052);
  EXPECT_EQ(through(-65504, Dtype::fp16), -65504);
  EXPECT_EQ(through(65519, Dtype::fp16), 65504);
  EXPECT_EQ(through(65520, Dtype::fp16), kInfinity);
  EXPECT_EQ(through(kInfinity, Dtype::fp16), kInfinity);
  EXPECT_EQ(through(std::ldexp(1, -24), Dtype::fp16), std::ldexp(1, -24));
  EXPECT_EQ(through(std::ldexp(1, -25), Dtype::fp16), 0);
  EXPECT_EQ(through(std::ldexp(3, -25), Dtype::fp16), std::ldexp(1, -23));  // 1.5 of the least: the even 2
  EXPECT_EQ(through(std::ldexp(1, -14), Dtype::fp16), std::ldexp(1, -14));
  EXPECT_EQ(through(std::ldexp(2047.5, -25), Dtype::fp16), std::ldexp(1, -14));  // up into the normal ones
  EXPECT_EQ(through(4095.9, Dtype::fp16), 4096);                                 // into the next power
  EXPECT_TRUE(std::isnan(through(std::nan(""), Dtype::fp16)));
  EXPECT_TRUE(std::signbit(through(-0.0, Dtype::fp16)));
  // All 63,488 finite numbers of binary16 come back.
  for (int bits = 0; bits < 0x10000; ++bits) {
    const std::string bytes{static_cast<char>(bits & 0xff), static_cast<char>(bits >> 8)};
    std::vector<double> values;
    decode(std::as_bytes(std::span(bytes)), Dtype::fp16, values);
    if (!std::isnan(values.at(0))) {
      ASSERT_EQ(encode(values, Dtype::fp16), bytes) << bits;
    }
  }
  // bfloat16: 8 bits.
  EXPECT_EQ(through(257, Dtype::bf16), 256);
  EXPECT_EQ(through(259, Dtype::bf16), 260);
  EXPECT_EQ(through(0.1, Dtype::fp32), static_cast<double>(0.1F));
  EXPECT_EQ(through(0.1, Dtype::fp64), 0.1);
}

}  // namespace
}  // namespace foretrain::exec
