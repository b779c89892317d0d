// Jobs of other tools: what is written is read back as the same job, what has no word is said by name.
#include "plan/foreign/foreign.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "plan/foreign/megatron_layout.h"
#include "plan/foreign/toml.h"
#include "plan/foreign/torchtitan_words.h"
#include "topologies/cluster.h"

namespace foretrain::plan {
namespace {

using nlohmann::json;

Job job_of(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return load_job(catalogue_path("workloads/jobs", "job", name), overrides);
}

// What two jobs are but for their names.
json bare(const Job& job) {
  json document = resolved(job);
  document.erase("name");
  document.erase("description");
  document["workload"]["model"].erase("name");
  return document;
}

struct Trip {
  json before, after;
  std::vector<std::string> export_warnings, import_warnings;
};

using Exporter = ExportedJob (*)(const Job&);
using Importer = ImportedJob (*)(const std::string&, const std::string&, const ImportOptions&);

Trip round_trip(const Job& job, Exporter to, Importer from, std::vector<std::string> further = {}) {
  const ExportedJob exported = to(job);
  further.push_back("cluster.system=" + job.cluster.name);
  further.push_back("cluster.nodes=" + std::to_string(job.cluster.nodes));
  const ImportedJob imported = from(exported.files.front().text, "file", {further, {}});
  return {bare(job), bare(job_from_text(imported.document, "imported", {})), exported.warnings, imported.warnings};
}

bool any_has(const std::vector<std::string>& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

TEST(MegatronRoundTrip, PublishedJobs) {
  for (const char* name : {"llama3-70b-64-h100", "gpt3-175b-1024-a100", "llama3.1-405b-16384-h100",
                           "megatron-1t-512-a100", "megatron-22b-8-a100"}) {
    const Trip trip = round_trip(job_of(name), export_megatron, import_megatron);
    EXPECT_EQ(trip.before, trip.after) << name << "\n" << json::diff(trip.before, trip.after).dump(1);
    EXPECT_TRUE(trip.export_warnings.empty()) << name << ": " << trip.export_warnings.front();
    EXPECT_TRUE(trip.import_warnings.empty()) << name << ": " << trip.import_warnings.front();
  }
}

TEST(MegatronRoundTrip, Words) {
  const std::vector<std::vector<std::string>> cases{
      {"virtual_stages=5"},
      {"layers_per_stage=[19,21,21,19]"},
      {"virtual_stages=2", "layers_per_stage=[9,10,10,10,10,10,11,10]"},
      {"recompute=full"},
      {"recompute=full", "recompute_layers=3"},
      {"recompute=full", "recompute_layers=0"},
      {"recompute=[\"norm\",\"mlp\"]"},
      {"cp=2", "dp=1", "cp_kind=all_gather"},
      {"overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"zero=3", "pp=1", "dp=8"},
      {"zero=2", "pp=1", "dp=8"},
      {"zero=3", "pp=1", "dp=8", "reshard=false"},
      {"shard=2", "pp=1", "dp=8"},
      {"zero=0", "compression=bf16"},
      {"bucket_bytes=\"4000 B\""},
      {"rank_order=dp,pp,cp,tp"},
      {"padded_vocab=128512"},
      {"padded_vocab=128256"},
      {"offload=[\"optimizer\"]"},
      {"offload=[\"activations\"]", "offload_layers=4"},
      {"precision=fp8"},
      {"precision=nvfp4", "system=dgx-b200"},
      {"precision=fp16"},
      {"attention=cudnn"},
      {"attention=unfused"},
      {"optimizer={\"name\":\"adamw\",\"learning_rate\":0.0003,\"min_learning_rate\":3e-05,\"warmup_steps\":20,"
       "\"decay_steps\":1000,\"weight_decay\":0.05,\"clip\":0.5}"},
      {"fused_grad_accumulation=false", "overlap_tp=false"},
  };
  for (const std::vector<std::string>& overrides : cases) {
    const Trip trip = round_trip(job_of("llama3-70b-64-h100", overrides), export_megatron, import_megatron);
    EXPECT_EQ(trip.before, trip.after) << overrides.front() << "\n" << json::diff(trip.before, trip.after).dump(1);
    EXPECT_TRUE(trip.export_warnings.empty()) << overrides.front() << ": " << trip.export_warnings.front();
  }
}

TEST(MegatronRoundTrip, Experts) {
  for (const char* model : {"mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite", "deepseek-v3", "gpt-oss-20b"}) {
    const std::string text = R"({"version": 1, "workload": {"model": ")" + std::string(model) +
                             R"(", "seq_len": 4096, "global_batch": 64},
        "cluster": {"system": "dgx-h100", "nodes": 4}, "strategy": {"dp": 32, "ep": 8, "zero": 1}})";
    const Trip trip = round_trip(job_from_text(text, "job", {}), export_megatron, import_megatron);
    json before = trip.before, after = trip.after;
    for (json* j : {&before, &after}) {
      // Of no effect with latent attention, or of shared experts only their joint width is said.
      json& m = (*j)["workload"]["model"];
      m["moe"]["shared_width"] = m["moe"]["shared_experts"].get<int>() * m["moe"]["shared_ffn_hidden"].get<int>();
      m["moe"].erase("shared_experts");
      m["moe"].erase("shared_ffn_hidden");
      m["moe"].erase("group_best");
      if (m["moe"]["first_dense_layers"] == 0) {
        m.erase("ffn_hidden");
      }
      m.erase("rotary_scaling");
    }
    EXPECT_EQ(before["strategy"], after["strategy"]) << model;
    const json lost = json::diff(before["workload"]["model"], after["workload"]["model"]);
    for (const json& change : lost) {
      const std::string path = change["path"];
      EXPECT_TRUE(any_has(trip.export_warnings, path.substr(path.rfind('/') + 1))) << model << ": " << change.dump();
    }
  }
}

