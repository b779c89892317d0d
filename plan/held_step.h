// The tensors that a framework has during a step of a plan, each from the event before which it is asked for to the
// event after which it is given back (plan/held_memory.h replays them). Events are ops in program order, and the steps
// inside an op that the rules know of.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "plan/held_memory.h"

namespace foretrain::plan {

// One tensor's stay: from before event `first` to after event `last`.
struct HeldLife {
  std::int64_t bytes = 0;
  std::int32_t first = 0, last = 0;
  HeldKind kind{};
};

// Those of a step's microbatches that are replayed (plan/held_memory.h).
class ReplayedMicrobatches {
 public:
  explicit ReplayedMicrobatches(const std::vector<Instance>& body);
  std::int32_t count() const { return count_; }  // with those left out
  bool contains(std::int32_t microbatch) const { return microbatch < first_ || microbatch == count_ - 1; }

 private:
  std::int32_t count_ = 0, first_ = 0;  // so many of the first
};

// The lives of one step's tensors, in the order in which they begin.
class HeldStep {
 public:
  HeldStep(const Role& role, const HeldRules& rules);

  const std::vector<HeldLife>& persistent_lives() const { return persistent_; }
  // Held from an event of the first step on.
  const std::vector<HeldLife>& late() const { return late_; }
  const std::vector<HeldLife>& lives() const { return lives_; }
  std::int32_t events() const { return events_; }

 private:
  enum class Stay : std::uint8_t {
    from_start,   // parameters, gradients, master weights
    from_update,  // moments
    step,         // gradients, where they do not stay
    microbatch,   // activations
    instance,     // inside one walk of a segment
    iteration,    // inside one iteration of a block
    loss,         // logits and their gradient, where HeldLoss says what there is
  };
  static constexpr std::size_t kLifetimes = 6, kStays = 7;
  struct BufferModel {
    Stay stay{};
    HeldKind kind{};
    std::int64_t planned = 0, bytes = 0;  // of one layer's copy, and what is held of it
    std::size_t first_entity = 0;
    std::int32_t layers = 1;                  // that have copies; 1 where they have none of their own
    const ParameterFamily* family = nullptr;  // whose tensors it holds: parameters and gradients
  };
  struct Range {
    std::size_t first = 0, end = 0;
    std::int64_t owner = -1;  // whose life it is
  };
  // What an op does to a buffer's tensors; buffers that are always there are left out, and repetitions.
  struct Touch {
    BufferId buffer = -1;
    std::int16_t layer_delta = 0;
    bool fills = false;
    std::int32_t first = 0, last = 0;  // op of the block
  };
  struct OpTouches {
    const Op* op = nullptr;
    std::size_t first = 0, end = 0;  // of touches_
    bool more = false;               // of the rules' own tensors
  };
  struct BlockTouches {
    std::vector<OpTouches> ops;
    // Its tensors once each, from the first op that touches them to the last, where no rule has more to say.
    std::vector<Touch> tensors;
    bool is_known = false, is_plain = false;
  };
  // One iteration of a block.
  struct Scope {
    std::int32_t microbatch = -1, layer = 0, first_layer = 0;
    std::array<std::int32_t, kLifetimes> copy{};  // by Lifetime
    std::array<std::int64_t, kStays> owner{};     // by Stay
  };
  // What a microbatch has of the loss, in lives_.
  struct LossTensors {
    std::size_t logits = kNone, log_softmax = kNone, gradient = kNone;
  };
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  static constexpr std::int64_t kChunks = 1 << 20;

  Stay stay_of(std::size_t buffer) const;
  void add_tensors(std::size_t buffer, std::vector<HeldLife>& list) const;
  void persistent();
  const BlockTouches& touches_of(BlockId block);
  void join_touches(BlockTouches& block) const;
  void walk();
  void walk_call(const Instance& instance, const Segment& segment, const BlockCall& call);
  void touch(const Touch& t, const Scope& scope, std::int32_t first, std::int32_t last);
  std::int32_t layer_index(const BufferModel& model, const Touch& t, const Scope& scope) const;
  void hand_over(const Op& op, bool in_layer);
  void end_gradients();

  // plan/held_framework.cpp
  std::size_t add(std::int64_t bytes, HeldKind kind);
  void loss(const Op& op, std::int32_t microbatch);
  void write_logits(std::int64_t shard, bool kept, std::int32_t microbatch);
  void begin_update();
  void end_update();

  const Role& role_;
  const HeldRules& rules_;
  std::vector<BufferModel> buffers_;
  std::vector<BlockTouches> blocks_;  // by BlockId, known where a block was walked
  std::vector<Touch> touches_;
  std::vector<Range> life_;  // in lives_, by entity: one copy of one layer of a buffer
  Dtype parameter_dtype_ = Dtype::fp32;
  std::set<std::pair<std::int64_t, std::int64_t>> shapes_;
  std::vector<HeldLife> persistent_, late_, lives_;
  std::vector<LossTensors> losses_;  // by microbatch
  std::vector<std::size_t> logits_;  // of microbatches in the order in which they were written
  std::vector<std::size_t> update_;  // tensors of the update
  std::size_t moments_ = 0;          // of late_
  bool updated_ = false;
  std::int32_t events_ = 0, last_of_step_ = 0, last_of_update_ = 0;
  std::int64_t instances_ = 0, iterations_ = 0;
};

}  // namespace foretrain::plan
