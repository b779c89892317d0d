#include "reports/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "reports/estimate.h"
#include "reports/staleness.h"
#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kStepsShown = 10;

// Of an elastic run.
std::int64_t planned_updates(const RunReport& r) {
  return r.job->strategy.dp * std::ssize(r.loss);
}

// Those that were trained on.
double tokens_per_second(const RunReport& r) {
  const workloads::Workload& w = r.job->workload;
  const double share = r.lost.empty() ? 1 : static_cast<double>(r.updates) / static_cast<double>(planned_updates(r));
  return share * static_cast<double>(w.global_batch * w.tokens_per_sequence()) / quantile(r.step_seconds, 0.5);
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());  // NaN of none
}

Json numbers(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double value : values) {
    out.push_back(number(value));
  }
  return out;
}

// Pairs of hosts that are joined by a link, one way each.
Json links_json(const RunReport& r) {
  Json links = Json::array();
  r.sent.for_each_link([&](int from, int to) {
    links.push_back({{"from", from},
                     {"to", to},
                     {"bytes", r.sent.at(from, to)},
                     {"forecast_bytes", r.told ? Json(r.told->at(from, to)) : Json(nullptr)}});
  });
  return links;
}

// First, last, and evenly spaced steps between.
Table steps_table(const RunReport& r) {
  Table t;
  t.columns = {{"step", Align::right}, {"loss", Align::right}, {"gradient norm", Align::right}, {"time", Align::right}};
  const std::size_t n = r.loss.size();
  const std::size_t shown = std::min(n, kStepsShown);
  for (std::size_t i = 0; i < shown; ++i) {
    const std::size_t step = shown == 1 ? 0 : i * (n - 1) / (shown - 1);
    t.rows.push_back({fmt::format("{}", r.first_step + static_cast<std::int64_t>(step)),
                      fmt::format("{:.4f}", r.loss[step]),
                      std::isfinite(r.grad_norm[step]) ? fmt::format("{:.3f}", r.grad_norm[step]) : "no number",
                      seconds_text(r.step_seconds[step])});
  }
  return t;
}

// The validation loss in bits per byte of text, which compares models of different tokenizers.
std::optional<double> bits_per_byte(const RunReport& r) {
  if (!r.validation_loss || !r.bytes_per_token || *r.bytes_per_token <= 0) {
    return std::nullopt;
  }
  return *r.validation_loss / std::log(2.0) / *r.bytes_per_token;
}

std::string validation_remark(const RunReport& r) {
  const auto bits = bits_per_byte(r);
  const std::string per_byte = bits ? fmt::format("{:.4f} bits per byte of text", *bits) : "";
  const std::string unigram = r.unigram_loss ? fmt::format("{:.4f} for a model that knows {} frequencies only",
                                                           *r.unigram_loss, r.ids_are_bytes ? "letter" : "token")
                                             : "";
  return unigram + (per_byte.empty() || unigram.empty() ? "" : "; ") + per_byte;
}

void add_speed(Table& t, const RunReport& r) {
  t.rows.push_back(
      {"step time",
       {seconds_text(quantile(r.step_seconds, 0.5)), Tone::strong},
       {fmt::format("median of {}; 10 % under {}, 10 % over {}", r.step_seconds.size(),
                    seconds_text(quantile(r.step_seconds, 0.1)), seconds_text(quantile(r.step_seconds, 0.9))),
        Tone::dim}});
  t.rows.push_back(
      {"throughput", fmt::format("{} {}/s", compact(tokens_per_second(r)), r.job->workload.model.counted_in())});
}

// Steps without numbers in their gradients, which loss scaling skips.
std::int64_t skipped_steps(const RunReport& r) {
  return std::count_if(r.grad_norm.begin(), r.grad_norm.end(), [](double norm) { return !std::isfinite(norm); });
}

