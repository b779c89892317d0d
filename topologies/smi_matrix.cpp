#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "base/error.h"
#include "topologies/import_topology.h"

namespace foretrain::topologies {

namespace {

constexpr std::size_t kMaxThings = 256;
constexpr int kMaxLinks = 18;  // NVLinks of one GPU
constexpr Bandwidth kNvlink{25e9}, kPcie{31.5e9}, kSocket{16e9};

// How far two things are apart, in the matrix's words.
enum Distance { nvlink = 0, pix = 1, pxb = 2, phb = 3, node = 4, sys = 5, self = 6 };
const std::map<std::string, Distance, std::less<>> kWords{{"PIX", pix}, {"PXB", pxb}, {"PHB", phb}, {"NODE", node},
                                                          {"SYS", sys}, {"SOC", sys}, {"X", self}};

struct Entry {
  Distance distance = self;
  int links = 0;  // of NV#
};

struct Matrix {
  std::vector<std::string> names;
  std::vector<std::vector<Entry>> rows;
  std::vector<int> line;              // of each row
  std::vector<std::string> affinity;  // CPU affinity of each row, "" where it has none
  bool gpu(std::size_t i) const { return names[i].starts_with("GPU"); }
};

// Words of a line, without the terminal's escape sequences.
std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b' && i + 1 < line.size() && line[i + 1] == '[') {
      i = std::min(line.find_first_of("ABCDHJKfmsu", i + 2), line.size() - 1);
    } else if (line[i] == ' ' || line[i] == '\t' || line[i] == '\r') {
      words.emplace_back();
    } else {
      words.back() += line[i];
    }
  }
  std::erase(words, "");
  return words;
}

[[noreturn]] void fail(const std::string& origin, int line, const std::string& what) {
  throw InputError(fmt::format("{}:{}: {}", origin, line, what));
}

std::string quoted(const std::string& text) {
  return fmt::format("\"{}\"", text.substr(0, 40));
}

Entry entry_of(const std::string& word, const std::string& origin, int line) {
  if (const auto known = kWords.find(word); known != kWords.end()) {
    return {known->second, 0};
  }
  if (word.starts_with("NV") && word.size() > 2 && word.size() < 6 &&
      std::all_of(word.begin() + 2, word.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    if (const int links = std::stoi(word.substr(2)); links > 0) {
      return {nvlink, links};
    }
  }
  fail(origin, line, fmt::format("{} is no connection; expected X, NV#, PIX, PXB, PHB, NODE or SYS", quoted(word)));
}

Matrix parse(std::string_view text, const std::string& origin) {
  Matrix m;
  int number = 0;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::vector<std::string> words = words_of(text.substr(begin, end - begin));
    begin = end + 1;
    ++number;
    if (m.names.empty()) {
      // What stands before the header: a prompt, a date.
      if (words.size() >= 2 && words[0] == "GPU0") {
        for (const std::string& word : words) {
          if (word == "CPU" || word == "NUMA") {
            break;
          }
          if (std::find(m.names.begin(), m.names.end(), word) != m.names.end() || m.names.size() == kMaxThings) {
            fail(origin, number,
                 fmt::format("{} stands twice in the header, or beyond column {}", quoted(word), kMaxThings));
          }
          m.names.push_back(word);
        }
      }
      continue;
    }
    if (m.rows.size() == m.names.size() || words.empty()) {
      if (!m.rows.empty() && m.rows.size() < m.names.size()) {
        fail(origin, number, fmt::format("the row of {} is missing", m.names[m.rows.size()]));
      }
      continue;  // the legend
    }
    const std::size_t row = m.rows.size();
    if (words[0] != m.names[row]) {
      fail(origin, number, fmt::format("{} stands where the row of {} was expected", quoted(words[0]), m.names[row]));
    }
    if (words.size() < m.names.size() + 1) {
      fail(origin, number,
           fmt::format("the row of {} has {} connections; expected {}", words[0], words.size() - 1, m.names.size()));
    }
    m.rows.emplace_back();
    for (std::size_t i = 0; i < m.names.size(); ++i) {
      m.rows.back().push_back(entry_of(words[i + 1], origin, number));
    }
    m.line.push_back(number);
    m.affinity.push_back(words.size() > m.names.size() + 1 ? words[m.names.size() + 1] : "");
  }
  if (m.names.empty()) {
    fail(origin, 1, "no header was found; expected the output of nvidia-smi topo -m: a line that begins with GPU0");
  }
  if (m.rows.size() < m.names.size()) {
    fail(origin, number, fmt::format("the row of {} is missing", m.names[m.rows.size()]));
  }
  for (std::size_t i = 0; i < m.names.size(); ++i) {
    for (std::size_t j = 0; j < m.names.size(); ++j) {
      const Entry &a = m.rows[i][j], &b = m.rows[j][i];
      if ((a.distance == self) != (i == j) || a.distance != b.distance || a.links != b.links ||
          (a.distance == nvlink && !(m.gpu(i) && m.gpu(j)))) {
        fail(origin, m.line[std::max(i, j)],
             fmt::format("{} and {} are not joined the same way in both rows, or in a way that such things are not",
                         m.names[i], m.names[j]));
      }
    }
  }
  return m;
}

// Disjoint sets.
class Groups {
 public:
  explicit Groups(std::size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), 0U); }
  std::size_t find(std::size_t i) const {
    while (parent_[i] != i) {
      i = parent_[i];
    }
    return i;
  }
  void join(std::size_t a, std::size_t b) { parent_[std::max(find(a), find(b))] = std::min(find(a), find(b)); }

 private:
  std::vector<std::size_t> parent_;  // the lowest member is the root
};

