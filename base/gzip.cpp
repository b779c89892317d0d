#include "base/gzip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "base/error.h"

namespace foretrain {

struct GzipBuffer::State {
  std::string_view left;
  std::string origin;
  z_stream stream{};
  std::vector<char> piece = std::vector<char>(std::size_t{1} << 18);
  bool over = false;

  [[noreturn]] void fail(const char* what) const {
    throw InputError(fmt::format("{}: {}; expected a whole gzip file", origin, what));
  }
};

GzipBuffer::GzipBuffer(std::string_view compressed, std::string origin) : state_(std::make_unique<State>()) {
  state_->left = compressed;
  state_->origin = std::move(origin);
  constexpr int kGzipWindow = 15 + 16;
  if (inflateInit2(&state_->stream, kGzipWindow) != Z_OK) {
    state_->fail("zlib does not start");
  }
}

GzipBuffer::~GzipBuffer() {
  inflateEnd(&state_->stream);
}

GzipBuffer::int_type GzipBuffer::underflow() {
  State& s = *state_;
  std::size_t made = 0;
  while (made == 0 && !s.over) {
    const std::size_t given = std::min<std::size_t>(s.left.size(), std::numeric_limits<uInt>::max());
    s.stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(s.left.data()));  // zlib only reads it
    s.stream.avail_in = static_cast<uInt>(given);
    s.stream.next_out = reinterpret_cast<Bytef*>(s.piece.data());
    s.stream.avail_out = static_cast<uInt>(s.piece.size());
    const int status = inflate(&s.stream, Z_NO_FLUSH);
    s.left.remove_prefix(given - s.stream.avail_in);
    made = s.piece.size() - s.stream.avail_out;
    if (status == Z_STREAM_END) {
      s.over = !is_gzip(s.left);
      if (!s.over) {
        inflateReset(&s.stream);
      } else if (s.left.find_first_not_of('\0') != std::string_view::npos) {  // archivers fill blocks with zeros
        s.fail("has something else behind its stream");
      }
    } else if (status == Z_BUF_ERROR || (status == Z_OK && made == 0 && s.left.empty())) {
      s.fail("ends before its stream does");
    } else if (status != Z_OK) {
      s.fail(s.stream.msg != nullptr ? s.stream.msg : "is damaged");
    }
  }
  setg(s.piece.data(), s.piece.data(), s.piece.data() + made);
  return made == 0 ? traits_type::eof() : traits_type::to_int_type(s.piece.front());
}

}  // namespace foretrain
