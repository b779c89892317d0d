// The event queue beside std::priority_queue, entries of 16 bytes, in one process.
//   hold    one out, one in at a random later time, with N pending (exponential steps are the classical test; uniform
//   here) drain   N in by ascending time, then N out equal   N in at one instant, then N out
#include <benchmark/benchmark.h>

#include <queue>
#include <random>
#include <tuple>

#include "sim/event_queue.h"

namespace foretrain::sim {
namespace {

static_assert(sizeof(Event) == 16);

struct Later {
  bool operator()(const Event& a, const Event& b) const {
    return std::tie(a.at, a.id, a.generation) > std::tie(b.at, b.id, b.generation);
  }
};

// With the interface of EventQueue.
class StandardQueue {
 public:
  void push(Event e) { queue_.push(e); }
  bool empty() const { return queue_.empty(); }
  Event pop() {
    const Event e = queue_.top();
    queue_.pop();
    return e;
  }

 private:
  std::priority_queue<Event, std::vector<Event>, Later> queue_;
};

template <class Queue>
void hold(benchmark::State& state) {
  constexpr std::size_t kSteps = 1 << 16;
  std::mt19937 random(1);
  std::vector<std::int64_t> steps(kSteps);
  for (std::int64_t& step : steps) {
    step = static_cast<std::int64_t>(random());
  }
  Queue queue;
  for (std::int32_t i = 0; i < state.range(0); ++i) {
    queue.push({Time{static_cast<std::int64_t>(random())}, i, 0});
  }
  std::size_t next = 0;
  const auto once = [&] {
    Event e = queue.pop();
    e.at += Time{steps[next++ % kSteps]};
    queue.push(e);
  };
  for (std::int64_t i = 0; i < 2 * state.range(0); ++i) {
    once();  // until the times are as hold makes them
  }
  for (auto _ : state) {
    once();
  }
  state.SetItemsProcessed(state.iterations());
}

template <class Queue>
void in_and_out(benchmark::State& state, std::int64_t step) {
  for (auto _ : state) {
    Queue queue;
    for (std::int32_t i = 0; i < state.range(0); ++i) {
      queue.push({Time{step * i}, i, 0});
    }
    while (!queue.empty()) {
      benchmark::DoNotOptimize(queue.pop());
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

template <class Queue>
void drain(benchmark::State& state) {
  in_and_out<Queue>(state, 1000);
}
template <class Queue>
void equal(benchmark::State& state) {
  in_and_out<Queue>(state, 0);
}

#define SIZES Arg(1'000)->Arg(100'000)->Arg(1'000'000)
BENCHMARK(hold<EventQueue>)->SIZES;
BENCHMARK(hold<StandardQueue>)->SIZES;
BENCHMARK(drain<EventQueue>)->SIZES;
BENCHMARK(drain<StandardQueue>)->SIZES;
BENCHMARK(equal<EventQueue>)->SIZES;
BENCHMARK(equal<StandardQueue>)->SIZES;
#undef SIZES

}  // namespace
}  // namespace foretrain::sim