// The links of each GPU of an island into its NVSwitch; nothing where NVLinks go straight.
std::optional<int> switch_links(const Matrix& m, const std::vector<std::size_t>& island) {
  std::set<int> counts;
  for (const std::size_t i : island) {
    for (const std::size_t j : island) {
      if (i != j) {
        counts.insert(m.rows[i][j].links);
      }
    }
  }
  const bool uniform = island.size() > 2 && counts.size() == 1;
  return uniform && *counts.begin() * (static_cast<int>(island.size()) - 1) > kMaxLinks ? std::optional(*counts.begin())
                                                                                        : std::nullopt;
}

void add_nvlinks(NodeGraph& graph, const Matrix& m, const std::vector<int>& vertex) {
  const auto link_class = [&](const char* way, int links, Time latency) {
    return graph.add_class({fmt::format("nvlink x{}{}", links, way), Bandwidth{kNvlink.value * links}, latency, links});
  };
  Groups joined(m.names.size());
  for (std::size_t i = 0; i < m.names.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (m.rows[i][j].links > 0) {
        joined.join(i, j);
      }
    }
  }
  std::map<std::size_t, std::vector<std::size_t>> islands;
  for (std::size_t i = 0; i < m.names.size(); ++i) {
    islands[joined.find(i)].push_back(i);
  }
  for (const auto& [first, island] : islands) {
    if (const auto links = switch_links(m, island)) {
      const int up = link_class(" up", *links, kNvlinkHop), down = link_class(" down", *links, Time{});
      const int nv_switch = graph.add(VertexKind::nv_switch);
      for (const std::size_t i : island) {
        graph.join(vertex[i], nv_switch, up, down);
      }
      continue;
    }
    for (const std::size_t i : island) {
      for (const std::size_t j : island) {
        if (const int links = m.rows[i][j].links; i < j && links > 0) {
          const int c = link_class("", links, kNvlinkHop);
          graph.join(vertex[i], vertex[j], c, c);
        }
      }
    }
  }
}

}  // namespace

ImportedNode import_smi_matrix(std::string_view text, const std::string& origin) {
  const Matrix m = parse(text, origin);
  const std::size_t n = m.names.size();
  Groups switches(n), sockets(n);
  // Only NVLinks are known of it: its affinity alone says where it sits.
  const auto hidden = [&](std::size_t i) {
    return std::all_of(m.rows[i].begin(), m.rows[i].end(),
                       [](const Entry& e) { return e.distance == nvlink || e.distance == self; });
  };
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const Distance d = m.rows[i][j].distance;
      if (d == pix || d == pxb) {
        switches.join(i, j);
      }
      const bool same_cores = d == nvlink && !m.affinity[i].empty() && m.affinity[i] == m.affinity[j];
      if ((d != nvlink && d <= node) || (same_cores && (hidden(i) || hidden(j)))) {
        sockets.join(i, j);
      }
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const Distance d = m.rows[i][j].distance;
      if (d != nvlink && (((d <= pxb) != (switches.find(i) == switches.find(j))) ||
                          ((d <= node) != (sockets.find(i) == sockets.find(j))))) {
        fail(origin, m.line[i],
             fmt::format("how {} and {} are joined contradicts what they have in common with others", m.names[j],
                         m.names[i]));
      }
    }
  }

  ImportedNode out;
  out.format = "nvidia-smi topo -m";
  NodeGraph& graph = out.graph;
  std::vector<int> vertex(n);
  for (const bool gpus : {true, false}) {
    for (std::size_t i = 0; i < n; ++i) {
      if (m.gpu(i) == gpus) {
        vertex[i] = graph.add(gpus ? VertexKind::device : VertexKind::adapter);
        if (!gpus) {
          graph.adapters.push_back(vertex[i]);
        }
      }
    }
  }
  const int up = graph.add_class({"pcie up", kPcie, kPcieHop}), down = graph.add_class({"pcie down", kPcie, Time{}}),
            flat = graph.add_class({"pcie", kPcie, Time{}});
  std::map<std::size_t, int> socket_of, switch_of, members;
  for (std::size_t i = 0; i < n; ++i) {
    ++members[switches.find(i)];
    if (const std::size_t s = sockets.find(i); !socket_of.contains(s)) {
      const int here = graph.add(VertexKind::socket);
      for (const auto& [other, v] : socket_of) {
        const int c = graph.add_class({"socket", kSocket, Time{}});
        graph.join(v, here, c, c);
      }
      socket_of[s] = here;
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t group = switches.find(i);
    const int socket = socket_of[sockets.find(i)];
    if (members[group] > 1 && !switch_of.contains(group)) {
      switch_of[group] = graph.add(VertexKind::pcie_switch);
      graph.join(switch_of[group], socket, flat, flat);
    }
    graph.join(vertex[i], members[group] > 1 ? switch_of[group] : socket, m.gpu(i) ? up : flat, m.gpu(i) ? down : flat);
  }
  add_nvlinks(graph, m, vertex);
  out.notes.push_back(
      fmt::format("the matrix has no rates; assumed: {} for an NVLink, {} for PCIe 4.0 x16, {} between sockets",
                  to_string(kNvlink), to_string(kPcie), to_string(kSocket)));
  if (graph.adapters.empty()) {
    out.notes.emplace_back("no adapter is in it: such a node stands alone");
  }
  return out;
}

}  // namespace foretrain::topologies
