// Whole tensors of a model from and to files of the ecosystem: Hugging Face's safetensors, under its names
// (workloads/hf_weights.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "exec/executor.h"
#include "plan/graph.h"
#include "workloads/model.h"
#include "workloads/safetensors.h"

namespace foretrain::exec {

// The files that --save makes are at most this large where tensors allow it.
inline constexpr std::int64_t kShardBytes = 5'000'000'000;

// Values for every parameter of the graph, for Executor::set_parameters; rows of the padded vocabulary are zero. Of a
// classifier's head those that are there: it may begin from a model that masked tokens trained. Types may differ from
// the run's. Throws InputError that names the file and the tensor: one that is missing, of another
// shape, of a type without numbers, one too many (names that the transformers library itself passes over aside), a tied
// head that differs from the embedding. Where the folder of the weights has a config.json, what it computes must be
// what the model does.
std::vector<FullTensor> read_weights(const plan::PlanGraph& graph, const workloads::Model& model,
                                     const workloads::Safetensors& weights);

// Throws InputError where `folder` exists and is no folder or has weights already, and for a model that no family has:
// known before a run, not after it.
void check_can_save(const std::string& folder, const workloads::Model& model);

// config.json and the weights in `folder`, made where it is missing. REQUIRES: check_can_save; every tensor of the
// model. Throws EnvironmentError.
void save_model(const std::string& folder, const workloads::Model& model, std::int64_t max_positions, Dtype dtype,
                const std::vector<FullTensor>& tensors, std::int64_t shard_bytes = kShardBytes);

// Gradients with respect to the weights as they are stored, in one file, in fp64 or fp32.
void save_gradients(const std::string& path, const workloads::Model& model, Dtype dtype,
                    const std::vector<FullTensor>& tensors);

// Little-endian numbers as fp64, and back (rounded to nearest, ties to even). `dtype`: fp64, fp32, fp16 or bf16.
void decode(std::span<const std::byte> bytes, Dtype dtype, std::vector<double>& values);
std::string encode(const std::vector<double>& values, Dtype dtype);

}  // namespace foretrain::exec
