// Programs for measuring: a plan graph made of given ops over pools of memory, for the executor to run like any other.
// What is timed is what trains: the same kernels, device loop and communicator.
//
// Memory is two pools that the ops walk through from front to back: tensors that are only read lie in the one, which
// ops never write, all others in the second. Every step loads both anew with small numbers in every element type.
// Tensors on the host all begin where its memory does.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "exec/data.h"
#include "exec/executor.h"
#include "plan/graph.h"

namespace foretrain::exec {

struct ProbeTensor {
  Dtype dtype = Dtype::fp32;
  std::int64_t elements = 0;
  int part_of = -1;  // index of another tensor of the op: rank r has part r of it
  bool on_host = false;
};

// An op to measure. `reads` and `writes` are indices of `tensors`, in the order of plan/ops.h.
struct Probe {
  plan::Work work;
  std::vector<ProbeTensor> tensors;
  std::vector<int> reads, writes;
};

// All token ids in the pools are below it.
inline constexpr std::int64_t kProbeVocabulary = 256;
// Token ids that an op can read at most.
inline constexpr std::int64_t kProbeIds = 262144;

class ProbeProgram {
 public:
  // Ranks along dp have one role, ranks along pp one each. `pool`: bytes of each of the two; `host`: of the host's;
  // `groups`: so many of these ranks, along tp, which know nothing of each other.
  ProbeProgram(int ranks, plan::Axis axis, Bytes pool, Bytes host = {}, int groups = 1);

  // Appends an op to a role's program; returns its position. Its tensors lie on the next addresses of the pools, or
  // begin where those of the role's last op do.
  enum class Place : std::uint8_t { next, same };
  int add(const Probe& probe, int role = 0, Place place = Place::next);
  // The same for role 0 on one of kStreams streams, of which add() takes the first, behind earlier ops on others.
  static constexpr int kStreams = 4;
  int add_on(int stream, const Probe& probe, Place place, const std::vector<int>& after = {});
  // Index of a parameter family of that many elements, for ops over buckets.
  std::int16_t family(std::int64_t elements);
  // A match key of its own for a communication op.
  std::int32_t new_tag();

  const plan::PlanGraph& graph() const { return graph_; }
  // Id of the instance whose ops these are.
  static constexpr std::int32_t kInstance = 1;

 private:
  struct Walk {
    std::int64_t read = 0, written = 0;  // bytes into the pools
  };
  plan::Operand take(Walk& walk, const ProbeTensor& tensor, bool is_written) const;
  plan::Op op_of(const Probe& probe, int role, Place place);
  int append(plan::Op op, int role);

  plan::PlanGraph graph_;
  std::int64_t pool_, host_;
  std::vector<Walk> walks_, last_;  // by role: where the next op's tensors begin, where the last one's did
  std::map<std::int64_t, std::int16_t> families_;
};

// Samples that an op can load at most.
inline constexpr std::int64_t kProbeSamples = 4096;

// What a program's pools are loaded with; and samples of one number, found as training finds them.
class ProbeData : public DataSource {
 public:
  ProbeData();
  void sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* ids) const override;
  Sample sample(std::int64_t step, std::int64_t index_in_batch) const override;

 private:
  Epochs epochs_;
  std::vector<double> samples_;
};

}  // namespace foretrain::exec
