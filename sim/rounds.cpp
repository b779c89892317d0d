#include "sim/rounds.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace foretrain::sim {
namespace {

using plan::Instance;
using Instances = std::vector<Instance>;
using Renaming = std::vector<std::int32_t>;

// Fewer are walked as fast as they are left out.
constexpr std::int32_t kWorthLeavingOut = 4;

// Where a role's body repeats: instance i + length is instance i of `microbatches` later, for begin <= i < end -
// length.
struct Stretch {
  std::size_t begin = 0, end = 0, length = 0;
  std::int32_t rounds() const { return static_cast<std::int32_t>((end - begin) / length); }
};

bool is_next(const Instance& x, const Instance& y, std::int32_t microbatches) {
  return y.segment == x.segment && y.every == x.every && x.microbatch >= 0 &&
         y.microbatch == x.microbatch + microbatches && y.beside.has_value() == x.beside.has_value() &&
         (!x.beside || y.beside->microbatch == x.beside->microbatch + microbatches);
}

std::optional<Stretch> find_stretch(const Instances& body, std::int32_t microbatches) {
  const std::size_t middle = body.size() / 2;
  std::size_t next = middle + 1;
  while (next < body.size() && !is_next(body[middle], body[next], microbatches)) {
    ++next;
  }
  if (next >= body.size()) {
    return std::nullopt;
  }
  Stretch s{middle, next, next - middle};
  while (s.begin > 0 && is_next(body[s.begin - 1], body[s.begin - 1 + s.length], microbatches)) {
    --s.begin;
  }
  while (s.end < body.size() && is_next(body[s.end - s.length], body[s.end], microbatches)) {
    ++s.end;
  }
  return s;
}

bool rename(Renaming& names, std::int32_t from, std::int32_t to) {
  if (from < 0 || to < 0) {
    return from == to;
  }
  std::int32_t& name = names[static_cast<std::size_t>(from)];
  const bool agrees = name < 0 || name == to;
  name = to;
  return agrees;
}

// Copies that no round has keep their names. False: two take one's place.
bool complete(Renaming& names) {
  std::vector<bool> taken(names.size(), false);
  for (const std::int32_t name : names) {
    if (name >= 0) {
      if (taken[static_cast<std::size_t>(name)]) {
        return false;
      }
      taken[static_cast<std::size_t>(name)] = true;
    }
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] < 0) {
      if (taken[i]) {
        return false;
      }
      names[i] = static_cast<std::int32_t>(i);
    }
  }
  return true;
}

// `times` rounds back.
Renaming back(const Renaming& names, std::int64_t times) {
  Renaming result(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::int64_t cycle = 1;
    for (auto n = static_cast<std::size_t>(names[i]); n != i; n = static_cast<std::size_t>(names[n])) {
      ++cycle;
    }
    auto to = i;
    for (std::int64_t t = (cycle - times % cycle) % cycle; t > 0; --t) {
      to = static_cast<std::size_t>(names[to]);
    }
    result[i] = static_cast<std::int32_t>(to);
  }
  return result;
}

template <class Side>
void put(Side& side, std::int32_t microbatches, const Renaming& slots, const Renaming& rings) {
  const auto name = [](const Renaming& names, std::int32_t copy) {
    return copy < 0 ? copy : names[static_cast<std::size_t>(copy)];
  };
  side.slot = name(slots, side.slot);
  side.ring = name(rings, side.ring);
  side.microbatch -= side.microbatch < 0 ? 0 : microbatches;
}

void append(const Instances& body, std::size_t from, std::size_t to, std::int32_t microbatches, const Renaming& slots,
            const Renaming& rings, Instances& result) {
  for (std::size_t i = from; i < to; ++i) {
    Instance& instance = result.emplace_back(body[i]);
    put(instance, microbatches, slots, rings);
    if (instance.beside) {
      put(*instance.beside, microbatches, slots, rings);
    }
  }
}

bool has_copies(const Instances& instances) {
  return std::any_of(instances.begin(), instances.end(), [](const Instance& i) { return i.slot >= 0 || i.ring >= 0; });
}

