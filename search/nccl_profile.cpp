#include "search/nccl_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "base/error.h"
#include "sim/network.h"

namespace foretrain::search {
namespace {

using plan::CollectiveKind;
using topologies::Figure;
using topologies::NcclSweep;
using topologies::NetworkFigures;

const std::map<std::string, CollectiveKind>& kinds() {
  static const std::map<std::string, CollectiveKind> table{{"all_reduce", CollectiveKind::all_reduce},
                                                           {"reduce_scatter", CollectiveKind::reduce_scatter},
                                                           {"all_gather", CollectiveKind::all_gather},
                                                           {"broadcast", CollectiveKind::broadcast},
                                                           {"all_to_all", CollectiveKind::all_to_all}};
  return table;
}

bool is_message(const NcclSweep& s) {
  return s.collective == "sendrecv";
}

sim::GroupPlacement placement(const NcclSweep& s) {
  return {s.ranks, s.nodes, (s.ranks + s.nodes - 1) / s.nodes, s.fewest};
}

constexpr std::int64_t kSmall = 64 << 10;  // larger messages say nothing of latencies

// The smallest sizes are mostly noise: the middle one of three. Requires: a size of at most kSmall.
double latency_measured(const NcclSweep& s) {
  constexpr std::size_t kRows = 3;
  std::vector<double> first;
  for (std::size_t i = 0; i < std::min(kRows, s.rows.size()) && s.rows[i].bytes <= kSmall; ++i) {
    first.push_back(s.rows[i].seconds);
  }
  std::sort(first.begin(), first.end());
  return first[first.size() / 2];
}

class Fitting {
 public:
  Fitting(const topologies::Cluster& cluster, std::vector<NcclSweep> sweeps)
      : cluster_(cluster), sweeps_(std::move(sweeps)) {
    profile_.name = "nccl-tests";
    if (cluster.profile != nullptr) {
      profile_ = *cluster.profile;
    }
    if (!profile_.has_network) {
      start_from_links();
    }
    profile_.has_network = true;
    profile_.network.environments_prevail = false;  // what the user measured counts
  }

  void fit_side(bool over_fabric) {
    std::vector<const NcclSweep*> side;
    std::copy_if(pointers().begin(), pointers().end(), std::back_inserter(side),
                 [&](const NcclSweep* s) { return (s->nodes > 1) == over_fabric; });
    if (side.empty()) {
      return;
    }
    Figure& kappa = over_fabric ? network().kappa_fabric : network().kappa_node;
    double best = INFINITY;
    NetworkFigures kept;
    constexpr int kSteps = 20;
    for (int i = 0; i <= kSteps; ++i) {
      kappa = {i * 0.05,
               fmt::format("nccl-tests: least mean error over {} sweep{}", side.size(), side.size() == 1 ? "" : "s")};
      anchor(side);
      if (const double error = mean_error(side); error < best) {
        best = error;
        kept = network();
      }
    }
    network() = kept;
  }

  NcclProfile result() {
    NcclProfile out;
    out.profile = profile_;
    out.assumed = std::move(assumed_);
    for (const NcclSweep& s : sweeps_) {
      out.fits.push_back(fit_of(s));
      check(s, out.warnings);
    }
    return out;
  }

 private:
  NetworkFigures& network() { return profile_.network; }
  std::vector<const NcclSweep*>& pointers() {
    if (pointers_.empty()) {
      for (const NcclSweep& s : sweeps_) {
        pointers_.push_back(&s);
      }
    }
    return pointers_;
  }

  // No profile: links as the system's file says, latencies NCCL's own.
  void start_from_links() {
    const Figure none{0, "not measured"};
    const Figure whole{1, "not measured: the link's bandwidth"};
    NetworkFigures& n = network();
    n.node_message = n.fabric_message = whole;
    n.node_message_latency = {foretrain::seconds(cluster_.intra.latency), "not measured: the link's latency"};
    n.fabric_message_latency = {foretrain::seconds(cluster_.inter.latency), "not measured: the link's latency"};
    n.kappa_node = n.kappa_fabric = n.node_extra = n.fabric_extra = none;
    assumed_.push_back(
        fmt::format("{} names no profile with a network: what no sweep measured is as its links say", cluster_.name));
  }

