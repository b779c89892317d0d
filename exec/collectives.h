// The few calls of a library like NCCL that exchange between GPUs needs: what is called on every member of a circle of
// GPUs, in the same order, meets on the GPUs, in streams. No call waits for another member. Throws EnvironmentError for
// what the library reports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/dtype.h"
#include "exec/gpu_stream.h"

namespace foretrain::exec {

// One member's end. Operands are this GPU's, `elements` as in plan::Collective; sums are taken in the library's order.
// All operations of an end go into one stream. From one thread at a time.
class Collectives {
 public:
  // Aborts what is not over.
  virtual ~Collectives() = default;

  virtual void all_reduce(const void* in, void* out, std::int64_t elements, Dtype dtype, GpuStream stream) = 0;
  virtual void reduce_scatter(const void* in, void* out, std::int64_t elements, Dtype dtype, GpuStream stream) = 0;
  virtual void all_gather(const void* in, void* out, std::int64_t elements, Dtype dtype, GpuStream stream) = 0;
  virtual void broadcast(const void* in, void* out, std::int64_t elements, Dtype dtype, int root, GpuStream stream) = 0;
  // Within a batch of the library only.
  virtual void send(const void* data, std::int64_t elements, Dtype dtype, int to, GpuStream stream) = 0;
  virtual void receive(void* data, std::int64_t elements, Dtype dtype, int from, GpuStream stream) = 0;

  // Whether what was called last, joining included, is in its stream. Until then nothing else may be called but this
  // and abort(). Throws when the exchange has failed, now or long after the call.
  virtual bool is_settled() = 0;
  // What is in the stream ends without the others; only the destructor may be called then.
  virtual void abort() = 0;
};

class CollectiveLibrary {
 public:
  static constexpr std::size_t kIdBytes = 128;
  virtual ~CollectiveLibrary() = default;

  virtual std::string name() const = 0;  // "NCCL 2.28.9"
  // Of a circle to be: kIdBytes of any value, which one member asks for and all join with.
  virtual std::string new_id() = 0;
  virtual std::unique_ptr<Collectives> join(const std::string& id, int members, int index) = 0;

  // Sends and receives in between, of one end, go together.
  virtual void begin_batch() = 0;
  virtual void end_batch() = 0;
};

}  // namespace foretrain::exec
