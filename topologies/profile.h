// A profile: how fast a device and its links really are. Parts, each optional:
//  - `roofline`, `network` and `sharing`: few physical parameters fitted to published measurements, each with its
//  source;
//  - `measured`: tables that calibrate took on one machine with fixed grids; it sees no job.
// A file is JSON, "foretrain.profile/1"; times are seconds, sizes bytes, rates bytes per second.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/units.h"

namespace foretrain::topologies {

struct Cluster;

// A fitted figure and where it comes from.
struct Figure {
  double value = 0;
  std::string source;
};

// Efficiencies of the roofline (sim/compute_roofline.cpp has the formulas). Fractions are of the datasheet's figure.
struct Roofline {
  std::map<Dtype, Figure> matmul;        // fraction of the peak with the largest tile in short runs, by compute dtype
  std::map<Dtype, Figure> matmul_limit;  // the most of the peak that the power limit leaves in runs of seconds
  Figure k_half;                         // k at which a tile runs at half of its speed
  Figure partial_wave{1,
                      "whole waves"};  // time of a wave of very few tiles, of a full wave's; absent: all take as long
  Figure tile_halving;                 // relative speed of a tile of half the size
  Figure matmul_tn, matmul_nn, matmul_nt;  // relative speed by layout: trans_b only; none; trans_a
  // Clock of a step whose devices never wait, of that at which the kernels were measured (sim/power_limit.h).
  Figure sustained_clock{1, "none"};
  // Standard deviation of the speed of matmuls over devices of one kind, of its mean: a job waits for the slowest.
  Figure matmul_spread{0, "none"};
  Figure matmul_fixed{0, "none"};  // seconds that a matmul takes beside its launch and its tiles
  Figure unaligned{1,
                   "none"};  // relative speed where rows of a matmul's operands do not begin at multiples of 16 bytes
  Figure memory;             // sustained fraction of the memory bandwidth of a streaming kernel
  std::map<std::string, Figure> memory_by_kind;  // relative speed of a plan::cost_kind, or of all below "norm", …
  // Fraction of the matmul peak by workloads::AttentionKind, masked half not counted, that long sequences with large
  // heads on many blocks come near. Kinds without flash are matmuls.
  std::map<std::string, Figure> attention_forward, attention_backward;
  // What holds flash kernels below that, by "forward" and "backward" (absent: nothing): the keys of a query, and the
  // head's size, at which half is reached; and how many blocks' time passes with multiprocessors waiting for the last.
  std::map<std::string, Figure> attention_keys_half, attention_head_half, attention_tail;
  // By direction (absent: 1), relative speed of flash kernels whose values have heads of another size than queries.
  std::map<std::string, Figure> attention_unequal;
  Figure launch;  // seconds that a kernel costs beside its work
};

// Of the network (sim/network_alpha_beta.cpp has the formulas). Collective kinds by name: "all_reduce", …
struct NetworkFigures {
  // Where collectives were measured on the system's environments (topologies/network_environment.h) their constants
  // count, and these figures for the rest.
  bool environments_prevail = false;
  // Bytes/s: plateau of the bus bandwidth inside one node, by kind. "all_reduce_in_switch" where the switch reduces.
  std::map<std::string, Figure> node_busbw;
  std::map<std::string, Figure> fabric_fraction;  // by kind: what is reached of the NICs that the members bring
  std::map<std::string, Figure>
      ll_limit;  // bytes/s that NCCL's LL protocol reaches: "one_node", "two_nodes", "more_nodes"
  Figure node_message, fabric_message;  // fraction of the link's bandwidth that one large message reaches
  Figure node_message_latency, fabric_message_latency;  // seconds of a small message
  Figure kappa_node, kappa_fabric;                      // pipelining cost: t = a + S/b + 2 kappa sqrt(a S / b)
  Figure node_extra, fabric_extra;  // seconds to add to NCCL's own latencies inside a node, over the fabric
};

// What a communication kernel takes from the kernels beside it, and the host's part (sim/device_share.h has the
// formulas). Keys: names of plan::CollectiveKind, "all_reduce_in_switch" where the switch reduces, "message". Absent:
// nothing.
struct SharingFigures {
  std::map<std::string, Figure> node_blocks,
      fabric_blocks;                             // multiprocessors it occupies: inside a node, over the fabric
  std::map<std::string, Figure> memory_traffic;  // bytes of the device's memory per byte of bus bandwidth
  Figure compute_clock{1, "none"};               // of the multiprocessors beside a communication kernel
  Figure communication_speed{1, "none"};         // of a communication kernel beside compute
  Figure submit{0, "none"};                      // seconds that the host takes to submit one op
  // Whether the host waits for the device at the end of each forward and each backward of a microbatch: a framework's,
  // in no profile file.
  bool waits_each_pass = false;
};

// Tables of one machine. Every sample is the median of repeated runs on one core (one rank) with nothing else running,
// except where it says how many ranks ran at once. Of ops: `seconds` with operands that were not touched lately, and
// `cached_seconds` with those that the op before has just touched (0: not measured, as `seconds`).
struct MatmulSample {
  Dtype in = Dtype::fp32, out = Dtype::fp32;
  bool trans_a = false, trans_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  double seconds = 0, cached_seconds = 0;
};

// `step`: name of a plan::AttentionStep. Shapes as plan::Attention.
struct AttentionSample {
  std::string step;
  Dtype dtype = Dtype::fp32;
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, head_dim = 0;
  bool causal = true;
  double seconds = 0, cached_seconds = 0;
};

// Memory-bound ops. `kind`: plan::cost_kind(work) (plan/cost_kind.h); `bytes`: plan::work(op).read + written.
struct MemorySample {
  std::string kind;
  Dtype dtype = Dtype::fp32;
  std::int64_t bytes = 0;
  double seconds = 0, cached_seconds = 0;
};

// `kind`: name of a plan::CollectiveKind; `bytes`: Collective::elements x size (the total buffer); all `ranks` ranks of
// this machine took part and nothing else ran. seconds: from the last rank's arrival to the last rank's return.
// `has_gpu_each`: over a library between GPUs; else ranks shared the cores, or one GPU. `crowded`: other groups of as
// many ranks did the same at once, more ranks than cores in all, so that whoever waited slept.
struct CollectiveSample {
  std::string kind;
  int ranks = 0;
  std::int64_t bytes = 0;
  double seconds = 0;
  bool has_gpu_each = false, crowded = false;
};

// One message from rank to rank, from the later arrival to both sides' return.
struct ExchangeSample {
  std::int64_t bytes = 0;
  double seconds = 0;
  bool has_gpu_each = false, crowded = false;
};

// With `active` ranks computing at once, time of a piece of work, until the slowest rank has done it, over its time
// alone (>= 1; more ranks than cores time-share, so the factor then holds that too). `kind` "matmul": large matmuls;
// "memory": streaming work of which each rank touches `bytes` again and again (several sizes: what fits a core's cache
// is hardly slowed).
struct SharingSample {
  int active = 0;
  std::string kind;
  std::int64_t bytes = 0;
  double slowdown = 1;
};

// Of a rank with a GPU: time of compute ("matmul" or "memory" as above) beside communication, and of communication
// beside that compute, over their times alone (>= 1).
struct OverlapSample {
  std::string kind;
  double compute = 1, communication = 1;
};

struct Measured {
  std::string machine;  // processor, cores, memory; or GPU, memory
  int cores = 0;        // that ranks can run on; 1 of a GPU
  std::string date;     // ISO 8601
  std::string commit;   // of foretrain
  std::string command;
  Bytes core_cache, shared_cache;  // what a core has for itself, and what all share
  double dispatch_seconds = 0;     // per op: from the end of one op to the start of the next on the same rank
  // Of a GPU: what the host takes to hand it an op; and what is added for an op of another stream that it waits for.
  double submit_seconds = 0, event_seconds = 0;
  Bytes device_memory;  // of a GPU; 0 of a machine's cores
  std::vector<MatmulSample> matmul;
  std::vector<AttentionSample> attention;
  std::vector<MemorySample> memory;
  std::vector<CollectiveSample> collectives;
  std::vector<ExchangeSample> exchanges;
  std::vector<SharingSample> sharing;  // active = 1 .. 2 x cores
  std::vector<OverlapSample> overlap;
  bool empty() const { return matmul.empty() && memory.empty(); }
};

struct Profile {
  std::string name;
  std::string description;    // one line, for `list`
  bool has_roofline = false;  // the `roofline` part stood in the file
  bool has_network = false;
  bool has_sharing = false;
  Roofline roofline;
  NetworkFigures network;
  SharingFigures sharing;
  Measured measured;
};

// Reads strictly; throws InputError with every mistake, EnvironmentError for a file that cannot be read.
Profile load_profile(const std::string& path);
// The fastest matmul sample of each element type: what one core really reaches.
std::map<Dtype, FlopRate> best_matmul_rates(const Measured& measured);
// Loads the profile that the cluster names, where it names one and has not loaded it yet. This machine has no
// datasheet: its peak becomes the best measured matmul, and a GPU's memory what it said it has.
void load_profile_of(Cluster& cluster);
Profile profile_from_text(const std::string& text, const std::string& origin);

// The document that load_profile reads back to an equal profile; samples one per line, in the order given.
std::string to_json(const Profile& profile);
// Written to a temporary name beside `path` and renamed. Throws EnvironmentError.
void save_profile(const Profile& profile, const std::string& path);

}  // namespace foretrain::topologies
