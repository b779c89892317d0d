// Measured collectives and messages.  Seconds over bytes: a curve (sim/curve.h) per kind and number of ranks; between
// measured numbers of ranks linear, beyond the most ranks in proportion to them. A kind without samples takes the
// curves of all_gather, or of the first kind that has some. gather and distribute: every member moves its own part or
// copy, as much as an all_gather of that size moves on each. Ranks with a GPU each have tables of their own, and so
// have more ranks than cores: who waits sleeps there, and who else is busy is in their tables. Source: the profile
// (exec/calibrate).   Holds for: ranks of one machine.   Known wrong: data in cache or not.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "sim/curve.h"
#include "sim/network.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using topologies::Measured;

class MeasuredNetwork final : public NetworkModel {
 public:
  MeasuredNetwork(const topologies::Cluster& cluster, bool crowded) : measured_(cluster.profile->measured) {
    const bool has_gpu_each = cluster.is_gpu && !cluster.shares_devices();
    const auto has_crowded = [](const auto& samples) {
      return std::any_of(samples.begin(), samples.end(), [](const auto& s) { return s.crowded; });
    };
    crowded_ = crowded && has_crowded(measured_.collectives) && has_crowded(measured_.exchanges);
    for (const topologies::CollectiveSample& s : measured_.collectives) {
      // Groups of more than two ranks outnumber the cores by themselves, or were not measured crowded.
      if (s.has_gpu_each == has_gpu_each && (s.crowded == crowded_ || s.ranks > 2)) {
        collectives_[s.kind][s.ranks].add(static_cast<double>(s.bytes), s.seconds);
      }
    }
    for (const topologies::ExchangeSample& s : measured_.exchanges) {
      if (s.has_gpu_each == has_gpu_each && s.crowded == crowded_) {
        messages_.add(static_cast<double>(s.bytes), s.seconds);
      }
    }
    if (collectives_.empty()) {
      throw InputError(fmt::format(
          "the profile has no collectives of ranks that {}; calibrate again, {}",
          has_gpu_each ? "have a GPU each" : "share a device",
          has_gpu_each
              ? "started as the run is: torchrun --no-python --nproc-per-node N foretrain calibrate --device cuda"
              : "by itself"));
    }
  }

  std::string_view name() const override { return "measured"; }

  double collective(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    if (group.ranks <= 1) {
      return 0;
    }
    const std::int64_t senders = kind == plan::CollectiveKind::gather ? group.ranks - 1 : 1;
    const auto size = static_cast<double>(bytes.value) / static_cast<double>(senders);
    const std::map<int, Curve>& by_ranks = table(kind);
    const auto above = by_ranks.lower_bound(group.ranks);
    if (above == by_ranks.end()) {
      const auto& [most, curve] = *std::prev(above);
      return curve.at(size) * group.ranks / most;
    }
    if (above->first == group.ranks || above == by_ranks.begin()) {
      return above->second.at(size);
    }
    const auto below = std::prev(above);
    const double low = below->second.at(size), high = above->second.at(size);
    return low + (high - low) * (group.ranks - below->first) / (above->first - below->first);
  }

  double message(Bytes bytes, bool) const override {
    if (messages_.empty()) {
      throw InputError("the profile has no samples of messages between ranks; calibrate again");
    }
    return messages_.at(static_cast<double>(bytes.value));
  }

  double slowdown(Bytes bytes, std::int64_t members, std::int64_t active) const override {
    if (crowded_ && members == 2) {
      return 1;
    }
    const auto size = static_cast<double>(bytes.value);
    return sharing_slowdown(measured_, "memory", size, active) / sharing_slowdown(measured_, "memory", size, members);
  }

 private:
  const std::map<int, Curve>& table(plan::CollectiveKind kind) const {
    for (const std::string_view word : {plan::name(kind), std::string_view("all_gather")}) {
      const auto found = collectives_.find(std::string(word));
      if (found != collectives_.end()) {
        return found->second;
      }
    }
    return collectives_.begin()->second;
  }

  const Measured& measured_;
  bool crowded_ = false;
  std::map<std::string, std::map<int, Curve>> collectives_;
  Curve messages_;
};

}  // namespace

std::unique_ptr<NetworkModel> make_measured_network(const topologies::Cluster& cluster, bool crowded) {
  return std::make_unique<MeasuredNetwork>(cluster, crowded);
}

}  // namespace foretrain::sim
