// The validator's passes. Used by validate*.cpp only.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "plan/cursor.h"
#include "plan/graph.h"

namespace foretrain::plan {

// Lines for people; the same mistake of the same op is told once.
class Findings {
 public:
  static constexpr std::size_t kMost = 20;
  void add(std::string line);
  // Only the first line of a key.
  void add_once(const std::string& key, std::string line);
  bool empty() const { return lines_.empty(); }
  bool full() const { return lines_.size() >= kMost; }
  std::vector<std::string> take() { return std::move(lines_); }

 private:
  std::vector<std::string> lines_;
  std::set<std::string> known_;
};

// Everything that can be seen without walking a program: ids, layers, copies, bounds, groups, keys in range.
void check_structure(const PlanGraph& graph, Findings& findings);
// Its part for one role.
void check_role(const PlanGraph& graph, const Role& role, Findings& findings);

// Step by step, every op of every role once: deadlocks, partners, and through MemoryAccesses races and uninitialised
// reads. REQUIRES: check_structure found nothing.
void check_order(const PlanGraph& graph, Findings& findings);

// Vector clock over all streams of all roles: how many ops of each stream happen before.
using Clock = std::vector<std::int32_t>;

// One op at the moment when it is done.
struct DoneOp {
  const Op* op = nullptr;
  OpId id;
  Binding binding;
  std::int32_t number = 0;     // ops of its stream up to and including it
  std::int64_t iteration = 0;  // of a block, counted over the whole walk
  std::int64_t instance = 0;   // likewise
};

// Who last touched which bytes of one rank's arena (FastTrack: Flanagan and Freund 2009, on byte ranges). Two accesses
// are unordered when neither's op stands in the other's clock.
class MemoryAccesses {
 public:
  // `first_thread`: the clock's index of the role's stream 0.
  MemoryAccesses(const PlanGraph& graph, int role, Rank rank, std::size_t first_thread, Findings& findings);
  // `before`: what happens before the op's accesses, itself included.
  void op_done(const DoneOp& done, const Clock& before);

 private:
  // Bytes [key in the map, end) with one history.
  struct Cell {
    std::int64_t end = 0;
    BufferId owner = -1;       // buffer through which it was last written
    std::int64_t content = 0;  // iteration, instance or microbatch of that write, by the buffer's lifetime
    std::int32_t write = 0;    // number of the last writer in its stream; 0: none
    StreamId write_stream = 0;
    std::vector<std::int32_t> reads;  // by stream, since then
  };
  using Cells = std::map<std::int64_t, Cell>;
  struct Range {
    std::int64_t begin, end;
  };

  Range range(const Operand& operand, const Binding& b) const;
  Cells::iterator split(std::int64_t at);
  std::int64_t content(const Buffer& buffer, const DoneOp& done) const;
  void read(const Operand& operand, const DoneOp& done, const Clock& before);
  void write(const Operand& operand, const DoneOp& done, const Clock& before);
  void report_race(const DoneOp& done, const Operand& operand, std::size_t stream, std::int32_t number,
                   bool earlier_wrote, bool writes);

  const PlanGraph& graph_;
  const Role& role_;
  Rank rank_;
  std::size_t first_thread_;
  Findings& findings_;
  Cells cells_;
  std::vector<std::vector<OpId>> ops_;  // by stream and number - 1
};

}  // namespace foretrain::plan
