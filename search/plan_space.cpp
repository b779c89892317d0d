#include "search/plan_space.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "search/axis_values.h"

namespace foretrain::search {

namespace {

using nlohmann::json;

constexpr std::int64_t kMostMicroBatch = 64;
constexpr std::int64_t kMostVirtualStages = 12;

std::vector<std::int64_t> divisors(std::int64_t n, std::int64_t most) {
  std::vector<std::int64_t> all;
  for (std::int64_t d = 1; d <= std::min(n, most); ++d) {
    if (n % d == 0) {
      all.push_back(d);
    }
  }
  return all;
}

std::vector<std::int64_t> powers_of_two(std::int64_t most) {
  std::vector<std::int64_t> all;
  for (std::int64_t p = 1; p <= most; p *= 2) {
    all.push_back(p);
  }
  return all;
}

// The axes by their keys, each with how values of a document are put into it.
struct Slot {
  const char* key;
  std::function<void(PlanSpace&, const json&)> take;  // a list
  std::function<json(const PlanSpace&)> give;
};

template <class T>
Slot slot(const char* key, std::vector<T> PlanSpace::*values) {
  return {key, [values](PlanSpace& s, const json& list) { s.*values = list.get<std::vector<T>>(); },
          [values](const PlanSpace& s) { return json(s.*values); }};
}

const std::vector<Slot>& slots() {
  static const std::vector<Slot> all{
      slot("tp", &PlanSpace::tp),
      slot("pp", &PlanSpace::pp),
      slot("cp", &PlanSpace::cp),
      slot("ep", &PlanSpace::ep),
      slot("micro_batch", &PlanSpace::micro_batch),
      slot("virtual_stages", &PlanSpace::virtual_stages),
      slot("sequence_parallel", &PlanSpace::sequence_parallel),
      slot("schedule", &PlanSpace::schedule),
      slot("recompute", &PlanSpace::recompute),
      slot("cp_kind", &PlanSpace::cp_kind),
      slot("zero", &PlanSpace::zero),
      slot("shard", &PlanSpace::shard),
      slot("overlap_grad_reduce", &PlanSpace::overlap_grad_reduce),
      slot("overlap_param_gather", &PlanSpace::overlap_param_gather),
      slot("overlap_ep", &PlanSpace::overlap_ep),
      slot("rank_order", &PlanSpace::rank_order),
  };
  return all;
}

PlanSpace whole_space(const plan::Job& job) {
  const workloads::Model& m = job.workload.model;
  const topologies::Cluster& c = job.cluster;
  const std::int64_t devices = c.device_count(), batch = job.workload.global_batch;
  const bool is_moe = m.moe.experts > 0;
  PlanSpace s;
  s.tp = divisors(m.is_dense() ? 1 : m.heads, std::min<std::int64_t>(devices, c.devices_per_node));
  s.pp = divisors(devices, m.is_encoder_decoder() ? 1 : std::max<std::int64_t>(1, m.repeated_layers()));
  s.cp = m.is_dense() || m.is_classifier() || m.is_encoder_decoder() || m.ssm.heads > 0
             ? std::vector<std::int64_t>{1}
             : powers_of_two(std::min<std::int64_t>(devices, std::max<std::int64_t>(1, job.workload.seq_len / 2048)));
  s.ep = is_moe ? divisors(m.moe.experts, devices) : std::vector<std::int64_t>{1};
  s.micro_batch = divisors(batch, kMostMicroBatch);
  s.virtual_stages = divisors(std::max<std::int64_t>(1, m.repeated_layers()), kMostVirtualStages);
  if (m.repeated_layers() % 2 != 0) {
    s.virtual_stages.insert(s.virtual_stages.begin() + 1, 2);  // schedules in a V
  }
  s.sequence_parallel = m.is_dense() ? std::vector<bool>{false} : std::vector<bool>{true, false};
  s.whole_experts = is_moe ? std::vector<bool>{true, false} : std::vector<bool>{false};
  s.schedule = {"1f1b", "zb_h1", "zb_h2", "zb_v", "dualpipe_v"};
  s.recompute = m.is_dense() ? std::vector<std::string>{"none"} : std::vector<std::string>{"none", "full"};
  if (!m.is_dense() && !is_flash(job.workload.attention)) {
    s.recompute.insert(s.recompute.begin() + 1, "selective");
  }
  s.cp_kind = {"ring", "all_to_all", "all_gather"};
  s.zero = {0, 1, 2, 3};
  s.shard = {0};
  for (const std::int64_t shard : {c.devices_per_node, 8 * c.devices_per_node}) {
    if (shard > 1 && shard < devices) {
      s.shard.push_back(shard);
    }
  }
  s.overlap_grad_reduce = {true, false};
  s.overlap_param_gather = {true, false};
  s.overlap_ep = is_moe ? std::vector<bool>{false, true} : std::vector<bool>{false};
  s.rank_order = {kRankOrder, kDataOutside};
  return s;
}

// "2,4,8", or a JSON list.
json values_of(const std::string& text) {
  json list = json::parse(text, nullptr, false);
  if (list.is_array()) {
    return list;
  }
  list = json::array();
  std::stringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    const json value = json::parse(word, nullptr, false);
    list.push_back(value.is_discarded() ? json(word) : value);
  }
  return list;
}

void check_values(const std::string& key, const json& values) {
  for (const json& value : values) {
    if (const std::string expected = expected_instead(key, value); !expected.empty()) {
      throw InputError(fmt::format("--axis {}: {} is not allowed; expected {}", key, shown(value), expected));
    }
  }
}

void take(PlanSpace& space, const std::string& key, const json& list, const std::string& said) {
  if (key == "expert_tp") {
    return;
  }
  const auto found = std::find_if(slots().begin(), slots().end(), [&](const Slot& s) { return key == s.key; });
  try {
    if (found == slots().end() || list.empty()) {
      throw InputError("");
    }
    found->take(space, list);
  } catch (const std::exception&) {
    std::vector<std::string> keys;
    for (const Slot& s : slots()) {
      keys.emplace_back(s.key);
    }
    throw InputError(
        fmt::format("--axis {}: expected AXIS=VALUE,VALUE,... with one of: {}", said, fmt::join(keys, ", ")));
  }
}

// Of values that make no difference, the one that stands for all: `usual` where the space has it.
template <class T>
T one_of(const std::vector<T>& values, const T& usual) {
  return std::find(values.begin(), values.end(), usual) != values.end() ? usual : T(values.front());
}

bool is_v(const std::string& schedule) {
  return schedule == "zb_v" || schedule == "dualpipe_v" || schedule == "dualpipe";
}

// The schedule of a plan without a pipeline: those in a V are none of one.
const std::string& schedule_alone(const PlanSpace& space) {
  const auto usual = std::find(space.schedule.begin(), space.schedule.end(), "1f1b");
  const auto other = std::find_if_not(space.schedule.begin(), space.schedule.end(), is_v);
  return usual != space.schedule.end() ? *usual : other != space.schedule.end() ? *other : space.schedule.front();
}

// Why a shape is none; "" where its sizes divide. The check of the job decides in the end (plan/job_check.cpp).
const char* why_not(const Shape& s, const plan::Job& job, const PlanSpace& space) {
  const workloads::Workload& w = job.workload;
  const workloads::Model& m = w.model;
  if (s.tp == 1 && s.sequence_parallel != one_of(space.sequence_parallel, false)) {
    return "sequence_parallel without tp: the same plan as without it";
  }
  if (s.pp == 1 && (s.virtual_stages > 1 || s.schedule != schedule_alone(space))) {
    return "a schedule, or virtual_stages, without pp: the same plan as without them";
  }
  if (is_v(s.schedule) ? s.virtual_stages != 2 : s.schedule != "1f1b" && s.virtual_stages > 1) {
    return "virtual_stages that do not go with the schedule";
  }
  if (s.cp == 1 && s.cp_kind != one_of<std::string>(space.cp_kind, "ring")) {
    return "cp_kind without cp: the same plan as without it";
  }
  if (!m.is_dense() && (m.heads % s.tp != 0 || (m.kv_heads % s.tp != 0 && s.tp % m.kv_heads != 0) ||
                        (m.dense_layers() > 0 && m.ffn_hidden % s.tp != 0))) {
    return "tp does not divide heads, kv_heads or ffn_hidden";
  }
  if ((s.sequence_parallel && w.seq_len / s.cp % s.tp != 0) || (s.cp > 1 && w.seq_len % (2 * s.cp) != 0)) {
    return "tp or cp does not divide seq_len";
  }
  if (s.cp > 1 && s.cp_kind == "all_to_all" && (m.heads % (s.tp * s.cp) != 0 || m.kv_heads % (s.tp * s.cp) != 0)) {
    return "tp x cp does not divide heads or kv_heads (cp_kind all_to_all)";
  }
  if (w.global_batch % (s.dp * s.micro_batch) != 0) {
    return "dp x micro_batch does not divide global_batch";
  }
  // Schedules in a V have two chunks whatever the number of layers.
  if (m.repeated_layers() % (s.pp * s.virtual_stages) != 0 && s.virtual_stages > 1 && !is_v(s.schedule)) {
    return "pp x virtual_stages does not divide the layers";
  }
  if (m.repeated_layers() < s.pp * s.virtual_stages && !(m.is_dense() && s.pp == 1)) {
    return "fewer layers than stages";
  }
  if (s.schedule == "1f1b" && s.virtual_stages > 1 && s.microbatches % s.pp != 0) {
    return "pp does not divide the microbatches (interleaved)";
  }
  if (m.moe.experts > 0) {
    if (s.overlap_ep && (s.ep == 1 || s.recompute == "full" || s.schedule.starts_with("zb_"))) {
      return "overlap_ep that does not go with the plan";
    }
    if (s.whole_experts && s.tp == 1) {
      return "expert_tp without tp: the same plan as without it";
    }
    if (s.whole_experts && !s.sequence_parallel) {
      return "expert_tp 1 without sequence_parallel";
    }
    const bool along_dp = s.dp % s.ep == 0;
    const bool whole = s.ep <= s.tp ? s.tp % s.ep == 0 : s.ep % s.tp == 0 && s.dp % (s.ep / s.tp) == 0;
    if (s.whole_experts && s.tp > 1 ? !whole : !along_dp) {
      return "ep does not divide the ranks that share out the batch";
    }
  }
  return "";
}

bool splits_backwards(const Shape& s) {
  return s.schedule != "1f1b" && s.schedule != "gpipe" && s.schedule != "interleaved";
}

const char* why_not(const Tail& t, const Shape& s, const PlanSpace& space) {
  const bool has_replicas = s.dp * s.cp > 1 || (s.whole_experts && s.tp > s.ep);  // of experts at least
  const std::int64_t zero = one_of<std::int64_t>(space.zero, 0);
  if (!has_replicas && (t.zero != zero || t.overlap_grad_reduce != one_of(space.overlap_grad_reduce, zero >= 2) ||
                        t.overlap_param_gather != one_of(space.overlap_param_gather, false))) {
    return "zero, or overlap of gradients, without replicas: the same plan as without them";
  }
  if (t.shard != 0 && (t.zero == 0 || s.dp % t.shard != 0 || s.dp == t.shard)) {
    return "shard that does not go with zero and dp";
  }
  if (t.overlap_param_gather && t.zero != 1 && t.zero != 2) {
    return "overlap_param_gather without zero 1 or 2";
  }
  if (!t.overlap_grad_reduce && t.zero >= 2) {
    return "zero 2 and 3 without overlap of gradients";
  }
  if (t.zero >= 2 && splits_backwards(s)) {
    return "zero 2 and 3 with split backwards";
  }
  if (t.zero >= 2 && s.overlap_ep) {
    return "overlap_ep that does not go with the plan";
  }
  if (t.rank_order == kDataOutside && (s.pp == 1 || s.dp == 1) &&
      one_of<std::string>(space.rank_order, kRankOrder) == kRankOrder) {
    return "rank_order without pp and dp: the same plan as another";
  }
  return "";
}

}  // namespace

