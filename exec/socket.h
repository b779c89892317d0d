// A TCP connection or a place to make them, closed with the value. IPv4 and IPv6.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace foretrain::exec {

class Socket {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  Socket() = default;
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  // Listens on all interfaces; port 0: any that is free. Throws EnvironmentError.
  static Socket listen(std::uint16_t port);
  std::uint16_t port() const;  // it listens on
  // The next that connects; none by the deadline.
  std::optional<Socket> accept(Deadline deadline) const;
  // Tries every address that the name has, until the deadline; throws EnvironmentError with the last reason.
  static Socket connect(const std::string& address, std::uint16_t port, Deadline deadline);
  // Numbers, an IPv4 address as such however it came.
  std::string peer_address() const;
  std::string own_address() const;  // at this end of the connection

  // Of a connection: whole messages, waiting. Throw EnvironmentError when it breaks or the deadline passes.
  void write_all(const void* data, std::size_t bytes) const;
  void read_all(void* data, std::size_t bytes, Deadline deadline) const;

  // From now on reads and writes of the descriptor do not wait.
  void stop_waiting() const;
  int descriptor() const { return descriptor_; }

 private:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

}  // namespace foretrain::exec
