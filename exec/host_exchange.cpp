#include "exec/host_exchange.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "base/error.h"
#include "plan/all_reduce_part.h"

namespace foretrain::exec {

namespace {

constexpr std::int64_t kPieceBytes = 256 * 1024;
// Pieces under way at once: enough that sums, sends and receives overlap.
constexpr std::size_t kWindow = 8;
// Stages of a piece; the last means done.
constexpr int kBegin = 0, kGathers = 1, kReduced = 2, kGivesBack = 3, kDone = 4;

std::byte* bytes_of(void* p) {
  return static_cast<std::byte*>(p);
}
const std::byte* bytes_of(const void* p) {
  return static_cast<const std::byte*>(p);
}

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

HostExchange::HostExchange(const CollectiveCall& call, const GroupHosts& hosts, const SharedOperation& near)
    : call_(call), hosts_(hosts), near_(near), index_(call.group->index) {
  const std::vector<int>& members = hosts_.near();
  near_index_ = static_cast<int>(std::find(members.begin(), members.end(), index_) - members.begin());
  if (call.kind == plan::CollectiveKind::all_to_all) {
    plan_blocks();
  } else if (plan::is_star(call.kind)) {
    plan_star();
  } else {
    reduces_ = call.kind == plan::CollectiveKind::all_reduce || call.kind == plan::CollectiveKind::reduce_scatter;
    gives_back_ = call.kind != plan::CollectiveKind::reduce_scatter;
    plan_parts();
  }
  // By number first, on every host: the least piece that is not done stands first in the lists of all it needs.
  std::stable_sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) {
    return std::tie(a.number, a.part) < std::tie(b.number, b.part);
  });
}

HostExchange::HostExchange(const MessageCall& call, int other_process) {
  call_.key = call.key;
  add_transfer(call.send, 0, bytes_of(call.data), size_bytes(call.dtype, call.elements), other_process);
}

int HostExchange::speaker(int host, std::int32_t part) const {
  const std::vector<int>& members = hosts_.members[at(host)];
  return members[at(part) % members.size()];
}

// Bytes of the operation that a part covers.
std::int64_t HostExchange::part_bytes(std::int32_t part, std::int64_t* begin) const {
  const auto members = static_cast<int>(hosts_.processes.size());
  if (call_.kind == plan::CollectiveKind::all_reduce) {
    const plan::ElementRange range = plan::all_reduce_part(call_.elements, call_.dtype, part, members);
    *begin = size_bytes(call_.dtype, range.begin);
    return size_bytes(call_.dtype, range.end - range.begin);
  }
  if (call_.kind == plan::CollectiveKind::broadcast) {
    *begin = 0;
    return size_bytes(call_.dtype, call_.elements);
  }
  CHECK(call_.elements % members == 0, "{} of {} elements over {} members", plan::name(call_.kind), call_.elements,
        members);
  const std::int64_t block = size_bytes(call_.dtype, call_.elements / members);
  *begin = part * block;
  return block;
}

void HostExchange::plan_parts() {
  for (std::size_t host = 0; host < hosts_.members.size(); ++host) {
    for (const int owner : hosts_.members[host]) {
      if (call_.kind == plan::CollectiveKind::broadcast && owner != call_.root) {
        continue;
      }
      std::int64_t begin = 0;
      const std::int64_t bytes = part_bytes(owner, &begin);
      if (owner == index_) {
        add_pieces(Role::owner, owner, begin, begin + bytes, -1);
      } else if (static_cast<int>(host) != hosts_.own_host && speaker(hosts_.own_host, owner) == index_) {
        add_pieces(Role::speaker, owner, begin, begin + bytes, hosts_.processes[at(owner)]);
      }
    }
  }
}

void HostExchange::add_pieces(Role role, std::int32_t part, std::int64_t begin, std::int64_t end, int process) {
  std::int32_t number = 0;
  for (std::int64_t b = begin; b < end; b += kPieceBytes) {
    Piece piece;
    piece.role = role;
    piece.part = part;
    piece.number = number++;
    piece.begin = b;
    piece.end = std::min(end, b + kPieceBytes);
    piece.process = process;
    pieces_.push_back(std::move(piece));
  }
}

void HostExchange::add_transfer(bool sends, std::int32_t part, std::byte* data, std::int64_t bytes, int process) {
  const std::size_t first = pieces_.size();
  // Nothing is sent as well: the other end waits for the message.
  add_pieces(sends ? Role::sender : Role::receiver, part, 0, std::max<std::int64_t>(bytes, 1), process);
  for (std::size_t i = first; i < pieces_.size(); ++i) {
    pieces_[i].data = data;
    pieces_[i].end = std::min(pieces_[i].end, bytes);
  }
}

