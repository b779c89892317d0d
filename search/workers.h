// What of a search is done on all cores, of all processes: all of them get all results.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "search/judge.h"
#include "search/plan_search.h"
#include "search/shape_bound.h"

namespace foretrain::search {

struct Candidate {
  std::size_t at = 0;  // among the shapes
  Tail tail;
};

class Workers {
 public:
  // Both must outlive it.
  Workers(const plan::OpenJob& open, const SearchOptions& options);

  double seconds() const;  // since then
  // Interrupted, or out of time: the same in all processes. What is asked for after that may be left out.
  bool is_over() const { return options_.crew.count > 1 ? is_over_ : ends(); }
  ShapeBounds& bounds() { return bounds_; }

  // Bounds of those of the shapes that are not known to take `limit`. why[i]: of which[i], where the job refuses it.
  void price(const std::vector<Shape>& shapes, const std::vector<std::size_t>& which, Time limit,
             std::vector<Bound>& of_shape, std::vector<std::string>& why);
  std::vector<Verdict> judge(const std::vector<Shape>& shapes, std::span<const Candidate> candidates, Time limit,
                             Bytes capacity);
  std::vector<Verdict> judge_memory(const std::vector<Shape>& shapes, std::span<const Candidate> candidates);
  // Of those of which it is not known yet.
  void replay(std::span<Found> plans);
  void simulate(std::span<Found> plans);

 private:
  bool ends() const;
  void share(const Pieces& pieces);
  std::vector<Verdict> verdicts(const std::vector<Shape>& shapes, std::span<const Candidate> candidates,
                                const std::function<Verdict(const Candidate&)>& judge);

  const plan::OpenJob& open_;
  const SearchOptions& options_;
  ShapeBounds bounds_;
  const std::chrono::steady_clock::time_point begin_;
  bool is_over_ = false;  // as agreed with the others
};

}  // namespace foretrain::search
