// The walk of one class of ranks through its program: ends of streams and events, what they were waiting for, and the
// memory of folded calls. Used by fold.cpp only.
//
// Where communication slows compute and the reverse, both ends are known only once it is known what else runs. The walk
// goes in program order: when it comes to a compute op, every collective of this class alone that could run beside it
// has been passed, as it starts no earlier than the compute op ahead of it in the program ends. Such a collective stays
// open, with the work that remains, until compute ops have gone past its end or one waits for it. So does a flow
// (sim/flow_times.h) of this class alone; else it has an end as soon as it has a start. The compute ops beside flows
// are noted. Where that order does not hold (an op that was passed before runs beside it after all) the walk fails.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "plan/breakdown.h"
#include "plan/cursor.h"
#include "sim/device_share.h"
#include "sim/flow_times.h"
#include "sim/rank_classes.h"
#include "sim/role_model.h"
#include "sim/rounds.h"

namespace foretrain::sim {

// An op off the compute stream: what a wait for it is attributed to.
struct Record {
  Time start, end;
  std::int32_t before = -1;  // the record that it waited for last; -1: none that matters
  plan::Share share = nullptr;
};

// When a stream is free or an event was recorded.
struct Value {
  Time time;
  std::int32_t record = -1;   // off the compute stream: which op
  std::int32_t meeting = -1;  // >= 0: a posted op (index in RoleWalk::posted) whose end may be unknown yet
};

// A stretch of the compute stream's time.
struct Piece {
  Time start, end;
  plan::Share share = nullptr;
};

// Ops that meet other classes, and those of this class whose end is not known when they are passed; in program order.
struct Posted {
  const OpModel* op = nullptr;
  bool is_local = false;  // meets no other class
  plan::Binding binding;
  std::int32_t step = 0;
  std::size_t first_wait = 0;       // in RoleWalk's list: OpModel::after, waits; then the op ahead on its stream
  std::size_t waits = 0;            // so many
  std::size_t unknown = 0;          // of them
  Time submitted;                   // by the host
  std::size_t open = 0;             // meetings that have not ended
  std::size_t meetings_before = 0;  // with other classes, of this one
  Time arrival;                     // once none is unknown
  Time start{-1}, end;
  std::int32_t before = -1;
  DeviceLoad load;              // of a flow: on the device from start to end
  std::vector<Stretch> beside;  // of a flow: when this class computes meanwhile, ascending
  Value value;                  // its end, once known
  bool is_known = false;
  std::vector<std::int32_t> followers;  // posted ops that wait for it
};

// A posted op of one class whose end is not known where a block call ends. Times relative to that of the compute
// stream at the call's start; values of other such ops have their index among them as `meeting`.
struct Pending {
  const OpModel* op = nullptr;
  std::int32_t earlier = -1;  // which of those at the call's start it is; -1: posted since
  std::vector<Value> waits;   // of one posted since that waits for others
  Time submitted;             // of it
  std::int32_t open = -1;     // its place among those that have begun; -1: it waits
  bool began = false;         // in the call
  Time start;                 // then
  std::int32_t before = -1;   // then; index in FoldedCall::records
  Time since, latency;        // of one that has begun, as RoleWalk::Open
  std::int64_t remaining = 0;
};

// One that was pending at a call's start, and has ended in it.
struct EndedPending {
  bool has_ended = false;
  bool began = false;  // in the call: then it has a start
  Time start, end;
  std::int32_t record = -1;  // index in FoldedCall::records; -1: nobody waits for it later
};

// What a block call does to the role, relative to the compute stream's time at its start.
struct FoldedCall {
  std::vector<std::int64_t> key;  // by input: its time where it can matter, else kIrrelevant; then what is pending
  std::vector<Value> outputs;     // times relative; records are indices in `records`
  std::vector<Record> records;    // times relative
  std::vector<Piece> pieces;      // times relative
  plan::Breakdown sum;
  Time busy, last;  // end of the compute stream, of anything
  Time submitted;   // what the host has done, where the call makes it wait
  Time computed;    // end of the last op that computed
  Time first;       // start of anything
  CallFlows flows;
  Time longest;                     // of them
  std::vector<EndedPending> ended;  // by what was pending at its start
  std::vector<Pending> pending;     // at its end, as they were posted
  bool is_used = false;             // in this round
};

// Static side of a block call: which streams and events it builds on and leaves behind.
struct CallShape {
  struct Slot {
    std::int32_t stream = -1;  // a stream, else an event at a layer (-1: the instance's own slot, ring or none)
    EventRef event;
    std::int32_t layer = -1;
    Time earliest{};  // inputs: no op that uses it starts earlier, relative to the compute stream
    bool bounded = false;
  };
  bool is_known = false;  // looked at already
  bool folds = false;
  std::vector<Slot> inputs, outputs;
  // The host does not matter where it is ahead of the compute stream by as much as `host_slack`, at the call's start.
  Time host_slack;
  Time submit;                   // of all its ops
  bool holds_host = false;       // the host waits for one of its ops
  std::size_t flows = 0;         // of this class alone, but that they may share links
  std::size_t held_back = 0;     // times that its flows held each other back
  std::deque<FoldedCall> known;  // pointers into it stay, until it starts again
  std::size_t remembered = 0;    // of them in this round
};

class KeptRecords;

class RoleWalk {
 public:
  // `cut` may be null: nothing is left out. `sharing` may be null: compute and communication do not slow each other.
  // Both must outlive the walk, and so must `flows`, who knows it as number `self`. `left`: ops that all walks of a job
  // together may walk yet, without those of folded calls. `meets`: told of every posted op (its index) once its arrival
  // is known; may call open_flow and know. What becomes ready beside a compute op begins there and then, so that the
  // rest of the op knows.
  RoleWalk(const plan::PlanGraph& graph, const RankClass& ranks, const RoleModel& model, int steps, const RoundCut* cut,
           ShareSpeeds* sharing, FlowTimes& flows, std::size_t self, std::int64_t& left,
           std::function<void(std::int32_t)> meets);
  // Back to the program's beginning, for another round; what calls did stays known.
  void restart();

