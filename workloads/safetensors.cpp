#include "workloads/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace foretrain::workloads {

namespace {

namespace fs = std::filesystem;

constexpr const char* kExpected = "a safetensors file, or a folder with model.safetensors or its index";
constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMostHeaderBytes = 64'000'000;  // what base/json.h reads

struct StoredType {
  const char* name;
  int bytes;
  std::optional<Dtype> number;
};
constexpr std::array<StoredType, 15> kTypes{{{"F64", 8, Dtype::fp64},
                                             {"F32", 4, Dtype::fp32},
                                             {"F16", 2, Dtype::fp16},
                                             {"BF16", 2, Dtype::bf16},
                                             {"I64", 8, {}},
                                             {"U64", 8, {}},
                                             {"I32", 4, {}},
                                             {"U32", 4, {}},
                                             {"I16", 2, {}},
                                             {"U16", 2, {}},
                                             {"I8", 1, {}},
                                             {"U8", 1, {}},
                                             {"BOOL", 1, {}},
                                             {"F8_E4M3", 1, {}},
                                             {"F8_E5M2", 1, {}}}};

const StoredType* type_named(const std::string& name) {
  const auto at = std::find_if(kTypes.begin(), kTypes.end(), [&](const StoredType& t) { return name == t.name; });
  return at == kTypes.end() ? nullptr : at;
}

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw InputError(fmt::format("weights: {}: {}", file, what));
}

// A list of sizes whose product, with the bytes of an element, fits an int64.
std::optional<std::vector<std::int64_t>> sizes_of(const nlohmann::json& value, std::size_t exactly) {
  if (!value.is_array() || (exactly != 0 && value.size() != exactly)) {
    return std::nullopt;
  }
  std::vector<std::int64_t> sizes;
  for (const nlohmann::json& size : value) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
      return std::nullopt;
    }
    sizes.push_back(size.get<std::int64_t>());
  }
  return sizes;
}

std::optional<std::int64_t> bytes_of(const std::vector<std::int64_t>& shape, std::int64_t bytes) {
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return std::nullopt;
    }
  }
  return bytes;
}

StoredTensor read_entry(const std::string& name, const nlohmann::json& entry, std::span<const std::byte> data,
                        const std::string& file) {
  const auto fail = [&](const std::string& what) { refuse(file, fmt::format("tensor {}: {}", shown(name), what)); };
  if (!entry.is_object()) {
    fail(shown(entry) + " is not allowed; expected an object with dtype, shape and data_offsets");
  }
  for (const auto& [key, value] : entry.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      fail(fmt::format("unknown key {}; known: dtype, shape, data_offsets", shown(key)));
    }
  }
  const nlohmann::json dtype = entry.value("dtype", nlohmann::json());
  const StoredType* const type = dtype.is_string() ? type_named(dtype.get<std::string>()) : nullptr;
  if (type == nullptr) {
    fail(fmt::format("dtype: {} is not allowed; expected one of: F64, F32, F16, BF16, or a type without weights",
                     shown(dtype)));
  }
  const nlohmann::json shape = entry.value("shape", nlohmann::json());
  const auto sizes = sizes_of(shape, 0);
  const auto size = sizes ? bytes_of(*sizes, type->bytes) : std::nullopt;
  if (!size) {
    fail(fmt::format("shape: {} is not allowed; expected a list of sizes", shown(shape)));
  }
  const nlohmann::json offsets = entry.value("data_offsets", nlohmann::json());
  const auto range = sizes_of(offsets, 2);
  if (!range || (*range)[0] > (*range)[1] || (*range)[1] > std::ssize(data)) {
    fail(fmt::format("data_offsets: {} is not allowed; expected [begin, end] within the {} bytes of data",
                     shown(offsets), data.size()));
  }
  const std::int64_t begin = (*range)[0], bytes = (*range)[1] - begin;
  if (bytes != *size) {
    fail(fmt::format("data_offsets: {} hold {} bytes; {} of shape {} are {}", shown(offsets), bytes, type->name,
                     shape_text(*sizes), *size));
  }
  return {name, file, type->name, *sizes,
          data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(bytes))};
}

// Every byte of the data belongs to one tensor.
void check_cover(const std::vector<StoredTensor>& tensors, std::span<const std::byte> data, const std::string& file) {
  std::vector<const StoredTensor*> in_place;
  for (const StoredTensor& t : tensors) {
    in_place.push_back(&t);
  }
  std::stable_sort(in_place.begin(), in_place.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->bytes.data(), a->bytes.size()) < std::pair(b->bytes.data(), b->bytes.size());
  });
  const std::byte* end = data.data();
  const char* before = nullptr;
  for (const StoredTensor* t : in_place) {
    if (t->bytes.data() != end) {
      refuse(file, fmt::format("tensor {}: data_offsets begin at byte {}; expected {}, where {} ends", shown(t->name),
                               t->bytes.data() - data.data(), end - data.data(),
                               before == nullptr ? "the header" : "tensor " + shown(before)));
    }
    end = t->bytes.data() + t->bytes.size();
    before = t->name.c_str();
  }
  if (end != data.data() + data.size()) {
    refuse(file,
           fmt::format("{} bytes of data belong to no tensor; expected the file to end at byte {}",
                       data.data() + data.size() - end, end - data.data() + static_cast<std::ptrdiff_t>(kLengthBytes)));
  }
}

}  // namespace