// What a script of few words says, and `more`.
Job imported_job(const std::string& more, const std::string& program = "pretrain_gpt.py") {
  return job_from_text(
      import_megatron("torchrun --nproc_per_node 8 " + program +
                          " --num-layers 4 --hidden-size 4096 --num-attention-heads 32 --seq-length "
                          "2048 --max-position-embeddings 2048 --micro-batch-size 1 "
                          "--global-batch-size 64 --bf16 " +
                          (more.find("--vocab-size") == std::string::npos ? "--vocab-size 50257 " : "") + more + "\n",
                      "train.sh", {{"cluster.system=dgx-h100"}, {}})
          .document,
      "imported", {});
}

TEST(MegatronImport, RecomputeInOlderWords) {
  EXPECT_EQ(imported_job("").strategy.recompute, Recompute::none);
  EXPECT_EQ(imported_job("--activations-checkpoint-method uniform").strategy.recompute, Recompute::full);
  EXPECT_EQ(imported_job("--checkpoint-activations --deepspeed-activation-checkpointing").strategy.recompute,
            Recompute::full);
  const Job block = imported_job("--activations-checkpoint-method block --activations-checkpoint-num-layers 3");
  EXPECT_EQ(block.strategy.recompute, Recompute::full);
  EXPECT_EQ(block.strategy.recompute_layers, std::vector<std::int64_t>{3});
}

TEST(MegatronImport, AttentionOfTheLocalImplementation) {
  const auto attention = [](const std::string& more) { return workloads::name(imported_job(more).workload.attention); };
  EXPECT_EQ(attention(""), "flash");
  EXPECT_EQ(attention("--transformer-impl local"), "fused_softmax");
  EXPECT_EQ(attention("--transformer-impl local --no-masked-softmax-fusion"), "unfused");
  EXPECT_EQ(attention("--transformer-impl local --use-flash-attn"), "flash");
  EXPECT_EQ(attention("--transformer-impl transformer_engine"), "flash");
}

TEST(MegatronImport, WidthOfGatedLinearUnits) {
  EXPECT_EQ(imported_job("--swiglu").workload.model.ffn_hidden, 4096 * 8 / 3 / 64 * 64);
  EXPECT_EQ(imported_job("--quick-geglu").workload.model.ffn_hidden, 4 * 4096);
}

