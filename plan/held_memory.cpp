#include "plan/held_memory.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "base/error.h"
#include "plan/caching_allocator.h"

namespace foretrain::plan {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

// One tensor's stay: from before event `first` to after event `last`.
struct Life {
  std::int64_t bytes = 0;
  std::int32_t first = 0, last = 0;
  HeldKind kind{};
};

enum class Stay : std::uint8_t {
  from_start,   // parameters, gradients, master weights
  from_update,  // moments
  step,         // gradients, where they do not stay
  microbatch,   // activations
  instance,     // inside one walk of a segment
  iteration,    // inside one iteration of a block
};

struct BufferModel {
  Stay stay{};
  HeldKind kind{};
  std::int64_t planned = 0, bytes = 0;  // of one layer's copy, and what is held of it
  std::size_t first_entity = 0;
  const ParameterFamily* family = nullptr;  // whose tensors it holds: parameters and gradients
};

HeldKind kind_of(const Role& role, std::size_t buffer) {
  const auto id = static_cast<BufferId>(buffer);
  for (const ParameterFamily& f : role.parameter_families) {
    if (f.master == id) {
      return HeldKind::master_weights;
    }
  }
  const Buffer& b = role.buffers[buffer];
  switch (b.kind) {
    case BufferKind::parameter: return HeldKind::parameters;
    case BufferKind::gradient: return HeldKind::gradients;
    case BufferKind::optimizer_state: return HeldKind::optimizer_state;
    case BufferKind::activation:
      return id == role.logits || b.name == "head.d_logits" || b.name == "loss.rows" ? HeldKind::logits
                                                                                     : HeldKind::activations;
    case BufferKind::communication: return HeldKind::communication;
    default: return HeldKind::workspace;
  }
}

Stay stay_of(const Role& role, std::size_t buffer) {
  const auto id = static_cast<BufferId>(buffer);
  const Buffer& b = role.buffers[buffer];
  const bool model = b.kind == BufferKind::parameter || b.kind == BufferKind::gradient ||
                     b.kind == BufferKind::optimizer_state || b.kind == BufferKind::input;
  switch (b.lifetime) {
    case Lifetime::segment: return Stay::instance;
    case Lifetime::block: return Stay::iteration;
    case Lifetime::persistent:
      for (const ParameterFamily& f : role.parameter_families) {
        if (f.m == id || f.v == id) {
          return Stay::from_update;
        }
      }
      return model ? Stay::from_start : Stay::microbatch;
    default: return Stay::microbatch;
  }
}

// Microbatches begun and not ended, at most.
std::int32_t microbatches_in_flight(const std::vector<Instance>& body, std::int32_t microbatches) {
  std::vector<std::size_t> last(at(microbatches), 0);
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i].microbatch >= 0) {
      last[at(body[i].microbatch)] = i;
    }
  }
  std::vector<bool> open(at(microbatches), false);
  std::int32_t in_flight = 0, most = 0;
  for (std::size_t i = 0; i < body.size(); ++i) {
    const std::int32_t m = body[i].microbatch;
    if (m >= 0 && !open[at(m)]) {
      open[at(m)] = true;
      most = std::max(most, ++in_flight);
    }
    if (m >= 0 && last[at(m)] == i) {
      --in_flight;
    }
  }
  return most;
}

