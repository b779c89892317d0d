#include "search/plan_search.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "search/workers.h"

namespace foretrain::search {

namespace {

// Of each process:
constexpr std::size_t kBatch = 64;    // plans that are judged before the best is looked at again
constexpr std::size_t kDivers = 8;    // the same of the first plans
constexpr std::size_t kTogether = 8;  // plans that are simulated before that
constexpr std::size_t kFirst = 2;     // the same of the first

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
      : open_(open), options_(options), workers_(open, options) {}

  // Of plans that demand no more than `capacity`. What another call found out about plans is not found out again.
  SearchResult run(Bytes capacity) {
    begin(capacity);
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
      while (waiting.size() < each(kBatch) && next < order.size() && least(order[next]) < limit()) {
        take_tails(order[next++], waiting);
      }
      if (waiting.empty()) {
        break;
      }
      const std::size_t count = std::min(each(kBatch), waiting.size());
      judge_first(count, waiting);
      find_any();
      report(next, order.size());
    }
    simulate_waiting();
    result_.interrupted = is_over();
    Time left = fitting_.empty() ? kNever : fitting_.front().alone;
    for (const Candidate& c : waiting) {
      left = std::min(left, least(c.at));
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

  // Of those whose memory's bound is at most `most`.
  std::optional<Found> smallest(Bytes most) {
    begin(open_.job.cluster.device.memory);
    std::vector<std::string> why(shapes_.size());
    std::vector<std::pair<Bytes, Candidate>> order;
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      if (workers_.bounds().bound(shapes_[i], kNever, why[i])) {
        for (const Tail& t : tails_of(result_.space, shapes_[i], result_.rejected)) {
          order.push_back({workers_.bounds().memory(shapes_[i], t), {i, t}});
        }
      }
    }
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::optional<Found> best;
    for (std::size_t first = 0; first < order.size(); first += each(kBatch)) {
      if (is_over() || order[first].first > most ||
          (best && (best->memory <= order[first].first || best->memory <= capacity_))) {
        break;
      }
      const std::size_t count = std::min(each(kBatch), order.size() - first);
      std::vector<Candidate> some;
      for (std::size_t i = first; i < first + count; ++i) {
        some.push_back(order[i].second);
      }
      for (Verdict& v : workers_.judge_memory(shapes_, some)) {
        if (v.found.memory > Bytes{} && (!best || v.found.memory < best->memory)) {
          best = std::move(v.found);
        }
      }
    }
    return best;
  }

 private:
  void begin(Bytes capacity) {
    capacity_ = capacity;
    result_ = {};
    result_.space = space_of(open_, options_.axes);
    shapes_ = shapes_of(result_.space, open_, result_.rejected);
    of_shape_.assign(shapes_.size(), {});
    is_possible_.assign(shapes_.size(), false);
    for (std::vector<Found>* list : {&fitting_, &simulated_}) {
      for (Found& f : *list) {
        known_[f.at].insert_or_assign(word(f.at, f.tail), std::move(f));
      }
      list->clear();
    }
    dived_.clear();
    in_any_order_.clear();  // these hold while the limit only falls
    alike_.clear();
  }

  std::size_t each(std::size_t count) const { return count * static_cast<std::size_t>(options_.crew.count); }

