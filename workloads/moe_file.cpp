#include "workloads/moe_file.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"

namespace foretrain::workloads {

namespace {

constexpr std::int64_t kMaxExperts = 10'000;
constexpr std::int64_t kMaxWidth = 10'000'000;

}  // namespace

std::string_view name(Router r) {
  return r == Router::softmax ? "softmax" : "sigmoid";
}

Moe read_moe(ObjectReader& parent, const char* key, std::int64_t layers) {
  Moe moe;
  if (!parent.has(key)) {
    return moe;
  }
  ObjectReader reader = parent.object(key);
  moe.experts = reader.integer("experts", std::nullopt, 1, kMaxExperts);
  moe.top_k = reader.integer("top_k", std::nullopt, 1, kMaxExperts);
  moe.ffn_hidden = reader.integer("ffn_hidden", std::nullopt, 1, kMaxWidth);
  moe.bias = reader.boolean("bias", false);
  moe.shared_experts = reader.integer("shared_experts", 0, 0, kMaxExperts);
  moe.shared_ffn_hidden = reader.integer("shared_ffn_hidden", moe.ffn_hidden, 1, kMaxWidth);
  moe.shared_gate = reader.boolean("shared_gate", false);
  moe.router =
      reader.word("router", "softmax", {"softmax", "sigmoid"}) == "sigmoid" ? Router::sigmoid : Router::softmax;
  moe.normalize_weights = reader.boolean("normalize_weights", true);
  moe.weight_scale = reader.number("weight_scale", 1.0, 1e-6, 1e6);
  moe.expert_bias = reader.boolean("expert_bias", moe.router == Router::sigmoid);
  moe.groups = reader.integer("groups", 1, 1, kMaxExperts);
  moe.top_groups = reader.integer("top_groups", moe.groups, 1, kMaxExperts);
  moe.group_best = reader.integer("group_best", 2, 1, 2);
  moe.capacity_factor = reader.number("capacity_factor", 0.0, 0.0, 1e6);
  moe.aux_loss = reader.number("aux_loss", 0.0, 0.0, 1e6);
  moe.first_dense_layers = reader.integer("first_dense_layers", 0, 0, layers);
  moe.every = reader.integer("every", 1, 1, layers);
  check_moe(moe, layers, reader);
  reader.finish();
  return moe;
}

void check_moe(const Moe& moe, std::int64_t layers, ObjectReader& reader) {
  if (moe.experts == 0) {
    return;
  }
  if (moe.top_k > moe.experts) {
    reader.mistake("", fmt::format("top_k {} of {} experts", moe.top_k, moe.experts));
  }
  const bool divides = moe.groups > 0 && moe.experts % moe.groups == 0;
  if (!divides || moe.top_groups > moe.groups) {
    reader.mistake("", fmt::format("{} of {} groups of {} experts; groups must divide experts", moe.top_groups,
                                   moe.groups, moe.experts));
  } else if (moe.groups > 1 &&
             (moe.experts / moe.groups < 2 || moe.top_k > moe.experts / moe.groups * moe.top_groups)) {
    reader.mistake("",
                   fmt::format("top_k {} from {} groups of {} experts; groups have at least 2 experts, and top_k is "
                               "at most those of the chosen groups",
                               moe.top_k, moe.top_groups, moe.experts / moe.groups));
  }
  if (moe.shared_gate && moe.shared_width() == 0) {
    reader.mistake("", "shared_gate needs shared_experts");
  }
  if (moe.first_dense_layers > layers) {
    reader.mistake("", fmt::format("{} dense layers of {}", moe.first_dense_layers, layers));
  }
  if (moe.every > layers) {
    reader.mistake("", fmt::format("experts in every {}-th of {} layers", moe.every, layers));
  }
}

nlohmann::json to_json(const Moe& moe) {
  return {{"experts", moe.experts},
          {"top_k", moe.top_k},
          {"ffn_hidden", moe.ffn_hidden},
          {"bias", moe.bias},
          {"shared_experts", moe.shared_experts},
          {"shared_ffn_hidden", moe.shared_ffn_hidden},
          {"shared_gate", moe.shared_gate},
          {"router", name(moe.router)},
          {"normalize_weights", moe.normalize_weights},
          {"weight_scale", moe.weight_scale},
          {"expert_bias", moe.expert_bias},
          {"groups", moe.groups},
          {"top_groups", moe.top_groups},
          {"group_best", moe.group_best},
          {"capacity_factor", moe.capacity_factor},
          {"aux_loss", moe.aux_loss},
          {"first_dense_layers", moe.first_dense_layers},
          {"every", moe.every}};
}

}  // namespace foretrain::workloads
