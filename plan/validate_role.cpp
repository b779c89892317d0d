#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <variant>

#include "plan/arity.h"
#include "plan/op_text.h"
#include "plan/validate_internal.h"

namespace foretrain::plan {
namespace {

template <class List>
bool has(const List& list, std::int64_t id) {
  return id >= 0 && id < static_cast<std::int64_t>(list.size());
}

std::size_t at(std::int64_t id) {
  return static_cast<std::size_t>(id);
}

// The one coordinate of a role's ranks along an axis; -1 when they lie along it.
int coordinate(const Mesh& mesh, const Role& role, Axis axis) {
  const AxisRange all = along(mesh, role.ranks, axis);
  return all.count == 1 ? all.first : -1;
}

// Extents and places of honest graphs lie far below; beyond, sums could wrap.
constexpr std::int64_t kHuge = std::int64_t{1} << 50;

bool is_sane(std::int64_t x) {
  return x >= 0 && x < kHuge;
}

class RoleChecker {
 public:
  RoleChecker(const PlanGraph& graph, const Role& role, Findings& findings)
      : graph_(graph), role_(role), findings_(findings) {}

  void check() {
    if (role_.streams.empty() || role_.streams[0].kind != StreamKind::compute) {
      fail("stream 0 is not the compute stream");
      return;
    }
    check_memory();
    for (const Block& block : role_.blocks) {
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        where_ = fmt::format("{}, block {}, op {}", role_.name, block.name, i);
        check_op(block, i);
      }
    }
    where_ = role_.name;
    if (!findings_.empty()) {
      return;  // what follows looks things up by the ids above
    }
    check_events();
    for (const Segment& segment : role_.segments) {
      check_segment(segment);
    }
    where_ = role_.name;
    const Program& p = role_.program;
    for (const auto* list : {&p.prologue, &p.body, &p.epilogue, &p.evaluation}) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        check_instance((*list)[i], i);
      }
    }
  }

 private:
  static constexpr int kMostCopies = 1 << 20;

  void fail(const std::string& what) { findings_.add_once(where_ + what, where_ + ": " + what); }

  void check_memory() {
    where_ = role_.name;
    check_layer_lists();
    if (role_.memory.placements.size() != role_.buffers.size()) {
      fail(fmt::format("{} of {} buffers have a place", role_.memory.placements.size(), role_.buffers.size()));
      return;
    }
    const std::int64_t arena = role_.memory.arena.value;
    const auto too_many = [](std::int32_t n) { return n < 0 || n > kMostCopies; };
    const std::int64_t host = role_.memory.host.value;
    if (!is_sane(arena) || !is_sane(host) || too_many(role_.slots) || too_many(role_.holds) || too_many(role_.rings)) {
      fail(fmt::format("an arena of {} bytes, {} slots, {} holds and {} rings", arena, role_.slots, role_.holds,
                       role_.rings));
      return;
    }
    for (std::size_t i = 0; i < role_.buffers.size(); ++i) {
      const Buffer& b = role_.buffers[i];
      const Placement& p = role_.memory.placements[i];
      if (b.layer_list < -1 || b.layer_list >= std::ssize(role_.layer_lists)) {
        fail(fmt::format("buffer {} has layers of list {} of {}", b.name, b.layer_list, role_.layer_lists.size()));
      }
      if (!is_sane(b.elements) || b.layers < 0 || !is_sane(p.offset) || !is_sane(p.layer_stride) ||
          !is_sane(p.copy_stride)) {
        fail(fmt::format("buffer {} of {} elements x {} layers at byte {}, strides {} and {}", b.name, b.elements,
                         b.layers, p.offset, p.layer_stride, p.copy_stride));
        continue;
      }
      const std::int32_t copies = role_.copies(b.lifetime);
      // In double: exact wherever it matters, and it does not wrap.
      const double end = static_cast<double>(p.offset + size_bytes(b.dtype, b.elements)) +
                         std::max(b.layers - 1, 0) * static_cast<double>(p.layer_stride) +
                         std::max(copies - 1, 0) * static_cast<double>(p.copy_stride);
      // The device's buffers lie in the arena, the host's behind it.
      const bool on_host = b.kind == BufferKind::host;
      if (on_host && (p.offset < arena || end > static_cast<double>(arena) + static_cast<double>(host))) {
        fail(fmt::format("buffer {} from byte {} to {:.0f} is not on the host, behind an arena of {}", b.name, p.offset,
                         end, arena));
      } else if (!on_host && end > static_cast<double>(arena)) {
        fail(fmt::format("buffer {} ends at byte {:.0f} of an arena of {}", b.name, end, arena));
      }
    }
  }

  void check_layer_lists() {
    const auto layers = static_cast<std::int32_t>(role_.global_layer.size());
    for (std::size_t i = 0; i < role_.layer_lists.size(); ++i) {
      std::int32_t above = -1;
      for (const std::int32_t layer : role_.layer_lists[i]) {
        if (layer <= above || layer >= layers) {
          fail(fmt::format("list {} of layers has {} after {}; they rise, below {}", i, layer, above, layers));
        }
        above = layer;
      }
    }
  }

  void check_op(const Block& block, std::size_t position) {
    const Op& op = block.ops[position];
    if (!has(role_.streams, op.stream)) {
      fail(fmt::format("no stream {}", op.stream));
    }
    for (const std::uint16_t earlier : op.after) {
      if (earlier >= position) {
        fail(fmt::format("comes after op {}, which is not earlier", earlier));
      }
    }
    for (const auto* list : {&op.waits, &op.records}) {
      for (const EventId event : *list) {
        if (!has(role_.events, event)) {
          fail(fmt::format("no event {}", event));
        }
      }
    }
    if (op.runtime_extent != -1 && !has(graph_.runtime_extents, op.runtime_extent)) {
      fail(fmt::format("no runtime extent {}", op.runtime_extent));
    }
    check_operands(op);
    if (const auto* collective = std::get_if<Collective>(&op.work)) {
      check_collective(op, *collective);
    } else if (const auto* exchange = std::get_if<Exchange>(&op.work)) {
      check_exchange(op, *exchange);
    } else if (const auto* channel = std::get_if<Channel>(&op.work)) {
      check_channel(op, *channel);
    }
  }

  void check_operands(const Op& op) {
    const auto check = [&](const Operand& o) {
      if (!has(role_.buffers, o.buffer)) {
        fail(fmt::format("no buffer {}", o.buffer));
      } else if (o.rank_group != kNoGroup && !has(graph_.groups, o.rank_group)) {
        fail(fmt::format("no group {}", o.rank_group));
      } else if (o.rank_group != kNoGroup) {
        check_group(o.rank_group);
      }
    };
    std::for_each(op.reads.begin(), op.reads.end(), check);
    std::for_each(op.writes.begin(), op.writes.end(), check);
    if (op.guard) {
      check(op.guard->scalar);
    }
    const Arity expected = expected_of(op);
    if (op.reads.size() != expected.reads || op.writes.size() != expected.writes) {
      fail(fmt::format("{} reads {} operands and writes {}, has {} and {}", kind_name(op.work), expected.reads,
                       expected.writes, op.reads.size(), op.writes.size()));
    }
    if (const auto* encode = std::get_if<Encode>(&op.work)) {
      check_code(encode->code, encode->dtype);
    } else if (const auto* decode = std::get_if<Decode>(&op.work)) {
      check_code(decode->code, decode->dtype);
    }
  }

  // Multiples and magnitudes are of real numbers; places are counted in 32 bits.
  void check_code(const Code& code, Dtype dtype) {
    const Dtype wide = dtype == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
    if ((dtype != wide && dtype != Dtype::bf16) || code.dtype != wide || code.elements < 0 || code.kept < 0 ||
        code.kept > code.elements || code.elements > std::numeric_limits<std::uint32_t>::max()) {
      fail(
          fmt::format("a code of {} {} values in {}, of which {} are kept; expected up to 2^32 of fp64 in fp64, or of "
                      "fp32 or bf16 in fp32",
                      code.elements, foretrain::name(dtype), foretrain::name(code.dtype), code.kept));
    }
  }

  static Arity expected_of(const Op& op) { return arity(op.work, {op.reads.size(), op.writes.size()}); }

  // Every rank of the role must be in it.
  bool check_group(GroupId id) {
    const Group& group = graph_.groups[at(id)];
    if (!contains(graph_.mesh, group, first_rank(graph_.mesh, role_.ranks))) {
      fail(fmt::format("group {} does not contain the role's ranks", group.name));
      return false;
    }
    for (const AxisSpan& span : group.spans) {
      const AxisRange own = along(graph_.mesh, role_.ranks, span.axis);
      const auto inside = [&](int c) { return std::find(span.only.begin(), span.only.end(), c) != span.only.end(); };
      bool contained = true;
      for (int c = own.first; !span.only.empty() && contained && c < own.first + own.count; ++c) {
        contained = inside(c);
      }
      if (!contained) {
        fail(fmt::format("group {} does not contain the role's ranks", group.name));
        return false;
      }
    }
    return true;
  }

  void check_tag(std::int32_t tag) {
    if (!has(graph_.tags, tag)) {
      fail(fmt::format("no tag {}", tag));
    }
  }

  void check_collective(const Op& op, const Collective& c) {
    check_tag(c.tag);
    if (!has(graph_.groups, c.group)) {
      fail(fmt::format("no group {}", c.group));
      return;
    }
    if (c.row != 0 && (c.row < 0 || c.kind != CollectiveKind::all_to_all)) {
      fail(fmt::format("{} has rows of {} elements", op_text(graph_, op), c.row));
      return;
    }
    if (!check_group(c.group) || !(Arity{op.reads.size(), op.writes.size()} == expected_of(op))) {
      return;
    }
    if (c.row > 0) {
      const std::int64_t members = group_size(graph_.mesh, graph_.groups[at(c.group)]);
      if (op.reads[1].elements != members || op.reads[2].elements != members) {
        fail(fmt::format("{} has counts for {} and {} of {} members", op_text(graph_, op), op.reads[1].elements,
                         op.reads[2].elements, members));
      }
      return;
    }
    const int members = group_size(graph_.mesh, graph_.groups[at(c.group)]);
    const bool star = is_star(c.kind), has_root = star || c.kind == CollectiveKind::broadcast;
    if (has_root ? c.root < 0 || c.root >= members : c.root != -1) {
      fail(fmt::format("{} from member {} of {}", op_text(graph_, op), c.root, members));
    }
    if (star) {
      check_star(op, c, members);
      return;
    }
    const std::int64_t shard = c.elements / members;
    const std::int64_t read = c.kind == CollectiveKind::all_gather ? shard : c.elements;
    const std::int64_t written = c.kind == CollectiveKind::reduce_scatter ? shard : c.elements;
    if (op.reads[0].elements != read || op.writes[0].elements != written) {
      fail(fmt::format("{} reads {} and writes {} elements; expected {} and {}", op_text(graph_, op),
                       op.reads[0].elements, op.writes[0].elements, read, written));
    }
  }

  // The root alone takes what is gathered, and gives what is distributed.
  void check_star(const Op& op, const Collective& c, int members) {
    const Group& group = graph_.groups[at(c.group)];
    const bool gathers = c.kind == CollectiveKind::gather;
    const bool is_root = index_in_group(graph_.mesh, group, first_rank(graph_.mesh, role_.ranks)) == c.root;
    const std::vector<Operand>& operands = is_root == gathers ? op.writes : op.reads;
    const std::int64_t expected = gathers && !is_root ? c.elements / (members - 1) : c.elements;
    if (operands.size() != 1 || operands[0].elements != expected) {
      fail(fmt::format("{}: {} {} {} elements", op_text(graph_, op), is_root ? "the root" : "a member",
                       is_root == gathers ? "writes" : "reads", expected));
    }
  }

  // The server has one end, the others the other.
  void check_channel(const Op& op, const Channel& c) {
    check_tag(c.tag);
    if (!has(graph_.groups, c.group)) {
      fail(fmt::format("no group {}", c.group));
      return;
    }
    if (!check_group(c.group)) {
      return;
    }
    const Group& group = graph_.groups[at(c.group)];
    const bool is_root = index_in_group(graph_.mesh, group, first_rank(graph_.mesh, role_.ranks)) == c.root;
    std::vector<Operand> exchanged = op.writes.empty() ? op.reads : op.writes;
    if (c.step == ChannelStep::take && !op.reads.empty() && !op.writes.empty()) {
      const std::int64_t workers = group_size(graph_.mesh, group) - 1;
      if (op.reads[0].elements != workers || op.writes.back().elements != workers + 1) {
        fail(fmt::format("{} counts turns of other than {} workers", op_text(graph_, op), workers));
      }
      exchanged.pop_back();
    }
    std::int64_t elements = 0;
    for (const Operand& o : exchanged) {
      elements += is_sane(o.elements) ? o.elements : 0;
    }
    if (is_root != is_of_server(c.step) || elements != c.elements) {
      fail(fmt::format("{} of {} elements {}", op_text(graph_, op), elements,
                       is_root ? "on the server" : "on a worker"));
    }
  }

  void check_exchange(const Op& op, const Exchange& e) {
    std::size_t read = 0, written = 0;
    const Rank first = first_rank(graph_.mesh, role_.ranks);
    const bool is_beside = first >= graph_.mesh.within();
    for (const Message& m : e.messages) {
      check_tag(m.tag);
      const int own = coordinate(graph_.mesh, role_, m.axis);
      if (m.relative) {
        const bool has_other_end = std::any_of(e.messages.begin(), e.messages.end(), [&](const Message& x) {
          return x.relative && x.send != m.send && x.tag == m.tag && x.axis == m.axis && x.peer == -m.peer;
        });
        if (!has_other_end) {
          fail(fmt::format("{} has only one end of the message round {} as {}", kind_name(op.work), name(m.axis),
                           has(graph_.tags, m.tag) ? graph_.tags[at(m.tag)] : "?"));
        }
        if (own >= 0 || m.peer % graph_.mesh.size(m.axis) == 0) {
          fail(fmt::format("message {} {} {:+} of {}; the role must be all along the axis, and the peer another rank",
                           m.send ? "to" : "from", name(m.axis), m.peer, graph_.mesh.size(m.axis)));
        }
      } else if (own < 0 || m.peer == (is_beside ? first : own) || m.peer < 0 ||
                 m.peer >= (is_beside ? graph_.mesh.ranks() : graph_.mesh.end(m.axis))) {
        fail(fmt::format("message {} {} {}; the role is at {} of {}", m.send ? "to" : "from", name(m.axis), m.peer,
                         own < 0 ? "several" : std::to_string(own), graph_.mesh.end(m.axis)));
      }
      const auto& operands = m.send ? op.reads : op.writes;
      std::size_t& next = m.send ? read : written;
      if (next < operands.size() && operands[next].elements != m.elements) {
        fail(fmt::format("{} has an operand of {} elements for a message of {}", op_text(graph_, op),
                         operands[next].elements, m.elements));
      }
      ++next;
    }
  }

  void check_events() {
    std::vector<bool> waited(role_.events.size()), recorded(role_.events.size());
    for (const Segment& segment : role_.segments) {
      for (const BlockCall& call : segment.calls) {
        if (!has(role_.blocks, call.block)) {
          continue;
        }
        for (const Op& op : role_.blocks[at(call.block)].ops) {
          std::for_each(op.waits.begin(), op.waits.end(), [&](EventId e) { waited[at(e)] = true; });
          std::for_each(op.records.begin(), op.records.end(), [&](EventId e) { recorded[at(e)] = true; });
        }
      }
    }
    for (std::size_t e = 0; e < waited.size(); ++e) {
      if (waited[e] && !recorded[e]) {
        fail(fmt::format("event {} is waited for and recorded by no op", role_.events[e].name));
      }
    }
  }

  void check_segment(const Segment& segment) {
    std::array<SlotsUsed, 2>& used_by = used_.emplace_back();
    where_ = fmt::format("{}, segment {}", role_.name, segment.name);
    const auto layers = static_cast<std::int64_t>(role_.global_layer.size());
    if (segment.first_layer < 0 || segment.first_layer > layers) {
      fail(fmt::format("its first layer is {} of {}", segment.first_layer, layers));
      return;
    }
    if (segment.beside_first_layer < 0 || segment.beside_first_layer > layers) {
      fail(fmt::format("the first layer beside it is {} of {}", segment.beside_first_layer, layers));
      return;
    }
    for (const BlockCall& call : segment.calls) {
      SlotsUsed& used = used_by[call.beside ? 1 : 0];
      used.any = true;
      if (!has(role_.blocks, call.block)) {
        fail(fmt::format("no block {}", call.block));
        continue;
      }
      const std::int64_t last = call.first + (std::int64_t{call.count} - 1) * call.step;
      if (call.count < 0 || (call.count > 1 && (call.first < 0 || call.step == 0)) ||
          (call.count > 0 && call.first >= 0 && (call.first >= layers || last < 0 || last >= layers))) {
        fail(fmt::format("block {} called for layers {} to {} of {}", role_.blocks[at(call.block)].name, call.first,
                         last, layers));
        continue;
      }
      const Block& block = role_.blocks[at(call.block)];
      for (std::size_t i = 0; i < block.ops.size() && call.count > 0; ++i) {
        where_ = fmt::format("{}, segment {}, block {}, op {}", role_.name, segment.name, block.name, i);
        const Op& op = block.ops[i];
        for (const std::int64_t layer : {std::int64_t{call.first}, last}) {
          const auto bounds = [&](const Operand& o) {
            check_bounds(o, layer, segment.first_layer_of(call.beside), used);
          };
          std::for_each(op.reads.begin(), op.reads.end(), bounds);
          std::for_each(op.writes.begin(), op.writes.end(), bounds);
          if (op.guard) {
            bounds(op.guard->scalar);
          }
        }
        for (const auto* list : {&op.waits, &op.records}) {
          for (const EventId e : *list) {
            const Event& event = role_.events[at(e)];
            used.slot = used.slot || event.replicas == Replicas::per_slot;
            used.ring = used.ring || event.replicas == Replicas::per_ring;
            if (event.replicas == Replicas::per_layer && call.first < 0) {
              fail(fmt::format("event {} has a copy per layer, and here is none", event.name));
            }
          }
        }
      }
    }
  }

  struct SlotsUsed {
    bool any = false, slot = false, hold = false, ring = false;
  };

  void check_bounds(const Operand& o, std::int64_t layer, std::int32_t first_layer, SlotsUsed& used) {
    const Buffer& b = role_.buffers[at(o.buffer)];
    used.slot = used.slot || b.lifetime == Lifetime::slot;
    used.hold = used.hold || b.lifetime == Lifetime::hold;
    used.ring = used.ring || b.lifetime == Lifetime::ring;
    if (!is_sane(o.offset) || !is_sane(o.elements) || !is_sane(o.rank_stride)) {
      fail(fmt::format("{} has a stride of {}", operand_text(graph_, role_, o), o.rank_stride));
      return;
    }
    std::int64_t available = b.elements;
    if (b.layers > 0) {
      const std::int64_t index =
          layer_copy(role_, b, layer < 0 ? first_layer : static_cast<std::int32_t>(layer), first_layer, o.layer_delta);
      if (index < 0 || index >= b.layers) {
        fail(fmt::format("{} is layer {} of {}", operand_text(graph_, role_, o), index, b.layers));
        return;
      }
      if (role_.memory.placements[at(o.buffer)].layer_stride == size_bytes(b.dtype, b.elements)) {
        available *= b.layers - index;  // all of them lie in the arena: it cannot wrap
      }
    }
    double end = static_cast<double>(o.offset + o.elements);
    if (o.rank_group != kNoGroup) {
      end += (group_size(graph_.mesh, graph_.groups[at(o.rank_group)]) - 1) * static_cast<double>(o.rank_stride);
    }
    if (end > static_cast<double>(available)) {
      fail(fmt::format("{} ends at element {:.0f} of {}", operand_text(graph_, role_, o), end, available));
    }
  }

  void check_instance(const Instance& instance, std::size_t i) {
    if (!has(role_.segments, instance.segment)) {
      fail(fmt::format("instance {}: no segment {}", i, instance.segment));
      return;
    }
    const Segment& segment = role_.segments[at(instance.segment)];
    if (instance.every < 1 || (instance.every > 1 && instance.every != period(graph_))) {
      fail(fmt::format("instance {} of {}: runs every {} steps, where the graph repeats after {}", i, segment.name,
                       instance.every, period(graph_)));
    }
    for (const bool beside : {false, true}) {
      const SlotsUsed used = used_[at(instance.segment)][beside ? 1 : 0];
      const InstanceSide side = instance.side(beside);
      if (beside && used.any != instance.beside.has_value()) {
        fail(fmt::format("instance {} of {}: {} a second microbatch", i, segment.name,
                         used.any ? "it lacks" : "nothing is done for"));
      }
      if (used.slot && (side.slot < 0 || side.slot >= role_.slots)) {
        fail(fmt::format("instance {} of {}: slot {} of {}", i, segment.name, side.slot, role_.slots));
      }
      if (used.hold && (side.hold < 0 || side.hold >= role_.holds)) {
        fail(fmt::format("instance {} of {}: hold {} of {}", i, segment.name, side.hold, role_.holds));
      }
      if (used.ring && (side.ring < 0 || side.ring >= role_.rings)) {
        fail(fmt::format("instance {} of {}: ring copy {} of {}", i, segment.name, side.ring, role_.rings));
      }
    }
  }

  const PlanGraph& graph_;
  const Role& role_;
  Findings& findings_;
  std::string where_;
  std::vector<std::array<SlotsUsed, 2>> used_;  // by segment, of its own calls and of those beside
};

}  // namespace

void check_role(const PlanGraph& graph, const Role& role, Findings& findings) {
  RoleChecker(graph, role, findings).check();
}

}  // namespace foretrain::plan
