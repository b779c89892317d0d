// What calibrate measures, in phases: each a program of its own, run again and again in turn with the others.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "exec/calibrate_session.h"
#include "topologies/profile.h"

namespace foretrain::exec {

class Phase {
 public:
  virtual ~Phase() = default;
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

  const std::string& name() const { return name_; }
  void run(const std::atomic<bool>* interrupted) { session_.run(times_, interrupted); }
  // Enters what was measured into the profile. REQUIRES: it has run.
  virtual void report(topologies::Measured& measured) const = 0;

 protected:
  Phase(std::string name, int ranks, plan::Axis axis, Bytes pool, int times)
      : program_(ranks, axis, pool), session_(program_), ranks_(ranks), times_(times), name_(std::move(name)) {}

  ProbeProgram program_;
  ProbeSession session_;
  const int ranks_;

 private:
  const int times_;
  const std::string name_;
};

// Ops of one rank. Each runs among others unlike it, as in training: once on memory that was not touched lately, then
// once more on the same.
class OpsPhase : public Phase {
 public:
  OpsPhase();
  void report(topologies::Measured& measured) const override;

 private:
  struct Measurement {
    plan::Work work;
    int position = -1, cached_position = -1;
  };
  std::vector<Measurement> measurements_;
};

// Ranks that compute the same at once: how they slow each other.
class SharingPhase : public Phase {
 public:
  SharingPhase(int ranks, int cores);
  void report(topologies::Measured& measured) const override;

 private:
  struct Stretch {
    std::string kind;
    Probe probe;
    std::int64_t bytes = 0;
    int times = 0;
    ProbeSession::Stretch together, alone;
  };
  ProbeSession::Stretch add(const Stretch& stretch, int role);
  void meet();

  const int cores_;
  std::vector<Stretch> stretches_;
};

// Communication among ranks that have just computed what they send. They arrive as they do in training: a little apart,
// so that some sleep.
class CollectivesPhase : public Phase {
 public:
  explicit CollectivesPhase(int ranks);
  void report(topologies::Measured& measured) const override;

 private:
  struct Measurement {
    std::string kind;
    std::int64_t bytes = 0;
    std::vector<int> positions;
  };
  std::vector<Measurement> measurements_;
};

class MessagesPhase : public Phase {
 public:
  MessagesPhase();
  void report(topologies::Measured& measured) const override;

 private:
  struct Measurement {
    std::int64_t bytes = 0;
    std::vector<int> positions;
  };
  std::vector<Measurement> measurements_;
};

}  // namespace foretrain::exec
