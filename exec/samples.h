// Samples of features, made up from a seed, for models of features.
//   linear: features normal; a target is w x + b + noise, noise normal times `noise`, w and b being normal themselves.
//   shells: a class's samples lie round the origin, features being a random direction times class + 1/2 + noise; of one
//           output the classes are 0 and 1, of more one each.
// What is trained on comes first, then what is validated on, a tenth as much. A step takes the next global_batch
// samples of an epoch's permutation, as exec/data.h says of windows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "exec/data.h"
#include "exec/executor.h"
#include "exec/op_call.h"
#include "plan/ops.h"

namespace foretrain::exec {

class Samples : public DataSource {
 public:
  enum class Part : std::uint8_t { training, validation };
  // REQUIRES: a model of features. Throws InputError for fewer samples than a step takes.
  Samples(const workloads::Workload& workload, Part part, std::uint64_t seed, const Dealing& dealing = {});

  Sample sample(std::int64_t step, std::int64_t index_in_batch) const override;
  DataPlace place(std::int64_t step, std::int64_t index_in_batch) const override {
    return epochs_.place(step, index_in_batch);
  }
  std::int64_t count() const { return count_; }
  const Epochs& epochs() const { return epochs_; }
  // Sample `index` as it was made.
  Sample at(std::int64_t index) const;

 private:
  std::int64_t inputs_, labels_, count_;
  Epochs epochs_;
  std::vector<double> values_;  // of a sample one after the other: features, labels
};

// load_features, load_labels, load_lengths: this rank's share of the samples of the call's microbatch.
void load_samples(const OpCall& call, const plan::Host& op);

}  // namespace foretrain::exec
