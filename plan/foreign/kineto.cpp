// Traces of PyTorch's profiler, event by event.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <istream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/gzip.h"
#include "plan/foreign/measured_steps.h"

namespace foretrain::plan {

namespace {

using Words = std::pair<const char*, const char*>;

// The first that occurs counts; lower case.
constexpr std::array kKernelWords{
    Words{"allreduce", "all_reduce"},
    Words{"reducescatter", "reduce_scatter"},
    Words{"allgather", "all_gather"},
    Words{"sendrecv", "send_recv"},
    Words{"alltoall", "send_recv"},
    Words{"broadcast_", "broadcast"},
    Words{"flash", "attention"},
    Words{"fmha", "attention"},
    Words{"sdpa", "attention"},
    Words{"softmax", "attention"},
    Words{"gemm", "matmul"},
    Words{"nvjet", "matmul"},
    Words{"cutlass", "matmul"},
    Words{"xmma", "matmul"},
    Words{"matmul", "matmul"},
    Words{"layer_norm", "norm"},
    Words{"layernorm", "norm"},
    Words{"rms_norm", "norm"},
    Words{"rmsnorm", "norm"},
    Words{"adam", "optimizer"},
    Words{"multi_tensor_apply", "optimizer"},
};

constexpr std::array kKindWords{
    Words{"matmul", "matmul"},
    Words{"grouped_matmul", "matmul"},
    Words{"attention", "attention"},
    Words{"ring_attention", "attention"},
    Words{"norm", "norm"},
    Words{"optimizer", "optimizer"},
    Words{"all_reduce", "all_reduce"},
    Words{"reduce_scatter", "reduce_scatter"},
    Words{"all_gather", "all_gather"},
    Words{"broadcast", "broadcast"},
    Words{"all_to_all", "send_recv"},
    Words{"send", "send_recv"},
    Words{"recv", "send_recv"},
    Words{"exchange", "send_recv"},
};

struct Event {
  std::string category, name, phase;
  double start = -1, duration = -1;  // us
};

// Events of the list "traceEvents", or of a file that is that list. Whatever stands deeper is passed over.
class Handler : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::map<std::string, KernelTime> kernels;
  std::map<std::int64_t, std::pair<double, double>> steps;  // start and duration, us
  double first = 1e300, last = -1e300;
  std::string failure;

  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t value) override { return number(static_cast<double>(value)); }
  bool number_unsigned(number_unsigned_t value) override { return number(static_cast<double>(value)); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return number(value); }
  bool string(string_t& value) override {
    if (at_event()) {
      std::string* target = key_ == "cat"    ? &event_.category
                            : key_ == "name" ? &event_.name
                            : key_ == "ph"   ? &event_.phase
                                             : nullptr;
      if (target != nullptr) {
        *target = std::move(value);
      }
      if (key_ == "ts" || key_ == "dur") {  // older versions write numbers as text
        double parsed = 0;
        std::from_chars(value.data(), value.data() + value.size(), parsed);
        number(parsed);
      }
    }
    return true;
  }
  bool binary(binary_t& /*value*/) override { return true; }
  bool start_object(std::size_t /*size*/) override {
    ++depth_;
    if (depth_ == list_depth_ + 1) {
      event_ = {};
    }
    return depth_ < kDeepest;
  }
  bool end_object() override {
    if (depth_ == list_depth_ + 1) {
      take();
    }
    --depth_;
    return true;
  }
  bool start_array(std::size_t /*size*/) override {
    ++depth_;
    if (list_depth_ < 0 && (depth_ == 1 || (depth_ == 2 && key_ == "traceEvents"))) {
      list_depth_ = depth_;
    }
    return depth_ < kDeepest;
  }
  bool end_array() override {
    if (depth_ == list_depth_) {
      list_depth_ = -2;  // no second list
    }
    --depth_;
    return true;
  }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*token*/, const nlohmann::detail::exception& e) override {
    const std::string_view what = e.what();  // "[json.exception.…] parse error at …"
    const std::size_t begin = what.find("] ");
    failure =
        fmt::format("byte {}: no JSON: {}", position, begin == std::string_view::npos ? what : what.substr(begin + 2));
    return false;
  }

 private:
  static constexpr int kDeepest = 64;

  bool at_event() const { return list_depth_ > 0 && depth_ == list_depth_ + 1; }
  bool number(double value) {
    if (at_event()) {
      (key_ == "ts" ? event_.start : key_ == "dur" ? event_.duration : unused_) = value;
    }
    return true;
  }

  void take() {
    constexpr double kLongest = 1e12;
    if (event_.phase != "X" || !(event_.duration >= 0 && event_.duration <= kLongest)) {
      return;
    }
    if (event_.category == "kernel") {
      KernelTime& k = kernels[kernel_group(event_.name)];
      k.seconds += event_.duration / 1e6;
      k.count += 1;
      first = std::min(first, event_.start);
      last = std::max(last, event_.start + event_.duration);
    } else if (constexpr std::string_view kStep = "ProfilerStep#";
               event_.category == "user_annotation" && event_.name.starts_with(kStep)) {
      std::int64_t number = 0;
      std::from_chars(event_.name.data() + kStep.size(), event_.name.data() + event_.name.size(), number);
      steps[number] = {event_.start, event_.duration};
    }
  }

  int depth_ = 0, list_depth_ = -1;
  double unused_ = 0;
  std::string key_;
  Event event_;
};

