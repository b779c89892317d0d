// TOML as far as torchtitan's files use it: tables, keys with strings, numbers, booleans and lists of them, comments.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plan/foreign/settings.h"

namespace foretrain::plan {

// "training.seq_len" by table and key; of lists of lists the inner strings in order, each inner list behind "|".
// Throws InputError "origin:line: …", also for what is TOML and not built (dates, inline tables, tables of lists).
std::vector<Setting> read_toml(std::string_view text, const std::string& origin);

}  // namespace foretrain::plan
