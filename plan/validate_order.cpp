// An untimed run of all roles together, one actor per role: the ranks of a role do the same, so that a group inside a
// role always meets, and roles meet through match keys. Streams are queues; an op is done when the op ahead of it on
// its stream, its dependencies and its partners let it. What cannot go on, deadlocks. Vector clocks of what happens
// before what go along, and every done op shows its accesses to MemoryAccesses.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <variant>

#include "plan/dump.h"
#include "plan/validate_internal.h"

namespace foretrain::plan {
namespace {

// Equal on all partners. Collectives: roles = all that take part. Messages: sender, receiver.
struct Rendezvous {
  bool is_message = false;
  std::int32_t step = 0;
  MatchKey key;
  std::vector<std::int32_t> roles;
  friend auto operator<=>(const Rendezvous&, const Rendezvous&) = default;
};

struct Node;
using NodePtr = std::shared_ptr<Node>;

struct Node {
  DoneOp done;
  int role = 0;
  std::int32_t step = 0;
  std::vector<NodePtr> waits;
  std::vector<Rendezvous> meetings;
  int unmet = 0;
  bool is_posted = false, is_done = false;
  bool is_awaited = false;  // a later op may wait for it
  Clock clock;              // of its partners' before it is done; its own after, if awaited
};

struct Arrival {
  NodePtr node;
  int message = -1;  // of an exchange
};

struct StreamQueue {
  std::deque<NodePtr> ops;
  Clock clock;
  std::int32_t issued = 0;
};

struct Part {
  const std::vector<Instance>* instances = nullptr;
  int first_instance = 0;
  std::int32_t step = 0;  // of the walk
  std::int32_t as = 0;    // the step whose instances run
};

struct Actor {
  const Role* role = nullptr;
  int index = 0;
  std::size_t first_thread = 0;
  std::vector<StreamQueue> streams;
  std::vector<NodePtr> events;             // by event copy: its latest record
  std::vector<NodePtr> block_ops;          // of the block iteration that is being issued
  std::vector<std::vector<bool>> awaited;  // by block and op
  std::vector<MemoryAccesses> memory;      // of the role's first rank, and of its last where places depend on the rank
  std::vector<Part> parts;
  std::size_t part = 0;
  std::unique_ptr<ProgramCursor> cursor;
  std::int64_t iterations = 0, instances = 0;
  std::map<GroupId, std::vector<std::int32_t>> group_roles;
  // Of this step; and whether sent, as a ring inside a role has both ends of a message here.
  std::set<std::pair<Rendezvous, bool>> used_keys;

  bool has_more() const { return *cursor || part + 1 < parts.size(); }
};

Rank last_rank(const Mesh& mesh, const RankSet& set) {
  Coordinates c{};
  for (const Axis axis : mesh.order) {
    const AxisRange all = along(mesh, set, axis);
    c[static_cast<std::size_t>(axis)] = all.first + all.count - 1;
  }
  return mesh.rank(c);
}

bool places_depend_on_rank(const Role& role) {
  const auto depends = [](const Operand& o) { return o.rank_group != kNoGroup; };
  return std::any_of(role.blocks.begin(), role.blocks.end(), [&](const Block& block) {
    return std::any_of(block.ops.begin(), block.ops.end(), [&](const Op& op) {
      return std::any_of(op.reads.begin(), op.reads.end(), depends) ||
             std::any_of(op.writes.begin(), op.writes.end(), depends);
    });
  });
}

class Walk {
 public:
  Walk(const PlanGraph& graph, Findings& findings) : graph_(graph), findings_(findings) {
    for (const Role& role : graph.roles) {
      threads_ += role.streams.size();
    }
    std::size_t thread = 0;
    actors_.resize(graph.roles.size());
    for (std::size_t i = 0; i < actors_.size(); ++i) {
      set_up(actors_[i], static_cast<int>(i), thread);
      thread += graph.roles[i].streams.size();
    }
  }

  void run() {
    for (bool is_moving = true; is_moving && !findings_.full();) {
      is_moving = false;
      for (Actor& actor : actors_) {
        is_moving = progress(actor) || is_moving;
      }
      if (!is_moving) {
        for (Actor& actor : actors_) {
          is_moving = issue(actor) || is_moving;
        }
      }
    }
    report_deadlock();
  }

