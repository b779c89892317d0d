#include "exec/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "base/error.h"

namespace foretrain::exec {

namespace {

constexpr std::chrono::milliseconds kBetweenTries{50};
constexpr std::chrono::seconds kTry{3};  // for one address: another may answer

int milliseconds_until(Socket::Deadline deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1'000'000));
}

bool is_readable(int descriptor, Socket::Deadline deadline) {
  pollfd watch{descriptor, POLLIN, 0};
  return ::poll(&watch, 1, milliseconds_until(deadline)) == 1;
}

// Asks the descriptor for its own address, or its peer's.
using AskAddress = int (*)(int, sockaddr*, socklen_t*);

sockaddr_storage address_of(int descriptor, AskAddress ask) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ask(descriptor, reinterpret_cast<sockaddr*>(&address), &size);
  return address;
}

std::string to_text(const sockaddr_storage& address) {
  std::array<char, NI_MAXHOST> name{};
  ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), sizeof address, name.data(), name.size(), nullptr, 0,
                NI_NUMERICHOST);
  constexpr std::string_view kMapped = "::ffff:";  // IPv4 at a socket for both
  const std::string text = name.data();
  return text.starts_with(kMapped) && text.find('.') != std::string::npos ? text.substr(kMapped.size()) : text;
}

// Whether it is listening there now.
bool listens(int descriptor, const sockaddr* address, socklen_t size) {
  const int on = 1;
  ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return ::bind(descriptor, address, size) == 0 && ::listen(descriptor, SOMAXCONN) == 0;
}

void set_waiting(int descriptor, bool waits) {
  const int flags = ::fcntl(descriptor, F_GETFL, 0);
  ::fcntl(descriptor, F_SETFL, waits ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

// 0, or why not.
int connect_by(Socket::Deadline deadline, int descriptor, const addrinfo& to) {
  set_waiting(descriptor, false);
  if (::connect(descriptor, to.ai_addr, to.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) {
      return errno;
    }
    pollfd watch{descriptor, POLLOUT, 0};
    if (::poll(&watch, 1, milliseconds_until(deadline)) != 1) {
      return ETIMEDOUT;
    }
    int why = 0;
    socklen_t size = sizeof why;
    ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &why, &size);
    if (why != 0) {
      return why;
    }
  }
  set_waiting(descriptor, true);
  return 0;
}

// Small messages must not wait for company; and a host that has lost its power is noticed.
void set_up(int descriptor) {
  const int on = 1, unanswered_milliseconds = 30'000;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_milliseconds, sizeof unanswered_milliseconds);
  const int idle_seconds = 10, between_seconds = 5;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof idle_seconds);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &between_seconds, sizeof between_seconds);
}

}  // namespace

Socket::Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Socket::~Socket() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

Socket Socket::listen(std::uint16_t port) {
  // One socket for both; where the kernel has no IPv6, IPv4.
  Socket both(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int off = 0;
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  any6.sin6_port = htons(port);
  if (both.descriptor_ >= 0 && ::setsockopt(both.descriptor_, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0 &&
      listens(both.descriptor_, reinterpret_cast<const sockaddr*>(&any6), sizeof any6)) {
    return both;
  }
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in any4{};
  any4.sin_family = AF_INET;
  any4.sin_port = htons(port);
  if (socket.descriptor_ < 0 || !listens(socket.descriptor_, reinterpret_cast<const sockaddr*>(&any4), sizeof any4)) {
    throw EnvironmentError(fmt::format("TCP: cannot listen on port {}: {}", port, std::strerror(errno)));
  }
  return socket;
}

std::uint16_t Socket::port() const {
  const sockaddr_storage address = address_of(descriptor_, &::getsockname);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

std::optional<Socket> Socket::accept(Deadline deadline) const {
  while (is_readable(descriptor_, deadline)) {
    Socket connection(::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC));
    if (connection.descriptor_ >= 0) {
      set_up(connection.descriptor_);
      return connection;
    }
    if (errno != ECONNABORTED && errno != EINTR) {
      throw EnvironmentError(fmt::format("TCP: accept: {}", std::strerror(errno)));
    }
  }
  return std::nullopt;
}

Socket Socket::connect(const std::string& address, std::uint16_t port, Deadline deadline) {
  std::string why;
  do {
    addrinfo wanted{};
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int status = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found); status != 0) {
      why = ::gai_strerror(status);
    } else {
      const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
      for (const addrinfo* to = found; to != nullptr; to = to->ai_next) {
        Socket socket(::socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const Deadline turn = std::min(deadline, std::chrono::steady_clock::now() + kTry);
        const int failure = socket.descriptor_ < 0 ? errno : connect_by(turn, socket.descriptor_, *to);
        if (failure == 0) {
          set_up(socket.descriptor_);
          return socket;
        }
        why = std::strerror(failure);
      }
    }
    std::this_thread::sleep_for(kBetweenTries);
  } while (std::chrono::steady_clock::now() < deadline);
  throw EnvironmentError(fmt::format("TCP: {}:{} cannot be reached: {}", address, port, why));
}

std::string Socket::peer_address() const {
  return to_text(address_of(descriptor_, &::getpeername));
}

std::string Socket::own_address() const {
  return to_text(address_of(descriptor_, &::getsockname));
}

void Socket::write_all(const void* data, std::size_t bytes) const {
  const auto* at = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t n = ::send(descriptor_, at, bytes, MSG_NOSIGNAL);
    if (n <= 0) {
      throw EnvironmentError(fmt::format("TCP: a connection broke: {}", std::strerror(errno)));
    }
    at += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void Socket::read_all(void* data, std::size_t bytes, Deadline deadline) const {
  auto* at = static_cast<std::byte*>(data);
  while (bytes > 0) {
    if (!is_readable(descriptor_, deadline)) {
      throw EnvironmentError(fmt::format("TCP: {} says nothing", peer_address()));
    }
    const ssize_t n = ::recv(descriptor_, at, bytes, 0);
    if (n <= 0) {
      throw EnvironmentError(fmt::format("TCP: {} has hung up", peer_address()));
    }
    at += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void Socket::stop_waiting() const {
  set_waiting(descriptor_, false);
}

}  // namespace foretrain::exec
