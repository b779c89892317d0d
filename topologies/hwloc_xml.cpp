#include <algorithm>
#include <limits>
#include <map>
#include <sstream>

#include "topologies/import_topology.h"
#include "topologies/xml_input.h"

namespace foretrain::topologies {

namespace {

constexpr Bandwidth kPcie3{15.75e9};        // 3.0 x16, where no part of a path says how fast it is
constexpr Bandwidth kBetweenSockets{16e9};  // as for AMD's in NCCL 2.30.7 src/graph/topo.h
constexpr double kUnknown = std::numeric_limits<double>::infinity();
constexpr std::size_t kMostGpus = 256;
constexpr int kMostDepth = 64;

bool is_object(const XMLElement& e, std::string_view type) {
  return std::string_view(e.Name()) == "object" && attribute(e, "type") == type;
}

// n of "cuda<n>", nothing for another name.
std::optional<int> numbered(const std::string& name, std::string_view prefix) {
  int value = 0;
  const char* end = name.data() + name.size();
  return name.starts_with(prefix) && std::from_chars(name.data() + prefix.size(), end, value).ptr == end &&
                 name.size() > prefix.size()
             ? std::optional(value)
             : std::nullopt;
}

class Reader {
 public:
  Reader(const std::string& origin, const XMLElement& topology) : origin_(origin), topology_(topology) {
    const std::string version = attribute(topology, "version");
    if (!version.starts_with("2.") && !version.starts_with("3.")) {
      fail(origin_, topology.GetLineNum(),
           fmt::format("version \"{}\" of hwloc's format; expected 2 or 3", version.substr(0, 20)));
    }
    is_v3_ = version.starts_with("3.");
  }

  ImportedNode read() {
    find(topology_, 0);
    if (gpus_.empty()) {
      gpus_ = std::move(controllers_);
    }
    if (gpus_.empty()) {
      fail(origin_, topology_.GetLineNum(),
           "no GPU is in it: no device of CUDA, NVML or RSMI, and no 3D controller; expected lstopo's XML of a node "
           "with GPUs");
    }
    std::stable_sort(gpus_.begin(), gpus_.end(), [](const Gpu& a, const Gpu& b) { return a.number < b.number; });
    for (const Gpu& gpu : gpus_) {
      vertex_of_[gpu.pci] = graph_.add(VertexKind::device);
    }
    for (const XMLElement* package : packages_) {
      add_socket(package);
    }
    if (packages_.empty()) {
      add_socket(nullptr);
    }
    hang_all(topology_, sockets_.front());
    add_nvlinks();
    return finished();
  }

 private:
  struct Gpu {
    const XMLElement* pci;
    int number;
  };

  // ---- what there is

  void find(const XMLElement& at, int depth) {
    if (depth > kMostDepth) {
      fail(origin_, at.GetLineNum(), fmt::format("objects in objects more than {} deep", kMostDepth));
    }
    for (const XMLElement* e = at.FirstChildElement("object"); e != nullptr; e = e->NextSiblingElement("object")) {
      by_index_[attribute(*e, "gp_index")] = e;
      if (is_object(*e, "Package")) {
        packages_.push_back(e);
      } else if (is_object(*e, "PCIDev")) {
        find_gpu(*e);
      }
      find(*e, depth + 1);
    }
  }

  void find_gpu(const XMLElement& pci) {
    for (const char* prefix : {"cuda", "nvml", "rsmi"}) {
      for (const XMLElement* os = pci.FirstChildElement("object"); os != nullptr;
           os = os->NextSiblingElement("object")) {
        if (const auto number = numbered(attribute(*os, "name"), prefix)) {
          add_gpu(gpus_, pci, *number);
          return;
        }
      }
    }
    if (attribute(pci, "pci_type").starts_with("0302")) {
      add_gpu(controllers_, pci, static_cast<int>(controllers_.size()));
    }
  }

  void add_gpu(std::vector<Gpu>& to, const XMLElement& pci, int number) {
    if (to.size() == kMostGpus) {
      fail(origin_, pci.GetLineNum(), fmt::format("more than {} GPUs", kMostGpus));
    }
    to.push_back({&pci, number});
  }

  bool is_adapter(const XMLElement& pci) const {
    const std::string open_fabrics = is_v3_ ? "32" : "3";
    for (const XMLElement* os = pci.FirstChildElement("object"); os != nullptr; os = os->NextSiblingElement("object")) {
      if (is_object(*os, "OSDev") && attribute(*os, "osdev_type") == open_fabrics) {
        return true;
      }
    }
    return false;
  }

  bool is_end(const XMLElement& e) const {
    return is_object(e, "PCIDev") && (vertex_of_.contains(&e) || is_adapter(e));
  }

  // ---- PCIe