// The lives of one step's tensors, in the order in which they begin.
class StepWalk {
 public:
  StepWalk(const Role& role, const HeldRules& rules) : role_(role), per_shape_(rules.weight_gradient_per_shape) {
    std::size_t entities = 0;
    for (std::size_t b = 0; b < role.buffers.size(); ++b) {
      const Buffer& buffer = role.buffers[b];
      const auto found = rules.times.find(buffer.name);
      const double times = found == rules.times.end() ? 1 : found->second;
      const std::int64_t planned = size_bytes(buffer.dtype, buffer.elements);
      const auto bytes = static_cast<std::int64_t>(std::ceil(static_cast<double>(planned) * times));
      Stay stay = stay_of(role, b);
      if (stay == Stay::from_start && buffer.kind == BufferKind::gradient && rules.gradients_per_step) {
        stay = Stay::step;
      }
      buffers_.push_back({stay, kind_of(role, b), planned, bytes, entities, nullptr});
      entities += at(std::max(buffer.layers, 1) * std::max(role.copies(buffer.lifetime), 1));
    }
    for (const ParameterFamily& f : role.parameter_families) {
      for (const BufferId b : {f.parameter, f.gradient}) {
        if (b >= 0) {
          buffers_[at(b)].family = &f;
        }
      }
      if (f.parameter >= 0) {
        parameter_dtype_ = role.buffers[at(f.parameter)].dtype;
      }
    }
    life_.assign(entities, {});
    owner_.assign(entities, -1);
    persistent();
    walk();
  }

  const std::vector<Life>& persistent_lives() const { return persistent_; }
  // Held from an event of the first step on.
  const std::vector<Life>& late() const { return late_; }
  const std::vector<Life>& lives() const { return lives_; }
  std::int32_t events() const { return events_; }

 private:
  // The tensors of one layer's copy of a buffer.
  void add_tensors(std::size_t buffer, std::vector<Life>& list) const {
    const BufferModel& model = buffers_[buffer];
    std::int64_t rest = model.bytes;
    const auto elements = static_cast<double>(role_.buffers[buffer].elements);
    for (std::size_t i = 0; model.family != nullptr && i < model.family->parameters.size(); ++i) {
      const Parameter& p = model.family->parameters[i];
      const double share = static_cast<double>(p.rows * p.cols) / elements;
      const auto bytes = std::min(rest, static_cast<std::int64_t>(static_cast<double>(model.bytes) * share));
      if (bytes > 0) {
        list.push_back({bytes, events_, events_, model.kind});
        rest -= bytes;
      }
    }
    if (rest > 0) {
      list.push_back({rest, events_, events_, model.kind});
    }
  }

  void persistent() {
    for (std::size_t b = 0; b < buffers_.size(); ++b) {
      const Stay stay = buffers_[b].stay;
      for (std::int32_t layer = 0; layer < std::max(role_.buffers[b].layers, 1); ++layer) {
        if (stay == Stay::from_start || stay == Stay::from_update) {
          add_tensors(b, stay == Stay::from_start ? persistent_ : late_);
        }
      }
    }
  }

  void touch(const Operand& o, const Instance& instance, std::int32_t layer, std::int32_t first_layer,
             std::int32_t chunk, bool fills) {
    const BufferModel& model = buffers_[at(o.buffer)];
    if (model.bytes == 0 || model.stay == Stay::from_start) {
      return;
    }
    if (model.stay == Stay::from_update) {
      if (!updated_) {
        std::for_each(late_.begin(), late_.begin() + static_cast<std::ptrdiff_t>(moments_),
                      [&](Life& life) { life.first = events_; });
        updated_ = true;
      }
      return;
    }
    const Buffer& buffer = role_.buffers[at(o.buffer)];
    if (model.stay == Stay::step && fills) {
      return;
    }
    const std::int32_t copy = has_copies(buffer.lifetime) ? std::max(instance.copy(buffer.lifetime), 0) : 0;
    const std::int32_t base = buffer.lifetime == Lifetime::persistent ? 0 : first_layer;
    const std::int32_t index = buffer.layers == 0 ? 0 : std::clamp(layer - base + o.layer_delta, 0, buffer.layers - 1);
    const std::size_t entity = model.first_entity + at(copy * std::max(buffer.layers, 1) + index);
    const std::int64_t owner = model.stay == Stay::iteration  ? iterations_
                               : model.stay == Stay::instance ? instances_
                               : model.stay == Stay::step     ? 0
                               : instance.microbatch < 0
                                   ? -2 - instances_
                                   : static_cast<std::int64_t>(instance.microbatch) * kChunks + chunk;
    Range& range = life_[entity];
    if (range.first == range.end || owner_[entity] != owner) {
      owner_[entity] = owner;
      range.first = lives_.size();
      if (model.stay == Stay::step) {
        add_tensors(at(o.buffer), lives_);
      } else {
        // The plan's tensor, and copies of up to twice its bytes: float32 for 16 bits.
        std::int64_t piece = model.planned;
        for (std::int64_t rest = model.bytes; rest > 0; rest -= piece, piece = 2 * model.planned) {
          lives_.push_back({std::min(rest, piece), events_, events_, model.kind});
        }
      }
      range.end = lives_.size();
    }
    for (std::size_t life = range.first; life < range.end; ++life) {
      lives_[life].last = events_;
    }
    last_of_step_ = model.stay == Stay::step ? events_ : last_of_step_;
  }

