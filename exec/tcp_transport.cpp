#include "exec/tcp_transport.h"

#include <fmt/ranges.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "exec/socket.h"

namespace foretrain::exec {

namespace {

constexpr int kGoodbye = -1;  // the tag of a sender's last message
constexpr std::chrono::seconds kFarewell{10};
constexpr std::chrono::microseconds kNap{100};

struct Header {
  std::int32_t tag = 0;
  std::int64_t bytes = 0;
};

struct Message {
  Header header;
  const std::byte* data = nullptr;  // of one that is sent
  std::byte* place = nullptr;       // where one that arrives goes
  std::vector<std::byte> kept;      // one that nobody has asked for
  std::int64_t moved = 0;           // bytes, the header's among them where it is sent
  bool is_done = false;
  int peer = -1;
};

struct Peer {
  Socket socket;
  std::deque<Message*> outgoing;
  Header header;  // of what arrives now
  std::size_t header_bytes = 0;
  Message* arriving = nullptr;
  std::list<Message*> expected;                    // asked for, in order
  std::list<std::unique_ptr<Message>> unexpected;  // complete or arriving
  bool said_goodbye = false, is_lost = false;
};

class TcpTransport : public Transport {
 public:
  TcpTransport(int process, std::vector<Socket> sockets) : process_(process), peers_(sockets.size()) {
    for (std::size_t p = 0; p < sockets.size(); ++p) {
      peers_[p].socket = std::move(sockets[p]);
      if (static_cast<int>(p) != process_) {
        peers_[p].socket.stop_waiting();
      }
    }
  }
  // Nobody leaves while others may still read from it.
  ~TcpTransport() override {
    std::list<Message> farewells;
    for (int p = 0; p < processes(); ++p) {
      if (p != process_) {
        Message& m = farewells.emplace_back();
        m.header.tag = kGoodbye;
        peer(p).outgoing.push_back(&m);
      }
    }
    const auto deadline = std::chrono::steady_clock::now() + kFarewell;
    const auto all_gone = [&] {
      return std::all_of(peers_.begin(), peers_.end(), [&](const Peer& p) {
        return &p == &peer(process_) || p.is_lost || (p.said_goodbye && p.outgoing.empty());
      });
    };
    while (!all_gone() && std::chrono::steady_clock::now() < deadline) {
      progress();
      std::this_thread::sleep_for(kNap);
    }
  }

  int process() const override { return process_; }
  int processes() const override { return static_cast<int>(peers_.size()); }
  std::string description() const override { return "TCP"; }

  Request send(int to, int tag, const void* data, std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    auto message = std::make_unique<Message>();
    message->header = {tag, static_cast<std::int64_t>(bytes)};
    message->data = static_cast<const std::byte*>(data);
    message->peer = to;
    peer(to).outgoing.push_back(message.get());
    progress();
    return message.release();
  }

  Request receive(int from, int tag, void* data, std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    auto message = std::make_unique<Message>();
    message->header = {tag, static_cast<std::int64_t>(bytes)};
    message->place = static_cast<std::byte*>(data);
    message->peer = from;
    Peer& p = peer(from);
    const auto here = std::find_if(p.unexpected.begin(), p.unexpected.end(),
                                   [&](const auto& m) { return m->header.tag == tag && m.get() != p.arriving; });
    if (here != p.unexpected.end()) {
      check_size((*here)->header, message->header);
      std::copy((*here)->kept.begin(), (*here)->kept.end(), message->place);
      message->is_done = true;
      p.unexpected.erase(here);
    } else {
      p.expected.push_back(message.get());
      adopt(p, *message);
    }
    return message.release();
  }

  bool done(Request request) override {
    const std::lock_guard lock(mutex_);
    auto* const message = static_cast<Message*>(request);
    if (!message->is_done) {
      progress();
    }
    if (message->is_done) {
      const std::unique_ptr<Message> finished(message);
      return true;
    }
    return false;
  }

  std::optional<Arrival> probe(int tag) override {
    const std::lock_guard lock(mutex_);
    progress();
    for (int p = 0; p < processes(); ++p) {
      for (const auto& message : peer(p).unexpected) {
        if (message->header.tag == tag && message.get() != peer(p).arriving) {
          return Arrival{p, message->kept.size()};
        }
      }
    }
    return std::nullopt;
  }

  int most_tag() const override { return 1 << 30; }
  bool parts_with_the_rest() const override { return true; }
  std::vector<int> lost() override {
    const std::lock_guard lock(mutex_);
    std::vector<int> all;
    for (int p = 0; p < processes(); ++p) {
      if (peer(p).is_lost) {
        all.push_back(p);
      }
    }
    return all;
  }

 private:
  Peer& peer(int process) { return peers_[static_cast<std::size_t>(process)]; }

