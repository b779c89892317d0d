#include "exec/calibrate_phase.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <variant>

#include "exec/calibrate_grid.h"
#include "plan/cost_kind.h"
#include "plan/work.h"
#include "topologies/this_machine.h"

namespace foretrain::exec {

namespace {

constexpr Bytes kPool{std::int64_t{64} << 20};
// Of each of many ranks: together they hold no more than two do.
constexpr Bytes kSmallPool{std::int64_t{16} << 20};

// An op runs again on what it has just touched only where that fits a core's caches.
constexpr std::int64_t kMostCachedBytes = std::int64_t{8} << 20;

// How long ranks are watched that share cores: several slices of the system's scheduler.
constexpr double kSharingFlops = 1e9, kSharingBytes = 256e6;

constexpr std::int64_t kSmallMessage = std::int64_t{256} << 10;

// Twice the caches, so that what an op finds in it was not touched lately.
Bytes large_pool() {
  const topologies::CacheSizes caches = topologies::cache_sizes();
  return Bytes{std::clamp(2 * (caches.own + caches.shared).value, kPool.value, 4 * kPool.value)};
}

Bytes pool_of(int ranks) {
  return ranks <= 2 ? kPool : kSmallPool;
}

Bytes touched(const plan::Work& work) {
  plan::Op op;
  op.work = work;
  const plan::OpWork w = plan::work(op);
  return w.read + w.written;
}

// y = x W^T on square matrices.
Probe square_matmul(std::int64_t extent) {
  plan::Matmul op;
  op.m = op.n = op.k = extent;
  op.trans_b = true;
  const ProbeTensor matrix{Dtype::fp32, extent * extent};
  return {op, {matrix, matrix, matrix}, {0, 1}, {2}};
}

Probe accumulate(std::int64_t elements) {
  const ProbeTensor x{Dtype::fp32, elements};
  return {plan::Accumulate{elements, Dtype::fp32, Dtype::fp32}, {x, x}, {0, 1}, {1}};
}

// Half a millisecond of work or less: ranks that begin it together end it some ten microseconds apart.
Probe some_work() {
  return square_matmul(192);
}

Probe collective(plan::CollectiveKind kind, std::int64_t elements, int ranks, std::int32_t tag) {
  plan::Collective op;
  op.kind = kind;
  op.group = 0;
  op.elements = elements;
  op.tag = tag;
  const ProbeTensor full{Dtype::fp32, elements}, part{Dtype::fp32, elements / ranks, 0};
  switch (kind) {
    case plan::CollectiveKind::reduce_scatter: return {op, {full, part}, {0}, {1}};
    case plan::CollectiveKind::all_gather: return {op, {full, part}, {1}, {0}};
    default: return {op, {full}, {0}, {0}};
  }
}

Probe message(bool send, std::int64_t elements, std::int32_t tag) {
  plan::Exchange op;
  op.messages = {{send, plan::Axis::pp, send ? 1 : 0, elements, Dtype::fp32, tag}};
  const ProbeTensor data{Dtype::fp32, elements};
  return send ? Probe{op, {data}, {0}, {}} : Probe{op, {data}, {}, {0}};
}

int repetitions(std::int64_t bytes) {
  return bytes <= kSmallMessage ? 8 : 2;
}

}  // namespace

// Neighbours in a grid are no neighbours in time: what else the machine does hits no part of a grid as a whole.
OpsPhase::OpsPhase() : Phase("ops of one rank", 1, plan::Axis::dp, large_pool(), 3) {
  std::vector<Probe> probes;
  for (std::vector<Probe>& grid : std::vector{matmul_grid(), attention_grid(), memory_grid(program_)}) {
    probes.insert(probes.end(), grid.begin(), grid.end());
  }
  const std::size_t n = probes.size();
  std::size_t stride = n * 5 / 8;
  while (std::gcd(stride, n) != 1) {
    ++stride;
  }
  for (std::size_t i = 0, at = 0; i < n; ++i, at = (at + stride) % n) {
    const Probe& probe = probes[at];
    const int position = program_.add(probe);
    const bool fits = touched(probe.work).value <= kMostCachedBytes;
    measurements_.push_back(
        {probe.work, position, fits ? program_.add(probe, 0, ProbeProgram::Place::same) : position});
  }
}

void OpsPhase::report(topologies::Measured& measured) const {
  for (const Measurement& m : measurements_) {
    const double seconds = session_.op_seconds(m.position), cached = session_.op_seconds(m.cached_position);
    if (const auto* x = std::get_if<plan::Matmul>(&m.work)) {
      measured.matmul.push_back({x->in, x->out, x->trans_a, x->trans_b, x->m, x->n, x->k, seconds, cached});
    } else if (const auto* a = std::get_if<plan::Attention>(&m.work)) {
      measured.attention.push_back({std::string(plan::name(a->step)), a->dtype, a->batch, a->seq, a->heads, a->kv_heads,
                                    a->head_dim, a->causal, seconds, cached});
    } else {
      measured.memory.push_back(
          {plan::cost_kind(m.work), plan::cost_dtype(m.work), touched(m.work).value, seconds, cached});
    }
  }
  measured.dispatch_seconds = session_.gap_seconds();
}

SharingPhase::SharingPhase(int ranks, int cores)
    : Phase(fmt::format("{} ranks at once", ranks), ranks, plan::Axis::pp, pool_of(ranks), 2), cores_(cores) {
  const Probe product = square_matmul(384);
  stretches_.push_back({"matmul",
                        product,
                        touched(product.work).value,
                        static_cast<int>(kSharingFlops / (2.0 * 384 * 384 * 384)),
                        {},
                        {}});
  for (std::int64_t bytes = 64 << 10; bytes <= kSmallPool.value; bytes *= 4) {
    stretches_.push_back({"memory",
                          accumulate(bytes / 12),
                          bytes,
                          static_cast<int>(kSharingBytes / static_cast<double>(bytes)),
                          {},
                          {}});
  }
  for (Stretch& s : stretches_) {
    meet();
    for (int role = 0; role < ranks; ++role) {
      s.together = add(s, role);
    }
  }
  meet();
  for (Stretch& s : stretches_) {
    s.alone = add(s, 0);
  }
  meet();
}

void SharingPhase::meet() {
  const std::int32_t tag = program_.new_tag();
  for (int role = 0; role < ranks_; ++role) {
    program_.add(collective(plan::CollectiveKind::all_reduce, ranks_, ranks_, tag), role);
  }
}

ProbeSession::Stretch SharingPhase::add(const Stretch& stretch, int role) {
  const int first = program_.add(stretch.probe, role);
  int last = first;
  for (int i = 1; i < stretch.times; ++i) {
    last = program_.add(stretch.probe, role, ProbeProgram::Place::same);
  }
  return {first, last};
}

void SharingPhase::report(topologies::Measured& measured) const {
  for (const Stretch& s : stretches_) {
    measured.sharing.push_back({ranks_, s.kind, s.bytes, session_.slowdown(s.together, s.alone, ranks_ > cores_)});
  }
}

CollectivesPhase::CollectivesPhase(int ranks)
    : Phase(fmt::format("collectives of {} ranks", ranks), ranks, plan::Axis::dp, pool_of(ranks), 2) {
  for (const auto kind :
       {plan::CollectiveKind::all_reduce, plan::CollectiveKind::reduce_scatter, plan::CollectiveKind::all_gather}) {
    for (std::int64_t bytes = 1024; bytes <= pool_of(ranks).value; bytes *= 4) {
      const std::int64_t elements = bytes / 4 / ranks * ranks;
      Measurement m{std::string(plan::name(kind)), elements * 4, {}};
      for (int i = 0; i < repetitions(bytes); ++i) {
        program_.add(some_work());
        program_.add(accumulate(elements));
        m.positions.push_back(
            program_.add(collective(kind, elements, ranks, program_.new_tag()), 0, ProbeProgram::Place::same));
      }
      measurements_.push_back(std::move(m));
    }
  }
}

void CollectivesPhase::report(topologies::Measured& measured) const {
  for (const Measurement& m : measurements_) {
    measured.collectives.push_back({m.kind, ranks_, m.bytes, session_.op_seconds(m.positions)});
  }
}

MessagesPhase::MessagesPhase() : Phase("messages", 2, plan::Axis::pp, kPool, 2) {
  for (std::int64_t bytes = 1024; bytes <= kPool.value; bytes *= 4) {
    Measurement m{bytes, {}};
    for (int i = 0; i < repetitions(bytes); ++i) {
      const std::int32_t tag = program_.new_tag();
      for (const int role : {0, 1}) {
        program_.add(some_work(), role);
        program_.add(accumulate(bytes / 4), role);
        m.positions.push_back(program_.add(message(role == 0, bytes / 4, tag), role, ProbeProgram::Place::same));
      }
      m.positions.pop_back();  // the same place in both programs
    }
    measurements_.push_back(std::move(m));
  }
}

void MessagesPhase::report(topologies::Measured& measured) const {
  for (const Measurement& m : measurements_) {
    measured.exchanges.push_back({m.bytes, session_.op_seconds(m.positions)});
  }
}

}  // namespace foretrain::exec