// Releases that count an end of documents, and those that do not, pad both to the same.
TEST(MegatronImport, FullTableOfTheNullTokenizer) {
  const auto vocab = [](const std::string& more) { return imported_job(more).workload.model.vocab; };
  EXPECT_EQ(vocab("--tokenizer-type NullTokenizer --vocab-size 131071"), 131072);
  EXPECT_EQ(vocab("--tokenizer-type NullTokenizer --vocab-size 131072"), 131072);
  EXPECT_EQ(vocab("--tokenizer-type NullTokenizer --vocab-size 50257"), 50257);
  EXPECT_EQ(vocab("--tokenizer-type HuggingFaceTokenizer --vocab-size 131071"), 131071);
  const ExportedJob out = export_megatron(job_of("llama3-70b-64-h100", {"padded_vocab=128256"}));
  EXPECT_NE(out.files.front().text.find("--vocab-size 128255"), std::string::npos) << out.files.front().text;
}

// As DeepSeek-V3's published arguments have it.
TEST(MegatronImport, LatentAttention) {
  const std::string latent =
      "--multi-latent-attention --q-lora-rank 1536 --kv-lora-rank 512 --kv-channels 128 --disable-bias-linear "
      "--normalization RMSNorm --position-embedding-type rope ";
  const Job job = imported_job(latent + "--qk-layernorm");
  EXPECT_EQ(job.workload.model.mla.q_rank, 1536);
  EXPECT_EQ(job.workload.model.head_dim, 128 + 64);
  EXPECT_FALSE(job.workload.model.qk_norm);
  const Job experts = imported_job(latent +
                                   "--qk-layernorm --num-experts 8 --moe-layer-freq \"([0]*1+[1]*3)\" "
                                   "--recompute-granularity selective --recompute-modules mla_up_proj moe_act mlp");
  EXPECT_TRUE(experts.strategy.recomputes(RecomputeModule::mlp));
  EXPECT_TRUE(experts.strategy.recomputes(RecomputeModule::activation));
}

// A mistake of the job that was made has no line in the file.
TEST(MegatronImport, MistakesOfTheWholeJob) {
  try {
    imported_job("--tensor-model-parallel-size 3");
    FAIL() << "32 heads over 3 ranks";
  } catch (const InputError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("job of train.sh: /strategy")) << error.what();
  }
}

TEST(MegatronImport, NamesOtherProgramsAndOptimizers) {
  for (const char* program : {"pretrain_t5.py", "/opt/Megatron-LM/pretrain_bert.py"}) {
    EXPECT_THROW(imported_job("", program), InputError) << program;
  }
  const ImportedJob muon = import_megatron(
      "--num-layers 2 --hidden-size 64 --num-attention-heads 2 --seq-length 8 --vocab-size 100 --bf16 "
      "--micro-batch-size 1 --optimizer muon --fp32-residual-connection --delay-wgrad-compute",
      "muon.args", {{"cluster.system=dgx-h100"}, {}});
  for (const char* what : {"muon is not built", "--fp32-residual-connection", "--delay-wgrad-compute"}) {
    EXPECT_TRUE(any_has(muon.warnings, what)) << what;
  }
}

TEST(MegatronExport, NamesWhatHasNoWord) {
  const ExportedJob out =
      export_megatron(job_of("llama3-70b-64-h100", {"schedule=zb_h1", "zero=0", "compression=int8", "tp=1", "pp=4",
                                                    "dp=16", "sequence_parallel=false", "optimizer=lamb"}));
  EXPECT_TRUE(any_has(out.warnings, "strategy.schedule \"zb_h1\": Megatron-LM has no word for it; written is 1F1B"));
  EXPECT_TRUE(any_has(out.warnings, "strategy.compression \"int8\""));
  EXPECT_TRUE(any_has(out.warnings, "workload.optimizer.name \"lamb\""));
  EXPECT_THROW(export_megatron(job_of("mlp-classifier")), InputError);
}

