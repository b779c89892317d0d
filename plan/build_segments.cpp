// A chunk's forward and backward for one microbatch: what comes from the neighbours in the pipeline, the layers, what
// goes on to them. Virtual stage s sends activations to s + 1 and gradients back; two stages on one rank hand them over
// in a buffer. With scatter_gather each rank of a tp group sends its part of what all of them hold, and the receivers
// gather the whole (Narayanan et al. 2021, section 4.1).
#include <algorithm>
#include <map>

#include "base/error.h"
#include "plan/build_loading.h"
#include "plan/build_update.h"
#include "plan/stage_twin.h"

namespace foretrain::plan {

namespace {

struct PipelineEnds {
  RoleContext& c;
  int chunk;

  int virtual_stage() const { return c.chunk_stage[static_cast<std::size_t>(chunk)]; }
  int layers() const { return c.chunk_layers[static_cast<std::size_t>(chunk)]; }
  Operand input() const { return c.chunk_input(static_cast<std::size_t>(chunk)); }
  bool is_first() const { return c.begins(virtual_stage()); }
  bool is_last() const { return c.ends(virtual_stage()); }
  bool has_embedding() const { return is_first() && c.family(kEmbedding).gradient >= 0; }
  int rank_of(int stage) const { return c.rank_of_stage[static_cast<std::size_t>(stage)]; }
  bool is_here(int stage) const { return rank_of(stage) == c.stage; }

  // Does any chunk of this role send activations to another rank?
  bool sends_forward() const {
    return std::any_of(c.chunk_stage.begin(), c.chunk_stage.end(),
                       [&](std::int32_t stage) { return !c.ends(stage) && !is_here(stage + 1); });
  }

  // Does any chunk send what it received, in the buffer that it received it in?
  bool passes_on() const {
    return sends_forward() && std::find(c.chunk_layers.begin(), c.chunk_layers.end(), 0) != c.chunk_layers.end();
  }

  EventId slot_free() { return c.builder.event("slot_free", Replicas::per_slot); }
  EventId sent() { return c.builder.event("sent", Replicas::per_slot); }
  // The ring's gradient may be written again: nobody reads it any more, or (split) it is no longer on its way out.
  EventId ring_free() { return c.builder.event("ring_free", Replicas::per_ring); }

  Exchange message(bool send, int stage, const char* what, int below) {
    Message m;
    m.send = send;
    m.axis = Axis::pp;
    m.peer = rank_of(stage);
    m.elements = c.n.shard_rows * c.n.hidden / (scatters() ? c.tp : 1);
    m.dtype = c.type.activation;
    m.tag = c.builder.tag(boundary(what, below));
    return {{m}};
  }

  bool scatters() const { return c.job.strategy.scatter_gather; }
  // What a message takes of a tensor that every rank of the tp group holds.
  Operand sent_of(Operand whole) const {
    if (scatters()) {
      whole.rank_group = c.groups.tp;
      whole.elements = whole.rank_stride = whole.elements / c.tp;
    }
    return whole;
  }
  // The whole of a tensor that a message brought this rank's part of.
  void gather(BlockBuilder& b, Phase phase, Operand whole, const std::string& tag) {
    if (!scatters()) {
      return;
    }
    Collective op;
    op.kind = CollectiveKind::all_gather;
    op.group = c.groups.tp;
    op.elements = whole.elements;
    op.dtype = c.type.activation;
    op.tag = c.builder.tag(tag + ".gather");
    b.emit(op, c.tp_stream(), phase, {sent_of(whole)}, {whole});
    b.join_open(phase);
  }

  // One stream per direction and neighbour: messages of different neighbours do not wait for each other.
  StreamId peer_stream(const std::string& name, int stage) {
    const int peer = rank_of(stage);
    const std::string own = name + " " + std::to_string(peer);
    auto& known = c.peer_streams[name];
    known.emplace(peer, known.empty() ? name : own);
    return c.builder.stream(known.at(peer), StreamKind::point_to_point, Axis::pp);
  }

  LoadedHere here() const { return {virtual_stage(), is_first(), is_last(), c.first || chunk > 0}; }

