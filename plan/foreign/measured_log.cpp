#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/gzip.h"
#include "base/mapped_file.h"
#include "plan/foreign/measured_steps.h"

namespace foretrain::plan {

namespace {

constexpr std::size_t kLongestLine = 100'000;
constexpr double kLongestStep = 1e6;  // seconds

// The number behind a word, with commas between thousands and colours of a terminal before it left out.
std::optional<double> number_behind(std::string_view line, std::string_view word) {
  const std::size_t at = line.find(word);
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  std::string digits;
  for (std::size_t i = at + word.size(); i < line.size() && digits.size() < 40; ++i) {
    const char c = line[i];
    if (c == '\x1b') {
      i = std::min(line.find('m', i), line.size());
    } else if ((c >= '0' && c <= '9') || c == '.' ||
               ((c == 'e' || c == 'E' || c == '-' || c == '+') && !digits.empty())) {
      digits += c;
    } else if (!(c == ',' && !digits.empty()) && !(c == ' ' && digits.empty())) {
      break;
    }
  }
  double value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return end.ec == std::errc{} && std::isfinite(value) && value > 0 ? std::optional(value) : std::nullopt;
}

}  // namespace

MeasuredSteps read_log(std::string_view text, const std::string& origin, const Job& job) {
  MeasuredSteps out;
  const auto batch = static_cast<double>(job.workload.global_batch);
  const double tokens = batch * static_cast<double>(job.workload.seq_len) / static_cast<double>(job.strategy.workers());
  double other_batch = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, std::min(end, kLongestLine));
    std::optional<double> step;
    if (const auto ms = number_behind(line, "elapsed time per iteration (ms):")) {
      step = *ms / 1e3;
      out.format = "log of Megatron-LM";
      if (const auto said = number_behind(line, "global batch size:"); said && *said != batch) {
        other_batch = *said;
      }
    } else if (line.find("step:") != std::string_view::npos) {
      if (const auto rate = number_behind(line, "tps:")) {
        step = tokens / *rate;
        out.format = "log of torchtitan";
      }
    } else if (const auto rate = number_behind(line, "CurrSamplesPerSec=")) {
      step = batch / *rate;
      out.format = "log of DeepSpeed";
    }
    if (step && *step <= kLongestStep) {
      out.seconds.push_back(*step);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (out.seconds.empty()) {
    throw InputError(
        fmt::format("{}: no step times; expected lines of Megatron-LM (elapsed time per iteration (ms): 1.5), "
                    "torchtitan (step: 10 … tps: 5,000) or DeepSpeed (CurrSamplesPerSec=10), or a trace of "
                    "PyTorch's profiler",
                    origin));
  }
  if (other_batch > 0) {
    out.warnings.push_back(
        fmt::format("{}: global batch size: {:.0f} in the log, {} in the job: these are not the same "
                    "steps",
                    origin, other_batch, job.workload.global_batch));
  }
  constexpr std::size_t kEnough = 4;
  out.warm_up = out.seconds.size() >= kEnough ? 1 : 0;
  return out;
}

MeasuredSteps read_measured_steps(const std::string& path, const Job& job) {
  const MappedFile file(path, "compare", "a log, or a trace of PyTorch's profiler");
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (is_gzip(text)) {
    return read_compressed_kineto(text, path);
  }
  const std::size_t first = text.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  const bool trace = first != std::string_view::npos && (text[first] == '{' || text[first] == '[') &&
                     text.substr(0, 1 << 20).find("\"traceEvents\"") != std::string_view::npos;
  return trace ? read_kineto(text, path) : read_log(text, path, job);
}

}  // namespace foretrain::plan