  bool in_switch(const NcclSweep& s) const {
    constexpr int kFewest = 5;  // NCCL leaves smaller groups to rings
    return s.collective == "all_reduce" && s.nodes == 1 && s.ranks >= kFewest &&
           (profile_.network.node_busbw.count("all_reduce_in_switch") > 0 ||
            s.rows.back().busbw > cluster_.intra.bandwidth.value);  // no ring outruns its links
  }
  std::string rate_name(const NcclSweep& s) const {
    if (is_message(s)) {
      return s.nodes == 1 ? "node_message" : "fabric_message";
    }
    return fmt::format("{}.{}{}", s.nodes == 1 ? "node_busbw" : "fabric_fraction", s.collective,
                       in_switch(s) ? "_in_switch" : "");
  }
  Figure& rate(const NcclSweep& s) {
    NetworkFigures& n = network();
    if (is_message(s)) {
      return s.nodes == 1 ? n.node_message : n.fabric_message;
    }
    return s.nodes > 1 ? n.fabric_fraction[s.collective]
                       : n.node_busbw[s.collective + (in_switch(s) ? "_in_switch" : "")];
  }
  Figure& latency(const NcclSweep& s) {
    NetworkFigures& n = network();
    if (is_message(s) || s.collective == "all_to_all") {
      return s.nodes == 1 ? n.node_message_latency : n.fabric_message_latency;
    }
    return s.nodes == 1 ? n.node_extra : n.fabric_extra;
  }

  double seconds(const NcclSweep& s, std::int64_t bytes) const {
    topologies::Cluster cluster = cluster_;
    cluster.profile = std::shared_ptr<const topologies::Profile>(std::shared_ptr<void>(), &profile_);
    const auto model = sim::make_alpha_beta(cluster);
    return is_message(s) ? model->message(Bytes{bytes}, s.nodes == 1)
                         : model->collective(kinds().at(s.collective), Bytes{bytes}, placement(s));
  }

  // The figure at which the model takes `measured`; `rises`: with the figure. Where none is that fast, the first beyond
  // which nothing changes.
  double solved(Figure& figure, double low, double high, bool rises, const NcclSweep& s, std::int64_t bytes,
                double measured) {
    constexpr int kHalvings = 50;
    const double was = std::exchange(figure.value, rises ? low : high);
    constexpr double kAbove = 1 + 1e-9;
    measured = std::max(measured, seconds(s, bytes) * kAbove);
    for (int i = 0; i < kHalvings; ++i) {
      figure.value = low > 0 ? std::sqrt(low * high) : (low + high) / 2;
      ((seconds(s, bytes) < measured) == rises ? low : high) = figure.value;
    }
    return std::exchange(figure.value, was);
  }

  // Sets every rate and latency of the side. They hardly touch each other: twice is enough.
  void anchor(const std::vector<const NcclSweep*>& side) {
    struct Mean {
      double sum = 0;
      int sweeps = 0;
      std::string source;
      void add(double value, std::string text) {
        sum += value;
        source = ++sweeps == 1 ? std::move(text) : fmt::format("mean of {} sweeps, the last: {}", sweeps, text);
      }
      void to(Figure& f) const { f = {sum / sweeps, "nccl-tests: " + source}; }
    };
    constexpr int kRounds = 2;
    for (int round = 0; round < kRounds; ++round) {
      std::map<Figure*, Mean> means;
      for (const NcclSweep* s : side) {
        const NcclSweep::Row &last = s->rows.back(), &first = s->rows.front();
        Figure &b = rate(*s), &a = latency(*s);
        const bool is_fraction = is_message(*s) || s->nodes > 1;
        if (b.value <= 0) {
          b.value = is_fraction ? 1 : cluster_.intra.bandwidth.value;
        }
        const auto [low, high] = is_fraction ? std::pair{1e-4, 10.0} : std::pair{1e7, 1e14};
        const std::string who =
            fmt::format("{} over {} ranks on {} node{}", s->collective, s->ranks, s->nodes, s->nodes == 1 ? "" : "s");
        means[&b].add(solved(b, low, high, false, *s, last.bytes, last.seconds),
                      fmt::format("{}, {} B in {:.5g} us ({})", who, last.bytes, last.seconds * 1e6, s->origin));
        if (first.bytes > kSmall) {
          continue;
        }
        means[&a].add(
            solved(a, 0, 1, true, *s, first.bytes, latency_measured(*s)),
            fmt::format("{}, {:.4g} us for the smallest sizes ({})", who, latency_measured(*s) * 1e6, s->origin));
      }
      for (const auto& [figure, mean] : means) {
        mean.to(*figure);
      }
    }
  }

  double mean_error(const std::vector<const NcclSweep*>& side) const {
    double sum = 0;
    std::size_t rows = 0;
    for (const NcclSweep* s : side) {
      for (const NcclSweep::Row& row : s->rows) {
        sum += std::abs(std::log(seconds(*s, row.bytes) / row.seconds));
      }
      rows += s->rows.size();
    }
    return sum / static_cast<double>(rows);
  }