void add_lost(Table& t, const RunReport& r) {
  for (const Lost& l : r.lost) {
    t.rows.push_back(
        {l.rank == r.lost.front().rank ? "lost" : "",
         {fmt::format("rank {} on {}", l.rank, l.host), Tone::bad},
         {fmt::format("after {} of {} updates; the others went on", l.updates, r.first_step + std::ssize(r.loss)),
          Tone::dim}});
  }
  if (!r.lost.empty()) {
    t.rows.push_back({"updates", fmt::format("{} of {}", r.updates, planned_updates(r))});
  }
}

}  // namespace

double quantile(std::vector<double> values, double fraction) {
  if (values.empty()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  std::sort(values.begin(), values.end());
  const double at = fraction * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(at));
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (at - std::floor(at));
}

nlohmann::ordered_json to_json(const RunReport& r) {
  Json out{{"schema", "foretrain.run/1"},
           {"ranks", r.ranks},
           {"steps", r.loss.size()},
           {"first_step", r.first_step},
           {"step_time_s",
            {{"mean", number(mean(r.step_seconds))},
             {"median", number(quantile(r.step_seconds, 0.5))},
             {"p10", number(quantile(r.step_seconds, 0.1))},
             {"p90", number(quantile(r.step_seconds, 0.9))}}},
           {"tokens_per_s", number(tokens_per_second(r))},
           {"loss", numbers(r.loss)},
           {"grad_norm", numbers(r.grad_norm)},
           {"validation_loss", r.validation_loss ? number(*r.validation_loss) : Json(nullptr)},
           {"unigram_loss", r.unigram_loss ? number(*r.unigram_loss) : Json(nullptr)},
           {"validation_bits_per_byte", bits_per_byte(r) ? number(*bits_per_byte(r)) : Json(nullptr)},
           {"peak_bytes", r.arena.value},
           {"library_workspace_bytes", r.workspace.value},
           {"bytes_sent", r.sent.total()},
           {"links", links_json(r)},
           {"data", r.data},
           {"epoch", r.epoch},
           {"timeline", r.timeline_path.empty() ? Json(nullptr) : Json(r.timeline_path)}};
  if (r.job->workload.loss_scaling.is_on()) {
    out["loss_scaling"] = {{"skipped_steps", skipped_steps(r)}, {"scale", number(r.loss_scale)}};
  }
  if (r.of_storage.value + r.of_cache.value > 0) {
    out["reading"] = {{"storage_bytes", r.of_storage.value}, {"cache_bytes", r.of_cache.value}};
  }
  if (!r.staleness.empty()) {
    out["staleness"] = staleness_json(r.staleness);
  }
  if (r.job->strategy.elastic) {
    Json lost = Json::array();
    for (const Lost& l : r.lost) {
      lost.push_back({{"rank", l.rank}, {"host", l.host}, {"updates", l.updates}});
    }
    out["lost"] = std::move(lost);
    out["updates"] = {{"made", r.updates}, {"planned", planned_updates(r)}};
  }
  if (!r.checkpoint_folder.empty()) {
    out["checkpoint"] = {{"folder", r.checkpoint_folder}, {"copies_bytes", r.checkpoint_copies.value}};
  }
  if (r.verification) {
    const Verification& v = *r.verification;
    out["verify"] = {{"max_rel_loss", number(v.max_rel_loss)},
                     {"max_rel_grad", number(v.max_rel_grad)},
                     {"tolerance", v.tolerance},
                     {"grad_tolerance", v.grad_tolerance},
                     {"worst_tensor", v.worst_tensor},
                     {"steps", v.steps},
                     {"passed", v.passed}};
  }
  if (r.answered) {
    out["answered"] = {{"sequences", r.answered->sequences},
                       {"right_sequences", r.answered->right_sequences},
                       {"tokens", r.answered->tokens},
                       {"right_tokens", r.answered->right_tokens}};
  }
  if (r.classified) {
    out["classified"] = {{"sequences", r.classified->sequences}, {"right", r.classified->right}};
  }
  if (r.sample) {
    out["sample"] = *r.sample;
  }
  out["resolved"] = Json(plan::resolved(*r.job));
  return out;
}

