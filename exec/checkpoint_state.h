// What a checkpoint holds of the ranks' memory, and the way back. State is what a step reads that the steps before it
// left: parameters (master weights, where parameters have fewer bits: they are these, rounded) and the optimizer's
// moments. All else of a step follows from them, the step's number, the seed and the data.
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
  explicit ShardSource(const RankMemory& memory);

  plan::Rank rank() const { return static_cast<plan::Rank>(header_.rank); }
  bool empty() const { return header_.pieces.empty(); }
  std::int64_t payload_bytes() const { return header_.payload_bytes(); }
  const ShardHeader& header() const { return header_; }  // without step and checksum
  // Copies the state as it is.
  void copy_to(std::byte* payload) const;

 private:
  struct Part {
    kernels::Tensor from;
    std::int64_t elements = 0;
  };
  RankMemory memory_;
  ShardHeader header_;
  std::vector<Part> parts_;  // in the payload's order
};

// All that ranks of one process store, to be filled from shards of whichever ranks.
class StateTargets {
 public:
  // `vocab`: of the model. Rows of tables of words behind it are padding, of which strategies have more or fewer.
  StateTargets(const std::vector<RankMemory>& ranks, std::int64_t vocab);

  // Throws InputError, with `origin`, for a piece of a tensor that the model does not have so.
  void check(const ShardHeader& header, const std::string& origin) const;
  bool wants(const ShardPiece& piece) const;
  // Takes what is here of a piece, whose bytes are at `payload`.
  void fill(const ShardHeader& header, const ShardPiece& piece, const std::byte* payload);
  // The name of a tensor of which something was not filled; "" when all was. Padding keeps what it had.
  std::string missing() const;

 private:
  struct Target {
    RankMemory memory;
    Stored stored{};
    TensorRun run;
    kernels::Tensor tensor;  // at the run's first element
    std::int64_t filled = 0;
  };
  struct Whole {
    std::int64_t rows = 0, cols = 0;
    std::vector<Target> targets;
  };

  std::int64_t vocab_;
  std::map<std::string, Whole> tensors_;
};

}  // namespace foretrain::exec
