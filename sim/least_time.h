// What a stretch of a role's program takes on its compute stream at least, whatever else happens: a bound for searches.
//
// Ops follow each other as the graph says (streams, after, events) and take as long as the models say they take alone;
// nothing from before the stretch holds anything up. In a simulation links are shared, compute and communication slow
// each other, and other ranks come late, so that the time from the first compute op's start to the last one's end is
// never less. As the compute stream runs one op at a time, stretches that follow each other take their sum.
#pragma once

#include <vector>

#include "plan/cursor.h"
#include "sim/role_model.h"

namespace foretrain::sim {

class LeastTime {
 public:
  // `model` must outlive it.
  explicit LeastTime(const RoleModel& model);

  void begin(bool weights = true);                     // of a stretch, with or without the ops of weight gradients
  void add(plan::BlockId block, plan::Binding at);     // one iteration
  Time extent() const { return extent_; }              // since begin()
  Time busy() const { return busy_; }                  // of it, of compute ops: what is left where all else is hidden
  Time busy_weights() const { return busy_weights_; }  // of these, of weight gradients
  // Between compute ops that follow each other, of what began when the first had ended: slower compute hides none of
  // it.
  Time waited() const { return waited_; }

 private:
  // Since the first compute op's start. `left`: the end of the compute op with which what led to it began.
  struct End {
    Time at, left;
  };

  const RoleModel& model_;
  std::vector<End> streams_, events_, ops_;
  std::vector<std::int32_t> touched_;  // events
  bool weights_ = true;
  Time extent_, busy_, busy_weights_, waited_;
};

}  // namespace foretrain::sim
