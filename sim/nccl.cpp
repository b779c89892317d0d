#include "sim/nccl.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace foretrain::sim::nccl {
namespace {

using collective::Kind;
using topologies::kLl;
using topologies::kLl128;
using topologies::kProtocols;
using topologies::kSimple;
using topologies::NcclConstants;

constexpr double kMicro = 1e-6, kGiga = 1e9;

class Table {
 public:
  Table(Kind kind, const Group& group, const System& system, const NcclConstants& constants)
      : kind_(kind), g_(group), s_(system), c_(constants), generation_(static_cast<std::size_t>(system.generation)) {
    const bool twice = kind == Kind::all_reduce;
    const bool rooted = kind == Kind::broadcast || kind == Kind::reduce;
    steps_ = rooted ? g_.ranks : (twice ? 2 : 1) * (g_.ranks - 1);
    net_steps_ = g_.nodes == 1 ? 0 : (rooted ? g_.nodes : (twice ? 2 : 1) * (g_.nodes - 1));
    const double fabric = s_.fabric_rate * g_.per_node;
    rate_ = (g_.nodes == 1 ? s_.node_rate : g_.per_node == 1 ? fabric : std::min(s_.node_rate, fabric)) / kGiga;
  }

  std::vector<Candidate> all() const {
    std::vector<Candidate> out;
    for (const char* algorithm : {"tree", "ring", "collnet_direct", "collnet_chain", "nvls", "nvls_tree", "pat"}) {
      const std::string word = algorithm;
      for (std::size_t p = 0; p < kProtocols; ++p) {
        if (p != kSimple && word != "tree" && word != "ring") {
          continue;  // the others know Simple only
        }
        Candidate c{word, p, 0, 0, refusal(word, p)};
        if (c.disabled.empty()) {
          c.latency = latency(word, p) * kMicro;
          c.algbw = bandwidth(word, p) * kGiga;
        }
        out.push_back(std::move(c));
      }
    }
    return out;
  }

 private:
  double node_hop(const NcclConstants::Hops& h, std::size_t p) const { return s_.nvlink ? h.nvlink[p] : h.pci[p]; }
  std::size_t column() const { return static_cast<std::size_t>(std::min(g_.nodes, 3) - 1); }
  double log2_nodes() const { return std::floor(std::log2(g_.nodes)); }

  std::string refusal(const std::string& a, std::size_t p) const {
    const bool reduces_and_gathers = kind_ == Kind::reduce_scatter || kind_ == Kind::all_gather;
    if (p == kLl128 && !s_.nvlink) {
      return "LL128 needs NVLink inside the node";
    }
    if (a == "tree" && kind_ != Kind::all_reduce) {
      return "trees do all_reduce only";
    }
    if (a.rfind("collnet", 0) == 0) {
      return "needs switches of the fabric that reduce (SHARP), and the plugin for them";
    }
    if (a == "pat") {
      return !reduces_and_gathers ? "does reduce_scatter and all_gather only"
             : !c_.has_pat        ? "came with NCCL 2.23"
             : g_.per_node > 1    ? "by default only with one rank per node"
                                  : "";
    }
    if (a == "nvls" || a == "nvls_tree") {
      if (!s_.in_switch || c_.nvls_efficiency[generation_] <= 0) {
        return "needs NVLink switches that reduce (Hopper and later)";
      }
      if (a == "nvls_tree" && (kind_ != Kind::all_reduce || g_.nodes == 1)) {
        return kind_ != Kind::all_reduce ? "does all_reduce only" : "one node has nothing to connect";
      }
      if (a == "nvls" && g_.nodes > 1) {
        return "over several nodes needs switches of the fabric that reduce";
      }
      if (kind_ == Kind::broadcast || kind_ == Kind::reduce) {
        return "does no rooted collectives";
      }
      // Where the switch begins to pay: measured on H200 (from 5 ranks); github:stas00/ml-engineering network/README.md
      return g_.per_node > 4 ? "" : "with four ranks or fewer on a node a ring is as fast";
    }
    return "";
  }

  double latency(const std::string& a, std::size_t p) const {
    const NcclConstants::Hops& h = c_.hops.at(a);
    const double node = node_hop(h, p), base = h.base[p];
    if (a == "ring") {
      const double net = g_.per_node == 1 ? c_.hops.at("tree").net[p] : h.net[p];
      const double overhead = (s_.amd_host ? c_.post_overhead_amd : c_.post_overhead_intel) * (p == kSimple ? 3 : 1);
      const double inside = g_.nodes > 1 ? std::max(node, overhead) : node;
      return base + (steps_ - net_steps_) * inside + net_steps_ * net;
    }
    if (a == "tree") {
      return base + 2 * ((g_.per_node - 1) * node + log2_nodes() * h.net[p]);
    }
    if (a == "nvls") {
      return node;
    }
    if (a == "nvls_tree") {
      return base + node + 2 * log2_nodes() * h.net[p];
    }
    return base + log2_nodes() * h.net[p] / 3.5 + 2.8 * g_.ranks;  // pat
  }

