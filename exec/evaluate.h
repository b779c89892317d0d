// What a trained model is worth: its loss on text it has not seen, and text that it writes. Both run the graph's
// evaluation program on the ranks that trained; there is no second forward pass.
#pragma once

#include <cstdint>
#include <string>

#include "exec/data.h"
#include "exec/executor.h"
#include "exec/keywords.h"
#include "exec/samples.h"
#include "plan/graph.h"

namespace foretrain::exec {

// At most this many sequences of the validation text are looked at.
inline constexpr std::int64_t kMostValidationSequences = 256;

// Mean cross entropy in nats per token over whole batches of windows, spread evenly over the validation text; where the
// text is shorter than one batch it is gone round again. Throws InputError when it is shorter than one sequence.
double validation_loss(Executor& executor, const plan::PlanGraph& graph, std::int64_t vocab, const Text& text,
                       const RunOptions& options);

// Mean loss of the samples, each once where whole batches allow.
double validation_loss(Executor& executor, const plan::PlanGraph& graph, const Samples& samples,
                       const RunOptions& options);

// Mean loss of the padded sequences, in the same way.
double validation_loss(Executor& executor, const plan::PlanGraph& graph, const Keywords& sequences,
                       const RunOptions& options);

// Sequences whose class the model finds the likeliest.
struct Classified {
  std::int64_t sequences = 0, right = 0;
};
// Of the first few hundred. Ends early when interrupted.
Classified classified(Executor& executor, const plan::PlanGraph& graph, const Keywords& sequences, std::int64_t classes,
                      const RunOptions& options);

// How a decoder behind an encoder answers sequences of the validation text, each token being the likeliest behind those
// that it has told itself.
struct Answers {
  std::int64_t sequences = 0, right_sequences = 0;
  std::int64_t tokens = 0, right_tokens = 0;
};
// Of the first few. Ends early when interrupted.
Answers answers(Executor& executor, const plan::PlanGraph& graph, std::int64_t vocab, const Text& text,
                const RunOptions& options);

struct SampleOptions {
  std::string prompt = "\n";
  int count = 200;           // tokens to write
  double temperature = 0.8;  // 0: always the likeliest token
  std::uint64_t seed = 1;
  RunOptions run;  // timeout and interrupted
};

// What the tokens behind the prompt stand for, each drawn from softmax(logits / temperature) over the ids of the text
// that the model was trained on. The model sees the last seq_len tokens at most. Ends early when interrupted. Where
// nobody knows what ids stand for, the prompt is the id 0 and the ids themselves are written.
std::string sample(Executor& executor, const plan::PlanGraph& graph, const Text& text, const SampleOptions& options);

}  // namespace foretrain::exec
