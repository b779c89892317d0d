#include "cli/run_data.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kDefaultSteps = 20;

std::string plural(std::int64_t n, const char* what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string epoch_text(const exec::Epochs& epochs, const char* item) {
  const std::int64_t rest = epochs.left_over(), blocks = epochs.dealing.blocks();
  return fmt::format("an epoch is {}{}: {}{}", plural(epochs.items, item),
                     blocks == 1 ? "" : fmt::format(" in {} blocks of {}", blocks, epochs.items / blocks),
                     plural(epochs.steps(), "step"),
                     rest == 0 ? std::string()
                     : epochs.last_batch == workloads::LastBatch::drop
                         ? fmt::format(", the {} left over {} skipped", plural(rest, item), rest == 1 ? "is" : "are")
                         : fmt::format(", the {} left over {} trained on with the next epoch's", plural(rest, item),
                                       rest == 1 ? "is" : "are"));
}

}  // namespace

TrainingData::TrainingData(const plan::Job& job, std::uint64_t seed) : workload_(job.workload), seed_(seed) {
  const workloads::Workload& w = workload_;
  const exec::Dealing dealing{w.data.distribution, w.data.reshuffle, job.strategy.dp, job.strategy.micro_batch,
                              w.data.sequences};
  if (w.model.is_dense()) {
    samples_ = std::make_unique<const exec::Samples>(w, exec::Samples::Part::training, seed, dealing);
    return;
  }
  if (w.model.is_classifier()) {
    keywords_ = std::make_unique<const exec::Keywords>(w, exec::Keywords::Part::training, seed, dealing);
    return;
  }
  text_ = w.data.synthetic == workloads::Synthetic::reverse
              ? exec::reversals(w.seq_len, w.model.vocab, w.model.start_token)
              : exec::load_text(w.data);
  windows_ = std::make_unique<const exec::TextWindows>(
      exec::training_windows(text_, w.tokens_per_sequence(), w.global_batch, w.model.vocab, seed, dealing));
  const std::int64_t there = (text_.training.size() - 1) / w.tokens_per_sequence();
  if (w.data.sequences > there) {
    throw InputError(
        fmt::format("data: {}: an epoch of {} sequences (workload.data.sequences) is more than there are: {}",
                    text_.name, w.data.sequences, there));
  }
}

const exec::DataSource& TrainingData::source() const {
  return is_text()              ? static_cast<const exec::DataSource&>(*windows_)
         : keywords_ != nullptr ? static_cast<const exec::DataSource&>(*keywords_)
                                : *samples_;
}

std::string TrainingData::name() const {
  return is_text() ? text_.name
         : keywords_ != nullptr
             ? fmt::format("synthetic keywords of {} classes", workload_.model.classes)
             : fmt::format("synthetic {}, noise {}", workloads::name(workload_.data.synthetic), workload_.data.noise);
}

std::string TrainingData::amount() const {
  return is_text() ? fmt::format("{} {} to train on", text_.training.size(), text_.unit())
                   : fmt::format("{} {}s to train on", epochs().items, samples_ == nullptr ? "sequence" : "sample");
}

std::string TrainingData::fingerprint() const {
  return is_text() ? fmt::format("{} {} {} {}", text_.name, text_.ids, text_.training.size(), text_.validation.size())
                   : name();
}

const exec::Epochs& TrainingData::epochs() const {
  return is_text() ? windows_->epochs() : keywords_ != nullptr ? keywords_->epochs() : samples_->epochs();
}

std::string TrainingData::epoch() const {
  return epoch_text(epochs(), samples_ == nullptr ? "sequence" : "sample");
}

std::int64_t TrainingData::steps(std::optional<std::int64_t> asked) const {
  if (workload_.data.epochs == 0) {
    return asked.value_or(kDefaultSteps);
  }
  const std::int64_t all = epochs().steps_of(workload_.data.epochs);
  return std::min(asked.value_or(all), all);
}

double TrainingData::validation_loss(exec::Executor& executor, const plan::PlanGraph& graph,
                                     const exec::RunOptions& run) const {
  if (keywords_ != nullptr) {
    return exec::validation_loss(executor, graph, exec::Keywords(workload_, exec::Keywords::Part::validation, seed_),
                                 run);
  }
  return is_text() ? exec::validation_loss(executor, graph, workload_.model.vocab, text_, run)
                   : exec::validation_loss(executor, graph,
                                           exec::Samples(workload_, exec::Samples::Part::validation, seed_), run);
}

exec::Classified TrainingData::classified(exec::Executor& executor, const plan::PlanGraph& graph,
                                          const exec::RunOptions& run) const {
  return exec::classified(executor, graph, exec::Keywords(workload_, exec::Keywords::Part::validation, seed_),
                          workload_.model.classes, run);
}

void DataArguments::add_to(Options& options) {
  options.text("data", "PATH", &path,
               "trains on this text, folder of texts or file of token ids, instead of the job's or the built-in one");
  options.text("tokenizer", "FILE", &tokenizer, "a tokenizer.json that turns text into tokens; without it bytes are");
}

void DataArguments::apply(workloads::Workload& workload) const {
  for (const auto& [option, given] : {std::pair{"--data", !path.empty()}, {"--tokenizer", !tokenizer.empty()}}) {
    if (given && workload.model.is_dense()) {
      throw InputError(
          fmt::format("{}: the model is one of features, whose samples are made up (workload.data); "
                      "expected no {}",
                      option, option));
    }
    if (given && workload.data.synthetic != workloads::Synthetic::none) {
      throw InputError(
          fmt::format("{}: the job's sequences are made up (workload.data.synthetic \"{}\"); expected no {}", option,
                      workloads::name(workload.data.synthetic), option));
    }
  }
  workload.data.path = path.empty() ? workload.data.path : path;
  workload.data.tokenizer = tokenizer.empty() ? workload.data.tokenizer : tokenizer;
}

}  // namespace foretrain::cli
