#include "reports/scatter.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "reports/text.h"

namespace foretrain::reports {

namespace {

constexpr double kLeft = 70, kTop = 40, kWide = 560, kHigh = 420, kGap = 60, kLow = 180, kLegend = 300;
constexpr double kErrorShown = 0.6;  // the lower panel's end; dots beyond it sit on its edge
constexpr double kBand = 0.1;        // drawn around the diagonal
constexpr double kLine = 17;         // of the legend

// Distinct in print and for most colour-blind readers (Tol's "muted" and "bright", interleaved).
constexpr std::array kColours{"#332288", "#EE6677", "#117733", "#DDAA33", "#4477AA", "#AA3377", "#66CCEE",
                              "#882255", "#44AA99", "#999933", "#228833", "#BBBBBB", "#000000", "#EE7733",
                              "#AACC22", "#7744CC", "#8B4513", "#0099DD", "#FF99BB"};

struct Dot {
  double measured, predicted;
  std::size_t group;
  std::string id;
};

struct Axis {
  double low, high;  // decades
  double place(double value) const { return (std::log10(value) - low) / (high - low); }
};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char any : text) {
    const char c = static_cast<unsigned char>(any) < ' ' ? ' ' : any;  // XML has no control characters
    out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  }
  return out;
}

std::string line(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" {}/>)"
                     "\n",
                     x1, y1, x2, y2, style);
}

std::string words(double x, double y, const char* style, const std::string& text) {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" {}>{}</text>)"
                     "\n",
                     x, y, style, escaped(text));
}

std::string dot(double x, double y, const Dot& d) {
  return fmt::format(
      R"(<circle cx="{:.1f}" cy="{:.1f}" r="2.6" fill="{}" fill-opacity="0.6"><title>{}: {} forecast, {} measured, {}</title></circle>)"
      "\n",
      x, y, kColours[d.group % kColours.size()], escaped(d.id), compact(d.predicted), compact(d.measured),
      signed_percent(d.predicted / d.measured - 1));
}

constexpr const char* kGrid = R"(stroke="#ddd")";
constexpr const char* kFrame = R"(stroke="#444")";
constexpr const char* kDashed = R"(stroke="#888" stroke-dasharray="4 3")";
constexpr const char* kMiddle = R"(text-anchor="middle")";
constexpr const char* kEnd = R"(text-anchor="end")";
constexpr const char* kStart = R"(text-anchor="start")";

std::string decade(int power) {
  return compact(std::pow(10.0, power));
}

std::string upper_panel(const std::vector<Dot>& dots, const Axis& axis, const std::string& unit) {
  std::string out;
  for (int p = static_cast<int>(axis.low); p <= static_cast<int>(axis.high); ++p) {
    const double at = axis.place(std::pow(10.0, p));
    const double x = kLeft + at * kWide, y = kTop + (1 - at) * kHigh;
    out += line(x, kTop, x, kTop + kHigh, kGrid) + line(kLeft, y, kLeft + kWide, y, kGrid);
    out += words(kLeft - 6, y + 4, kEnd, decade(p));
  }
  const double shift = std::log10(1 + kBand) / (axis.high - axis.low);
  out += line(kLeft, kTop + kHigh, kLeft + kWide, kTop, kFrame);
  out += line(kLeft, kTop + (1 - shift) * kHigh, kLeft + (1 - shift) * kWide, kTop, kDashed);
  out += line(kLeft + shift * kWide, kTop + kHigh, kLeft + kWide, kTop + shift * kHigh, kDashed);
  for (const Dot& d : dots) {
    out += dot(kLeft + axis.place(d.measured) * kWide, kTop + (1 - axis.place(d.predicted)) * kHigh, d);
  }
  return out + words(kLeft, kTop - 12, kStart, fmt::format("forecast, {} (dashed: 10 % off)", unit));
}

std::string lower_panel(const std::vector<Dot>& dots, const Axis& axis, const std::string& unit) {
  const double top = kTop + kHigh + kGap, middle = top + kLow / 2;
  std::string out;
  for (int p = static_cast<int>(axis.low); p <= static_cast<int>(axis.high); ++p) {
    const double x = kLeft + axis.place(std::pow(10.0, p)) * kWide;
    out += line(x, top, x, top + kLow, kGrid) + words(x, top + kLow + 16, kMiddle, decade(p));
  }
  for (const double e : {-kErrorShown, -0.3, -kBand, 0.0, kBand, 0.3, kErrorShown}) {
    const double y = middle - e / kErrorShown * kLow / 2;
    out += line(kLeft, y, kLeft + kWide, y, e == 0 ? kFrame : std::abs(e) == kBand ? kDashed : kGrid);
    out += words(kLeft - 6, y + 4, kEnd, e == 0 ? "0" : fmt::format("{:+.0f} %", 100 * e));
  }
  for (const Dot& d : dots) {
    const double e = std::clamp(d.predicted / d.measured - 1, -kErrorShown, kErrorShown);
    out += dot(kLeft + axis.place(d.measured) * kWide, middle - e / kErrorShown * kLow / 2, d);
  }
  out += words(kLeft, top - 12, kStart, fmt::format("error, to {:.0f} %", 100 * kErrorShown));
  return out + words(kLeft + kWide / 2, top + kLow + 36, kMiddle, fmt::format("measured, {}", unit));
}

}  // namespace

std::string scatter_svg(const Validation& validation) {
  std::vector<Dot> dots;
  std::vector<std::string> legend;
  std::string unit;
  double least = INFINITY, most = 0;
  for (const ValidationPart& group : by_group(validation)) {
    std::vector<double> errors;
    for (const ValidationRow* r : group.rows) {
      const bool drawn = !r->skipped && r->kind != RowKind::verdict && r->kind != RowKind::whole_run &&
                         *r->predicted > 0 && *r->measured > 0;
      unit = drawn && unit.empty() ? r->unit : unit;
      if (!drawn || r->unit != unit) {
        continue;
      }
      dots.push_back({*r->measured, *r->predicted, legend.size(), r->id});
      errors.push_back(std::abs(r->error()));
      least = std::min({least, *r->measured, *r->predicted});
      most = std::max({most, *r->measured, *r->predicted});
    }
    if (!errors.empty()) {
      const std::size_t rows = errors.size();
      legend.push_back(fmt::format("{}: {}, {}", group.title, rows, percent(median(std::move(errors)))));
    }
  }
  Axis axis{0, 1};
  if (!dots.empty()) {
    axis = {std::floor(std::log10(least)), std::ceil(std::log10(most))};
    axis.high = std::max(axis.high, axis.low + 1);
  }
  const double width = kLeft + kWide + kLegend;
  const double height =
      std::max(kTop + kHigh + kGap + kLow + 50, kTop + kLine * static_cast<double>(legend.size() + 2));
  std::string out = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" font-family="sans-serif" font-size="12">)"
      "\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      width, height);
  out += upper_panel(dots, axis, unit) + lower_panel(dots, axis, unit);
  const double x = kLeft + kWide + 20;
  out += words(x, kTop, kStart, "group: rows, median |error|");
  for (std::size_t i = 0; i < legend.size(); ++i) {
    const double y = kTop + kLine * static_cast<double>(i + 1);
    out += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}"/>)"
                       "\n",
                       x + 4, y - 4, kColours[i % kColours.size()]);
    out += words(x + 14, y, kStart, legend[i]);
  }
  return out + "</svg>\n";
}

}  // namespace foretrain::reports