TEST(Export, NamesRoundingAndModelsThatAreNoFlavor) {
  const Job rounded = job_of("llama3-70b-64-h100", {R"(optimizer={"name":"adamw","rounding":"stochastic"})"});
  for (const Exporter to : {export_megatron, export_torchtitan, export_deepspeed}) {
    EXPECT_TRUE(any_has(to(rounded).warnings, "workload.optimizer.rounding \"stochastic\""));
  }
  const Job whole_experts = job_of("llama3-70b-64-h100", {"model=deepseek-v2-lite", "pp=1", "tp=2", "dp=32",
                                                          "sequence_parallel=true", "expert_tp=1"});
  EXPECT_FALSE(any_has(export_megatron(whole_experts).warnings, "expert_tp"));
  EXPECT_TRUE(any_has(export_torchtitan(whole_experts).warnings, "strategy.expert_tp 1"));
  EXPECT_TRUE(any_has(export_deepspeed(whole_experts).warnings, "strategy.expert_tp 1"));
  json model = resolved(job_of("llama3-70b-64-h100"))["workload"]["model"];
  model.update({{"tied_embeddings", true}, {"attention_window", 1024}, {"rotary_base", 10000.0}});
  const ExportedJob out = export_torchtitan(job_of("llama3-70b-64-h100", {"workload.model=" + model.dump()}));
  for (const char* lost : {"tied_embeddings true: torchtitan has no word for it; written is false",
                           "attention_window 1024: torchtitan has no word for it; written is 0",
                           "rotary_base 10000.0: torchtitan has no word for it; written is 500000.0"}) {
    EXPECT_TRUE(any_has(out.warnings, lost)) << lost;
  }
}

TEST(Scripts, AreReadBack) {
  const Job job = job_of("llama3-70b-64-h100", {"layers_per_stage=[19,21,21,19]"});
  for (const Exporter to : {export_slurm, export_torchrun, export_mpirun}) {
    const ImportedJob imported =
        import_megatron(to(job).files.front().text, "job.sh", {{"cluster.system=dgx-h100"}, {}});
    EXPECT_EQ(imported.format, "launch script of Megatron-LM");
    EXPECT_EQ(bare(job_from_text(imported.document, "imported", {})), bare(job));
  }
}

// Names of a job are the user's: none of them may become a command, or end a string.
TEST(Scripts, NamesStayInTheirComment) {
  Job job = job_of("llama3-70b-64-h100");
  job.name = "a\nb";
  job.workload.model.name = "x\ntouch pwned\r\x1b#";
  job.cluster.name = "$(y)\nz";
  for (const Exporter to : {export_slurm, export_torchrun, export_mpirun}) {
    const std::string text = to(job).files.front().text;
    EXPECT_NE(text.find("\n# a-b: x touch pwned  # on 8 x 8 devices of $(y) z\nset -euo pipefail\n"), std::string::npos)
        << text.substr(0, 300);
  }
}

TEST(TorchtitanExport, NamesStayInTheirString) {
  Job job = job_of("llama3-70b-64-h100");
  job.workload.model.layers = 78;  // none of torchtitan's
  job.workload.model.name = "x\"\\y\n\x7f\xc3\xa9";
  const std::string text = export_torchtitan(job).files.front().text;
  EXPECT_NE(text.find("flavor = \"x\\\"\\\\y\\u000a\\u007f\xc3\xa9\"\n"), std::string::npos) << text.substr(0, 100);
}

TEST(Import, ReadsTextThatIsNoUtf8) {
  const std::string arguments =
      "--num-layers 4 --hidden-size 256 --num-attention-heads 4 --seq-length 128 "
      "--max-position-embeddings 128 --vocab-size 1000 --bf16\n";
  const ImportedJob megatron =
      import_foreign(ForeignFormat::megatron, arguments + "# caf\xe9\n--data /caf\xe9\n--caf\xe9-layers 3", "a", {});
  EXPECT_EQ(megatron.warnings.front(), "a:2: byte 0xe9, and 2 more: not UTF-8; read as U+FFFD");
  EXPECT_TRUE(any_has(megatron.warnings, "a:4: --caf\xEF\xBF\xBD-layers 3: not known here"));
  const ImportedJob torchtitan =
      import_foreign(ForeignFormat::torchtitan,
                     "[model]\nname=\"llama3\"\nflavor=\"8B\"\n[training]\nseq_len=8192\nbatch=\"\xe9\"\n", "t", {});
  EXPECT_EQ(torchtitan.warnings.front(), "t:6: byte 0xe9: not UTF-8; read as U+FFFD");
  EXPECT_TRUE(any_has(torchtitan.warnings, "t:6: training.batch \xEF\xBF\xBD: "));
  EXPECT_TRUE(import_foreign(ForeignFormat::megatron, arguments + "# caf\xc3\xa9", "a", {}).warnings.empty());
}

