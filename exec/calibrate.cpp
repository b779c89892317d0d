#include "exec/calibrate.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <memory>
#include <numeric>
#include <variant>

#include "exec/calibrate_grid.h"
#include "exec/calibrate_session.h"
#include "exec/event_count.h"
#include "plan/cost_kind.h"
#include "plan/work.h"
#include "topologies/this_machine.h"

namespace foretrain::exec {

namespace {

using topologies::Measured;

constexpr Bytes kPool{std::int64_t{64} << 20};
constexpr int kMostRanks = 8;
// Shortest time that ranks sharing cores are watched: several of the scheduler's slices.
constexpr double kSharingFlops = 1e9, kSharingBytes = 256e6;

Bytes bytes_of(const plan::Work& work) {
  plan::Op op;
  op.work = work;
  const plan::OpWork w = plan::work(op);
  return w.read + w.written;
}

// What a phase measures: a program, and how its times enter the profile.
class Phase {
 public:
  Phase(std::string name, int ranks, plan::Axis axis, Bytes pool)
      : program_(ranks, axis, pool), ranks_(ranks), name_(std::move(name)) {}
  virtual ~Phase() = default;
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

  const std::string& name() const { return name_; }
  void run_round(const std::atomic<bool>* interrupted) {
    if (!session_) {
      session_ = std::make_unique<ProbeSession>(program_, 1, interrupted);
    }
    session_->run_round();
  }
  virtual void report(Measured& measured) const = 0;

 protected:
  ProbeProgram program_;
  const int ranks_;
  std::unique_ptr<ProbeSession> session_;

 private:
  std::string name_;
};

// One rank: every op of the grids, each after different ones as in training; once on memory that was not touched
// lately, once more at once.
class ComputePhase : public Phase {
 public:
  ComputePhase() : Phase("ops of one rank", 1, plan::Axis::dp, kPool) {
    for (std::vector<Probe> grid : {matmul_grid(), attention_grid(), memory_grid(program_)}) {
      probes_.insert(probes_.end(), std::make_move_iterator(grid.begin()), std::make_move_iterator(grid.end()));
    }
    // Neighbours in a grid are not neighbours in time: a burst of other work hits no region of it as a whole.
    const std::size_t n = probes_.size();
    std::size_t stride = n * 5 / 8 | 1;
    while (std::gcd(stride, n) != 1) {
      stride += 2;
    }
    positions_.resize(n);
    for (std::size_t i = 0, at = 0; i < n; ++i, at = (at + stride) % n) {
      positions_[at] = program_.add(probes_[at]);
      last_ = program_.repeat();
    }
  }

  void report(Measured& measured) const override {
    for (std::size_t i = 0; i < probes_.size(); ++i) {
      const double cold = session_->of_op(positions_[i]), warm = session_->of_op(positions_[i] + 1);
      enter(probes_[i].work, std::sqrt(cold * warm), measured);
      if (const char* f = std::getenv("CAL_DUMP")) {
        static std::FILE* file = std::fopen(f, "w");
        plan::Op op;
        op.work = probes_[i].work;
        std::fprintf(file, "%s %d", plan::cost_kind(op.work).c_str(), (int)plan::cost_dtype(op.work));
        if (const auto* m = std::get_if<plan::Matmul>(&op.work))
          std::fprintf(file, " %d%d %ldx%ldx%ld", m->trans_a, m->trans_b, m->m, m->n, m->k);
        if (const auto* m = std::get_if<plan::Attention>(&op.work))
          std::fprintf(file, " seq%ld d%ld h%ld", m->seq, m->head_dim, m->heads);
        std::fprintf(file, " bytes %ld flops %g cold %.3f warm %.3f us\n", bytes_of(op.work).value,
                     plan::work(op).flops, cold * 1e6, warm * 1e6);
        std::fflush(file);
      }
    }
    std::vector<double> gaps = session_->gaps(0, last_);
    const auto middle = gaps.begin() + static_cast<std::ptrdiff_t>(gaps.size() / 2);
    std::nth_element(gaps.begin(), middle, gaps.end());
    measured.dispatch_seconds = *middle;
  }

