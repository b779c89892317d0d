// Roofline.  t = launch + max( flops / (peak · e),  bytes / (bandwidth · e_mem · e_kind) )
//   matmul  flops/(peak·e) = min over tiles T of  W(tiles, S) · S · 2 Tm Tn (k + k_half) / (peak · sustained · layout ·
//   h^log2(T0/T))
//           tiles = ceil(m/Tm) ceil(n/Tn) on S multiprocessors; T0 = 128 x 256, halved down to 64 x 64; waves
//           W(tiles, S) = floor(tiles/S) + (r > 0) (p + (1 - p) r/S), r = tiles mod S: a wave of few tiles has the
//           memory and the power of the idle multiprocessors, and takes as little as p of a full one
//   flash   flops / (peak · e_attention), half of the flops under a causal mask
//   other   bytes only: these kernels wait for memory on every device we know
// Beside communication that occupies b multiprocessors and moves v bytes/s of memory:
//   matmul  the tile stays, its waves are counted on S - b: x W(tiles, S - b) / W(tiles, S);  flash  x S / (S - b);
//           both at the clock c of a busy device: / c
//   memory  what kernels share is bandwidth · e_mem: a kernel gets what v leaves
//   compute keeps at least half of either
// Source: waves and tiles as in NVIDIA, "Matrix Multiplication Background User's Guide"; fits and their errors, and
// what the part about communication is held against, in docs/models.md.   Holds for: large or medium shapes. Known
// wrong: shapes that do not divide by 8, kernels whose data stays in a cache, power limits of long runs; persistent
// kernels, which give every multiprocessor its share of the tiles before they know which are occupied.
#include <algorithm>
#include <array>
#include <cmath>
#include <variant>

#include "base/error.h"
#include "plan/cost_kind.h"
#include "plan/work.h"
#include "sim/compute_model.h"
#include "sim/device_share.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using plan::Attention;
using plan::AttentionStep;
using topologies::Figure;
using topologies::Roofline;

// For a cluster whose profile says nothing: large matmuls at 70 % of the peak, memory at 80 %.
Roofline generic() {
  const std::string source = "assumed, not measured";
  Roofline r;
  r.matmul[Dtype::fp32] = {0.7, source};
  r.k_half = {0, source};
  r.tile_halving = {0.95, source};
  r.matmul_tn = r.matmul_nn = r.matmul_nt = {1, source};
  r.memory = {0.8, source};
  r.launch = {2e-6, source};
  return r;
}

struct Tile {
  double m, n, halvings;
};
constexpr std::array kTiles{Tile{128, 256, 0}, Tile{256, 128, 0}, Tile{128, 128, 1},
                            Tile{64, 128, 2},  Tile{128, 64, 2},  Tile{64, 64, 3}};

struct Product {
  double count = 1;  // products of this shape in one kernel
  double m = 0, n = 0, k = 0;
  double layout = 1;
};

// Of the multiprocessors and the memory bandwidth that compute keeps however much communication there is.
constexpr double kFairShare = 0.5;

class RooflineModel final : public ComputeModel {
 public:
  explicit RooflineModel(const topologies::Cluster& cluster)
      : cluster_(cluster),
        figures_(cluster.profile != nullptr && cluster.profile->has_roofline ? cluster.profile->roofline : generic()),
        clock_(sharing_figures(cluster).compute_clock.value) {}

  std::string_view name() const override { return "roofline"; }

  double seconds(const plan::Op& op) const override { return seconds_beside(op, {}); }

  double seconds_beside(const plan::Op& op, const DeviceLoad& load) const override {
    if (std::holds_alternative<plan::Join>(op.work) || std::holds_alternative<plan::Host>(op.work)) {
      return 0;
    }
    const plan::OpWork work = plan::work(op);
    const double bytes = static_cast<double>(work.read.value) + static_cast<double>(work.written.value);
    double kernels = 1, flop_seconds = 0;
    if (const auto* matmul = std::get_if<plan::Matmul>(&op.work)) {
      flop_seconds = product_seconds(as_product(*matmul), matmul->in, load);
    } else if (const auto* attention = std::get_if<Attention>(&op.work); attention != nullptr && work.is_matmul) {
      flop_seconds = attention_seconds(*attention, work.flops, load, kernels);
    }
    if (load.blocks > 0) {
      flop_seconds /= clock_;
    }
    const double sustained = cluster_.device.memory_bandwidth.value * figures_.memory.value;
    const double left = std::max(sustained - static_cast<double>(load.traffic), sustained * kFairShare);
    const double memory = std::min(sustained * kind_factor(op.work), left);
    return kernels * figures_.launch.value + std::max(flop_seconds, bytes / memory);
  }

  // Ranks beyond the cores time-share them.
  double slowdown(const plan::Op&, std::int64_t active) const override {
    return std::max(1.0, static_cast<double>(active) / static_cast<double>(cluster_.device_count()));
  }

