#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <numbers>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/device_code.h"

// Saves the callee's registers on its stack, the stack in *save, and goes on where `to` was saved (System V, x86-64).
extern "C" void foretrain_switch_fiber(void** save, void* to);
asm(R"(
.text
.globl foretrain_switch_fiber
.type foretrain_switch_fiber, @function
foretrain_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size foretrain_switch_fiber, .-foretrain_switch_fiber
)");

namespace foretrain::kernels::cuda {

namespace emulation {

namespace {

constexpr std::size_t kStackBytes = 64 << 10;
constexpr unsigned kMostThreads = 1024;
constexpr unsigned kMostBlocksYZ = 65535;
constexpr std::size_t kMostSharedBytes = 163 << 10;  // of a block on compute capability 8.0, the least we build for

enum class State : std::uint8_t { ready, waits_for_warp, waits_for_block, ended };

struct PendingCopy {
  void* to;
  const void* from;
};

struct Fiber {
  void* stack = nullptr;
  State state = State::ended;
  Extent index;
  unsigned exchanges = 0;
  std::vector<PendingCopy> copies;  // of 16 bytes
};

struct Warp {
  // What the lanes hand each other: two sets, for a lane may be one exchange ahead of the slowest.
  unsigned char values[2][kExchanged * kWarp];
  unsigned ready, waiting;  // lanes that can go on, and that wait for the others of the warp
};

struct Machine {
  std::unique_ptr<char[]> stacks;  // of kMostThreads fibers; left alone where they are not used
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<double> shared;
  const std::function<void()>* thread = nullptr;
  void* scheduler = nullptr;
  std::size_t now = 0;      // the fiber that runs
  std::size_t waiting = 0;  // fibers that wait for the block
  std::vector<std::uint32_t> turn;
  std::string failure;
  std::uint64_t seed = 0;
};

thread_local Machine machine;

void leave(State state) {
  Fiber& fiber = machine.fibers[machine.now];
  fiber.state = state;
  Warp& warp = machine.warps[machine.now / kWarp];
  --warp.ready;
  warp.waiting += state == State::waits_for_warp ? 1 : 0;
  machine.waiting += state == State::waits_for_block ? 1 : 0;
  foretrain_switch_fiber(&fiber.stack, machine.scheduler);
}

void fiber_main() {
  (*machine.thread)();
  leave(State::ended);
}

void resume(std::size_t i) {
  machine.now = i;
  threadIdx = machine.fibers[i].index;
  foretrain_switch_fiber(&machine.scheduler, machine.fibers[i].stack);
}

void prepare(Fiber& fiber, std::size_t i) {
  // As if it had been left by a call: six registers, then where to return to, on a stack aligned for a call.
  const auto end =
      (reinterpret_cast<std::uintptr_t>(machine.stacks.get()) + (i + 1) * kStackBytes) & ~std::uintptr_t{15};
  auto* const top = reinterpret_cast<void**>(end) - 2;
  top[0] = reinterpret_cast<void*>(&fiber_main);
  top[1] = nullptr;
  std::fill(top - 6, top, nullptr);
  fiber.stack = top - 6;
  fiber.exchanges = 0;
  fiber.copies.clear();
  fiber.index.x = static_cast<unsigned>(i) % blockDim.x;
  fiber.index.y = static_cast<unsigned>(i) / blockDim.x % blockDim.y;
  fiber.index.z = static_cast<unsigned>(i) / blockDim.x / blockDim.y;
}

void let_go_on(std::size_t w) {
  std::for_each_n(machine.fibers.begin() + static_cast<std::ptrdiff_t>(w * kWarp), kWarp,
                  [](Fiber& f) { f.state = State::ready; });
  machine.warps[w].ready = kWarp;
  machine.warps[w].waiting = 0;
}

// Lets those go on who have all come to where they wait. Returns false when nobody can.
bool release() {
  const bool whole_block = machine.waiting == machine.fibers.size();
  bool any = false;
  for (std::size_t w = 0; w < machine.warps.size(); ++w) {
    if (whole_block || machine.warps[w].waiting == kWarp) {
      let_go_on(w);
      any = true;
    }
  }
  if (whole_block) {
    machine.waiting = 0;
  }
  return any;
}

std::vector<std::uint32_t> order(std::size_t n, std::mt19937_64& random) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0U);
  if (machine.seed != 0) {
    std::shuffle(order.begin(), order.end(), random);
  }
  return order;
}

// Lets all that are ready and among `warps` (a bit for each) run until they wait. Returns false when there are none.
bool run_ready(std::uint64_t warps, std::mt19937_64& random) {
  machine.turn.clear();
  for (std::size_t w = 0; w < machine.warps.size(); ++w) {
    if (machine.warps[w].ready == 0 || (warps >> w & 1U) == 0) {
      continue;
    }
    for (std::size_t i = w * kWarp; i < (w + 1) * kWarp; ++i) {
      if (machine.fibers[i].state == State::ready) {
        machine.turn.push_back(static_cast<std::uint32_t>(i));
      }
    }
  }
  if (machine.seed != 0) {
    std::shuffle(machine.turn.begin(), machine.turn.end(), random);
  }
  for (const std::uint32_t i : machine.turn) {
    if (machine.failure.empty()) {
      resume(i);
    }
  }
  return !machine.turn.empty();
}

void run_block(std::mt19937_64& random) {
  std::vector<Fiber>& fibers = machine.fibers;
  for (std::size_t i = 0; i < fibers.size(); ++i) {
    prepare(fibers[i], i);
  }
  for (std::size_t w = 0; w < machine.warps.size(); ++w) {
    let_go_on(w);
  }
  machine.waiting = 0;
  // What the last block left in shared memory is not to be read: a pattern that is NaN in every type.
  std::fill(machine.shared.begin(), machine.shared.end(), std::bit_cast<double>(~std::uint64_t{0}));
  // Some warps go as far as they can before the others move: nothing but barriers keeps warps together.
  const std::uint64_t ahead = machine.seed == 0 ? ~std::uint64_t{0} : random();
  for (bool any = true; any && machine.failure.empty();) {
    any = run_ready(ahead, random) || run_ready(~ahead, random);
    any = release() || any;
  }
  if (machine.failure.empty() &&
      !std::all_of(fibers.begin(), fibers.end(), [](const Fiber& f) { return f.state == State::ended; })) {
    machine.failure = "some threads wait for others that wait elsewhere or have ended";
  }
}

}  // namespace

