// Phases for what a host does for a GPU, and for compute beside communication.
#include <fmt/format.h>

#include <algorithm>

#include "exec/calibrate_phase.h"
#include "exec/calibrate_probes.h"

namespace foretrain::exec {

namespace {

constexpr ProbeProgram::Place kNext = ProbeProgram::Place::next;

constexpr int kLaunches = 2048;
constexpr std::int64_t kTinyElements = 256;

constexpr int kComputeOps = 64, kCollectives = 16;

Probe tiny() {
  return {plan::Fill{kTinyElements, Dtype::fp32}, {{Dtype::fp32, kTinyElements}}, {}, {0}};
}

}  // namespace

// Streams take turns, so that the GPU has time for each op and the host is what they wait for.
LaunchesPhase::LaunchesPhase(const Site& site) : Phase("launches", site, 1, plan::Axis::dp, site.scale.small_pool, 4) {
  for (const bool waits : {false, true}) {
    Stretch& s = waits ? waiting_ : apart_;
    for (int i = 0; i < kLaunches; ++i) {
      const std::vector<int> after = waits && i > 0 ? std::vector{s.last} : std::vector<int>{};
      s.last = program_.add_on(i % ProbeProgram::kStreams, tiny(), kNext, after);
      s.first = i == 0 ? s.last : s.first;
    }
  }
}

void LaunchesPhase::report(topologies::Measured& measured) const {
  const double submit = session_.spacing_seconds(apart_.first, apart_.last);
  measured.submit_seconds = submit;
  measured.event_seconds = std::max(0.0, session_.spacing_seconds(waiting_.first, waiting_.last) - submit);
}

OverlapPhase::OverlapPhase(const Site& site, int ranks)
    : Phase("compute beside communication", site, ranks, plan::Axis::dp, site.scale.small_pool, 3) {
  const std::int64_t elements = site.scale.small_pool.value / 16 / ranks * ranks;
  const auto all_reduce = [&] {
    return collective(plan::CollectiveKind::all_reduce, elements, ranks, program_.new_tag());
  };
  for (const auto& [kind, compute] :
       {std::pair{"matmul", square_matmul(site.scale.sharing_extent)}, std::pair{"memory", accumulate(elements)}}) {
    Stretch s{kind, {}, {}, 0, 0};
    for (int i = 0; i < 2; ++i) {  // the second has nothing to wait for
      s.communication_alone = program_.add(all_reduce());
      s.compute_alone = program_.add(compute);
    }
    const int before = program_.add(all_reduce());
    for (int i = 0; i < kCollectives; ++i) {
      s.communication.push_back(program_.add_on(1, all_reduce(), kNext, {before}));
    }
    for (int i = 0; i < kComputeOps; ++i) {
      s.compute.push_back(program_.add(compute));
    }
    // Not before both are over does anything follow.
    program_.add_on(0, tiny(), kNext, {s.communication.back()});
    stretches_.push_back(std::move(s));
  }
}

void OverlapPhase::report(topologies::Measured& measured) const {
  for (const Stretch& s : stretches_) {
    const double compute = session_.slowdown_beside(s.compute, s.communication, s.compute_alone);
    const double communication = session_.slowdown_beside(s.communication, s.compute, s.communication_alone);
    if (compute > 0 && communication > 0) {
      measured.overlap.push_back({s.kind, compute, communication});
    }
  }
}

}  // namespace foretrain::exec