 private:
  double peak(Dtype dtype) const {
    const auto found = cluster_.device.peak.find(dtype);
    if (found == cluster_.device.peak.end()) {
      std::string known;
      for (const auto& [d, rate] : cluster_.device.peak) {
        known += fmt::format("{}{}", known.empty() ? "" : ", ", foretrain::name(d));
      }
      throw InputError(
          fmt::format("{}: no peak for {}; known: {}", cluster_.device.name, foretrain::name(dtype), known));
    }
    return found->second.value;
  }

  // The dtype's own figure, else that of the widest one given.
  double sustained(Dtype dtype) const {
    const auto found = figures_.matmul.find(dtype);
    return found != figures_.matmul.end() ? found->second.value : figures_.matmul.begin()->second.value;
  }

  Product as_product(const plan::Matmul& x) const {
    const Figure& layout = x.trans_a ? figures_.matmul_nt : (x.trans_b ? figures_.matmul_tn : figures_.matmul_nn);
    return {1, static_cast<double>(x.m), static_cast<double>(x.n), static_cast<double>(x.k), layout.value};
  }

  double processors_beside(const DeviceLoad& load) const {
    const double all = cluster_.device.multiprocessors;
    return std::max(all - static_cast<double>(load.blocks), std::ceil(all * kFairShare));
  }

  // In times of a full wave.
  double waves(double tiles, double processors) const {
    const double full = std::floor(tiles / processors), rest = tiles - full * processors;
    const double partial = figures_.partial_wave.value;
    return full + (rest > 0 ? partial + (1 - partial) * rest / processors : 0);
  }

  double product_seconds(const Product& p, Dtype dtype, const DeviceLoad& load) const {
    const double rate = peak(dtype) * sustained(dtype) * p.layout;
    if (cluster_.device.multiprocessors == 0) {
      return 2 * p.count * p.m * p.n * (p.k + figures_.k_half.value) / rate;
    }
    const double processors = cluster_.device.multiprocessors;
    double best = INFINITY, best_tiles = 0;
    for (const Tile& t : kTiles) {
      const double tiles = p.count * std::ceil(p.m / t.m) * std::ceil(p.n / t.n);
      const double flops = waves(tiles, processors) * processors * 2 * t.m * t.n * (p.k + figures_.k_half.value);
      double slower = 1;
      for (double h = 0; h < t.halvings; ++h) {
        slower *= figures_.tile_halving.value;
      }
      const double seconds = flops / (rate * slower);
      if (seconds < best) {
        best = seconds;
        best_tiles = tiles;
      }
    }
    if (load.blocks == 0) {
      return best;
    }
    // Libraries choose the tile for the whole device.
    return best * waves(best_tiles, processors_beside(load)) / waves(best_tiles, processors);
  }

  double attention_seconds(const Attention& a, double flops, const DeviceLoad& load, double& kernels) const {
    if (a.step == AttentionStep::flash_forward || a.step == AttentionStep::flash_backward) {
      const auto& table =
          a.step == AttentionStep::flash_forward ? figures_.attention_forward : figures_.attention_backward;
      const auto found = table.find(std::string(workloads::name(a.kind)));
      const double e = found != table.end() ? found->second.value : 0.7 * sustained(a.dtype);
      const double slower = load.blocks > 0 ? cluster_.device.multiprocessors / processors_beside(load) : 1;
      return flops * (a.causal ? 0.5 : 1.0) * slower / (peak(a.dtype) * e);
    }
    const double heads = static_cast<double>(a.batch * a.heads);
    const double s = static_cast<double>(a.seq), d = static_cast<double>(a.head_dim);
    const Product square{heads, s, s, d, figures_.matmul_tn.value};
    const Product narrow{heads, s, d, s, figures_.matmul_nn.value};
    switch (a.step) {
      case AttentionStep::scores: return product_seconds(square, a.dtype, load);
      case AttentionStep::context: return product_seconds(narrow, a.dtype, load);
      case AttentionStep::context_backward:
        kernels = 2;
        return product_seconds(square, a.dtype, load) + product_seconds(narrow, a.dtype, load);
      case AttentionStep::scores_backward: kernels = 2; return 2 * product_seconds(narrow, a.dtype, load);
      default: return 0;
    }
  }

  // Of the kind itself, else of the longest dotted beginning that has a figure.
  double kind_factor(const plan::Work& work) const {
    std::string kind = plan::cost_kind(work);
    for (;;) {
      const auto found = figures_.memory_by_kind.find(kind);
      if (found != figures_.memory_by_kind.end()) {
        return found->second.value;
      }
      const std::size_t dot = kind.rfind('.');
      if (dot == std::string::npos) {
        return 1;
      }
      kind.resize(dot);
    }
  }

  const topologies::Cluster& cluster_;
  const Roofline figures_;
  const double clock_;  // beside communication
};

}  // namespace

std::unique_ptr<ComputeModel> make_roofline(const topologies::Cluster& cluster) {
  return std::make_unique<RooflineModel>(cluster);
}

}  // namespace foretrain::sim
