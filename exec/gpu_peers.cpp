#include "exec/gpu_peers.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"
#include "exec/event_count.h"
#include "exec/shares.h"

namespace foretrain::exec {

namespace {

constexpr std::chrono::milliseconds kJoinNap{1};

template <class Byte>
Byte* at(Byte* base, std::int64_t elements, Dtype dtype) {
  return base + size_bytes(dtype, elements);
}

}  // namespace

class GpuPeers::Endpoint : public GpuCommunicator {
 public:
  struct Circle {
    std::vector<plan::Rank> members;
    std::unique_ptr<Collectives> end;
  };

  Endpoint(Gpu& gpu, EventPool& events, CollectiveLibrary& library, plan::Rank rank, std::map<std::int32_t, int> of_tag)
      : gpu_(gpu), events_(events), library_(library), rank_(rank), of_tag_(std::move(of_tag)) {}
  ~Endpoint() override {
    for (const auto& slot : slots_) {
      gpu_.release_host(slot->counts);
    }
  }

  Ticket post(const CollectiveCall& call, GpuStream stream, const SharedEvent& ready) override;
  Ticket post(std::span<const MessageCall> messages, GpuStream stream, const SharedEvent& ready) override;
  bool submit(Ticket ticket) override;
  Time finish(Ticket ticket) override;
  std::vector<plan::Rank> missing(Ticket ticket) override;
  // Who on another GPU waits for nobody is not known.
  std::vector<plan::Rank> busy_ranks() override { return {}; }
  std::uint32_t progress_count() override { return wake_.value(); }
  void wait(std::uint32_t seen, std::chrono::nanoseconds limit) override;
  // Nobody notifies it before cancel().
  bool may_spin() const override { return false; }

  // Before the first operation.
  void add(int circle, std::vector<plan::Rank> members, std::unique_ptr<Collectives> end) {
    const std::lock_guard lock(mutex_);
    circles_[circle] = {std::move(members), std::move(end)};
  }
  bool is_settled(int circle) {
    const std::lock_guard lock(mutex_);
    return is_settled(circles_.at(circle));
  }
  void cancel();

 private:
  enum class Stage : std::uint8_t { posted, counting, issued };
  // What a ticket points to.
  struct Slot {
    Stage stage{};
    GpuStream stream;
    SharedEvent ready;
    Circle* circle = nullptr;
    CollectiveCall call;                // unless there are messages
    std::vector<MessageCall> messages;  // by key: alike at both ends
    // Of a counted all_to_all: how many rows go to each member, then how many come, once they are here.
    std::byte* counts = nullptr;
    std::int64_t counts_bytes = 0;
    SharedEvent counted;
  };

  Slot& new_slot(std::int32_t tag, GpuStream stream, const SharedEvent& ready);
  bool is_settled(const Circle& circle) const;
  void throw_if_cancelled() const {
    if (is_cancelled_) {
      throw Cancelled{};
    }
  }
  void fetch_counts(Slot& slot);
  void issue(const Slot& slot);
  void issue_all_to_all(const Slot& slot);
  void issue_star(const Slot& slot);

