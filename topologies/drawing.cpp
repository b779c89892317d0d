#include "topologies/drawing.h"

#include <algorithm>
#include <array>
#include <map>
#include <queue>
#include <set>
#include <vector>

#include "base/error.h"

namespace foretrain::topologies {

namespace {

// Colours that stay apart for eyes that see red and green alike (Okabe and Ito); repeated beyond them.
constexpr std::array<const char*, 7> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#56b4e9", "#e69f00", "#666666"};

struct Line {
  std::int64_t from, to;
  int link_class;
  int parallel = 1;  // links of that class between the two, one direction
};

// One line for each pair of vertices and class; a way back of another class ("up" and "down") is part of the line.
std::vector<Line> lines_of(const Network& network) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::map<int, int>> between;
  for (LinkId id = 0; id < network.link_count(); ++id) {
    const LinkEnds e = network.ends(id);
    ++between[{e.from, e.to}][network.link(id).link_class];
  }
  std::vector<Line> lines;
  for (const auto& [ends, classes] : between) {
    if (ends.first > ends.second && between.contains({ends.second, ends.first})) {
      continue;
    }
    for (const auto& [link_class, count] : classes) {
      lines.push_back({ends.first, ends.second, link_class, count});
    }
  }
  return lines;
}

void check_size(const Network& network) {
  if (network.vertex_count() > kMaxDrawn) {
    throw InputError(
        fmt::format("a network of {} devices and {} vertices in all cannot be drawn so that it can be read; "
                    "expected at most {} vertices: draw fewer nodes",
                    network.devices(), network.vertex_count(), kMaxDrawn));
  }
}

// "node 3 GPU 1" is "GPU 1" inside the box of node 3.
std::string short_name(const Network& network, std::int64_t v) {
  const std::string name = network.vertex_name(v), box = fmt::format("node {} ", network.unit_of(v));
  return name.starts_with(box) ? name.substr(box.size()) : name;
}

const char* colour(int link_class) {
  return kColours[static_cast<std::size_t>(link_class) % kColours.size()];
}

struct Point {
  double x = 0, y = 0;
};

constexpr double kRow = 84, kGap = 10, kHeight = 24, kMargin = 30, kLetter = 7;
constexpr int kAdapters = -1;  // their layer in a node; devices have 0

class Layout {
 public:
  Layout(const Network& network, const std::vector<Line>& lines) : network_(network) {
    const auto n = static_cast<std::size_t>(network.vertex_count());
    layer_.assign(n, -1);
    used_.assign(n, false);
    std::vector<std::vector<std::int64_t>> neighbours(n);
    for (const Line& line : lines) {
      neighbours[static_cast<std::size_t>(line.from)].push_back(line.to);
      neighbours[static_cast<std::size_t>(line.to)].push_back(line.from);
      used_[static_cast<std::size_t>(line.from)] = used_[static_cast<std::size_t>(line.to)] = true;
    }
    // Layer: steps from the nearest device; downwards inside a node, upwards in the fabric.
    std::queue<std::int64_t> next;
    for (std::int64_t d = 0; d < network.devices(); ++d) {
      layer_[static_cast<std::size_t>(d)] = 0;
      next.push(d);
    }
    for (; !next.empty(); next.pop()) {
      for (const std::int64_t v : neighbours[static_cast<std::size_t>(next.front())]) {
        if (layer_[static_cast<std::size_t>(v)] < 0) {
          layer_[static_cast<std::size_t>(v)] = layer_[static_cast<std::size_t>(next.front())] + 1;
          next.push(v);
        }
      }
    }
    // Adapters stand above their devices, next to the fabric; arcs between switches of a row need room above.
    bool arcs = false;
    for (const Line& line : lines) {
      const auto from = static_cast<std::size_t>(line.from), to = static_cast<std::size_t>(line.to);
      const bool out = network.unit_of(line.from) < 0, in = network.unit_of(line.to) < 0;
      arcs = arcs || (out && in && layer_[from] == layer_[to]);
      if (out != in && (out ? line.to : line.from) >= network.devices()) {
        layer_[out ? to : from] = kAdapters;
      }
    }
    place(arcs ? kRow : 0);
  }

