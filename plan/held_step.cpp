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

ReplayedMicrobatches::ReplayedMicrobatches(const std::vector<Instance>& body) {
  for (const Instance& i : body) {
    count_ = std::max(count_, i.microbatch + 1);
  }
  first_ = microbatches_in_flight(body, count_) + 2;
}

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
    const std::int32_t layers = std::max(buffer.layers, 1);
    buffers_.push_back({stay, kind_of(role, b), planned, bytes, entities, layers, nullptr});
    entities += at(layers * std::max(role.copies(buffer.lifetime), 1));
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
  blocks_.resize(role.blocks.size());
  life_.assign(entities, {});
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

std::int32_t HeldStep::layer_index(const BufferModel& model, const Touch& t, const Scope& scope) const {
  const Buffer& buffer = role_.buffers[at(t.buffer)];
  if (buffer.layers == 0) {
    return 0;
  }
  const std::int32_t copy =
      buffer.layer_list < 0 && !buffer.wraps
          ? scope.layer - (buffer.lifetime == Lifetime::persistent ? 0 : scope.first_layer) + t.layer_delta
          : layer_copy(role_, buffer, scope.layer, scope.first_layer, t.layer_delta);
  return std::clamp(copy, 0, model.layers - 1);
}

void HeldStep::touch(const Touch& t, const Scope& scope, std::int32_t first, std::int32_t last) {
  const BufferModel& model = buffers_[at(t.buffer)];
  if (model.stay == Stay::from_update) {
    last_of_update_ = std::max(last_of_update_, last);
    return;
  }
  if (model.stay == Stay::loss) {
    const std::size_t gradient = losses_[at(scope.microbatch)].gradient;
    if (gradient != kNone) {
      lives_[gradient].last = events_;
    }
    return;
  }
  if (model.stay == Stay::step && t.fills) {
    return;
  }
  const std::int32_t copy = scope.copy[static_cast<std::size_t>(role_.buffers[at(t.buffer)].lifetime)];
  const std::size_t entity = model.first_entity + at(copy * model.layers + layer_index(model, t, scope));
  const std::int64_t owner = scope.owner[static_cast<std::size_t>(model.stay)];
  Range& range = life_[entity];
  if (range.first == range.end || range.owner != owner) {
    range.owner = owner;
    range.first = lives_.size();
    if (model.stay == Stay::step) {
      add_tensors(at(t.buffer), lives_);
    } else {
      // The plan's tensor, and copies of up to twice its bytes: float32 for 16 bits.
      std::int64_t piece = model.planned;
      for (std::int64_t rest = model.bytes; rest > 0; rest -= piece, piece = 2 * model.planned) {
        lives_.push_back({std::min(rest, piece), first, first, model.kind});
      }
    }
    range.end = lives_.size();
  }
  for (std::size_t life = range.first; life < range.end; ++life) {
    lives_[life].last = std::max(lives_[life].last, last);
  }
  last_of_step_ = model.stay == Stay::step ? last : last_of_step_;
}

// What a block's ops touch, found once: a block is walked by every microbatch and layer.
const HeldStep::BlockTouches& HeldStep::touches_of(BlockId id) {
  BlockTouches& block = blocks_[at(id)];
  if (block.is_known) {
    return block;
  }
  const auto is_moment = [this](const Operand& o) { return buffers_[at(o.buffer)].stay == Stay::from_update; };
  for (const Op& op : role_.blocks[at(id)].ops) {
    const std::size_t first = touches_.size();
    const auto position = static_cast<std::int32_t>(block.ops.size());
    const bool fills = std::holds_alternative<Fill>(op.work);
    for (const std::vector<Operand>* operands : {&op.reads, &op.writes}) {
      for (const Operand& o : *operands) {
        const BufferModel& model = buffers_[at(o.buffer)];
        const auto same = [&](const Touch& t) { return t.buffer == o.buffer && t.layer_delta == o.layer_delta; };
        if (model.bytes > 0 && model.stay != Stay::from_start &&
            std::none_of(touches_.begin() + static_cast<std::ptrdiff_t>(first), touches_.end(), same)) {
          touches_.push_back({o.buffer, o.layer_delta, fills, position, position});
        }
      }
    }
    const bool of_loss =
        rules_.loss.eager && (std::holds_alternative<Matmul>(op.work) || std::holds_alternative<CrossEntropy>(op.work));
    const bool of_weights = rules_.weight_gradient_per_shape && std::holds_alternative<Matmul>(op.work);
    const bool of_update = std::any_of(op.writes.begin(), op.writes.end(), is_moment);
    block.ops.push_back({&op, first, touches_.size(), of_loss || of_weights || of_update});
  }
  join_touches(block);
  block.is_known = true;
  return block;
}