TEST(Scripts, TheTrainingCommandIsFoundBehindOthers) {
  const std::string command =
      "torchrun pretrain_gpt.py --num-layers 4 --hidden-size 256 --num-attention-heads 4 "
      "--seq-length 128 --vocab-size 1000 --max-position-embeddings 128";
  for (const char* before : {"cd x && ", "source env.sh && ", "set -e; cd x && mkdir -p y && ", "x | y; "}) {
    EXPECT_FALSE(any_has(import_megatron(before + command + " --bf16", "t.sh", {}).warnings, "as if it were run"))
        << before;
  }
  for (const auto& [before, behind] : {std::pair{"make && ", ""},
                                       {"train() {\n", "\n}\ntrain"},
                                       {"if x; then ", "; fi"},
                                       {"[ -d x ] || exit && ", " && echo done"}}) {
    EXPECT_TRUE(
        any_has(import_megatron(before + command + " --bf16" + behind, "t.sh", {}).warnings, "as if it were run"))
        << before;
  }
  const ImportedJob inner =
      import_megatron("srun bash -c \"make && cd x && " + command + " && echo done\"", "t.sh", {});
  EXPECT_TRUE(any_has(inner.read, "--num-layers 4: "));
  EXPECT_FALSE(any_has(inner.read, "done") || any_has(inner.ignored, "done") || any_has(inner.warnings, "done"));
}

TEST(TorchtitanRoundTrip, Words) {
  const std::vector<std::vector<std::string>> cases{
      {"pp=1", "dp=8", "zero=3", "overlap_grad_reduce=true"},
      {"pp=1", "dp=8", "zero=3", "shard=4", "reshard=false", "overlap_grad_reduce=true"},
      {"pp=1", "dp=8", "zero=0", "overlap_grad_reduce=true"},
      {"pp=4", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"pp=4", "virtual_stages=2", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"pp=4", "schedule=zb_v", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      // No number of layers per stage makes so many stages, or such: module by module.
      {"pp=4", "virtual_stages=16", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"pp=4", "layers_per_stage=[19,21,21,19]", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"pp=4", "layers_per_stage=[10,21,29,20]", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"pp=1", "dp=8", "zero=3", "overlap_grad_reduce=true", "recompute=full", "precision=fp8"},
      {"pp=1", "dp=4", "cp=2", "cp_kind=all_gather", "zero=3", "overlap_grad_reduce=true", "micro_batch=2"},
      {"pp=1", "dp=8", "zero=3", "overlap_grad_reduce=true", "recompute=[\"norm\",\"activation\"]"},
      {"pp=1", "dp=8", "zero=3", "overlap_grad_reduce=true", "optimizer.decay_steps=500", "optimizer.decay=linear"},
  };
  for (const std::vector<std::string>& overrides : cases) {
    const Trip trip = round_trip(job_of("llama3-70b-64-h100", overrides), export_torchtitan, import_torchtitan);
    EXPECT_EQ(trip.before, trip.after) << overrides.back() << "\n" << json::diff(trip.before, trip.after).dump(1);
    EXPECT_TRUE(trip.export_warnings.empty()) << overrides.back() << ": " << trip.export_warnings.front();
  }
}

TEST(DeepspeedRoundTrip, Words) {
  const std::vector<std::vector<std::string>> cases{
      {"zero=3", "overlap_grad_reduce=true"},
      {"zero=1", "bucket_bytes=\"2000000000 B\""},
      {"zero=2", "offload=[\"optimizer\"]", "overlap_grad_reduce=true"},
      {"zero=0", "compression=fp16", "precision=fp16"},
      {"zero=3", "shard=8", "overlap_grad_reduce=true"},
      {"cp=2", "dp=32", "cp_kind=all_to_all"},
  };
  for (std::vector<std::string> overrides : cases) {
    overrides.insert(overrides.begin(), {"pp=1", "tp=1", "dp=64", "sequence_parallel=false"});
    const Trip trip = round_trip(job_of("llama3-70b-64-h100", overrides), export_deepspeed, import_deepspeed,
                                 {"model=llama3-70b", "seq_len=8192"});
    EXPECT_EQ(trip.before, trip.after) << overrides.back() << "\n" << json::diff(trip.before, trip.after).dump(1);
    EXPECT_TRUE(trip.export_warnings.empty()) << overrides.back() << ": " << trip.export_warnings.front();
  }
}

TEST(Deepspeed, SaysWhichModelIsMissing) {
  EXPECT_THROW(import_deepspeed(R"({"train_batch_size": 8})", "ds.json", {}), InputError);
}

TEST(Deepspeed, MayBeEmpty) {
  EXPECT_TRUE(import_deepspeed("{}", "ds.json", {{"model=llama3-8b", "seq_len=4096"}, {}}).ignored.empty());
}

TEST(Deepspeed, RefusesValuesOfAnotherType) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"[]", "ds.json:1: [] is not allowed; expected an object with DeepSpeed's settings"},
      {R"({"zero_optimization": []})", "zero_optimization: \"[]\" is not allowed; expected an object"},
      {R"({"zero_optimization": {}, "train_batch_size": {}})", "train_batch_size: \"{}\" is not allowed; expected a"},
      {R"({"zero_optimization": {"stage": [1]}})", "stage: \"[1]\" is not allowed; expected an integer >= 0"},
      {R"({"scheduler": 5})", "ds.json:1: scheduler: \"5\" is not allowed; expected an object"},
      {R"({"scheduler": {"type": 5}})", "scheduler.type: \"5\" is not known; expected one of: WarmupLR"},
      {"{\n\"train_micro_batch_size_per_gpu\": 3.7}",
       "ds.json:2: train_micro_batch_size_per_gpu: \"3.7\" is not allowed; expected an integer >= 1"},
      {R"({"optimizer": {"type": "Adam", "params": {"betas": ["x", 2]}}})",
       "optimizer.params.betas: [\"x\",2] is not allowed; expected two numbers >= 0 and < 1"},
      {R"({"optimizer": {"type": "Adam", "params": {"betas": [0.9]}}})", "betas: [0.9] is not allowed"},
      {R"({"zero_optimization": {"offload_optimizer": {"device": "gpu"}}})", "expected one of: none, cpu, nvme"},
  };
  for (const auto& [text, message] : cases) {
    try {
      import_deepspeed(text, "ds.json", {{"model=llama3-8b", "seq_len=4096"}, {}});
      FAIL() << text;
    } catch (const InputError& e) {
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
    }
  }
}

