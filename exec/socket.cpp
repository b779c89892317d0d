#include "exec/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "base/error.h"

namespace foretrain::exec {

namespace {

constexpr std::chrono::milliseconds kBetweenTries{50};

int milliseconds_until(Socket::Deadline deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1'000'000));
}

bool is_readable(int descriptor, Socket::Deadline deadline) {
  pollfd watch{descriptor, POLLIN, 0};
  return ::poll(&watch, 1, milliseconds_until(deadline)) == 1;
}

std::string to_text(const sockaddr_in& address) {
  char text[INET_ADDRSTRLEN] = {};
  ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  return text;
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
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(socket.descriptor_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  if (socket.descriptor_ < 0 ||
      ::bind(socket.descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.descriptor_, SOMAXCONN) != 0) {
    throw EnvironmentError(fmt::format("TCP: cannot listen on port {}: {}", port, std::strerror(errno)));
  }
  return socket;
}

std::uint16_t Socket::port() const {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

std::optional<Socket> Socket::accept(Deadline deadline) const {
  if (!is_readable(descriptor_, deadline)) {
    return std::nullopt;
  }
  Socket connection(::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC));
  if (connection.descriptor_ < 0) {
    throw EnvironmentError(fmt::format("TCP: accept: {}", std::strerror(errno)));
  }
  set_up(connection.descriptor_);
  return connection;
}

Socket Socket::connect(const std::string& address, std::uint16_t port, Deadline deadline) {
  std::string why;
  do {
    addrinfo wanted{};
    wanted.ai_family = AF_INET;
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int status = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found); status != 0) {
      why = ::gai_strerror(status);
    } else {
      const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
      Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::connect(socket.descriptor_, found->ai_addr, found->ai_addrlen) == 0) {
        set_up(socket.descriptor_);
        return socket;
      }
      why = std::strerror(errno);
    }
    std::this_thread::sleep_for(kBetweenTries);
  } while (std::chrono::steady_clock::now() < deadline);
  throw EnvironmentError(fmt::format("TCP: {}:{} cannot be reached: {}", address, port, why));
}

std::string Socket::peer_address() const {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getpeername(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
  return to_text(address);
}

std::string Socket::own_address() const {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
  return to_text(address);
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
  ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL, 0) | O_NONBLOCK);
}

}  // namespace foretrain::exec
