#include "workloads/workload_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/message_of.h"

namespace foretrain::workloads {
namespace {

using test::message_of;

Workload read(const std::string& text) {
  const JsonDocument document = JsonDocument::from_text(text, "job.json");
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  Workload w = read_workload(reader, false);
  reader.finish();
  mistakes.throw_if_any();
  return w;
}

constexpr const char* kSmallest = R"({"model": "tiny-gpt", "seq_len": 128, "global_batch": 8)";

TEST(WorkloadFile, Defaults) {
  const Workload w = read(std::string(kSmallest) + "}");
  EXPECT_EQ(w.precision.word, "bf16");
  EXPECT_EQ(w.optimizer.kind, OptimizerKind::adamw);
  EXPECT_EQ(w.optimizer.weight_decay, 0.1);
  EXPECT_EQ(w.attention, AttentionKind::flash);
  EXPECT_EQ(w.data.path, "");
}

TEST(WorkloadFile, OptimizerAsWordOrObject) {
  EXPECT_EQ(read(std::string(kSmallest) + R"(, "optimizer": "momentum"})").optimizer.kind, OptimizerKind::momentum);
  EXPECT_EQ(read(std::string(kSmallest) + R"(, "optimizer": "adam"})").optimizer.weight_decay, 0.0);
  const Optimizer o = read(std::string(kSmallest) +
                           R"(, "optimizer": {"name": "adamw", "learning_rate": 3e-4, "warmup_steps": 10, "clip": 0}})")
                          .optimizer;
  EXPECT_EQ(o.learning_rate, 3e-4);
  EXPECT_EQ(o.warmup_steps, 10);
  EXPECT_EQ(o.clip, 0);
}

TEST(WorkloadFile, RoundTrips) {
  for (const char* rest :
       {"}", R"(, "optimizer": {"name": "sgd", "learning_rate": 0.1, "decay_steps": 5}, "attention": "unfused",
                                "precision": "fp64", "data": {"path": "/tmp/text"}})"}) {
    const nlohmann::json first = to_json(read(kSmallest + std::string(rest)));
    EXPECT_EQ(to_json(read(first.dump())), first);
  }
}

TEST(WorkloadFile, AllMistakesAtOnce) {
  EXPECT_EQ(message_of([] {
              read(R"({
  "model": "tiny-gpt",
  "seq_len": 1024,
  "global_batch": 0,
  "precision": "float32",
  "optimizer": {"name": "newton", "learning_rate": -1, "beta1": 1, "warmup_steps": 9, "decay_steps": 5, "lr": 1},
  "attention": "flsh",
  "data": {"distribution": "sequential", "reshuffle": true, "epochs": 0, "loaders": 2, "cache": "1 GB"},
  "batch": 3
})");
            }),
            R"(job.json:4: /global_batch: 0 is not allowed; expected an integer from 1 to 1000000000
job.json:5: /precision: "float32" is not allowed; expected one of: fp64, fp32, tf32, fp16, bf16, fp8, mxfp8, nvfp4
job.json:6: /optimizer/name: "newton" is not allowed; expected one of: sgd, momentum, adam, adamw, rmsprop, lamb
job.json:6: /optimizer/learning_rate: -1 is not allowed; expected a number >= 0
job.json:6: /optimizer/beta1: 1 is not allowed; expected a number from 0 to 0.999999
job.json:6: /optimizer/decay_steps: 5 is not allowed; expected 0 (constant) or more than the 9 warmup_steps
job.json:6: /optimizer/lr: unknown key "lr"; known: name, decay, learning_rate, min_learning_rate, warmup_steps, decay_steps, beta1, beta2, eps, weight_decay, momentum, clip, rounding
job.json:7: /attention: "flsh" is not allowed; did you mean "flash"? expected one of: unfused, fused_softmax, flash, flash3, cudnn
job.json:8: /data/reshuffle: true is not for distribution sequential, whose order is the data's own
job.json:8: /data/epochs: 0 is not allowed; expected an integer from 1 to 1000000000000
job.json:8: /data/loaders: 2 threads with prefetch 0: a thread reads one microbatch ahead at a time; expected at most as many threads
job.json:8: /data/cache: how much of an epoch it holds is known with "sequences", the number of an epoch's
job.json:3: /seq_len: 1024 is not allowed; the model has 512 learned positions
job.json:9: /batch: unknown key "batch"; known: seq_len, model, target_len, global_batch, precision, optimizer, loss_scaling, attention, document_length, moe_imbalance, masked_share, data)");
}

}  // namespace
}  // namespace foretrain::workloads
