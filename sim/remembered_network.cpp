#include "sim/remembered_network.h"

#include <bit>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace foretrain::sim {

namespace {

struct Asked {
  plan::CollectiveKind kind{};
  Bytes bytes;
  GroupPlacement group;

  auto fields() const {
    const ExtraLatency& e = group.extra;
    return std::tuple(kind, bytes.value, group.ranks, group.nodes, group.per_node, group.fewest, e.once, e.twice,
                      e.tree, e.farthest);
  }
  friend bool operator==(const Asked& a, const Asked& b) { return a.fields() == b.fields(); }
};

struct AskedHash {
  std::size_t operator()(const Asked& a) const {
    std::size_t hash = 0;
    std::apply(
        [&](const auto&... field) {
          ((hash = std::rotl(hash, 5) * 0x9e3779b97f4a7c15U + static_cast<std::size_t>(field)), ...);
        },
        std::tuple(a.kind, a.bytes.value, a.group.ranks, a.group.nodes, a.group.per_node));
    return hash;
  }
};

class RememberedNetwork : public NetworkModel {
 public:
  explicit RememberedNetwork(std::unique_ptr<NetworkModel> network) : network_(std::move(network)) {}

  std::string_view name() const override { return network_->name(); }
  double collective(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    return known(seconds_, {kind, bytes, group}, [&] { return network_->collective(kind, bytes, group); });
  }
  std::optional<Traffic> traffic(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    return known(traffic_, {kind, bytes, group}, [&] { return network_->traffic(kind, bytes, group); });
  }
  std::vector<CollectiveCandidate> candidates(collective::Kind kind, Bytes bytes,
                                              const GroupPlacement& group) const override {
    return network_->candidates(kind, bytes, group);
  }
  double message(Bytes bytes, bool same_node) const override { return network_->message(bytes, same_node); }
  std::optional<Traffic> message_traffic(Bytes bytes, bool same_node) const override {
    return network_->message_traffic(bytes, same_node);
  }
  double slowdown(Bytes bytes, std::int64_t members, std::int64_t active) const override {
    return network_->slowdown(bytes, members, active);
  }

 private:
  template <class Value>
  using Answers = std::unordered_map<Asked, Value, AskedHash>;

  template <class Value, class Ask>
  static Value known(Answers<Value>& answers, const Asked& asked, const Ask& ask) {
    const auto found = answers.find(asked);
    return found != answers.end() ? found->second : answers.emplace(asked, ask()).first->second;
  }

  std::unique_ptr<NetworkModel> network_;
  mutable Answers<double> seconds_;
  mutable Answers<std::optional<Traffic>> traffic_;
};

}  // namespace

std::unique_ptr<NetworkModel> remembered_network(std::unique_ptr<NetworkModel> network) {
  return std::make_unique<RememberedNetwork>(std::move(network));
}

}  // namespace foretrain::sim