std::string group_by(std::string_view name, const auto& words, bool begins) {
  for (const auto& [part, group] : words) {
    if (begins ? name.starts_with(part) : name.find(part) != std::string_view::npos) {
      return group;
    }
  }
  return "other";
}

}  // namespace

std::string kernel_group(std::string_view kernel) {
  std::string lower(kernel);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return group_by(lower, kKernelWords, false);
}

std::string group_of_kind(std::string_view kind) {
  return group_by(kind, kKindWords, true);
}

namespace {

MeasuredSteps steps_of(const Handler& handler, bool parsed, const std::string& origin) {
  if (!parsed) {
    throw InputError(fmt::format("{}: {}", origin,
                                 handler.failure.empty() ? "lists and objects are nested too deep" : handler.failure));
  }
  MeasuredSteps out;
  out.format = "trace of PyTorch's profiler";
  // A step ends where the next one begins: what the annotation leaves out, the host does between them.
  for (auto step = handler.steps.begin(); step != handler.steps.end(); ++step) {
    const auto next = std::next(step);
    const bool follows = next != handler.steps.end() && next->first == step->first + 1;
    const double between = follows ? next->second.first - step->second.first : step->second.second;
    out.seconds.push_back(std::max(0.0, between) / 1e6);
  }
  if (out.seconds.empty()) {
    if (handler.kernels.empty()) {
      throw InputError(
          fmt::format("{}: neither kernels nor steps; expected a trace of PyTorch's profiler with "
                      "\"cat\": \"kernel\" or ProfilerStep# annotations",
                      origin));
    }
    out.seconds.push_back((handler.last - handler.first) / 1e6);
    out.warnings.push_back(
        fmt::format("{}: no ProfilerStep# annotations: the whole trace is taken for one step", origin));
  }
  constexpr std::size_t kEnough = 3;
  out.warm_up = out.seconds.size() >= kEnough ? 1 : 0;
  const auto steps = static_cast<double>(out.seconds.size());
  for (const auto& [group, k] : handler.kernels) {
    out.kernels[group] = {k.seconds / steps, k.count / steps};
  }
  return out;
}

}  // namespace

MeasuredSteps read_kineto(std::string_view text, const std::string& origin) {
  Handler handler;
  const bool parsed = nlohmann::json::sax_parse(text, &handler);
  return steps_of(handler, parsed, origin);
}

MeasuredSteps read_compressed_kineto(std::string_view bytes, const std::string& origin) {
  GzipBuffer buffer(bytes, origin);
  if (const int first = buffer.sgetc(); first != '{' && first != '[') {
    throw InputError(fmt::format(
        "{}: compressed, and no JSON; expected a trace of PyTorch's profiler, or what gunzip makes of a log", origin));
  }
  std::istream in(&buffer);
  Handler handler;
  const bool parsed = nlohmann::json::sax_parse(in, &handler);
  return steps_of(handler, parsed, origin);
}

}  // namespace foretrain::plan
