#include "topologies/node_graph_file.h"

#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "topologies/exact_text.h"
#include "topologies/fabric_file.h"

namespace foretrain::topologies {

namespace {

constexpr int kMaxIndex = 1023;
constexpr std::array<VertexKind, 6> kKinds{VertexKind::device,      VertexKind::host,   VertexKind::nv_switch,
                                           VertexKind::pcie_switch, VertexKind::socket, VertexKind::adapter};

struct Name {
  std::size_t kind;  // in kKinds
  int index;
};

// "PCIe switch 3".
std::optional<Name> parse(const std::string& text) {
  for (std::size_t k = 0; k < kKinds.size(); ++k) {
    const std::string prefix = std::string(name(kKinds[k])) + " ";
    int index = -1;
    if (text.starts_with(prefix)) {
      const auto [rest, error] = std::from_chars(text.data() + prefix.size(), text.data() + text.size(), index);
      if (error == std::errc{} && rest == text.data() + text.size() && index >= 0 && index <= kMaxIndex) {
        return Name{k, index};
      }
    }
  }
  return std::nullopt;
}

// The names in a list, `count` of them where it is not 0.
std::vector<Name> names(ObjectReader& reader, const std::string& key, std::size_t count) {
  std::vector<Name> found;
  const std::vector<std::string> texts = reader.texts(key);
  for (const std::string& text : texts) {
    if (const auto parsed = parse(text)) {
      found.push_back(*parsed);
    } else {
      reader.mistake(key,
                     fmt::format("\"{}\" is no part of a node; expected GPU, memory, NVSwitch, PCIe switch, CPU or NIC "
                                 "and its number, such as \"GPU 0\"",
                                 text.substr(0, 40)));
      return {};
    }
  }
  if (count > 0 && found.size() != count) {
    reader.mistake(key, fmt::format("names {} things; expected {}", found.size(), count));
    return {};
  }
  return found;
}

struct LinkText {
  Name from, to;
  LinkClass out, back;
};

}  // namespace

std::shared_ptr<NodeGraph> read_node_graph(ObjectReader reader) {
  if (!reader.present()) {
    return nullptr;
  }
  const std::size_t before = reader.mistakes().count();
  std::vector<LinkText> links;
  std::array<int, kKinds.size()> counts{};
  const auto count = [&](const Name& n) { counts[n.kind] = std::max(counts[n.kind], n.index + 1); };
  for (ObjectReader& item : reader.objects("links")) {
    const std::vector<Name> ends = names(item, "between", 2);
    const std::string kind = item.text("kind", "link");
    const int cables = static_cast<int>(item.integer("cables", 1, 1, 1000));
    const Bandwidth bandwidth = link_bandwidth(item, "bandwidth", std::nullopt);
    const Time out = link_latency(item, "latency", Time{}), back = link_latency(item, "latency_back", out);
    item.finish();
    if (ends.size() == 2) {
      count(ends[0]);
      count(ends[1]);
      links.push_back({ends[0],
                       ends[1],
                       {kind + (out == back ? "" : " up"), bandwidth, out, cables},
                       {kind + (out == back ? "" : " down"), bandwidth, back, cables}});
    }
  }
  const std::vector<Name> adapters = names(reader, "adapters", 0);
  for (const Name& adapter : adapters) {
    count(adapter);
  }
  reader.finish();
  if (reader.mistakes().count() != before) {
    return nullptr;
  }
  auto graph = std::make_shared<NodeGraph>();
  std::array<int, kKinds.size()> first{};
  for (std::size_t k = 0; k < kKinds.size(); ++k) {
    first[k] = static_cast<int>(graph->vertices.size());
    for (int i = 0; i < counts[k]; ++i) {
      graph->add(kKinds[k]);
    }
  }
  const auto vertex = [&](const Name& n) { return first[n.kind] + n.index; };
  for (const LinkText& link : links) {
    const int out = graph->add_class(link.out), back = graph->add_class(link.back);
    graph->join(vertex(link.from), vertex(link.to), out, back);
  }
  for (const Name& adapter : adapters) {
    graph->adapters.push_back(vertex(adapter));
  }
  try {
    NodeRoutes check(*graph);
  } catch (const InputError& e) {
    reader.mistake("links", e.what());
    return nullptr;
  }
  return graph;
}

nlohmann::ordered_json to_json(const NodeGraph& graph) {
  nlohmann::ordered_json adapters = nlohmann::ordered_json::array(), links = nlohmann::ordered_json::array();
  for (const int adapter : graph.adapters) {
    adapters.push_back(graph.vertex_name(adapter));
  }
  for (std::size_t i = 0; i + 1 < graph.links.size(); i += 2) {  // join() adds them in pairs
    const LinkClass& out = graph.classes[static_cast<std::size_t>(graph.links[i].link_class)];
    const LinkClass& back = graph.classes[static_cast<std::size_t>(graph.links[i + 1].link_class)];
    std::string kind = out.name;
    if (out.latency != back.latency && kind.ends_with(" up")) {
      kind.resize(kind.size() - 3);
    }
    links.push_back({{"between", {graph.vertex_name(graph.links[i].from), graph.vertex_name(graph.links[i].to)}},
                     {"kind", kind},
                     {"cables", out.width},
                     {"bandwidth", exact(out.capacity)},
                     {"latency", exact(out.latency)},
                     {"latency_back", exact(back.latency)}});
  }
  return {{"adapters", std::move(adapters)}, {"links", std::move(links)}};
}

}  // namespace foretrain::topologies
