#include "tests/support/packet_level.h"

#include <fmt/format.h>
#include <ns3/internet-module.h>
#include <ns3/network-module.h>
#include <ns3/point-to-point-module.h>
#include <ns3/traffic-control-module.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>

namespace foretrain::sim {
namespace {

constexpr std::uint16_t kPort = 4791;

class Packets {
 public:
  Packets(const LeafSpine& network, Traffic& traffic) : traffic_(traffic) {
    hosts_.Create(static_cast<std::uint32_t>(network.hosts()));
    ns3::NodeContainer leaves, spine;
    leaves.Create(static_cast<std::uint32_t>(network.leaves));
    spine.Create(1);
    ns3::InternetStackHelper stack;
    stack.InstallAll();
    for (int h = 0; h < network.hosts(); ++h) {
      const auto host = static_cast<std::uint32_t>(h);
      join(hosts_.Get(host), leaves.Get(host / static_cast<std::uint32_t>(network.hosts_per_leaf)), network.host,
           network.latency);
    }
    for (int l = 0; l < network.leaves; ++l) {
      join(leaves.Get(static_cast<std::uint32_t>(l)), spine.Get(0), network.uplink, Time{});
    }
    ns3::Ipv4GlobalRoutingHelper::PopulateRoutingTables();
    for (std::uint32_t h = 0; h < hosts_.GetN(); ++h) {
      receivers_.push_back(socket(h));
      receivers_.back()->Bind(ns3::InetSocketAddress(ns3::Ipv4Address::GetAny(), kPort));
      receivers_.back()->SetRecvCallback([this, h](ns3::Ptr<ns3::Socket> s) { receive(static_cast<int>(h), s); });
    }
    for (const auto& [from, to] : traffic.pairs()) {
      Pair& pair = pairs_[{from, to}];
      pair.socket = socket(static_cast<std::uint32_t>(from));
      pair.socket->Connect(ns3::InetSocketAddress(addresses_.at(static_cast<std::size_t>(to)), kPort));
      from_of_[addresses_.at(static_cast<std::size_t>(from)).Get()] = from;
    }
  }
  ~Packets() { ns3::Simulator::Destroy(); }
  Packets(const Packets&) = delete;
  Packets& operator=(const Packets&) = delete;

  FlowRun run() {
    FlowRun run;
    run.ends_s.resize(static_cast<std::size_t>(traffic_.size()));
    ends_s_ = &run.ends_s;
    const auto from = std::chrono::steady_clock::now();
    ns3::Simulator::ScheduleNow([this] { traffic_.begin(send_); });
    ns3::Simulator::Run();
    run.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
    return run;
  }

 private:
  struct Pair {
    ns3::Ptr<ns3::Socket> socket;
    std::deque<std::pair<std::int32_t, std::int64_t>> under_way;  // tag and bytes that have not arrived
  };

  // Hosts are joined first, in order: cable i has the address of host i.
  void join(ns3::Ptr<ns3::Node> below, ns3::Ptr<ns3::Node> above, Bandwidth rate, Time latency) {
    ns3::PointToPointHelper cable;
    cable.SetDeviceAttribute("DataRate", ns3::DataRateValue(ns3::DataRate(fmt::format("{:.0f}bps", rate.value * 8))));
    cable.SetDeviceAttribute("Mtu", ns3::UintegerValue(kPayload + kHeaders));
    cable.SetChannelAttribute("Delay", ns3::TimeValue(ns3::PicoSeconds(static_cast<std::uint64_t>(latency.value))));
    cable.SetQueue("ns3::DropTailQueue<Packet>", "MaxSize", ns3::StringValue("100000000p"));
    const ns3::NetDeviceContainer devices = cable.Install(below, above);
    ns3::Ipv4AddressHelper addresses;
    addresses.SetBase(ns3::Ipv4Address(fmt::format("10.{}.{}.0", cables_ / 256, cables_ % 256).c_str()),
                      "255.255.255.0");
    ++cables_;
    addresses_.push_back(addresses.Assign(devices).GetAddress(0));
    ns3::TrafficControlHelper().Uninstall(devices);
  }

  ns3::Ptr<ns3::Socket> socket(std::uint32_t host) const {
    return ns3::Socket::CreateSocket(hosts_.Get(host), ns3::UdpSocketFactory::GetTypeId());
  }

  void send(std::int32_t tag, const Message& message) {
    Pair& pair = pairs_.at({message.from, message.to});
    pair.under_way.emplace_back(tag, message.bytes.value);
    for (std::int64_t left = message.bytes.value; left > 0; left -= kPayload) {
      pair.socket->Send(ns3::Create<ns3::Packet>(static_cast<std::uint32_t>(std::min<std::int64_t>(left, kPayload))));
    }
  }

  void receive(int to, ns3::Ptr<ns3::Socket> at) {
    ns3::Address address;
    while (const ns3::Ptr<ns3::Packet> packet = at->RecvFrom(address)) {
      const int from = from_of_.at(ns3::InetSocketAddress::ConvertFrom(address).GetIpv4().Get());
      auto& under_way = pairs_.at({from, to}).under_way;
      under_way.front().second -= packet->GetSize();
      if (under_way.front().second == 0) {
        const std::int32_t tag = under_way.front().first;
        under_way.pop_front();
        ends_s_->at(static_cast<std::size_t>(tag)) = ns3::Simulator::Now().GetSeconds();
        traffic_.ended(tag, send_);
      }
    }
  }

  Traffic& traffic_;
  const Traffic::Send send_ = [this](std::int32_t tag, const Message& message) { send(tag, message); };
  ns3::NodeContainer hosts_;
  int cables_ = 0;
  std::vector<ns3::Ipv4Address> addresses_;  // by cable, of its lower end
  std::vector<ns3::Ptr<ns3::Socket>> receivers_;
  std::map<std::uint32_t, int> from_of_;
  std::map<std::pair<int, int>, Pair> pairs_;
  std::vector<double>* ends_s_ = nullptr;
};

}  // namespace

std::optional<FlowRun> run_packets(const LeafSpine& network, Traffic& traffic) {
  return Packets(network, traffic).run();
}

}  // namespace foretrain::sim
