#include "exec/renumbered_transport.h"

#include <algorithm>
#include <utility>

namespace foretrain::exec {

namespace {

class Renumbered final : public Transport {
 public:
  Renumbered(std::unique_ptr<Transport> transport, std::vector<int> order)
      : transport_(std::move(transport)), old_(std::move(order)), new_(old_.size()) {
    for (std::size_t i = 0; i < old_.size(); ++i) {
      new_[static_cast<std::size_t>(old_[i])] = static_cast<int>(i);
    }
  }

  int process() const override { return now(transport_->process()); }
  int processes() const override { return transport_->processes(); }
  std::string description() const override { return transport_->description(); }
  Request send(int to, int tag, const void* data, std::size_t bytes) override {
    return transport_->send(before(to), tag, data, bytes);
  }
  Request receive(int from, int tag, void* data, std::size_t bytes) override {
    return transport_->receive(before(from), tag, data, bytes);
  }
  bool done(Request request) override { return transport_->done(request); }
  std::optional<Arrival> probe(int tag) override {
    std::optional<Arrival> arrival = transport_->probe(tag);
    if (arrival) {
      arrival->from = now(arrival->from);
    }
    return arrival;
  }
  int most_tag() const override { return transport_->most_tag(); }
  std::vector<int> lost() override {
    std::vector<int> lost = transport_->lost();
    std::transform(lost.begin(), lost.end(), lost.begin(), [this](int process) { return now(process); });
    return lost;
  }

 private:
  int before(int process) const { return old_[static_cast<std::size_t>(process)]; }
  int now(int process) const { return new_[static_cast<std::size_t>(process)]; }

  const std::unique_ptr<Transport> transport_;
  const std::vector<int> old_;
  std::vector<int> new_;
};

}  // namespace

std::unique_ptr<Transport> renumbered(std::unique_ptr<Transport> transport, std::vector<int> order) {
  return std::make_unique<Renumbered>(std::move(transport), std::move(order));
}

}  // namespace foretrain::exec
