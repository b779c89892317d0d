// How processes meet over TCP: here threads take their parts.
#include "exec/tcp_transport.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "exec/socket.h"

namespace foretrain::exec {
namespace {

void wait(Transport& transport, Transport::Request request) {
  while (!transport.done(request)) {
    std::this_thread::yield();
  }
}

// Each sends its number to all others.
int sum_of_others(Transport& transport) {
  const int own = transport.process();
  int sum = 0;
  for (int other = 0; other < transport.processes(); ++other) {
    if (other != own) {
      int theirs = 0;
      const Transport::Request sent = transport.send(other, 1, &own, sizeof own);
      wait(transport, transport.receive(other, 1, &theirs, sizeof theirs));
      wait(transport, sent);
      sum += theirs;
    }
  }
  return sum;
}

// All of `processes` meet at the address; `first` comes to the port before any but process 0.
void expect_meets(const std::string& address, int processes, const std::function<void(std::uint16_t)>& first) {
  const std::uint16_t port = Socket::listen(0).port();
  std::vector<std::future<int>> sums;
  for (int p = 0; p < processes; ++p) {
    sums.push_back(std::async(std::launch::async, [=] {
      const std::unique_ptr<Transport> transport = meet_over_tcp({p, processes, address, port});
      return sum_of_others(*transport);
    }));
    if (p == 0) {
      first(port);
    }
  }
  for (int p = 0; p < processes; ++p) {
    EXPECT_EQ(sums[static_cast<std::size_t>(p)].get(), processes * (processes - 1) / 2 - p);
  }
}

Socket stranger(std::uint16_t port) {
  return Socket::connect("127.0.0.1", port, std::chrono::steady_clock::now() + std::chrono::seconds(60));
}

TEST(TcpTransport, MeetsByNameAndByEitherKindOfAddress) {
  const auto nobody = [](std::uint16_t) {};
  expect_meets("127.0.0.1", 3, nobody);
  expect_meets("localhost", 2, nobody);
  if (std::ifstream("/proc/net/if_inet6").peek() != std::ifstream::traits_type::eof()) {
    expect_meets("::1", 3, nobody);
  }
}

// One that speaks otherwise, one that leaves at once, and one that says nothing.
TEST(TcpTransport, StrangersAreSentAwayAndTheMeetingGoesOn) {
  std::vector<Socket> strangers;
  ::testing::internal::CaptureStderr();
  expect_meets("127.0.0.1", 2, [&](std::uint16_t port) {
    strangers.push_back(stranger(port));
    const std::string request = "GET / HTTP/1.1\r\nHost: node0.example.org\r\n\r\n";
    strangers.back().write_all(request.data(), request.size());
    stranger(port);
    strangers.push_back(stranger(port));
  });
  const std::string line = "TCP: 127.0.0.1 connected and is no process of this run: sent away\n";
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), line + line + line);
}

TEST(TcpTransport, WhoeverDoesNotComeInTimeIsNamed) {
  const std::uint16_t port = Socket::listen(0).port();
  try {
    meet_over_tcp({0, 3, "127.0.0.1", port, std::chrono::milliseconds(100)});
    FAIL();
  } catch (const EnvironmentError& e) {
    EXPECT_STREQ(e.what(), "TCP: process 0 waited 0.1 s for process 1, 2");
  }
}

TEST(TcpTransport, WhoeverAnswersMustBeOfTheRun) {
  const Socket other = Socket::listen(0);
  std::thread server([&] {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    const std::optional<Socket> connection = other.accept(deadline);
    const std::string answer = "220 mail.example.org ready for whatever comes\r\n";
    connection->write_all(answer.data(), answer.size());
    std::byte last{};
    EXPECT_THROW(
        while (true) { connection->read_all(&last, 1, deadline); }, EnvironmentError);
  });
  EXPECT_THROW(meet_over_tcp({1, 2, "127.0.0.1", other.port()}), EnvironmentError);
  server.join();
}

}  // namespace
}  // namespace foretrain::exec
