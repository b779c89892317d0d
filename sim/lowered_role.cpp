#include "sim/lowered_role.h"

#include "base/error.h"

namespace foretrain::sim {

// The latest records on a walk through prologue, body, body, epilogue: the body's second walk is every later step.
struct LoweredRole::Walk {
  const RoleModel& model;
  std::vector<Dependency> latest;  // by event copy

  void visit(const plan::ProgramCursor& cursor, std::int32_t op, bool in_body, Waits& waits) {
    const auto& block = model.blocks[static_cast<std::size_t>(cursor.block())];
    const int position = cursor.op_in_block();
    const OpModel& m = block[static_cast<std::size_t>(position)];
    waits.from.push_back(static_cast<std::uint32_t>(waits.all.size()));
    for (const std::uint16_t p : m.after) {
      waits.all.push_back({op - (position - p), block[p].stream, in_body});
    }
    for (const EventRef& e : m.waits) {
      const Dependency& record = latest[static_cast<std::size_t>(e.copy(cursor.binding()))];
      if (record.stream >= 0) {
        waits.all.push_back(record);
      }
    }
    for (const EventRef& e : m.records) {
      latest[static_cast<std::size_t>(e.copy(cursor.binding()))] = {op, m.stream, in_body};
    }
  }
};

LoweredRole::LoweredRole(const RoleModel& model, int role, int steps) : steps_(steps) {
  const plan::Program& program = model.role->program;
  const std::vector<plan::Instance>* instances[] = {&program.prologue, &program.body, &program.epilogue};
  Walk walk{model, std::vector<Dependency>(static_cast<std::size_t>(model.event_copies))};
  int first_instance = 0;
  for (std::int32_t p = kPrologue; p <= kEpilogue; ++p) {
    Part& part = parts_[p];
    part.by_stream.resize(model.role->streams.size());
    std::int32_t held_by = -1;
    const auto cursor = [&] { return plan::ProgramCursor(*model.role, role, *instances[p], first_instance); };
    for (plan::ProgramCursor c = cursor(); c; c.next()) {
      const OpModel& m = model.blocks[static_cast<std::size_t>(c.block())][static_cast<std::size_t>(c.op_in_block())];
      CHECK(part.ops.size() < std::size_t{1} << 30, "{}: more than 2^30 ops in a step", model.role->name);
      const auto op = static_cast<std::int32_t>(part.ops.size());
      part.by_stream[static_cast<std::size_t>(m.stream)].push_back(op);
      const plan::OpId id = c.id();
      const plan::MatchKey key = plan::match_key(*model.role, -1, c.binding());
      part.ops.push_back({&m, id.instance, id.position, key.microbatch, key.layer});
      part.submitted.push_back(m.submit + (part.submitted.empty() ? Time{} : part.submitted.back()));
      part.held_by.push_back(held_by);
      held_by = m.holds_host ? op : held_by;
    }
    part.held_by.push_back(held_by);
    const auto body = static_cast<std::int32_t>(parts_[kBody].ops.size());
    for (int repeat = 0; repeat < (p == kBody ? 2 : 1); ++repeat) {
      if (repeat == 1) {
        for (Dependency& d : walk.latest) {
          d.op -= d.moves ? body : 0;
        }
      }
      Waits& waits = waits_[p == kPrologue ? 0 : (p == kBody ? 1 + repeat : 3)];
      std::int32_t op = p == kEpilogue ? body : 0;
      for (plan::ProgramCursor c = cursor(); c; c.next(), ++op) {
        walk.visit(c, op, p != kPrologue, waits);
      }
      waits.from.push_back(static_cast<std::uint32_t>(waits.all.size()));
    }
    first_instance += static_cast<int>(instances[p]->size());
  }
}

bool LoweredRole::advance(int stream, StreamPlace& place) const {
  ++place.next;
  for (;;) {
    const auto& ops = parts_[index(place.part)].by_stream[index(stream)];
    if (index(place.next) < ops.size()) {
      place.op = ops[index(place.next)];
      place.sequence = first(place.part, place.step) + place.op;
      return true;
    }
    if (place.part == kEpilogue) {
      place.sequence = kProgramEnd;
      return false;
    }
    place.next = 0;
    if (place.part == kBody && !ops.empty() && place.step + 1 < steps_) {
      ++place.step;
    } else {
      place.step = place.part == kBody ? steps_ - 1 : 0;
      ++place.part;
    }
  }
}

Sequence LoweredRole::held_by(const StreamPlace& place) const {
  const auto in = [this](std::int32_t part, std::int32_t step, std::int32_t held) -> Sequence {
    return held < 0 ? -1 : first(part, step) + held;
  };
  Sequence last = in(place.part, place.step, parts_[index(place.part)].held_by[index(place.op)]);
  std::int32_t part = place.part, step = place.step;
  while (last < 0 && (part > kPrologue)) {
    step = part == kEpilogue ? steps_ - 1 : step - 1;
    part = part == kEpilogue || step >= 0 ? static_cast<std::int32_t>(kBody) : static_cast<std::int32_t>(kPrologue);
    last = in(part, step, parts_[index(part)].held_by.back());
    if (last < 0 && part == kBody) {
      step = 0;  // nor in any other step
    }
  }
  return last;
}

LoweredRole::Range LoweredRole::dependencies(const StreamPlace& place) const {
  const Waits& w = waits_[place.part == kPrologue ? 0 : (place.part == kBody ? (place.step == 0 ? 1 : 2) : 3)];
  const Dependency* all = w.all.data();
  return {all + w.from[index(place.op)], all + w.from[index(place.op) + 1]};
}

}  // namespace foretrain::sim
