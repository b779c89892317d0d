#include <fmt/format.h>

#include <algorithm>

#include "plan/dump.h"
#include "plan/locate.h"
#include "plan/op_text.h"
#include "plan/validate_internal.h"

namespace foretrain::plan {

MemoryAccesses::MemoryAccesses(const PlanGraph& graph, int role, Rank rank, std::size_t first_thread,
                               Findings& findings)
    : graph_(graph),
      role_(graph.roles[static_cast<std::size_t>(role)]),
      rank_(rank),
      first_thread_(first_thread),
      findings_(findings),
      ops_(role_.streams.size()) {
  Cell all;
  all.end = role_.memory.arena.value + role_.memory.host.value;
  all.reads.assign(role_.streams.size(), 0);
  cells_.emplace(0, all);
}

void MemoryAccesses::op_done(const DoneOp& done, const Clock& before) {
  std::vector<OpId>& log = ops_[static_cast<std::size_t>(done.op->stream)];
  log.resize(static_cast<std::size_t>(done.number));
  log.back() = done.id;
  if (done.op->guard) {
    read(done.op->guard->scalar, done, before);
  }
  for (const Operand& operand : done.op->reads) {
    read(operand, done, before);
  }
  for (const Operand& operand : done.op->writes) {
    write(operand, done, before);
  }
}

MemoryAccesses::Range MemoryAccesses::range(const Operand& operand, const Binding& b) const {
  const std::int64_t begin = operand_offset(graph_, role_, operand, b, rank_);
  const Dtype dtype = role_.buffers[static_cast<std::size_t>(operand.buffer)].dtype;
  return {begin, begin + size_bytes(dtype, operand.elements)};
}

// The cell that begins at `at`, made where there is none.
MemoryAccesses::Cells::iterator MemoryAccesses::split(std::int64_t at) {
  auto cell = cells_.lower_bound(at);
  if (cell != cells_.end() && cell->first == at) {
    return cell;
  }
  Cell upper = std::prev(cell)->second;
  std::prev(cell)->second.end = at;
  return cells_.emplace_hint(cell, at, std::move(upper));
}

// What an access means by "this buffer's content".
std::int64_t MemoryAccesses::content(const Buffer& buffer, const DoneOp& done) const {
  switch (buffer.lifetime) {
    case Lifetime::block: return done.iteration;
    case Lifetime::segment: return done.instance;
    case Lifetime::slot:
    case Lifetime::hold: return done.binding.microbatch;
    case Lifetime::ring:
    case Lifetime::persistent: return 0;
  }
  return 0;
}

void MemoryAccesses::read(const Operand& operand, const DoneOp& done, const Clock& before) {
  const Range r = range(operand, done.binding);
  const Buffer& buffer = role_.buffers[static_cast<std::size_t>(operand.buffer)];
  const bool must_be_written = buffer.lifetime != Lifetime::persistent;
  const std::int64_t expected = content(buffer, done);
  if (r.begin == r.end) {
    return;
  }
  split(r.end);
  for (auto cell = split(r.begin); cell != cells_.end() && cell->first < r.end; ++cell) {
    Cell& c = cell->second;
    if (c.write > before[first_thread_ + static_cast<std::size_t>(c.write_stream)]) {
      report_race(done, operand, static_cast<std::size_t>(c.write_stream), c.write, true, false);
    }
    if (must_be_written && (c.owner != operand.buffer || c.content != expected)) {
      findings_.add_once(
          fmt::format("unwritten {} {}", role_.name, op_text(graph_, *done.op) + buffer.name),
          fmt::format("{}: reads {}, which nobody wrote in this {} before", describe(graph_, done.id),
                      operand_text(graph_, role_, operand),
                      buffer.lifetime == Lifetime::slot || buffer.lifetime == Lifetime::hold ? "microbatch"
                                                                                             : name(buffer.lifetime)));
    }
    std::int32_t& last = c.reads[static_cast<std::size_t>(done.op->stream)];
    last = std::max(last, done.number);
  }
}

void MemoryAccesses::write(const Operand& operand, const DoneOp& done, const Clock& before) {
  const Range r = range(operand, done.binding);
  if (r.begin == r.end) {
    return;
  }
  const std::int64_t written = content(role_.buffers[static_cast<std::size_t>(operand.buffer)], done);
  split(r.end);
  for (auto cell = split(r.begin); cell != cells_.end() && cell->first < r.end; ++cell) {
    Cell& c = cell->second;
    if (c.write > before[first_thread_ + static_cast<std::size_t>(c.write_stream)]) {
      report_race(done, operand, static_cast<std::size_t>(c.write_stream), c.write, true, true);
    }
    for (std::size_t s = 0; s < c.reads.size(); ++s) {
      if (c.reads[s] > before[first_thread_ + s]) {
        report_race(done, operand, s, c.reads[s], false, true);
      }
      c.reads[s] = 0;
    }
    c.owner = operand.buffer;
    c.content = written;
    c.write = done.number;
    c.write_stream = done.op->stream;
  }
}

void MemoryAccesses::report_race(const DoneOp& done, const Operand& operand, std::size_t stream, std::int32_t number,
                                 bool earlier_wrote, bool writes) {
  const OpId other = ops_[stream][static_cast<std::size_t>(number - 1)];
  const Place place = locate(graph_, done.id);
  const Place other_place = locate(graph_, other);
  findings_.add_once(fmt::format("race {} {}.{} {}.{} {}", role_.name, place.block, place.op_in_block,
                                 other_place.block, other_place.op_in_block, operand.buffer),
                     fmt::format("{}: {} {} while {} may be {} it: nothing orders them", describe(graph_, done.id),
                                 writes ? "writes" : "reads", operand_text(graph_, role_, operand),
                                 describe(graph_, other), earlier_wrote ? "writing" : "reading"));
}

}  // namespace foretrain::plan
