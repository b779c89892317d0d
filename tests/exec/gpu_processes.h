// Threads that take the parts of processes with a pretended GPU each, as torchrun starts them.
#pragma once

#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "exec/processes.h"
#include "exec/socket.h"
#include "exec/tcp_transport.h"
#include "tests/exec/pretend_fabric.h"

namespace foretrain::testing {

// Calls act(processes, gpu) on a thread for each process; what each threw, by process.
template <class Act>
std::vector<std::string> in_processes(int count, std::uint64_t seed, PretendFabric& fabric, const Act& act) {
  const std::uint16_t port = exec::Socket::listen(0).port();
  std::vector<std::string> failures(static_cast<std::size_t>(count));
  std::vector<std::thread> threads;
  for (int p = 0; p < count; ++p) {
    threads.emplace_back([&, p] {
      try {
        exec::Processes processes(exec::meet_over_tcp({p, count, "127.0.0.1", port}), "threads");
        PretendGpu gpu(seed + static_cast<std::uint64_t>(p), Bytes{100'000'000}, &fabric);
        act(processes, gpu);
      } catch (const std::exception& e) {
        failures[static_cast<std::size_t>(p)] = e.what();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return failures;
}

}  // namespace foretrain::testing