  void hand_over(const Op& op, bool in_layer) {
    const auto* matmul = std::get_if<Matmul>(&op.work);
    if (!per_shape_ || matmul == nullptr || op.phase != Phase::backward_weight ||
        role_.buffers[at(op.writes.front().buffer)].kind != BufferKind::gradient) {
      return;
    }
    const std::int64_t bytes = size_bytes(parameter_dtype_, matmul->m * matmul->n);
    if (!in_layer) {
      lives_.push_back({bytes, events_, events_, HeldKind::gradients});
    } else if (shapes_.insert({matmul->m, matmul->n}).second) {
      late_.push_back({bytes, events_, events_, HeldKind::gradients});
    }
  }

  void walk() {
    const std::vector<Instance>& body = role_.program.body;
    std::int32_t microbatches = 0;
    for (const Instance& i : body) {
      microbatches = std::max(microbatches, i.microbatch + 1);
    }
    const std::int32_t kept = microbatches_in_flight(body, microbatches) + 2;
    moments_ = late_.size();
    for (const Instance& instance : body) {
      if (instance.microbatch >= kept && instance.microbatch != microbatches - 1) {
        continue;
      }
      ++instances_;
      const Segment& segment = role_.segments[at(instance.segment)];
      for (const BlockCall& call : segment.calls) {
        for (std::int32_t i = 0; i < call.count; ++i) {
          ++iterations_;
          const std::int32_t layer = call.first < 0 ? segment.first_layer : call.first + i * call.step;
          for (const Op& op : role_.blocks[at(call.block)].ops) {
            const bool fills = std::holds_alternative<Fill>(op.work);
            for (const Operand& o : op.reads) {
              touch(o, instance, layer, segment.first_layer, segment.chunk, fills);
            }
            for (const Operand& o : op.writes) {
              touch(o, instance, layer, segment.first_layer, segment.chunk, fills);
            }
            hand_over(op, call.first >= 0);
            ++events_;
          }
        }
      }
    }
    std::stable_sort(late_.begin(), late_.end(), [](const Life& a, const Life& b) { return a.first < b.first; });
    // Ops on several layers' gradients name the first: all stay as long as any.
    for (std::size_t b = 0; b < buffers_.size(); ++b) {
      const std::int32_t layers = std::max(role_.buffers[b].layers, 1);
      for (std::int32_t layer = 0; buffers_[b].stay == Stay::step && layer < layers; ++layer) {
        const Range& range = life_[buffers_[b].first_entity + at(layer)];
        std::for_each(lives_.begin() + static_cast<std::ptrdiff_t>(range.first),
                      lives_.begin() + static_cast<std::ptrdiff_t>(range.end),
                      [&](Life& life) { life.last = last_of_step_; });
      }
    }
  }

