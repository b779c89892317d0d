#include "sim/event_queue.h"

#include <algorithm>
#include <tuple>

namespace foretrain::sim {
namespace {

bool later(const Event& a, const Event& b) {
  return std::tie(a.at, a.id, a.generation) > std::tie(b.at, b.id, b.generation);
}

}  // namespace

void EventQueue::push(Event e) {
  heap_.push_back(e);
  std::push_heap(heap_.begin(), heap_.end(), later);
}

Event EventQueue::pop() {
  std::pop_heap(heap_.begin(), heap_.end(), later);
  const Event e = heap_.back();
  heap_.pop_back();
  return e;
}

}  // namespace foretrain::sim
