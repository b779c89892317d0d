// Measured tables.  Matmul: seconds per flop, multilinear in (log m, log n, log k) on the grid of the samples of the
// same dtypes and layout; a missing corner of a cell takes the nearest sample; outside the grid its border counts.
//   Attention: seconds per (batch · head · seq² · head_dim), bilinear in (log seq, log head_dim).
//   Memory-bound ops: a curve of seconds over bytes per kind and dtype. Each op pays the dispatch between two ops as
//   well. All of it twice: with operands in memory, and with operands in a core's caches. A load: as long as it takes
//   to load one number of each sequence, and to copy what it writes.
// Source: the profile (exec/calibrate).   Holds for: the machine the profile was taken on.
// Known wrong: what ranks wait for the slowest of them counts as computing; kinds without samples, which take the curve
// of "accumulate" at their bytes; dtypes without samples of a kind, which take another dtype's at the same bytes.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <tuple>
#include <variant>

#include "base/error.h"
#include "plan/cost_kind.h"
#include "plan/work.h"
#include "sim/compute_model.h"
#include "sim/curve.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using plan::Attention;
using topologies::AttentionSample;
using topologies::MatmulSample;
using topologies::Measured;

// Values at points of a space whose axes are logarithms.
template <std::size_t N>
class Grid {
 public:
  using Point = std::array<double, N>;

  void add(const Point& p, double value) {
    points_.emplace_back(p, value);
    for (std::size_t i = 0; i < N; ++i) {
      const auto at = std::lower_bound(axes_[i].begin(), axes_[i].end(), p[i]);
      if (at == axes_[i].end() || *at != p[i]) {
        axes_[i].insert(at, p[i]);
      }
    }
  }

  double at(const Point& p) const {
    std::array<std::array<double, 2>, N> bounds;
    std::array<double, N> fraction;
    for (std::size_t i = 0; i < N; ++i) {
      const std::vector<double>& axis = axes_[i];
      const double x = std::clamp(p[i], axis.front(), axis.back());
      const auto above = std::max(std::lower_bound(axis.begin(), axis.end(), x), axis.begin());
      const auto below = above == axis.begin() ? above : std::prev(above);
      bounds[i] = {*below, *above};
      fraction[i] = *above == *below ? 0 : (x - *below) / (*above - *below);
    }
    double sum = 0;
    for (std::size_t corner = 0; corner < (std::size_t{1} << N); ++corner) {
      Point q;
      double weight = 1;
      for (std::size_t i = 0; i < N; ++i) {
        const std::size_t side = corner >> i & 1;
        q[i] = bounds[i][side];
        weight *= side == 1 ? fraction[i] : 1 - fraction[i];
      }
      sum += weight > 0 ? weight * std::log(nearest(q)) : 0;
    }
    return std::exp(sum);
  }

 private:
  double nearest(const Point& q) const {
    double best = std::numeric_limits<double>::infinity(), value = 0;
    for (const auto& [p, v] : points_) {
      double d = 0;
      for (std::size_t i = 0; i < N; ++i) {
        d += (p[i] - q[i]) * (p[i] - q[i]);
      }
      if (d < best) {
        best = d;
        value = v;
      }
    }
    return value;
  }

  std::vector<std::pair<Point, double>> points_;
  std::array<std::vector<double>, N> axes_;
};

double log_of(std::int64_t n) {
  return std::log(static_cast<double>(std::max<std::int64_t>(n, 1)));
}

using Layout = std::tuple<Dtype, Dtype, bool, bool>;  // in, out, trans_a, trans_b
using Core = std::tuple<std::string, Dtype, bool>;    // attention step, dtype, causal

double bytes_of(const plan::OpWork& work) {
  return static_cast<double>(work.read.value) + static_cast<double>(work.written.value);
}