  double bandwidth(const std::string& a, std::size_t p) const {
    const double ring_share = static_cast<double>(g_.ranks) / steps_;
    // Over several nodes NCCL takes the row by the host's processor.
    const std::size_t row = g_.nodes == 1 ? generation_ : (s_.amd_host ? 1U : 0U);
    const double ll_limit = c_.ll_limit[row][column()];
    const int channels = s_.channels;
    if (a == "ring") {
      const double b = p == kLl ? std::min(rate_ * c_.ring_ll, ll_limit)
                       : p == kLl128
                           ? std::min(rate_ * c_.ring_ll128, channels * c_.ring_ll128_limit[generation_][column()])
                           : rate_;
      return b * ring_share;
    }
    if (a == "tree") {
      double b = std::min(rate_ * c_.tree, channels * c_.tree_limit[generation_][column()]);
      if (p == kLl) {
        b = std::min(rate_ * c_.tree / c_.tree_ll, ll_limit);
      } else if (p == kLl128) {
        b = std::min(rate_ * c_.tree * (g_.nodes == 1 ? c_.tree_ll128_node : c_.tree_ll128_fabric),
                     channels * c_.tree_ll128_limit[generation_][column()]);
      }
      return b * 0.5 * (s_.plain_tree ? c_.plain_tree : 1);
    }
    if (a == "pat") {
      return rate_ * c_.pat;
    }
    // NVLS: the switch's channels carry 20 GB/s each on Hopper, 40 on Blackwell (NVLink speeds of the search).
    const double speed = generation_ == static_cast<std::size_t>(topologies::GpuGeneration::blackwell) ? 40 : 20;
    const double both = kind_ == Kind::all_reduce ? 2 : static_cast<double>(g_.per_node - 1) / g_.per_node;
    double per_channel = speed * c_.nvls_efficiency[generation_] * (channels - 1.0) / channels * both;
    if (g_.nodes > 1) {
      const double fabric = s_.fabric_rate / kGiga * g_.per_node / channels * (g_.nodes <= 2 ? 2 : 1);
      per_channel = std::min({per_channel, fabric, c_.nvls_tree_limit[generation_][column()]});
    }
    return per_channel * channels * (kind_ == Kind::all_reduce ? ring_share : 1);
  }

  Kind kind_;
  Group g_;
  const System& s_;
  const NcclConstants& c_;
  std::size_t generation_;
  int steps_ = 1, net_steps_ = 0;
  double rate_ = 0;
};

}  // namespace

std::string Candidate::word() const {
  return algorithm + ":" + topologies::kProtocolNames[protocol];
}

std::vector<Candidate> candidates(Kind kind, const Group& group, const System& system, const NcclConstants& constants) {
  CHECK(group.ranks >= 2, "{} ranks", group.ranks);
  if (kind == Kind::all_to_all || kind == Kind::gather || kind == Kind::scatter) {
    return {};
  }
  return Table(kind, group, system, constants).all();
}

double table_seconds(const Candidate& candidate, Kind kind, double bytes, const Group& group, const System& system,
                     const NcclConstants& constants) {
  double latency = candidate.latency, algbw = candidate.algbw;
  if (candidate.algorithm == "tree" && bytes >= 64) {
    const auto& table = constants.tree_correction[candidate.protocol];
    const auto index = static_cast<std::size_t>(std::floor(std::log2(bytes / 64)));
    algbw *= index < table.size() ? table[index] : 1;
  }
  if (candidate.algorithm == "ring" && candidate.protocol == kSimple && kind == Kind::all_reduce && group.nodes > 1 &&
      bytes / (static_cast<double>(system.channels) * group.ranks) >= 64) {
    latency *=
        system.generation == topologies::GpuGeneration::volta ? constants.ring_plateau_volta : constants.ring_plateau;
  }
  return latency + bytes / algbw;
}

std::size_t choose(const std::vector<Candidate>& all, Kind kind, double bytes, const Group& group, const System& system,
                   const NcclConstants& constants) {
  std::size_t best = all.size();
  double least = INFINITY;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double t = all[i].disabled.empty() ? table_seconds(all[i], kind, bytes, group, system, constants) : INFINITY;
    if (t < least) {
      least = t;
      best = i;
    }
  }
  CHECK(best < all.size(), "NCCL has no algorithm for {}", collective::name(kind));
  return best;
}

}  // namespace foretrain::sim::nccl