  void add_socket(const XMLElement* package) {
    const int socket = graph_.add(VertexKind::socket);
    for (const int other : sockets_) {
      const int c = graph_.add_class({"socket", kBetweenSockets, Time{}});
      graph_.join(other, socket, c, c);
    }
    sockets_.push_back(socket);
    if (package != nullptr) {
      vertex_of_[package] = socket;
    }
  }

  // The host bridges below `at`, each at the socket that it is in.
  void hang_all(const XMLElement& at, int socket) {
    for (const XMLElement* e = at.FirstChildElement("object"); e != nullptr; e = e->NextSiblingElement("object")) {
      if (is_object(*e, "Bridge") || is_object(*e, "PCIDev")) {
        away_from_sockets_ += packages_.size() > 1 && is_object(at, "Machine") && ways_on(*e) > 0;
        hang(*e, socket, kUnknown);
      } else {
        hang_all(*e, is_object(*e, "Package") ? vertex_of_.at(e) : socket);
      }
    }
  }

  // Children that lead to a GPU or an adapter; of such an end itself: 1.
  int ways_on(const XMLElement& e) const {
    if (is_end(e)) {
      return 1;
    }
    int ways = 0;
    for (const XMLElement* c = e.FirstChildElement("object"); c != nullptr; c = c->NextSiblingElement("object")) {
      ways += ways_on(*c) > 0;
    }
    return ways;
  }

  // `rate`: of the slowest part on the way from `above`, in bytes/s.
  void hang(const XMLElement& e, int above, double rate) {
    const int ways = ways_on(e);
    if (ways == 0) {
      return;
    }
    const double speed = number(e, "pci_link_speed").value_or(0);  // GB/s; 0 where unknown
    if (speed < 0 || speed > 4096) {
      fail(origin_, e.GetLineNum(),
           fmt::format("pci_link_speed \"{}\" is no rate in GB/s", attribute(e, "pci_link_speed")));
    }
    rate = speed > 0 ? std::min(rate, speed * 1e9) : rate;
    if (is_end(e)) {
      add_end(e, above, rate);
      return;
    }
    if (ways > 1 && attribute(e, "bridge_type") != "0-1") {  // a host bridge is part of its socket
      const int bridge = graph_.add(VertexKind::pcie_switch);
      const int c = graph_.add_class({"pcie", known(rate), Time{}});
      graph_.join(bridge, above, c, c);
      above = bridge;
      rate = kUnknown;
    }
    for (const XMLElement* c = e.FirstChildElement("object"); c != nullptr; c = c->NextSiblingElement("object")) {
      hang(*c, above, rate);
    }
  }

  void add_end(const XMLElement& e, int above, double rate) {
    const Bandwidth speed = known(rate);
    const int flat = graph_.add_class({"pcie", speed, Time{}});
    if (const auto gpu = vertex_of_.find(&e); gpu != vertex_of_.end()) {
      graph_.join(gpu->second, above, graph_.add_class({"pcie up", speed, kPcieHop}),
                  graph_.add_class({"pcie down", speed, Time{}}));
    } else {
      graph_.adapters.push_back(graph_.add(VertexKind::adapter));
      graph_.join(graph_.adapters.back(), above, flat, flat);
    }
  }

  Bandwidth known(double rate) {
    silent_ += rate == kUnknown;
    return rate == kUnknown ? kPcie3 : Bandwidth{rate};
  }

  // ---- NVLink

  // Of a distances element: the objects in its order, and the values row by row in MB/s.
  struct Matrix {
    std::vector<const XMLElement*> objects;
    std::vector<double> values;
  };

  Matrix matrix(const XMLElement& distances) const {
    Matrix m;
    const std::string type = attribute(distances, "type"), by = attribute(distances, "indexing");
    if (!type.empty() && by != "gp") {
      fail(origin_, distances.GetLineNum(), fmt::format("indexing \"{}\" of I/O devices; expected \"gp\"", by));
    }
    for (const XMLElement* e = distances.FirstChildElement(); e != nullptr; e = e->NextSiblingElement()) {
      std::istringstream words(e->GetText() != nullptr ? e->GetText() : "");
      for (std::string word; words >> word;) {
        if (std::string_view(e->Name()) == "indexes") {
          const auto found = by_index_.find(word.substr(word.find(':') + 1));  // "OSDev:802", or "802"
          if (found == by_index_.end()) {
            fail(origin_, e->GetLineNum(), fmt::format("\"{}\" is no object of this file", word.substr(0, 40)));
          }
          m.objects.push_back(found->second);
        } else {
          double value = 0;
          const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), value);
          if (error != std::errc{} || rest != word.data() + word.size() || !(value >= 0 && value <= 1e7)) {
            fail(origin_, e->GetLineNum(), fmt::format("\"{}\" is no rate in MB/s", word.substr(0, 40)));
          }
          m.values.push_back(value);
        }
      }
    }
    if (m.values.size() != m.objects.size() * m.objects.size()) {
      fail(origin_, distances.GetLineNum(),
           fmt::format("{} values for {} objects; expected their square", m.values.size(), m.objects.size()));
    }
    return m;
  }

