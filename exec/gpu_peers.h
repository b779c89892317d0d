// A rank with a GPU of its own, and the ranks on other GPUs that it exchanges with by a collective library: a
// communicator for each of its circles (circles.h). Nobody meets on the host; the streams do on the GPUs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/circles.h"
#include "exec/collectives.h"
#include "exec/gpu_communicator.h"

namespace foretrain::exec {

class GpuPeers {
 public:
  // The GPU and its events must outlive the peers.
  GpuPeers(Gpu& gpu, EventPool& events, std::unique_ptr<CollectiveLibrary> library, const plan::PlanGraph& graph,
           plan::Rank rank);
  ~GpuPeers();
  GpuPeers(const GpuPeers&) = delete;
  GpuPeers& operator=(const GpuPeers&) = delete;

  // Identities of the circles whose first member this rank is; and, once every rank's are known, joins all of its own,
  // in the order of circles. `check` is called while others are waited for, and may throw.
  std::string offer();
  void join(const std::vector<std::string>& offers, const std::function<void()>& check);

  // As long as the peers. Its operations start when this rank has come to them: when the others have is not known.
  GpuCommunicator& communicator();

  // Aborts what is under way; the rank's next submit or wait throws Cancelled, for good. From any thread.
  void cancel();

 private:
  class Endpoint;

  std::unique_ptr<CollectiveLibrary> library_;
  std::vector<std::vector<plan::Rank>> circles_;
  plan::Rank rank_;
  std::unique_ptr<Endpoint> endpoint_;
};

}  // namespace foretrain::exec
