#include "exec/calibrate_program.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace foretrain::exec {

namespace {

// Views of the same bytes as elements of each type, by BufferId.
enum View : plan::BufferId {
  fp64,
  fp32,
  bf16,
  fp16,
  fp64_written,
  fp32_written,
  bf16_written,
  fp16_written,
  ids,
  on_host
};
constexpr std::int64_t kAlignment = 256;

// Lengths of sequences that ask ProbeData for numbers and for ids.
constexpr std::int64_t kNumbers = 16384, kIds = kProbeIds;

plan::BufferId view(Dtype dtype, bool is_written) {
  switch (dtype) {
    case Dtype::fp64: return is_written ? fp64_written : fp64;
    case Dtype::fp32:
    case Dtype::tf32: return is_written ? fp32_written : fp32;
    case Dtype::bf16: return is_written ? bf16_written : bf16;
    case Dtype::fp16: return is_written ? fp16_written : fp16;
    case Dtype::i32: return ids;
    default: CHECK(false, "no probes of {}", name(dtype)); return ids;
  }
}

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

plan::Buffer buffer(std::string name, Dtype dtype, std::int64_t bytes) {
  plan::Buffer b;
  b.name = std::move(name);
  b.dtype = dtype;
  b.elements = bytes / size_bytes(dtype, 1);
  b.kind = plan::BufferKind::workspace;
  b.lifetime = plan::Lifetime::persistent;
  return b;
}

// Of a role's streams the first kStreams are ProbeProgram's.
constexpr plan::StreamId kHostStream = ProbeProgram::kStreams;

// Fills `elements` words of a buffer.
plan::Op load(plan::BufferId into, std::int64_t elements, std::int64_t length) {
  plan::Op op;
  op.stream = kHostStream;
  op.phase = plan::Phase::load;
  op.work = plan::Host{plan::HostTask::load_inputs, elements / length, length};
  op.writes = {plan::Operand{into, 0, plan::kNoGroup, 0, elements, 0}};
  return op;
}

// Loads wait for the step before, and all streams for them.
std::vector<plan::Op> loads(std::int64_t pool) {
  plan::Op begin;
  begin.work = plan::Join{};
  begin.stream = kHostStream;
  std::vector<plan::Op> ops{begin, load(fp32, pool / 4, kNumbers), load(fp32_written, pool / 4, kNumbers),
                            load(ids, kProbeIds, kIds)};
  for (int i = 0; i < ProbeProgram::kStreams; ++i) {
    ops.front().waits.push_back(static_cast<plan::EventId>(i));
    plan::Op loaded;
    loaded.work = plan::Join{};
    loaded.stream = static_cast<plan::StreamId>(i);
    loaded.after = {1, 2, 3};
    ops.push_back(loaded);
  }
  return ops;
}

std::vector<plan::Op> ends() {
  std::vector<plan::Op> ops;
  for (int i = 0; i < ProbeProgram::kStreams; ++i) {
    plan::Op end;
    end.work = plan::Join{};
    end.stream = static_cast<plan::StreamId>(i);
    end.records = {static_cast<plan::EventId>(i)};
    ops.push_back(end);
  }
  return ops;
}

}  // namespace

ProbeProgram::ProbeProgram(int ranks, plan::Axis axis, Bytes pool, Bytes host, int groups)
    : pool_(pool.value / (kNumbers * 4) * (kNumbers * 4)), host_(host.value) {
  graph_.name = "calibration";
  graph_.mesh.extent[static_cast<std::size_t>(axis)] = ranks;
  graph_.mesh.extent[static_cast<std::size_t>(plan::Axis::tp)] = groups;
  graph_.groups.push_back({"all", {{axis, 0, {}}}, {}});
  graph_.tensors = 1;
  graph_.sequences_per_step = graph_.seq_len = graph_.microbatches = 1;
  const int roles = axis == plan::Axis::pp ? ranks : 1;
  for (int r = 0; r < roles; ++r) {
    plan::Role role;
    role.name = "calibration";
    if (roles > 1) {
      role.ranks.fixed = {{axis, r}};
    }
    for (int i = 0; i < kStreams; ++i) {
      role.streams.push_back({fmt::format("compute {}", i), plan::StreamKind::compute, plan::Axis::tp});
      role.events.push_back({"ended", plan::Replicas::once});
    }
    role.streams.push_back({"host", plan::StreamKind::host, plan::Axis::tp});
    for (const char* pool_name : {"read", "written"}) {
      for (const Dtype dtype : {Dtype::fp64, Dtype::fp32, Dtype::bf16, Dtype::fp16}) {
        role.buffers.push_back(buffer(pool_name, dtype, pool_));
        role.memory.placements.push_back({role.buffers.size() > fp64_written ? pool_ : 0, 0, 0});
      }
    }
    role.buffers.push_back(buffer("ids", Dtype::i32, kProbeIds * 4));
    role.memory.placements.push_back({2 * pool_, 0, 0});
    role.memory.arena = role.memory.persistent = Bytes{2 * pool_ + kProbeIds * 4};
    role.buffers.push_back(buffer("on_host", Dtype::fp32, host_));
    role.buffers.back().kind = plan::BufferKind::host;
    role.memory.placements.push_back({role.memory.arena.value, 0, 0});
    role.memory.host = Bytes{host_};
    role.blocks = {{"load", loads(pool_)}, {"probes", {}}, {"end", ends()}};
    for (plan::BlockId block = 0; block < std::ssize(role.blocks); ++block) {
      role.segments.push_back({role.blocks[static_cast<std::size_t>(block)].name, -1, 0, {{block, 1, -1, 1}}});
      role.program.body.push_back({block, 0, -1, -1});
    }
    graph_.roles.push_back(std::move(role));
  }
  walks_.resize(static_cast<std::size_t>(roles));
  last_.resize(static_cast<std::size_t>(roles));
}

