// An all_reduce of S bytes over H hosts takes 2 α + L S / (e B), L = 2 (H-1)/H (exec/host_exchange.h); e: what TCP over
// Ethernet carries of a frame. α is half of what a number takes; B follows from the difference of two large sizes, so
// that neither α nor what a token bucket lets through at once counts.
#include "exec/calibrate_link.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <numeric>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/world.h"
#include "topologies/cluster.h"

namespace foretrain::exec {

namespace {

constexpr std::int64_t kLargest = std::int64_t{64} << 20, kFirst = std::int64_t{2} << 20;
constexpr double kSeconds = 0.5;  // that the largest is to take
constexpr int kSmallRepeats = 101, kLargeRepeats = 5;
constexpr std::chrono::milliseconds kLook{1};

int even_hosts(const Processes& processes) {
  std::map<std::string, int> by_host;
  for (const Place& place : processes.places()) {
    ++by_host[place.host_key];
  }
  const int each = by_host.begin()->second;
  if (by_host.size() < 2) {
    throw InputError(
        fmt::format("calibrate: {} processes on one host have no link between them; start one process on "
                    "each host, or calibrate by itself for the profile of this machine",
                    processes.count()));
  }
  if (std::any_of(by_host.begin(), by_host.end(), [each](const auto& host) { return host.second != each; })) {
    throw InputError("calibrate: the hosts have unequal numbers of processes; start as many on each");
  }
  return static_cast<int>(by_host.size());
}

class Sums {
 public:
  explicit Sums(Processes& processes) : processes_(processes), world_(processes, processes.count()) {
    world_.allocate_arenas(std::vector<Bytes>(static_cast<std::size_t>(processes.count()), Bytes{kLargest}));
    group_.members.resize(static_cast<std::size_t>(processes.count()));
    std::iota(group_.members.begin(), group_.members.end(), 0);
    group_.index = processes.number();
  }

  // Median seconds of one.
  double seconds(std::int64_t bytes, int repeats) {
    std::vector<double> all;
    once(bytes);  // so that all begin together
    for (int i = 0; i < repeats; ++i) {
      const Time begin = now();
      once(bytes);
      all.push_back(foretrain::seconds(now() - begin));
    }
    std::nth_element(all.begin(), all.begin() + repeats / 2, all.end());
    return all[static_cast<std::size_t>(repeats / 2)];
  }

 private:
  void once(std::int64_t bytes) {
    const plan::Rank self = world_.ranks_here().front();
    Communicator& end = world_.communicator(self);
    CollectiveCall call;
    call.key.match.tag = 0;
    call.key.step = step_++;
    call.kind = plan::CollectiveKind::all_reduce;
    call.elements = bytes / size_bytes(call.dtype, 1);
    call.in = call.out = world_.arena(self);
    call.group = &group_;
    const Communicator::Ticket ticket = end.post(call);
    while (true) {
      const std::uint32_t seen = end.progress_count();
      if (end.poll(ticket, nullptr)) {
        return;
      }
      world_.check();
      processes_.check();
      end.wait(seen, kLook);
    }
  }

  Processes& processes_;
  World world_;
  GroupView group_;
  std::int32_t step_ = 0;
};

}  // namespace

LinkFigures measure_link(Processes& processes) {
  LinkFigures figures;
  figures.hosts = even_hosts(processes);
  Sums sums(processes);
  const double small = sums.seconds(static_cast<std::int64_t>(sizeof(float)), kSmallRepeats);
  const double first = sums.seconds(kFirst, 1);
  // All go by what process 0 has seen.
  const std::string word = processes.all_gather(fmt::format("{}", kSeconds / first)).front();
  const double factor = std::clamp(std::stod(word), 2.0, static_cast<double>(kLargest / kFirst));
  const auto large = static_cast<std::int64_t>(factor) * kFirst;
  const double difference = sums.seconds(large, kLargeRepeats) - sums.seconds(large / 2, kLargeRepeats);
  if (difference <= 0) {
    throw EnvironmentError("calibrate: twice as much took no longer; something else keeps the hosts busy, try again");
  }
  const double load = 2 * (figures.hosts - 1.0) / figures.hosts * static_cast<double>(large - large / 2);
  figures.bandwidth = Bandwidth{load / difference / topologies::kTcpShare};
  figures.latency = time_from_seconds(small / 2);
  return figures;
}

}  // namespace foretrain::exec
