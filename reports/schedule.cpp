#include "reports/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "plan/schedule_times.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using plan::Action;
using plan::Schedule;

constexpr std::size_t kPictureColumns = 120;  // beside the rank's name
constexpr std::size_t kTickUnits = 5;

bool one_stage_each(const Schedule& schedule) {
  return std::all_of(schedule.begin(), schedule.end(), [](const std::vector<Action>& row) {
    return std::all_of(row.begin(), row.end(), [&row](const Action& a) { return a.stage == row.front().stage; });
  });
}

// A cell per unit of time.
struct Picture {
  const Schedule& schedule;
  plan::Durations durations;
  plan::ScheduleTimes times;
  bool with_stage;
  std::size_t width = 2;  // of a cell, the blank behind it included

  Picture(const Schedule& s, int ways)
      : schedule(s), times(plan::times(s, plan::Durations{}, ways)), with_stage(!one_stage_each(s)) {
    for (const std::vector<Action>& row : schedule) {
      for (const Action& a : row) {
        width = std::max(width, label(a).size() + 1);
      }
    }
  }

  std::string label(const Action& a) const {
    const std::string text = plan::to_text(a);
    return with_stage ? text : text.substr(text.find_first_not_of("0123456789"));
  }

  std::string row(std::size_t rank) const {
    std::string line;
    const auto fill_to = [&](std::int64_t unit) {
      while (line.size() < static_cast<std::size_t>(unit) * width) {
        line += '.' + std::string(width - 1, ' ');
      }
    };
    for (std::size_t i = 0; i < schedule[rank].size(); ++i) {
      const Action& a = schedule[rank][i];
      const std::int64_t units = durations.of(a.kind);
      fill_to(times.start[rank][i]);
      std::string cell = label(a);
      cell.resize(static_cast<std::size_t>(units) * width - 1, units > 1 ? '-' : ' ');
      line += cell + ' ';
    }
    fill_to(times.makespan);
    return line;
  }

  std::string ruler() const {
    std::string line;
    for (std::size_t unit = 0; unit < static_cast<std::size_t>(times.makespan); unit += kTickUnits) {
      line.resize(unit * width, ' ');
      line += std::to_string(unit);
    }
    return line;
  }
};

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

std::string summary(const Schedule& schedule, const Picture& picture) {
  std::string text;
  for (std::size_t rank = 0; rank < schedule.size(); ++rank) {
    const plan::CopyAssignment copies = plan::assign_copies(schedule[rank]);
    std::int64_t busy = 0;
    for (const Action& a : schedule[rank]) {
      busy += picture.durations.of(a.kind);
    }
    const std::int64_t idle = picture.times.makespan - busy;
    text += fmt::format(
        "# rank {}  idle {} of {} units ({}), {} of them between its first and last action; holds {} forwards\n", rank,
        idle, picture.times.makespan, percent(static_cast<double>(idle) / static_cast<double>(picture.times.makespan)),
        picture.times.waits[rank], copies.holds);
  }
  return text;
}

}  // namespace

std::string to_text(const std::string& name, const Schedule& schedule, int ways) {
  const Picture picture(schedule, ways);
  std::int32_t microbatches = 0;
  for (const std::vector<Action>& row : schedule) {
    for (const Action& a : row) {
      microbatches = std::max(microbatches, a.microbatch + 1);
    }
  }
  std::string text =
      fmt::format("# schedule {}: {} pipeline rank{}, {} microbatch{}; F, I, W last 1, B 2\n", name, schedule.size(),
                  schedule.size() == 1 ? "" : "s", microbatches, microbatches == 1 ? "" : "es");
  const std::size_t units = std::max<std::size_t>(1, kPictureColumns / picture.width / kTickUnits) * kTickUnits;
  const std::size_t columns = units * picture.width;
  const std::string ruler = picture.ruler();
  std::vector<std::string> rows;
  for (std::size_t rank = 0; rank < schedule.size(); ++rank) {
    rows.push_back(picture.row(rank));
  }
  const std::size_t names = std::to_string(schedule.size() - 1).size();
  for (std::size_t at = 0; at < rows.front().size(); at += columns) {
    text +=
        trimmed(fmt::format("# {:<{}}  {}", "unit", names + 5, ruler.size() > at ? ruler.substr(at, columns) : "")) +
        '\n';
    for (std::size_t rank = 0; rank < rows.size(); ++rank) {
      text += trimmed(fmt::format("# rank {:<{}}  {}", rank, names, rows[rank].substr(at, columns))) + '\n';
    }
  }
  return text + summary(schedule, picture) + plan::to_text(schedule);
}

}  // namespace foretrain::reports
