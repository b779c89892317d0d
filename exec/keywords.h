// Padded sequences with a class each, made up from a seed, for classifiers. Of the ids 0 stands behind a sequence's
// end, 1 is every sequence's first token, class c has the keyword 2 + c, and the others say nothing. A sequence has any
// class, any length from a quarter of the longest (and 2) to it, and in any place behind its first token its class's
// keyword, once; no other keyword. What is trained on comes first, then what is validated on, a tenth as much. A step
// takes the next global_batch sequences of an epoch's permutation, as exec/data.h says of windows.
#pragma once

#include <cstdint>
#include <vector>

#include "exec/data.h"
#include "exec/executor.h"

namespace foretrain::exec {

class Keywords : public DataSource {
 public:
  enum class Part : std::uint8_t { training, validation };
  // REQUIRES: a classifier. Throws InputError for fewer sequences than a step takes, and for too many to hold.
  Keywords(const workloads::Workload& workload, Part part, std::uint64_t seed, const Dealing& dealing = {});

  // The last of the ids, behind the longest sequence's end, is 0.
  void sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* ids) const override;
  // features: its length; labels: its class.
  Sample sample(std::int64_t step, std::int64_t index_in_batch) const override;
  DataPlace place(std::int64_t step, std::int64_t index_in_batch) const override {
    return epochs_.place(step, index_in_batch);
  }
  std::int64_t count() const { return count_; }
  const Epochs& epochs() const { return epochs_; }

 private:
  std::int64_t seq_len_, count_;
  Epochs epochs_;
  std::vector<std::int32_t> ids_;  // seq_len of each
  std::vector<double> lengths_, classes_;
};

}  // namespace foretrain::exec
