#include "exec/calibrate_session.h"

#include <algorithm>

#include "base/error.h"
#include "exec/calibrate.h"
#include "topologies/this_machine.h"

namespace foretrain::exec {

namespace {

class Collector : public plan::SpanSink {
 public:
  explicit Collector(std::size_t ranks) : spans(ranks) {}
  void span(const plan::Span& s) override {
    if (s.op.instance == ProbeProgram::kInstance) {
      spans[static_cast<std::size_t>(s.rank)].push_back(s);
    }
  }
  std::vector<std::vector<plan::Span>> spans;  // a rank's are written by its own thread
};

double median(std::vector<double> values) {
  CHECK(!values.empty(), "no measured values");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

void ProbeSession::run(int times, const std::atomic<bool>* interrupted) {
  const ProbeData data;
  Executor executor(program_.graph(), data, 1, processes_, gpu_);
  Collector collector(static_cast<std::size_t>(program_.graph().mesh.ranks()));
  RunOptions options;
  options.steps = 1 + times;
  options.first_traced_step = 1;
  options.interrupted = interrupted;
  options.sink = &collector;
  double stolen_before = topologies::stolen_seconds();
  options.on_step = [&](int step, double, double seconds) {
    const double stolen = topologies::stolen_seconds();
    if (step >= options.first_traced_step) {
      disturbed_.push_back(stolen - stolen_before > topologies::kMostStolen * seconds);
    }
    stolen_before = stolen;
  };
  executor.run(options);
  if (interrupted != nullptr && interrupted->load()) {
    throw InterruptedCalibration{};
  }
  const std::size_t first = runs_.size();
  for (const std::vector<plan::Span>& spans : collector.spans) {
    for (const plan::Span& s : spans) {
      const auto run = first + static_cast<std::size_t>(s.step) - 1;
      runs_.resize(std::max(runs_.size(), run + 1), Run(collector.spans.size()));
      std::vector<Interval>& of_rank = runs_[run][static_cast<std::size_t>(s.rank)];
      const auto position = static_cast<std::size_t>(s.op.position);
      of_rank.resize(std::max(of_rank.size(), position + 1));
      of_rank[position] = {seconds(s.start), seconds(s.end)};
    }
  }
}

double ProbeSession::op_seconds(int position) const {
  return op_seconds(std::vector{position});
}

double ProbeSession::op_seconds(const std::vector<int>& positions) const {
  std::vector<double> values;
  const plan::Mesh& mesh = program_.graph().mesh;
  const int groups = mesh.size(plan::Axis::tp);
  for (const Run& run : runs_) {
    for (const int position : positions) {
      std::vector<Interval> of_groups(static_cast<std::size_t>(groups));
      for (std::size_t r = 0; r < run.size(); ++r) {
        if (static_cast<std::size_t>(position) < run[r].size()) {
          const Interval& op = run[r][static_cast<std::size_t>(position)];
          const auto coordinates = mesh.coordinates(static_cast<plan::Rank>(r));
          Interval& whole = of_groups[static_cast<std::size_t>(coordinates[static_cast<std::size_t>(plan::Axis::tp)])];
          whole.start = std::max(whole.start, op.start);
          whole.end = std::max(whole.end, op.end);
        }
      }
      for (const Interval& whole : of_groups) {
        values.push_back(whole.end - whole.start);
      }
    }
  }
  return median(std::move(values));
}

double ProbeSession::slowdown(const std::vector<Stretch>& together, const Stretch& alone) const {
  const auto start = [](const std::vector<Interval>& rank, const Stretch& s) {
    return rank.at(static_cast<std::size_t>(s.first)).start;
  };
  const auto end = [](const std::vector<Interval>& rank, const Stretch& s) {
    return rank.at(static_cast<std::size_t>(s.last)).end;
  };
  const bool all_disturbed = std::find(disturbed_.begin(), disturbed_.end(), false) == disturbed_.end();
  std::vector<double> ratios;
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    if (disturbed_[i] && !all_disturbed) {
      continue;
    }
    const Run& run = runs_[i];
    double earliest = start(run.front(), together.front()), latest = 0;
    for (std::size_t r = 0; r < run.size(); ++r) {
      earliest = std::min(earliest, start(run[r], together[r]));
      latest = std::max(latest, end(run[r], together[r]));
    }
    ratios.push_back((latest - earliest) / (end(run.front(), alone) - start(run.front(), alone)));
  }
  return std::max(1.0, median(std::move(ratios)));
}

double ProbeSession::gap_seconds(double at_least) const {
  std::vector<double> values;
  for (const Run& run : runs_) {
    for (const std::vector<Interval>& rank : run) {
      for (std::size_t i = 1; i < rank.size(); ++i) {
        if (rank[i - 1].end - rank[i - 1].start >= at_least) {
          values.push_back(rank[i].start - rank[i - 1].end);
        }
      }
    }
  }
  return values.empty() ? 0 : median(std::move(values));
}

double ProbeSession::spacing_seconds(int first, int last) const {
  std::vector<double> values;
  for (const Run& run : runs_) {
    const std::vector<Interval>& rank = run.front();
    values.push_back((rank.at(static_cast<std::size_t>(last)).start - rank.at(static_cast<std::size_t>(first)).start) /
                     (last - first));
  }
  return median(std::move(values));
}

double ProbeSession::slowdown_beside(const std::vector<int>& ops, const std::vector<int>& others, int alone) const {
  std::vector<double> values;
  for (const Run& run : runs_) {
    const std::vector<Interval>& rank = run.front();
    const auto at = [&](int position) { return rank.at(static_cast<std::size_t>(position)); };
    for (const int position : ops) {
      const Interval op = at(position);
      if (at(others.front()).start <= op.start && op.end <= at(others.back()).end) {
        values.push_back(op.end - op.start);
      }
    }
  }
  return values.empty() ? 0 : std::max(1.0, median(std::move(values)) / op_seconds(alone));
}

}  // namespace foretrain::exec