plan::Operand ProbeProgram::take(Walk& walk, const ProbeTensor& tensor, bool is_written) const {
  plan::Operand operand;
  operand.elements = tensor.elements;
  if (tensor.on_host) {
    CHECK(size_bytes(tensor.dtype, tensor.elements) <= host_, "{} elements on the host", tensor.elements);
    operand.buffer = on_host;
    return operand;
  }
  operand.buffer = view(tensor.dtype, is_written);
  if (tensor.dtype == Dtype::i32) {
    CHECK(tensor.elements <= kProbeIds, "{} token ids", tensor.elements);
    return operand;
  }
  const std::int64_t bytes = size_bytes(tensor.dtype, tensor.elements);
  CHECK(bytes <= pool_, "a tensor of {} bytes", bytes);
  std::int64_t& at = is_written ? walk.written : walk.read;
  at = at + bytes > pool_ ? 0 : at;
  operand.offset = at / size_bytes(tensor.dtype, 1);
  at += aligned(bytes);
  return operand;
}

plan::Op ProbeProgram::op_of(const Probe& probe, int role, Place place) {
  const auto r = static_cast<std::size_t>(role);
  if (place == Place::same) {
    walks_[r] = last_[r];
  } else {
    last_[r] = walks_[r];
  }
  plan::Op op;
  op.work = probe.work;
  std::vector<plan::Operand> operands;
  for (std::size_t i = 0; i < probe.tensors.size(); ++i) {
    const ProbeTensor& tensor = probe.tensors[i];
    if (tensor.part_of >= 0) {
      plan::Operand part = operands[static_cast<std::size_t>(tensor.part_of)];
      part.elements = part.rank_stride = tensor.elements;
      part.rank_group = 0;
      operands.push_back(part);
      continue;
    }
    const bool is_written = std::any_of(probe.writes.begin(), probe.writes.end(), [&](int w) {
      return w == static_cast<int>(i) || probe.tensors[static_cast<std::size_t>(w)].part_of == static_cast<int>(i);
    });
    operands.push_back(take(walks_[r], tensor, is_written));
  }
  for (const int t : probe.reads) {
    op.reads.push_back(operands[static_cast<std::size_t>(t)]);
  }
  for (const int t : probe.writes) {
    op.writes.push_back(operands[static_cast<std::size_t>(t)]);
  }
  return op;
}

int ProbeProgram::append(plan::Op op, int role) {
  std::vector<plan::Op>& ops = graph_.roles[static_cast<std::size_t>(role)].blocks[kInstance].ops;
  ops.push_back(std::move(op));
  return static_cast<int>(ops.size()) - 1;
}

int ProbeProgram::add(const Probe& probe, int role, Place place) {
  return append(op_of(probe, role, place), role);
}

int ProbeProgram::add_on(int stream, const Probe& probe, Place place, const std::vector<int>& after) {
  plan::Op op = op_of(probe, 0, place);
  op.stream = static_cast<plan::StreamId>(stream);
  for (const int earlier : after) {
    op.after.push_back(static_cast<std::uint16_t>(earlier));
  }
  return append(std::move(op), 0);
}

std::int16_t ProbeProgram::family(std::int64_t elements) {
  const auto [it, is_new] = families_.try_emplace(elements, static_cast<std::int16_t>(families_.size()));
  if (is_new) {
    plan::ParameterFamily family;
    family.name = "probe";
    family.elements = elements;
    plan::Parameter p;
    p.name = "probe";
    p.rows = p.global_rows = elements;
    p.cols = p.global_cols = 1;
    p.init = plan::Init::zeros;
    p.slices = {{plan::Slice{0, 0, elements, 0, 0}}};
    family.parameters = {p};
    for (plan::Role& role : graph_.roles) {
      role.parameter_families.push_back(family);
    }
  }
  return it->second;
}

std::int32_t ProbeProgram::new_tag() {
  graph_.tags.emplace_back("probe");
  return static_cast<std::int32_t>(graph_.tags.size()) - 1;
}

// A power of four, whose order takes least to find (permutation.h); it stays, so that its tables are made once.
ProbeData::ProbeData()
    : epochs_{kProbeSamples, kProbeSamples, workloads::LastBatch::drop, {workloads::Distribution::random, false}, 1},
      samples_(static_cast<std::size_t>(epochs_.items), 0.5) {}

Sample ProbeData::sample(std::int64_t step, std::int64_t index_in_batch) const {
  const double* const number = &samples_[static_cast<std::size_t>(epochs_.item(step, index_in_batch))];
  return {{number, 1}, {number, 1}};
}

// Each half of a word is a bf16 of magnitude 2^-7 to 2^-2, or an fp16 of 1 to 1.625, so that the word is a small number
// as fp32, and two are one as fp64 (about 1e-14): never zero, denormal or infinite.
void ProbeData::sequence(std::int64_t, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* out) const {
  std::uint32_t state = static_cast<std::uint32_t>(index_in_batch) * 2654435761U + 12345U;
  for (std::int64_t i = 0; i <= seq_len; ++i) {
    state = state * 1664525U + 1013904223U;
    if (seq_len == kIds) {
      out[i] = static_cast<std::int32_t>((state >> 16) % kProbeVocabulary);
      continue;
    }
    const std::uint32_t bits = ((state >> 3) & 0x027F027FU) + 0x3C003C00U;
    const std::uint32_t signs = state & 0x80008000U;
    out[i] = static_cast<std::int32_t>(bits | signs);
  }
}

}  // namespace foretrain::exec