  Gpu& gpu_;
  EventPool& events_;
  CollectiveLibrary& library_;
  plan::Rank rank_;
  std::map<std::int32_t, int> of_tag_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_slots_;
  EventCount wake_;
  std::mutex mutex_;  // of what follows
  std::map<int, Circle> circles_;
  bool is_cancelled_ = false;
};

// ---- posting --------------------------------------------------------------------------------------------------------

GpuPeers::Endpoint::Slot& GpuPeers::Endpoint::new_slot(std::int32_t tag, GpuStream stream, const SharedEvent& ready) {
  const std::lock_guard lock(mutex_);
  throw_if_cancelled();
  if (free_slots_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    free_slots_.push_back(slots_.back().get());
  }
  Slot& slot = *free_slots_.back();
  free_slots_.pop_back();
  slot.stage = Stage::posted;
  slot.stream = stream;
  slot.ready = ready;
  slot.circle = &circles_.at(of_tag_.at(tag));
  return slot;
}

Partners::Ticket GpuPeers::Endpoint::post(const CollectiveCall& call, GpuStream stream, const SharedEvent& ready) {
  CHECK(call.reduction == plan::Reduction::sum, "GPUs reduce by sums, not by {}", plan::name(call.reduction));
  Slot& slot = new_slot(call.key.match.tag, stream, ready);
  CHECK(slot.circle->members == call.group->members, "rank {} posts an operation to another circle", rank_);
  slot.call = call;
  return &slot;
}

Partners::Ticket GpuPeers::Endpoint::post(std::span<const MessageCall> messages, GpuStream stream,
                                          const SharedEvent& ready) {
  Slot& slot = new_slot(messages.front().key.match.tag, stream, ready);
  slot.messages.assign(messages.begin(), messages.end());
  std::sort(slot.messages.begin(), slot.messages.end(),
            [](const MessageCall& a, const MessageCall& b) { return a.key < b.key; });
  return &slot;
}

// ---- enqueueing -----------------------------------------------------------------------------------------------------

bool GpuPeers::Endpoint::submit(Ticket ticket) {
  Slot& slot = *static_cast<Slot*>(ticket);
  const std::lock_guard lock(mutex_);
  throw_if_cancelled();
  if (slot.stage == Stage::posted && slot.messages.empty() && slot.call.row > 0) {
    fetch_counts(slot);
    slot.stage = Stage::counting;
  }
  if (slot.stage == Stage::counting && !gpu_.is_over(*slot.counted)) {
    return false;
  }
  if (slot.stage != Stage::issued) {
    issue(slot);
    slot.stage = Stage::issued;
  }
  return is_settled(*slot.circle);
}

// The library takes counts from the host.
void GpuPeers::Endpoint::fetch_counts(Slot& slot) {
  const auto bytes = std::ssize(slot.circle->members) * static_cast<std::int64_t>(sizeof(std::int32_t));
  if (slot.counts_bytes < 2 * bytes) {
    gpu_.release_host(slot.counts);
    slot.counts = gpu_.allocate_host(Bytes{2 * bytes});
    slot.counts_bytes = 2 * bytes;
  }
  const kernels::Launchers& launch = gpu_.on(slot.stream);
  launch.copy(slot.call.to, slot.counts, bytes);
  launch.copy(slot.call.from, slot.counts + bytes, bytes);
  slot.counted = events_.take();
  gpu_.record(*slot.counted, slot.stream);
}

void GpuPeers::Endpoint::issue(const Slot& slot) {
  Collectives& end = *slot.circle->end;
  if (!slot.messages.empty()) {
    const std::vector<plan::Rank>& members = slot.circle->members;
    library_.begin_batch();
    for (const MessageCall& m : slot.messages) {
      const plan::Rank other = m.send ? m.key.to : m.key.from;
      const auto index = static_cast<int>(std::lower_bound(members.begin(), members.end(), other) - members.begin());
      m.send ? end.send(m.data, m.elements, m.dtype, index, slot.stream)
             : end.receive(m.data, m.elements, m.dtype, index, slot.stream);
    }
    library_.end_batch();
    return;
  }
  const CollectiveCall& c = slot.call;
  switch (c.kind) {
    case plan::CollectiveKind::all_reduce: end.all_reduce(c.in, c.out, c.elements, c.dtype, slot.stream); break;
    case plan::CollectiveKind::reduce_scatter: end.reduce_scatter(c.in, c.out, c.elements, c.dtype, slot.stream); break;
    case plan::CollectiveKind::all_gather: end.all_gather(c.in, c.out, c.elements, c.dtype, slot.stream); break;
    case plan::CollectiveKind::broadcast: end.broadcast(c.in, c.out, c.elements, c.dtype, c.root, slot.stream); break;
    case plan::CollectiveKind::all_to_all: issue_all_to_all(slot); break;
    case plan::CollectiveKind::gather:
    case plan::CollectiveKind::distribute: issue_star(slot); break;
  }
}

// The root and each of the others by messages.
void GpuPeers::Endpoint::issue_star(const Slot& slot) {
  const CollectiveCall& c = slot.call;
  Collectives& end = *slot.circle->end;
  const bool gathers = c.kind == plan::CollectiveKind::gather;
  const std::int64_t part = gathers ? c.elements / (c.group->size() - 1) : c.elements;
  const bool is_root = c.group->index == c.root;
  library_.begin_batch();
  for (int m = 0; m < c.group->size(); ++m) {
    if ((m == c.root) == is_root) {
      continue;
    }
    if (!is_root) {
      gathers ? end.send(c.in, part, c.dtype, m, slot.stream) : end.receive(c.out, part, c.dtype, m, slot.stream);
    } else if (gathers) {
      end.receive(at(static_cast<std::byte*>(c.out), part_of(m, c.root) * part, c.dtype), part, c.dtype, m,
                  slot.stream);
    } else {
      end.send(c.in, part, c.dtype, m, slot.stream);
    }
  }
  library_.end_batch();
}

void GpuPeers::Endpoint::issue_all_to_all(const Slot& slot) {
  const CollectiveCall& c = slot.call;
  const auto members = std::ssize(slot.circle->members);
  const auto* const to = reinterpret_cast<const std::int32_t*>(slot.counts);
  const auto* const from = to + members;
  const std::int64_t block = c.elements / members;
  const auto* in = static_cast<const std::byte*>(c.in);
  auto* out = static_cast<std::byte*>(c.out);
  library_.begin_batch();
  for (std::ptrdiff_t m = 0; m < members; ++m) {
    const std::int64_t sent = c.row > 0 ? to[m] * c.row : block, received = c.row > 0 ? from[m] * c.row : block;
    if (sent > 0) {
      slot.circle->end->send(in, sent, c.dtype, static_cast<int>(m), slot.stream);
    }
    if (received > 0) {
      slot.circle->end->receive(out, received, c.dtype, static_cast<int>(m), slot.stream);
    }
    in = at(in, sent, c.dtype);
    out = at(out, received, c.dtype);
  }
  library_.end_batch();
}

Time GpuPeers::Endpoint::finish(Ticket ticket) {
  Slot& slot = *static_cast<Slot*>(ticket);
  const Time start = gpu_.time_of(*slot.ready);
  slot.ready = slot.counted = nullptr;
  slot.messages.clear();
  free_slots_.push_back(&slot);
  return start;
}

// ---- waiting --------------------------------------------------------------------------------------------------------

std::vector<plan::Rank> GpuPeers::Endpoint::missing(Ticket ticket) {
  const Slot& slot = *static_cast<Slot*>(ticket);
  std::vector<plan::Rank> ranks;
  if (slot.messages.empty()) {
    ranks = slot.circle->members;
  }
  for (const MessageCall& m : slot.messages) {
    ranks.push_back(m.send ? m.key.to : m.key.from);
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  ranks.erase(std::remove(ranks.begin(), ranks.end(), rank_), ranks.end());
  return ranks;
}

bool GpuPeers::Endpoint::is_settled(const Circle& circle) const {
  try {
    return circle.end->is_settled();
  } catch (const EnvironmentError& e) {
    throw EnvironmentError(
        fmt::format("the exchange of ranks {} has failed: {}", fmt::join(circle.members, ", "), e.what()));
  }
}

// What the library learns of a lost member while the GPU waits, it says when asked.
void GpuPeers::Endpoint::wait(std::uint32_t seen, std::chrono::nanoseconds limit) {
  {
    const std::lock_guard lock(mutex_);
    throw_if_cancelled();
    for (const auto& [index, circle] : circles_) {
      is_settled(circle);
    }
  }
  wake_.wait(seen, limit);
}

void GpuPeers::Endpoint::cancel() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(is_cancelled_, true)) {
      for (const auto& [index, circle] : circles_) {
        circle.end->abort();
      }
    }
  }
  wake_.notify();
}

