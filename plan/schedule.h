// Pipeline schedules: readable text in the field's grammar, and the functions that write it.
//
// A schedule has one row per pipeline rank: actions in order, separated by commas or blanks. An action is
// <virtual stage><kind><microbatch>: "2F0" forward of microbatch 0 on virtual stage 2; B full backward; W weight
// gradient and I input gradient of a split backward. A virtual stage is on the rank in whose row its actions stand: s
// on rank s % pp, or any other placement with the same number of stages on each rank. '#' starts a comment; lines
// without actions are skipped.
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
// Qi et al. 2023, "Zero Bubble Pipeline Parallelism", the schedules by hand: backwards in two halves, I and W, of which
// the next rank waits for I only. With F, I and W equally long and m >= pp (H2: 2 pp - 1) microbatches:
// H1 holds pp microbatches, as 1F1B, and leaves a bubble of (pp - 1) (F + I - W) instead of (pp - 1) (F + I + W);
// H2 warms up with pp - 1 more on the first rank, holds 2 pp - 1, and is never idle from its first action to its last.
Schedule zb_h1(int pp, int microbatches);
Schedule zb_h2(int pp, int microbatches);
// The same paper's V: two virtual stages per rank, r and 2 pp - 1 - r on rank r, so that the model turns round on the
// last rank and ends on the first. Every rank holds at most 2 pp of the half-size activations, as much as 1F1B's first
// rank, and with F, I and W equally long and m >= 2 pp - 1 is never idle from its first action to its last.
Schedule zb_v(int pp, int microbatches);
// DualPipe (DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 3.2.1) cut in half, as DeepSeek's DualPipeV: in
// the same V, every forward of the steady middle has a backward beside it, so that the communication of either runs
// behind the other's compute. Most backwards stay whole. A rank holds at most 2 pp + 1 of the half-size activations.
Schedule dualpipe_v(int pp, int microbatches);
// DualPipe itself: rank r has stages r and pp - 1 - r of the model, so that there are two copies of it, and half of the
// microbatches come in at either end. Virtual stages 0 to pp - 1 are on ranks in order and have the first half of
// the microbatches; pp to 2 pp - 1, the copy, on the ranks from the last to the first, and have the other half.
// With F, B, W a chunk's forward, whole backward and weight gradient, F&B a forward beside a backward: a bubble of
// (pp/2 - 1)(F&B + B - 3W). A rank holds at most pp + 1 activations of one stage. REQUIRES: pp and microbatches even.
Schedule dualpipe(int pp, int microbatches);

// 1F1B and its interleaved form for pairs: a forward and the backward behind it run as one, so that either's output is
// there only at the pair's end. Twice the distance to the last rank, and one more, as warm-up, so that no rank waits
// for its neighbour's pair; the interleaved form has its own and one more (Megatron-core's
// overlap_moe_expert_parallel_comm).
Schedule one_f_one_b_in_pairs(int pp, int microbatches);
Schedule interleaved_in_pairs(int pp, int virtual_stages, int microbatches);
// Which actions run as one with the action behind them: a forward with a whole backward of another microbatch or stage.
// [pipeline rank][action]. A pair that would wait for itself runs apart.
std::vector<std::vector<bool>> pairs(const Schedule& s, int stages);

std::string to_text(const Action& a);
std::string to_text(const Schedule& s);
// Throws InputError with "origin:line:column: …".
Schedule schedule_from_text(const std::string& text, const std::string& origin);
Schedule schedule_from_file(const std::string& path);

// Every (stage, microbatch) forward once and backward once after it (B, or I and later W), each stage on one rank and
// each rank with virtual_stages of them; the rows do not deadlock, also when messages between two ranks keep their
// order and one at a time is handed over between two stages of a rank. Throws InputError that names the action.
// With two ways (Strategy::ways) either half of the microbatches has a half of the stages to go through.
void check(const Schedule& s, int pp, int virtual_stages, int microbatches, const std::string& origin, int ways = 1);

// The schedule of a strategy (file read for ScheduleKind::text), checked.
Schedule make_schedule(const Strategy& strategy, int microbatches);

// The rank of each virtual stage: where its actions stand. REQUIRES: a checked schedule; without any action stage s is
// on rank s % pp.
std::vector<std::int32_t> placement(const Schedule& s, int stages);

// Which copy of its buffers each action of a row uses: of a microbatch's activations on a stage that its input gradient
// is the last to read (slot, from F to I or B), of those that its weight gradient reads (hold, from F to W or B), and
// of gradients that its input gradient leaves for that (ring, from I to W, or inside B). The lowest free copy first:
// `slots`, `holds` and `rings` are the most in use at once.
struct CopyAssignment {
  std::vector<std::int32_t> slot, hold, ring;  // by action; -1 where the action has none
  std::int32_t slots = 0, holds = 0, rings = 0;
};
CopyAssignment assign_copies(const std::vector<Action>& row);
// A whole backward takes a ring for itself: two of them, so that the next gradient may arrive meanwhile.
inline constexpr std::int32_t kRings = 2;

}  // namespace foretrain::plan
