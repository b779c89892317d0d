#include "reports/validation_runs.h"

#include <fmt/format.h>

#include <algorithm>

#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

std::string runs_text(const ValidationRows& rows, bool colour) {
  Table t;
  t.title = "Whole runs, forecast from what other sites counted";
  t.columns = {{"run"},
               {"GPU"},
               {"GPUs", Align::right},
               {"published", Align::right},
               {"forecast", Align::right},
               {"5 %", Align::right},
               {"95 %", Align::right},
               {""}};
  std::size_t inside = 0;
  for (const ValidationRow* r : rows) {
    if (r->skipped) {
      continue;
    }
    const auto text = [&](double v) { return r->what == "goodput" ? percent(v) : fmt::format("{:.0f}", v); };
    const bool is_inside = *r->measured <= *r->high && (r->at_least || *r->measured >= *r->low);
    inside += is_inside ? 1 : 0;
    t.rows.push_back({r->id,
                      r->system,
                      count(r->ranks),
                      (r->at_least ? "> " : "") + text(*r->measured),
                      {text(*r->predicted), Tone::strong},
                      text(*r->low),
                      text(*r->high),
                      is_inside ? Cell("within", Tone::good) : Cell("outside", Tone::bad)});
  }
  return t.rows.empty() ? ""
                        : fmt::format("{}{} of {} figures within the forecast's 5 % to 95 %\n\n", to_text(t, colour),
                                      inside, t.rows.size());
}

}  // namespace foretrain::reports
