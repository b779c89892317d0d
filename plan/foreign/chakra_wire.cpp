#include <fmt/format.h>

#include <array>
#include <optional>

#include "base/error.h"
#include "plan/foreign/chakra.h"

namespace foretrain::plan {

namespace {

// Wire types of protobuf (https://protobuf.dev/programming-guides/encoding/).
constexpr unsigned kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
// Fields of Node and AttributeProto.
constexpr unsigned kId = 1, kName = 2, kType = 3, kControlDeps = 4, kDataDeps = 5, kDuration = 7, kAttribute = 10;
constexpr unsigned kAttributeName = 1, kInt32 = 7, kInt64 = 9, kUint64 = 13, kBool = 27, kString = 29;

void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}
void put_number(std::string& out, unsigned field, std::uint64_t value) {
  put_varint(out, field << 3 | kVarint);
  put_varint(out, value);
}
void put_bytes(std::string& out, unsigned field, std::string_view value) {
  put_varint(out, field << 3 | kBytes);
  put_varint(out, value.size());
  out += value;
}
void put_attribute(std::string& out, std::string_view name, unsigned field, std::uint64_t value) {
  std::string message;
  put_bytes(message, kAttributeName, name);
  put_number(message, field, value);
  put_bytes(out, kAttribute, message);
}
void put_list(std::string& out, unsigned field, const std::vector<std::uint64_t>& values) {
  std::string packed;
  for (const std::uint64_t v : values) {
    put_varint(packed, v);
  }
  if (!packed.empty()) {
    put_bytes(out, field, packed);
  }
}

// A message's fields one by one; never past its end.
class Wire {
 public:
  Wire(std::string_view bytes, std::size_t begin, const std::string& origin)
      : bytes_(bytes), begin_(begin), origin_(origin) {}

  bool at_end() const { return at_ == bytes_.size(); }
  std::size_t place() const { return begin_ + at_; }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_end()) {
        fail("ends inside a number");
      }
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    fail("a number of more than 64 bits");
  }

  // Behind its length.
  Wire message() {
    const std::uint64_t size = varint();
    if (size > bytes_.size() - at_) {
      fail(fmt::format("{} bytes are said to follow, and {} do", size, bytes_.size() - at_));
    }
    Wire inner(bytes_.substr(at_, size), place(), origin_);
    at_ += size;
    return inner;
  }
  std::string_view bytes() { return message().bytes_; }

  struct Tag {
    unsigned field = 0, type = 0;
  };
  Tag tag() {
    const std::uint64_t key = varint();
    if (key >> 3 == 0 || key >> 3 > 536'870'911) {
      fail(fmt::format("{} is no field of a message", key >> 3));
    }
    return {static_cast<unsigned>(key >> 3), static_cast<unsigned>(key & 7)};
  }
  void skip(unsigned type) {
    if (type == kVarint) {
      varint();
    } else if (type == kBytes) {
      message();
    } else if (type == kFixed64 || type == kFixed32) {
      const std::size_t size = type == kFixed64 ? 8 : 4;
      if (bytes_.size() - at_ < size) {
        fail("ends inside a number");
      }
      at_ += size;
    } else {
      fail(fmt::format("wire type {} is not known; expected 0, 1, 2 or 5", type));
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("{}: byte {}: {}; expected a Chakra execution trace", origin_, place(), what));
  }

 private:
  std::string_view bytes_;
  std::size_t begin_, at_ = 0;
  const std::string& origin_;
};

// Repeated numbers are packed, or one by one.
void take_numbers(Wire& wire, unsigned type, std::vector<std::uint64_t>& out) {
  if (type == kBytes) {
    for (Wire packed = wire.message(); !packed.at_end();) {
      out.push_back(packed.varint());
    }
  } else if (type == kVarint) {
    out.push_back(wire.varint());
  } else {
    wire.skip(type);
  }
}

void take_attribute(Wire wire, ChakraNode& node) {
  std::string_view attribute, text;
  std::optional<std::uint64_t> value;
  while (!wire.at_end()) {
    const Wire::Tag tag = wire.tag();
    if (tag.field == kAttributeName && tag.type == kBytes) {
      attribute = wire.bytes();
    } else if (tag.field == kString && tag.type == kBytes) {
      text = wire.bytes();
    } else if (tag.type == kVarint) {
      value = wire.varint();
    } else {
      wire.skip(tag.type);
    }
  }
  const auto number = static_cast<std::int64_t>(value.value_or(0));
  if (attribute == "is_cpu_op") {
    node.is_cpu_op = number != 0;
  } else if (attribute == "num_ops") {
    node.num_ops = number;
  } else if (attribute == "tensor_size") {
    node.tensor_size = value.value_or(0);
  } else if (attribute == "duration_ps") {
    node.duration_ps = number;
  } else if (attribute == "comm_type") {
    node.comm_type = number;
  } else if (attribute == "comm_size") {
    node.comm_size = number;
  } else if (attribute == "comm_src") {
    node.comm_src = static_cast<std::int32_t>(number);
  } else if (attribute == "comm_dst") {
    node.comm_dst = static_cast<std::int32_t>(number);
  } else if (attribute == "comm_tag") {
    node.comm_tag = static_cast<std::int32_t>(number);
  } else if (attribute == "pg_name") {
    node.group = text;
  }
}