std::string to_text(const RunReport& r, bool colour) {
  std::string out = toned(headline(*r.job), Tone::strong, colour) + "\n\n";
  Table t;
  t.columns = {{""}, {""}, {""}};
  if (r.loss.empty()) {
    out += fmt::format("all {} steps were done before\n\n", r.first_step);
  } else {
    out += to_text(steps_table(r), colour) + "\n";
    add_speed(t, r);
  }
  if (!r.staleness.empty()) {
    t.rows.push_back({"staleness",
                      {staleness_text(r.staleness), Tone::strong},
                      {"updates that a server made between a worker's parameters and its gradient", Tone::dim}});
  }
  add_lost(t, r);
  if (r.validation_loss) {
    t.rows.push_back({"validation loss",
                      {fmt::format("{:.4f}", *r.validation_loss), Tone::strong},
                      {validation_remark(r), Tone::dim}});
  }
  if (r.job->workload.loss_scaling.is_on()) {
    t.rows.push_back({"loss scale",
                      fmt::format("{:g}", r.loss_scale),
                      {fmt::format("in the end; {} of {} steps skipped, whose gradients were no numbers",
                                   skipped_steps(r), r.grad_norm.size()),
                       Tone::dim}});
  }
  if (r.answered) {
    t.rows.push_back({"answers",
                      {fmt::format("{} of {} right", r.answered->right_sequences, r.answered->sequences), Tone::strong},
                      {fmt::format("validation sequences, each token behind those that the model told itself; {} of {} "
                                   "tokens",
                                   r.answered->right_tokens, r.answered->tokens),
                       Tone::dim}});
  }
  if (r.classified) {
    t.rows.push_back(
        {"accuracy",
         {fmt::format("{:.1f} %",
                      100.0 * static_cast<double>(r.classified->right) / static_cast<double>(r.classified->sequences)),
          Tone::strong},
         {fmt::format("{} of {} validation sequences", r.classified->right, r.classified->sequences), Tone::dim}});
  }
  t.rows.push_back({"memory",
                    to_string(r.arena),
                    {fmt::format("planned and allocated by the largest rank; {} of library workspace in all",
                                 to_string(r.workspace)),
                     Tone::dim}});
  if (r.of_cache.value > 0) {
    t.rows.push_back({"read",
                      to_string(r.of_storage),
                      {fmt::format("of storage, and {} of what nodes keep", to_string(r.of_cache)), Tone::dim}});
  }
  if (r.sent.hosts > 1) {
    const std::string remark = !r.told ? ""
                               : *r.told == r.sent
                                   ? ", as the plan has it"
                                   : fmt::format("; the plan has {}", to_string(Bytes{r.told->total()}));
    t.rows.push_back({"sent",
                      to_string(Bytes{r.sent.total()}),
                      {fmt::format("between {} hosts{}", r.sent.hosts, remark), Tone::dim}});
  }
  if (!r.checkpoint_folder.empty()) {
    t.rows.push_back(
        {"checkpoints",
         to_string(r.checkpoint_copies),
         {"more on the host, over all ranks: copies that are written to " + r.checkpoint_folder, Tone::dim}});
  }
  if (r.verification) {
    const Verification& v = *r.verification;
    t.rows.push_back(
        {"one rank",
         {v.passed ? "agrees" : "differs", v.passed ? Tone::good : Tone::bad},
         {fmt::format("over {} steps: loss within {:.1e} (allowed {:.0e}), gradients within {:.1e} (allowed "
                      "{:.0e}){}",
                      v.steps, v.max_rel_loss, v.tolerance, v.max_rel_grad, v.grad_tolerance,
                      v.worst_tensor.empty() ? "" : ", worst in " + v.worst_tensor),
          v.passed ? Tone::dim : Tone::bad}});
  }
  out += to_text(t, colour) + "\ntrained on " + r.data + (r.epoch.empty() ? "" : "; " + r.epoch) + "\n";
  if (!r.timeline_path.empty()) {
    out += "timeline in " + r.timeline_path + "\n";
  }
  if (r.sample) {
    out += "\n" + toned("Sample", Tone::strong, colour) + "\n" + *r.sample + "\n";
  }
  return out;
}

}  // namespace foretrain::reports