  // Between two stages of this rank.
  Operand hand_over(const char* what, int below) {
    return c.builder.whole(c.builder.buffer(boundary(what, below), c.type.activation, c.n.shard_rows * c.n.hidden,
                                            BufferKind::communication, Lifetime::persistent));
  }
  void copy(BlockBuilder& b, Phase phase, Operand from, Operand to) const {
    const Copy op{CopyKind::device_to_device, size_bytes(c.type.activation, from.elements)};
    b.emit(op, kCompute, phase, {from}, {to});
  }

  BlockId begin_forward() {
    BlockBuilder b(c.role(), "begin_forward");
    emit_loads(c, b, here());
    const int below = virtual_stage() - 1;
    if (!is_first() && !is_here(below)) {
      const int at = b.emit_ahead(message(false, below, "activation", below), peer_stream("activations_in", below),
                                  Phase::forward, sent_of(input()), slot_free());
      if (passes_on()) {
        b.op(at).waits.push_back(sent());
      }
    }
    // The slot's last output may still be on its way out.
    std::vector<EventId> waits;
    if (sends_forward()) {
      waits.push_back(sent());
    }
    b.join(Phase::forward, waits);
    take_loads(c, b, here());
    if (!is_first() && is_here(below)) {
      copy(b, Phase::forward, hand_over("activation", below), input());
    } else if (!is_first()) {
      gather(b, Phase::forward, input(), boundary("activation", below));
    }
    return c.builder.add(b.take());
  }

  BlockId end_forward() {
    BlockBuilder b(c.role(), "end_forward");
    const int stage = virtual_stage();
    const Operand x = c.chunk_output(static_cast<std::size_t>(chunk));
    if (is_here(stage + 1)) {
      copy(b, Phase::forward, x, hand_over("activation", stage));
    } else {
      const int at = b.emit(message(true, stage + 1, "activation", stage), peer_stream("activations_out", stage + 1),
                            Phase::forward, {sent_of(x)}, {});
      b.op(at).records = {sent()};
    }
    return c.builder.add(b.take());
  }

  // Not of a weight gradient: it begins with what its input gradient has left. The gradient may arrive before the
  // backward begins: in a ring copy of its own, or (split, where rings are not free as soon) in the slot.
  BlockId begin_backward() {
    BlockBuilder b(c.role(), "begin_backward");
    const int stage = virtual_stage();
    if (is_last()) {
      b.join(Phase::backward_input, {ring_free()});
    } else if (is_here(stage + 1)) {
      b.join(Phase::backward_input, {ring_free()});
      copy(b, Phase::backward_input, hand_over("gradient", stage), c.gradient_in(layers()));
    } else {
      const Operand in = c.splits
                             ? c.builder.whole(c.builder.buffer("dy.in", c.type.activation, c.n.shard_rows * c.n.hidden,
                                                                BufferKind::communication, Lifetime::slot))
                             : c.gradient_in(layers());
      b.emit_ahead(message(false, stage + 1, "gradient", stage), peer_stream("gradients_in", stage + 1),
                   Phase::backward_input, sent_of(in), c.splits ? slot_free() : ring_free());
      b.join(Phase::backward_input, c.splits ? std::vector<EventId>{ring_free()} : std::vector<EventId>{});
      gather(b, Phase::backward_input, in, boundary("gradient", stage));
      if (c.splits) {
        copy(b, Phase::backward_input, in, c.gradient_in(layers()));
      }
    }
    return c.builder.add(b.take());
  }

