// Pipeline schedules: readable text in the field's grammar, and the functions that write it.
//
// A schedule has one row per pipeline rank: actions in order, separated by commas or blanks. An action is
// <virtual stage><kind><microbatch>: "2F0" forward of microbatch 0 on virtual stage 2; B full backward; W weight
// gradient and I input gradient of a split backward. Virtual stage s is chunk s / pp of rank s % pp. '#' starts a
// comment; lines without actions are skipped.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan/strategy.h"

namespace foretrain::plan {

enum class ActionKind : std::uint8_t { forward, backward, backward_input, backward_weight };
struct Action {
  std::int32_t stage = 0;  // virtual
  ActionKind kind{};
  std::int32_t microbatch = 0;
  friend bool operator==(const Action&, const Action&) = default;
};
using Schedule = std::vector<std::vector<Action>>;  // [pipeline rank]

// GPipe: all forwards, then all backwards, microbatches ascending in both.
Schedule gpipe(int pp, int microbatches);
// 1F1B: min(pp - rank - 1, m) warm-up forwards, then one forward, one backward, then the rest.
Schedule one_f_one_b(int pp, int microbatches);
// Interleaved 1F1B (Narayanan et al. 2021): v chunks per rank, microbatches in groups of pp. Requires m % pp == 0.
Schedule interleaved(int pp, int virtual_stages, int microbatches);

std::string to_text(const Action& a);
std::string to_text(const Schedule& s);
// Throws InputError with "origin:line:column: …".
Schedule schedule_from_text(const std::string& text, const std::string& origin);
Schedule schedule_from_file(const std::string& path);

// Every (stage, microbatch) forward once and backward once after it (B, or I and later W), on the right rank; the rows
// do not deadlock, also when messages between two ranks keep their order. Throws InputError that names the action.
void check(const Schedule& s, int pp, int virtual_stages, int microbatches, const std::string& origin);

// The schedule of a strategy (file read for ScheduleKind::text), checked.
Schedule make_schedule(const Strategy& strategy, int microbatches);

// A slot of activations for each forward, freed by its backward; the lowest free one first. slots[rank][i] belongs to
// action i of the row; `count[rank]` is the most in flight at once.
struct SlotAssignment {
  std::vector<std::vector<std::int32_t>> slots;
  std::vector<std::int32_t> count;
};
SlotAssignment assign_slots(const Schedule& s);

}  // namespace foretrain::plan
