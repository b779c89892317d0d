// What stands behind a step's backward: gradients summed over the ranks that share them, their norm, the optimizer, and
// parameters back to who needs them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan/build_context.h"

namespace foretrain::plan {

// build_buckets.cpp
Bucket bucket_of(const RoleContext& c, Family f, std::int32_t layers);
// Of a bucket in a buffer that holds it whole, or only this rank's part: the part that this rank owns.
Operand own_part(const RoleContext& c, const Bucket& bucket, BufferId buffer);
// Each rank of a shard group updates some whole tensors instead of a part of each.
bool has_owners(const RoleContext& c);
// In the order in which a backward completes them: a chunk's layers; all that are reduced together, or (`updated`)
// updated together, which owners share out as a whole.
std::vector<BucketRange> chunk_buckets(const RoleContext& c, int chunk);
std::vector<BucketRange> all_buckets(RoleContext& c, bool updated);
BlockCall call_at(const BucketRange& range, BlockId block);

// build_norm.cpp
// The norm of all gradients, once `reduced`, and what it scales them by.
void add_norms(RoleContext& c, Segment& s, const std::vector<BucketRange>& buckets,
               const std::vector<EventId>& reduced);
// Sums numbers of tensors over the ranks of a group, which hold different ones, or parts of them.
void reduce_of_tensors(RoleContext& c, BlockBuilder& b, GroupId group, StreamId stream, Operand all,
                       const std::string& name);

// build_update.cpp: gradient reduction, optimizer, parameters back.
// What, beside the compute stream, must be over before a gradient may leave this rank.
std::vector<EventId> local_gradients_done(RoleContext& c);
// Sums a part over the replicas; returns the op's position.
int emit_reduce_across(RoleContext& c, BlockBuilder& b, Operand part, const std::string& name);
bool reduces_gradients(const RoleContext& c);  // of some family
BlockId reduce_bucket(RoleContext& c, const BucketRange& range);
// Of what does not always happen: a step with a gradient that is no number, where losses are scaled; a turn without an
// update.
void guard_update(RoleContext& c, Op& op);
// Norms, clipping, and the optimizer; parameters that are stored whole are gathered behind it where that overlaps.
void add_update(RoleContext& c, Segment& s, const std::vector<BucketRange>& buckets,
                const std::vector<EventId>& reduced);
SegmentId begin_segment(RoleContext& c);
SegmentId update_segment(RoleContext& c);
SegmentId evaluation_begin_segment(RoleContext& c);
SegmentId evaluation_end_segment(RoleContext& c);

// build_compression.cpp: gradients exchanged in fewer bytes.
// Sums a bucket's gradients over the ranks that share them; returns the position of the op with which they are there.
int emit_compressed_reduce(RoleContext& c, BlockBuilder& b, const BucketRange& range);

// build_local_sgd.cpp: replicas that drift apart between two averages.
// Behind the update, every so many steps.
SegmentId average_segment(RoleContext& c);
// Before the first step: the outer optimizer's anchor is where all begin.
SegmentId anchor_segment(RoleContext& c);

// build_lamb.cpp: before the first bucket; of each, the update in place of its gradient; behind the last. What the
// optimizer then reads: norms of all tensors' weights, and of their updates.
inline bool is_lamb(const RoleContext& c) {
  return c.job.workload.optimizer.kind == workloads::OptimizerKind::lamb;
}
BlockId lamb_begin_block(RoleContext& c);
BlockId lamb_update_block(RoleContext& c, const BucketRange& range);
BlockId lamb_norms_block(RoleContext& c);
Operand lamb_norms(RoleContext& c);

// build_central.cpp: gradients to where they are summed, and there the sum; parameters from there. Every such block
// records an event of these names, of which a role may have several.
inline constexpr const char* kReducedEvent = "gradients_reduced";
inline constexpr const char* kHandedOutEvent = "handed_out";
BlockId exchange_bucket(RoleContext& c, const BucketRange& range);
BlockId hand_out_bucket(RoleContext& c, const BucketRange& range);
std::vector<EventId> exchange_events(RoleContext& c, const char* name);

// build_replica.cpp: the sums that a server updates by, to its replica, which makes the same updates of them.
// Whether this role has a replica, or is one.
bool is_replicated(const RoleContext& c);
void send_to_replica(RoleContext& c, BlockBuilder& b, const BucketRange& range);
BlockId receive_from_server(RoleContext& c, const BucketRange& range);
// The replica says that it has them all: events that the server waits for before it updates, the replica at the step's
// end. Nothing without replicas.
void add_acknowledgement(RoleContext& c, Segment& s, std::vector<EventId>& before_update,
                         std::vector<EventId>& before_end);

// Of servers that take turns: what they update by in this one, and what is told of it, to the replica. As above.
void add_turn_copy(RoleContext& c, Segment& s, const std::vector<Operand>& gradients,
                   std::vector<EventId>& before_update, std::vector<EventId>& before_end);

// build_server.cpp
// Throws InputError where a server would have nothing.
Dealing deal(const Strategy& strategy, const Role& worker);
// `part`: the server's, or its replica's.
void build_server(const Job& job, PlanGraph& g, Role& role, const Groups& groups, Part part, std::int32_t index,
                  const Dealing& dealt, std::int32_t last_microbatch);

// build_asynchronous.cpp: servers that update by each worker's gradients, one at a time.
void add_asynchronous_update(RoleContext& c, Segment& s);  // of a worker
void add_asynchronous_program(RoleContext& c);             // of a server, or its replica
Operand turn(RoleContext& c);                              // of them: Channel's

// build_post_validation.cpp: norms from stage to stage instead of over all at once.
// Adds the norms of the stages before to this one's, and sends the sum on.
void emit_norms_of_stages_before(RoleContext& c, BlockBuilder& b, Operand norms);
// In the next step: the norm over all stages, on its way back from the last.
SegmentId validation_segment(RoleContext& c);
// What must be over before norms are written again.
std::vector<EventId> norms_passed_on(RoleContext& c);

}  // namespace foretrain::plan