std::int64_t StoredTensor::elements() const {
  return bytes_of(shape, 1).value();
}

std::optional<Dtype> StoredTensor::number_type() const {
  return type_named(dtype)->number;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<StoredTensor> read_safetensors(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < kLengthBytes) {
    refuse(file,
           fmt::format("{} bytes are no safetensors file; expected a header's length in the first 8", bytes.size()));
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  }
  const std::uint64_t most = std::min<std::uint64_t>(kMostHeaderBytes, bytes.size() - kLengthBytes);
  if (length > most) {
    refuse(file, fmt::format("the header's length, the first 8 bytes, is {}; expected at most {}{}", length, most,
                             most == kMostHeaderBytes ? "" : ", which is where the file ends"));
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  const JsonDocument document = JsonDocument::from_text(header, file + ": header");
  if (!document.root().is_object()) {
    refuse(file, "the header is no JSON object; expected one of tensors by name");
  }
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + length);
  std::vector<StoredTensor> tensors;
  for (const auto& [name, entry] : document.root().items()) {  // nlohmann::json keeps keys sorted
    if (name == "__metadata__") {
      const bool texts = entry.is_object() &&
                         std::all_of(entry.begin(), entry.end(), [](const nlohmann::json& v) { return v.is_string(); });
      if (!texts) {
        refuse(file, "__metadata__: " + shown(entry) + " is not allowed; expected an object of strings");
      }
      continue;
    }
    tensors.push_back(read_entry(name, entry, data, file));
  }
  check_cover(tensors, data, file);
  return tensors;
}

struct Safetensors::Impl {
  void add_file(const std::string& file) {
    files.emplace_back(file, "weights", kExpected);
    std::vector<StoredTensor> more = read_safetensors(files.back().bytes(), file);
    tensors.insert(tensors.end(), more.begin(), more.end());
  }
  void add_index(const std::string& index);
  void sort() {
    std::sort(tensors.begin(), tensors.end(),
              [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  }

  std::string path;
  std::vector<MappedFile> files;
  std::vector<StoredTensor> tensors;
};

void Safetensors::Impl::add_index(const std::string& index) {
  const JsonDocument document = JsonDocument::from_file(index);
  const auto map = document.root().find("weight_map");
  if (!document.root().is_object() || map == document.root().end() || !map->is_object() || map->empty()) {
    refuse(index, "/weight_map: expected an object of file names by tensor");
  }
  std::map<std::string, std::string> file_of;
  std::vector<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    // A name with a folder in it could lead anywhere.
    if (!file.is_string() || fs::path(file.get<std::string>()).filename() != file.get<std::string>() ||
        file.get<std::string>().empty()) {
      refuse(index, fmt::format("/weight_map: tensor {}: {} is not allowed; expected a file of the same folder",
                                shown(tensor), shown(file)));
    }
    file_of[tensor] = (fs::path(index).parent_path() / file.get<std::string>()).string();
    names.push_back(file_of[tensor]);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const std::string& file : names) {
    add_file(file);
  }
  std::set<std::string> seen;
  for (const StoredTensor& t : tensors) {
    const auto found = file_of.find(t.name);
    if (found == file_of.end() || found->second != t.file) {
      refuse(t.file, fmt::format("tensor {} stands here; {} expects it in {}", shown(t.name), index,
                                 found == file_of.end() ? "no file" : found->second));
    }
    seen.insert(t.name);
  }
  for (const auto& [tensor, file] : file_of) {
    if (!seen.contains(tensor)) {
      refuse(file, fmt::format("tensor {} is missing; {} expects it here", shown(tensor), index));
    }
  }
}

Safetensors::Safetensors(const std::string& path) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  std::error_code none;
  if (fs::is_directory(path, none)) {
    const fs::path file = fs::path(path) / kWeightsFile, index = fs::path(path) / kWeightsIndex;
    if (!fs::exists(file, none) && !fs::exists(index, none)) {
      refuse(path, fmt::format("neither {} nor {} is there", kWeightsFile, kWeightsIndex));
    }
    fs::exists(file, none) ? impl_->add_file(file.string()) : impl_->add_index(index.string());
  } else if (fs::path(path).extension() == ".json") {
    impl_->add_index(path);
  } else {
    impl_->add_file(path);
  }
  impl_->sort();
}

Safetensors::~Safetensors() = default;
Safetensors::Safetensors(Safetensors&&) noexcept = default;
Safetensors& Safetensors::operator=(Safetensors&&) noexcept = default;

const std::string& Safetensors::path() const {
  return impl_->path;
}

const std::vector<StoredTensor>& Safetensors::tensors() const {
  return impl_->tensors;
}

const StoredTensor* Safetensors::find(const std::string& name) const {
  const auto at = std::lower_bound(impl_->tensors.begin(), impl_->tensors.end(), name,
                                   [](const StoredTensor& t, const std::string& n) { return t.name < n; });
  return at == impl_->tensors.end() || at->name != name ? nullptr : &*at;
}

}  // namespace foretrain::workloads
