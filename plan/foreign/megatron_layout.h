// How Megatron-LM cuts layers into stages, where it is told to cut them unevenly.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace foretrain::plan {

// Layers of each virtual stage of --pipeline-model-parallel-layout: stages between |, of E (embedding), t (layer), m
// (module that predicts further tokens) and L (loss); "x*3" and "(..)*3" repeat (megatron/core/transformer/
// pipeline_parallel_layer_layout.py). Nothing where it is something else.
std::optional<std::vector<std::int64_t>> layout_layers(std::string_view layout);
// The layout of these stages.
std::string layout_of(const std::vector<std::int64_t>& layers);

// --decoder-first/last-pipeline-num-layers (of a rank's chunks together),
// --account-for-embedding/loss-in-pipeline-split (which count as layers). Nothing where layers do not divide so.
std::optional<std::vector<std::int64_t>> megatron_split(std::int64_t layers, std::int64_t pp, std::int64_t chunks,
                                                        std::optional<std::int64_t> first,
                                                        std::optional<std::int64_t> last, bool embedding, bool loss);

}  // namespace foretrain::plan
