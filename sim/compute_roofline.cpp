// Roofline.  t = fixed + max( flops / (peak · e),  bytes / (bandwidth · e_mem · e_kind) )
//   fixed = launch, and matmul_fixed for each product of a matmul kernel
//   matmul  flops/(peak·e) = max( tiles, flops / (peak · limit) ) / (layout · aligned)
//           tiles = min over tiles T of  W(tiles, S) · S · 2 Tm Tn (k + k_half) / (peak · sustained · h^log2(T0/T))
//           tiles = ceil(m/Tm) ceil(n/Tn) on S multiprocessors; T0 = 128 x 256, halved down to 64 x 64; waves
//           W(tiles, S) = floor(tiles/S) + (r > 0) (p + (1 - p) r/S), r = tiles mod S: a wave of few tiles has the
//           memory and the power of the idle multiprocessors, and takes as little as p of a full one
//           k_half x peak/peak(bf16) for faster types
//           limit: a device busy for seconds lowers its clock until its power is that of the datasheet; a training step
//           is such a run whatever the size of its matmuls
//           aligned = `unaligned` where a row of an operand is no multiple of 16 bytes, else 1
//   grouped matmuls: the products of four experts at a time, as Transformer Engine has four streams, share the
//           multiprocessors, each with its part of the rows and with the tile that it would have alone; a launch for
//           each. A weight gradient has few rows for what it adds to: sums, read and written, are not hidden,
//           max( tiles, flops / (peak · limit) + sums / bandwidth )
//   flash   flops/(peak·e) = flops / (peak · e_kind) · (1 + keys_half/keys) (1 + head_half/head_dim)
//           (1 + tail · S/blocks),  keys = s, and s/2 under a causal mask, which also halves flops; blocks = batch ·
//           heads · ceil(s/128): filling and draining of each block, the exponentials beside the products, the wait
//           for the last block
//   matmul and flash x (1 + spread · z(n)), z the expected largest of n standard normals: dies of one kind differ
//           in the clock that their power allows, and all n devices of a job wait for the slowest
//   other   bytes only: these kernels wait for memory on every device we know
// Beside communication that occupies b multiprocessors and moves v bytes/s of memory:
//   matmul  the tile stays, its waves are counted on S - b: x W(tiles, S - b) / W(tiles, S);  flash  x S / (S - b);
//           both at the clock c of a busy device: / c
//   memory  what kernels share is bandwidth · e_mem: a kernel gets what v leaves
//   compute keeps at least half of either
// Source: waves and tiles as in NVIDIA, "Matrix Multiplication Background User's Guide"; fits and their errors
// (scripts/fit-kernels), and what the part about communication is held against, in docs/models.md.
// Holds for: large or medium shapes in steps that take seconds. Known wrong: single kernels on a cool device, which the
// power limit does not slow; kernels whose data stays in a cache; persistent kernels, which give every multiprocessor
// its share of the tiles before they know which are occupied.
#include <algorithm>
#include <array>
#include <cmath>
#include <variant>

#include "base/error.h"
#include "base/normal.h"
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
  double factor = 1;  // of layout and alignment
};

// Rows that a kernel can load 16 bytes at a time.
constexpr std::int64_t kAlignment = 16;
// Of queries that a flash kernel gives to one multiprocessor at a time.
constexpr std::int64_t kQueryBlock = 128;

// A grouped product is one kernel per expert, on so many streams side by side (Transformer Engine's GroupedLinear:
// nvte_multi_tensor_gemm in transformer_engine/common/gemm/cublaslt_gemm.cu).
constexpr double kGroupedStreams = 4;

// Of the multiprocessors and the memory bandwidth that compute keeps however much communication there is.
constexpr double kFairShare = 0.5;

bool is_flash(AttentionStep step) {
  return step == AttentionStep::flash_forward || step == AttentionStep::flash_backward;
}

class RooflineModel final : public ComputeModel {
 public:
  RooflineModel(const topologies::Cluster& cluster, double clock)
      : cluster_(cluster),
        figures_(cluster.profile != nullptr && cluster.profile->has_roofline ? cluster.profile->roofline : generic()),
        clock_(sharing_figures(cluster).compute_clock.value),
        slower_((1 + figures_.matmul_spread.value * largest_normal(cluster.device_count())) / clock) {}

  std::string_view name() const override { return "roofline"; }