void use_order(std::uint64_t seed) {
  machine.seed = seed;
}

void run(const std::function<void()>& thread, Extent grid, Extent block, std::size_t shared_bytes) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  CHECK(threads > 0 && threads <= kMostThreads && threads % kWarp == 0,
        "a block of {} threads; whole warps, up to {} threads", threads, kMostThreads);
  CHECK(grid.x <= 0x7fffffffU && grid.y <= kMostBlocksYZ && grid.z <= kMostBlocksYZ, "a grid of {} x {} x {} blocks",
        grid.x, grid.y, grid.z);
  CHECK(shared_bytes <= kMostSharedBytes, "{} bytes of shared memory for a block; up to {}", shared_bytes,
        kMostSharedBytes);
  if (machine.stacks == nullptr) {
    machine.stacks = std::make_unique_for_overwrite<char[]>(kMostThreads * kStackBytes);
  }
  machine.thread = &thread;
  machine.fibers.resize(threads);
  machine.warps.resize(threads / kWarp);
  machine.shared.resize(ceil_div(shared_bytes, sizeof(double)));
  blockDim = block;
  gridDim = grid;
  std::mt19937_64 random(machine.seed);
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  for (const std::uint32_t b : order(blocks, random)) {
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    run_block(random);
    if (!machine.failure.empty()) {
      machine.stacks.reset();  // the fibers never leave their functions: a sanitizer's marks stay there
      const std::string failure = std::move(machine.failure);
      machine.failure.clear();
      CHECK(false, "kernel, block {} {} {}: {}", blockIdx.x, blockIdx.y, blockIdx.z, failure);
    }
  }
}

void* shared_memory() {
  return machine.shared.data();
}