TEST(HuggingFace, SaysWhichKeysShapeNothing) {
  const std::string llama = R"({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 128256, "max_position_embeddings": 8192,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16", "attention_dropout": 0.1, "sliding_window": null,
    "num_kv_heads": 8, "num_experts": 16, "rope_scaling": {"type": "linear", "factor": 2.0}})";
  const ImportedJob job = import_hf_job(llama, "config.json", {});
  EXPECT_EQ(job.ignored, (std::vector<std::string>{"attention_dropout", "bos_token_id", "eos_token_id",
                                                   "sliding_window", "torch_dtype"}));
  EXPECT_EQ(job.warnings, (std::vector<std::string>{
                              "config.json:4: rope_scaling: \"linear\" is not built: positions rotate without it, "
                              "which a forecast does not see",
                              "config.json:4: num_experts: 16 is none of llama's keys, and left out; it may change "
                              "the forecast",
                              "config.json:4: num_kv_heads: 8 is none of llama's keys, and left out; it may change "
                              "the forecast"}));

  const std::string deepseek = R"({"model_type": "deepseek_v3", "hidden_size": 1024, "intermediate_size": 2048,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 1000,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "kv_lora_rank": 64,
    "num_nextn_predict_layers": 1, "quantization_config": {"fmt": "e4m3"}, "rope_scaling": {"type": "yarn"}})";
  const ImportedJob latent = import_hf_job(deepseek, "config.json", {});
  EXPECT_EQ(latent.ignored, std::vector<std::string>{"num_key_value_heads"});
  ASSERT_EQ(latent.warnings.size(), 3U);
  EXPECT_TRUE(any_has(latent.warnings, "config.json:4: num_nextn_predict_layers: modules that predict further tokens"));
  EXPECT_TRUE(any_has(latent.warnings, "config.json:4: quantization_config: "));
  EXPECT_TRUE(any_has(latent.warnings, "config.json:4: rope_scaling: \"yarn\" is not built"));

  const std::string mixtral = R"({"model_type": "mixtral", "hidden_size": 1024, "intermediate_size": 2048,
    "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 1000, "router_aux_loss_coef": 0.02,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192}})";
  const ImportedJob experts = import_hf_job(mixtral, "config.json", {});
  EXPECT_EQ(experts.ignored, std::vector<std::string>{"router_aux_loss_coef"});  // no router logits are put out
  EXPECT_TRUE(experts.warnings.empty());
}

