// Future events, taken out instant by instant.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"

namespace foretrain::sim {

// What happens is known by `id`. An event whose generation is no longer its owner's was rescheduled and is void.
struct Event {
  Time at;
  std::int32_t id = -1;
  std::uint32_t generation = 0;
};

// Events of one instant come out by id, whatever the order in which they went in.
class EventQueue {
 public:
  void push(Event e);
  bool empty() const { return heap_.empty(); }
  const Event& top() const { return heap_.front(); }  // the next one; requires: not empty
  Event pop();                                        // requires: not empty

 private:
  std::vector<Event> heap_;
};

}  // namespace foretrain::sim
