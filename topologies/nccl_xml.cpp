#include <algorithm>
#include <map>
#include <set>

#include "topologies/import_topology.h"
#include "topologies/xml_input.h"

namespace foretrain::topologies {

namespace {

constexpr Bandwidth kPcie3{15.75e9};  // 3.0 x16, where a bridge does not say
constexpr std::size_t kMaxVertices = 4096;

struct Reader {
  explicit Reader(const std::string& file) : origin(file) {}

  const std::string& origin;
  NodeGraph graph;
  std::vector<int> sockets;
  std::map<std::string, int> device_at;  // by bus id
  struct Gpu {
    const XMLElement* element;
    int vertex;
    std::string bus;
  };
  std::vector<Gpu> gpus;
  struct Net {
    int vertex;
    double rate;
    std::string name;
  };
  std::vector<Net> nets;
  int silent_bridges = 0;

  double pcie_rate(const XMLElement& pci) {
    const std::optional<double> speed = number(pci, "link_speed"), width = number(pci, "link_width");
    if (!speed || !width || *speed <= 0 || *width <= 0) {
      ++silent_bridges;
      return kPcie3.value;
    }
    if (*speed > 1000 || *width > 64) {
      fail(origin, pci.GetLineNum(),
           fmt::format("link_speed \"{}\" and link_width \"{}\" are no PCIe link", attribute(pci, "link_speed"),
                       attribute(pci, "link_width")));
    }
    // 8 bits in 10 up to PCIe 2, 128 in 130 from PCIe 3 on.
    return *speed * 1e9 / 8 * *width * (*speed <= 5 ? 0.8 : 128.0 / 130);
  }

  // NCCL's speeds between sockets.
  double rate_between_sockets(const XMLElement& cpu) const {
    const std::string arch = attribute(cpu, "arch"), vendor = attribute(cpu, "vendor");
    const double model = number(cpu, "modelid").value_or(0);
    if (arch == "ppc64") {
      return 32e9;
    }
    if (arch == "arm64") {
      return 6e9;
    }
    return vendor == "AuthenticAMD" ? 16e9 : model >= 0x8f ? 22e9 : model >= 0x55 ? 10e9 : 6e9;
  }

  void check_known(const XMLElement& parent, std::initializer_list<const char*> known) const {
    for (const XMLElement* e = parent.FirstChildElement(); e != nullptr; e = e->NextSiblingElement()) {
      if (std::none_of(known.begin(), known.end(), [&](const char* k) { return std::string_view(k) == e->Name(); })) {
        fail(origin, e->GetLineNum(),
             fmt::format("<{}> is not expected in <{}>; expected <{}>", std::string(e->Name()).substr(0, 40),
                         parent.Name(), fmt::join(known, "> or <")));
      }
    }
  }

  // Devices first: they come first among the vertices.
  void find_gpus(const XMLElement& at) {
    for (const XMLElement* pci = at.FirstChildElement("pci"); pci != nullptr; pci = pci->NextSiblingElement("pci")) {
      check_known(*pci, {"pci", "gpu", "nic"});
      if (const XMLElement* gpu = pci->FirstChildElement("gpu")) {
        const std::string bus = attribute(*pci, "busid");
        if (bus.empty() || !device_at.emplace(bus, static_cast<int>(gpus.size())).second) {
          fail(origin, pci->GetLineNum(), fmt::format("busid \"{}\" of a GPU is missing or stands twice", bus));
        }
        if (const XMLElement* second = gpu->NextSiblingElement("gpu")) {
          fail(origin, second->GetLineNum(), "a second <gpu> in one <pci>; parts of one GPU are not understood");
        }
        gpus.push_back({gpu, 0, bus});
      }
      find_gpus(*pci);
    }
  }

  // Devices are numbered by rank where the file has ranks, as NCCL numbers them, else as they stand in it.
  void number_gpus() {
    std::set<double> ranks;
    for (const Gpu& gpu : gpus) {
      if (const auto rank = number(*gpu.element, "rank")) {
        ranks.insert(*rank);
      }
    }
    if (ranks.size() == gpus.size()) {
      std::stable_sort(gpus.begin(), gpus.end(), [](const Gpu& a, const Gpu& b) {
        return *number(*a.element, "rank") < *number(*b.element, "rank");
      });
    }
    for (Gpu& gpu : gpus) {
      gpu.vertex = device_at[gpu.bus] = graph.add(VertexKind::device);
    }
  }