 private:
  void set_up(Actor& actor, int index, std::size_t first_thread) {
    const Role& role = graph_.roles[static_cast<std::size_t>(index)];
    actor.role = &role;
    actor.index = index;
    actor.first_thread = first_thread;
    actor.streams.resize(role.streams.size());
    for (StreamQueue& stream : actor.streams) {
      stream.clock.assign(threads_, 0);
    }
    actor.events.resize(static_cast<std::size_t>(event_copies(role)));
    for (const Block& block : role.blocks) {
      std::vector<bool>& awaited = actor.awaited.emplace_back(block.ops.size());
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        awaited[i] = awaited[i] || !block.ops[i].records.empty();
        for (const std::uint16_t earlier : block.ops[i].after) {
          awaited[earlier] = true;
        }
      }
    }
    const Rank first = first_rank(graph_.mesh, role.ranks);
    const Rank last = last_rank(graph_.mesh, role.ranks);
    actor.memory.emplace_back(graph_, index, first, first_thread, findings_);
    if (last != first && places_depend_on_rank(role)) {
      actor.memory.emplace_back(graph_, index, last, first_thread, findings_);
    }
    const Program& p = role.program;
    const int body = first_body_instance(p);
    const int epilogue = body + static_cast<int>(p.body.size());
    const int evaluation = epilogue + static_cast<int>(p.epilogue.size());
    // Each kind of step after each.
    const std::int32_t last_of_period = period(graph_) - 1;
    std::int32_t number = 0;
    actor.parts = {{&p.prologue, 0, number++, 0}};
    for (const std::int32_t as : last_of_period == 0 ? std::vector{0, 0} : std::vector{0, 0, last_of_period, 0}) {
      actor.parts.push_back({&p.body, body, number++, as});
    }
    actor.parts.push_back({&p.evaluation, evaluation, number++, 0});
    actor.parts.push_back({&p.epilogue, epilogue, number++, 0});
    enter(actor);
  }

  void enter(Actor& actor) {
    const Part& part = actor.parts[actor.part];
    actor.cursor =
        std::make_unique<ProgramCursor>(*actor.role, actor.index, *part.instances, part.first_instance, part.as);
    actor.used_keys.clear();
  }

  // Puts some of the next ops on their streams. False at the program's end.
  bool issue(Actor& actor) {
    constexpr int kAtOnce = 512;
    int issued = 0;
    while (issued < kAtOnce && actor.has_more()) {
      if (*actor.cursor) {
        issue_one(actor);
        actor.cursor->next();
        ++issued;
      } else {
        ++actor.part;
        enter(actor);
      }
    }
    return issued > 0;
  }

  void issue_one(Actor& actor) {
    const ProgramCursor& cursor = *actor.cursor;
    const Op& op = cursor.op();
    const Binding& b = cursor.binding();
    if (cursor.starts_instance()) {
      ++actor.instances;
    }
    if (cursor.starts_block()) {
      ++actor.iterations;
      actor.block_ops.assign(actor.role->blocks[static_cast<std::size_t>(cursor.block())].ops.size(), nullptr);
    }
    StreamQueue& stream = actor.streams[static_cast<std::size_t>(op.stream)];
    const NodePtr node = std::make_shared<Node>();
    node->done = {&op, cursor.id(), b, ++stream.issued, actor.iterations, actor.instances};
    node->role = actor.index;
    node->step = actor.parts[actor.part].step;
    for (const std::uint16_t earlier : op.after) {
      add_wait(*node, actor.block_ops[earlier]);
    }
    for (const EventId event : op.waits) {
      add_wait(*node, actor.events[static_cast<std::size_t>(event_copy(*actor.role, event, b))]);
    }
    const auto position = static_cast<std::size_t>(cursor.op_in_block());
    node->is_awaited = actor.awaited[static_cast<std::size_t>(cursor.block())][position];
    if (node->is_awaited) {
      actor.block_ops[position] = node;
      for (const EventId event : op.records) {
        actor.events[static_cast<std::size_t>(event_copy(*actor.role, event, b))] = node;
      }
    }
    if (const auto* collective = std::get_if<Collective>(&op.work)) {
      add_collective(actor, *node, *collective);
    } else if (const auto* exchange = std::get_if<Exchange>(&op.work)) {
      for (const Message& m : exchange->messages) {
        add_message(actor, *node, m);
      }
    }
    stream.ops.push_back(node);
  }

