// Communication, and copies around it, that a published run's framework has and the plan graph has not, in seconds of a
// step, all of it exposed: what each framework does stands in search/training_rules.json with its source, and was
// counted, never fitted. REQUIRES: a job.
#pragma once

#include "plan/graph.h"
#include "search/training_job.h"

namespace foretrain::search {

// Over tp: input gradients of gate and up that are summed apart, in every layer of a stage; logits that every rank
// gathers, on the last one.
double more_tp_seconds(const Reading& reading);

// Over dp, with ZeRO-1: what an all-reduce of the gradients takes beyond a reduce-scatter.
double more_dp_seconds(const Reading& reading);

// Before the reduction of a step's gradients: their norm, and over several ranks of dp and cp their average's factor, a
// read and a read and a write of the fullest stage's. Not for gradients that are sharded.
double more_gradient_seconds(const Reading& reading, const plan::PlanGraph& graph);

// Of ZeRO-3 by PyTorch's FSDP: passes over gathered parameters and over whole gradients before they are reduced, which
// share the device with the matmuls. Nothing for models with experts, whose parameters are sharded otherwise.
double more_sharding_seconds(const Reading& reading);

}  // namespace foretrain::search
