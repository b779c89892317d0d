#include "exec/evaluate.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/error.h"
#include "kernels/philox.h"

namespace foretrain::exec {

namespace {

// Which of `all` items is number `place` of `asked`: evenly spread, or round again where they are fewer.
std::int64_t spread(std::int64_t place, std::int64_t asked, std::int64_t all) {
  return asked <= all ? place * all / asked : place % all;
}

std::int64_t whole_batches(std::int64_t items, std::int64_t batch) {
  return std::max<std::int64_t>(1, std::min(items, kMostValidationSequences) / batch);
}

// `batches` batches of a source of `items` that has one of them in a step, in order.
class ValidationBatches : public DataSource {
 public:
  ValidationBatches(const DataSource& source, std::int64_t items, std::int64_t batch, std::int64_t batches)
      : source_(source), items_(items), batch_(batch), asked_(batch * batches) {}

  void sequence(std::int64_t step, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    source_.sequence(item(step, index), 0, seq_len, ids);
  }
  Sample sample(std::int64_t step, std::int64_t index) const override { return source_.sample(item(step, index), 0); }

 private:
  std::int64_t item(std::int64_t step, std::int64_t index) const {
    return spread(step * batch_ + index, asked_, items_);
  }

  const DataSource& source_;
  std::int64_t items_, batch_, asked_;
};

// Those from `first` on, round again behind the last.
class From : public DataSource {
 public:
  From(const Keywords& sequences, std::int64_t first) : sequences_(sequences), first_(first) {}

  void sequence(std::int64_t, std::int64_t index, std::int64_t seq_len, std::int32_t* ids) const override {
    sequences_.sequence((first_ + index) % sequences_.count(), 0, seq_len, ids);
  }
  Sample sample(std::int64_t, std::int64_t index) const override {
    return sequences_.sample((first_ + index) % sequences_.count(), 0);
  }

 private:
  const Keywords& sequences_;
  std::int64_t first_;
};

double mean_loss(Executor& executor, const plan::PlanGraph& graph, const DataSource& source, std::int64_t items,
                 const RunOptions& options) {
  const std::int64_t batch = graph.sequences_per_step, batches = whole_batches(items, batch);
  return executor.evaluate(ValidationBatches(source, items, batch, batches), static_cast<int>(batches), options);
}

// One sequence, the same everywhere in the batch: what has been written so far, then zeros, which come later and are
// not seen.
class Context : public DataSource {
 public:
  explicit Context(std::span<const std::int32_t> known) : known_(known) {}

  void sequence(std::int64_t, std::int64_t, std::int64_t seq_len, std::int32_t* ids) const override {
    for (std::int64_t i = 0; i <= seq_len; ++i) {
      ids[i] = i < std::ssize(known_) ? known_[static_cast<std::size_t>(i)] : 0;
    }
  }