  // Where the walk stands.
  enum class State : std::uint8_t { blocked, paused, finished };
  // Goes on until an op needs a posted op's end that is not known (blocked), or could run beside one that takes from
  // the device once it has begun (paused: it may go on all the same), or the program ends.
  State advance();
  std::int32_t blocked_on() const { return blocked_on_; }  // or paused for
  // Something passed already would have run beside something later, or no op was left to walk: events must decide.
  bool has_failed() const { return has_failed_; }
  // A posted op that has begun as a flow: what of its time is left depends on the compute ops beside it.
  void open_flow(std::int32_t posted, const AloneFlow& flow);
  // A posted op that has ended: its `end` is known.
  void know(std::int32_t posted);

  std::vector<Posted> posted;
  const std::vector<Time>& step_ends() const { return step_ends_; }
  // Of the last step; call after the walk finished.
  plan::Breakdown breakdown(Time begin, Time end);

  // Of the rounds of a step that lie before those left out (sim/rounds.h). Call after the walk finished.
  struct Steady {
    Time period;                 // of rounds that are alike
    Time since, until;           // nothing that is not of them ends after or starts before
    Time longest;                // of their meetings
    Time begin;                  // of the last round, on the compute stream
    plan::Breakdown period_sum;  // of a period; of the last step
  };
  std::optional<Steady> steady(int step) const;

 private:
  struct Unit {
    const FoldedCall* call = nullptr;  // nullptr: `piece`
    Time base;
    Piece piece;
  };

  // Communication of this class that has a start but no end yet.
  __extension__ using Work = __int128;
  struct Open {
    std::int32_t posted = -1;
    DeviceLoad load;
    Time since;    // its start, or until when the rest is what remains
    Time latency;  // that nothing slows
    Work remaining = 0;
    std::int64_t alone = 0, beside = 0;  // of the work, per picosecond; beside compute
    Time end(bool is_beside) const;
    void move_to(Time t, bool is_beside);
  };
  // The walk where a round ends.
  struct Boundary {
    std::vector<Value> streams, events;
    std::vector<Open> open;
    Time submitted;
    std::size_t posted = 0, units = 0;
    Time first;  // start of anything since the boundary before
  };