  static void check_size(const Header& arrived, const Header& asked) {
    CHECK(arrived.bytes == asked.bytes, "a message of {} bytes where {} were asked for", arrived.bytes, asked.bytes);
  }

  // One that arrives without having been asked for: what is still to come goes straight to its place.
  static void adopt(Peer& p, Message& asked) {
    if (p.arriving == nullptr || p.arriving->place != nullptr || p.arriving->header.tag != asked.header.tag) {
      return;
    }
    check_size(p.arriving->header, asked.header);
    const auto moved = p.arriving->moved;
    std::copy_n(p.arriving->kept.begin(), moved, asked.place);
    asked.moved = moved;
    p.unexpected.remove_if([&](const auto& m) { return m.get() == p.arriving; });
    p.expected.remove(&asked);
    p.arriving = &asked;
  }

  void progress() {
    for (Peer& p : peers_) {
      if (p.socket.descriptor() >= 0 && !p.is_lost) {
        write(p);
        read(p);
      }
    }
  }

  static bool broke(Peer& p, ssize_t n) {
    const bool waits = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    p.is_lost = !waits && !p.said_goodbye;
    p.said_goodbye = p.said_goodbye || !waits;
    return true;
  }

  static void write(Peer& p) {
    while (!p.outgoing.empty()) {
      Message& m = *p.outgoing.front();
      constexpr std::int64_t kHead = sizeof(Header);
      std::array<iovec, 2> parts{};
      std::size_t count = 0;
      if (m.moved < kHead) {
        parts[count++] = {reinterpret_cast<std::byte*>(&m.header) + m.moved, static_cast<std::size_t>(kHead - m.moved)};
      }
      const std::int64_t sent = std::max<std::int64_t>(0, m.moved - kHead);
      if (m.header.bytes > sent) {
        parts[count++] = {const_cast<std::byte*>(m.data) + sent, static_cast<std::size_t>(m.header.bytes - sent)};
      }
      msghdr message{};
      message.msg_iov = parts.data();
      message.msg_iovlen = count;
      const ssize_t n = ::sendmsg(p.socket.descriptor(), &message, MSG_NOSIGNAL);
      if (n <= 0) {
        broke(p, n);
        return;
      }
      m.moved += n;
      if (m.moved < kHead + m.header.bytes) {
        return;
      }
      m.is_done = true;
      p.outgoing.pop_front();
    }
  }

  // At most one message, so that whoever hears of it can ask for the next before that arrives.
  static void read(Peer& p) {
    if (p.arriving == nullptr && !read_header(p)) {
      return;
    }
    Message& m = *p.arriving;
    std::byte* const place = m.place != nullptr ? m.place : m.kept.data();
    while (m.moved < m.header.bytes) {
      const ssize_t n =
          ::recv(p.socket.descriptor(), place + m.moved, static_cast<std::size_t>(m.header.bytes - m.moved), 0);
      if (n <= 0) {
        broke(p, n);
        return;
      }
      m.moved += n;
    }
    m.is_done = true;
    p.arriving = nullptr;
  }

  static bool read_header(Peer& p) {
    while (p.header_bytes < sizeof p.header) {
      const ssize_t n = ::recv(p.socket.descriptor(), reinterpret_cast<std::byte*>(&p.header) + p.header_bytes,
                               sizeof p.header - p.header_bytes, 0);
      if (n <= 0) {
        broke(p, n);
        return false;
      }
      p.header_bytes += static_cast<std::size_t>(n);
    }
    p.header_bytes = 0;
    if (p.header.tag == kGoodbye) {
      p.said_goodbye = true;
      return false;
    }
    const auto asked = std::find_if(p.expected.begin(), p.expected.end(),
                                    [&](const Message* m) { return m->header.tag == p.header.tag; });
    if (asked != p.expected.end()) {
      p.arriving = *asked;
      p.expected.erase(asked);
      check_size(p.header, p.arriving->header);
    } else {
      p.unexpected.push_back(std::make_unique<Message>());
      p.arriving = p.unexpected.back().get();
      p.arriving->header = p.header;
      p.arriving->kept.resize(static_cast<std::size_t>(p.header.bytes));
    }
    return true;
  }

  int process_;
  std::vector<Peer> peers_;
  std::mutex mutex_;
};

// What either end of a new connection says first: ports are open to everybody.
struct Greeting {
  std::array<char, 16> word{"foretrain"};
  std::int32_t version = 1;
  std::int32_t process = 0, processes = 0;
  std::int32_t port = 0;  // where it listens

