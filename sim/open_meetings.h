// Meetings that some of their members have reached, and those under way. Used by engine.cpp; what tells
// them apart by fold.cpp, too.
#pragma once

#include <compare>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "sim/rank_classes.h"

namespace foretrain::sim {

struct Member {
  std::int32_t actor = -1, stream = -1;
};

// What tells meetings apart.
struct MeetingKey {
  std::int32_t step = 0, tag = -1, layer = -1, microbatch = -1, instance = -1;
  friend auto operator<=>(const MeetingKey&, const MeetingKey&) = default;
};

struct MeetingKeyHash {
  std::size_t operator()(const MeetingKey& k) const {
    std::uint64_t h = 0;
    for (const std::int32_t x : {k.step, k.tag, k.layer, k.microbatch, k.instance}) {
      h = (h ^ static_cast<std::uint32_t>(x)) * 0x9e3779b97f4a7c15u;
      h ^= h >> 29;
    }
    return h;
  }
};

// What its members reach before it starts: a message, or a collective.
struct OpenMeeting {
  MeetingKey key;
  std::vector<Member> members;
  bool is_message = false, is_carried = false;
  std::int32_t receiver = -1;  // of a message
  std::size_t shares = 0;      // not done yet, on exclusive devices
  Time duration, startable;
  AloneFlow flow;           // of the member that says the longest duration
  std::int32_t route = -1;  // of its flow; -1: it takes `duration`
  const std::vector<std::int64_t>* speed = nullptr;
  DeviceLoad load;
};

// Indices are used again once a meeting has ended.
class OpenMeetings {
 public:
  OpenMeeting& operator[](std::size_t index) { return all_[index]; }

  // The meeting with this key, begun with it if there is none. `arrivals`: members it takes.
  std::size_t find(const MeetingKey& key, std::int32_t arrivals, const Meeting& about) {
    if (arrivals == 1) {
      return begin(key, about);
    }
    const auto [it, is_new] = waiting_.try_emplace(key, 0);
    if (is_new) {
      it->second = begin(key, about);
    }
    return it->second;
  }

  // True when it was the last of `arrivals`.
  bool join(std::size_t index, std::int32_t arrivals, const Meeting& about, std::int32_t route, Member m) {
    OpenMeeting& meeting = all_[index];
    if (meeting.members.empty() || about.duration > meeting.duration ||
        (about.duration == meeting.duration && about.flow > meeting.flow)) {
      meeting.duration = about.duration;
      meeting.flow = about.flow;
      meeting.route = route;
    }
    meeting.load = larger(meeting.load, about.load);
    meeting.members.push_back(m);
    if (about.is_message && !about.sends) {
      meeting.receiver = m.actor;
    }
    if (meeting.members.size() != static_cast<std::size_t>(arrivals)) {
      return false;
    }
    if (arrivals > 1) {
      waiting_.erase(meeting.key);
    }
    return true;
  }

  void end(std::size_t index) { free_.push_back(index); }

 private:
  std::size_t begin(const MeetingKey& key, const Meeting& about) {
    std::size_t index = all_.size();
    if (free_.empty()) {
      all_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    OpenMeeting& m = all_[index];
    m.key = key;
    m.members.clear();
    m.is_message = about.is_message;
    m.is_carried = about.is_carried;
    m.receiver = -1;
    m.speed = &about.speed;
    m.load = {};
    return index;
  }

  std::vector<OpenMeeting> all_;
  std::vector<std::size_t> free_;
  std::unordered_map<MeetingKey, std::size_t, MeetingKeyHash> waiting_;
};

}  // namespace foretrain::sim
