// Megatron-LM's arguments into the words of a job: the model, the strategy.
#pragma once

#include "plan/foreign/settings.h"

namespace foretrain::plan {

// Of a table of flags with a number each (plan/foreign/megatron_words.h): what was given, else the table's fallback.
void read_megatron_integers(SettingReader& r, auto& table) {
  for (const auto& w : table) {
    if (const auto value = r.integer(w.flag, w.low)) {
      r.set(w.path, *value, w.flag);
    } else if (w.fallback >= 0) {
      r.set_quietly(w.path, w.fallback);
    }
  }
}

// The model, its precision, and its attention.
void read_megatron_model(SettingReader& r);
// Sizes of the mesh, pipeline, sharding, recompute, overlaps.
void read_megatron_strategy(SettingReader& r);

}  // namespace foretrain::plan
