// What frameworks have in a step beside the plan's tensors: HeldLoss and HeldUpdate. The order of tensors is PyTorch's:
// aten/src/ATen/native/LossNLL.cpp and SoftMax.cu, torch/optim/adamw.py, ProcessGroupNCCL::allgather (its flat copy).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "plan/held_step.h"

namespace foretrain::plan {

namespace {

constexpr std::int64_t kFloat = 4;

std::int64_t scaled(std::int64_t elements, double bytes) {
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(elements) * bytes));
}

}  // namespace

// A tensor of this event; whoever needs it longer says so.
std::size_t HeldStep::add(std::int64_t bytes, HeldKind kind) {
  lives_.push_back({bytes, events_, events_, kind});
  return lives_.size() - 1;
}

// The head's output, gathered where it is. `kept`: else it goes at once, as that of a forward done again does.
void HeldStep::write_logits(std::int64_t shard, bool kept, std::int32_t microbatch) {
  const int parts = rules_.loss.gathered_over;
  std::size_t logits = add(shard, HeldKind::logits);
  if (parts > 1) {
    for (int part = 0; part < parts; ++part) {
      lives_[add(shard, HeldKind::logits)].last = events_ + 1;
    }
    lives_[add(shard * parts, HeldKind::logits)].last = events_ + 1;
    lives_[logits].last = ++events_;
    logits = add(shard * parts, HeldKind::logits);
  }
  if (!kept) {
    return;
  }
  losses_[static_cast<std::size_t>(microbatch)].logits = logits;
  logits_.push_back(logits);
  const auto buffers = static_cast<std::size_t>(rules_.loss.kept);
  if (buffers > 0 && logits_.size() > buffers) {
    lives_[logits_[logits_.size() - 1 - buffers]].last = events_;
  }
}

void HeldStep::loss(const Op& op, std::int32_t microbatch) {
  if (!rules_.loss.eager || role_.logits < 0) {
    return;
  }
  const auto writes_logits = [&](const Operand& o) { return o.buffer == role_.logits; };
  if (std::holds_alternative<Matmul>(op.work) && std::any_of(op.writes.begin(), op.writes.end(), writes_logits)) {
    write_logits(buffers_[static_cast<std::size_t>(role_.logits)].planned, true, microbatch);
    return;
  }
  const auto* step = std::get_if<CrossEntropy>(&op.work);
  if (step == nullptr || step->step == CrossEntropyStep::combine) {
    return;
  }
  LossTensors& tensors = losses_[static_cast<std::size_t>(microbatch)];
  const std::int64_t shard = buffers_[static_cast<std::size_t>(role_.logits)].planned;
  const std::int64_t whole = shard * rules_.loss.gathered_over;
  const std::int64_t in_float = whole / size_bytes(step->dtype, 1) * kFloat;
  if (step->step == CrossEntropyStep::stats) {
    const std::size_t cast = add(in_float, HeldKind::logits);
    if (rules_.loss.in_parts) {
      add(in_float, HeldKind::logits);  // the exponential
      lives_[add(in_float, HeldKind::logits)].last = events_ + 1;
    }
    lives_[cast].last = ++events_;
    tensors.log_softmax = add(in_float, HeldKind::logits);
    if (rules_.loss.kept == 0) {
      lives_[tensors.logits].last = events_;
    }
    return;
  }
  const std::size_t of_nll = add(in_float, HeldKind::logits);
  if (rules_.loss.in_parts) {
    add(in_float, HeldKind::logits);  // the exponential
    lives_[add(in_float, HeldKind::logits)].last = events_ + 1;
  }
  lives_[of_nll].last = ++events_;
  lives_[tensors.log_softmax].last = events_;
  const std::size_t of_softmax = add(in_float, HeldKind::logits);
  lives_[of_softmax].last = ++events_;
  tensors.gradient = add(whole, HeldKind::logits);
  if (rules_.loss.gathered_over > 1) {
    lives_[tensors.gradient].last = ++events_;
    tensors.gradient = add(shard, HeldKind::logits);
  }
  if (rules_.loss.recomputed) {
    ++events_;
    write_logits(shard, false, microbatch);
  }
}

// Before the first op that writes moments: they come now, after the gradients' copies and before the temporaries, as
// torch.optim makes them in its first step.
void HeldStep::begin_update() {
  updated_ = true;
  const HeldUpdate& u = rules_.update;
  std::int64_t owned = 0;
  std::vector<HeldLife> gradients, parameters;  // bytes are elements here
  for (const ParameterFamily& f : role_.parameter_families) {
    const auto elements_of = [&](BufferId buffer, std::vector<HeldLife>& list) {
      const Buffer& b = role_.buffers[static_cast<std::size_t>(buffer)];
      for (std::int32_t layer = 0; layer < std::max(b.layers, 1); ++layer) {
        const std::size_t from = list.size();
        add_tensors(static_cast<std::size_t>(buffer), list);
        const double bytes = static_cast<double>(buffers_[static_cast<std::size_t>(buffer)].bytes) /
                             static_cast<double>(std::max<std::int64_t>(b.elements, 1));
        std::for_each(list.begin() + static_cast<std::ptrdiff_t>(from), list.end(), [&](HeldLife& life) {
          life.bytes = static_cast<std::int64_t>(static_cast<double>(life.bytes) / bytes);
        });
      }
    };
    if (f.gradient >= 0) {
      elements_of(f.gradient, gradients);
    }
    if (f.m >= 0 && role_.buffers[static_cast<std::size_t>(f.m)].kind != BufferKind::host) {
      elements_of(f.m, parameters);
    }
  }
  const auto elements = [](std::int64_t sum, const HeldLife& l) { return sum + l.bytes; };
  owned = std::accumulate(parameters.begin(), parameters.end(), std::int64_t{0}, elements);
  const auto step = [&](double bytes, bool flat, const std::vector<HeldLife>& tensors, HeldKind kind) {
    std::vector<std::size_t> added;
    if (bytes > 0 && flat && owned > 0) {
      added.push_back(add(scaled(owned, bytes), kind));
    }
    for (std::size_t i = 0; bytes > 0 && !flat && i < tensors.size(); ++i) {
      if (const std::int64_t size = scaled(tensors[i].bytes, bytes); size > 0) {
        added.push_back(add(size, kind));
      }
    }
    events_ += bytes > 0 ? 1 : 0;
    return added;
  };
  step(u.norm, false, gradients, HeldKind::workspace);
  for (const std::size_t copy : step(u.copy, true, parameters, HeldKind::gradients)) {
    lives_[copy].last = events_;  // it is there when it is cast
  }
  update_ = step(u.gradient, u.flat, parameters, HeldKind::gradients);
  std::for_each(late_.begin(), late_.begin() + static_cast<std::ptrdiff_t>(moments_),
                [&](HeldLife& life) { life.first = events_; });
  events_ += u.temporary > 0 ? 1 : 0;
  const std::vector<std::size_t> temporaries = step(u.temporary, u.flat, parameters, HeldKind::workspace);
  update_.insert(update_.end(), temporaries.begin(), temporaries.end());
}

void HeldStep::end_update() {
  for (const std::size_t life : update_) {
    lives_[life].last = std::max(last_of_update_, lives_[life].first);
  }
  // Outputs that nothing took out of their buffers go with the step.
  const auto buffers = std::min(logits_.size(), static_cast<std::size_t>(rules_.loss.kept));
  std::for_each(logits_.end() - static_cast<std::ptrdiff_t>(buffers), logits_.end(),
                [&](std::size_t logits) { lives_[logits].last = events_ - 1; });
}

}  // namespace foretrain::plan
