#include "tests/support/simgrid.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <simgrid/s4u.hpp>
#include <unordered_map>

#include "base/error.h"

namespace foretrain::sim {
namespace {

namespace s4u = simgrid::s4u;

// SimGrid's seconds are microseconds here: it weighs flows by their latency and compares the weights with absolute
// tolerances, so that with latencies far from one second its rates come out wrong.
constexpr double kUnits = 1e6;

class Replay {
 public:
  Replay(const Platform& platform, Traffic& traffic, SimgridUpdate update) : traffic_(traffic) {
    int count = 2;
    char name[] = "simgrid", quiet[] = "--log=root.thres:warning";
    char* arguments[] = {name, quiet, nullptr};
    engine_ = std::make_unique<s4u::Engine>(&count, arguments);
    for (const char* setting :
         {"network/model:CM02", "network/TCP-gamma:0", "network/crosstraffic:0", "network/weight-S:0",
          "network/latency-factor:1", "network/bandwidth-factor:1", "surf/precision:1e-9", "maxmin/precision:1e-9"}) {
      s4u::Engine::set_config(setting);
    }
    s4u::Engine::set_config(update == SimgridUpdate::lazy ? "network/optim:Lazy" : "network/optim:Full");
    s4u::NetZone* zone = s4u::create_full_zone("platform");
    for (int h = 0; h < platform.hosts; ++h) {
      hosts_.push_back(zone->create_host(fmt::format("host{}", h), 1e9));
    }
    std::vector<s4u::Link*> links;
    for (std::size_t l = 0; l < platform.links.size(); ++l) {
      links.push_back(
          zone->create_link(fmt::format("link{}", l), platform.links[l].value / kUnits * platform.spread[l])->seal());
    }
    std::vector<LinkIndex> route;
    for (const auto& [from, to] : traffic.pairs()) {
      route.clear();
      platform.route(from, to, route);
      std::vector<s4u::LinkInRoute> passed;
      for (const LinkIndex link : route) {
        passed.emplace_back(links[static_cast<std::size_t>(link)]);
      }
      zone->add_route(host(from)->get_netpoint(), host(to)->get_netpoint(), nullptr, nullptr, passed, false);
    }
    for (const int h :
         first_hosts(traffic)) {  // each route begins with a link of its sender alone, which has the latency
      route.clear();
      platform.route(h, receiver_[static_cast<std::size_t>(h)], route);
      links[static_cast<std::size_t>(route.front())]->set_latency(seconds(platform.latency) * kUnits);
    }
    zone->seal();
  }

  FlowRun run() {
    FlowRun run;
    run.ends_s.resize(static_cast<std::size_t>(traffic_.size()));
    const Traffic::Send send = [&](std::int32_t tag, const Message& message) {
      s4u::CommPtr comm = s4u::Comm::sendto_init(host(message.from), host(message.to));
      comm->set_payload_size(static_cast<std::uint64_t>(message.bytes.value));
      comm->start();
      under_way_.emplace(comm.get(), std::pair(tag, comm));
    };
    s4u::Activity::on_completion_cb([&](const s4u::Activity& activity) {
      const auto it = under_way_.find(&activity);
      const std::int32_t tag = it->second.first;
      run.ends_s[static_cast<std::size_t>(tag)] = s4u::Engine::get_clock() / kUnits;
      finished_.push_back(std::move(it->second.second));  // it lives until SimGrid has let go of it
      under_way_.erase(it);
      if (finished_.size() > kKept) {
        finished_.erase(finished_.begin(), finished_.begin() + kKept / 2);
      }
      traffic_.ended(tag, send);
    });
    const auto from = std::chrono::steady_clock::now();
    traffic_.begin(send);
    engine_->run();
    run.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
    return run;
  }

 private:
  static constexpr std::ptrdiff_t kKept = 64;

  s4u::Host* host(int h) const { return hosts_[static_cast<std::size_t>(h)]; }
  std::vector<int> first_hosts(const Traffic& traffic) {
    std::vector<int> senders;
    receiver_.resize(hosts_.size(), -1);
    for (const auto& [from, to] : traffic.pairs()) {
      if (receiver_[static_cast<std::size_t>(from)] < 0) {
        receiver_[static_cast<std::size_t>(from)] = to;
        senders.push_back(from);
      }
    }
    return senders;
  }

  Traffic& traffic_;
  std::unique_ptr<s4u::Engine> engine_;
  std::vector<s4u::Host*> hosts_;
  std::vector<int> receiver_;
  std::unordered_map<const s4u::Activity*, std::pair<std::int32_t, s4u::CommPtr>> under_way_;
  std::vector<s4u::CommPtr> finished_;
};

bool write_all(int fd, const void* data, std::size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(fd, at, size);
    if (written <= 0) {
      return false;
    }
    at += written;
    size -= static_cast<std::size_t>(written);
  }
  return true;
}

void read_all(int fd, void* data, std::size_t size) {
  char* at = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t count = read(fd, at, size);
    CHECK(count > 0, "SimGrid's process ended without a result");
    at += count;
    size -= static_cast<std::size_t>(count);
  }
}

}  // namespace

std::optional<FlowRun> run_simgrid(const Platform& platform, Traffic& traffic, SimgridUpdate update, int patience_s) {
  int ends[2];
  CHECK(pipe(ends) == 0, "no pipe");
  const pid_t child = fork();
  CHECK(child >= 0, "no process");
  if (child == 0) {
    bool is_written = false;
    try {
      Replay replay(platform, traffic, update);
      const char begins = 0;
      is_written = write_all(ends[1], &begins, sizeof begins);
      const FlowRun run = replay.run();
      is_written = is_written && write_all(ends[1], &run.wall_s, sizeof run.wall_s) &&
                   write_all(ends[1], run.ends_s.data(), run.ends_s.size() * sizeof(double));
    } catch (const std::exception& e) {
      fmt::print(stderr, "{}\n", e.what());
    }
    _exit(is_written ? 0 : 1);
  }
  close(ends[1]);
  FlowRun run;
  char begins = 0;
  read_all(ends[0], &begins, sizeof begins);
  pollfd result{ends[0], POLLIN, 0};
  if (poll(&result, 1, patience_s * 1000) == 0) {
    kill(child, SIGKILL);
    run.wall_s = patience_s;
  } else {
    run.ends_s.resize(static_cast<std::size_t>(traffic.size()));
    read_all(ends[0], &run.wall_s, sizeof run.wall_s);
    read_all(ends[0], run.ends_s.data(), run.ends_s.size() * sizeof(double));
  }
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return run;
}

}  // namespace foretrain::sim