 private:
  static void enter(const plan::Work& work, double seconds, Measured& measured) {
    if (const auto* m = std::get_if<plan::Matmul>(&work)) {
      measured.matmul.push_back({m->in, m->out, m->trans_a, m->trans_b, m->m, m->n, m->k, seconds});
    } else if (const auto* a = std::get_if<plan::Attention>(&work)) {
      measured.attention.push_back({std::string(plan::name(a->step)), a->dtype, a->batch, a->seq, a->heads, a->kv_heads,
                                    a->head_dim, a->causal, seconds});
    } else {
      measured.memory.push_back({plan::cost_kind(work), plan::cost_dtype(work), bytes_of(work).value, seconds});
    }
  }

  std::vector<Probe> probes_;
  std::vector<int> positions_;
  int last_ = 0;
};

// Several ranks, or one for reference: what they cost each other, and collectives among them.
class RanksPhase : public Phase {
 public:
  explicit RanksPhase(int ranks)
      : Phase(fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s"), ranks, plan::Axis::dp,
              ranks <= 2 ? kPool : Bytes{kPool.value / 4}) {
    add_sharing();
    if (ranks > 1) {
      add_collectives();
    }
  }

  struct Shared {
    std::string kind;
    std::int64_t bytes = 0;
    double seconds = 0;
  };
  std::vector<Shared> shared() const {
    std::vector<Shared> result;
    for (const Run& run : runs_) {
      result.push_back({run.kind, run.bytes, session_->of_run(run.first, run.last)});
    }
    return result;
  }
  int ranks() const { return ranks_; }

  void report(Measured& measured) const override {
    for (const auto& [kind, bytes, positions] : collectives_) {
      std::vector<double> values;
      for (const int p : positions) {
        values.push_back(session_->of_op(p));
      }
      measured.collectives.push_back({kind, ranks_, bytes, lower_quartile(std::move(values))});
    }
  }

 private:
  struct Run {
    std::string kind;
    std::int64_t bytes = 0;
    int first = 0, last = 0;
  };
  struct CollectiveProbe {
    std::string kind;
    std::int64_t bytes = 0;
    std::vector<int> positions;
  };

  Probe collective(plan::CollectiveKind kind, std::int64_t elements) {
    plan::Collective op;
    op.kind = kind;
    op.group = 0;
    op.elements = elements;
    op.tag = program_.new_tag();
    const ProbeTensor full{Dtype::fp32, elements}, part{Dtype::fp32, elements / ranks_, 0};
    switch (kind) {
      case plan::CollectiveKind::reduce_scatter: return {op, {full, part}, {0}, {1}};
      case plan::CollectiveKind::all_gather: return {op, {full, part}, {1}, {0}};
      default: return {op, {full}, {0}, {0}};
    }
  }

  void meet() {
    if (ranks_ > 1) {
      program_.add(collective(plan::CollectiveKind::all_reduce, ranks_));
    }
  }

  void add_run(const std::string& kind, const Probe& probe, std::int64_t bytes, int times) {
    meet();
    Run run{kind, bytes, program_.add(probe), 0};
    for (int i = 0; i < times; ++i) {
      run.last = program_.repeat();
    }
    runs_.push_back(run);
  }

  void add_sharing() {
    plan::Matmul product;
    product.m = product.n = product.k = 384;
    product.trans_b = true;
    const std::int64_t n = product.m * product.n;
    add_run("matmul", {product, {{Dtype::fp32, n}, {Dtype::fp32, n}, {Dtype::fp32, n}}, {0, 1}, {2}}, 12 * n,
            static_cast<int>(kSharingFlops / (2.0 * static_cast<double>(n * product.k))));
    for (std::int64_t bytes = 64 << 10; bytes <= 16 << 20; bytes *= 4) {
      const plan::Accumulate add{bytes / 12, Dtype::fp32};
      add_run("memory", {add, {{Dtype::fp32, add.elements}, {Dtype::fp32, add.elements}}, {0, 1}, {1}}, bytes,
              static_cast<int>(kSharingBytes / static_cast<double>(bytes)));
    }
  }

