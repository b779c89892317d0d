#include "exec/evaluate.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/philox.h"

namespace foretrain::exec {

namespace {

constexpr std::size_t kByteValues = 256;

// `batches` batches of windows of the validation text.
class ValidationBatches : public DataSource {
 public:
  ValidationBatches(const TextWindows& windows, std::int64_t batch, std::int64_t batches)
      : windows_(windows), batch_(batch), sequences_(batch * batches) {}

  void sequence(std::int64_t step, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    const std::int64_t all = windows_.windows();
    const std::int64_t place = step * batch_ + index;
    const std::int64_t window = sequences_ <= all ? place * all / sequences_ : place % all;
    windows_.sequence(window, 0, seq_len, ids);
  }

 private:
  const TextWindows& windows_;
  std::int64_t batch_, sequences_;
};

// One sequence, the same everywhere in the batch: what has been written so far, then zeros, which come later and are
// not seen.
class Context : public DataSource {
 public:
  Context(const std::string& bytes) : bytes_(bytes) {}

  void sequence(std::int64_t, std::int64_t, std::int64_t seq_len, std::int32_t* ids) const override {
    for (std::int64_t i = 0; i <= seq_len; ++i) {
      const bool known = i < static_cast<std::int64_t>(bytes_.size());
      ids[i] = known ? static_cast<unsigned char>(bytes_[static_cast<std::size_t>(i)]) : 0;
    }
  }

 private:
  const std::string& bytes_;
};

// Draw number `draw` from softmax(logits / temperature).
std::size_t draw_byte(const std::vector<double>& logits, double temperature, std::uint64_t seed, std::uint64_t draw) {
  const auto end = logits.begin() + kByteValues;
  const auto best = std::max_element(logits.begin(), end);
  if (temperature <= 0.0) {
    return static_cast<std::size_t>(best - logits.begin());
  }
  std::vector<double> weights;
  double sum = 0.0;
  for (auto logit = logits.begin(); logit != end; ++logit) {
    weights.push_back(std::exp((*logit - *best) / temperature));
    sum += weights.back();
  }
  double rest = kernels::philox_uniform(seed, draw, 0).first * sum;
  for (std::size_t i = 0; i < kByteValues; ++i) {
    rest -= weights[i];
    if (rest < 0.0) {
      return i;
    }
  }
  return static_cast<std::size_t>(best - logits.begin());
}

}  // namespace

double validation_loss(Executor& executor, const plan::PlanGraph& graph, std::int64_t vocab, const Text& text,
                       const RunOptions& options) {
  const TextWindows windows(text, text.validation(), graph.seq_len, 1, vocab, TextWindows::Order::as_written, 0);
  const std::int64_t batch = graph.sequences_per_step;
  const std::int64_t batches = std::max<std::int64_t>(1, std::min(windows.windows(), kMostValidationSequences) / batch);
  return executor.evaluate(ValidationBatches(windows, batch, batches), static_cast<int>(batches), options);
}

std::string sample(Executor& executor, const plan::PlanGraph& graph, const SampleOptions& options) {
  CHECK(!options.prompt.empty(), "an empty prompt");
  const auto longest = static_cast<std::size_t>(graph.seq_len);
  std::string text = options.prompt;
  for (int i = 0; i < options.count; ++i) {
    const std::string seen = text.substr(text.size() - std::min(text.size(), longest));
    const std::vector<double> logits =
        executor.logits(Context(seen), static_cast<std::int64_t>(seen.size()) - 1, options.run);
    if (options.run.interrupted != nullptr && options.run.interrupted->load()) {
      break;
    }
    text += static_cast<char>(draw_byte(logits, options.temperature, options.seed, static_cast<std::uint64_t>(i)));
  }
  return text.substr(options.prompt.size());
}

}  // namespace foretrain::exec
