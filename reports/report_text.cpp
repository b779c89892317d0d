#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "plan/locate.h"
#include "reports/report.h"
#include "reports/report_tables.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

constexpr std::size_t kColumns = 96;  // of pictures, beside names
constexpr std::size_t kStagesShown = 32;
constexpr double kMostly = 0.8;
constexpr std::size_t kParetoRows = 12, kParetoColumns = 60;
constexpr std::size_t kMemoryColumns = 60;

char letter(Activity a) {
  switch (a) {
    case Activity::forward: return 'F';
    case Activity::backward: return 'B';
    case Activity::weight_gradient: return 'W';
    case Activity::both: return 'x';
    case Activity::update: return 'u';
    case Activity::other: return 'o';
  }
  return ' ';
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

// What a lane did in each column's time: a dot where it was idle for most of it, x where several things.
std::string lane_picture(const Report& r, const Lane& lane) {
  const plan::Role& role = r.estimate.graph->roles[static_cast<std::size_t>(lane.role)];
  const double total = seconds(r.pipeline.end - r.pipeline.start);
  std::vector<std::map<char, double>> shares(kColumns);
  for (const Bar& bar : lane.bars) {
    const plan::Instance& instance = *plan::instance_at(role, bar.instance);
    const char is = letter(activity(role.segments[static_cast<std::size_t>(instance.segment)]));
    const double from = seconds(bar.start - r.pipeline.start) / total * kColumns;
    const double to = seconds(bar.end - r.pipeline.start) / total * kColumns;
    for (auto c = static_cast<std::size_t>(from); c < kColumns && static_cast<double>(c) < to; ++c) {
      shares[c][is] += std::min(to, static_cast<double>(c) + 1) - std::max(from, static_cast<double>(c));
    }
  }
  std::string line;
  for (const auto& column : shares) {
    char most = '.';
    double largest = 0, all = 0;
    for (const auto& [is, share] : column) {
      all += share;
      if (share > largest) {
        largest = share;
        most = is;
      }
    }
    line += all < 0.5 ? '.' : largest < kMostly * all ? 'x' : most;
  }
  return line;
}

std::string pipeline_text(const Report& r, bool colour) {
  const std::vector<const Lane*> lanes = compute_lanes(r.pipeline);
  if (lanes.empty()) {
    return "";
  }
  std::size_t width = 0;
  for (const Lane* lane : lanes) {
    width = std::max(width, lane_name(r, *lane).size());
  }
  std::string out =
      toned("Pipeline of the step: F forward, B backward, W weight gradient, x in turn, u update, . bubble",
            Tone::strong, colour) +
      "\n";
  for (std::size_t i = 0; i < std::min(lanes.size(), kStagesShown); ++i) {
    out += fmt::format("{}  {}  {:>5}\n", padded(lane_name(r, *lanes[i]), width), lane_picture(r, *lanes[i]),
                       percent(seconds(busy(*lanes[i])) / seconds(r.pipeline.end - r.pipeline.start)));
  }
  if (lanes.size() > kStagesShown) {
    out += fmt::format("... and {} more\n", lanes.size() - kStagesShown);
  }
  const std::string end = to_string(r.pipeline.end - r.pipeline.start);
  return out + fmt::format("{}  0{:>{}}  at work\n", padded("", width), end, kColumns - 1);
}

// Planned peak (#) and what a device holds beside it (+), up to the capacity (|).
std::string memory_text(const Report& r, bool colour) {
  const plan::MemoryFit& fit = r.estimate.fit;
  if (fit.shared) {
    return "";
  }
  double top = static_cast<double>(fit.capacity.value);
  std::size_t width = 0;
  for (std::size_t i = 0; i < fit.roles.size(); ++i) {
    top = std::max(top, static_cast<double>(fit.roles[i].device_visible().value));
    width = std::max(width, r.estimate.graph->roles[i].name.size());
  }
  const auto columns = [&](Bytes b) {
    return static_cast<std::size_t>(std::lround(static_cast<double>(b.value) / top * kMemoryColumns));
  };
  std::string out =
      toned("Memory of a device: # planned, + allocator, context and communicators, | its end", Tone::strong, colour) +
      "\n";
  for (std::size_t i = 0; i < std::min(fit.roles.size(), kStagesShown); ++i) {
    const plan::Role& role = r.estimate.graph->roles[i];
    const Bytes all = fit.roles[i].device_visible();
    std::string bar(std::min(columns(role.memory.arena), columns(all)), '#');
    bar.resize(columns(all), '+');
    bar = padded(bar, std::max(columns(fit.capacity), bar.size()) + 1);
    bar[columns(fit.capacity)] = '|';
    out += fmt::format("{}  {}  {}\n", padded(role.name, width), bar, to_string(all));
  }
  return out;
}

// Where a value lies between the least and the most, in so many places.
std::size_t place(double value, double least, double most, std::size_t places) {
  const double part = most > least ? (value - least) / (most - least) : 1;
  return static_cast<std::size_t>(std::lround(part * static_cast<double>(places - 1)));
}

std::string pareto_text(const SearchFigures& s, bool colour) {
  if (s.plans.size() < 2) {
    return "";
  }
  const auto [least_memory, most_memory] = std::minmax_element(
      s.plans.begin(), s.plans.end(), [](const auto& a, const auto& b) { return a.memory_bytes < b.memory_bytes; });
  const auto [least, most] = std::minmax_element(s.plans.begin(), s.plans.end(), [](const auto& a, const auto& b) {
    return a.tokens_per_second < b.tokens_per_second;
  });
  std::vector<std::string> rows(kParetoRows, std::string(kParetoColumns, ' '));
  for (auto p = s.plans.rbegin(); p != s.plans.rend(); ++p) {  // the best one last: on top
    const std::size_t row = place(p->tokens_per_second, least->tokens_per_second, most->tokens_per_second, kParetoRows);
    const std::size_t column =
        place(p->memory_bytes, least_memory->memory_bytes, most_memory->memory_bytes, kParetoColumns);
    rows[kParetoRows - 1 - row][column] = p->is_best ? '@' : '*';
  }
  std::string out =
      toned("Throughput (up) against memory (right): @ the best plan, * the others", Tone::strong, colour) + "\n";
  for (std::size_t i = 0; i < kParetoRows; ++i) {
    const auto end = i == 0 ? most : i == kParetoRows - 1 ? least : s.plans.end();
    const std::string label = end == s.plans.end() ? "" : compact(end->tokens_per_second) + " tokens/s";
    const std::string price = end == s.plans.end() || !end->money ? "" : " | money " + compact(*end->money);
    std::string line = fmt::format("{:>16} |{}{}", label, rows[i], price);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  const std::string from = to_string(Bytes{static_cast<std::int64_t>(least_memory->memory_bytes)});
  return out + fmt::format("{:>16} +{}\n{:>16}  {}{:>{}}\n", "", std::string(kParetoColumns, '-'), "", from,
                           to_string(Bytes{static_cast<std::int64_t>(most_memory->memory_bytes)}),
                           kParetoColumns - from.size());
}

}  // namespace

std::string to_text(const Report& r, bool colour) {
  std::vector<std::string> parts{to_text(r.estimate, colour), pipeline_text(r, colour), memory_text(r, colour)};
  if (r.network) {
    parts.push_back(to_text(network_table(*r.network), colour));
  }
  if (!r.resources.empty()) {
    parts.push_back(to_text(resources_table(r.resources), colour));
  } else if (!r.no_resources.empty()) {
    parts.push_back(r.no_resources + "\n");
  }
  if (r.search) {
    parts.push_back(pareto_text(*r.search, colour));
    for (const Table& t : search_tables(*r.search)) {
      parts.push_back(to_text(t, colour));
    }
  }
  if (r.comparison) {
    parts.push_back(to_text(comparison_table(*r.comparison), colour));
  }
  std::erase(parts, "");
  return fmt::format("{}", fmt::join(parts, "\n"));
}

}  // namespace foretrain::reports