  bool drawn(std::int64_t v) const { return used_[static_cast<std::size_t>(v)]; }
  Point at(std::int64_t v) const { return points_[static_cast<std::size_t>(v)]; }
  double width(std::int64_t v) const { return kLetter * static_cast<double>(short_name(network_, v).size()) + 12; }
  double page_width() const { return page_.x; }
  double page_height() const { return page_.y; }
  struct Box {
    std::int64_t unit;
    Point from, to;
  };
  const std::vector<Box>& boxes() const { return boxes_; }

 private:
  using Rows = std::map<int, std::vector<std::int64_t>>;

  double row_width(const std::vector<std::int64_t>& row) const {
    double sum = -kGap;
    for (const std::int64_t v : row) {
      sum += width(v) + kGap;
    }
    return sum;
  }
  void spread(const std::vector<std::int64_t>& row, double left, double right, double y) {
    const double space = (right - left - row_width(row)) / static_cast<double>(row.size());
    double x = left + space / 2;
    for (const std::int64_t v : row) {
      points_[static_cast<std::size_t>(v)] = {x + width(v) / 2, y};
      x += width(v) + kGap + space;
    }
  }

  double unit_width(const Rows& rows) const {
    double width = 60;
    for (const auto& [layer, row] : rows) {
      width = std::max(width, row_width(row));
    }
    return width;
  }

  void place(double room_above) {
    points_.resize(layer_.size());
    std::map<std::int64_t, Rows> units;
    Rows fabric;
    int highest = 0, deepest = 0;
    for (std::int64_t v = 0; v < network_.vertex_count(); ++v) {
      const int layer = layer_[static_cast<std::size_t>(v)];
      if (!drawn(v)) {
        continue;
      }
      if (network_.unit_of(v) >= 0) {
        units[network_.unit_of(v)][layer].push_back(v);
        highest = std::min(highest, layer);
        deepest = std::max(deepest, layer);
      } else {
        fabric[-layer].push_back(v);  // the highest first
      }
    }
    double widest = 0, all = 0;
    for (const auto& [layer, row] : fabric) {
      widest = std::max(widest, row_width(row));
    }
    const double top = kMargin + 30 + room_above;
    const double devices_y = top + kRow * static_cast<double>(fabric.size()) + 10 - kRow * highest;
    for (const auto& [unit, rows] : units) {
      all += unit_width(rows) + 24 + 2 * kGap;
    }
    double x = kMargin + std::max(0.0, widest - all) / 2;
    for (const auto& [unit, rows] : units) {
      const double width = unit_width(rows);
      boxes_.push_back({unit, {x, devices_y + kRow * highest - 34}, {x + width + 24, devices_y + kRow * deepest + 34}});
      for (const auto& [layer, row] : rows) {
        spread(row, x + 12, x + 12 + width, devices_y + kRow * layer);
      }
      x += width + 24 + 2 * kGap;
    }
    const double right = kMargin + std::max(all - 2 * kGap, widest);
    page_ = {right + kMargin, devices_y + kRow * deepest + 60};
    double y = top;
    for (const auto& [layer, row] : fabric) {
      spread(row, kMargin, right, y);
      y += kRow;
    }
  }

  const Network& network_;
  std::vector<int> layer_;
  std::vector<bool> used_;
  std::vector<Point> points_;
  std::vector<Box> boxes_;
  Point page_;
};

// Between rows a straight line; inside a row an arc, the higher the longer.
std::string path(Point a, Point b, bool upwards) {
  if (a.y != b.y) {
    const double down = a.y < b.y ? kHeight / 2 : -kHeight / 2;
    return fmt::format("M {:.1f} {:.1f} L {:.1f} {:.1f}", a.x, a.y + down, b.x, b.y - down);
  }
  const double edge = upwards ? -kHeight / 2 : kHeight / 2;
  const double bend = (upwards ? -1 : 1) * std::min(60.0, 14 + std::abs(a.x - b.x) / 8);
  return fmt::format("M {:.1f} {:.1f} Q {:.1f} {:.1f} {:.1f} {:.1f}", a.x, a.y + edge, (a.x + b.x) / 2,
                     a.y + edge + bend, b.x, b.y + edge);
}

// "adapter up: 50.0 GB/s, 14.0 us"
std::vector<std::string> legend(const Network& network, std::set<int> classes) {
  std::vector<std::string> rows(network.link_classes().size());
  for (LinkId id = 0; id < network.link_count() && !classes.empty(); ++id) {
    const LinkInfo link = network.link(id);
    if (classes.erase(link.link_class) > 0) {
      const std::string cables = link.width > 1 ? fmt::format(" in {} cables", link.width) : "";
      rows[static_cast<std::size_t>(link.link_class)] =
          fmt::format("{}: {}{}, {}", network.link_classes()[static_cast<std::size_t>(link.link_class)],
                      to_string(link.capacity), cables, to_string(link.latency));
    }
  }
  return rows;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char any : text) {
    const char c = static_cast<unsigned char>(any) < ' ' ? ' ' : any;  // XML has no control characters
    out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : std::string(1, c);
  }
  return out;
}

