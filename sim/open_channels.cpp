#include "sim/open_channels.h"

#include <algorithm>
#include <tuple>

namespace foretrain::sim {

namespace {

// Of a worker's message in one of its steps: to the server, or back.
MeetingKey key_of(const ChannelEnd& end, std::int64_t step, int worker, bool to_server) {
  return {static_cast<std::int32_t>(step), end.about->tag, to_server ? -2 : -3, worker, end.instance};
}

}  // namespace

std::uint32_t OpenChannels::reach(const ChannelEnd& end, int workers, Time now, const Meet& meet) {
  Channel& channel =
      channels_.try_emplace({end.about->tag, end.instance}, Channel{plan::ChannelClocks(workers, 0), {}, {}})
          .first->second;
  switch (end.op->step) {
    case plan::ChannelStep::put: channel.puts.push_back({now, end}); return 1;
    case plan::ChannelStep::take: channel.take = end; return 1;
    case plan::ChannelStep::fetch: meet(key_of(end, end.step, end.index, false), end); return 1;
    case plan::ChannelStep::release: break;
  }
  const std::vector<int> released = channel.clocks.release(end.op->staleness);
  ChannelEnd release = end;
  for (const int worker : released) {
    meet(key_of(end, channel.clocks.clock(worker) - 1, worker, false), release);
    release.turn += end.about->speed.empty() ? 1 : 0;  // on a machine that all share each worker copies by itself
  }
  return static_cast<std::uint32_t>(released.size());
}

void OpenChannels::serve(const Meet& meet, const Taken& taken) {
  for (auto& [key, channel] : channels_) {
    const ChannelEnd take = channel.take;
    if (take.op == nullptr || channel.puts.empty()) {
      continue;
    }
    const int turn = take.op->in_turn ? plan::worker_in_turn(channel.clocks.workers(), take.step, take.nth) : -1;
    const auto rank = [turn](const Put& p) {
      return std::tuple(turn >= 0 && p.end.index != turn, p.at.value, p.end.index);
    };
    const auto first = std::min_element(channel.puts.begin(), channel.puts.end(),
                                        [&](const Put& a, const Put& b) { return rank(a) < rank(b); });
    if (turn >= 0 && first->end.index != turn) {
      continue;
    }
    const ChannelEnd put = first->end;
    channel.puts.erase(first);
    channel.take = {};
    channel.clocks.take(put.index);
    taken(take, put.index);
    for (const ChannelEnd& end : {put, take}) {
      meet(key_of(end, put.step, put.index, true), end);
    }
  }
}

}  // namespace foretrain::sim
