// What calibrate measures, in phases: each a program of its own, run again and again in turn with the others.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "exec/calibrate_scale.h"
#include "exec/calibrate_session.h"
#include "topologies/profile.h"

namespace foretrain::exec {

// Where ranks run, and how much of it is measured. All of it outlives the phases.
struct Site {
  CalibrateScale scale;
  int cores = 1;                   // that ranks take turns on: a GPU counts as one
  Gpu* gpu = nullptr;              // the ranks', unless they are on cores
  Processes* processes = nullptr;  // a rank in each, with a GPU each
};

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
  Phase(std::string name, const Site& site, int ranks, plan::Axis axis, Bytes pool, int times, Bytes host = {},
        int groups = 1)
      : site_(site),
        program_(ranks, axis, pool, host, groups),
        session_(program_, site.gpu, site.processes),
        ranks_(ranks),
        times_(times),
        name_(std::move(name)) {}

  const Site& site_;
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
  explicit OpsPhase(const Site& site);
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
  SharingPhase(const Site& site, int ranks);
  void report(topologies::Measured& measured) const override;

 private:
  struct Stretch {
    std::string kind;
    Probe probe;
    std::int64_t bytes = 0;
    int times = 0;
    std::vector<ProbeSession::Stretch> together;  // by role
    ProbeSession::Stretch alone;
  };
  ProbeSession::Stretch add(const Stretch& stretch, int role);
  void meet();

  std::vector<Stretch> stretches_;
};

// Ranks at work slow each other no more than more of them do: what fewer were slowed beyond that was not their doing.
void level(std::vector<topologies::SharingSample>& sharing);

// Communication among ranks that have just computed what they send. They arrive as they do in training: a little apart,
// so that some sleep.
class CollectivesPhase : public Phase {
 public:
  // `groups`: so many at once, each of that many ranks.
  CollectivesPhase(const Site& site, int ranks, int groups = 1);
  void report(topologies::Measured& measured) const override;

 private:
  struct Measurement {
    std::string kind;
    std::int64_t bytes = 0;
    std::vector<int> positions;
  };
  const int groups_;
  std::vector<Measurement> measurements_;
};

class MessagesPhase : public Phase {
 public:
  // Between the first two; `groups` as above.
  MessagesPhase(const Site& site, int ranks, int groups = 1);
  void report(topologies::Measured& measured) const override;

 private:
  struct Measurement {
    std::int64_t bytes = 0;
    std::vector<int> positions;
  };
  const int groups_;
  std::vector<Measurement> measurements_;
};

// What a host thread takes to hand a GPU an op, and one that waits for another stream's.
class LaunchesPhase : public Phase {
 public:
  explicit LaunchesPhase(const Site& site);
  void report(topologies::Measured& measured) const override;

 private:
  struct Stretch {
    int first = 0, last = 0;
  } apart_, waiting_;
};

// Compute beside communication of the same rank: how they slow each other.
class OverlapPhase : public Phase {
 public:
  OverlapPhase(const Site& site, int ranks);
  void report(topologies::Measured& measured) const override;

 private:
  struct Stretch {
    std::string kind;
    std::vector<int> compute, communication;  // at once
    int compute_alone = 0, communication_alone = 0;
  };
  std::vector<Stretch> stretches_;
};

}  // namespace foretrain::exec
