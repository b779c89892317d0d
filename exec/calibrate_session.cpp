#include "exec/calibrate_session.h"

#include <algorithm>

#include "base/error.h"
#include "exec/calibrate.h"

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
  std::vector<std::vector<plan::Span>> spans;  // each rank's are written by its own thread
};

}  // namespace

ProbeSession::ProbeSession(const ProbeProgram& program, int warm_up, const std::atomic<bool>* interrupted)
    : program_(program), warm_up_(warm_up), interrupted_(interrupted) {}

void ProbeSession::run_round() {
  const ProbeData data;
  Executor executor(program_.graph(), data, 1);
  Collector collector(static_cast<std::size_t>(program_.graph().mesh.ranks()));
  RunOptions options;
  options.steps = warm_up_ + 1;
  options.first_traced_step = warm_up_;
  options.interrupted = interrupted_;
  options.sink = &collector;
  executor.run(options);
  if (interrupted_ != nullptr && interrupted_->load()) {
    throw InterruptedCalibration{};
  }
  Round round;
  for (const std::vector<plan::Span>& spans : collector.spans) {
    std::vector<Interval> intervals(spans.size());
    for (const plan::Span& s : spans) {
      intervals.at(static_cast<std::size_t>(s.op.position)) = {seconds(s.start), seconds(s.end)};
    }
    round.push_back(std::move(intervals));
  }
  rounds_.push_back(std::move(round));
}

double ProbeSession::of_op(int position) const {
  const auto i = static_cast<std::size_t>(position);
  std::vector<double> values;
  for (const Round& round : rounds_) {
    double start = 0, end = 0;
    for (const std::vector<Interval>& rank : round) {
      start = std::max(start, rank.at(i).start);
      end = std::max(end, rank.at(i).end);
    }
    values.push_back(end - start);
  }
  return lower_quartile(std::move(values));
}

double ProbeSession::of_run(int first, int last) const {
  std::vector<double> values;
  for (const Round& round : rounds_) {
    double sum = 0;
    for (const std::vector<Interval>& rank : round) {
      sum += rank.at(static_cast<std::size_t>(last)).end - rank.at(static_cast<std::size_t>(first)).start;
    }
    values.push_back(sum / static_cast<double>(round.size()));
  }
  return lower_quartile(std::move(values));
}

std::vector<double> ProbeSession::gaps(int first, int last) const {
  std::vector<double> values;
  for (const Round& round : rounds_) {
    for (const std::vector<Interval>& rank : round) {
      for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
        values.push_back(rank.at(i + 1).start - rank.at(i).end);
      }
    }
  }
  return values;
}

double lower_quartile(std::vector<double> values) {
  CHECK(!values.empty(), "no values");
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 4);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace foretrain::exec
