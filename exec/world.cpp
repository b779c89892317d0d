#include "exec/world.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <set>

#include "base/error.h"
#include "exec/leave_behind.h"
#include "exec/world_endpoint.h"

namespace foretrain::exec {

namespace {

std::vector<plan::Rank> all_ranks(plan::Rank ranks) {
  std::vector<plan::Rank> all(static_cast<std::size_t>(ranks));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<int> to_numbers(const std::string& text) {
  std::vector<int> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int number = 0;
    at = std::from_chars(at, end, number).ptr + 1;
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

World::World(Processes& processes, plan::Rank ranks)
    : processes_(processes), ranks_(ranks), is_left_out_(static_cast<std::size_t>(ranks)) {
  CHECK(ranks >= 1, "a world of {} ranks", ranks);
  const int n = processes.count();
  if (ranks % n != 0) {
    throw InputError(fmt::format(
        "the job has {} ranks, and {} processes cannot hold the same number each; start {} of them", ranks, n, ranks));
  }
  ranks_each_ = ranks / n;
  processes.set_ranks_each(ranks_each_);
  seats_.assign(static_cast<std::size_t>(ranks), -1);
  int on_this_host = 0, first_process = -1;
  for (plan::Rank r = 0; r < ranks; ++r) {
    const int process = process_of(r);
    if (processes.same_host(process, processes.number())) {
      first_process = first_process < 0 ? process : first_process;
      seats_[static_cast<std::size_t>(r)] = on_this_host++;
      ranks_of_seats_.push_back(r);
    }
    if (process == processes.number()) {
      ranks_here_.push_back(r);
    }
  }
  if (n == 1) {
    board_ = Board(on_this_host, SharedMemory::Reach::this_process);
  } else {
    const bool is_first = first_process == processes.number();
    if (is_first) {
      board_ = Board(on_this_host, SharedMemory::Reach::this_host);
    }
    const std::vector<std::string> all = processes.all_gather(is_first ? fmt::format("{}", board_.descriptor()) : "");
    if (!is_first) {
      const auto first = static_cast<std::size_t>(first_process);
      board_ = Board(on_this_host, processes.places()[first].pid, to_numbers(all[first]).at(0));
    }
  }
  if (spans_hosts(all_ranks(ranks))) {
    courier_ = std::make_unique<Courier>(processes);
  }
  // Spinning takes nobody's core when all of the host's ranks have one.
  std::set<int> cores;
  for (int p = 0; p < n; ++p) {
    if (processes.same_host(p, processes.number())) {
      const std::vector<int>& of_process = processes.places()[static_cast<std::size_t>(p)].cores;
      cores.insert(of_process.begin(), of_process.end());
    }
  }
  const bool may_spin = on_this_host <= static_cast<int>(cores.size());
  for (const plan::Rank r : ranks_here_) {
    board_.seat(seat_of(r)).process = processes.number();
    endpoints_.push_back(std::make_unique<Endpoint>(*this, r, may_spin));
  }
  if (n > 1) {
    processes.all_gather("");  // all are seated
  }
}

World::~World() {
  if (courier_ && courier_->stop()) {
    leave_behind(std::make_unique<std::vector<SharedMemory>>(std::move(arenas_)));
  }
}

Communicator& World::communicator(plan::Rank rank) {
  return *endpoints_.at(static_cast<std::size_t>(rank - ranks_here_.front()));
}

void World::allocate_arenas(const std::vector<Bytes>& bytes) {
  CHECK(bytes.size() == seats_.size() && arenas_.empty(), "{} arenas for {} ranks", bytes.size(), seats_.size());
  const bool alone = processes_.count() == 1;
  arenas_.resize(ranks_of_seats_.size());
  std::string descriptors;
  for (const plan::Rank r : ranks_here_) {
    const Bytes size = bytes[static_cast<std::size_t>(r)];
    SharedMemory& arena = arenas_[static_cast<std::size_t>(seat_of(r))];
    arena = SharedMemory::create(size, alone ? SharedMemory::Reach::this_process : SharedMemory::Reach::this_host);
    Seat& seat = board_.seat(seat_of(r));
    seat.arena = reinterpret_cast<std::uint64_t>(arena.data());
    seat.arena_bytes = static_cast<std::uint64_t>(size.value);
    descriptors += fmt::format("{} ", arena.descriptor());
  }
  if (alone) {
    return;
  }
  const std::vector<std::string> all = processes_.all_gather(descriptors);
  for (const plan::Rank r : ranks_of_seats_) {
    const auto process = static_cast<std::size_t>(process_of(r));
    if (process_of(r) != processes_.number()) {
      const int descriptor = to_numbers(all[process]).at(static_cast<std::size_t>(r % ranks_each_));
      arenas_[static_cast<std::size_t>(seat_of(r))] =
          SharedMemory::attach(processes_.places()[process].pid, descriptor, bytes[static_cast<std::size_t>(r)]);
    }
  }
  processes_.all_gather("");  // nobody lets go before all hold it
}

std::byte* World::arena(plan::Rank rank) const {
  const int seat = seat_of(rank);
  return seat < 0 ? nullptr : arenas_.at(static_cast<std::size_t>(seat)).data();
}

template <class T>
T* World::here(int seat, T* address) const {
  const Seat& s = board_.seat(seat);
  if (address == nullptr || s.process == processes_.number()) {
    return address;
  }
  const auto offset = reinterpret_cast<std::uint64_t>(address) - s.arena;
  CHECK(offset < s.arena_bytes, "an operand of rank {} outside its arena",
        ranks_of_seats_[static_cast<std::size_t>(seat)]);
  return reinterpret_cast<T*>(arenas_[static_cast<std::size_t>(seat)].data() + offset);
}

void World::view(const Operation& operation, SharedOperation& shared) const {
  const auto n = static_cast<std::size_t>(operation.members);
  shared.is_message = operation.is_message;
  shared.kind = operation.kind;
  shared.reduction = operation.reduction;
  shared.dtype = operation.dtype;
  shared.elements = operation.elements;
  shared.root = operation.root;
  shared.row = operation.row;
  shared.in.resize(n);
  shared.out.resize(n);
  shared.to.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    const Posting& posting = board_.posting(operation, static_cast<int>(i));
    shared.in[i] = here(posting.seat, posting.in);
    shared.out[i] = here(posting.seat, posting.out);
    shared.to[i] = here(posting.seat, posting.to);
  }
}

void World::leave_out(plan::Rank rank) {
  is_left_out_[static_cast<std::size_t>(rank)].store(true, std::memory_order_release);
  for (const plan::Rank r : ranks_here_) {
    board_.seat(seat_of(r)).wake.notify();
  }
}

void World::check() const {
  if (courier_ && !courier_->failure().empty()) {
    throw EnvironmentError(courier_->failure());
  }
}

bool World::spans_hosts(const std::vector<plan::Rank>& members) const {
  return std::any_of(members.begin(), members.end(), [&](plan::Rank r) { return !is_near(r); });
}

GroupHosts World::hosts_of(const GroupView& group) const {
  GroupHosts hosts;
  std::vector<int> first_processes;  // by host
  for (int i = 0; i < group.size(); ++i) {
    const int process = process_of(group.members[static_cast<std::size_t>(i)]);
    hosts.processes.push_back(process);
    const auto known = std::find_if(first_processes.begin(), first_processes.end(),
                                    [&](int p) { return processes_.same_host(p, process); });
    const auto host = known - first_processes.begin();
    if (known == first_processes.end()) {
      first_processes.push_back(process);
      hosts.members.emplace_back();
    }
    hosts.members[static_cast<std::size_t>(host)].push_back(i);
    if (i == group.index) {
      hosts.own_host = static_cast<int>(host);
    }
  }
  return hosts;
}

bool World::finish_share(Operation& operation, int index) {
  const int shares = operation.shares;  // once the last one is done the operation may be another
  board_.posting(operation, index).share_done.store(true, std::memory_order_relaxed);
  return operation.shares_done.fetch_add(1, std::memory_order_acq_rel) + 1 == shares;
}

// By the courier: once the last share is done the members may let go of the operation at any moment.
void World::finish_exchange(Operation& operation, int index) {
  std::vector<int> seats;
  for (int i = 0; i < operation.members; ++i) {
    seats.push_back(board_.posting(operation, i).seat);
  }
  if (finish_share(operation, index)) {
    for (const int seat : seats) {
      board_.seat(seat).wake.notify();
    }
  }
}

std::vector<int> World::near_members(const GroupView& group) const {
  std::vector<int> near;
  for (int i = 0; i < group.size(); ++i) {
    const plan::Rank member = group.members[static_cast<std::size_t>(i)];
    if (is_near(member) && !is_left_out(member)) {
      near.push_back(i);
    }
  }
  return near;
}

void World::retire(Operation& operation) {
  // Read first: whoever lets go last may give the operation away.
  const int members = operation.members;
  if (operation.released.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
    const Board::Lock lock(board_);
    board_.remove(operation);
  }
}

void World::wake(const Operation& operation, int except_seat) {
  for (int i = 0; i < operation.members; ++i) {
    const int seat = board_.posting(operation, i).seat;
    if (seat != except_seat) {
      board_.seat(seat).wake.notify();
    }
  }
}

}  // namespace foretrain::exec