  static void add_wait(Node& node, const NodePtr& earlier) {
    if (earlier != nullptr) {
      node.waits.push_back(earlier);
    }
  }

  void add_collective(Actor& actor, Node& node, const Collective& c) {
    auto [roles, is_new] = actor.group_roles.try_emplace(c.group);
    if (is_new) {
      const Group& group = graph_.groups[static_cast<std::size_t>(c.group)];
      for (const Rank r : members(graph_.mesh, group, first_rank(graph_.mesh, actor.role->ranks))) {
        roles->second.push_back(role_of(graph_, r));
      }
      std::sort(roles->second.begin(), roles->second.end());
      roles->second.erase(std::unique(roles->second.begin(), roles->second.end()), roles->second.end());
    }
    add_meeting(actor, node, {false, node.step, match_key(*actor.role, c.tag, node.done.binding), roles->second});
    if (roles->second.size() == 1) {
      node.meetings.clear();
    }
  }

  void add_message(Actor& actor, Node& node, const Message& m) {
    const Rank own = first_rank(graph_.mesh, actor.role->ranks);
    const int peer = role_of(graph_, graph_.mesh.peer(own, m.axis, m.peer, m.relative));
    const int from = m.send ? actor.index : peer;
    const int to = m.send ? peer : actor.index;
    add_meeting(actor, node, {true, node.step, match_key(*actor.role, m.tag, node.done.binding), {from, to}}, m.send);
  }

  void add_meeting(Actor& actor, Node& node, Rendezvous r, bool sends = false) {
    if (!actor.used_keys.insert({r, sends}).second) {
      findings_.add_once(fmt::format("key {} {}", actor.role->name, r.key.tag),
                         fmt::format("{}: an earlier op of this step has the same match key ({})",
                                     describe(graph_, node.done.id), key_text(r)));
    }
    node.meetings.push_back(std::move(r));
  }

  std::string key_text(const Rendezvous& r) const {
    std::string text = graph_.tags[static_cast<std::size_t>(r.key.tag)];
    if (r.key.layer >= 0) {
      text += fmt::format(", layer {}", r.key.layer);
    }
    return r.key.microbatch < 0 ? text : text + fmt::format(", mb {}", r.key.microbatch);
  }

  bool progress(Actor& actor) {
    bool has_moved = false;
    for (bool is_moving = true; is_moving;) {
      is_moving = false;
      for (StreamQueue& stream : actor.streams) {
        while (!stream.ops.empty() && advance(actor, stream)) {
          is_moving = has_moved = true;
        }
      }
    }
    return has_moved;
  }

  // True if the head of the stream is done now, and gone.
  bool advance(Actor& actor, StreamQueue& stream) {
    const NodePtr node = stream.ops.front();
    if (!node->is_posted) {
      if (!std::all_of(node->waits.begin(), node->waits.end(), [](const NodePtr& w) { return w->is_done; })) {
        return false;
      }
      for (const NodePtr& w : node->waits) {
        join(stream.clock, w->clock);
      }
      node->waits.clear();
      post(node, stream);
    }
    if (node->unmet > 0) {
      return false;
    }
    finish(actor, stream, *node);
    return true;
  }

  static void join(Clock& clock, const Clock& other) {
    for (std::size_t i = 0; i < other.size(); ++i) {
      clock[i] = std::max(clock[i], other[i]);
    }
  }

  void post(const NodePtr& node, const StreamQueue& stream) {
    node->is_posted = true;
    if (node->meetings.empty()) {
      return;
    }
    node->clock = stream.clock;
    node->unmet = static_cast<int>(node->meetings.size());
    for (std::size_t i = 0; i < node->meetings.size(); ++i) {
      const Rendezvous& r = node->meetings[i];
      std::vector<Arrival>& arrivals = waiting_[r];
      arrivals.push_back({node, r.is_message ? static_cast<int>(i) : -1});
      if (arrivals.size() == r.roles.size()) {
        meet(r, arrivals);
        waiting_.erase(r);
      }
    }
  }

