#include "plan/strategy_exchange.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace foretrain::plan {

namespace {

constexpr std::array<std::string_view, 4> kWhole{"none", "fp16", "bf16", "int8"};  // by CompressionKind
constexpr std::string_view kTopK = "topk:";
constexpr std::int64_t kMost = 1'000'000'000;
constexpr double kMostRate = 1e6;

// {"kind": …, "learning_rate": …, "momentum": …}
OuterOptimizer read_outer(ObjectReader& reader) {
  OuterOptimizer o;
  ObjectReader outer = reader.object("outer_optimizer", false);
  if (!outer.present()) {
    return o;
  }
  o.kind = outer.word("kind", std::nullopt, {"sgd", "nesterov"}) == "sgd" ? OuterKind::sgd : OuterKind::nesterov;
  o.learning_rate = outer.number("learning_rate", o.learning_rate, 0, kMostRate);
  if (outer.has("momentum") && o.kind == OuterKind::sgd) {
    outer.mistake("momentum", "needs kind nesterov: sgd has none");
  }
  o.momentum = outer.number("momentum", o.momentum, 0, 1);
  outer.finish();
  return o;
}

}  // namespace

std::string name(const Compression& c) {
  return c.kind == CompressionKind::top_k ? fmt::format("{}{}", kTopK, c.share)
                                          : std::string(kWhole[static_cast<std::size_t>(c.kind)]);
}

Compression read_compression(ObjectReader& reader, const Strategy& s) {
  Compression c;
  const nlohmann::json* value = reader.raw("compression");
  const std::string text = value != nullptr && value->is_string() ? value->get<std::string>() : "";
  if (text.starts_with(kTopK)) {
    const char *const begin = text.data() + kTopK.size(), *const end = text.data() + text.size();
    c.kind = CompressionKind::top_k;
    const auto read = std::from_chars(begin, end, c.share);
    if (read.ec != std::errc() || read.ptr != end || !(c.share > 0 && c.share <= 1)) {
      reader.mistake("compression", fmt::format("\"{}\" is not allowed; expected topk: and a share above 0, 1 at most, "
                                                "as in topk:0.01",
                                                text));
      c.share = 1;
    }
  } else {
    const std::string word = reader.word("compression", "none", {"none", "fp16", "bf16", "int8", "topk:SHARE"});
    for (std::size_t k = 0; k < kWhole.size(); ++k) {
      c.kind = word == kWhole[k] ? static_cast<CompressionKind>(k) : c.kind;
    }
  }
  if (c.kind == CompressionKind::none) {
    return c;
  }
  if (s.zero != 0) {
    reader.mistake("compression", fmt::format("{} with zero {} is not built yet: gradients are scattered there; "
                                              "expected zero 0, or none",
                                              name(c), s.zero));
  }
  if (c.is_coded() && s.tp > 1) {
    reader.mistake("compression",
                   fmt::format("{} with tp {} is not built: ranks that hold the same gains and biases would code them "
                               "beside different weights, and drift apart; expected tp 1, or fp16 or bf16",
                               name(c), s.tp));
  }
  return c;
}

void read_local_sgd(ObjectReader& reader, Strategy& s) {
  s.average_every = reader.integer("average_every", 1, 1, kMost);
  s.local_group = reader.integer("local_group", 1, 1, kMost);
  s.outer = read_outer(reader);
  for (const char* key : {"average_every", "local_group", "outer_optimizer"}) {
    if (s.data_parallel != DataParallel::local_sgd && reader.has(key)) {
      reader.mistake(key, "needs data_parallel local_sgd: without it all replicas take the same steps");
    }
  }
}

void write_local_sgd(const Strategy& s, nlohmann::json& out) {
  out["average_every"] = s.average_every;
  out["local_group"] = s.local_group;
  out["local_group"] = s.local_group;
  if (s.outer.kind != OuterKind::average) {
    out["outer_optimizer"] = {{"kind", name(s.outer.kind)}, {"learning_rate", s.outer.learning_rate}};
    if (s.outer.kind == OuterKind::nesterov) {
      out["outer_optimizer"]["momentum"] = s.outer.momentum;
    }
  }
}

}  // namespace foretrain::plan
