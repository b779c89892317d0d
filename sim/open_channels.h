// Channels between servers and workers (plan/channel.h) as their ends reach them: who meets whom. Used by engine.cpp
// only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "plan/channel.h"
#include "sim/open_meetings.h"

namespace foretrain::sim {

// One end: an op that a stream has reached.
struct ChannelEnd {
  const plan::Channel* op = nullptr;
  const Meeting* about = nullptr;
  std::int32_t instance = -1;  // of the group
  std::int32_t step = 0, nth = 0;
  int index = 0;  // in the group
  Member member;
  int turn = 1;  // of several that a server sends to at once over a link of its own: one after the other
};

class OpenChannels {
 public:
  // Told of every member of a meeting of two: its key, and what it says of it.
  using Meet = std::function<void(const MeetingKey&, const ChannelEnd&)>;
  // Of a take: whom from.
  using Taken = std::function<void(const ChannelEnd& take, int worker)>;

  // `workers` of the group. Returns how many meetings the op takes part in; what is put and taken meets in serve().
  std::uint32_t reach(const ChannelEnd& end, int workers, Time now, const Meet& meet);
  // All that were reached at one instant: what is put at once is taken in the workers' order.
  void serve(const Meet& meet, const Taken& taken);

 private:
  struct Put {
    Time at;
    ChannelEnd end;
  };
  struct Channel {
    plan::ChannelClocks clocks;
    std::vector<Put> puts;
    ChannelEnd take;  // without op: the server is elsewhere
  };
  std::map<std::pair<std::int32_t, std::int32_t>, Channel> channels_;  // by tag and instance
};

}  // namespace foretrain::sim
