#include "plan/schedule.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace foretrain::plan {

namespace {

Action forward(int stage, int microbatch) {
  return {stage, ActionKind::forward, microbatch};
}

Action backward(int stage, int microbatch) {
  return {stage, ActionKind::backward, microbatch};
}

// Alternates the rest: `warm_up` forwards, then one forward and one backward in turn, then the backwards that remain.
std::vector<Action> alternate(const std::vector<Action>& forwards, const std::vector<Action>& backwards, int warm_up) {
  const std::size_t ahead = std::min(static_cast<std::size_t>(warm_up), forwards.size());
  std::vector<Action> row(forwards.begin(), forwards.begin() + static_cast<std::ptrdiff_t>(ahead));
  for (std::size_t i = 0; i < backwards.size(); ++i) {
    if (ahead + i < forwards.size()) {
      row.push_back(forwards[ahead + i]);
    }
    row.push_back(backwards[i]);
  }
  return row;
}

}  // namespace

Schedule gpipe(int pp, int microbatches) {
  Schedule s(static_cast<std::size_t>(pp));
  for (int rank = 0; rank < pp; ++rank) {
    std::vector<Action>& row = s[static_cast<std::size_t>(rank)];
    for (int m = 0; m < microbatches; ++m) {
      row.push_back(forward(rank, m));
    }
    for (int m = 0; m < microbatches; ++m) {
      row.push_back(backward(rank, m));
    }
  }
  return s;
}

namespace {

Schedule one_f_one_b_from(int pp, int microbatches, int distance, int more) {
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    std::vector<Action> forwards, backwards;
    for (int m = 0; m < microbatches; ++m) {
      forwards.push_back(forward(rank, m));
      backwards.push_back(backward(rank, m));
    }
    s.push_back(alternate(forwards, backwards, distance * (pp - rank - 1) + more));
  }
  return s;
}

}  // namespace

Schedule one_f_one_b(int pp, int microbatches) {
  return one_f_one_b_from(pp, microbatches, 1, 0);
}

Schedule one_f_one_b_in_pairs(int pp, int microbatches) {
  return one_f_one_b_from(pp, microbatches, 2, 1);
}

namespace {

// Megatron-LM's order (megatron/core/pipeline_parallel/schedules.py, get_model_chunk_id and the warm-up count):
// forwards take pp microbatches through chunk 0, the same through chunk 1, …, then the next pp; backwards likewise from
// the last chunk down. A rank warms up with 2 (pp - rank - 1) + (v - 1) pp forwards.
Schedule interleaved_from(int pp, int virtual_stages, int microbatches, int more) {
  CHECK(microbatches % pp == 0, "interleaved: {} microbatches in groups of {}", microbatches, pp);
  Schedule s;
  for (int rank = 0; rank < pp; ++rank) {
    std::vector<Action> forwards, backwards;
    for (int group = 0; group < microbatches; group += pp) {
      for (int chunk = 0; chunk < virtual_stages; ++chunk) {
        for (int m = group; m < group + pp; ++m) {
          forwards.push_back(forward(chunk * pp + rank, m));
          backwards.push_back(backward((virtual_stages - 1 - chunk) * pp + rank, m));
        }
      }
    }
    s.push_back(alternate(forwards, backwards, (pp - rank - 1) * 2 + (virtual_stages - 1) * pp + more));
  }
  return s;
}

}  // namespace

Schedule interleaved(int pp, int virtual_stages, int microbatches) {
  return interleaved_from(pp, virtual_stages, microbatches, 0);
}

Schedule interleaved_in_pairs(int pp, int virtual_stages, int microbatches) {
  return interleaved_from(pp, virtual_stages, microbatches, 1);
}

Schedule make_schedule(const Strategy& strategy, int microbatches) {
  const int pp = static_cast<int>(strategy.pp);
  const int virtual_stages = static_cast<int>(strategy.virtual_stages);
  const std::string word = fmt::format("schedule \"{}\"", name(strategy.schedule));
  Schedule s;
  switch (strategy.schedule) {
    case ScheduleKind::gpipe:
    case ScheduleKind::zb_h1:
    case ScheduleKind::zb_h2:
      if (virtual_stages > 1) {
        throw InputError(fmt::format("{}: virtual_stages is {}; expected 1, or \"interleaved\"", word, virtual_stages));
      }
      s = strategy.schedule == ScheduleKind::gpipe   ? gpipe(pp, microbatches)
          : strategy.schedule == ScheduleKind::zb_h1 ? zb_h1(pp, microbatches)
                                                     : zb_h2(pp, microbatches);
      break;
    case ScheduleKind::one_f_one_b:
    case ScheduleKind::interleaved:
      if (virtual_stages > 1 && microbatches % pp != 0) {
        throw InputError(fmt::format("{}: {} microbatches; expected a multiple of pp = {} with virtual_stages > 1",
                                     word, microbatches, pp));
      }
      if (strategy.overlap_ep) {
        s = virtual_stages > 1 ? interleaved_in_pairs(pp, virtual_stages, microbatches)
                               : one_f_one_b_in_pairs(pp, microbatches);
      } else {
        s = virtual_stages > 1 ? interleaved(pp, virtual_stages, microbatches) : one_f_one_b(pp, microbatches);
      }
      break;
    case ScheduleKind::zb_v:
    case ScheduleKind::dualpipe_v:
    case ScheduleKind::dualpipe:
      if (virtual_stages != 2) {
        throw InputError(fmt::format("{}: virtual_stages is {}; expected 2", word, virtual_stages));
      }
      s = strategy.schedule == ScheduleKind::zb_v         ? zb_v(pp, microbatches)
          : strategy.schedule == ScheduleKind::dualpipe_v ? dualpipe_v(pp, microbatches)
                                                          : dualpipe(pp, microbatches);
      break;
    case ScheduleKind::text: s = schedule_from_file(strategy.schedule_path); break;
  }
  check(s, pp, virtual_stages, microbatches, strategy.schedule == ScheduleKind::text ? strategy.schedule_path : word,
        static_cast<int>(strategy.ways()));
  return s;
}

}  // namespace foretrain::plan
