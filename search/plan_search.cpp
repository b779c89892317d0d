#include "search/plan_search.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "search/judge.h"

namespace foretrain::search {

namespace {

constexpr std::size_t kBatch = 64;    // plans that are judged before the best is looked at again
constexpr std::size_t kTogether = 4;  // plans that are simulated before that
constexpr std::size_t kPiece = 64;    // shapes that one thread prices in a row

struct Candidate {
  std::size_t shape = 0;
  Tail tail;
};

bool is_faster(const Found& a, const Found& b) {
  return a.step_time != b.step_time ? a.step_time < b.step_time : a.memory < b.memory;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// The tail that is most often the fastest, to begin with.
bool is_usual(const Tail& t) {
  return t.zero <= 1 && t.shard == 0 && t.rank_order == kRankOrder;
}

class Search {
 public:
  Search(const plan::OpenJob& open, const SearchOptions& options)
      : open_(open),
        options_(options),
        bounds_(open),
        capacity_(open.job.cluster.device.memory),
        begin_(std::chrono::steady_clock::now()) {}

  SearchResult run() {
    result_.space = space_of(open_, options_.axes);
    shapes_ = shapes_of(result_.space, open_, result_.rejected);
    of_shape_.resize(shapes_.size());
    std::vector<std::size_t> all(shapes_.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i] = i;
    }
    std::vector<std::size_t> order = price(all);
    dive(order);
    order = price(order);  // with the best plan's time as the limit
    bool is_priced = limit() != kNever;
    std::size_t next = 0;
    std::vector<Candidate> waiting;
    while (!is_over()) {
      if (!is_priced && limit() != kNever) {
        order.erase(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(next));
        order = price(order);
        is_priced = true;
        next = 0;
      }
      while (waiting.size() < kBatch && next < order.size() && least(order[next]) < limit()) {
        take_tails(order[next++], waiting);
      }
      if (waiting.empty()) {
        break;
      }
      const std::size_t count = std::min(kBatch, waiting.size());
      judge_all({waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count)});
      waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
      report(next, order.size());
    }
    simulate_waiting();
    result_.interrupted = is_over();
    Time left = fitting_.empty() ? kNever : fitting_.front().alone;
    for (const Candidate& c : waiting) {
      left = std::min(left, least(c.shape));
    }
    if (next < order.size()) {
      left = std::min(left, least(order[next]));
      if (least(order[next]) >= limit()) {
        for (std::size_t i = next; i < order.size(); ++i) {
          reject(order[i], kSlower);
        }
      }
    }
    finish(left);
    return std::move(result_);
  }

  std::optional<Found> smallest() {
    result_.space = space_of(open_, options_.axes);
    shapes_ = shapes_of(result_.space, open_, result_.rejected);
    of_shape_.resize(shapes_.size());
    std::vector<std::string> why(shapes_.size());
    std::vector<std::pair<Bytes, Candidate>> order;
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      if (bounds_.bound(shapes_[i], kNever, why[i])) {
        for (const Tail& t : tails_of(result_.space, shapes_[i], result_.rejected)) {
          order.push_back({bounds_.memory(shapes_[i], t), {i, t}});
        }
      }
    }
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::optional<Found> best;
    for (std::size_t first = 0; first < order.size(); first += kBatch) {
      if (is_over() || (best && (best->memory <= order[first].first || best->memory <= capacity_))) {
        break;
      }
      const std::size_t count = std::min(kBatch, order.size() - first);
      std::vector<Verdict> verdicts(count);
      in_parallel(count, [&](std::size_t i) {
        const Candidate& c = order[first + i].second;
        verdicts[i] = judge_memory(open_, shapes_[c.shape], c.tail);
      });
      for (Verdict& v : verdicts) {
        if (v.found.memory > Bytes{} && (!best || v.found.memory < best->memory)) {
          best = std::move(v.found);
        }
      }
    }
    return best;
  }