  // The GPU or socket of an object of the matrix; -1: an NVSwitch; nothing for what is neither.
  std::optional<int> end_of(const XMLElement& object) const {
    const XMLElement* e = &object;
    if (is_object(*e, "OSDev")) {
      e = e->Parent()->ToElement();
    }
    if (attribute(*e, "subtype") == "NVSwitch") {
      return -1;
    }
    const auto found = vertex_of_.find(e);
    return found == vertex_of_.end() ? std::nullopt : std::optional(found->second);
  }

  void add_nvlinks() {
    for (const char* element : {"distances2", "distances2hetero"}) {
      for (const XMLElement* d = topology_.FirstChildElement(element); d != nullptr;
           d = d->NextSiblingElement(element)) {
        const std::string name = attribute(*d, "name");
        if (name == "NVLinkBandwidth" || name == "XGMIBandwidth") {
          add_nvlinks(*d);
        }
      }
    }
  }

  void add_nvlinks(const XMLElement& distances) {
    const Matrix m = matrix(distances);
    const std::size_t n = m.objects.size();
    std::map<int, double> to_switch;  // by device, MB/s
    for (std::size_t i = 0; i < n; ++i) {
      const std::optional<int> a = end_of(*m.objects[i]);
      for (std::size_t j = 0; j < n; ++j) {
        const std::optional<int> b = end_of(*m.objects[j]);
        const double there = m.values[i * n + j], back = m.values[j * n + i];
        if (there == 0 || !a || !b || *a < 0 || *a == *b) {
          continue;
        }
        if (there != back) {
          fail(origin_, distances.GetLineNum(),
               fmt::format("{} MB/s from object {} to {}, {} MB/s back", there, i, j, back));
        }
        if (*b < 0) {
          to_switch[*a] += there;
        } else if (i < j) {
          const int c = graph_.add_class({"nvlink", Bandwidth{there * 1e6}, kNvlinkHop});
          graph_.join(*a, *b, c, c);
        }
      }
    }
    if (!to_switch.empty()) {
      const int nv_switch = graph_.add(VertexKind::nv_switch);
      for (const auto& [device, rate] : to_switch) {
        graph_.join(device, nv_switch, graph_.add_class({"nvlink up", Bandwidth{rate * 1e6}, kNvlinkHop}),
                    graph_.add_class({"nvlink down", Bandwidth{rate * 1e6}, Time{}}));
      }
    }
    has_nvlinks_ = true;
  }

  ImportedNode finished() {
    std::vector<std::string> notes;
    if (sockets_.size() > 1) {
      notes.push_back(fmt::format("between sockets {} is assumed", to_string(kBetweenSockets)));
    }
    if (away_from_sockets_ > 0) {
      notes.push_back(
          fmt::format("{} host bridges do not say at which socket they are; taken as the first's", away_from_sockets_));
    }
    if (silent_ > 0) {
      notes.push_back(fmt::format("{} PCIe links do not say how fast they are; taken as PCIe 3.0 x16, {}", silent_,
                                  to_string(kPcie3)));
    }
    if (!has_nvlinks_ && gpus_.size() > 1) {
      notes.emplace_back("no NVLink is in it: hwloc tells of them only where it was built with NVML or RSMI");
    }
    notes.emplace_back(graph_.adapters.empty() ? "no adapter is in it: such a node stands alone"
                                               : "how fast adapters are into the fabric is not in it");
    return {"hwloc XML", std::move(graph_), std::move(notes)};
  }

  const std::string& origin_;
  const XMLElement& topology_;
  bool is_v3_ = false, has_nvlinks_ = false;
  NodeGraph graph_;
  std::map<std::string, const XMLElement*> by_index_;
  std::map<const XMLElement*, int> vertex_of_;  // of GPUs' PCI devices and of packages
  std::vector<Gpu> gpus_, controllers_;
  std::vector<const XMLElement*> packages_;
  std::vector<int> sockets_;
  int silent_ = 0, away_from_sockets_ = 0;
};

}  // namespace

ImportedNode import_hwloc_xml(std::string_view text, const std::string& origin) {
  tinyxml2::XMLDocument document;
  parse_xml(text, origin, document);
  const XMLElement* topology = document.RootElement();
  if (topology == nullptr || std::string_view(topology->Name()) != "topology") {
    fail(origin, topology == nullptr ? 1 : topology->GetLineNum(), "expected <topology>, as lstopo writes to node.xml");
  }
  return Reader(origin, *topology).read();
}

}  // namespace foretrain::topologies