  bool is_over() const { return workers_.is_over(); }
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
    std::vector<std::string> why;
    workers_.price(shapes_, shapes, limit(), of_shape_, why);
    std::vector<std::size_t> left;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      if (!why[i].empty()) {
        reject(shapes[i], first_line(why[i]));
      } else {
        cell(shapes[i]);  // is one, though nothing of it may fit
        if (of_shape_[shapes[i]].memory > capacity_) {
          reject(shapes[i], kTooLargeByBound);
        } else {
          is_possible_[shapes[i]] = true;
          left.push_back(shapes[i]);
        }
      }
    }
    std::stable_sort(left.begin(), left.end(),
                     [&](std::size_t a, std::size_t b) { return of_shape_[a].guess < of_shape_[b].guess; });
    return left;
  }

  // One plan of each of the first shapes, those with room to spare; the fastest of them that fits is simulated.
  void dive(const std::vector<std::size_t>& order) {
    constexpr double kRoom = 0.9;  // bounds on memory are as far below it
    std::vector<Candidate> usual;
    for (const std::size_t shape : order) {
      Rejected none;
      for (const Tail& t : tails_of(result_.space, shapes_[shape], none)) {
        if (is_usual(t) && static_cast<double>(workers_.bounds().memory(shapes_[shape], t).value) <
                               kRoom * static_cast<double>(capacity_.value)) {
          usual.push_back({shape, t});
          break;
        }
      }
      if (usual.size() == kBatch || is_over()) {
        break;
      }
    }
    // Those that are slower than one of them are judged, and counted, once more with all others.
    for (std::size_t first = 0; first < usual.size() && !is_over(); first += each(kDivers)) {
      const std::size_t count = std::min(each(kDivers), usual.size() - first);
      const Time fastest = fitting_.empty() ? kNever : Time{fitting_.front().alone.value + 1};
      for (Verdict& v : judge_some({&usual[first], count}, fastest)) {
        if (v.judged && v.rejected.empty()) {
          ++result_.built;
          alike_.try_emplace(alone_word({v.found.at, v.found.tail}), v);
          dived_[v.found.at].insert(word(v.found.at, v.found.tail));
          fitting_.push_back(std::move(v.found));
        }
      }
      sort_fitting();
    }
    find_any();
  }

  void take_tails(std::size_t shape, std::vector<Candidate>& waiting) {
    for (Tail& t : tails_of(result_.space, shapes_[shape], result_.rejected)) {
      if (workers_.bounds().memory(shapes_[shape], t) > capacity_) {
        ++result_.rejected[kTooLargeByBound];
      } else if (!was_dived(shape, t)) {
        waiting.push_back({shape, std::move(t)});
      }
    }
  }

  std::string ops_word(const Candidate& c) { return same_ops(open_, workers_.bounds(), shapes_[c.at], c.tail); }
  std::string alone_word(const Candidate& c) { return same_alone(open_, workers_.bounds(), shapes_[c.at], c.tail); }

  std::string word(std::size_t shape, const Tail& tail) const {
    return strategy_of(open_, shapes_[shape], tail).dump();
  }

  bool was_dived(std::size_t shape, const Tail& tail) const {
    const auto of_shape = dived_.find(shape);
    return of_shape != dived_.end() && of_shape->second.count(word(shape, tail)) > 0;
  }

  void reject(std::size_t shape, const std::string& why) {
    const std::vector<Tail> tails = tails_of(result_.space, shapes_[shape], result_.rejected);
    result_.rejected[why] +=
        std::count_if(tails.begin(), tails.end(), [&](const Tail& t) { return !was_dived(shape, t); });
  }

  const Found* known(std::size_t shape, const Tail& tail) const {
    const auto of_shape = known_.find(shape);
    if (of_shape == known_.end()) {
      return nullptr;
    }
    const auto found = of_shape->second.find(word(shape, tail));
    return found == of_shape->second.end() ? nullptr : &found->second;
  }

  std::vector<Verdict> judge_some(std::span<const Candidate> candidates, Time limit) {
    std::vector<Verdict> all(candidates.size());
    std::vector<Candidate> unknown;
    std::vector<std::size_t> at;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (const Found* const f = known(candidates[i].at, candidates[i].tail)) {
        all[i] = {f->memory > capacity_ ? kTooLarge : f->alone >= limit ? kSlowerAlone : "", true, false, *f};
      } else {
        unknown.push_back(candidates[i]);
        at.push_back(i);
      }
    }
    std::vector<Verdict> judged = workers_.judge(shapes_, unknown, limit, capacity_);
    for (std::size_t i = 0; i < at.size(); ++i) {
      all[at[i]] = std::move(judged[i]);
    }
    return all;
  }

  // One for all that take the same time alone, but for those of which more is known.
  std::vector<Verdict> judge_alike(std::span<const Candidate> candidates) {
    std::vector<Candidate> firsts;
    std::vector<std::optional<std::size_t>> first(candidates.size());  // which of these a candidate is
    std::vector<std::string> words;
    std::set<std::string> asked;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& c = candidates[i];
      words.push_back(alone_word(c));
      if (known(c.at, c.tail) != nullptr || (alike_.count(words[i]) == 0 && asked.insert(words[i]).second)) {
        first[i] = firsts.size();
        firsts.push_back(c);
      }
    }
    std::vector<Verdict> all(candidates.size()), judged = judge_some(firsts, limit());
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (first[i] && judged[*first[i]].judged) {
        all[i] = std::move(judged[*first[i]]);
        alike_.try_emplace(words[i], all[i]);
      }
    }
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const auto found = alike_.find(words[i]);
      if (!first[i] && found != alike_.end()) {
        all[i] = like(found->second, candidates[i].tail);
      }
    }
    return all;
  }

  // What is known of all that take the same time alone.
  Verdict like(const Verdict& v, const Tail& tail) const {
    const Found& f = v.found;
    const bool is_slower = v.rejected.empty() && f.alone >= limit();
    return {is_slower ? kSlowerAlone : v.rejected,
            true,
            false,
            {f.at, f.shape, tail, f.in_any_order, f.alone, f.unlike, {}, {}, f.memory, {}}};
  }

  // Those that were judged are taken out.
  void judge_first(std::size_t count, std::vector<Candidate>& candidates) {
    std::vector<Candidate> left;
    const auto slower = std::stable_partition(
        candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count), [&](const Candidate& c) {
          const auto found = in_any_order_.find(ops_word(c));
          return found == in_any_order_.end() || found->second < limit();
        });
    const auto unknown = static_cast<std::size_t>(slower - candidates.begin());
    result_.rejected[kSlower] += static_cast<std::int64_t>(count - unknown);
    std::vector<Verdict> verdicts = judge_alike({candidates.data(), unknown});
    for (std::size_t i = 0; i < unknown; ++i) {
      Verdict& v = verdicts[i];
      result_.built += v.built ? 1 : 0;
      if (v.found.in_any_order > Time{}) {
        Time& least = in_any_order_[ops_word(candidates[i])];
        least = std::max(least, v.found.in_any_order);
      }
      if (!v.judged) {
        left.push_back(std::move(candidates[i]));
      } else if (!v.rejected.empty()) {
        ++result_.rejected[v.rejected];
      } else {
        fitting_.push_back(std::move(v.found));
      }
    }
    candidates.erase(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count));
    candidates.insert(candidates.begin(), left.begin(), left.end());
    sort_fitting();
  }

  void sort_fitting() {
    std::stable_sort(fitting_.begin(), fitting_.end(),
                     [](const Found& a, const Found& b) { return a.alone < b.alone; });
  }

  // Those of the first that do not fit are left out; how many of them do.
  std::size_t replay_first(std::size_t count) {
    workers_.replay({fitting_.data(), count});
    std::size_t left = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (*fitting_[i].fits && fitting_[i].memory <= capacity_) {
        std::swap(fitting_[left++], fitting_[i]);
      }
    }
    result_.rejected[kTooLarge] += static_cast<std::int64_t>(count - left);
    fitting_.erase(fitting_.begin() + static_cast<std::ptrdiff_t>(left),
                   fitting_.begin() + static_cast<std::ptrdiff_t>(count));
    return left;
  }

  // As long as there is none.
  void find_any() {
    while (result_.best.empty() && !fitting_.empty() && !is_over()) {
      if (const std::size_t fit = replay_first(std::min(each(kTogether), fitting_.size())); fit > 0) {
        simulate_first(std::min(each(kFirst), fit));
      }
    }
  }

  // Those that can still be the best, a few at a time.
  void simulate_waiting() {
    while (!fitting_.empty() && fitting_.front().alone < limit() && !is_over()) {
      std::size_t count = 0;
      while (count < std::min(each(kTogether), fitting_.size()) && fitting_[count].alone < limit()) {
        ++count;
      }
      simulate_first(replay_first(count));
    }
  }

  void simulate_first(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      result_.simulated += fitting_[i].step_time == Time{} ? 1 : 0;
    }
    workers_.simulate({fitting_.data(), count});
    for (std::size_t i = 0; i < count; ++i) {
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
    bound_cells();
    result_.wall_seconds = workers_.seconds();
  }

  // Under a power limit bounds hold of plans that are faster than the best one.
  void bound_cells() {
    const bool finds_any = !result_.best.empty();
    const Time least_of_all = finds_any ? result_.best_possible : Time{};
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      if (is_possible_[i] && (finds_any || !result_.proved)) {
        const Time own = finds_any && workers_.bounds().is_power_limited() ? least_of_all : least(i);
        Cell& c = cell(i);
        c.at_least = std::min(c.at_least.value_or(kNever), std::max(own, least_of_all));
      }
    }
  }

  const plan::OpenJob& open_;
  const SearchOptions& options_;
  Workers workers_;
  Bytes capacity_;
  SearchResult result_;
  std::vector<Shape> shapes_;
  std::vector<Bound> of_shape_;
  std::vector<bool> is_possible_;  // by shape: the job takes it, and bounds of memory let it fit
  std::vector<Found> fitting_;     // not simulated yet, fastest first
  std::vector<Found> simulated_;
  std::map<std::string, Time> in_any_order_;                   // by ops_word()
  std::map<std::string, Verdict> alike_;                       // by alone_word()
  std::map<std::size_t, std::set<std::string>> dived_;         // judged before all others: strategies, by shape
  std::map<std::size_t, std::map<std::string, Found>> known_;  // from other runs, likewise
};

}  // namespace

