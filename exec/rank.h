// One rank: its arena, its streams, and the walk of its program.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/loader.h"
#include "exec/op_call.h"
#include "exec/queued_device.h"
#include "exec/run_control.h"

namespace foretrain::exec {

// Prepared and run on a thread of its own; read by others only between runs.
class RankRunner : private CompletionSink {
 public:
  // The graph must outlive the rank.
  RankRunner(const plan::PlanGraph& graph, plan::Rank rank, std::unique_ptr<QueuedDevice> device);

  // Takes its memory (of the role's memory plan, zeroed), touches it, and sets the parameters' initial values.
  void prepare(const RankMemory& memory, std::uint64_t seed);
  struct Assignment {
    bool trains = true;  // else: the evaluation program
    bool only_first_microbatch = false;
    int begin = 0;       // the first step of this process
    int first_step = 0;  // of the body, or batch of the evaluation
    Time origin;         // of spans
    const DataSource* data = nullptr;
    const RunOptions* options = nullptr;
    const DataCache* cache = nullptr;  // may be nobody's
    int lost = 0;                      // of the ranks that share out a batch
  };
  // Enqueues the prologue (before step 0), the body of every step that `control` lets begin, and the
  // epilogue; or the evaluation for each. Returns when all is done.
  void run(RunControl& control, const Assignment& assignment);

  const RankContext& context() const { return context_; }
  const RankMemory& memory() const { return memory_; }
  Bytes workspace() const { return workspace_; }  // of the last run
  BytesRead read() const { return read_; }        // likewise
  // From any thread. Ops of the run that are complete; steps whose updates this rank has made, by its optimizer ops, -1
  // where it is in the middle of one. Of who updates for each worker by itself: the slowest worker's steps.
  std::int64_t ops_done() const { return ops_done_.load(); }
  int updates_made() const;

  // One rank of all reports each.
  void set_reports_loss() { reports_loss_ = true; }
  void set_reports_grad_norm() { reports_grad_norm_ = true; }

 private:
  // What enqueueing an op needs beyond the graph.
  struct OpNotes {
    EventHandle done;             // recorded after it, if an op of another stream names it in `after`
    bool writes_outcome = false;  // the loss or the gradient norm
  };
  struct OpenStep {
    int step = 0;
    std::int64_t open = 0;  // ops enqueued and not complete
    bool is_closed = false;
    Time end;
  };

  void make_streams_and_events();
  std::unique_ptr<Loader> make_loader(const Assignment& assignment);
  void enqueue(const std::vector<plan::Instance>& instances, int first_instance, int step);
  void enqueue_evaluation(int batch);
  void enqueue_op(const plan::ProgramCursor& cursor, int step);
  void enqueue_outcome(int step);
  void enqueue_keep(int steps_done);
  void poison_everything_dead();
  void enqueue_poison(int finished_instance);
  void poison(int finished_instance);
  void poison_range(std::byte* begin, std::byte* end, const std::vector<QueuedDevice::Range>& kept) const;
  void completed(const OpCall& call, Time start, Time end) override;
  void count(const OpCall& call);
  void close(OpenStep& step);
  void finish_op(int step, Time end);

  RankContext context_;
  int role_index_;
  std::unique_ptr<QueuedDevice> device_;
  RankMemory memory_;
  std::vector<StreamHandle> streams_;        // by StreamId
  std::vector<EventHandle> events_;          // by plan::event_copy
  std::vector<std::vector<OpNotes>> notes_;  // by block, op
  std::vector<EventHandle> outcome_events_;  // by StreamId: after the last write of loss or norm on it
  EventHandle poison_event_;
  std::vector<EventHandle> step_ends_;  // by StreamId
  EventHandle kept_event_;
  std::vector<std::vector<std::int32_t>> frees_slot_, frees_hold_;  // copies, by body instance
  OpCall call_;
  RankContext reading_;  // as context_, of data that may be kept
  Bytes workspace_;
  BytesRead read_;
  std::int64_t skip_limit_ = 0;  // so many steps in a row whose gradients are no numbers end the run; 0: no matter
  bool reports_loss_ = false, reports_grad_norm_ = false;

  // Of the run in progress.
  RunControl* control_ = nullptr;
  Assignment assignment_;
  std::deque<OpenStep> open_steps_;
  std::atomic<std::int64_t> ops_done_{0}, optimizer_ops_done_{0};
  std::atomic<std::int64_t> turns_made_{0};
  std::atomic<int> slowest_{0};  // worker's steps of which updates are made
};

}  // namespace foretrain::exec
