#include "search/plan_search.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "plan/build.h"
#include "sim/simulator.h"

namespace foretrain::search {

namespace {

constexpr std::size_t kBatch = 32;  // plans that are judged before the best is looked at again
constexpr const char* kSlower = "slower than the best plan, by what it takes at least";
constexpr const char* kSlowerAlone = "slower than the best plan, without shared links";
constexpr const char* kSimulatedSlower = "slower than the best plan";
constexpr const char* kTooLarge = "does not fit into a device's memory";
constexpr const char* kTooLargeByBound = "does not fit into a device's memory, by what it holds at least";

struct Candidate {
  std::size_t shape = 0;
  Tail tail;
};

// What became of a plan.
struct Verdict {
  std::string rejected;  // why; "": it fits, and was simulated
  bool simulated = false, built = false;
  Found found;
};

bool is_faster(const Found& a, const Found& b) {
  return a.step_time != b.step_time ? a.step_time < b.step_time : a.memory < b.memory;
}

plan::Breakdown mean_over_ranks(const plan::PlanGraph& graph, const std::vector<plan::Breakdown>& by_role) {
  std::vector<plan::RankBreakdown> ranks;
  for (std::size_t r = 0; r < by_role.size(); ++r) {
    const plan::RankSet& set = graph.roles[r].ranks;
    ranks.push_back({plan::first_rank(graph.mesh, set), static_cast<std::int32_t>(plan::count(graph.mesh, set)),
                     {by_role[r]}});
  }
  return plan::mean_breakdown(ranks, 0);
}

// `limit`: plans that take as long are no better.
Verdict judge(const plan::OpenJob& open, const Shape& shape, const Tail& tail, Time limit) {
  Verdict v;
  v.found.shape = shape;
  v.found.tail = tail;
  v.found.strategy = strategy_of(open, shape, tail);
  try {
    const plan::Job job = plan::with_strategy(open.job, v.found.strategy);
    const plan::PlanGraph graph = plan::build(job);
    v.built = true;
    sim::Options options;
    const bool has_links = !job.cluster.this_machine;
    if (has_links) {
      options.network_model = "alpha_beta";
      if (sim::simulate(graph, job.cluster, options).step_time >= limit) {
        v.rejected = kSlowerAlone;
        return v;
      }
      options.network_model = "auto";
    }
    const plan::MemoryFit fit = plan::memory_fit(job, graph);
    v.found.memory = fit.demand;
    if (!fit.fits()) {
      v.rejected = kTooLarge;
      return v;
    }
    const sim::Simulation s = sim::simulate(graph, job.cluster, options);
    v.simulated = true;
    v.found.step_time = s.step_time;
    v.found.breakdown = mean_over_ranks(graph, s.breakdown);
  } catch (const InputError& e) {
    const std::string what = e.what();
    v.rejected = what.substr(0, what.find('\n'));
  }
  return v;
}

class Search {
 public:
  Search(const plan::OpenJob& open, const SearchOptions& options)
      : open_(open), options_(options), bounds_(open), capacity_(open.job.cluster.device.memory) {}

  SearchResult run() {
    const auto begin = std::chrono::steady_clock::now();
    result_.space = space_of(open_, options_.axes);
    shapes_ = shapes_of(result_.space, open_, result_.rejected);
    price();
    const std::size_t all = order_.size();
    std::size_t next = 0;
    std::vector<Candidate> waiting;
    while (!is_interrupted()) {
      while (waiting.size() < kBatch && next < all && shape_time(order_[next]) < limit()) {
        take_tails(order_[next++], waiting);
      }
      if (waiting.empty()) {
        break;
      }
      batch(waiting);
      if (options_.on_progress) {
        options_.on_progress({static_cast<double>(next) / static_cast<double>(all), judged(next), result_.simulated,
                              result_.best.empty() ? nullptr : &result_.best.front()});
      }
    }
    for (std::size_t i = next; i < all && !is_interrupted(); ++i) {
      reject(order_[i], kSlower);
    }
    result_.proved = next == all || shape_time(order_[next]) >= limit();
    result_.proved = result_.proved && waiting.empty();
    const Time left = next < all ? shape_time(order_[next]) : limit();
    result_.best_possible = result_.proved && !result_.best.empty() ? result_.best.front().step_time
                                                                    : std::min(waiting.empty() ? left : first_waiting_, left);
    for (const auto& [why, count] : result_.rejected) {
      result_.judged += count;
    }
    result_.judged += static_cast<std::int64_t>(fitting_.size());
    finish_lists();
    result_.wall_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return std::move(result_);
  }

