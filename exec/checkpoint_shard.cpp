#include "exec/checkpoint_shard.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace foretrain::exec {

namespace {

constexpr std::string_view kMagic = "FTSHARD1";
constexpr std::int64_t kAlign = 64;  // of the payload's begin
constexpr std::int64_t kMost = std::int64_t{1} << 48;
// The first bytes, the size of the header, its checksum.
static_assert(kMagic.size() + 2 * sizeof(std::uint32_t) == kShardPreamble);

// Little endian.
void put(std::string& bytes, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) {
    bytes += static_cast<char>(value >> shift & 0xFF);
  }
}

std::uint32_t get(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    value |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

constexpr std::int64_t padded(std::int64_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

const std::vector<std::string> kParts{"state",    "anchor",     "outer_momentum",
                                      "residual", "loss_scale", "turns"};  // by Part

nlohmann::json to_json(const ShardPiece& p) {
  nlohmann::json piece = {{"tensor", p.tensor},        {"shape", {p.rows, p.cols}}, {"row", p.run.row},
                          {"col", p.run.col},          {"width", p.run.width},      {"skip", p.run.skip},
                          {"elements", p.run.elements}};
  if (p.part != Part::state) {
    piece["part"] = kParts[static_cast<std::size_t>(p.part)];
  }
  if (p.among.replicas > 1) {
    piece["replica"] = {p.among.replica, p.among.replicas};
  }
  if (p.among.members > 1) {
    piece["member"] = {p.among.member, p.among.members};
  }
  return piece;
}

nlohmann::json to_json(const ShardHeader& h) {
  nlohmann::json pieces = nlohmann::json::array();
  for (const ShardPiece& p : h.pieces) {
    pieces.push_back(to_json(p));
  }
  return {{"step", h.step},
          {"rank", h.rank},
          {"dtype", name(h.dtype)},
          {"moments", h.moments},
          {"payload_crc32", h.payload_crc},
          {"pieces", std::move(pieces)}};
}

// [which, of how many], of more than one.
void read_place(ObjectReader& reader, const char* key, std::int64_t& which, std::int64_t& all) {
  if (!reader.has(key)) {
    return;
  }
  const std::vector<std::int64_t> place = reader.integers(key, 0);
  if (place.size() != 2 || place[1] < 2 || place[0] >= place[1]) {
    reader.mistake(key, "expected which one, and of how many");
    return;
  }
  which = place[0];
  all = place[1];
}

ShardPiece read_piece(ObjectReader& reader) {
  ShardPiece p;
  p.tensor = reader.text("tensor", {});
  const std::vector<std::int64_t> shape = reader.integers("shape", 1);
  if (shape.size() != 2 || shape[0] > kMost || shape[1] > kMost / shape[0]) {
    reader.mistake("shape", "expected the rows and columns of a tensor");
  } else {
    p.rows = shape[0];
    p.cols = shape[1];
  }
  p.run.row = reader.integer("row", {}, 0, kMost);
  p.run.col = reader.integer("col", {}, 0, kMost);
  p.run.width = reader.integer("width", {}, 1, kMost);
  p.run.skip = reader.integer("skip", {}, 0, kMost);
  p.run.elements = reader.integer("elements", {}, 1, kMost);
  const std::string part = reader.word("part", kParts.front(), kParts);
  p.part = static_cast<Part>(std::find(kParts.begin(), kParts.end(), part) - kParts.begin());
  read_place(reader, "replica", p.among.replica, p.among.replicas);
  read_place(reader, "member", p.among.member, p.among.members);
  reader.finish();
  if (p.run.skip >= p.run.width || p.run.col + p.run.width > p.cols || p.run.end_row() > p.rows) {
    reader.mistake("", fmt::format("{} elements of columns {} to {} from row {} on are not in a tensor of {} x {}",
                                   p.run.elements, p.run.col, p.run.col + p.run.width, p.run.row, p.rows, p.cols));
  }
  return p;
}

}  // namespace

std::int64_t ShardHeader::payload_bytes() const {
  std::int64_t bytes = 0;
  for (const ShardPiece& piece : pieces) {
    bytes += piece_bytes(piece);
  }
  return bytes;
}

std::uint32_t crc32(const void* bytes, std::int64_t size, std::uint32_t before) {
  return static_cast<std::uint32_t>(
      ::crc32_z(before, static_cast<const unsigned char*>(bytes), static_cast<std::size_t>(size)));
}

std::string crc_text(std::uint32_t crc) {
  return fmt::format("{:08x}", crc);
}

std::string to_bytes(const ShardHeader& header) {
  const std::string text = to_json(header).dump();
  const auto size = static_cast<std::int64_t>(text.size());
  std::string bytes(kMagic);
  put(bytes, static_cast<std::uint32_t>(size));
  put(bytes, crc32(text.data(), size));
  bytes += text;
  bytes.resize(static_cast<std::size_t>(padded(kShardPreamble + size)), '\0');
  return bytes;
}

std::int64_t shard_start_bytes(std::string_view preamble, const std::string& origin) {
  if (preamble.size() < static_cast<std::size_t>(kShardPreamble) || preamble.substr(0, kMagic.size()) != kMagic) {
    throw InputError(fmt::format("{}: no shard of a checkpoint: it does not begin with \"{}\"", origin, kMagic));
  }
  return padded(kShardPreamble + get(preamble, kMagic.size()));
}

ShardStart shard_start(std::string_view bytes, const std::string& origin) {
  const std::int64_t expected = shard_start_bytes(bytes, origin);
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (size < expected) {
    throw InputError(fmt::format("{}: ends after {} bytes, within its header of {}", origin, size, expected));
  }
  const std::int64_t length = get(bytes, kMagic.size());
  const std::string_view text = bytes.substr(kShardPreamble, static_cast<std::size_t>(length));
  ShardStart start;
  start.header_crc = get(bytes, kMagic.size() + sizeof(std::uint32_t));
  if (crc32(text.data(), length) != start.header_crc) {
    throw InputError(fmt::format("{}: the header's checksum is not {}", origin, crc_text(start.header_crc)));
  }
  if (bytes.find_first_not_of('\0', static_cast<std::size_t>(kShardPreamble + length)) <
      static_cast<std::size_t>(expected)) {
    throw InputError(fmt::format("{}: there is something between header and content", origin));
  }
  const JsonDocument document = JsonDocument::from_text(text, origin);
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  ShardHeader& h = start.header;
  h.step = reader.integer("step", {}, 0, kMost);
  h.rank = reader.integer("rank", {}, 0, kMost);
  h.dtype = reader.word("dtype", {}, {"fp32", "fp64"}) == "fp64" ? Dtype::fp64 : Dtype::fp32;
  h.moments = static_cast<int>(reader.integer("moments", {}, 0, 2));
  h.payload_crc = static_cast<std::uint32_t>(reader.integer("payload_crc32", {}, 0, UINT32_MAX));
  std::int64_t elements = 0;
  for (ObjectReader& piece : reader.objects("pieces")) {
    h.pieces.push_back(read_piece(piece));
    elements += h.pieces.back().run.elements;
    if (elements > kMost) {
      piece.mistake("elements", "more than a file holds");
      break;
    }
  }
  reader.finish();
  mistakes.throw_if_any();
  return start;
}

}  // namespace foretrain::exec
