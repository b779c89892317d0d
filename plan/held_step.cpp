#include "plan/held_step.h"

#include <algorithm>
#include <cmath>

namespace foretrain::plan {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

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
      return id == role.logits || b.name == "logits" || b.name == "head.d_logits" || b.name == "loss.rows"
                 ? HeldKind::logits
                 : HeldKind::activations;
    case BufferKind::communication: return HeldKind::communication;
    default: return HeldKind::workspace;
  }
}

// Microbatches begun and not ended, at most.
std::int32_t microbatches_in_flight(const std::vector<Instance>& body, std::int32_t microbatches) {
  std::vector<std::int32_t> order;  // of microbatches, as the program touches them
  for (const Instance& instance : body) {
    for (const bool beside : {false, true}) {
      if (instance.side(beside).microbatch >= 0) {
        order.push_back(instance.side(beside).microbatch);
      }
    }
  }
  std::vector<std::size_t> last(at(microbatches), 0);
  for (std::size_t i = 0; i < order.size(); ++i) {
    last[at(order[i])] = i;
  }
  std::vector<bool> open(at(microbatches), false);
  std::int32_t in_flight = 0, most = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (!open[at(order[i])]) {
      open[at(order[i])] = true;
      most = std::max(most, ++in_flight);
    }
    if (last[at(order[i])] == i) {
      --in_flight;
    }
  }
  return most;
}

}  // namespace

HeldStep::HeldStep(const Role& role, const HeldRules& rules) : role_(role), rules_(rules) {
  std::size_t entities = 0;
  for (std::size_t b = 0; b < role.buffers.size(); ++b) {
    const Buffer& buffer = role.buffers[b];
    const auto found = rules.times.find(buffer.name);
    const double times = found == rules.times.end() ? 1 : found->second;
    const std::int64_t planned = size_bytes(buffer.dtype, buffer.elements);
    const bool on_host = buffer.kind == BufferKind::host;
    const auto bytes = on_host ? 0 : static_cast<std::int64_t>(std::ceil(static_cast<double>(planned) * times));
    Stay stay = stay_of(b);
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

HeldStep::Stay HeldStep::stay_of(std::size_t buffer) const {
  const auto id = static_cast<BufferId>(buffer);
  const Buffer& b = role_.buffers[buffer];
  if (rules_.loss.eager && (id == role_.logits || b.name == "head.d_logits")) {
    return Stay::loss;
  }
  const bool model = b.kind == BufferKind::parameter || b.kind == BufferKind::gradient ||
                     b.kind == BufferKind::optimizer_state || b.kind == BufferKind::input;
  switch (b.lifetime) {
    case Lifetime::segment: return Stay::instance;
    case Lifetime::block: return Stay::iteration;
    case Lifetime::persistent:
      for (const ParameterFamily& f : role_.parameter_families) {
        if (f.m == id || f.v == id) {
          return Stay::from_update;
        }
      }
      return model ? Stay::from_start : Stay::microbatch;
    default: return Stay::microbatch;
  }
}

// The tensors of one layer's copy of a buffer.
void HeldStep::add_tensors(std::size_t buffer, std::vector<HeldLife>& list) const {
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

void HeldStep::persistent() {
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    const Stay stay = buffers_[b].stay;
    for (std::int32_t layer = 0; layer < std::max(role_.buffers[b].layers, 1); ++layer) {
      if (stay == Stay::from_start || stay == Stay::from_update) {
        add_tensors(b, stay == Stay::from_start ? persistent_ : late_);
      }
    }
  }
}

void HeldStep::touch(const Operand& o, const InstanceSide& instance, std::int32_t layer, std::int32_t first_layer,
                     std::int32_t chunk, bool fills) {
  const BufferModel& model = buffers_[at(o.buffer)];
  if (model.bytes == 0 || model.stay == Stay::from_start) {
    return;
  }
  if (model.stay == Stay::from_update) {
    last_of_update_ = events_;
    return;
  }
  if (model.stay == Stay::loss) {
    const std::size_t gradient = losses_[at(instance.microbatch)].gradient;
    if (gradient != kNone) {
      lives_[gradient].last = events_;
    }
    return;
  }
  const Buffer& buffer = role_.buffers[at(o.buffer)];
  if (model.stay == Stay::step && fills) {
    return;
  }
  const std::int32_t copy = has_copies(buffer.lifetime) ? std::max(instance.copy(buffer.lifetime), 0) : 0;
  const std::int32_t index =
      buffer.layers == 0
          ? 0
          : std::clamp(layer_copy(role_, buffer, layer, first_layer, o.layer_delta), 0, buffer.layers - 1);
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

void HeldStep::hand_over(const Op& op, bool in_layer) {
  const auto* matmul = std::get_if<Matmul>(&op.work);
  if (!rules_.weight_gradient_per_shape || matmul == nullptr || op.phase != Phase::backward_weight ||
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

void HeldStep::walk() {
  const std::vector<Instance>& body = role_.program.body;
  std::int32_t microbatches = 0;
  for (const Instance& i : body) {
    microbatches = std::max(microbatches, i.microbatch + 1);
  }
  losses_.assign(at(microbatches), {});
  const std::int32_t kept = microbatches_in_flight(body, microbatches) + 2;
  moments_ = late_.size();
  const auto is_left_out = [&](std::int32_t m) { return m >= kept && m != microbatches - 1; };
  for (const Instance& instance : body) {
    ++instances_;
    const Segment& segment = role_.segments[at(instance.segment)];
    for (const BlockCall& call : segment.calls) {
      if (is_left_out(instance.side(call.beside).microbatch)) {
        continue;
      }
      for (std::int32_t i = 0; i < call.count; ++i) {
        ++iterations_;
        for (const Op& op : role_.blocks[at(call.block)].ops) {
          walk_op(op, instance, segment, call, i);
        }
      }
    }
  }
  std::stable_sort(late_.begin(), late_.end(), [](const HeldLife& a, const HeldLife& b) { return a.first < b.first; });
  end_gradients();
  end_update();
}

void HeldStep::walk_op(const Op& op, const Instance& instance, const Segment& segment, const BlockCall& call,
                       std::int32_t iteration) {
  const auto is_moment = [this](const Operand& o) { return buffers_[at(o.buffer)].stay == Stay::from_update; };
  if (!updated_ && std::any_of(op.writes.begin(), op.writes.end(), is_moment)) {
    begin_update();
  }
  const bool fills = std::holds_alternative<Fill>(op.work);
  const InstanceSide side = instance.side(call.beside);
  const std::int32_t first_layer = segment.first_layer_of(call.beside);
  const std::int32_t layer = call.first < 0 ? first_layer : call.first + iteration * call.step;
  for (const std::vector<Operand>* operands : {&op.reads, &op.writes}) {
    for (const Operand& o : *operands) {
      touch(o, side, layer, first_layer, segment.chunk_of(call.beside), fills);
    }
  }
  loss(op, side.microbatch);
  hand_over(op, call.first >= 0);
  ++events_;
}

// Ops on several layers' gradients name the first: all stay as long as any.
void HeldStep::end_gradients() {
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    const std::int32_t layers = std::max(role_.buffers[b].layers, 1);
    for (std::int32_t layer = 0; buffers_[b].stay == Stay::step && layer < layers; ++layer) {
      const Range& range = life_[buffers_[b].first_entity + at(layer)];
      std::for_each(lives_.begin() + static_cast<std::ptrdiff_t>(range.first),
                    lives_.begin() + static_cast<std::ptrdiff_t>(range.end),
                    [&](HeldLife& life) { life.last = last_of_step_; });
    }
  }
}

}  // namespace foretrain::plan
