// Pipeline stages that differ in their neighbours, their place in the model and their row of the schedule, but not in
// what they do: all but the first of them are copies. Used by build*.cpp only.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plan/build_context.h"
#include "plan/schedule.h"

namespace foretrain::plan {

// The tag of what goes from a virtual stage to the next one or back: "activation 3|4".
std::string boundary(std::string_view what, int below);

// The stages of a job that were built op by op so far, and copies of them.
class StageTwins {
 public:
  // `rank_of_stage`: by virtual stage. `alike`: false where ranks of one stage have several roles.
  StageTwins(const Job& job, const std::vector<std::int32_t>& rank_of_stage, bool alike);

  // Fills `role`, all but its name, its ranks and its memory, from a stage that does the same: which role that is;
  // none: there is no such stage. Tags are added to the graph in the order in which building it would.
  std::optional<std::size_t> copy(PlanGraph& g, Role& role, int stage, const std::vector<Action>& row,
                                  const CopyAssignment& copies) const;
  // A stage that was built: role `role` of the graph.
  void add(int stage, std::size_t role, const std::vector<Action>& row);

 private:
  // What decides about the ops of a stage in the middle of the pipeline.
  struct Likeness {
    std::vector<std::int32_t> chunk_stage;  // virtual
    std::vector<std::int32_t> chunk_layers, recomputed;
    std::vector<std::int32_t> global_layer;
    bool in_the_middle = false;  // neither end of the model; both neighbours are the ranks beside it
  };
  struct Built {
    int stage = 0;
    std::size_t role = 0;
    const std::vector<Action>* row = nullptr;
    Likeness likeness;
  };

  Likeness likeness(int stage) const;
  bool alike(const Likeness& a, const Likeness& b) const;

  const Job& job_;
  const std::vector<std::int32_t>& rank_of_stage_;
  bool any_;
  std::vector<std::int64_t> layers_;  // by virtual stage
  std::vector<Built> built_;
};

}  // namespace foretrain::plan