// Times with operands in one place: all in memory, or all in the cache.
class Tables {
 public:
  // `time`: which of a sample's times.
  template <class Time>
  Tables(const Measured& measured, const Time& time) {
    for (const MatmulSample& s : measured.matmul) {
      const double flops = 2 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
      matmul_[{s.in, s.out, s.trans_a, s.trans_b}].add({log_of(s.m), log_of(s.n), log_of(s.k)}, time(s) / flops);
    }
    for (const AttentionSample& s : measured.attention) {
      attention_[{s.step, s.dtype, s.causal}].add({log_of(s.seq), log_of(s.head_dim)},
                                                  time(s) / products(s.batch * s.heads, s.seq, s.seq, s.head_dim));
    }
    for (const topologies::MemorySample& s : measured.memory) {
      memory_[{s.kind, s.dtype}].add(static_cast<double>(s.bytes), time(s));
    }
  }

  double seconds(const plan::Op& op) const {
    const plan::OpWork work = plan::work(op);
    if (const auto* matmul = std::get_if<plan::Matmul>(&op.work)) {
      return matmul_seconds(*matmul, work.flops) + epilogue_seconds(*matmul);
    }
    if (const auto* grouped = std::get_if<plan::GroupedMatmul>(&op.work)) {
      return matmul_seconds(of_one_expert(*grouped), work.flops);
    }
    if (const auto* host = std::get_if<plan::Host>(&op.work)) {
      return load_seconds(*host, bytes_of(work));
    }
    if (const auto attention = plan::attention_of(op.work)) {
      if (const auto t = attention_seconds(*attention)) {
        return *t;
      }
    }
    return memory_seconds(op.work, bytes_of(work));
  }

 private:
  static double products(std::int64_t heads, std::int64_t seq, std::int64_t keys, std::int64_t head_dim) {
    return static_cast<double>(heads) * static_cast<double>(seq) * static_cast<double>(keys) *
           static_cast<double>(head_dim);
  }

  // Samples of the very layout, else of the same inputs and layout, else of the same inputs.
  const Grid<3>& matmul_table(const plan::Matmul& x) const {
    const bool knows_tf32 = std::any_of(matmul_.begin(), matmul_.end(),
                                        [](const auto& table) { return std::get<0>(table.first) == Dtype::tf32; });
    const Dtype in = x.in == Dtype::tf32 && !knows_tf32 ? Dtype::fp32 : x.in;  // a CPU has no tf32
    const auto same = matmul_.find({in, x.out, x.trans_a, x.trans_b});
    if (same != matmul_.end()) {
      return same->second;
    }
    const Grid<3>* found = nullptr;
    std::string known;
    for (const auto& [key, grid] : matmul_) {
      const auto& [table_in, out, trans_a, trans_b] = key;
      if (table_in == in && (found == nullptr || (trans_a == x.trans_a && trans_b == x.trans_b))) {
        found = &grid;
      }
      const std::string word(foretrain::name(table_in));
      known += known.find(word) == std::string::npos ? (known.empty() ? "" : ", ") + word : "";
    }
    if (found == nullptr) {
      throw InputError(fmt::format("the profile has no matmuls of {}; known: {}", foretrain::name(in), known));
    }
    return *found;
  }

  // The product of an expert with its part of the rows.
  static plan::Matmul of_one_expert(const plan::GroupedMatmul& x) {
    const std::int64_t rows = x.rows / x.experts;
    switch (x.direction) {
      case plan::Direction::forward:
        return {rows, x.out_features, x.in_features, false, true, false, false, x.in, x.out};
      case plan::Direction::backward_input:
        return {rows, x.in_features, x.out_features, false, false, false, false, x.in, x.out};
      case plan::Direction::backward_weight: break;
    }
    return {x.out_features, x.in_features, rows, true, false, false, true, x.in, x.out};
  }

  double matmul_seconds(const plan::Matmul& x, double flops) const {
    return flops * matmul_table(x).at({log_of(x.m), log_of(x.n), log_of(x.k)});
  }

  // What it moves beside the product, at the rate of a pass over as many bytes: products are measured without.
  double epilogue_seconds(const plan::Matmul& x) const {
    if (x.epilogue == plan::Epilogue::none) {
      return 0;
    }
    const plan::Activation pass{
        x.epilogue == plan::Epilogue::gelu ? plan::Direction::forward : plan::Direction::backward_input,
        workloads::Activation::gelu, x.m, x.n, x.out};
    return memory_seconds(pass, static_cast<double>(size_bytes(x.out, x.m * x.n)));
  }

