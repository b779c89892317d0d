// What the tests of exec/ share: tokens, and a job beside one rank.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "exec/executor.h"
#include "exec/verify.h"
#include "plan/job.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::testing {

// Learnable tokens below `vocab`: words of a small grammar, chosen by a hash of step, sequence and place. Noise would
// hide mistakes that grow with learning.
class GrammarData : public exec::DataSource {
 public:
  explicit GrammarData(std::int64_t vocab) : vocab_(vocab) {}

  void sequence(std::int64_t step, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    std::uint64_t state =
        static_cast<std::uint64_t>(step) * 0x9E3779B97F4A7C15u + static_cast<std::uint64_t>(index) + 1;
    std::int64_t token = static_cast<std::int64_t>(mix(state) % static_cast<std::uint64_t>(vocab_));
    for (std::int64_t i = 0; i <= seq_len; ++i) {
      ids[i] = static_cast<std::int32_t>(token);
      state += 0x9E3779B97F4A7C15u;
      token = (token * 5 + 7 + static_cast<std::int64_t>(mix(state) % 3)) % vocab_;
    }
  }

 private:
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::int64_t vocab_;
};

// The rank that asks for this sequence of this step has trouble first.
class TroubledData : public exec::DataSource {
 public:
  TroubledData(std::int64_t step, std::int64_t index, std::function<void()> trouble)
      : step_(step), index_(index), trouble_(std::move(trouble)) {}

  void sequence(std::int64_t step, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    thread_local Witness witness;
    witness.ended = ended_;
    if (step == step_ && index == index_) {
      trouble_();
    }
    data_.sequence(step, index, seq_len, ids);
  }
  // Trouble that lasts until the thread of another rank, which asked for data before, has ended: that has given up.
  void hang() const { ended_->wait(false); }

 private:
  struct Witness {
    ~Witness() {
      *ended = true;
      ended->notify_all();
    }
    std::shared_ptr<std::atomic<bool>> ended;
  };

  std::int64_t step_, index_;
  std::function<void()> trouble_;
  std::shared_ptr<std::atomic<bool>> ended_ = std::make_shared<std::atomic<bool>>(false);
  GrammarData data_{61};
};

// Long enough for ranks that compute to come on a busy machine; whoever hangs is waited for as long.
inline constexpr std::chrono::milliseconds kHangTimeout{3000};

// What one replica of `replicas` sees: of the `dp` sequences that belong together in a batch, those of its neighbours.
class OfReplica : public exec::DataSource {
 public:
  OfReplica(const exec::DataSource& all, std::int64_t dp, std::int64_t replica, std::int64_t replicas)
      : all_(all), dp_(dp), first_(dp / replicas * replica), size_(dp / replicas) {}
  void sequence(std::int64_t step, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    all_.sequence(step, index / size_ * dp_ + first_ + index % size_, seq_len, ids);
  }

 private:
  const exec::DataSource& all_;
  std::int64_t dp_, first_, size_;
};

// A run of so many steps; what is dead must not be read.
inline exec::RunOptions steps(int n) {
  exec::RunOptions options;
  options.steps = n;
  options.timeout = std::chrono::seconds(20);
  options.poison = true;
  return options;
}

// As many steps as show a mistake in whatever goes from one to the next; of bf16, some for it to grow.
exec::Tolerance brief(const plan::Job& job);

// What one rank trains with the job's workload, briefly. Many plans have the same: each is trained once.
const exec::Course& one_rank_course(const plan::Job& job, const exec::DataSource& data,
                                    const exec::VerifyOptions& options);

// The plan is valid, and trains like one rank to the tolerances of its precision. With poisoned memory: what is dead
// must not be read.
void expect_parity(const char* model, const std::vector<std::string>& overrides);

}  // namespace foretrain::testing