  std::span<Value> waits_of(const Posted& p) { return {&all_waits_[p.first_wait], p.waits}; }
  std::span<const Value> waits_of(const Posted& p) const { return {&all_waits_[p.first_wait], p.waits}; }
  bool find_place();
  const std::vector<plan::Instance>& body() const;
  void note_boundary();
  bool is_alike(const Boundary& x, const Boundary& y, Time period, Time least) const;
  bool meets_alike(const Boundary& from, const Boundary& to, const Boundary& end, Time period) const;
  plan::Breakdown sum_of(const Boundary& from, const Boundary& to) const;
  void began(Time t) { first_ = std::min(first_, t); }
  void bind();
  bool run_op();
  bool can_fold();
  // Pending when a call begins.
  struct EarlierPending {
    std::int32_t posted = -1;
    bool was_open = false;
  };
  bool note_pending();
  Open open_of(std::int32_t posted, const OpModel& op, Time since) const;
  std::int32_t pending_index(std::int32_t index) const;  // -1: it is not pending
  std::int32_t open_index(std::int32_t index) const;
  bool is_own_flow(const OpModel& op) const;
  std::optional<CallFlows> flows_since(std::size_t posted, std::size_t meeting, Time base) const;
  bool run_folded();
  void post(const OpModel& op, bool is_local);
  bool run_on_compute_stream(const OpModel& op);
  bool stays_open(const OpModel& op) const;
  std::int32_t first_unknown(std::int32_t posted) const;
  void open(std::int32_t posted);
  void add_open(const Open& o);
  bool takes(const OpModel& op) const;
  void note_beside(std::int32_t flow, Time from, Time to);
  void idle_until(Time t);
  void end_first_open();
  void end_open(std::size_t index, Time end);
  Time compute_beside(const OpModel& op, Time start);
  void make_ready(std::int32_t index);
  void leave(const OpModel& op, Value value);
  Value resolve(const Value& v) const;
  bool is_known(const Value& v) const { return v.meeting < 0 || posted[static_cast<std::size_t>(v.meeting)].is_known; }
  std::int32_t last_record(std::span<const Value> waits) const;
  void attribute_gap(Time to, std::int32_t waited_for, bool held_by_host);
  void piece(Time start, Time end, plan::Share share);
  CallShape& shape();
  CallShape look_at_call() const;
  void forget_unused();
  Value& slot_value(const CallShape::Slot& s);
  bool remember(const CallShape& shape, const std::vector<EarlierPending>& earlier, Time base, FoldedCall& folded);
  bool remember_pending(const std::vector<EarlierPending>& earlier, Time base, KeptRecords& records,
                        FoldedCall& folded) const;
  Value kept(const Value& value, Time base, KeptRecords& records) const;
  Value moved(const Value& v, Time base, std::int32_t records) const;
  void replay(const CallShape& shape, const FoldedCall& known);
  void replay_pending(const FoldedCall& known, Time base, std::int32_t records);
  void reached(std::int32_t step, Time t);
  void end_of(std::int32_t step, Time t);
  void log(const FoldedCall* call, Time base, const Piece& piece);
  void sum_piece(const Piece& p, Time begin, Time end, plan::Breakdown& sum) const;

  const plan::Role& role_;
  const RankClass& ranks_;
  const RoleModel& model_;
  const int steps_;
  const RoundCut* const cut_;
  ShareSpeeds* const sharing_;
  FlowTimes& flow_times_;
  const std::size_t self_;
  std::int64_t& left_;
  const std::function<void(std::int32_t)> meets_;
  std::vector<std::vector<CallShape>> shapes_;  // by segment and call
  std::vector<Value> waits_;                    // scratch
  std::vector<std::int64_t> key_;               // scratch
  std::vector<std::int64_t> pending_key_;       // of the call that begins
  std::vector<Piece> gap_;                      // scratch
  std::vector<Value> block_ops_;                // of this block iteration, by position

  int part_, step_;
  const std::vector<plan::Instance>* instances_;  // of the part
  std::size_t instance_, call_, op_;
  const plan::BlockCall* block_call_;  // there
  const std::vector<OpModel>* block_;  // of it
  CallShape* shape_;                   // of it
  std::int32_t iteration_;
  plan::Binding binding_;
  std::int32_t blocked_on_;
  std::vector<Value> streams_, events_;
  std::vector<Value> all_waits_;  // of posted ops
  std::vector<Record> records_;
  std::vector<Unit> units_;      // of the last step
  std::vector<Piece>* capture_;  // pieces of the call that is being remembered
  std::size_t outside_;          // records before the call that is being remembered
  std::size_t posted_before_;    // the same of posted ops
  Time first_of_earlier_;        // start of any of these that ended in it
  bool touched_outside_;         // a gap in it led to a record before it
  Time last_;                    // end of anything in it
  std::vector<Time> step_ends_;
  std::vector<Open> open_;
  std::vector<std::vector<Boundary>> boundaries_;  // by step
  Time first_;                                     // start of anything since the last of them
  std::vector<std::int32_t> pending_;              // posted ops of this class whose end is not known
  std::size_t foreign_meetings_;                   // of posted ops; folding does not change how they are counted
  Time submitted_;                                 // what the host has done so far
  Time computed_;                                  // end of the last op that computed
  Time foreign_until_;               // communication with other classes, or a flow, takes from the device until then
  Time fixed_until_;                 // the same, if compute beside it would change its end
  std::vector<std::int32_t> flows_;  // posted ops that take from the device and may not have ended
  bool has_failed_, is_finished_;
};

}  // namespace foretrain::sim