bool find_names(const plan::Role& role, const Stretch& s, RoundCut& cut) {
  if (has_copies(role.program.epilogue)) {
    return false;  // their names after the last step
  }
  cut.slots.assign(static_cast<std::size_t>(role.slots), -1);
  cut.rings.assign(static_cast<std::size_t>(role.rings), -1);
  for (std::size_t i = s.begin; i + s.length < s.end; ++i) {
    const Instance &x = role.program.body[i], &y = role.program.body[i + s.length];
    if (!rename(cut.slots, x.slot, y.slot) || !rename(cut.rings, x.ring, y.ring) ||
        (x.beside &&
         (!rename(cut.slots, x.beside->slot, y.beside->slot) || !rename(cut.rings, x.beside->ring, y.beside->ring)))) {
      return false;
    }
  }
  return complete(cut.slots) && complete(cut.rings);
}

void name_events(const plan::Role& role, RoundCut& cut) {
  for (const plan::Event& event : role.events) {
    const std::size_t first = cut.events.size();
    const bool per_slot = event.replicas == plan::Replicas::per_slot,
               per_ring = event.replicas == plan::Replicas::per_ring;
    if (per_slot || per_ring) {
      for (const std::int32_t copy : per_slot ? cut.slots : cut.rings) {
        cut.events.push_back(first + static_cast<std::size_t>(copy));
      }
      continue;
    }
    const std::size_t copies = event.replicas == plan::Replicas::per_layer ? role.global_layer.size() : 1;
    for (std::size_t c = 0; c < copies; ++c) {
      cut.events.push_back(first + c);
    }
  }
}

std::optional<Rounds> keep(const plan::PlanGraph& graph, const std::vector<Stretch>& stretches, std::int32_t kept,
                           int steps, std::int32_t microbatches) {
  Rounds rounds;
  rounds.kept = kept;
  std::int32_t all = INT32_MAX;
  for (const Stretch& s : stretches) {
    all = std::min(all, s.rounds());
  }
  rounds.left_out = all - kept;
  if (rounds.left_out < kWorthLeavingOut) {
    return std::nullopt;
  }
  for (std::size_t r = 0; r < graph.roles.size(); ++r) {
    const Instances& body = graph.roles[r].program.body;
    const Stretch& s = stretches[r];
    RoundCut& cut = rounds.roles.emplace_back();
    cut.length = s.length;
    cut.cut = s.begin + static_cast<std::size_t>(rounds.kept) * s.length;
    if (!find_names(graph.roles[r], s, cut)) {
      return std::nullopt;
    }
    name_events(graph.roles[r], cut);
    const std::size_t behind = cut.cut + static_cast<std::size_t>(rounds.left_out) * s.length;
    for (int step = 0; step < std::max(steps, 2); ++step) {
      const std::int64_t before = static_cast<std::int64_t>(rounds.left_out) * step;
      Instances& left = cut.bodies.emplace_back();
      append(body, 0, cut.cut, 0, back(cut.slots, before), back(cut.rings, before), left);
      append(body, behind, body.size(), rounds.left_out * microbatches, back(cut.slots, before + rounds.left_out),
             back(cut.rings, before + rounds.left_out), left);
    }
  }
  return rounds;
}

std::vector<Rounds> find_rounds(const plan::PlanGraph& graph, int steps, std::int32_t microbatches) {
  std::vector<Stretch> stretches;
  for (const plan::Role& role : graph.roles) {
    const std::optional<Stretch> s = find_stretch(role.program.body, microbatches);
    if (!s) {
      return {};
    }
    stretches.push_back(*s);
  }
  // The first rounds are not alike yet, and between the first rank and the last lie up to as many as there are stages.
  const std::int32_t few = 4 + 2 * graph.mesh.size(plan::Axis::pp) / microbatches;
  std::vector<Rounds> found;
  for (const std::int32_t kept : {few, 2 * few + 4}) {
    if (std::optional<Rounds> rounds = keep(graph, stretches, kept, steps, microbatches)) {
      found.push_back(*std::move(rounds));
    }
  }
  return found;
}

}  // namespace

// One microbatch at a time, or (interleaved) as many as there are stages.
std::vector<Rounds> find_rounds(const plan::PlanGraph& graph, int steps) {
  std::vector<Rounds> rounds = find_rounds(graph, steps, 1);
  if (const int stages = graph.mesh.size(plan::Axis::pp); rounds.empty() && stages > 1) {
    rounds = find_rounds(graph, steps, stages);
  }
  return rounds;
}

}  // namespace foretrain::sim
