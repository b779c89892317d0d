#include "exec/parcels.h"

#include <cstring>
#include <type_traits>

#include "base/error.h"

namespace foretrain::exec {

namespace {

// Parcels up to this size travel with their announcement.
constexpr std::int64_t kSmall = 4096;

struct Header {
  ParcelLabel label;
  std::int64_t bytes = 0;
  int tag = -1;  // of the message that follows; -1: the bytes are here
};
static_assert(std::is_trivially_copyable_v<Header>, "it travels as its bytes");

}  // namespace

struct Parcels::Transfer {
  std::vector<std::byte> header;  // of a parcel that is sent
  Transport::Request header_request = nullptr, request = nullptr;
  void* data = nullptr;  // of one that is awaited
  std::int64_t bytes = 0;
  bool is_expected = false;
};

struct Parcels::Announcement {
  std::int64_t bytes = 0;
  int from = -1, tag = -1;
  std::vector<std::byte> small;
};

Parcels::Parcels(Processes& processes, int channel)
    : processes_(processes), channel_(channel), sent_(static_cast<std::size_t>(processes.count())) {}

Parcels::~Parcels() = default;

Parcels::Transfer& Parcels::new_transfer() {
  if (free_.empty()) {
    transfers_.push_back(std::make_unique<Transfer>());
    return *transfers_.back();
  }
  Transfer& transfer = *free_.back();
  free_.pop_back();
  return transfer;
}

Parcels::Transfer* Parcels::send(int to, const ParcelLabel& label, const void* data, std::int64_t bytes) {
  Transfer& transfer = new_transfer();
  sent_[static_cast<std::size_t>(to)].fetch_add(bytes, std::memory_order_relaxed);
  const bool small = bytes <= kSmall;
  Header header{label, bytes, small ? -1 : processes_.next_tag()};
  transfer.header.resize(sizeof header + static_cast<std::size_t>(small ? bytes : 0));
  std::memcpy(transfer.header.data(), &header, sizeof header);
  Transport& transport = processes_.transport();
  if (small && bytes > 0) {
    std::memcpy(transfer.header.data() + sizeof header, data, static_cast<std::size_t>(bytes));
  }
  transfer.header_request = transport.send(to, channel_, transfer.header.data(), transfer.header.size());
  if (!small) {
    transfer.request = transport.send(to, header.tag, data, static_cast<std::size_t>(bytes));
  }
  return &transfer;
}

void Parcels::take(Transfer& transfer, const Announcement& announcement) {
  CHECK(transfer.bytes == announcement.bytes, "{} bytes where {} are awaited from process {}", announcement.bytes,
        transfer.bytes, announcement.from);
  transfer.is_expected = false;
  if (announcement.tag >= 0) {
    transfer.request = processes_.transport().receive(announcement.from, announcement.tag, transfer.data,
                                                      static_cast<std::size_t>(transfer.bytes));
  } else if (transfer.bytes > 0) {
    std::memcpy(transfer.data, announcement.small.data(), static_cast<std::size_t>(transfer.bytes));
  }
}

Parcels::Transfer* Parcels::receive(int from, const ParcelLabel& label, void* data, std::int64_t bytes) {
  Transfer& transfer = new_transfer();
  transfer.data = data;
  transfer.bytes = bytes;
  transfer.is_expected = true;
  const auto announced = announced_.find({from, label});
  if (announced == announced_.end()) {
    expected_[{from, label}] = &transfer;
  } else {
    take(transfer, announced->second);
    announced_.erase(announced);
  }
  return &transfer;
}

bool Parcels::done(Transfer* transfer) {
  Transport& transport = processes_.transport();
  if (transfer->is_expected) {
    return false;
  }
  for (Transport::Request* request : {&transfer->header_request, &transfer->request}) {
    if (*request != nullptr) {
      if (!transport.done(*request)) {
        return false;
      }
      *request = nullptr;
    }
  }
  free_.push_back(transfer);
  return true;
}

bool Parcels::listen() {
  Transport& transport = processes_.transport();
  bool heard = false;
  while (const auto arrival = transport.probe(channel_)) {
    heard = true;
    std::vector<std::byte> bytes(arrival->bytes);
    const Transport::Request request = transport.receive(arrival->from, channel_, bytes.data(), bytes.size());
    while (!transport.done(request)) {
    }
    Header header;
    std::memcpy(static_cast<void*>(&header), bytes.data(), sizeof header);
    Announcement announcement{header.bytes, arrival->from, header.tag, {}};
    announcement.small.assign(bytes.begin() + sizeof header, bytes.end());
    const std::pair key{arrival->from, header.label};
    const auto expected = expected_.find(key);
    if (expected == expected_.end()) {
      announced_[key] = std::move(announcement);
    } else {
      take(*expected->second, announcement);
      expected_.erase(expected);
    }
  }
  return heard;
}

}  // namespace foretrain::exec
