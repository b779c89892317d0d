// What a plan takes at least, before it is built: of a step's time and of a device's memory. Both are bounds of what a
// simulation, and the replay of its memory, would say.
//
// A microbatch's way through the layers is priced once for all plans that share it (one stage, all layers). From that
// follow the forward and backward of every stage of every split, as sim/least_time.h has them. With m microbatches, and
// f and b the time of one in a stage:
//
//   time    the stage that has most to do does it m times; stages before it have one forward and backward to do before
//           its first, and behind its last (1F1B and its interleaved form). Where backwards are split in halves, or
//           exchanges hidden behind another microbatch, only the ops that compute count, and no ramp.
//   memory  parameters, gradients and optimizer state of the layers, as zero shares them out, in the mean over stages;
//           what forwards keep until their backwards, of the rank that has most of them under way.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/units.h"
#include "search/plan_space.h"

namespace foretrain::search {

struct Bound {
  Time step_time;
  Bytes memory;
};

class ShapeBounds {
 public:
  explicit ShapeBounds(const plan::OpenJob& open);
  ~ShapeBounds();

  // Nothing where the job refuses a plan of one stage of this kind; why, is in `why` then. From any thread.
  std::optional<Bound> bound(const Shape& shape, std::string& why);
  // Of the shape, with this tail. REQUIRES: bound() gave one.
  Bytes memory(const Shape& shape, const Tail& tail);

 private:
  class Probe;
  std::shared_ptr<Probe> probe(const Shape& shape);
  // Forwards of a stage that wait for their backward on a rank, at most.
  std::int64_t in_flight(const Shape& shape);

  const plan::OpenJob& open_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Probe>> probes_;  // by what of a shape they have in common
  std::map<std::string, std::int64_t> in_flight_;         // by schedule
};

}  // namespace foretrain::search
