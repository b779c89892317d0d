// What a plan search decides: the words of the strategy that the job leaves open, the values each may take, and the
// plans that they make. A word that the job gives has that value alone; words that are no axis keep it, or their
// default. dp follows from the devices.
//
// A plan is a shape, which says what a microbatch costs, and a tail, which says what goes on around it.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "plan/open_job.h"

namespace foretrain::search {

struct PlanSpace {
  // Of shapes.
  std::vector<std::int64_t> tp, pp, cp, ep, micro_batch, virtual_stages;
  std::vector<bool> sequence_parallel, whole_experts, overlap_ep;  // whole_experts: expert_tp 1, else tp
  std::vector<std::string> schedule, recompute, cp_kind;
  // Of tails.
  std::vector<std::int64_t> zero, shard;  // shard 0: over all
  std::vector<bool> overlap_grad_reduce, overlap_param_gather;
  std::vector<std::string> rank_order;

  std::int64_t tails() const;  // products of the axes' sizes
  std::int64_t size() const;
};

// Values in the order in which they are tried. `axes`: "tp=2,4,8", in place of those it would take by itself. Throws
// InputError for a word that is no axis.
PlanSpace space_of(const plan::OpenJob& open, const std::vector<std::string>& axes);
// By axis, as the job file has it.
nlohmann::json to_json(const PlanSpace& space);

// Of recompute: as the job lists it.
inline constexpr const char* kListed = "listed";
inline constexpr const char* kRankOrder = "pp,dp,cp,tp";  // by default
inline constexpr const char* kDataOutside = "dp,pp,cp,tp";

struct Shape {
  std::int64_t dp = 1, tp = 1, pp = 1, cp = 1, ep = 1, micro_batch = 1, virtual_stages = 1;
  bool sequence_parallel = false, whole_experts = false, overlap_ep = false;
  std::string schedule, recompute, cp_kind;
  std::int64_t microbatches = 1;
};

struct Tail {
  std::int64_t zero = 0, shard = 0;
  bool overlap_grad_reduce = false, overlap_param_gather = false;
  std::string rank_order;
};

// Plans that were left out, counted by why.
using Rejected = std::map<std::string, std::int64_t>;

// Those whose sizes divide. The others are added to `rejected`.
std::vector<Shape> shapes_of(const PlanSpace& space, const plan::OpenJob& open, Rejected& rejected);
// Those that go with the shape; likewise.
std::vector<Tail> tails_of(const PlanSpace& space, const Shape& shape, Rejected& rejected);

// As in a job file, without what is as by default.
nlohmann::json strategy_of(const plan::OpenJob& open, const Shape& shape, const Tail& tail);

}  // namespace foretrain::search