  // Nor of a weight gradient: it leaves nothing that anybody waits for.
  BlockId end_backward() {
    BlockBuilder b(c.role(), "end_backward");
    const int below = virtual_stage() - 1;
    if (!is_first() && is_here(below)) {
      copy(b, Phase::backward_input, c.gradient_out(), hand_over("gradient", below));
    }
    const bool sends = !is_first() && !is_here(below);
    b.join(Phase::backward_input, {},
           sends ? std::vector<EventId>{slot_free()} : std::vector<EventId>{slot_free(), ring_free()});
    if (sends) {
      const int at = b.emit(message(true, below, "gradient", below), peer_stream("gradients_out", below),
                            Phase::backward_input, {sent_of(c.gradient_out())}, {});
      b.op(at).records = {ring_free()};
    }
    return c.builder.add(b.take());
  }
};

// What a chunk's backward needs gathered again, in its order.
std::vector<std::int32_t> gathered_again(const RoleContext& c, std::size_t chunk, bool is_last) {
  std::vector<std::int32_t> units;
  if (is_last && c.uses[kHead].gathers && !c.keeps_head_gathered()) {
    units.push_back(GathersAhead::kHeadUnit);
  }
  if (c.uses[kLayer].gathers && c.job.strategy.reshard) {
    for (std::int32_t l = c.chunk_layers[chunk]; l-- > 0;) {
      units.push_back(c.chunk_first[chunk] + l);
    }
  }
  return units;
}

// Behind the backward, as the layers.
bool reduces_head(const RoleContext& c) {
  return c.exchanges(kHead) && (c.groups.embedding == kNoGroup || c.tied_here);
}

}  // namespace

SegmentId forward_segment(RoleContext& c, int chunk, const LayerBlocks& layers, bool gathers) {
  PipelineEnds ends{c, chunk};
  const auto i = static_cast<std::size_t>(chunk);
  Segment s{"F" + std::to_string(chunk) + (gathers ? "" : ".again"), chunk, c.chunk_first[i], {}};
  const std::int32_t first = c.chunk_first[i], count = c.chunk_layers[i];
  const bool by_layer = gathers && c.uses[kLayer].gathers;
  std::vector<std::int32_t> units;
  for (std::int32_t l = 0; by_layer && l < count; ++l) {
    units.push_back(first + l);
  }
  if (gathers && ends.is_last() && c.uses[kHead].gathers) {
    units.push_back(GathersAhead::kHeadUnit);
  }
  GathersAhead gather(c, s, std::move(units), false);
  gather.begin();
  s.calls.push_back({ends.begin_forward(), 1, -1, 1});
  if (ends.has_embedding()) {
    c.enter(Side::encoder);
    s.calls.push_back({embedding_forward(c, i, gathers), 1, -1, 1});
  }
  const std::int32_t before = c.model.is_encoder_decoder() ? c.chunk_copies(i, kEncoderLayers) : count;
  const auto call_layers = [&](std::int32_t from, std::int32_t to) {
    for (std::int32_t l = from; by_layer && l < to; ++l) {
      gather.before_use();
      layers.call_forward(s.calls, l, 1);
    }
    if (!by_layer) {
      layers.call_forward(s.calls, from, to - from);
    }
  };
  call_layers(first, first + before);
  if (c.model.is_encoder_decoder()) {
    s.calls.push_back({encoder_norm_forward(c, i), 1, -1, 1});
    c.enter(Side::decoder);
    s.calls.push_back({embedding_forward(c, i, false), 1, -1, 1});
    call_layers(first + before, first + count);
  }
  gather.before_use();
  if (ends.is_last()) {
    s.calls.push_back({head_forward(c, i), 1, -1, 1});
  } else {
    s.calls.push_back({ends.end_forward(), 1, -1, 1});
  }
  return c.builder.add(std::move(s));
}

SegmentId reduce_segment(RoleContext& c, int chunk) {
  const auto i = static_cast<std::size_t>(chunk);
  Segment s{"R" + std::to_string(chunk), chunk, c.chunk_first[i], {}};
  if (PipelineEnds{c, chunk}.is_last() && reduces_head(c)) {
    s.calls.push_back({reduce_bucket(c, {kHead, 0, 1}), 1, -1, 1});
  }
  for (const BucketRange& r : chunk_buckets(c, chunk)) {
    if (c.exchanges(r.family)) {
      s.calls.push_back({reduce_bucket(c, r), 1, r.first_layer, 1});
    }
  }
  return c.builder.add(std::move(s));
}

SegmentId backward_segment(RoleContext& c, int chunk, const LayerBlocks& layers, BackwardPart part, bool last) {
  PipelineEnds ends{c, chunk};
  const auto i = static_cast<std::size_t>(chunk);
  const bool reduce = last && c.job.strategy.overlap_grad_reduce && reduces_gradients(c) && !c.reduces_apart();
  const bool by_unit = c.uses[kLayer].reduces;
  const char* const letter = part == BackwardPart::whole ? "B" : part == BackwardPart::input ? "I" : "W";
  Segment s{letter + std::to_string(chunk) + (last ? ".last" : ""), chunk, c.chunk_first[i], {}};
  GathersAhead gather(c, s, gathered_again(c, i, ends.is_last()), true);
  gather.begin();
  layers.call_first_fetches(s.calls, c.chunk_first[i], c.chunk_layers[i]);
  if (part != BackwardPart::weight) {
    s.calls.push_back({ends.begin_backward(), 1, -1, 1});
  }
  if (c.reduces_any()) {
    s.calls.push_back({await_scattered(c), 1, -1, 1});
  }
  if (ends.is_last()) {
    if (c.uses[kHead].gathers && !c.keeps_head_gathered()) {
      gather.before_use();
    }
    s.calls.push_back({head_backward(c, i, part, last), 1, -1, 1});
    if (c.uses[kHead].reduces) {
      s.calls.push_back({reduce_unit(c, {kHead}, last), 1, -1, 1});
    } else if (reduce && reduces_head(c)) {
      s.calls.push_back({reduce_bucket(c, {kHead, 0, 1}), 1, -1, 1});
    }
  }
  std::int32_t above = c.chunk_first[i] + c.chunk_layers[i];  // layers from here on are done
  const std::int32_t encoder_end =
      c.model.is_encoder_decoder() ? c.chunk_first[i] + c.chunk_copies(i, kEncoderLayers) : above;
  const auto down_to = [&](std::int32_t first) {
    if (first < encoder_end && encoder_end <= above && c.model.is_encoder_decoder()) {
      layers.call_backward(s.calls, part, last, encoder_end, above - encoder_end);
      above = encoder_end;
      c.enter(Side::decoder);
      s.calls.push_back({embedding_backward(c, last), 1, -1, 1});
      s.calls.push_back({encoder_norm_backward(c, i), 1, -1, 1});
    }
    layers.call_backward(s.calls, part, last, first, above - first);
    above = first;
  };
  if (by_unit && c.chunk_layers[i] > 0) {
    std::map<bool, BlockId> reduce_layer;  // of either list
    for (std::int32_t l = above; l-- > c.chunk_first[i];) {
      const bool more = c.has_more(l);
      const auto [block, is_new] = reduce_layer.try_emplace(more);
      block->second = is_new ? reduce_unit(c, layer_unit(c, more), last) : block->second;
      gather.before_use();
      down_to(l);
      s.calls.push_back({block->second, 1, l, 1});
      if (reduce && c.has_experts(l) && !c.uses[kExperts].reduces && c.data_group(kExperts) != kNoGroup) {
        s.calls.push_back({reduce_bucket(c, {kExperts, l, 1}), 1, l, 1});  // whole on all ranks of a shard group
      }
    }
  } else if (reduce) {
    for (const BucketRange& r : chunk_buckets(c, chunk)) {
      down_to(r.first_layer);
      if (c.exchanges(r.family)) {
        s.calls.push_back({reduce_bucket(c, r), 1, r.first_layer, 1});
      }
    }
  }
  down_to(c.chunk_first[i]);
  if (part != BackwardPart::weight) {
    if (ends.has_embedding()) {
      c.enter(Side::encoder);
      s.calls.push_back({embedding_backward(c, last && !c.splits), 1, -1, 1});
      if (c.uses[kEmbedding].reduces) {
        s.calls.push_back({reduce_unit(c, {kEmbedding}, last), 1, -1, 1});
      }
    }
    s.calls.push_back({ends.end_backward(), 1, -1, 1});
  }
  return c.builder.add(std::move(s));
}

}  // namespace foretrain::plan