  // All partners are there: what came before any of them comes before the end of each.
  void meet(const Rendezvous& r, const std::vector<Arrival>& arrivals) {
    Clock all = arrivals[0].node->clock;
    for (const Arrival& a : arrivals) {
      join(all, a.node->clock);
      const bool agrees = r.is_message ? same_message(arrivals[0], a) : same_collective(arrivals[0], a);
      if (!agrees) {
        findings_.add_once(
            fmt::format("partners {}", r.key.tag),
            fmt::format("{} and {} meet as {} and differ in elements, type or kind",
                        describe(graph_, arrivals[0].node->done.id), describe(graph_, a.node->done.id), key_text(r)));
      }
    }
    for (const Arrival& a : arrivals) {
      join(a.node->clock, all);
      --a.node->unmet;
    }
  }

  static bool same_message(const Arrival& a, const Arrival& b) {
    if (a.node == b.node && a.message == b.message) {
      return true;
    }
    const Message& x = std::get<Exchange>(a.node->done.op->work).messages[static_cast<std::size_t>(a.message)];
    const Message& y = std::get<Exchange>(b.node->done.op->work).messages[static_cast<std::size_t>(b.message)];
    return x.send != y.send && x.elements == y.elements && x.dtype == y.dtype;
  }

  bool same_collective(const Arrival& a, const Arrival& b) const {
    const Collective& x = std::get<Collective>(a.node->done.op->work);
    const Collective& y = std::get<Collective>(b.node->done.op->work);
    const auto size = [&](const Collective& c) {
      return group_size(graph_.mesh, graph_.groups[static_cast<std::size_t>(c.group)]);
    };
    return x.kind == y.kind && x.elements == y.elements && x.dtype == y.dtype && x.reduction == y.reduction &&
           x.root == y.root && size(x) == size(y);
  }

  void finish(Actor& actor, StreamQueue& stream, Node& node) {
    const std::size_t thread = actor.first_thread + static_cast<std::size_t>(node.done.op->stream);
    // An exchange begins before all its partners are there: its accesses are ordered by what came before itself.
    const bool begins_early = node.meetings.size() > 1;
    if (!begins_early) {
      join(stream.clock, node.clock);
    }
    stream.clock[thread] = node.done.number;
    for (MemoryAccesses& memory : actor.memory) {
      memory.op_done(node.done, stream.clock);
    }
    if (begins_early) {
      join(stream.clock, node.clock);
    }
    node.clock = node.is_awaited ? stream.clock : Clock{};
    node.is_done = true;
    stream.ops.pop_front();
  }

  void report_deadlock() {
    if (findings_.full()) {
      return;
    }
    for (const Actor& actor : actors_) {
      for (const StreamQueue& stream : actor.streams) {
        if (!stream.ops.empty()) {
          report_stuck(*stream.ops.front());
        }
      }
    }
  }

  void report_stuck(const Node& node) {
    for (const NodePtr& w : node.waits) {
      if (!w->is_done) {
        findings_.add(
            fmt::format("{}: waits forever for {}", describe(graph_, node.done.id), describe(graph_, w->done.id)));
        return;
      }
    }
    for (const Rendezvous& r : node.meetings) {
      const auto waiting = waiting_.find(r);
      if (waiting == waiting_.end()) {
        continue;
      }
      std::string missing;
      for (const std::int32_t role : r.roles) {
        const auto& there = waiting->second;
        if (std::none_of(there.begin(), there.end(), [&](const Arrival& a) { return a.node->role == role; })) {
          missing += (missing.empty() ? "" : ", ") + graph_.roles[static_cast<std::size_t>(role)].name;
        }
      }
      findings_.add(
          fmt::format("{}: waits forever as {} for {}", describe(graph_, node.done.id), key_text(r), missing));
      return;
    }
  }

  const PlanGraph& graph_;
  Findings& findings_;
  std::size_t threads_ = 0;
  std::vector<Actor> actors_;
  std::map<Rendezvous, std::vector<Arrival>> waiting_;
};

}  // namespace

void check_order(const PlanGraph& graph, Findings& findings) {
  Walk(graph, findings).run();
}

}  // namespace foretrain::plan