  NcclFit fit_of(const NcclSweep& s) {
    NcclFit fit{s.origin,
                s.collective,
                s.ranks,
                s.nodes,
                s.rows.front().bytes,
                s.rows.back().bytes,
                rate_name(s),
                rate(s).value,
                0,
                0,
                0};
    std::vector<double> errors;
    for (const NcclSweep::Row& row : s.rows) {
      const double error = seconds(s, row.bytes) / row.seconds - 1;
      errors.push_back(std::abs(error));
      if (std::abs(error) > std::abs(fit.worst_error)) {
        fit.worst_error = error;
        fit.worst_bytes = row.bytes;
      }
    }
    std::nth_element(errors.begin(), errors.begin() + std::ssize(errors) / 2, errors.end());
    fit.median_error = errors[errors.size() / 2];
    return fit;
  }

  void check(const NcclSweep& s, std::vector<std::string>& warnings) {
    const NcclSweep::Row& last = s.rows.back();
    const double reached = seconds(s, last.bytes) / last.seconds;
    constexpr double kClose = 1.02, kRising = 1.1, kMostOfAdapters = 1.1;
    if (reached > kClose) {
      warnings.push_back(
          fmt::format("{}: {} took {:.5g} us for {} bytes, the model {:.3g} times that: another figure holds it back",
                      s.origin, s.collective, last.seconds * 1e6, last.bytes, reached));
    } else if (s.nodes > 1 && rate(s).value > kMostOfAdapters) {
      warnings.push_back(
          fmt::format("{}: {} over {} nodes took {:.3g} of what the adapters of {} carry; is it this "
                      "system?",
                      s.origin, s.collective, s.nodes, rate(s).value, cluster_.name));
    }
    if (s.rows.front().bytes > kSmall) {
      warnings.push_back(
          fmt::format("{}: {} begins at {} bytes, and says nothing of latencies; measure from 8 bytes on (-b 8)",
                      s.origin, s.collective, s.rows.front().bytes));
    }
    auto before = std::find_if(s.rows.begin(), s.rows.end(), [&](const auto& r) { return r.bytes * 4 >= last.bytes; });
    before -= before == s.rows.end() - 1 && s.rows.size() > 1 ? 1 : 0;
    if (last.busbw > kRising * before->busbw || s.rows.size() < 2) {
      warnings.push_back(fmt::format(
          "{}: {} still gets faster at its largest size, {} bytes; measure up to a GiB or more (-e 1G) for the plateau",
          s.origin, s.collective, last.bytes));
    }
  }

  const topologies::Cluster& cluster_;
  const std::vector<NcclSweep> sweeps_;
  std::vector<const NcclSweep*> pointers_;
  topologies::Profile profile_;
  std::vector<std::string> assumed_;
};

void check(const topologies::Cluster& cluster, const NcclSweep& s) {
  if (s.ranks < 2 || s.nodes < 1 || s.nodes > s.ranks) {
    throw InputError(fmt::format("{}: {} ranks on {} nodes; expected at least 2 ranks, and a node for each or fewer",
                                 s.origin, s.ranks, s.nodes));
  }
  if (const int most = placement(s).per_node; most > cluster.devices_per_node) {
    throw InputError(fmt::format("{}: {} ranks on a node; a node of {} has {} devices", s.origin, most, cluster.name,
                                 cluster.devices_per_node));
  }
}

}  // namespace

NcclProfile profile_of(const topologies::Cluster& cluster, const std::vector<NcclSweep>& sweeps) {
  std::vector<NcclSweep> used;
  std::vector<std::string> left_out;
  for (const NcclSweep& s : sweeps) {
    check(cluster, s);
    if (kinds().count(s.collective) > 0 || is_message(s)) {
      used.push_back(s);
    } else {
      left_out.push_back(fmt::format("{}: {} has no figure of its own in a profile; left out", s.origin, s.collective));
    }
  }
  if (used.empty()) {
    throw InputError(
        fmt::format("{}; expected all_reduce, reduce_scatter, all_gather, broadcast, all_to_all or sendrecv",
                    fmt::join(left_out, "\n")));
  }
  Fitting fitting(cluster, std::move(used));
  fitting.fit_side(false);
  fitting.fit_side(true);
  NcclProfile result = fitting.result();
  result.warnings.insert(result.warnings.begin(), left_out.begin(), left_out.end());
  return result;
}

}  // namespace foretrain::search
