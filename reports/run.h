// What a real run did: the document foretrain.run/1, and the same for people.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "plan/channel.h"
#include "plan/host_traffic.h"
#include "plan/job.h"

namespace foretrain::reports {

// Agreement with one rank: the largest relative errors over steps (loss) and tensors (gradients).
struct Verification {
  double max_rel_loss = 0, max_rel_grad = 0;
  double tolerance = 0;  // of the loss
  double grad_tolerance = 0;
  int steps = 0;
  bool passed = false;
  std::string worst_tensor;  // where max_rel_grad stands
};

// Of sequences that the model answered by itself, those that it answered rightly; and of their tokens.
struct Answered {
  std::int64_t sequences = 0, right_sequences = 0;
  std::int64_t tokens = 0, right_tokens = 0;
};

// Of padded sequences those whose class the model found the likeliest.
struct Classified {
  std::int64_t sequences = 0, right = 0;
};

struct RunReport {
  const plan::Job* job = nullptr;  // must outlive the report
  std::int64_t ranks = 0;
  std::int64_t first_step = 0;
  std::vector<double> step_seconds, loss, grad_norm;  // per step
  double loss_scale = 0;                              // in the end, where losses are scaled
  plan::Staleness staleness;                          // of asynchronous updates
  std::optional<double> validation_loss;
  std::optional<double> unigram_loss;     // of the same text: what a model without context reaches
  Bytes arena;                            // planned and allocated, of the largest rank
  Bytes workspace;                        // of libraries and communicators, all ranks
  Bytes of_storage, of_cache;             // read to train on, all ranks; 0 where nobody counted
  plan::HostTraffic sent;                 // from host to host, as counted
  std::optional<plan::HostTraffic> told;  // and as the plan has it, where what is counted can be told
  std::string checkpoint_folder;          // "" for none
  Bytes checkpoint_copies;                // of the state, while it is written; all ranks
  std::optional<double> bytes_per_token;  // of that text, in the mean; none where nobody knows
  std::string data;                       // what it trained on
  std::string epoch;                      // what an epoch of it is, and what becomes of its last batch; "" unknown
  bool ids_are_bytes = true;
  std::string timeline_path;  // "" for none
  std::optional<Verification> verification;
  std::optional<std::string> sample;
  std::optional<Answered> answered;
  std::optional<Classified> classified;
};

// Value at `fraction` (0 to 1) of the sorted values, interpolated between neighbours. NaN for none.
double quantile(std::vector<double> values, double fraction);

nlohmann::ordered_json to_json(const RunReport& r);
std::string to_text(const RunReport& r, bool colour);

}  // namespace foretrain::reports
