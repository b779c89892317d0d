#include "cli/batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "cli/forecast.h"
#include "cli/verbs.h"
#include "plan/build.h"

namespace foretrain::cli {

namespace {

constexpr std::size_t kLongestLine = std::size_t{64} << 20;  // of a JSON document (base/json.h)

struct Line {
  std::int64_t number = 0;
  std::string text;
  bool too_long = false;
};

struct Answer {
  std::string text;
  int status = kOk;
};

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\r") == std::string::npos;
}

// The next line that is not blank; keeps no more of one than is allowed.
std::optional<Line> next_line(std::FILE* in, const std::string& origin, std::int64_t& number) {
  for (int c = std::getc(in); c != EOF; c = std::getc(in)) {
    Line line{++number, {}, false};
    for (; c != EOF && c != '\n'; c = std::getc(in)) {
      line.too_long |= line.text.size() == kLongestLine;
      if (!line.too_long) {
        line.text.push_back(static_cast<char>(c));
      }
    }
    if (!is_blank(line.text)) {
      return line;
    }
  }
  if (std::ferror(in) != 0) {
    throw EnvironmentError(fmt::format("{}: {}", origin, std::strerror(errno)));
  }
  return std::nullopt;
}

struct Wanted {
  JobArguments job;
  WholeRunArguments whole_run;
};

// What a line asks for.
Wanted wanted_of(const Line& line, const std::string& origin, const std::vector<std::string>& overrides,
                 const WholeRunArguments& whole_run) {
  const std::string place = fmt::format("{}:{}", origin, line.number);
  if (line.too_long) {
    throw InputError(fmt::format("{}: longer than {} MB", place, kLongestLine >> 20));
  }
  Wanted wanted{{place, overrides, line.text, false}, whole_run};
  JobArguments& arguments = wanted.job;
  const JsonDocument document = JsonDocument::from_text(line.text, place);
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  if (const nlohmann::json* job = reader.raw("job")) {
    if (job->is_string()) {
      arguments.path = job->get<std::string>();
      arguments.text.reset();
    } else if (job->is_object()) {
      arguments.text = job->dump();
    } else {
      reader.mistake("job", fmt::format("{} is not allowed; expected a job, or the name of one", shown(*job)));
    }
    const std::vector<std::string> further = reader.texts("set");
    arguments.overrides.insert(arguments.overrides.end(), further.begin(), further.end());
    wanted.whole_run.read(reader.object("whole_run", false));
    reader.finish();
  }
  mistakes.throw_if_any();
  return wanted;
}

Answer refusal(const Line& line, const std::string& why, int status) {
  const nlohmann::ordered_json out{{"error", why}, {"line", line.number}};
  return {out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), status};
}

Answer answer(const Line& line, const std::string& origin, const std::vector<std::string>& overrides,
              const ModelArguments& models, const WholeRunArguments& whole_run) {
  try {
    const Wanted wanted = wanted_of(line, origin, overrides, whole_run);
    const plan::Job job = wanted.job.load();
    const plan::PlanGraph graph = plan::build(job);
    const sim::Simulation simulation = simulate(job, graph, models, nullptr);
    reports::Estimate estimate = forecast(wanted.job, models, job, graph, simulation);
    if (wanted.whole_run.wanted()) {
      estimate.whole_run = wanted.whole_run.forecast(job, estimate);
    }
    return {reports::to_json(estimate).dump(), estimate.fit.fits() ? kOk : kInfeasible};
  } catch (const InputError& error) {
    return refusal(line, error.what(), kBadInput);
  } catch (const InfeasibleError& error) {
    return refusal(line, error.what(), kBadInput);
  } catch (const EnvironmentError& error) {
    return refusal(line, error.what(), kBadInput);
  } catch (const std::exception& error) {
    return refusal(line, fmt::format("internal: {}", error.what()), kInternal);
  }
}

// Lines go out in the order in which they came in, by whichever thread has the next one.
class Pipeline {
 public:
  Pipeline(std::FILE* in, std::string origin, Console& console, std::size_t threads)
      : in_(in), origin_(std::move(origin)), console_(console), most_(4 * threads) {}

  // One thread's part, until there are no more lines.
  template <class Work>
  void run(const Work& work) {
    for (;;) {
      std::optional<std::pair<std::int64_t, Line>> taken = take();
      if (!taken) {
        return;
      }
      put(taken->first, work(taken->second));
    }
  }

  int status() const { return failed_ != kOk ? failed_ : unfit_ ? kInfeasible : kOk; }
  void rethrow() const {
    if (broken_) {
      std::rethrow_exception(broken_);
    }
  }

 private:
  // Waits for a line without holding up those who have finished one.
  std::optional<std::pair<std::int64_t, Line>> take() {
    const std::lock_guard reading(reading_);
    {
      std::unique_lock lock(writing_);
      room_.wait(lock, [&] { return broken_ || read_ - written_ < static_cast<std::int64_t>(most_); });
      if (broken_) {
        return std::nullopt;
      }
    }
    std::optional<Line> line;
    try {
      line = next_line(in_, origin_, line_);
    } catch (...) {
      const std::lock_guard lock(writing_);
      broken_ = std::current_exception();
    }
    if (!line) {
      return std::nullopt;
    }
    return std::pair{read_++, std::move(*line)};
  }

  void put(std::int64_t index, Answer answer) {
    const std::lock_guard lock(writing_);
    ready_.emplace(index, std::move(answer));
    try {
      for (auto next = ready_.find(written_); !broken_ && next != ready_.end(); next = ready_.find(++written_)) {
        console_.result(next->second.text + "\n");
        count(next->second.status);
        ready_.erase(next);
      }
      console_.flush();
    } catch (...) {
      broken_ = std::current_exception();  // nobody reads on
    }
    room_.notify_all();
  }

  void count(int status) {
    unfit_ |= status == kInfeasible;
    if (status == kInternal || (status == kBadInput && failed_ == kOk)) {
      failed_ = status;
    }
  }

  std::FILE* const in_;
  const std::string origin_;
  Console& console_;
  const std::size_t most_;
  std::mutex reading_, writing_;
  std::condition_variable room_;
  std::int64_t line_ = 0;
  std::atomic<std::int64_t> read_ = 0;
  std::int64_t written_ = 0;
  std::map<std::int64_t, Answer> ready_;
  std::exception_ptr broken_;
  int failed_ = kOk;
  bool unfit_ = false;
};

}  // namespace

int estimate_batch(std::FILE* in, const std::string& origin, const std::vector<std::string>& overrides,
                   const ModelArguments& models, const WholeRunArguments& whole_run, Console& console) {
  const std::size_t threads = static_cast<std::size_t>(available_cores());
  Pipeline pipeline(in, origin, console, threads);
  const auto part = [&] {
    pipeline.run([&](const Line& line) { return answer(line, origin, overrides, models, whole_run); });
  };
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < threads; ++t) {
    others.emplace_back(part);
  }
  part();
  for (std::thread& other : others) {
    other.join();
  }
  pipeline.rethrow();
  return pipeline.status();
}

}  // namespace foretrain::cli
