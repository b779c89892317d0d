// What a checkpoint holds of the ranks' memory, and the way back. State is what a step reads that the steps before it
// left: parameters (master weights, where parameters have fewer bits: they are these, rounded), the optimizer's
// moments, the outer optimizer's state, residuals of coded gradients, the loss's scale, and of each worker how many of
// its updates are made already. All else of a step follows from them, the step's number, the seed and the data.
// Replicas that drift apart have each their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "exec/checkpoint_shard.h"
#include "exec/pieces.h"

namespace foretrain::exec {

// What one rank writes: of all that hold the same, one does.
class ShardSource {
 public:
  explicit ShardSource(const RankMemory& memory, Replicas of = Replicas::all);

  plan::Rank rank() const { return static_cast<plan::Rank>(header_.rank); }
  bool empty() const { return header_.pieces.empty(); }
  std::int64_t payload_bytes() const { return header_.payload_bytes(); }
  const ShardHeader& header() const { return header_; }  // without step and checksum
  // Copies the state as it is.
  void copy_to(std::byte* payload) const;

 private:
  struct Stretch {
    kernels::Tensor from;
    std::int64_t elements = 0;
    Dtype stored{};  // as which it is written
  };
  RankMemory memory_;
  ShardHeader header_;
  std::vector<Stretch> stretches_;  // in the payload's order
};

// All that ranks of one process store, to be filled from shards of whichever ranks.
class StateTargets {
 public:
  // `vocab`: of the model. Rows of tables of words behind it are padding, of which strategies have more or fewer.
  StateTargets(const std::vector<RankMemory>& ranks, std::int64_t vocab);

  // Before anything is filled: of every shard. Throws InputError, with `origin`, for a piece of a tensor that the model
  // does not have so.
  void check(const ShardHeader& header, const std::string& origin);
  bool wants(const ShardHeader& header, const ShardPiece& piece) const;
  // Takes what is here of a piece, whose bytes are at `payload`.
  void fill(const ShardHeader& header, const ShardPiece& piece, const std::byte* payload);
  // All has been offered: puts down what was added up, and noughts where nobody had any. Where there are as many
  // replicas, or members of one, as there were, each has its own again; else replicas are averaged, and what is left
  // over of a replica's gradients is shared out alike over its members.
  void complete();
  // The name of a tensor of which something was not filled; "" when all was. Padding keeps what it had.
  std::string missing() const;

 private:
  struct Target {
    RankMemory memory;
    Part part{};
    int quantity = 0;  // of the part's
    TensorRun run;
    Among among;
    kernels::Tensor tensor;  // at the run's first element
    std::int64_t filled = 0, givers = 1;
    std::vector<double> sum;  // of several givers
  };
  struct Whole {
    std::int64_t rows = 0, cols = 0;
    std::vector<Target> targets;
  };
  struct Gift {
    std::int64_t givers = 0;  // of each element; 0: it is not for this target
    double share = 1;         // of what is given
  };
  Gift gift(const ShardHeader& header, const ShardPiece& piece, const Target& target) const;

  std::int64_t vocab_;
  std::map<std::string, Whole> tensors_;
  bool has_anchors_ = false;  // the checkpoint; else the weights are where outer steps go on from
};

}  // namespace foretrain::exec
