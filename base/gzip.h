// Gzip streams (RFC 1952), inflated piece by piece: never whole in memory.
#pragma once

#include <memory>
#include <streambuf>
#include <string>
#include <string_view>

namespace foretrain {

inline bool is_gzip(std::string_view bytes) {
  return bytes.starts_with("\x1f\x8b");
}

// To be read through a std::istream or by itself. Several members in a row are one stream, as gunzip has it. Reading
// throws InputError "ORIGIN: ..." for what is truncated or damaged.
class GzipBuffer : public std::streambuf {
 public:
  // `compressed` must outlive it.
  GzipBuffer(std::string_view compressed, std::string origin);
  ~GzipBuffer() override;
  GzipBuffer(const GzipBuffer&) = delete;
  GzipBuffer& operator=(const GzipBuffer&) = delete;

 protected:
  int_type underflow() override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace foretrain
