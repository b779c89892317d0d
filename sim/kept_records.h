// Of a block call that is remembered: the records that something later can wait for, relative to the call's start. Used
// by role_walk*.cpp only.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "sim/role_walk.h"

namespace foretrain::sim {

class KeptRecords {
 public:
  // Of `all` records those from `outside` on are the call's, which begins at `base` and ends, on the compute stream, at
  // `busy`: only what ends after that can be waited for. `kept` takes them.
  KeptRecords(const std::vector<Record>& all, std::size_t outside, Time base, Time busy, std::vector<Record>& kept)
      : all_(all), outside_(outside), base_(base), busy_(busy), kept_(kept) {
    kept_.reserve(all.size() - outside);  // `link` points into it
  }

  // Its index among those that are kept; -1: nothing later can wait for it. Fails where that leads to a record from
  // before the call.
  std::int32_t keep(std::int32_t record) {
    std::int32_t first = -1;
    std::int32_t* link = &first;
    for (; record >= 0 && at(record).end > busy_; record = at(record).before) {
      if (static_cast<std::size_t>(record) < outside_) {
        has_failed_ = true;
        return -1;
      }
      const auto [it, is_new] = renamed_.try_emplace(record, static_cast<std::int32_t>(kept_.size()));
      *link = it->second;
      if (!is_new) {
        break;
      }
      const Record& r = at(record);
      kept_.push_back({r.start - base_, r.end - base_, -1, r.share});
      link = &kept_.back().before;
    }
    return first;
  }
  bool has_failed() const { return has_failed_; }

 private:
  const Record& at(std::int32_t record) const { return all_[static_cast<std::size_t>(record)]; }

  const std::vector<Record>& all_;
  const std::size_t outside_;
  const Time base_, busy_;
  std::vector<Record>& kept_;
  std::map<std::int32_t, std::int32_t> renamed_;
  bool has_failed_ = false;
};

}  // namespace foretrain::sim