// all_to_all: with the members of other hosts one by one, with those of this host through memory.
void HostExchange::plan_blocks() {
  const auto members = static_cast<int>(hosts_.processes.size());
  const bool counted = call_.row > 0;
  const std::int64_t block =
      counted ? size_bytes(call_.dtype, call_.row) : size_bytes(call_.dtype, call_.elements / members);
  CHECK(counted || call_.elements % members == 0, "all_to_all of {} elements over {} members", call_.elements, members);
  const auto count = [&](const std::int32_t* counts, int member) { return block * (counted ? counts[member] : 1); };
  const auto before = [&](const std::int32_t* counts, int member) {
    std::int64_t sum = 0;
    for (int j = 0; j < member; ++j) {
      sum += count(counts, j);
    }
    return sum;
  };
  for (int other = 0; other < members; ++other) {
    std::byte* const arrives = bytes_of(call_.out) + before(call_.from, other);
    const std::vector<int>& near = hosts_.near();
    const auto here = std::find(near.begin(), near.end(), other);
    if (here != near.end()) {
      const auto i = at(here - near.begin());
      std::memcpy(arrives, bytes_of(near_.in[i]) + before(near_.to[i], index_), at(count(near_.to[i], index_)));
      continue;
    }
    const int process = hosts_.processes[at(other)];
    auto* const leaves = const_cast<std::byte*>(bytes_of(call_.in)) + before(call_.to, other);  // only read
    if (count(call_.to, other) > 0) {
      add_transfer(true, index_ * members + other, leaves, count(call_.to, other), process);
    }
    if (count(call_.from, other) > 0) {
      add_transfer(false, other * members + index_, arrives, count(call_.from, other), process);
    }
  }
}

// gather, distribute: the root and every member of another host by themselves. The root fetches what members of its own
// host give, they fetch what it has.
void HostExchange::plan_star() {
  const auto members = static_cast<int>(hosts_.processes.size());
  const bool gathers = call_.kind == plan::CollectiveKind::gather, is_root = index_ == call_.root;
  const std::int64_t bytes = size_bytes(call_.dtype, gathers ? call_.elements / (members - 1) : call_.elements);
  const std::vector<int>& near = hosts_.near();
  for (int other = 0; other < members; ++other) {
    if (other == index_ || (!is_root && other != call_.root)) {
      continue;
    }
    const int member = is_root ? other : index_;  // the end that is no root
    std::byte* const out = bytes_of(call_.out) + (is_root && gathers ? part_of(member, call_.root) * bytes : 0);
    const bool sends = is_root != gathers;
    const auto here = std::find(near.begin(), near.end(), other);
    if (here == near.end()) {
      auto* const in = const_cast<std::byte*>(bytes_of(call_.in));  // only read
      add_transfer(sends, member, sends ? in : out, bytes, hosts_.processes[at(other)]);
    } else if (!sends) {
      std::memcpy(out, near_.in[at(here - near.begin())], at(bytes));
    }
  }
}

bool HostExchange::advance(Parcels& parcels) {
  bool moved = false;
  for (std::size_t i = first_open_; i < std::min(pieces_.size(), first_open_ + kWindow); ++i) {
    while (pieces_[i].stage != kDone && advance(pieces_[i], parcels)) {
      moved = true;
    }
  }
  while (first_open_ < pieces_.size() && pieces_[first_open_].stage == kDone) {
    pieces_[first_open_++].scratch = {};
  }
  return moved;
}

bool HostExchange::transfers_done(Piece& piece, Parcels& parcels) {
  std::vector<Parcels::Transfer*>& open = piece.transfers;
  open.erase(std::remove_if(open.begin(), open.end(), [&](Parcels::Transfer* t) { return parcels.done(t); }),
             open.end());
  return open.empty();
}

bool HostExchange::advance(Piece& piece, Parcels& parcels) {
  switch (piece.role) {
    case Role::owner: return advance_owner(piece, parcels);
    case Role::speaker: return advance_speaker(piece, parcels);
    case Role::sender:
    case Role::receiver: break;
  }
  if (piece.stage == kBegin) {
    const ParcelLabel label{call_.key, piece.part, piece.number, false};
    std::byte* const data = piece.data + piece.begin;
    const std::int64_t bytes = piece.end - piece.begin;
    piece.transfers.push_back(piece.role == Role::sender ? parcels.send(piece.process, label, data, bytes)
                                                         : parcels.receive(piece.process, label, data, bytes));
    piece.stage = kGathers;
    return true;
  }
  piece.stage = transfers_done(piece, parcels) ? kDone : piece.stage;
  return piece.stage == kDone;
}