std::int64_t PlanSpace::tails() const {
  return static_cast<std::int64_t>(zero.size() * shard.size() * overlap_grad_reduce.size() *
                                   overlap_param_gather.size() * rank_order.size());
}

std::int64_t PlanSpace::size() const {
  return tails() * static_cast<std::int64_t>(tp.size() * pp.size() * cp.size() * ep.size() * micro_batch.size() *
                                             virtual_stages.size() * sequence_parallel.size() * whole_experts.size() *
                                             overlap_ep.size() * schedule.size() * recompute.size() * cp_kind.size());
}

PlanSpace space_of(const plan::OpenJob& open, const std::vector<std::string>& axes) {
  PlanSpace space = whole_space(open.job);
  for (const auto& [key, value] : open.given->items()) {
    if (key == "recompute" && value.is_array()) {
      space.recompute = {kListed};
    }
    const bool is_axis = std::any_of(slots().begin(), slots().end(), [&](const Slot& s) { return key == s.key; });
    if (is_axis && !value.is_array()) {
      take(space, key, json::array({value}), key);
    }
  }
  if (open.given->contains("expert_tp")) {
    space.whole_experts = {open.given->at("expert_tp") == 1};
  }
  if (space.schedule == std::vector<std::string>{"interleaved"}) {
    space.schedule = {"1f1b"};
    std::erase(space.virtual_stages, 1);
  }
  for (const std::string& axis : axes) {
    const std::size_t equals = axis.find('=');
    const std::string key = axis.substr(0, equals);
    const json values = equals == std::string::npos ? json::array() : values_of(axis.substr(equals + 1));
    if (std::any_of(slots().begin(), slots().end(), [&](const Slot& s) { return key == s.key; })) {
      check_values(key, values);
    }
    take(space, key, values, axis);
  }
  return space;
}