 private:
  bool is_over() const {
    return (options_.interrupted != nullptr && *options_.interrupted) ||
           (options_.most_seconds > 0 && seconds() >= options_.most_seconds);
  }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  Time best_time() const { return result_.best.empty() ? kNever : result_.best.front().step_time; }
  // Plans that take as long are of no interest.
  Time limit() const {
    const Time best = best_time();
    return best == kNever ? best
                          : Time{static_cast<std::int64_t>(static_cast<double>(best.value) * (1 - options_.within))};
  }
  Time least(std::size_t shape) const { return of_shape_[shape].step_time; }
  Cell& cell(std::size_t shape) { return result_.cells[{shapes_[shape].tp, shapes_[shape].pp}]; }

  // Bounds of shapes, on all cores; those that are left, fastest first.
  std::vector<std::size_t> price(const std::vector<std::size_t>& shapes) {
    std::vector<std::string> why(shapes.size());
    in_parallel((shapes.size() + kPiece - 1) / kPiece, [&](std::size_t piece) {
      for (std::size_t i = piece * kPiece; i < std::min(shapes.size(), (piece + 1) * kPiece); ++i) {
        if (least(shapes[i]) < limit() && !is_over()) {
          if (const auto b = bounds_.bound(shapes_[shapes[i]], limit(), why[i])) {
            of_shape_[shapes[i]] = *b;
          }
        }
      }
    });
    std::vector<std::size_t> left;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      if (!why[i].empty()) {
        reject(shapes[i], first_line(why[i]));
      } else {
        Cell& c = cell(shapes[i]);
        if (of_shape_[shapes[i]].memory > capacity_) {
          reject(shapes[i], kTooLargeByBound);
        } else {
          c.at_least = std::min(c.at_least.value_or(kNever), least(shapes[i]));
          left.push_back(shapes[i]);
        }
      }
    }
    std::stable_sort(left.begin(), left.end(),
                     [&](std::size_t a, std::size_t b) { return of_shape_[a].guess < of_shape_[b].guess; });
    return left;
  }

  // One plan of each of the first shapes, those with room to spare; the fastest of them is simulated.
  void dive(const std::vector<std::size_t>& order) {
    constexpr double kRoom = 0.9;  // bounds on memory are as far below it
    std::vector<Candidate> usual;
    for (const std::size_t shape : order) {
      Rejected none;
      for (const Tail& t : tails_of(result_.space, shapes_[shape], none)) {
        if (is_usual(t) && static_cast<double>(bounds_.memory(shapes_[shape], t).value) <
                               kRoom * static_cast<double>(capacity_.value)) {
          usual.push_back({shape, t});
          break;
        }
      }
      if (usual.size() == kBatch || is_over()) {
        break;
      }
    }
    diving_ = true;
    judge_all(usual);
    diving_ = false;
    if (!fitting_.empty() && !is_over()) {
      dived_ = Candidate{fitting_.front().at, fitting_.front().tail};
      simulate_first(1);
    }
    fitting_.clear();
  }

  void take_tails(std::size_t shape, std::vector<Candidate>& waiting) {
    for (Tail& t : tails_of(result_.space, shapes_[shape], result_.rejected)) {
      if (bounds_.memory(shapes_[shape], t) > capacity_) {
        ++result_.rejected[kTooLargeByBound];
      } else if (!is_simulated(shape, t)) {
        waiting.push_back({shape, std::move(t)});
      }
    }
  }

  // In the dive.
  bool is_simulated(std::size_t shape, const Tail& tail) const {
    return dived_ && dived_->shape == shape &&
           strategy_of(open_, shapes_[shape], dived_->tail) == strategy_of(open_, shapes_[shape], tail);
  }

  void reject(std::size_t shape, const std::string& why) {
    for (const Tail& t : tails_of(result_.space, shapes_[shape], result_.rejected)) {
      result_.rejected[why] += is_simulated(shape, t) ? 0 : 1;
    }
  }

  // Those of the dive but for the one that is simulated are judged, and counted, once more with all others.
  void judge_all(const std::vector<Candidate>& candidates) {
    std::vector<Verdict> verdicts(candidates.size());
    const Time limit = this->limit();
    in_parallel(candidates.size(), [&](std::size_t i) {
      if (!is_over()) {
        verdicts[i] = judge(open_, bounds_, shapes_[candidates[i].shape], candidates[i].tail, limit);
      }
    });
    for (std::size_t i = 0; i < verdicts.size(); ++i) {
      Verdict& v = verdicts[i];
      result_.built += v.built ? 1 : 0;
      if (!v.rejected.empty()) {
        if (!diving_) {
          ++result_.rejected[v.rejected];
        }
      } else if (v.built) {
        v.found.at = candidates[i].shape;
        fitting_.push_back(std::move(v.found));
      }
    }
    std::stable_sort(fitting_.begin(), fitting_.end(),
                     [](const Found& a, const Found& b) { return a.alone < b.alone; });
  }

  // Those that can still be the best, a few at a time.
  void simulate_waiting() {
    while (!fitting_.empty() && fitting_.front().alone < limit() && !is_over()) {
      simulate_first(std::min(kTogether, fitting_.size()));
    }
  }

  void simulate_first(std::size_t count) {
    in_parallel(count, [&](std::size_t i) { simulate(open_, fitting_[i]); });
    for (std::size_t i = 0; i < count; ++i) {
      ++result_.simulated;
      simulated_.push_back(std::move(fitting_[i]));
      const Found& f = simulated_.back();
      Cell& c = result_.cells[{f.shape.tp, f.shape.pp}];
      c.step_time = std::min(c.step_time.value_or(kNever), f.step_time);
      if (result_.best.empty() || is_faster(f, result_.best.front())) {
        result_.best = {f};
      }
    }
    fitting_.erase(fitting_.begin(), fitting_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  void report(std::size_t next, std::size_t all) {
    if (options_.on_progress) {
      options_.on_progress({static_cast<double>(next) / static_cast<double>(all), judged(), result_.simulated,
                            result_.best.empty() ? nullptr : &result_.best.front()});
    }
  }

  std::int64_t judged() const {
    std::int64_t sum = 0;
    for (const auto& [why, count] : result_.rejected) {
      sum += count;
    }
    return sum;
  }

  // `left`: no plan that was not judged takes less.
  void finish(Time left) {
    result_.rejected[kSlowerAlone] += std::ssize(fitting_);
    result_.rejected[kSimulatedSlower] += std::ssize(simulated_);
    result_.judged = judged();
    result_.rejected[kSimulatedSlower] -= result_.best.empty() ? 0 : 1;
    std::erase_if(result_.rejected, [](const auto& r) { return r.second <= 0; });
    std::stable_sort(simulated_.begin(), simulated_.end(), is_faster);
    result_.best.clear();
    for (const Found& f : simulated_) {
      if (result_.pareto.empty() || f.memory < result_.pareto.back().memory) {
        result_.pareto.push_back(f);
      }
      const bool is_new = std::none_of(result_.best.begin(), result_.best.end(), [&](const Found& b) {
        return (b.at == f.at && strategy_of(open_, b.shape, b.tail) == strategy_of(open_, f.shape, f.tail)) ||
               (b.step_time == f.step_time && b.memory == f.memory);
      });
      if (is_new && result_.best.size() < options_.kept) {
        result_.best.push_back(f);
      }
    }
    result_.best_possible = std::min(left, best_time());
    result_.proved = left >= limit() && !(result_.interrupted && result_.best.empty());
    if (result_.proved) {
      result_.interrupted = false;
      result_.best_possible = options_.within > 0 ? std::min(best_time(), limit()) : best_time();
    }
    result_.wall_seconds = seconds();
  }

  const plan::OpenJob& open_;
  const SearchOptions& options_;
  ShapeBounds bounds_;
  const Bytes capacity_;
  const std::chrono::steady_clock::time_point begin_;
  SearchResult result_;
  std::vector<Shape> shapes_;
  std::vector<Bound> of_shape_;
  std::vector<Found> fitting_;  // not simulated yet, fastest first
  std::vector<Found> simulated_;
  std::optional<Candidate> dived_;  // of these the first
  bool diving_ = false;
};

}  // namespace

SearchResult search(const plan::OpenJob& open, const SearchOptions& options) {
  return Search(open, options).run();
}

std::optional<Found> smallest(const plan::OpenJob& open, const SearchOptions& options) {
  return Search(open, options).smallest();
}

}  // namespace foretrain::search