// For Graphviz.
std::string quoted(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
  }
  return "\"" + out + "\"";
}

}  // namespace

std::string to_dot(const Network& network, const std::string& title) {
  check_size(network);
  const std::vector<Line> lines = lines_of(network);
  std::map<std::int64_t, std::vector<std::int64_t>> units;
  std::set<std::int64_t> used;
  for (const Line& line : lines) {
    used.insert({line.from, line.to});
  }
  for (const std::int64_t v : used) {
    units[network.unit_of(v)].push_back(v);
  }
  std::string out = fmt::format("graph {} {{\n  node [shape=box];\n", quoted(title));
  for (const auto& [unit, vertices] : units) {
    if (unit >= 0) {
      out += fmt::format("  subgraph cluster_{} {{\n    label=\"node {}\";\n", unit, unit);
    }
    for (const std::int64_t v : vertices) {
      out += fmt::format("  {}v{} [label={}];\n", unit >= 0 ? "  " : "", v, quoted(short_name(network, v)));
    }
    out += unit >= 0 ? "  }\n" : "";
  }
  for (const Line& line : lines) {
    const std::string words = network.link_classes()[static_cast<std::size_t>(line.link_class)] +
                              (line.parallel > 1 ? fmt::format(" x{}", line.parallel) : "");
    out += fmt::format("  v{} -- v{} [color=\"{}\", tooltip={}];\n", line.from, line.to, colour(line.link_class),
                       quoted(words));
  }
  return out + "}\n";
}

std::string to_svg(const Network& network, const std::string& title) {
  check_size(network);
  const std::vector<Line> lines = lines_of(network);
  const Layout layout(network, lines);
  std::set<int> classes;
  for (const Line& line : lines) {
    classes.insert(line.link_class);
  }
  const std::vector<std::string> rows = legend(network, classes);
  const double width = std::max(layout.page_width(), 520.0);
  const double height = layout.page_height() + 20 * static_cast<double>(classes.size()) + 10;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"{2}\" font-size=\"15\" font-weight=\"bold\">{3}</text>\n",
      width, height, kMargin, escaped(title));
  for (const Layout::Box& box : layout.boxes()) {
    out += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"6\" fill=\"#f5f5f2\" "
        "stroke=\"#bbb\"/>\n"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"#666\">node {}</text>\n",
        box.from.x, box.from.y, box.to.x - box.from.x, box.to.y - box.from.y, box.from.x + 8, box.to.y - 8, box.unit);
  }
  for (const Line& line : lines) {
    out += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"/>\n",
                       path(layout.at(line.from), layout.at(line.to), network.unit_of(line.from) < 0),
                       colour(line.link_class), std::min(4, line.parallel) + 0.3);
  }
  for (std::int64_t v = 0; v < network.vertex_count(); ++v) {
    if (layout.drawn(v)) {
      const Point p = layout.at(v);
      out += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" rx=\"3\" fill=\"{}\" stroke=\"#333\"/>\n"
          "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
          p.x - layout.width(v) / 2, p.y - kHeight / 2, layout.width(v), kHeight,
          v < network.devices() ? "#dcedc8" : "white", p.x, p.y + 4, escaped(short_name(network, v)));
    }
  }
  double y = layout.page_height();
  for (const int c : classes) {
    out += fmt::format("<path d=\"M {} {} h 30\" stroke=\"{}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{}\">{}</text>\n",
                       kMargin, y - 4, colour(c), kMargin + 40, y, escaped(rows[static_cast<std::size_t>(c)]));
    y += 20;
  }
  return out + "</svg>\n";
}

}  // namespace foretrain::topologies