ChakraNode node_of(Wire wire) {
  ChakraNode node;
  while (!wire.at_end()) {
    const Wire::Tag tag = wire.tag();
    if (tag.field == kName && tag.type == kBytes) {
      node.name = wire.bytes();
    } else if (tag.field == kControlDeps) {
      take_numbers(wire, tag.type, node.control_deps);
    } else if (tag.field == kDataDeps) {
      take_numbers(wire, tag.type, node.data_deps);
    } else if (tag.field == kAttribute && tag.type == kBytes) {
      take_attribute(wire.message(), node);
    } else if (tag.type == kVarint) {
      const std::uint64_t value = wire.varint();
      if (tag.field == kId) {
        node.id = value;
      } else if (tag.field == kDuration) {
        node.duration_us = value;
      } else if (tag.field == kType) {
        if (value > static_cast<std::uint64_t>(ChakraType::collective)) {
          wire.fail(fmt::format("node type {} is of a newer schema; expected 0 to 7", value));
        }
        node.type = static_cast<ChakraType>(value);
      }
    } else {
      wire.skip(tag.type);
    }
  }
  return node;
}

}  // namespace

std::string_view name(ChakraType t) {
  constexpr std::array<std::string_view, 8> kNames{"invalid", "metadata", "memory load", "memory store",
                                                   "compute", "send",     "receive",     "collective"};
  return kNames[static_cast<std::size_t>(t)];
}

std::string_view name(ChakraCollective c) {
  constexpr std::array<std::string_view, 10> kNames{
      "all_reduce", "reduce",         "all_gather",           "gather", "scatter", "broadcast",
      "all_to_all", "reduce_scatter", "reduce_scatter_block", "barrier"};
  return kNames[static_cast<std::size_t>(c)];
}

std::string chakra_header() {
  std::string metadata, out;
  put_bytes(metadata, 1, "0.0.4");
  put_varint(out, metadata.size());
  return out + metadata;
}

std::string encode(const ChakraNode& node) {
  std::string message;
  put_number(message, kId, node.id);
  put_bytes(message, kName, node.name);
  put_number(message, kType, static_cast<std::uint64_t>(node.type));
  put_list(message, kControlDeps, node.control_deps);
  put_list(message, kDataDeps, node.data_deps);
  if (node.duration_us > 0) {
    put_number(message, kDuration, node.duration_us);
  }
  put_attribute(message, "is_cpu_op", kBool, node.is_cpu_op ? 1 : 0);
  if (node.duration_ps > 0) {
    put_attribute(message, "duration_ps", kInt64, static_cast<std::uint64_t>(node.duration_ps));
  }
  if (node.type == ChakraType::compute) {
    put_attribute(message, "num_ops", kInt64, static_cast<std::uint64_t>(node.num_ops));
    put_attribute(message, "tensor_size", kUint64, node.tensor_size);
  } else if (node.type == ChakraType::collective) {
    put_attribute(message, "comm_type", kInt64, static_cast<std::uint64_t>(node.comm_type));
    put_attribute(message, "comm_size", kInt64, static_cast<std::uint64_t>(node.comm_size));
  } else if (node.type == ChakraType::send || node.type == ChakraType::recv) {
    put_attribute(message, "comm_size", kInt64, static_cast<std::uint64_t>(node.comm_size));
    put_attribute(message, "comm_src", kInt32, static_cast<std::uint64_t>(node.comm_src));
    put_attribute(message, "comm_dst", kInt32, static_cast<std::uint64_t>(node.comm_dst));
    put_attribute(message, "comm_tag", kInt32, static_cast<std::uint64_t>(node.comm_tag));
  }
  if (!node.group.empty()) {
    std::string attribute;
    put_bytes(attribute, kAttributeName, "pg_name");
    put_bytes(attribute, kString, node.group);
    put_bytes(message, kAttribute, attribute);
  }
  std::string out;
  put_varint(out, message.size());
  return out + message;
}

void read_chakra(std::string_view bytes, const std::string& origin,
                 const std::function<void(const ChakraNode&)>& take) {
  Wire wire(bytes, 0, origin);
  if (wire.at_end()) {
    wire.fail("the file is empty");
  }
  for (Wire metadata = wire.message(); !metadata.at_end();) {  // GlobalMetadata
    metadata.skip(metadata.tag().type);
  }
  while (!wire.at_end()) {
    take(node_of(wire.message()));
  }
}

}  // namespace foretrain::plan