  void hang(const XMLElement& at, int above) {
    for (const XMLElement* pci = at.FirstChildElement("pci"); pci != nullptr; pci = pci->NextSiblingElement("pci")) {
      if (graph.vertices.size() > kMaxVertices) {
        fail(origin, pci->GetLineNum(), fmt::format("more than {} PCIe devices", kMaxVertices));
      }
      const Bandwidth rate{pcie_rate(*pci)};
      const auto flat = [&] { return graph.add_class({"pcie", rate, Time{}}); };
      if (pci->FirstChildElement("gpu") != nullptr) {
        const int device = device_at.at(attribute(*pci, "busid"));
        const int up = graph.add_class({"pcie up", rate, kPcieHop});
        graph.join(device, above, up, graph.add_class({"pcie down", rate, Time{}}));
      } else if (const XMLElement* nic = pci->FirstChildElement("nic")) {
        add_nic(*nic, above, flat());
      } else if (pci->FirstChildElement("pci") != nullptr) {
        const int bridge = graph.add(VertexKind::pcie_switch);
        graph.join(bridge, above, flat(), flat());
        hang(*pci, bridge);
      }
    }
  }

  void add_nic(const XMLElement& nic, int above, int link_class) {
    check_known(nic, {"net"});
    double rate = 0;
    std::string names;
    for (const XMLElement* net = nic.FirstChildElement("net"); net != nullptr; net = net->NextSiblingElement("net")) {
      const std::optional<double> speed = number(*net, "speed");
      if (!speed || *speed <= 0 || *speed > 1e8) {
        fail(origin, net->GetLineNum(),
             fmt::format("speed \"{}\" of a <net> is no rate in Mb/s", attribute(*net, "speed")));
      }
      rate += *speed * 1e6 / 8;
      names += (names.empty() ? "" : "+") + attribute(*net, "name");
    }
    if (rate > 0) {
      nets.push_back({graph.add(VertexKind::adapter), rate, names});
      graph.join(nets.back().vertex, above, link_class, link_class);
    }
  }

  static double nvlink_rate(double sm) { return sm < 70 ? 20e9 : sm == 86 ? 14.0625e9 : sm < 100 ? 25e9 : 50e9; }

  void add_nvlinks() {
    std::map<std::pair<int, int>, int> between;
    std::map<int, int> to_switch;
    int elsewhere = 0, c2c = 0;
    for (const Gpu& gpu : gpus) {
      check_known(*gpu.element, {"nvlink", "c2c"});
      const std::optional<double> sm = number(*gpu.element, "sm");
      if (!sm || *sm < 10 || *sm > 999) {
        fail(origin, gpu.element->GetLineNum(),
             fmt::format("sm \"{}\" of a <gpu> is no compute capability such as 80", attribute(*gpu.element, "sm")));
      }
      c2c += gpu.element->FirstChildElement("c2c") != nullptr ? 1 : 0;
      for (const XMLElement* e = gpu.element->FirstChildElement("nvlink"); e != nullptr;
           e = e->NextSiblingElement("nvlink")) {
        const double count = number(*e, "count").value_or(0);
        if (!(count >= 1 && count <= 64) || count != std::floor(count)) {
          fail(origin, e->GetLineNum(),
               fmt::format("count \"{}\" of an <nvlink> is no number from 1 to 64", attribute(*e, "count")));
        }
        const std::string tclass = attribute(*e, "tclass"), target = attribute(*e, "target");
        if (tclass.starts_with("0x0680")) {
          to_switch[gpu.vertex] += static_cast<int>(count);
        } else if (!tclass.starts_with("0x0302") && !tclass.starts_with("0x0300")) {
          fail(origin, e->GetLineNum(),
               fmt::format("tclass \"{}\" of an <nvlink>; expected a GPU (0x030200) or an "
                           "NVSwitch (0x068000)",
                           tclass.substr(0, 40)));
        } else if (const auto other = device_at.find(target); other != device_at.end()) {
          between[{gpu.vertex, other->second}] += static_cast<int>(count);
        } else {
          elsewhere += static_cast<int>(count);
        }
      }
      rates[gpu.vertex] = nvlink_rate(*sm);
    }
    for (const auto& [pair, count] : between) {
      const auto back = between.find({pair.second, pair.first});
      if (pair.first == pair.second || back == between.end() || back->second != count) {
        fail(origin, gpus[static_cast<std::size_t>(pair.first)].element->GetLineNum(),
             fmt::format("GPU {} has {} NVLinks to GPU {}, which has {} back", pair.first, count, pair.second,
                         back == between.end() ? 0 : back->second));
      }
      if (pair.first < pair.second) {
        const int c = link_class("", count, kNvlinkHop, rates[pair.first]);
        graph.join(pair.first, pair.second, c, c);
      }
    }
    if (!to_switch.empty()) {
      const int nv_switch = graph.add(VertexKind::nv_switch);
      for (const auto& [device, count] : to_switch) {
        graph.join(device, nv_switch, link_class(" up", count, kNvlinkHop, rates[device]),
                   link_class(" down", count, Time{}, rates[device]));
      }
    }
    if (c2c > 0) {
      notes.push_back(fmt::format("the chip-to-chip links of {} GPUs to their CPU are left out", c2c));
    }
    if (elsewhere > 0) {
      notes.push_back(fmt::format("{} NVLinks to GPUs that are not in the file are left out", elsewhere));
    }
  }

