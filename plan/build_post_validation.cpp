// The optimizer without a meeting of all stages (Qi et al. 2023, arXiv:2401.10241, section 4): a stage adds the norms
// of the stages before to its own, takes its step on what it knows and sends the sum on, so that stages that end
// earlier begin the next step earlier, too. The last stage has the whole norm. It sends it back through the pipeline,
// and every stage has it when it has done the next step's first forwards: a step that should have been clipped, or
// skipped, would be taken back there and its forwards done again. That is not in the graph: it is right where no step
// is clipped.
#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

Exchange message(RoleContext& c, bool send, int stage, std::int64_t elements, const char* tag) {
  Message m;
  m.send = send;
  m.axis = Axis::pp;
  m.peer = stage;
  m.elements = elements;
  m.dtype = Dtype::fp64;
  m.tag = c.builder.tag(std::string(tag) + " " + std::to_string(send ? c.stage : stage));
  return {{m}};
}

StreamId stream(RoleContext& c, const char* name) {
  return c.builder.stream(name, StreamKind::point_to_point, Axis::pp);
}

EventId once(RoleContext& c, const char* name) {
  return c.builder.event(name, Replicas::once);
}

bool is_last_rank(const RoleContext& c) {
  return c.stage + 1 == c.job.strategy.pp;
}

}  // namespace

void emit_norms_of_stages_before(RoleContext& c, BlockBuilder& b, Operand norms) {
  if (c.stage > 0) {
    const Operand before = c.builder.whole(
        c.builder.buffer("norms.before", Dtype::fp64, norms.elements, BufferKind::workspace, Lifetime::persistent));
    b.emit_ahead(message(c, false, c.stage - 1, norms.elements, "norms"), stream(c, "norms_in"), Phase::optimizer,
                 before, once(c, "norms_added"));
    const int added = b.emit(Accumulate{norms.elements, Dtype::fp64, Dtype::fp64}, kCompute, Phase::optimizer,
                             {before, norms}, {norms});
    b.op(added).records = {once(c, "norms_added")};
  }
  if (!is_last_rank(c)) {
    const int sent = b.emit(message(c, true, c.stage + 1, norms.elements, "norms"), stream(c, "norms_out"),
                            Phase::optimizer, {norms}, {});
    b.op(sent).records = {once(c, "norms_sent")};
  }
}

SegmentId validation_segment(RoleContext& c) {
  constexpr std::int64_t kState = 2;  // the clip coefficient and the norm
  BlockBuilder b(c.role(), "validation");
  if (is_last_rank(c)) {
    const int sent = b.emit(message(c, true, c.stage - 1, kState, "validation"), stream(c, "validation_out"),
                            Phase::optimizer, {c.builder.whole(c.role().grad_norm)}, {});
    b.op(sent).records = {once(c, "validation_sent")};
  } else {
    const Operand whole = c.builder.whole(
        c.builder.buffer("gradient_norm.whole", Dtype::fp64, kState, BufferKind::workspace, Lifetime::persistent));
    const int received = b.emit_ahead(message(c, false, c.stage + 1, kState, "validation"), stream(c, "validation_in"),
                                      Phase::optimizer, whole, once(c, "validated"));
    b.join(Phase::optimizer, {}, {once(c, "validated")});
    if (c.stage > 0) {
      b.op(received).waits.push_back(once(c, "validation_sent"));
      const int sent = b.emit_behind(message(c, true, c.stage - 1, kState, "validation"), stream(c, "validation_out"),
                                     Phase::optimizer, {whole}, received);
      b.op(sent).records = {once(c, "validation_sent")};
    }
  }
  return c.builder.add(Segment{"validation", -1, 0, {{c.builder.add(b.take()), 1, -1, 1}}});
}

std::vector<EventId> norms_passed_on(RoleContext& c) {
  return {is_last_rank(c) ? once(c, "validation_sent") : once(c, "norms_sent")};
}

}  // namespace foretrain::plan
