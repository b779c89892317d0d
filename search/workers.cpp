#include "search/workers.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace foretrain::search {

namespace {

using nlohmann::json;

constexpr std::size_t kPiece = 64;  // shapes that one thread prices in a row

}  // namespace

Workers::Workers(const plan::OpenJob& open, const SearchOptions& options)
    : open_(open),
      options_(options),
      bounds_(open, space_of(open, options.axes).rank_order),
      begin_(std::chrono::steady_clock::now()) {}

double Workers::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

bool Workers::ends() const {
  return (options_.interrupted != nullptr && *options_.interrupted) ||
         (options_.most_seconds > 0 && seconds() >= options_.most_seconds);
}

void Workers::share(const Pieces& pieces) {
  is_over_ = spread(options_.crew, pieces, [&] { return ends(); });
}

void Workers::price(const std::vector<Shape>& shapes, const std::vector<std::size_t>& which, Time limit,
                    std::vector<Bound>& of_shape, std::vector<std::string>& why) {
  why.assign(which.size(), "");
  const auto in_piece = [&](std::size_t piece, const std::function<void(std::size_t)>& each) {
    for (std::size_t i = piece * kPiece; i < std::min(which.size(), (piece + 1) * kPiece); ++i) {
      each(i);
    }
  };
  share({(which.size() + kPiece - 1) / kPiece,
         [&](std::size_t piece) {
           in_piece(piece, [&](std::size_t i) {
             Bound& bound = of_shape[which[i]];
             if (bound.step_time < limit && !ends()) {
               bound = bounds_.bound(shapes[which[i]], limit, why[i]).value_or(bound);
             }
           });
         },
         [&](std::size_t piece) {
           json all = json::array();
           in_piece(piece, [&](std::size_t i) {
             const Bound& b = of_shape[which[i]];
             all.push_back({b.step_time.value, b.guess.value, b.memory.value, why[i]});
           });
           return all.dump();
         },
         [&](std::size_t piece, const std::string& text) {
           const json all = json::parse(text);
           in_piece(piece, [&](std::size_t i) {
             const json& one = all[i % kPiece];
             of_shape[which[i]] = {Time{one[0]}, Time{one[1]}, Bytes{one[2]}};
             why[i] = one[3];
           });
         }});
}

std::vector<Verdict> Workers::verdicts(const std::vector<Shape>& shapes, std::span<const Candidate> candidates,
                                       const std::function<Verdict(const Candidate&)>& judge) {
  std::vector<Verdict> all(candidates.size());
  share({candidates.size(),
         [&](std::size_t i) {
           if (!ends()) {
             all[i] = judge(candidates[i]);
             all[i].found.at = candidates[i].at;
           }
         },
         [&](std::size_t i) {
           return json{all[i].rejected, all[i].judged, all[i].built, packed(all[i].found)}.dump();
         },
         [&](std::size_t i, const std::string& text) {
           const json v = json::parse(text);
           all[i] = {v[0], v[1], v[2], {candidates[i].at, shapes[candidates[i].at], candidates[i].tail}};
           unpack(v[3], all[i].found);
         }});
  return all;
}

std::vector<Verdict> Workers::judge(const std::vector<Shape>& shapes, std::span<const Candidate> candidates, Time limit,
                                    Bytes capacity) {
  return verdicts(shapes, candidates, [&](const Candidate& c) {
    return search::judge(open_, bounds_, shapes[c.at], c.tail, limit, capacity);
  });
}

std::vector<Verdict> Workers::judge_memory(const std::vector<Shape>& shapes, std::span<const Candidate> candidates) {
  return verdicts(shapes, candidates,
                  [&](const Candidate& c) { return search::judge_memory(open_, shapes[c.at], c.tail); });
}

void Workers::replay(std::span<Found> plans) {
  share({plans.size(),
         [&](std::size_t i) {
           if (!plans[i].fits) {
             replay_memory(open_, plans[i]);
           }
         },
         [&](std::size_t i) { return packed(plans[i]); },
         [&](std::size_t i, const std::string& text) { unpack(text, plans[i]); }});
}

void Workers::simulate(std::span<Found> plans) {
  share({plans.size(),
         [&](std::size_t i) {
           if (plans[i].step_time == Time{}) {
             search::simulate(open_, plans[i]);
           }
         },
         [&](std::size_t i) { return packed(plans[i]); },
         [&](std::size_t i, const std::string& text) { unpack(text, plans[i]); }});
}

}  // namespace foretrain::search