nlohmann::json to_json(const PlanSpace& space) {
  json all = json::object();
  for (const Slot& s : slots()) {
    all[s.key] = s.give(space);
  }
  if (space.whole_experts.size() > 1 || space.whole_experts.front()) {
    all["expert_tp"] = space.whole_experts.size() > 1 ? json{1, "tp"} : json{1};
  }
  return all;
}

std::vector<Shape> shapes_of(const PlanSpace& space, const plan::OpenJob& open, Rejected& rejected) {
  const plan::Job& job = open.job;
  const std::int64_t devices = job.cluster.device_count(), tails = space.tails();
  const std::int64_t given_dp = open.given->value("dp", std::int64_t{0});
  const auto below_split =
      static_cast<std::int64_t>(space.ep.size() * space.micro_batch.size() * space.virtual_stages.size() *
                                space.sequence_parallel.size() * space.whole_experts.size() * space.overlap_ep.size() *
                                space.schedule.size() * space.recompute.size() * space.cp_kind.size());
  std::vector<Shape> shapes;
  Shape s;
  const auto each = [](const auto& values, auto& field, const auto& inner) {
    for (const auto& value : values) {
      field = value;
      inner();
    }
  };
  const auto judge = [&] {
    const char* const why = why_not(s, job, space);
    if (*why == '\0') {
      shapes.push_back(s);
    } else {
      rejected[why] += tails;
    }
  };
  each(space.tp, s.tp, [&] {
    each(space.pp, s.pp, [&] {
      each(space.cp, s.cp, [&] {
        const std::int64_t model = s.tp * s.pp * s.cp;
        if (devices % model != 0 || (given_dp != 0 && given_dp != devices / model)) {
          rejected["tp x pp x cp does not divide the devices, or leaves another dp than the job's"] +=
              below_split * tails;
          return;
        }
        s.dp = devices / model;
        each(space.ep, s.ep, [&] {
          each(space.micro_batch, s.micro_batch, [&] {
            s.microbatches = std::max<std::int64_t>(1, job.workload.global_batch / (s.dp * s.micro_batch));
            each(space.virtual_stages, s.virtual_stages, [&] {
              each(space.schedule, s.schedule, [&] {
                each(space.recompute, s.recompute, [&] {
                  each(space.cp_kind, s.cp_kind, [&] {
                    each(space.sequence_parallel, s.sequence_parallel, [&] {
                      each(space.whole_experts, s.whole_experts, [&] { each(space.overlap_ep, s.overlap_ep, judge); });
                    });
                  });
                });
              });
            });
          });
        });
      });
    });
  });
  return shapes;
}