  static constexpr std::int64_t kChunks = 1 << 20;
  const Role& role_;
  std::vector<BufferModel> buffers_;
  struct Range {
    std::size_t first = 0, end = 0;
  };
  std::vector<Range> life_;          // in lives_, by entity: one copy of one layer of a buffer
  std::vector<std::int64_t> owner_;  // whose life it is
  bool per_shape_;
  Dtype parameter_dtype_ = Dtype::fp32;
  std::set<std::pair<std::int64_t, std::int64_t>> shapes_;
  std::vector<Life> persistent_, late_, lives_;
  std::size_t moments_ = 0;  // of late_
  bool updated_ = false;
  std::int32_t events_ = 0, last_of_step_ = 0;
  std::int64_t instances_ = 0, iterations_ = 0;
};

// The allocator with what each kind has of it.
class Account {
 public:
  Account(bool expandable_segments, std::int64_t limit) : allocator_(expandable_segments, limit) {}
  const CachingAllocator& allocator() const { return allocator_; }
  CachingAllocator::Handle take(const Life& life) {
    by_kind_[at(static_cast<int>(life.kind))] += life.bytes;
    const CachingAllocator::Handle handle = allocator_.allocate(life.bytes);
    if (allocator_.allocated() > peak_) {
      peak_ = allocator_.allocated();
      at_peak_ = by_kind_;
    }
    return handle;
  }
  void give(const Life& life, CachingAllocator::Handle handle) {
    by_kind_[at(static_cast<int>(life.kind))] -= life.bytes;
    allocator_.release(handle);
  }
  HeldMemory result() const {
    HeldMemory held{{peak_}, {allocator_.peak_reserved()}, {allocator_.peak_reserved()}, {}};
    std::int64_t rest = peak_;
    for (std::size_t k = 0; k < at_peak_.size(); ++k) {
      held.by_kind[k] = {at_peak_[k]};
      rest -= at_peak_[k];
    }
    held.by_kind[at(static_cast<int>(HeldKind::workspace))] += Bytes{rest};
    return held;
  }

 private:
  CachingAllocator allocator_;
  std::array<std::int64_t, kHeldKinds> by_kind_{}, at_peak_{};
  std::int64_t peak_ = 0;
};

// Lives by the event after which they end.
std::vector<std::vector<std::int32_t>> endings(const StepWalk& step) {
  std::vector<std::vector<std::int32_t>> result(at(step.events()));
  for (std::size_t i = 0; i < step.lives().size(); ++i) {
    result[at(step.lives()[i].last)].push_back(static_cast<std::int32_t>(i));
  }
  return result;
}

Account replay(const StepWalk& step, const std::vector<std::vector<std::int32_t>>& ending, Account account) {
  for (const Life& life : step.persistent_lives()) {
    account.take(life);
  }
  std::vector<CachingAllocator::Handle> handles(step.lives().size(), -1);
  constexpr int kSteps = 2;
  auto late = step.late().begin();
  for (int s = 0; s < kSteps; ++s) {
    std::size_t next = 0;
    for (std::int32_t event = 0; event < step.events(); ++event) {
      for (; next < step.lives().size() && step.lives()[next].first == event; ++next) {
        handles[next] = account.take(step.lives()[next]);
      }
      for (; late != step.late().end() && late->first <= event; ++late) {
        account.take(*late);
      }
      for (const std::int32_t life : ending[at(event)]) {
        account.give(step.lives()[at(life)], handles[at(life)]);
      }
    }
  }
  return account;
}

}  // namespace

std::string_view name(HeldKind k) {
  constexpr std::string_view kNames[] = {"parameters",  "gradients", "master_weights", "optimizer_state",
                                         "activations", "logits",    "communication",  "workspace"};
  return kNames[static_cast<std::size_t>(k)];
}

HeldMemory held_memory(const Role& role, const HeldRules& rules, Bytes limit) {
  const StepWalk step(role, rules);
  const std::vector<std::vector<std::int32_t>> ending = endings(step);
  HeldMemory held = replay(step, ending, {rules.expandable_segments, CachingAllocator::kNoLimit}).result();
  if (held.reserved > limit) {
    held.needed = replay(step, ending, {rules.expandable_segments, limit.value}).result().reserved;
  }
  return held;
}

}  // namespace foretrain::plan