json imported(Importer from, const std::string& text, const std::vector<std::string>& given) {
  return json::parse(from(text, "file", {given, {}}).document);
}

// Of a field on the command line follows what followed of the file's.
TEST(Import, KnowsTheCommandLineFirst) {
  const std::string deepspeed = R"({"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 8,
      "bf16": {"enabled": true}, "zero_optimization": {"stage": 1}})";
  const auto batch = [&](std::vector<std::string> given) {
    given.insert(given.end(), {"model=llama3-70b", "seq_len=4096", "nodes=2"});
    return imported(import_deepspeed, deepspeed, given)["workload"]["global_batch"];
  };
  EXPECT_EQ(batch({"system=dgx-h100"}), 128);  // 16 devices x 8 steps
  EXPECT_EQ(batch({"system=dgx-h100", "tp=8"}), 16);
  EXPECT_EQ(batch({"system=dgx-h100", "tp=2", "cp=2", "strategy.pp=2", "micro_batch=3"}), 48);
  EXPECT_EQ(batch({"system=dgx-h100", R"(strategy={"tp":8})"}), 16);
  EXPECT_EQ(batch({"system=gb200-nvl72"}), 64);  // 4 devices of a node
  EXPECT_EQ(batch({"system=dgx-h100", "devices_per_node=4"}), 64);

  const std::string titan =
      "[model]\nname = \"llama3\"\nflavor = \"70B\"\n[training]\nlocal_batch_size = 8\n"
      "[parallelism]\ntensor_parallel_degree = 8\npipeline_parallel_degree = 2\n";
  json job = imported(import_torchtitan, titan, {"nodes=8", "strategy.tp=4"});
  EXPECT_EQ(job["workload"]["global_batch"], 64);  // 64 devices / (4 x 2) x 8
  job = imported(import_torchtitan, titan, {"nodes=8", "pp=4", "zero=3"});
  EXPECT_EQ(job["strategy"]["layers_per_stage"], (json{20, 21, 20, 19}));  // of 82 items
  EXPECT_EQ(job["strategy"]["reshard"], false);
  job = imported(import_torchtitan, titan, {"nodes=8", "model=llama3-8b", "virtual_stages=2", "micro_batch=2"});
  EXPECT_EQ(job["strategy"]["layers_per_stage"], (json{8, 9, 8, 7}));  // of 34 items
}

TEST(Import, KnowsTheCommandLineFirstOfMegatronToo) {
  const std::string megatron =
      "--num-layers 32 --hidden-size 4096 --num-attention-heads 32 --seq-length 4096 "
      "--vocab-size 32000 --global-batch-size 64 --bf16 --pipeline-model-parallel-size 2 "
      "--num-layers-per-virtual-pipeline-stage 4";
  json job = imported(import_megatron, megatron, {"nodes=2"});
  EXPECT_EQ(job["strategy"]["virtual_stages"], 4);  // 32 layers / 2 / 4
  job = imported(import_megatron, megatron, {"nodes=2", "pp=4"});
  EXPECT_EQ(job["strategy"]["virtual_stages"], 2);
}

TEST(Import, SaysWhatTheCommandLineTookTheFilesPlace) {
  const ImportedJob job = import_deepspeed(R"({"zero_optimization": {"stage": 1}})", "file",
                                           {{"model=llama3-8b", "seq_len=4096", "zero=2", "system=dgx-h100"}, {}});
  EXPECT_TRUE(any_has(job.read, "zero_optimization.stage 1: strategy.zero is what the command line says"));
  EXPECT_FALSE(any_has(job.assumed, "strategy.zero"));
  EXPECT_FALSE(any_has(job.assumed, "cluster.system"));
}