SearchResult search(const plan::OpenJob& open, const SearchOptions& options) {
  Search search(open, options);
  const Bytes capacity = open.job.cluster.device.memory;
  SearchResult result = search.run(capacity);
  const Found* best = result.best.empty() ? nullptr : &result.best.front();
  while (options.less_memory && best != nullptr && !result.interrupted) {
    const std::int64_t part = capacity.value / kMemoryParts;
    const Bytes limit{(best->memory.value - 1) / part * part};
    if (limit == Bytes{}) {
      break;
    }
    SearchResult less = search.run(limit);
    WithinMemory& within = result.within_memory.emplace_back();
    within = {limit, less.best.empty() ? std::nullopt : std::optional(less.best.front()), less.proved};
    result.interrupted = less.interrupted;
    result.wall_seconds = less.wall_seconds;
    best = within.best ? &*within.best : nullptr;
  }
  return result;
}

std::optional<Found> smallest(const plan::OpenJob& open, const SearchOptions& options) {
  return Search(open, options).smallest(Bytes{INT64_MAX});
}

std::optional<Found> smallest_that_fits(const plan::OpenJob& open, const SearchOptions& options) {
  const Bytes capacity = open.job.cluster.device.memory;
  std::optional<Found> found = Search(open, options).smallest(capacity);
  return found && found->memory <= capacity ? found : std::nullopt;
}

}  // namespace foretrain::search