  void add_collectives() {
    const std::int64_t most = ranks_ <= 2 ? kPool.value : kPool.value / 4;
    for (const auto kind :
         {plan::CollectiveKind::all_reduce, plan::CollectiveKind::reduce_scatter, plan::CollectiveKind::all_gather}) {
      for (std::int64_t bytes = 1024; bytes <= most; bytes *= 4) {
        const std::int64_t elements = bytes / 4 / ranks_ * ranks_;
        CollectiveProbe probe{std::string(plan::name(kind)), elements * 4, {}};
        for (int i = 0; i < (bytes <= 1 << 18 ? 8 : 2); ++i) {
          meet();
          probe.positions.push_back(program_.add(collective(kind, elements)));
        }
        collectives_.push_back(std::move(probe));
      }
    }
  }

  std::vector<Run> runs_;
  std::vector<CollectiveProbe> collectives_;
};

// Two ranks, one message at a time.
class ExchangePhase : public Phase {
 public:
  ExchangePhase() : Phase("messages", 2, plan::Axis::pp, kPool) {
    for (std::int64_t bytes = 1024; bytes <= kPool.value; bytes *= 4) {
      std::vector<int> positions;
      for (int i = 0; i < (bytes <= 1 << 18 ? 8 : 2); ++i) {
        const std::int32_t tag = program_.new_tag();
        const auto message = [&](bool send) {
          return plan::Exchange{{plan::Message{send, plan::Axis::pp, send ? 1 : 0, bytes / 4, Dtype::fp32, tag}}};
        };
        positions.push_back(program_.add({message(true), {{Dtype::fp32, bytes / 4}}, {0}, {}}, 0));
        program_.add({message(false), {{Dtype::fp32, bytes / 4}}, {}, {0}}, 1);
      }
      sizes_.emplace_back(bytes, std::move(positions));
    }
  }

  void report(Measured& measured) const override {
    for (const auto& [bytes, positions] : sizes_) {
      std::vector<double> values;
      for (const int p : positions) {
        values.push_back(session_->of_op(p));
      }
      measured.exchanges.push_back({bytes, lower_quartile(std::move(values))});
    }
  }

 private:
  std::vector<std::pair<std::int64_t, std::vector<int>>> sizes_;
};

std::vector<int> rank_counts(int cores) {
  std::vector<int> counts;
  for (const int n : {1, 2, 3, 4, 6, 8}) {
    if (n <= std::min(kMostRanks, 2 * cores)) {
      counts.push_back(n);
    }
  }
  return counts;
}

void report_sharing(const std::vector<std::unique_ptr<RanksPhase>>& phases, Measured& measured) {
  const std::vector<RanksPhase::Shared> alone = phases.front()->shared();
  for (const auto& phase : phases) {
    const std::vector<RanksPhase::Shared> together = phase->shared();
    for (std::size_t i = 0; i < alone.size(); ++i) {
      measured.sharing.push_back(
          {phase->ranks(), alone[i].kind, alone[i].bytes, together[i].seconds / alone[i].seconds});
    }
  }
}

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

}  // namespace

topologies::Profile calibrate(const CalibrateOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const int cores = available_cores();
  ComputePhase compute;
  ExchangePhase exchange;
  std::vector<std::unique_ptr<RanksPhase>> ranks;
  for (const int n : rank_counts(cores)) {
    ranks.push_back(std::make_unique<RanksPhase>(n));
  }
  std::vector<Phase*> phases{&compute, &exchange};
  for (const auto& phase : ranks) {
    phases.push_back(phase.get());
  }

  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  const auto budget = static_cast<double>(options.budget.count());
  double longest_round = 0;
  do {
    const double start = elapsed();
    for (Phase* const phase : phases) {
      if (options.on_progress) {
        options.on_progress(std::min(1.0, elapsed() / budget), phase->name());
      }
      phase->run_round(options.interrupted);
    }
    longest_round = std::max(longest_round, elapsed() - start);
  } while (elapsed() + longest_round < budget);

  topologies::Profile profile;
  profile.name = options.name;
  Measured& measured = profile.measured;
  measured.cores = cores;
  measured.machine =
      fmt::format("{}, {} cores, {}", topologies::processor_name(), cores, to_string(topologies::available_memory()));
  profile.description = fmt::format("measured on {}", measured.machine);
  measured.date = date_now();
  measured.commit = options.commit;
  measured.command = options.command;
  for (const Phase* const phase : phases) {
    phase->report(measured);
  }
  report_sharing(ranks, measured);
  return profile;
}

}  // namespace foretrain::exec