 private:
  std::span<const std::int32_t> known_;
};

// Draw number `draw` from softmax(logits / temperature).
std::size_t draw_id(std::span<const double> logits, double temperature, std::uint64_t seed, std::uint64_t draw) {
  const auto end = logits.end();
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
  for (std::size_t i = 0; i < weights.size(); ++i) {
    rest -= weights[i];
    if (rest < 0.0) {
      return i;
    }
  }
  return static_cast<std::size_t>(best - logits.begin());
}

std::vector<std::int32_t> ids_of(const Text& text, const std::string& prompt) {
  if (text.tokenizer != nullptr) {
    return text.tokenizer->encode(prompt);
  }
  std::vector<std::int32_t> ids;
  for (const char c : prompt) {
    ids.push_back(static_cast<unsigned char>(c));
  }
  return text.is_bytes ? ids : std::vector<std::int32_t>{0};
}

std::string written(const Text& text, std::span<const std::int32_t> ids) {
  if (text.tokenizer != nullptr) {
    return text.tokenizer->decode(ids);
  }
  std::string all;
  for (const std::int32_t id : ids) {
    all += text.is_bytes ? std::string(text.bytes(id)) : fmt::format("{} ", id);
  }
  return all;
}

}  // namespace

double validation_loss(Executor& executor, const plan::PlanGraph& graph, std::int64_t vocab, const Text& text,
                       const RunOptions& options) {
  const TextWindows windows(text, TextWindows::Part::validation, graph.seq_len, 1, vocab, kAsWritten, 0);
  return mean_loss(executor, graph, windows, windows.windows(), options);
}

double validation_loss(Executor& executor, const plan::PlanGraph& graph, const Samples& samples,
                       const RunOptions& options) {
  return mean_loss(executor, graph, samples, samples.count(), options);
}

double validation_loss(Executor& executor, const plan::PlanGraph& graph, const Keywords& sequences,
                       const RunOptions& options) {
  return mean_loss(executor, graph, sequences, sequences.count(), options);
}

Classified classified(Executor& executor, const plan::PlanGraph& graph, const Keywords& sequences, std::int64_t classes,
                      const RunOptions& options) {
  const std::int64_t asked = std::min(sequences.count(), kMostValidationSequences);
  const std::int64_t together = graph.sequences_per_step / graph.all_microbatches();
  Classified result;
  while (result.sequences < asked) {
    const std::int64_t first = result.sequences;
    const From data(sequences, first);
    const std::vector<double> logits = executor.class_logits(data, options);
    if (options.interrupted != nullptr && options.interrupted->load()) {
      break;
    }
    const std::int64_t n = std::min(together, asked - first);
    for (std::int64_t s = 0; s < n; ++s) {
      const auto begin = logits.begin() + s * classes;
      const std::int64_t told = std::max_element(begin, begin + classes) - begin;
      result.right += told == static_cast<std::int64_t>(data.sample(0, s).labels[0]) ? 1 : 0;
    }
    result.sequences += n;
  }
  return result;
}

Answers answers(Executor& executor, const plan::PlanGraph& graph, std::int64_t vocab, const Text& text,
                const RunOptions& options) {
  constexpr std::int64_t kAnswered = 16;
  const TextWindows windows(text, TextWindows::Part::validation, graph.seq_len, 1, vocab, kAsWritten, 0);
  const auto read = static_cast<std::size_t>(graph.seq_len - graph.told_len);
  std::vector<std::int32_t> sequence(static_cast<std::size_t>(graph.seq_len) + 1);
  Answers result;
  for (std::int64_t s = 0; s < std::min(kAnswered, windows.windows()); ++s) {
    windows.sequence(s, 0, graph.seq_len, sequence.data());
    std::vector<std::int32_t> known(sequence.begin(), sequence.begin() + static_cast<std::ptrdiff_t>(read));
    std::int64_t right = 0;
    for (std::int64_t t = 0; t < graph.told_len; ++t) {
      const std::vector<double> logits = executor.logits(Context(known), t, options);
      if (options.interrupted != nullptr && options.interrupted->load()) {
        return result;
      }
      const auto end = logits.begin() + std::min<std::ptrdiff_t>(vocab, std::ssize(logits));
      known.push_back(static_cast<std::int32_t>(std::max_element(logits.begin(), end) - logits.begin()));
      right += known.back() == sequence[known.size() - 1] ? 1 : 0;
    }
    ++result.sequences;
    result.right_sequences += right == graph.told_len ? 1 : 0;
    result.tokens += graph.told_len;
    result.right_tokens += right;
  }
  return result;
}

std::string sample(Executor& executor, const plan::PlanGraph& graph, const Text& text, const SampleOptions& options) {
  CHECK(!options.prompt.empty(), "an empty prompt");
  std::vector<std::int32_t> ids = ids_of(text, options.prompt);
  const std::size_t prompt = ids.size();
  const auto longest = static_cast<std::size_t>(graph.seq_len);
  for (int i = 0; i < options.count; ++i) {
    const std::span seen = std::span(ids).last(std::min(ids.size(), longest));
    const std::vector<double> logits = executor.logits(Context(seen), std::ssize(seen) - 1, options.run);
    if (options.run.interrupted != nullptr && options.run.interrupted->load()) {
      break;
    }
    const std::size_t known = std::min(logits.size(), static_cast<std::size_t>(text.ids));
    ids.push_back(static_cast<std::int32_t>(
        draw_id(std::span(logits).first(known), options.temperature, options.seed, static_cast<std::uint64_t>(i))));
  }
  return written(text, ids).substr(written(text, std::span(ids).first(prompt)).size());
}

}  // namespace foretrain::exec