void HeldStep::join_touches(BlockTouches& block) const {
  block.is_plain = std::none_of(block.ops.begin(), block.ops.end(), [](const OpTouches& o) { return o.more; });
  for (const OpTouches& o : block.ops) {
    for (std::size_t t = o.first; t < o.end; ++t) {
      const Touch& touch = touches_[t];
      const Stay stay = buffers_[at(touch.buffer)].stay;
      block.is_plain = block.is_plain && stay != Stay::loss && stay != Stay::step;
      const auto same = [&](const Touch& x) { return x.buffer == touch.buffer && x.layer_delta == touch.layer_delta; };
      const auto known = std::find_if(block.tensors.begin(), block.tensors.end(), same);
      if (known != block.tensors.end()) {
        known->last = touch.last;
      } else {
        block.tensors.push_back(touch);
      }
    }
  }
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
  const ReplayedMicrobatches replayed(body);
  losses_.assign(at(replayed.count()), {});
  moments_ = late_.size();
  for (const Instance& instance : body) {
    ++instances_;
    const Segment& segment = role_.segments[at(instance.segment)];
    for (const BlockCall& call : segment.calls) {
      if (!replayed.contains(instance.side(call.beside).microbatch)) {
        continue;
      }
      walk_call(instance, segment, call);
    }
  }
  std::stable_sort(late_.begin(), late_.end(), [](const HeldLife& a, const HeldLife& b) { return a.first < b.first; });
  end_gradients();
  end_update();
}

void HeldStep::walk_call(const Instance& instance, const Segment& segment, const BlockCall& call) {
  const BlockTouches& block = touches_of(call.block);
  const InstanceSide side = instance.side(call.beside);
  Scope scope{side.microbatch, 0, segment.first_layer_of(call.beside), {}, {}};
  for (const Lifetime l : {Lifetime::slot, Lifetime::hold, Lifetime::ring}) {
    scope.copy[static_cast<std::size_t>(l)] = std::max(side.copy(l), 0);
  }
  scope.owner[static_cast<std::size_t>(Stay::instance)] = instances_;
  scope.owner[static_cast<std::size_t>(Stay::microbatch)] =
      side.microbatch < 0 ? -2 - instances_
                          : static_cast<std::int64_t>(side.microbatch) * kChunks + segment.chunk_of(call.beside);
  for (std::int32_t i = 0; i < call.count; ++i) {
    scope.owner[static_cast<std::size_t>(Stay::iteration)] = ++iterations_;
    scope.layer = call.first < 0 ? scope.first_layer : call.first + i * call.step;
    if (block.is_plain) {
      for (const Touch& t : block.tensors) {
        touch(t, scope, events_ + t.first, events_ + t.last);
      }
      events_ += static_cast<std::int32_t>(block.ops.size());
      continue;
    }
    for (const OpTouches& o : block.ops) {
      const auto is_moment = [this](const Operand& w) { return buffers_[at(w.buffer)].stay == Stay::from_update; };
      if (o.more && !updated_ && std::any_of(o.op->writes.begin(), o.op->writes.end(), is_moment)) {
        begin_update();
      }
      for (std::size_t t = o.first; t < o.end; ++t) {
        touch(touches_[t], scope, events_, events_);
      }
      if (o.more) {
        loss(*o.op, scope.microbatch);
        hand_over(*o.op, call.first >= 0);
      }
      ++events_;
    }
  }
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
