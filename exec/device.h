// What an executor needs of a device: streams, events, and ops launched on them.
//
// Streams are first in, first out; events order them, with the meaning CUDA gives them: wait() waits for the latest
// record() enqueued before it, and for nothing when there was none. launch() may return before the op has run; operands
// stay valid until synchronise(). A device serves one rank and is called from that rank's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/units.h"
#include "exec/op_call.h"

namespace foretrain::exec {

struct StreamHandle {
  std::int32_t index = -1;
};
struct EventHandle {
  std::int32_t index = -1;
};

// Told of every op, in order of completion, from the rank's thread. Times are of clock.h; communication starts when its
// last partner had posted.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void completed(const OpCall& call, Time start, Time end) = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual StreamHandle create_stream() = 0;
  virtual EventHandle create_event() = 0;

  // Enqueues an op: a kernel, a collective or an exchange.
  virtual void launch(StreamHandle stream, const OpCall& call) = 0;
  // Enqueues a function of the host.
  virtual void launch_host(StreamHandle stream, std::function<void()> function) = 0;
  // Enqueues a look at a few bytes of the rank's memory, as they are then: `use` is called with them some time later,
  // and the stream does not wait for it.
  virtual void launch_read(StreamHandle stream, const void* from, std::int64_t bytes,
                           std::function<void(const std::byte*)> use) = 0;
  virtual void record(EventHandle event, StreamHandle stream) = 0;
  virtual void wait(StreamHandle stream, EventHandle event) = 0;

  // Returns when all streams are empty. Throws what an op threw, EnvironmentError when a partner did not come within
  // the timeout, and Cancelled; the device takes no further ops then.
  virtual void synchronise() = 0;
};

}  // namespace foretrain::exec
