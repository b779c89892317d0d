// What connects pretended GPUs of one process, as a library like NCCL would: operations meet by their order on each
// circle, in streams that run late; a send ends when it has been received; a call is in its stream only some time after
// it was made. Sums are in the order of members. What the contract forbids ends the test.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "exec/collectives.h"
#include "tests/exec/pretend_gpu.h"

namespace foretrain::testing {

class PretendFabric {
 public:
  PretendFabric();
  ~PretendFabric();

  // For the thread that uses that GPU.
  std::unique_ptr<exec::CollectiveLibrary> library(PretendGpu& gpu);

  // From now on whoever asks is told that a member is gone.
  void break_down();
  int circles() const;  // that there have been

 private:
  class Library;
  class End;
  struct Circle;
  struct State;

  std::shared_ptr<State> state_;
};

}  // namespace foretrain::testing