bool HostExchange::advance_owner(Piece& piece, Parcels& parcels) {
  const std::int64_t bytes = piece.end - piece.begin;
  const auto hosts = static_cast<int>(hosts_.members.size());
  std::int64_t part_begin = 0;
  part_bytes(piece.part, &part_begin);
  std::byte* const out = out_of(near_index_, piece);
  if (piece.stage == kBegin) {
    piece.stage = reduces_ ? kGathers : kReduced;
    if (reduces_) {
      piece.scratch.resize(at(bytes * hosts));
      for (int host = 0; host < hosts; ++host) {
        if (host != hosts_.own_host) {
          piece.transfers.push_back(parcels.receive(hosts_.processes[at(speaker(host, piece.part))],
                                                    {call_.key, piece.part, piece.number, false},
                                                    piece.scratch.data() + host * bytes, bytes));
        }
      }
    }
    return true;
  }
  if (piece.stage == kGathers) {
    if (!transfers_done(piece, parcels)) {
      return false;
    }
    std::vector<const std::byte*> sums;
    for (int host = 0; host < hosts; ++host) {
      std::byte* const scratch = piece.scratch.data() + host * bytes;
      sums.push_back(host == hosts_.own_host ? near_sum(piece, scratch) : scratch);
    }
    reduce(sums, out, bytes);
    piece.stage = kReduced;
    return true;
  }
  if (piece.stage == kReduced) {
    if (gives_back_) {
      const std::byte* const result =
          reduces_ ? out
                   : bytes_of(call_.in) +
                         (call_.kind == plan::CollectiveKind::all_gather ? piece.begin - part_begin : piece.begin);
      spread(piece, result);
      for (int host = 0; host < hosts; ++host) {
        if (host != hosts_.own_host) {
          piece.transfers.push_back(parcels.send(hosts_.processes[at(speaker(host, piece.part))],
                                                 {call_.key, piece.part, piece.number, true}, result, bytes));
        }
      }
    }
    piece.stage = kGivesBack;
    return true;
  }
  piece.stage = transfers_done(piece, parcels) ? kDone : piece.stage;
  return piece.stage == kDone;
}

bool HostExchange::advance_speaker(Piece& piece, Parcels& parcels) {
  const std::int64_t bytes = piece.end - piece.begin;
  if (piece.stage == kBegin) {
    piece.stage = reduces_ ? kGathers : kReduced;
    if (reduces_) {
      piece.scratch.resize(hosts_.near().size() > 1 ? at(bytes) : 0);
      piece.transfers.push_back(parcels.send(piece.process, {call_.key, piece.part, piece.number, false},
                                             near_sum(piece, piece.scratch.data()), bytes));
    }
    return true;
  }
  if (piece.stage == kGathers) {
    if (!transfers_done(piece, parcels)) {
      return false;
    }
    piece.stage = gives_back_ ? kReduced : kDone;
    return true;
  }
  std::byte* const out = out_of(near_index_, piece);
  if (piece.stage == kReduced) {
    piece.transfers.push_back(parcels.receive(piece.process, {call_.key, piece.part, piece.number, true}, out, bytes));
    piece.stage = kGivesBack;
    return true;
  }
  if (!transfers_done(piece, parcels)) {
    return false;
  }
  spread(piece, out);
  piece.stage = kDone;
  return true;
}

// The sum over this host's members; of one member its own values, where they lie.
const std::byte* HostExchange::near_sum(Piece& piece, std::byte* scratch) const {
  if (near_.in.size() == 1) {
    return bytes_of(near_.in.front()) + piece.begin;
  }
  std::vector<const std::byte*> values;
  for (const void* const in : near_.in) {
    values.push_back(bytes_of(in) + piece.begin);
  }
  reduce(values, scratch, piece.end - piece.begin);
  return scratch;
}

void HostExchange::reduce(const std::vector<const std::byte*>& sources, std::byte* out, std::int64_t bytes) const {
  std::vector<kernels::ConstTensor> tensors;
  for (const std::byte* const source : sources) {
    tensors.push_back({source, call_.dtype});
  }
  reduce_in_order(kernels::cpu_launchers(), call_.reduction, tensors, {out, call_.dtype}, {},
                  bytes / size_bytes(call_.dtype, 1));
}

// Where a piece's result belongs with a member of this host.
std::byte* HostExchange::out_of(int near_index, const Piece& piece) const {
  std::int64_t offset = piece.begin;
  if (call_.kind == plan::CollectiveKind::reduce_scatter) {
    std::int64_t begin = 0;
    part_bytes(piece.part, &begin);
    offset -= begin;
  }
  return bytes_of(near_.out[at(near_index)]) + offset;
}

void HostExchange::spread(const Piece& piece, const std::byte* result) const {
  for (std::size_t i = 0; i < near_.out.size(); ++i) {
    std::byte* const out = out_of(static_cast<int>(i), piece);
    if (out != result) {
      std::memcpy(out, result, at(piece.end - piece.begin));
    }
  }
}

}  // namespace foretrain::exec