std::vector<Tail> tails_of(const PlanSpace& space, const Shape& shape, Rejected& rejected) {
  std::vector<Tail> tails;
  for (const std::int64_t zero : space.zero) {
    for (const std::int64_t shard : space.shard) {
      for (const bool grads : space.overlap_grad_reduce) {
        for (const bool params : space.overlap_param_gather) {
          for (const std::string& order : space.rank_order) {
            const Tail t{zero, shard, grads, params, order};
            const char* const why = why_not(t, shape, space);
            if (*why == '\0') {
              tails.push_back(t);
            } else {
              ++rejected[why];
            }
          }
        }
      }
    }
  }
  return tails;
}

nlohmann::json strategy_of(const plan::OpenJob& open, const Shape& s, const Tail& t) {
  json strategy = *open.given;
  const auto set = [&](const char* key, const auto& value, const auto& otherwise) {
    if (value != otherwise || strategy.contains(key)) {
      strategy[key] = value;
    }
  };
  strategy["dp"] = s.dp;
  strategy["tp"] = s.tp;
  strategy["pp"] = s.pp;
  strategy["micro_batch"] = s.micro_batch;
  set("cp", s.cp, 1);
  if (s.cp > 1) {
    strategy["cp_kind"] = s.cp_kind;
  }
  set("ep", s.ep, 1);
  if (s.whole_experts) {
    strategy["expert_tp"] = 1;
  }
  set("virtual_stages", s.virtual_stages, 1);
  set("schedule", s.schedule, "1f1b");
  set("sequence_parallel", s.sequence_parallel, false);
  if (!open.given->contains("recompute") || open.given->at("recompute").is_string()) {
    set("recompute", s.recompute, "none");
  }
  set("zero", t.zero, 0);
  set("shard", t.shard, 0);
  if (t.shard == 0) {
    strategy.erase("shard");
  }
  strategy["overlap_grad_reduce"] = t.overlap_grad_reduce;
  set("overlap_param_gather", t.overlap_param_gather, false);
  set("overlap_ep", s.overlap_ep, false);
  set("rank_order", t.rank_order, kRankOrder);
  return strategy;
}

}  // namespace foretrain::search