  double seconds(const plan::Op& op) const override { return seconds_beside(op, {}); }

  double seconds_beside(const plan::Op& op, const DeviceLoad& load) const override {
    if (std::holds_alternative<plan::Join>(op.work) || std::holds_alternative<plan::Host>(op.work)) {
      return 0;
    }
    const plan::OpWork work = plan::work(op);
    const double bytes = static_cast<double>(work.read.value) + static_cast<double>(work.written.value);
    double kernels = 1, flop_seconds = 0, fixed = figures_.launch.value;
    if (const auto* matmul = std::get_if<plan::Matmul>(&op.work)) {
      flop_seconds = product_seconds(as_product(*matmul), matmul->in, load);
      fixed += figures_.matmul_fixed.value;
    } else if (const auto* grouped = std::get_if<plan::GroupedMatmul>(&op.work)) {
      const Product together = as_product(*grouped);
      flop_seconds = product_seconds(together, grouped->in, load, sums_seconds(*grouped) * together.count) *
                     static_cast<double>(grouped->experts) / together.count;
      fixed += figures_.matmul_fixed.value;
      kernels = static_cast<double>(grouped->experts);
    } else if (const auto attention = plan::attention_of(op.work); attention && work.is_matmul) {
      kernels = attention->kernels;
      flop_seconds = attention_seconds(*attention, work.flops, load, kernels);
      fixed += is_flash(attention->whole.step) ? 0 : figures_.matmul_fixed.value;
    }
    flop_seconds *= slower_;
    if (load.blocks > 0) {
      flop_seconds /= clock_;
    }
    const double sustained = cluster_.device.memory_bandwidth.value * figures_.memory.value;
    const double left = std::max(sustained - static_cast<double>(load.traffic), sustained * kFairShare);
    const double memory = std::min(sustained * kind_factor(op.work), left);
    return kernels * fixed + std::max(flop_seconds, bytes / memory);
  }