 private:
  bool is_interrupted() const { return options_.interrupted != nullptr && *options_.interrupted; }
  Time limit() const { return result_.best.empty() ? Time{INT64_MAX} : result_.best.front().step_time; }
  Time shape_time(std::size_t shape) const { return of_shape_[shape].step_time; }
  std::int64_t judged(std::size_t) const {
    std::int64_t sum = static_cast<std::int64_t>(fitting_.size());
    for (const auto& [why, count] : result_.rejected) {
      sum += count;
    }
    return sum;
  }

  // Bounds of all shapes, on all cores.
  void price() {
    of_shape_.resize(shapes_.size());
    std::vector<std::string> why(shapes_.size());
    constexpr std::size_t kPiece = 64;
    in_parallel((shapes_.size() + kPiece - 1) / kPiece, [&](std::size_t piece) {
      for (std::size_t i = piece * kPiece; i < std::min(shapes_.size(), (piece + 1) * kPiece); ++i) {
        if (const auto b = bounds_.bound(shapes_[i], why[i])) {
          of_shape_[i] = *b;
        }
      }
    });
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      if (!why[i].empty()) {
        reject(i, why[i].substr(0, why[i].find('\n')));
      } else if (of_shape_[i].memory > capacity_) {
        miss(i);
        reject(i, kTooLargeByBound);
      } else {
        order_.push_back(i);
      }
    }
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t a, std::size_t b) { return shape_time(a) < shape_time(b); });
  }

  // The shape that holds least, where none fits.
  void miss(std::size_t shape) {
    if (!nearest_ || of_shape_[shape].memory < of_shape_[*nearest_].memory) {
      nearest_ = shape;
    }
  }

  void reject(std::size_t shape, const std::string& why) {
    Rejected of_tails;
    const std::vector<Tail> tails = tails_of(result_.space, shapes_[shape], of_tails);
    for (const auto& [reason, count] : of_tails) {
      result_.rejected[reason] += count;
    }
    result_.rejected[why] += std::ssize(tails);
  }

  void take_tails(std::size_t shape, std::vector<Candidate>& waiting) {
    for (const Tail& tail : tails_of(result_.space, shapes_[shape], result_.rejected)) {
      if (bounds_.memory(shapes_[shape], tail) > capacity_) {
        ++result_.rejected[kTooLargeByBound];
      } else {
        waiting.push_back({shape, tail});
      }
    }
    if (!waiting.empty()) {
      first_waiting_ = shape_time(waiting.front().shape);
    }
  }

  void batch(std::vector<Candidate>& waiting) {
    const std::size_t count = std::min(kBatch, waiting.size());
    std::vector<Verdict> verdicts(count);
    const Time limit = this->limit();
    in_parallel(count, [&](std::size_t i) {
      if (shape_time(waiting[i].shape) >= limit) {
        verdicts[i].rejected = kSlower;
      } else if (!is_interrupted()) {
        verdicts[i] = judge(open_, shapes_[waiting[i].shape], waiting[i].tail, limit);
      }
    });
    if (is_interrupted()) {
      return;
    }
    for (Verdict& v : verdicts) {
      result_.simulated += v.simulated ? 1 : 0;
      if (!v.rejected.empty()) {
        ++result_.rejected[v.rejected];
        if (v.rejected == kTooLarge && (too_large_.empty() || v.found.memory < too_large_.front().memory)) {
          too_large_ = {std::move(v.found)};
        }
        continue;
      }
      fitting_.push_back(v.found);
      if (result_.best.empty() || is_faster(v.found, result_.best.front())) {
        result_.best = {std::move(v.found)};
      }
    }
    waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
    if (!waiting.empty()) {
      first_waiting_ = shape_time(waiting.front().shape);
    }
  }

  void finish_lists() {
    std::stable_sort(fitting_.begin(), fitting_.end(), is_faster);
    for (const Found& f : fitting_) {
      if (result_.pareto.empty() || f.memory < result_.pareto.back().memory) {
        result_.pareto.push_back(f);
      }
    }
    result_.best.assign(fitting_.begin(),
                        fitting_.begin() + static_cast<std::ptrdiff_t>(std::min(options_.kept, fitting_.size())));
    if (!fitting_.empty()) {
      result_.rejected[kSimulatedSlower] += std::ssize(fitting_) - 1;
    } else if (!too_large_.empty()) {
      result_.nearest_miss = too_large_;
    }
  }

  const plan::OpenJob& open_;
  const SearchOptions& options_;
  ShapeBounds bounds_;
  const Bytes capacity_;
  SearchResult result_;
  std::vector<Shape> shapes_;
  std::vector<Bound> of_shape_;
  std::vector<std::size_t> order_;  // shapes, by bound
  std::optional<std::size_t> nearest_;
  Time first_waiting_;
  std::vector<Found> fitting_, too_large_;
};

}  // namespace

SearchResult search(const plan::OpenJob& open, const SearchOptions& options) {
  return Search(open, options).run();
}

}  // namespace foretrain::search
