#include "sim/scaled_latency.h"

#include <utility>

namespace foretrain::sim {

namespace {

class ScaledLatency : public NetworkModel {
 public:
  ScaledLatency(std::unique_ptr<NetworkModel> network, double factor) : network_(std::move(network)), factor_(factor) {}

  std::string_view name() const override { return network_->name(); }
  double collective(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    const std::optional<Traffic> known = network_->traffic(kind, bytes, group);
    const double latency = known ? known->latency : network_->collective(kind, Bytes{1}, group);
    return network_->collective(kind, bytes, group) + (factor_ - 1) * latency;
  }
  std::vector<CollectiveCandidate> candidates(collective::Kind kind, Bytes bytes,
                                              const GroupPlacement& group) const override {
    return network_->candidates(kind, bytes, group);
  }
  double message(Bytes bytes, bool same_node) const override {
    const std::optional<Traffic> known = network_->message_traffic(bytes, same_node);
    const double latency = known ? known->latency : network_->message(Bytes{1}, same_node);
    return network_->message(bytes, same_node) + (factor_ - 1) * latency;
  }
  std::optional<Traffic> traffic(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    return scaled(network_->traffic(kind, bytes, group));
  }
  std::optional<Traffic> message_traffic(Bytes bytes, bool same_node) const override {
    return scaled(network_->message_traffic(bytes, same_node));
  }
  double slowdown(Bytes bytes, std::int64_t members, std::int64_t active) const override {
    return network_->slowdown(bytes, members, active);
  }

 private:
  std::optional<Traffic> scaled(std::optional<Traffic> traffic) const {
    if (traffic) {
      traffic->latency *= factor_;
    }
    return traffic;
  }

  std::unique_ptr<NetworkModel> network_;
  double factor_;
};

}  // namespace

std::unique_ptr<NetworkModel> scaled_latency(std::unique_ptr<NetworkModel> network, double factor) {
  return factor == 1 ? std::move(network) : std::make_unique<ScaledLatency>(std::move(network), factor);
}

}  // namespace foretrain::sim