TEST(Layout, LayersOfStages) {
  EXPECT_EQ(layout_layers("Et*3|(tt|)*2tL"), (std::vector<std::int64_t>{3, 2, 2, 1}));
  EXPECT_EQ(layout_layers("E|t|L"), (std::vector<std::int64_t>{0, 1, 0}));
  EXPECT_EQ(layout_layers("Ex|L"), std::nullopt);
  EXPECT_EQ(layout_layers("(t*99999999"), std::nullopt);
  EXPECT_EQ(layout_of({3, 0, 1}), "Et*3||tL");
  // 10 layers, the first rank 2, the last 2, the three others 2 each.
  EXPECT_EQ(megatron_split(10, 5, 1, 2, 2, false, false), (std::vector<std::int64_t>{2, 2, 2, 2, 2}));
  // 14 + embedding + loss = 16 over 4 stages: 4 each, of which the ends have one that is no layer.
  EXPECT_EQ(megatron_split(14, 4, 1, {}, {}, true, true), (std::vector<std::int64_t>{3, 4, 4, 3}));
  EXPECT_EQ(megatron_split(15, 4, 1, {}, {}, true, true), std::nullopt);
}

// 10 layers + 1 + 1 = 12 over 5 stages: 3 3 2 2 2, less the embedding and the head.
TEST(Torchtitan, CutsLayers) {
  EXPECT_EQ(torchtitan_split(10, 5, 1, 1), (std::vector<std::int64_t>{2, 3, 2, 2, 1}));
  EXPECT_TRUE(torchtitan_split(1, 4, 1, 2).empty());
  EXPECT_TRUE(torchtitan_split(3, 5, 1, 0).empty());  // a stage of nothing
  EXPECT_TRUE(torchtitan_split(5, 4, 0, 2).empty());  // a head of two layers, where stages have one
}

TEST(Torchtitan, RefusesStagesThatItsScheduleHasNot) {
  const auto refused = [](const std::string& parallelism) -> std::string {
    try {
      import_torchtitan(
          "[model]\nname = \"deepseek_v3\"\nflavor = \"16B\"\n[parallelism]\n"
          "pipeline_parallel_degree = 2\n" +
              parallelism + "\n[activation_checkpoint]\nmode = \"none\"",
          "t.toml", {});
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  };
  const std::string interleaved = "pipeline_parallel_schedule = \"Interleaved1F1B\"\n";
  // 27 + 1 + 1 items, 5 each: 6 stages; 10 each: 3.
  EXPECT_EQ(refused(interleaved + "pipeline_parallel_layers_per_stage = 5"), "");
  EXPECT_NE(refused(interleaved + "pipeline_parallel_layers_per_stage = 10").find("10 makes 3 stages"),
            std::string::npos);
  EXPECT_NE(refused("pipeline_parallel_layers_per_stage = 5").find("\"1F1B\" has one stage of a rank, not 3"),
            std::string::npos);
  EXPECT_NE(
      refused(interleaved + "pipeline_parallel_layers_per_stage = 15").find("has several stages of a rank, not 1"),
      std::string::npos);
  EXPECT_NE(refused("module_fqns_per_model_part = [[\"layers.0\"], [\"layers.2\"]]").find("layers.0 to layers.26"),
            std::string::npos);
}

TEST(Toml, Values) {
  const std::vector<Setting> s = read_toml("[a.b]\nx = 1_000 # n\ny = [\"p\",\n 'q']\nz = true\n[c]\nw = 1e-3\n", "t");
  ASSERT_EQ(s.size(), 4U);
  EXPECT_EQ(s[0].name, "a.b.x");
  EXPECT_EQ(s[0].values, (std::vector<std::string>{"1000"}));
  EXPECT_EQ(s[1].values, (std::vector<std::string>{"p", "q"}));
  EXPECT_EQ(s[3].name, "c.w");
  EXPECT_EQ(s[3].line, 7);
  EXPECT_EQ(read_toml(R"(x = "\"\\\n\t\u000a\u00e9\U0001F600")", "t")[0].values.front(),
            "\"\\\n\t\n\xc3\xa9\xf0\x9f\x98\x80");
  for (const char* text :
       {R"(x = "\u12")", R"(x = "\u12)", R"(x = "\ud800")", R"(x = "\U00110000")", R"(x = "\u-123")"}) {
    EXPECT_THROW(read_toml(text, "t"), InputError) << text;
  }
  for (const char* text : {"[a", "x", "x = ", "x = [1", "x = \"a", "x = {a=1}", "x = 1 2", "x = yes"}) {
    EXPECT_THROW(read_toml(text, "t"), InputError) << text;
  }
}

}  // namespace
}  // namespace foretrain::plan