// ---- the peers ------------------------------------------------------------------------------------------------------

GpuPeers::GpuPeers(Gpu& gpu, EventPool& events, std::unique_ptr<CollectiveLibrary> library,
                   const plan::PlanGraph& graph, plan::Rank rank)
    : library_(std::move(library)), rank_(rank) {
  Circles circles = circles_of(graph);
  circles_ = std::move(circles.members);
  endpoint_ = std::make_unique<Endpoint>(gpu, events, *library_, rank, circles.of_tag[static_cast<std::size_t>(rank)]);
}

GpuPeers::~GpuPeers() = default;

std::string GpuPeers::offer() {
  std::string ids;
  for (const std::vector<plan::Rank>& members : circles_) {
    if (members.front() == rank_) {
      ids += library_->new_id();
    }
  }
  return ids;
}

void GpuPeers::join(const std::vector<std::string>& offers, const std::function<void()>& check) {
  std::vector<std::size_t> taken(offers.size(), 0);  // by rank: of its offer
  for (std::size_t i = 0; i < circles_.size(); ++i) {
    const std::vector<plan::Rank>& members = circles_[i];
    const auto first = static_cast<std::size_t>(members.front());
    const std::string id = offers[first].substr(taken[first], CollectiveLibrary::kIdBytes);
    taken[first] += CollectiveLibrary::kIdBytes;
    const auto own = std::find(members.begin(), members.end(), rank_);
    if (own == members.end()) {
      continue;
    }
    const auto circle = static_cast<int>(i);
    endpoint_->add(circle, members,
                   library_->join(id, static_cast<int>(members.size()), static_cast<int>(own - members.begin())));
    while (!endpoint_->is_settled(circle)) {
      check();
      std::this_thread::sleep_for(kJoinNap);
    }
  }
}

GpuCommunicator& GpuPeers::communicator() {
  return *endpoint_;
}

void GpuPeers::cancel() {
  endpoint_->cancel();
}

}  // namespace foretrain::exec
