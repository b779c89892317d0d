// All-reduce of fp32 over the ranks of this run, threads or, under mpirun, processes: time and algbw beside what memory
// allows and, under mpirun, beside MPI's own. Memory's bound: one pass reads and writes as much per rank as a copy of
// the whole buffer, all ranks at once.
//
//   build/release/all_reduce_bench              two threads
//   mpirun -n 2 build/release/all_reduce_bench  two processes
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

#include "bench/mpi_all_reduce.h"
#include "exec/clock.h"
#include "exec/world.h"

namespace foretrain::bench {
namespace {

constexpr std::int64_t kSizes[] = {256 << 10, 4 << 20, 256 << 20};
constexpr int kBatches = 7;
constexpr double kBatchSeconds = 0.1;

// One rank: its end, its memory, and a barrier with the others.
class Rank {
 public:
  Rank(exec::World& world, plan::Rank rank) : communicator_(world.communicator(rank)), arena_(world.arena(rank)) {
    for (plan::Rank r = 0; r < world.ranks(); ++r) {
      group_.members.push_back(r);
    }
    group_.index = static_cast<int>(rank);
  }

  void all_reduce(std::byte* data, std::int64_t bytes) {
    exec::CollectiveCall call;
    call.key = {{0, 0, 0}, step_++, 0, -1};
    call.kind = plan::CollectiveKind::all_reduce;
    call.elements = bytes / 4;
    call.in = call.out = data;
    call.group = &group_;
    const exec::Communicator::Ticket ticket = communicator_.post(call);
    while (true) {
      const std::uint32_t seen = communicator_.progress_count();
      if (communicator_.poll(ticket, nullptr)) {
        return;
      }
      for (int i = 0; communicator_.may_spin() && i < 2000 && communicator_.progress_count() == seen; ++i) {
        __builtin_ia32_pause();
      }
      communicator_.wait(seen, std::chrono::milliseconds(50));
    }
  }
  void barrier() { all_reduce(arena_, 4); }
  std::byte* data() const { return arena_ + 64; }
  std::byte* other(std::int64_t bytes) const { return arena_ + 64 + bytes; }
  bool is_first() const { return group_.index == 0; }

 private:
  exec::Communicator& communicator_;
  std::byte* arena_;
  exec::GroupView group_;
  std::int32_t step_ = 0;
};

// Seconds per call when all ranks make it, the least of some batches: noise only adds.
double seconds_of(Rank& rank, std::int64_t bytes, const std::function<void()>& call) {
  const int times = static_cast<int>(std::clamp(kBatchSeconds / (static_cast<double>(bytes) / 5e9), 1.0, 2000.0));
  double least = std::numeric_limits<double>::max();
  for (int batch = 0; batch < kBatches; ++batch) {
    rank.barrier();
    const Time start = exec::now();
    for (int i = 0; i < times; ++i) {
      call();
    }
    rank.barrier();
    least = std::min(least, seconds(exec::now() - start) / times);
  }
  return least;
}

void measure(Rank& rank, const char* how) {
  for (const std::int64_t bytes : kSizes) {
    const double copy =
        seconds_of(rank, bytes, [&] { std::memcpy(rank.other(bytes), rank.data(), static_cast<std::size_t>(bytes)); });
    const double own = seconds_of(rank, bytes, [&] { rank.all_reduce(rank.data(), bytes); });
    const double mpi =
        has_mpi() ? seconds_of(rank, bytes, [&] { mpi_all_reduce(rank.data(), rank.other(bytes), bytes); }) : 0;
    if (rank.is_first()) {
      const auto rate = [&](double s) { return static_cast<double>(bytes) / s * 1e-9; };
      fmt::print("{:<8} {:>10} {:>12.1f} us {:>8.2f} GB/s {:>14.2f} {}\n", how, to_string(Bytes{bytes}), own * 1e6,
                 rate(own), copy / own,
                 mpi > 0 ? fmt::format("{:>10.2f} GB/s {:>8.1f}", rate(mpi), mpi / own) : std::string());
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace foretrain::bench

int main() {
  using namespace foretrain;  // NOLINT: a program of one file
  const std::unique_ptr<exec::Processes> processes = exec::join_processes();
  const int ranks = std::max(2, processes->count());
  exec::World world(*processes, ranks);
  world.allocate_arenas(std::vector<Bytes>(static_cast<std::size_t>(ranks), Bytes{64 + 2 * (std::int64_t{256} << 20)}));
  if (processes->number() == 0) {
    fmt::print("{:<8} {:>10} {:>15} {:>13} {:>14} {:>15} {:>8}\n", "ranks", "bytes", "time", "algbw", "of memory's",
               processes->count() > 1 ? "MPI_Allreduce" : "", processes->count() > 1 ? "faster" : "");
  }
  std::vector<std::thread> threads;
  for (const plan::Rank r : world.ranks_here()) {
    threads.emplace_back([&, r] {
      bench::Rank rank(world, r);
      std::memset(rank.data(), 0, std::size_t{2} * (std::size_t{256} << 20) - 64);
      bench::measure(rank, processes->count() > 1 ? "MPI" : "threads");
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}