  // Ranks beyond the cores time-share them.
  double slowdown(const plan::Op&, std::int64_t active) const override {
    return std::max(1.0, static_cast<double>(active) / static_cast<double>(cluster_.machine_cores()));
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

  // The dtype's own figure, else that of the widest one given; 1 where there is none.
  static double of_dtype(const std::map<Dtype, Figure>& figures, Dtype dtype) {
    const auto found = figures.find(dtype);
    return found != figures.end() ? found->second.value : (figures.empty() ? 1 : figures.begin()->second.value);
  }

  Product as_product(const plan::Matmul& x) const {
    const Figure& layout = x.trans_a ? figures_.matmul_nt : (x.trans_b ? figures_.matmul_tn : figures_.matmul_nn);
    const auto aligned = [](Dtype d, std::int64_t row) { return size_bytes(d, row) % kAlignment == 0; };
    const bool all =
        aligned(x.in, x.trans_a ? x.m : x.k) && aligned(x.in, x.trans_b ? x.k : x.n) && aligned(x.out, x.n);
    return {1, static_cast<double>(x.m), static_cast<double>(x.n), static_cast<double>(x.k),
            layout.value * (all ? 1 : figures_.unaligned.value)};
  }

  // Products of as many experts as run at once; the rows are spread evenly over all, so that small ones fill their
  // tiles badly.
  Product as_product(const plan::GroupedMatmul& x) const {
    const double rows = static_cast<double>(x.rows) / static_cast<double>(x.experts);
    const auto out = static_cast<double>(x.out_features), in = static_cast<double>(x.in_features);
    const double count = std::min(static_cast<double>(x.experts), kGroupedStreams);
    switch (x.direction) {
      case plan::Direction::forward: return {count, rows, out, in, figures_.matmul_tn.value};
      case plan::Direction::backward_input: return {count, rows, in, out, figures_.matmul_nn.value};
      case plan::Direction::backward_weight: break;
    }
    return {count, out, in, rows, figures_.matmul_nt.value};
  }

  // What passes before and after the products of a tile takes as long whatever the type: so many times as long in k for
  // types that are faster than 16 bits.
  double narrowness(Dtype dtype) const {
    const auto found = cluster_.device.peak.find(Dtype::bf16);
    return found == cluster_.device.peak.end() ? 1 : std::max(1.0, peak(dtype) / found->second.value);
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

  // Of one expert's weight gradient.
  double sums_seconds(const plan::GroupedMatmul& x) const {
    return x.direction != plan::Direction::backward_weight
               ? 0
               : 2 * static_cast<double>(size_bytes(x.out, x.out_features * x.in_features)) /
                     static_cast<double>(cluster_.device.memory_bandwidth.value);
  }

  // `more`: seconds beside products at the limit.
  double product_seconds(const Product& p, Dtype dtype, const DeviceLoad& load, double more = 0) const {
    const double rate = peak(dtype) * of_dtype(figures_.matmul, dtype) * p.factor;
    const double k_half = figures_.k_half.value * narrowness(dtype);
    const double hot =
        2 * p.count * p.m * p.n * p.k / (peak(dtype) * of_dtype(figures_.matmul_limit, dtype) * p.factor) + more;
    if (cluster_.device.multiprocessors == 0) {
      return std::max(2 * p.count * p.m * p.n * (p.k + k_half) / rate, hot);
    }
    const double processors = cluster_.device.multiprocessors;
    double best = INFINITY, alone = INFINITY, best_tiles = 0;
    for (const Tile& t : kTiles) {
      double slower = 1;
      for (double h = 0; h < t.halvings; ++h) {
        slower *= figures_.tile_halving.value;
      }
      const auto seconds_of = [&](double tiles) {
        const double flops = waves(tiles, processors) * processors * 2 * t.m * t.n * (p.k + k_half);
        return flops / (rate * slower);
      };
      // Libraries choose the tile for a product by itself, whatever runs beside it.
      const double tiles = std::ceil(p.m / t.m) * std::ceil(p.n / t.n);
      if (const double seconds = seconds_of(tiles); seconds < alone) {
        alone = seconds;
        best_tiles = p.count * tiles;
        best = seconds_of(best_tiles);
      }
    }
    best = std::max(best, hot);
    if (load.blocks == 0) {
      return best;
    }
    // Libraries choose the tile for the whole device.
    return best * waves(best_tiles, processors_beside(load)) / waves(best_tiles, processors);
  }

  double flash_seconds(const plan::AttentionCost& cost, double flops, const DeviceLoad& load) const {
    const Attention& a = cost.whole;
    const bool forward = a.step == AttentionStep::flash_forward;
    const auto& table = forward ? figures_.attention_forward : figures_.attention_backward;
    const auto found = table.find(std::string(workloads::name(a.kind)));
    const double e = found != table.end() ? found->second.value : 0.7 * of_dtype(figures_.matmul, a.dtype);
    const auto of_direction = [&](const std::map<std::string, Figure>& figures, double absent = 0) {
      const auto figure = figures.find(forward ? "forward" : "backward");
      return figure != figures.end() ? figure->second.value : absent;
    };
    const double masked = a.causal ? 0.5 : 1;
    const double keys = masked * static_cast<double>(a.keys()) * workloads::visible_share(a.window, a.document, a.seq);
    const double blocks = static_cast<double>(a.batch) * static_cast<double>(a.heads) *
                          std::ceil(cost.share * static_cast<double>(a.seq) / kQueryBlock);
    const double processors = cluster_.device.multiprocessors;
    double slower = load.blocks > 0 ? processors / processors_beside(load) : 1;
    if (a.v_dim() != a.head_dim) {
      slower /= of_direction(figures_.attention_unequal, 1);
    }
    if (flops > 0) {
      slower *= (1 + of_direction(figures_.attention_keys_half) / keys) *
                (1 + of_direction(figures_.attention_head_half) / static_cast<double>(a.head_dim)) *
                (1 + of_direction(figures_.attention_tail) * processors / blocks);
    }
    return flops * masked * slower / (peak(a.dtype) * e);
  }

  double attention_seconds(const plan::AttentionCost& cost, double flops, const DeviceLoad& load,
                           double& kernels) const {
    const Attention& a = cost.whole;
    if (is_flash(a.step)) {
      return flash_seconds(cost, flops, load);
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
  const double clock_;   // beside communication
  const double slower_;  // time of matmuls and flash kernels on the slowest device of the job, at its clock
};

}  // namespace

std::unique_ptr<ComputeModel> make_roofline(const topologies::Cluster& cluster, double clock) {
  return std::make_unique<RooflineModel>(cluster, clock);
}

}  // namespace foretrain::sim