  bool is_ours() const { return word == Greeting{}.word && version == Greeting{}.version; }
};
constexpr std::chrono::seconds kGreetingLimit{3};  // for whoever comes

// None when the other end says something else, or nothing.
std::optional<Greeting> greeting_of(const Socket& connection, Socket::Deadline deadline) {
  Greeting greeting;
  try {
    connection.read_all(&greeting, sizeof greeting, deadline);
  } catch (const EnvironmentError&) {
    return std::nullopt;
  }
  return greeting.is_ours() ? std::optional(greeting) : std::nullopt;
}

// How a process is reached: its host as process 0 sees it, and its port.
struct Contact {
  std::array<char, 64> address{};  // of IPv6 with its interface
  std::uint16_t port = 0;
};

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

// Who came to process 0 from its own host is known by an address that means another host elsewhere.
std::vector<Contact> as_seen_by(const Socket& connection, std::vector<Contact> contacts) {
  if (is_loopback(connection.peer_address())) {
    return contacts;
  }
  const std::string own = connection.own_address();
  for (Contact& contact : contacts) {
    if (is_loopback(contact.address.data())) {
      contact.address = {};
      std::copy(own.begin(), own.end(), contact.address.begin());
    }
  }
  return contacts;
}

}  // namespace

std::unique_ptr<Transport> meet_over_tcp(const Meeting& meeting) {
  const Socket::Deadline deadline = std::chrono::steady_clock::now() + meeting.patience;
  const auto n = static_cast<std::size_t>(meeting.processes);
  const auto self = static_cast<std::size_t>(meeting.process);
  std::vector<Socket> sockets(n);
  std::vector<Contact> contacts(n);
  const Socket own = Socket::listen(0);
  Greeting me;
  me.process = meeting.process;
  me.processes = meeting.processes;
  me.port = own.port();
  const auto missing = [&] {
    std::vector<std::size_t> all;
    for (std::size_t p = 0; p < n; ++p) {
      if (p != self && sockets[p].descriptor() < 0) {
        all.push_back(p);
      }
    }
    return fmt::format("TCP: process {} waited {} s for process {}", self,
                       std::chrono::duration<double>(meeting.patience).count(), fmt::join(all, ", "));
  };
  // The next of the run's processes to come.
  const auto take = [&](const Socket& from, std::uint16_t* port) {
    while (true) {
      std::optional<Socket> connection = from.accept(deadline);
      if (!connection) {
        throw EnvironmentError(missing());
      }
      const std::optional<Greeting> who =
          greeting_of(*connection, std::min(deadline, std::chrono::steady_clock::now() + kGreetingLimit));
      if (!who) {
        fmt::print(stderr, "TCP: {} connected and is no process of this run: sent away\n", connection->peer_address());
        continue;
      }
      const auto p = static_cast<std::size_t>(who->process);
      if (who->processes != meeting.processes || who->process < 0 || p >= n || p == self ||
          sockets[p].descriptor() >= 0) {
        throw EnvironmentError(fmt::format("TCP: {} says it is process {} of {}, which is known already or cannot be",
                                           connection->peer_address(), who->process, who->processes));
      }
      connection->write_all(&me, sizeof me);
      *port = static_cast<std::uint16_t>(who->port);
      sockets[p] = std::move(*connection);
      return p;
    }
  };
  const auto go_to = [&](const std::string& address, std::uint16_t port) {
    Socket connection = Socket::connect(address, port, deadline);
    connection.write_all(&me, sizeof me);
    if (!greeting_of(connection, deadline)) {
      throw EnvironmentError(fmt::format("TCP: who answers at {}:{} is no process of this run", address, port));
    }
    return connection;
  };
  if (self == 0) {
    // All come to process 0, which tells all where the others are.
    const Socket meeting_place = Socket::listen(meeting.port);
    for (std::size_t i = 1; i < n; ++i) {
      std::uint16_t port = 0;
      const std::size_t p = take(meeting_place, &port);
      contacts[p].port = port;
      const std::string address = sockets[p].peer_address();
      std::copy(address.begin(), address.end(), contacts[p].address.begin());
    }
    for (std::size_t p = 1; p < n; ++p) {
      const std::vector<Contact> seen = as_seen_by(sockets[p], contacts);
      sockets[p].write_all(seen.data(), n * sizeof(Contact));
    }
  } else {
    sockets[0] = go_to(meeting.address, meeting.port);
    sockets[0].read_all(contacts.data(), n * sizeof(Contact), deadline);
    for (std::size_t p = 1; p < self; ++p) {
      sockets[p] = go_to(contacts[p].address.data(), contacts[p].port);
    }
    for (std::size_t p = self + 1; p < n; ++p) {
      std::uint16_t port = 0;
      take(own, &port);
    }
  }
  return std::make_unique<TcpTransport>(meeting.process, std::move(sockets));
}

}  // namespace foretrain::exec