  std::optional<double> attention_seconds(const plan::AttentionCost& cost) const {
    const Attention& a = cost.whole;
    const std::string step(plan::name(a.step));
    auto found = attention_.find({step, a.dtype, a.causal});
    if (found == attention_.end()) {
      found = attention_.find({step, a.dtype, !a.causal});
    }
    if (found == attention_.end()) {
      return std::nullopt;
    }
    const bool flash = a.step == plan::AttentionStep::flash_forward || a.step == plan::AttentionStep::flash_backward;
    const double shown = flash ? workloads::visible_share(a.window, a.document, a.seq) : 1;
    return found->second.at({log_of(a.keys()), log_of(a.head_dim)}) *
           products(a.batch * a.heads, a.seq, a.keys(), a.head_dim) * shown * cost.share;
  }

  // The sequences are found, as one number of each is, and what they hold is copied. None where nobody loads on what
  // was measured.
  double load_seconds(const plan::Host& load, double bytes) const {
    const auto found = memory_.find({"load_labels", Dtype::fp64});
    if (found == memory_.end() || load.task == plan::HostTask::write_checkpoint) {
      return 0;
    }
    return found->second.at(static_cast<double>(size_bytes(Dtype::fp64, load.sequences))) +
           memory_seconds(plan::Copy{}, 2 * bytes);
  }

  double memory_seconds(const plan::Work& work, double bytes) const {
    for (const std::string& kind : {plan::cost_kind(work), std::string("accumulate")}) {
      const auto same = memory_.find({kind, plan::cost_dtype(work)});
      if (same != memory_.end()) {
        return same->second.at(bytes);
      }
      const auto any = memory_.lower_bound({kind, Dtype{}});
      if (any != memory_.end() && any->first.first == kind) {
        return any->second.at(bytes);
      }
    }
    throw InputError(
        fmt::format("the profile has no samples of {} and none of accumulate; calibrate again", plan::cost_kind(work)));
  }

  std::map<Layout, Grid<3>> matmul_;
  std::map<Core, Grid<2>> attention_;
  std::map<std::pair<std::string, Dtype>, Curve> memory_;
};

class MeasuredModel final : public ComputeModel {
 public:
  explicit MeasuredModel(const topologies::Cluster& cluster)
      : measured_(cluster.profile->measured),
        in_memory_(measured_, [](const auto& sample) { return sample.seconds; }),
        in_cache_(measured_, [](const auto& sample) {
          return sample.cached_seconds > 0 ? sample.cached_seconds : sample.seconds;
        }) {}

  std::string_view name() const override { return "measured"; }

  double seconds(const plan::Op& op) const override { return seconds(op, in_memory_); }
  double cached_seconds(const plan::Op& op) const override { return seconds(op, in_cache_); }

  Bytes cache(std::int64_t ranks) const override {
    const std::int64_t sharers = std::clamp<std::int64_t>(ranks, 1, std::max(1, measured_.cores));
    return measured_.core_cache + Bytes{measured_.shared_cache.value / sharers};
  }

  double seconds_beside(const plan::Op& op, const DeviceLoad& load) const override {
    const std::string_view kind = plan::work(op).is_matmul ? "matmul" : "memory";
    const auto found = std::find_if(measured_.overlap.begin(), measured_.overlap.end(),
                                    [&](const topologies::OverlapSample& s) { return s.kind == kind; });
    return seconds(op) * (load.is_none() || found == measured_.overlap.end() ? 1 : found->compute);
  }

  double slowdown(const plan::Op& op, std::int64_t active) const override {
    const plan::OpWork work = plan::work(op);
    return sharing_slowdown(measured_, work.is_matmul ? "matmul" : "memory", bytes_of(work), active);
  }

 private:
  double seconds(const plan::Op& op, const Tables& tables) const {
    if (std::holds_alternative<plan::Join>(op.work)) {
      return 0;
    }
    const double seconds = tables.seconds(op);
    return seconds > 0 ? measured_.dispatch_seconds + seconds : 0;
  }

  const Measured& measured_;
  Tables in_memory_, in_cache_;
};

}  // namespace

std::unique_ptr<ComputeModel> make_measured_compute(const topologies::Cluster& cluster) {
  return std::make_unique<MeasuredModel>(cluster);
}

}  // namespace foretrain::sim
