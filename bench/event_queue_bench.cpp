// Pushes and pops of the event queue at the sizes that simulations reach (roles x streams).
#include <benchmark/benchmark.h>

#include <random>

#include "sim/event_queue.h"

namespace foretrain::sim {
namespace {

void hold(benchmark::State& state) {
  std::mt19937 random(1);
  EventQueue queue;
  for (int i = 0; i < state.range(0); ++i) {
    queue.push({Time{static_cast<std::int64_t>(random() % 1000)}, i, 0});
  }
  for (auto _ : state) {
    Event e = queue.pop();
    e.at += Time{static_cast<std::int64_t>(random() % 1000)};
    queue.push(e);
  }
}
BENCHMARK(hold)->Arg(8)->Arg(64)->Arg(512);

}  // namespace
}  // namespace foretrain::sim