  int link_class(const char* way, int links, Time latency, double rate) {
    return graph.add_class({fmt::format("nvlink x{}{}", links, way), Bandwidth{rate * links}, latency, links});
  }

  std::map<int, double> rates;  // of one NVLink, by device
  std::vector<std::string> notes;
};

}  // namespace

ImportedNode import_nccl_xml(std::string_view text, const std::string& origin) {
  tinyxml2::XMLDocument document;
  parse_xml(text, origin, document);
  const XMLElement* system = document.RootElement();
  if (system == nullptr || std::string_view(system->Name()) != "system") {
    fail(origin, system == nullptr ? 1 : system->GetLineNum(),
         "expected <system>, as NCCL writes to $NCCL_TOPO_DUMP_FILE");
  }
  Reader reader(origin);
  reader.check_known(*system, {"cpu"});
  for (const XMLElement* cpu = system->FirstChildElement("cpu"); cpu != nullptr; cpu = cpu->NextSiblingElement("cpu")) {
    reader.check_known(*cpu, {"pci", "nic"});
    reader.find_gpus(*cpu);
  }
  if (reader.gpus.empty()) {
    fail(origin, system->GetLineNum(),
         "no <gpu> is in it, as in files written for $NCCL_TOPO_FILE; expected what NCCL writes to "
         "$NCCL_TOPO_DUMP_FILE");
  }
  reader.number_gpus();
  for (const XMLElement* cpu = system->FirstChildElement("cpu"); cpu != nullptr; cpu = cpu->NextSiblingElement("cpu")) {
    const int socket = reader.graph.add(VertexKind::socket);
    for (const int other : reader.sockets) {
      const int c = reader.graph.add_class({"socket", Bandwidth{reader.rate_between_sockets(*cpu)}, Time{}});
      reader.graph.join(other, socket, c, c);
    }
    reader.sockets.push_back(socket);
    reader.hang(*cpu, socket);
    for (const XMLElement* nic = cpu->FirstChildElement("nic"); nic != nullptr; nic = nic->NextSiblingElement("nic")) {
      ++reader.silent_bridges;
      reader.add_nic(*nic, socket, reader.graph.add_class({"pcie", kPcie3, Time{}}));
    }
  }
  reader.add_nvlinks();

  double fastest = 0;
  for (const Reader::Net& net : reader.nets) {
    fastest = std::max(fastest, net.rate);
  }
  std::string left_out;
  for (const Reader::Net& net : reader.nets) {
    if (net.rate == fastest) {
      reader.graph.adapters.push_back(net.vertex);
    } else {
      left_out += fmt::format("{}{} ({})", left_out.empty() ? "" : ", ", net.name, to_string(Bandwidth{net.rate}));
    }
  }
  reader.graph.adapter_bandwidth = {fastest};
  if (!left_out.empty()) {
    reader.notes.push_back("slower adapters are left out: " + left_out);
  }
  if (reader.silent_bridges > 0) {
    reader.notes.push_back(fmt::format("{} PCIe links do not say how fast they are; taken as PCIe 3.0 x16, {}",
                                       reader.silent_bridges, to_string(kPcie3)));
  }
  if (reader.nets.empty()) {
    reader.notes.emplace_back("no adapter is in it: such a node stands alone");
  }
  return {"NCCL topology XML", std::move(reader.graph), std::move(reader.notes)};
}

}  // namespace foretrain::topologies
