#include "exec/calibrate_phase.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <variant>

#include "exec/calibrate_grid.h"
#include "exec/calibrate_probes.h"
#include "plan/cost_kind.h"
#include "plan/work.h"

namespace foretrain::exec {

namespace {

constexpr std::int64_t kSmallMessage = std::int64_t{256} << 10;
constexpr std::int64_t kSmallestMessage = 1024;

// While an op of a GPU lasts so long the host has submitted the next. Every few ops there is one that gives the host a
// lead, so that what is measured is the GPU and not how it waits for the host.
constexpr double kHostIsAhead = 50e-6;
constexpr std::size_t kOpsAhead = 8;  // each of them perhaps twice

// Of each of many ranks: together they hold no more than two do.
Bytes pool_of(const CalibrateScale& scale, int ranks) {
  return ranks <= 2 ? scale.pool : scale.small_pool;
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
OpsPhase::OpsPhase(const Site& site)
    : Phase("ops of one rank", site, 1, plan::Axis::dp, site.scale.ops_pool, 3,
            site.scale.has_launches ? Bytes{site.scale.largest_memory} : Bytes{}) {
  const CalibrateScale& scale = site.scale;
  std::vector<Probe> probes;
  for (std::vector<Probe>& grid :
       std::vector{matmul_grid(scale), attention_grid(scale), memory_grid(scale, program_)}) {
    probes.insert(probes.end(), grid.begin(), grid.end());
  }
  const std::size_t n = probes.size();
  std::size_t stride = n * 5 / 8;
  while (std::gcd(stride, n) != 1) {
    ++stride;
  }
  for (std::size_t i = 0, at = 0; i < n; ++i, at = (at + stride) % n) {
    if (scale.has_launches && i % kOpsAhead == 0) {
      program_.add(square_matmul(scale.sharing_extent));
    }
    const Probe& probe = probes[at];
    const int position = program_.add(probe);
    const bool fits = touched(probe.work).value <= scale.most_cached;
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
  measured.dispatch_seconds = session_.gap_seconds(site_.scale.has_launches ? kHostIsAhead : 0);
}

SharingPhase::SharingPhase(const Site& site, int ranks)
    : Phase(fmt::format("{} ranks at once", ranks), site, ranks, plan::Axis::pp, pool_of(site.scale, ranks),
            ranks > site.cores ? 2 : 8) {
  const CalibrateScale& scale = site.scale;
  const auto times = [](double all, double once) { return std::max(2, static_cast<int>(all / once)); };
  const Probe product = square_matmul(scale.sharing_extent);
  stretches_.push_back({"matmul",
                        product,
                        touched(product.work).value,
                        times(scale.sharing_flops, 2 * std::pow(static_cast<double>(scale.sharing_extent), 3)),
                        {},
                        {}});
  for (std::int64_t bytes = scale.smallest_sharing; bytes <= scale.small_pool.value; bytes *= 4) {
    stretches_.push_back(
        {"memory", accumulate(bytes / 12), bytes, times(scale.sharing_bytes, static_cast<double>(bytes)), {}, {}});
  }
  for (Stretch& s : stretches_) {
    meet();
    for (int role = 0; role < ranks; ++role) {
      s.together.push_back(add(s, role));
    }
    meet();
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
    measured.sharing.push_back({ranks_, s.kind, s.bytes, session_.slowdown(s.together, s.alone)});
  }
}

void level(std::vector<topologies::SharingSample>& sharing) {
  for (topologies::SharingSample& fewer : sharing) {
    for (const topologies::SharingSample& more : sharing) {
      if (more.kind == fewer.kind && more.bytes == fewer.bytes && more.active > fewer.active) {
        fewer.slowdown = std::min(fewer.slowdown, more.slowdown);
      }
    }
  }
}

CollectivesPhase::CollectivesPhase(const Site& site, int ranks, int groups)
    : Phase(fmt::format("collectives of {}{} ranks", groups > 1 ? fmt::format("{} x ", groups) : "", ranks), site,
            ranks, plan::Axis::dp, pool_of(site.scale, ranks * groups), 2, {}, groups),
      groups_(groups) {
  for (const auto kind :
       {plan::CollectiveKind::all_reduce, plan::CollectiveKind::reduce_scatter, plan::CollectiveKind::all_gather}) {
    for (std::int64_t bytes = kSmallestMessage; bytes <= pool_of(site.scale, ranks * groups).value; bytes *= 4) {
      const std::int64_t elements = bytes / 4 / ranks * ranks;
      Measurement m{std::string(plan::name(kind)), elements * 4, {}};
      for (int i = 0; i < repetitions(bytes); ++i) {
        program_.add(square_matmul(site_.scale.work_extent));
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
    measured.collectives.push_back(
        {m.kind, ranks_, m.bytes, session_.op_seconds(m.positions), site_.processes != nullptr, groups_ > 1});
  }
}

MessagesPhase::MessagesPhase(const Site& site, int ranks, int groups)
    : Phase(groups > 1 ? fmt::format("{} messages at once", groups) : "messages", site, ranks, plan::Axis::pp,
            pool_of(site.scale, 2 * groups), 2, {}, groups),
      groups_(groups) {
  for (std::int64_t bytes = kSmallestMessage; bytes <= pool_of(site.scale, 2 * groups).value; bytes *= 4) {
    Measurement m{bytes, {}};
    for (int i = 0; i < repetitions(bytes); ++i) {
      const std::int32_t tag = program_.new_tag();
      for (const int role : {0, 1}) {
        program_.add(square_matmul(site_.scale.work_extent), role);
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
    measured.exchanges.push_back({m.bytes, session_.op_seconds(m.positions), site_.processes != nullptr, groups_ > 1});
  }
}

}  // namespace foretrain::exec
