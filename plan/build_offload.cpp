// Activations on the host, as Transformer Engine's cpu_offload, which Megatron-LM's --cpu-offloading uses, and
// PyTorch's save_on_cpu have them: what a layer keeps for its backward is copied to the host behind its forward and
// comes back before its backward. Two copies of every activation are on the device, used in turn: while one layer
// computes, the activations of the layer before are on their way out, or those of the next one on their way in
// (Transformer Engine's double buffer). A layer's input is there before the layer begins and has three. Each direction
// has a stream of its own.
//
// With offload_layers only the first layers of a chunk do so: those above keep everything, and the first fetches hide
// behind their backwards. A chunk's input stays on the device, where the pipeline may receive it long before.
#include <algorithm>

#include "plan/build_context.h"

namespace foretrain::plan {

namespace {

EventId offloaded(RoleContext& c, bool all) {
  return all ? c.builder.event("offloaded.all", Replicas::once) : c.builder.event("offloaded", Replicas::per_layer);
}

EventId fetched(RoleContext& c) {
  return c.builder.event("fetched", Replicas::per_layer);
}

BufferId passing_in_copies(RoleContext& c, const std::string& name, Dtype dtype, std::int64_t elements, int copies) {
  const BufferId id = c.builder.buffer(name + ".passing", dtype, elements, BufferKind::activation, Lifetime::persistent,
                                       std::min(copies, static_cast<int>(c.role().global_layer.size())));
  c.role().buffers[static_cast<std::size_t>(id)].wraps = true;
  return id;
}

// The emitted layer keeps it; of a chunk's layers all do, or all but the first.
void keep(RoleContext& c, const std::string& name, BufferId passing, bool by_first) {
  const Buffer b = c.role().buffers[static_cast<std::size_t>(passing)];
  const BufferId host = c.builder.buffer(name + ".host", b.dtype, b.elements, BufferKind::host, Lifetime::slot,
                                         c.most_offloaded() - (by_first ? 0 : 1));
  std::vector<OnHost>& all = c.on_host[c.emitted];
  if (std::none_of(all.begin(), all.end(), [&](const OnHost& known) { return known.passing == passing; })) {
    all.push_back({passing, host, by_first ? 0 : -1});
  }
}

BlockId copies(RoleContext& c, LayerKind kind, bool to_host) {
  BlockBuilder b(c.role(), to_host ? "activations.offload" : "activations.fetch");
  const StreamId stream = to_host ? c.builder.stream("activations_to_host", StreamKind::copy, Axis::pp)
                                  : c.builder.stream("activations_to_device", StreamKind::copy, Axis::pp);
  int at = -1;
  for (const OnHost& activation : c.on_host.at(kind)) {
    const Operand device = c.builder.whole(activation.passing);
    const Operand host = c.builder.whole(activation.host, activation.host_delta);
    const Dtype dtype = c.role().buffers[static_cast<std::size_t>(activation.host)].dtype;
    const Copy op{to_host ? CopyKind::device_to_host : CopyKind::host_to_device, size_bytes(dtype, host.elements)};
    const bool is_first = at < 0;
    at = b.emit(op, stream, to_host ? Phase::forward : Phase::backward_input, {to_host ? device : host},
                {to_host ? host : device});
    if (is_first && !to_host) {  // it is on the host, and so is what its place had
      b.op(at).waits = {offloaded(c, false), offloaded(c, true)};
    }
  }
  b.op(at).records =
      to_host ? std::vector<EventId>{offloaded(c, false), offloaded(c, true)} : std::vector<EventId>{fetched(c)};
  return c.builder.add(b.take());
}

}  // namespace

BufferId passing(RoleContext& c, const std::string& name, Dtype dtype, std::int64_t elements) {
  const BufferId id = passing_in_copies(c, name, dtype, elements, 2);
  keep(c, name, id, true);
  return id;
}

Operand passing_x(RoleContext& c, bool is_input) {
  const BufferId id = passing_in_copies(c, "x", c.type.activation, c.n.shard_rows * c.n.hidden, 3);
  if (is_input) {
    keep(c, "x", id, false);
  }
  return c.builder.whole(id, is_input ? 0 : 1);
}

BlockId offload_layer(RoleContext& c, LayerKind kind) {
  const BlockId block = copies(c, kind, true);
  c.without_backward[block] = -1;
  return block;
}

BlockId fetch_layer(RoleContext& c, LayerKind kind) {
  return copies(c, kind, false);
}

BlockId await_offloaded(RoleContext& c, bool all) {
  BlockBuilder b(c.role(), all ? "activations.all_offloaded" : "activations.offloaded");
  b.join(Phase::forward, {offloaded(c, all)});
  const BlockId block = c.builder.add(b.take());
  c.without_backward[block] = -1;
  return block;
}

void await_fetched(RoleContext& c, BlockBuilder& b, LayerKind kind) {
  if (kind.offloads && !c.on_host.at(kind).empty()) {
    b.join(Phase::backward_input, {fetched(c)});
  }
}

}  // namespace foretrain::plan