void wait_for_block() {
  leave(State::waits_for_block);
}

void wait_for_warp() {
  leave(State::waits_for_warp);
}

unsigned lane() {
  return static_cast<unsigned>(machine.now) % kWarp;
}

const unsigned char* exchange(const void* value, std::size_t bytes) {
  Fiber& fiber = machine.fibers[machine.now];
  unsigned char* const values = machine.warps[machine.now / kWarp].values[fiber.exchanges++ % 2];
  std::memcpy(values + kExchanged * lane(), value, bytes);
  wait_for_warp();
  return values;
}

}  // namespace emulation

CosSin cos_sin_of_turns(double u) {
  const double angle = 2 * std::numbers::pi * u;
  return {std::cos(angle), std::sin(angle)};
}

void trap() {
  emulation::machine.failure =
      fmt::format("thread {} {} {} found an invariant broken", threadIdx.x, threadIdx.y, threadIdx.z);
  emulation::leave(emulation::State::ended);
}

namespace {

struct Piece {
  std::uint16_t at[8];
};

// element(rows, i, j) of each of the four matrices whose rows the warp's lanes give.
template <class F>
void exchange_rows(std::uint32_t (&to)[4], const void* row, F element) {
  Piece own, rows[kWarp];
  std::memcpy(&own, __builtin_assume_aligned(row, sizeof(own)), sizeof(own));
  const unsigned char* const values = emulation::exchange(&own, sizeof(own));
  for (unsigned i = 0; i < kWarp; ++i) {
    std::memcpy(&rows[i], values + i * emulation::kExchanged, sizeof(Piece));
  }
  const unsigned g = emulation::lane() / 4, t = 2 * (emulation::lane() % 4);
  for (unsigned m = 0; m < 4; ++m) {
    const Piece* const matrix = rows + 8 * m;
    to[m] = std::uint32_t{element(matrix, g, t + 1)} << 16 | element(matrix, g, t);
  }
}

}  // namespace

void load_matrices(std::uint32_t (&to)[4], const void* row) {
  exchange_rows(to, row, [](const Piece* matrix, unsigned i, unsigned j) { return matrix[i].at[j]; });
}

void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
  exchange_rows(to, row, [](const Piece* matrix, unsigned i, unsigned j) { return matrix[j].at[i]; });
}

void start_copy_16(void* to, const void* from) {
  emulation::machine.fibers[emulation::machine.now].copies.push_back({to, from});
}

void finish_copies() {
  for (const emulation::PendingCopy& copy : emulation::machine.fibers[emulation::machine.now].copies) {
    std::memcpy(__builtin_assume_aligned(copy.to, 16), __builtin_assume_aligned(copy.from, 16), 16);
  }
  emulation::machine.fibers[emulation::machine.now].copies.clear();
}

void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  struct Lane {
    std::uint32_t a[4], b[2];
  };
  static_assert(sizeof(Lane) == emulation::kExchanged);
  const Lane own = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  Lane lanes[kWarp];
  std::memcpy(lanes, emulation::exchange(&own, sizeof(own)), sizeof(lanes));
  const auto element = [](std::uint32_t pair, unsigned i) {
    Bf16 x;
    x.bits = static_cast<std::uint16_t>(pair >> (16 * i));
    return static_cast<float>(x);
  };
  const unsigned g = emulation::lane() / 4, t = 2 * (emulation::lane() % 4);
  float rows[2][16], columns[2][16];  // of a and b, those of which the lane has the products
  for (unsigned i = 0; i < 2; ++i) {
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned low = k % 8 / 2, high = k / 8;  // in a group of four lanes, and among a lane's registers
      rows[i][k] = element(lanes[4 * g + low].a[i + 2 * high], k % 2);
      columns[i][k] = element(lanes[4 * (t + i) + low].b[high], k % 2);
    }
  }
  for (unsigned i = 0; i < 4; ++i) {
    for (unsigned k = 0; k < 16; ++k) {
      c[i] += rows[i / 2][k] * columns[i % 2][k];
    }
  }
}

}  // namespace foretrain::kernels::cuda
